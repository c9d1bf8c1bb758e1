//! Rows out of either database.

use sqlx::{ColumnIndex, Decode, FromRow, Row, Type};

use super::{CustomerRow, OrderDetails, OrderRow, products::KnownProduct};
use crate::columns::parsed;

impl<'r, R> FromRow<'r, R> for OrderDetails
where
    R: Row,
    OrderRow: FromRow<'r, R>,
{
    fn from_row(row: &'r R) -> Result<Self, sqlx::Error> {
        OrderRow::from_row(row)?.whole()
    }
}

impl<'r, R> FromRow<'r, R> for CustomerRow
where
    R: Row,
    &'static str: ColumnIndex<R>,
    String: Decode<'r, R::Database> + Type<R::Database>,
    bool: Decode<'r, R::Database> + Type<R::Database>,
{
    fn from_row(row: &'r R) -> Result<Self, sqlx::Error> {
        Ok(Self {
            customer_id: parsed(row, "customer_id")?,
            name: row.try_get("name")?,
            email: row.try_get("email")?,
            erased: row.try_get("erased")?,
        })
    }
}

impl<'r, R> FromRow<'r, R> for KnownProduct
where
    R: Row,
    &'static str: ColumnIndex<R>,
    String: Decode<'r, R::Database> + Type<R::Database>,
    bool: Decode<'r, R::Database> + Type<R::Database>,
{
    fn from_row(row: &'r R) -> Result<Self, sqlx::Error> {
        Ok(Self {
            product_id: parsed(row, "product_id")?,
            sku: row.try_get("sku")?,
            name: row.try_get("name")?,
            discontinued: row.try_get("discontinued")?,
        })
    }
}

/// Only here so that the bounds above are read as what they are: one reading for every database.
const _: fn() = || {
    fn either<T>()
    where
        T: for<'r> FromRow<'r, sqlx::sqlite::SqliteRow> + for<'r> FromRow<'r, sqlx::postgres::PgRow>,
    {
    }
    either::<OrderDetails>();
    either::<OrderRow>();
    either::<CustomerRow>();
    either::<KnownProduct>();
};
