//! The order of a list of orders, and its cursors.

use async_graphql::{Enum, InputObject, Result};
use events::ids::OrderId;
use read_side::order_details::{OrderCursor, OrderSort, SortKey};
use uuid::Uuid;

use crate::{
    errors::code,
    schema::{
        paging::{self, not_a_cursor},
        read::refused,
    },
};

/// The order of a list of orders. Among equals the order's id decides.
#[derive(Debug, Clone, Copy, InputObject)]
#[graphql(name = "OrderSort")]
pub(crate) struct OrderSortInput {
    /// What the list is sorted by.
    field: OrderSortField,
    /// Which way.
    direction: SortDirection,
}

/// What orders can be sorted by. Walking a list from cursor to cursor, in either direction, answers every order that is in
/// it throughout exactly once, as long as what the list is sorted by stays the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
pub(crate) enum OrderSortField {
    /// When it was placed. That never changes, so a walk misses none and tells none twice, whatever happens meanwhile.
    PlacedAt,
    /// When the orders service last recorded something of it. An order of which something is recorded during a walk moves to
    /// the newest: it may be told once more (oldest first), or not at all (newest first, if it was not reached yet). Orders
    /// of which nothing is recorded are told exactly once.
    UpdatedAt,
    /// The total, in minor units: filter by `total` to have one currency only. An order's total never changes, so that a walk
    /// misses none and tells none twice.
    Total,
}

/// Which way a list is sorted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
pub(crate) enum SortDirection {
    /// The oldest or smallest first.
    Asc,
    /// The newest or largest first.
    Desc,
}

impl From<OrderSortInput> for OrderSort {
    fn from(order: OrderSortInput) -> Self {
        let key = match order.field {
            OrderSortField::PlacedAt => SortKey::PlacedAt,
            OrderSortField::UpdatedAt => SortKey::UpdatedAt,
            OrderSortField::Total => SortKey::Total,
        };
        Self { key, descending: matches!(order.direction, SortDirection::Desc) }
    }
}

/// The layout's version, what the list is sorted by, the sort key, the order's id.
const CURSOR_BYTES: usize = 1 + 1 + 8 + 16;
const CURSOR_VERSION: u8 = 2;
/// Before there was anything else to sort by: the newest first, and no byte that says so. They stay that way, so that a
/// walk goes on over a change of programs.
const NEWEST_BYTES: usize = 1 + 8 + 16;
const NEWEST_VERSION: u8 = 1;

/// Each way to sort by its byte; never another one's.
const SORTS: [(u8, OrderSort); 6] = [
    (b'p', OrderSort { key: SortKey::PlacedAt, descending: false }),
    (b'P', OrderSort { key: SortKey::PlacedAt, descending: true }),
    (b'u', OrderSort { key: SortKey::UpdatedAt, descending: false }),
    (b'U', OrderSort { key: SortKey::UpdatedAt, descending: true }),
    (b't', OrderSort { key: SortKey::Total, descending: false }),
    (b'T', OrderSort { key: SortKey::Total, descending: true }),
];

pub(super) fn format_cursor(cursor: OrderCursor, sort: OrderSort) -> String {
    let mut bytes = Vec::with_capacity(CURSOR_BYTES);
    if sort == OrderSort::NEWEST {
        bytes.push(NEWEST_VERSION);
    } else {
        let (byte, _) = SORTS.iter().find(|(_, each)| *each == sort).expect("every way to sort has its byte");
        bytes.extend([CURSOR_VERSION, *byte]);
    }
    bytes.extend(cursor.sort_key.to_be_bytes());
    bytes.extend(cursor.order_id.0.as_bytes());
    paging::format_cursor(&bytes)
}

/// The place in a list that is sorted as `sort` says.
pub(super) fn parse_cursor(argument: &'static str, text: &str, sort: OrderSort) -> Result<OrderCursor> {
    let bytes = paging::cursor_bytes(text).unwrap_or_default();
    let (of, rest) = match *bytes.as_slice() {
        [NEWEST_VERSION, ref rest @ ..] if bytes.len() == NEWEST_BYTES => (Some(OrderSort::NEWEST), rest),
        [CURSOR_VERSION, byte, ref rest @ ..] if bytes.len() == CURSOR_BYTES => {
            (SORTS.iter().find(|(each, _)| *each == byte).map(|(_, sort)| *sort), rest)
        }
        _ => return Err(not_a_cursor(argument)),
    };
    let Some(of) = of else { return Err(not_a_cursor(argument)) };
    if of != sort {
        let why = "the cursor of a list that is sorted another way: keep `orderBy` as it is while you walk";
        return Err(refused(code::CURSOR_MISMATCH, argument, why));
    }
    let (key, id) = rest.split_at(8);
    Ok(OrderCursor {
        sort_key: i64::from_be_bytes(key.try_into().expect("eight bytes were split off")),
        order_id: OrderId(Uuid::from_slice(id).expect("sixteen bytes are left")),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_sort() -> impl Strategy<Value = OrderSort> {
        (0..SORTS.len()).prop_map(|n| SORTS[n].1)
    }

    proptest! {
        #[test]
        fn a_cursor_survives_its_text_and_fits_no_other_list(
            sort_key: i64, id: u128, sort in any_sort(), other in any_sort(),
        ) {
            let cursor = OrderCursor { sort_key, order_id: OrderId(Uuid::from_u128(id)) };
            let parsed = parse_cursor("after", &format_cursor(cursor, sort), other);
            prop_assert_eq!(parsed.ok(), (sort == other).then_some(cursor));
        }

        #[test]
        fn any_text_is_a_cursor_or_an_error(text in ".{0,40}", sort in any_sort()) {
            let _ = parse_cursor("after", &text, sort);
        }
    }
}
