//! The replica's rows in an SQLite file of their own, beside the log's: `synchronous=NORMAL` would not do there.

use std::{
    path::Path,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use event_store::follower::{ApplyError, Checkpoint, StoreError, Vector};
use events::{
    ids::{ProductId, UserId},
    money::Money,
};
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};

use super::{
    known::{Changes, Known},
    store::{Moved, Rows, Stored, checkpoint, damaged, position, table_of},
};
use crate::orders::order::Offer;

/// In order; a released file never changes.
const MIGRATIONS: [&str; 4] = [
    include_str!("../../../../migrations/orders/sqlite/0001_fence.sql"),
    include_str!("../../../../migrations/orders/sqlite/0002_checkpoint.sql"),
    include_str!("../../../../migrations/orders/sqlite/0003_products.sql"),
    include_str!("../../../../migrations/orders/sqlite/0004_users.sql"),
];

/// One connection, used by the follower alone, on threads that may block.
pub struct SqliteRows {
    connection: Arc<Mutex<Connection>>,
}

impl SqliteRows {
    /// Opens or makes the file; `None` = in memory.
    pub fn open(path: Option<&Path>) -> Result<Self, rusqlite::Error> {
        let mut connection = match path {
            Some(path) => Connection::open(path)?,
            None => Connection::open_in_memory()?,
        };
        connection.pragma_update(None, "journal_mode", "wal")?;
        // it can be read anew from the feeds: a step lost with the machine's power is applied again
        connection.pragma_update(None, "synchronous", "normal")?;
        connection.busy_timeout(std::time::Duration::from_secs(5))?;
        migrate(&mut connection)?;
        Ok(Self { connection: Arc::new(Mutex::new(connection)) })
    }

    async fn run<T: Send + 'static, E: From<StoreError> + Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E> {
        let connection = Arc::clone(&self.connection);
        let done = tokio::task::spawn_blocking(move || {
            work(&mut connection.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
        });
        done.await.unwrap_or_else(|error| Err(StoreError::Bug(format!("replica thread: {error}")).into()))
    }
}

/// All that is missing in one transaction; `user_version` counts.
fn migrate(connection: &mut Connection) -> Result<(), rusqlite::Error> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let run: u32 = transaction.query_row("pragma user_version", [], |row| row.get(0))?;
    for sql in MIGRATIONS.iter().skip(usize::try_from(run).unwrap_or(usize::MAX)) {
        transaction.execute_batch(sql)?;
    }
    transaction.pragma_update(
        None,
        "user_version",
        u32::try_from(MIGRATIONS.len()).expect("there are few migrations").max(run),
    )?;
    transaction.commit()
}

#[async_trait]
impl Rows for SqliteRows {
    async fn load(&self, take_fence: bool) -> Result<Stored, StoreError> {
        self.run(move |connection| {
            let transaction =
                connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(unavailable)?;
            if take_fence {
                transaction.execute("update fence set fence = fence + 1", []).map_err(unavailable)?;
            }
            let fence = transaction
                .query_row("select fence from fence", [], |row| row.get::<_, i64>(0))
                .map_err(unavailable)?;
            let fence = u64::try_from(fence).map_err(|_| damaged(format!("fence {fence}")))?;
            let stored = Stored { fence, vector: load_vector(&transaction)?, known: load_known(&transaction)? };
            transaction.commit().map_err(unavailable)?;
            Ok(stored)
        })
        .await
    }

    async fn fence(&self) -> Result<u64, StoreError> {
        self.run(|connection| {
            let fence: i64 =
                connection.query_row("select fence from fence", [], |row| row.get(0)).map_err(unavailable)?;
            u64::try_from(fence).map_err(|_| damaged(format!("fence {fence}")))
        })
        .await
    }

    async fn write(&self, moved: Moved, changes: &Changes) -> Result<(), ApplyError> {
        let products: Vec<(ProductId, Offer)> =
            changes.products.iter().map(|(product_id, offer)| (*product_id, offer.clone())).collect();
        let users: Vec<(UserId, bool)> = changes.users.iter().map(|(user_id, erased)| (*user_id, *erased)).collect();
        self.run(move |connection| {
            // dropped without a commit, it rolls back
            let transaction =
                connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(unavailable)?;
            move_checkpoint(&transaction, &moved)?;
            write_products(&transaction, &products).map_err(unavailable)?;
            write_users(&transaction, &users).map_err(unavailable)?;
            transaction.commit().map_err(|error| unavailable(error).into())
        })
        .await
    }

    async fn forget(&self, source: &str) -> Result<(), StoreError> {
        let (table, source) = (table_of(source)?, source.to_owned());
        self.run(move |connection| {
            let transaction =
                connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(unavailable)?;
            transaction.execute("update fence set fence = fence + 1", []).map_err(unavailable)?;
            transaction.execute("delete from checkpoint where source = ?1", [source]).map_err(unavailable)?;
            transaction.execute(&format!("delete from {table}"), []).map_err(unavailable)?;
            transaction.commit().map_err(unavailable)
        })
        .await
    }
}

