//! Rebuilding: the next generation from position 0, beside the live one; then the swap.
//!
//! Readers never see it happen. The new generation catches up with a follower of its own (`catch_up`); then both are
//! brought to one vector and compared while the live one goes on (`meet`). The new one never passes the live one
//! before the swap, so no reader sees time go backwards. The same `VERSION` must give the same rows, or
//! the swap is refused: either the fold is not pure or the live rows were damaged, and an operator has to know which. The
//! pointer moves in one transaction, at a vector that is at least as new as what readers have seen.
//!
//! How far it is, what is wished of it and what it found lie in the query database: a crash changes nothing, and any
//! process can show and steer it.

mod catch_up;
mod meet;

use std::{num::NonZeroU64, sync::Arc, time::Duration};

use event_store::{
    failpoint,
    feed::{Feed, FeedError},
    follower::{ApplyError, FollowerOptions, StoreError},
};
use events::envelope::Name;
use read_side::Wake;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use self::meet::Target;
use super::{
    EngineError,
    compare::Comparison,
    keeper,
    lease::Lease,
    pace::Pace,
    parking::{self, ParkingError},
    query_database::{Figures, Frozen, Generation, QueryDatabase},
    store::{GenerationStore, StoreOptions},
    transaction::is_passing,
};
use crate::projection::Projection;

/// How long a follower may take to end what it is at.
pub(crate) const STOP_WAIT_MAX: Duration = Duration::from_secs(30);

/// What a rebuild is to end in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// The new generation becomes live.
    Swap,
    /// It is compared and dropped; a difference is a failure.
    Verify,
    /// It is compared and dropped; differences are what is asked for.
    Diff,
    /// A generation that was live catches up and becomes live again; also one of a copy.
    Rollback,
}

impl Purpose {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Swap => "swap",
            Self::Verify => "verify",
            Self::Diff => "diff",
            Self::Rollback => "rollback",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        [Self::Swap, Self::Verify, Self::Diff, Self::Rollback].into_iter().find(|purpose| purpose.as_str() == text)
    }
}

/// How far a rebuild is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    pub projection: String,
    pub generation: i64,
    pub purpose: Purpose,
    pub phase: Phase,
    pub paused: bool,
    /// `None`: as fast as it can.
    pub throttle_events_per_s: Option<u64>,
    pub events_done: u64,
    /// All events of all sources, as far as their heads have been seen.
    pub events_total: u64,
    /// Over the last seconds.
    pub events_per_s: u64,
    pub started_at_us: i64,
    /// When this was last told.
    pub progressed_at_us: i64,
    /// Why it failed; of one that is not over, what last hindered it.
    pub error: Option<String>,
    /// What the comparison found.
    pub report: Option<Comparison>,
}

impl Progress {
    /// How much longer it takes at the rate of the last seconds; `None` while that cannot be said.
    pub fn eta_s(&self) -> Option<u64> {
        if self.phase != Phase::CatchingUp || self.paused {
            return None;
        }
        self.events_total.saturating_sub(self.events_done).checked_div(self.events_per_s)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    CatchingUp,
    Comparing,
    /// The new generation is live.
    Swapped,
    /// Compared, the same, and dropped.
    Verified,
    /// Compared, whatever came of it, and dropped.
    Compared,
    Failed,
    Cancelled,
}

impl Phase {
    const ALL: [Self; 7] = [
        Self::CatchingUp,
        Self::Comparing,
        Self::Swapped,
        Self::Verified,
        Self::Compared,
        Self::Failed,
        Self::Cancelled,
    ];

