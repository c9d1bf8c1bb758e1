//! The log in memory: the same answers as the databases give, without a disk. For tests, simulation and trying out;
//! what it acknowledged is gone with the process.
//!
//! It can also be made to fail as databases do ([`MemoryLog::fail_next`]), to hang ([`MemoryLog::hold_commits`]) and to
//! be restored from an older copy ([`MemoryLog::restore`]).

mod beside;

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    ops::Bound,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use events::envelope::{Name, RecordedEvent, StreamId};
use tokio::{
    sync::{OwnedRwLockWriteGuard, RwLock, watch},
    time::{Instant, timeout_at},
};
use uuid::Uuid;

use self::beside::Beside;
use crate::{
    backup::{Chunks, ClaimItem, CommandItem, Contents, HeadItem, Item},
    batch_hash::{BatchRow, ChainCheck, ChainStep, GENESIS, batch_hash},
    clock::{Clock, SystemClock, time_of_us},
    feed::{Cursor, Feed, FeedError, FeedPage, PageLimit},
    figures::LogFigures,
    log::{
        AppendItem, AppendOutcome, Batch, Claim, ClaimAction, CommandKey, CommandRecord, CommitError, Decision,
        EventLog, ForgetError, LogError, LogHead, LogIdentity, StoredOutcome, Sweep, Swept,
    },
};

/// A log in memory. Writers and readers share it behind an `Arc`.
pub struct MemoryLog {
    identity: LogIdentity,
    figures: LogFigures,
    clock: Arc<dyn Clock>,
    store: Mutex<Store>,
    beside: Mutex<Beside>,
    faults: Mutex<VecDeque<Fault>>,
    gate: Arc<RwLock<()>>,
    /// Counts commits and restores, for whoever waits for news.
    news: watch::Sender<u64>,
}

/// How the next commit goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Not committed, and the answer says so.
    Unavailable,
    /// Committed, but the answer is lost.
    UnknownCommitted,
    /// Not committed, and nobody can say.
    UnknownLost,
    /// Not committed, and never will be.
    Refused,
    /// Not committed: a mistake of ours comes first.
    Panic,
}

/// What a log held at one time, as a backup would.
#[derive(Debug, Clone)]
pub struct MemoryCopy(Store);

#[derive(Debug, Clone, Default)]
struct Store {
    events: Vec<RecordedEvent>,
    event_ids: HashSet<Uuid>,
    /// Positions of each stream's events, in sequence.
    streams: HashMap<StreamId, Vec<u64>>,
    /// With the time at which each was recorded.
    commands: BTreeMap<CommandKey, (DateTime<Utc>, StoredOutcome)>,
    claims: HashMap<(Name, Name), StreamId>,
    batches: Vec<BatchRow>,
}

impl MemoryLog {
    /// An empty log of the service `source`.
    pub fn new(source: &str) -> Arc<Self> {
        Self::with_clock(source, Arc::new(SystemClock))
    }

