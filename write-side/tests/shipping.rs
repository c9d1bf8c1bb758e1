//! The shipping service over HTTP: what goes in and what comes out.

mod kit;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{Router, extract::Request, response::IntoResponse};
use chrono::DateTime;
use event_store::{
    clock::ManualClock,
    feed::{Cursor, Feed, PageLimit},
    memory::MemoryLog,
    subject_keys::SubjectKeys,
};
use kit::{ANA, Alone, CHAI, NOBODY, TEA};
use serde_json::{Value, json};
use tower::ServiceExt;
use write_side::{edge::Problem, peer::Peer};

/// A shipment.
const PARCEL: &str = "0198c0de-0000-7000-8000-0000000000b1";
/// An order.
const ORDER: &str = "0198c0de-0000-7000-8000-0000000000a1";

async fn shipping() -> (Arc<MemoryLog>, Alone) {
    let log = MemoryLog::new("shipping");
    let clock = ManualClock::at(DateTime::from_timestamp(1_000_000, 0).unwrap());
    (log.clone(), Alone::open_at(log, Arc::new(clock)).await)
}

fn address() -> Value {
    json!({ "street": "1 Quay Street", "city": "Riverton", "country": "GB" })
}

fn parcel(quantity: u32) -> Value {
    let lines = json!([{ "product_id": CHAI, "quantity": quantity }]);
    json!({ "id": PARCEL, "order_id": ORDER, "customer_id": ANA, "lines": lines, "address": address() })
}

fn shipment(command: &str) -> String {
    format!("/shipments/{PARCEL}/{command}")
}

/// The users service beside it, where Ana is registered without an address.
async fn shipping_and_users() -> (Arc<MemoryLog>, Alone, Alone) {
    let users = Alone::open(MemoryLog::new("users")).await;
    users.post("/users", json!({ "id": ANA, "name": "Ana", "email": "ana@example.com" })).await.expect(201);
    let asked = Peer::here(users.service.router.clone());
    let (log, shop) = shipping_beside(&users, asked).await;
    (log, shop, users)
}

async fn shipping_beside(users: &Alone, asked: Peer) -> (Arc<MemoryLog>, Alone) {
    let (log, clock) = (MemoryLog::new("shipping"), ManualClock::at(DateTime::from_timestamp(1_000_000, 0).unwrap()));
    let shop = Alone::open_asking(log.clone(), Arc::new(clock), vec![users.service.feed()], asked).await;
    (log, shop)
}

/// Ana lives there now.
async fn move_ana(users: &Alone, street: &str) {
    let home = json!({ "street": street, "city": "Riverton", "country": "GB" });
    users.post(&format!("/users/{ANA}/address"), home).await.expect(200);
}

/// A parcel whose schedule says nothing of where to.
fn unaddressed() -> Value {
    let mut parcel = parcel(2);
    parcel.as_object_mut().unwrap().remove("address");
    parcel
}

/// Erases Ana, and waits until the shipping service has seen it.
async fn erase_ana(users: &Alone, log: &MemoryLog) {
    users.post(&format!("/users/{ANA}/erase"), json!({})).await.expect(200);
    let seen = async {
        while log.erased_up_to().await.unwrap().position == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), seen).await.expect("an erasure is seen at once");
}

async fn address_shown(shop: &Alone) -> Value {
    shop.get(&format!("/shipments/{PARCEL}")).await.expect(200).body["address"].clone()
}

/// A schedule of the same parcel to another place: refused for as long as the first place is known.
fn redirected() -> Value {
    let mut elsewhere = parcel(2);
    elsewhere["address"]["street"] = json!("2 Quay Street");
    elsewhere
}

fn given_up(order_id: &str) -> Value {
    json!({ "order_id": order_id, "reason": "no longer wanted" })
}

