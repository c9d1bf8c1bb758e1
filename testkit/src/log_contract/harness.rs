//! What an adapter provides to run the contract, and what the laws build their items with.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use event_store::{
    backup::Contents,
    batch_hash::{ChainCheck, ChainStep},
    feed::{Cursor, Feed, FeedError, FeedPage, PageLimit},
    figures::LogFigures,
    limits::Limits,
    log::{
        AppendItem, AppendOutcome, Batch, Claim, ClaimAction, CommandRecord, CommitError, Decision, EventLog,
        Fingerprint, ForgetError, LogError, LogIdentity, NewEvent, StoredOutcome, Sweep, Swept,
    },
    snapshot::{Snapshot, SnapshotStore},
    subject_keys::{KeyRing, SubjectKeys},
};
use events::envelope::{Name, RecordedEvent, StreamId};
use uuid::Uuid;

/// A throw-away store of one adapter. Everything it holds is gone when it is dropped.
#[async_trait]
pub trait LogHarness: Send + Sync {
    /// Opens one more handle on the store, with a connection of its own. All handles belong to one log.
    async fn open(&self) -> Arc<dyn EventLog>;

    /// Opens a handle whose next commit reaches the store but whose answer is lost: it must return
    /// [`CommitError::Unknown`]. Later commits on the handle work.
    async fn open_cut_after_commit(&self) -> Arc<dyn EventLog> {
        Arc::new(CutOnce::new(self.open().await))
    }

    /// Makes the clock of the log show an earlier time than that of its last event, by `by`.
    async fn turn_clock_back(&self, by: Duration);

    /// Makes all commands stored so far older by `by`, as seen from the log's clock; returns what that shows then.
    async fn let_time_pass(&self, by: Duration) -> DateTime<Utc>;

    /// Keeps a copy of the store as it is. The law has dropped all handles.
    async fn back_up(&self);

    /// Puts the kept copy in the store's place. The law has dropped all handles and opens new ones.
    async fn restore(&self);

    /// Tries every statement that would change history (UPDATE, DELETE, TRUNCATE, REPLACE on each append-only table,
    /// and appends that leave a hole), with the rights of the service. There is at least one event, one command and
    /// one batch in the store. Empty where there are no statements.
    async fn tamper_attempts(&self) -> Vec<TamperAttempt>;

    /// Changes the payload of the event at `position` as only a superuser can, with the triggers out of the way.
    async fn tamper(&self, position: u64, payload: &str);

    /// How many connections to the store are in a transaction now, where the store can tell. Must be 0 at rest.
    async fn open_transactions(&self) -> u64 {
        0
    }
}

/// A statement that must be refused, and what the database said to it.
#[derive(Debug)]
pub struct TamperAttempt {
    pub statement: String,
    pub result: Result<(), String>,
}

/// A log that loses the answer to its first commit, as a cut connection does.
pub struct CutOnce {
    log: Arc<dyn EventLog>,
    cut: AtomicBool,
}

impl CutOnce {
    pub fn new(log: Arc<dyn EventLog>) -> Self {
        Self { log, cut: AtomicBool::new(false) }
    }
}

#[async_trait]
impl EventLog for CutOnce {
    fn identity(&self) -> &LogIdentity {
        self.log.identity()
    }

    fn figures(&self) -> &LogFigures {
        self.log.figures()
    }

    fn is_sealed(&self) -> bool {
        self.log.is_sealed()
    }

    async fn commit(&self, batch: Arc<Batch>) -> Result<Vec<AppendOutcome>, CommitError> {
        let outcomes = self.log.commit(batch).await?;
        if self.cut.swap(true, Ordering::SeqCst) {
            return Ok(outcomes);
        }
        Err(CommitError::Unknown("the answer was lost".into()))
    }

    async fn read_stream(&self, stream: &StreamId, after: u64, limit: usize) -> Result<Vec<RecordedEvent>, LogError> {
        self.log.read_stream(stream, after, limit).await
    }

    async fn stored_outcome(&self, scope: &str, key: &str) -> Result<Option<StoredOutcome>, LogError> {
        self.log.stored_outcome(scope, key).await
    }

    async fn forget_commands(&self, sweep: Sweep) -> Result<Swept, ForgetError> {
        self.log.forget_commands(sweep).await
    }

    fn contents(&self) -> Contents {
        self.log.contents()
    }

    async fn follow_chain(&self, check: ChainCheck) -> Result<ChainStep, LogError> {
        self.log.follow_chain(check).await
    }
}

#[async_trait]
impl SnapshotStore for CutOnce {
    async fn snapshot(&self, stream: &StreamId, fold_version: u32) -> Result<Option<Snapshot>, LogError> {
        self.log.snapshot(stream, fold_version).await
    }

    async fn keep_snapshots(&self, snapshots: Vec<Snapshot>) -> Result<(), LogError> {
        self.log.keep_snapshots(snapshots).await
    }
}

#[async_trait]
impl SubjectKeys for CutOnce {
    async fn make_keys(&self, subjects: &[Uuid]) -> Result<KeyRing, LogError> {
        self.log.make_keys(subjects).await
    }

