//! Whatever crashes, a trip ends whole or undone, and nothing is done twice; on both databases.

use event_store::follower::StopReason;
use futures::future::join_all;
use testkit::follower_kit::soon;
use uuid::Uuid;
use write_side::{
    edge::{Edge, Routes},
    saga::{self, Outcome, Saga, SagaHandle, SagaOptions},
    service::Given,
};

use super::{
    support::{Home, until},
    trip::{Trip, TripFact, TripStep},
    world::{World, asked, id, idle},
};

/// On the way there, and on the way back.
const THERE: [&str; 4] = ["hotels/book", "flights/book", "bank/pay", "post/send"];
const BACK: [&str; 2] = ["flights/cancel", "hotels/cancel"];

/// Before a command is sent, after it was done, after its answer was recorded, and before what that obliges to is noted.
const PLACES: [&str; 4] = ["before the act", "after the act", "done trips", "note trips"];

fn compensated(reason: &str) -> Outcome {
    Outcome::Compensated { reason: reason.to_owned() }
}

async fn whatever_crashes_it_ends_whole_or_undone_and_once(home: Home) {
    for (steps, unwilling) in [(&THERE[..], None), (&BACK[..], Some("bank/pay"))] {
        for (step, place) in steps.iter().flat_map(|step| PLACES.map(|place| (*step, place))) {
            let is_last = Some(&step) == steps.last();
            if is_last && place == "note trips" {
                // nothing is to be done after it
                continue;
            }
            let case = format!("{step}: {place}");
            let world = World::new(home.anew().await).await;
            if let Some(path) = unwilling {
                world.agency.unwilling(path, true);
            }
            let trip = Uuid::now_v7();
            let process = world.start::<1>().await;
            world.agency.arm(step, place);
            world.tell(trip, TripFact::Wished).await;
            world.agency.traps.sprung(&case).await;
            process.crash().await;

            let process = world.start::<1>().await;
            let outcome = process.ends(trip, &case).await;
            let expected = unwilling.map_or(Outcome::Completed, |_| compensated("Pay refused"));
            assert_eq!(outcome, expected, "{case}");
            idle(&process, &case).await;
            world.check(trip, &outcome, 1, &case).await;
            for step in steps {
                let (times, keys) = world.agency.asked(trip, step);
                assert!(times <= 2 && keys == 1, "{case}: {step} {times} times with {keys} keys");
                assert_eq!(world.agency.done(trip, step), 1, "{case}");
            }
            process.shutdown().await;

            // as after a restored checkpoint: it knows nothing and reads everything
            let before = (world.positions().await, world.agency.requests());
            let forgetful = world.forgetful(home.anew().await);
            let process = forgetful.start::<1>().await;
            process.reactor.follower().caught_up().await.unwrap();
            idle(&process, &case).await;
            process.shutdown().await;
            assert_eq!((world.positions().await, world.agency.requests()), before, "{case}");
        }
    }
}

#[tokio::test]
async fn in_sqlite_whatever_crashes_it_ends_whole_or_undone_and_once() {
    whatever_crashes_it_ends_whole_or_undone_and_once(Home::sqlite()).await;
}

#[tokio::test]
async fn in_postgres_whatever_crashes_it_ends_whole_or_undone_and_once() {
    whatever_crashes_it_ends_whole_or_undone_and_once(Home::postgres().await).await;
}

/// The older one is frozen in the middle of a payment, before or after it is made, for longer than it takes the younger
/// one to take over and end the trip. Then it goes on.
async fn of_two_dispatchers_the_frozen_one_doubles_nothing(home: Home) {
    for place in ["before the act", "after the act"] {
        let world = World::new(home.anew().await).await;
        let trip = Uuid::now_v7();
        let older = world.start::<1>().await;
        world.agency.hold("bank/pay", place);
        world.tell(trip, TripFact::Wished).await;
        world.agency.holds(1).await;
        world.agency.hold_no_more();

        let younger = world.start::<1>().await;
        assert_eq!(younger.ends(trip, place).await, Outcome::Completed);
        idle(&younger, place).await;
        let before = world.positions().await;
        world.agency.let_go();
        world.agency.holds(0).await;
        assert_eq!(soon("it stops", older.reactor.follower().stopped()).await, StopReason::Fenced);
        older.shutdown().await;
        younger.shutdown().await;
        assert_eq!(world.positions().await, before, "{place}: what it says is known");
        assert_eq!(world.agency.asked(trip, "bank/pay"), (2, 1), "{place}");
        world.check(trip, &Outcome::Completed, 1, place).await;
    }
}

