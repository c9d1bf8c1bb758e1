//! A trip's service as a process has it: log, bus and dispatcher on a database, the travellers' feed, and the agency.
//! What is on disk outlives what runs.

use std::{sync::Arc, time::Duration};

use event_store::{
    bus::{BusOptions, CommandBus},
    clock::Clock,
    feed::{Cursor, Feed, PageLimit},
    follower::Backoff,
    log::EventLog,
    memory::MemoryLog,
    postgres::{PostgresLog, PostgresOptions},
    sqlite::{SqliteLog, SqliteOptions},
    writer::{Writer, WriterOptions},
};
use events::{
    envelope::{RecordedEvent, StreamId},
    saga::{Effect, Input, SagaEvent},
};
use testkit::{follower_kit::options as follower_options, jumping_clock::JumpingClock, postgres::fresh_database};
use uuid::Uuid;
use write_side::{
    reactor::{Reactor, ReactorOptions, decode},
    saga::{Definition, Happened, Instance, Outcome, Saga, SagaHandle, dispatcher::Dispatcher, saga_id},
};

use super::{
    agency::Agency,
    support::{Home, TrappedDuties, tell, until},
    trip::{DEADLINE, Told, Trip, TripEvent, TripFact, TripStep, WISHES, WishEvent},
};

/// What outlives a process.
pub struct World {
    pub agency: Arc<Agency>,
    pub wishes: Arc<MemoryLog>,
    pub clock: Arc<JumpingClock>,
    pub log: Arc<dyn EventLog>,
    /// Of each dispatcher that is started; `None` = who loses the fence stops.
    pub lease: Option<Duration>,
    home: Home,
}

/// A process of version V.
pub struct Process<const V: u32> {
    pub handle: SagaHandle<Trip<V>>,
    pub reactor: Reactor,
    writer: Writer,
}

impl World {
    pub async fn new(home: Home) -> Self {
        let clock = Arc::new(JumpingClock::default());
        let log: Arc<dyn EventLog> = match &home {
            Home::Sqlite(folder) => {
                let options = SqliteOptions { clock: Arc::clone(&clock) as _, ..SqliteOptions::default() };
                SqliteLog::open(&folder.path().join("trips.db"), "trips", options).unwrap()
            }
            Home::Postgres(_) => {
                let url = fresh_database("trips").await;
                PostgresLog::connect(&url, "trips", PostgresOptions::default()).await.unwrap()
            }
        };
        Self { agency: Arc::default(), wishes: MemoryLog::new(WISHES), clock, log, lease: None, home }
    }

    /// The same with another, empty memory of what is to be done.
    pub fn forgetful(&self, home: Home) -> Self {
        let (agency, wishes) = (Arc::clone(&self.agency), Arc::clone(&self.wishes));
        let (clock, log, lease) = (Arc::clone(&self.clock), Arc::clone(&self.log), self.lease);
        Self { agency, wishes, clock, log, lease, home }
    }

    pub async fn start<const V: u32>(&self) -> Process<V> {
        let writer = Writer::start(Arc::clone(&self.log), WriterOptions::default());
        let bus = CommandBus::<Saga<Trip<V>>>::start(writer.clone(), (), BusOptions::default());
        let clock = Arc::clone(&self.clock) as Arc<dyn Clock>;
        let dispatcher = Dispatcher::new(bus.clone(), self.agency.peers(), DEADLINE, Arc::clone(&clock));
        let traps = Arc::clone(&self.agency.traps);
        let duties = Arc::new(TrappedDuties { duties: self.home.duties().await, traps });
        let options = ReactorOptions {
            in_flight_max: 64,
            backoff: Trip::<V>::PACE.backoff,
            hindered_wait: Duration::from_millis(5),
            look_every: Duration::from_millis(20),
            follower: event_store::follower::FollowerOptions {
                backoff: Backoff { first: Duration::from_millis(1), max: Duration::from_millis(10) },
                fence_check: Duration::from_millis(20),
                lease: self.lease,
                ..follower_options()
            },
            clock: Arc::clone(&clock),
            ..ReactorOptions::default()
        };
        let feeds = vec![Arc::clone(&self.log) as Arc<dyn Feed>, Arc::clone(&self.wishes) as _];
        let own = ("trips", self.log.identity().epoch);
        let reactor = Reactor::start(Arc::new(dispatcher), duties, own, feeds, options).await.unwrap();
        let others = vec![Arc::clone(&self.wishes) as Arc<dyn Feed>].into();
        Process { handle: SagaHandle { bus, clock, feeds: others, deadline: DEADLINE }, reactor, writer }
    }