    /// Whether nothing more will happen.
    pub fn is_over(self) -> bool {
        match self {
            Self::CatchingUp | Self::Comparing => false,
            Self::Swapped | Self::Verified | Self::Compared | Self::Failed | Self::Cancelled => true,
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::CatchingUp => "catching_up",
            Self::Comparing => "comparing",
            Self::Swapped => "swapped",
            Self::Verified => "verified",
            Self::Compared => "compared",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|phase| phase.as_str() == text)
    }
}

/// Why a rebuild did not come to its end.
#[derive(Debug, Error)]
pub enum RebuildError {
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error("what is parked could not be settled: {0}")]
    Parking(#[source] ParkingError),
    #[error("the query database is not to be had: {0}")]
    Unavailable(String),
    #[error("generation {generation} of {projection} stands still: {reason}")]
    Stuck { projection: &'static str, generation: i64, reason: String },
    #[error(
        "the same version gave other rows: {} differ; generation {} has {}, generation {} has {}; generation {} is kept \
         for inspection and was not swapped in",
        .0.differences_total, .0.live.generation, .0.live.hash, .0.built.generation, .0.built.hash, .0.built.generation
    )]
    Differs(Box<Comparison>),
    #[error(
        "the log of {of} was restored from an older copy meanwhile: the live generation has folded an event at position \
         {position}, the head is {head}"
    )]
    Shortened { of: Name, position: u64, head: u64 },
    #[error("generations {live} and {built} did not meet at one vector within {wait_s} s")]
    NotMet { live: i64, built: i64, wait_s: u64 },
    #[error(
        "generation {generation} is older than the live one and of version {version}, which this program cannot bring up \
         to date: it has version {program}"
    )]
    CannotCatchUp { generation: i64, version: i64, program: u32 },
    /// An operator has wished it.
    #[error("cancelled")]
    Cancelled,
    /// This process ends, or has lost the lease: whoever has it next goes on.
    #[error("interrupted")]
    Interrupted,
    /// A failpoint of a test was passed.
    #[error("failpoint {0}")]
    Failpoint(&'static str),
}

impl RebuildError {
    /// Whether the same may succeed later. What is built stays, and is gone on with.
    pub(crate) fn is_passing(&self) -> bool {
        let passes = |error: &EngineError| matches!(error, EngineError::Database { cause, .. } if is_passing(cause));
        match self {
            Self::NotMet { .. } | Self::Unavailable(_) | Self::Shortened { .. } => true,
            Self::Engine(error) | Self::Parking(ParkingError::Engine(error)) => passes(error),
            Self::Parking(error) => matches!(
                error,
                ParkingError::Slow { .. }
                    | ParkingError::Busy(_)
                    | ParkingError::Feed(FeedError::Unreachable { .. })
                    | ParkingError::Store(StoreError::Unavailable(_))
                    | ParkingError::Apply(ApplyError::Unavailable(_) | ApplyError::Moved)
            ),
            _ => false,
        }
    }
}

impl From<ParkingError> for RebuildError {
    fn from(error: ParkingError) -> Self {
        match error {
            ParkingError::Apply(ApplyError::Fenced) => Self::Interrupted,
            error => Self::Parking(error),
        }
    }
}

/// What a rebuild works with.
pub(crate) struct Rebuild {
    pub projection: Arc<Projection>,
    pub database: QueryDatabase,
    pub feeds: Vec<Arc<dyn Feed>>,
    pub follower: FollowerOptions,
    pub store: StoreOptions,
    /// What a load may hold.
    pub memory_bytes: usize,
    pub wake: Wake,
    /// For what is followed here, which may be the live generation.
    pub shared: Arc<keeper::Shared>,
    /// The one that is built.
    pub generation: Generation,
    pub purpose: Purpose,
    pub pace: Arc<Pace>,
    pub progress: Arc<watch::Sender<Progress>>,
    pub lease: Lease,
    /// The process ends.
    pub cancel: CancellationToken,
}

/// How a rebuild ended well.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// The generation is live.
    Swapped(Option<Comparison>),
    /// It was compared, and is of no more use.
    Compared(Comparison),
}

