//! The follower's store of the index: rows and checkpoint in one transaction.
//!
//! A row is not folded from events but taken from the instance that they lead to: whether one is at its end, and which
//! of its steps are stuck, is for its definition to say, and said in one place. An instance that is already further than
//! the event is shown as it is; its later events show it again. So rows are the same whenever and however often they
//! are made.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use event_store::{
    failpoint,
    follower::{Acquired, ApplyError, FollowerStore, Pulse, Step, StoreError, Vector},
};
use events::saga::SagaEvent;
use uuid::Uuid;

use super::{Filter, Tally, standing::Standing};
use crate::{
    progress::{Moved, Tenure, refuse_parking},
    reactor::decode,
    saga::{
        definition::{Definition, Happened},
        handle::SagaHandle,
        plain::StepName,
    },
};

/// People look at the index, and nobody waits for it. While little happens it takes a breath before each step, so that
/// the events of one instance come together and it is looked up once for all of them.
const BREATH: Duration = Duration::from_millis(100);

/// A step with as many events has enough of them: when the index is far behind, it does not wait.
const EVENTS_ENOUGH: usize = 500;

/// Where the rows are.
#[async_trait]
pub trait Rows: Send + Sync + 'static {
    /// Fence and checkpoints, read in one transaction; with `take_fence`, after taking the fence.
    async fn load(&self, take_fence: bool) -> Result<(u64, Vector), StoreError>;

    /// Who writes, and whether it is alive.
    fn tenure(&self) -> &dyn Tenure;

    /// The rows of these instances, as far as there are any.
    async fn known(&self, ids: Vec<Uuid>) -> Result<Vec<Standing>, StoreError>;

    /// Writes rows over what is there and moves the checkpoint, in one transaction or not at all.
    async fn write(&self, moved: Moved, rows: Vec<Standing>) -> Result<(), ApplyError>;

    /// Deletes everything and takes the fence, so that whoever follows now stops.
    async fn forget(&self) -> Result<(), StoreError>;

    /// At most `limit` rows: those that are stuck or overdue the longest if only such are asked for, else what changed last.
    async fn list(&self, filter: Filter, limit: usize) -> Result<Vec<Standing>, StoreError>;

    async fn tally(&self, now: DateTime<Utc>) -> Result<Tally, StoreError>;
}

/// Rows in a database, and where they come from.
pub struct IndexStore<D: Definition> {
    pub rows: Arc<dyn Rows>,
    pub handle: SagaHandle<D>,
}

/// Which instances a step is about, and when it says that steps of theirs are stuck.
type Touched = BTreeMap<Uuid, HashMap<StepName, DateTime<Utc>>>;

impl<D: Definition> IndexStore<D> {
    async fn load(&self, take_fence: bool) -> Result<Acquired, StoreError> {
        let (fence, vector) = self.rows.load(take_fence).await?;
        Ok(Acquired { fence, vector, parked: Vec::new() })
    }

    async fn standing(
        &self,
        id: Uuid,
        said: &HashMap<StepName, DateTime<Utc>>,
        before: Option<&Standing>,
    ) -> Result<Standing, ApplyError> {
        let loaded = self.handle.load(id).await.map_err(|error| ApplyError::Unavailable(error.into()))?;
        let gone = || ApplyError::Unavailable(format!("{} {id} is in the feed and not in the log", D::NAME).into());
        let since = |step: &StepName| said.get(step).copied().or_else(|| before?.stuck_since(step));
        Ok(Standing::of(&loaded.ok_or_else(gone)?, since))
    }
}

#[async_trait]
impl<D: Definition> FollowerStore for IndexStore<D> {
    async fn acquire(&self) -> Result<Acquired, StoreError> {
        self.load(true).await
    }

    async fn reload(&self) -> Result<Acquired, StoreError> {
        self.load(false).await
    }

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
        if step.events.len() < EVENTS_ENOUGH {
            tokio::time::sleep(BREATH).await;
        }
        let touched = touched::<D>(step)?;
        let known = self.rows.known(touched.keys().copied().collect()).await?;
        let known: HashMap<Uuid, Standing> = known.into_iter().map(|row| (row.saga_id, row)).collect();
        let mut rows = Vec::with_capacity(touched.len());
        for (id, said) in &touched {
            rows.push(self.standing(*id, said, known.get(id)).await?);
        }
        failpoint!("saga_index.before_commit", ApplyError::Unavailable("failpoint".into()));
        self.rows.write(Moved::by(step), rows).await
    }
}

fn touched<D: Definition>(step: &Step<'_>) -> Result<Touched, ApplyError> {
    let mut touched = Touched::new();
    for event in step.folded().filter(|event| &*event.stream.aggregate_type == D::NAME) {
        let happened: Happened<D> = decode::<D::Event>(event).map_err(|reject| reject.of(event))?.into();
        let id = Uuid::parse_str(&event.stream.aggregate_id);
        let id = id.map_err(|_| ApplyError::Bug(format!("{} is no saga's stream", event.stream)))?;
        let said = touched.entry(id).or_default();
        match happened {
            SagaEvent::Stuck(stuck) => {
                said.insert(StepName::of(&stuck.step), stuck.at);
            }
            SagaEvent::Started(_)
            | SagaEvent::Advanced(_)
            | SagaEvent::Decided(_)
            | SagaEvent::Completed(_)
            | SagaEvent::Compensated(_) => {}
        }
    }
    Ok(touched)
}
