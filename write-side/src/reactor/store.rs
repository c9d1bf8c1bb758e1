//! How events become duties: the follower's side.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use async_trait::async_trait;
use event_store::follower::{Acquired, ApplyError, FollowerStore, Pulse, Step, StoreError};
use tokio::sync::{Notify, watch};

use super::{
    Part, Reaction, ReactorOptions, Wanted,
    duty::{Duties, Duty, DutyId},
};
use crate::progress::{Moved, refuse_parking};

/// The follower's store, and what it tells the runner.
pub struct DutyStore {
    reaction: Arc<dyn Reaction>,
    pub duties: Arc<dyn Duties>,
    options: ReactorOptions,
    /// The fence that this process took last; `None` = not yet. The runner listens.
    pub fence: watch::Sender<Option<u64>>,
    /// There may be something to do.
    pub noted: Notify,
    /// Nobody does what is noted any more.
    pub abandoned: AtomicBool,
}

impl DutyStore {
    pub fn new(reaction: Arc<dyn Reaction>, duties: Arc<dyn Duties>, options: ReactorOptions) -> Self {
        let (fence, noted, abandoned) = (watch::Sender::new(None), Notify::new(), AtomicBool::new(false));
        Self { reaction, duties, options, fence, noted, abandoned }
    }

    async fn load(&self, take_fence: bool) -> Result<Acquired, StoreError> {
        let (fence, vector) = self.duties.load(take_fence).await?;
        Ok(Acquired { fence, vector, parked: Vec::new() })
    }
}

#[async_trait]
impl FollowerStore for DutyStore {
    async fn acquire(&self) -> Result<Acquired, StoreError> {
        let acquired = self.load(true).await?;
        self.fence.send_replace(Some(acquired.fence));
        Ok(acquired)
    }

    async fn reload(&self) -> Result<Acquired, StoreError> {
        self.load(false).await
    }

    async fn fence(&self) -> Result<u64, StoreError> {
        self.duties.tenure().fence().await
    }

    /// Who notes duties and does none is not alive: another process is to take over.
    async fn beat(&self, fence: u64) -> Result<bool, StoreError> {
        if self.abandoned.load(Ordering::Relaxed) {
            return Err(StoreError::Bug("what is noted is not done any more: the runner has ended".to_owned()));
        }
        self.duties.tenure().beat(fence).await
    }

    async fn pulse(&self) -> Result<Pulse, StoreError> {
        self.duties.tenure().pulse().await
    }

    async fn apply(&self, step: &Step<'_>) -> Result<(), ApplyError> {
        refuse_parking(step)?;
        let now = self.options.clock.now();
        let mut duties = Vec::new();
        for event in step.folded() {
            match self.reaction.wants(step.source, event).map_err(|reject| reject.of(event))? {
                Wanted::Nothing => {}
                Wanted::Now => duties.push(Duty::about(step.source, event, false, now)),
                Wanted::At(time) => duties.push(Duty::about(step.source, event, true, time)),
                Wanted::Parts(parts) => duties.extend(parts.into_iter().map(|Part { part, lane, at, timer }| {
                    let duty = Duty::about(step.source, event, timer, at.unwrap_or(now));
                    Duty { id: DutyId { part, ..duty.id }, lane, ..duty }
                })),
            }
        }
        let is_news = !duties.is_empty();
        self.duties.note(Moved::by(step), duties, self.options.open_max).await?;
        if is_news {
            self.noted.notify_one();
        }
        Ok(())
    }
}
