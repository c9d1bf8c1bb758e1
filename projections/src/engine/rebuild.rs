//! Rebuilding: the next generation from position 0, beside the live one; then the swap.
//!
//! Readers never see it happen. The new generation catches up with a follower of its own; then both are brought to one
//! vector and compared. The same `VERSION` must give the same rows, or the swap is refused: either the fold is not
//! pure or the live rows were damaged, and an operator has to know which. The pointer moves in one transaction.

use std::{sync::Arc, time::Duration};

use event_store::{
    failpoint,
    feed::Feed,
    follower::{FollowerOptions, Status, StopReason, Vector},
};
use read_side::Wake;
use serde::Serialize;
use thiserror::Error;
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    EngineError,
    parking::{self, ParkingError},
    query_database::QueryDatabase,
    running::{Live, Running},
    store::{GenerationStore, StoreOptions},
    table_hash::{TableHash, table_hash},
};
use crate::projection::Projection;

/// How long both generations may take to meet at one vector: the live one stands still meanwhile.
const MEET_WAIT_MAX: Duration = Duration::from_secs(120);
/// How long a generation may take to finish its fan-outs there.
const FAN_OUT_WAIT_MAX: Duration = Duration::from_secs(60);
/// Between two looks at the progress.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(200);
/// How long a follower may take to end what it is at.
pub(crate) const STOP_WAIT_MAX: Duration = Duration::from_secs(30);

/// What a rebuild is to end in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// The new generation becomes live.
    Swap,
    /// It is compared and dropped.
    Verify,
}

/// How far a rebuild is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Progress {
    pub projection: String,
    pub generation: i64,
    pub phase: Phase,
    pub events_done: u64,
    /// All events of all sources, as far as their heads have been seen.
    pub events_total: u64,
    /// Over the whole rebuild so far.
    pub events_per_s: u64,
    /// Why it failed.
    pub error: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    CatchingUp,
    Comparing,
    /// The new generation is live.
    Swapped,
    /// Compared, the same, and dropped.
    Verified,
    Failed,
    Cancelled,
}

impl Phase {
    /// Whether nothing more will happen.
    pub fn is_over(self) -> bool {
        match self {
            Self::CatchingUp | Self::Comparing => false,
            Self::Swapped | Self::Verified | Self::Failed | Self::Cancelled => true,
        }
    }
}

/// Why a rebuild did not become live.
#[derive(Debug, Error)]
pub enum RebuildError {
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error("what is parked could not be settled: {0}")]
    Parking(#[from] ParkingError),
    #[error("generation {generation} of {projection} stands still: {reason}")]
    Stuck { projection: &'static str, generation: i64, reason: String },
    #[error(
        "the same version gave other rows: generation {live} has {live_hash}, generation {built} has {built_hash}; \
         generation {built} is kept for inspection and was not swapped in"
    )]
    Differs { live: i64, live_hash: TableHash, built: i64, built_hash: TableHash },
    #[error("generations {live} and {built} did not meet at one vector within {wait_s} s")]
    NotMet { live: i64, built: i64, wait_s: u64 },
    #[error("cancelled")]
    Cancelled,
    /// A failpoint of a test was passed.
    #[error("failpoint {0}")]
    Failpoint(&'static str),
}

/// What a rebuild works with.
pub(crate) struct Rebuild {
    pub projection: Arc<Projection>,
    pub database: QueryDatabase,
    pub feeds: Vec<Arc<dyn Feed>>,
    pub follower: FollowerOptions,
    pub store: StoreOptions,
    pub wake: Wake,
    /// What is followed into now; the rebuild puts its own there when it swaps.
    pub live: Arc<Live>,
    pub progress: watch::Sender<Progress>,
    pub cancel: CancellationToken,
}

impl Rebuild {
    /// Builds into `generation` and ends as `purpose` says. A crash anywhere leaves a building generation, which the
    /// next start goes on with, or a finished swap.
    pub async fn run(self, generation: i64, purpose: Purpose) -> Result<(), RebuildError> {
        let outcome = self.build(generation, purpose).await;
        let phase = match (&outcome, purpose) {
            (Ok(()), Purpose::Swap) => Phase::Swapped,
            (Ok(()), Purpose::Verify) => Phase::Verified,
            (Err(RebuildError::Cancelled), _) => Phase::Cancelled,
            (Err(_), _) => Phase::Failed,
        };
        if let Err(error) = &outcome {
            tracing::warn!(projection = self.projection.template.name, generation, %error, "rebuild not swapped in");
        }
        self.progress.send_modify(|progress| {
            progress.phase = phase;
            progress.error = outcome.as_ref().err().map(ToString::to_string);
        });
        outcome
    }

