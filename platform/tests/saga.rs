//! Sagas as operators meet them: seen when they are stuck, told with causes, and ended by each decision that there is.

mod common;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use common::{Home, Platform, text, tributary};
use hmac::{Hmac, Mac};
use serde_json::{Value, json};
use sha2::Sha256;
use uuid::Uuid;
use write_side::{checkout::state::CheckoutState, saga::saga_id};

const SECRET: &str = "a secret of a test that is long enough for HS256";
const CUSTOMER: &str = "11111111-1111-4111-8111-111111111111";
const PRODUCT: &str = "22222222-2222-4222-8222-222222222222";
const STRANGER: &str = "99999999-9999-4999-8999-999999999999";

/// Who decides: a name that must be found on the decisions.
const OPERATOR: &str = "desk-7";

/// A platform that asks for tokens, and an operator who may do everything that this test does.
struct Desk {
    platform: Platform,
    token: String,
}

impl Desk {
    async fn open(home: &Home) -> Self {
        let secret = home.dir().join("secret");
        std::fs::write(&secret, SECRET).expect("a file");
        let key_file = format!("--auth-key-file={}", secret.display());
        let auth = ["--auth-issuer=test", "--auth-audience=tributary", "--auth-algorithm=HS256", &key_file];
        let platform = Platform::up_with(home, &auth, &[]).await.expect("the platform comes up");
        Self { platform, token: token() }
    }

    /// The command line, with the operator's token.
    async fn says(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let target = ["--url", &self.platform.url, "--token", &self.token];
        let done = tributary(&[arguments, &target[..]].concat()).await;
        (done.status.code(), text(&done))
    }

    /// The same for a program.
    async fn json(&self, arguments: &[&str]) -> Value {
        let (code, said) = self.says(&[&["-o", "json"], arguments].concat()).await;
        assert_eq!(code, Some(0), "{arguments:?}: {said}");
        serde_json::from_str(&said).expect("JSON and nothing else")
    }

    async fn command(&self, path: &str, body: &Value) -> String {
        let request = self.platform.http.post(format!("{}{path}", self.platform.url)).bearer_auth(&self.token);
        let answer = request.json(body).send().await.expect("an answer");
        let token = answer.headers().get("consistency-token").and_then(|token| token.to_str().ok()).map(str::to_owned);
        let (status, body) = (answer.status(), answer.text().await.unwrap_or_default());
        assert!(status.is_success(), "{path} answered {status}: {body}");
        token.expect("a command's answer has a token")
    }

    async fn stock_up(&self) -> String {
        let user = json!({ "id": CUSTOMER, "name": "Ada Lovelace", "email": "ada@example.com" });
        let price = json!({ "amount_minor": 1_250, "currency": "EUR" });
        let product = json!({ "id": PRODUCT, "sku": "MAP-1", "name": "River map", "unit_price": price });
        let known = [self.command("/users", &user).await, self.command("/products", &product).await];
        self.command(&format!("/stock/{PRODUCT}/receive"), &json!({ "quantity": 100 })).await;
        known.join(",")
    }

    /// An order whose parcel somebody has scheduled by hand, and wrongly: what the checkout asks for is refused again and
    /// again.
    async fn order_that_sticks(&self, known: &str) -> String {
        let order = Uuid::now_v7().to_string();
        let shipment = CheckoutState::shipment_id(saga_id("checkout", &order));
        let line = |quantity: u32| json!([{ "product_id": PRODUCT, "quantity": quantity }]);
        let by_hand = json!({ "id": shipment, "order_id": order, "customer_id": CUSTOMER, "lines": line(1) });
        self.command("/shipments", &by_hand).await;
        self.place(known, &json!({ "id": order, "customer_id": CUSTOMER, "lines": line(2) })).await;
        order
    }

    async fn place(&self, known: &str, order: &Value) {
        let request = self.platform.http.post(format!("{}/orders", self.platform.url)).bearer_auth(&self.token);
        let request = request.header("consistency-token", known).header("consistency-wait", "20s");
        let placed = request.json(order).send().await.expect("an answer");
        assert_eq!(placed.status().as_u16(), 201, "{}", placed.text().await.unwrap_or_default());
    }

    /// Waits until the saga of an order is so. Until it has heard of the order, there is none.
    async fn until(&self, what: &str, order: &str, is_so: impl Fn(&Value) -> bool) {
        let look = || async {
            let (code, said) = self.says(&["-o", "json", "saga", "show", order]).await;
            if code != Some(0) {
                assert!(said.contains("saga_not_found"), "{said}");
                return false;
            }
            is_so(&serde_json::from_str(&said).expect("JSON and nothing else"))
        };
        self.platform.until(what, look).await;
    }

