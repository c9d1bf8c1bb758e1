//! The replica's rows in the schema `replica` of the orders service's PostgreSQL database.
//!
//! Every transaction runs in a task of its own: a future that is dropped half-way would leave it open on a pooled
//! connection.

use std::time::Duration;

use async_trait::async_trait;
use event_store::follower::{ApplyError, Checkpoint, StoreError, Vector};
use events::money::Money;
use sqlx::{AssertSqlSafe, PgPool, PgTransaction, Row, postgres::PgPoolOptions, raw_sql};

use super::{
    known::{Changes, Known},
    store::{Moved, Rows, Stored, checkpoint, damaged, position, table_of},
};
use crate::orders::order::Offer;

/// In order; a released file never changes.
const MIGRATIONS: [&str; 5] = [
    include_str!("../../../../migrations/orders/postgres/0001_replica.sql"),
    include_str!("../../../../migrations/orders/postgres/0002_fence.sql"),
    include_str!("../../../../migrations/orders/postgres/0003_checkpoint.sql"),
    include_str!("../../../../migrations/orders/postgres/0004_products.sql"),
    include_str!("../../../../migrations/orders/postgres/0005_users.sql"),
];

/// "trib_ord" as a number: whoever migrates the replica holds this lock of the database.
const MIGRATION_LOCK: i64 = 0x7472_6962_5f6f_7264;

/// The follower applies one step at a time; one more connection for its next try after a broken one.
const CONNECTIONS_MAX: u32 = 2;

const CONNECT_WAIT_MAX: Duration = Duration::from_secs(5);

pub struct PostgresRows {
    pool: PgPool,
}

impl PostgresRows {
    /// Connects, and makes the schema if it is missing (the role may create one in its database, or an administrator
    /// has run the migrations).
    pub async fn connect(url: &str) -> Result<Self, sqlx::Error> {
        let pool = PgPoolOptions::new()
            .max_connections(CONNECTIONS_MAX)
            .acquire_timeout(CONNECT_WAIT_MAX)
            .test_before_acquire(false)
            .connect(url)
            .await?;
        let migrating = pool.clone();
        let migrated = tokio::spawn(async move { migrate(&migrating).await }).await;
        migrated.unwrap_or_else(|error| Err(sqlx::Error::Io(std::io::Error::other(error))))?;
        Ok(Self { pool })
    }
}

/// All that is missing in one transaction. Migrations only add, so that the previous release goes on working.
async fn migrate(pool: &PgPool) -> Result<(), sqlx::Error> {
    let done = "select to_regclass('replica.migrations') is not null";
    let count = "select count(*) from replica.migrations";
    let mut transaction = pool.begin().await?;
    sqlx::query("select pg_advisory_xact_lock($1)").bind(MIGRATION_LOCK).execute(&mut *transaction).await?;
    let run: i64 = if sqlx::query_scalar(done).fetch_one(&mut *transaction).await? {
        sqlx::query_scalar(count).fetch_one(&mut *transaction).await?
    } else {
        0
    };
    for (n, sql) in MIGRATIONS.iter().enumerate().skip(usize::try_from(run).unwrap_or(usize::MAX)) {
        raw_sql(*sql).execute(&mut *transaction).await?;
        let table = "create table if not exists replica.migrations (version int4 primary key)";
        raw_sql(table).execute(&mut *transaction).await?;
        let version = i32::try_from(n + 1).expect("there are few migrations");
        sqlx::query("insert into replica.migrations (version) values ($1)")
            .bind(version)
            .execute(&mut *transaction)
            .await?;
    }
    transaction.commit().await
}

#[async_trait]
impl Rows for PostgresRows {
    async fn load(&self, take_fence: bool) -> Result<Stored, StoreError> {
        let pool = self.pool.clone();
        joined(tokio::spawn(async move { load(&pool, take_fence).await }).await)
    }

