//! The states at hand, bounded in bytes: those that the database does not have yet, and those that it has.
//!
//! What was touched last stays longest. Of the others the changed ones are written and then kept as clean, and the clean
//! ones are let go; one that is needed again is loaded.

use std::collections::{BTreeSet, HashSet};

use events::envelope::RecordedEvent;
use lru::LruCache;
use serde::Serialize;

use super::{
    folds::{Folds, ROWS},
    source::Item,
    written::Written,
};
use crate::{
    engine::groups::Contribution,
    projection::{Facets, Link, State},
};

/// Table and key of a row.
pub(super) type RowKey = (usize, String);

/// A state weighs about what its events weigh: once in its fields, and once more in what holds them.
const STATE_BYTES_PER_JSON_BYTE: usize = 2;
/// What a row weighs besides: its key, slots, its place in a table.
const ROW_OVERHEAD_BYTES: usize = 512;
/// What an entry or a noted state weighs besides its text.
const ADDITION_OVERHEAD_BYTES: usize = 160;
/// From here on what is guessed of a row's weight is measured now and then: many events may make a small state.
const MEASURED_FROM_BYTES: usize = 16 * 1_024;

/// One row's states.
struct Row {
    facets: Facets,
    before: Before,
    bytes: usize,
    measure_at_bytes: usize,
}

/// What the database has of a row.
#[derive(Clone)]
pub(super) enum Before {
    Nothing,
    /// What is here.
    Same,
    /// Something older, which has these links and contributes this.
    Older {
        links: BTreeSet<Link>,
        contributed: Contribution,
    },
}

/// A row on its way to the database.
pub(super) struct Change {
    pub key: String,
    pub facets: Facets,
    pub before: Before,
}

/// What one write takes, by table.
pub(super) type Changes = Vec<Vec<Change>>;

pub(super) struct Cache {
    changed: LruCache<RowKey, Row>,
    clean: LruCache<RowKey, Row>,
    changed_bytes: usize,
    clean_bytes: usize,
    /// Keys that were let go.
    gone: Written,
    additions: Additions,
    additions_bytes: usize,
    /// Rows that changed again after they had been written.
    pub rewritten: u64,
}

/// What events add and nothing changes any more.
#[derive(Default)]
pub(super) struct Additions {
    pub entries: Vec<Entry>,
    pub states: Vec<Noted>,
    /// What a part was before a position is to be forgotten, behind the states.
    pub erased: Vec<Erased>,
}

/// A state that a part of a row has had.
pub(super) struct Noted {
    pub key: String,
    /// The facet or the reference.
    pub part: &'static str,
    pub position: u64,
    pub recorded_at_us: i64,
    /// As JSON text.
    pub state: String,
}

#[derive(Serialize)]
pub(super) struct Erased {
    pub key: String,
    pub part: &'static str,
    pub position: u64,
}

impl Additions {
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.states.is_empty() && self.erased.is_empty()
    }
}

/// What an event adds to a list.
pub(super) struct Entry {
    pub key: String,
    pub source: usize,
    pub position: u64,
    pub part: i64,
    /// A JSON object by column.
    pub entry: String,
}

/// An event that cannot be folded.
#[derive(Debug)]
pub(super) struct Unfoldable {
    pub source: usize,
    pub position: u64,
    pub reason: String,
}

impl Cache {
    /// `keys_bytes_max` bounds what is remembered of keys that are let go.
    pub fn new(keys_bytes_max: usize) -> Self {
        Self {
            changed: LruCache::unbounded(),
            clean: LruCache::unbounded(),
            changed_bytes: 0,
            clean_bytes: 0,
            gone: Written::new(keys_bytes_max),
            additions: Additions::default(),
            additions_bytes: 0,
            rewritten: 0,
        }
    }

    /// What waits to be written.
    pub fn unwritten_bytes(&self) -> usize {
        self.changed_bytes + self.additions_bytes
    }

    /// Everything.
    pub fn bytes(&self) -> usize {
        self.unwritten_bytes() + self.clean_bytes
    }

    /// Notes that the database has a row that is not here.
    pub fn remember(&mut self, key: &RowKey) {
        self.gone.insert(key);
    }

    /// The keys of `items` whose rows may be in the database only, by table.
    pub fn missing(&self, folds: &Folds, items: &[(usize, Item)]) -> Vec<Vec<String>> {
        let mut missing = vec![Vec::new(); folds.tables()];
        if self.gone.is_empty() {
            return missing;
        }
        let mut seen = HashSet::new();
        for (fold, key, _) in items.iter().flat_map(|(_, item)| &item.routes.folds) {
            let row_key = (folds.home(*fold).0, key.clone());
            let is_here = self.changed.contains(&row_key) || self.clean.contains(&row_key);
            if !is_here && self.gone.may_hold(&row_key) && seen.insert(row_key) {
                missing[folds.home(*fold).0].push(key.clone());
            }
        }
        missing
    }

    /// Takes in a row as the database has it. `json_bytes`: of its states there.
    pub fn insert(&mut self, key: RowKey, facets: Facets, json_bytes: usize) {
        let bytes = ROW_OVERHEAD_BYTES + STATE_BYTES_PER_JSON_BYTE * json_bytes;
        let measure_at_bytes = MEASURED_FROM_BYTES.max(2 * bytes);
        self.clean_bytes += bytes;
        self.clean.put(key, Row { facets, before: Before::Same, bytes, measure_at_bytes });
    }

