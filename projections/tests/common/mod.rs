//! The services' events as tests tell them, on top of the kit.
#![allow(dead_code, reason = "each test file uses what it needs")]

mod services;

use std::{
    ops::{Deref, DerefMut},
    sync::Arc,
    time::Duration,
};

use event_store::{feed::Feed, follower::FollowerOptions};
use events::{
    catalog::{ProductAdded, ProductDiscontinued, ProductEvent, ProductRenamed},
    ids::{OrderId, ProductId, UserId},
    inventory::StockEvent,
    money::{Currency, Money},
    orders::{
        OrderCancelled, OrderConfirmed, OrderDelivered, OrderEvent, OrderLine, OrderPlaced, OrderReturned,
        OrderShipped, ReturnedLine,
    },
    payments::PaymentEvent,
    personal::Personal,
    shipping::ShipmentEvent,
    users::{EmailChanged, UserErased, UserEvent, UserRegistered, UserRenamed},
};
use projections::{
    Projector, ProjectorHandle, ProjectorOptions,
    engine::store::{GenerationStore, StoreOptions},
    kit::{self, Kit, ScriptedFeed, Story},
    order_details,
    projection::Projection,
};
use read_side::Consistency;
use testkit::postgres::ThrowAwayPostgres;
use uuid::Uuid;

pub use projections::kit::{Kind, Random, time};
pub use services::*;

/// The services that an order's row is made of.
pub struct Feeds {
    pub users: Arc<ScriptedFeed>,
    pub catalog: Arc<ScriptedFeed>,
    pub orders: Arc<ScriptedFeed>,
    pub inventory: Arc<ScriptedFeed>,
    pub payments: Arc<ScriptedFeed>,
    pub shipping: Arc<ScriptedFeed>,
}

impl Default for Feeds {
    fn default() -> Self {
        Self::of(&Story::new())
    }
}

impl Feeds {
    /// Those of a story of the kit.
    pub fn of(story: &Story) -> Self {
        Self {
            users: story.feed("users"),
            catalog: story.feed("catalog"),
            orders: story.feed("orders"),
            inventory: story.feed("inventory"),
            payments: story.feed("payments"),
            shipping: story.feed("shipping"),
        }
    }

    pub fn all(&self) -> Vec<Arc<dyn Feed>> {
        self.scripted().map(|feed| Arc::clone(feed) as Arc<dyn Feed>).into()
    }

    pub fn scripted(&self) -> [&Arc<ScriptedFeed>; 6] {
        [&self.users, &self.catalog, &self.orders, &self.inventory, &self.payments, &self.shipping]
    }

    pub fn user(&self, event: UserEvent) {
        let id = match &event {
            UserEvent::UserRegistered(event) => event.user_id,
            UserEvent::UserRenamed(event) => event.user_id,
            UserEvent::EmailChanged(event) => event.user_id,
            UserEvent::AddressChanged(event) => event.user_id,
            UserEvent::UserErased(event) => event.user_id,
        };
        self.users.push("user", id.0, &event);
    }

    pub fn product(&self, event: ProductEvent) {
        let id = match &event {
            ProductEvent::ProductAdded(event) => event.product_id,
            ProductEvent::ProductRenamed(event) => event.product_id,
            ProductEvent::PriceChanged(event) => event.product_id,
            ProductEvent::ProductDiscontinued(event) => event.product_id,
        };
        self.catalog.push("product", id.0, &event);
    }

    pub fn order(&self, event: OrderEvent) {
        let id = match &event {
            OrderEvent::OrderPlaced(event) => event.order_id,
            OrderEvent::OrderImported(event) => event.order_id,
            OrderEvent::OrderConfirmed(event) => event.order_id,
            OrderEvent::OrderCancelled(event) => event.order_id,
            OrderEvent::OrderShipped(event) => event.order_id,
            OrderEvent::OrderDelivered(event) => event.order_id,
            OrderEvent::OrderReturned(event) => event.order_id,
        };
        self.orders.push("order", id.0, &event);
    }

    pub fn stock(&self, event: StockEvent) {
        let id = match &event {
            StockEvent::StockReceived(event) => event.product_id,
            StockEvent::StockAdjusted(event) => event.product_id,
            StockEvent::StockReserved(event) => event.product_id,
            StockEvent::ReservationRejected(event) => event.product_id,
            StockEvent::ReservationWithdrawn(event) => event.product_id,
            StockEvent::ReservationConfirmed(event) => event.product_id,
            StockEvent::ReservationExpired(event) => event.product_id,
            StockEvent::StockReleased(event) => event.product_id,
            StockEvent::StockShipped(event) => event.product_id,
        };
        self.inventory.push("stock_item", id.0, &event);
    }

