//! A reactor: a follower with effects outside its own database.
//!
//! It follows its own feed from the first event and foreign ones from their heads, so that it never acts on a history
//! it was not there for. What an event obliges it to do becomes a **duty**, noted in the transaction that moves the
//! checkpoint; a runner does duties that are due, one after another for each lane (a stream, unless the reaction says
//! otherwise), many lanes at once, and again with backoff until the [`Reaction`] says that they are done.
//!
//! Of several processes on one database one acts: the others stand by, and take over when it has fallen silent.
//!
//! So whatever crashes, a duty is done at least once, and the rest is the reaction's: it acts under [`Due::key`], which
//! is made from the event and therefore the same each time, and before it acts it looks whether the result is recorded
//! already. A restart, a follower that starts over, a restored checkpoint or an import then sends nothing twice. A feed
//! that lost what was read here stands still (`feed_regressed`), and its duties with it.
//!
//! Reading order: [`duty`] (what is kept), [`runner`] (how it is done), [`store`] (how events become duties),
//! [`sqlite`] and [`postgres`].

pub mod duty;
pub mod postgres;
mod runner;
pub mod sqlite;
pub mod store;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use event_store::{
    clock::{Clock, SystemClock},
    feed::{Cursor, Feed, PageLimit},
    follower::{Backoff, Follower, FollowerHandle, FollowerOptions, Reject, StartAt, StoreError},
};
use events::{
    DecodeError, Published,
    envelope::{Metadata, Name, RecordedEvent},
};
use measures::{Counts, Kind};
use tokio::{task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use self::{
    duty::{Duties, Duty},
    postgres::PostgresDuties,
    runner::Runner,
    sqlite::SqliteDuties,
    store::DutyStore,
};
use crate::{orders::replica::ReplicaHome, progress::following, service::StartError};

/// Under which keys are made from events.
const KEY_NAMESPACE: Uuid = Uuid::from_u128(0x1d5c_9d0f_52c6_4e4e_8f1b_0b6c_7a51_90e3);

/// How long a start waits until the place where each source begins is stored. What is recorded before that is history,
/// so a service does not take commands earlier if it can help it.
const BEGIN_WAIT_MAX: Duration = Duration::from_secs(5);

/// How long a follower may take to end.
const SHUTDOWN_WAIT_MAX: Duration = Duration::from_secs(5);

/// What is done about events, and about which.
#[async_trait]
pub trait Reaction: Send + Sync + 'static {
    /// For keys, status and logs: never changes.
    fn name(&self) -> &'static str;

    /// Whether and when something is to be done about an event of `source`. Pure.
    fn wants(&self, source: &str, event: &RecordedEvent) -> Result<Wanted, Reject>;

    /// Does it, or looks that it is done. Called until the answer is [`Acted::Done`], and then perhaps once more, by
    /// another process too. May be dropped at any await.
    async fn act(&self, due: &Due) -> Acted;
}

/// When something is to be done about an event, and how much.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    Nothing,
    Now,
    At(DateTime<Utc>),
    /// Several things, each by itself.
    Parts(Vec<Part>),
}

/// One of several things that an event obliges to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The same for the same thing whenever the event is read.
    pub part: u16,
    /// What it waits in line with; those of one lane are done one after another.
    pub lane: String,
    /// `None` = now.
    pub at: Option<DateTime<Utc>>,
    /// It waits for that time itself, however far it is, and counts as nothing that is not done. Else it is only put off:
    /// a clock that goes back makes no such wait longer than the longest backoff.
    pub timer: bool,
}

/// A duty whose time has come, with its event.
#[derive(Debug, Clone)]
pub struct Due {
    pub source: Name,
    pub event: RecordedEvent,
    /// Which of the things that the event obliges to: 0, unless the reaction wanted [`Wanted::Parts`].
    pub part: u16,
    /// The idempotency key of everything that is done about it.
    pub key: Uuid,
    /// Which attempt this is, from 1.
    pub attempt: u32,
    /// What time it is.
    pub now: DateTime<Utc>,
}

