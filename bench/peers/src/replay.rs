//! Rebuilding a read model with `QueryReplay`: every event of every order, one after the other, into a view each.
//!
//! All four events of an order are of one aggregate in one store, because the framework knows no other way: that is less
//! than to bring several services together. What a view holds is about what a row of the project's `order_details` holds.

use std::{fmt, sync::Arc, time::Instant};

use anyhow::{Context, ensure};
use cqrs_es::{
    Aggregate, DomainEvent, EventEnvelope, View,
    event_sink::EventSink,
    persist::{GenericQuery, QueryReplay},
};
use postgres_es::{PostgresEventRepository, PostgresViewRepository};
use serde::{Deserialize, Serialize};
use sqlx::PgPool;
use uuid::Uuid;

use crate::EVENTS_TABLE;

/// Rows of one statement while events are written.
const ROWS_MAX: usize = 10_000;

/// Views of the project's rows, by the framework's own DDL.
const VIEWS_TABLE: &str = "
create table if not exists orders
(
    view_id text                        not null,
    version bigint check (version >= 0) not null,
    payload json                        not null,
    primary key (view_id)
)";

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Line {
    product_id: Uuid,
    product_name: String,
    quantity: u32,
    unit_price_minor: i64,
    currency: String,
    discount_bp: u16,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum OrderEvent {
    Placed { order_id: Uuid, customer_id: Uuid, customer_name: String, lines: Vec<Line>, placed_at: String },
    AuthorizationRequested { payment_id: Uuid, amount_minor: i64, currency: String, requested_at: String },
    Authorized { payment_id: Uuid, amount_minor: i64, gateway_reference: String, expires_at: String },
    Scheduled { shipment_id: Uuid, address: String },
}

impl OrderEvent {
    /// The life of order `n`.
    fn of_order(n: u64) -> [Self; 4] {
        let (currency, at) = ("USD".to_owned(), "2026-11-21T12:00:00Z".to_owned());
        let line = |line: u64| Line {
            product_id: Uuid::from_u128(u128::from((n + line) % 500)),
            product_name: format!("Product of the house, number {}", (n + line) % 500),
            quantity: 2,
            unit_price_minor: 1_999,
            currency: currency.clone(),
            discount_bp: 0,
        };
        let payment_id = Uuid::now_v7();
        [
            Self::Placed {
                order_id: Uuid::now_v7(),
                customer_id: Uuid::from_u128(u128::from(n / 10)),
                customer_name: format!("Customer Número {n}"),
                lines: (0..3).map(line).collect(),
                placed_at: at.clone(),
            },
            Self::AuthorizationRequested {
                payment_id,
                amount_minor: 11_994,
                currency: currency.clone(),
                requested_at: at.clone(),
            },
            Self::Authorized {
                payment_id,
                amount_minor: 11_994,
                gateway_reference: format!("sim_{n}"),
                expires_at: at,
            },
            Self::Scheduled { shipment_id: Uuid::now_v7(), address: format!("{n} Long Road, 1000-001 Lisboa") },
        ]
    }
}

impl DomainEvent for OrderEvent {
    fn event_type(&self) -> String {
        match self {
            Self::Placed { .. } => "Placed",
            Self::AuthorizationRequested { .. } => "AuthorizationRequested",
            Self::Authorized { .. } => "Authorized",
            Self::Scheduled { .. } => "Scheduled",
        }
        .to_owned()
    }

    fn event_version(&self) -> String {
        "1".to_owned()
    }
}

/// Nothing is decided here.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Order;

#[derive(Debug)]
struct Never;

impl fmt::Display for Never {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("nothing is refused")
    }
}

impl std::error::Error for Never {}

impl Aggregate for Order {
    const TYPE: &'static str = "order";
    type Command = ();
    type Event = OrderEvent;
    type Error = Never;
    type Services = ();

    async fn handle(&mut self, (): (), (): &(), _: &EventSink<Self>) -> Result<(), Never> {
        Ok(())
    }

    fn apply(&mut self, _: OrderEvent) {}
}

