//! The index says of every instance what its log says: late perhaps, and again whenever it is made anew.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use event_store::{
    bus::{BusOptions, CommandBus, CommandRequest},
    clock::SystemClock,
    feed::{Cursor, Feed, PageLimit},
    follower::FollowerStore,
    log::{EventLog, Fingerprint},
    memory::MemoryLog,
    writer::{Writer, WriterOptions},
};
use events::{
    envelope::{Metadata, Name, RecordedEvent},
    saga::Decision,
};
use testkit::follower_kit::{soon, store_contract::StoreHarness};
use uuid::Uuid;
use write_side::saga::{
    Definition, Saga, SagaCommand, SagaDesk, SagaHandle, SagaIndex, Word,
    index::{
        self, Filter, Standing,
        store::{IndexStore, Rows},
    },
    plain::StepName,
    saga_id,
};

use super::{
    support::{Home, until},
    trip::{Trip, TripFact, TripIds, TripStep},
    world::{Process, World, id},
};

const ALL: usize = 100;

fn stuck() -> Filter {
    Filter { stuck: true, ..Filter::default() }
}

async fn follow(world: &World, process: &Process<1>, home: &Home) -> SagaIndex {
    let feed = Arc::clone(&world.log) as Arc<dyn Feed>;
    SagaIndex::start(&home.replica(), process.handle.clone(), feed).await.unwrap()
}

async fn up_to_date(index: &SagaIndex) {
    soon("the index is up to date", index.follower().caught_up()).await.unwrap();
}

/// One trip that is under way to its end, one that is undone, and one whose ticket cannot be sent.
async fn trips(world: &World) -> (Process<1>, [Uuid; 3]) {
    let [travelling, undone, waiting] = [Uuid::now_v7(), Uuid::now_v7(), Uuid::now_v7()];
    let process = world.start::<1>().await;
    world.tell(travelling, TripFact::Wished).await;
    process.ends(travelling, "one travels").await;
    world.agency.unwilling("bank/pay", true);
    world.tell(undone, TripFact::Wished).await;
    process.ends(undone, "one is undone").await;
    world.agency.unwilling("bank/pay", false);
    world.agency.down("post", true);
    world.tell(waiting, TripFact::Wished).await;
    process.reaches(waiting, "one is stuck", |trip| trip.stuck().count() == 1).await;
    (process, [travelling, undone, waiting])
}

async fn what_the_index_says_is_what_the_log_says(home: Home) {
    let world = World::new(home.anew().await).await;
    let (process, [travelling, undone, waiting]) = trips(&world).await;
    let here = home.anew().await;
    let index = follow(&world, &process, &here).await;
    up_to_date(&index).await;

    let all = index.list(Filter::default(), ALL).await.unwrap();
    let ids: Vec<Uuid> = all.iter().map(|row| row.saga_id).collect();
    assert_eq!(ids, [waiting, undone, travelling].map(id), "what changed last comes first");
    let said = stuck_at(&world, waiting).await;
    for (row, trip) in all.iter().zip([waiting, undone, travelling]) {
        let instance = process.trip(trip).await.unwrap();
        assert_eq!(*row, Standing::of(&instance, |_| Some(said)));
        assert_eq!(row.ids, serde_json::json!({ "trip_id": trip }));
    }
    let outcomes: Vec<Option<&str>> = all.iter().map(|row| row.outcome.as_deref()).collect();
    assert_eq!(outcomes, [None, Some("compensated: Pay refused"), Some("completed")]);

    let found = index.list(stuck(), ALL).await.unwrap();
    assert_eq!(found, all[..1]);
    let step = &found[0].stuck[0];
    assert_eq!((step.step.0.as_str(), step.since, found[0].stuck_steps), ("send_ticket", said, 1));
    assert!(step.reason.starts_with("post: "), "{}", step.reason);
    let of = |phase: &str| Filter { phase: Some(phase.to_owned()), ..Filter::default() };
    assert_eq!(index.list(of("Cancelled"), ALL).await.unwrap(), all[1..2]);
    assert_eq!(index.list(of("Swimming"), ALL).await.unwrap(), []);
    assert_eq!(index.list(Filter { stuck: true, ..of("Travelling") }, ALL).await.unwrap(), []);
    assert_eq!(index.list(Filter::default(), 2).await.unwrap(), all[..2]);
    let tally = index.tally(Utc::now()).await.unwrap();
    let one = |phase: &str| (phase.to_owned(), 1);
    assert_eq!(tally.phases, [one("AwaitingTicket"), one("Cancelled"), one("Travelling")]);
    assert_eq!((tally.stuck, tally.oldest_started_at), (1, Some(all[0].started_at)));

    // it heals by itself, and the index hears of it
    world.agency.down("post", false);
    process.ends(waiting, "the last one travels").await;
    until("nothing is stuck", || async { index.tally(Utc::now()).await.unwrap().stuck == 0 }).await;
    up_to_date(&index).await;
    let tally = index.tally(Utc::now()).await.unwrap();
    assert_eq!((tally.stuck, tally.oldest_started_at), (0, None));
    assert_eq!(index.list(stuck(), ALL).await.unwrap(), []);
    index.shutdown().await;
    process.shutdown().await;
}

