//! A timer fires at least once and has its effect once: killed between its fire and its record, by two schedulers at once,
//! and after the end; on both databases.

use chrono::TimeDelta;
use events::saga::{Input, SagaEvent};
use uuid::Uuid;
use write_side::saga::Outcome;

use super::{
    support::{Home, until},
    trip::{DEADLINE, TripFact, TripStep},
    world::{Process, World, idle},
};

/// Beyond the deadline.
fn long() -> TimeDelta {
    TimeDelta::from_std(DEADLINE * 2).unwrap()
}

/// How often the story tells of the deadline.
async fn fired(world: &World, trip: Uuid) -> usize {
    let is_fire = |told: &_| match told {
        SagaEvent::Advanced(advanced) => matches!(advanced.input, Input::TimerFired { .. }),
        _ => false,
    };
    world.story(trip).await.iter().filter(|(_, told)| is_fire(told)).count()
}

/// A trip whose flight nobody answers for, and a process that is at it.
async fn under_way(world: &World) -> (Uuid, Process<1>) {
    let trip = Uuid::now_v7();
    world.agency.down("flights", true);
    let process = world.start::<1>().await;
    world.tell(trip, TripFact::Wished).await;
    process.reaches(trip, "a flight is asked for", |trip| trip.open().any(|(s, _)| s == TripStep::BookFlight)).await;
    idle_but_for(&process, 1).await;
    (trip, process)
}

/// Only the flight is being asked for, and the timer waits.
async fn idle_but_for(process: &Process<1>, asks: usize) {
    // the timer tells the flight from what was begun before it: they are noted together
    let is_so = || async {
        let open = process.reactor.open(100).await.unwrap();
        let timers = open.iter().filter(|duty| duty.timer).count();
        timers > 0 && open.len() - timers == asks
    };
    until("only the flight is asked for, and the timer waits", is_so).await;
}

async fn it_is_given_up_once(world: &World, process: &Process<1>, trip: Uuid, what: &str) {
    process.reaches(trip, what, |trip| matches!(trip.phase(), "Cancelling" | "Cancelled")).await;
    world.agency.down("flights", false);
    let outcome = process.ends(trip, what).await;
    assert_eq!(outcome, Outcome::Compensated { reason: "too late".to_owned() }, "{what}");
    idle(process, what).await;
    until("no timer is left", || async { process.reactor.open(100).await.unwrap().is_empty() }).await;
    assert_eq!(fired(world, trip).await, 1, "{what}");
    world.check(trip, &outcome, 1, what).await;
}

async fn killed_between_fire_and_record_it_fires_once(home: Home) {
    let world = World::new(home).await;
    let (trip, process) = under_way(&world).await;
    // nothing else can be done now but the timer
    world.agency.traps.arm("done trips");
    world.clock.jump(long());
    world.agency.traps.sprung("the timer has fired, and that is about to be recorded").await;
    assert_eq!(fired(&world, trip).await, 1);
    process.crash().await;

    let process = world.start::<1>().await;
    let timers = process.reactor.open(100).await.unwrap().iter().filter(|duty| duty.timer).count();
    assert!(timers <= 1);
    it_is_given_up_once(&world, &process, trip, "killed").await;
    process.shutdown().await;
}

#[tokio::test]
async fn in_sqlite_killed_between_fire_and_record_it_fires_once() {
    killed_between_fire_and_record_it_fires_once(Home::sqlite()).await;
}

#[tokio::test]
async fn in_postgres_killed_between_fire_and_record_it_fires_once() {
    killed_between_fire_and_record_it_fires_once(Home::postgres().await).await;
}

/// Each has the timer in a memory of its own, and neither knows of the other.
async fn two_schedulers_fire_once(home: Home) {
    let world = World::new(home.anew().await).await;
    let (trip, one) = under_way(&world).await;
    let forgetful = world.forgetful(home.anew().await);
    let other = forgetful.start::<1>().await;
    idle_but_for(&other, 1).await;
    world.clock.jump(long());
    it_is_given_up_once(&world, &one, trip, "the one").await;
    it_is_given_up_once(&world, &other, trip, "the other").await;
    one.shutdown().await;
    other.shutdown().await;
}

#[tokio::test]
async fn in_sqlite_two_schedulers_fire_once() {
    two_schedulers_fire_once(Home::sqlite()).await;
}

#[tokio::test]
async fn in_postgres_two_schedulers_fire_once() {
    two_schedulers_fire_once(Home::postgres().await).await;
}

async fn after_the_end_it_is_nothing(home: Home) {
    let world = World::new(home).await;
    let trip = Uuid::now_v7();
    let process = world.start::<1>().await;
    world.tell(trip, TripFact::Wished).await;
    assert_eq!(process.ends(trip, "it ends").await, Outcome::Completed);
    idle(&process, "all is done").await;
    let before = world.positions().await;
    world.clock.jump(long());
    until("no timer is left", || async { process.reactor.open(100).await.unwrap().is_empty() }).await;
    assert_eq!((world.positions().await, fired(&world, trip).await), (before, 0));
    process.shutdown().await;
}

#[tokio::test]
async fn in_sqlite_after_the_end_it_is_nothing() {
    after_the_end_it_is_nothing(Home::sqlite()).await;
}

#[tokio::test]
async fn in_postgres_after_the_end_it_is_nothing() {
    after_the_end_it_is_nothing(Home::postgres().await).await;
}
