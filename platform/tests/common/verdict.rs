//! What must hold when all is over.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use events::{ids::OrderId, orders::OrderStatus};
use uuid::Uuid;

use super::{
    common::{Platform, text, tributary},
    crew::{Crew, list},
    plan::{Fate, Plan},
};

/// How long the read model may take to show what was read of the feeds.
const CAUGHT_UP_WITHIN: Duration = Duration::from_secs(20);

/// The laws, at rest; the services' own word about their stock; and a read model that equals its rebuild.
pub async fn check(platform: &Platform, crew: &Crew) {
    let plan = &crew.plan;
    let mut audit = crew.books().await;
    audit.read(&platform.url).await.expect("every feed goes on where it was");
    let books = &audit.books;
    let acknowledged = crew.acknowledged.lock().expect("no panic while held").clone();
    assert_eq!(acknowledged.len(), plan.orders.len(), "every order was acknowledged in the end; {plan}");
    let breaches = books.at_rest(&acknowledged);
    assert!(breaches.is_empty(), "{}; {plan}", list(&breaches));
    eprintln!("{plan}: {:?}, {:?}", books.ends(), books.statuses());

    // what was planned has come about: else the laws would hold of something else than is thought
    let mut expected = BTreeMap::new();
    for order in &plan.orders {
        let (fate, status) = (order.fate, books.standing(order.id).expect("it has a saga").status);
        expected.entry(fate).or_insert_with(BTreeSet::new).insert(status.as_str());
    }
    for (fate, statuses) in expected {
        let may_be = may_be(fate).map(OrderStatus::as_str);
        assert!(statuses.iter().all(|status| may_be.contains(status)), "{fate:?} ended {statuses:?}; {plan}");
    }

    for product in &plan.products {
        let (status, stock) = platform.get(&format!("/stock/{product}")).await;
        let shown = (stock["on_hand"].as_i64(), stock["held"].as_i64());
        let (on_hand, held) = books.level((*product).into());
        assert_eq!((status, shown), (200, (Some(on_hand), Some(held))), "stock of {product}; {plan}");
    }
    let status = |id: OrderId| (id, books.standing(id).expect("it has a saga").status);
    let known: BTreeMap<OrderId, OrderStatus> = plan.orders.iter().map(|order| status(order.id)).collect();
    drop(audit);
    let caught_up = async {
        while shown(platform, plan).await != known {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    if tokio::time::timeout(CAUGHT_UP_WITHIN, caught_up).await.is_err() {
        assert_eq!(shown(platform, plan).await, known, "the read model shows what the orders are; {plan}");
    }
    // a rebuild of the same VERSION refuses to swap if a single row differs
    let rebuilt = tributary(&["projection", "rebuild", "order_details", "--url", &platform.url]).await;
    assert!(rebuilt.status.success(), "the read model equals a rebuild; {plan}: {}", text(&rebuilt));
    assert_eq!(shown(platform, plan).await, known, "and so does the new generation; {plan}");
}

/// Where an order of this fate may end.
fn may_be(fate: Fate) -> [OrderStatus; 2] {
    match fate {
        Fate::Delivered | Fate::ReturnedInPart => [OrderStatus::Delivered; 2],
        // whom it answers the second time it forgets with each death, and five times are too many
        Fate::GatewayLate => [OrderStatus::Delivered, OrderStatus::Cancelled],
        Fate::Declined | Fate::OutOfStock | Fate::GatewaySilent => [OrderStatus::Cancelled; 2],
        Fate::CancelledAtOnce => [OrderStatus::Cancelled, OrderStatus::Returned],
        Fate::CancelledOnceConfirmed | Fate::Returned => [OrderStatus::Returned; 2],
        Fate::Lost => [OrderStatus::Shipped; 2],
    }
}

/// Every order that the read model shows of the plan's customers.
async fn shown(platform: &Platform, plan: &Plan) -> BTreeMap<OrderId, OrderStatus> {
    let mut shown = BTreeMap::new();
    for customer in &plan.customers {
        shown.extend(orders_of(platform, *customer).await);
    }
    shown
}

async fn orders_of(platform: &Platform, customer: Uuid) -> BTreeMap<OrderId, OrderStatus> {
    let (mut after, mut shown) = (String::new(), BTreeMap::new());
    loop {
        let query = format!(
            "{{ orders(first: 100{after}, filter: {{customerId: \"{customer}\"}}) {{ edges {{ node {{ orderId status }} }} \
             pageInfo {{ hasNextPage endCursor }} }} }}"
        );
        let page = platform.query(&query, "").await["orders"].clone();
        for edge in page["edges"].as_array().expect("edges") {
            let of = |member: &str| edge["node"][member].as_str().expect("a text").to_owned();
            let id = of("orderId").parse().expect("a UUID");
            let before = shown.insert(id, of("status").parse().expect("a status"));
            assert_eq!(before, None, "a row is listed once");
        }
        if page["pageInfo"]["hasNextPage"] == false {
            return shown;
        }
        after = format!(", after: {}", page["pageInfo"]["endCursor"]);
    }
}
