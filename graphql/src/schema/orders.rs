//! Lists of orders: a Relay connection over keyset cursors, newest first.

use async_graphql::{Context, Error, ID, InputObject, Result, SimpleObject};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{DateTime, Utc};
use events::ids::{CustomerId, OrderId};
use read_side::order_details::{self, OrderCursor, OrderDetails};
use uuid::Uuid;

use super::{
    node_id::{Kind, id_of},
    order::{Order, OrderStatus},
    read::{self, invalid, read},
};
use crate::{
    document::page_too_large,
    options::{PAGE_DEFAULT, PAGE_MAX},
};

/// Which orders are wanted. What is left out does not matter.
#[derive(Debug, Default, InputObject)]
pub(crate) struct OrderFilter {
    /// Only this customer's: a UUID or a global id.
    customer_id: Option<ID>,
    /// Only those that stand so.
    status: Option<OrderStatus>,
    /// Only those placed at this instant or later.
    placed_after: Option<DateTime<Utc>>,
    /// Only those placed before this instant.
    placed_before: Option<DateTime<Utc>>,
    /// Only the one with this key in the system that it was imported from.
    external_ref: Option<String>,
}

impl TryFrom<OrderFilter> for order_details::OrderFilter {
    type Error = Error;

    fn try_from(filter: OrderFilter) -> Result<Self> {
        let customer_id = filter.customer_id.map(|id| id_of(Kind::Customer, &id, "filter.customerId")).transpose()?;
        Ok(Self {
            customer_id: customer_id.map(CustomerId::from),
            status: filter.status.map(Into::into),
            placed_after_us: filter.placed_after.map(|time| time.timestamp_micros()),
            placed_before_us: filter.placed_before.map(|time| time.timestamp_micros()),
            external_ref: filter.external_ref,
        })
    }
}

/// A page of a list of orders.
#[derive(Debug, SimpleObject)]
pub(crate) struct OrderConnection {
    /// The orders of this page, each with its place in the list.
    edges: Vec<OrderEdge>,
    /// Where this page lies in the list.
    page_info: PageInfo,
}

/// An order and its place in the list.
#[derive(Debug, SimpleObject)]
struct OrderEdge {
    /// The place, for `after`. It stays valid when orders come and go.
    cursor: String,
    /// The order.
    node: Order,
}

/// Where a page lies in its list.
#[derive(Debug, SimpleObject)]
struct PageInfo {
    /// Whether there are orders behind this page.
    has_next_page: bool,
    /// Whether the page was asked for with `after`, so that there are orders before it.
    has_previous_page: bool,
    /// The cursor of the first order; null if the page is empty.
    start_cursor: Option<String>,
    /// The cursor of the last order, for the next page's `after`; null if the page is empty.
    end_cursor: Option<String>,
}

/// The page that the arguments ask for.
pub(super) async fn page(
    ctx: &Context<'_>,
    first: i32,
    after: Option<String>,
    filter: order_details::OrderFilter,
) -> Result<OrderConnection> {
    let first = page_size(first)?;
    let after = after.map(|text| parse_cursor(&text)).transpose()?;
    let page = read(ctx, &order_details::TEMPLATE, async |side, consistency| {
        side.orders(&filter, first, after, consistency).await
    })
    .await?;
    let edge = |row: OrderDetails| {
        let (id, cursor) = (row.order_id, format_cursor(OrderCursor::from(&row)));
        let node = Order::try_from(row).map_err(|error| read::internal(ctx, &format!("order {id}: {error}")))?;
        Ok(OrderEdge { cursor, node })
    };
    let edges: Vec<OrderEdge> = page.rows.into_iter().map(edge).collect::<Result<_>>()?;
    let page_info = PageInfo {
        has_next_page: page.has_next_page,
        has_previous_page: after.is_some(),
        start_cursor: edges.first().map(|edge| edge.cursor.clone()),
        end_cursor: edges.last().map(|edge| edge.cursor.clone()),
    };
    Ok(OrderConnection { edges, page_info })
}

/// What a list costs at most: what one of its orders costs, as often as the page is long.
pub(super) fn page_cost(first: i32, child_complexity: usize) -> usize {
    let rows = usize::try_from(first).unwrap_or(PAGE_DEFAULT).clamp(1, PAGE_MAX);
    1_usize.saturating_add(child_complexity.saturating_mul(rows))
}

/// The document's check has refused other sizes already, where it could see them.
pub(super) fn page_size(first: i32) -> Result<usize> {
    match usize::try_from(first) {
        Ok(first) if first > PAGE_MAX => {
            let refused = page_too_large(None);
            Err(Error { message: refused.message, source: None, extensions: refused.extensions })
        }
        Ok(first @ 1..) => Ok(first),
        _ => Err(invalid("first", "must be at least 1")),
    }
}

/// The layout's version, the time in microseconds, the order's id.
const CURSOR_BYTES: usize = 1 + 8 + 16;
const CURSOR_VERSION: u8 = 1;

fn format_cursor(cursor: OrderCursor) -> String {
    let mut bytes = [CURSOR_VERSION; CURSOR_BYTES];
    bytes[1..9].copy_from_slice(&cursor.placed_at_us.to_be_bytes());
    bytes[9..].copy_from_slice(cursor.order_id.0.as_bytes());
    URL_SAFE_NO_PAD.encode(bytes)
}

fn parse_cursor(text: &str) -> Result<OrderCursor> {
    let bytes = URL_SAFE_NO_PAD.decode(text).ok().and_then(|bytes| <[u8; CURSOR_BYTES]>::try_from(bytes).ok());
    match bytes {
        Some([CURSOR_VERSION, rest @ ..]) => {
            let (mut time, mut id) = ([0; 8], [0; 16]);
            time.copy_from_slice(&rest[..8]);
            id.copy_from_slice(&rest[8..]);
            Ok(OrderCursor { placed_at_us: i64::from_be_bytes(time), order_id: OrderId(Uuid::from_bytes(id)) })
        }
        _ => Err(invalid("after", "not a cursor: pass on, unchanged, a cursor or endCursor from an answer")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_cursor_survives_its_text(placed_at_us: i64, id: u128) {
            let cursor = OrderCursor { placed_at_us, order_id: OrderId(Uuid::from_u128(id)) };
            prop_assert_eq!(parse_cursor(&format_cursor(cursor)).unwrap(), cursor);
        }

        #[test]
        fn any_text_is_a_cursor_or_an_error(text in ".{0,40}") {
            let _ = parse_cursor(&text);
        }
    }

    #[test]
    fn a_page_costs_its_rows() {
        assert_eq!(page_cost(10, 7), 71);
        assert_eq!(page_cost(-1, 7), 141);
        assert_eq!(page_cost(i32::MAX, usize::MAX), usize::MAX);
    }
}
