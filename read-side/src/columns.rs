//! What the columns of a row stand for, on either database.

use std::str::FromStr;

use events::money::AMOUNT_MINOR_MAX;
use serde::de::DeserializeOwned;
use sqlx::{Column, ColumnIndex, Decode, Row, Type};

/// A row whose columns are taken in the order of their select. One that was not selected is found missing by its
/// neighbour's name: looking each up by name costs more than all the rest of a row.
pub(crate) struct InOrder<'r, R> {
    row: &'r R,
    next: usize,
}

impl<'r, R: Row> InOrder<'r, R>
where
    usize: ColumnIndex<R>,
{
    /// From the column `first` on, which is there.
    pub fn from(row: &'r R, first: &str) -> Result<Self, sqlx::Error> {
        let next = row.columns().iter().position(|column| column.name() == first);
        Ok(Self { row, next: next.ok_or_else(|| sqlx::Error::ColumnNotFound(first.to_owned()))? })
    }

    /// The next column, if that is its name; null and not selected are the same.
    pub fn take<T>(&mut self, column: &str) -> Result<Option<T>, sqlx::Error>
    where
        T: Decode<'r, R::Database> + Type<R::Database>,
    {
        if self.row.columns().get(self.next).is_none_or(|next| next.name() != column) {
            return Ok(None);
        }
        self.next += 1;
        self.row.try_get(self.next - 1)
    }

    /// As [`Self::take`], as what the text stands for.
    pub fn take_parsed<T>(&mut self, column: &str) -> Result<Option<T>, sqlx::Error>
    where
        &'r str: Decode<'r, R::Database> + Type<R::Database>,
        T: FromStr<Err: std::error::Error + Send + Sync + 'static>,
    {
        self.take::<&str>(column)?.map(|text| parse(column, text)).transpose()
    }

    /// As [`Self::take`], as what the JSON says.
    pub fn take_json<T>(&mut self, column: &str) -> Result<Option<T>, sqlx::Error>
    where
        &'r str: Decode<'r, R::Database> + Type<R::Database>,
        T: DeserializeOwned,
    {
        let json = self.take::<&str>(column)?.map(serde_json::from_str);
        json.transpose().map_err(|error| undecodable(column, error))
    }
}

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
