//! The port: what every log does, whatever it is stored in.
//!
//! One log per service. Its events have gapless positions in commit order, its clock never runs backwards, and what it
//! acknowledged is there once. `testkit::log_contract` is the same list as tests; every adapter runs it.

use std::{collections::HashSet, fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use events::envelope::{Name, RecordedEvent, StreamId};
use thiserror::Error;
use uuid::Uuid;

use crate::{
    backup::Contents,
    batch_hash::{ChainCheck, ChainStep},
    feed::Feed,
    figures::LogFigures,
    limits::{LimitError, Limits},
    snapshot::SnapshotStore,
    subject_keys::SubjectKeys,
};

/// The log of one service, and the only door to its store. What is kept beside it is in the same database.
#[async_trait]
pub trait EventLog: Feed + SnapshotStore + SubjectKeys {
    /// Which log this is.
    fn identity(&self) -> &LogIdentity;

    /// What is measured of it.
    fn figures(&self) -> &LogFigures;

    /// Whether what is personal is ciphertext behind this ([`SealedLog`](crate::sealed_log::SealedLog)).
    fn is_sealed(&self) -> bool {
        false
    }

    /// Commits a batch in one transaction and one round trip, and answers item by item, in order. One bad item never
    /// fails its neighbours. All events of a batch get one `recorded_at`.
    ///
    /// Safe to cancel only in the sense that the batch may then be committed or not: callers go through
    /// [`crate::writer::Writer`], which never cancels it and settles unknown outcomes by resending.
    async fn commit(&self, batch: Arc<Batch>) -> Result<Vec<AppendOutcome>, CommitError>;

    /// A stream's events behind version `after`, in order, at most `limit`.
    async fn read_stream(&self, stream: &StreamId, after: u64, limit: usize) -> Result<Vec<RecordedEvent>, LogError>;

    /// What was stored under an idempotency key.
    async fn stored_outcome(&self, scope: &str, key: &str) -> Result<Option<StoredOutcome>, LogError>;

    /// Forgets what was answered to commands long ago, in one slice of the order of their keys.
    ///
    /// To a client this means that a key may be used again, as if it had never been: a request that is sent again so
    /// late is decided again, on the stream as it then is. What was appended stays, so the same id is still not created
    /// twice. Safe to cancel: a slice is forgotten as a whole or not at all, and may be swept again.
    async fn forget_commands(&self, sweep: Sweep) -> Result<Swept, ForgetError>;

    /// Everything the log holds, as of one moment, for a backup; what is personal as it is stored, also where this is
    /// sealed. What is read is a snapshot that is held until it was taken, so whoever asks takes it without delay.
    fn contents(&self) -> Contents;

    /// Folds the hashes of `batches` over the events as they are now, from where `check` stands, a stretch of bounded
    /// length further. Safe to cancel: `check` is where it was.
    async fn follow_chain(&self, check: ChainCheck) -> Result<ChainStep, LogError>;

    /// [`follow_chain`](Self::follow_chain) from the first batch to the last.
    async fn verify_chain(&self) -> Result<ChainVerdict, LogError> {
        let mut check = ChainCheck::default();
        loop {
            let step = self.follow_chain(check).await?;
            match step.verdict {
                Some(verdict) => return Ok(verdict),
                None => check = step.check,
            }
        }
    }
}

/// Who a log is: given when its store is made, and read when it is opened.
#[derive(Clone)]
pub struct LogIdentity {
    /// The service's name: the source in feeds, vectors and tokens.
    pub source: Name,
    /// The identity of this log's history. A store made anew, or of a backup, gets another. One that only lost its end keeps
    /// it, a standby that took over or a copy of the files: that is told by the anchors of whoever has read further.
    pub epoch: Uuid,
    /// Keys the fingerprints of commands. It lives in the log's own database, so that every replica has the same.
    pub fingerprint_key: [u8; 32],
}

impl LogIdentity {
    /// A new identity, for a store that is being made.
    pub fn create(source: &str) -> Self {
        let mut fingerprint_key = [0; 32];
        fingerprint_key[..16].copy_from_slice(Uuid::new_v4().as_bytes());
        fingerprint_key[16..].copy_from_slice(Uuid::new_v4().as_bytes());
        Self { source: source.into(), epoch: Uuid::new_v4(), fingerprint_key }
    }
}

impl fmt::Debug for LogIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogIdentity").field("source", &self.source).field("epoch", &self.epoch).finish_non_exhaustive()
    }
}

