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
//!
//! Two more shapes stand on the same ground. A **roll-up** adds up what each row contributes ([`Projection::contribute`]):
//! the row keeps its facets, so what it contributed before is known, and a group changes by the difference. A **list**
//! has entries that single events add ([`Listing`]), each at its own place.

mod folding;
mod listing;

use std::{any::Any, collections::HashMap, sync::Arc};

use events::{Published, envelope::RecordedEvent};
use read_side::template::Template;
use serde::{Serialize, de::DeserializeOwned};

pub use self::listing::Listing;
pub(crate) use self::{
    folding::{Decoded, Folding},
    listing::Listings,
};

/// One state, folded from one source.
pub trait Fold: Send + Sync + 'static {
    /// What the source publishes.
    type Event: Published + Send + 'static;
    /// Serialized, it is a JSON object.
    type State: Clone + Serialize + DeserializeOwned + Send + Sync + 'static;

    const SOURCE: &'static str;

    /// Whose state this event belongs to; `None` when it says nothing to this fold.
    fn key(event: &Self::Event) -> Option<String>;

    /// The state after `event`. `recorded` carries its place and time.
    ///
    /// An error is for an event that can never be folded (its stream is parked), and holds no personal data.
    fn fold(state: Option<Self::State>, event: Self::Event, recorded: &RecordedEvent) -> Result<Self::State, String>;

    /// Whether what the state was before this event is to be forgotten, in the history too: somebody was erased.
    ///
    /// Such an event does not wait for a parked one: it is folded at once, and once more at its place when what waits in front
    /// of it is folded.
    fn erases(event: &Self::Event) -> bool {
        let _ = event;
        false
    }
}

/// The state so far, of what cannot be without one.
pub(crate) fn begun<S>(state: Option<S>) -> Result<S, String> {
    state.ok_or_else(|| "the stream does not begin with what it begins with".to_owned())
}

/// A projection, ready to be run.
pub struct Projection {
    pub template: &'static Template,
    /// Of everything that decides what is in a table: folds, links, `derive`, contributions, listings. A change is a new
    /// version.
    pub version: u32,
    pub(crate) facets: Vec<Box<dyn Folding>>,
    pub(crate) references: Vec<Box<dyn Folding>>,
    pub(crate) listings: Listings,
    /// `None`: its rows are the same whatever its references say, so a changed reference is not fanned out.
    pub(crate) links: Option<fn(&Facets) -> Vec<Link>>,
    pub(crate) derive: fn(&Facets, &References) -> Option<String>,
    pub(crate) contribute: Option<fn(&Facets) -> Vec<Share>>,
}

/// What a row contributes to one group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// In the order of the template's key.
    pub group: GroupKey,
    /// In the order of the template's amounts.
    pub amounts: Vec<i64>,
}

/// The values of a group's key columns.
pub type GroupKey = Vec<String>;

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
            listings: Listings::default(),
            links: None,
            derive: |_, _| None,
            contribute: None,
        }
    }

    /// The next facet of the template.
    pub fn facet<F: Fold>(mut self) -> Self {
        assert!(self.facets.len() < self.template.facets.len(), "a column for each facet");
        self.facets.push(folding::of::<F>());
        self
    }

    /// The next reference of the template.
    pub fn reference<F: Fold>(mut self) -> Self {
        assert!(self.references.len() < self.template.references.len(), "a table for each reference");
        self.references.push(folding::of::<F>());
        self
    }

    /// What a source adds to the list.
    pub fn listing<L: Listing>(mut self) -> Self {
        assert!(self.template.entries.is_some(), "a table for the entries");
        self.listings.add::<L>();
        self
    }

    /// Which references a row has, where `derive` looks at any. Pure.
    pub fn links(self, links: fn(&Facets) -> Vec<Link>) -> Self {
        Self { links: Some(links), ..self }
    }

    /// What a row contributes to which groups; several shares of one group are added up. Pure.
    pub fn contribute(self, contribute: fn(&Facets) -> Vec<Share>) -> Self {
        assert!(self.template.groups.is_some(), "a table for the groups");
        Self { contribute: Some(contribute), ..self }
    }

    /// The row's columns as a JSON object; `None` while its root facet is not there: it is stored, not served. Pure.
    pub fn derive(self, derive: fn(&Facets, &References) -> Option<String>) -> Self {
        Self { derive, ..self }
    }

    /// Every source that a state is folded from or that adds entries, once each.
    pub fn sources(&self) -> Vec<&'static str> {
        let folds = self.facets.iter().chain(&self.references).map(|fold| fold.source());
        let mut sources: Vec<_> = folds.chain(self.listings.iter().map(|listing| listing.source())).collect();
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
