//! Order timeline: what became of an order, service by service, in words.
//!
//! A list: each event adds its entries, and nothing changes them. They hold no personal data, so an erasure has nothing to
//! erase here.

use std::collections::HashMap;

use events::{ids::OrderId, money::Currency};
use serde::Serialize;
use sqlx::FromRow;

use crate::{
    ReadError, ReadSide,
    columns::parse,
    consistency::Consistency,
    order_details::OrderColumns,
    read_side::{Bind, Rows},
    template::{EntriesTemplate, Kind, Live, Template, column},
};

/// The tables of this read model.
pub static TEMPLATE: Template = Template {
    name: "order_timeline",
    key: "order_id",
    sources: &[events::orders::SOURCE, events::inventory::SOURCE, events::payments::SOURCE, events::shipping::SOURCE],
    entries: Some(EntriesTemplate {
        columns: &[
            column("at_us", Kind::Integer),
            column("event", Kind::Text),
            column("what", Kind::Text),
            column("reason", Kind::Text),
            column("amount_minor", Kind::Integer),
            column("currency", Kind::Text),
        ],
        // one order's entries lie together, and are few enough to be sorted
        indexes: &[],
    }),
    ..Template::BLANK
};

/// The most entries of one answer, the first ones. An order of two thousand lines has more: each is reserved and shipped.
pub const TIMELINE_ENTRIES_MAX: usize = 1_000;

/// An entry as an event adds it: the columns of [`TEMPLATE`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// When it happened, in microseconds of Unix time.
    pub at_us: i64,
    /// The type of the event.
    pub event: String,
    /// A sentence for people.
    pub what: String,
    /// Why, where somebody said it.
    pub reason: Option<String>,
    /// The money it is about.
    pub amount_minor: Option<i64>,
    pub currency: Option<Currency>,
}

/// One entry as it is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimelineEntry {
    pub at_us: i64,
    /// The service that said it.
    pub source: String,
    /// Its place in that service's log.
    pub position: i64,
    pub event: String,
    pub what: String,
    pub reason: Option<String>,
    /// Minor units.
    pub amount: Option<(i64, Currency)>,
}

#[derive(FromRow)]
struct Found {
    order_id: String,
    at_us: i64,
    source: String,
    position: i64,
    event: String,
    what: String,
    reason: Option<String>,
    amount_minor: Option<i64>,
    currency: Option<String>,
}

impl TryFrom<Found> for TimelineEntry {
    type Error = sqlx::Error;

    fn try_from(row: Found) -> Result<Self, sqlx::Error> {
        let currency = row.currency.map(|currency| parse("currency", &currency)).transpose()?;
        Ok(Self {
            at_us: row.at_us,
            source: row.source,
            position: row.position,
            event: row.event,
            what: row.what,
            reason: row.reason,
            amount: row.amount_minor.zip(currency),
        })
    }
}

impl ReadSide {
    /// What became of an order, oldest first; empty if no service has told of it.
    pub async fn order_timeline(
        &self,
        id: OrderId,
        consistency: &Consistency,
    ) -> Result<Vec<TimelineEntry>, ReadError> {
        Ok(self.order_timelines(&[id], consistency).await?.remove(&id).unwrap_or_default())
    }

    /// What became of each of several orders, oldest first, in one statement. For a customer's handle one more goes
    /// before: whose an order is, `order_details` knows.
    pub async fn order_timelines(
        &self,
        ids: &[OrderId],
        consistency: &Consistency,
    ) -> Result<HashMap<OrderId, Vec<TimelineEntry>>, ReadError> {
        let ids = match self.only() {
            None => Bind::keys(ids),
            // whose an order is never changes, so that no token needs to be waited for
            Some(_) => {
                let own = self.orders_by_id(ids, OrderColumns::NONE, &Consistency::any()).await?;
                Bind::keys(&own.iter().map(|order| order.order_id).collect::<Vec<_>>())
            }
        };
        let in_ids = self.in_keys(1);
        let rows = Rows {
            select: |live: Live| {
                let (entries, columns) = (TEMPLATE.entries_table(live.generation), TEMPLATE.select_entry(live));
                format!(
                    "select * from (select order_id, source, position, part, {columns}, row_number() over \
                        (partition by order_id order by at_us, source, position, part) as place \
                     from {entries} where order_id {in_ids}) entry where place <= {TIMELINE_ENTRIES_MAX}"
                )
            },
            order_by: "order by order_id, at_us, source, position, part".into(),
            binds: vec![ids],
        };
        let found: Vec<Found> = self.read(&TEMPLATE, consistency, rows).await?;
        let mut timelines: HashMap<OrderId, Vec<TimelineEntry>> = HashMap::new();
        for entry in found {
            let id = parse("order_id", &entry.order_id)?;
            timelines.entry(id).or_default().push(entry.try_into()?);
        }
        Ok(timelines)
    }
}
