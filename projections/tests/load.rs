//! What a load leaves behind, and what it leaves to a follower. That loaded equals followed, for any size of the cache and
//! from wherever it is resumed, is a law of the kit, which every read model keeps.
//!
//! A failure prints its seed; `SEED=<n> cargo test -p projections --test load` repeats it.

mod common;
mod loading;

use std::{num::NonZeroU64, sync::Arc, time::Duration};

use common::{BOTH, Feeds, Kind, Place, Random, placed, registered, renamed};
use event_store::follower::{Backoff, FollowerStore};
use loading::{empty, events, follow, followed, load, options};
use projections::{
    engine::{
        load::{Hindrance, Load, LoadError, LoadOptions},
        pace::Pace,
        table_hash::table_hash,
    },
    kit::seeds,
};
use testkit::postgres::ThrowAwayPostgres;
use tokio_util::sync::CancellationToken;

async fn followed_on_behind_a_load(kind: Kind, count: u64) {
    for seed in seeds(count) {
        let mut random = Random(seed);
        let feeds = Feeds::default();
        feeds.history(&mut random, 30);
        let (expected, _) = followed(kind, &feeds).await;
        let options = options(&mut random);

        let place = Place::new(kind).await;
        let store = empty(&place).await;
        let done = load(&store, &feeds, &options).await;
        assert_eq!(done, events(&feeds), "seed {seed} on {kind:?}, {options:?}");
        assert_eq!(table_hash(&store).await.unwrap(), expected, "seed {seed} on {kind:?}, {options:?}");
        // what comes afterwards is followed: links and cursors are as a follower would have left them
        feeds.user(renamed(1, "Renamed afterwards"));
        feeds.history(&mut random, 10);
        let (expected, _) = followed(kind, &feeds).await;
        follow(&store, &feeds).await;
        assert_eq!(table_hash(&store).await.unwrap(), expected, "followed on, seed {seed} on {kind:?}, {options:?}");
    }
}

#[tokio::test]
async fn a_follower_goes_on_where_a_load_has_ended_on_sqlite() {
    followed_on_behind_a_load(Kind::Sqlite, 6).await;
}

#[tokio::test]
async fn a_follower_goes_on_where_a_load_has_ended_on_postgres() {
    followed_on_behind_a_load(Kind::Postgres, 3).await;
}

#[tokio::test]
async fn what_cannot_be_folded_is_left_to_the_follower() {
    for kind in BOTH {
        let feeds = Feeds::default();
        feeds.history(&mut Random(3), 10);
        // one that does not begin with what it begins with, in a source of rows and in one of references
        feeds.order(common::confirmed(500));
        feeds.user(renamed(600, "Nobody"));
        // one that is broken
        feeds.payments.push_raw("payment", common::order(9).0, "PaymentCaptured", "1", "{}".to_owned());
        feeds.history(&mut Random(4), 12);
        let (expected, parked) = followed(kind, &feeds).await;
        assert_eq!(parked.len(), 3, "{kind:?}");

        let place = Place::new(kind).await;
        let store = empty(&place).await;
        let done = load(&store, &feeds, &LoadOptions { batch_events_max: 5, ..LoadOptions::default() }).await;
        assert!(done < events(&feeds), "{kind:?}");
        assert_eq!(follow(&store, &feeds).await, parked, "{kind:?}");
        assert_eq!(table_hash(&store).await.unwrap(), expected, "{kind:?}");
    }
}

#[tokio::test]
async fn what_was_followed_into_is_not_loaded() {
    for kind in BOTH {
        let feeds = Feeds::default();
        feeds.user(registered(1, "Ada"));
        let place = Place::new(kind).await;
        let store = empty(&place).await;
        follow(&store, &feeds).await;
        feeds.order(placed(1, 1, &[1]));
        assert_eq!(load(&store, &feeds, &LoadOptions::default()).await, 0, "{kind:?}");
        follow(&store, &feeds).await;
        assert_eq!(table_hash(&store).await.unwrap(), followed(kind, &feeds).await.0, "{kind:?}");
    }
}

#[tokio::test]
async fn whoever_has_lost_the_fence_writes_nothing() {
    for kind in BOTH {
        let feeds = Feeds::default();
        feeds.history(&mut Random(5), 10);
        let place = Place::new(kind).await;
        let store = empty(&place).await;
        let pace = Arc::new(Pace::default());
        pace.set(true, None);
        let loading = tokio::spawn({
            let (store, feeds, pace) = (Arc::clone(&store), feeds.all(), Arc::clone(&pace));
            async move {
                let (options, cancel) = (LoadOptions::default(), CancellationToken::new());
                let backoff = Backoff::default();
                let load = Load {
                    store: &store,
                    feeds: &feeds,
                    options: &options,
                    backoff,
                    until: None,
                    pace: &pace,
                    hindrance: &Hindrance::default(),
                    cancel: &cancel,
                };
                load.run(|_| {}).await
            }
        });
        // it stands still in front of its first events
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert!(!loading.is_finished());
        let before = table_hash(&store).await.unwrap();
        store.acquire().await.unwrap();
        pace.set(false, None);
        let outcome = loading.await.unwrap();
        assert!(matches!(outcome, Err(LoadError::Fenced)), "{outcome:?}");
        assert_eq!(table_hash(&store).await.unwrap(), before, "{kind:?}");
    }
}

/// What was committed last need not be on the disk yet, and may be lost, but only whole.
#[tokio::test]
async fn a_load_whose_server_crashes_again_and_again_loses_nothing_and_doubles_nothing() {
    let feeds = Feeds::default();
    feeds.history(&mut Random(11), 60);
    let (expected, _) = followed(Kind::Postgres, &feeds).await;
    let server = ThrowAwayPostgres::start().await.unwrap();
    let store = empty(&Place::on(&server).await).await;
    let (hindrance, pace) = (Hindrance::default(), Pace::default());
    // it goes on until all crashes are over
    pace.set(false, NonZeroU64::new(events(&feeds) / 20));
    let load = Load {
        store: &store,
        feeds: &feeds.all(),
        // a commit every few events
        options: &LoadOptions { memory_bytes: 1_000, batch_events_max: 9 },
        backoff: Backoff { first: Duration::from_millis(10), max: Duration::from_millis(50) },
        until: None,
        pace: &pace,
        hindrance: &hindrance,
        cancel: &CancellationToken::new(),
    };
    let crashes = async {
        for n in 1..=4 {
            tokio::time::sleep(Duration::from_millis(300)).await;
            server.stop_immediate().await.unwrap();
            server.start_again().await.unwrap();
            let noticed = async {
                while hindrance.take().is_none() {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            };
            tokio::time::timeout(Duration::from_secs(20), noticed)
                .await
                .unwrap_or_else(|_| panic!("crash {n} was not noticed"));
        }
        pace.set(false, None);
    };
    let (loaded, ()) = tokio::join!(load.run(|_| {}), crashes);
    loaded.unwrap();
    assert_eq!(table_hash(&store).await.unwrap(), expected);
}
