//! The replica's rows in an SQLite file of their own: they can be read anew from the feeds.

use std::path::Path;

use async_trait::async_trait;
use event_store::follower::{ApplyError, StoreError};
use events::{
    ids::{ProductId, UserId},
    money::Money,
};
use rusqlite::{Transaction, params};

use super::{
    known::{Changes, Known},
    store::{Rows, Stored, table_of},
};
use crate::{
    orders::order::Offer,
    progress::{
        Moved, Tenure, damaged,
        sqlite::{Durability, SqliteFile, fence, move_checkpoint, take_fence, unavailable, vector},
    },
};

/// In order; a released file never changes.
const MIGRATIONS: [&str; 5] = [
    include_str!("../../../../migrations/orders/sqlite/0001_fence.sql"),
    include_str!("../../../../migrations/orders/sqlite/0002_checkpoint.sql"),
    include_str!("../../../../migrations/orders/sqlite/0003_products.sql"),
    include_str!("../../../../migrations/orders/sqlite/0004_users.sql"),
    include_str!("../../../../migrations/orders/sqlite/0005_beat.sql"),
];

pub struct SqliteRows {
    file: SqliteFile,
}

impl SqliteRows {
    /// Opens or makes the file; `None` = in memory.
    pub fn open(path: Option<&Path>) -> Result<Self, rusqlite::Error> {
        Ok(Self { file: SqliteFile::open(path, Durability::Rebuildable, &MIGRATIONS)? })
    }
}

#[async_trait]
impl Rows for SqliteRows {
    async fn load(&self, with_fence: bool) -> Result<Stored, StoreError> {
        let load = move |transaction: &Transaction<'_>| {
            if with_fence {
                take_fence(transaction)?;
            }
            Ok(Stored { fence: fence(transaction)?, vector: vector(transaction)?, known: load_known(transaction)? })
        };
        self.file.transact(load).await
    }

    fn tenure(&self) -> &dyn Tenure {
        &self.file
    }

    async fn write(&self, moved: Moved, changes: &Changes) -> Result<(), ApplyError> {
        let products: Vec<(ProductId, Offer)> =
            changes.products.iter().map(|(product_id, offer)| (*product_id, offer.clone())).collect();
        let users: Vec<(UserId, bool)> = changes.users.iter().map(|(user_id, erased)| (*user_id, *erased)).collect();
        let write = move |transaction: &Transaction<'_>| {
            move_checkpoint(transaction, &moved)?;
            write_products(transaction, &products).map_err(unavailable)?;
            write_users(transaction, &users).map_err(unavailable)?;
            Ok(())
        };
        self.file.transact(write).await
    }

    async fn forget(&self, source: &str) -> Result<(), StoreError> {
        let (table, source) = (table_of(source)?, source.to_owned());
        let forget = move |transaction: &Transaction<'_>| {
            take_fence(transaction)?;
            transaction.execute("delete from checkpoint where source = ?1", [source]).map_err(unavailable)?;
            transaction.execute(&format!("delete from {table}"), []).map_err(unavailable)?;
            Ok(())
        };
        self.file.transact(forget).await
    }
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
