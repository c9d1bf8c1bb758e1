//! Orders by words.

use sqlx::FromRow;

use super::{FoundOrder, TEMPLATE};
use crate::{
    ReadError, ReadSide,
    columns::parse,
    consistency::Consistency,
    order_details::OrderCursor,
    paging::{Conditions, Keyset, List, Page, Stretch},
    read_side::Bind,
    template::{Live, Template},
    words::Search,
};

/// What rows are found by, and nobody reads.
const WORDS: &str = "words";

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

impl From<&FoundOrder> for OrderCursor {
    fn from(order: &FoundOrder) -> Self {
        Self { sort_key: order.placed_at_us, order_id: order.order_id }
    }
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
        let stretch = Stretch::first(first.clamp(1, FOUND_MAX), None);
        Ok(self.search_orders_page(text, stretch, consistency).await?.rows)
    }

    /// A stretch of the list of the orders that [`Self::search_orders`] finds.
    pub async fn search_orders_page(
        &self,
        text: &str,
        stretch: Stretch<OrderCursor>,
        consistency: &Consistency,
    ) -> Result<Page<FoundOrder>, ReadError> {
        let search = Search::of(text);
        let postgres = self.is_postgres();
        let asked = match &search {
            Some(search) if postgres => search.tsquery(),
            Some(search) => search.fts5(),
            // the token is waited for all the same
            None => String::new(),
        };
        let mut conditions = Conditions::default();
        conditions.bind(Bind::Text(asked));
        if let Some(own) = self.only() {
            conditions.and("customer_id =", Bind::Text(own.to_string()));
        }
        let Conditions { text, binds } = conditions;
        let has_words = search.is_some();
        let list = List {
            template: &TEMPLATE,
            select: |live: Live| TEMPLATE.select_only(live, |place| TEMPLATE.columns[place].name != WORDS),
            from: |live: Live| {
                // a parameter must have its place
                let found = if has_words { found(live, postgres) } else { "$1 = 'a word'".to_owned() };
                format!("from {} where served and {found}{text}", TEMPLATE.table(live.generation))
            },
            keyset: Keyset { sort_key: "placed_at_us", id: TEMPLATE.key, descending: true },
            binds,
        };
        let place = |cursor: OrderCursor| (Bind::Integer(cursor.sort_key), cursor.order_id.to_string());
        let page: Page<Found> = self.page(list, stretch.map(place), consistency).await?;
        let Page { rows, has_previous_page, has_next_page, total } = page;
        let rows = rows.into_iter().map(FoundOrder::try_from).collect::<Result<_, _>>()?;
        Ok(Page { rows, has_previous_page, has_next_page, total })
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
