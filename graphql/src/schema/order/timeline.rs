//! What became of an order, from a read model of its own: it is read only where it is asked for.

use std::{collections::HashMap, sync::Arc};

use async_graphql::{Context, Result, SimpleObject};
use chrono::{DateTime, Utc};
use events::ids::OrderId;
use read_side::order_timeline::{self, TEMPLATE};

use tokio::sync::OnceCell;

use super::super::{
    money::{Money, SafeInt},
    read::{self, read},
    time::{NoTime, time},
};

/// What a timeline counts in a document's complexity: most orders have fewer entries.
const ENTRIES_COUNTED: usize = 50;

/// Something that became of an order, as one service has told it.
#[derive(Debug, SimpleObject)]
pub(crate) struct TimelineEntry {
    /// When it happened.
    at: DateTime<Utc>,
    /// The service that told it.
    source: String,
    /// Its position in that service's log.
    position: SafeInt,
    /// The type of the event, such as `OrderPlaced`.
    event: String,
    /// What happened, in words.
    what: String,
    /// Why, where somebody said it.
    reason: Option<String>,
    /// The money it is about; null where it is about none.
    amount: Option<Money>,
}

/// What a timeline costs at most, by and large.
pub(super) fn timeline_cost(child_complexity: usize) -> usize {
    1_usize.saturating_add(child_complexity.saturating_mul(ENTRIES_COUNTED))
}

/// The timelines of the orders of a page: they are read together, by whoever asks for the first of them.
#[derive(Debug, Clone)]
pub(crate) struct Timelines {
    orders: Arc<[OrderId]>,
    read: Arc<OnceCell<HashMap<OrderId, Vec<order_timeline::TimelineEntry>>>>,
}

impl Timelines {
    pub(crate) fn of(orders: impl IntoIterator<Item = OrderId>) -> Self {
        Self { orders: orders.into_iter().collect(), read: Arc::default() }
    }

    async fn read(&self, ctx: &Context<'_>, id: OrderId) -> Result<Vec<order_timeline::TimelineEntry>> {
        let read = self.read.get_or_try_init(async || {
            let timelines =
                read(ctx, &TEMPLATE, async |side, consistency| side.order_timelines(&self.orders, consistency).await);
            timelines.await
        });
        let timelines = read.await?;
        Ok(timelines.get(&id).cloned().unwrap_or_default())
    }
}

pub(super) async fn of(ctx: &Context<'_>, id: OrderId, beside: Option<&Timelines>) -> Result<Vec<TimelineEntry>> {
    let entries = match beside {
        Some(timelines) => timelines.read(ctx, id).await?,
        None => read(ctx, &TEMPLATE, async |side, consistency| side.order_timeline(id, consistency).await).await?,
    };
    let entries = entries.into_iter().map(TimelineEntry::try_from).collect::<Result<_, _>>();
    entries.map_err(|error| read::internal(ctx, &format!("timeline of order {id}: {error}")))
}

impl TryFrom<order_timeline::TimelineEntry> for TimelineEntry {
    type Error = NoTime;

    fn try_from(entry: order_timeline::TimelineEntry) -> Result<Self, NoTime> {
        Ok(Self {
            at: time("at_us", entry.at_us)?,
            source: entry.source,
            position: SafeInt(entry.position),
            event: entry.event,
            what: entry.what,
            reason: entry.reason,
            amount: entry.amount.map(|(amount_minor, currency)| Money::new(amount_minor, currency)),
        })
    }
}
