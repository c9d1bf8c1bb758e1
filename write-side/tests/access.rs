//! Who may do what: scopes, and customers among themselves.

mod kit;

use axum::{Extension, body::Body, http::Request};
use events::{ids::CustomerId, principal::Principal};
use kit::{ANA, Answer, CHAI, Everything, NOBODY, post, send};
use serde_json::{Value, json};
use write_side::edge::{Customers, openapi::operation::Kind};

const EVA: &str = "0198c0de-0000-7000-8000-000000000002";
const ANAS_ORDER: &str = "0198c0de-0000-7000-8000-000000000021";

/// The services, and what stands in them: Ana, Eva, chai, and an order of Ana's.
struct Shop {
    everything: Everything,
    token: String,
}

impl Shop {
    async fn open() -> Self {
        let everything = Everything::open().await;
        let price = json!({ "amount_minor": 1_800, "currency": "USD" });
        let mut token = String::new();
        for (path, body) in [
            ("/users", json!({ "id": ANA, "name": "Ana", "email": "ana@example.com" })),
            ("/users", json!({ "id": EVA, "name": "Eva", "email": "eva@example.com" })),
            ("/products", json!({ "id": CHAI, "sku": "CHAI", "name": "Chai", "unit_price": price })),
            ("/orders", order_of(ANA, ANAS_ORDER)),
        ] {
            let request = post(path, body.to_string(), &[("consistency-token", &token)]);
            let answer = send(&everything.router, request).await.expect(201);
            token = [token, answer.token()].join(",");
        }
        Self { everything, token }
    }

    async fn post(&self, who: &Principal, path: &str, body: Value) -> Answer {
        self.post_with(who, path, body, "").await
    }

    async fn post_with(&self, who: &Principal, path: &str, body: Value, key: &str) -> Answer {
        let mut headers = vec![("consistency-token", &*self.token), ("if-match", "*")];
        if !key.is_empty() {
            headers.push(("idempotency-key", key));
        }
        let router = self.everything.router.clone().layer(Extension(who.clone()));
        send(&router, post(path, body.to_string(), &headers)).await
    }

    async fn get(&self, who: &Principal, path: &str) -> Answer {
        let router = self.everything.router.clone().layer(Extension(who.clone()));
        send(&router, Request::get(path).body(Body::empty()).unwrap()).await
    }
}

fn order_of(customer: &str, id: &str) -> Value {
    json!({ "id": id, "customer_id": customer, "lines": [{ "product_id": CHAI, "quantity": 1 }] })
}

/// A customer with every scope there is, so that only being a customer holds them back.
fn customer(id: &str) -> Principal {
    let mut scopes = vec!["import".to_owned(), "feed".to_owned(), "admin".to_owned(), "query".to_owned()];
    for entry in write_side::REGISTER {
        scopes.extend([format!("{}:read", entry.name), format!("{}:write", entry.name)]);
    }
    Principal::try_new(&format!("sub-{id}"), Some(id.parse::<CustomerId>().unwrap()), scopes).unwrap()
}

fn staff(scopes: &[&str]) -> Principal {
    Principal::try_new("desk-7", None, scopes.iter().map(|scope| (*scope).to_owned())).unwrap()
}

/// Everything of an answer by which its reader could tell two cases apart.
fn visible(answer: &Answer) -> (u16, String, Vec<String>) {
    let mut body = answer.body.clone();
    body["traceId"] = Value::Null;
    let names = answer.headers.keys().map(|name| name.as_str().to_owned()).filter(|name| name != "content-length");
    (answer.status.as_u16(), body.to_string(), names.collect())
}

#[tokio::test]
async fn a_customer_has_their_own_orders_and_account() {
    let shop = Shop::open().await;
    let ana = customer(ANA);
    shop.get(&ana, &format!("/orders/{ANAS_ORDER}")).await.expect(200);
    shop.get(&ana, &format!("/users/{ANA}")).await.expect(200);
    shop.post(&ana, &format!("/users/{ANA}/rename"), json!({ "name": "Ana T." })).await.expect(200);
    shop.post(&ana, "/orders", order_of(ANA, &kit::new_id())).await.expect(201);
    shop.post(&ana, &format!("/orders/{ANAS_ORDER}/cancel"), json!({ "reason": "no more" })).await.expect(200);
    shop.get(&ana, &format!("/products/{CHAI}")).await.expect(200);
}

#[tokio::test]
async fn what_is_somebody_elses_looks_as_if_it_were_not_there() {
    let shop = Shop::open().await;
    let eva = customer(EVA);
    let before = shop.everything.heads().await;
    for (path, foreign, absent) in [("/orders/{id}", ANAS_ORDER, NOBODY), ("/users/{id}", ANA, NOBODY)] {
        let [foreign, absent] = [foreign, absent].map(|id| path.replace("{id}", id));
        let (foreign, absent) = (shop.get(&eva, &foreign).await.expect(404), shop.get(&eva, &absent).await);
        assert_eq!(visible(&foreign), visible(&absent), "{path}");
    }
    for (path, body) in [
        ("/orders/{id}/cancel", json!({ "reason": "not mine" })),
        ("/orders/{id}/return", json!({})),
        ("/users/{id}/rename", json!({ "name": "Eva's now" })),
        ("/users/{id}/email", json!({ "email": "eva2@example.com" })),
        ("/users/{id}/address", json!({ "street": "s", "city": "c", "country": "d" })),
        ("/users/{id}/erase", json!({})),
    ] {
        let owned = if path.starts_with("/orders") { ANAS_ORDER } else { ANA };
        let [foreign, absent] = [owned, NOBODY].map(|id| path.replace("{id}", id));
        let foreign = shop.post(&eva, &foreign, body.clone()).await.expect(404);
        let absent = shop.post(&eva, &absent, body).await;
        assert_eq!(visible(&foreign), visible(&absent), "{path}");
    }
    assert_eq!(shop.everything.heads().await, before);
}

