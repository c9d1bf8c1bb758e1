//! The services' logs, the projector on them, and the endpoint on what it makes: all real but the disk of the logs.
#![allow(dead_code, reason = "each test file uses its part")]

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use chrono::{DateTime, TimeDelta, Utc};
use cqrs_es::DomainEvent;
use event_store::{
    feed::Feed,
    limits::Limits,
    log::{AppendItem, AppendOutcome, Batch, CommandRecord, Decision, EventLog, Fingerprint, NewEvent},
    memory::MemoryLog,
};
use events::{
    catalog::{ProductAdded, ProductDiscontinued, ProductEvent},
    consistency::ConsistencyToken,
    envelope::StreamId,
    ids::{CustomerId, OrderId, PaymentId, ProductId, ShipmentId, UserId},
    inventory::StockEvent,
    money::{Currency, Money},
    orders::{OrderEvent, OrderImported, OrderLine, OrderStatus},
    payments::PaymentEvent,
    personal::Personal,
    shipping::ShipmentEvent,
    users::{UserEvent, UserRegistered, UserRenamed},
};
use graphql::GraphqlOptions;
use projections::{
    Projector, ProjectorHandle, ProjectorOptions,
    kit::{Kind, Place},
};
use uuid::Uuid;

use crate::support::Endpoint;

pub struct Shop {
    pub endpoint: Endpoint,
    users: Arc<MemoryLog>,
    catalog: Arc<MemoryLog>,
    orders: Arc<MemoryLog>,
    inventory: Arc<MemoryLog>,
    payments: Arc<MemoryLog>,
    shipping: Arc<MemoryLog>,
    projector: ProjectorHandle,
    commands: AtomicU64,
    pub place: Place,
}

impl Shop {
    pub async fn open() -> Self {
        Self::open_in(Place::sqlite()).await
    }

    pub async fn open_on(kind: Kind) -> Self {
        Self::open_in(match kind {
            Kind::Sqlite => Place::sqlite(),
            Kind::Postgres => Place::postgres(testkit::postgres::fresh_database("graphql").await),
        })
        .await
    }

    async fn open_in(place: Place) -> Self {
        let read = place.read();
        let logs = ["users", "catalog", "orders", "inventory", "payments", "shipping"].map(MemoryLog::new);
        let feeds: Vec<Arc<dyn Feed>> = logs.iter().map(|log| Arc::clone(log) as Arc<dyn Feed>).collect();
        let [users, catalog, orders, inventory, payments, shipping] = logs;
        let options = ProjectorOptions { wake: read.wake(), ..ProjectorOptions::default() };
        let projector = Projector::start(place.database().await, feeds, options).await.unwrap();
        let endpoint = Endpoint::over(read, GraphqlOptions::default());
        let commands = AtomicU64::new(0);
        Self { endpoint, users, catalog, orders, inventory, payments, shipping, projector, commands, place }
    }

    /// Everything that happened is in the rows.
    pub async fn caught_up(&self) {
        self.projector.caught_up().await;
    }

    /// Nothing that happens from now on gets into the rows.
    pub async fn stop_projecting(&self) {
        self.projector.shutdown().await;
    }

    pub async fn customer(&self, n: u128, name: &str) -> ConsistencyToken {
        let event = UserRegistered {
            user_id: customer(n),
            name: Personal::of(customer(n), name.to_owned()),
            email: Personal::of(customer(n), format!("{n}@example.org")),
            address: None,
            external_ref: None,
        };
        self.append(&self.users, "user", customer(n).0, 0, &UserEvent::from(event)).await
    }

    pub async fn rename(&self, n: u128, version: u64, name: &str) -> ConsistencyToken {
        let event = UserRenamed { user_id: customer(n), name: Personal::of(customer(n), name.to_owned()) };
        self.append(&self.users, "user", customer(n).0, version, &UserEvent::from(event)).await
    }

    /// A product that can no longer be ordered.
    pub async fn old_product(&self, n: u128, name: &str) {
        let added = ProductAdded {
            product_id: product(n),
            sku: format!("SKU-{n}"),
            name: name.to_owned(),
            unit_price: Money::new(1_000, Currency::USD),
            external_ref: None,
        };
        self.append(&self.catalog, "product", product(n).0, 0, &ProductEvent::from(added)).await;
        let discontinued = ProductDiscontinued { product_id: product(n) };
        self.append(&self.catalog, "product", product(n).0, 1, &ProductEvent::from(discontinued)).await;
    }