/// When the log says that the ticket of a trip is stuck.
async fn stuck_at(world: &World, trip: Uuid) -> DateTime<Utc> {
    let story = world.story(trip).await;
    let said = story.iter().rev().find_map(|(_, told)| match told {
        events::saga::SagaEvent::Stuck(stuck) if stuck.step == TripStep::SendTicket => Some(stuck.at),
        _ => None,
    });
    said.unwrap()
}

async fn deleted_it_fills_itself_again(home: Home) {
    let world = World::new(home.anew().await).await;
    let live = home.anew().await;
    let process = world.start::<1>().await;
    let index = follow(&world, &process, &live).await;
    up_to_date(&index).await;
    process.shutdown().await;
    let (process, _) = trips(&world).await;
    index.shutdown().await;

    // it goes on where it was, and whoever starts with nothing comes to the same
    let again = follow(&world, &process, &live).await;
    let anew = follow(&world, &process, &home.anew().await).await;
    up_to_date(&again).await;
    up_to_date(&anew).await;
    let rows = again.list(Filter::default(), ALL).await.unwrap();
    assert_eq!(rows.len(), 3);
    assert_eq!(rows, anew.list(Filter::default(), ALL).await.unwrap());
    assert_eq!(again.tally(Utc::now()).await.unwrap(), anew.tally(Utc::now()).await.unwrap());
    again.shutdown().await;
    anew.shutdown().await;
    process.shutdown().await;
}

/// As after a restored backup: what the log does not hold any more is not listed any more.
async fn what_an_older_log_does_not_hold_is_forgotten(home: Home) {
    let here = home.anew().await;
    let lost = World::new(home.anew().await).await;
    let (process, _) = trips(&lost).await;
    let index = follow(&lost, &process, &here).await;
    up_to_date(&index).await;
    index.shutdown().await;
    process.shutdown().await;

    let world = World::new(home.anew().await).await;
    let process = world.start::<1>().await;
    let trip = Uuid::now_v7();
    world.tell(trip, TripFact::Wished).await;
    process.ends(trip, "it travels").await;
    let index = follow(&world, &process, &here).await;
    up_to_date(&index).await;
    let rows = index.list(Filter::default(), ALL).await.unwrap();
    assert_eq!(rows.iter().map(|row| row.saga_id).collect::<Vec<_>>(), [id(trip)]);
    index.shutdown().await;
    process.shutdown().await;
}

/// A step that was decided about by hand is no longer stuck, and neither is one that heals and sticks again since before.
async fn since_when_a_step_is_stuck_is_told_of_the_last_time(home: Home) {
    let world = World::new(home.anew().await).await;
    let (process, [_, _, waiting]) = trips(&world).await;
    let index = follow(&world, &process, &home.anew().await).await;
    up_to_date(&index).await;
    let first = index.list(stuck(), ALL).await.unwrap()[0].stuck_since.unwrap();
    world.clock.jump(TimeDelta::seconds(60));
    let word = Word { decision: Decision::Retry, reason: "they called".to_owned(), by: "staff-7".to_owned() };
    let desk: &dyn SagaDesk = &process.handle;
    desk.decide(id(waiting), "send_ticket", word).await.unwrap();
    until("it is stuck again", || async {
        let rows = index.list(stuck(), ALL).await.unwrap();
        rows.first().and_then(|row| row.stuck_since).is_some_and(|since| since - first > TimeDelta::seconds(50))
    })
    .await;
    assert_eq!(index.list(stuck(), ALL).await.unwrap()[0].stuck_since, Some(stuck_at(&world, waiting).await));
    index.shutdown().await;
    process.shutdown().await;
}

