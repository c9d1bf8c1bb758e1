//! A log that keeps personal values as ciphertext, for services that hold any.
//!
//! It stands between a service and its log: what the service appends is encrypted on the way in, under keys that are
//! durable before the events are; what it and its followers read is decrypted on the way out for as long as the key
//! lives, and null afterwards. Claims become keyed hashes, because they stand in the database as they are. So the
//! database, its hash chain and its backups never hold anything personal, and whoever deletes a key has erased a person
//! from all of them.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use events::envelope::{Name, RecordedEvent, StreamId};
use hmac::{Hmac, Mac};
use sha2::Sha256;
use uuid::Uuid;

use crate::{
    backup::Contents,
    batch_hash::{ChainCheck, ChainStep},
    feed::{Cursor, Feed, FeedError, FeedPage, PageLimit},
    figures::LogFigures,
    log::{
        AppendItem, AppendOutcome, Batch, Claim, CommitError, Decision, EventLog, ForgetError, LogError, LogIdentity,
        StoredOutcome, Sweep, Swept,
    },
    seal::{self, SealError},
    snapshot::{Snapshot, SnapshotStore},
    subject_keys::{KeyRing, SubjectKeys},
};

/// A log behind which nothing personal is readable without its subject's key.
pub struct SealedLog {
    log: Arc<dyn EventLog>,
}

impl SealedLog {
    pub fn new(log: Arc<dyn EventLog>) -> Arc<Self> {
        assert!(!log.is_sealed(), "ciphertext is not sealed again");
        Arc::new(Self { log })
    }

    /// `log`, sealed if it is not yet.
    pub fn around(log: Arc<dyn EventLog>) -> Arc<dyn EventLog> {
        if log.is_sealed() { log } else { Self::new(log) }
    }

    /// The batch as it is stored.
    async fn sealed(&self, batch: &Batch) -> Result<Batch, CommitError> {
        let payloads = batch.items().iter().flat_map(AppendItem::events).map(|event| event.payload.as_str());
        let subjects = seal::subjects(payloads).map_err(refused)?;
        let ring = match subjects.is_empty() {
            true => KeyRing::new(),
            false => self.log.make_keys(&subjects).await.map_err(|error| CommitError::Unavailable(error.into()))?,
        };
        let mut sealed = Batch::default();
        for chain in batch.chains() {
            let chain = chain.iter().map(|item| self.sealed_item(item, &ring)).collect::<Result<Vec<_>, _>>();
            let again = sealed.push(chain.map_err(refused)?);
            again.map_err(|_| CommitError::Refused("two claims have one hash".into()))?;
        }
        Ok(sealed)
    }

    fn sealed_item(&self, item: &AppendItem, ring: &KeyRing) -> Result<AppendItem, SealError> {
        let mut item = item.clone();
        if let Decision::Append(events) = &mut item.decision {
            for event in events.iter_mut().filter(|event| seal::is_personal(&event.payload)) {
                event.payload = seal::seal(&event.payload, ring, event.event_id)?;
            }
        }
        for claim in &mut item.claims {
            claim.value = self.hashed(claim);
        }
        Ok(item)
    }

    /// A claim's value as it stands in the database: equal for equal values, and nothing to whoever has not got the
    /// log's own key.
    fn hashed(&self, claim: &Claim) -> Name {
        let key = &self.log.identity().fingerprint_key;
        let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes any key length");
        mac.update(b"claim\0");
        mac.update(claim.name.as_bytes());
        mac.update(b"\0");
        mac.update(claim.value.as_bytes());
        let hash = mac.finalize().into_bytes();
        hash.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into()
    }

    /// Decrypts what can be, and makes the rest null.
    async fn open(&self, events: &mut [RecordedEvent]) -> Result<(), OpenError> {
        // a page is read twice only if there is something in it
        let personal: Vec<&mut RecordedEvent> =
            events.iter_mut().filter(|event| seal::is_personal(&event.payload)).collect();
        if personal.is_empty() {
            return Ok(());
        }
        let mut subjects = Vec::new();
        for event in &personal {
            let found = seal::subjects([event.payload.as_str()]);
            subjects.extend(found.map_err(|error| OpenError::Damaged(event.position, error))?);
        }
        subjects.sort_unstable();
        subjects.dedup();
        let ring = self.log.keys(&subjects).await.map_err(OpenError::Keys)?;
        for event in personal {
            let opened = seal::open(&event.payload, &ring, event.event_id);
            event.payload = opened.map_err(|error| OpenError::Damaged(event.position, error))?;
        }
        Ok(())
    }
}

