//! What happened before anybody listened begins nothing by itself, and is begun by hand: once, whoever says so how often.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use event_store::{
    bus::CommandError,
    feed::{Cursor, Feed, FeedError, FeedPage, PageLimit},
    memory::MemoryLog,
};
use events::{
    envelope::Name,
    saga::{Input, SagaEvent},
};
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

/// A feed that stops answering after so many pages, once.
struct BreaksOff {
    feed: Arc<MemoryLog>,
    pages_left: AtomicU32,
}

#[async_trait]
impl Feed for BreaksOff {
    fn source(&self) -> &Name {
        self.feed.source()
    }

    async fn page(&self, after: Cursor, limit: PageLimit, wait: Duration) -> Result<FeedPage, FeedError> {
        if self.pages_left.fetch_sub(1, Ordering::Relaxed) == 0 {
            return Err(FeedError::Unreachable { feed: self.source().clone(), cause: "it broke off".into() });
        }
        self.feed.page(after, limit, wait).await
    }
}

#[tokio::test]
async fn a_beginning_that_was_cut_off_is_told_the_rest_by_the_next() {
    let world = World::new(Home::sqlite()).await;
    // nobody answers, so that it is not too late to call it off
    world.agency.down("flights", true);
    let called_off = Uuid::now_v7();
    world.tell(called_off, TripFact::Wished).await;
    world.tell(called_off, TripFact::CalledOff).await;
    let mut process = world.start::<1>().await;
    // what began it is found on the first two pages
    let broken = BreaksOff { feed: Arc::clone(&world.wishes), pages_left: AtomicU32::new(2) };
    process.handle.feeds = vec![Arc::new(broken) as Arc<dyn Feed>].into();
    let key = called_off.to_string();
    let cut_off = process.handle.begin_late(&key, "an operator").await;
    assert!(matches!(cut_off, Err(CommandError::Unavailable(_))), "{cut_off:?}");
    process.reaches(called_off, "it is begun", |instance| instance.state.giving_up.is_none()).await;

    for _ in 0..3 {
        process.handle.begin_late(&key, "an operator").await.unwrap();
        process.reaches(called_off, "it is told now", |instance| instance.state.giving_up.is_some()).await;
    }
    let is_fact = |told: &_| matches!(told, SagaEvent::Advanced(told) if matches!(told.input, Input::Observed { .. }));
    let facts = world.story(called_off).await.iter().filter(|(_, told)| is_fact(told)).count();
    assert_eq!(facts, 1, "however often it is told");
    world.agency.down("flights", false);
    let outcome = process.ends(called_off, "it is called off").await;
    assert!(matches!(outcome, Outcome::Compensated { .. }), "{outcome}");
    process.shutdown().await;
}

#[tokio::test]
async fn who_began_it_may_go_away_and_it_is_told_the_rest() {
    let world = World::new(Home::sqlite()).await;
    world.agency.down("flights", true);
    let called_off = Uuid::now_v7();
    world.tell(called_off, TripFact::Wished).await;
    world.tell(called_off, TripFact::CalledOff).await;
    let process = world.start::<1>().await;
    let key = called_off.to_string();
    let mut begun = Box::pin(process.handle.begin_late(&key, "an operator"));
    assert!(futures::poll!(&mut begun).is_pending());
    drop(begun);
    process.reaches(called_off, "it is told", |instance| instance.state.giving_up.is_some()).await;
    world.agency.down("flights", false);
    let outcome = process.ends(called_off, "it is begun, and called off").await;
    assert!(matches!(outcome, Outcome::Compensated { .. }), "{outcome}");
    process.shutdown().await;
}
