//! Crashes of a load, around each of its commits, and what is there afterwards. One test, because failpoints are shared by
//! the whole process.

mod common;
mod loading;

use common::{BOTH, Feeds, Place, Random};
use event_store::failpoint;
use loading::{empty, followed, load, load_until};
use projections::engine::{
    load::{LoadError, LoadOptions},
    table_hash::table_hash,
};

#[tokio::test]
async fn a_crash_around_a_commit_loses_nothing_and_doubles_nothing() {
    for kind in BOTH {
        let feeds = Feeds::default();
        feeds.history(&mut Random(7), 20);
        let (expected, _) = followed(kind, &feeds).await;
        let options = LoadOptions { memory_bytes: 1_000, batch_events_max: 9 };
        for (name, nth) in [
            ("projection.load.before_commit", 1),
            ("projection.load.before_commit", 4),
            ("projection.load.after_commit", 1),
            ("projection.load.after_commit", 3),
            ("projection.load.before_finish", 1),
        ] {
            let place = Place::new(kind).await;
            let store = empty(&place).await;
            failpoint::arm(name, nth);
            let failed = load_until(&store, &feeds, &options, u64::MAX).await;
            assert!(matches!(failed, Err(LoadError::Failpoint(passed)) if passed == name), "{name} {nth}: {failed:?}");
            load(&store, &feeds, &options).await;
            assert_eq!(table_hash(&store).await.unwrap(), expected, "{name} {nth} on {kind:?}");
        }
        failpoint::disarm_all();
    }
}