/// One decision about one stream: what it appends (or that it appends nothing), and what is remembered of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppendItem {
    pub stream: StreamId,
    /// The version this was decided on; 0 = the stream does not exist yet. It is confirmed also when nothing is
    /// appended, so a stale cache can never produce a wrong answer.
    pub expected_version: u64,
    pub decision: Decision,
    pub command: CommandRecord,
    /// Names that this stream takes or gives back, if the item is applied.
    pub claims: Vec<Claim>,
}

impl AppendItem {
    /// The events it appends: none for a no-op or a refusal.
    pub fn events(&self) -> &[NewEvent] {
        match &self.decision {
            Decision::Append(events) => events,
            Decision::Unchanged | Decision::Refused => &[],
        }
    }

    /// The stream's version once this is applied.
    pub fn version_after(&self) -> u64 {
        self.expected_version + self.events().len() as u64
    }
}

/// What an aggregate made of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// At least one event.
    Append(Vec<NewEvent>),
    /// Already so: nothing to append.
    Unchanged,
    /// The domain says no.
    Refused,
}

/// An event on its way in. The log adds position, sequence and time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEvent {
    /// UUID v7, made once: resending after an unknown outcome keeps it.
    pub event_id: Uuid,
    pub event_type: Name,
    pub event_version: Name,
    /// JSON text, stored byte for byte.
    pub payload: String,
    /// JSON text of an [`events::envelope::Metadata`].
    pub metadata: String,
}

/// What the log remembers of a command, so that it has one effect and one answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandRecord {
    /// (service, principal, route) in one text.
    pub scope: Name,
    /// The client's `Idempotency-Key`, or one made for it.
    pub key: Name,
    pub fingerprint: Fingerprint,
    /// JSON text of the answer to give again.
    pub outcome: String,
}

/// Keyed hash of route and canonical body (HMAC-SHA-256).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint(pub [u8; 32]);

impl Fingerprint {
    /// `route` and `body` in canonical form (serialized from the parsed command, never the client's bytes).
    pub fn of(identity: &LogIdentity, route: &str, body: &[u8]) -> Self {
        use hmac::Mac;
        let mut mac =
            hmac::Hmac::<sha2::Sha256>::new_from_slice(&identity.fingerprint_key).expect("HMAC takes any key length");
        mac.update(&(route.len() as u64).to_be_bytes());
        mac.update(route.as_bytes());
        mac.update(body);
        Self(mac.finalize().into_bytes().into())
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02x}{:02x}..", self.0[0], self.0[1])
    }
}

/// A unique name within a log, such as an e-mail address, held by one stream.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Claim {
    pub action: ClaimAction,
    /// What kind of name: `email`, `sku`.
    pub name: Name,
    /// The name itself, in the form in which it is unique.
    pub value: Name,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ClaimAction {
    /// Refused with [`AppendOutcome::Taken`] while another stream holds it; again by its holder is fine.
    Take,
    /// Given back if this stream holds it, else nothing happens.
    Release,
}

/// What became of one item. Where several would be true, `Duplicate` goes before `Conflict`, and `Conflict` before
/// `Taken`: a retried command gets its stored answer also when its stream has moved on, and also behind an item of its
/// chain that was not applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AppendOutcome {
    /// The events are in the log; `position` is that of the last.
    Appended { version: u64, position: u64 },
    /// The version is confirmed, the outcome stored; `position` is that of the stream's last event (0 = none).
    Unchanged { version: u64, position: u64 },
    /// As `Unchanged`, for a refusal.
    Refused { version: u64, position: u64 },
    /// The stream is elsewhere, or an item before this one in its chain was not applied. Nothing was stored.
    Conflict { expected: u64, actual: u64 },
    /// Another stream holds the name. Nothing was stored.
    Taken(Claim),
    /// The key was used before. Whether the fingerprint is the same is for the caller to say.
    Duplicate(StoredOutcome),
}

impl AppendOutcome {
    /// Whether the item took effect in this commit.
    pub fn is_applied(&self) -> bool {
        matches!(self, Self::Appended { .. } | Self::Unchanged { .. } | Self::Refused { .. })
    }
}

