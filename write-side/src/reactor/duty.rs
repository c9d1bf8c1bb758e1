//! A duty: what an event obliges a reactor to do, from the moment it is noted until it is done.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use event_store::follower::{ApplyError, StoreError, Vector};
use events::envelope::RecordedEvent;
use uuid::Uuid;

use crate::progress::Moved;

/// Which one: there is at most one for an event.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DutyId {
    pub source: String,
    pub position: u64,
}

/// Something to do about an event. Its payload stays in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Duty {
    pub id: DutyId,
    pub event_id: Uuid,
    /// Of one stream, duties are done one after another.
    pub stream: String,
    /// It waits for a time of its own, and holds up nobody.
    pub timer: bool,
    pub due_at: DateTime<Utc>,
    /// How often it failed.
    pub attempts: u32,
    /// Why it is not done yet, without personal data.
    pub reason: Option<String>,
}

impl Duty {
    /// To be done about `event` at `due_at`, for the first time.
    pub fn about(source: &str, event: &RecordedEvent, timer: bool, due_at: DateTime<Utc>) -> Self {
        Self {
            id: DutyId { source: source.to_owned(), position: event.position },
            event_id: event.event_id,
            stream: event.stream.to_string(),
            timer,
            due_at,
            attempts: 0,
            reason: None,
        }
    }
}

/// What is due.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DueNow {
    /// Of each stream at most the first that is no timer; the longest overdue first.
    pub duties: Vec<Duty>,
    /// When something will be due that is not yet.
    pub next: Option<DateTime<Utc>>,
}

/// Where a reactor keeps its checkpoint and its duties: the service's own database.
#[async_trait]
pub trait Duties: Send + Sync + 'static {
    /// Fence and checkpoints, read in one transaction; with `take_fence`, after taking the fence.
    async fn load(&self, take_fence: bool) -> Result<(u64, Vector), StoreError>;

    /// The fence as it is now.
    async fn fence(&self) -> Result<u64, StoreError>;

    /// Puts `source`, whose log has this epoch, before its first event, unless it has a checkpoint.
    async fn begin(&self, source: &str, epoch: Uuid) -> Result<(), StoreError>;

    /// Notes duties and moves the checkpoint, in one transaction or not at all. Refused as `Unavailable` while
    /// `open_max` duties that are no timers are open: who follows then waits.
    async fn note(&self, moved: Moved, duties: Vec<Duty>, open_max: usize) -> Result<(), ApplyError>;

    /// At most `limit` duties that are due, if the fence is held.
    async fn due(&self, fence: u64, now: DateTime<Utc>, limit: usize) -> Result<DueNow, ApplyError>;

    /// Ends a duty, if the fence is held.
    async fn done(&self, fence: u64, duty: &DutyId) -> Result<(), ApplyError>;

    /// Puts a duty off: its time, attempts and reason become those of `duty`, if the fence is held.
    async fn put_off(&self, fence: u64, duty: &Duty) -> Result<(), ApplyError>;

    /// At most `limit` open duties, those that failed most often first: for who operates it.
    async fn open(&self, limit: usize) -> Result<Vec<Duty>, StoreError>;
}

/// Said when `open_max` is reached.
pub(super) fn too_many(open_max: usize) -> StoreError {
    StoreError::Unavailable(format!("{open_max} duties are open: no more are taken until some are done").into())
}
