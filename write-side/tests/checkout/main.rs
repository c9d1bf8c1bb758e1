//! Orders from their placement to their end, with every service that has a part in them: in memory, on SQLite files and on
//! PostgreSQL.

mod clocks;
#[path = "../kit/mod.rs"]
mod kit;
mod mall;

use std::time::Duration;

use events::orders::ORDER_LINES_MAX;
use kit::{ANA, CHAI, TEA, new_id};
use mall::{Home, Mall};
use serde_json::{Value, json};

/// Two chai at 18.00 and three tea at 9.00.
const ORDERED: [(&str, u32); 2] = [(CHAI, 2), (TEA, 3)];
const TOTAL: i64 = 6_300;

/// Pieces on hand and held, of chai and of tea.
async fn stock(mall: &Mall) -> [(u64, u64); 2] {
    let of = async |product: &str| {
        let stock = mall.seen(&format!("/stock/{product}")).await;
        (stock["on_hand"].as_u64().unwrap(), stock["held"].as_u64().unwrap())
    };
    [of(CHAI).await, of(TEA).await]
}

fn minor(amount: &Value) -> i64 {
    amount["amount_minor"].as_i64().unwrap_or_else(|| panic!("{amount} is no money"))
}

/// What was taken for a checkout and not paid back, by the payments service's word.
async fn paid(mall: &Mall, checkout: &Value) -> i64 {
    let payment = mall.seen(&format!("/payments/{}", checkout["payment"]["id"].as_str().unwrap())).await;
    let settled = minor(&payment["captured"]) + minor(&payment["voided"]) + minor(&payment["expired"]);
    assert_eq!(minor(&payment["authorized"]), settled, "authorized = captured + voided + expired at rest: {payment:#}");
    minor(&payment["captured"]) - minor(&payment["refunded"])
}

async fn order_status(mall: &Mall, order: &str) -> Value {
    mall.seen(&format!("/orders/{order}")).await["status"].clone()
}

/// Delivers an order, and shows its checkout.
async fn delivered(mall: &Mall) -> (String, Value) {
    let order = mall.order(&ORDERED, "pm_approve").await;
    let checkout = mall.until(&order, "AWAITING_DISPATCH").await;
    mall.parcel(&checkout, "dispatch").await;
    let checkout = mall.until(&order, "AWAITING_DELIVERY").await;
    mall.parcel(&checkout, "deliver").await;
    let checkout = mall.until(&order, "COMPLETED").await;
    (order, checkout)
}

async fn an_order_that_goes_well_is_delivered_and_paid(mall: &Mall) {
    let before = stock(mall).await;
    let order = mall.order(&ORDERED, "pm_approve").await;
    let checkout = mall.until(&order, "AWAITING_DISPATCH").await;
    assert_eq!(order_status(mall, &order).await, "CONFIRMED");
    let held = [(before[0].0, before[0].1 + 2), (before[1].0, before[1].1 + 3)];
    assert_eq!(stock(mall).await, held, "nothing has left yet");
    assert_eq!(paid(mall, &checkout).await, TOTAL);
    mall.parcel(&checkout, "dispatch").await;
    mall.until(&order, "AWAITING_DELIVERY").await;
    assert_eq!(order_status(mall, &order).await, "SHIPPED");
    mall.parcel(&checkout, "deliver").await;
    let checkout = mall.until(&order, "COMPLETED").await;
    assert_eq!(order_status(mall, &order).await, "DELIVERED");
    assert_eq!(stock(mall).await, [(before[0].0 - 2, before[0].1), (before[1].0 - 3, before[1].1)]);
    assert_eq!(paid(mall, &checkout).await, TOTAL);
    let own = mall.seen(&format!("/checkouts/{}", checkout["id"].as_str().unwrap())).await;
    assert_eq!(own, checkout, "it is found by its own id too");
}

async fn an_order_of_more_than_there_is_takes_nothing(mall: &Mall) {
    let before = stock(mall).await;
    let order = mall.order(&[(CHAI, 2), (TEA, 100_000)], "pm_approve").await;
    let checkout = mall.until(&order, "COMPENSATED").await;
    assert_eq!(checkout["setback"], "OUT_OF_STOCK");
    let order = mall.seen(&format!("/orders/{order}")).await;
    assert_eq!((&order["status"], &order["cancelled_because"]), (&json!("CANCELLED"), &json!("out of stock")));
    assert_eq!(stock(mall).await, before);
    let payment = checkout["payment"]["id"].as_str().unwrap();
    mall.get(&format!("/payments/{payment}")).await.expect(404);
}

