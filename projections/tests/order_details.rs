//! Given events of several services, then this row.

mod common;

use common::{
    BOTH, Feeds, Hand, Place, added, cancelled, confirmed, delivered, discontinued, email_changed, erased, order,
    placed, product_renamed, registered, renamed, returned, shipped, small, user,
};
use events::{
    ids::CustomerId,
    orders::{OrderEvent, OrderImported, OrderStatus},
};
use projections::engine::store::StoreOptions;
use read_side::{
    Consistency,
    order_details::{OrderCursor, OrderDetails, OrderFilter, ProductRow},
};

/// Folds what `given` scripts, on both databases, and looks at order 1.
async fn check(given: impl Fn(&Feeds), then: impl Fn(OrderDetails)) {
    for kind in BOTH {
        let feeds = Feeds::default();
        given(&feeds);
        let mut hand = Place::new(kind).await.hand(StoreOptions::default()).await;
        hand.finish(&feeds).await;
        then(hand.order(1).await.expect("order 1 is served"));
    }
}

#[tokio::test]
async fn an_order_shows_what_three_services_know() {
    let given = |feeds: &Feeds| {
        feeds.user(registered(7, "Ada"));
        feeds.product(added(1, "Tea"));
        feeds.order(placed(1, 7, &[1, 2]));
    };
    let then = |row: OrderDetails| {
        assert_eq!(row.order_id, order(1));
        assert_eq!(row.customer_id, user(7));
        assert_eq!(row.customer_name.as_deref(), Some("Ada"));
        assert_eq!(row.customer_email.as_deref(), Some("7@example.org"));
        assert_eq!(row.status, OrderStatus::Pending);
        assert_eq!(row.total_minor, 180 + 360);
        assert_eq!(row.currency.as_str(), "USD");
        assert_eq!(row.lines[0].product_name, "Ordered \"1\" Ä");
        assert_eq!((row.lines[0].unit_price_minor, row.lines[0].total_minor), (100, 180));
        let tea = ProductRow { sku: "sku-1".to_owned(), name: "Tea".to_owned(), discontinued: false };
        assert_eq!(row.lines[0].product, Some(tea));
        assert_eq!(row.lines[1].product, None, "the catalog has not told of product 2");
    };
    check(given, then).await;
}

#[tokio::test]
async fn the_customer_follows_the_user_and_the_line_stays_as_ordered() {
    let given = |feeds: &Feeds| {
        feeds.user(registered(7, "Ada"));
        feeds.user(renamed(7, "Ada Lovelace"));
        feeds.user(email_changed(7, "ada@example.org"));
        feeds.product(added(1, "Tea"));
        feeds.product(product_renamed(1, "Green tea"));
        feeds.product(discontinued(1));
        feeds.order(placed(1, 7, &[1]));
    };
    let then = |row: OrderDetails| {
        assert_eq!(row.customer_name.as_deref(), Some("Ada Lovelace"));
        assert_eq!(row.customer_email.as_deref(), Some("ada@example.org"));
        assert_eq!(row.lines[0].product_name, "Ordered \"1\" Ä");
        let product = row.lines[0].product.clone().unwrap();
        assert_eq!((product.name.as_str(), product.discontinued), ("Green tea", true));
    };
    check(given, then).await;
}

#[tokio::test]
async fn an_erased_customer_has_no_name() {
    let given = |feeds: &Feeds| {
        feeds.order(placed(1, 7, &[1]));
        feeds.user(registered(7, "Ada"));
        feeds.user(erased(7));
    };
    let then = |row: OrderDetails| assert_eq!((row.customer_name, row.customer_email), (None, None));
    check(given, then).await;
}

#[tokio::test]
async fn a_cancelled_order_is_cancelled_and_a_part_returned_is_not_returned() {
    let given = |feeds: &Feeds| {
        feeds.order(placed(1, 7, &[1]));
        feeds.order(returned(1, false));
    };
    check(given, |row| assert_eq!(row.status, OrderStatus::Pending)).await;
    let given = |feeds: &Feeds| {
        feeds.order(placed(1, 7, &[1]));
        feeds.order(cancelled(1));
    };
    check(given, |row| assert_eq!(row.status, OrderStatus::Cancelled)).await;
    let given = |feeds: &Feeds| {
        feeds.order(placed(1, 7, &[1]));
        feeds.order(returned(1, true));
    };
    check(given, |row| assert_eq!(row.status, OrderStatus::Returned)).await;
}

