//! Scripted feeds, a query database on either engine, and given/when/then for projections.
#![allow(dead_code, reason = "each test file uses what it needs")]

mod services;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use cqrs_es::DomainEvent;
use event_store::{
    feed::{Cursor, Feed, FeedError, FeedPage, PageLimit},
    follower::{Acquired, ApplyError, Checkpoint, FollowerOptions, FollowerStore, Step},
    log::LogHead,
};
use events::{
    catalog::{ProductAdded, ProductDiscontinued, ProductEvent, ProductRenamed},
    consistency::ConsistencyToken,
    envelope::{Name, RecordedEvent, StreamId},
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
    Projector, ProjectorHandle, ProjectorOptions, QueryDatabase,
    engine::{
        store::{GenerationStore, StoreOptions},
        table_hash::{TableHash, table_hash},
    },
};
use read_side::{Consistency, ReadSide, order_details::TEMPLATE};
use tokio::sync::watch;
use uuid::Uuid;

pub use services::*;

/// A feed that says what it is told to.
pub struct ScriptedFeed {
    source: Name,
    log: Mutex<(Uuid, Vec<RecordedEvent>)>,
    news: watch::Sender<()>,
}

impl ScriptedFeed {
    pub fn new(source: &str) -> Arc<Self> {
        let epoch = Uuid::new_v5(&Uuid::NAMESPACE_OID, source.as_bytes());
        Arc::new(Self { source: source.into(), log: Mutex::new((epoch, Vec::new())), news: watch::Sender::new(()) })
    }

    pub fn push(&self, aggregate_type: &str, aggregate_id: Uuid, event: &impl DomainEvent) {
        let payload = serde_json::to_string(event).unwrap();
        self.push_raw(aggregate_type, aggregate_id, &event.event_type(), &event.event_version(), payload);
    }

    pub fn push_raw(&self, aggregate_type: &str, id: Uuid, event_type: &str, version: &str, payload: String) {
        let mut log = self.log.lock().unwrap();
        let position = log.1.len() as u64 + 1;
        let stream = StreamId::new(aggregate_type, id.to_string());
        let sequence = log.1.iter().filter(|event| event.stream == stream).count() as u64 + 1;
        log.1.push(RecordedEvent {
            position,
            event_id: Uuid::new_v5(&Uuid::NAMESPACE_OID, format!("{}{position}{payload}", self.source).as_bytes()),
            stream,
            sequence,
            event_type: event_type.into(),
            event_version: version.into(),
            payload,
            metadata: "{}".to_owned(),
            recorded_at: time(position as i64),
        });
        drop(log);
        self.news.send_replace(());
    }

    pub fn events(&self) -> Vec<RecordedEvent> {
        self.log.lock().unwrap().1.clone()
    }

    pub fn epoch(&self) -> Uuid {
        self.log.lock().unwrap().0
    }

    /// As a log restored from an older copy: the same epoch, fewer events.
    pub fn truncate(&self, events: usize) {
        self.log.lock().unwrap().1.truncate(events);
        self.news.send_replace(());
    }

    pub fn head(&self) -> LogHead {
        let log = self.log.lock().unwrap();
        let last = log.1.last();
        LogHead {
            position: last.map_or(0, |event| event.position),
            recorded_at: last.map_or(DateTime::UNIX_EPOCH, |event| event.recorded_at),
        }
    }

    /// The token of its last event.
    pub fn token(&self) -> ConsistencyToken {
        let log = self.log.lock().unwrap();
        let last = log.1.last().expect("an event");
        ConsistencyToken::of(&self.source, log.0, last.position, Some(last.event_id))
    }

    pub fn token_at(&self, position: usize) -> ConsistencyToken {
        let log = self.log.lock().unwrap();
        let event = &log.1[position - 1];
        ConsistencyToken::of(&self.source, log.0, event.position, Some(event.event_id))
    }
}

#[async_trait]
impl Feed for ScriptedFeed {
    fn source(&self) -> &Name {
        &self.source
    }

    async fn page(&self, after: Cursor, limit: PageLimit, wait: Duration) -> Result<FeedPage, FeedError> {
        let mut news = self.news.subscribe();
        let _ = tokio::time::timeout(wait, news.wait_for(|()| self.head().position != after.position)).await;
        let head = self.head();
        let log = self.log.lock().unwrap();
        let start = after.position as usize;
        let anchor = start.checked_sub(1).and_then(|index| log.1.get(index)).map(|event| event.event_id);
        if start > log.1.len() || (after.event_id.is_some() && after.event_id != anchor) {
            return Err(FeedError::Regressed {
                feed: self.source.clone(),
                position: after.position,
                head: head.position,
            });
        }
        let events = log.1[start..].iter().take(limit.events_max).cloned().collect();
        Ok(FeedPage { epoch: log.0, head, events })
    }
}

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
        Self {
            users: ScriptedFeed::new("users"),
            catalog: ScriptedFeed::new("catalog"),
            orders: ScriptedFeed::new("orders"),
            inventory: ScriptedFeed::new("inventory"),
            payments: ScriptedFeed::new("payments"),
            shipping: ScriptedFeed::new("shipping"),
        }
    }
}

