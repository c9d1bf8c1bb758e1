//! What an erasure takes with it: one task per service that holds something personal follows the feed that tells who was
//! erased, and deletes their keys beside the service's own log.
//!
//! First the event, then the key: a crash between the two is made good at the next start, because how far erasures are
//! carried out is remembered beside the log, and moves only behind deleted keys. Several processes on one log may do
//! this at once; deleted twice is deleted.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use events::{
    DecodeError,
    envelope::{Name, RecordedEvent},
};
use thiserror::Error;
use tokio::{sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    feed::{Cursor, Feed, FeedError, PageLimit},
    log::{EventLog, LogError},
};

/// Whose erasure an event is, if it is one.
pub type Erases = fn(&RecordedEvent) -> Result<Option<Uuid>, DecodeError>;

/// Events of one read.
const PAGE_EVENTS: usize = 1_000;

/// Without an erasure, what was read is remembered only every so many events: a start reads as many again, and an
/// ordinary event costs no further write.
const REMEMBERED_EVERY_EVENTS: u64 = 1_000;

/// How long news are waited for.
const PAGE_WAIT: Duration = PageLimit::WAIT_MAX;

/// After an error, before the same events are looked at again.
const ERROR_PAUSE: Duration = Duration::from_secs(1);

/// The task that deletes keys. It ends when this is shut down or dropped.
pub struct Erasure {
    feed: Arc<dyn Feed>,
    standing: watch::Receiver<Standing>,
    stopping: CancellationToken,
    task: Mutex<Option<JoinHandle<()>>>,
}

/// How far erasures are carried out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// Of the feed: whoever was erased up to here has no key any more.
    pub position: u64,
    /// Of the feed's last event, as it was last told.
    pub head: u64,
    /// Why they do not go on; it is tried again, for ever.
    pub trouble: Option<String>,
}

impl Standing {
    /// Events that are known and not looked at.
    pub fn lag_events(&self) -> u64 {
        self.head.saturating_sub(self.position)
    }
}

impl Erasure {
    /// `log` is where the keys are, `feed` tells of erasures as `erases` understands them, and `afterwards` is called
    /// whenever keys were deleted.
    pub fn start(
        log: Arc<dyn EventLog>,
        feed: Arc<dyn Feed>,
        erases: Erases,
        afterwards: impl Fn() + Send + Sync + 'static,
    ) -> Self {
        let stopping = CancellationToken::new();
        let stopped = stopping.clone();
        let (told, standing) = watch::channel(Standing::default());
        let (followed, afterwards) = (Arc::clone(&feed), Box::new(afterwards));
        let mut following = Following { log, feed, erases, afterwards, place: None, told };
        // given up half-way, a step is done again at the next start
        let task = tokio::spawn(async move { _ = stopped.run_until_cancelled(following.run()).await });
        Self { feed: followed, standing, stopping, task: Mutex::new(Some(task)) }
    }

    /// Who tells of erasures.
    pub fn source(&self) -> &Name {
        self.feed.source()
    }

    pub fn standing(&self) -> Standing {
        self.standing.borrow().clone()
    }

    /// Ends the task, without waiting for a step under way.
    pub async fn shutdown(&self) {
        self.stopping.cancel();
        let task = self.task.lock().expect("the lock is held for a take only").take();
        if let Some(task) = task
            && let Err(error) = task.await
        {
            tracing::error!(%error, "the erasure of keys ended badly");
        }
    }
}

impl Drop for Erasure {
    fn drop(&mut self) {
        self.stopping.cancel();
    }
}

/// Why a step was not done. It is tried again, for ever: an erasure is never given up.
#[derive(Debug, Error)]
enum StepError {
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Feed(#[from] FeedError),
    #[error("position {position}: {error}")]
    Event { position: u64, error: DecodeError },
}

struct Following {
    log: Arc<dyn EventLog>,
    feed: Arc<dyn Feed>,
    erases: Erases,
    afterwards: Box<dyn Fn() + Send + Sync>,
    place: Option<Place>,
    told: watch::Sender<Standing>,
}

/// How far the feed was read, and how much of that is remembered.
#[derive(Clone, Copy)]
struct Place {
    cursor: Cursor,
    remembered: u64,
}

impl Following {
    async fn run(&mut self) {
        loop {
            let source = self.feed.source().clone();
            match self.step().await {
                Ok(()) => {
                    self.told.send_if_modified(|told| told.trouble.take().is_some());
                }
                // an older copy was restored: whoever was erased since is known to it again
                Err(StepError::Feed(FeedError::Regressed { .. })) => {
                    tracing::warn!(%source, "the log was restored: its erasures are carried out anew");
                    self.place = Some(Place { cursor: Cursor::START, remembered: 0 });
                }
                Err(error) => {
                    tracing::error!(%source, %error, "erasures could not be carried out; trying again");
                    self.told.send_modify(|told| told.trouble = Some(error.to_string()));
                    tokio::time::sleep(ERROR_PAUSE).await;
                }
            }
        }
    }

    async fn step(&mut self) -> Result<(), StepError> {
        let Place { cursor, mut remembered } = match self.place {
            Some(place) => place,
            None => {
                let cursor = self.log.erased_up_to().await?;
                self.told.send_modify(|told| told.position = cursor.position);
                Place { cursor, remembered: cursor.position }
            }
        };
        // after an error it is to be known soon that it is over
        let wait = if self.told.borrow().trouble.is_none() { PAGE_WAIT } else { Duration::ZERO };
        let page = self.feed.page(cursor, PageLimit::events(PAGE_EVENTS), wait).await?;
        let mut erased = Vec::new();
        for event in &page.events {
            let subject = (self.erases)(event);
            erased.extend(subject.map_err(|error| StepError::Event { position: event.position, error })?);
        }
        let cursor = page.events.last().map_or(cursor, Cursor::at);
        if !erased.is_empty() {
            erased.sort_unstable();
            erased.dedup();
            self.log.erase_keys(&erased).await?;
            (self.afterwards)();
            let source = self.log.source();
            tracing::info!(%source, persons = erased.len(), "keys of erased persons were deleted");
        }
        if !erased.is_empty() || cursor.position >= remembered + REMEMBERED_EVERY_EVENTS {
            self.log.set_erased_up_to(cursor).await?;
            remembered = cursor.position;
        }
        self.place = Some(Place { cursor, remembered });
        self.told.send_modify(|told| (told.position, told.head) = (cursor.position, page.head.position));
        Ok(())
    }
}
