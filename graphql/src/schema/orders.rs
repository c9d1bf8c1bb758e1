//! Lists of orders: Relay connections over keyset cursors.

mod filter;
mod sort;

use std::collections::HashMap;

use async_graphql::{ComplexObject, Context, Result, SimpleObject};
use chrono::{DateTime, Utc};
use events::ids::OrderId;
use read_side::{
    order_details::{self, OrderColumns, OrderCursor, OrderRow, OrderSort},
    order_search,
    paging::Page,
};

use self::sort::{format_cursor, parse_cursor};
pub(crate) use self::{
    filter::{OrderFilter, currency},
    sort::OrderSortInput,
};
use super::{
    in_turn::{InTurn, ListInTurn},
    money::SafeInt,
    order::{Order, Timelines, columns},
    paging::{PageArguments, PageInfo, total_count},
    read::{self, read},
};

/// A page of a list of orders.
#[derive(Debug, SimpleObject)]
#[graphql(complex)]
pub(crate) struct OrderConnection {
    /// The orders of this page, each with its place in the list.
    edges: ListInTurn<OrderEdge>,
    /// Where this page lies in the list.
    page_info: InTurn<PageInfo>,
    #[graphql(skip)]
    total: Option<u64>,
}

#[ComplexObject]
impl OrderConnection {
    /// How many orders the whole list has. They are counted where this is selected, and only there.
    async fn total_count(&self) -> SafeInt {
        total_count(self.total)
    }
}

/// An order and its place in the list.
#[derive(Debug, SimpleObject)]
struct OrderEdge {
    /// The place, for `after` and `before`. It stays valid when orders come and go.
    cursor: String,
    /// The order.
    node: InTurn<Order>,
}

/// What is asked for, beside the page.
#[derive(Debug, Default)]
pub(super) struct Asked {
    pub filter: order_details::OrderFilter,
    pub order_by: Option<OrderSortInput>,
    pub as_of: Option<DateTime<Utc>>,
}

/// The page that the arguments ask for: one statement.
pub(super) async fn page(ctx: &Context<'_>, page: PageArguments, asked: Asked) -> Result<OrderConnection> {
    let Asked { filter, order_by, as_of } = asked;
    let sort = order_by.map_or(OrderSort::NEWEST, Into::into);
    let stretch = page.stretch(ctx, |argument, text| parse_cursor(argument, text, sort))?;
    let (page, columns) = match as_of {
        Some(as_of) => {
            let page = read(ctx, &order_details::TEMPLATE, async |side, consistency| {
                side.list_orders_as_of(as_of, &filter, sort, stretch, consistency).await
            });
            (page.await?.map(OrderRow::from), OrderColumns::ALL)
        }
        None => {
            let columns = asked_columns(ctx);
            let page = read(ctx, &order_details::TEMPLATE, async |side, consistency| {
                side.list_orders(&filter, sort, stretch, columns, consistency).await
            });
            (page.await?, columns)
        }
    };
    let is_as_of = as_of.is_some();
    let timelines = (!is_as_of).then(|| Timelines::of(page.rows.iter().map(|row| row.order_id)));
    connection(page, |row| {
        let (id, cursor) = (row.order_id, OrderCursor::of(&row, sort).expect("a list's sort key is read"));
        let node = Order::of(row, columns).map_err(|error| read::internal(ctx, &format!("order {id}: {error}")))?;
        let node = if is_as_of { node.of_then() } else { node.with_timelines(timelines.clone()) };
        Ok((format_cursor(cursor, sort), Some(node)))
    })
}

/// The page of the orders that are found by words: a statement of the read model that finds them, and one of the read
/// model that tells them.
pub(super) async fn search(ctx: &Context<'_>, text: &str, page: PageArguments) -> Result<OrderConnection> {
    let sort = OrderSort::NEWEST;
    let stretch = page.stretch(ctx, |argument, text| parse_cursor(argument, text, sort))?;
    let found = read(ctx, &order_search::TEMPLATE, async |side, consistency| {
        side.search_orders_page(text, stretch, consistency).await
    });
    let found = found.await?;
    let ids: Vec<OrderId> = found.rows.iter().map(|order| order.order_id).collect();
    let columns = asked_columns(ctx);
    let mut told: HashMap<OrderId, OrderRow> = HashMap::new();
    if !ids.is_empty() {
        let rows = read(ctx, &order_details::TEMPLATE, async |side, consistency| {
            side.orders_by_id(&ids, columns, consistency).await
        });
        told.extend(rows.await?.into_iter().map(|row| (row.order_id, row)));
    }
    let timelines = Timelines::of(ids);
    connection(found, |order| {
        let (id, cursor) = (order.order_id, format_cursor(OrderCursor::from(&order), sort));
        // one that the other read model has not yet is left out; its place stays
        let Some(row) = told.remove(&id) else { return Ok((cursor, None)) };
        let node = Order::of(row, columns).map_err(|error| read::internal(ctx, &format!("order {id}: {error}")))?;
        Ok((cursor, Some(node.with_timelines(Some(timelines.clone())))))
    })
}

/// Of the orders of a connection.
fn asked_columns(ctx: &Context<'_>) -> OrderColumns {
    columns(ctx.look_ahead().field("edges").field("node").selection_fields())
}

fn connection<T>(page: Page<T>, mut edge: impl FnMut(T) -> Result<(String, Option<Order>)>) -> Result<OrderConnection> {
    let Page { rows, has_previous_page, has_next_page, total } = page;
    let rows: Vec<(String, Option<Order>)> = rows.into_iter().map(&mut edge).collect::<Result<_>>()?;
    let page_info = PageInfo::of((has_previous_page, has_next_page), rows.iter().map(|(cursor, _)| cursor.as_str()));
    let edges = rows.into_iter().filter_map(|(cursor, node)| Some(OrderEdge { cursor, node: InTurn(node?) }));
    Ok(OrderConnection { edges: ListInTurn(edges.collect()), page_info: InTurn(page_info), total })
}