    /// Order `n`: placed `n` seconds into 2026, two lines (products 1 and 2), external reference `ref-<n>`.
    pub async fn order(&self, n: u128, customer: CustomerId, status: OrderStatus) -> ConsistencyToken {
        let lines = vec![line(1, 3, 35, 1_000), line(2, 1_000_000, 5_000_000_000, 0)];
        self.order_of(n, customer, status, i64::try_from(n).unwrap(), lines).await
    }

    /// Order `n`, placed so many seconds into 2026.
    pub async fn order_of(
        &self,
        n: u128,
        customer: CustomerId,
        status: OrderStatus,
        second: i64,
        lines: Vec<OrderLine>,
    ) -> ConsistencyToken {
        let new_year: DateTime<Utc> = "2026-01-01T00:00:00Z".parse().unwrap();
        let event = OrderImported {
            order_id: order(n),
            customer_id: customer,
            lines,
            status,
            placed_at: new_year + TimeDelta::seconds(second),
            shipped_at: None,
            external_ref: format!("ref-{n}"),
        };
        self.append(&self.orders, "order", order(n).0, 0, &OrderEvent::from(event)).await
    }

    /// Whatever the orders service says of order `n`, as the event that makes its stream's `version` one more.
    pub async fn said_of_order(&self, n: u128, version: u64, event: &OrderEvent) -> ConsistencyToken {
        self.append(&self.orders, "order", order(n).0, version, event).await
    }

    pub async fn stock(&self, n: u128, version: u64, event: &StockEvent) -> ConsistencyToken {
        self.append(&self.inventory, "stock_item", product(n).0, version, event).await
    }

    pub async fn payment(&self, n: u128, version: u64, event: &PaymentEvent) -> ConsistencyToken {
        self.append(&self.payments, "payment", payment(n).0, version, event).await
    }

    pub async fn shipment(&self, n: u128, version: u64, event: &ShipmentEvent) -> ConsistencyToken {
        self.append(&self.shipping, "shipment", shipment(n).0, version, event).await
    }

    async fn append<E: DomainEvent>(
        &self,
        log: &Arc<MemoryLog>,
        aggregate_type: &str,
        id: Uuid,
        expected_version: u64,
        event: &E,
    ) -> ConsistencyToken {
        let event_id = Uuid::now_v7();
        let event = NewEvent {
            event_id,
            event_type: event.event_type().into(),
            event_version: event.event_version().into(),
            payload: serde_json::to_string(event).unwrap(),
            metadata: "{}".to_owned(),
        };
        let key = self.commands.fetch_add(1, Ordering::Relaxed).to_string();
        let item = AppendItem {
            stream: StreamId::new(aggregate_type, id.to_string()),
            expected_version,
            decision: Decision::Append(vec![event]),
            command: CommandRecord {
                scope: "test".into(),
                key: key.into(),
                fingerprint: Fingerprint([0; 32]),
                outcome: "{}".to_owned(),
            },
            claims: vec![],
        };
        let batch = Batch::try_new(vec![item], &Limits::default()).unwrap();
        match log.commit(Arc::new(batch)).await.unwrap().remove(0) {
            AppendOutcome::Appended { position, .. } => {
                ConsistencyToken::of(log.source(), log.identity().epoch, position, Some(event_id))
            }
            other => panic!("not appended: {other:?}"),
        }
    }
}

/// A line of an order, of a product as it was ordered, in USD.
pub fn line(product_number: u128, quantity: u32, unit_minor: i64, discount_bp: u16) -> OrderLine {
    OrderLine {
        product_id: product(product_number),
        product_name: format!("Product {product_number} as ordered"),
        quantity,
        unit_price: Money::new(unit_minor, Currency::USD),
        discount_bp,
    }
}

pub fn customer(n: u128) -> CustomerId {
    UserId(Uuid::from_u128(0x1_0000 + n))
}

pub fn product(n: u128) -> ProductId {
    ProductId(Uuid::from_u128(0x2_0000 + n))
}

pub fn order(n: u128) -> OrderId {
    OrderId(Uuid::from_u128(0x3_0000 + n))
}

pub fn payment(n: u128) -> PaymentId {
    PaymentId(Uuid::from_u128(0x4_0000 + n))
}

pub fn shipment(n: u128) -> ShipmentId {
    ShipmentId(Uuid::from_u128(0x5_0000 + n))
}
