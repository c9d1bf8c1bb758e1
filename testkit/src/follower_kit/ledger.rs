//! A follower's store that remembers every event it folded.

use std::sync::Arc;

use event_store::{
    feed::{Cursor, Feed, PageLimit},
    follower::{
        Reject,
        memory::{MemoryFold, MemoryStore},
    },
};
use events::envelope::{Name, RecordedEvent};
use uuid::Uuid;

use super::{POISON_TYPE, UNKNOWN_TYPE};

/// Notes each event down.
pub struct Ledger;

/// Source, position and id of an event, in the order they were folded.
pub type Entry = (Name, u64, Uuid);

pub type LedgerStore = MemoryStore<Ledger>;

impl MemoryFold for Ledger {
    type State = Vec<Entry>;
    type Change = Entry;

    fn read(&self, source: &str, event: &RecordedEvent) -> Result<Entry, Reject> {
        match &*event.event_type {
            UNKNOWN_TYPE => Err(Reject::UnknownEventType),
            POISON_TYPE => Err(Reject::Poison("cannot be applied".to_owned())),
            _ => Ok((source.into(), event.position, event.event_id)),
        }
    }

    fn fold(&self, state: &mut Vec<Entry>, change: Entry) {
        state.push(change);
    }
}

/// An empty ledger.
pub fn ledger() -> Arc<LedgerStore> {
    Arc::new(MemoryStore::new(Ledger, Vec::new()))
}

/// The ledger holds each event of `feed` up to its head once and in order, except those at `without`.
pub async fn assert_each_once(store: &LedgerStore, feed: &dyn Feed, without: &[u64], context: &str) {
    let mut expected = Vec::new();
    let mut after = Cursor::START;
    loop {
        let page = feed.page(after, PageLimit::default(), std::time::Duration::ZERO).await.expect("the feed is read");
        let Some(last) = page.events.last() else { break };
        after = Cursor::at(last);
        expected.extend(page.events.iter().map(|event| (event.position, event.event_id)));
    }
    expected.retain(|(position, _)| !without.contains(position));
    let folded = store.view(|entries, _| {
        let own = entries.iter().filter(|(source, _, _)| source == feed.source());
        own.map(|(_, position, event_id)| (*position, *event_id)).collect::<Vec<_>>()
    });
    assert_eq!(folded, expected, "{context}: events of {} folded", feed.source());
    let checkpoint = store.view(|_, vector| vector.get(feed.source()));
    assert_eq!(checkpoint.cursor(), after, "{context}: checkpoint of {}", feed.source());
}