    async fn until_stuck(&self, order: &str) {
        self.until("stuck", order, |saga| saga["waits_for"][0]["stuck"].is_string()).await;
    }
}

fn token() -> String {
    let part = |value: Value| BASE64.encode(value.to_string());
    let exp = chrono::Utc::now().timestamp() + 3_600;
    let scope = "admin service feed metrics";
    let claims = json!({ "iss": "test", "aud": "tributary", "sub": OPERATOR, "scope": scope, "exp": exp });
    let message = format!("{}.{}", part(json!({ "alg": "HS256" })), part(claims));
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).expect("any length will do");
    mac.update(message.as_bytes());
    format!("{message}.{}", BASE64.encode(mac.finalize().into_bytes()))
}

#[tokio::test]
async fn a_stuck_saga_is_seen_told_and_ended_by_each_decision() {
    let home = Home::sqlite();
    let desk = Desk::open(&home).await;
    let known = desk.stock_up().await;
    let (forced, skipped) = (desk.order_that_sticks(&known).await, desk.order_that_sticks(&known).await);
    for order in [&forced, &skipped] {
        desk.until_stuck(order).await;
    }
    it_is_seen(&desk, &[&forced, &skipped]).await;
    it_is_told(&desk, &forced).await;
    what_cannot_be_decided_is_said(&desk, &forced).await;

    // asked for again at once, under a new key; as long as the reason stays it is stuck again
    let before = desk.json(&["saga", "show", &forced]).await;
    let retried = desk.json(&["saga", "retry", &forced, "schedule", "--why", "try it once more"]).await;
    let (asked, asked_again) = (&before["waits_for"][0], &retried["waits_for"][0]);
    assert_eq!((&asked_again["step"], &asked_again["stuck"]), (&json!("schedule"), &Value::Null), "{retried:#}");
    assert_ne!(asked["effect"], asked_again["effect"]);
    desk.until_stuck(&forced).await;

    // the parcel is there, after all: what comes next goes on from it
    let (code, said) = desk.says(&["saga", "force", &forced, "schedule", "--why", "scheduled by hand"]).await;
    assert!(code == Some(0) && said.contains("force schedule is recorded."), "{said}");
    desk.until("waiting for its parcel", &forced, |saga| saga["phase"] == "AWAITING_DISPATCH").await;
    let shipment = CheckoutState::shipment_id(saga_id("checkout", &forced));
    desk.command(&format!("/shipments/{shipment}/dispatch"), &json!({ "carrier": "Correos", "tracking": "MX-4711" }))
        .await;
    desk.command(&format!("/shipments/{shipment}/deliver"), &json!({})).await;
    desk.until("completed", &forced, |saga| saga["outcome"] == "completed").await;

    // no parcel: pieces and money go back
    let (code, said) = desk.says(&["saga", "skip", &skipped, "schedule", "--why", "it will not be sent"]).await;
    assert!(code == Some(0) && said.contains("skip schedule is recorded."), "{said}");
    desk.until("completed", &skipped, |saga| saga["outcome"] == "completed").await;

    decisions_are_kept_with_name_and_reason(&desk, &forced, &skipped).await;
    let (code, said) = desk.says(&["saga", "force", &forced, "schedule", "--why", "again"]).await;
    assert!(code == Some(1) && said.contains("has ended (completed)") && said.contains("saga_ended"), "{said}");
    // the index may be a moment late
    desk.platform
        .until("nothing is stuck", || async { desk.json(&["saga", "ls", "--stuck"]).await["sagas"] == json!([]) })
        .await;
    let completed = desk.json(&["saga", "ls", "--phase", "COMPLETED"]).await;
    assert_eq!(completed["sagas"].as_array().map(Vec::len), Some(2), "{completed:#}");
}

/// As if it had never run here: what it follows is at its head, and is history.
fn forget_the_checkout(home: &Home) {
    for entry in std::fs::read_dir(home.dir()).expect("a folder") {
        let path = entry.expect("an entry").path();
        let is_its = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("checkout"));
        if is_its && path.is_file() {
            std::fs::remove_file(path).expect("a file of its own");
        }
    }
}

