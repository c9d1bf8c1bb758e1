//! The log in a SQLite file: WAL, every commit synced, one writer thread, readers beside it.
//!
//! Reading order:
//! - [`SqliteLog`]: the adapter. Commits go to its thread, reads to the pool for blocking work.
//! - `connection`: version, settings, schema. `writer`: a batch as one transaction. `checkpoint`: the WAL, copied into the
//!   file beside it. `reader`: pages and streams.
//! - `beside`: snapshots and the keys of persons, in the same file.
//! - `contents`: all of it, for a backup; [`restore`]: a file made of a backup.
//! - [`DataDirLock`]: one process per data directory. Within a process a file may be opened more than once.

mod beside;
mod checkpoint;
mod connection;
mod contents;
mod lock;
mod reader;
mod restore;
mod writer;

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Arc, LazyLock, Mutex, PoisonError, Weak},
    thread::JoinHandle,
    time::Duration,
};

use async_trait::async_trait;
use events::envelope::{Name, RecordedEvent, StreamId};
use rusqlite::Connection;
use tokio::{
    sync::{Semaphore, mpsc, oneshot, watch},
    time::{Instant, timeout_at},
};

use self::{
    checkpoint::Checkpoints,
    writer::{Forget, Job, LogWriter},
};
pub use self::{
    connection::OpenError,
    lock::{DataDirLock, LockError},
    restore::restore,
};
use crate::{
    backup::Contents,
    batch_hash::{ChainCheck, ChainStep},
    clock::{Clock, SystemClock},
    feed::{Cursor, Feed, FeedError, FeedPage, PageLimit},
    figures::LogFigures,
    log::{
        AppendOutcome, Batch, CommitError, EventLog, ForgetError, LogError, LogIdentity, Source, StoredOutcome, Sweep,
        Swept,
    },
};

/// Jobs that wait for the thread. The one writer task sends one at a time; the rest is room for tests and tools.
const JOBS_MAX: usize = 16;

/// A waiting reader looks again so often even if nothing wakes it: a wake-up is never the truth.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// What can be chosen when a log is opened.
#[derive(Debug, Clone)]
pub struct SqliteOptions {
    pub clock: Arc<dyn Clock>,
    /// Connections that read at the same time; further reads wait.
    pub readers_max: usize,
    /// Pages of 8 KiB in the WAL at which copying them into the file begins, beside the commits: rarely enough to copy hot
    /// pages once, often enough to keep the WAL small. At four times as many, commits wait for it.
    pub checkpoint_pages: u16,
}

impl Default for SqliteOptions {
    fn default() -> Self {
        Self { clock: SystemClock::shared(), readers_max: 4, checkpoint_pages: 4_096 }
    }
}

/// A log in a SQLite file.
pub struct SqliteLog {
    identity: LogIdentity,
    figures: LogFigures,
    clock: Arc<dyn Clock>,
    jobs: Option<mpsc::Sender<Job>>,
    /// The writer's, and the checkpointer's, which ends behind it.
    threads: Vec<JoinHandle<()>>,
    readers: Arc<Readers>,
    news: Arc<watch::Sender<u64>>,
}

impl SqliteLog {
    /// Opens the log of `source` at `path`; makes it, with its directory, if there is none. Blocks on the disk.
    pub fn open(path: &Path, source: &str, options: SqliteOptions) -> Result<Arc<Self>, OpenError> {
        let failed = |source| OpenError::Io { path: path.to_owned(), source };
        let (connection, identity) = connection::open(path, source, &*options.clock)?;
        // one name for one file, so that every handle on it hears of every commit
        let path = path.canonicalize().map_err(failed)?;
        let news = news_of(&path);
        let (jobs, received) = mpsc::channel(JOBS_MAX);
        let (checkpoints, checkpointer) =
            Checkpoints::start(path.clone(), source, options.checkpoint_pages).map_err(failed)?;
        let writer = LogWriter {
            path: path.clone(),
            connection: Some(connection),
            checkpoints,
            clock: Arc::clone(&options.clock),
            news: Arc::clone(&news),
        };
        let thread = std::thread::Builder::new()
            .name(format!("log-{source}"))
            .spawn(move || writer.run(received))
            .map_err(failed)?;
        let figures = LogFigures::of(u32::try_from(options.readers_max).unwrap_or(u32::MAX));
        let readers = Readers { path, idle: Mutex::default(), permits: Arc::new(Semaphore::new(options.readers_max)) };
        let (clock, jobs, threads, readers) =
            (options.clock, Some(jobs), vec![thread, checkpointer], Arc::new(readers));
        Ok(Arc::new(Self { identity, figures, clock, jobs, threads, readers, news }))
    }

    async fn read<T: Send + 'static>(&self, read: impl FnOnce(&Connection) -> T + Send + 'static) -> Result<T, Source> {
        let readers = Arc::clone(&self.readers);
        let free = Arc::clone(&readers.permits).acquire_owned();
        let permit = self.figures.connections.get(free).await?;
        // not cancelled with its caller: the permit goes with it
        let reading = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let connection = readers.take()?;
            let result = read(&connection);
            readers.give_back(connection);
            Ok::<_, rusqlite::Error>(result)
        });
        Ok(reading.await??)
    }
}

