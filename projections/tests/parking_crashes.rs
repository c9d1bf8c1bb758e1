//! A crash at each step of a decision about a parked event. One test, because failpoints are shared by the whole process.

mod common;

use common::{BOTH, Feeds, Place, order, placed, quick, registered, renamed, user};
use event_store::failpoint;
use projections::{
    Projector, ProjectorHandle,
    engine::{projector::Which, rebuild::Phase},
    order_details,
};
use read_side::Consistency;

/// Of order details alone: other read models would pass the failpoints too.
async fn started(place: &Place, feeds: &Feeds) -> ProjectorHandle {
    let projections = vec![order_details::projection()];
    Projector::start_with(projections, place.database().await, feeds.all(), quick()).await.unwrap()
}

/// Waits until the empty feeds, too, have been seen and noted: nothing is committed any more but what the test asks for.
async fn at_rest(projector: &ProjectorHandle) {
    let is_noted = async || {
        let (_, status) = projector.status().await.remove(0).live.expect("this version is live");
        status.sources.values().all(|source| !source.checkpoint.epoch.is_nil())
    };
    while !is_noted().await {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_decision_that_a_crash_has_cut_is_carried_out_once() {
    for kind in BOTH {
        for step in ["parking.decided", "projection.before_commit", "projection.after_commit"] {
            let feeds = Feeds::default();
            feeds.user(registered(1, "Ada"));
            feeds.users.push_raw("user", user(1), "UserRenamed", "2", "{}".to_owned());
            feeds.user(renamed(1, "Ada King"));
            feeds.user(renamed(1, "Ada Lovelace"));
            feeds.order(placed(1, 1, &[1]));
            let place = Place::new(kind).await;
            let projector = started(&place, &feeds).await;
            projector.caught_up().await;
            at_rest(&projector).await;
            let event = feeds.users.events()[1].event_id;
            failpoint::arm(step, 1);
            projector.drop_parked(event, None, "it says nothing", "desk-7").await.expect_err(step);
            failpoint::disarm_all();
            assert_eq!(projector.decisions(&Which::default()).await.unwrap().len(), 1, "{step}");
            // the process is gone; the next one finds the decision
            projector.shutdown().await;
            let projector = started(&place, &feeds).await;
            let goes_on = async || projector.parked(&Which::default()).await.unwrap().is_empty();
            for _ in 0..500 {
                if goes_on().await {
                    break;
                }
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
            assert!(goes_on().await, "{step} on {kind:?}");
            projector.caught_up().await;
            let row = place.read().order(order(1), &Consistency::at_least(feeds.users.token())).await.unwrap().unwrap();
            assert_eq!(row.customer_name.as_deref(), Some("Ada Lovelace"), "{step} on {kind:?}");
            let mut progress = projector.verify("order_details").await.unwrap();
            let over = progress.wait_for(|progress| progress.phase.is_over()).await.unwrap().clone();
            assert_eq!((over.phase, over.error), (Phase::Verified, None), "{step} on {kind:?}");
            // said again, it is known
            assert!(projector.drop_parked(event, None, "once more", "desk-7").await.unwrap().is_empty());
            projector.shutdown().await;
        }
    }
}