async fn a_payment_that_is_declined_takes_nothing(mall: &Mall) {
    let before = stock(mall).await;
    // the second after the gateway was silent, time after time
    for (method, setback) in [("pm_insufficient", "PAYMENT_DECLINED"), ("pm_timeout", "PAYMENT_UNANSWERED")] {
        let order = mall.order(&ORDERED, method).await;
        let checkout = mall.until(&order, "COMPENSATED").await;
        assert_eq!(checkout["setback"], setback);
        assert_eq!(order_status(mall, &order).await, "CANCELLED");
        assert_eq!(paid(mall, &checkout).await, 0);
    }
    let order = mall.order(&ORDERED, "pm_timeout_then_approve").await;
    let checkout = mall.until(&order, "AWAITING_DISPATCH").await;
    mall.parcel(&checkout, "cancel").await;
    mall.until(&order, "COMPLETED").await;
    assert_eq!(stock(mall).await, before);
}

async fn who_cancels_while_the_gateway_is_silent_pays_nothing(mall: &Mall) {
    let before = stock(mall).await;
    let order = mall.order(&ORDERED, "pm_timeout").await;
    mall.until(&order, "AWAITING_AUTHORIZATION").await;
    mall.post(&format!("/orders/{order}/cancel"), json!({ "reason": "too slow" })).await.expect(200);
    let checkout = mall.until(&order, "COMPENSATED").await;
    assert_eq!(checkout["setback"], "CUSTOMER_CANCELLED");
    assert_eq!(mall.seen(&format!("/orders/{order}")).await["cancelled_because"], "too slow");
    assert_eq!(paid(mall, &checkout).await, 0);
    assert_eq!(stock(mall).await, before);
}

async fn who_cancels_once_it_is_confirmed_gets_it_all_back(mall: &Mall) {
    let before = stock(mall).await;
    let order = mall.order(&ORDERED, "pm_approve").await;
    mall.until(&order, "AWAITING_DISPATCH").await;
    mall.post(&format!("/orders/{order}/cancel"), json!({ "reason": "changed my mind" })).await.expect(200);
    let checkout = mall.until(&order, "COMPLETED").await;
    assert_eq!(checkout["called_off"], true);
    assert_eq!(order_status(mall, &order).await, "RETURNED");
    assert_eq!(paid(mall, &checkout).await, 0);
    assert_eq!(stock(mall).await, before);
    let shipment = mall.seen(&format!("/shipments/{}", checkout["shipment"]["id"].as_str().unwrap())).await;
    assert_eq!(shipment["status"], "CANCELLED");
}

async fn goods_that_come_back_are_paid_back_in_parts_and_as_a_whole(mall: &Mall) {
    let (order, checkout) = delivered(mall).await;
    let back = json!({ "lines": [{ "product_id": TEA, "quantity": 1 }] });
    mall.post(&format!("/orders/{order}/return"), back).await.expect(200);
    until_paid(mall, &checkout, TOTAL - 900).await;
    mall.until(&order, "COMPLETED").await;
    mall.post(&format!("/orders/{order}/return"), json!({})).await.expect(200);
    until_paid(mall, &checkout, 0).await;
    mall.until(&order, "COMPLETED").await;
    assert_eq!(order_status(mall, &order).await, "RETURNED");
}

async fn a_lost_parcel_is_paid_back(mall: &Mall) {
    let order = mall.order(&ORDERED, "pm_approve").await;
    let checkout = mall.until(&order, "AWAITING_DISPATCH").await;
    mall.parcel(&checkout, "dispatch").await;
    mall.until(&order, "AWAITING_DELIVERY").await;
    mall.parcel(&checkout, "lose").await;
    let checkout = mall.until(&order, "COMPLETED").await;
    assert_eq!(checkout["shipment"]["status"], "LOST");
    assert_eq!(paid(mall, &checkout).await, 0);
    assert_eq!(order_status(mall, &order).await, "SHIPPED");
}

