//! The pure half of a batch: which event goes where, and what is to be written.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
};

use event_store::follower::{ApplyError, PoisonEvent, Reject, Step};
use events::envelope::RecordedEvent;
use serde::Serialize;

use super::{decisions::Dropped, groups::Contribution, store::history::Place};
use crate::projection::{Decoded, Facets, Link, Projection, References, State};

/// The events of a step by the state they go to; keys in order, so that two writers lock rows in one order.
pub(crate) struct Routed<'e> {
    /// By facet.
    pub facets: Vec<ByKey<'e>>,
    /// By reference.
    pub references: Vec<ByKey<'e>>,
    /// What they add to the list, as JSON objects by column.
    pub entries: Vec<String>,
    /// Under which keys.
    pub listed: BTreeSet<String>,
    /// Positions of events that wait with their stream and erase: nobody's data is kept until an operator has decided.
    pub ahead: HashSet<u64>,
}

/// Events of one state, by its key, in their order.
pub(crate) type ByKey<'e> = BTreeMap<String, Vec<(Decoded, &'e RecordedEvent)>>;

impl<'e> Routed<'e> {
    /// Nothing to fold.
    pub fn nothing(projection: &Projection) -> Self {
        Self {
            facets: projection.facets.iter().map(|_| ByKey::new()).collect(),
            references: projection.references.iter().map(|_| ByKey::new()).collect(),
            entries: Vec::new(),
            listed: BTreeSet::new(),
            ahead: HashSet::new(),
        }
    }

    /// Understands every event of `step` that is neither set aside nor left out by decision, or says which cannot be
    /// understood.
    pub fn of(projection: &Projection, step: &Step<'e>, dropped: &Dropped) -> Result<Self, ApplyError> {
        let mut routed = Self::nothing(projection);
        let mut poison = Vec::new();
        for event in step.folded().filter(|event| !dropped.holds(step.source, event.event_id)) {
            match routed.take(projection, step.source, event) {
                Ok(()) => {}
                Err(Reject::Poison(reason)) => poison.push(PoisonEvent { position: event.position, reason }),
                // what stands before it decides first
                Err(Reject::UnknownEventType) if poison.is_empty() => {
                    return Err(Reject::UnknownEventType.of(event));
                }
                Err(Reject::UnknownEventType) => break,
            }
        }
        if !poison.is_empty() {
            return Err(ApplyError::Poison(poison));
        }
        for event in step.waiting().filter(|event| !dropped.holds(step.source, event.event_id)) {
            routed.take_ahead(projection, step.source, event);
        }
        Ok(routed)
    }

    /// An event that waits, to those states that it erases. It is folded again at its place, once that can be reached.
    pub fn take_ahead(&mut self, projection: &Projection, source: &str, event: &'e RecordedEvent) {
        let facets = projection.facets.iter().zip(&mut self.facets);
        let references = projection.references.iter().zip(&mut self.references);
        for (fold, by_key) in facets.chain(references).filter(|(fold, _)| fold.source() == source) {
            // what cannot be understood is found out at its place
            if let Ok(Some((key, decoded))) = fold.route(event)
                && fold.erases(&decoded)
            {
                self.ahead.insert(event.position);
                let events = by_key.entry(key).or_default();
                events.push((decoded, event));
                events.sort_by_key(|(_, event)| event.position);
            }
        }
    }

    /// One event of `source`, to wherever it goes.
    pub fn take(&mut self, projection: &Projection, source: &str, event: &'e RecordedEvent) -> Result<(), Reject> {
        let facets = projection.facets.iter().zip(&mut self.facets);
        let references = projection.references.iter().zip(&mut self.references);
        for (fold, by_key) in facets.chain(references).filter(|(fold, _)| fold.source() == source) {
            if let Some((key, decoded)) = fold.route(event)? {
                by_key.entry(key).or_default().push((decoded, event));
            }
        }
        if let Some(listing) = projection.listings.of(source) {
            for ((key, entry), part) in listing.entries(event)?.iter().zip(0..) {
                self.entries.push(entry_row(projection.template.key, key, source, event, part, entry));
                self.listed.insert(key.clone());
            }
        }
        Ok(())
    }
}

/// One row on its way through a batch.
pub(crate) struct Entity {
    pub facets: Facets,
    links_before: BTreeSet<Link>,
    /// `None` while nothing was folded into it.
    links_after: Option<BTreeSet<Link>>,
    /// What its groups hold of it.
    pub contributed: Contribution,
}

impl Entity {
    /// A row as it was loaded, or a new one.
    pub fn new(projection: &Projection, facets: Facets) -> Self {
        let links_before = links(projection, &facets);
        let contributed = Contribution::of(projection, &facets);
        Self { facets, links_before, links_after: None, contributed }
    }

    /// Begins with nothing, to be folded from its first events. What its groups hold of it stays known.
    pub fn restart(&mut self) {
        self.facets.0.fill(None);
        self.links_before.clear();
    }

    /// To be called when its facets have changed.
    pub fn folded(&mut self, projection: &Projection) {
        self.links_after = Some(links(projection, &self.facets));
    }

