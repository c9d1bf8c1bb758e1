//! The command bus: cqrs-es aggregates over the log, without cqrs-es' store.
//!
//! It returns version and position, re-decides conflicts (bounded), keeps hot aggregates in memory, and gives every
//! command one effect and one answer by its key. One task per aggregate type ([`actor`]) decides; commands on one stream
//! are decided one after another on the speculative state and travel to the [`Writer`] as a chain, while the chain of
//! the stream before it, if any, is still under way.

mod actor;
mod decide;
mod load;
mod outcome;
mod snapshots;

use std::{
    borrow::Cow,
    sync::{Arc, Mutex},
    time::Duration,
};

use cqrs_es::Aggregate;
use events::{
    Published,
    consistency::ConsistencyToken,
    envelope::{Metadata, Name, StreamId},
};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot},
    task::JoinHandle,
};
use uuid::Uuid;

use self::load::Begin;
pub use self::outcome::Outcome;
use crate::{
    limits::LimitError,
    log::{Claim, EventLog, Fingerprint, LogError},
    writer::Writer,
};

/// The bounds of one bus.
#[derive(Debug, Clone)]
pub struct BusOptions {
    /// Commands waiting or under way. Beyond it a command waits `admission_wait`, then is refused as `Overloaded`.
    pub commands_max: usize,
    pub admission_wait: Duration,
    /// The longest that a caller waits for an answer.
    pub answer_wait: Duration,
    /// Aggregates kept in memory.
    pub hot_aggregates_max: usize,
    /// Commands of one chain.
    pub chain_commands_max: usize,
    /// How often a command that lost against another writer is decided again.
    pub attempts_max: u32,
    /// Streams that are read from the log at once.
    pub loads_max: usize,
    /// A snapshot is kept whenever a stream has grown by so many events, and by an eighth of it once it is long; `None`: none
    /// is made or read.
    pub snapshot_every_events: Option<u64>,
    /// The aggregate's `handle` awaits its services (an adopted domain): every command is then handled once, on its own.
    /// Re-deciding would repeat its effects, so a conflict is the caller's to retry.
    pub handle_does_io: bool,
}

impl Default for BusOptions {
    fn default() -> Self {
        Self {
            commands_max: 4_096,
            admission_wait: Duration::from_secs(1),
            answer_wait: Duration::from_secs(30),
            hot_aggregates_max: 10_000,
            chain_commands_max: 64,
            attempts_max: 16,
            loads_max: 32,
            // folding so many takes about a millisecond, and a snapshot of each costs less than one event in a hundred
            snapshot_every_events: Some(200),
            handle_does_io: false,
        }
    }
}

/// Runs commands on aggregates of type `A`. Cheap to clone.
pub struct CommandBus<A: Domain> {
    inner: Arc<Inner<A>>,
}

impl<A: Domain> Clone for CommandBus<A> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

struct Inner<A: Domain> {
    writer: Writer,
    options: BusOptions,
    room: Arc<Semaphore>,
    mailbox: mpsc::UnboundedSender<Message<A>>,
    /// Where loads that answer nobody's command begin; only those that do keep snapshots.
    begin: Begin,
    task: Mutex<Option<JoinHandle<()>>>,
}

/// What the bus tells its task.
enum Message<A: Domain> {
    Execute(Box<Pending<A>>),
    /// The confirmed state in memory, if there is one: a place to start reading from.
    Peek(Name, oneshot::Sender<Option<Loaded<A>>>),
    /// No state that there is in memory now is kept or decided on any longer.
    Cool,
    Stop,
}

/// A command on its way through the bus.
struct Pending<A: Domain> {
    request: CommandRequest<A::Command>,
    reply: oneshot::Sender<Reply>,
    /// How often it lost against another writer.
    attempts: u32,
    /// Set once the log has answered `Taken`: what is stored and answered instead of the decision.
    refused: Option<Refusal>,
    /// Held for as long as it is under way.
    room: OwnedSemaphorePermit,
}

type Answer = Result<Executed, CommandError>;

enum Reply {
    Done(Answer),
    /// The same key is under way already: wait for its answer.
    Twin(oneshot::Receiver<Answer>),
}

impl<A: Domain> CommandBus<A> {
    pub fn start(writer: Writer, services: A::Services, options: BusOptions) -> Self {
        let (mailbox, messages) = mpsc::unbounded_channel();
        let (snapshots, keeping) = snapshots::start(Arc::clone(writer.log()), options.snapshot_every_events);
        let actor = actor::Actor::<A>::new(writer.clone(), services, options.clone(), messages, snapshots);
        let task = tokio::spawn(async move {
            actor.run().await;
            // it ends with the actor, who alone has anything to keep
            if let Err(error) = keeping.await {
                tracing::error!(%error, "the keeping of snapshots ended badly");
            }
        });
        Self {
            inner: Arc::new(Inner {
                begin: Begin::of(options.snapshot_every_events),
                room: Arc::new(Semaphore::new(options.commands_max)),
                writer,
                options,
                mailbox,
                task: Mutex::new(Some(task)),
            }),
        }
    }

