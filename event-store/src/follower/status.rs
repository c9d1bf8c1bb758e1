//! What a follower says of itself.

use std::{collections::BTreeMap, sync::Arc};

use chrono::{DateTime, Utc};
use events::envelope::Name;
use measures::spread::SIZE_BOUNDS;
use thiserror::Error;

use super::{
    checkpoint::{Checkpoint, Vector},
    store::ParkedStream,
};
use crate::log::LogHead;

/// A follower at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    pub follower: Name,
    /// What is applied, durably. Empty until the fence is taken.
    pub vector: Vector,
    /// `None` until the fence is taken, and while another holds it.
    pub fence: Option<u64>,
    /// Another holds the fence; this follower takes over when that one falls silent. The vector is the other's then.
    pub standing_by: bool,
    pub sources: BTreeMap<Name, SourceStatus>,
    pub parked: Arc<[ParkedStream]>,
    /// Why the store does not answer now; the follower tries again with backoff.
    pub store_failure: Option<String>,
    /// How often it did not, since the start of this process.
    pub store_failures: u64,
    /// `None` while the follower runs.
    pub stopped: Option<StopReason>,
}

impl Status {
    /// Events not yet applied, over all sources, as far as their heads have been seen.
    pub fn lag_events(&self) -> u64 {
        self.sources.values().map(SourceStatus::lag_events).sum()
    }

    /// Whether every source's head has been seen and is applied.
    pub fn is_caught_up(&self) -> bool {
        self.fence.is_some()
            && self.sources.values().all(|source| source.head.is_some() && source.lag_events() == 0)
            && self.sources.values().all(|source| source.halt().is_none())
    }

    /// The first source that will not go on by itself, and why.
    pub fn stuck(&self) -> Option<(&Name, &HaltReason)> {
        self.sources.iter().find_map(|(name, source)| {
            source.halt().filter(|reason| !reason.heals_by_itself()).map(|reason| (name, reason))
        })
    }
}

/// One source of a follower at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceStatus {
    pub checkpoint: Checkpoint,
    /// The head as last seen; `None` until the feed has answered once.
    pub head: Option<LogHead>,
    /// When the feed told it, by our clock: a lag is as old as this. `None` until the feed has answered once.
    pub observed_at: Option<DateTime<Utc>>,
    /// When the log took the oldest event that is read but not applied.
    pub pending_since: Option<DateTime<Utc>>,
    pub state: SourceState,
    /// Events read and not yet applied, and the most that there ever were (bounded by `read_ahead_events_max`).
    pub read_ahead_events: usize,
    pub read_ahead_events_peak: usize,
    /// The same in bytes.
    pub read_ahead_bytes: usize,
    pub read_ahead_bytes_peak: usize,
    /// Since the start of this process.
    pub counters: Counters,
}

/// What happened to one source since the start of this process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    pub events_applied: u64,
    pub steps: u64,
    /// The steps by the number of their events: up to each of [`SIZE_BOUNDS`], and beyond.
    pub steps_by_size: [u64; SIZE_BOUNDS.len() + 1],
    /// Events that were delivered again and dropped.
    pub duplicates: u64,
    /// Pages that were read again because events were missing.
    pub rereads: u64,
    /// How often the source came to a halt, and streams that had to be parked.
    pub halts: u64,
    pub parked: u64,
}

impl SourceStatus {
    pub(super) fn starting() -> Self {
        Self {
            checkpoint: Checkpoint::START,
            head: None,
            observed_at: None,
            pending_since: None,
            state: SourceState::Starting,
            read_ahead_events: 0,
            read_ahead_events_peak: 0,
            read_ahead_bytes: 0,
            read_ahead_bytes_peak: 0,
            counters: Counters::default(),
        }
    }

    /// Events between the checkpoint and the head as last seen.
    pub fn lag_events(&self) -> u64 {
        self.head.as_ref().map_or(0, |head| head.position.saturating_sub(self.checkpoint.position))
    }

    /// For how long the oldest event that is known and not applied has been waiting, in milliseconds; 0 = none waits.
    pub fn lag_ms(&self, now: DateTime<Utc>) -> u64 {
        self.waiting_since().map_or(0, |since| u64::try_from((now - since).num_milliseconds()).unwrap_or(0))
    }

    /// When the log took the oldest event that is known and not applied; `None` = none waits. Of what is not even read,
    /// only the head's time is known.
    pub fn waiting_since(&self) -> Option<DateTime<Utc>> {
        if self.lag_events() == 0 {
            return None;
        }
        self.pending_since.or(self.head.as_ref().map(|head| head.recorded_at))
    }

    pub fn halt(&self) -> Option<&HaltReason> {
        match &self.state {
            SourceState::Halted(reason) => Some(reason),
            SourceState::Starting | SourceState::Running => None,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceState {
    /// The feed has not answered yet.
    Starting,
    Running,
    /// This source stands still; the others go on.
    Halted(HaltReason),
}

/// Why a source stands still. Only `Unreachable` heals by itself; the others stay until the follower is started anew
/// on what has been put right.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum HaltReason {
    /// The log no longer holds what was read from it: it was restored from an older copy. A rebuild heals it.
    #[error("feed regressed: the event read at position {position} is not there, the head is now {head}")]
    FeedRegressed { position: u64, head: u64 },
    /// A newer binary knows it.
    #[error("unknown event type {event_type} version {event_version} at position {position}")]
    UnknownEventType { position: u64, event_type: Name, event_version: Name },
    /// Tried again with backoff.
    #[error("unreachable since {since}, {attempts} attempts: {cause}")]
    Unreachable { since: DateTime<Utc>, attempts: u32, cause: String },
    /// A hole, or something that is not an event.
    #[error("feed is damaged at position {position}: {reason}")]
    Damaged { position: u64, reason: String },
    /// More streams than `parked_streams_max` would have to be parked.
    #[error("cannot apply the event at position {position} ({parked} streams are parked already): {reason}")]
    Poison { position: u64, reason: String, parked: usize },
}

impl HaltReason {
    /// The stable name of the kind of reason.
    pub fn code(&self) -> &'static str {
        match self {
            Self::FeedRegressed { .. } => "feed_regressed",
            Self::UnknownEventType { .. } => "unknown_event_type",
            Self::Unreachable { .. } => "unreachable",
            Self::Damaged { .. } => "feed_damaged",
            Self::Poison { .. } => "poison",
        }
    }

    pub fn heals_by_itself(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }
}

/// Why a follower runs no more.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum StopReason {
    #[error("shut down")]
    Shutdown,
    /// The target of `FollowerOptions::until` is reached.
    #[error("target reached")]
    Reached,
    /// Another follower has taken over; this one has written nothing since, and follows without a lease.
    #[error("another follower has taken over")]
    Fenced,
    /// Our bug, or a store that is not what we made.
    #[error("{0}")]
    Bug(String),
    /// Ended from outside without waiting, as by a crash.
    #[error("aborted")]
    Aborted,
    /// A failpoint of a test was passed.
    #[error("failpoint {0}")]
    Failpoint(&'static str),
}
