//! Stretches of lists.
//!
//! A list has an order: by a sort key, and by id among equals. A cursor is both of one row, so it is a place and not a
//! number: rows that come or go elsewhere shift nothing. A walk from cursor to cursor, in either direction, answers every
//! row that is in the list throughout exactly once, as long as its sort key stays the same.

use std::fmt::Write as _;

use sqlx::{FromRow, postgres::PgRow, sqlite::SqliteRow};

use crate::{
    ReadError, ReadSide,
    consistency::Consistency,
    read_side::{Beside, Bind, Rows},
    template::{Live, Template},
};

/// The most rows of one page.
pub const PAGE_ROWS_MAX: usize = 1_000;

/// Which stretch of a list is wanted; `C` is a place in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stretch<C> {
    /// At most so many rows, up to [`PAGE_ROWS_MAX`]; what is above is cut. 0 where only [`Self::total`] is wanted.
    pub rows_max: usize,
    pub end: End,
    /// Only what lies behind this place.
    pub after: Option<C>,
    /// Only what lies before this place.
    pub before: Option<C>,
    /// Whether to count the whole list.
    pub total: bool,
    /// Whether to look what lies beyond `after` and `before`.
    pub neighbours: bool,
}

/// Which end of what lies between the cursors the rows are taken from. They come in the list's order either way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    First,
    Last,
}

impl<C> Stretch<C> {
    /// The first rows of the list, or of what lies behind a place.
    pub fn first(rows_max: usize, after: Option<C>) -> Self {
        Self { rows_max, end: End::First, after, before: None, total: false, neighbours: false }
    }

    /// The last rows of the list, or of what lies before a place.
    pub fn last(rows_max: usize, before: Option<C>) -> Self {
        Self { rows_max, end: End::Last, after: None, before, total: false, neighbours: false }
    }

    pub(crate) fn map<D>(self, place: impl Fn(C) -> D) -> Stretch<D> {
        let Self { rows_max, end, after, before, total, neighbours } = self;
        Stretch { rows_max, end, after: after.map(&place), before: before.map(&place), total, neighbours }
    }

    /// One row more than wanted says whether there are more.
    pub(crate) fn limit(&self) -> usize {
        if self.rows_max == 0 { 0 } else { self.rows_max.min(PAGE_ROWS_MAX) + 1 }
    }
}

/// A stretch of a list, in the list's order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    pub rows: Vec<T>,
    /// Whether the list has rows before these; with cursors that were passed on, only if [`Stretch::neighbours`] were
    /// wanted.
    pub has_previous_page: bool,
    /// As [`Self::has_previous_page`], behind these.
    pub has_next_page: bool,
    /// How many rows the whole list has, if that was wanted.
    pub total: Option<u64>,
}

impl<T> Page<T> {
    pub fn map<U>(self, row: impl FnMut(T) -> U) -> Page<U> {
        let Self { rows, has_previous_page, has_next_page, total } = self;
        Page { rows: rows.into_iter().map(row).collect(), has_previous_page, has_next_page, total }
    }
}

/// The order of a list: columns of its rows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Keyset {
    pub sort_key: &'static str,
    /// Decides among equal sort keys.
    pub id: &'static str,
    pub descending: bool,
}

/// The sort key and the id of a row.
pub(crate) type Place = (Bind, String);

/// Conditions on the rows of a list, with their parameters.
#[derive(Debug, Clone, Default)]
pub(crate) struct Conditions {
    pub text: String,
    pub binds: Vec<Bind>,
}

impl Conditions {
    /// `condition` ends where the parameter goes.
    pub fn and(&mut self, condition: &str, bind: Bind) {
        let n = self.bind(bind);
        let _ = write!(self.text, " and {condition} ${n}");
    }

    pub fn and_text(&mut self, condition: &str) {
        let _ = write!(self.text, " and {condition}");
    }

    /// The number of the parameter.
    pub fn bind(&mut self, bind: Bind) -> usize {
        self.binds.push(bind);
        self.binds.len()
    }
}

/// A stretch as SQL says it.
pub(crate) struct Between {
    /// The rows between the cursors.
    pub within: String,
    pub order_by: String,
    /// What lies before the stretch, and behind it: conditions, if anybody wants to know.
    pub before: Option<String>,
    pub behind: Option<String>,
    pub limit: usize,
    end: End,
}

