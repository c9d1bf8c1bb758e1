//! Which rows of a read model changed, in order: for whoever keeps an answer up to date.
//!
//! Begin without a cursor, read what you show, then follow from the cursor that you were given. Where the way from your
//! cursor to now is not known (another generation is live, or you were away for more than a day), the answer is
//! [`Changes::Resync`]: read everything anew, once, and follow from there.

use serde::{Deserialize, Serialize};
use sqlx::FromRow;

use crate::{
    Consistency, ReadError, ReadSide,
    read_side::{Bind, Rows},
    template::{Live, Template},
};

/// The most changes of one answer.
pub const CHANGES_PAGE_MAX: usize = 1_000;

/// A place in the changes of a read model: behind this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeCursor {
    pub generation: i64,
    pub seq: i64,
}

/// That a row was written anew. It may hold what it held before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub seq: i64,
    /// Of the row. Of a roll-up it is the key of a group, as a JSON array of its columns, or the beginning of one: then it is
    /// of all groups that begin so, because what they show beside their amounts was written anew.
    pub key: String,
    /// When it was written, in microseconds of Unix time.
    pub changed_at_us: i64,
}

/// What happened behind a cursor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Changes {
    /// These, in order, and perhaps more behind them.
    Since { changes: Vec<Change>, cursor: ChangeCursor, has_more: bool },
    /// Anything: read anew what you have, and go on from here.
    Resync { cursor: ChangeCursor },
}

#[derive(FromRow)]
struct Found {
    generation: i64,
    first_seq: Option<i64>,
    last_seq: Option<i64>,
    seq: Option<i64>,
    key: Option<String>,
    changed_at_us: Option<i64>,
}

impl ReadSide {
    /// What changed in `read_model` behind `after`, at most `limit` rows (1 to [`CHANGES_PAGE_MAX`]; what is outside is
    /// cut). Without a cursor it is the one to begin from.
    pub async fn changes(
        &self,
        read_model: &'static Template,
        after: Option<ChangeCursor>,
        limit: usize,
    ) -> Result<Changes, ReadError> {
        let limit = limit.clamp(1, CHANGES_PAGE_MAX);
        let rows = Rows {
            select: |live: Live| select(read_model, live, limit + 1),
            order_by: "order by seq".into(),
            binds: vec![Bind::Integer(after.map_or(i64::MAX, |after| after.seq))],
        };
        let found: Vec<Found> = self.read(read_model, &Consistency::any(), rows).await?;
        Ok(judge(after, found, limit))
    }
}

/// Always a row, so that it says which generation is live and what it has: first and last, and those behind `$1`.
fn select(read_model: &Template, live: Live, limit: usize) -> String {
    let own = format!("read_model = '{}' and generation = {}", read_model.name, live.generation);
    format!(
        "select e.*, c.seq, c.key, c.changed_at_us from \
         (select cast({} as bigint) as generation, (select min(seq) from changes where {own}) as first_seq, \
            (select max(seq) from changes where {own}) as last_seq) e left join \
         (select seq, key, changed_at_us from changes where {own} and seq > $1 order by seq limit {limit}) c on 1 = 1",
        live.generation,
    )
}

/// Whether everything between the cursor and `here`, the last change, is kept.
pub(crate) fn is_whole(after: ChangeCursor, here: ChangeCursor, first: i64) -> bool {
    after.generation == here.generation && after.seq <= here.seq && after.seq.saturating_add(1) >= first
}

/// Whether the way from the cursor to what was found is whole.
fn judge(after: Option<ChangeCursor>, found: Vec<Found>, limit: usize) -> Changes {
    let Some(edge) = found.first() else { unreachable!("the select always gives a row") };
    let (first, last) = (edge.first_seq.unwrap_or(1), edge.last_seq.unwrap_or(0));
    let here = ChangeCursor { generation: edge.generation, seq: last };
    let Some(after) = after.filter(|after| is_whole(*after, here, first)) else {
        return Changes::Resync { cursor: here };
    };
    let mut changes = Vec::with_capacity(found.len());
    for row in found {
        match (row.seq, row.key, row.changed_at_us) {
            (Some(seq), Some(key), Some(changed_at_us)) => changes.push(Change { seq, key, changed_at_us }),
            // the generation went on untold: nobody follows across this
            (Some(_), None, _) => return Changes::Resync { cursor: here },
            _ => {}
        }
    }
    let has_more = changes.len() > limit;
    changes.truncate(limit);
    let seq = changes.last().map_or(after.seq, |change| change.seq);
    Changes::Since { changes, cursor: ChangeCursor { seq, ..after }, has_more }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the statement finds of a generation 7 that keeps `kept`, behind `after`.
    fn found(kept: &[i64], after: i64, mark: Option<i64>) -> Vec<Found> {
        let row = |seq: Option<i64>| Found {
            generation: 7,
            first_seq: kept.first().copied(),
            last_seq: kept.last().copied(),
            seq,
            key: seq.filter(|seq| Some(*seq) != mark).map(|seq| format!("row {seq}")),
            changed_at_us: seq,
        };
        let rows: Vec<_> = kept.iter().filter(|seq| **seq > after).map(|seq| row(Some(*seq))).collect();
        if rows.is_empty() { vec![row(None)] } else { rows }
    }

    fn at(generation: i64, seq: i64) -> ChangeCursor {
        ChangeCursor { generation, seq }
    }

    #[track_caller]
    fn check(after: ChangeCursor, kept: &[i64], expected: Result<(&[i64], i64, bool), i64>) {
        let told = match judge(Some(after), found(kept, after.seq, None), 2) {
            Changes::Since { changes, cursor, has_more } => {
                assert_eq!(cursor.generation, 7);
                Ok((changes.iter().map(|change| change.seq).collect::<Vec<_>>(), cursor.seq, has_more))
            }
            Changes::Resync { cursor } => Err(cursor.seq),
        };
        assert_eq!(told, expected.map(|(seqs, seq, more)| (seqs.to_vec(), seq, more)));
    }

    #[test]
    fn changes_behind_the_cursor_are_told_in_order_and_by_the_page() {
        check(at(7, 0), &[1, 2], Ok((&[1, 2], 2, false)));
        check(at(7, 0), &[1, 2, 3], Ok((&[1, 2], 2, true)));
        check(at(7, 3), &[1, 2, 3], Ok((&[], 3, false)));
        check(at(7, 4), &[5, 6], Ok((&[5, 6], 6, false)));
        check(at(7, 0), &[], Ok((&[], 0, false)));
    }

    #[test]
    fn whoever_cannot_be_told_everything_is_told_to_read_anew() {
        check(at(7, 3), &[5, 6], Err(6));
        check(at(6, 5), &[5, 6], Err(6));
        check(at(7, 9), &[5, 6], Err(6));
        check(at(7, 1), &[], Err(0));
        assert_eq!(judge(None, found(&[8, 9], i64::MAX, None), 2), Changes::Resync { cursor: at(7, 9) });
    }

    #[test]
    fn nobody_follows_across_a_mark() {
        assert_eq!(judge(Some(at(7, 2)), found(&[1, 2, 3, 4], 2, Some(4)), 5), Changes::Resync { cursor: at(7, 4) });
        let beyond = judge(Some(at(7, 4)), found(&[1, 2, 3, 4, 5, 6], 4, Some(4)), 5);
        assert!(matches!(beyond, Changes::Since { changes, .. } if changes.len() == 2));
    }
}