    /// Folds events, in order; what the database has of their rows must be here. Each comes with the place of its source.
    pub fn fold(&mut self, folds: &Folds, items: Vec<(usize, Item)>) -> Result<(), Unfoldable> {
        for (source, Item { event, routes }) in items {
            for (fold, key, decoded) in routes.folds {
                let (table, slot) = folds.home(fold);
                let history = folds.history(table, slot).map(|part| (part, key.clone()));
                let erases = history.is_some() && folds.fold(fold).erases(&decoded);
                let row = self.touch(folds, (table, key));
                let state = row.facets.0[slot].take();
                let after = folds.fold(fold).fold(state, decoded, &event).map_err(|reject| Unfoldable {
                    source,
                    position: event.position,
                    reason: reject.to_string(),
                })?;
                let noted = history.map(|(part, key)| Noted {
                    key,
                    part,
                    position: event.position,
                    recorded_at_us: event.recorded_at.timestamp_micros(),
                    state: folds.fold(fold).write(&after),
                });
                row.facets.0[slot] = Some(after);
                let more_bytes = weigh(row, folds, table, &event);
                self.changed_bytes = self.changed_bytes.saturating_add_signed(more_bytes);
                if let Some(noted) = noted {
                    self.note(noted, erases);
                }
            }
            for ((key, entry), part) in routes.entries.into_iter().zip(0..) {
                self.additions_bytes += ADDITION_OVERHEAD_BYTES + entry.len();
                self.additions.entries.push(Entry { key, source, position: event.position, part, entry });
            }
        }
        Ok(())
    }

    fn note(&mut self, noted: Noted, erases: bool) {
        self.additions_bytes += ADDITION_OVERHEAD_BYTES + noted.state.len();
        if erases {
            let Noted { ref key, part, position, .. } = noted;
            self.additions.erased.push(Erased { key: key.clone(), part, position });
        }
        self.additions.states.push(noted);
    }

    /// The row, as one that is about to change.
    fn touch(&mut self, folds: &Folds, key: RowKey) -> &mut Row {
        let Self { changed, clean, changed_bytes, clean_bytes, rewritten, .. } = self;
        changed.get_or_insert_mut_with_key(key, |key| {
            let row = match clean.pop(key) {
                Some(row) => {
                    *clean_bytes -= row.bytes;
                    *rewritten += 1;
                    let before = Before::older(folds, key.0, &row.facets);
                    Row { before, ..row }
                }
                None => Row {
                    facets: Facets(vec![None; folds.slots(key.0)]),
                    before: Before::Nothing,
                    bytes: ROW_OVERHEAD_BYTES,
                    measure_at_bytes: MEASURED_FROM_BYTES,
                },
            };
            *changed_bytes += row.bytes;
            row
        })
    }

    /// The changed rows that were touched longest ago, until no more than `keep_bytes` of them are left; they are clean
    /// from now on.
    pub fn take_changed(&mut self, folds: &Folds, keep_bytes: usize) -> Changes {
        let mut changes: Changes = (0..folds.tables()).map(|_| Vec::new()).collect();
        while self.changed_bytes > keep_bytes
            && let Some(((table, key), row)) = self.changed.pop_lru()
        {
            self.changed_bytes -= row.bytes;
            changes[table].push(Change { key: key.clone(), facets: row.facets.clone(), before: row.before });
            self.clean_bytes += row.bytes;
            self.clean.put((table, key), Row { before: Before::Same, ..row });
        }
        changes
    }

    /// What was added, in the order in which it came.
    pub fn take_additions(&mut self) -> Additions {
        self.additions_bytes = 0;
        std::mem::take(&mut self.additions)
    }

    /// Lets clean rows go until all weigh no more than `bytes_max`, or none is left.
    pub fn shrink(&mut self, bytes_max: usize) {
        while self.bytes() > bytes_max
            && let Some((key, row)) = self.clean.pop_lru()
        {
            self.clean_bytes -= row.bytes;
            self.gone.insert(&key);
        }
    }

    /// The clean rows of references, those touched last first: table, key, state, and what they weigh.
    pub fn into_references(mut self) -> impl Iterator<Item = (RowKey, State, usize)> {
        std::iter::from_fn(move || self.clean.pop_mru())
            .filter(|((table, _), _)| *table != ROWS)
            .filter_map(|(key, row)| Some((key, row.facets.0.into_iter().next()??, row.bytes)))
    }
}

impl Before {
    fn older(folds: &Folds, table: usize, facets: &Facets) -> Self {
        let projection = folds.projection();
        if table != ROWS {
            return Self::Older { links: BTreeSet::new(), contributed: Contribution::default() };
        }
        let links = projection.links.map(|links| links(facets).into_iter().collect()).unwrap_or_default();
        Self::Older { links, contributed: Contribution::of(projection, facets) }
    }
}

/// Counts an event that was folded into `row`; gives by how much the row has become heavier.
fn weigh(row: &mut Row, folds: &Folds, table: usize, event: &RecordedEvent) -> isize {
    let before = row.bytes;
    row.bytes += STATE_BYTES_PER_JSON_BYTE * event.payload.len();
    if row.bytes > row.measure_at_bytes {
        let states = row.facets.0.iter().enumerate();
        let json_bytes: usize =
            states.filter_map(|(slot, state)| Some(folds.folding(table, slot).write(state.as_ref()?).len())).sum();
        row.bytes = ROW_OVERHEAD_BYTES + STATE_BYTES_PER_JSON_BYTE * json_bytes;
        row.measure_at_bytes = MEASURED_FROM_BYTES.max(2 * row.bytes);
    }
    row.bytes.cast_signed() - before.cast_signed()
}
