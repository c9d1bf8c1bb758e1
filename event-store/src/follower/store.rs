//! The follower's own side: its state and its checkpoints, in its own transaction.
//!
//! How a store is written in SQL. Two tables:
//!
//! ```sql
//! create table fence (one integer primary key check (one = 1), fence bigint not null);
//! create table checkpoint (source text primary key, epoch text not null, position bigint not null, event_id text);
//! ```
//!
//! [`FollowerStore::acquire`] is `update fence set fence = fence + 1 returning fence`, then a read of the checkpoints,
//! in one transaction. [`FollowerStore::apply`] is one transaction around the work itself and
//!
//! ```sql
//! update checkpoint set epoch = $to_epoch, position = $to, event_id = $to_event
//!  where source = $source and position = $from and event_id is not distinct from $from_event
//!    and epoch = $from_epoch and (select fence from fence) = $fence
//! ```
//!
//! No row updated: read the fence; another one is [`ApplyError::Fenced`], the same one [`ApplyError::Moved`]. On
//! databases with concurrent writers the fence row is locked first (`select fence from fence for share`), so that
//! nobody takes it between the comparison and the commit. A source seen for the first time is inserted with
//! `on conflict do nothing` when `step.from` is [`Checkpoint::START`](super::Checkpoint::START).
//!
//! A store that is followed with a lease has one more column in `fence`, `beat bigint not null default 0`:
//! [`FollowerStore::beat`] is `update fence set beat = beat + 1 where fence = $fence`, and no row means that another
//! holds the fence.
//!
//! [`super::memory::MemoryStore`] is the same in memory.

use async_trait::async_trait;
use events::envelope::{Name, RecordedEvent, StreamId};
use thiserror::Error;
use uuid::Uuid;

use super::checkpoint::{Checkpoint, Vector};
use crate::log::{LogHead, Source};

/// Where a follower keeps what it makes of events, together with how far it is.
///
/// The kernel calls one method at a time, [`Self::beat`] apart, and never drops a call half-way, except for that one and
/// when its task is aborted.
#[async_trait]
pub trait FollowerStore: Send + Sync + 'static {
    /// Takes the fence, so that every earlier holder's writes are refused from now on, and says where to go on.
    async fn acquire(&self) -> Result<Acquired, StoreError>;

    /// What is there now, without taking the fence: after [`ApplyError::Moved`].
    async fn reload(&self) -> Result<Acquired, StoreError>;

    /// The fence as it is now. Asked from time to time by a follower that has nothing to apply; worth its own look where
    /// a reload reads much.
    async fn fence(&self) -> Result<u64, StoreError> {
        Ok(self.reload().await?.fence)
    }

    /// Says that the holder of `fence` is alive: raises the beat that [`Self::pulse`] shows. `false`: another holds the
    /// fence. Called from beside, while a step is being applied too, and only by who follows with a lease.
    async fn beat(&self, _fence: u64) -> Result<bool, StoreError> {
        Err(no_beat())
    }

    /// Who holds the fence now, whether it is alive, and how far it is: what a follower that stands by looks at. Reads
    /// little and locks nobody out.
    async fn pulse(&self) -> Result<Pulse, StoreError> {
        Err(no_beat())
    }

    /// Applies the events of one source and moves its checkpoint from `step.from` to `step.to` by compare-and-set
    /// under `step.fence`, in one transaction: all of it, or on any error nothing.
    ///
    /// A step without events only moves the checkpoint (a new epoch, or a start at the head).
    async fn apply(&self, step: &Step<'_>) -> Result<(), ApplyError>;
}

/// What a follower finds in its store.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Acquired {
    /// The fence now: larger than every earlier holder's.
    pub fence: u64,
    pub vector: Vector,
    pub parked: Vec<ParkedStream>,
}

/// The fence as somebody sees who does not hold it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Pulse {
    pub fence: u64,
    /// Rises while the holder lives.
    pub beat: u64,
    pub vector: Vector,
}

fn no_beat() -> StoreError {
    StoreError::Bug("this store keeps no beat: it cannot be followed with a lease".to_owned())
}