#[tokio::test]
async fn an_order_from_before_the_first_checkout_is_begun_by_hand_and_one_that_has_gone_on_is_not() {
    let home = Home::sqlite();
    let desk = Desk::open(&home).await;
    let known = desk.stock_up().await;
    let lines = json!([{ "product_id": PRODUCT, "quantity": 2 }]);
    let [pending, confirmed] = [(); 2].map(|()| Uuid::now_v7().to_string());
    desk.place(&known, &json!({ "id": confirmed, "customer_id": CUSTOMER, "lines": lines })).await;
    desk.until("confirmed", &confirmed, |saga| saga["phase"] == "AWAITING_DISPATCH").await;
    let shown = desk.json(&["saga", "show", &confirmed]).await;
    assert_eq!(shown["awaits"]["fact"], "ShipmentDispatched", "{shown:#}");
    let (_, said) = desk.says(&["saga", "show", &confirmed]).await;
    assert!(said.contains("Waits for ShipmentDispatched of shipping since "), "{said}");
    assert_eq!(desk.json(&["saga", "ls", "--overdue"]).await["sagas"], json!([]));
    // the gateway is silent, so this one is still pending when the platform dies
    let silent = json!({ "id": pending, "customer_id": CUSTOMER, "lines": lines, "payment_method": "pm_timeout" });
    desk.place(&known, &silent).await;
    desk.platform.kill().await;
    forget_the_checkout(&home);

    let desk = Desk::open(&home).await;
    for order in [&pending, &confirmed] {
        let (code, said) = desk.says(&["saga", "show", order]).await;
        assert!(code == Some(1) && said.contains("saga_not_found"), "{said}");
    }
    let (code, said) = desk.says(&["saga", "start", &confirmed]).await;
    assert!(code == Some(1) && said.contains("OrderConfirmed") && said.contains("saga_gone_on"), "{said}");
    let begun = desk.json(&["saga", "start", &pending]).await;
    assert_eq!(begun["events"][0]["actor"], OPERATOR, "{begun:#}");
    desk.until("undone", &pending, |saga| saga["outcome"].is_string()).await;
    let ended = desk.json(&["saga", "start", &pending]).await;
    assert_eq!(
        (&ended["outcome"], &ended["phase"]),
        (&json!("compensated: PAYMENT_UNANSWERED"), &json!("COMPENSATED"))
    );
}

async fn it_is_seen(desk: &Desk, orders: &[&String]) {
    let all_listed = || async {
        let listed = desk.json(&["saga", "ls", "--stuck"]).await;
        listed["sagas"].as_array().is_some_and(|sagas| sagas.len() == orders.len())
    };
    desk.platform.until("listed as stuck", all_listed).await;
    let (code, said) = desk.says(&["saga", "ls", "--stuck"]).await;
    assert!(code == Some(0) && orders.iter().all(|order| said.contains(&format!("order_id={order}"))), "{said}");
    assert!(said.contains("AWAITING_SCHEDULE") && said.contains("schedule since "), "{said}");
    assert!(said.contains("refused 5 times, the last time with shipment_exists"), "{said}");
    let first = desk.json(&["saga", "ls", "--limit", "1"]).await;
    assert_eq!((first["sagas"].as_array().map(Vec::len), &first["more"]), (Some(1), &json!(true)), "{first:#}");
    let none = desk.json(&["saga", "ls", "--phase", "AWAITING_STOCK"]).await;
    assert_eq!((&none["sagas"], &none["more"]), (&json!([]), &json!(false)));

    let (code, said) = desk.says(&["doctor"]).await;
    let line = said.lines().find(|line| line.contains("saga checkout")).expect("a line on the saga");
    assert!(code == Some(0) && line.trim_start().starts_with("look") && line.contains("2 are stuck"), "{said}");
    let metrics = desk.platform.http.get(format!("{}/metrics", desk.platform.url)).bearer_auth(&desk.token);
    let page = metrics.send().await.expect("an answer").text().await.expect("a page");
    for line in [
        r#"tributary_sagas{saga="checkout",phase="AWAITING_SCHEDULE"} 2"#,
        r#"tributary_sagas_stuck{saga="checkout"} 2"#,
        r#"tributary_saga_oldest_open_age_seconds{saga="checkout"} "#,
    ] {
        assert!(page.lines().any(|said| said.starts_with(line)), "{line} is missing in {page}");
    }
    assert!(orders.iter().all(|order| !page.contains(order.as_str())), "ids are no labels");
}

