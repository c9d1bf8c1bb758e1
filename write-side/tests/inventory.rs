//! The inventory service over HTTP: what goes in, what comes out, and what time does to it.

mod kit;

use std::{sync::Arc, time::Duration};

use chrono::DateTime;
use event_store::{
    clock::{Clock, ManualClock},
    memory::MemoryLog,
};
use kit::{Alone, Answer, CHAI, TEA};
use serde_json::{Value, json};

/// An order.
const ONE: &str = "0198c0de-0000-7000-8000-0000000000a1";
/// Another one.
const TWO: &str = "0198c0de-0000-7000-8000-0000000000a2";

/// How long the expirer may take on a busy machine; its turn is a second.
const EXPIRY_WAIT_MAX: Duration = Duration::from_secs(30);

async fn inventory() -> (Arc<MemoryLog>, Alone) {
    let log = MemoryLog::new("inventory");
    (log.clone(), Alone::open(log).await)
}

fn stock(command: &str) -> String {
    format!("/stock/{CHAI}/{command}")
}

fn line(order: &str, line: u32) -> Value {
    json!({ "order_id": order, "line": line })
}

fn reserve(order: &str, quantity: u32) -> Value {
    json!({ "order_id": order, "line": 0, "quantity": quantity })
}

fn status(answer: &Answer) -> &str {
    answer.body["reservation"]["status"].as_str().unwrap_or_else(|| panic!("no status in {answer:?}"))
}

#[tokio::test]
async fn stock_is_received_reserved_confirmed_and_shipped() {
    let (_, shop) = inventory().await;
    let received = shop.post(&stock("receive"), json!({ "quantity": 10 })).await.expect(200);
    assert_eq!(received.body, json!({ "id": CHAI, "version": 1, "changed": true }));
    shop.post(&stock("adjust"), json!({ "quantity": -1, "reason": "broken" })).await.expect(200);
    let reserved = shop.post(&stock("reserve"), reserve(ONE, 4)).await.expect(200);
    assert_eq!((status(&reserved), &reserved.body["reservation"]["quantity"]), ("RESERVED", &json!(4)));
    assert!(reserved.body["reservation"]["expires_at"].is_string(), "{reserved:?}");
    let shown = shop.get(&format!("/stock/{CHAI}")).await.expect(200);
    let expected = json!({ "id": CHAI, "on_hand": 9, "held": 4, "available": 5, "reservations": 1 });
    assert_eq!((&shown.body, shown.token()), (&expected, reserved.token()));

    let confirmed = shop.post(&stock("confirm"), line(ONE, 0)).await.expect(200);
    assert_eq!(confirmed.body["reservation"]["expires_at"], Value::Null);
    let shipped = shop.post(&stock("ship"), line(ONE, 0)).await.expect(200);
    assert_eq!((status(&shipped), &shipped.body["version"]), ("SHIPPED", &json!(5)));
    let shown = shop.get(&format!("/stock/{CHAI}")).await.body;
    assert_eq!((&shown["on_hand"], &shown["held"]), (&json!(5), &json!(0)));

    let feed = shop.get("/inventory/feed").await.expect(200);
    let last: Value = serde_json::from_str(feed.text.lines().last().unwrap()).unwrap();
    assert_eq!((&last["type"], &last["data"]["order_id"]), (&json!("StockShipped"), &json!(ONE)));
}

#[tokio::test]
async fn a_rejection_is_an_answer_and_an_event_and_says_how_many_there_are() {
    let (log, shop) = inventory().await;
    shop.post(&stock("receive"), json!({ "quantity": 3 })).await.expect(200);
    let rejected = shop.post(&stock("reserve"), reserve(ONE, 4)).await.expect(200);
    assert_eq!(rejected.body["reservation"], json!({ "status": "REJECTED", "quantity": 4, "available": 3 }));
    assert_eq!(kit::count(&log).await, 2);
    // what nobody has ever heard of has no pieces
    let unknown = shop.post(&format!("/stock/{TEA}/reserve"), reserve(ONE, 1)).await.expect(200);
    assert_eq!(unknown.body["reservation"], json!({ "status": "REJECTED", "quantity": 1, "available": 0 }));
}