    async fn keys(&self, subjects: &[Uuid]) -> Result<KeyRing, LogError> {
        self.log.keys(subjects).await
    }

    async fn erase_keys(&self, subjects: &[Uuid]) -> Result<(), LogError> {
        self.log.erase_keys(subjects).await
    }

    async fn erased_up_to(&self) -> Result<Cursor, LogError> {
        self.log.erased_up_to().await
    }

    async fn set_erased_up_to(&self, place: Cursor) -> Result<(), LogError> {
        self.log.set_erased_up_to(place).await
    }
}

#[async_trait]
impl Feed for CutOnce {
    fn source(&self) -> &Name {
        self.log.source()
    }

    async fn page(&self, after: Cursor, limit: PageLimit, wait: Duration) -> Result<FeedPage, FeedError> {
        self.log.page(after, limit, wait).await
    }
}

/// An account stream of the laws.
pub fn account(name: &str) -> StreamId {
    StreamId::new("account", name)
}

/// A new event with a payload that names it.
pub fn event(note: &str) -> NewEvent {
    NewEvent {
        event_id: Uuid::now_v7(),
        event_type: "Noted".into(),
        event_version: "1".into(),
        payload: format!(r#"{{"note":  "{note}"}}"#),
        metadata: r#"{"actor":"contract"}"#.into(),
    }
}

/// A key that was never used before.
pub fn fresh_key() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    format!("key-{}", NEXT.fetch_add(1, Ordering::SeqCst))
}

fn item(stream: &StreamId, expected_version: u64, key: &str, decision: Decision) -> AppendItem {
    let fingerprint = Fingerprint([7; 32]);
    let outcome = format!(r#"{{"of":"{key}"}}"#);
    let command = CommandRecord { scope: "contract".into(), key: key.into(), fingerprint, outcome };
    AppendItem { stream: stream.clone(), expected_version, decision, command, claims: Vec::new() }
}

/// Appends `count` events under `key`.
pub fn append_with_key(stream: &StreamId, expected_version: u64, key: &str, count: usize) -> AppendItem {
    let events = (1..=count).map(|n| event(&format!("{stream} {key} {n}"))).collect();
    item(stream, expected_version, key, Decision::Append(events))
}

/// Appends one event under a key of its own.
pub fn append(stream: &StreamId, expected_version: u64) -> AppendItem {
    append_with_key(stream, expected_version, &fresh_key(), 1)
}

pub fn no_op(stream: &StreamId, expected_version: u64) -> AppendItem {
    item(stream, expected_version, &fresh_key(), Decision::Unchanged)
}

pub fn refusal(stream: &StreamId, expected_version: u64) -> AppendItem {
    item(stream, expected_version, &fresh_key(), Decision::Refused)
}

pub fn take(name: &str, value: &str) -> Claim {
    Claim { action: ClaimAction::Take, name: name.into(), value: value.into() }
}

pub fn release(name: &str, value: &str) -> Claim {
    Claim { action: ClaimAction::Release, name: name.into(), value: value.into() }
}

/// Chains as one batch.
pub fn batch(chains: impl IntoIterator<Item = Vec<AppendItem>>) -> Arc<Batch> {
    let mut batch = Batch::default();
    for chain in chains {
        event_store::log::check_chain(&chain, &Limits::default()).expect("a law builds sound chains");
        batch.push(chain).expect("a law names nothing twice in a batch");
    }
    Arc::new(batch)
}

/// Commits chains and returns the outcomes.
pub async fn commit(log: &dyn EventLog, chains: impl IntoIterator<Item = Vec<AppendItem>>) -> Vec<AppendOutcome> {
    log.commit(batch(chains)).await.expect("the batch is committed or answered item by item")
}

/// Commits one item and returns its outcome.
pub async fn commit_one(log: &dyn EventLog, item: AppendItem) -> AppendOutcome {
    commit(log, [vec![item]]).await.pop().expect("one item, one outcome")
}

/// Every event of the log, page by page, checked for holes.
pub async fn read_all(log: &dyn EventLog) -> Vec<RecordedEvent> {
    let mut events: Vec<RecordedEvent> = Vec::new();
    loop {
        let after = events.last().map_or(Cursor::START, Cursor::at);
        let page = log.page(after, PageLimit::events(97), Duration::ZERO).await.expect("the log is read");
        if page.events.is_empty() {
            assert_eq!(page.head.position, events.len() as u64, "the last page ends at the head");
            return events;
        }
        events.extend(page.events);
        assert!((1..).zip(&events).all(|(position, event)| event.position == position), "positions have no holes");
    }
}

/// The stream's events, sequence checked.
pub async fn read_stream(log: &dyn EventLog, stream: &StreamId) -> Vec<RecordedEvent> {
    let events = log.read_stream(stream, 0, 10_000).await.expect("the stream is read");
    assert!((1..).zip(&events).all(|(sequence, event)| event.sequence == sequence), "sequences have no holes");
    events
}