impl Due {
    /// What goes onto the events that come of it.
    pub fn metadata(&self, actor: &str) -> Metadata {
        // an event whose metadata cannot be read belongs to no conversation
        let Metadata { correlation_id, traceparent, .. } = self.event.metadata().unwrap_or_default();
        Metadata {
            correlation_id,
            causation_id: Some(self.event.event_id.to_string()),
            command_id: Some(self.key.to_string()),
            actor: Some(actor.to_owned()),
            traceparent,
            occurred_at: None,
        }
    }
}

/// What became of a duty. Reasons are stored and shown: they hold nothing personal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Acted {
    Done,
    /// It failed; the next attempt comes after a backoff. How many there are is the reaction's to say.
    Failed(String),
    /// It could not be tried, for a reason of our own: no attempt was spent.
    Hindered(String),
    /// Not yet.
    NotBefore(DateTime<Utc>),
}

/// How attempts end, in few words, to be counted.
#[derive(Debug, Clone, Copy)]
pub enum Attempt {
    Done,
    Failed,
    Hindered,
    PutOff,
}

impl From<&Acted> for Attempt {
    fn from(acted: &Acted) -> Self {
        match acted {
            Acted::Done => Self::Done,
            Acted::Failed(_) => Self::Failed,
            Acted::Hindered(_) => Self::Hindered,
            Acted::NotBefore(_) => Self::PutOff,
        }
    }
}

impl Kind for Attempt {
    const ALL: &'static [Self] = &[Self::Done, Self::Failed, Self::Hindered, Self::PutOff];

    fn index(self) -> usize {
        self as usize
    }

    fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Hindered => "hindered",
            Self::PutOff => "put_off",
        }
    }
}

/// The key of what the reactor `name` does about an event.
pub fn key_of(name: &str, event_id: Uuid) -> Uuid {
    Uuid::new_v5(&KEY_NAMESPACE, format!("{name}|{event_id}").as_bytes())
}

/// The same for one of several things.
pub fn key_of_part(name: &str, event_id: Uuid, part: u16) -> Uuid {
    match part {
        0 => key_of(name, event_id),
        part => Uuid::new_v5(&KEY_NAMESPACE, format!("{name}|{event_id}|{part}").as_bytes()),
    }
}

/// Reads an event of our own language, as [`Reaction::wants`] answers if it cannot.
pub fn decode<E: Published>(event: &RecordedEvent) -> Result<E, Reject> {
    E::decode(&event.event_type, &event.event_version, &event.payload).map_err(|error| match error {
        DecodeError::UnknownType { .. } => Reject::UnknownEventType,
        DecodeError::Payload { .. } => Reject::Poison(error.to_string()),
    })
}

/// The bounds of one reactor.
#[derive(Debug, Clone)]
pub struct ReactorOptions {
    /// Duties that are done at once: each may wait for somebody else's server.
    pub in_flight_max: usize,
    /// Duties that are noted and not done, timers apart. Beyond it the follower waits, and the feeds keep what is behind.
    pub open_max: usize,
    /// After a failed attempt.
    pub backoff: Backoff,
    /// After an attempt that could not be made.
    pub hindered_wait: Duration,
    /// How often the runner looks when nothing wakes it: clocks jump.
    pub look_every: Duration,
    pub follower: FollowerOptions,
    pub clock: Arc<dyn Clock>,
}

impl Default for ReactorOptions {
    fn default() -> Self {
        Self {
            in_flight_max: 16,
            open_max: 10_000,
            backoff: Backoff { first: Duration::from_millis(250), max: Duration::from_secs(60) },
            hindered_wait: Duration::from_secs(1),
            look_every: Duration::from_secs(1),
            follower: following(),
            clock: SystemClock::shared(),
        }
    }
}

/// A running reactor.
pub struct Reactor {
    follower: FollowerHandle,
    duties: Arc<dyn Duties>,
    attempts: Arc<Counts<Attempt>>,
    stop: CancellationToken,
    runner: tokio::sync::Mutex<Option<JoinHandle<()>>>,
}

