//! What every Relay connection of the schema has in common: the arguments of a page, where it lies, and cursors.

use async_graphql::{Context, Error, Result, SimpleObject};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use read_side::paging::{End, Stretch};

use super::{money::SafeInt, read::invalid};
use crate::{
    document::page_too_large,
    options::{PAGE_DEFAULT, PAGE_MAX},
};

/// Where a page lies in its list.
#[derive(Debug, SimpleObject)]
pub(crate) struct PageInfo {
    /// Whether the list goes on behind this page.
    has_next_page: bool,
    /// Whether the list has something before this page.
    has_previous_page: bool,
    /// The cursor of the first edge, for the `before` of the page before; null if the page is empty.
    start_cursor: Option<String>,
    /// The cursor of the last edge, for the `after` of the next page; null if the page is empty.
    end_cursor: Option<String>,
}

/// The arguments of a page.
#[derive(Debug, Default)]
pub(super) struct PageArguments {
    pub first: Option<i32>,
    pub after: Option<String>,
    pub last: Option<i32>,
    pub before: Option<String>,
}

impl PageArguments {
    /// The stretch that they ask for, as far as the query selects of it: rows, total, what lies beyond.
    pub fn stretch<C>(self, ctx: &Context<'_>, place: impl Fn(&'static str, &str) -> Result<C>) -> Result<Stretch<C>> {
        let (rows_max, end) = match (self.first, self.last) {
            (Some(_), Some(_)) => return Err(invalid("last", "a page has either `first` or `last`")),
            (None, Some(last)) => (page_size("last", last)?, End::Last),
            (first, None) => (first.map_or(Ok(PAGE_DEFAULT), |first| page_size("first", first))?, End::First),
        };
        let selected = ctx.look_ahead();
        let has_rows = selected.field("edges").exists() || selected.field("pageInfo").exists();
        let info = selected.field("pageInfo");
        Ok(Stretch {
            rows_max: if has_rows { rows_max } else { 0 },
            end,
            after: self.after.map(|text| place("after", &text)).transpose()?,
            before: self.before.map(|text| place("before", &text)).transpose()?,
            total: selected.field("totalCount").exists(),
            neighbours: info.field("hasNextPage").exists() || info.field("hasPreviousPage").exists(),
        })
    }
}

impl PageInfo {
    /// Of a page with these cursors.
    pub fn of<'a>(
        (has_previous_page, has_next_page): (bool, bool),
        mut cursors: impl DoubleEndedIterator<Item = &'a str>,
    ) -> Self {
        let start_cursor = cursors.next();
        let end_cursor = cursors.next_back().or(start_cursor);
        Self {
            has_next_page,
            has_previous_page,
            start_cursor: start_cursor.map(str::to_owned),
            end_cursor: end_cursor.map(str::to_owned),
        }
    }
}

/// The number of rows of the whole list; who selects it has had it counted.
pub(super) fn total_count(total: Option<u64>) -> SafeInt {
    SafeInt::of(total.expect("it is counted where it is selected"))
}

/// What a list costs at most: what one of its rows costs, as often as the page is long.
pub(super) fn page_cost(first: Option<i32>, last: Option<i32>, child_complexity: usize) -> usize {
    let asked = first.into_iter().chain(last).map(|rows| usize::try_from(rows).unwrap_or(PAGE_DEFAULT)).max();
    let rows = asked.unwrap_or(PAGE_DEFAULT).clamp(1, PAGE_MAX);
    1_usize.saturating_add(child_complexity.saturating_mul(rows))
}

/// The document's check has refused other sizes already, where it could see them.
pub(super) fn page_size(argument: &'static str, rows: i32) -> Result<usize> {
    match usize::try_from(rows) {
        Ok(rows) if rows > PAGE_MAX => {
            let refused = page_too_large(argument, None);
            Err(Error { message: refused.message, source: None, extensions: refused.extensions })
        }
        Ok(rows @ 1..) => Ok(rows),
        _ => Err(invalid(argument, "must be at least 1")),
    }
}

/// A cursor is opaque; it has a version, because clients keep it for a while.
pub(super) fn format_cursor(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

pub(super) fn cursor_bytes(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

pub(super) fn not_a_cursor(argument: &'static str) -> Error {
    invalid(argument, "not a cursor of this list: pass on, unchanged, a cursor from an answer")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_costs_its_rows() {
        assert_eq!(page_cost(Some(10), None, 7), 71);
        assert_eq!(page_cost(None, Some(10), 7), 71);
        assert_eq!(page_cost(Some(-1), None, 7), 141);
        assert_eq!(page_cost(None, None, 7), 141);
        assert_eq!(page_cost(Some(i32::MAX), None, usize::MAX), usize::MAX);
    }
}
