//! Resume anywhere: a crash at each failpoint, and what is there afterwards. One test, because failpoints are shared by
//! the whole process.

mod common;

use std::time::Duration;

use common::{BOTH, Feeds, Place, Random, quick};
use event_store::failpoint;
use projections::engine::rebuild::Phase;
use read_side::order_details::TEMPLATE;

const NAME: &str = "order_details";

#[tokio::test]
async fn a_crash_at_any_failpoint_loses_nothing_and_doubles_nothing() {
    for kind in BOTH {
        let feeds = Feeds::default();
        feeds.history(&mut Random(11), 30);
        let mut whole = Place::new(kind).await.hand(common::small()).await;
        whole.finish(&feeds).await;
        let expected = whole.hash().await;

        // before and after a commit, at the first, second and a later batch: the follower tries again
        for (name, nth) in [
            ("projection.before_commit", 1),
            ("projection.before_commit", 3),
            ("projection.after_commit", 1),
            ("projection.after_commit", 2),
            ("projection.after_commit", 4),
        ] {
            let place = Place::new(kind).await;
            let mut options = quick();
            options.follower.batch_events_max = 7;
            options.store = common::small();
            failpoint::arm(name, nth);
            let projector = place.projector(&feeds, options).await;
            projector.caught_up().await;
            assert!(!failpoint::is_armed(name), "{name} {nth} on {kind:?} was passed");
            assert_eq!(projector.live_hash(NAME).await.unwrap(), Some(expected), "{name} {nth} on {kind:?}");
            projector.shutdown().await;
        }

        // the process ends between two batches, with fan-outs open
        let place = Place::new(kind).await;
        for cut in [3, 5, 8] {
            let mut hand = place.hand(common::small()).await;
            // customers last, so that there are rows to be rewritten
            for feed in feeds.scripted().into_iter().rev() {
                hand.step(feed, cut).await.unwrap();
            }
        }
        let hand = place.hand(common::small()).await;
        assert!(hand.store.has_open_fan_outs().await, "or nothing is cut off in them");
        drop(hand);
        let projector = place.projector(&feeds, quick()).await;
        projector.caught_up().await;
        assert_eq!(projector.live_hash(NAME).await.unwrap(), Some(expected), "between batches on {kind:?}");

        // in front of the swap: the next start goes on with what was built
        failpoint::arm("projection.before_swap", 1);
        let mut progress = projector.rebuild(NAME).await.unwrap();
        let failed = progress.wait_for(|progress| progress.phase.is_over()).await.unwrap().clone();
        assert_eq!(failed.phase, Phase::Failed);
        projector.shutdown().await;
        let database = place.database().await;
        assert_eq!(database.live(&TEMPLATE).await.unwrap().unwrap().generation, 1, "no orphan is live");
        let projector = place.projector(&feeds, quick()).await;
        let swapped = async || database.live(&TEMPLATE).await.unwrap().unwrap().generation == failed.generation;
        for _ in 0..500 {
            if swapped().await {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(swapped().await, "the rebuild was resumed");
        projector.caught_up().await;
        assert_eq!(projector.live_hash(NAME).await.unwrap(), Some(expected), "resumed rebuild on {kind:?}");
        projector.shutdown().await;

        // behind the swap: the next start finds it done
        let projector = place.projector(&feeds, quick()).await;
        failpoint::arm("projection.after_swap", 1);
        let mut progress = projector.rebuild(NAME).await.unwrap();
        let cut = progress.wait_for(|progress| progress.phase.is_over()).await.unwrap().clone();
        projector.shutdown().await;
        assert!(!failpoint::is_armed("projection.after_swap") && cut.phase == Phase::Failed, "{cut:?}");
        assert_eq!(database.live(&TEMPLATE).await.unwrap().unwrap().generation, cut.generation);
        let projector = place.projector(&feeds, quick()).await;
        projector.caught_up().await;
        assert_eq!(projector.live_hash(NAME).await.unwrap(), Some(expected), "swapped and cut off on {kind:?}");
        let noted = projector.last_rebuild(NAME).await.unwrap().unwrap();
        assert_eq!((noted.generation, noted.phase), (cut.generation, Phase::Swapped), "the next start notes it");
        projector.shutdown().await;

        // a generation that was announced and not made to the end is removed
        let announced = database.create(&projections::order_details::projection()).await.unwrap();
        if kind == common::Kind::Sqlite {
            std::fs::remove_file(read_side::query_database::generation_file(place.directory(), NAME, announced))
                .unwrap();
            let projector = place.projector(&feeds, quick()).await;
            let left = database.generations(&TEMPLATE).await.unwrap();
            assert!(left.iter().all(|left| left.generation != announced), "{left:?}");
            projector.shutdown().await;
        }
        database.close().await;
    }
}