    pub fn log(&self) -> &Arc<dyn EventLog> {
        self.inner.writer.log()
    }

    /// Decides and stores one command. If the caller goes away, the command goes on; its key tells what became of it.
    pub async fn execute(&self, request: CommandRequest<A::Command>) -> Answer {
        let figures = self.log().figures();
        let _under_way = figures.commands_under_way.enter();
        let answer = figures.command.of(self.answer(request)).await;
        figures.commands.one_more(Outcome::of(&answer));
        answer
    }

    async fn answer(&self, request: CommandRequest<A::Command>) -> Answer {
        let options = &self.inner.options;
        let overloaded = || CommandError::Overloaded { limit: options.commands_max };
        let room = match Arc::clone(&self.inner.room).try_acquire_owned() {
            Ok(room) => room,
            Err(_) => tokio::time::timeout(options.admission_wait, Arc::clone(&self.inner.room).acquire_owned())
                .await
                .map_err(|_| overloaded())?
                .map_err(|_| stopped())?,
        };
        let key = Arc::clone(&request.key);
        let (reply, answer) = oneshot::channel();
        let pending = Pending { request, reply, attempts: 0, refused: None, room };
        self.inner.mailbox.send(Message::Execute(Box::new(pending))).map_err(|_| stopped())?;
        let unknown = || CommandError::OutcomeUnknown { key: Arc::clone(&key) };
        match tokio::time::timeout(options.answer_wait, answer).await {
            Ok(Ok(Reply::Done(answer))) => answer,
            Ok(Ok(Reply::Twin(answer))) => match tokio::time::timeout(options.answer_wait, answer).await {
                Ok(answer) => replayed(answer.unwrap_or_else(|_| Err(unknown()))),
                Err(_) => Err(CommandError::KeyBusy),
            },
            Ok(Err(_)) | Err(_) => Err(unknown()),
        }
    }

    /// The aggregate's confirmed state, or `None` for a stream without events. Always checked against the log: another
    /// replica may have written.
    pub async fn load(&self, aggregate_id: &str) -> Result<Option<Loaded<A>>, LogError> {
        let (reply, peeked) = oneshot::channel();
        let hot = match self.inner.mailbox.send(Message::Peek(aggregate_id.into(), reply)) {
            Ok(()) => peeked.await.ok().flatten(),
            Err(_) => None,
        };
        let stream = StreamId::new(A::TYPE, aggregate_id);
        let (loaded, _) = load::catch_up(&**self.log(), &stream, hot.unwrap_or_default(), self.inner.begin).await?;
        Ok(Some(loaded).filter(|loaded| loaded.version > 0))
    }

    /// Forgets the aggregates in memory, so that they are read again: what was readable in them may be so no longer. One
    /// that a command is under way on is forgotten as soon as the log has answered.
    pub fn cool(&self) {
        // a task that is gone keeps nothing
        let _ = self.inner.mailbox.send(Message::Cool);
    }

    /// The token that makes a reader wait for what this command has done.
    pub fn token(&self, done: &Executed) -> ConsistencyToken {
        let identity = self.log().identity();
        ConsistencyToken::of(&identity.source, identity.epoch, done.position, done.event_id)
    }

    /// Answers what is under way, takes nothing more, and waits for the task to end. The writer stays open.
    pub async fn shutdown(&self) {
        self.inner.room.close();
        let task = self.inner.task.lock().expect("the lock is held for a take only").take();
        if let Some(task) = task {
            // a task that is gone already has nothing left to answer
            let _ = self.inner.mailbox.send(Message::Stop);
            if let Err(error) = task.await {
                tracing::error!(%error, "a command bus ended badly");
            }
        }
    }
}

/// What a twin has done, as the answer to another.
fn replayed(answer: Answer) -> Answer {
    let again = |done| Executed { replayed: true, ..done };
    match answer {
        Err(CommandError::Refused(refusal, done)) => Err(CommandError::Refused(refusal, again(done))),
        other => other.map(again),
    }
}

fn stopped() -> CommandError {
    CommandError::Unavailable("the service is shutting down".to_owned())
}

