//! Orders by the words that somebody remembers.

use async_graphql::{Context, ID, Result, SimpleObject};
use chrono::{DateTime, Utc};
use read_side::order_search::{self, TEMPLATE};

use super::{
    money::Money,
    node_id::{Kind, NodeId},
    order::OrderStatus,
    paging::page_size,
    read::{self, read},
    time::{NoTime, time},
};

/// An order that was found, as much of it as a list shows.
#[derive(Debug, SimpleObject)]
pub(crate) struct FoundOrder {
    /// The order's global id, for `node`.
    id: ID,
    /// The order's UUID. Pass it to `order` for more.
    order_id: ID,
    /// The order's key in the system that it was imported from.
    external_ref: Option<String>,
    /// The UUID of who placed it. Pass it to `customer` for more.
    customer_id: ID,
    /// The customer's name; null until the users service has told it, and after the customer was erased.
    customer_name: Option<String>,
    /// Where the order stands.
    status: OrderStatus,
    /// When the customer placed it.
    placed_at: DateTime<Utc>,
    /// The sum of the lines' totals.
    total: Money,
}

pub(super) async fn search(ctx: &Context<'_>, text: &str, first: i32) -> Result<Vec<FoundOrder>> {
    let first = page_size("first", first)?;
    let found = read(ctx, &TEMPLATE, async |side, consistency| side.search_orders(text, first, consistency).await);
    let found = found.await?.into_iter().map(FoundOrder::try_from).collect::<Result<_, _>>();
    found.map_err(|error| read::internal(ctx, &format!("an order that was searched: {error}")))
}

impl TryFrom<order_search::FoundOrder> for FoundOrder {
    type Error = NoTime;

    fn try_from(row: order_search::FoundOrder) -> Result<Self, NoTime> {
        Ok(Self {
            id: NodeId::of(Kind::Order, row.order_id.0),
            order_id: ID(row.order_id.to_string()),
            external_ref: row.external_ref,
            customer_id: ID(row.customer_id.to_string()),
            customer_name: row.customer_name,
            status: row.status.into(),
            placed_at: time("placed_at_us", row.placed_at_us)?,
            total: Money::new(row.total_minor, row.currency),
        })
    }
}
