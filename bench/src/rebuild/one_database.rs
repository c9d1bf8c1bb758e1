//! The limit: all events in one database, and one SQL statement that computes the same table from them.
//!
//! It has what a rebuild has not: one snapshot of everything, no network, no checkpoint, nothing to go on from
//! afterwards (no facets, no links, no references). It knows only the events that this history has, and that a payment is
//! authorized once and an order shipped once: it is written for this comparison, not to be maintained.

use std::path::Path;

use anyhow::{Context, ensure};
use event_store::feed::{Cursor, PageLimit};
use rusqlite::Connection;
use sqlx::{AssertSqlSafe, Connection as _, Executor, PgConnection};

use super::history::Logs;

/// The table as readers see it; its indexes are those of the read model.
pub const COLUMNS: [&str; 22] = [
    "order_id",
    "external_ref",
    "customer_id",
    "customer_name",
    "customer_email",
    "status",
    "placed_at_us",
    "shipped_at_us",
    "lines",
    "total_minor",
    "currency",
    "updated_at_us",
    "confirmed_at_us",
    "cancelled_at_us",
    "cancel_reason",
    "rejected",
    "delivered_at_us",
    "returned_at_us",
    "return_reason",
    "reservation",
    "payment",
    "shipment",
];

const INDEXES: [&str; 6] = [
    "create index one_newest on one (placed_at_us desc, order_id desc)",
    "create index one_customer on one (customer_id, placed_at_us desc, order_id desc)",
    "create index one_status on one (status, placed_at_us desc, order_id desc)",
    "create index one_external_ref on one (external_ref)",
    "create index one_total on one (total_minor desc, order_id desc)",
    "create index one_updated on one (updated_at_us desc, order_id desc)",
];

pub struct Postgres(PgConnection);

impl Postgres {
    /// Copies the logs' events into one table, as they are.
    pub async fn copy(url: &str, logs: &Logs) -> anyhow::Result<Self> {
        let mut connection = PgConnection::connect(url).await.context("connect to PostgreSQL")?;
        let table = "create table events (source text, position bigint, event_type text, payload json, \
                     recorded_at timestamptz, primary key (source, position))";
        connection.execute(table).await.context("make a table of all events")?;
        for feed in logs.feeds() {
            let mut cursor = Cursor::START;
            loop {
                let page =
                    feed.page(cursor, PageLimit::events(PageLimit::EVENTS_MAX), std::time::Duration::ZERO).await?;
                let Some(last) = page.events.last() else { break };
                cursor = Cursor::at(last);
                sqlx::query(
                    "insert into events select $1, * from unnest($2::int8[], $3::text[], $4::json[], $5::timestamptz[])",
                )
                .bind(&**feed.source())
                .bind(page.events.iter().map(|event| event.position.cast_signed()).collect::<Vec<_>>())
                .bind(page.events.iter().map(|event| event.event_type.to_string()).collect::<Vec<_>>())
                .bind(page.events.iter().map(|event| sqlx::types::Json(raw(&event.payload))).collect::<Vec<_>>())
                .bind(page.events.iter().map(|event| event.recorded_at).collect::<Vec<_>>())
                .execute(&mut connection)
                .await
                .context("copy events")?;
            }
        }
        connection.execute("vacuum analyze events").await.context("analyze the events")?;
        connection.execute(AT_ITS_BEST).await.context("set the session")?;
        Ok(Self(connection))
    }

    /// Computes the table and its indexes, from nothing.
    pub async fn compute(&mut self) -> anyhow::Result<()> {
        for statement in [POSTGRES_TABLE, POSTGRES].into_iter().chain(INDEXES) {
            self.0.execute(AssertSqlSafe(statement)).await.context("compute the table")?;
        }
        Ok(())
    }

    pub async fn rows(&mut self) -> anyhow::Result<Vec<serde_json::Value>> {
        super::postgres_rows(&mut self.0, "one").await
    }

