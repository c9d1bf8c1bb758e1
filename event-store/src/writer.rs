//! Group commit: one task per process and store drains a bounded queue and commits many chains in one transaction.
//!
//! The task never dies with a request: a caller that goes away leaves its chain in the queue, and it is committed all
//! the same. An unknown outcome is settled here, by sending the same items with the same event ids again.

use std::{
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::FutureExt;
use measures::Entered;
use thiserror::Error;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    task::JoinHandle,
};

use crate::{
    limits::Limits,
    log::{AppendItem, AppendOutcome, Batch, BatchError, CommitError, Decision, EventLog, StoredOutcome, check_chain},
};

/// The bounds of one writer.
#[derive(Debug, Clone)]
pub struct WriterOptions {
    /// Chains waiting or under way. A full queue makes submitters wait.
    pub queue_chains_max: usize,
    /// Bytes of all chains waiting or under way; at least the largest chain.
    pub queue_bytes_max: usize,
    /// Items of one transaction: enough to hide a sync, few enough to keep the head lock short.
    pub batch_items_max: usize,
    /// Bytes of one transaction.
    pub batch_bytes_max: usize,
    /// How often one batch is sent, the first time included.
    pub sends_max: u32,
    /// The wait before the second sending; doubles up to `resend_wait_max`.
    pub resend_wait: Duration,
    pub resend_wait_max: Duration,
    pub limits: Limits,
}

impl Default for WriterOptions {
    fn default() -> Self {
        Self {
            queue_chains_max: 8_192,
            queue_bytes_max: 64 * 1024 * 1024,
            batch_items_max: 512,
            batch_bytes_max: 8 * 1024 * 1024,
            sends_max: 6,
            resend_wait: Duration::from_millis(50),
            resend_wait_max: Duration::from_secs(1),
            limits: Limits::default(),
        }
    }
}

/// The way into one log for everything that appends. Cheap to clone.
#[derive(Clone)]
pub struct Writer {
    inner: Arc<Inner>,
}

struct Inner {
    log: Arc<dyn EventLog>,
    options: WriterOptions,
    queue: mpsc::UnboundedSender<Message>,
    chains: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
    task: Mutex<Option<JoinHandle<()>>>,
}

enum Message {
    Append(Submission),
    Stop,
}

struct Submission {
    chain: Vec<AppendItem>,
    reply: mpsc::UnboundedSender<Vec<Settled>>,
    room: Room,
}

/// A place in the queue, until it is known what became of the chain.
struct Room {
    _taken: [OwnedSemaphorePermit; 2],
    _queued: [Entered; 2],
}

/// What became of a submitted chain: one outcome an item, in order.
#[derive(Debug)]
pub struct Settled {
    pub chain: Vec<AppendItem>,
    pub result: Result<Vec<AppendOutcome>, WriteError>,
}

/// Why a chain has no outcome.
#[derive(Debug, Clone, Error)]
pub enum WriteError {
    /// Certainly not committed.
    #[error("log unavailable: {0}")]
    Unavailable(String),
    /// Perhaps committed; sending the same keys again settles it.
    #[error("outcome unknown: {0}")]
    Unknown(String),
    /// The chain or the store is not what it should be.
    #[error("refused: {0}")]
    Refused(String),
    #[error("the writer has stopped")]
    Stopped,
}

impl From<BatchError> for WriteError {
    fn from(error: BatchError) -> Self {
        Self::Refused(error.to_string())
    }
}

impl Writer {
    pub fn start(log: Arc<dyn EventLog>, options: WriterOptions) -> Self {
        let (queue, received) = mpsc::unbounded_channel();
        let task = tokio::spawn(drain(Arc::clone(&log), options.clone(), received));
        Self {
            inner: Arc::new(Inner {
                chains: Arc::new(Semaphore::new(options.queue_chains_max)),
                bytes: Arc::new(Semaphore::new(options.queue_bytes_max.min(Semaphore::MAX_PERMITS))),
                log,
                options,
                queue,
                task: Mutex::new(Some(task)),
            }),
        }
    }

    pub fn log(&self) -> &Arc<dyn EventLog> {
        &self.inner.log
    }

    pub fn limits(&self) -> &Limits {
        &self.inner.options.limits
    }