impl Drop for SqliteLog {
    /// Waits for batches under way, so that the file is at rest when its last handle is gone.
    fn drop(&mut self) {
        drop(self.jobs.take());
        for thread in self.threads.drain(..) {
            let name = thread.thread().name().unwrap_or_default().to_owned();
            if thread.join().is_err() {
                tracing::error!(source = %self.identity.source, name, "a thread of the log ended badly");
            }
        }
    }
}

#[async_trait]
impl EventLog for SqliteLog {
    fn identity(&self) -> &LogIdentity {
        &self.identity
    }

    fn figures(&self) -> &LogFigures {
        &self.figures
    }

    async fn commit(&self, batch: Arc<Batch>) -> Result<Vec<AppendOutcome>, CommitError> {
        let jobs = self.jobs.as_ref().expect("taken by drop only");
        let (reply, answer) = oneshot::channel();
        let commit = async {
            jobs.send(Job::Commit { batch, reply }).await.map_err(|_| gone(CommitError::Unavailable))?;
            answer.await.map_err(|_| gone(CommitError::Unknown))?
        };
        self.figures.appended(commit).await
    }

    async fn read_stream(&self, stream: &StreamId, after: u64, limit: usize) -> Result<Vec<RecordedEvent>, LogError> {
        let stream = stream.clone();
        let read = move |connection: &Connection| reader::stream(connection, &stream, after, limit);
        self.figures.read(async { self.read(read).await.map_err(LogError::Unavailable)? }).await
    }

    async fn stored_outcome(&self, scope: &str, key: &str) -> Result<Option<StoredOutcome>, LogError> {
        let (scope, key) = (scope.to_owned(), key.to_owned());
        let read = move |connection: &Connection| reader::stored_outcome(connection, &scope, &key);
        let stored = async { self.read(read).await.map_err(LogError::Unavailable)?.map_err(reader::log_error) };
        self.figures.read(stored).await
    }

    /// The slice is read beside the writer, which has work only if there is something to forget.
    async fn forget_commands(&self, sweep: Sweep) -> Result<Swept, ForgetError> {
        sweep.check(self.clock.now())?;
        let before_us = sweep.before.timestamp_micros();
        let read = move |connection: &Connection| reader::old_commands(connection, &sweep);
        let (old, next) = self.read(read).await.map_err(LogError::Unavailable)?.map_err(reader::log_error)?;
        let mut forgotten = 0;
        if !old.is_empty() {
            let gone = || LogError::Unavailable("the log's writer thread is gone".into());
            let jobs = self.jobs.as_ref().expect("taken by drop only");
            let (reply, answer) = oneshot::channel();
            jobs.send(Job::Forget(Forget { keys: old, before_us, reply })).await.map_err(|_| gone())?;
            forgotten = answer.await.map_err(|_| gone())??;
        }
        Ok(Swept { forgotten, next })
    }

    fn contents(&self) -> Contents {
        contents::of(self.readers.path.clone())
    }

    async fn follow_chain(&self, check: ChainCheck) -> Result<ChainStep, LogError> {
        self.read(|connection| reader::follow_chain(connection, check)).await.map_err(LogError::Unavailable)?
    }
}

#[async_trait]
impl Feed for SqliteLog {
    fn source(&self) -> &Name {
        &self.identity.source
    }

    async fn page(&self, after: Cursor, limit: PageLimit, wait: Duration) -> Result<FeedPage, FeedError> {
        let deadline = Instant::now() + wait.min(PageLimit::WAIT_MAX);
        let mut news = self.news.subscribe();
        loop {
            let identity = self.identity.clone();
            let read = move |connection: &Connection| reader::page(connection, &identity, after, limit);
            let unreachable = |cause| FeedError::Unreachable { feed: self.identity.source.clone(), cause };
            let page = self.figures.paged(async { self.read(read).await.map_err(unreachable)? }).await?;
            if !page.events.is_empty() || Instant::now() >= deadline {
                return Ok(page);
            }
            // woken or not, the next look tells
            let _ = timeout_at(deadline.min(Instant::now() + LOOK_AGAIN), news.changed()).await;
        }
    }
}

fn gone(error: fn(Source) -> CommitError) -> CommitError {
    error("the log's writer thread is gone".into())
}

/// Connections that only read, opened when they are needed.
struct Readers {
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
    permits: Arc<Semaphore>,
}

impl Readers {
    fn take(&self) -> rusqlite::Result<Connection> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        idle.map_or_else(|| connection::connect_reader(&self.path), Ok)
    }

    /// Keeps a connection that is at rest; a snapshot left open would hold up the WAL.
    fn give_back(&self, connection: Connection) {
        if connection.is_autocommit() {
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
        }
    }
}

/// The wake-up of a file, shared by all its handles in this process.
fn news_of(path: &Path) -> Arc<watch::Sender<u64>> {
    static NEWS: LazyLock<Mutex<HashMap<PathBuf, Weak<watch::Sender<u64>>>>> = LazyLock::new(Mutex::default);
    let mut all = NEWS.lock().unwrap_or_else(PoisonError::into_inner);
    all.retain(|_, news| news.strong_count() > 0);
    if let Some(news) = all.get(path).and_then(Weak::upgrade) {
        return news;
    }
    let news = Arc::new(watch::Sender::new(0));
    all.insert(path.to_owned(), Arc::downgrade(&news));
    news
}
