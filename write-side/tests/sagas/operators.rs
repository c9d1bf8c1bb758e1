//! What an operator decides is an event with a reason and a name, and the saga goes on from there.

use event_store::bus::CommandError;
use events::saga::{Decision, SagaEvent};
use uuid::Uuid;
use write_side::saga::{Outcome, SagaDesk, Word};

use super::{
    support::Home,
    trip::{TripFact, TripStep},
    world::{Process, World, id, idle},
};

fn word(decision: Decision) -> Word {
    Word { decision, reason: "they called".to_owned(), by: "staff-7".to_owned() }
}

/// A trip that is paid and whose ticket cannot be sent.
async fn stuck(world: &World) -> (Process<1>, Uuid) {
    let trip = Uuid::now_v7();
    world.agency.down("post", true);
    let process = world.start::<1>().await;
    world.tell(trip, TripFact::Wished).await;
    process.reaches(trip, "it is stuck", |trip| trip.stuck().count() == 1).await;
    (process, trip)
}

async fn decide(process: &Process<1>, trip: Uuid, step: &str, decision: Decision) -> Result<bool, CommandError> {
    let desk: &dyn SagaDesk = &process.handle;
    desk.decide(id(trip), step, word(decision)).await.map(|done| done.changed)
}

async fn each_decision_leads_on_and_is_kept(home: Home) {
    for decision in [Decision::Retry, Decision::Force, Decision::Skip] {
        let world = World::new(home.anew().await).await;
        let (process, trip) = stuck(&world).await;
        assert!(decide(&process, trip, "send_ticket", decision).await.unwrap());
        if decision == Decision::Retry {
            // before, the attempt that is under way might have healed it
            world.agency.down("post", false);
        }
        assert_eq!(process.ends(trip, "it ends").await, Outcome::Completed);
        idle(&process, "all is done").await;
        let sent = world.agency.done(trip, "post/send");
        assert_eq!(
            sent,
            u32::from(decision == Decision::Retry),
            "{decision}: forced and skipped are not sent any more"
        );
        let story = world.story(trip).await;
        let decided = story.iter().find_map(|(event, told)| match told {
            SagaEvent::Decided(decided) => Some((event, decided)),
            _ => None,
        });
        let (event, decided) = decided.unwrap();
        assert_eq!((decided.decision, decided.step), (decision, TripStep::SendTicket));
        assert_eq!((decided.reason.as_str(), decided.by.as_str()), ("they called", "staff-7"));
        assert_eq!(event.metadata().unwrap().actor.as_deref(), Some("staff-7"));
        let (_, keys) = world.agency.asked(trip, "post/send");
        assert_eq!(keys, if decision == Decision::Retry { 2 } else { 1 }, "a retry is a new attempt with a new key");
        process.shutdown().await;
    }
}

#[tokio::test]
async fn in_sqlite_each_decision_leads_on_and_is_kept() {
    each_decision_leads_on_and_is_kept(Home::sqlite()).await;
}

#[tokio::test]
async fn in_postgres_each_decision_leads_on_and_is_kept() {
    each_decision_leads_on_and_is_kept(Home::postgres().await).await;
}

#[tokio::test]
async fn what_cannot_be_decided_is_refused_with_its_reason() {
    let world = World::new(Home::sqlite()).await;
    let (process, trip) = stuck(&world).await;
    let code = |refused: Result<bool, CommandError>| match refused.unwrap_err() {
        CommandError::Refused(refusal, _) => refusal.code.into_owned(),
        other => panic!("{other}"),
    };
    assert_eq!(code(decide(&process, trip, "book_hotel", Decision::Retry).await), "step_not_open");
    assert_eq!(code(decide(&process, trip, "cancel_hotel", Decision::Skip).await), "step_not_open");
    assert_eq!(code(decide(&process, trip, "swim", Decision::Skip).await), "step_unknown");
    assert_eq!(code(decide(&process, Uuid::now_v7(), "pay", Decision::Force).await), "trip_not_found");
    // as the view has it, quotes and all
    assert!(decide(&process, trip, "\"send_ticket\"", Decision::Force).await.unwrap());
    process.shutdown().await;
}

#[tokio::test]
async fn a_view_says_what_it_waits_for_and_why() {
    let world = World::new(Home::sqlite()).await;
    let (process, trip) = stuck(&world).await;
    let desk: &dyn SagaDesk = &process.handle;
    let view = desk.view(id(trip)).await.unwrap().unwrap();
    assert_eq!((desk.name(), &view["phase"], &view["version"]), ("trip", &"AwaitingTicket".into(), &1.into()));
    assert_eq!(view["waits_for"][0]["step"], "send_ticket");
    assert_eq!(view["waits_for"][0]["stuck"], "post: it answers 500 internal");
    assert!(view["outcome"].is_null());
    assert_eq!(desk.view(Uuid::now_v7()).await.unwrap(), None);
    assert_eq!(desk.story(Uuid::now_v7()).await.unwrap(), vec![]);
    process.shutdown().await;
}