async fn it_is_told(desk: &Desk, order: &str) {
    let (code, said) = desk.says(&["saga", "show", order]).await;
    assert_eq!(code, Some(0), "{said}");
    let id = saga_id("checkout", order);
    let mut rest = said.as_str();
    for part in [
        &*format!("checkout {id} of "),
        "phase        AWAITING_SCHEDULE",
        "begun by OrderPlaced",
        "because of event ",
        "wakes at the deadline",
        &format!("asks inventory for reserve/0: POST /stock/{PRODUCT}/reserve"),
        "inventory accepted reserve/0: ",
        "asks payments for authorize: POST /payments",
        "learned of PaymentAuthorized",
        "orders accepted confirm",
        "asks shipping for schedule: POST /shipments",
        "shipping refused schedule: shipment_exists (",
        ", not before ",
        "schedule is stuck after 5 attempts: ",
        "Waits for",
        "  schedule  (",
        "refused ",
        "next attempt ",
        "STUCK since ",
    ] {
        let at = rest.find(part).unwrap_or_else(|| panic!("{part:?} is missing, or not in its place, in\n{said}"));
        rest = &rest[at + part.len()..];
    }

    // by its own id too, and with its cause
    let told = desk.json(&["saga", "show", &id.to_string()]).await;
    let feed = desk.json(&["stream", "show", "--service", "orders", order]).await;
    let placed = &feed["events"][0];
    let begun = &told["events"][0];
    assert_eq!((&begun["causation_id"], &placed["event_type"]), (&placed["event_id"], &json!("OrderPlaced")));
    assert_eq!(begun["correlation_id"], placed["metadata"]["correlation_id"]);
    assert_eq!((&told["saga_id"], &told["ids"]["order_id"]), (&json!(id), &json!(order)));
    let sequences: Vec<u64> =
        told["events"].as_array().unwrap().iter().filter_map(|e| e["sequence"].as_u64()).collect();
    assert!(sequences.iter().copied().eq(1..=sequences.len() as u64), "{sequences:?}");
}

async fn what_cannot_be_decided_is_said(desk: &Desk, order: &str) {
    for (arguments, code, words) in [
        (&["saga", "show", STRANGER][..], 1, &["there is no saga", "tributary saga ls", "saga_not_found"][..]),
        (&["saga", "start", STRANGER], 1, &["nothing that happened begins a checkout", "saga_not_begun"]),
        (&["saga", "skip", STRANGER, "schedule", "--why", "x"], 1, &["saga_not_found"]),
        (&["saga", "force", order, "capture", "--why", "x"], 1, &["capture is not open", "waits for schedule"]),
        (&["saga", "force", order, "swim", "--why", "x"], 1, &["no step swim", "step_unknown"]),
        (&["saga", "force", order, "schedule", "--why", " "], 1, &["--why is empty"]),
        (&["saga", "force", order, "schedule"], 2, &["--why"]),
        (&["saga", "ls", "--limit", "many"], 2, &["--limit"]),
    ] {
        let (exit, said) = desk.says(arguments).await;
        assert_eq!(exit, Some(code), "{arguments:?}: {said}");
        for word in words {
            assert!(said.contains(word), "{arguments:?} does not say {word:?}: {said}");
        }
    }
    let url = format!("{}/admin/sagas/{order}", desk.platform.url);
    let post =
        |what: &str, body: Value| desk.platform.http.post(format!("{url}/{what}")).bearer_auth(&desk.token).json(&body);
    for (what, body, status, code) in [
        ("skip", json!({ "step": "schedule", "reason": "" }), 422, "validation_failed"),
        ("skip", json!({ "step": "schedule", "reason": "x".repeat(501) }), 422, "validation_failed"),
        ("skip", json!({ "step": "schedule" }), 422, "validation_failed"),
        ("undo", json!({ "step": "schedule", "reason": "x" }), 400, "invalid_address"),
    ] {
        let answer = post(what, body).send().await.expect("an answer");
        let (answered, problem) = (answer.status().as_u16(), answer.json::<Value>().await.expect("a problem"));
        assert_eq!((answered, &problem["code"]), (status, &json!(code)), "{problem}");
    }
    let stranger = desk.platform.http.get(&url).send().await.expect("an answer");
    assert_eq!(stranger.status().as_u16(), 401, "the administration is not for everybody");
}

async fn decisions_are_kept_with_name_and_reason(desk: &Desk, forced: &str, skipped: &str) {
    for (order, decisions) in [
        (forced, &[("retry", "try it once more"), ("force", "scheduled by hand")][..]),
        (skipped, &[("skip", "it will not be sent")][..]),
    ] {
        let told = desk.json(&["saga", "show", order]).await;
        let events = told["events"].as_array().expect("events").iter();
        let decided: Vec<&Value> = events.filter(|event| event["event_type"] == "CheckoutDecided").collect();
        assert_eq!(decided.len(), decisions.len(), "{told:#}");
        for (event, (decision, reason)) in decided.iter().zip(decisions) {
            assert_eq!(event["what"], format!("{OPERATOR} decided to {decision} schedule: {reason}"));
            assert_eq!((&event["payload"]["by"], &event["actor"]), (&json!(OPERATOR), &json!(OPERATOR)));
        }
    }
}
