//! The replica's rows in the schema `replica` of the orders service's PostgreSQL database.

use std::time::Duration;

use async_trait::async_trait;
use database::Database;
use event_store::follower::{ApplyError, StoreError};
use events::money::Money;
use sqlx::{PgTransaction, Row};

use super::{
    known::{Changes, Known},
    store::{Rows, Stored, table_of},
};
use crate::{
    orders::order::Offer,
    progress::{
        Moved, Tenure, damaged,
        postgres::{PostgresSchema, Schema, SchemaError, unavailable},
    },
};

/// "trib_ord" as a number is the lock.
pub const SCHEMA: Schema = Schema { name: "replica", lock: 0x7472_6962_5f6f_7264, migrations: &MIGRATIONS };

/// In order; a released file never changes.
const MIGRATIONS: [&str; 6] = [
    include_str!("../../../../migrations/orders/postgres/0001_replica.sql"),
    include_str!("../../../../migrations/orders/postgres/0002_fence.sql"),
    include_str!("../../../../migrations/orders/postgres/0003_checkpoint.sql"),
    include_str!("../../../../migrations/orders/postgres/0004_products.sql"),
    include_str!("../../../../migrations/orders/postgres/0005_users.sql"),
    include_str!("../../../../migrations/orders/postgres/0006_beat.sql"),
];

/// The follower applies one step at a time; one more connection for its next try after a broken one.
const CONNECTIONS_MAX: u32 = 2;

/// How long it may take to load all rows: a million of them take seconds.
const LOAD_MAX: Duration = Duration::from_secs(60);

pub struct PostgresRows {
    schema: PostgresSchema,
}

impl PostgresRows {
    /// Connects, and makes the schema if it is missing.
    pub async fn connect(database: &Database) -> Result<Self, SchemaError> {
        Ok(Self { schema: PostgresSchema::connect(database, SCHEMA, CONNECTIONS_MAX).await? })
    }
}

#[async_trait]
impl Rows for PostgresRows {
    async fn load(&self, take_fence: bool) -> Result<Stored, StoreError> {
        self.schema
            .transact_within(LOAD_MAX, move |schema, transaction| {
                Box::pin(async move {
                    let fence = schema.fence_in(transaction, take_fence).await?;
                    let vector = schema.vector(transaction).await?;
                    Ok(Stored { fence, vector, known: load_known(transaction).await? })
                })
            })
            .await
    }

    fn tenure(&self) -> &dyn Tenure {
        &self.schema
    }

    async fn write(&self, moved: Moved, changes: &Changes) -> Result<(), ApplyError> {
        let rows = Arrays::of(changes);
        self.schema
            .transact(move |schema, transaction| {
                Box::pin(async move {
                    schema.move_checkpoint(transaction, &moved).await?;
                    Ok(write(transaction, &rows).await.map_err(unavailable)?)
                })
            })
            .await
    }

    async fn forget(&self, source: &str) -> Result<(), StoreError> {
        let (table, source) = (table_of(source)?, source.to_owned());
        self.schema
            .transact(move |schema, transaction| {
                Box::pin(async move {
                    schema.take_fence(transaction).await?;
                    let checkpoint = schema.sql("delete from {schema}.checkpoint where source = $1");
                    sqlx::query(checkpoint).bind(source).execute(&mut **transaction).await.map_err(unavailable)?;
                    // one of two constants
                    let rows = schema.sql(&format!("delete from {{schema}}.{table}"));
                    sqlx::query(rows).execute(&mut **transaction).await.map_err(unavailable)?;
                    Ok(())
                })
            })
            .await
    }
}

async fn load_known(transaction: &mut PgTransaction<'_>) -> Result<Known, StoreError> {
    let mut known = Known::default();
    let rows = sqlx::query("select product_id, name, unit_price_minor, currency, discontinued from replica.products")
        .fetch_all(&mut **transaction)
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
        .fetch_all(&mut **transaction)
        .await
        .map_err(unavailable)?;
    for (user_id, erased) in users {
        known.users.insert(user_id.parse().map_err(|_| damaged(format!("user {user_id}")))?, erased);
    }
    Ok(known)
}

async fn write(transaction: &mut PgTransaction<'_>, rows: &Arrays) -> Result<(), sqlx::Error> {
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
        .execute(&mut **transaction)
        .await?;
    }
    if !rows.user_ids.is_empty() {
        sqlx::query(
            "insert into replica.users (user_id, erased) select * from unnest($1::text[], $2::boolean[]) \
             on conflict (user_id) do update set erased = excluded.erased",
        )
        .bind(&rows.user_ids)
        .bind(&rows.erased)
        .execute(&mut **transaction)
        .await?;
    }
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
