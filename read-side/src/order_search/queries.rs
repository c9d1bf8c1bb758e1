//! Orders by words.

use sqlx::FromRow;

use super::{FoundOrder, TEMPLATE};
use crate::{
    ReadError, ReadSide,
    columns::parse,
    consistency::Consistency,
    read_side::{Bind, Database, Rows},
    template::{Live, Template},
    words::Search,
};

/// The most orders of one answer.
pub const FOUND_MAX: usize = 100;

#[derive(FromRow)]
struct Found {
    order_id: String,
    external_ref: Option<String>,
    customer_id: String,
    customer_name: Option<String>,
    status: String,
    placed_at_us: i64,
    total_minor: i64,
    currency: String,
}

impl TryFrom<Found> for FoundOrder {
    type Error = sqlx::Error;

    fn try_from(row: Found) -> Result<Self, sqlx::Error> {
        Ok(Self {
            order_id: parse("order_id", &row.order_id)?,
            external_ref: row.external_ref,
            customer_id: parse("customer_id", &row.customer_id)?,
            customer_name: row.customer_name,
            status: parse("status", &row.status)?,
            placed_at_us: row.placed_at_us,
            total_minor: row.total_minor,
            currency: parse("currency", &row.currency)?,
        })
    }
}

impl ReadSide {
    /// The orders that have every word of `text`, the last one at least as a beginning; newest first, at most `first` (1 to
    /// [`FOUND_MAX`]; what is outside is cut). Without a word, none.
    pub async fn search_orders(
        &self,
        text: &str,
        first: usize,
        consistency: &Consistency,
    ) -> Result<Vec<FoundOrder>, ReadError> {
        let first = first.clamp(1, FOUND_MAX);
        let search = Search::of(text);
        let (asked, postgres) = match (&search, self.database()) {
            (Some(search), Database::Postgres(_)) => (search.tsquery(), true),
            (Some(search), Database::Sqlite { .. }) => (search.fts5(), false),
            // the token is waited for all the same
            (None, database) => (String::new(), matches!(database, Database::Postgres(_))),
        };
        let limit = if search.is_some() { first } else { 0 };
        let rows = Rows {
            select: |live: Live| {
                let found = found(live, postgres);
                let select = TEMPLATE.select_rows(live);
                format!("{select} where served and {found} order by placed_at_us desc, order_id desc limit {limit}")
            },
            order_by: "order by placed_at_us desc, order_id desc",
            binds: vec![Bind::Text(asked)],
        };
        let found: Vec<Found> = self.read(&TEMPLATE, consistency, rows).await?;
        Ok(found.into_iter().map(FoundOrder::try_from).collect::<Result<_, _>>()?)
    }
}

/// The condition on a row that has the words in `$1`.
fn found(live: Live, postgres: bool) -> String {
    if postgres {
        format!("{} @@ cast($1 as tsquery)", Template::postgres_words("words"))
    } else {
        let search = TEMPLATE.search_table(live.generation);
        format!("place in (select rowid from {search} where {search} match $1)")
    }
}