    /// A traveller says something.
    pub async fn tell(&self, trip_id: Uuid, fact: TripFact) {
        tell(&self.wishes, "wish", trip_id, &WishEvent::from(Told { trip_id, fact })).await;
    }

    /// Everything that the log holds of a trip.
    pub async fn story(&self, trip: Uuid) -> Vec<(RecordedEvent, Happened<Trip<1>>)> {
        let stream = StreamId::new("trip", id(trip).to_string());
        let events = self.log.read_stream(&stream, 0, 1_000).await.unwrap();
        events.into_iter().map(|event| (event.clone(), decode::<TripEvent>(&event).unwrap().into())).collect()
    }

    pub async fn positions(&self) -> u64 {
        self.log.page(Cursor::START, PageLimit::events(1), Duration::ZERO).await.unwrap().head.position
    }

    /// What must hold of a trip that has ended, whatever happened on the way.
    pub async fn check(&self, trip: Uuid, outcome: &Outcome, version: u32, what: &str) {
        let has = self.agency.has(trip);
        let story = self.story(trip).await;
        match outcome {
            Outcome::Completed => assert_eq!(has, (true, true, 1, 1), "{what}"),
            Outcome::Compensated { .. } => assert_eq!(has, (false, false, 0, 0), "{what}"),
        }
        let insured = if version >= 2 && *outcome == Outcome::Completed { 1 } else { 0 };
        assert_eq!(self.agency.done(trip, "insurers/insure"), insured, "{what}");
        let ends = story.iter().filter(|(_, told)| is_end(told)).count();
        assert_eq!(ends, 1, "{what}");
        // each effect was answered once at most, and nothing was asked for twice unless it was refused
        let mut replied: Vec<_> = story
            .iter()
            .filter_map(|(_, told)| match told {
                SagaEvent::Advanced(advanced) => match &advanced.input {
                    Input::Replied { effect, .. } => Some(*effect),
                    Input::Observed { .. } | Input::TimerFired { .. } => None,
                },
                _ => None,
            })
            .collect();
        let count = replied.len();
        replied.dedup();
        assert_eq!(replied.len(), count, "{what}");
    }
}

pub fn is_end<I, S, F>(event: &SagaEvent<I, S, F>) -> bool {
    matches!(event, SagaEvent::Completed(_) | SagaEvent::Compensated(_))
}

/// The steps that a story asks for, in order.
pub fn asked(story: &[(RecordedEvent, Happened<Trip<1>>)]) -> Vec<TripStep> {
    let effects = |told: &Happened<Trip<1>>| match told {
        SagaEvent::Started(started) => started.effects.clone(),
        SagaEvent::Advanced(advanced) => advanced.effects.clone(),
        SagaEvent::Decided(decided) => decided.effects.clone(),
        SagaEvent::Stuck(_) | SagaEvent::Completed(_) | SagaEvent::Compensated(_) => Vec::new(),
    };
    let step = |effect| match effect {
        Effect::Ask { step, .. } => Some(step),
        Effect::Wake { .. } => None,
    };
    story.iter().flat_map(|(_, told)| effects(told)).filter_map(step).collect()
}

impl<const V: u32> Process<V> {
    pub async fn trip(&self, trip: Uuid) -> Option<Instance<Trip<V>>> {
        self.handle.load(id(trip)).await.unwrap()
    }

    /// Waits until a trip is so.
    pub async fn reaches(&self, trip: Uuid, what: &str, is_there: impl Fn(&Instance<Trip<V>>) -> bool) {
        until(what, || async { self.trip(trip).await.is_some_and(|instance| is_there(&instance)) }).await;
    }

    pub async fn ends(&self, trip: Uuid, what: &str) -> Outcome {
        self.reaches(trip, what, |instance| instance.outcome().is_some()).await;
        self.trip(trip).await.unwrap().outcome().unwrap()
    }

    pub async fn shutdown(self) {
        self.reactor.shutdown().await;
        self.handle.bus.shutdown().await;
        self.writer.shutdown().await;
    }

    /// As SIGKILL would, as far as that is possible within a process.
    pub async fn crash(self) {
        self.reactor.abort().await;
    }
}

pub fn id(trip: Uuid) -> Uuid {
    saga_id("trip", &trip.to_string())
}

/// Waits until nothing is left to do but wait for times to come.
pub async fn idle<const V: u32>(process: &Process<V>, what: &str) {
    until(what, || async { process.reactor.open(1_000).await.unwrap().iter().all(|duty| duty.timer) }).await;
}