impl Reactor {
    /// Starts following `feeds`, of which `own` is the service's. Its epoch is that of `own_epoch`.
    pub async fn start(
        reaction: Arc<dyn Reaction>,
        duties: Arc<dyn Duties>,
        own: (&str, Uuid),
        feeds: Vec<Arc<dyn Feed>>,
        options: ReactorOptions,
    ) -> Result<Self, StartError> {
        let name = reaction.name();
        let failed = |error: StoreError| StartError::new(name, error.to_string());
        // its own history is also its memory: what is done already is seen there, and what is not must be done
        duties.begin(own.0, own.1).await.map_err(failed)?;
        let following = FollowerOptions {
            start_at: StartAt::Head,
            parked_streams_max: 0,
            clock: Arc::clone(&options.clock),
            ..options.follower.clone()
        };
        let stop = CancellationToken::new();
        let store = Arc::new(DutyStore::new(Arc::clone(&reaction), Arc::clone(&duties), options.clone()));
        let runner = Runner::new(reaction, Arc::clone(&store), feeds.clone(), options, stop.clone());
        let attempts = runner.attempts();
        let sources: BTreeSet<Name> = feeds.iter().map(|feed| feed.source().clone()).collect();
        let follower = Follower::start(name, feeds, store, following);
        let runner = tokio::spawn(runner.run());
        let mut status = follower.watch();
        let begun = status.wait_for(|status| sources.iter().all(|source| !status.vector.get(source).epoch.is_nil()));
        if timeout(BEGIN_WAIT_MAX, begun).await.is_err() {
            tracing::warn!(reactor = name, "a feed does not answer: it is followed from its head at the time it does");
        }
        Ok(Self { follower, duties, attempts, stop, runner: tokio::sync::Mutex::new(Some(runner)) })
    }

    /// Status, lag and halts, for who operates it.
    pub fn follower(&self) -> &FollowerHandle {
        &self.follower
    }

    /// What became of what it has tried.
    pub fn attempts(&self) -> &Counts<Attempt> {
        &self.attempts
    }

    /// At most `limit` duties that are not done, those that failed most often first.
    pub async fn open(&self, limit: usize) -> Result<Vec<Duty>, StoreError> {
        self.duties.open(limit).await
    }

    /// Takes no new duty, lets those under way end within a bound, and ends.
    pub async fn shutdown(&self) {
        self.stop.cancel();
        self.follower.shutdown(SHUTDOWN_WAIT_MAX).await;
        if let Some(runner) = self.runner.lock().await.take()
            && let Err(error) = runner.await
        {
            tracing::error!(%error, "a reactor's runner ended badly");
        }
    }

    /// Ends at once, as a crash would: what is under way is done or not.
    pub async fn abort(&self) {
        if let Some(runner) = self.runner.lock().await.take() {
            runner.abort();
            let _ = runner.await;
        }
        self.follower.abort().await;
    }
}

/// Opens the place where a reactor keeps its checkpoint and duties.
pub async fn open(what: &'static str, home: &ReplicaHome) -> Result<Arc<dyn Duties>, StartError> {
    let failed = |error: &dyn std::fmt::Display| StartError::new(what, error.to_string());
    let path = match home {
        ReplicaHome::Sqlite(path) => Some(path.clone()),
        ReplicaHome::Memory => None,
        ReplicaHome::Postgres(database) => {
            return Ok(Arc::new(PostgresDuties::connect(database).await.map_err(|error| failed(&error))?));
        }
    };
    let duties = tokio::task::spawn_blocking(move || SqliteDuties::open(path.as_deref())).await;
    Ok(Arc::new(duties.map_err(|error| failed(&error))?.map_err(|error| failed(&error))?))
}

/// The event of a duty, read again: duties hold no payloads.
async fn event_of(feed: &dyn Feed, duty: &Duty) -> Result<RecordedEvent, String> {
    let before = Cursor { position: duty.id.position.saturating_sub(1), event_id: None };
    let page = feed.page(before, PageLimit::events(1), Duration::ZERO).await.map_err(|error| error.to_string())?;
    let event = page.events.into_iter().next().filter(|event| event.event_id == duty.event_id);
    event.ok_or_else(|| {
        format!("the log of {} holds another event at position {} than before", duty.id.source, duty.id.position)
    })
}
