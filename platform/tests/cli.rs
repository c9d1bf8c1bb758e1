//! The command line as a client of the public API: commands in, events out, one order put together live.

mod common;

use common::{Home, Platform, text, tributary};
use serde_json::{Value, json};

const CUSTOMER: &str = "11111111-1111-4111-8111-111111111111";
const PRODUCT: &str = "22222222-2222-4222-8222-222222222222";
const ORDER: &str = "33333333-3333-4333-8333-333333333333";

/// `tributary -o json command send ...`, and what it printed.
async fn send(platform: &Platform, arguments: &[&str]) -> (bool, Value) {
    let arguments = [&["-o", "json", "command", "send"], arguments, &["--url", &platform.url]].concat();
    let done = tributary(&arguments).await;
    (done.status.success(), serde_json::from_slice(&done.stdout).unwrap_or(Value::Null))
}

#[tokio::test]
async fn commands_are_sent_events_are_followed_and_an_order_is_composed() {
    let platform = Platform::up(&Home::sqlite()).await;
    let user = json!({ "id": CUSTOMER, "name": "Ada Lovelace", "email": "ada@example.com" }).to_string();
    let (done, registered) = send(&platform, &["/users", &user, "--key", "first"]).await;
    assert!(done && registered["status"] == 201 && registered["version"] == "\"1\"", "{registered}");
    let (done, again) = send(&platform, &["/users", &user, "--key", "first"]).await;
    assert!(done && again["consistency_token"] == registered["consistency_token"], "{again}");

    let price = json!({ "amount_minor": 1_250, "currency": "EUR" });
    let product = json!({ "id": PRODUCT, "sku": "MAP-1", "name": "River map", "unit_price": price }).to_string();
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), product).expect("a file can be written");
    let (done, added) = send(&platform, &["/products", &format!("@{}", file.path().display())]).await;
    assert!(done && added["key"].as_str().is_some_and(|key| key.len() == 36), "{added}");

    let (done, received) = send(&platform, &[&format!("/stock/{PRODUCT}/receive"), r#"{"quantity": 9}"#]).await;
    assert!(done, "{received}");

    let rename = format!("/users/{CUSTOMER}/rename");
    let (done, refused) = send(&platform, &[&rename, r#"{"name": "Ada King"}"#, "--if-match", "7"]).await;
    assert!(!done && refused["status"] == 412 && refused["body"]["currentVersion"] == 1, "{refused}");
    let (done, refused) = send(&platform, &["/users", r#"{"nam": "Ada"}"#]).await;
    assert!(!done && refused["body"]["code"] == "validation_failed", "{refused}");

    let seen = format!(
        "{},{}",
        registered["consistency_token"].as_str().unwrap(),
        added["consistency_token"].as_str().unwrap()
    );
    let order = json!({ "id": ORDER, "customer_id": CUSTOMER, "lines": [{ "product_id": PRODUCT, "quantity": 2 }] });
    let (done, placed) = send(&platform, &["/orders", &order.to_string(), "--after", &seen]).await;
    assert!(done, "{placed}");

    let tail = ["stream", "tail", "--service", "orders", "--after", "0", "--limit", "1", "--url", &platform.url];
    let told = tributary(&tail).await;
    assert!(
        told.status.success() && text(&told).contains("OrderPlaced v1") && text(&told).contains(ORDER),
        "{}",
        text(&told)
    );
    let told = tributary(&[&["-o", "json"], &tail[..]].concat()).await;
    let event: Value = serde_json::from_slice(&told.stdout).expect("a CloudEvents object");
    assert_eq!(
        (&event["type"], &event["position"], &event["subject"]),
        (&json!("OrderPlaced"), &json!(1), &json!(ORDER))
    );

    let (status, composed) = platform.get(&format!("/composed/orders/{ORDER}")).await;
    assert_eq!((status, &composed["complete"]), (200, &json!(true)), "{composed}");
    assert_eq!(composed["order"]["id"], ORDER);
    assert_eq!(composed["customer"]["name"], "Ada Lovelace");
    assert_eq!(composed["products"][0]["sku"], "MAP-1");
    assert_eq!(composed["stock"].as_array().map(Vec::len), Some(1), "{composed}");
    let (status, problem) = platform.get(&format!("/composed/orders/{PRODUCT}")).await;
    assert_eq!((status, &problem["code"]), (404, &json!("order_not_found")));
    assert!(problem["traceId"].is_string(), "{problem}");
}

#[tokio::test]
async fn a_command_to_nobody_says_how_to_send_it_again() {
    let gone = tributary(&["command", "send", "/users", "{}", "--key", "k-7", "--url", "http://127.0.0.1:1"]).await;
    assert!(!gone.status.success() && text(&gone).contains("--key k-7"), "{}", text(&gone));
    let wrong = tributary(&["command", "send", "users", "{}"]).await;
    assert!(!wrong.status.success() && text(&wrong).contains("starts with a slash"), "{}", text(&wrong));
    let wrong = tributary(&["command", "send", "/users", "{name: 1}"]).await;
    assert!(!wrong.status.success() && text(&wrong).contains("no JSON"), "{}", text(&wrong));
}
