//! Filling an empty generation with what the logs hold: the same rows that following them would give, in a fraction of the
//! time. A follower goes on from where a load ends.
//!
//! What makes it fast: the sources are read and decoded side by side and ahead; states are folded in memory and written
//! once, when nothing has touched them for a while; new rows are copied in; indexes come at the end. What makes it right:
//! - Sources that only fill references come first, so no row is ever rewritten for a reference.
//! - The others are taken in the order of their recorded times, so that what touches one row lies close together. Nothing
//!   depends on it: any interleaving gives the same rows.
//! - A checkpoint moves when everything up to it is written, in the transaction that has written it. A crash goes on from
//!   there.
//! - What a follower has to decide (an event that cannot be folded, a feed that is not what it was) ends the load of its
//!   source in front of it.
//!
//! Reading order: `source` (pages, decoded), `folds` (where events go), `cache` (states, bounded), `written` (which rows
//! need not be looked for), `sheet` (rows as they are sent), `writer` (transactions); [`Load`] drives them.

mod cache;
mod folds;
mod phase;
pub(super) mod sheet;
mod source;
mod writer;
mod written;

use std::{
    collections::BTreeMap,
    fmt::Display,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use event_store::{
    failpoint,
    feed::{Feed, FeedError, PageLimit},
    follower::{Acquired, Backoff, FollowerStore, StoreError, Vector},
    log::LogHead,
};
use futures::{StreamExt, TryStreamExt, stream};
use thiserror::Error;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use self::folds::Folds;
use super::{pace::Pace, store::GenerationStore};

/// Indexes that are made side by side.
const INDEXES_AT_ONCE: usize = 2;
/// Each by one process of PostgreSQL's: those it would start besides take longer to come than they help.
const NO_MORE_WORKERS: &str = "set local max_parallel_maintenance_workers = 0";

/// Bounds of a load.
#[derive(Debug, Clone)]
pub struct LoadOptions {
    /// What it may hold in memory, in bytes: half for states, a quarter for what is read ahead, the rest for what is being
    /// written. An estimate, not a limit of the allocator; a single larger event or row still goes.
    pub memory_bytes: usize,
    /// Events that are folded at once.
    pub batch_events_max: usize,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self { memory_bytes: 256 * 1024 * 1024, batch_events_max: 2_000 }
    }
}

/// Why a load did not come to its end. What its last checkpoint covers stays, and the next load goes on from there.
#[derive(Debug, Error)]
pub enum LoadError {
    #[error("cancelled")]
    Cancelled,
    #[error("somebody else has taken over")]
    Fenced,
    #[error("{0}")]
    Bug(String),
    /// A failpoint of a test was passed.
    #[error("failpoint {0}")]
    Failpoint(&'static str),
}

/// How far a load is: what is folded, of what there was when it began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Loaded {
    pub events_done: u64,
    pub events_total: u64,
}

/// A load on its way.
pub struct Load<'l> {
    pub store: &'l Arc<GenerationStore>,
    pub feeds: &'l [Arc<dyn Feed>],
    pub options: &'l LoadOptions,
    pub backoff: Backoff,
    /// No source is loaded beyond its position here; `None` = up to the heads that there are now.
    pub until: Option<&'l Vector>,
    pub pace: &'l Pace,
    pub hindrance: &'l Hindrance,
    pub cancel: &'l CancellationToken,
}

/// Why a load last had to try again, for whoever looks.
#[derive(Debug, Default)]
pub struct Hindrance(Mutex<Option<String>>);