    async fn build(&self, generation: i64, purpose: Purpose) -> Result<(), RebuildError> {
        let store = self
            .database
            .store(Arc::clone(&self.projection), generation, self.store.clone(), self.wake.clone())
            .await?;
        let store = Arc::new(store);
        let mut building = Running::start(Arc::clone(&store), &self.feeds, self.follower.clone());
        let caught_up = self.catch_up(&building, generation).await;
        building.stop(STOP_WAIT_MAX).await;
        if let Err(error) = caught_up {
            self.database.close_generation(store.pool()).await;
            self.leave(generation, purpose, &error).await?;
            return Err(error);
        }
        self.progress.send_modify(|progress| progress.phase = Phase::Comparing);

        // from here on the live generation stands still, until one of the two goes on
        let mut live = self.live.running.lock().await;
        let compared = self.compare(&mut live, &store).await;
        let outcome = match (compared, purpose) {
            (Ok(()), Purpose::Swap) => self.swap(live.as_ref(), &store).await,
            (Ok(()), Purpose::Verify) => Ok(()),
            (Err(error), _) => Err(error),
        };
        if outcome.is_ok() && purpose == Purpose::Swap {
            let running = Running::start(store, &self.feeds, self.follower.clone());
            self.live.show(&running);
            let old = live.replace(running);
            drop(live);
            // readers that wait find the new generation
            self.wake.committed();
            if let Some(old) = old {
                self.database.close_generation(old.store.pool()).await;
            }
            self.drop_old(generation).await;
            return Ok(());
        }
        if let Some(running) = live.as_mut() {
            *running = Running::start(Arc::clone(&running.store), &self.feeds, self.follower.clone());
            self.live.show(running);
        }
        drop(live);
        self.database.close_generation(store.pool()).await;
        match &outcome {
            Ok(()) => self.database.drop_generation(&self.projection, generation).await?,
            Err(error) => self.leave(generation, purpose, error).await?,
        }
        outcome
    }

    /// What becomes of a generation that is not swapped in.
    async fn leave(&self, generation: i64, purpose: Purpose, error: &RebuildError) -> Result<(), RebuildError> {
        match (error, purpose) {
            // the next start goes on with it; a failpoint is to leave what a crash would
            (RebuildError::Cancelled | RebuildError::Failpoint(_), Purpose::Swap) => {}
            (RebuildError::Cancelled | RebuildError::Failpoint(_), Purpose::Verify) => {
                self.database.drop_generation(&self.projection, generation).await?;
            }
            _ => self.database.fail(self.projection.template, generation, &error.to_string()).await?,
        }
        Ok(())
    }

