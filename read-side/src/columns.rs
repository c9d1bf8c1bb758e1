//! What the columns of a row stand for, on either database.

use std::str::FromStr;

use events::money::AMOUNT_MINOR_MAX;
use sqlx::{ColumnIndex, Decode, Row, Type};

/// A text column as what it stands for.
pub(crate) fn parsed<'r, R, T>(row: &'r R, column: &'static str) -> Result<T, sqlx::Error>
where
    R: Row,
    &'static str: ColumnIndex<R>,
    String: Decode<'r, R::Database> + Type<R::Database>,
    T: FromStr<Err: std::error::Error + Send + Sync + 'static>,
{
    row.try_get::<String, _>(column)?.parse().map_err(|error| undecodable(column, error))
}

pub(crate) fn undecodable(column: &str, error: impl std::error::Error + Send + Sync + 'static) -> sqlx::Error {
    sqlx::Error::ColumnDecode { index: column.to_owned(), source: Box::new(error) }
}

/// A text that has been read already as what it stands for.
pub(crate) fn parse<T>(column: &str, text: &str) -> Result<T, sqlx::Error>
where
    T: FromStr<Err: std::error::Error + Send + Sync + 'static>,
{
    text.parse().map_err(|error| undecodable(column, error))
}

/// A sum of amounts, within what every JSON reader gets exactly.
pub(crate) fn safe_minor(sum_minor: i64) -> i64 {
    sum_minor.clamp(-AMOUNT_MINOR_MAX, AMOUNT_MINOR_MAX)
}