#[tokio::test]
async fn a_shipment_is_scheduled_dispatched_and_delivered() {
    let (_, shop) = shipping().await;
    let scheduled = shop.post("/shipments", parcel(2)).await.expect(201);
    assert_eq!(scheduled.header("location"), format!("/shipments/{PARCEL}"));
    shop.post("/shipments", parcel(2)).await.expect(200);
    let carrier = json!({ "carrier": "Post", "tracking": "P-1" });
    shop.post(&shipment("dispatch"), carrier.clone()).await.expect(200);
    let again = shop.post(&shipment("dispatch"), carrier).await.expect(200);
    assert_eq!(again.body["changed"], false);
    let delivered = shop.post(&shipment("deliver"), json!({})).await.expect(200);
    let shown = shop.get(&format!("/shipments/{PARCEL}")).await.expect(200);
    let expected = json!({
        "id": PARCEL, "order_id": ORDER, "customer_id": ANA, "address": address(), "status": "DELIVERED",
        "lines": [{ "product_id": CHAI, "quantity": 2 }], "carrier": "Post", "tracking": "P-1", "reason": null,
        "dispatched_at": "1970-01-12T13:46:40Z", "delivered_at": "1970-01-12T13:46:40Z",
    });
    assert_eq!((&shown.body, shown.token()), (&expected, delivered.token()));
    let feed = shop.get("/shipping/feed").await.expect(200);
    for line in feed.text.lines() {
        let event: Value = serde_json::from_str(line).unwrap();
        assert_eq!(event["data"]["order_id"], ORDER, "every event says whose order it is");
    }
    assert_eq!(feed.text.lines().count(), 3);
}

#[tokio::test]
async fn a_parcel_gets_lost_and_is_not_delivered_any_more() {
    let (_, shop) = shipping().await;
    shop.post("/shipments", parcel(2)).await.expect(201);
    let early = shop.post(&shipment("lose"), json!({ "reason": "carrier's word" })).await.expect(422);
    assert_eq!((early.code(), &early.body["shipment_status"]), ("shipment_not_dispatched", &json!("SCHEDULED")));
    shop.post(&shipment("dispatch"), json!({ "carrier": "Post", "tracking": "P-1" })).await.expect(200);
    shop.post(&shipment("lose"), json!({ "reason": "carrier's word" })).await.expect(200);
    assert_eq!(shop.post(&shipment("deliver"), json!({})).await.expect(422).code(), "shipment_lost");
    let shown = shop.get(&format!("/shipments/{PARCEL}")).await.body;
    assert_eq!((&shown["status"], &shown["reason"]), (&json!("LOST"), &json!("carrier's word")));
}

#[tokio::test]
async fn a_cancellation_that_overtakes_its_schedule_keeps_it_out() {
    let (_, shop) = shipping().await;
    shop.post(&shipment("cancel"), given_up(ORDER)).await.expect(200);
    let again = shop.post(&shipment("cancel"), given_up(ORDER)).await.expect(200);
    assert_eq!(again.body["changed"], false);
    assert_eq!(shop.post("/shipments", parcel(2)).await.expect(422).code(), "shipment_withdrawn");
    let shown = shop.get(&format!("/shipments/{PARCEL}")).await.expect(200);
    assert_eq!((&shown.body["status"], &shown.body["order_id"]), (&json!("WITHDRAWN"), &json!(ORDER)));
}

#[tokio::test]
async fn whose_customer_is_erased_has_no_address_any_more_and_goes_on() {
    let (log, shop, users) = shipping_and_users().await;
    shop.post("/shipments", parcel(2)).await.expect(201);
    shop.post(&shipment("dispatch"), json!({ "carrier": "Post", "tracking": "P-1" })).await.expect(200);
    assert_eq!(address_shown(&shop).await, address());
    assert_eq!(shop.post("/shipments", redirected()).await.expect(422).code(), "shipment_exists");
    erase_ana(&users, &log).await;
    assert_eq!(address_shown(&shop).await, Value::Null);
    let feed = shop.get("/shipping/feed").await.expect(200).text;
    assert!(!feed.contains("Quay Street") && feed.contains(CHAI), "{feed}");
    let again = shop.post("/shipments", redirected()).await.expect(200);
    assert_eq!(again.body["changed"], false, "the next command knows no address either");
    shop.post(&shipment("deliver"), json!({})).await.expect(200);
}

