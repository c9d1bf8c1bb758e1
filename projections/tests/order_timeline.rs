//! Given events of several services, then what became of an order, in words.

mod common;

use common::{
    CANARY_STREET, Feeds, authorization_requested, authorized, cancelled, captured, confirmed, dispatched, kit, order,
    placed, received, reserved, scheduled, shipped, stock_shipped, usd,
};
use projections::order_timeline::projection;
use read_side::{Consistency, order_timeline::TimelineEntry};

async fn check(given: impl Fn(&Feeds), then: impl Fn(Vec<TimelineEntry>)) {
    let given = kit(projection).await.given(|story| given(&Feeds::of(story)));
    given.then(async |read| then(read.order_timeline(order(1), &Consistency::any()).await.unwrap())).await;
}

fn told(entries: &[TimelineEntry]) -> Vec<(&str, &str)> {
    entries.iter().map(|entry| (entry.source.as_str(), entry.what.as_str())).collect()
}

#[tokio::test]
async fn four_services_tell_what_became_of_an_order_in_the_order_in_which_it_did() {
    let given = |feeds: &Feeds| {
        feeds.shipment(scheduled(1, 1));
        feeds.shipment(dispatched(1, 1));
        feeds.order(placed(1, 7, &[1]));
        // the second a feed says is a second later than the first
        feeds.order(placed(2, 7, &[1]));
        feeds.order(confirmed(1));
        feeds.order(shipped(1));
        feeds.stock(received(1));
        feeds.stock(reserved(1, 0, 1));
        feeds.payment(authorization_requested(1, 10, usd(180)));
        feeds.payment(authorized(1, 10, usd(180)));
    };
    let then = |entries: Vec<TimelineEntry>| {
        let expected = [
            ("orders", "Order placed: 1 line."),
            ("payments", "Payment asked for."),
            ("shipping", "Parcel of 2 pieces to be sent."),
            ("inventory", "Line 1: 2 pieces held."),
            ("payments", "Payment held."),
            ("orders", "Order confirmed: stock and payment are settled."),
            ("shipping", "Parcel handed to Speedy, tracking number SP-1."),
            ("orders", "Everything is on its way."),
        ];
        assert_eq!(told(&entries), expected);
        assert_eq!(
            entries[0].at_us,
            common::time(0).timestamp_micros(),
            "when it was placed, not when it was recorded"
        );
        assert_eq!((entries[3].event.as_str(), entries[3].position), ("StockReserved", 2));
        assert_eq!(entries[4].amount, Some((180, usd(0).currency)));
        let text = format!("{entries:?}");
        assert!(!text.contains(CANARY_STREET), "where to is nobody's business: {text}");
    };
    check(given, then).await;
}

#[tokio::test]
async fn a_reason_is_told_where_there_is_one() {
    let given = |feeds: &Feeds| {
        feeds.order(placed(1, 7, &[1, 2]));
        feeds.order(cancelled(1));
    };
    let then = |entries: Vec<TimelineEntry>| {
        assert_eq!(told(&entries), [("orders", "Order placed: 2 lines."), ("orders", "Order cancelled.")]);
        assert_eq!(entries[1].reason.as_deref(), Some("changed my mind"));
        assert_eq!((&entries[0].reason, entries[0].amount), (&None, None));
    };
    check(given, then).await;
}

#[tokio::test]
async fn what_is_of_other_orders_or_of_none_is_not_told() {
    let given = |feeds: &Feeds| {
        feeds.stock(received(1));
        feeds.stock(stock_shipped(2, 0, 1));
        feeds.payment(captured(3, 10, usd(180)));
    };
    check(given, |entries| assert_eq!(entries, [])).await;
}
