//! What a changed reference asks for: every row that refers to it is derived anew.
//!
//! One transaction rewrites at most a bound of rows. What is left is a cursor (this reference, behind this row) that
//! commits with the checkpoint and moves on in the transactions that follow, whether or not events come.

use std::collections::HashMap;

use serde::Serialize;

/// One changed reference whose rows are not all rewritten.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct FanOut {
    pub reference: String,
    pub foreign_key: String,
    pub source: String,
    /// Rows up to this key are done.
    pub after_key: String,
    /// Of the oldest event whose effect is not in every row.
    pub position: i64,
}

impl FanOut {
    /// Which changed reference it is of.
    pub fn key(&self) -> (&str, &str) {
        (&self.reference, &self.foreign_key)
    }
}

/// Open cursors and what has just changed: what to rewrite now, oldest first.
///
/// A change starts its reference's cursor over, because the rows behind it hold an older state again; its position
/// stays that of the oldest change.
pub(crate) fn merge(open: &[FanOut], changed: Vec<FanOut>) -> Vec<FanOut> {
    let mut cursors = open.to_vec();
    let places: HashMap<_, _> = open.iter().enumerate().map(|(place, cursor)| (cursor.key(), place)).collect();
    for change in changed {
        match places.get(&change.key()) {
            Some(place) => cursors[*place].after_key.clear(),
            None => cursors.push(change),
        }
    }
    cursors
}

/// What became of the cursors in one transaction.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Advanced {
    /// The rows to rewrite.
    pub keys: Vec<String>,
    /// Still open, in order.
    pub open: Vec<FanOut>,
    /// Done: to be forgotten if they were stored.
    pub closed: Vec<FanOut>,
}

/// Moves `cursors` over `found`, (index of the cursor, row key) in order, of which there are more than `rows_max` if
/// they were not all looked for. Cursors from `asked` on were not looked at.
pub(crate) fn advance(
    cursors: Vec<FanOut>,
    asked: usize,
    mut found: Vec<(usize, String)>,
    rows_max: usize,
) -> Advanced {
    let complete = found.len() <= rows_max;
    found.truncate(rows_max);
    // the cursor that the bound has cut: everything before it is done
    let cut = if complete { asked } else { found.last().map_or(0, |(n, _)| *n) };
    let mut advanced = Advanced::default();
    for (n, mut cursor) in cursors.into_iter().enumerate() {
        if n < cut {
            advanced.closed.push(cursor);
            continue;
        }
        // rows come in the order of their cursors: only the one that was cut can have any
        if n == cut
            && let Some((_, key)) = found.last().filter(|(of, _)| *of == n)
        {
            cursor.after_key.clone_from(key);
        }
        advanced.open.push(cursor);
    }
    advanced.keys = found.into_iter().map(|(_, key)| key).collect();
    advanced
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cursor(foreign_key: &str, after_key: &str, position: i64) -> FanOut {
        FanOut {
            reference: "customer".to_owned(),
            foreign_key: foreign_key.to_owned(),
            source: "users".to_owned(),
            after_key: after_key.to_owned(),
            position,
        }
    }

    fn found(rows: &[(usize, &str)]) -> Vec<(usize, String)> {
        rows.iter().map(|(n, key)| (*n, (*key).to_owned())).collect()
    }

    #[test]
    fn a_second_change_starts_over_and_keeps_the_first_position() {
        let merged = merge(&[cursor("c1", "o5", 3)], vec![cursor("c1", "", 9), cursor("c2", "", 9)]);
        assert_eq!(merged, [cursor("c1", "", 3), cursor("c2", "", 9)]);
    }

    #[test]
    fn all_rows_within_the_bound_close_every_cursor() {
        let advanced = advance(vec![cursor("c1", "", 1), cursor("c2", "", 2)], 2, found(&[(0, "o1"), (1, "o2")]), 2);
        assert_eq!(advanced.open, []);
        assert_eq!(advanced.keys, ["o1", "o2"]);
    }

    #[test]
    fn the_bound_cuts_a_cursor_and_keeps_those_behind_it() {
        let cursors = vec![cursor("c1", "", 1), cursor("c2", "", 2), cursor("c3", "", 3)];
        let advanced = advance(cursors, 3, found(&[(0, "o1"), (1, "o2"), (1, "o3")]), 2);
        assert_eq!(advanced.closed, [cursor("c1", "", 1)]);
        assert_eq!(advanced.open, [cursor("c2", "o2", 2), cursor("c3", "", 3)]);
        assert_eq!(advanced.keys, ["o1", "o2"]);
    }

    #[test]
    fn cursors_that_were_not_looked_at_stay_open() {
        let advanced = advance(vec![cursor("c1", "", 1), cursor("c2", "", 2)], 1, found(&[(0, "o1")]), 5);
        assert_eq!(advanced.open, [cursor("c2", "", 2)]);
    }
}