#[tokio::test]
async fn a_command_under_way_during_the_erasure_brings_no_address_back() {
    let (log, shop, users) = shipping_and_users().await;
    shop.post("/shipments", parcel(2)).await.expect(201);
    let commits = log.hold_commits().await;
    let dispatch = shipment("dispatch");
    let mut dispatched = Box::pin(shop.post(&dispatch, json!({ "carrier": "Post", "tracking": "P-1" })));
    tokio::select! {
        answer = &mut dispatched => panic!("commits are held: {answer:?}"),
        () = erase_ana(&users, &log) => {}
    }
    assert_eq!(address_shown(&shop).await, Value::Null, "while it is under way");
    let mut waiting = Box::pin(shop.post("/shipments", redirected()));
    let early = tokio::time::timeout(Duration::from_millis(50), &mut waiting).await;
    assert!(early.is_err(), "it is decided once the one before it is stored: {early:?}");
    drop(commits);
    dispatched.await.expect(200);
    assert_eq!(waiting.await.expect(200).body["changed"], false, "decided without the address");
    assert_eq!(address_shown(&shop).await, Value::Null);
    let again = shop.post("/shipments", redirected()).await.expect(200);
    assert_eq!(again.body["changed"], false, "the next command knows no address either");
}

#[tokio::test]
async fn a_shipment_that_is_scheduled_after_the_erasure_has_no_address() {
    let (log, shop, users) = shipping_and_users().await;
    erase_ana(&users, &log).await;
    shop.post("/shipments", parcel(2)).await.expect(201);
    assert_eq!(address_shown(&shop).await, Value::Null);
    shop.post("/shipments", redirected()).await.expect(200);
}

#[tokio::test]
async fn a_shipment_that_names_no_address_goes_where_its_customer_lived_that_day() {
    let (log, shop, users) = shipping_and_users().await;
    move_ana(&users, "1 Quay Street").await;
    shop.post("/shipments", unaddressed()).await.expect(201);
    assert_eq!(address_shown(&shop).await, address());
    move_ana(&users, "2 Quay Street").await;
    let again = shop.post("/shipments", unaddressed()).await.expect(200);
    assert_eq!((&again.body["changed"], address_shown(&shop).await), (&json!(false), address()));

    // it is as secret as one that was named, and goes with its customer
    let page = log.page(Cursor::START, PageLimit::events(9), Duration::ZERO).await.unwrap();
    assert!(!page.events[0].payload.contains("Quay Street"), "{}", page.events[0].payload);
    erase_ana(&users, &log).await;
    assert_eq!(address_shown(&shop).await, Value::Null);
}

#[tokio::test]
async fn who_has_no_address_gets_a_shipment_all_the_same() {
    let (log, shop, users) = shipping_and_users().await;
    let of = |shipment: &str, customer: &str| {
        let mut body = unaddressed();
        (body["id"], body["customer_id"]) = (json!(shipment), json!(customer));
        body
    };
    let [without, unknown, erased] = [kit::new_id(), kit::new_id(), kit::new_id()];
    shop.post("/shipments", of(&without, ANA)).await.expect(201);
    shop.post("/shipments", of(&unknown, NOBODY)).await.expect(201);
    move_ana(&users, "1 Quay Street").await;
    erase_ana(&users, &log).await;
    shop.post("/shipments", of(&erased, ANA)).await.expect(201);
    for id in [without, unknown, erased] {
        let shown = shop.get(&format!("/shipments/{id}")).await.expect(200).body;
        assert_eq!((&shown["status"], &shown["address"]), (&json!("SCHEDULED"), &Value::Null));
    }
}

#[tokio::test]
async fn while_the_users_service_is_away_a_shipment_without_an_address_waits() {
    let users = Alone::open(MemoryLog::new("users")).await;
    users.post("/users", json!({ "id": ANA, "name": "Ana", "email": "ana@example.com" })).await.expect(201);
    move_ana(&users, "1 Quay Street").await;
    let away = Arc::new(AtomicBool::new(true));
    let switch = {
        let (away, router) = (Arc::clone(&away), users.service.router.clone());
        move |request: Request| {
            let (is_away, router) = (away.load(Ordering::SeqCst), router.clone());
            async move {
                match is_away {
                    true => Problem::unavailable("gone").into_response(),
                    false => router.oneshot(request).await.unwrap(),
                }
            }
        }
    };
    let (log, shop) = shipping_beside(&users, Peer::here(Router::new().fallback(switch))).await;
    let key = [("idempotency-key", "schedule-1")];
    let refused = shop.post_with("/shipments", unaddressed(), &key).await.expect(503);
    assert_eq!((refused.code(), refused.header("retry-after")), ("users_unavailable", "1"));
    assert_eq!(kit::count(&log).await, 0);
    shop.post("/shipments", parcel(2)).await.expect(201);
    shop.post(&shipment("cancel"), given_up(ORDER)).await.expect(200);

    away.store(false, Ordering::SeqCst);
    let mut other = unaddressed();
    other["id"] = json!(kit::new_id());
    let key = [("idempotency-key", "schedule-2")];
    shop.post_with("/shipments", other.clone(), &key).await.expect(201);
    away.store(true, Ordering::SeqCst);
    let replayed = shop.post_with("/shipments", other, &key).await.expect(201);
    assert_eq!(replayed.header("idempotency-replayed"), "true", "nobody has to be asked for what is done");
}