    async fn fence(&self) -> Result<u64, StoreError> {
        let pool = self.pool.clone();
        let fence = async move { sqlx::query_scalar("select fence from replica.fence").fetch_one(&pool).await };
        let fence: i64 = joined(tokio::spawn(async move { fence.await.map_err(unavailable) }).await)?;
        u64::try_from(fence).map_err(|_| damaged(format!("fence {fence}")))
    }

    async fn write(&self, moved: Moved, changes: &Changes) -> Result<(), ApplyError> {
        let (pool, rows) = (self.pool.clone(), Arrays::of(changes));
        joined(tokio::spawn(async move { write(&pool, &moved, &rows).await }).await)
    }

    async fn forget(&self, source: &str) -> Result<(), StoreError> {
        let (pool, table, source) = (self.pool.clone(), table_of(source)?, source.to_owned());
        joined(tokio::spawn(async move { forget(&pool, table, &source).await.map_err(unavailable) }).await)
    }
}

fn joined<T, E: From<StoreError>>(done: Result<Result<T, E>, tokio::task::JoinError>) -> Result<T, E> {
    done.unwrap_or_else(|error| Err(StoreError::Bug(format!("replica task: {error}")).into()))
}

async fn load(pool: &PgPool, take_fence: bool) -> Result<Stored, StoreError> {
    let mut transaction = pool.begin().await.map_err(unavailable)?;
    // the lock on the fence keeps every writer out until this is read
    let fence = if take_fence {
        "update replica.fence set fence = fence + 1 returning fence"
    } else {
        "select fence from replica.fence for update"
    };
    let fence: i64 = sqlx::query_scalar(fence).fetch_one(&mut *transaction).await.map_err(unavailable)?;
    let fence = u64::try_from(fence).map_err(|_| damaged(format!("fence {fence}")))?;
    let mut vector = Vector::new();
    let rows = sqlx::query("select source, epoch, position, event_id from replica.checkpoint")
        .fetch_all(&mut *transaction)
        .await
        .map_err(unavailable)?;
    for row in rows {
        let (source, epoch): (String, String) = (row.get(0), row.get(1));
        let event_id: Option<String> = row.get(3);
        vector.set(source.into(), checkpoint(&epoch, row.get(2), event_id.as_deref())?);
    }
    let mut known = Known::default();
    let rows = sqlx::query("select product_id, name, unit_price_minor, currency, discontinued from replica.products")
        .fetch_all(&mut *transaction)
        .await
        .map_err(unavailable)?;
    for row in rows {
        let (product_id, name): (String, String) = (row.get(0), row.get(1));
        let currency: String = row.get(3);
        let (Ok(id), Ok(currency)) = (product_id.parse(), currency.parse()) else {
            return Err(damaged(format!("product {product_id}")));
        };
        let unit_price = Money::new(row.get(2), currency);
        known.products.insert(id, Offer { name: name.into(), unit_price, discontinued: row.get(4) });
    }
    let users: Vec<(String, bool)> = sqlx::query_as("select user_id, erased from replica.users")
        .fetch_all(&mut *transaction)
        .await
        .map_err(unavailable)?;
    for (user_id, erased) in users {
        known.users.insert(user_id.parse().map_err(|_| damaged(format!("user {user_id}")))?, erased);
    }
    transaction.commit().await.map_err(unavailable)?;
    Ok(Stored { fence, vector, known })
}