impl Hindrance {
    fn is(&self, why: &dyn Display) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(why.to_string());
    }

    /// What is new since it was last asked for.
    pub fn take(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// What ends a try.
#[derive(Debug)]
enum Stop {
    Cancelled,
    Fenced,
    /// Tried again from the last checkpoint.
    Unavailable(String),
    /// Tried again, up to the event.
    Unfoldable {
        source: &'static str,
        position: u64,
        reason: String,
    },
    Bug(String),
    #[cfg_attr(not(feature = "failpoints"), expect(dead_code, reason = "only tests pass one"))]
    Failpoint(&'static str),
}

/// Where the sources end, as this load sees it.
type Ends = BTreeMap<&'static str, LogHead>;

impl Load<'_> {
    /// Loads up to where it is to end, and says on the way how far it is. Not cancel-safe: dropped, it
    /// goes on from the last checkpoint as after a crash.
    pub async fn run(&self, progress: impl Fn(Loaded) + Send + Sync) -> Result<(), LoadError> {
        let acquired = self.acquire().await?;
        let dropped = self.store.dropped().await;
        let Some(phases) = Folds::phases(self.store.projection(), &dropped) else { return Ok(()) };
        let is_empty = acquired.vector.iter().all(|(_, checkpoint)| checkpoint.position == 0);
        if !self.try_again(|| self.begin(acquired.fence, is_empty)).await? {
            return Ok(());
        }
        let phases = phases.map(Arc::new);
        let mut ends = Ends::new();
        for source in phases.iter().flat_map(|folds| folds.sources()) {
            let head = self.head(source, &acquired.vector).await?;
            let until = self.until.map_or(u64::MAX, |until| until.get(source).position);
            ends.insert(source, LogHead { position: head.position.min(until), ..head });
        }
        let (mut vector, mut failures) = (acquired.vector, 0);
        loop {
            match self.try_phases(&phases, &vector, acquired.fence, &ends, &progress).await {
                Ok(()) => break,
                Err(Stop::Unfoldable { source, position, reason }) => {
                    tracing::warn!(source, position, reason, "load: the follower takes this source over");
                    let end = ends.get_mut(source).expect("every source has an end");
                    assert!(position <= end.position, "what is beyond the end is not folded");
                    end.position = position - 1;
                }
                Err(stop) => self.wait_or_end(stop, &mut failures).await?,
            }
            let again = self.ask_store(false).await?;
            if again.fence != acquired.fence {
                return Err(LoadError::Fenced);
            }
            if again.vector != vector {
                failures = 0;
            }
            vector = again.vector;
        }
        self.try_again(|| self.finish(acquired.fence)).await
    }

    /// Whether the generation is to be loaded: if it is empty, or if a load of it was not finished.
    async fn begin(&self, fence: u64, is_empty: bool) -> Result<bool, Stop> {
        let statements = self.store.statements();
        let mut transaction = self.store.pool().begin().await?;
        self.store.claim_for(&mut transaction, fence, None).await?;
        let has_begun = !transaction.fetch(&statements.is_loading, &[]).await?.is_empty();
        if !has_begun && !is_empty {
            return Ok(false);
        }
        if !has_begun {
            for statement in &statements.begin_load {
                transaction.execute(statement, &[]).await?;
            }
        }
        transaction.commit().await?;
        // nobody reads a generation that is being loaded
        self.store.pool().write_in_place().await;
        Ok(true)
    }

    /// Makes what only finds rows, when all of them are there: sorted once, instead of kept in order all the time.
    async fn finish(&self, fence: u64) -> Result<(), Stop> {
        self.prepare_finish(fence).await?;
        let mut transaction = self.store.pool().begin().await?;
        self.store.claim_for(&mut transaction, fence, None).await?;
        if transaction.fetch(&self.store.statements().is_loading, &[]).await?.is_empty() {
            // done, and only the answer was lost
            drop(transaction);
            self.store.pool().write_ahead().await;
            return Ok(());
        }
        for statement in &self.store.statements().finish_load {
            transaction.execute(statement, &[]).await?;
        }
        failpoint!("projection.load.before_finish", Stop::Failpoint("projection.load.before_finish"));
        transaction.commit().await?;
        self.store.pool().write_ahead().await;
        Ok(())
    }

    /// Does side by side what one connection need not do alone.
    async fn prepare_finish(&self, fence: u64) -> Result<(), Stop> {
        let (pool, statements) = (self.store.pool(), self.store.statements());
        if statements.prepare_finish.is_empty() || !self.is_loading(fence).await? {
            return Ok(());
        }
        let prepare = |statement: Arc<str>| {
            let pool = pool.clone();
            async move {
                let mut transaction = pool.begin().await?;
                transaction.leave_sync_to_a_later_one().await?;
                transaction.execute(&NO_MORE_WORKERS.into(), &[]).await?;
                transaction.execute(&statement, &[]).await?;
                transaction.commit().await
            }
        };
        let prepared = stream::iter(statements.prepare_finish.clone())
            .map(prepare)
            .buffer_unordered(INDEXES_AT_ONCE)
            .try_collect::<()>();
        if let Err(error) = prepared.await {
            // somebody else may have finished, or dropped the generation
            return if self.is_loading(fence).await? { Err(error.into()) } else { Ok(()) };
        }
        Ok(())
    }

    /// Whether there is a load to be finished, and it is ours.
    async fn is_loading(&self, fence: u64) -> Result<bool, Stop> {
        let mut transaction = self.store.pool().begin().await?;
        self.store.claim_for(&mut transaction, fence, None).await?;
        let is_loading = !transaction.fetch(&self.store.statements().is_loading, &[]).await?.is_empty();
        transaction.rollback().await;
        Ok(is_loading)
    }

    /// Again and again, while the database is away.
    async fn try_again<T, F: Future<Output = Result<T, Stop>>>(
        &self,
        work: impl Fn() -> F + Send + Sync,
    ) -> Result<T, LoadError> {
        let mut failures = 0;
        loop {
            match work().await {
                Ok(done) => return Ok(done),
                Err(stop) => self.wait_or_end(stop, &mut failures).await?,
            }
        }
    }

    /// Waits before the next try, where there is to be one.
    async fn wait_or_end(&self, stop: Stop, failures: &mut u32) -> Result<(), LoadError> {
        match stop {
            Stop::Cancelled => Err(LoadError::Cancelled),
            Stop::Fenced => Err(LoadError::Fenced),
            Stop::Bug(reason) => Err(LoadError::Bug(reason)),
            Stop::Failpoint(name) => Err(LoadError::Failpoint(name)),
            Stop::Unfoldable { position, reason, .. } => Err(LoadError::Bug(format!("position {position}: {reason}"))),
            Stop::Unavailable(cause) => {
                *failures += 1;
                tracing::warn!(%cause, failures, "load: query database unavailable, trying again");
                self.hindrance.is(&cause);
                self.wait(*failures).await
            }
        }
    }

    async fn try_phases(
        &self,
        phases: &[Arc<Folds>; 2],
        vector: &Vector,
        fence: u64,
        ends: &Ends,
        progress: &(impl Fn(Loaded) + Send + Sync),
    ) -> Result<(), Stop> {
        let events_total = ends.values().map(|end| end.position).sum();
        let done_before = |folds: &Folds| folds.sources().iter().map(|source| vector.get(source).position).sum::<u64>();
        let mut writer = self.writer(fence);
        let mut done = phases.iter().map(|folds| done_before(folds)).sum::<u64>();
        progress(Loaded { events_done: done, events_total });
        // those of the second phase read their first pages while the first is at work
        let reading = phases.each_ref().map(|folds| phase::read_ahead(self, folds, vector, ends));
        for (folds, lanes) in phases.iter().zip(reading) {
            let others = done - done_before(folds);
            let report = |here: u64| progress(Loaded { events_done: others + here, events_total });
            let here;
            (writer, here) = phase::run(self, folds, lanes, vector, ends, writer, report).await?;
            done = others + here;
        }
        Ok(())
    }

    /// Takes the fence.
    async fn acquire(&self) -> Result<Acquired, LoadError> {
        self.ask_store(true).await
    }

    async fn ask_store(&self, take: bool) -> Result<Acquired, LoadError> {
        let mut failures = 0;
        loop {
            let answer = if take { self.store.acquire().await } else { self.store.reload().await };
            match answer {
                Ok(acquired) => return Ok(acquired),
                Err(StoreError::Bug(reason)) => return Err(LoadError::Bug(reason)),
                Err(StoreError::Unavailable(cause)) => {
                    failures += 1;
                    tracing::warn!(%cause, failures, "load: query database unavailable, trying again");
                    self.hindrance.is(&cause);
                    self.wait(failures).await?;
                }
            }
        }
    }

    /// The head of a source as it is now. A log that is not what the checkpoint was taken from is left to the follower.
    async fn head(&self, source: &str, vector: &Vector) -> Result<LogHead, LoadError> {
        let feed = self.feed(source);
        let from = vector.get(source);
        let mut failures = 0;
        loop {
            match feed.page(from.cursor(), PageLimit::events(1), Duration::ZERO).await {
                Ok(page) => return Ok(page.head),
                Err(FeedError::Regressed { .. } | FeedError::Damaged { .. }) => {
                    return Ok(LogHead { position: from.position, recorded_at: chrono::DateTime::UNIX_EPOCH });
                }
                Err(FeedError::Unreachable { cause, .. }) => {
                    failures += 1;
                    tracing::warn!(source, %cause, failures, "load: feed unreachable, trying again");
                    self.hindrance.is(&format_args!("the feed of {source}: {cause}"));
                    self.wait(failures).await?;
                }
            }
        }
    }

    fn feed(&self, source: &str) -> &Arc<dyn Feed> {
        let feed = self.feeds.iter().find(|feed| &**feed.source() == source);
        feed.expect("the projector has looked that every source is there")
    }

    async fn wait(&self, failures: u32) -> Result<(), LoadError> {
        tokio::select! {
            () = sleep(self.backoff.after(failures)) => Ok(()),
            () = self.cancel.cancelled() => Err(LoadError::Cancelled),
        }
    }
}