/// What a log remembers of an earlier command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredOutcome {
    pub fingerprint: Fingerprint,
    pub outcome: String,
    /// Position of the stream's last event when this was stored, and that event's id; 0 and `None` for an empty stream.
    pub position: u64,
    pub event_id: Option<Uuid>,
}

/// A slice of a log's idempotency keys to go over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sweep {
    /// What was recorded before this is forgotten; at least [`Self::KEPT_AT_LEAST`] ago, by the log's clock.
    pub before: DateTime<Utc>,
    /// The last key of the slice before this one; `None` starts with the first key.
    pub after: Option<CommandKey>,
    /// Keys that are looked at, whether they are forgotten or not.
    pub keys_max: usize,
}

impl Sweep {
    /// No log forgets a younger key, whoever asks: a day, less an hour for clocks that disagree.
    pub const KEPT_AT_LEAST: Duration = Duration::from_secs(23 * 60 * 60);
    /// A larger slice would hold up commits; a larger `keys_max` counts as this.
    pub const KEYS_MAX: usize = 10_000;

    /// The number of keys to look at, within what is allowed.
    pub fn keys(&self) -> usize {
        self.keys_max.clamp(1, Self::KEYS_MAX)
    }

    /// Where the slice starts, as scope and key: behind this. Empty texts stand before every key, for no key is empty.
    pub fn start(&self) -> (&str, &str) {
        self.after.as_ref().map_or(("", ""), |after| (&after.scope, &after.key))
    }

    /// Refuses what is too young at `now`, for a log that has no rules of its own.
    pub fn check(&self, now: DateTime<Utc>) -> Result<(), ForgetError> {
        if self.before > now - Self::KEPT_AT_LEAST {
            return Err(ForgetError::TooYoung);
        }
        Ok(())
    }
}

/// What an idempotency key is unique by, and ordered by: byte by byte.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct CommandKey {
    pub scope: Name,
    pub key: Name,
}

/// What became of a [`Sweep`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Swept {
    pub forgotten: u64,
    /// Where the next slice starts; `None` at the end of the keys.
    pub next: Option<CommandKey>,
}

/// Why a slice was not swept. Nothing of it was forgotten.
#[derive(Debug, Error)]
pub enum ForgetError {
    #[error("keys are kept for a day at least")]
    TooYoung,
    #[error(transparent)]
    Log(#[from] LogError),
}

/// Chains that can be committed together: each stream, each key and each claim at most once, except that the items
/// of one chain follow each other on one stream.
///
/// A chain is a run of decisions on one stream, each made on the result of the one before. It is applied from its head
/// up to the first item that does not apply; every item behind that one is answered `Conflict`, whatever the versions
/// say, because it was decided on a state that never came to be.
#[derive(Debug, Default)]
pub struct Batch {
    items: Vec<AppendItem>,
    /// Where each chain starts, in `items`.
    chain_starts: Vec<usize>,
    seen: HashSet<Seen, foldhash::fast::RandomState>,
    bytes: usize,
}

#[derive(Debug, PartialEq, Eq, Hash)]
enum Seen {
    Stream(StreamId),
    Key(Name, Name),
    Claim(Name, Name),
}

impl Batch {
    /// A batch of one chain, checked against `limits`.
    pub fn try_new(chain: Vec<AppendItem>, limits: &Limits) -> Result<Self, BatchError> {
        check_chain(&chain, limits)?;
        let mut batch = Self::default();
        batch.push(chain).map_err(|_| BatchError::Repeated)?;
        Ok(batch)
    }

    /// Adds a chain that [`check_chain`] has accepted, or gives it back because it has to wait for the next batch.
    pub fn push(&mut self, chain: Vec<AppendItem>) -> Result<(), Vec<AppendItem>> {
        let repeated = names(&chain).position(|name| !self.seen.insert(name));
        if let Some(repeated) = repeated {
            for name in names(&chain).take(repeated) {
                self.seen.remove(&name);
            }
            return Err(chain);
        }
        self.chain_starts.push(self.items.len());
        self.bytes += chain.iter().map(Limits::item_bytes).sum::<usize>();
        self.items.extend(chain);
        Ok(())
    }