#[tokio::test]
async fn a_customer_orders_for_themselves_only() {
    let shop = Shop::open().await;
    let (eva, before) = (customer(EVA), shop.everything.heads().await);
    for other in [ANA, NOBODY] {
        let answer = shop.post(&eva, "/orders", order_of(other, &kit::new_id())).await.expect(403);
        assert_eq!(answer.code(), "not_yours");
    }
    let other = json!({ "id": NOBODY, "name": "Nobody", "email": "nobody@example.com" });
    assert_eq!(shop.post(&eva, "/users", other).await.expect(403).code(), "not_yours");
    assert_eq!(shop.everything.heads().await, before);
}

#[tokio::test]
async fn a_customer_gives_themselves_no_discount_and_staff_may() {
    let shop = Shop::open().await;
    let discounted = |discount_bp: u32| {
        let mut order = order_of(ANA, &kit::new_id());
        order["lines"][0]["discount_bp"] = json!(discount_bp);
        order
    };
    let before = shop.everything.heads().await;
    for discount_bp in [1, 10_000] {
        let refused = shop.post(&customer(ANA), "/orders", discounted(discount_bp)).await.expect(403);
        assert_eq!(refused.code(), "discount_not_yours");
    }
    assert_eq!(shop.everything.heads().await, before);
    shop.post(&customer(ANA), "/orders", discounted(0)).await.expect(201);
    shop.post(&staff(&["orders:write"]), "/orders", discounted(500)).await.expect(201);
}

#[tokio::test]
async fn a_customer_gives_up_what_has_not_left_and_staff_take_back_what_has() {
    let shop = Shop::open().await;
    let path = |what: &str| format!("/orders/{ANAS_ORDER}/{what}");
    let (ana, clerk) = (customer(ANA), staff(&["orders:write"]));
    shop.post(&clerk, &path("confirm"), json!({})).await.expect(200);
    for step in ["ship", "deliver"] {
        shop.post(&clerk, &path(step), json!({})).await.expect(200);
        let before = shop.everything.heads().await;
        for (what, body) in [("return", json!({})), ("cancel", json!({ "reason": "paid enough" }))] {
            let refused = shop.post(&ana, &path(what), body).await.expect(403);
            assert_eq!(refused.code(), "return_not_yours", "{what} after {step}");
        }
        assert_eq!(shop.everything.heads().await, before);
    }
    shop.post(&clerk, &path("return"), json!({})).await.expect(200);
}

#[tokio::test]
async fn a_customer_who_registers_is_the_user_that_their_token_names() {
    let shop = Shop::open().await;
    let new = json!({ "name": "Nobody", "email": "nobody@example.com" });
    let answer = shop.post(&customer(NOBODY), "/users", new).await.expect(201);
    assert_eq!(answer.body["id"], NOBODY);
}

#[tokio::test]
async fn an_operation_is_open_to_who_has_its_scope() {
    let shop = Shop::open().await;
    let nobody = Principal::nobody();
    for service in &shop.everything.services {
        for operation in &service.api.operations {
            let gate = operation.gate(service.name);
            let path = operation.path.replace("{id}", NOBODY).replace("{product_id}", NOBODY);
            let with = async |who: &Principal| match operation.method {
                "get" => shop.get(who, &path).await,
                _ => shop.post(who, &path, json!({})).await,
            };
            for refused in [&nobody, &staff(&["another:scope"])] {
                let answer = with(refused).await.expect(403);
                assert_eq!((answer.code(), &answer.body["scope"]), ("scope_missing", &json!(gate.scope)));
            }
            let open = with(&staff(&[&gate.scope])).await;
            assert_ne!(open.status.as_u16(), 403, "{}: {open:?}", operation.id);
            if gate.customers == Customers::None {
                assert_eq!(with(&customer(EVA)).await.expect(403).code(), "not_for_customers", "{}", operation.id);
            }
            if operation.kind == Kind::Other {
                assert_eq!(gate.scope, format!("feed:{}", service.name), "{}", operation.id);
            }
        }
    }
}

#[tokio::test]
async fn a_key_is_its_principals_own() {
    let shop = Shop::open().await;
    let (desk, writer) =
        (staff(&["users:write"]), Principal::try_new("desk-8", None, ["users:write".to_owned()]).unwrap());
    let body = |n: u32| json!({ "name": "Max", "email": format!("max{n}@example.com") });
    let first = shop.post_with(&desk, "/users", body(1), "k").await.expect(201);
    let again = shop.post_with(&desk, "/users", body(1), "k").await.expect(201);
    assert_eq!((again.header("idempotency-replayed"), &again.body["id"]), ("true", &first.body["id"]));
    let other = shop.post_with(&writer, "/users", body(2), "k").await.expect(201);
    assert_ne!(other.body["id"], first.body["id"]);
    let feed = shop.get(&staff(&["feed"]), "/users/feed").await.expect(200).text;
    let actors: Vec<Value> =
        feed.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["actor"].clone()).collect();
    assert_eq!(actors[actors.len() - 2..], [json!("desk-7"), json!("desk-8")]);
}
