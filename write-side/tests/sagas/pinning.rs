//! An instance keeps the version that it was started with, and what instances of every version have lived through is
//! read for ever.

use std::path::{Path, PathBuf};

use cqrs_es::Aggregate;
use event_store::bus::Domain;
use events::Published;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;
use write_side::saga::{Outcome, Saga};

use super::{
    support::Home,
    trip::{Trip, TripEvent, TripFact, TripStep},
    world::{World, asked, idle},
};

/// The traveller's trip is under way while the service is replaced by its next version.
#[tokio::test]
async fn an_instance_keeps_the_version_it_was_started_with() {
    let world = World::new(Home::sqlite()).await;
    let (old, new) = (Uuid::now_v7(), Uuid::now_v7());
    world.agency.down("flights", true);
    let process = world.start::<1>().await;
    world.tell(old, TripFact::Wished).await;
    process
        .reaches(old, "the flight is asked for", |trip| trip.open().any(|(step, _)| step == TripStep::BookFlight))
        .await;
    process.shutdown().await;

    let process = world.start::<2>().await;
    world.tell(new, TripFact::Wished).await;
    world.agency.down("flights", false);
    for (trip, version) in [(old, 1), (new, 2)] {
        assert_eq!(process.ends(trip, "it ends").await, Outcome::Completed);
        idle(&process, "all is done").await;
        assert_eq!(process.trip(trip).await.unwrap().version, version);
        world.check(trip, &Outcome::Completed, version, "pinned").await;
    }
    assert!(!asked(&world.story(old).await).contains(&TripStep::Insure));
    assert_eq!(asked(&world.story(new).await)[..2], [TripStep::BookHotel, TripStep::BookFlight], "both at once");
    process.shutdown().await;
}

/// A history as it was recorded once, and what it came to.
#[derive(Serialize, Deserialize)]
struct Recorded {
    version: u32,
    events: Vec<(String, String, Value)>,
    /// After each event, for ever.
    phases: Vec<String>,
    /// For as long as this is the `VERSION` of the fold: a snapshot of it would have this state.
    fold: u32,
    state: Value,
}

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sagas/histories")
}

fn fold(recorded: &Recorded) -> (Vec<String>, Value) {
    let mut saga = Saga::<Trip<2>>::default();
    let mut phases = Vec::new();
    for (event_type, event_version, payload) in &recorded.events {
        let event = TripEvent::decode(event_type, event_version, &payload.to_string());
        saga.apply(event.unwrap_or_else(|error| panic!("{error}")));
        phases.push(saga.known().unwrap().phase().to_owned());
    }
    assert_eq!(saga.known().unwrap().version, recorded.version);
    (phases, serde_json::to_value(&saga).unwrap())
}

const FOLD: u32 = <Saga<Trip<2>> as Domain>::VERSION;

/// Histories of both versions, recorded when they were the newest. Add to them; never change one.
#[test]
fn recorded_histories_of_every_version_lead_where_they_led() {
    let mut versions = Vec::new();
    for file in std::fs::read_dir(corpus()).unwrap() {
        let file = file.unwrap().path();
        let recorded: Recorded = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
        let (phases, state) = fold(&recorded);
        assert_eq!(phases, recorded.phases, "{}", file.display());
        let is_same = recorded.fold != FOLD || state == recorded.state;
        assert!(is_same, "{}: the state is another; count the definition's FOLD on\n{state}", file.display());
        versions.push(recorded.version);
    }
    versions.sort_unstable();
    assert_eq!(versions, [1, 1, 2, 2], "a whole and an undone one of each version");
}

/// Adds to the corpus what is not in it, when it is asked to: what is committed is what instances really lived through.
#[tokio::test]
async fn histories_are_recorded_as_they_are_lived() {
    for version in [1, 2] {
        for (name, unwilling) in [("completed", None), ("compensated", Some("bank/pay"))] {
            let world = World::new(Home::sqlite()).await;
            unwilling.into_iter().for_each(|path| world.agency.unwilling(path, true));
            let trip = Uuid::from_u128(1);
            match version {
                1 => lived::<1>(&world, trip).await,
                _ => lived::<2>(&world, trip).await,
            }
            let events: Vec<_> = world
                .story(trip)
                .await
                .into_iter()
                .map(|(event, _)| {
                    let payload = serde_json::from_str(&event.payload).unwrap();
                    (event.event_type.to_string(), event.event_version.to_string(), payload)
                })
                .collect();
            let mut recorded = Recorded { version, events, phases: Vec::new(), fold: FOLD, state: Value::Null };
            (recorded.phases, recorded.state) = fold(&recorded);
            assert_eq!(recorded.phases.last().unwrap(), if unwilling.is_some() { "Cancelled" } else { "Travelling" });
            let file = corpus().join(format!("v{version}-{name}.json"));
            if std::env::var_os("TRIBUTARY_REFRESH").is_some() && !file.exists() {
                let text = serde_json::to_string_pretty(&recorded).unwrap();
                std::fs::write(file, text + "\n").unwrap();
            }
        }
    }
}

async fn lived<const V: u32>(world: &World, trip: Uuid) {
    let process = world.start::<V>().await;
    world.tell(trip, TripFact::Wished).await;
    process.ends(trip, "it ends").await;
    process.shutdown().await;
}