impl Keyset {
    /// Binds the cursors of `stretch`.
    pub fn between(&self, stretch: Stretch<Place>, binds: &mut Vec<Bind>) -> Between {
        let Self { sort_key, id, descending } = *self;
        let limit = stretch.limit();
        // each with the other side, the place itself included
        let (behind, before) = if descending { (("<", ">="), (">", "<=")) } else { ((">", "<="), ("<", ">=")) };
        let mut condition = |(key, of): Place, (is, is_not): (&str, &str)| {
            binds.extend([key, Bind::Text(of)]);
            let n = binds.len();
            let compare = |how: &str| format!(" and ({sort_key}, {id}) {how} (${}, ${n})", n - 1);
            (compare(is), compare(is_not))
        };
        let after = stretch.after.map(|place| condition(place, behind));
        let until = stretch.before.map(|place| condition(place, before));
        let text =
            |side: &Option<(String, String)>| side.as_ref().map(|(within, _)| within.clone()).unwrap_or_default();
        let beyond =
            |side: &Option<(String, String)>| side.as_ref().filter(|_| stretch.neighbours).map(|(_, b)| b.clone());
        let forward = matches!(stretch.end, End::First);
        let direction = if descending == forward { "desc" } else { "asc" };
        Between {
            within: text(&after) + &text(&until),
            order_by: format!("order by {sort_key} {direction}, {id} {direction}"),
            before: beyond(&after),
            behind: beyond(&until),
            limit,
            end: stretch.end,
        }
    }
}

impl Between {
    /// What was found, in the list's order. `beside`: the total and what lies before and behind, as far as wanted.
    pub fn page<T>(&self, mut rows: Vec<T>, total: bool, beside: Vec<i64>) -> Page<T> {
        let mut beside = beside.into_iter();
        let total = total.then(|| beside.next()).flatten().map(|total| u64::try_from(total).unwrap_or(0));
        let mut is_there = |side: &Option<String>| side.is_some() && beside.next() == Some(1);
        let (lies_before, lies_behind) = (is_there(&self.before), is_there(&self.behind));
        let more = self.limit > 0 && rows.len() == self.limit;
        rows.truncate(self.limit.saturating_sub(1));
        let (has_previous_page, has_next_page) = match self.end {
            End::First => (lies_before, more || lies_behind),
            End::Last => {
                rows.reverse();
                (more || lies_before, lies_behind)
            }
        };
        Page { rows, has_previous_page, has_next_page, total }
    }
}

/// A list in one table of a generation.
pub(crate) struct List<C, F> {
    pub template: &'static Template,
    /// The columns; the keyset's must be among them.
    pub select: C,
    /// `from .. where ..`, with the parameters of `binds`.
    pub from: F,
    pub keyset: Keyset,
    pub binds: Vec<Bind>,
}

impl ReadSide {
    /// A stretch of a list: rows, total and what lies beyond are one statement.
    pub(crate) async fn page<T, C, F>(
        &self,
        list: List<C, F>,
        stretch: Stretch<Place>,
        consistency: &Consistency,
    ) -> Result<Page<T>, ReadError>
    where
        T: for<'r> FromRow<'r, SqliteRow> + for<'r> FromRow<'r, PgRow> + Send + Unpin,
        C: Fn(Live) -> String + Send + Sync,
        F: Fn(Live) -> String + Send + Sync,
    {
        let List { template, select, from, keyset, mut binds } = list;
        let total = stretch.total;
        let between = keyset.between(stretch, &mut binds);
        let from = &from;
        let mut beside: Vec<Beside<'_>> = Vec::new();
        if total {
            beside.push(Box::new(move |live| format!("(select count(*) {})", from(live))));
        }
        for beyond in [&between.before, &between.behind].into_iter().flatten() {
            beside.push(Box::new(move |live| {
                format!("(case when exists (select 1 {}{beyond}) then 1 else 0 end)", from(live))
            }));
        }
        let (within, order_by, limit) = (&between.within, &between.order_by, between.limit);
        let rows = Rows {
            select: |live| format!("{} {}{within} {order_by} limit {limit}", select(live), from(live)),
            order_by: order_by.clone().into(),
            binds,
        };
        let (rows, told) = self.read_beside(template, consistency, rows, &beside).await?;
        Ok(between.page(rows, total, told))
    }
}
