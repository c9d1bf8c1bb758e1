//! Given orders, then what was sold of a product on each day.

mod common;

use chrono::NaiveDate;
use common::{Feeds, added, cancelled, kit, order, placed, product, product_renamed, returned, time, user};
use events::{
    money::Currency,
    orders::{OrderEvent, OrderImported, OrderPlaced, OrderStatus},
};
use projections::product_sales_by_day::projection;
use read_side::{
    Consistency, ReadSide,
    product_sales_by_day::{DaySales, ProductSales},
};

async fn check(given: impl Fn(&Feeds), then: impl Fn(Option<ProductSales>)) {
    let given = kit(projection).await.given(|story| given(&Feeds::of(story)));
    given.then(async |read| then(sales(&read, 1, day(1), day(30)).await)).await;
}

async fn sales(read: &ReadSide, n: u64, from: NaiveDate, to: NaiveDate) -> Option<ProductSales> {
    read.product_sales_by_day(product(n), (from, to), &Consistency::any()).await.unwrap()
}

/// Of November 2023; the feeds' own time is the evening of the 14th.
fn day(day: u32) -> NaiveDate {
    NaiveDate::from_ymd_opt(2023, 11, day).unwrap()
}

/// Two pieces of each product, at 90 for each hundred of its number, so many days before the 14th.
fn placed_before(n: u64, days: i64, products: &[u64]) -> OrderEvent {
    let OrderEvent::OrderPlaced(order) = placed(n, 1, products) else { unreachable!() };
    OrderPlaced { placed_at: time(-86_400 * days), ..order }.into()
}

fn sold(of: u32, orders: i64, quantity: i64, amount_minor: i64) -> DaySales {
    let (returned_quantity, returned_minor) = (0, 0);
    DaySales {
        day: day(of),
        currency: Currency::USD,
        orders,
        quantity,
        amount_minor,
        returned_quantity,
        returned_minor,
    }
}

#[tokio::test]
async fn what_is_sold_counts_on_the_day_it_was_ordered() {
    let given = |feeds: &Feeds| {
        feeds.order(placed(1, 7, &[1, 2]));
        feeds.order(placed(2, 8, &[1]));
        feeds.order(placed_before(3, 3, &[1]));
        feeds.product(added(1, "Tea"));
        feeds.product(product_renamed(1, "Green tea"));
    };
    let then = |sales: Option<ProductSales>| {
        let sales = sales.unwrap();
        assert_eq!(sales.product.map(|product| product.name).as_deref(), Some("Green tea"));
        assert_eq!(sales.days, [sold(11, 1, 2, 180), sold(14, 2, 4, 360)]);
    };
    check(given, then).await;
}

#[tokio::test]
async fn a_cancelled_order_sold_nothing() {
    let given = |feeds: &Feeds| {
        feeds.order(placed(1, 7, &[1]));
        feeds.order(placed_before(2, 1, &[1]));
        feeds.order(cancelled(1));
    };
    check(given, |sales| assert_eq!(sales.unwrap().days, [sold(13, 1, 2, 180)])).await;
}

#[tokio::test]
async fn what_comes_back_counts_on_the_day_it_came_and_is_worth_what_was_paid() {
    let given = |feeds: &Feeds| {
        feeds.order(placed_before(1, 4, &[1]));
        // one piece each time; the third is one more than there were
        for _ in 0..3 {
            feeds.order(returned(1, false));
        }
        // of another product than those of the order
        feeds.order(placed_before(2, 4, &[2]));
        feeds.order(returned(2, false));
    };
    let then = |sales: Option<ProductSales>| {
        let back = DaySales { returned_quantity: 2, returned_minor: 180, ..sold(14, 0, 0, 0) };
        assert_eq!(sales.unwrap().days, [sold(10, 1, 2, 180), back]);
    };
    check(given, then).await;
}

#[tokio::test]
async fn an_imported_order_counts_as_it_ended() {
    let imported = |n: u64, status: OrderStatus| -> OrderEvent {
        let OrderEvent::OrderPlaced(like) = placed(n, 1, &[1]) else { unreachable!() };
        OrderImported {
            order_id: order(n),
            customer_id: user(1),
            lines: like.lines,
            status,
            placed_at: time(-86_400 * n as i64),
            shipped_at: None,
            external_ref: n.to_string(),
        }
        .into()
    };
    let given = |feeds: &Feeds| {
        feeds.order(imported(1, OrderStatus::Shipped));
        feeds.order(imported(2, OrderStatus::Returned));
        feeds.order(imported(3, OrderStatus::Cancelled));
    };
    let then = |sales: Option<ProductSales>| {
        let back = DaySales { returned_quantity: 2, returned_minor: 180, ..sold(12, 1, 2, 180) };
        assert_eq!(sales.unwrap().days, [back, sold(13, 1, 2, 180)]);
    };
    check(given, then).await;
}

#[tokio::test]
async fn only_the_days_that_are_asked_for_are_answered() {
    let given = kit(projection).await.given(|story| {
        let feeds = Feeds::of(story);
        feeds.product(added(9, "Never sold"));
        for n in 1..=5 {
            feeds.order(placed_before(n, n as i64, &[1]));
        }
    });
    let then = async |read: ReadSide| {
        let days = |sales: Option<ProductSales>| sales.map(|s| s.days.iter().map(|d| d.day).collect::<Vec<_>>());
        assert_eq!(days(sales(&read, 1, day(10), day(12)).await), Some(vec![day(10), day(11), day(12)]));
        assert_eq!(days(sales(&read, 1, day(20), day(30)).await), None, "nobody has told of it");
        assert_eq!(days(sales(&read, 9, day(1), day(30)).await), Some(vec![]), "known, and never sold");
    };
    given.then(then).await;
}