    pub async fn forget(&mut self) -> anyhow::Result<()> {
        self.0.execute("drop table if exists one").await.context("drop the table")?;
        self.0.execute("checkpoint").await.context("write what is to be written")?;
        Ok(())
    }
}

/// The planner cannot know how many rows come out of a CTE, and takes nested loops over them: above some 80,000 events it
/// would never end. Hash joins and sorts get the memory that a rebuild has.
const AT_ITS_BEST: &str =
    "set enable_nestloop = off; set work_mem = '256MB'; set maintenance_work_mem = '256MB'; set jit = off";

fn raw(payload: &str) -> Box<serde_json::value::RawValue> {
    serde_json::value::RawValue::from_string(payload.to_owned()).expect("a payload is JSON")
}

const POSTGRES_TABLE: &str = "create table one (order_id text collate \"C\" primary key, external_ref text collate \"C\", \
    customer_id text collate \"C\", customer_name text collate \"C\", customer_email text collate \"C\", \
    status text collate \"C\", placed_at_us bigint, shipped_at_us bigint, lines text collate \"C\", total_minor bigint, \
    currency text collate \"C\", updated_at_us bigint, confirmed_at_us bigint, cancelled_at_us bigint, \
    cancel_reason text collate \"C\", rejected boolean, delivered_at_us bigint, returned_at_us bigint, \
    return_reason text collate \"C\", reservation text collate \"C\", payment text collate \"C\", \
    shipment text collate \"C\")";

