//! Events that are folded late, where a history is kept.
//!
//! A stream that waited is not always alone in a state: an order's reservations are told by the streams of its products.
//! Those of the others went on, and what they made of the state behind it was made without it. So from the first late event
//! on the state is folded anew, with the events that the history names, and the history is again that of one fold in order:
//! the one that a rebuild makes.

use std::collections::{BTreeMap, HashMap};

use event_store::follower::{ApplyError, StoreError};
use events::envelope::RecordedEvent;
use serde::Serialize;

use super::{
    super::{
        batch::{Routed, array, json},
        transaction::{Texts, Transaction, Value},
    },
    GenerationStore, Refused, number, signed, unreadable, unsigned,
};
use crate::projection::{Folding, Projection, State};

/// By part and key the state before the first late event, where it is to be folded anew from there.
pub(super) type Bases = HashMap<(&'static str, String), Option<State>>;

/// Events of one part of one key, late ones first: their positions, in order.
pub(super) struct Late {
    part: &'static str,
    key: String,
    positions: Vec<u64>,
}

/// A part of a key, from a position on.
#[derive(Serialize)]
struct Since<'k> {
    key: &'k str,
    part: &'static str,
    position: i64,
}

/// Every fold with the name of what it folds.
fn parts(projection: &Projection) -> impl Iterator<Item = (&'static str, &dyn Folding)> {
    let facets = projection.template.facets.iter().copied().zip(&projection.facets);
    let references = projection.template.references.iter().map(|reference| reference.name).zip(&projection.references);
    facets.chain(references).map(|(part, fold)| (part, &**fold))
}

impl<'e> Routed<'e> {
    /// The positions of what goes to each part of each key.
    pub(super) fn places(&self, projection: &Projection) -> Vec<Late> {
        let by_part = parts(projection).zip(self.facets.iter().chain(&self.references));
        let late = |part, (key, events): (&String, &Vec<(_, &RecordedEvent)>)| Late {
            part,
            key: key.clone(),
            positions: events.iter().map(|(_, event)| event.position).collect(),
        };
        by_part.flat_map(|((part, _), by_key)| by_key.iter().map(move |events| late(part, events))).collect()
    }

    /// Adds events of `source` that were folded already, to the states that they share with late ones, at their places.
    pub(super) fn join(
        &mut self,
        projection: &Projection,
        source: &str,
        later: &'e [RecordedEvent],
    ) -> Result<(), ApplyError> {
        for ((_, fold), by_key) in parts(projection).zip(self.facets.iter_mut().chain(&mut self.references)) {
            if fold.source() != source {
                continue;
            }
            for event in later {
                let unread =
                    |reject| ApplyError::Bug(format!("position {} was folded before: {reject}", event.position));
                let Some((key, decoded)) = fold.route(event).map_err(unread)? else { continue };
                if let Some(late) = by_key.get_mut(&key).filter(|late| is_behind(event.position, late)) {
                    late.push((decoded, event));
                }
            }
        }
        for events in self.facets.iter_mut().chain(&mut self.references).flat_map(BTreeMap::values_mut) {
            events.sort_by_key(|(_, event)| event.position);
        }
        Ok(())
    }
}

fn is_behind(position: u64, late: &[(crate::projection::Decoded, &RecordedEvent)]) -> bool {
    late.first().is_some_and(|(_, first)| first.position < position)
}

impl GenerationStore {
    /// Positions of the events that were folded behind the first of `late`, events of `source`, into the states that these
    /// go to; in order. They are to be folded with them. None where no history is kept: there nothing tells of an order.
    pub(crate) async fn folded_behind(&self, source: &str, late: &[RecordedEvent]) -> Result<Vec<u64>, StoreError> {
        let mut firsts: BTreeMap<(&'static str, String), u64> = BTreeMap::new();
        for (part, fold) in parts(&self.projection).filter(|(_, fold)| fold.source() == source) {
            for event in late {
                if let Ok(Some((key, _))) = fold.route(event) {
                    firsts.entry((part, key)).or_insert(event.position);
                }
            }
        }
        if !self.projection.template.history || firsts.is_empty() {
            return Ok(Vec::new());
        }
        let from: Vec<_> =
            firsts.iter().map(|((part, key), position)| Since { key, part, position: signed(*position) }).collect();
        let mut transaction = self.pool.begin_snapshot().await.map_err(Refused::from)?;
        let rows = transaction.fetch(&self.statements.history_around, &[Value::Text(&json(&from))]).await;
        transaction.rollback().await;
        let mut positions = Vec::new();
        for row in rows.map_err(Refused::from)? {
            let Around { position, state, .. } = Around::of(&row)?;
            if state.is_none() {
                positions.push(position);
            }
        }
        positions.sort_unstable();
        positions.dedup();
        Ok(positions)
    }

    /// Where states are to be folded anew from, because there are events behind `late` ones in them, which must be among them.
    ///
    /// [`ApplyError::Moved`] when more were folded behind them meanwhile.
    pub(super) async fn bases(&self, transaction: &mut Transaction, late: Vec<Late>) -> Result<Bases, Refused> {
        if !self.projection.template.history || late.is_empty() {
            return Ok(Bases::new());
        }
        let since = |Late { part, key, positions }: &Late| {
            let position = positions.first().map_or(0, |first| signed(*first));
            json(&Since { key, part, position })
        };
        let from = array(&late.iter().map(since).collect::<Vec<_>>());
        let joined: HashMap<(&'static str, &str), &Vec<u64>> =
            late.iter().map(|Late { part, key, positions }| ((*part, key.as_str()), positions)).collect();
        let rows = transaction.fetch(&self.statements.history_around, &[Value::Text(&from)]).await?;
        let (mut bases, mut before) = (Bases::new(), HashMap::new());
        for row in &rows {
            let Around { part, key, position, state } = Around::of(row)?;
            let (part, fold) =
                parts(&self.projection).find(|(name, _)| *name == part).ok_or_else(|| unreadable("history"))?;
            match state {
                Some(state) => {
                    let state = fold.read(state).map_err(|_| unreadable("history"))?;
                    before.insert((part, key.to_owned()), state);
                }
                None if joined.get(&(part, key)).is_some_and(|joined| joined.contains(&position)) => {
                    bases.insert((part, key.to_owned()), None);
                }
                None => return Err(Refused::Apply(ApplyError::Moved)),
            }
        }
        for (place, base) in &mut bases {
            *base = before.remove(place);
        }
        Ok(bases)
    }
}

/// A row of the history around a position.
struct Around<'r> {
    part: &'r str,
    key: &'r str,
    position: u64,
    /// Of the last one before the position; `None` for those behind it.
    state: Option<&'r str>,
}

impl<'r> Around<'r> {
    fn of(row: &'r Texts) -> Result<Self, Refused> {
        let [Some(part), Some(key), _, state] = &row[..] else { return Err(unreadable("history")) };
        let position = number(row, 2).map(unsigned).ok_or_else(|| unreadable("history"))?;
        Ok(Self { part, key, position, state: state.as_deref() })
    }
}