/// What the bus needs to know of a cqrs-es aggregate beyond its trait.
pub trait Domain:
    Aggregate<Command: Clone + Send + Sync + 'static, Event: Published + 'static, Error: Send, Services: 'static>
    + Clone
    + 'static
{
    /// Of the fold: whoever changes what `apply` makes of events, or the form of the state, counts on. A snapshot of
    /// another version is not read.
    const VERSION: u32 = 1;

    /// The names that `event`, decided on `self`, takes or gives back.
    fn claims(&self, event: &Self::Event) -> Vec<Claim> {
        let _ = event;
        Vec::new()
    }

    /// Whether this command normally starts a stream. It is then decided on an empty one without reading first; if the
    /// stream is there after all, the append says so and the command is decided again.
    fn creates(command: &Self::Command) -> bool {
        let _ = command;
        false
    }

    /// A refusal as it is stored and answered.
    fn refusal(error: &Self::Error) -> Refusal;

    /// What the answer to a command that was not refused says besides its version, read off the state behind it: for
    /// commands whose outcome is more than done. It is stored under the key, so a retry is told the same.
    fn report(&self, command: &Self::Command) -> Option<Report> {
        let _ = command;
        None
    }

    /// The refusal when another stream holds a name.
    fn taken(claim: &Claim) -> Refusal {
        Refusal::new(format!("{}_taken", claim.name), format!("this {} is taken", claim.name))
    }
}

/// What an answer says in the domain's own words.
pub type Report = Box<serde_json::Map<String, serde_json::Value>>;

/// A domain's no, in the form that is stored with the command's key and answered again on a retry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// Stable, snake_case; documented in `docs/errors.md`.
    pub code: Cow<'static, str>,
    /// One sentence with its numbers, without personal data.
    pub detail: String,
    /// What a program can use: limits, ids, versions.
    #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
    pub data: serde_json::Map<String, serde_json::Value>,
}

impl Refusal {
    pub fn new(code: impl Into<Cow<'static, str>>, detail: impl Into<String>) -> Self {
        Self { code: code.into(), detail: detail.into(), data: serde_json::Map::new() }
    }

    pub fn with(mut self, name: &str, value: impl Into<serde_json::Value>) -> Self {
        self.data.insert(name.to_owned(), value.into());
        self
    }
}

/// A command on its way to one aggregate.
#[derive(Debug, Clone)]
pub struct CommandRequest<C> {
    pub aggregate_id: Name,
    pub command: C,
    /// (service, principal, route) in one text.
    pub scope: Name,
    /// The client's `Idempotency-Key`, or one made for it.
    pub key: Name,
    pub fingerprint: Fingerprint,
    /// The version the client has seen (`If-Match`); `None` = whichever it is.
    pub expected_version: Option<u64>,
    /// Goes onto every event of this command.
    pub metadata: Metadata,
}

/// A command that is done, durably.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Executed {
    /// Whether it appended events now or at its first run; `false` = it was already so.
    pub changed: bool,
    /// The stream's version behind it.
    pub version: u64,
    /// Position of the stream's last event, and that event: the consistency token's point.
    pub position: u64,
    pub event_id: Option<Uuid>,
    /// The answer of an earlier run with the same key.
    pub replayed: bool,
    /// What the domain says of it ([`Domain::report`]).
    pub report: Option<Report>,
}

/// Why a command has no effect, or none that is known.
#[derive(Debug, Clone, Error)]
pub enum CommandError {
    /// The domain says no; stored under the key.
    #[error("{}", .0.detail)]
    Refused(Refusal, Executed),
    /// `expected_version` is not the stream's version.
    #[error("the stream is at version {actual}, not {expected}")]
    VersionMismatch { expected: u64, actual: u64 },
    /// Other writers were faster, time after time.
    #[error("gave up after {attempts} attempts: the stream is written by others all the time")]
    Contended { attempts: u32 },
    /// The key was used with another route or body.
    #[error("this idempotency key was used for another request")]
    KeyReused,
    /// The same command is under way elsewhere and did not end in time.
    #[error("a command with this idempotency key is still under way")]
    KeyBusy,
    #[error("the command queue is full ({limit} commands)")]
    Overloaded { limit: usize },
    #[error(transparent)]
    Limit(#[from] LimitError),
    /// Retry with the same key: it settles what happened.
    #[error("whether the command took effect is unknown; retry with idempotency key {key}")]
    OutcomeUnknown { key: Name },
    #[error("log unavailable: {0}")]
    Unavailable(String),
    /// Our bug.
    #[error("{0}")]
    Internal(String),
}

/// An aggregate's own confirmed state.
#[derive(Debug, Clone, Default)]
pub struct Loaded<A> {
    pub state: A,
    pub version: u64,
    pub position: u64,
    pub event_id: Option<Uuid>,
}
