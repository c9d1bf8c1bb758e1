//! Whatever somebody sends: it is answered as their mistake, with a code, and leaves nothing behind.

mod kit;

use axum::{Extension, body::Body, http::Request};
use events::{
    ids::CustomerId,
    principal::{Principal, scope},
};
use kit::{ANA, Answer, CHAI, Everything, NOBODY, TEA, post, send};
use serde_json::{Value, json};

const ORDER: &str = "0198c0de-0000-7000-8000-000000000021";
const ERASED: &str = "0198c0de-0000-7000-8000-000000000003";
const GONE: &str = "0198c0de-0000-7000-8000-000000000013";
const EURO_TEA: &str = "0198c0de-0000-7000-8000-000000000014";

/// Ana and her order, an erased user, a product that is sold no more, one in euros, and two in dollars.
struct Shop {
    everything: Everything,
    token: String,
}

impl Shop {
    async fn open() -> Self {
        let mut shop = Self { everything: Everything::open().await, token: String::new() };
        let product = |id: &str, sku: &str, currency: &str| {
            let price = json!({ "amount_minor": 1_000, "currency": currency });
            json!({ "id": id, "sku": sku, "name": sku, "unit_price": price })
        };
        for (path, body) in [
            ("/users", json!({ "id": ANA, "name": "Ana", "email": "ana@example.com" })),
            ("/users", json!({ "id": ERASED, "name": "Eva", "email": "eva@example.com" })),
            (&*format!("/users/{ERASED}/erase"), json!({})),
            ("/products", product(CHAI, "CHAI", "USD")),
            ("/products", product(TEA, "TEA", "USD")),
            ("/products", product(GONE, "GONE", "USD")),
            ("/products", product(EURO_TEA, "EURO", "EUR")),
            (&*format!("/products/{GONE}/discontinue"), json!({})),
            ("/orders", json!({ "id": ORDER, "customer_id": ANA, "lines": [line(CHAI, 1)] })),
        ] {
            let answer = shop.post(path, &body).await;
            assert!(answer.status.is_success(), "{path}: {answer:?}");
            shop.token = [shop.token, answer.token()].join(",");
        }
        shop
    }

    async fn post(&self, path: &str, body: &Value) -> Answer {
        let headers = [("consistency-token", &*self.token), ("if-match", "*")];
        send(&self.everything.router, post(path, body.to_string(), &headers)).await
    }

    /// Sends it, and makes sure that it was refused so and that no log has grown.
    async fn refuses(&self, request: Request<Body>, what: &str, status: u16, code: &str) {
        let before = self.everything.heads().await;
        let answer = send(&self.everything.router, request).await;
        assert_eq!((answer.status.as_u16(), answer.body["code"].as_str()), (status, Some(code)), "{what}: {answer:?}");
        assert_eq!(self.everything.heads().await, before, "{what} left something behind");
    }

    async fn refuses_body(&self, path: &str, body: &Value, status: u16, code: &str) {
        let text = body.to_string();
        let what = format!("{path} {}", text.chars().take(200).collect::<String>());
        let headers = [("consistency-token", &*self.token), ("if-match", "*")];
        self.refuses(post(path, text, &headers), &what, status, code).await;
    }
}

fn line(product: &str, quantity: u32) -> Value {
    json!({ "product_id": product, "quantity": quantity })
}

fn order(lines: &[Value]) -> Value {
    json!({ "customer_id": ANA, "lines": lines })
}

