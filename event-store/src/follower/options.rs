//! How a follower runs. Every bound has a name and a reason.

use std::{sync::Arc, time::Duration};

use super::{checkpoint::Vector, tenure::BEATS_PER_LEASE};
use crate::{
    clock::{Clock, SystemClock},
    feed::PageLimit,
};

/// The bounds and habits of one follower.
#[derive(Debug, Clone)]
pub struct FollowerOptions {
    /// Where a source without a checkpoint begins.
    pub start_at: StartAt,
    /// Stop exactly here: no source is applied beyond its position, sources that are not named stand still, and the
    /// follower ends with [`StopReason::Reached`](super::StopReason::Reached). For rebuilds and comparisons.
    pub until: Option<Vector>,
    /// Events of one transaction: enough to make its round trips cheap, few enough to keep others waiting for
    /// milliseconds only.
    pub batch_events_max: usize,
    /// Payload and metadata of one transaction, in bytes. A single larger event still goes.
    pub batch_bytes_max: usize,
    /// Events per source that are read but not yet applied: two batches or more, so that reading overlaps applying.
    pub read_ahead_events_max: usize,
    /// Their payload and metadata, in bytes: the memory a slow store can cost. A single larger event still goes.
    pub read_ahead_bytes_max: usize,
    /// How long one page is waited for when there is nothing to read.
    pub poll_wait: Duration,
    /// How often a page with a hole, or none of the events that its head promises, is read again before the feed
    /// counts as damaged.
    pub rereads_max: u32,
    /// Parked streams per source. More means that the fault is not in the events: the source halts. 0 = park nothing,
    /// halt at once.
    pub parked_streams_max: usize,
    /// How often in a row the checkpoint may be found elsewhere under our own fence.
    pub moved_max: u32,
    /// How often a follower with nothing to do looks whether it still holds the fence: a busy one hears it at each step.
    pub fence_check: Duration,
    /// How long the holder of the fence may be silent before a follower that stands by takes over; it says that it is
    /// alive every third of that. Longer than a step or a pause of the machine takes, since every mistake costs a hand-over
    /// (and nothing else: the fence keeps the one out who was taken for dead). All followers of a store have the same.
    /// `None`: whoever loses the fence stops for good.
    pub lease: Option<Duration>,
    /// Between tries of what is unavailable.
    pub backoff: Backoff,
    /// For showing lag; nothing depends on it.
    pub clock: Arc<dyn Clock>,
}

impl Default for FollowerOptions {
    fn default() -> Self {
        Self {
            start_at: StartAt::Beginning,
            until: None,
            batch_events_max: 1_000,
            batch_bytes_max: 4 * 1024 * 1024,
            read_ahead_events_max: 4_000,
            read_ahead_bytes_max: 16 * 1024 * 1024,
            poll_wait: Duration::from_secs(10),
            rereads_max: 5,
            parked_streams_max: 1_000,
            moved_max: 8,
            fence_check: Duration::from_secs(10),
            lease: None,
            backoff: Backoff::default(),
            clock: SystemClock::shared(),
        }
    }
}

impl FollowerOptions {
    /// Every bound at least 1 and no wait longer than a feed allows.
    pub(super) fn normalized(mut self) -> Self {
        self.batch_events_max = self.batch_events_max.max(1);
        self.batch_bytes_max = self.batch_bytes_max.max(1);
        self.read_ahead_events_max = self.read_ahead_events_max.max(1);
        self.read_ahead_bytes_max = self.read_ahead_bytes_max.max(1);
        self.poll_wait = self.poll_wait.min(PageLimit::WAIT_MAX);
        self.lease = self.lease.map(|lease| lease.max(Duration::from_millis(BEATS_PER_LEASE.into())));
        // who holds the fence learns that it is lost before anybody could take it again
        let beat_every = self.lease.map_or(self.fence_check, |lease| lease / BEATS_PER_LEASE);
        self.fence_check = self.fence_check.min(beat_every).max(Duration::from_millis(1));
        self
    }
}

/// Where a source begins that has no checkpoint yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartAt {
    /// With the first event: projections, replicas.
    Beginning,
    /// Behind the last event there is: reactors and sagas, which must not act on history. The place is stored at once,
    /// so a crash right after the first start loses nothing.
    Head,
}

/// Waiting longer after each failure, up to a bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    pub first: Duration,
    pub max: Duration,
}

impl Backoff {
    /// How long to wait after `failures` failures in a row (from 1): doubles each time.
    pub fn after(&self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(20);
        self.first.saturating_mul(1 << doublings).min(self.max)
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self { first: Duration::from_millis(50), max: Duration::from_secs(5) }
    }
}
