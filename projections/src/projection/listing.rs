//! Lists: what single events add, each at its own place.

use std::marker::PhantomData;

use event_store::follower::Reject;
use events::{Published, envelope::RecordedEvent};
use serde::Serialize;

use super::folding::decode;

/// What one source adds to a list. An entry is a matter of its event alone, so it does not depend on what came before,
/// and its place (source, position, part) makes twice the same as once.
///
/// Nothing changes an entry any more: it holds no personal data.
pub trait Listing: Send + Sync + 'static {
    /// What the source publishes.
    type Event: Published + Send + 'static;
    /// The template's columns of an entry.
    type Entry: Serialize;

    const SOURCE: &'static str;

    /// The entries that `event` adds, each under its key, in order.
    ///
    /// An error is for an event that can never be listed (its stream is parked), and holds no personal data.
    fn entries(event: Self::Event, recorded: &RecordedEvent) -> Result<Vec<(String, Self::Entry)>, String>;
}

/// A [`Listing`] whose types are forgotten.
pub(crate) trait Listed: Send + Sync {
    fn source(&self) -> &'static str;
    /// Keys, and entries as JSON objects by column.
    fn entries(&self, event: &RecordedEvent) -> Result<Vec<(String, String)>, Reject>;
    /// Every event version that it can be given.
    #[cfg(test)]
    fn versions(&self) -> Vec<(&'static str, &'static str)>;
}

/// The listings of a projection, one of a source.
#[derive(Default)]
pub(crate) struct Listings(Vec<Box<dyn Listed>>);

impl Listings {
    pub fn add<L: Listing>(&mut self) {
        assert!(self.of(L::SOURCE).is_none(), "one listing of a source, or their entries would share places");
        self.0.push(Box::new(Typed::<L>(PhantomData)));
    }

    /// The listing of a source.
    pub fn of(&self, source: &str) -> Option<&dyn Listed> {
        self.iter().find(|listing| listing.source() == source)
    }

    pub fn iter(&self) -> impl Iterator<Item = &dyn Listed> {
        self.0.iter().map(|listing| &**listing)
    }
}

struct Typed<L>(PhantomData<fn() -> L>);

impl<L: Listing> Listed for Typed<L> {
    fn source(&self) -> &'static str {
        L::SOURCE
    }

    fn entries(&self, event: &RecordedEvent) -> Result<Vec<(String, String)>, Reject> {
        let entries = L::entries(decode(event)?, event).map_err(Reject::Poison)?;
        let text = |entry: &L::Entry| serde_json::to_string(entry).expect("an entry is plain data");
        Ok(entries.iter().map(|(key, entry)| (key.clone(), text(entry))).collect())
    }

    #[cfg(test)]
    fn versions(&self) -> Vec<(&'static str, &'static str)> {
        testkit::golden::versions::<L::Event>()
    }
}
