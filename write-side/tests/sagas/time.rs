//! Clocks jump, timers come twice and services are down for a while: late, never early, never wrong, and it heals.

use std::time::Duration;

use chrono::TimeDelta;
use uuid::Uuid;
use write_side::saga::Outcome;

use super::{
    support::{Home, until},
    trip::{TripFact, TripStep},
    world::{World, idle},
};

const HOUR: TimeDelta = TimeDelta::hours(1);

/// Longer than anything that is about to happen needs.
async fn a_moment() {
    tokio::time::sleep(Duration::from_millis(150)).await;
}

async fn the_deadline_comes_late_rather_than_early(home: Home) {
    let world = World::new(home).await;
    let trip = Uuid::now_v7();
    world.agency.down("flights", true);
    let process = world.start::<1>().await;
    world.tell(trip, TripFact::Wished).await;
    process.reaches(trip, "a flight is asked for", |trip| trip.open().any(|(s, _)| s == TripStep::BookFlight)).await;
    world.clock.jump(-HOUR);
    a_moment().await;
    world.clock.jump(TimeDelta::minutes(74));
    a_moment().await;
    assert!(process.trip(trip).await.unwrap().deadline.is_some(), "fourteen minutes are not fifteen");
    // over a restart, and with two of them at it
    let other = world.start::<1>().await;
    world.clock.jump(HOUR);
    other.reaches(trip, "it gives up", |trip| trip.phase() == "Cancelling").await;
    world.agency.down("flights", false);
    let outcome = other.ends(trip, "it is undone").await;
    assert_eq!(outcome, Outcome::Compensated { reason: "too late".to_owned() });
    idle(&other, "all is done").await;
    world.check(trip, &outcome, 1, "given up").await;
    process.shutdown().await;
    other.shutdown().await;
}

#[tokio::test]
async fn in_sqlite_the_deadline_comes_late_rather_than_early() {
    the_deadline_comes_late_rather_than_early(Home::sqlite()).await;
}

#[tokio::test]
async fn in_postgres_the_deadline_comes_late_rather_than_early() {
    the_deadline_comes_late_rather_than_early(Home::postgres().await).await;
}

/// What is under way goes on through both jumps, and what is paid is not given up however late it becomes.
async fn clocks_that_jump_stop_nothing(home: Home) {
    for jump in [HOUR, -HOUR] {
        let world = World::new(home.anew().await).await;
        let (early, late) = (Uuid::now_v7(), Uuid::now_v7());
        world.agency.down("post", true);
        let process = world.start::<1>().await;
        world.tell(early, TripFact::Wished).await;
        process.reaches(early, "it is paid", |trip| trip.phase() == "AwaitingTicket").await;
        world.clock.jump(jump);
        world.tell(late, TripFact::Wished).await;
        process.reaches(late, "it is paid", |trip| trip.phase() == "AwaitingTicket").await;
        world.agency.down("post", false);
        for trip in [early, late] {
            let outcome = process.ends(trip, "it ends").await;
            idle(&process, "all is done").await;
            assert_eq!(outcome, Outcome::Completed);
            world.check(trip, &outcome, 1, "a jump").await;
        }
        process.shutdown().await;
    }
}

#[tokio::test]
async fn in_sqlite_clocks_that_jump_stop_nothing() {
    clocks_that_jump_stop_nothing(Home::sqlite()).await;
}

#[tokio::test]
async fn in_postgres_clocks_that_jump_stop_nothing() {
    clocks_that_jump_stop_nothing(Home::postgres().await).await;
}

/// Answers 500 for a while: it is seen to be stuck, is asked under the same key all the time, and heals by itself.
async fn who_is_down_for_a_while_is_seen_and_heals(home: Home) {
    for (service, path, step) in
        [("hotels", "hotels/book", TripStep::BookHotel), ("post", "post/send", TripStep::SendTicket)]
    {
        let world = World::new(home.anew().await).await;
        let trip = Uuid::now_v7();
        world.agency.down(service, true);
        let process = world.start::<1>().await;
        world.tell(trip, TripFact::Wished).await;
        process.reaches(trip, "it is stuck", |trip| trip.stuck().any(|(stuck, ..)| stuck == step)).await;
        let stuck = process.trip(trip).await.unwrap();
        let (_, asked, reason) = stuck.stuck().next().unwrap();
        assert_eq!((asked.refusals, reason), (0, format!("{service}: it answers 500 internal").as_str()));
        assert_eq!(stuck.outcome(), None);
        // and asked for all the while, over a restart
        let before = world.agency.asked(trip, path).0;
        process.crash().await;
        let process = world.start::<1>().await;
        until("it goes on asking", || async { world.agency.asked(trip, path).0 > before + 2 }).await;
        world.agency.down(service, false);
        assert_eq!(process.ends(trip, "it heals").await, Outcome::Completed);
        idle(&process, "all is done").await;
        assert_eq!(process.trip(trip).await.unwrap().stuck().count(), 0);
        assert_eq!(world.agency.asked(trip, path).1, 1, "one key");
        let kinds: Vec<_> = world.story(trip).await.into_iter().map(|(event, _)| event.event_type).collect();
        assert_eq!(kinds.iter().filter(|kind| ***kind == *"TripStuck").count(), 1, "said once: {kinds:?}");
        world.check(trip, &Outcome::Completed, 1, service).await;
        process.shutdown().await;
    }
}

#[tokio::test]
async fn in_sqlite_who_is_down_for_a_while_is_seen_and_heals() {
    who_is_down_for_a_while_is_seen_and_heals(Home::sqlite()).await;
}

#[tokio::test]
async fn in_postgres_who_is_down_for_a_while_is_seen_and_heals() {
    who_is_down_for_a_while_is_seen_and_heals(Home::postgres().await).await;
}

/// A refused undo is asked for again under a new key each time, is stuck at the bound, and heals.
async fn a_refused_undo_is_never_taken_for_done(home: Home) {
    let world = World::new(home).await;
    let trip = Uuid::now_v7();
    world.agency.unwilling("bank/pay", true);
    world.agency.unwilling("hotels/cancel", true);
    let process = world.start::<1>().await;
    world.tell(trip, TripFact::Wished).await;
    process.reaches(trip, "it is stuck", |trip| trip.stuck().count() == 1).await;
    let stuck = process.trip(trip).await.unwrap();
    assert_eq!((stuck.phase(), stuck.outcome()), ("Cancelling", None));
    assert_eq!(world.agency.has(trip), (true, false, 0, 0));
    world.agency.unwilling("hotels/cancel", false);
    let outcome = process.ends(trip, "it heals").await;
    assert_eq!(outcome, Outcome::Compensated { reason: "Pay refused".to_owned() });
    idle(&process, "all is done").await;
    let (times, keys) = world.agency.asked(trip, "hotels/cancel");
    assert!(times == keys && keys > 3, "{times} times with {keys} keys");
    world.check(trip, &outcome, 1, "refused").await;
    process.shutdown().await;
}

#[tokio::test]
async fn in_sqlite_a_refused_undo_is_never_taken_for_done() {
    a_refused_undo_is_never_taken_for_done(Home::sqlite()).await;
}

#[tokio::test]
async fn in_postgres_a_refused_undo_is_never_taken_for_done() {
    a_refused_undo_is_never_taken_for_done(Home::postgres().await).await;
}