/// A stream of one source whose events wait, because one of them could not be applied. The others of its source go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParkedStream {
    pub source: Name,
    pub stream: StreamId,
    /// The event that could not be applied: it and all later ones of the stream wait.
    pub position: u64,
    pub event_id: Uuid,
    /// Why, without personal data.
    pub reason: String,
}

/// Events of one source, to be applied in one transaction.
#[derive(Debug, Clone, Copy)]
pub struct Step<'a> {
    pub fence: u64,
    pub source: &'a Name,
    pub from: Checkpoint,
    pub to: Checkpoint,
    /// Positions `from.position + 1 ..= to.position`, without a hole; empty when only the checkpoint moves.
    pub events: &'a [RecordedEvent],
    /// Indices into `events`, ascending: events of parked streams, which are not folded. The store notes that they
    /// wait (their position; not their payload, which the log keeps and may have to forget).
    pub diverted: &'a [usize],
    /// Streams that this step parks; their first waiting event is among `diverted`.
    pub parking: &'a [ParkedStream],
    /// The log's head when the events were read.
    pub head: &'a LogHead,
}

impl<'a> Step<'a> {
    /// The events to fold, in order.
    pub fn folded(&self) -> impl Iterator<Item = &'a RecordedEvent> + use<'a> {
        let mut diverted = self.diverted.iter().copied().peekable();
        self.events
            .iter()
            .enumerate()
            .filter(move |(index, _)| diverted.next_if_eq(index).is_none())
            .map(|(_, event)| event)
    }

    /// The events that wait with their stream, in order.
    pub fn waiting(&self) -> impl Iterator<Item = &'a RecordedEvent> + use<'a> {
        let events = self.events;
        self.diverted.iter().map(move |&index| &events[index])
    }
}

/// Why a store cannot say where a follower stands.
#[derive(Debug, Error)]
pub enum StoreError {
    /// Tried again with backoff.
    #[error("follower store unavailable: {0}")]
    Unavailable(#[source] Source),
    /// Our bug, or a store that is not what we made: the follower stops.
    #[error("follower store: {0}")]
    Bug(String),
}

/// Why a step was not applied. Nothing of it is in the store then, except perhaps after `Unavailable`: there the
/// compare-and-set of the next try settles it.
#[derive(Debug, Error)]
pub enum ApplyError {
    /// The checkpoint is not at `step.from`, or a diverted event's stream is no longer parked (or a folded one's is):
    /// the kernel reloads, and with the same fence goes on.
    #[error("the checkpoint is elsewhere")]
    Moved,
    /// Another follower holds the fence: this one stops, or stands by if it follows with a lease.
    #[error("another follower has taken over")]
    Fenced,
    /// The binary is older than the event's writer: the source halts, because what is skipped once is wrong for ever.
    #[error("unknown event type {event_type} version {event_version} at position {position}")]
    UnknownEventType { position: u64, event_type: Name, event_version: Name },
    /// Events that can never be applied (at least one; all that the store has found in this step). Their streams are
    /// parked, the others go on.
    #[error("{} events cannot be applied, the first at position {}: {}", .0.len(), .0[0].position, .0[0].reason)]
    Poison(Vec<PoisonEvent>),
    /// Tried again with backoff.
    #[error("follower store unavailable: {0}")]
    Unavailable(#[source] Source),
    /// Our bug: the follower stops.
    #[error("follower store: {0}")]
    Bug(String),
}

/// An event that cannot be applied, however often it is tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoisonEvent {
    pub position: u64,
    /// Why, without personal data.
    pub reason: String,
}

impl From<StoreError> for ApplyError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable(source) => Self::Unavailable(source),
            StoreError::Bug(reason) => Self::Bug(reason),
        }
    }
}

/// What a fold says of an event that it does not take.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Reject {
    #[error("unknown event type")]
    UnknownEventType,
    /// Why, without personal data.
    #[error("{0}")]
    Poison(String),
}

impl Reject {
    /// This rejection of `event`, as a store reports it.
    pub fn of(self, event: &RecordedEvent) -> ApplyError {
        match self {
            Self::UnknownEventType => ApplyError::UnknownEventType {
                position: event.position,
                event_type: event.event_type.clone(),
                event_version: event.event_version.clone(),
            },
            Self::Poison(reason) => ApplyError::Poison(vec![PoisonEvent { position: event.position, reason }]),
        }
    }
}