    /// Puts a chain into the queue, waiting while the queue is full. `reply` gets what became of it.
    /// Cancelling the wait leaves nothing behind.
    pub async fn submit(
        &self,
        chain: Vec<AppendItem>,
        reply: mpsc::UnboundedSender<Vec<Settled>>,
    ) -> Result<(), WriteError> {
        check_chain(&chain, self.limits())?;
        let bytes = chain.iter().map(Limits::item_bytes).sum::<usize>().min(self.inner.options.queue_bytes_max);
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let stopped = |_| WriteError::Stopped;
        let figures = self.inner.log.figures();
        let queued = [figures.queued_chains.enter(), figures.queued_bytes.enter_with(bytes.into())];
        let taken = [
            Arc::clone(&self.inner.chains).acquire_owned().await.map_err(stopped)?,
            Arc::clone(&self.inner.bytes).acquire_many_owned(bytes).await.map_err(stopped)?,
        ];
        let submission = Submission { chain, reply, room: Room { _taken: taken, _queued: queued } };
        self.inner.queue.send(Message::Append(submission)).map_err(|_| WriteError::Stopped)
    }

    /// Appends one chain and waits for its outcomes. If the caller goes away, the chain is committed all the same.
    pub async fn append(&self, chain: Vec<AppendItem>) -> Result<Vec<AppendOutcome>, WriteError> {
        let (reply, mut settled) = mpsc::unbounded_channel();
        self.submit(chain, reply).await?;
        let settled = settled.recv().await.and_then(|mut settled| settled.pop()).ok_or(WriteError::Stopped)?;
        settled.result
    }

    /// Commits what is queued, takes nothing more, and waits for the task to end.
    pub async fn shutdown(&self) {
        let task = self.inner.task.lock().expect("the lock is held for a take only").take();
        if let Some(task) = task {
            // a task that is gone already has nothing left to drain
            let _ = self.inner.queue.send(Message::Stop);
            if let Err(error) = task.await {
                tracing::error!(%error, "the log writer ended badly");
            }
        }
        self.inner.chains.close();
        self.inner.bytes.close();
    }
}

async fn drain(log: Arc<dyn EventLog>, options: WriterOptions, mut queue: mpsc::UnboundedReceiver<Message>) {
    // what could not share the last batch, in order of arrival
    let mut deferred: Vec<Submission> = Vec::new();
    let mut received = Vec::new();
    let mut committed: Option<Committed> = None;
    loop {
        while received.len() < options.batch_items_max
            && let Ok(message) = queue.try_recv()
        {
            received.push(message);
        }
        if received.is_empty() && deferred.is_empty() {
            if let Some(committed) = committed.take() {
                committed.answer();
            }
            // nothing comes any more once the queue is closed and empty
            if queue.recv_many(&mut received, options.batch_items_max).await == 0 {
                return;
            }
        }
        for message in received.drain(..) {
            match message {
                Message::Append(submission) => deferred.push(submission),
                Message::Stop => queue.close(),
            }
        }
        if deferred.is_empty() {
            continue;
        }
        let (batch, members) = assemble(&mut deferred, &options);
        log.figures().batch_commands.add(batch.len());
        let batch = Arc::new(batch);
        let answering = async {
            if let Some(committed) = committed.take() {
                committed.answer();
            }
        };
        // the log is at work on this batch while those of the last one are answered
        let (result, ()) = tokio::join!(biased; commit_settled(&*log, &batch, &options), answering);
        committed = Some(Committed { batch, members, result });
    }
}

/// A batch whose outcomes are known, and those who wait for them.
struct Committed {
    batch: Arc<Batch>,
    members: Vec<Member>,
    result: Result<Vec<AppendOutcome>, WriteError>,
}

struct Member {
    reply: mpsc::UnboundedSender<Vec<Settled>>,
    _room: Room,
}

/// Takes from `waiting`, in order, what can be committed together.
fn assemble(waiting: &mut Vec<Submission>, options: &WriterOptions) -> (Batch, Vec<Member>) {
    let mut batch = Batch::default();
    let mut members = Vec::with_capacity(waiting.len());
    let mut left = Vec::new();
    for submission in waiting.drain(..) {
        let Submission { chain, reply, room } = submission;
        let full = !batch.is_empty()
            && (batch.len() + chain.len() > options.batch_items_max || batch.bytes() >= options.batch_bytes_max);
        let pushed = if full { Err(chain) } else { batch.push(chain) };
        match pushed {
            Ok(()) => members.push(Member { reply, _room: room }),
            Err(chain) => left.push(Submission { chain, reply, room }),
        }
    }
    *waiting = left;
    (batch, members)
}

