//! Rows out of either database.

use sqlx::{ColumnIndex, Decode, FromRow, Row, Type};

use super::{CustomerRow, OrderDetails};
use crate::columns::{json, parsed, undecodable};

impl<'r, R> FromRow<'r, R> for OrderDetails
where
    R: Row,
    &'static str: ColumnIndex<R>,
    String: Decode<'r, R::Database> + Type<R::Database>,
    bool: Decode<'r, R::Database> + Type<R::Database>,
    i64: Decode<'r, R::Database> + Type<R::Database>,
{
    fn from_row(row: &'r R) -> Result<Self, sqlx::Error> {
        Ok(Self {
            order_id: parsed(row, "order_id")?,
            external_ref: row.try_get("external_ref")?,
            customer_id: parsed(row, "customer_id")?,
            customer_name: row.try_get("customer_name")?,
            customer_email: row.try_get("customer_email")?,
            status: parsed(row, "status")?,
            placed_at_us: row.try_get("placed_at_us")?,
            shipped_at_us: row.try_get("shipped_at_us")?,
            lines: serde_json::from_str(&row.try_get::<String, _>("lines")?)
                .map_err(|error| undecodable("lines", error))?,
            total_minor: row.try_get("total_minor")?,
            currency: parsed(row, "currency")?,
            updated_at_us: row.try_get("updated_at_us")?,
            confirmed_at_us: row.try_get("confirmed_at_us")?,
            cancelled_at_us: row.try_get("cancelled_at_us")?,
            cancel_reason: row.try_get("cancel_reason")?,
            rejected: row.try_get::<Option<bool>, _>("rejected")?.unwrap_or(false),
            delivered_at_us: row.try_get("delivered_at_us")?,
            returned_at_us: row.try_get("returned_at_us")?,
            return_reason: row.try_get("return_reason")?,
            reservation: json(row, "reservation")?,
            payment: json(row, "payment")?,
            shipment: json(row, "shipment")?,
        })
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

/// Only here so that the bounds above are read as what they are: one reading for every database.
const _: fn() = || {
    fn either<T>()
    where
        T: for<'r> FromRow<'r, sqlx::sqlite::SqliteRow> + for<'r> FromRow<'r, sqlx::postgres::PgRow>,
    {
    }
    either::<OrderDetails>();
    either::<CustomerRow>();
};