    pub fn items(&self) -> &[AppendItem] {
        &self.items
    }

    pub fn into_items(self) -> Vec<AppendItem> {
        self.items
    }

    /// The chains, in order.
    pub fn chains(&self) -> impl Iterator<Item = &[AppendItem]> {
        (0..self.chain_starts.len()).map(|n| &self.items[self.chain_range(n)])
    }

    pub fn chain_count(&self) -> usize {
        self.chain_starts.len()
    }

    /// Where chain `n` lies in [`Self::items`].
    pub fn chain_range(&self, n: usize) -> std::ops::Range<usize> {
        let end = self.chain_starts.get(n + 1).copied().unwrap_or(self.items.len());
        self.chain_starts[n]..end
    }

    pub fn len(&self) -> usize {
        self.items.len()
    }

    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Roughly what travels: payloads, metadata, outcomes and names.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

/// Everything that may stand in a batch only once.
fn names(chain: &[AppendItem]) -> impl Iterator<Item = Seen> {
    let stream = chain.first().map(|head| Seen::Stream(head.stream.clone()));
    stream.into_iter().chain(chain.iter().flat_map(names_of_item))
}

fn names_of_item(item: &AppendItem) -> impl Iterator<Item = Seen> {
    let claims = item.claims.iter().map(|claim| Seen::Claim(claim.name.clone(), claim.value.clone()));
    claims.chain([Seen::Key(item.command.scope.clone(), item.command.key.clone())])
}

/// Whether a chain can be committed at all: limits kept, one stream, versions that follow each other, no key or claim twice.
pub fn check_chain(chain: &[AppendItem], limits: &Limits) -> Result<(), BatchError> {
    let Some(head) = chain.first() else { return Err(BatchError::Empty) };
    let mut version = head.expected_version;
    let mut seen = HashSet::new();
    for item in chain {
        limits.check(item)?;
        if item.stream != head.stream || item.expected_version != version {
            return Err(BatchError::Broken { stream: item.stream.clone() });
        }
        if matches!(&item.decision, Decision::Append(events) if events.is_empty()) {
            return Err(BatchError::Empty);
        }
        version = item.version_after();
        // one key, and one claim at most, cannot stand twice: the usual command is not hashed
        if (chain.len() > 1 || item.claims.len() > 1) && !names_of_item(item).all(|name| seen.insert(name)) {
            return Err(BatchError::Repeated);
        }
    }
    Ok(())
}

/// Why items cannot be committed together: a mistake of the caller.
#[derive(Debug, Error)]
pub enum BatchError {
    #[error(transparent)]
    Limit(#[from] LimitError),
    #[error("a chain holds at least one item, and an append at least one event")]
    Empty,
    #[error("the items of a chain on {stream} do not follow each other")]
    Broken { stream: StreamId },
    #[error("a stream, key or claim stands twice in one batch")]
    Repeated,
}

/// Why a batch got no answers.
#[derive(Debug, Error)]
pub enum CommitError {
    /// Certainly not committed: may be sent again.
    #[error("log unavailable: {0}")]
    Unavailable(#[source] Source),
    /// Perhaps committed: the same items (same keys, same event ids) may be sent again, which settles it.
    #[error("outcome of the commit unknown: {0}")]
    Unknown(#[source] Source),
    /// Certainly not committed, and not when sent again: our bug, or a store that is not what we made.
    #[error("log refused the batch: {0}")]
    Refused(#[source] Source),
}

/// Why a read failed.
#[derive(Debug, Error)]
pub enum LogError {
    #[error("log unavailable: {0}")]
    Unavailable(#[source] Source),
    #[error("log is damaged: {0}")]
    Damaged(String),
}

/// The cause of an error, from whatever store it came.
pub type Source = Box<dyn std::error::Error + Send + Sync>;

/// What following the batch hashes from the first to the last has shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChainVerdict {
    /// Every event lies in a batch, and every hash is what its events give.
    Intact { events: u64, batches: u64 },
    /// The first place where they are not: positions `first..=last`, and what was found.
    Broken { first: u64, last: u64, reason: String },
}

/// The head of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogHead {
    pub position: u64,
    /// Time of the last event; the epoch of Unix time for an empty log.
    pub recorded_at: DateTime<Utc>,
}
