//! Given events of several services, then what a customer has ordered and paid.

mod common;

use common::{
    BOTH, Feeds, Place, authorized, cancelled, captured, erased, kit, placed, refunded, registered, renamed, small,
    usd, user,
};
use events::money::{Currency, Money};
use projections::customer_overview::projection;
use read_side::{
    Consistency, ReadSide,
    customer_overview::{CustomerOverview, CustomerTotals},
};

async fn check(given: impl Fn(&Feeds), then: impl Fn(Option<CustomerOverview>)) {
    let given = kit(projection).await.given(|story| given(&Feeds::of(story)));
    given.then(async |read| then(overview(&read, 1).await)).await;
}

async fn overview(read: &ReadSide, n: u64) -> Option<CustomerOverview> {
    read.customer_overview(user(n), &Consistency::any()).await.unwrap()
}

fn in_usd(orders: i64, cancelled_orders: i64, captured_minor: i64, refunded_minor: i64) -> CustomerTotals {
    CustomerTotals {
        currency: Currency::USD,
        orders,
        cancelled_orders,
        captured_minor,
        refunded_minor,
        spend_minor: captured_minor - refunded_minor,
        last_order_at_us: 0,
    }
}

#[tokio::test]
async fn orders_and_payments_of_a_customer_add_up() {
    let given = |feeds: &Feeds| {
        // payments before their order, and the customer after both
        feeds.payment(captured(2, 20, usd(100)));
        refunded(2, 20, usd(40)).into_iter().for_each(|event| feeds.payment(event));
        feeds.payment(authorized(1, 10, usd(500)));
        feeds.payment(captured(1, 10, usd(300)));
        for n in 1..=3 {
            feeds.order(placed(n, 1, &[1]));
        }
        feeds.order(cancelled(3));
        feeds.order(placed(9, 2, &[1]));
        feeds.user(registered(1, "Ada"));
        feeds.user(renamed(1, "Ada Lovelace"));
    };
    let then = |overview: Option<CustomerOverview>| {
        let overview = overview.unwrap();
        assert_eq!((overview.customer_id, overview.erased), (user(1), false));
        assert_eq!(overview.name.as_deref(), Some("Ada Lovelace"), "under the name they have now");
        assert_eq!(overview.email.as_deref(), Some("1@example.org"));
        let last_order_at_us = common::time(1).timestamp_micros();
        assert_eq!(overview.totals, [CustomerTotals { last_order_at_us, ..in_usd(3, 1, 400, 40) }]);
        assert_eq!(overview.totals[0].spend_minor, 360);
    };
    check(given, then).await;
}

#[tokio::test]
async fn money_in_another_currency_is_added_up_for_itself() {
    let given = |feeds: &Feeds| {
        feeds.order(placed(1, 1, &[1]));
        feeds.payment(captured(1, 10, usd(100)));
        feeds.payment(captured(1, 11, Money::new(70, Currency::EUR)));
    };
    let then = |overview: Option<CustomerOverview>| {
        let totals = overview.unwrap().totals;
        let spend: Vec<_> = totals.iter().map(|t| (t.currency, t.orders, t.spend_minor)).collect();
        assert_eq!(spend, [(Currency::EUR, 0, 70), (Currency::USD, 1, 100)]);
    };
    check(given, then).await;
}

#[tokio::test]
async fn a_customer_without_orders_has_no_totals_and_nobody_is_nobody() {
    let given = |feeds: &Feeds| {
        feeds.user(registered(1, "Ada"));
        feeds.payment(captured(7, 70, usd(100)));
    };
    let then = |overview: Option<CustomerOverview>| {
        let overview = overview.unwrap();
        assert_eq!((overview.name.as_deref(), overview.totals), (Some("Ada"), vec![]));
    };
    check(given, then).await;
    check(|_| {}, |overview| assert_eq!(overview, None)).await;
}

#[tokio::test]
async fn an_erased_customer_has_totals_and_no_name() {
    let given = |feeds: &Feeds| {
        feeds.user(registered(1, "Ada"));
        feeds.order(placed(1, 1, &[1]));
        feeds.user(erased(1));
    };
    let then = |overview: Option<CustomerOverview>| {
        let overview = overview.unwrap();
        assert_eq!((overview.name, overview.email, overview.erased), (None, None, true));
        assert_eq!(overview.totals[0].orders, 1);
    };
    check(given, then).await;
}

#[tokio::test]
async fn an_order_that_begins_twice_is_not_counted_for_somebody_else() {
    for kind in BOTH {
        let feeds = Feeds::default();
        feeds.order(placed(1, 1, &[1]));
        feeds.order(placed(1, 2, &[1]));
        let mut hand = Place::new(kind).await.live(projection(), small()).await;
        hand.step(&feeds.orders, 1).await.unwrap();
        let refused = hand.step(&feeds.orders, 1).await.unwrap_err();
        assert!(refused.to_string().contains("a second time"), "{refused}");
        assert_eq!(overview(&hand.read, 1).await.unwrap().totals[0].orders, 1);
        assert_eq!(overview(&hand.read, 2).await, None);
    }
}

#[tokio::test]
async fn many_orders_of_a_customer_in_one_batch_change_the_totals_once() {
    for kind in BOTH {
        let feeds = Feeds::default();
        for n in 1..=300 {
            feeds.order(placed(n, 1 + n % 3, &[1]));
        }
        for n in 1..=300 {
            feeds.order(cancelled(n));
        }
        let mut sent = Vec::new();
        for batch in [1, 300] {
            let mut hand = Place::new(kind).await.live(projection(), small()).await;
            let before = hand.store.statements_sent();
            hand.step(&feeds.orders, batch).await.unwrap();
            sent.push(hand.store.statements_sent() - before);
            hand.step(&feeds.orders, 600).await.unwrap();
            let totals = overview(&hand.read, 2).await.unwrap().totals;
            assert_eq!((totals[0].orders, totals[0].cancelled_orders), (100, 100), "{kind:?}");
        }
        assert_eq!(sent[0], sent[1], "{kind:?}");
        assert!(sent[0] <= 9, "{kind:?}: {sent:?}");
    }
}