    pub fn with_clock(source: &str, clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self {
            identity: LogIdentity::create(source),
            figures: LogFigures::of(0),
            clock,
            store: Mutex::default(),
            beside: Mutex::default(),
            faults: Mutex::default(),
            gate: Arc::default(),
            news: watch::Sender::new(0),
        })
    }

    /// Lets the next commit that nobody has scripted yet go wrong; called twice, the next two.
    pub fn fail_next(&self, fault: Fault) {
        self.faults.lock().expect("no panic while scripted").push_back(fault);
    }

    /// While the guard lives, commits wait, as they do behind a stalled disk.
    pub async fn hold_commits(&self) -> OwnedRwLockWriteGuard<()> {
        Arc::clone(&self.gate).write_owned().await
    }

    /// A backup.
    pub fn copy(&self) -> MemoryCopy {
        MemoryCopy(self.store().clone())
    }

    /// Puts a backup in place: what was committed since is gone, the epoch stays, as with a file copied back. What is
    /// kept beside the log stays as it is.
    pub fn restore(&self, copy: MemoryCopy) {
        *self.store() = copy.0;
        self.news.send_modify(|count| *count += 1);
    }

    /// Changes the payload of an event behind the log's back, as a superuser could.
    pub fn tamper(&self, position: u64, payload: &str) {
        if let Some(event) = self.store().events.iter_mut().find(|event| event.position == position) {
            payload.clone_into(&mut event.payload);
        }
    }

    fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().expect("a commit never panics half-way")
    }

    /// As a backup has them.
    fn items(&self) -> Vec<Item> {
        let store = self.store();
        let LogHead { position, recorded_at } = store.head();
        let (source, epoch) = (self.identity.source.clone(), self.identity.epoch);
        let mut items = vec![Item::Head(HeadItem { source, epoch, position, recorded_at })];
        for batch in &store.batches {
            items.push(Item::Batch(batch.clone()));
            items.extend((batch.first..=batch.last).map(|position| Item::Event(store.event_at(position).clone())));
        }
        items.extend(store.commands.iter().map(|(CommandKey { scope, key }, (recorded_at, stored))| {
            Item::Command(CommandItem {
                scope: scope.clone(),
                key: key.clone(),
                fingerprint: stored.fingerprint,
                outcome: stored.outcome.clone(),
                position: stored.position,
                recorded_at: *recorded_at,
            })
        }));
        let mut claims: Vec<_> = store.claims.iter().collect();
        claims.sort_unstable_by_key(|(name, _)| *name);
        items.extend(claims.into_iter().map(|((name, value), stream)| {
            Item::Claim(ClaimItem { name: name.clone(), value: value.clone(), stream: stream.clone() })
        }));
        items.push(Item::FingerprintKey(self.identity.fingerprint_key));
        items.extend(self.subject_keys().into_iter().map(|(subject, key)| Item::SubjectKey(subject, key)));
        items
    }

    fn read_page(&self, after: Cursor, limit: PageLimit) -> Result<FeedPage, FeedError> {
        let store = self.store();
        let head = store.head();
        let start = usize::try_from(after.position).unwrap_or(usize::MAX);
        let anchor = start.checked_sub(1).and_then(|index| store.events.get(index)).map(|event| event.event_id);
        if after.position > head.position || (after.event_id.is_some() && after.event_id != anchor) {
            let feed = self.identity.source.clone();
            return Err(FeedError::Regressed { feed, position: after.position, head: head.position });
        }
        let mut bytes = 0;
        let fits = |event: &&RecordedEvent| {
            bytes += event.payload.len() + event.metadata.len();
            event.position == after.position + 1 || bytes <= limit.bytes_max
        };
        let events_max = limit.events_max.clamp(1, PageLimit::EVENTS_MAX);
        let events = store.events[start..].iter().take(events_max).take_while(fits).cloned().collect();
        Ok(FeedPage { epoch: self.identity.epoch, head, events })
    }
}

impl Store {
    fn head(&self) -> LogHead {
        match self.events.last() {
            Some(event) => LogHead { position: event.position, recorded_at: event.recorded_at },
            None => LogHead { position: 0, recorded_at: DateTime::UNIX_EPOCH },
        }
    }

    /// The stream's version, and position and id of its last event.
    fn last_of(&self, stream: &StreamId) -> (u64, u64, Option<Uuid>) {
        let Some(position) = self.streams.get(stream).and_then(|positions| positions.last()) else {
            return (0, 0, None);
        };
        let event = self.event_at(*position);
        (event.sequence, event.position, Some(event.event_id))
    }

    fn event_at(&self, position: u64) -> &RecordedEvent {
        &self.events[usize::try_from(position - 1).expect("positions of events in memory fit")]
    }

    /// Whether a command that is new brings an event id that is not.
    fn repeats_an_event_id(&self, batch: &Batch) -> bool {
        let mut fresh = HashSet::new();
        let is_new = |item: &&AppendItem| !self.commands.contains_key(&key_of(item));
        let mut events = batch.items().iter().filter(is_new).flat_map(AppendItem::events);
        events.any(|event| self.event_ids.contains(&event.event_id) || !fresh.insert(event.event_id))
    }