#[tokio::test]
async fn the_status_follows_what_is_said_of_the_order() {
    let after = |told: fn(u64) -> Vec<OrderEvent>| {
        move |feeds: &Feeds| {
            feeds.order(placed(1, 7, &[1]));
            told(1).into_iter().for_each(|event| feeds.order(event));
        }
    };
    let stands = |status, shipped: bool| {
        move |row: OrderDetails| {
            let shipped_at_us = shipped.then(|| common::time(1_000).timestamp_micros());
            assert_eq!((row.status, row.shipped_at_us), (status, shipped_at_us));
        }
    };
    check(after(|n| vec![confirmed(n)]), stands(OrderStatus::Confirmed, false)).await;
    check(after(|n| vec![confirmed(n), shipped(n)]), stands(OrderStatus::Shipped, true)).await;
    check(after(|n| vec![confirmed(n), shipped(n), delivered(n)]), stands(OrderStatus::Delivered, true)).await;
    let part = |n| vec![confirmed(n), shipped(n), delivered(n), returned(n, false)];
    check(after(part), stands(OrderStatus::Delivered, true)).await;
    let all = |n| vec![confirmed(n), shipped(n), delivered(n), returned(n, false), returned(n, true)];
    check(after(all), stands(OrderStatus::Returned, true)).await;
}

#[tokio::test]
async fn an_imported_order_keeps_its_own_times_and_status() {
    let given = |feeds: &Feeds| {
        let OrderEvent::OrderPlaced(like) = placed(1, 7, &[3]) else { unreachable!() };
        feeds.order(
            OrderImported {
                order_id: like.order_id,
                customer_id: like.customer_id,
                lines: like.lines,
                status: OrderStatus::Shipped,
                placed_at: common::time(-1_000),
                shipped_at: Some(common::time(-500)),
                external_ref: "10248".to_owned(),
            }
            .into(),
        );
    };
    let then = |row: OrderDetails| {
        assert_eq!(row.status, OrderStatus::Shipped);
        assert_eq!(row.placed_at_us, common::time(-1_000).timestamp_micros());
        assert_eq!(row.shipped_at_us, Some(common::time(-500).timestamp_micros()));
        assert_eq!(row.external_ref.as_deref(), Some("10248"));
    };
    check(given, then).await;
}

async fn page(hand: &Hand, filter: &OrderFilter, first: usize, after: Option<OrderCursor>) -> (Vec<u128>, bool) {
    let page = hand.read.orders(filter, first, after, &Consistency::any()).await.unwrap();
    (page.rows.iter().map(|row| row.order_id.0.as_u128() - 0x3_0000).collect(), page.has_next_page)
}

#[tokio::test]
async fn orders_come_newest_first_page_by_page() {
    for kind in BOTH {
        let feeds = Feeds::default();
        for n in 1..=8 {
            feeds.order(placed(n, 1 + n % 2, &[1]));
        }
        feeds.order(cancelled(5));
        let mut hand = Place::new(kind).await.hand(small()).await;
        let all = OrderFilter::default();
        assert_eq!(page(&hand, &all, 5, None).await, (vec![], false), "an empty table has an empty page");
        hand.finish(&feeds).await;

        // three orders share an instant: the id decides
        assert_eq!(page(&hand, &all, 5, None).await, (vec![8, 7, 6, 5, 4], true));
        let last = hand.order(4).await.unwrap();
        assert_eq!(page(&hand, &all, 5, Some(OrderCursor::from(&last))).await, (vec![3, 2, 1], false));

        let of = |filter: OrderFilter| filter;
        let customer = of(OrderFilter { customer_id: Some(CustomerId::from(user(2).0)), ..all.clone() });
        assert_eq!(page(&hand, &customer, 2, None).await, (vec![7, 5], true));
        let status = OrderFilter { status: Some(OrderStatus::Cancelled), ..customer.clone() };
        assert_eq!(page(&hand, &status, 2, None).await, (vec![5], false));
        let external = OrderFilter { external_ref: Some("old-6".to_owned()), ..all.clone() };
        assert_eq!(page(&hand, &external, 2, None).await, (vec![6], false));
        let instant_us = common::time(1).timestamp_micros();
        let before = OrderFilter { placed_before_us: Some(instant_us), ..all.clone() };
        assert_eq!(page(&hand, &before, 9, None).await, (vec![2, 1], false));
        let between = OrderFilter {
            placed_after_us: Some(instant_us),
            placed_before_us: Some(common::time(2).timestamp_micros()),
            ..all.clone()
        };
        assert_eq!(page(&hand, &between, 9, None).await, (vec![5, 4, 3], false));
    }
}

#[tokio::test]
async fn a_customer_is_read_from_the_reference_rows() {
    for kind in BOTH {
        let feeds = Feeds::default();
        feeds.user(registered(1, "Ada"));
        feeds.user(registered(2, "Grace"));
        feeds.user(erased(2));
        let mut hand = Place::new(kind).await.hand(small()).await;
        hand.finish(&feeds).await;
        let customer = async |n| hand.read.customer(user(n), &Consistency::any()).await.unwrap();
        let ada = customer(1).await.unwrap();
        assert_eq!(
            (ada.name.as_deref(), ada.email.as_deref(), ada.erased),
            (Some("Ada"), Some("1@example.org"), false)
        );
        let grace = customer(2).await.unwrap();
        assert_eq!((grace.name, grace.email, grace.erased), (None, None, true));
        assert_eq!(customer(3).await, None);
    }
}
