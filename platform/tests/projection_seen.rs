//! Read models as operators see them: how far each is, again and again, and why a row is as it is.

mod common;

use common::{Home, Platform, text, tributary};
use serde_json::{Value, json};

const CUSTOMER: &str = "11111111-1111-4111-8111-111111111111";
const PRODUCT: &str = "22222222-2222-4222-8222-222222222222";
const ORDER: &str = "33333333-3333-4333-8333-333333333333";

async fn place_order(platform: &Platform) -> String {
    let user = json!({"id": CUSTOMER, "name": "Ada Lovelace", "email": "ada@example.com"});
    let mut token = platform.command("/users", "signup-7", "", user).await.token;
    let price = json!({"amount_minor": 1_250, "currency": "EUR"});
    let product = json!({"id": PRODUCT, "sku": "MAP-1", "name": "River map", "unit_price": price});
    token = format!("{token},{}", platform.command("/products", "p", "", product).await.token);
    platform.command(&format!("/stock/{PRODUCT}/receive"), "s", "", json!({"quantity": 10})).await;
    let order = json!({"id": ORDER, "customer_id": CUSTOMER, "lines": [{"product_id": PRODUCT, "quantity": 2}]});
    let placed = platform.command("/orders", "order-7", &token, order).await;
    format!("{token},{}", placed.token)
}

/// The command line, for a program.
async fn asked(platform: &Platform, arguments: &[&str]) -> Value {
    let done = tributary(&[&["-o", "json"], arguments, &["--url", &platform.url]].concat()).await;
    assert!(done.status.success(), "{arguments:?}: {}", text(&done));
    serde_json::from_slice(&done.stdout).expect("JSON and nothing else")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_is_explained_by_its_events_and_their_commands() {
    let platform = Platform::up(&Home::sqlite()).await;
    let token = place_order(&platform).await;
    let found = platform.query(&format!("{{ order(id: \"{ORDER}\") {{ status }} }}"), &token).await;
    assert!(found["order"].is_object(), "{found}");

    let why = asked(&platform, &["projection", "why", "order_details", ORDER]).await;
    assert_eq!((&why["told_by"], &why["has_more"]), (&json!("history"), &json!(false)), "{why}");
    let events = why["events"].as_array().expect("events");
    let told = |kind: &str| events.iter().find(|event| event["event_type"] == kind).unwrap_or(&Value::Null).clone();
    let placed = told("OrderPlaced");
    assert_eq!((&placed["source"], &placed["command_key"]), (&json!("orders"), &json!("order-7")), "{why}");
    assert_eq!((&placed["position"], &placed["parts"]), (&json!(1), &json!(["order_facet"])));
    assert!(placed["correlation_id"].is_string() && placed["actor"].is_string(), "{placed}");
    assert_eq!(told("UserRegistered")["command_key"], "signup-7");
    assert_eq!(told("ProductAdded")["parts"], json!(["product"]));
    assert_eq!(told("StockReceived"), Value::Null, "it is of no order");
    assert!(!why.to_string().contains("Ada") && !why.to_string().contains("ada@"), "nothing personal is told: {why}");

    let human = tributary(&["projection", "why", "order_details", ORDER, "--url", &platform.url]).await;
    let human = text(&human);
    assert!(human.contains("OrderPlaced v1") && human.contains("order-7") && human.contains("COMMAND"), "{human}");

    let nobody = tributary(&["projection", "why", "order_details", "a/b?c", "--url", &platform.url]).await;
    assert!(!nobody.status.success() && text(&nobody).contains("row_not_found"), "{}", text(&nobody));
    let unknown = tributary(&["projection", "why", "orders", ORDER, "--url", &platform.url]).await;
    assert!(!unknown.status.success() && text(&unknown).contains("projection ls"), "{}", text(&unknown));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_status_says_when_it_was_seen_and_can_be_watched() {
    let platform = Platform::up(&Home::sqlite()).await;
    let token = place_order(&platform).await;
    platform.query(&format!("{{ order(id: \"{ORDER}\") {{ status }} }}"), &token).await;
    let observed = async || {
        let seen = asked(&platform, &["projection", "status", "order_details"]).await;
        let sources = seen[0]["sources"].as_array().expect("sources").clone();
        sources.iter().all(|source| source["observed_at"].is_string())
    };
    platform.until("every head is noted", observed).await;
    let seen =
        platform.query("{ projections { name sources { source lagEvents lagSeconds observedAt } } }", &token).await;
    let details = seen["projections"].as_array().and_then(|all| all.iter().find(|one| one["name"] == "order_details"));
    let sources = details.expect("it is live")["sources"].as_array().expect("sources").clone();
    assert_eq!(sources.len(), 6, "{seen}");
    assert!(sources.iter().all(|source| source["observedAt"].is_string()), "{seen}");

    // not on a terminal: a line for each source of which there is news, and then only what is new
    let watch = ["projection", "status", "order_details", "--watch", "--times", "2", "--url", &platform.url];
    let watched = tributary(&watch).await;
    let said = text(&watched);
    assert!(watched.status.success() && !said.contains('\u{1b}'), "{said}");
    assert!(said.contains("order_details <- users  1 of 1, 0 behind"), "{said}");
    assert_eq!(said.matches("<- users").count(), 1, "nothing new of users: {said}");
    let looks = tributary(&[&["-o", "json"], &watch[..]].concat()).await;
    let looks: Vec<Value> =
        serde_json::Deserializer::from_slice(&looks.stdout).into_iter().map(Result::unwrap).collect();
    assert_eq!(looks.len(), 2);
    assert!(looks.iter().all(|look| look["at"].is_string() && look["projections"][0]["name"] == "order_details"));
    let wrong = tributary(&["projection", "status", "--times", "2"]).await;
    assert_eq!(wrong.status.code(), Some(2), "without --watch there is nothing to end: {}", text(&wrong));
}
