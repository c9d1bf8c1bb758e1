//! Snapshots: where the folding of a long stream may begin. Kept beside the log and made from it, so any of them may be
//! missing, old or wrong, and nothing but time is lost.

use async_trait::async_trait;
use events::envelope::StreamId;
use uuid::Uuid;

use crate::log::LogError;

/// The state of a stream as a fold left it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    pub stream: StreamId,
    /// Of the fold that made it: another fold makes something else of the same events.
    pub fold_version: u32,
    /// The last event that is in it, from 1.
    pub sequence: u64,
    /// That event's id: in a stream that does not hold it there, the snapshot tells of another history.
    pub event_id: Uuid,
    /// JSON text.
    pub state: String,
}

/// Snapshots, one a stream and version of the fold.
#[async_trait]
pub trait SnapshotStore: Send + Sync {
    /// What was kept last for this stream and version.
    async fn snapshot(&self, stream: &StreamId, fold_version: u32) -> Result<Option<Snapshot>, LogError>;

    /// Keeps each in the place of what was there for its stream, versions before its own included. Each stream stands
    /// in `snapshots` once. Safe to cancel: they are kept or not.
    async fn keep_snapshots(&self, snapshots: Vec<Snapshot>) -> Result<(), LogError>;
}