const POSTGRES: &str = "insert into one
with customer as materialized (
  select r.user_id, bool_or(e.event_type = 'UserErased') as erased,
    (array_agg(r.name ->> 'value' order by e.position desc) filter (where r.name is not null))[1] as name,
    (array_agg(r.email ->> 'value' order by e.position desc) filter (where r.email is not null))[1] as email
  from events e cross join lateral json_to_record(e.payload) as r (user_id text, name json, email json)
  where e.source = 'users' group by r.user_id
), product as materialized (
  select r.product_id, max(r.sku) as sku, bool_or(e.event_type = 'ProductDiscontinued') as discontinued,
    (array_agg(r.name order by e.position desc) filter (where r.name is not null))[1] as name
  from events e cross join lateral json_to_record(e.payload) as r (product_id text, sku text, name text)
  where e.source = 'catalog' group by r.product_id
), placed as materialized (
  select r.*, (extract(epoch from e.recorded_at) * 1000000)::bigint as recorded_at_us
  from events e cross join lateral json_to_record(e.payload)
    as r (order_id text, customer_id text, lines json, placed_at timestamptz, external_ref text)
  where e.source = 'orders' and e.event_type = 'OrderPlaced'
), cancelled as materialized (
  select r.*, (extract(epoch from e.recorded_at) * 1000000)::bigint as recorded_at_us
  from events e cross join lateral json_to_record(e.payload) as r (order_id text, reason text, rejected boolean)
  where e.source = 'orders' and e.event_type = 'OrderCancelled'
), line as (
  select p.order_id, sum(t.total) as total_minor, min(x.unit_price ->> 'currency') as currency,
    json_agg(json_build_object('product_id', x.product_id, 'product_name', x.product_name, 'quantity', x.quantity,
      'unit_price_minor', u.minor, 'currency', x.unit_price ->> 'currency', 'discount_bp', x.discount_bp,
      'total_minor', t.total, 'product', json_build_object('sku', product.sku, 'name', product.name,
      'discontinued', product.discontinued)) order by l.n) as lines
  from placed p cross join lateral json_array_elements(p.lines) with ordinality as l (line, n)
  cross join lateral json_to_record(l.line)
    as x (product_id text, product_name text, quantity bigint, unit_price json, discount_bp bigint)
  cross join lateral (select (x.unit_price ->> 'amount_minor')::bigint as minor) as u
  cross join lateral (select (u.minor * x.quantity * (10000 - x.discount_bp) + 5000) / 10000 as total) as t
  left join product on product.product_id = x.product_id
  group by p.order_id
), payment as (
  select r.order_id, r.payment_id, min(r.amount ->> 'currency') as currency,
    max((r.amount ->> 'amount_minor')::bigint) filter (where e.event_type = 'PaymentAuthorized') as authorized_minor,
    (extract(epoch from min(e.recorded_at)) * 1000000)::bigint as begun_at_us,
    (extract(epoch from max(e.recorded_at)) * 1000000)::bigint as updated_at_us,
    (extract(epoch from max(e.recorded_at) filter (where e.event_type = 'PaymentAuthorized')) * 1000000)::bigint
      as authorized_at_us,
    (extract(epoch from max(r.expires_at)) * 1000000)::bigint as expires_at_us
  from events e cross join lateral json_to_record(e.payload)
    as r (order_id text, payment_id text, amount json, expires_at timestamptz)
  where e.source = 'payments' group by r.order_id, r.payment_id
), paid as (
  select order_id, sum(authorized_minor) as authorized_minor, count(*) as count,
    json_agg(json_build_object('payment_id', payment_id,
      'status', case when authorized_at_us is null then 'REQUESTED' else 'AUTHORIZED' end, 'currency', currency,
      'authorized_minor', coalesce(authorized_minor, 0), 'captured_minor', 0, 'refunded_minor', 0, 'voided_minor', 0,
      'expired_minor', 0, 'declined_reason', null, 'failed_reason', null, 'begun_at_us', begun_at_us,
      'authorized_at_us', authorized_at_us, 'captured_at_us', null, 'expires_at_us', expires_at_us,
      'updated_at_us', updated_at_us) order by begun_at_us, payment_id) as payments
  from payment group by order_id
), shipped as (
  select r.order_id, count(*) as count, json_agg(json_build_object('shipment_id', r.shipment_id, 'status', 'SCHEDULED',
    'carrier', null, 'tracking', null, 'begun_at_us', t.us, 'dispatched_at_us', null, 'delivered_at_us', null,
    'reason', null, 'updated_at_us', t.us) order by e.position) as shipments
  from events e cross join lateral json_to_record(e.payload) as r (order_id text, shipment_id text)
  cross join lateral (select (extract(epoch from e.recorded_at) * 1000000)::bigint as us) as t
  where e.source = 'shipping' group by r.order_id
)
select p.order_id, p.external_ref, p.customer_id,
  case when customer.erased then null else customer.name end, case when customer.erased then null else customer.email end,
  case when cancelled.order_id is null then 'PENDING' else 'CANCELLED' end,
  (extract(epoch from p.placed_at) * 1000000)::bigint, null, line.lines::text, line.total_minor, line.currency,
  coalesce(cancelled.recorded_at_us, p.recorded_at_us), null, cancelled.recorded_at_us, cancelled.reason,
  coalesce(cancelled.rejected, false), null, null, null, null,
  json_build_object('authorized_minor', coalesce(paid.authorized_minor, 0), 'captured_minor', 0, 'refunded_minor', 0,
    'voided_minor', 0, 'expired_minor', 0, 'count', paid.count, 'payments', paid.payments)::text,
  case when shipped.order_id is null then null
    else json_build_object('count', shipped.count, 'shipments', shipped.shipments)::text end
from placed p join line on line.order_id = p.order_id
left join customer on customer.user_id = p.customer_id
left join cancelled on cancelled.order_id = p.order_id
left join paid on paid.order_id = p.order_id
left join shipped on shipped.order_id = p.order_id";

pub struct Sqlite(Connection);

