//! A history of a shop in the logs of its services: four events an order, as they come in life, not sorted by service.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::{Context, ensure};
use chrono::{DateTime, TimeDelta, Utc};
use cqrs_es::DomainEvent;
use event_store::{
    feed::{Cursor, Feed, PageLimit},
    log::{AppendItem, AppendOutcome, Batch, CommandRecord, Decision, EventLog, Fingerprint, NewEvent},
    postgres::{PostgresLog, PostgresOptions},
    sqlite::{SqliteLog, SqliteOptions},
};
use events::{
    catalog::{self, ProductAdded, ProductDiscontinued, ProductEvent, ProductRenamed},
    consistency::ConsistencyToken,
    envelope::StreamId,
    ids::{OrderId, PaymentId, ProductId, ShipmentId, UserId},
    inventory,
    money::{Currency, Money},
    orders::{self, OrderCancelled, OrderEvent, OrderLine, OrderPlaced},
    payments::{self, AuthorizationRequested, PaymentAuthorized, PaymentEvent},
    personal::Personal,
    shipping::{self, ShipmentEvent, ShipmentLine, ShipmentScheduled},
    users::{self, Address, EmailChanged, UserErased, UserEvent, UserRegistered, UserRenamed},
};
use testkit::postgres::ThrowAwayPostgres;
use uuid::Uuid;

/// Events of an order, those of its customer and its products shared out among them.
pub const EVENTS_PER_ORDER: u64 = 4;
const LINES: u64 = 3;
/// Orders whose events lie side by side: what one service says of them lies apart in its log by this much at most.
const ORDERS_AT_ONCE: u64 = 250;
const PRODUCTS_MAX: u64 = 500;
/// Each of so many orders is of a new customer.
const ORDERS_PER_CUSTOMER: u64 = 10;