#[tokio::test]
async fn orders_that_cannot_be() {
    let shop = Shop::open().await;
    let many = |n: usize| order(&(0..n).map(|_| line(&kit::new_id(), 1)).collect::<Vec<_>>());
    let of = |quantity: Value| order(&[json!({ "product_id": CHAI, "quantity": quantity })]);
    let by = |customer: &str| json!({ "customer_id": customer, "lines": [line(CHAI, 1)] });
    for (body, code) in [
        (by(NOBODY), "customer_unknown"),
        (by(ERASED), "customer_erased"),
        // ids of another type
        (by(CHAI), "customer_unknown"),
        (order(&[line(ANA, 1)]), "product_unknown"),
        (order(&[line(NOBODY, 1)]), "product_unknown"),
        (order(&[line(GONE, 1)]), "product_discontinued"),
        (order(&[line(CHAI, 1), line(TEA, 1), line(CHAI, 2)]), "product_repeated"),
        (order(&[line(CHAI, 1), line(EURO_TEA, 1)]), "mixed_currencies"),
        (order(&[]), "validation_failed"),
        (many(2_001), "validation_failed"),
        (many(2_000), "product_unknown"),
        (of(json!(0)), "validation_failed"),
        (of(json!(-1)), "validation_failed"),
        (of(json!(1_000_001)), "validation_failed"),
        (of(json!(u64::MAX)), "validation_failed"),
        (of(json!(1e300)), "validation_failed"),
        (of(json!(null)), "validation_failed"),
        (order(&[json!({ "product_id": CHAI, "quantity": 1, "discount_bp": 10_001 })]), "validation_failed"),
        (order(&[json!({ "product_id": CHAI, "quantity": 1, "discount_bp": -1 })]), "validation_failed"),
        (order(&[json!({ "product_id": CHAI, "quantity": 1, "unit_price": 1 })]), "validation_failed"),
        (json!({ "customer_id": "ana", "lines": [line("chai", 1)] }), "validation_failed"),
        (json!({ "id": ORDER, "customer_id": ANA, "lines": [line(CHAI, 2)] }), "order_exists"),
        (json!([]), "validation_failed"),
        (json!("order"), "validation_failed"),
        (json!(null), "validation_failed"),
    ] {
        shop.refuses_body("/orders", &body, 422, code).await;
    }
}

#[tokio::test]
async fn money_that_cannot_be() {
    let shop = Shop::open().await;
    let added = |price: Value| json!({ "sku": "NEW", "name": "new", "unit_price": price });
    for price in [
        json!({ "amount_minor": -1, "currency": "USD" }),
        json!({ "amount_minor": 9_007_199_254_740_992_i64, "currency": "USD" }),
        json!({ "amount_minor": u64::MAX, "currency": "USD" }),
        json!({ "amount_minor": 1.5, "currency": "USD" }),
        json!({ "amount_minor": "1", "currency": "USD" }),
        json!({ "amount_minor": 1, "currency": "usd" }),
        json!({ "amount_minor": 1, "currency": "DOLLARS" }),
        json!({ "amount_minor": 1, "currency": "" }),
        json!({ "amount_minor": 1 }),
        json!({ "amount_minor": 1, "currency": "USD", "cents": 1 }),
        json!(7),
    ] {
        shop.refuses_body("/products", &added(price.clone()), 422, "validation_failed").await;
        shop.refuses_body(
            &format!("/products/{CHAI}/price"),
            &json!({ "unit_price": price }),
            422,
            "validation_failed",
        )
        .await;
    }
    let line = |amount_minor: i64, quantity: u32| {
        json!({ "product_id": kit::new_id(), "product_name": "x", "quantity": quantity, "discount_bp": 0,
            "unit_price": { "amount_minor": amount_minor, "currency": "USD" } })
    };
    let import = |lines: &[Value]| {
        json!({ "customer_id": ANA, "lines": lines, "status": "DELIVERED", "placed_at": "1996-07-04T00:00:00Z",
            "external_ref": "1" })
    };
    let largest = 9_007_199_254_740_991;
    for lines in [vec![line(largest, 2)], vec![line(largest, 1), line(1, 1)], vec![line(largest, 1_000_000)]] {
        shop.refuses_body("/orders/import", &import(&lines), 422, "total_too_large").await;
    }
}

#[tokio::test]
async fn histories_and_returns_that_cannot_be() {
    let shop = Shop::open().await;
    let price = |currency: &str| json!({ "amount_minor": 1, "currency": currency });
    let sold = |product: &str, quantity: Value, currency: &str| json!({ "product_id": product, "product_name": "x", "quantity": quantity, "unit_price": price(currency) });
    let history = |lines: &[Value]| {
        json!({ "customer_id": ANA, "lines": lines, "status": "DELIVERED", "placed_at": "1996-07-04T00:00:00Z",
            "external_ref": "1" })
    };
    let many: Vec<Value> = (0..2_001).map(|_| sold(&kit::new_id(), json!(1), "USD")).collect();
    for (body, code) in [
        (history(&[sold(CHAI, json!(1), "USD"), sold(CHAI, json!(1), "USD")]), "product_repeated"),
        (history(&[sold(CHAI, json!(1), "USD"), sold(TEA, json!(1), "EUR")]), "mixed_currencies"),
        (history(&many), "validation_failed"),
        (history(&[sold(CHAI, json!(0), "USD")]), "validation_failed"),
        (history(&[sold(CHAI, json!(-1), "USD")]), "validation_failed"),
        (history(&[sold("chai", json!(1), "USD")]), "validation_failed"),
    ] {
        shop.refuses_body("/orders/import", &body, 422, code).await;
    }
    let imported = shop.post("/orders/import", &history(&[sold(CHAI, json!(3), "USD")])).await.expect(201);
    let path = format!("{}/return", imported.header("location"));
    let back = |lines: &[Value]| json!({ "lines": lines });
    let many: Vec<Value> = (0..2_001).map(|_| line(&kit::new_id(), 1)).collect();
    for (body, code) in [
        (back(&[line(CHAI, 1), line(CHAI, 1)]), "product_repeated"),
        (back(&[line(CHAI, 4)]), "return_too_large"),
        (back(&[line(ANA, 1)]), "product_not_ordered"),
        (back(&many), "validation_failed"),
        (back(&[]), "validation_failed"),
        (back(&[line(CHAI, 0)]), "validation_failed"),
        (back(&[json!({ "product_id": CHAI, "quantity": u64::MAX })]), "validation_failed"),
    ] {
        shop.refuses_body(&path, &body, 422, code).await;
    }
}

