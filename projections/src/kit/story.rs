//! What several services have said, each in its own order. Between services there is none.

use std::{
    collections::BTreeMap,
    fmt::Display,
    sync::{Arc, Mutex},
};

use event_store::feed::Feed;
use events::DomainEvent;

use super::{feed::ScriptedFeed, random::Random};

/// A log per service, written one event after the other. A service that says nothing has an empty one.
#[derive(Default)]
pub struct Story {
    feeds: Mutex<BTreeMap<String, Arc<ScriptedFeed>>>,
}

impl Story {
    pub fn new() -> Self {
        Self::default()
    }

    /// `source` has committed `event` about `id`.
    pub fn says(&self, source: &str, id: impl Display, event: &impl DomainEvent) -> &Self {
        self.feed(source).push(source, id, event);
        self
    }

    /// The same with an event as text: an older version, or what a broken writer left.
    pub fn says_raw(&self, source: &str, id: impl Display, event_type: &str, version: &str, payload: &str) -> &Self {
        self.feed(source).push_raw(source, id, event_type, version, payload.to_owned());
        self
    }

    /// The log of one service.
    pub fn feed(&self, source: &str) -> Arc<ScriptedFeed> {
        let mut feeds = self.feeds.lock().expect("a test that panics ends");
        Arc::clone(feeds.entry(source.to_owned()).or_insert_with(|| Arc::new(ScriptedFeed::new(source))))
    }

    /// The logs of `sources`, in their order.
    pub(crate) fn of(&self, sources: &[&str]) -> Vec<Arc<ScriptedFeed>> {
        sources.iter().map(|source| self.feed(source)).collect()
    }

    /// The same, to be followed.
    pub fn feeds(&self, sources: &[&str]) -> Vec<Arc<dyn Feed>> {
        self.of(sources).into_iter().map(|feed| feed as Arc<dyn Feed>).collect()
    }

    /// A story of the same sources that tells each of them up to some point.
    pub(crate) fn beginning(&self, sources: &[&str], random: &mut Random) -> Self {
        let beginning = Self::new();
        for feed in self.of(sources) {
            let cut = random.place(feed.events().len() + 1);
            beginning.feed(feed.source()).copy(&feed, cut);
        }
        beginning
    }
}