    fn taken<'a>(&self, item: &'a AppendItem) -> Option<&'a Claim> {
        item.claims.iter().find(|claim| {
            let holder = self.claims.get(&(claim.name.clone(), claim.value.clone()));
            claim.action == ClaimAction::Take && holder.is_some_and(|holder| *holder != item.stream)
        })
    }

    fn commit(&mut self, batch: &Batch, now: DateTime<Utc>) -> Vec<AppendOutcome> {
        let head = self.head();
        let recorded_at = now.max(head.recorded_at);
        let mut outcomes = Vec::with_capacity(batch.len());
        for chain in batch.chains() {
            let mut broken = false;
            for item in chain {
                let outcome = self.apply(item, broken, recorded_at);
                broken |= !outcome.is_applied();
                outcomes.push(outcome);
            }
        }
        let appended = &self.events[usize::try_from(head.position).expect("positions of events in memory fit")..];
        if let (Some(first), Some(last)) = (appended.first(), appended.last()) {
            let previous = self.batches.last().map_or(GENESIS, |batch| batch.hash);
            let hash = batch_hash(&previous, appended);
            self.batches.push(BatchRow { first: first.position, last: last.position, previous, hash });
        }
        outcomes
    }

    fn apply(&mut self, item: &AppendItem, broken: bool, recorded_at: DateTime<Utc>) -> AppendOutcome {
        let key = key_of(item);
        if let Some((_, stored)) = self.commands.get(&key) {
            return AppendOutcome::Duplicate(stored.clone());
        }
        let (actual, _, _) = self.last_of(&item.stream);
        if broken || actual != item.expected_version {
            return AppendOutcome::Conflict { expected: item.expected_version, actual };
        }
        if let Some(claim) = self.taken(item) {
            return AppendOutcome::Taken(claim.clone());
        }
        for claim in &item.claims {
            let name = (claim.name.clone(), claim.value.clone());
            match claim.action {
                ClaimAction::Take => _ = self.claims.insert(name, item.stream.clone()),
                ClaimAction::Release if self.claims.get(&name) == Some(&item.stream) => _ = self.claims.remove(&name),
                ClaimAction::Release => {}
            }
        }
        for (sequence, event) in (actual + 1..).zip(item.events()) {
            let position = self.head().position + 1;
            self.event_ids.insert(event.event_id);
            self.streams.entry(item.stream.clone()).or_default().push(position);
            self.events.push(RecordedEvent {
                position,
                event_id: event.event_id,
                stream: item.stream.clone(),
                sequence,
                event_type: event.event_type.clone(),
                event_version: event.event_version.clone(),
                payload: event.payload.clone(),
                metadata: event.metadata.clone(),
                recorded_at,
            });
        }
        let (version, position, event_id) = self.last_of(&item.stream);
        let CommandRecord { fingerprint, outcome, .. } = item.command.clone();
        self.commands.insert(key, (recorded_at, StoredOutcome { fingerprint, outcome, position, event_id }));
        match item.decision {
            Decision::Append(_) => AppendOutcome::Appended { version, position },
            Decision::Unchanged => AppendOutcome::Unchanged { version, position },
            Decision::Refused => AppendOutcome::Refused { version, position },
        }
    }
}

fn key_of(item: &AppendItem) -> CommandKey {
    CommandKey { scope: item.command.scope.clone(), key: item.command.key.clone() }
}

#[async_trait]
impl EventLog for MemoryLog {
    fn identity(&self) -> &LogIdentity {
        &self.identity
    }

    fn figures(&self) -> &LogFigures {
        &self.figures
    }

