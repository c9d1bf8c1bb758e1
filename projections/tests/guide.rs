//! The example of `docs/testing-projections.md`, which shows parts of this file: a projection of one's own, and its tests.

use events::{
    envelope::RecordedEvent,
    ids::{OrderId, ProductId, UserId},
    money::{Currency, Money},
    orders::{self, OrderEvent, OrderLine, OrderPlaced},
    personal::Personal,
    users::{self, UserEvent, UserRegistered, UserRenamed},
};
use projections::{
    kit::{Kit, Random, Story, time},
    projection::{Facets, Fold, Link, Projection, References},
};
use read_side::template::{Kind, ReferenceTemplate, Template, column};
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

/// What is printed on the parcels of an order: who it is for, and how much is in it.
static LABELS: Template = Template {
    name: "order_labels",
    key: "order_id",
    sources: &[orders::SOURCE, users::SOURCE],
    facets: &["order_facet"],
    columns: &[column("label", Kind::Text)],
    references: &[ReferenceTemplate { name: "customer", key: "customer_id", columns: &[column("name", Kind::Text)] }],
    ..Template::BLANK
};

fn labels() -> Projection {
    Projection::new(&LABELS, 1).facet::<OrderFold>().reference::<CustomerFold>().links(links).derive(label)
}

#[derive(Clone, Serialize, Deserialize)]
struct Order {
    customer_id: UserId,
    pieces: u32,
}

struct OrderFold;

impl Fold for OrderFold {
    type Event = OrderEvent;
    type State = Order;
    const SOURCE: &'static str = orders::SOURCE;

    fn key(event: &OrderEvent) -> Option<String> {
        match event {
            OrderEvent::OrderPlaced(event) => Some(event.order_id.to_string()),
            OrderEvent::OrderImported(_)
            | OrderEvent::OrderConfirmed(_)
            | OrderEvent::OrderCancelled(_)
            | OrderEvent::OrderShipped(_)
            | OrderEvent::OrderDelivered(_)
            | OrderEvent::OrderReturned(_) => None,
        }
    }

    fn fold(_: Option<Order>, event: OrderEvent, _: &RecordedEvent) -> Result<Order, String> {
        let OrderEvent::OrderPlaced(event) = event else { return Err("no order is placed by it".to_owned()) };
        Ok(Order { customer_id: event.customer_id, pieces: event.lines.iter().map(|line| line.quantity).sum() })
    }
}

#[derive(Clone, Serialize, Deserialize)]
struct Customer {
    name: Option<String>,
}

struct CustomerFold;

impl Fold for CustomerFold {
    type Event = UserEvent;
    type State = Customer;
    const SOURCE: &'static str = users::SOURCE;

    fn key(event: &UserEvent) -> Option<String> {
        match event {
            UserEvent::UserRegistered(event) => Some(event.user_id.to_string()),
            UserEvent::UserRenamed(event) => Some(event.user_id.to_string()),
            UserEvent::UserErased(event) => Some(event.user_id.to_string()),
            UserEvent::EmailChanged(_) | UserEvent::AddressChanged(_) => None,
        }
    }

    fn fold(_: Option<Customer>, event: UserEvent, _: &RecordedEvent) -> Result<Customer, String> {
        let name = match event {
            UserEvent::UserRegistered(event) => event.name.into_value(),
            UserEvent::UserRenamed(event) => event.name.into_value(),
            UserEvent::UserErased(_) => None,
            UserEvent::EmailChanged(_) | UserEvent::AddressChanged(_) => return Err("no name is in it".to_owned()),
        };
        Ok(Customer { name })
    }
}

fn links(facets: &Facets) -> Vec<Link> {
    let customer = facets.get::<Order>(0).map(|order| order.customer_id.to_string());
    customer.map(|foreign_key| Link { reference: "customer", foreign_key }).into_iter().collect()
}

fn label(facets: &Facets, references: &References) -> Option<String> {
    let order = facets.get::<Order>(0)?;
    let customer = references.get::<Customer>("customer", &order.customer_id.to_string());
    let name = customer.and_then(|customer| customer.name.as_deref()).unwrap_or("our customer");
    Some(json!({ "label": format!("{} pieces for {name}", order.pieces) }).to_string())
}

async fn kit() -> Kit {
    Kit::of(labels).postgres(testkit::postgres::shared().await.url("postgres"))
}

const ADA: UserId = UserId(Uuid::from_u128(1));

fn registered(name: &str) -> UserEvent {
    let (name, email) = (Personal::of(ADA, name.to_owned()), Personal::of(ADA, "ada@example.org".to_owned()));
    UserRegistered { user_id: ADA, name, email, address: None, external_ref: None }.into()
}

fn renamed(name: &str) -> UserEvent {
    UserRenamed { user_id: ADA, name: Personal::of(ADA, name.to_owned()) }.into()
}

fn order(n: u128) -> OrderId {
    OrderId(Uuid::from_u128(n))
}

fn placed(n: u128, quantity: u32) -> OrderEvent {
    let line = OrderLine {
        product_id: ProductId(Uuid::from_u128(2)),
        product_name: "Tea".to_owned(),
        quantity,
        unit_price: Money::new(100, Currency::USD),
        discount_bp: 0,
    };
    OrderPlaced {
        order_id: order(n),
        customer_id: ADA,
        lines: vec![line],
        placed_at: time(0),
        payment_method: None,
        external_ref: None,
    }
    .into()
}

#[tokio::test]
async fn a_label_names_the_customer_as_they_are_called_now() {
    let rows = kit().await.given(|story| {
        story.says("users", ADA, &registered("Ada"));
        story.says("orders", order(7), &placed(7, 3));
        story.says("users", ADA, &renamed("Ada Lovelace"));
    });
    let rows = rows.rows().await;
    assert_eq!(rows[&order(7).to_string()]["label"], "3 pieces for Ada Lovelace");
}

/// Orders of one customer, who is renamed now and then.
fn history(random: &mut Random, story: &Story) {
    story.says("users", ADA, &registered("Ada"));
    for n in 0..10 {
        story.says("orders", order(n), &placed(n, 1 + random.below(5) as u32));
        if random.below(3) == 0 {
            story.says("users", ADA, &renamed(&format!("Ada {n}")));
        }
    }
}

#[tokio::test]
async fn labels_keep_every_law() {
    kit().await.laws(history).await;
}

#[test]
fn the_guide_shows_what_runs_here() {
    let (guide, here) = (include_str!("../../docs/testing-projections.md"), include_str!("guide.rs"));
    let shown: Vec<&str> = guide.split("```rust\n").skip(1).filter_map(|block| block.split("```").next()).collect();
    assert!(shown.len() >= 3, "the guide has lost its examples");
    for block in shown {
        assert!(
            here.contains(block.trim_end()),
            "this block of the guide is not in projections/tests/guide.rs:\n{block}"
        );
    }
}
