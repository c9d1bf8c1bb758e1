//! Clocks jump by an hour either way, everybody's or one service's alone, while an order is on its way: what has a time is
//! late perhaps and never early, and the order ends whole or undone.

use chrono::TimeDelta;
use serde_json::{Value, json};

use super::{
    ORDERED, TOTAL,
    mall::{Home, Mall},
    order_status, paid, stock,
};

const HOUR: TimeDelta = TimeDelta::hours(1);

/// The gateway answers the second time.
const LATE: &str = "pm_timeout_then_approve";

/// The gateway is given up after some seconds: longer than anybody takes to see what time it is.
const SILENT: &str = "pm_timeout";

/// Before the pivot, with pieces held and money asked for. Gives the setback that the order ends with, if it does not go on.
async fn a_jump_before_the_pivot(mall: &Mall, whose: Option<&str>, jump: TimeDelta, gateway: &str) -> Value {
    let before = stock(mall).await;
    let order = mall.order(&ORDERED, gateway).await;
    mall.until(&order, "AWAITING_AUTHORIZATION").await;
    mall.jump(whose, jump);
    let checkout = mall.until_any(&order, &["COMPENSATED", "AWAITING_DISPATCH"]).await;
    let setback = checkout["setback"].clone();
    if setback.is_null() {
        assert_eq!((order_status(mall, &order).await, paid(mall, &checkout).await), (json!("CONFIRMED"), TOTAL));
        mall.post(&format!("/orders/{order}/cancel"), json!({ "reason": "enough seen" })).await.expect(200);
        mall.until(&order, "COMPLETED").await;
        assert_eq!(order_status(mall, &order).await, "RETURNED");
    } else {
        assert_eq!(order_status(mall, &order).await, "CANCELLED");
    }
    assert_eq!((paid(mall, &checkout).await, stock(mall).await), (0, before), "{whose:?} by {jump}");
    mall.jump(whose, -jump);
    setback
}

/// Behind it: pieces are held until they leave, and nothing is given up however late it becomes.
async fn a_jump_behind_the_pivot(mall: &Mall, whose: Option<&str>, jump: TimeDelta) {
    let before = stock(mall).await;
    let order = mall.order(&ORDERED, "pm_approve").await;
    let checkout = mall.until(&order, "AWAITING_DISPATCH").await;
    mall.jump(whose, jump);
    // longer than the one who lets reservations expire, and the one who wakes at deadlines, take to look
    tokio::time::sleep(std::time::Duration::from_millis(1_500)).await;
    let held = [(before[0].0, before[0].1 + 2), (before[1].0, before[1].1 + 3)];
    assert_eq!((stock(mall).await, paid(mall, &checkout).await), (held, TOTAL), "{whose:?} by {jump}");
    mall.parcel(&checkout, "dispatch").await;
    mall.until(&order, "AWAITING_DELIVERY").await;
    mall.parcel(&checkout, "deliver").await;
    let checkout = mall.until(&order, "COMPLETED").await;
    assert_eq!((order_status(mall, &order).await, paid(mall, &checkout).await), (json!("DELIVERED"), TOTAL));
    let left = [(before[0].0 - 2, before[0].1), (before[1].0 - 3, before[1].1)];
    assert_eq!(stock(mall).await, left, "{whose:?} by {jump}");
    mall.jump(whose, -jump);
}

const WHOSE: [Option<&str>; 5] = [None, Some("checkout"), Some("inventory"), Some("orders"), Some("payments")];

async fn clocks_jump_and_every_order_ends_whole_or_undone(home: Home) {
    let mall = Mall::open(home).await;
    for whose in WHOSE {
        // late: the deadline and the reservations last longer, and nobody minds
        assert_eq!(a_jump_before_the_pivot(&mall, whose, -HOUR, LATE).await, Value::Null, "{whose:?}");
        // and what is over by the clock that says so is over, which is not wrong: nothing is taken
        let setback = a_jump_before_the_pivot(&mall, whose, HOUR, SILENT).await;
        let expected: &[&str] = match whose {
            None => &["DEADLINE_PASSED", "RESERVATION_LOST"],
            Some("checkout") => &["DEADLINE_PASSED"],
            Some("inventory") => &["RESERVATION_LOST"],
            Some(_) => &["PAYMENT_UNANSWERED"],
        };
        assert!(expected.iter().any(|expected| setback == *expected), "{whose:?}: {setback}");
    }
    for (whose, jump) in [(None, HOUR), (None, -HOUR), (Some("inventory"), HOUR), (Some("checkout"), -HOUR)] {
        a_jump_behind_the_pivot(&mall, whose, jump).await;
    }
    mall.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clocks_jump_and_every_order_ends_whole_or_undone_on_sqlite() {
    clocks_jump_and_every_order_ends_whole_or_undone(Home::sqlite()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clocks_jump_and_every_order_ends_whole_or_undone_on_postgres() {
    clocks_jump_and_every_order_ends_whole_or_undone(Home::Postgres).await;
}