/// Commits one batch, sending it again until its outcome is known or the bound on sendings is reached.
async fn commit_settled(
    log: &dyn EventLog,
    batch: &Arc<Batch>,
    options: &WriterOptions,
) -> Result<Vec<AppendOutcome>, WriteError> {
    let mut perhaps_committed = false;
    let mut wait = options.resend_wait;
    let mut sends = 0;
    loop {
        sends += 1;
        crate::failpoint!("writer.before_commit");
        // a panic of a log is our mistake, and no reason to leave everybody waiting for ever
        let committed = AssertUnwindSafe(log.commit(Arc::clone(batch))).catch_unwind().await;
        let error = match committed.unwrap_or_else(|_| Err(CommitError::Unknown("the log panicked".into()))) {
            Ok(outcomes) => {
                crate::failpoint!("writer.after_commit");
                assert_eq!(outcomes.len(), batch.len(), "a log answers every item of a batch");
                return Ok(if perhaps_committed { recognize(batch, outcomes) } else { outcomes });
            }
            // what a sending before this one may have committed is not taken back by a refusal of this one
            Err(CommitError::Refused(error)) if perhaps_committed => {
                return Err(WriteError::Unknown(error.to_string()));
            }
            Err(CommitError::Refused(error)) => return Err(WriteError::Refused(error.to_string())),
            Err(CommitError::Unavailable(error)) => error,
            Err(CommitError::Unknown(error)) => {
                perhaps_committed = true;
                error
            }
        };
        tracing::warn!(source = %log.source(), sends, perhaps_committed, %error, "a batch was not acknowledged");
        if sends >= options.sends_max {
            let error = error.to_string();
            return Err(if perhaps_committed { WriteError::Unknown(error) } else { WriteError::Unavailable(error) });
        }
        log.figures().resends.one_more();
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(options.resend_wait_max);
    }
}

/// After a resend, a duplicate that carries our own event id is our own first sending.
fn recognize(batch: &Batch, outcomes: Vec<AppendOutcome>) -> Vec<AppendOutcome> {
    let own = |item: &AppendItem, stored: &StoredOutcome| match item.events().last() {
        Some(event) => stored.event_id == Some(event.event_id),
        None => stored.fingerprint == item.command.fingerprint && stored.outcome == item.command.outcome,
    };
    let settle = |(item, outcome): (&AppendItem, AppendOutcome)| match outcome {
        AppendOutcome::Duplicate(stored) if own(item, &stored) => {
            let (version, position) = (item.version_after(), stored.position);
            match item.decision {
                Decision::Append(_) => AppendOutcome::Appended { version, position },
                Decision::Unchanged => AppendOutcome::Unchanged { version, position },
                Decision::Refused => AppendOutcome::Refused { version, position },
            }
        }
        other => other,
    };
    batch.items().iter().zip(outcomes).map(settle).collect()
}

impl Committed {
    /// Hands every chain its outcomes: one message for neighbours with the same reply channel.
    fn answer(self) {
        let Self { batch, members, result } = self;
        let sizes: Vec<usize> = (0..batch.chain_count()).map(|n| batch.chain_range(n).len()).collect();
        let mut items = match Arc::try_unwrap(batch) {
            Ok(batch) => batch.into_items(),
            Err(shared) => shared.items().to_vec(),
        }
        .into_iter();
        let mut result = result.map(Vec::into_iter);
        let mut together: Vec<Settled> = Vec::new();
        let mut channel: Option<mpsc::UnboundedSender<Vec<Settled>>> = None;
        for (member, size) in members.into_iter().zip(sizes) {
            let settled = Settled {
                chain: items.by_ref().take(size).collect(),
                result: match &mut result {
                    Ok(outcomes) => Ok(outcomes.by_ref().take(size).collect()),
                    Err(error) => Err(error.clone()),
                },
            };
            if let Some(last) = channel.take_if(|last| !last.same_channel(&member.reply)) {
                // a receiver that is gone does not want to know
                let _ = last.send(std::mem::take(&mut together));
            }
            channel = Some(member.reply);
            together.push(settled);
        }
        if let Some(last) = channel {
            let _ = last.send(together);
        }
    }
}
