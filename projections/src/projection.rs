//! What a projection is made of.
//!
//! Between services there is no order, so a row cannot be folded from all of them at once. It is put together from
//! states, each folded from exactly one source in that source's order:
//! - a **facet** is a state of the row itself, found by the row's key;
//! - a **reference** is a state keyed by a foreign id, shared by all rows that refer to it.
//!
//! What spans them is derived, purely, whenever one of them has changed. So any interleaving of the sources, with
//! duplicates, ends in the same table. The types see to it: a [`Fold`] gets its own state and its own source's events
//! and nothing else.

use std::{any::Any, collections::HashMap, marker::PhantomData, sync::Arc};

use event_store::follower::Reject;
use events::{DecodeError, Published, envelope::RecordedEvent};
use read_side::template::Template;
use serde::{Serialize, de::DeserializeOwned};

/// One state, folded from one source.
pub trait Fold: Send + Sync + 'static {
    /// What the source publishes.
    type Event: Published + Send + 'static;
    type State: Clone + Serialize + DeserializeOwned + Send + Sync + 'static;

    const SOURCE: &'static str;

    /// Whose state this event belongs to; `None` when it says nothing to this fold.
    fn key(event: &Self::Event) -> Option<String>;

    /// The state after `event`. `recorded` carries its place and time.
    ///
    /// An error is for an event that can never be folded (its stream is parked), and holds no personal data.
    fn fold(state: Option<Self::State>, event: Self::Event, recorded: &RecordedEvent) -> Result<Self::State, String>;
}

/// A projection, ready to be run.
pub struct Projection {
    pub template: &'static Template,
    /// Of everything that decides what is in a row: folds, links and `derive`. A change is a new version.
    pub version: u32,
    pub(crate) facets: Vec<Box<dyn Folding>>,
    pub(crate) references: Vec<Box<dyn Folding>>,
    pub(crate) links: fn(&Facets) -> Vec<Link>,
    pub(crate) derive: fn(&Facets, &References) -> Option<String>,
}

/// That a row refers to a reference.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Link {
    pub reference: &'static str,
    pub foreign_key: String,
}

impl Projection {
    /// A projection without any state yet.
    pub fn new(template: &'static Template, version: u32) -> Self {
        Self {
            template,
            version,
            facets: Vec::new(),
            references: Vec::new(),
            links: |_| Vec::new(),
            derive: |_, _| None,
        }
    }

    /// The next facet of the template.
    pub fn facet<F: Fold>(mut self) -> Self {
        assert!(self.facets.len() < self.template.facets.len(), "a column for each facet");
        self.facets.push(Box::new(Typed::<F>(PhantomData)));
        self
    }

    /// The next reference of the template.
    pub fn reference<F: Fold>(mut self) -> Self {
        assert!(self.references.len() < self.template.references.len(), "a table for each reference");
        self.references.push(Box::new(Typed::<F>(PhantomData)));
        self
    }

    /// Which references a row has. Pure.
    pub fn links(self, links: fn(&Facets) -> Vec<Link>) -> Self {
        Self { links, ..self }
    }

    /// The row's columns as a JSON object; `None` while its root facet is not there: it is stored, not served. Pure.
    pub fn derive(self, derive: fn(&Facets, &References) -> Option<String>) -> Self {
        Self { derive, ..self }
    }

    /// Every source that a state is folded from, once each.
    pub fn sources(&self) -> Vec<&'static str> {
        let mut sources: Vec<_> = self.facets.iter().chain(&self.references).map(|fold| fold.source()).collect();
        sources.sort_unstable();
        sources.dedup();
        sources
    }
}

/// The facets of one row, in the template's order.
#[derive(Clone, Default)]
pub struct Facets(pub(crate) Vec<Option<State>>);

impl Facets {
    /// A facet by its place in the template; `None` until its first event.
    pub fn get<S: 'static>(&self, place: usize) -> Option<&S> {
        let state = self.0.get(place)?.as_ref()?;
        Some(state.downcast_ref().expect("a facet is asked for by the type it is folded into"))
    }
}