#[tokio::test]
async fn no_input_is_answered_with_our_fault_and_none_leaves_half_an_effect() {
    let (log, shop) = shipping().await;
    shop.post("/shipments", parcel(2)).await.expect(201);
    let with = |name: &str, value: Value| {
        let mut body = parcel(2);
        body["id"] = json!(NOBODY);
        body[name] = value;
        body
    };
    let line = |product: &str, quantity: Value| json!({ "product_id": product, "quantity": quantity });
    let many = |n: usize| (0..n).map(|_| line(&kit::new_id(), json!(1))).collect::<Vec<_>>();
    let carrier = |name: &str, tracking: &str| json!({ "carrier": name, "tracking": tracking });
    let (dispatch, deliver, cancel) = (shipment("dispatch"), shipment("deliver"), shipment("cancel"));
    let unknown = format!("/shipments/{NOBODY}/deliver");
    let cases: Vec<(&str, Value, u16, &str, &[&str])> = vec![
        ("/shipments", json!({}), 422, "validation_failed", &["/order_id", "/customer_id", "/lines"]),
        ("/shipments", with("order_id", json!(7)), 422, "validation_failed", &["/order_id"]),
        ("/shipments", with("lines", json!([])), 422, "validation_failed", &["/lines"]),
        ("/shipments", with("lines", json!(many(2_001))), 422, "validation_failed", &["/lines"]),
        ("/shipments", with("lines", json!([line(CHAI, json!(0))])), 422, "validation_failed", &["/lines/0/quantity"]),
        ("/shipments", with("lines", json!([line(CHAI, json!(-1))])), 422, "validation_failed", &["/lines/0/quantity"]),
        (
            "/shipments",
            with("lines", json!([line(CHAI, json!(u64::MAX))])),
            422,
            "validation_failed",
            &["/lines/0/quantity"],
        ),
        (
            "/shipments",
            with("lines", json!([line(CHAI, json!(1)), line(TEA, json!(1)), line(CHAI, json!(2))])),
            422,
            "product_repeated",
            &["/lines/2/product_id"],
        ),
        (
            "/shipments",
            with("address", json!({ "street": "", "planet": "Mars" })),
            422,
            "validation_failed",
            &["/address/street", "/address/city", "/address/country", "/address/planet"],
        ),
        ("/shipments", with("carrier", json!("Post")), 422, "validation_failed", &["/carrier"]),
        ("/shipments", parcel(3), 422, "shipment_exists", &[]),
        (&dispatch, carrier("", " x"), 422, "validation_failed", &["/carrier", "/tracking"]),
        (&dispatch, carrier("a\0b", "1"), 422, "validation_failed", &["/carrier"]),
        (&dispatch, carrier("Post", &"9".repeat(101)), 422, "validation_failed", &["/tracking"]),
        (&deliver, json!({ "at": "2026-01-01T00:00:00Z" }), 422, "validation_failed", &["/at"]),
        (&deliver, json!({}), 422, "shipment_not_dispatched", &[]),
        (&cancel, json!({ "reason": "late" }), 422, "validation_failed", &["/order_id"]),
        (&cancel, given_up(NOBODY), 422, "shipment_of_another_order", &[]),
        (&unknown, json!({}), 404, "shipment_not_found", &[]),
        ("/shipments/7/deliver", json!({}), 400, "invalid_id", &[]),
    ];
    for (path, body, status, code, pointers) in cases {
        let answer = shop.post(path, body.clone()).await;
        let shown: String = body.to_string().chars().take(200).collect();
        assert_eq!(answer.status.as_u16(), status, "{path} {shown}: {answer:?}");
        assert_eq!(answer.code(), code, "{path} {shown}");
        if !pointers.is_empty() {
            assert_eq!(answer.pointers(), pointers, "{path} {shown}");
        }
    }
    assert_eq!(kit::count(&log).await, 1, "nothing of it was stored");
}