/// A log for each service that order details follow.
pub struct Logs(Vec<(&'static str, Arc<dyn EventLog>)>);

const SOURCES: [&str; 6] =
    [users::SOURCE, catalog::SOURCE, orders::SOURCE, payments::SOURCE, shipping::SOURCE, inventory::SOURCE];

impl Logs {
    pub async fn postgres(server: &ThrowAwayPostgres) -> anyhow::Result<Self> {
        let mut logs: Vec<(_, Arc<dyn EventLog>)> = Vec::new();
        for source in SOURCES {
            let url = server.create_database(source).await?;
            let log = PostgresLog::connect(&url, source, PostgresOptions::default()).await;
            logs.push((source, log.with_context(|| format!("open the log of {source}"))?));
        }
        Ok(Self(logs))
    }

    pub fn sqlite(folder: &Path) -> anyhow::Result<Self> {
        let mut logs: Vec<(_, Arc<dyn EventLog>)> = Vec::new();
        for source in SOURCES {
            let log = SqliteLog::open(&folder.join(format!("{source}.db")), source, SqliteOptions::default());
            logs.push((source, log.with_context(|| format!("open the log of {source}"))?));
        }
        Ok(Self(logs))
    }

    pub fn feeds(&self) -> Vec<Arc<dyn Feed>> {
        self.0.iter().map(|(_, log)| Arc::clone(log) as Arc<dyn Feed>).collect()
    }

    fn log(&self, source: &str) -> &dyn EventLog {
        &*self.0.iter().find(|(of, _)| *of == source).expect("a log for each service").1
    }

    /// The token of the last event of a service.
    pub async fn token(&self, source: &str) -> anyhow::Result<ConsistencyToken> {
        let first = self.log(source).page(Cursor::START, PageLimit::events(1), Duration::ZERO).await?;
        let before = Cursor { position: first.head.position - 1, event_id: None };
        let last = self.log(source).page(before, PageLimit::events(1), Duration::ZERO).await?;
        let event = last.events.first().context("the log is empty")?;
        Ok(ConsistencyToken::of(source, last.epoch, event.position, Some(event.event_id)))
    }

    /// How many there are.
    pub async fn events(&self) -> anyhow::Result<u64> {
        let mut events = 0;
        for feed in self.feeds() {
            events += feed.page(Cursor::START, PageLimit::events(1), Duration::ZERO).await?.head.position;
        }
        Ok(events)
    }

    /// Writes the history of orders `from..to`. `(0, n)` and `(n, m)` give what `(0, m)` does, but for the ids.
    pub async fn fill(&self, from: u64, to: u64) -> anyhow::Result<()> {
        self.fill_for(from, to, ORDERS_PER_CUSTOMER).await
    }

    /// The same, with so many orders of each customer.
    pub async fn fill_for(&self, from: u64, to: u64, orders_per_customer: u64) -> anyhow::Result<()> {
        let mut shop = Shop { orders_per_customer, ..Shop::default() };
        for first in (from..to).step_by(ORDERS_AT_ONCE as usize) {
            let mut news = News::default();
            for n in first..(first + ORDERS_AT_ONCE).min(to) {
                shop.order(n, &mut news);
            }
            for (source, items) in news.0 {
                self.commit(source, items).await?;
            }
        }
        Ok(())
    }

    async fn commit(&self, source: &str, items: Vec<AppendItem>) -> anyhow::Result<()> {
        let mut left = items;
        while !left.is_empty() {
            let (mut batch, mut later) = (Batch::default(), Vec::new());
            for item in left {
                if let Err(chain) = batch.push(vec![item]) {
                    later.extend(chain);
                }
            }
            let outcomes = self.log(source).commit(Arc::new(batch)).await.context("write the history")?;
            let all = outcomes.iter().all(|outcome| matches!(outcome, AppendOutcome::Appended { .. }));
            ensure!(all, "an event of the history was not appended: {outcomes:?}");
            left = later;
        }
        Ok(())
    }
}

/// What the services are to say, by source and in order.
#[derive(Default)]
struct News(Vec<(&'static str, Vec<AppendItem>)>);

impl News {
    fn add<E: DomainEvent>(&mut self, source: &'static str, stream: StreamId, version: u64, events: &[E]) {
        let new = |event: &E| NewEvent {
            event_id: Uuid::now_v7(),
            event_type: event.event_type().into(),
            event_version: event.event_version().into(),
            payload: serde_json::to_string(event).expect("an event is plain data"),
            metadata: format!("{{\"correlation_id\":\"{}\",\"actor\":\"customer\"}}", Uuid::now_v7()),
        };
        let item = AppendItem {
            stream,
            expected_version: version,
            decision: Decision::Append(events.iter().map(new).collect()),
            command: CommandRecord {
                scope: "bench".into(),
                key: Uuid::now_v7().to_string().into(),
                fingerprint: Fingerprint([0; 32]),
                outcome: "{}".to_owned(),
            },
            claims: Vec::new(),
        };
        match self.0.iter_mut().find(|(of, _)| *of == source) {
            Some((_, items)) => items.push(item),
            None => self.0.push((source, vec![item])),
        }
    }
}

/// Who buys what.
#[derive(Default)]
struct Shop {
    customers: Vec<(UserId, u64)>,
    products: Vec<(ProductId, u64)>,
    cursor: u64,
    orders_per_customer: u64,
}

impl Shop {
    /// Everything that happens around order `n`.
    fn order(&mut self, n: u64, news: &mut News) {
        if n.is_multiple_of(self.orders_per_customer) || self.customers.is_empty() {
            self.register(n, news);
        }
        if (self.products.len() as u64) < PRODUCTS_MAX {
            self.add(n, news);
        }
        self.change(n, news);
        let customer_id = self.customers[self.customers.len() - 1].0;
        let order_id = OrderId(Uuid::now_v7());
        let lines: Vec<OrderLine> = (0..LINES).map(|line| self.line(n * 7 + line * 131)).collect();
        let total_minor = lines.iter().map(|line| line.total_minor().expect("a small line")).sum();
        let amount = Money::new(total_minor, Currency::USD);
        let at = time(n);
        let stream = |kind: &str, id: Uuid| StreamId::new(kind, id.to_string());
        let placed = OrderPlaced {
            order_id,
            customer_id,
            lines: lines.clone(),
            placed_at: at,
            payment_method: None,
            external_ref: n.is_multiple_of(4).then(|| format!("web-{n}")),
        };
        let mut of_order = vec![OrderEvent::from(placed)];
        let is_cancelled = n % 50 == 49;
        if is_cancelled {
            let reason = "found \"cheaper\" elsewhere".to_owned();
            of_order.push(OrderCancelled { order_id, customer_id, reason, rejected: false }.into());
        }
        news.add(orders::SOURCE, stream(orders::ORDER, order_id.0), 0, &of_order);
        let payment_id = PaymentId(Uuid::now_v7());
        let of_payment: [PaymentEvent; 2] = [
            AuthorizationRequested {
                payment_id,
                order_id,
                amount,
                payment_method: "pm_approve".parse().expect("a method"),
                requested_at: at,
            }
            .into(),
            PaymentAuthorized {
                payment_id,
                order_id,
                amount,
                gateway_reference: format!("sim_{n}"),
                expires_at: at + TimeDelta::days(7),
            }
            .into(),
        ];
        news.add(payments::SOURCE, stream(payments::PAYMENT, payment_id.0), 0, &of_payment);
        // as many as make four events an order, with what users and products have said
        if !is_cancelled && n % 8 != 7 {
            let shipment_id = ShipmentId(Uuid::now_v7());
            let address = Address {
                street: format!("{n} Long Road"),
                city: "Lisboa".to_owned(),
                region: None,
                postal_code: Some("1000-001".to_owned()),
                country: "PT".to_owned(),
            };
            let scheduled: ShipmentEvent = ShipmentScheduled {
                shipment_id,
                order_id,
                customer_id,
                lines: lines
                    .iter()
                    .map(|line| ShipmentLine { product_id: line.product_id, quantity: line.quantity })
                    .collect(),
                address: Personal::of(customer_id, address),
            }
            .into();
            news.add(shipping::SOURCE, stream(shipping::SHIPMENT, shipment_id.0), 0, &[scheduled]);
        }
    }

    fn register(&mut self, n: u64, news: &mut News) {
        let user_id = UserId(Uuid::now_v7());
        let registered: UserEvent = UserRegistered {
            user_id,
            name: Personal::of(user_id, format!("Customer Número {n}")),
            email: Personal::of(user_id, format!("customer{n}@example.org")),
            address: None,
            external_ref: None,
        }
        .into();
        news.add(users::SOURCE, StreamId::new(users::USER, user_id.to_string()), 0, &[registered]);
        self.customers.push((user_id, 1));
    }

    fn add(&mut self, n: u64, news: &mut News) {
        let product_id = ProductId(Uuid::now_v7());
        let added: ProductEvent = ProductAdded {
            product_id,
            sku: format!("SKU-{n:05}"),
            name: format!("Product of the house, number {n}"),
            unit_price: price(n),
            external_ref: None,
        }
        .into();
        news.add(catalog::SOURCE, StreamId::new(catalog::PRODUCT, product_id.to_string()), 0, &[added]);
        self.products.push((product_id, 1));
    }

    /// Now and then somebody is renamed, moves to another address or leaves, and products change.
    fn change(&mut self, n: u64, news: &mut News) {
        let changed: Option<fn(UserId, u64) -> UserEvent> = match n % 1_000 {
            500 => Some(|user_id, _| UserErased { user_id }.into()),
            place if place % 100 == 30 => {
                Some(|user_id, n| UserRenamed { user_id, name: Personal::of(user_id, format!("Renamed {n}")) }.into())
            }
            place if place % 250 == 70 => Some(|user_id, n| {
                EmailChanged { user_id, email: Personal::of(user_id, format!("new{n}@example.org")) }.into()
            }),
            _ => None,
        };
        // of those before the last one: an event of theirs may be in this batch already
        if let Some(changed) = changed
            && self.customers.len() > 200
        {
            self.cursor += 1;
            // each but once: nothing is said of who has left
            let (user_id, version) = &mut self.customers[self.cursor as usize];
            let stream = StreamId::new(users::USER, user_id.to_string());
            news.add(users::SOURCE, stream, *version, &[changed(*user_id, n)]);
            *version += 1;
        }
        if n % 1_000 == 800 {
            let place = (n / 1_000) as usize % self.products.len();
            let (product_id, version) = &mut self.products[place];
            let event: ProductEvent = match n % 3_000 {
                800 => ProductDiscontinued { product_id: *product_id }.into(),
                _ => ProductRenamed { product_id: *product_id, name: format!("Product under a new name, {n}") }.into(),
            };
            let stream = StreamId::new(catalog::PRODUCT, product_id.to_string());
            news.add(catalog::SOURCE, stream, *version, &[event]);
            *version += 1;
        }
    }

    fn line(&self, n: u64) -> OrderLine {
        let place = (n % self.products.len() as u64) as usize;
        OrderLine {
            product_id: self.products[place].0,
            product_name: format!("Product of the house, number {place}"),
            quantity: 1 + (n % 4) as u32,
            unit_price: price(place as u64),
            discount_bp: if n.is_multiple_of(5) { 1_000 } else { 0 },
        }
    }
}

fn price(n: u64) -> Money {
    Money::new(199 + (n % 100 * 50) as i64, Currency::USD)
}

/// One order a minute.
fn time(n: u64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_700_000_000, 0).expect("a time") + TimeDelta::minutes(n.cast_signed())
}
