//! What the orders service knows of products and users: a copy of its own, fed by their services' feeds.
//!
//! Looking things up never leaves the process, so placing an order does not need the other services to answer. What the
//! copy does not hold may be missing there or not have arrived yet: [`Replica::catch_up`] tells the two apart, by
//! asking the feed itself, and only what is certainly missing is ever refused for good.

pub mod known;
pub mod postgres;
pub mod sqlite;
pub mod store;

use std::{
    path::PathBuf,
    sync::{Arc, RwLock, RwLockReadGuard},
    time::Duration,
};

use database::Database;
use event_store::{
    feed::{Feed, FeedError, PageLimit},
    follower::{Follower, FollowerHandle, Status, StoreError, TokenWaitError},
};
use events::{catalog, consistency::ConsistencyToken, users};
use tokio::{sync::Semaphore, time::timeout};

use self::{known::Known, postgres::PostgresRows, sqlite::SqliteRows, store::Rows};
use crate::{progress::following, service::StartError};

/// The feeds that the replica follows.
pub const FOLLOWS: [&str; 2] = [users::SOURCE, catalog::SOURCE];

/// Requests that wait for the replica at once, of all clients together.
const WAITERS_MAX: usize = 1_024;

/// Feeds asked for their heads at once: somebody who makes up ids costs the other services no more than this.
const PROBES_MAX: usize = 32;

/// The longest that a feed is waited for when it is asked for its head.
const PROBE_WAIT_MAX: Duration = Duration::from_secs(1);

/// How long a follower may take to end.
const SHUTDOWN_WAIT_MAX: Duration = Duration::from_secs(5);

/// Where the replica keeps its rows.
#[derive(Debug, Clone)]
pub enum ReplicaHome {
    /// A file of its own beside the log's.
    Sqlite(PathBuf),
    /// The schema `replica` in the orders service's own database.
    Postgres(Database),
    /// Gone with the process, and read anew at each start.
    Memory,
}

pub struct Replica {
    known: Arc<RwLock<Known>>,
    follower: FollowerHandle,
    feeds: Vec<Arc<dyn Feed>>,
    waiters: Semaphore,
    probes: Semaphore,
}

/// Why the replica cannot be waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReplicaError {
    /// Not there yet: worth trying again.
    Behind { source: String },
    /// The token is of a history that is gone.
    Lost { source: String },
    /// More waiters than [`WAITERS_MAX`].
    Overloaded,
}

impl Replica {
    /// Opens the rows and starts following `feeds`, which are those of [`FOLLOWS`].
    pub async fn start(home: &ReplicaHome, feeds: Vec<Arc<dyn Feed>>) -> Result<Self, StartError> {
        let mut sources: Vec<&str> = feeds.iter().map(|feed| &**feed.source()).collect();
        sources.sort_unstable();
        let mut follows = FOLLOWS;
        follows.sort_unstable();
        if sources != follows {
            let reason = format!("it follows {}, and is given {}", FOLLOWS.join(", "), sources.join(", "));
            return Err(StartError::new("replica of the orders service", reason));
        }
        let rows = open(home).await?;
        let failed = |error: StoreError| StartError::new("replica of the orders service", error.to_string());
        forget_lost_histories(&*rows, &feeds).await.map_err(failed)?;
        let known = Arc::new(RwLock::new(Known::default()));
        let store = Arc::new(store::ReplicaStore::new(rows, Arc::clone(&known)));
        // a product with an unreadable price must not be sold at an older one's: its source halts
        // (`progress::refuse_parking`), and what is not known is not sold
        let follower = Follower::start("orders-replica", feeds.clone(), store, following());
        let (waiters, probes) = (Semaphore::new(WAITERS_MAX), Semaphore::new(PROBES_MAX));
        Ok(Self { known, follower, feeds, waiters, probes })
    }