async fn write(pool: &PgPool, moved: &Moved, rows: &Arrays) -> Result<(), ApplyError> {
    let mut transaction = pool.begin().await.map_err(unavailable)?;
    move_checkpoint(&mut transaction, moved).await?;
    if !rows.product_ids.is_empty() {
        sqlx::query(
            "insert into replica.products (product_id, name, unit_price_minor, currency, discontinued) \
             select * from unnest($1::text[], $2::text[], $3::bigint[], $4::text[], $5::boolean[]) \
             on conflict (product_id) do update set name = excluded.name, \
             unit_price_minor = excluded.unit_price_minor, currency = excluded.currency, \
             discontinued = excluded.discontinued",
        )
        .bind(&rows.product_ids)
        .bind(&rows.names)
        .bind(&rows.unit_prices_minor)
        .bind(&rows.currencies)
        .bind(&rows.discontinued)
        .execute(&mut *transaction)
        .await
        .map_err(unavailable)?;
    }
    if !rows.user_ids.is_empty() {
        sqlx::query(
            "insert into replica.users (user_id, erased) select * from unnest($1::text[], $2::boolean[]) \
             on conflict (user_id) do update set erased = excluded.erased",
        )
        .bind(&rows.user_ids)
        .bind(&rows.erased)
        .execute(&mut *transaction)
        .await
        .map_err(unavailable)?;
    }
    transaction.commit().await.map_err(|error| unavailable(error).into())
}

async fn forget(pool: &PgPool, table: &'static str, source: &str) -> Result<(), sqlx::Error> {
    let mut transaction = pool.begin().await?;
    sqlx::query("update replica.fence set fence = fence + 1").execute(&mut *transaction).await?;
    sqlx::query("delete from replica.checkpoint where source = $1").bind(source).execute(&mut *transaction).await?;
    // one of two constants
    sqlx::query(AssertSqlSafe(format!("delete from replica.{table}"))).execute(&mut *transaction).await?;
    transaction.commit().await
}

async fn move_checkpoint(transaction: &mut PgTransaction<'_>, moved: &Moved) -> Result<(), ApplyError> {
    let Moved { fence, source, from, to } = moved;
    let held: i64 = sqlx::query_scalar("select fence from replica.fence for share")
        .fetch_one(&mut **transaction)
        .await
        .map_err(unavailable)?;
    if u64::try_from(held) != Ok(*fence) {
        return Err(ApplyError::Fenced);
    }
    let stored: Option<(String, i64, Option<String>)> =
        sqlx::query_as("select epoch, position, event_id from replica.checkpoint where source = $1 for update")
            .bind(source)
            .fetch_optional(&mut **transaction)
            .await
            .map_err(unavailable)?;
    let stored = match stored {
        Some((epoch, position, event_id)) => checkpoint(&epoch, position, event_id.as_deref())?,
        None => Checkpoint::START,
    };
    if stored != *from {
        return Err(ApplyError::Moved);
    }
    sqlx::query(
        "insert into replica.checkpoint (source, epoch, position, event_id) values ($1, $2, $3, $4) \
         on conflict (source) do update set epoch = excluded.epoch, position = excluded.position, \
         event_id = excluded.event_id",
    )
    .bind(source)
    .bind(to.epoch.to_string())
    .bind(position(to.position)?)
    .bind(to.event_id.map(|id| id.to_string()))
    .execute(&mut **transaction)
    .await
    .map_err(unavailable)?;
    Ok(())
}

/// Rows as columns: one statement a table, however many there are.
#[derive(Default)]
struct Arrays {
    product_ids: Vec<String>,
    names: Vec<String>,
    unit_prices_minor: Vec<i64>,
    currencies: Vec<String>,
    discontinued: Vec<bool>,
    user_ids: Vec<String>,
    erased: Vec<bool>,
}

impl Arrays {
    fn of(changes: &Changes) -> Self {
        let mut arrays = Self::default();
        for (product_id, offer) in &changes.products {
            arrays.product_ids.push(product_id.to_string());
            arrays.names.push(offer.name.to_string());
            arrays.unit_prices_minor.push(offer.unit_price.amount_minor);
            arrays.currencies.push(offer.unit_price.currency.to_string());
            arrays.discontinued.push(offer.discontinued);
        }
        for (user_id, erased) in &changes.users {
            arrays.user_ids.push(user_id.to_string());
            arrays.erased.push(*erased);
        }
        arrays
    }
}

fn unavailable(error: sqlx::Error) -> StoreError {
    StoreError::Unavailable(error.into())
}