fn load_vector(transaction: &Transaction<'_>) -> Result<Vector, StoreError> {
    let mut select =
        transaction.prepare("select source, epoch, position, event_id from checkpoint").map_err(unavailable)?;
    let rows = select
        .query_map([], |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get(2)?, row.get::<_, Option<String>>(3)?))
        })
        .map_err(unavailable)?;
    let mut vector = Vector::new();
    for row in rows {
        let (source, epoch, position, event_id) = row.map_err(unavailable)?;
        vector.set(source.into(), checkpoint(&epoch, position, event_id.as_deref())?);
    }
    Ok(vector)
}

fn load_known(transaction: &Transaction<'_>) -> Result<Known, StoreError> {
    let mut known = Known::default();
    let mut select = transaction
        .prepare("select product_id, name, unit_price_minor, currency, discontinued from products")
        .map_err(unavailable)?;
    let mut rows = select.query([]).map_err(unavailable)?;
    while let Some(row) = rows.next().map_err(unavailable)? {
        let (product_id, offer) = product(row).map_err(unavailable)?.map_err(damaged)?;
        known.products.insert(product_id, offer);
    }
    let mut select = transaction.prepare("select user_id, erased from users").map_err(unavailable)?;
    let users = select.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get(1)?))).map_err(unavailable)?;
    for user in users {
        let (user_id, erased) = user.map_err(unavailable)?;
        known.users.insert(user_id.parse().map_err(|_| damaged(format!("user {user_id}")))?, erased);
    }
    Ok(known)
}

fn product(row: &rusqlite::Row<'_>) -> rusqlite::Result<Result<(ProductId, Offer), String>> {
    let (product_id, name): (String, String) = (row.get(0)?, row.get(1)?);
    let (amount_minor, currency): (i64, String) = (row.get(2)?, row.get(3)?);
    let discontinued = row.get(4)?;
    let (Ok(id), Ok(currency)) = (product_id.parse(), currency.parse()) else {
        return Ok(Err(format!("product {product_id}")));
    };
    Ok(Ok((id, Offer { name: name.into(), unit_price: Money::new(amount_minor, currency), discontinued })))
}

fn move_checkpoint(transaction: &Transaction<'_>, moved: &Moved) -> Result<(), ApplyError> {
    let Moved { fence, source, from, to } = moved;
    let held: i64 = transaction.query_row("select fence from fence", [], |row| row.get(0)).map_err(unavailable)?;
    if u64::try_from(held) != Ok(*fence) {
        return Err(ApplyError::Fenced);
    }
    let stored = transaction
        .query_row("select epoch, position, event_id from checkpoint where source = ?1", [source], |row| {
            Ok((row.get::<_, String>(0)?, row.get(1)?, row.get::<_, Option<String>>(2)?))
        })
        .optional()
        .map_err(unavailable)?;
    let stored = match stored {
        Some((epoch, position, event_id)) => checkpoint(&epoch, position, event_id.as_deref())?,
        None => Checkpoint::START,
    };
    if stored != *from {
        return Err(ApplyError::Moved);
    }
    transaction
        .execute(
            "insert into checkpoint (source, epoch, position, event_id) values (?1, ?2, ?3, ?4) on conflict (source) \
             do update set epoch = excluded.epoch, position = excluded.position, event_id = excluded.event_id",
            params![source, to.epoch.to_string(), position(to.position)?, to.event_id.map(|id| id.to_string())],
        )
        .map_err(unavailable)?;
    Ok(())
}

fn write_products(transaction: &Transaction<'_>, products: &[(ProductId, Offer)]) -> rusqlite::Result<()> {
    let mut upsert = transaction.prepare_cached(
        "insert into products (product_id, name, unit_price_minor, currency, discontinued) values (?1, ?2, ?3, ?4, ?5) \
         on conflict (product_id) do update set name = excluded.name, unit_price_minor = excluded.unit_price_minor, \
         currency = excluded.currency, discontinued = excluded.discontinued",
    )?;
    for (product_id, offer) in products {
        let price = &offer.unit_price;
        upsert.execute(params![
            product_id.to_string(),
            &*offer.name,
            price.amount_minor,
            price.currency.as_str(),
            offer.discontinued
        ])?;
    }
    Ok(())
}

fn write_users(transaction: &Transaction<'_>, users: &[(UserId, bool)]) -> rusqlite::Result<()> {
    let mut upsert = transaction.prepare_cached(
        "insert into users (user_id, erased) values (?1, ?2) on conflict (user_id) do update set erased = excluded.erased",
    )?;
    for (user_id, erased) in users {
        upsert.execute(params![user_id.to_string(), erased])?;
    }
    Ok(())
}

fn unavailable(error: rusqlite::Error) -> StoreError {
    StoreError::Unavailable(error.into())
}