    async fn commit(&self, batch: Arc<Batch>) -> Result<Vec<AppendOutcome>, CommitError> {
        let _open = self.gate.read().await;
        let fault = self.faults.lock().expect("no panic while scripted").pop_front();
        match fault {
            Some(Fault::Unavailable) => return Err(CommitError::Unavailable("scripted".into())),
            Some(Fault::UnknownLost) => return Err(CommitError::Unknown("scripted, not committed".into())),
            Some(Fault::Refused) => return Err(CommitError::Refused("scripted".into())),
            Some(Fault::Panic) => panic!("scripted"),
            Some(Fault::UnknownCommitted) | None => {}
        }
        let outcomes = {
            let mut store = self.store();
            if store.repeats_an_event_id(&batch) {
                return Err(CommitError::Refused("an event id stands in the log already".into()));
            }
            store.commit(&batch, time_of_us(self.clock.now().timestamp_micros()))
        };
        self.news.send_modify(|count| *count += 1);
        match fault {
            Some(_) => Err(CommitError::Unknown("scripted, committed".into())),
            None => Ok(outcomes),
        }
    }

    async fn read_stream(&self, stream: &StreamId, after: u64, limit: usize) -> Result<Vec<RecordedEvent>, LogError> {
        let store = self.store();
        let positions = store.streams.get(stream).map(Vec::as_slice).unwrap_or_default();
        let after = usize::try_from(after).unwrap_or(usize::MAX);
        Ok(positions.iter().skip(after).take(limit).map(|position| store.event_at(*position).clone()).collect())
    }

    async fn stored_outcome(&self, scope: &str, key: &str) -> Result<Option<StoredOutcome>, LogError> {
        let key = CommandKey { scope: scope.into(), key: key.into() };
        Ok(self.store().commands.get(&key).map(|(_, stored)| stored.clone()))
    }

    async fn forget_commands(&self, sweep: Sweep) -> Result<Swept, ForgetError> {
        sweep.check(self.clock.now())?;
        let mut store = self.store();
        let start = sweep.after.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let slice = store.commands.range((start, Bound::Unbounded)).take(sweep.keys());
        let slice: Vec<_> = slice.map(|(key, (recorded_at, _))| (key.clone(), *recorded_at)).collect();
        let mut forgotten = 0;
        for (key, _) in slice.iter().filter(|(_, recorded_at)| *recorded_at < sweep.before) {
            store.commands.remove(key);
            forgotten += 1;
        }
        let next = if slice.len() == sweep.keys() { slice.last().map(|(key, _)| key.clone()) } else { None };
        Ok(Swept { forgotten, next })
    }

    /// The snapshot is a copy of everything: this log is small.
    fn contents(&self) -> Contents {
        let (mut chunks, contents) = Chunks::new();
        let items = self.items();
        tokio::spawn(async move {
            for item in items {
                if chunks.push(item).await.is_err() {
                    return;
                }
            }
            // whoever is gone needs nothing
            let _ = chunks.whole().await;
        });
        contents
    }

    async fn follow_chain(&self, mut check: ChainCheck) -> Result<ChainStep, LogError> {
        let store = self.store();
        let head = store.head().position;
        let mut broken = None;
        let from = check.position;
        for batch in store.batches.iter().filter(|batch| batch.first > from) {
            let events = (batch.first..=batch.last).map(|position| store.event_at(position).clone());
            if let Err(verdict) = check.follow(batch, &events.collect::<Vec<_>>()) {
                broken = Some(verdict);
                break;
            }
        }
        let verdict = broken.unwrap_or_else(|| check.finish(head, head));
        Ok(ChainStep { check, head, verdict: Some(verdict) })
    }
}

#[async_trait]
impl Feed for MemoryLog {
    fn source(&self) -> &Name {
        &self.identity.source
    }

    async fn page(&self, after: Cursor, limit: PageLimit, wait: Duration) -> Result<FeedPage, FeedError> {
        let deadline = Instant::now() + wait.min(PageLimit::WAIT_MAX);
        let mut news = self.news.subscribe();
        loop {
            let page = self.read_page(after, limit)?;
            if !page.events.is_empty() || timeout_at(deadline, news.changed()).await.is_err() {
                return Ok(page);
            }
        }
    }
}
