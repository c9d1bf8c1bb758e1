//! A duty: what an event obliges a reactor to do, from the moment it is noted until it is done.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use event_store::follower::{ApplyError, StoreError, Vector};
use events::envelope::RecordedEvent;
use uuid::Uuid;

use crate::progress::{Moved, Tenure};

/// Which one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DutyId {
    pub source: String,
    pub position: u64,
    /// Which of the things that the event obliges to; 0 where there is only one.
    pub part: u16,
}

/// Something to do about an event. Its payload stays in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Duty {
    pub id: DutyId,
    pub event_id: Uuid,
    /// Of one lane, duties are done one after another. Usually it is the event's stream.
    pub lane: String,
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
            id: DutyId { source: source.to_owned(), position: event.position, part: 0 },
            event_id: event.event_id,
            lane: event.stream.to_string(),
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
    /// Of each lane at most the first that is no timer; the longest overdue first.
    pub duties: Vec<Duty>,
    /// When something will be due that is not yet.
    pub next: Option<DateTime<Utc>>,
}

/// What became of duties.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settled {
    pub done: Vec<DutyId>,
    /// With the time, attempts and reason that they have from now on.
    pub put_off: Vec<Duty>,
}

/// Where a reactor keeps its checkpoint and its duties: the service's own database.
#[async_trait]
pub trait Duties: Send + Sync + 'static {
    /// Fence and checkpoints, read in one transaction; with `take_fence`, after taking the fence.
    async fn load(&self, take_fence: bool) -> Result<(u64, Vector), StoreError>;

    /// Who acts, and whether it is alive.
    fn tenure(&self) -> &dyn Tenure;

    /// Puts `source`, whose log has this epoch, before its first event, unless it has a checkpoint.
    async fn begin(&self, source: &str, epoch: Uuid) -> Result<(), StoreError>;

    /// Notes duties and moves the checkpoint, in one transaction or not at all. Refused as `Unavailable` while
    /// `open_max` duties that are no timers are open: who follows then waits.
    async fn note(&self, moved: Moved, duties: Vec<Duty>, open_max: usize) -> Result<(), ApplyError>;

    /// At most `limit` duties that are due, if the fence is held.
    async fn due(&self, fence: u64, now: DateTime<Utc>, limit: usize) -> Result<DueNow, ApplyError>;

    /// Ends what is done and puts off what is not, in one transaction, if the fence is held.
    async fn settle(&self, fence: u64, settled: Settled) -> Result<(), ApplyError>;

    /// Makes due `now` what waits beyond `latest` and is no timer, if the fence is held.
    async fn hurry(&self, fence: u64, now: DateTime<Utc>, latest: DateTime<Utc>) -> Result<(), ApplyError>;

    /// At most `limit` open duties, those that failed most often first: for who operates it.
    async fn open(&self, limit: usize) -> Result<Vec<Duty>, StoreError>;
}

/// Said when `open_max` is reached.
pub(super) fn too_many(open_max: usize) -> StoreError {
    StoreError::Unavailable(format!("{open_max} duties are open: no more are taken until some are done").into())
}
