//! A copy of a log in files, and a log from such a copy.
//!
//! Reading order:
//! - [`Item`]: what a log consists of, in the order in which a backup has it; an adapter gives it as [`Contents`], all of
//!   it as of one moment, and takes it back (`restore` of [`sqlite`](crate::sqlite) and [`postgres`](crate::postgres)).
//! - [`lines`]: an item as a line of JSON, and a digest over the lines. `docs/backups.md` describes them.
//! - [`files`]: the two files of a backup. One holds the log, where what is personal is ciphertext; the other holds the
//!   keys to it, so that the one can be kept when the other has to go.
//!
//! What is made from events (snapshots), and how far erasures were carried out, is not in a backup: the one is made
//! again, and a restored log is to be gone over again.

pub mod files;
pub mod lines;

use std::time::Duration;

use chrono::{DateTime, Utc};
use events::envelope::{Name, RecordedEvent, StreamId};
use thiserror::Error;
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::{
    batch_hash::{BatchRow, ChainCheck},
    log::{Fingerprint, LogError},
    subject_keys::SubjectKey,
};

/// One thing that a log holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// The first.
    Head(HeadItem),
    /// Behind it come its events.
    Batch(BatchRow),
    Event(RecordedEvent),
    Command(CommandItem),
    Claim(ClaimItem),
    /// Whose keys follow, and as of when: the first line of their file. A log itself does not give it.
    KeysHead(HeadItem),
    FingerprintKey([u8; 32]),
    /// `None` = the person was erased.
    SubjectKey(Uuid, Option<SubjectKey>),
    /// The last: nothing is missing before it. Whoever tells of a log may stop at any other item, and is not always heard
    /// to say why.
    Whole,
}

/// Which log it is, and where it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeadItem {
    pub source: Name,
    pub epoch: Uuid,
    pub position: u64,
    pub recorded_at: DateTime<Utc>,
}

/// What was answered to a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandItem {
    pub scope: Name,
    pub key: Name,
    pub fingerprint: Fingerprint,
    pub outcome: String,
    pub position: u64,
    pub recorded_at: DateTime<Utc>,
}

/// A name that a stream holds; in a sealed log the value is a keyed hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimItem {
    pub name: Name,
    pub value: Name,
    pub stream: StreamId,
}

/// What a log holds, as of one moment: some items at a time, and an error last if there is one.
pub type Contents = mpsc::Receiver<Result<Vec<Item>, LogError>>;

/// Items that travel together: as many as are worth a wake-up.
pub(crate) const CHUNK_ITEMS: usize = 512;
/// And their payloads: an item may be large.
pub(crate) const CHUNK_BYTES: usize = 1024 * 1024;
/// Chunks that wait for whoever reads them.
pub(crate) const CHUNKS_MAX: usize = 4;
/// How long a chunk is waited for to be taken: what is read is a snapshot, which must not be held for long.
pub(crate) const TAKE_MAX: Duration = Duration::from_secs(60);

/// Why there is no backup, or no log from it.
#[derive(Debug, Error)]
pub enum BackupError {
    #[error(transparent)]
    Log(#[from] LogError),
    #[error("{name}: {source}")]
    Io { name: String, source: std::io::Error },
    #[error("{name}, line {line}: {reason}")]
    Line { name: String, line: u64, reason: String },
    #[error("{name}: the digest of its lines is not the one at its end: it was changed or damaged")]
    Digest { name: String },
    #[error("{name}: it is cut off: its last line is missing")]
    CutOff { name: String },
    #[error(
        "{name}: the log was not told to its end: nothing of it was taken for {} s, or it went away; export it again",
        TAKE_MAX.as_secs()
    )]
    NotWhole { name: String },
    #[error("the log holds {position} events: it is replaced only if that is asked for")]
    NotEmpty { position: u64 },
    #[error("{0}")]
    Refused(String),
}

/// Items on their way to whoever reads them.
pub(crate) struct Chunks {
    to: mpsc::Sender<Result<Vec<Item>, LogError>>,
    items: Vec<Item>,
    bytes: usize,
    take_max: Duration,
}

/// Whoever read is gone, or too slow.
pub(crate) struct NotTaken;

impl Chunks {
    pub fn new() -> (Self, Contents) {
        Self::for_who_takes_within(TAKE_MAX)
    }

    fn for_who_takes_within(take_max: Duration) -> (Self, Contents) {
        let (to, contents) = mpsc::channel(CHUNKS_MAX);
        (Self { to, items: Vec::new(), bytes: 0, take_max }, contents)
    }