    pub fn payment(&self, event: PaymentEvent) {
        let id = match &event {
            PaymentEvent::AuthorizationRequested(event) => event.payment_id,
            PaymentEvent::PaymentAuthorized(event) => event.payment_id,
            PaymentEvent::PaymentDeclined(event) => event.payment_id,
            PaymentEvent::CaptureRequested(event) => event.payment_id,
            PaymentEvent::PaymentCaptured(event) => event.payment_id,
            PaymentEvent::CaptureFailed(event) => event.payment_id,
            PaymentEvent::VoidRequested(event) => event.payment_id,
            PaymentEvent::PaymentVoided(event) => event.payment_id,
            PaymentEvent::PaymentBarred(event) => event.payment_id,
            PaymentEvent::RefundRequested(event) => event.payment_id,
            PaymentEvent::PaymentRefunded(event) => event.payment_id,
            PaymentEvent::RefundFailed(event) => event.payment_id,
            PaymentEvent::PaymentExpired(event) => event.payment_id,
        };
        self.payments.push("payment", id.0, &event);
    }

    pub fn shipment(&self, event: ShipmentEvent) {
        let id = match &event {
            ShipmentEvent::ShipmentScheduled(event) => event.shipment_id,
            ShipmentEvent::ShipmentWithdrawn(event) => event.shipment_id,
            ShipmentEvent::ShipmentDispatched(event) => event.shipment_id,
            ShipmentEvent::ShipmentDelivered(event) => event.shipment_id,
            ShipmentEvent::ShipmentCancelled(event) => event.shipment_id,
            ShipmentEvent::ShipmentLost(event) => event.shipment_id,
        };
        self.shipping.push("shipment", id.0, &event);
    }

    /// Customers, products and orders with changes to all of them, as `random` has it.
    pub fn history(&self, random: &mut Random, orders: u64) {
        for n in 1..=4 {
            self.user(registered(n, &format!("Customer {n}")));
        }
        for n in 1..=5 {
            self.product(added(n, &format!("Product {n}")));
        }
        for n in 1..=orders {
            let lines: Vec<_> = (0..=random.below(3)).map(|_| 1 + random.below(5)).collect();
            self.order(placed(n, 1 + random.below(4), &lines));
            self.carried_out(random, n, &lines);
            match random.below(6) {
                0 => self.order(cancelled(n)),
                1 => self.order(confirmed(n)),
                2 => [confirmed(n), shipped(n), returned(n, false)].into_iter().for_each(|event| self.order(event)),
                3 => [confirmed(n), shipped(n), delivered(n)].into_iter().for_each(|event| self.order(event)),
                _ => {}
            }
            match random.below(5) {
                0 => self.user(renamed(1 + random.below(4), &format!("Renamed {n}"))),
                1 => self.user(email_changed(1 + random.below(4), &format!("mail{n}@example.org"))),
                2 => self.product(product_renamed(1 + random.below(5), &format!("Renamed product {n}"))),
                3 => self.product(discontinued(1 + random.below(5))),
                _ => {}
            }
        }
        if random.below(2) == 0 {
            self.user(UserErased { user_id: user(4) }.into());
        }
    }

    /// What inventory, payments and shipping do for order `n` of one line for each of `products`.
    fn carried_out(&self, random: &mut Random, n: u64, products: &[u64]) {
        if random.below(5) == 0 {
            return;
        }
        for (line, product) in products.iter().enumerate() {
            for event in line_history(random, n, line as u32, *product) {
                self.stock(event);
            }
        }
        // two payments and two shipments in one order of eight, their events mixed
        let several = 1 + u64::from(random.below(8) == 0);
        let mut payments: Vec<_> = (0..several).map(|m| payment_history(random, n, 10 * n + m).into_iter()).collect();
        let mut shipments: Vec<_> = (0..several).map(|m| shipment_history(random, n, 10 * n + m).into_iter()).collect();
        for _ in 0..20 {
            let m = random.below(several) as usize;
            payments[m].next().into_iter().for_each(|event| self.payment(event));
            shipments[m].next().into_iter().for_each(|event| self.shipment(event));
        }
    }
}

pub fn user(n: u64) -> UserId {
    UserId(Uuid::from_u128(0x1_0000 + u128::from(n)))
}

pub fn product(n: u64) -> ProductId {
    ProductId(Uuid::from_u128(0x2_0000 + u128::from(n)))
}

pub fn order(n: u64) -> OrderId {
    OrderId(Uuid::from_u128(0x3_0000 + u128::from(n)))
}

pub fn registered(n: u64, name: &str) -> UserEvent {
    let (name, email) = (Personal::of(user(n), name.to_owned()), Personal::of(user(n), format!("{n}@example.org")));
    UserRegistered { user_id: user(n), name, email, address: None, external_ref: None }.into()
}

pub fn renamed(n: u64, name: &str) -> UserEvent {
    UserRenamed { user_id: user(n), name: Personal::of(user(n), name.to_owned()) }.into()
}

pub fn email_changed(n: u64, email: &str) -> UserEvent {
    EmailChanged { user_id: user(n), email: Personal::of(user(n), email.to_owned()) }.into()
}

pub fn erased(n: u64) -> UserEvent {
    UserErased { user_id: user(n) }.into()
}

pub fn added(n: u64, name: &str) -> ProductEvent {
    let unit_price = Money::new(100 * n as i64, Currency::USD);
    ProductAdded {
        product_id: product(n),
        sku: format!("sku-{n}"),
        name: name.to_owned(),
        unit_price,
        external_ref: None,
    }
    .into()
}