#[tokio::test]
async fn a_release_that_overtakes_its_reservation_keeps_it_out() {
    let (_, shop) = inventory().await;
    shop.post(&stock("receive"), json!({ "quantity": 3 })).await.expect(200);
    let withdrawn = shop.post(&stock("release"), line(ONE, 0)).await.expect(200);
    assert_eq!((status(&withdrawn), &withdrawn.body["changed"]), ("WITHDRAWN", &json!(true)));
    let late = shop.post(&stock("reserve"), reserve(ONE, 1)).await.expect(422);
    assert_eq!((late.code(), &late.body["reservation_status"]), ("reservation_closed", &json!("WITHDRAWN")));
    assert_eq!(shop.get(&format!("/stock/{CHAI}")).await.body["held"], 0);
}

/// A saga that has lost the answer is told it again, whatever has become of the reservation since.
#[tokio::test]
async fn the_same_key_is_told_the_same_answer_when_the_reservation_has_ended() {
    let (log, shop) = inventory().await;
    let key = [("idempotency-key", "key-1")];
    shop.post(&stock("receive"), json!({ "quantity": 3 })).await.expect(200);
    let first = shop.post_with(&stock("reserve"), reserve(ONE, 2), &key).await.expect(200);
    shop.post(&stock("release"), line(ONE, 0)).await.expect(200);
    let again = shop.post_with(&stock("reserve"), reserve(ONE, 2), &key).await.expect(200);
    assert_eq!((&again.body, again.header("idempotency-replayed")), (&first.body, "true"));
    assert_eq!(kit::count(&log).await, 3);
    let other_key = shop.post(&stock("reserve"), reserve(ONE, 2)).await.expect(422);
    assert_eq!((other_key.code(), &other_key.body["reservation_status"]), ("reservation_closed", &json!("RELEASED")));
}

#[tokio::test]
async fn no_input_is_answered_with_our_fault_and_none_leaves_half_an_effect() {
    let (log, shop) = inventory().await;
    shop.post(&stock("receive"), json!({ "quantity": 3 })).await.expect(200);
    shop.post(&stock("reserve"), reserve(ONE, 2)).await.expect(200);
    let wanted = |quantity: Value| json!({ "order_id": TWO, "line": 0, "quantity": quantity });
    let counted = |quantity: Value| json!({ "quantity": quantity, "reason": "counted" });
    let cases: Vec<(String, Value, u16, &str, &[&str])> = vec![
        (stock("receive"), json!({}), 422, "validation_failed", &["/quantity"]),
        (stock("receive"), json!({ "quantity": 0 }), 422, "validation_failed", &["/quantity"]),
        (stock("receive"), json!({ "quantity": -1 }), 422, "validation_failed", &["/quantity"]),
        (stock("receive"), json!({ "quantity": 1.5 }), 422, "validation_failed", &["/quantity"]),
        (stock("receive"), json!({ "quantity": "1" }), 422, "validation_failed", &["/quantity"]),
        (stock("receive"), json!({ "quantity": 1_000_001 }), 422, "validation_failed", &["/quantity"]),
        (stock("receive"), json!({ "quantity": u64::MAX }), 422, "validation_failed", &["/quantity"]),
        (stock("receive"), json!({ "quantity": 1, "pieces": 2 }), 422, "validation_failed", &["/pieces"]),
        (stock("adjust"), counted(json!(0)), 422, "validation_failed", &["/quantity"]),
        (stock("adjust"), counted(json!(i64::MIN)), 422, "validation_failed", &["/quantity"]),
        (stock("adjust"), counted(json!(1_000_001)), 422, "validation_failed", &["/quantity"]),
        (stock("adjust"), json!({ "quantity": 1, "reason": "a\0b" }), 422, "validation_failed", &["/reason"]),
        (stock("adjust"), json!({ "quantity": 1 }), 422, "validation_failed", &["/reason"]),
        (stock("adjust"), counted(json!(-2)), 422, "stock_held", &[]),
        (stock("reserve"), wanted(json!(0)), 422, "validation_failed", &["/quantity"]),
        (stock("reserve"), wanted(json!(-5)), 422, "validation_failed", &["/quantity"]),
        (stock("reserve"), wanted(json!(i64::MAX)), 422, "validation_failed", &["/quantity"]),
        (stock("reserve"), json!({ "quantity": 1 }), 422, "validation_failed", &["/order_id", "/line"]),
        (
            stock("reserve"),
            json!({ "order_id": "user-7", "line": 2_000, "quantity": 1, "hold_seconds": 0 }),
            422,
            "validation_failed",
            &["/order_id", "/line", "/hold_seconds"],
        ),
        (stock("reserve"), reserve(ONE, 1), 422, "reservation_exists", &[]),
        (stock("confirm"), line(TWO, 0), 404, "reservation_not_found", &[]),
        (stock("ship"), line(ONE, 1), 404, "reservation_not_found", &[]),
        (stock("ship"), line(CHAI, 0), 404, "reservation_not_found", &[]),
        (stock("ship"), json!([]), 422, "validation_failed", &[""]),
        (stock("expire"), json!({ "now": "2026-01-01T00:00:00Z" }), 422, "validation_failed", &["/now"]),
        (format!("/stock/{TEA}/ship"), line(ONE, 0), 404, "stock_item_not_found", &[]),
        (format!("/stock/{TEA}/expire"), json!({}), 404, "stock_item_not_found", &[]),
        (format!("/stock/{TEA}/adjust"), counted(json!(1)), 404, "stock_item_not_found", &[]),
        ("/stock/chai/receive".to_owned(), json!({ "quantity": 1 }), 400, "invalid_id", &[]),
        (stock("steal"), json!({}), 404, "", &[]),
    ];
    for (path, body, status, code, pointers) in cases {
        let answer = shop.post(&path, body.clone()).await;
        assert_eq!(answer.status.as_u16(), status, "{path} {body}: {answer:?}");
        if !code.is_empty() {
            assert_eq!(answer.code(), code, "{path} {body}");
        }
        if !pointers.is_empty() {
            assert_eq!(answer.pointers(), pointers, "{path} {body}");
        }
    }
    assert_eq!(shop.get(&format!("/stock/{TEA}")).await.expect(404).code(), "stock_item_not_found");
    assert_eq!(kit::count(&log).await, 2, "nothing of it was stored");
}