impl Rebuild {
    /// Builds and ends as the purpose says; gives the lease back to who began it. A crash anywhere leaves a building
    /// generation, with which whoever has the lease next goes on, or a finished swap. Not cancel-safe.
    pub async fn run(self) -> (Lease, Result<Outcome, RebuildError>) {
        let outcome = self.build().await;
        if let Err(error) = &outcome
            && error.is_passing()
        {
            self.is_hindered(&error.to_string()).await;
        }
        (self.lease, outcome)
    }

    /// Says why it does not get on.
    async fn is_hindered(&self, why: &str) {
        let is_news = self.progress.send_if_modified(|progress| {
            let is_news = progress.error.as_deref() != Some(why);
            if is_news {
                progress.error = Some(why.to_owned());
            }
            is_news
        });
        let (template, generation) = (self.projection.template, self.generation.generation);
        if is_news && let Err(error) = self.database.note_hindrance(template, generation, why).await {
            // it may hinder this as well; whoever asks this process is told either way
            tracing::debug!(projection = template.name, generation, %error, "what hinders a rebuild was not noted");
        }
    }

    async fn build(&self) -> Result<Outcome, RebuildError> {
        let (template, generation) = (self.projection.template, self.generation.generation);
        let store =
            self.database.store(Arc::clone(&self.projection), generation, self.store.clone(), self.wake.clone());
        let store = Arc::new(store.await?);
        let outcome = match self.database.live(template).await? {
            // cut off between the swap and its note
            Some(live) if live.generation == generation => Ok(Outcome::Swapped(None)),
            Some(live) if self.purpose == Purpose::Rollback => self.go_back(&live, &store).await,
            Some(live) => self.build_beside(&live, &store).await,
            // of rows that another version has made nothing comes but a generation that is read as it is
            None if self.generation.version != i64::from(self.projection.version) => Err(self.cannot_catch_up()),
            None => self.build_alone(&store).await,
        };
        self.database.close_generation(store.pool()).await;
        outcome
    }

    async fn build_alone(&self, store: &Arc<GenerationStore>) -> Result<Outcome, RebuildError> {
        self.catch_up(store, None).await?;
        store.go_live().await?;
        failpoint!("projection.before_swap", RebuildError::Failpoint("projection.before_swap"));
        self.database.swap(self.projection.template, None, self.generation.generation).await?;
        Ok(Outcome::Swapped(None))
    }

    async fn build_beside(&self, live: &Generation, store: &Arc<GenerationStore>) -> Result<Outcome, RebuildError> {
        let Target { until, gone } = self.target(live).await?;
        let comparison = match gone.why() {
            None => {
                self.catch_up(store, Some(&until)).await?;
                self.tell_phase(Phase::Comparing).await?;
                self.settle(live).await?;
                self.compare(live, store).await?
            }
            Some(why) => {
                self.catch_up(store, None).await?;
                Comparison::impossible(live, &self.generation, why)
            }
        };
        tracing::info!(
            projection = self.projection.template.name,
            live = live.generation,
            built = self.generation.generation,
            differences = comparison.differences_total,
            not_compared = comparison.not_compared,
            "generations compared"
        );
        // whatever happens next, it is known what was found
        self.database.keep_report(self.projection.template, self.generation.generation, &comparison).await?;
        let is_refused = live.version == self.generation.version && comparison.differences_total > 0;
        match self.purpose {
            Purpose::Diff => Ok(Outcome::Compared(comparison)),
            Purpose::Verify | Purpose::Swap if is_refused => Err(RebuildError::Differs(Box::new(comparison))),
            Purpose::Verify => Ok(Outcome::Compared(comparison)),
            Purpose::Swap | Purpose::Rollback => {
                // also of a history that is partly gone: of the other sources readers see nothing older than before
                let frozen = self.meet(live, store, &gone).await?;
                self.swap(frozen, store).await?;
                Ok(Outcome::Swapped(Some(comparison)))
            }
        }
    }