    pub async fn push(&mut self, item: Item) -> Result<(), NotTaken> {
        self.bytes += match &item {
            Item::Event(event) => event.payload.len() + event.metadata.len(),
            Item::Command(command) => command.outcome.len(),
            Item::Head(_)
            | Item::Batch(_)
            | Item::Claim(_)
            | Item::KeysHead(_)
            | Item::FingerprintKey(_)
            | Item::SubjectKey(..)
            | Item::Whole => 0,
        };
        self.items.push(item);
        if self.items.len() >= CHUNK_ITEMS || self.bytes >= CHUNK_BYTES { self.flush().await } else { Ok(()) }
    }

    /// Says that this was all.
    pub async fn whole(&mut self) -> Result<(), NotTaken> {
        self.items.push(Item::Whole);
        self.flush().await
    }

    async fn flush(&mut self) -> Result<(), NotTaken> {
        self.bytes = 0;
        let items = std::mem::take(&mut self.items);
        self.to.send_timeout(Ok(items), self.take_max).await.map_err(|_| NotTaken)
    }

    /// The last thing that is said.
    pub async fn fail(self, error: LogError) {
        // nobody may be left to hear it
        let _ = self.to.send_timeout(Err(error), self.take_max).await;
    }
}

/// Whether items are a log: in order, and with a hash chain that holds.
#[derive(Debug, Default)]
pub(crate) struct Soundness {
    head: Option<u64>,
    chain: ChainCheck,
    /// The batch whose events are being read, and those that were.
    open: Option<(BatchRow, Vec<RecordedEvent>)>,
}

impl Soundness {
    pub fn see(&mut self, item: &Item) -> Result<(), String> {
        match item {
            Item::Head(head) => self.head = Some(head.position),
            Item::Batch(batch) if self.open.is_none() => self.open = Some((batch.clone(), Vec::new())),
            Item::Event(event) => {
                let Some((batch, events)) = &mut self.open else { return Err("an event without a batch".to_owned()) };
                events.push(event.clone());
                if event.position >= batch.last {
                    self.chain.follow(batch, events).map_err(|verdict| format!("{verdict:?}"))?;
                    self.open = None;
                }
            }
            Item::Batch(_) => return Err("the batch before it is not whole".to_owned()),
            Item::Command(_) | Item::Claim(_) => self.whole()?,
            Item::KeysHead(_) | Item::FingerprintKey(_) | Item::SubjectKey(..) | Item::Whole => {}
        }
        Ok(())
    }

    /// Whether all events are there that the head speaks of.
    pub fn whole(&self) -> Result<(), String> {
        match self.head {
            Some(head) if head != self.chain.position => {
                Err(format!("its batches end at {}, but its head is {head}", self.chain.position))
            }
            _ => Ok(()),
        }
    }

    /// The hash of the last batch.
    pub fn hash(&self) -> [u8; 32] {
        self.chain.hash
    }
}

#[cfg(test)]
mod tests {
    use super::{files::BackupPaths, *};
    use crate::clock::time_of_us;

    /// A log without events, and so many answers that not all of them travel before somebody takes some.
    async fn tell(chunks: &mut Chunks) -> Result<(), NotTaken> {
        let (epoch, recorded_at) = (Uuid::nil(), time_of_us(0));
        chunks.push(Item::Head(HeadItem { source: "accounts".into(), epoch, position: 0, recorded_at })).await?;
        for n in 0..CHUNK_ITEMS * (CHUNKS_MAX + 2) {
            let (scope, key) = ("s".into(), n.to_string().into());
            let (fingerprint, outcome) = (Fingerprint([7; 32]), "{}".to_owned());
            chunks
                .push(Item::Command(CommandItem { scope, key, fingerprint, outcome, position: 0, recorded_at }))
                .await?;
        }
        chunks.push(Item::FingerprintKey([3; 32])).await?;
        chunks.whole().await
    }

    /// The log lets its snapshot go then, and cannot say so to somebody who takes nothing.
    #[tokio::test]
    async fn whoever_takes_nothing_for_long_gets_no_backup_that_looks_whole() {
        let dir = tempfile::tempdir().unwrap();
        let paths = BackupPaths::in_dir(dir.path(), "accounts");
        let (mut chunks, contents) = Chunks::for_who_takes_within(Duration::from_millis(20));
        assert!(tell(&mut chunks).await.is_err(), "nobody takes it");
        drop(chunks);
        let refused = files::write(contents, &paths, |_| {}).await.unwrap_err();
        assert!(matches!(refused, BackupError::NotWhole { .. }), "{refused}");
        assert!(std::fs::read_dir(dir.path()).unwrap().next().is_none(), "nothing is left");

        let (mut chunks, contents) = Chunks::new();
        let told = tokio::spawn(async move { tell(&mut chunks).await.is_ok() });
        let written = files::write(contents, &paths, |_| {}).await.unwrap();
        assert!(told.await.unwrap());
        assert_eq!(written.commands, (CHUNK_ITEMS * (CHUNKS_MAX + 2)) as u64);
    }
}