impl Feeds {
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

/// Numbers from a seed, always the same (splitmix64).
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// The seeds to run: `SEED=n` repeats one, `TRIBUTARY_SOAK=1` runs a hundred times as many.
pub fn seeds(count: u64) -> std::ops::Range<u64> {
    match std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()) {
        Some(seed) => seed..seed + 1,
        None if std::env::var_os("TRIBUTARY_SOAK").is_some() => 0..count * 100,
        None => 0..count,
    }
}

/// The time of the event at a position: one second apart.
pub fn time(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_700_000_000, 0).unwrap() + TimeDelta::seconds(seconds)
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

/// Which engine the query database is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Sqlite,
    Postgres,
}

pub const BOTH: [Kind; 2] = [Kind::Sqlite, Kind::Postgres];

/// A query database of its own for one test.
pub struct Place {
    pub kind: Kind,
    directory: Arc<tempfile::TempDir>,
    url: String,
}

impl Place {
    pub async fn new(kind: Kind) -> Self {
        let directory = Arc::new(tempfile::tempdir().unwrap());
        let url = match kind {
            Kind::Sqlite => String::new(),
            Kind::Postgres => testkit::postgres::fresh_database("query").await,
        };
        Self { kind, directory, url }
    }

    pub fn directory(&self) -> &std::path::Path {
        self.directory.path()
    }

    /// Of PostgreSQL.
    pub fn url(&self) -> &str {
        &self.url
    }

    pub async fn database(&self) -> QueryDatabase {
        match self.kind {
            Kind::Sqlite => QueryDatabase::open_sqlite(self.directory.path()).await.unwrap(),
            Kind::Postgres => QueryDatabase::open_postgres(&self.url).await.unwrap(),
        }
    }

    pub fn read(&self) -> ReadSide {
        match self.kind {
            Kind::Sqlite => ReadSide::connect_sqlite(self.directory.path()),
            Kind::Postgres => ReadSide::connect_postgres(&self.url).unwrap(),
        }
    }

    pub async fn projector(&self, feeds: &Feeds, options: ProjectorOptions) -> ProjectorHandle {
        Projector::start(self.database().await, feeds.all(), options).await.unwrap()
    }

    /// A live generation to drive by hand.
    pub async fn hand(&self, options: StoreOptions) -> Hand {
        let database = self.database().await;
        let projection = Arc::new(projections::order_details::projection());
        let generation = match database.live(&TEMPLATE).await.unwrap() {
            Some(live) => live.generation,
            None => {
                let generation = database.create(&projection).await.unwrap();
                database.swap(&TEMPLATE, None, generation).await.unwrap();
                generation
            }
        };
        let read = self.read();
        let store = database.store(projection, generation, options, read.wake()).await.unwrap();
        let acquired = store.acquire().await.unwrap();
        Hand { store, acquired, database, read, directory: self.directory.clone() }
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

/// A store that is driven step by step, without a follower.
pub struct Hand {
    pub store: GenerationStore,
    pub acquired: Acquired,
    pub database: QueryDatabase,
    pub read: ReadSide,
    /// Lives as long as its files are used.
    directory: Arc<tempfile::TempDir>,
}

impl Hand {
    /// Applies the next `count` events of `feed`, fewer if there are fewer.
    pub async fn step(&mut self, feed: &ScriptedFeed, count: usize) -> Result<(), ApplyError> {
        let events = feed.events();
        let from = self.acquired.vector.get(&feed.source);
        let start = from.position as usize;
        let slice = &events[start..(start + count).min(events.len())];
        let Some(last) = slice.last() else { return Ok(()) };
        let to = Checkpoint::at(feed.epoch(), last);
        self.apply(feed, from, to, slice).await?;
        self.acquired.vector.set(feed.source.clone(), to);
        Ok(())
    }

    pub fn source(&self, feed: &ScriptedFeed) -> Name {
        feed.source.clone()
    }

    /// Events of `feed` that are not applied.
    pub fn behind(&self, feed: &ScriptedFeed) -> u64 {
        feed.head().position - self.acquired.vector.get(&feed.source).position
    }

    pub async fn apply(
        &self,
        feed: &ScriptedFeed,
        from: Checkpoint,
        to: Checkpoint,
        events: &[RecordedEvent],
    ) -> Result<(), ApplyError> {
        let step = Step {
            fence: self.acquired.fence,
            source: &feed.source,
            from,
            to,
            events,
            diverted: &[],
            parking: &[],
            head: &feed.head(),
        };
        self.store.apply(&step).await
    }

    /// Everything that is left, feed after feed, and every fan-out.
    pub async fn finish(&mut self, feeds: &Feeds) {
        for feed in feeds.scripted() {
            self.step(feed, usize::MAX >> 1).await.unwrap();
        }
        while self.store.advance_fan_outs().await.unwrap() {}
    }

    pub async fn hash(&self) -> TableHash {
        table_hash(&self.store).await.unwrap()
    }

    pub async fn order(&self, n: u64) -> Option<read_side::order_details::OrderDetails> {
        self.read.order(order(n), &Consistency::any()).await.unwrap()
    }
}