    /// The two met what is parked under different decisions, and perhaps under different releases: what can be folded by
    /// now is folded in the live one too, unless that is not to be touched.
    async fn settle(&self, live: &Generation) -> Result<(), RebuildError> {
        if self.purpose != Purpose::Swap {
            return Ok(());
        }
        let store = {
            let running = self.shared.live.running.lock().await;
            let followed = running.as_ref().filter(|running| running.store.generation() == live.generation);
            followed.map(|running| Arc::clone(&running.store))
        };
        let Some(store) = store else { return Ok(()) };
        parking::settle(&store, &self.feeds).await?;
        if let Some(running) = &*self.shared.live.running.lock().await {
            running.follower.look_again();
        }
        Ok(())
    }

    /// Makes a generation live again that was live before, once it is as new as the live one.
    async fn go_back(&self, live: &Generation, store: &Arc<GenerationStore>) -> Result<Outcome, RebuildError> {
        let frozen = if self.generation.version == i64::from(self.projection.version) {
            let Target { until, gone } = self.target(live).await?;
            // one that was restored may be ahead of the live one, and still lack who was erased since
            let is_behind = until.reaches(&self.vector().await?);
            self.catch_up(store, (is_behind && gone.why().is_none()).then_some(&until)).await?;
            self.meet(live, store, &gone).await?
        } else {
            let frozen = self.database.freeze(self.projection.template, live.generation).await?;
            if !self.vector().await?.reaches(&frozen.vector) {
                frozen.release().await;
                return Err(self.cannot_catch_up());
            }
            frozen
        };
        self.swap(frozen, store).await?;
        Ok(Outcome::Swapped(None))
    }

    fn cannot_catch_up(&self) -> RebuildError {
        let Generation { generation, version, .. } = self.generation;
        RebuildError::CannotCatchUp { generation, version, program: self.projection.version }
    }

    /// Moves the pointer from the live generation, which stands still, to this one.
    async fn swap(&self, live: Frozen, built: &GenerationStore) -> Result<(), RebuildError> {
        built.go_live().await?;
        failpoint!("projection.before_swap", RebuildError::Failpoint("projection.before_swap"));
        let from = live.generation;
        live.swap(self.generation.generation).await?;
        failpoint!("projection.after_swap", RebuildError::Failpoint("projection.after_swap"));
        let (projection, generation) = (self.projection.template.name, self.generation.generation);
        tracing::info!(projection, from, generation, "generation swapped in");
        Ok(())
    }

    /// Says which phase it is in, and hears whether it is still wanted.
    async fn tell_phase(&self, phase: Phase) -> Result<(), RebuildError> {
        let figures = {
            let mut told = Figures { phase, events_done: 0, events_total: 0, events_per_s: 0 };
            self.progress.send_modify(|progress| {
                progress.phase = phase;
                told.events_done = progress.events_done;
                told.events_total = progress.events_total;
                told.events_per_s = progress.events_per_s;
            });
            told
        };
        self.tell(figures).await
    }

    /// Says how far it is, and does what is wished.
    async fn tell(&self, figures: Figures) -> Result<(), RebuildError> {
        if self.cancel.is_cancelled() || self.lease.is_lost() {
            return Err(RebuildError::Interrupted);
        }
        let told = self.database.tell_progress(self.projection.template, self.generation.generation, figures).await;
        let wishes = match told {
            Ok(Some(wishes)) => wishes,
            // ended by somebody else
            Ok(None) => return Err(RebuildError::Interrupted),
            // the next look says it; building needs the database more than this does
            Err(error) => {
                tracing::debug!(%error, "a rebuild's progress was not told");
                return Ok(());
            }
        };
        self.pace.set(wishes.paused, wishes.throttle_events_per_s);
        self.progress.send_modify(|progress| {
            progress.paused = wishes.paused;
            progress.throttle_events_per_s = wishes.throttle_events_per_s.map(NonZeroU64::get);
        });
        if wishes.cancel { Err(RebuildError::Cancelled) } else { Ok(()) }
    }
}
