//! How far a follower of a service is: fence and checkpoint in the service's own database, for whoever keeps rows of its
//! own beside them (a replica, a reactor) and moves both in one transaction.
//!
//! [`sqlite`] is a file beside the log's, [`postgres`] a schema in the service's database. The tables `fence` and
//! `checkpoint` look the same everywhere; what else there is belongs to who opens them.

pub mod postgres;
pub mod sqlite;

use std::time::Duration;

use async_trait::async_trait;
use event_store::follower::{ApplyError, Checkpoint, FollowerOptions, Pulse, Step, StoreError};
use uuid::Uuid;

/// How long the process that follows may be silent before another takes over: longer than a machine that is out of breath
/// takes for a commit, short enough that nobody waits for a payment or a mail for long.
pub const LEASE: Duration = Duration::from_secs(6);

/// How services follow: nothing is parked, and of several processes on one database one acts and the others stand by.
pub fn following() -> FollowerOptions {
    FollowerOptions { parked_streams_max: 0, lease: Some(LEASE), ..FollowerOptions::default() }
}

/// Who holds the fence, and whether it is alive.
#[async_trait]
pub trait Tenure: Send + Sync {
    /// The fence as it is now.
    async fn fence(&self) -> Result<u64, StoreError>;

    /// Raises the beat of who holds `fence`. `false`: another holds it.
    async fn beat(&self, fence: u64) -> Result<bool, StoreError>;

    /// Fence, beat and checkpoints, without a lock.
    async fn pulse(&self) -> Result<Pulse, StoreError>;
}

/// A checkpoint's move by compare-and-set.
#[derive(Debug, Clone)]
pub struct Moved {
    pub fence: u64,
    pub source: String,
    pub from: Checkpoint,
    pub to: Checkpoint,
}

impl Moved {
    pub fn by(step: &Step<'_>) -> Self {
        Self { fence: step.fence, source: step.source.to_string(), from: step.from, to: step.to }
    }
}

/// For those that park nothing: what they cannot read halts its source, because what is behind it must not be acted on
/// as if it had been. Nor do they divert anything.
pub fn refuse_parking(step: &Step<'_>) -> Result<(), ApplyError> {
    match step.parking.first() {
        None if step.diverted.is_empty() => Ok(()),
        None => Err(ApplyError::Moved),
        Some(parked) => {
            Err(ApplyError::Bug(format!("nothing is parked here, not even the event at {}", parked.position)))
        }
    }
}

/// A checkpoint as both databases keep it.
fn checkpoint(epoch: &str, position: i64, event_id: Option<&str>) -> Result<Checkpoint, StoreError> {
    let epoch = uuid_of(epoch)?;
    Ok(Checkpoint { epoch, position: unsigned("position", position)?, event_id: event_id.map(uuid_of).transpose()? })
}

/// An id as both databases keep it.
pub fn uuid_of(text: &str) -> Result<Uuid, StoreError> {
    Uuid::parse_str(text).map_err(|_| damaged(format!("{text} is not an id")))
}

/// A position, fence or count as both databases keep it.
pub fn unsigned(what: &str, number: i64) -> Result<u64, StoreError> {
    u64::try_from(number).map_err(|_| damaged(format!("{what} {number}")))
}

/// A position on its way into a database.
pub fn signed(position: u64) -> Result<i64, StoreError> {
    i64::try_from(position).map_err(|_| StoreError::Bug(format!("position {position} is beyond what a log counts")))
}

pub fn damaged(reason: String) -> StoreError {
    StoreError::Bug(format!("the rows are not what we wrote: {reason}"))
}