#[test]
fn a_step_is_named_as_people_type_it() {
    assert_eq!(StepName::of(&TripStep::SendTicket).0, "send_ticket");
    let tagged = serde_json::json!({ "refund": 2 });
    assert_eq!(StepName::of(&tagged).0, r#"{"refund":2}"#);
    assert_eq!(write_side::saga::handle::step_of::<TripStep>(&StepName::of(&TripStep::Pay).0), Some(TripStep::Pay));
}

/// Three trips, each wished for and called off.
struct Harness {
    home: Home,
    handle: SagaHandle<Trip<1>>,
    events: Vec<RecordedEvent>,
    _writer: Writer,
}

impl Harness {
    async fn new(home: Home) -> Self {
        let log = MemoryLog::new("trips");
        let writer = Writer::start(Arc::clone(&log) as Arc<dyn EventLog>, WriterOptions::default());
        let bus = CommandBus::<Saga<Trip<1>>>::start(writer.clone(), (), BusOptions::default());
        for fact in [TripFact::Wished, TripFact::CalledOff] {
            for n in 1..=3 {
                let ids = TripIds { trip_id: Uuid::from_u128(n) };
                let at = DateTime::UNIX_EPOCH;
                let id = saga_id(Trip::<1>::NAME, &Trip::<1>::key(&ids)).to_string();
                let key = format!("{fact:?} {n}");
                let request = CommandRequest {
                    aggregate_id: id.into(),
                    fingerprint: Fingerprint::of(log.identity(), "trip", key.as_bytes()),
                    command: SagaCommand::Observe { ids, fact: fact.clone(), at, deadline_at: at },
                    scope: "a test".into(),
                    key: key.into(),
                    expected_version: None,
                    metadata: Metadata::default(),
                };
                assert!(bus.execute(request).await.unwrap().changed);
            }
        }
        let page = log.page(Cursor::START, PageLimit::default(), Duration::ZERO).await.unwrap();
        let handle = SagaHandle { bus, clock: SystemClock::shared(), feeds: [].into(), deadline: Duration::ZERO };
        Self { home, handle, events: page.events, _writer: writer }
    }

    async fn rows(&self) -> Arc<dyn Rows> {
        index::open(&self.home.replica()).await.unwrap()
    }
}

#[async_trait]
impl StoreHarness for Harness {
    async fn open(&self) -> Arc<dyn FollowerStore> {
        Arc::new(IndexStore { rows: self.rows().await, handle: self.handle.clone() })
    }

    fn events(&self) -> (Name, Vec<RecordedEvent>) {
        ("trips".into(), self.events.clone())
    }

    async fn state(&self) -> String {
        format!("{:?}", self.rows().await.list(Filter::default(), ALL).await.unwrap())
    }
}

macro_rules! on_both {
    ($($test:ident,)+) => {
        mod sqlite {
            use super::{Harness, Home};

            testkit::follower_store_laws! { Harness::new(Home::sqlite()).await;
                a_step_moves_state_and_checkpoint_together,
                a_step_that_was_applied_is_not_applied_again,
                a_step_from_elsewhere_changes_nothing,
                the_fence_shuts_out_every_earlier_holder,
                the_holders_beat_is_seen_by_the_others_and_nobody_elses_is,
                a_step_without_events_moves_only_the_checkpoint,
                an_empty_log_has_a_checkpoint_with_its_epoch,
                events_that_wait_without_a_parked_stream_are_answered_as_moved,
                what_was_applied_is_there_for_the_next_handle,
            }
            $(#[tokio::test]
            async fn $test() {
                super::$test(Home::sqlite()).await;
            })+
        }

        mod postgres {
            use super::{Harness, Home};

            testkit::follower_store_laws! { Harness::new(Home::postgres().await).await;
                a_step_moves_state_and_checkpoint_together,
                a_step_that_was_applied_is_not_applied_again,
                a_step_from_elsewhere_changes_nothing,
                the_fence_shuts_out_every_earlier_holder,
                the_holders_beat_is_seen_by_the_others_and_nobody_elses_is,
                a_step_without_events_moves_only_the_checkpoint,
                an_empty_log_has_a_checkpoint_with_its_epoch,
                events_that_wait_without_a_parked_stream_are_answered_as_moved,
                what_was_applied_is_there_for_the_next_handle,
            }
            $(#[tokio::test]
            async fn $test() {
                super::$test(Home::postgres().await).await;
            })+
        }
    };
}

on_both! {
    what_the_index_says_is_what_the_log_says,
    deleted_it_fills_itself_again,
    what_an_older_log_does_not_hold_is_forgotten,
    since_when_a_step_is_stuck_is_told_of_the_last_time,
}
