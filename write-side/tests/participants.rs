//! What whoever coordinates orders, payments, stock and shipments relies on: an undo that comes first keeps out what it
//! undoes, however late that arrives, and a refund asks for no version that a machine would have to read first.

mod kit;

use std::time::Duration;

use event_store::memory::MemoryLog;
use kit::{ANA, Alone, CHAI, count, new_id};
use serde_json::{Value, json};

/// How long the simulated gateway may take on a busy machine.
const GATEWAY_WAIT_MAX: Duration = Duration::from_secs(30);

/// A command that does, and the one that undoes it.
struct Pair {
    service: &'static str,
    does: (String, Value),
    undoes: (String, Value),
    /// What the doing is refused with when it comes late.
    code: &'static str,
    /// Where its effect would be seen.
    seen: String,
}

fn pairs() -> [Pair; 3] {
    let (order, payment, shipment) = (new_id(), new_id(), new_id());
    let amount = json!({ "amount_minor": 3_600, "currency": "USD" });
    let line = json!({ "order_id": order, "line": 0 });
    let lines = json!([{ "product_id": CHAI, "quantity": 2 }]);
    [
        Pair {
            service: "inventory",
            does: (format!("/stock/{CHAI}/reserve"), json!({ "order_id": order, "line": 0, "quantity": 2 })),
            undoes: (format!("/stock/{CHAI}/release"), line),
            code: "reservation_closed",
            seen: format!("/stock/{CHAI}"),
        },
        Pair {
            service: "payments",
            does: ("/payments".to_owned(), json!({ "id": payment, "order_id": order, "amount": amount })),
            undoes: (format!("/payments/{payment}/void"), json!({ "order_id": order })),
            code: "payment_barred",
            seen: format!("/payments/{payment}"),
        },
        Pair {
            service: "shipping",
            does: (
                "/shipments".to_owned(),
                json!({ "id": shipment, "order_id": order, "customer_id": ANA, "lines": lines }),
            ),
            undoes: (format!("/shipments/{shipment}/cancel"), json!({ "order_id": order, "reason": "out of stock" })),
            code: "shipment_withdrawn",
            seen: format!("/shipments/{shipment}"),
        },
    ]
}

#[tokio::test]
async fn what_was_undone_before_it_was_done_is_refused_and_leaves_nothing() {
    for Pair { service, does, undoes, code, seen } in pairs() {
        let log = MemoryLog::new(service);
        let shop = Alone::open(log.clone()).await;
        if service == "inventory" {
            shop.post(&format!("/stock/{CHAI}/receive"), json!({ "quantity": 10 })).await.expect(200);
        }
        let undone = shop.post(&undoes.0, undoes.1.clone()).await.expect(200);
        assert_eq!(undone.body["changed"], true, "{service}: the undoing is kept");
        let (events, state) = (count(&log).await, shop.get(&seen).await.expect(200).body);
        for key in ["late", "later"] {
            let late = shop.post_with(&does.0, does.1.clone(), &[("idempotency-key", key)]).await.expect(422);
            assert_eq!(late.code(), code, "{service}");
        }
        let again = shop.post(&undoes.0, undoes.1).await.expect(200);
        assert_eq!(again.body["changed"], false, "{service}");
        assert_eq!((count(&log).await, shop.get(&seen).await.body), (events, state), "{service}");
        shop.service.shutdown().await;
    }
}

/// The same with the doing under way: it lost the race and is stored as the refusal it is.
#[tokio::test(flavor = "multi_thread")]
async fn of_a_command_and_its_undoing_at_once_nothing_is_left_either_way() {
    for Pair { service, does, undoes, code, seen } in pairs() {
        let shop = Alone::open(MemoryLog::new(service)).await;
        if service == "inventory" {
            shop.post(&format!("/stock/{CHAI}/receive"), json!({ "quantity": 10 })).await.expect(200);
        }
        let (done, undone) = tokio::join!(shop.post(&does.0, does.1), shop.post(&undoes.0, undoes.1.clone()));
        undone.expect(200);
        if done.status == 422 {
            assert_eq!(done.code(), code, "{service}");
        }
        let rest = async || shop.get(&seen).await.expect(200).body;
        match service {
            "inventory" => assert_eq!(rest().await["held"], 0),
            "payments" => until(async || matches!(rest().await["status"].as_str(), Some("BARRED" | "VOIDED"))).await,
            _ => assert!(matches!(rest().await["status"].as_str(), Some("WITHDRAWN" | "CANCELLED"))),
        }
        shop.service.shutdown().await;
    }
}

async fn until(is_so: impl AsyncFn() -> bool) {
    let looking = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(GATEWAY_WAIT_MAX, looking).await.expect("the gateway answers");
}

#[tokio::test]
async fn a_refund_takes_any_version_if_that_is_said_and_none_if_nothing_is() {
    let log = MemoryLog::new("payments");
    let shop = Alone::open(log.clone()).await;
    let amount = |amount_minor: u32| json!({ "amount_minor": amount_minor, "currency": "USD" });
    let payment = new_id();
    let at = format!("/payments/{payment}");
    shop.post("/payments", json!({ "id": payment, "order_id": new_id(), "amount": amount(3_600) })).await.expect(201);
    let has = async |status: &str| shop.get(&at).await.expect(200).body["status"] == status;
    until(async || has("AUTHORIZED").await).await;
    shop.post(&format!("{at}/capture"), json!({})).await.expect(200);
    until(async || has("CAPTURED").await).await;

    let (path, events) = (format!("{at}/refund"), count(&log).await);
    let refund = json!({ "id": new_id(), "amount": amount(900), "reason": "one came back" });
    let blind = shop.post(&path, refund.clone()).await.expect(428);
    assert_eq!((blind.code(), count(&log).await), ("version_required", events));
    let stale = shop.post_with(&path, refund.clone(), &[("if-match", "\"1\"")]).await.expect(412);
    assert_eq!((stale.code(), count(&log).await), ("version_mismatch", events));
    let any = shop.post_with(&path, refund.clone(), &[("if-match", "*")]).await.expect(200);
    assert_eq!(any.body["changed"], true);
    let again = shop.post_with(&path, refund, &[("if-match", "*")]).await.expect(200);
    assert_eq!(again.body["changed"], false, "a refund is known by its id");
    until(async || shop.get(&at).await.expect(200).body["refunded"]["amount_minor"] == 900).await;
    shop.service.shutdown().await;
}