impl Sqlite {
    /// Copies the logs' events into one table, as they are.
    pub async fn copy(file: &Path, logs: &Logs) -> anyhow::Result<Self> {
        let connection = Connection::open(file).context("open a file for all events")?;
        // as a read model's file is opened
        connection.execute_batch(
            "pragma journal_mode = wal; pragma synchronous = normal; pragma cache_size = -65536; \
             create table events (source text, position integer, event_type text, payload text, recorded_at_us integer, \
             primary key (source, position)) without rowid;",
        )?;
        for feed in logs.feeds() {
            let mut cursor = Cursor::START;
            loop {
                let page =
                    feed.page(cursor, PageLimit::events(PageLimit::EVENTS_MAX), std::time::Duration::ZERO).await?;
                let Some(last) = page.events.last() else { break };
                cursor = Cursor::at(last);
                connection.execute_batch("begin")?;
                let mut insert = connection.prepare_cached("insert into events values (?1, ?2, ?3, ?4, ?5)")?;
                for event in &page.events {
                    insert.execute((
                        &**feed.source(),
                        event.position.cast_signed(),
                        &*event.event_type,
                        &event.payload,
                        event.recorded_at.timestamp_micros(),
                    ))?;
                }
                connection.execute_batch("commit")?;
            }
        }
        connection.execute_batch("analyze")?;
        Ok(Self(connection))
    }

    /// Computes the table and its indexes, from nothing.
    pub fn compute(&self) -> anyhow::Result<()> {
        self.0.execute_batch("begin").context("begin")?;
        for statement in [SQLITE_TABLE, SQLITE].into_iter().chain(INDEXES) {
            self.0.execute(statement, ()).context("compute the table")?;
        }
        self.0.execute_batch("commit").context("commit")
    }

    pub fn rows(&self) -> anyhow::Result<Vec<serde_json::Value>> {
        super::rows_of(&self.0, "one")
    }

    pub fn forget(&self) -> anyhow::Result<()> {
        self.0.execute_batch("drop table if exists one; pragma wal_checkpoint(truncate)").context("drop the table")
    }
}

const SQLITE_TABLE: &str = "create table one (order_id text primary key, external_ref text, customer_id text, \
    customer_name text, customer_email text, status text, placed_at_us integer, shipped_at_us integer, lines text, \
    total_minor integer, currency text, updated_at_us integer, confirmed_at_us integer, cancelled_at_us integer, \
    cancel_reason text, rejected boolean, delivered_at_us integer, returned_at_us integer, return_reason text, \
    reservation text, payment text, shipment text)";