enum OpenError {
    Keys(LogError),
    /// The event at this position.
    Damaged(u64, SealError),
}

fn refused(error: SealError) -> CommitError {
    CommitError::Refused(error.into())
}

#[async_trait]
impl EventLog for SealedLog {
    fn identity(&self) -> &LogIdentity {
        self.log.identity()
    }

    fn figures(&self) -> &LogFigures {
        self.log.figures()
    }

    fn is_sealed(&self) -> bool {
        true
    }

    async fn commit(&self, batch: Arc<Batch>) -> Result<Vec<AppendOutcome>, CommitError> {
        let sealed = self.sealed(&batch).await?;
        let mut outcomes = self.log.commit(Arc::new(sealed)).await?;
        for (outcome, item) in outcomes.iter_mut().zip(batch.items()) {
            // the claim as the service knows it
            if let AppendOutcome::Taken(taken) = outcome
                && let Some(claim) = item.claims.iter().find(|claim| self.hashed(claim) == taken.value)
            {
                *taken = claim.clone();
            }
        }
        Ok(outcomes)
    }

    async fn read_stream(&self, stream: &StreamId, after: u64, limit: usize) -> Result<Vec<RecordedEvent>, LogError> {
        let mut events = self.log.read_stream(stream, after, limit).await?;
        match self.open(&mut events).await {
            Ok(()) => Ok(events),
            Err(OpenError::Keys(error)) => Err(error),
            Err(OpenError::Damaged(position, error)) => {
                Err(LogError::Damaged(format!("{stream} at position {position}: {error}")))
            }
        }
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
impl Feed for SealedLog {
    fn source(&self) -> &Name {
        self.log.source()
    }

    async fn page(&self, after: Cursor, limit: PageLimit, wait: Duration) -> Result<FeedPage, FeedError> {
        let mut page = self.log.page(after, limit, wait).await?;
        let feed = || self.log.source().clone();
        match self.open(&mut page.events).await {
            Ok(()) => Ok(page),
            Err(OpenError::Keys(error)) => Err(FeedError::Unreachable { feed: feed(), cause: error.into() }),
            Err(OpenError::Damaged(position, error)) => {
                Err(FeedError::Damaged { feed: feed(), position, reason: error.to_string() })
            }
        }
    }
}

#[async_trait]
impl SnapshotStore for SealedLog {
    /// One that does not open is none: the stream is read from its first event.
    async fn snapshot(&self, stream: &StreamId, fold_version: u32) -> Result<Option<Snapshot>, LogError> {
        let Some(mut snapshot) = self.log.snapshot(stream, fold_version).await? else { return Ok(None) };
        let damaged = |error: SealError| LogError::Damaged(format!("snapshot of {stream}: {error}"));
        let ring = self.log.keys(&seal::subjects([snapshot.state.as_str()]).map_err(damaged)?).await?;
        snapshot.state = seal::open(&snapshot.state, &ring, snapshot.event_id).map_err(damaged)?;
        Ok(Some(snapshot))
    }

    async fn keep_snapshots(&self, mut snapshots: Vec<Snapshot>) -> Result<(), LogError> {
        let damaged = |error: SealError| LogError::Damaged(format!("snapshot: {error}"));
        let subjects = seal::subjects(snapshots.iter().map(|snapshot| snapshot.state.as_str())).map_err(damaged)?;
        let ring = self.log.keys(&subjects).await?;
        for snapshot in &mut snapshots {
            snapshot.state = seal::seal(&snapshot.state, &ring, snapshot.event_id).map_err(damaged)?;
        }
        self.log.keep_snapshots(snapshots).await
    }
}

#[async_trait]
impl SubjectKeys for SealedLog {
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