#[tokio::test]
async fn in_sqlite_a_frozen_dispatcher_doubles_nothing() {
    of_two_dispatchers_the_frozen_one_doubles_nothing(Home::sqlite()).await;
}

#[tokio::test]
async fn in_postgres_a_frozen_dispatcher_doubles_nothing() {
    of_two_dispatchers_the_frozen_one_doubles_nothing(Home::postgres().await).await;
}

/// Many at once, some of which are refused or called off, with a crash in the middle.
async fn many_at_once_all_end(home: Home) {
    let world = World::new(home).await;
    let trips: Vec<Uuid> = (0..60).map(|_| Uuid::now_v7()).collect();
    let process = world.start::<2>().await;
    for (n, trip) in trips.iter().enumerate() {
        world.tell(*trip, TripFact::Wished).await;
        if n % 7 == 0 {
            world.tell(*trip, TripFact::CalledOff).await;
        }
        if n == 30 {
            world.agency.unwilling("flights/book", true);
        }
    }
    process.crash().await;
    let process = world.start::<2>().await;
    let outcomes = join_all(trips.iter().map(|trip| process.ends(*trip, "it ends"))).await;
    idle(&process, "all is done").await;
    for (trip, outcome) in trips.iter().zip(&outcomes) {
        world.check(*trip, outcome, 2, &outcome.to_string()).await;
    }
    assert!(outcomes.contains(&compensated("BookFlight refused")), "{outcomes:?}");
    process.shutdown().await;
}

#[tokio::test]
async fn in_sqlite_many_at_once_all_end() {
    many_at_once_all_end(Home::sqlite()).await;
}

#[tokio::test]
async fn in_postgres_many_at_once_all_end() {
    many_at_once_all_end(Home::postgres().await).await;
}

#[tokio::test]
async fn what_nobody_wished_for_starts_nothing_and_costs_no_commit() {
    let world = World::new(Home::sqlite()).await;
    let process = world.start::<1>().await;
    let (stranger, trip) = (Uuid::now_v7(), Uuid::now_v7());
    world.tell(stranger, TripFact::CalledOff).await;
    world.tell(trip, TripFact::Wished).await;
    process.ends(trip, "the other one ends").await;
    idle(&process, "all is done").await;
    assert_eq!(process.trip(stranger).await, None);
    let story = world.story(trip).await;
    assert_eq!(world.positions().await, story.len() as u64);
    assert_eq!(asked(&story), [TripStep::BookHotel, TripStep::BookFlight, TripStep::Pay, TripStep::SendTicket]);
    process.shutdown().await;
}

#[tokio::test]
async fn a_story_tells_what_caused_what() {
    let world = World::new(Home::sqlite()).await;
    let process = world.start::<1>().await;
    let trip = Uuid::now_v7();
    world.tell(trip, TripFact::Wished).await;
    process.ends(trip, "it ends").await;
    let story = world.story(trip).await;
    let causes: Vec<_> = story.iter().map(|(event, _)| event.metadata().unwrap().causation_id.unwrap()).collect();
    let wish = &super::support::told(&world.wishes).await[0];
    assert_eq!(causes[0], wish.event_id.to_string());
    // an answer is caused by the event that asked
    assert_eq!(causes[1], story[0].0.event_id.to_string());
    assert!(story.iter().all(|(event, _)| event.metadata().unwrap().actor.as_deref() == Some("trip")));
    process.shutdown().await;
}

#[tokio::test]
async fn a_whole_service_runs_it() {
    let world = World::new(Home::sqlite()).await;
    let given =
        Given { feeds: vec![world.wishes.clone() as _], peers: world.agency.peers(), ..Given::new(world.log.clone()) };
    let routes = |_: SagaHandle<Trip<1>>, _: Edge<Saga<Trip<1>>>| Routes::of("trips", "Trips.");
    let service = saga::start("trips", "trips", given, SagaOptions::default(), routes).await.unwrap();
    let trip = Uuid::now_v7();
    world.tell(trip, TripFact::Wished).await;
    let desk = service.saga.clone().unwrap();
    until("it ends", || async {
        desk.view(id(trip)).await.unwrap().is_some_and(|view| view["outcome"] == "completed")
    })
    .await;
    let view = desk.view(id(trip)).await.unwrap().unwrap();
    assert_eq!((view["phase"].as_str(), view["waits_for"].as_array().map(Vec::len)), (Some("Travelling"), Some(0)));
    assert_eq!(desk.story(id(trip)).await.unwrap().len(), world.story(trip).await.len());
    service.shutdown().await;
}