/// The references at hand: those of all rows of a batch.
#[derive(Default)]
pub struct References(pub(crate) HashMap<&'static str, HashMap<String, State>>);

impl References {
    /// A reference by name and key; `None` until its first event.
    pub fn get<S: 'static>(&self, name: &str, key: &str) -> Option<&S> {
        let state = self.0.get(name)?.get(key)?;
        Some(state.downcast_ref().expect("a reference is asked for by the type it is folded into"))
    }
}

/// A state whose type only its fold knows.
pub(crate) type State = Arc<dyn Any + Send + Sync>;

/// An event of a type that only its fold knows.
pub(crate) type Decoded = Box<dyn Any + Send>;

/// A [`Fold`] whose types are forgotten, so that the engine can keep many.
pub(crate) trait Folding: Send + Sync {
    fn source(&self) -> &'static str;
    fn route(&self, event: &RecordedEvent) -> Result<Option<(String, Decoded)>, Reject>;
    fn fold(&self, state: Option<State>, event: Decoded, recorded: &RecordedEvent) -> Result<State, Reject>;
    fn read(&self, json: &str) -> Result<State, serde_json::Error>;
    fn write(&self, state: &State) -> String;
    /// Every event version that it can be given.
    #[cfg(test)]
    fn versions(&self) -> Vec<(&'static str, &'static str)>;
}

struct Typed<F>(PhantomData<fn() -> F>);

impl<F: Fold> Folding for Typed<F> {
    fn source(&self) -> &'static str {
        F::SOURCE
    }

    fn route(&self, event: &RecordedEvent) -> Result<Option<(String, Decoded)>, Reject> {
        // PostgreSQL has no text with a NUL in it; refused on both databases, so that both hold the same rows
        if event.payload.contains("\\u0000") && has_nul(&event.payload) {
            return Err(Reject::Poison("the payload holds a NUL character".to_owned()));
        }
        let decoded = F::Event::decode(&event.event_type, &event.event_version, &event.payload);
        let decoded = decoded.map_err(|error| match error {
            DecodeError::UnknownType { .. } => Reject::UnknownEventType,
            DecodeError::Payload { .. } => Reject::Poison(error.to_string()),
        })?;
        Ok(F::key(&decoded).map(|key| (key, Box::new(decoded) as Decoded)))
    }

    fn fold(&self, state: Option<State>, event: Decoded, recorded: &RecordedEvent) -> Result<State, Reject> {
        let state = state.map(|state| {
            let state: Arc<F::State> = state.downcast().expect("the state that this fold made");
            Arc::unwrap_or_clone(state)
        });
        let event = event.downcast().expect("the event that this fold decoded");
        F::fold(state, *event, recorded).map(|state| Arc::new(state) as State).map_err(Reject::Poison)
    }

    fn read(&self, json: &str) -> Result<State, serde_json::Error> {
        serde_json::from_str::<F::State>(json).map(|state| Arc::new(state) as State)
    }

    fn write(&self, state: &State) -> String {
        let state: &F::State = state.downcast_ref().expect("the state that this fold made");
        serde_json::to_string(state).expect("a state is plain data")
    }

    #[cfg(test)]
    fn versions(&self) -> Vec<(&'static str, &'static str)> {
        testkit::golden::versions::<F::Event>()
    }
}

/// Whether a text in the JSON holds a NUL: the escape may also be an escaped backslash before `u0000`.
fn has_nul(json: &str) -> bool {
    fn in_value(value: &serde_json::Value) -> bool {
        match value {
            serde_json::Value::String(text) => text.contains('\0'),
            serde_json::Value::Array(values) => values.iter().any(in_value),
            serde_json::Value::Object(fields) => fields.values().any(in_value),
            serde_json::Value::Null | serde_json::Value::Bool(_) | serde_json::Value::Number(_) => false,
        }
    }
    serde_json::from_str(json).is_ok_and(|value| in_value(&value))
}
