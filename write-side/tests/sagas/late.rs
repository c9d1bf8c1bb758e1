//! What happened before anybody listened begins nothing by itself, and is begun by hand: once, whoever says so how often.

use event_store::bus::CommandError;
use futures::future::join_all;
use uuid::Uuid;
use write_side::saga::Outcome;

use super::{
    support::Home,
    trip::TripFact,
    world::{World, idle},
};

async fn what_was_there_before_is_begun_by_hand(home: Home) {
    let world = World::new(home).await;
    let [wished, called_off, unheard_of] = [Uuid::now_v7(), Uuid::now_v7(), Uuid::now_v7()];
    world.tell(wished, TripFact::Wished).await;
    world.tell(called_off, TripFact::Wished).await;
    world.tell(called_off, TripFact::CalledOff).await;
    let process = world.start::<1>().await;
    let listened_to = Uuid::now_v7();
    world.tell(listened_to, TripFact::Wished).await;
    process.ends(listened_to, "it is heard of").await;
    assert_eq!(process.trip(wished).await, None, "history is not acted on");

    let key = wished.to_string();
    let said = join_all((0..5).map(|_| process.handle.begin_late(&key, "an operator"))).await;
    said.into_iter().for_each(|said| said.unwrap());
    assert_eq!(process.ends(wished, "it ends").await, Outcome::Completed);
    // that it is called off is history, too, and it is told of it
    process.handle.begin_late(&called_off.to_string(), "an operator").await.unwrap();
    let outcome = process.ends(called_off, "it is called off").await;
    assert!(matches!(outcome, Outcome::Compensated { .. }), "{outcome}");
    idle(&process, "all is done").await;
    world.check(wished, &Outcome::Completed, 1, "wished").await;
    world.check(called_off, &outcome, 1, "called off").await;

    let before = world.positions().await;
    for there in [wished, called_off, listened_to] {
        process.handle.begin_late(&there.to_string(), "an operator").await.unwrap();
    }
    let refused = process.handle.begin_late(&unheard_of.to_string(), "an operator").await;
    assert!(matches!(refused, Err(CommandError::Refused(refusal, _)) if refusal.code == "saga_not_begun"));
    assert_eq!(world.positions().await, before);
    let story = world.story(wished).await;
    let (event, _) = &story[0];
    let metadata = event.metadata().unwrap();
    let wish = &super::support::told(&world.wishes).await[0];
    assert_eq!(metadata.actor.as_deref(), Some("an operator"));
    assert_eq!(metadata.causation_id, Some(wish.event_id.to_string()));
    process.shutdown().await;
}

#[tokio::test]
async fn in_sqlite_what_was_there_before_is_begun_by_hand() {
    what_was_there_before_is_begun_by_hand(Home::sqlite()).await;
}

#[tokio::test]
async fn in_postgres_what_was_there_before_is_begun_by_hand() {
    what_was_there_before_is_begun_by_hand(Home::postgres().await).await;
}