    /// Follows until every source's head is applied, and shows how far it is.
    async fn catch_up(&self, building: &Running, generation: i64) -> Result<(), RebuildError> {
        let started = Instant::now();
        let first = done(&building.follower.status());
        loop {
            let caught_up = timeout(PROGRESS_INTERVAL, building.follower.caught_up()).await;
            let status = building.follower.status();
            let events_done = done(&status);
            let events_total = status.sources.values().map(|source| source.lag_events()).sum::<u64>() + events_done;
            let elapsed_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX).max(1);
            self.progress.send_modify(|progress| {
                progress.events_done = events_done;
                progress.events_total = events_total;
                progress.events_per_s = (events_done.saturating_sub(first)).saturating_mul(1_000) / elapsed_ms;
            });
            match caught_up {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(error)) => {
                    let projection = self.projection.template.name;
                    return Err(RebuildError::Stuck { projection, generation, reason: error.to_string() });
                }
                Err(_) if self.cancel.is_cancelled() => return Err(RebuildError::Cancelled),
                Err(_) => {}
            }
        }
    }

    /// Brings both generations to one vector and compares them. Nothing to compare with: nothing to refuse.
    async fn compare(&self, live: &mut Option<Running>, built: &Arc<GenerationStore>) -> Result<(), RebuildError> {
        let Some(live) = live else { return Ok(()) };
        // a live generation that cannot go on (a log was restored from an older copy) is what a rebuild heals
        if live.follower.status().stuck().is_some() {
            live.stop(STOP_WAIT_MAX).await;
            return Ok(());
        }
        live.stop(STOP_WAIT_MAX).await;
        let numbers = (live.store.generation(), built.generation());
        let not_met = || RebuildError::NotMet { live: numbers.0, built: numbers.1, wait_s: MEET_WAIT_MAX.as_secs() };
        let one = self.vector(&live.store).await?;
        let other = self.vector(built).await?;
        let target = latest(&one, &other);
        for store in [&live.store, built] {
            let options = FollowerOptions { until: Some(target.clone()), ..self.follower.clone() };
            let mut running = Running::start(Arc::clone(store), &self.feeds, options);
            let stopped = timeout(MEET_WAIT_MAX, running.follower.stopped()).await;
            running.stop(STOP_WAIT_MAX).await;
            if stopped != Ok(StopReason::Reached) {
                return Err(not_met());
            }
            // they met what is parked under different decisions, and perhaps under different releases
            parking::settle(store, &self.feeds).await?;
            let finished = timeout(FAN_OUT_WAIT_MAX, finish_fan_outs(store)).await;
            if !matches!(finished, Ok(Ok(()))) {
                return Err(not_met());
            }
        }
        let (live_hash, built_hash) = (table_hash(&live.store).await?, table_hash(built).await?);
        if live_hash != built_hash {
            return Err(RebuildError::Differs { live: numbers.0, live_hash, built: numbers.1, built_hash });
        }
        Ok(())
    }

    async fn vector(&self, store: &GenerationStore) -> Result<Vector, RebuildError> {
        use event_store::follower::FollowerStore;
        let acquired = store.reload().await.map_err(|error| EngineError::Damaged(error.to_string()))?;
        Ok(acquired.vector)
    }

    async fn swap(&self, live: Option<&Running>, built: &GenerationStore) -> Result<(), RebuildError> {
        let generation = built.generation();
        let template = self.projection.template;
        let from = match live {
            Some(running) => Some(running.store.generation()),
            None => self.database.live(template).await?.map(|live| live.generation),
        };
        built.go_live().await?;
        failpoint!("projection.before_swap", RebuildError::Failpoint("projection.before_swap"));
        self.database.swap(template, from, generation).await?;
        failpoint!("projection.after_swap", RebuildError::Failpoint("projection.after_swap"));
        tracing::info!(projection = template.name, generation, "generation swapped in");
        Ok(())
    }

    /// Keeps the generation before this one, to go back to, and drops what is older.
    async fn drop_old(&self, generation: i64) {
        let retired = match self.database.generations(self.projection.template).await {
            Ok(generations) => generations,
            Err(error) => return tracing::warn!(%error, "old generations are kept"),
        };
        let mut retired: Vec<_> = retired
            .into_iter()
            .filter(|old| old.generation < generation && (old.state == "retired" || old.state == "failed"))
            .collect();
        let newest_retired = retired.iter().filter(|old| old.state == "retired").map(|old| old.generation).max();
        retired.retain(|old| Some(old.generation) != newest_retired);
        for old in retired {
            if let Err(error) = self.database.drop_generation(&self.projection, old.generation).await {
                tracing::warn!(generation = old.generation, %error, "an old generation is kept");
            }
        }
    }
}

/// Advances fan-outs to their end; the follower of this store has stopped.
async fn finish_fan_outs(store: &GenerationStore) -> Result<(), event_store::follower::ApplyError> {
    while store.advance_fan_outs().await? {}
    Ok(())
}

fn done(status: &Status) -> u64 {
    status.vector.iter().map(|(_, checkpoint)| checkpoint.position).sum()
}

/// Per source, whichever is further.
fn latest(one: &Vector, other: &Vector) -> Vector {
    let mut latest = one.clone();
    for (source, checkpoint) in other.iter() {
        if checkpoint.position > latest.get(source).position {
            latest.set(source.clone(), *checkpoint);
        }
    }
    latest
}
