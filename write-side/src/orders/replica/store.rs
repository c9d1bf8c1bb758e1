//! The follower's store of the replica: rows and checkpoint in one transaction, and the same in memory behind it.

use std::sync::{Arc, RwLock};

use async_trait::async_trait;
use event_store::{
    failpoint,
    follower::{Acquired, ApplyError, FollowerStore, Pulse, Step, StoreError, Vector},
};
use events::{catalog, users};

use super::known::{Changes, Known};
use crate::progress::{Moved, Tenure, refuse_parking};

/// Where the rows are.
#[async_trait]
pub trait Rows: Send + Sync + 'static {
    /// Everything there is, read in one transaction; with `take_fence`, after taking the fence.
    async fn load(&self, take_fence: bool) -> Result<Stored, StoreError>;

    /// Who writes, and whether it is alive.
    fn tenure(&self) -> &dyn Tenure;

    /// Writes `changes` and moves the checkpoint of `moved.source`, in one transaction or not at all.
    async fn write(&self, moved: Moved, changes: &Changes) -> Result<(), ApplyError>;

    /// Deletes the checkpoint of `source` and everything that came from it, and takes the fence, so that whoever
    /// follows now stops: all in one transaction.
    async fn forget(&self, source: &str) -> Result<(), StoreError>;
}

/// The table that keeps what came from `source`.
pub fn table_of(source: &str) -> Result<&'static str, StoreError> {
    match source {
        users::SOURCE => Ok("users"),
        catalog::SOURCE => Ok("products"),
        other => Err(StoreError::Bug(format!("the replica does not follow {other}"))),
    }
}

/// What a load finds.
pub struct Stored {
    pub fence: u64,
    pub vector: Vector,
    pub known: Known,
}

/// Rows in a database, and what they say in memory for whoever looks things up.
pub struct ReplicaStore {
    rows: Box<dyn Rows>,
    known: Arc<RwLock<Known>>,
}

impl ReplicaStore {
    pub fn new(rows: Box<dyn Rows>, known: Arc<RwLock<Known>>) -> Self {
        Self { rows, known }
    }

    /// Memory follows the rows here too: a step whose answer was lost is in them, and will not come again.
    async fn load(&self, take_fence: bool) -> Result<Acquired, StoreError> {
        let stored = self.rows.load(take_fence).await?;
        *self.known.write().expect(NEVER_POISONED) = stored.known;
        Ok(Acquired { fence: stored.fence, vector: stored.vector, parked: Vec::new() })
    }
}

/// Why a lock is never poisoned.
pub const NEVER_POISONED: &str = "nothing panics while it holds the replica's lock";

#[async_trait]
impl FollowerStore for ReplicaStore {
    async fn acquire(&self) -> Result<Acquired, StoreError> {
        self.load(true).await
    }

    async fn reload(&self) -> Result<Acquired, StoreError> {
        self.load(false).await
    }

    /// Rows are many: only the fence is read.
    async fn fence(&self) -> Result<u64, StoreError> {
        self.rows.tenure().fence().await
    }

    async fn beat(&self, fence: u64) -> Result<bool, StoreError> {
        self.rows.tenure().beat(fence).await
    }

    async fn pulse(&self) -> Result<Pulse, StoreError> {
        self.rows.tenure().pulse().await
    }

    async fn apply(&self, step: &Step<'_>) -> Result<(), ApplyError> {
        refuse_parking(step)?;
        let changes = self.known.read().expect(NEVER_POISONED).fold(step)?;
        let moved = Moved::by(step);
        failpoint!("replica.before_commit", ApplyError::Unavailable("failpoint".into()));
        self.rows.write(moved, &changes).await?;
        failpoint!("replica.after_commit", ApplyError::Unavailable("failpoint".into()));
        self.known.write().expect(NEVER_POISONED).apply(changes);
        Ok(())
    }
}
