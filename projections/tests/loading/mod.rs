//! Loads and follows generations of order details.
#![allow(dead_code, reason = "each test file uses what it needs")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use event_store::follower::{Backoff, Follower, FollowerOptions, FollowerStore};
use projections::engine::{
    load::{Hindrance, Load, LoadError, LoadOptions, Loaded},
    pace::Pace,
    store::{GenerationStore, StoreOptions},
    table_hash::{TableHash, table_hash},
};
use tokio_util::sync::CancellationToken;

use crate::common::{Feeds, Kind, Place, Random};

/// A generation that nobody has written into.
pub async fn empty(place: &Place) -> Arc<GenerationStore> {
    let database = place.database().await;
    let projection = Arc::new(projections::order_details::projection());
    let generation = database.create(&projection).await.unwrap();
    let options = StoreOptions { anchors_kept_events: 20, ..StoreOptions::default() };
    Arc::new(database.store(projection, generation, options, place.read().wake()).await.unwrap())
}

/// Loads, and cancels once so many events are folded.
pub async fn load_until(
    store: &Arc<GenerationStore>,
    feeds: &Feeds,
    options: &LoadOptions,
    cancel_at: u64,
) -> Result<u64, LoadError> {
    let (cancel, done) = (CancellationToken::new(), AtomicU64::new(0));
    let load = Load {
        store,
        feeds: &feeds.all(),
        options,
        backoff: Backoff { first: Duration::from_millis(1), max: Duration::from_millis(1) },
        until: None,
        pace: &Pace::default(),
        hindrance: &Hindrance::default(),
        cancel: &cancel,
    };
    let progress = |loaded: Loaded| {
        done.store(loaded.events_done, Ordering::Relaxed);
        if loaded.events_done >= cancel_at {
            cancel.cancel();
        }
    };
    load.run(progress).await.map(|()| done.into_inner())
}

pub async fn load(store: &Arc<GenerationStore>, feeds: &Feeds, options: &LoadOptions) -> u64 {
    load_until(store, feeds, options, u64::MAX).await.unwrap()
}

/// Follows whatever is left.
pub async fn follow(store: &Arc<GenerationStore>, feeds: &Feeds) -> Vec<u64> {
    let options = FollowerOptions { poll_wait: Duration::from_millis(50), ..FollowerOptions::default() };
    let follower = Follower::start("rest", feeds.all(), Arc::clone(store) as Arc<dyn FollowerStore>, options);
    let _ = tokio::time::timeout(Duration::from_secs(60), follower.caught_up()).await.expect("it catches up or halts");
    let parked = follower.status().parked.iter().map(|parked| parked.position).collect();
    follower.shutdown(Duration::from_secs(10)).await;
    while store.advance_fan_outs().await.unwrap() {}
    parked
}

pub async fn followed(kind: Kind, feeds: &Feeds) -> (TableHash, Vec<u64>) {
    let place = Place::new(kind).await;
    let store = empty(&place).await;
    let parked = follow(&store, feeds).await;
    (table_hash(&store).await.unwrap(), parked)
}

/// From one row at a time to everything at once.
pub fn options(random: &mut Random) -> LoadOptions {
    let memory_bytes = [0, 1, 4_000, 40_000, 400_000, 1 << 28][random.below(6) as usize];
    LoadOptions { memory_bytes, batch_events_max: [1, 3, 17, 1_000][random.below(4) as usize] }
}

pub fn events(feeds: &Feeds) -> u64 {
    feeds.scripted().iter().map(|feed| feed.head().position).sum()
}