pub fn product_renamed(n: u64, name: &str) -> ProductEvent {
    ProductRenamed { product_id: product(n), name: name.to_owned() }.into()
}

pub fn discontinued(n: u64) -> ProductEvent {
    ProductDiscontinued { product_id: product(n) }.into()
}

/// An order of one piece each of `products`; the name as ordered says so.
pub fn placed(n: u64, customer: u64, products: &[u64]) -> OrderEvent {
    let line = |id: &u64| OrderLine {
        product_id: product(*id),
        product_name: format!("Ordered \"{id}\" Ä"),
        quantity: 2,
        unit_price: Money::new(100 * *id as i64, Currency::USD),
        discount_bp: 1_000,
    };
    OrderPlaced {
        order_id: order(n),
        customer_id: user(customer),
        lines: products.iter().map(line).collect(),
        placed_at: time(n as i64 / 3),
        payment_method: None,
        external_ref: n.is_multiple_of(2).then(|| format!("old-{n}")),
    }
    .into()
}

pub fn cancelled(n: u64) -> OrderEvent {
    let (order_id, customer_id, reason) = (order(n), user(1), "changed my mind".to_owned());
    OrderCancelled { order_id, customer_id, reason, rejected: false }.into()
}

pub fn confirmed(n: u64) -> OrderEvent {
    OrderConfirmed { order_id: order(n), customer_id: user(1) }.into()
}

pub fn shipped(n: u64) -> OrderEvent {
    OrderShipped { order_id: order(n), customer_id: user(1), shipped_at: time(1_000) }.into()
}

pub fn delivered(n: u64) -> OrderEvent {
    OrderDelivered { order_id: order(n), customer_id: user(1), delivered_at: time(2_000) }.into()
}

/// Pieces of product 1 came back; what is complete says so and does not count.
pub fn returned(n: u64, complete: bool) -> OrderEvent {
    let (order_id, customer_id) = (order(n), user(1));
    let lines = vec![ReturnedLine { product_id: product(1), quantity: 1 }];
    OrderReturned { order_id, customer_id, lines, complete, reason: Some("too small".to_owned()) }.into()
}

pub const BOTH: [Kind; 2] = [Kind::Sqlite, Kind::Postgres];

/// The kit on a projection, on both databases.
pub async fn kit(projection: impl Fn() -> Projection + Send + Sync + 'static) -> Kit {
    Kit::of(projection).postgres(testkit::postgres::shared().await.url("postgres"))
}

/// A query database of its own for one test.
#[derive(Clone)]
pub struct Place(kit::Place);

impl Deref for Place {
    type Target = kit::Place;

    fn deref(&self) -> &kit::Place {
        &self.0
    }
}

impl Place {
    pub async fn new(kind: Kind) -> Self {
        Self(match kind {
            Kind::Sqlite => kit::Place::sqlite(),
            Kind::Postgres => kit::Place::postgres(testkit::postgres::fresh_database("query").await),
        })
    }

    /// On a server of the test's own.
    pub async fn on(server: &ThrowAwayPostgres) -> Self {
        Self(kit::Place::postgres(server.create_database("query").await.expect("a database")))
    }

    pub async fn projector(&self, feeds: &Feeds, options: ProjectorOptions) -> ProjectorHandle {
        Projector::start(self.database().await, feeds.all(), options).await.unwrap()
    }

    /// A live generation of order details to drive by hand.
    pub async fn hand(&self, options: StoreOptions) -> Hand {
        Hand(self.live(order_details::projection(), options).await)
    }
}

/// Bounds so small that every test passes them.
pub fn small() -> StoreOptions {
    StoreOptions { fan_out_rows_max: 3, fan_outs_open_max: 4, anchors_kept_events: 20, ..StoreOptions::default() }
}

/// Options for a projector in tests: it looks for news often.
pub fn quick() -> ProjectorOptions {
    ProjectorOptions {
        follower: FollowerOptions { poll_wait: Duration::from_millis(100), ..FollowerOptions::default() },
        ..ProjectorOptions::default()
    }
}

/// A generation of order details that is driven step by step, without a follower.
pub struct Hand(kit::Hand);

impl Deref for Hand {
    type Target = kit::Hand;

    fn deref(&self) -> &kit::Hand {
        &self.0
    }
}

impl DerefMut for Hand {
    fn deref_mut(&mut self) -> &mut kit::Hand {
        &mut self.0
    }
}

impl Hand {
    /// The store alone.
    pub fn into_store(self) -> GenerationStore {
        self.0.store
    }

    /// Everything that is left, feed after feed, and every fan-out.
    pub async fn finish(&mut self, feeds: &Feeds) {
        self.0.finish(&feeds.scripted().map(Arc::clone)).await.unwrap();
    }

    pub async fn order(&self, n: u64) -> Option<read_side::order_details::OrderDetails> {
        self.read.order(order(n), &Consistency::any()).await.unwrap()
    }
}