/// The body is small: names come from the replica, so the event is larger than what was sent.
#[tokio::test]
async fn an_order_whose_event_is_larger_than_a_log_takes_is_refused_with_the_limit() {
    const PRODUCTS: usize = 1_200;
    let mut shop = Shop::open().await;
    let name = "🫖".repeat(200);
    let ids: Vec<String> = (0..PRODUCTS).map(|_| kit::new_id()).collect();
    let mut token = String::new();
    for id in &ids {
        let price = json!({ "amount_minor": 1, "currency": "USD" });
        let answer = shop.post("/products", &json!({ "id": id, "sku": id, "name": name, "unit_price": price })).await;
        token = answer.expect(201).token();
    }
    shop.token = format!("{},{token}", shop.token);
    let wanted: Vec<Value> = ids.iter().map(|id| line(id, 1)).collect();
    shop.refuses_body("/orders", &order(&wanted), 422, "limit_exceeded").await;
    let answer = shop.post("/orders", &order(&wanted)).await;
    assert!(answer.body["detail"].as_str().unwrap().contains("786432"), "{answer:?}");
    let fewer = shop.post("/orders", &order(&wanted[..PRODUCTS / 2])).await;
    assert_eq!(fewer.status.as_u16(), 201, "half of it fits");
}

#[tokio::test]
async fn texts_that_cannot_be() {
    let shop = Shop::open().await;
    let user = |name: &str, email: &str| json!({ "name": name, "email": email });
    for (name, email) in [
        ("", "x@example.com"),
        (" ", "x@example.com"),
        ("\u{2003}\u{a0}", "x@example.com"),
        ("a\0b", "x@example.com"),
        ("a\nb", "x@example.com"),
        ("\u{1b}[31m", "x@example.com"),
        (&*"x".repeat(201), "x@example.com"),
        ("X", ""),
        ("X", "x"),
        ("X", "x@"),
        ("X", "@example.com"),
        ("X", "x@example"),
        ("X", "x y@example.com"),
        ("X", "x\0@example.com"),
        ("X", "x@example.com, y@example.com"),
        ("X", &*format!("{}@example.com", "x".repeat(300))),
    ] {
        shop.refuses_body("/users", &user(name, email), 422, "validation_failed").await;
    }
    shop.refuses_body("/users", &user("X", "ANA@example.com "), 422, "email_taken").await;
    for wrong in ["", "x", "x@", "x y@example.com", "x\0@example.com"] {
        shop.refuses_body(&format!("/users/{ANA}/email"), &json!({ "email": wrong }), 422, "validation_failed").await;
    }
    for wrong in ["", " ", "a\0b", "\u{85}"] {
        for path in [format!("/users/{ANA}/rename"), format!("/products/{CHAI}/rename")] {
            shop.refuses_body(&path, &json!({ "name": wrong }), 422, "validation_failed").await;
        }
    }
    for name in ["🫖 теа 日本", "e\u{301}", "مرحبا", "\u{202e}x"] {
        let email = format!("{}@example.com", name.len());
        assert_eq!(shop.post("/users", &user(name, &email)).await.status.as_u16(), 201, "{name} is a name");
    }
}