/// What readers are shown.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct OrderView {
    order_id: Uuid,
    customer_id: Uuid,
    customer_name: String,
    status: String,
    placed_at: String,
    lines: Vec<Line>,
    total_minor: i64,
    payments: Vec<Payment>,
    shipments: Vec<Uuid>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Payment {
    payment_id: Uuid,
    status: String,
    amount_minor: i64,
    currency: String,
    expires_at: Option<String>,
}

impl View<Order> for OrderView {
    fn update(&mut self, event: &EventEnvelope<Order>) {
        match event.payload.clone() {
            OrderEvent::Placed { order_id, customer_id, customer_name, lines, placed_at } => {
                let total = |line: &Line| line.unit_price_minor * i64::from(line.quantity);
                *self = Self {
                    order_id,
                    customer_id,
                    customer_name,
                    status: "PENDING".to_owned(),
                    placed_at,
                    total_minor: lines.iter().map(total).sum(),
                    lines,
                    ..Self::default()
                };
            }
            OrderEvent::AuthorizationRequested { payment_id, amount_minor, currency, requested_at: _ } => {
                let status = "REQUESTED".to_owned();
                self.payments.push(Payment { payment_id, status, amount_minor, currency, expires_at: None });
            }
            OrderEvent::Authorized { payment_id, expires_at, .. } => {
                for payment in self.payments.iter_mut().filter(|payment| payment.payment_id == payment_id) {
                    payment.status = "AUTHORIZED".to_owned();
                    payment.expires_at = Some(expires_at.clone());
                }
            }
            OrderEvent::Scheduled { shipment_id, .. } => self.shipments.push(shipment_id),
        }
    }
}

/// Writes the events if they are not there yet, and replays all of them.
pub async fn run(pool: PgPool, events: u64) -> anyhow::Result<()> {
    for table in [EVENTS_TABLE, VIEWS_TABLE, "truncate orders"] {
        sqlx::query(table).execute(&pool).await.context("make the tables")?;
    }
    let written: i64 = sqlx::query_scalar("select count(*) from events").fetch_one(&pool).await?;
    if written == 0 {
        write(&pool, events).await?;
    }
    let views = Arc::new(PostgresViewRepository::new("orders", pool.clone()));
    let query = GenericQuery::<_, OrderView, Order>::new(views);
    let mut replay = QueryReplay::new(PostgresEventRepository::new(pool.clone()), query);
    replay.use_error_handler(Box::new(|error| panic!("a replay that leaves something out is no replay: {error}")));
    let start = Instant::now();
    replay.replay_all().await.context("replay")?;
    let elapsed = start.elapsed();
    let (views, versions): (i64, i64) =
        sqlx::query_as("select count(*), coalesce(sum(version), 0)::bigint from orders").fetch_one(&pool).await?;
    ensure!(versions.cast_unsigned() == events, "{versions} of {events} events were replayed");
    pool.close().await;
    println!("{}", serde_json::json!({"per_s": events as f64 / elapsed.as_secs_f64(), "views": views}));
    Ok(())
}

async fn write(pool: &PgPool, events: u64) -> anyhow::Result<()> {
    let orders: Vec<u64> = (0..events.div_ceil(4)).collect();
    for orders in orders.chunks(ROWS_MAX / 4) {
        let (mut ids, mut sequences, mut types, mut payloads) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for n in orders {
            let id = Uuid::now_v7().to_string();
            for (event, sequence) in OrderEvent::of_order(*n).into_iter().zip(1_i64..) {
                ids.push(id.clone());
                sequences.push(sequence);
                types.push(event.event_type());
                payloads.push(serde_json::to_value(event)?);
            }
        }
        sqlx::query(
            "insert into events (aggregate_type, aggregate_id, sequence, event_type, event_version, payload, metadata)
             select 'order', id, sequence, type, '1', payload, '{}'
             from unnest($1::text[], $2::int8[], $3::text[], $4::json[]) as e (id, sequence, type, payload)",
        )
        .bind(ids)
        .bind(sequences)
        .bind(types)
        .bind(payloads)
        .execute(pool)
        .await
        .context("write the events")?;
    }
    sqlx::query("vacuum analyze events").execute(pool).await.context("analyze the events table")?;
    Ok(())
}