async fn a_refund_by_staff_is_goodwill(mall: &Mall) {
    let (order, checkout) = delivered(mall).await;
    let payment = checkout["payment"]["id"].as_str().unwrap();
    let present = json!({ "amount": { "amount_minor": 500, "currency": "USD" }, "reason": "it came late" });
    mall.post_with(&format!("/payments/{payment}/refund"), present, &[("if-match", "*")]).await.expect(200);
    until_paid(mall, &checkout, TOTAL - 500).await;
    let back = json!({ "lines": [{ "product_id": CHAI, "quantity": 1 }] });
    mall.post(&format!("/orders/{order}/return"), back).await.expect(200);
    until_paid(mall, &checkout, TOTAL - 500 - 1_800).await;
    let checkout = mall.until(&order, "COMPLETED").await;
    assert_eq!(minor(&checkout["payment"]["goodwill"]), 500);
}

async fn an_import_begins_no_checkout_and_sends_no_mail(mall: &Mall) {
    let line = json!({
        "product_id": CHAI, "product_name": "Chai", "quantity": 2,
        "unit_price": { "amount_minor": 1_440, "currency": "USD" },
    });
    let imported = new_id();
    let order = json!({
        "id": imported, "customer_id": ANA, "lines": [line], "status": "SHIPPED", "external_ref": imported,
        "placed_at": "1996-07-04T00:00:00Z", "shipped_at": "1996-07-16T00:00:00Z",
    });
    mall.post("/orders/import", order).await.expect(201);
    mall.post(&format!("/orders/{imported}/return"), json!({})).await.expect(200);
    // what is placed behind it has been seen to: so had it been
    let (order, _) = delivered(mall).await;
    mall.get(&format!("/checkouts/{imported}")).await.expect(404);
    let told = async |order: &str| {
        let published = mall.published("notifications").await;
        published.iter().filter(|event| event.payload.contains(order)).count()
    };
    while told(&order).await == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(told(&imported).await, 0, "nor is anybody told that it comes back");
}

/// Waits for the payments service to have paid back.
async fn until_paid(mall: &Mall, checkout: &Value, left: i64) {
    let waiting = async {
        while paid(mall, checkout).await != left {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), waiting).await.unwrap_or_else(|_| panic!("{left} were to be left"));
}

async fn everything_that_can_become_of_an_order(home: Home) {
    let mall = Mall::open(home).await;
    an_order_that_goes_well_is_delivered_and_paid(&mall).await;
    an_order_of_more_than_there_is_takes_nothing(&mall).await;
    a_payment_that_is_declined_takes_nothing(&mall).await;
    who_cancels_while_the_gateway_is_silent_pays_nothing(&mall).await;
    who_cancels_once_it_is_confirmed_gets_it_all_back(&mall).await;
    goods_that_come_back_are_paid_back_in_parts_and_as_a_whole(&mall).await;
    a_lost_parcel_is_paid_back(&mall).await;
    a_refund_by_staff_is_goodwill(&mall).await;
    an_import_begins_no_checkout_and_sends_no_mail(&mall).await;
    mall.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_that_can_become_of_an_order_in_memory() {
    everything_that_can_become_of_an_order(Home::Memory).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_that_can_become_of_an_order_on_sqlite() {
    everything_that_can_become_of_an_order(Home::sqlite()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_that_can_become_of_an_order_on_postgres() {
    everything_that_can_become_of_an_order(Home::Postgres).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_of_many_lines_ends_as_any_other() {
    // the most that there can be take minutes, in a build that is not optimized
    let lines_max = if std::env::var_os("TRIBUTARY_SOAK").is_some() { ORDER_LINES_MAX } else { 400 };
    let mall = Mall::open(Home::Memory).await;
    let mut known = String::new();
    let mut lines = Vec::new();
    for n in 0..lines_max {
        let id = uuid::Uuid::from_u128(0x1000 + n as u128).to_string();
        // the last one's token stands for those before it
        known = mall.product(&id, &format!("P-{n}"), 100, 5).await;
        lines.push(json!({ "product_id": id, "quantity": 1 }));
    }
    let order = mall.place(json!({ "customer_id": ANA, "lines": lines }), &known).await;
    let checkout = mall.until(&order, "AWAITING_DISPATCH").await;
    assert_eq!(paid(&mall, &checkout).await, 100 * lines_max as i64);
    mall.post(&format!("/orders/{order}/cancel"), json!({ "reason": "too many" })).await.expect(200);
    let checkout = mall.until(&order, "COMPLETED").await;
    assert_eq!(paid(&mall, &checkout).await, 0);
    let held = checkout["lines"].as_array().unwrap().iter().filter(|line| line["stock"] != "FREE").count();
    assert_eq!(held, 0);
    mall.close().await;
}