    /// Whether its facets have changed.
    pub fn is_folded(&self) -> bool {
        self.links_after.is_some()
    }

    /// What it refers to now.
    pub fn links(&self) -> &BTreeSet<Link> {
        self.links_after.as_ref().unwrap_or(&self.links_before)
    }

    /// Links that it did not have, and links that it has no more.
    pub fn link_changes(&self) -> (impl Iterator<Item = &Link>, impl Iterator<Item = &Link>) {
        let after = self.links();
        (after.difference(&self.links_before), self.links_before.difference(after))
    }

    /// The row as a JSON object by column, and whether it is served.
    pub fn row(&self, projection: &Projection, key: &str, references: &References) -> (String, bool) {
        let derived = (projection.derive)(&self.facets, references);
        let mut row = String::with_capacity(512);
        row.push('{');
        push_field(&mut row, projection.template.key, &json(key));
        push_field(&mut row, read_side::template::Template::SERVED, if derived.is_some() { "true" } else { "false" });
        for ((column, fold), state) in projection.template.facets.iter().zip(&projection.facets).zip(&self.facets.0) {
            if let Some(state) = state {
                push_field(&mut row, column, &fold.write(state));
            }
        }
        if let Some(derived) = &derived {
            push_fields(&mut row, derived);
        }
        row.push('}');
        (row, derived.is_some())
    }
}

fn links(projection: &Projection, facets: &Facets) -> BTreeSet<Link> {
    projection.links.map(|links| links(facets).into_iter().collect()).unwrap_or_default()
}

/// An entry of a list as a JSON object by column; `entry` is what the listing gave.
fn entry_row(key_column: &str, key: &str, source: &str, event: &RecordedEvent, part: usize, entry: &str) -> String {
    let mut row = String::with_capacity(entry.len() + 128);
    row.push('{');
    push_field(&mut row, key_column, &json(key));
    push_field(&mut row, "source", &json(source));
    push_field(&mut row, "position", &json(&event.position));
    push_field(&mut row, "part", &json(&part));
    push_fields(&mut row, entry);
    row.push('}');
    row
}

/// The row of a reference as a JSON object by column; `state` is its serialized state.
pub(crate) fn reference_row(key_column: &str, key: &str, state: &str) -> String {
    let mut row = String::with_capacity(state.len() + 64);
    row.push('{');
    push_field(&mut row, key_column, &json(key));
    push_fields(&mut row, state);
    row.push('}');
    row
}

pub(super) fn push_field(row: &mut String, name: &str, value: &str) {
    if row.len() > 1 {
        row.push(',');
    }
    row.push('"');
    row.push_str(name);
    row.push_str("\":");
    row.push_str(value);
}

/// Adds the fields of `object`, JSON text of an object.
fn push_fields(row: &mut String, object: &str) {
    let fields = object.strip_prefix('{').and_then(|object| object.strip_suffix('}')).expect("a state is an object");
    if !fields.is_empty() {
        row.push(',');
        row.push_str(fields);
    }
}

/// Folds a state's events into it, one after the other, and notes what becomes of it, where that is kept. An event that cannot be folded ends it, and what it gives then is
/// of no use: with a poisoned event the transaction comes to nothing. Of an event that is folded `ahead` of its place nothing is
/// noted, and what it cannot be folded into stays: it is there that it decides.
pub(crate) fn fold(
    fold: &dyn crate::projection::Folding,
    mut state: Option<State>,
    events: Vec<(Decoded, &RecordedEvent)>,
    ahead: &HashSet<u64>,
    poison: &mut Vec<PoisonEvent>,
    mut history: Option<Place<'_>>,
) -> Option<State> {
    for (decoded, event) in events {
        if ahead.contains(&event.position) {
            if let Some(before) = state.take() {
                state = Some(fold.fold(Some(Arc::clone(&before)), decoded, event).unwrap_or(before));
            }
            if let Some(place) = &mut history {
                place.forget(event.position);
            }
            continue;
        }
        let erases = history.is_some() && fold.erases(&decoded);
        // given away, not shared: a fold that were one of two owners would have to copy it
        match fold.fold(state.take(), decoded, event) {
            Ok(after) => {
                if let Some(place) = &mut history {
                    place.note(event, fold, &after, erases);
                }
                state = Some(after);
            }
            Err(reject) => {
                poison.push(PoisonEvent { position: event.position, reason: reject.to_string() });
                break;
            }
        }
    }
    state
}

/// Texts of JSON values as one JSON array.
pub(crate) fn array<'j>(values: impl IntoIterator<Item = &'j String>) -> String {
    let mut array = String::from("[");
    for value in values {
        if array.len() > 1 {
            array.push(',');
        }
        array.push_str(value);
    }
    array.push(']');
    array
}

/// Anything plain as JSON.
pub(crate) fn json<T: Serialize + ?Sized>(value: &T) -> String {
    serde_json::to_string(value).expect("names and numbers become JSON")
}

/// The six bytes that tell each event from another at its place, one after the other.
pub(crate) fn anchors(events: &[RecordedEvent]) -> Vec<u8> {
    events.iter().flat_map(|event| *events::consistency::ShortId::from(event.event_id).as_bytes()).collect()
}
