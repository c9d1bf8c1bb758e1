//! What a follower is tested with: logs to follow, a ledger of what was applied, feeds that lie and stores that fail.
//!
//! - [`ledger`]: a store that remembers every event it folded, and the law that each was folded once and in order.
//! - [`faulty_feed`]: a feed whose answers are late, doubled, out of order or missing, by a seed.
//! - [`scripted_store`]: a store around another that fails, hangs or is slow on command.
//! - [`store_contract`]: the laws of a [`FollowerStore`](event_store::follower::FollowerStore), for whoever writes one.

pub mod faulty_feed;
pub mod ledger;
pub mod scripted_store;
pub mod store_contract;

use std::{sync::Arc, time::Duration};

use event_store::{
    feed::Feed,
    follower::{Backoff, FollowerOptions},
    log::{Decision, EventLog},
    memory::MemoryLog,
};
use events::envelope::StreamId;

pub use self::{
    faulty_feed::FaultyFeed,
    ledger::{Ledger, LedgerStore, assert_each_once, ledger},
    scripted_store::{ScriptedStore, StoreFault},
};
use crate::log_contract::harness::{append, commit_one, event};

/// A type that the [`Ledger`] does not know.
pub const UNKNOWN_TYPE: &str = "FromTheFuture";
/// A type that it knows and cannot apply.
pub const POISON_TYPE: &str = "Spoilt";

/// Only a test that fails waits so long.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Small batches and short waits, so that a test sees many of them.
pub fn options() -> FollowerOptions {
    FollowerOptions {
        batch_events_max: 7,
        read_ahead_events_max: 20,
        poll_wait: Duration::from_millis(200),
        backoff: Backoff { first: Duration::from_millis(1), max: Duration::from_millis(10) },
        ..FollowerOptions::default()
    }
}

/// Appends one event per entry: the stream's name and the event's type.
pub async fn write(log: &MemoryLog, entries: &[(&str, &str)]) {
    for (stream, event_type) in entries {
        let stream = StreamId::new("account", *stream);
        let version = log.read_stream(&stream, 0, usize::MAX).await.expect("memory is read").len() as u64;
        let mut item = append(&stream, version);
        let mut event = event(&format!("{stream} {version}"));
        event.event_type = (*event_type).into();
        item.decision = Decision::Append(vec![event]);
        commit_one(log, item).await;
    }
}

/// Appends `count` good events, in turn to streams `0..streams`.
pub async fn write_many(log: &MemoryLog, count: usize, streams: usize) {
    let names: Vec<String> = (0..count).map(|n| (n % streams).to_string()).collect();
    let entries: Vec<_> = names.iter().map(|name| (name.as_str(), "Noted")).collect();
    write(log, &entries).await;
}

/// A log per source, each with as many events.
pub async fn logs(sources: &[(&str, usize)]) -> Vec<Arc<MemoryLog>> {
    let mut logs = Vec::new();
    for (source, count) in sources {
        let log = MemoryLog::new(source);
        write_many(&log, *count, 3).await;
        logs.push(log);
    }
    logs
}

/// The logs as feeds.
pub fn feeds(logs: &[Arc<MemoryLog>]) -> Vec<Arc<dyn Feed>> {
    logs.iter().map(|log| Arc::clone(log) as Arc<dyn Feed>).collect()
}

/// Waits for `future`, but not for ever.
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("waited in vain: {what}"))
}

/// Numbers that look random and are the same for the same seed (SplitMix64).
#[derive(Debug, Clone)]
pub struct Seeded(u64);

impl Seeded {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// In `0..bound`; `bound` is at least 1.
    pub fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.draw() % bound as u64).expect("below a usize")
    }
}