fn manual_clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::at(DateTime::from_timestamp(1_000_000, 0).unwrap()))
}

fn held(seconds: u64) -> Value {
    json!({ "order_id": ONE, "line": 0, "quantity": 2, "hold_seconds": seconds })
}

#[tokio::test]
async fn what_is_due_expires_when_it_is_asked_for() {
    let clock = manual_clock();
    let shop = Alone::open_at(MemoryLog::new("inventory"), clock.clone()).await;
    shop.post(&stock("receive"), json!({ "quantity": 2 })).await.expect(200);
    let reserved = shop.post(&stock("reserve"), held(3_600)).await.expect(200);
    assert_eq!(reserved.body["reservation"]["expires_at"], "1970-01-12T14:46:40Z");
    let early = shop.post(&stock("expire"), json!({})).await.expect(200);
    assert_eq!(early.body["changed"], false);
    shop.service.shutdown().await;

    // the expirer has ended with its service; another service on the same log has one of its own, and may be the faster one
    clock.advance(Duration::from_secs(3_600));
    let log = shop.service.log.clone();
    let shop = Alone::open_at(log, clock).await;
    shop.post(&stock("expire"), json!({})).await.expect(200);
    let shown = shop.get(&format!("/stock/{CHAI}")).await.expect(200);
    assert_eq!((&shown.body["held"], shown.header("etag")), (&json!(0), "\"3\""));
}

#[tokio::test]
async fn what_is_due_expires_by_itself_also_after_a_restart() {
    let clock = manual_clock();
    let log = MemoryLog::new("inventory");
    let shop = Alone::open_at(log.clone(), clock.clone() as Arc<dyn Clock>).await;
    shop.post(&stock("receive"), json!({ "quantity": 9 })).await.expect(200);
    shop.post(&stock("reserve"), held(60)).await.expect(200);
    let confirmed = json!({ "order_id": TWO, "line": 0, "quantity": 3, "hold_seconds": 60 });
    shop.post(&stock("reserve"), confirmed).await.expect(200);
    shop.post(&stock("confirm"), line(TWO, 0)).await.expect(200);
    shop.service.shutdown().await;

    let shop = Alone::open_at(log.clone(), clock.clone() as Arc<dyn Clock>).await;
    clock.advance(Duration::from_secs(60));
    let waiting = tokio::time::timeout(EXPIRY_WAIT_MAX, async {
        while shop.get(&format!("/stock/{CHAI}")).await.body["held"] != 3 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    waiting.await.expect("the reservation expires, and the confirmed one does not");
    assert_eq!(kit::count(&log).await, 5);
    let feed = shop.get("/inventory/feed").await.expect(200);
    let last: Value = serde_json::from_str(feed.text.lines().last().unwrap()).unwrap();
    assert_eq!((&last["type"], &last["data"]["order_id"]), (&json!("ReservationExpired"), &json!(ONE)));
    shop.service.shutdown().await;
}