    /// What is known now. Held for a few look-ups, never over an await.
    pub fn known(&self) -> RwLockReadGuard<'_, Known> {
        self.known.read().expect(store::NEVER_POISONED)
    }

    /// Status, lag and halts, for who operates it.
    pub fn follower(&self) -> &FollowerHandle {
        &self.follower
    }

    /// Waits at most `wait` until what `token` says of the replica's sources is known here. Cancel-safe.
    pub async fn reach(&self, token: &ConsistencyToken, wait: Duration) -> Result<(), ReplicaError> {
        if FOLLOWS.iter().all(|source| token.point(source).is_none()) {
            return Ok(());
        }
        let _waiting = self.waiters.try_acquire().map_err(|_| ReplicaError::Overloaded)?;
        self.follower.covers(token, wait).await.map_err(|error| match error {
            TokenWaitError::Behind { feed } => ReplicaError::Behind { source: feed.to_string() },
            TokenWaitError::Lost { feed } => ReplicaError::Lost { source: feed.to_string() },
        })
    }

    /// Waits at most `wait` until everything that `source` holds now, by its own word, is known here. Cancel-safe.
    ///
    /// The head that the follower has seen is not enough: an event may have been acknowledged since.
    pub async fn catch_up(&self, source: &str, wait: Duration) -> Result<(), ReplicaError> {
        let behind = || ReplicaError::Behind { source: source.to_owned() };
        let _waiting = self.waiters.try_acquire().map_err(|_| ReplicaError::Overloaded)?;
        let feed = self.feeds.iter().find(|feed| &**feed.source() == source).ok_or_else(behind)?;
        let here = self.follower.vector().get(source).cursor();
        let head = {
            let _probing = self.probes.acquire().await.map_err(|_| behind())?;
            let feed = Arc::clone(feed);
            // a task of its own: a request that goes away must not cancel a read half-way
            let read = tokio::spawn(async move { feed.page(here, PageLimit::events(1), Duration::ZERO).await });
            let read = timeout(PROBE_WAIT_MAX, read).await.map_err(|_| behind())?;
            read.map_err(|_| behind())?.map_err(|_| behind())?.head.position
        };
        let is_there = |status: &Status| status.vector.get(source).position >= head;
        let over = |status: &Status| is_there(status) || status.stopped.is_some();
        match timeout(wait, self.follower.comes_true(over)).await {
            Ok(()) if self.follower.status().stopped.is_none() => Ok(()),
            Ok(()) | Err(_) => Err(behind()),
        }
    }

    /// Ends the follower.
    pub async fn shutdown(&self) {
        self.follower.shutdown(SHUTDOWN_WAIT_MAX).await;
    }
}

/// Forgets what came from a log that no longer holds what was read here, because an older copy of it was restored: the
/// follower then reads it anew from its first event. The replica is a copy and nothing else, so nobody needs to be asked;
/// without this its source would stand still for good, and what is new there could never be ordered.
async fn forget_lost_histories(rows: &dyn Rows, feeds: &[Arc<dyn Feed>]) -> Result<(), StoreError> {
    let vector = rows.load(false).await?.vector;
    for feed in feeds {
        let source = feed.source();
        let here = vector.get(source).cursor();
        // a feed that does not answer is the follower's to wait for
        let page = timeout(PROBE_WAIT_MAX, feed.page(here, PageLimit::events(1), Duration::ZERO)).await;
        if let Ok(Err(FeedError::Regressed { position, head, .. })) = page {
            tracing::warn!(%source, position, head, "an older copy of the log was restored: its replica is read anew");
            rows.forget(source).await?;
        }
    }
    Ok(())
}

async fn open(home: &ReplicaHome) -> Result<Box<dyn Rows>, StartError> {
    let failed = |error: &dyn std::fmt::Display| StartError::new("replica of the orders service", error.to_string());
    let path = match home {
        ReplicaHome::Sqlite(path) => Some(path.clone()),
        ReplicaHome::Memory => None,
        ReplicaHome::Postgres(database) => {
            return Ok(Box::new(PostgresRows::connect(database).await.map_err(|error| failed(&error))?));
        }
    };
    let rows = tokio::task::spawn_blocking(move || SqliteRows::open(path.as_deref())).await;
    let rows = rows.map_err(|error| failed(&error))?.map_err(|error| failed(&error))?;
    Ok(Box::new(rows))
}