#[tokio::test]
async fn ids_that_lead_nowhere() {
    let shop = Shop::open().await;
    // an id of another type, and one of nothing
    for (path, code) in [
        (format!("/users/{CHAI}/erase"), "user_not_found"),
        (format!("/products/{ANA}/discontinue"), "product_not_found"),
        (format!("/orders/{NOBODY}/return"), "order_not_found"),
        (format!("/users/{NOBODY}/erase"), "user_not_found"),
    ] {
        shop.refuses_body(&path, &json!({}), 404, code).await;
    }
    shop.refuses_body(&format!("/orders/{ANA}/cancel"), &json!({ "reason": "x" }), 404, "order_not_found").await;
    for id in ["7", "not-an-id", "0198c0de000070008000000000000001x", "%00", "..", "🫖"] {
        let id: String = id
            .bytes()
            .map(|byte| {
                if byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'%' {
                    (byte as char).to_string()
                } else {
                    format!("%{byte:02X}")
                }
            })
            .collect();
        for path in [format!("/users/{id}/erase"), format!("/products/{id}/discontinue")] {
            shop.refuses_body(&path, &json!({}), 400, "invalid_id").await;
        }
        let get = Request::get(format!("/orders/{id}")).body(Body::empty()).unwrap();
        shop.refuses(get, &id, 400, "invalid_id").await;
    }
    shop.refuses_body(&format!("/users/{ERASED}/rename"), &json!({ "name": "X" }), 422, "user_erased").await;
}

#[tokio::test]
async fn bodies_that_are_no_commands() {
    let shop = Shop::open().await;
    let json = [("content-type", "application/json")];
    let deep = "[".repeat(100_000);
    for (body, headers, status, code) in [
        ("{", &json[..], 400, "invalid_json"),
        ("{\"name\": \"X\",}", &json, 400, "invalid_json"),
        ("{\"name\": \"\\ud800\"}", &json, 400, "invalid_json"),
        (&*deep, &json, 400, "invalid_json"),
        (
            "name=X&email=x@example.com",
            &[("content-type", "application/x-www-form-urlencoded")],
            415,
            "unsupported_media_type",
        ),
        ("{}", &[("content-type", "text/plain")], 415, "unsupported_media_type"),
        ("{}", &[("content-type", "application/json5")], 415, "unsupported_media_type"),
        ("{}", &[("content-type", "")], 415, "unsupported_media_type"),
        ("", &json, 422, "validation_failed"),
        ("\u{feff}{}", &json, 400, "invalid_json"),
    ] {
        let what: String = body.chars().take(40).collect();
        shop.refuses(post("/users", body.to_owned(), headers), &what, status, code).await;
    }
    let large = format!("{{\"name\": \"{}\"}}", "x".repeat(2 * 1024 * 1024));
    shop.refuses(post("/users", large, &json), "2 MiB", 413, "body_too_large").await;
    let latin = Body::from(b"{\"name\": \"\xe9\"}".to_vec());
    shop.refuses(post("/users", latin, &json), "not UTF-8", 400, "invalid_json").await;
}

#[tokio::test]
async fn a_foreign_customers_order_is_left_alone() {
    let shop = Shop::open().await;
    let scopes = ["orders:write".to_owned(), "orders:read".to_owned(), scope::QUERY.to_owned()];
    let stranger = Principal::try_new("stranger", Some(NOBODY.parse::<CustomerId>().unwrap()), scopes).unwrap();
    let before = shop.everything.heads().await;
    let router = shop.everything.router.clone().layer(Extension(stranger));
    let cancel = post(&format!("/orders/{ORDER}/cancel"), json!({ "reason": "x" }).to_string(), &[]);
    assert_eq!(send(&router, cancel).await.expect(404).code(), "order_not_found");
    let show = Request::get(format!("/orders/{ORDER}")).body(Body::empty()).unwrap();
    assert_eq!(send(&router, show).await.expect(404).code(), "order_not_found");
    assert_eq!(shop.everything.heads().await, before);
}

#[tokio::test]
async fn a_price_is_not_changed_by_who_has_not_seen_it() {
    let shop = Shop::open().await;
    let price = json!({ "unit_price": { "amount_minor": 1, "currency": "USD" } }).to_string();
    let path = format!("/products/{CHAI}/price");
    shop.refuses(post(&path, price.clone(), &[]), "no If-Match", 428, "version_required").await;
    shop.refuses(post(&path, price.clone(), &[("if-match", "\"7\"")]), "another version", 412, "version_mismatch")
        .await;
    send(&shop.everything.router, post(&path, price, &[("if-match", "\"1\"")])).await.expect(200);
}
