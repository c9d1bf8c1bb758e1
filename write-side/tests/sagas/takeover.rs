//! Of several dispatchers one acts and the others stand by: whoever is silent for a lease is replaced, comes back to stand
//! by, and replaces the other in turn. Nothing is done twice; on both databases.

use std::time::Duration;

use event_store::follower::Status;
use testkit::follower_kit::soon;
use uuid::Uuid;
use write_side::saga::Outcome;

use super::{
    support::Home,
    trip::TripFact,
    world::{Process, World, idle},
};

/// Short for the test's sake. A machine that is out of breath for so long costs a hand-over, which is nothing wrong.
const LEASE: Duration = Duration::from_millis(600);

async fn is(process: &Process<1>, what: &str, is_so: impl FnMut(&Status) -> bool) {
    soon(what, process.reactor.follower().watch().wait_for(is_so)).await.unwrap();
}

async fn the_trip_ends(world: &World, process: &Process<1>, trip: Uuid, what: &str) {
    assert_eq!(process.ends(trip, what).await, Outcome::Completed);
    idle(process, what).await;
    world.check(trip, &Outcome::Completed, 1, what).await;
}

/// The first is frozen in the middle of a payment, before or after it is made; nobody starts anything, and the second
/// goes on. Then the first wakes up, and the second is killed.
async fn two_dispatchers_replace_each_other_and_double_nothing(home: Home) {
    for place in ["before the act", "after the act"] {
        let mut world = World::new(home.anew().await).await;
        world.lease = Some(LEASE);
        let second = world.start::<1>().await;
        let first = world.start::<1>().await;
        is(&second, "the second stands by", |status| status.standing_by).await;

        let trip = Uuid::now_v7();
        world.agency.hold("bank/pay", place);
        world.tell(trip, TripFact::Wished).await;
        world.agency.holds(1).await;
        world.agency.hold_no_more();
        // its heart stops, too
        world.agency.traps.arm("beat");
        world.agency.traps.sprung("the first is silent").await;
        is(&second, "the second takes over", |status| status.fence.is_some()).await;
        the_trip_ends(&world, &second, trip, place).await;
        let before = world.positions().await;

        world.agency.let_go();
        world.agency.holds(0).await;
        is(&first, "the first stands by", |status| status.standing_by).await;
        assert_eq!(world.positions().await, before, "{place}: what it says is known");
        assert_eq!(world.agency.asked(trip, "bank/pay"), (2, 1), "{place}");

        // one that begins under the second, which dies, and goes on under the first
        let next = Uuid::now_v7();
        world.agency.arm("flights/book", "after the act");
        world.tell(next, TripFact::Wished).await;
        world.agency.traps.sprung("the second is at it").await;
        second.crash().await;
        is(&first, "the first takes over again", |status| status.fence.is_some()).await;
        the_trip_ends(&world, &first, next, place).await;
        assert_eq!(world.agency.done(next, "flights/book"), 1, "{place}");
        assert_eq!(world.agency.asked(next, "flights/book"), (2, 1), "{place}");
        world.check(trip, &Outcome::Completed, 1, place).await;
        first.shutdown().await;
    }
}

#[tokio::test]
async fn in_sqlite_two_dispatchers_replace_each_other_and_double_nothing() {
    two_dispatchers_replace_each_other_and_double_nothing(Home::sqlite()).await;
}

#[tokio::test]
async fn in_postgres_two_dispatchers_replace_each_other_and_double_nothing() {
    two_dispatchers_replace_each_other_and_double_nothing(Home::postgres().await).await;
}
