//! Which instances of a saga there are and where each stands: a list to look through, which a log is not.
//!
//! A small follower of the saga's own feed, with a table beside the service's log. It is a copy and nothing else: nothing
//! is decided by it, it may be a moment late, and deleted it fills itself again. Where one instance stands now, and its
//! story, are asked of the log.

pub mod postgres;
pub mod sqlite;
pub mod standing;
pub mod store;

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use event_store::{
    feed::{Feed, FeedError, PageLimit},
    follower::{Follower, FollowerHandle, StoreError},
};
use tokio::time::timeout;

pub use self::standing::{Standing, StuckStep};
use self::{
    postgres::PostgresRows,
    sqlite::SqliteRows,
    store::{IndexStore, Rows},
};
use super::{definition::Definition, handle::SagaHandle};
use crate::{orders::replica::ReplicaHome, progress::following, service::StartError};

/// The longest that the feed is waited for when it is asked whether it still holds what was read.
const PROBE_WAIT_MAX: Duration = Duration::from_secs(1);

/// How long the follower may take to end.
const SHUTDOWN_WAIT_MAX: Duration = Duration::from_secs(5);

/// Which rows are asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    pub phase: Option<String>,
    /// Only those with a step that somebody should look at.
    pub stuck: bool,
    /// Only those that wait for a fact that is overdue at this time.
    pub overdue: Option<DateTime<Utc>>,
}

impl Filter {
    /// `select` with what it asks for, in the order that a list has, and the phase that is bound as `bind`.
    fn sql(self, select: &str, bind: &str) -> (String, Option<String>) {
        let phase = self.phase.as_ref().map(|_| format!("phase = {bind}"));
        let stuck = self.stuck.then(|| "stuck_since is not null".to_owned());
        let overdue = self.overdue.map(|now| format!("overdue_at <= {}", now.timestamp_micros()));
        let conditions: Vec<String> = phase.into_iter().chain(stuck).chain(overdue).collect();
        let filter = if conditions.is_empty() { String::new() } else { format!(" where {}", conditions.join(" and ")) };
        let order = match (self.stuck, self.overdue) {
            (true, _) => "stuck_since, saga_id",
            (false, Some(_)) => "overdue_at, saga_id",
            (false, None) => "changed_at desc, saga_id",
        };
        (format!("{select}{filter} order by {order}"), self.phase)
    }
}

/// All instances, counted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// How many are in each phase, ended ones included; phases that none is in are absent.
    pub phases: Vec<(String, u64)>,
    /// When the oldest that is under way was started.
    pub oldest_started_at: Option<DateTime<Utc>>,
    /// How many have a step that is stuck.
    pub stuck: u64,
    /// How many wait for a fact that is overdue.
    pub overdue: u64,
}

/// A running index.
pub struct SagaIndex {
    rows: Arc<dyn Rows>,
    follower: FollowerHandle,
}

impl SagaIndex {
    /// Opens the rows and starts following the saga's own `feed`.
    pub async fn start<D: Definition>(
        home: &ReplicaHome,
        handle: SagaHandle<D>,
        feed: Arc<dyn Feed>,
    ) -> Result<Self, StartError> {
        let rows = open(home).await?;
        let failed = |error: StoreError| StartError::new("index of sagas", error.to_string());
        forget_lost_history(&*rows, &*feed).await.map_err(failed)?;
        let store = Arc::new(IndexStore { rows: Arc::clone(&rows), handle });
        // an event that cannot be read here cannot be read by the saga itself
        let follower = Follower::start(format!("{}-index", D::NAME), vec![feed], store, following());
        Ok(Self { rows, follower })
    }

    /// At most `limit` instances: those that are stuck or overdue the longest if only such are asked for, else what
    /// changed last.
    pub async fn list(&self, filter: Filter, limit: usize) -> Result<Vec<Standing>, StoreError> {
        self.rows.list(filter, limit).await
    }

    /// For metrics.
    pub async fn tally(&self, now: DateTime<Utc>) -> Result<Tally, StoreError> {
        self.rows.tally(now).await
    }

    /// Status, lag and halts, for who operates it.
    pub fn follower(&self) -> &FollowerHandle {
        &self.follower
    }

    /// Ends the follower.
    pub async fn shutdown(&self) {
        self.follower.shutdown(SHUTDOWN_WAIT_MAX).await;
    }
}

/// Forgets everything if an older copy of the log was restored: it is then read anew.
async fn forget_lost_history(rows: &dyn Rows, feed: &dyn Feed) -> Result<(), StoreError> {
    let (_, vector) = rows.load(false).await?;
    let here = vector.get(feed.source()).cursor();
    // a feed that does not answer is the follower's to wait for
    let page = timeout(PROBE_WAIT_MAX, feed.page(here, PageLimit::events(1), Duration::ZERO)).await;
    if let Ok(Err(FeedError::Regressed { position, head, .. })) = page {
        let source = feed.source();
        tracing::warn!(%source, position, head, "an older copy of the log was restored: the index is made anew");
        rows.forget().await?;
    }
    Ok(())
}

/// Opens the rows, and makes what is missing.
pub async fn open(home: &ReplicaHome) -> Result<Arc<dyn Rows>, StartError> {
    let failed = |error: &dyn std::fmt::Display| StartError::new("index of sagas", error.to_string());
    let path = match home {
        ReplicaHome::Sqlite(path) => Some(path.clone()),
        ReplicaHome::Memory => None,
        ReplicaHome::Postgres(database) => {
            return Ok(Arc::new(PostgresRows::connect(database).await.map_err(|error| failed(&error))?));
        }
    };
    let rows = tokio::task::spawn_blocking(move || SqliteRows::open(path.as_deref())).await;
    Ok(Arc::new(rows.map_err(|error| failed(&error))?.map_err(|error| failed(&error))?))
}