// times of this history are whole seconds
const SQLITE: &str = "insert into one
with customer as materialized (
  select payload ->> 'user_id' as user_id, max(event_type = 'UserErased') as erased,
    (json_group_array(payload -> '$.name.value' order by position desc)
      filter (where payload -> '$.name' is not null)) ->> '$[0]' as name,
    (json_group_array(payload -> '$.email.value' order by position desc)
      filter (where payload -> '$.email' is not null)) ->> '$[0]' as email
  from events where source = 'users' group by 1
), product as materialized (
  select payload ->> 'product_id' as product_id, max(payload ->> 'sku') as sku,
    max(event_type = 'ProductDiscontinued') as discontinued,
    (json_group_array(payload ->> 'name' order by position desc)
      filter (where payload ->> 'name' is not null)) ->> '$[0]' as name
  from events where source = 'catalog' group by 1
), placed as materialized (
  select payload ->> 'order_id' as order_id, payload ->> 'customer_id' as customer_id, payload -> 'lines' as lines,
    unixepoch(payload ->> 'placed_at') * 1000000 as placed_at_us, payload ->> 'external_ref' as external_ref,
    recorded_at_us
  from events where source = 'orders' and event_type = 'OrderPlaced'
), cancelled as materialized (
  select payload ->> 'order_id' as order_id, payload ->> 'reason' as reason, payload ->> 'rejected' as rejected,
    recorded_at_us
  from events where source = 'orders' and event_type = 'OrderCancelled'
), priced as (
  select p.order_id, l.key as n, l.value ->> 'product_id' as product_id, l.value ->> 'product_name' as product_name,
    l.value ->> 'quantity' as quantity, l.value ->> '$.unit_price.amount_minor' as minor,
    l.value ->> '$.unit_price.currency' as currency, l.value ->> 'discount_bp' as discount_bp
  from placed p, json_each(p.lines) l
), line as materialized (
  select x.order_id, sum((x.minor * x.quantity * (10000 - x.discount_bp) + 5000) / 10000) as total_minor,
    min(x.currency) as currency,
    json_group_array(json_object('product_id', x.product_id, 'product_name', x.product_name, 'quantity', x.quantity,
      'unit_price_minor', x.minor, 'currency', x.currency, 'discount_bp', x.discount_bp,
      'total_minor', (x.minor * x.quantity * (10000 - x.discount_bp) + 5000) / 10000,
      'product', json_object('sku', product.sku, 'name', product.name,
        'discontinued', json(case when product.discontinued then 'true' else 'false' end))) order by x.n) as lines
  from priced x left join product on product.product_id = x.product_id group by x.order_id
), payment as (
  select payload ->> 'order_id' as order_id, payload ->> 'payment_id' as payment_id,
    min(payload ->> '$.amount.currency') as currency,
    max(payload ->> '$.amount.amount_minor') filter (where event_type = 'PaymentAuthorized') as authorized_minor,
    min(recorded_at_us) as begun_at_us, max(recorded_at_us) as updated_at_us,
    max(recorded_at_us) filter (where event_type = 'PaymentAuthorized') as authorized_at_us,
    max(unixepoch(payload ->> 'expires_at')) * 1000000 as expires_at_us
  from events where source = 'payments' group by 1, 2
), paid as materialized (
  select order_id, sum(authorized_minor) as authorized_minor, count(*) as count,
    json_group_array(json_object('payment_id', payment_id,
      'status', case when authorized_at_us is null then 'REQUESTED' else 'AUTHORIZED' end, 'currency', currency,
      'authorized_minor', coalesce(authorized_minor, 0), 'captured_minor', 0, 'refunded_minor', 0, 'voided_minor', 0,
      'expired_minor', 0, 'declined_reason', null, 'failed_reason', null, 'begun_at_us', begun_at_us,
      'authorized_at_us', authorized_at_us, 'captured_at_us', null, 'expires_at_us', expires_at_us,
      'updated_at_us', updated_at_us) order by begun_at_us, payment_id) as payments
  from payment group by order_id
), shipped as materialized (
  select payload ->> 'order_id' as order_id, count(*) as count,
    json_group_array(json_object('shipment_id', payload ->> 'shipment_id', 'status', 'SCHEDULED', 'carrier', null,
      'tracking', null, 'begun_at_us', recorded_at_us, 'dispatched_at_us', null, 'delivered_at_us', null, 'reason', null,
      'updated_at_us', recorded_at_us) order by position) as shipments
  from events where source = 'shipping' group by 1
)
select p.order_id, p.external_ref, p.customer_id, iif(customer.erased, null, customer.name),
  iif(customer.erased, null, customer.email), iif(cancelled.order_id is null, 'PENDING', 'CANCELLED'), p.placed_at_us, null,
  line.lines, line.total_minor, line.currency, coalesce(cancelled.recorded_at_us, p.recorded_at_us), null,
  cancelled.recorded_at_us, cancelled.reason, coalesce(cancelled.rejected, 0), null, null, null, null,
  json_object('authorized_minor', coalesce(paid.authorized_minor, 0), 'captured_minor', 0, 'refunded_minor', 0,
    'voided_minor', 0, 'expired_minor', 0, 'count', paid.count, 'payments', json(paid.payments)),
  iif(shipped.order_id is null, null, json_object('count', shipped.count, 'shipments', json(shipped.shipments)))
from placed p join line on line.order_id = p.order_id
left join customer on customer.user_id = p.customer_id
left join cancelled on cancelled.order_id = p.order_id
left join paid on paid.order_id = p.order_id
left join shipped on shipped.order_id = p.order_id";

/// Ensures that two tables hold the same: what readers see of every order.
pub fn ensure_same(ours: &[serde_json::Value], theirs: &[serde_json::Value]) -> anyhow::Result<()> {
    ensure!(ours.len() == theirs.len(), "{} rows and {} rows", ours.len(), theirs.len());
    for (one, other) in ours.iter().zip(theirs) {
        ensure!(one == other, "a row differs:\n{one}\n{other}");
    }
    Ok(())
}
