//! Followers of one store with a lease: one acts, the others stand by, and no silence lasts for longer than a lease.

use std::{sync::Arc, time::Duration};

use event_store::{
    follower::{Checkpoint, Follower, FollowerHandle, FollowerOptions, FollowerStore, StopReason, Vector},
    memory::MemoryLog,
};
use testkit::follower_kit::{
    PATIENCE, ScriptedStore, assert_each_once, feeds, ledger, logs, options, soon, write_many,
};
use tokio::time::{Instant, sleep};

/// Short for the tests' sake. Holder and stand-by share a thread here, so they are out of breath together.
const LEASE: Duration = Duration::from_millis(300);

fn start(logs: &[Arc<MemoryLog>], store: &Arc<impl FollowerStore>) -> FollowerHandle {
    let options = FollowerOptions { lease: Some(LEASE), ..options() };
    Follower::start("test", feeds(logs), Arc::clone(store) as Arc<dyn FollowerStore>, options)
}

async fn standing_by(follower: &FollowerHandle, what: &str) {
    soon(what, follower.watch().wait_for(|status| status.standing_by)).await.unwrap();
}

async fn holding(follower: &FollowerHandle, what: &str) {
    soon(what, follower.watch().wait_for(|status| status.fence.is_some())).await.unwrap();
}

fn at(position: u64) -> Vector {
    [("users".into(), Checkpoint { position, ..Checkpoint::START })].into_iter().collect()
}

#[tokio::test]
async fn who_is_frozen_for_a_lease_is_replaced_and_replaces_the_other_when_that_one_dies() {
    let (logs, store) = (logs(&[("users", 40)]).await, ledger());
    let frozen_store = ScriptedStore::new(store.clone());
    let second = start(&logs, &store);
    soon("the second begins alone", second.caught_up()).await.unwrap();
    let first = start(&logs, &frozen_store);
    soon("the first takes over by being started", first.caught_up()).await.unwrap();
    standing_by(&second, "the second stands by").await;

    let ice = frozen_store.hold().await;
    let frozen_at = Instant::now();
    write_many(&logs[0], 10, 3).await;
    soon("the second goes on", second.reached(&at(50))).await.unwrap();
    assert!(frozen_at.elapsed() >= LEASE * 2 / 3, "the last beat may be a third of a lease old");
    let fence = second.status().fence;

    drop(ice);
    standing_by(&first, "the first wakes up and is refused").await;
    write_many(&logs[0], 10, 3).await;
    soon("the second goes on", second.reached(&at(60))).await.unwrap();
    assert_eq!(second.status().fence, fence, "the first has not taken it back");

    let killed_at = Instant::now();
    second.abort().await;
    write_many(&logs[0], 10, 3).await;
    soon("the first goes on", first.reached(&at(70))).await.unwrap();
    assert!(killed_at.elapsed() >= LEASE * 2 / 3);
    assert_each_once(&store, &*logs[0], &[], "three hand-overs").await;
    assert_eq!(first.shutdown(PATIENCE).await, StopReason::Shutdown);
}

#[tokio::test]
async fn a_holder_with_nothing_to_do_is_left_alone_and_who_stands_by_knows_how_far_it_is() {
    let (logs, store) = (logs(&[("users", 40)]).await, ledger());
    let other = start(&logs, &store);
    holding(&other, "the other begins alone").await;
    let holder = start(&logs, &store);
    standing_by(&other, "the other stands by").await;
    let fence = holder.status().fence;
    sleep(LEASE * 6).await;
    assert_eq!((holder.status().fence, holder.status().standing_by), (fence, false));

    write_many(&logs[0], 10, 3).await;
    let there = |status: &event_store::follower::Status| status.vector.get("users").position == 50;
    soon("the other is told", other.watch().wait_for(there)).await.unwrap();
    let status = other.status();
    assert_eq!((status.fence, status.standing_by, status.is_caught_up()), (None, true, false));
    assert_each_once(&store, &*logs[0], &[], "one of them acts").await;
    assert_eq!(other.shutdown(PATIENCE).await, StopReason::Shutdown);
    assert_eq!(holder.shutdown(PATIENCE).await, StopReason::Shutdown);
}

#[tokio::test]
async fn who_cannot_look_does_not_take_silence_for_death() {
    let (logs, store) = (logs(&[("users", 5)]).await, ledger());
    let blind_store = ScriptedStore::new(store.clone());
    let blind = start(&logs, &blind_store);
    holding(&blind, "it begins alone").await;
    let holder = start(&logs, &store);
    standing_by(&blind, "it stands by").await;
    blind_store.fail_pulse(9);
    let killed_at = Instant::now();
    holder.abort().await;
    holding(&blind, "it sees again").await;
    assert!(killed_at.elapsed() >= LEASE * 3, "{:?}", killed_at.elapsed());
}

#[tokio::test]
async fn of_many_that_stand_by_one_takes_over_and_the_others_go_on_standing_by() {
    let (logs, store) = (logs(&[("users", 5)]).await, ledger());
    let mut crowd = Vec::new();
    for _ in 0..5 {
        crowd.push(start(&logs, &store));
        holding(crowd.last().unwrap(), "it takes over by being started").await;
    }
    let holder = crowd.pop().unwrap();
    for follower in &crowd {
        standing_by(follower, "all others stand by").await;
    }
    holder.abort().await;
    sleep(LEASE * 3).await;
    let holders = crowd.iter().filter(|follower| follower.status().fence.is_some()).count();
    assert_eq!(holders, 1);
    let fences: Vec<_> = crowd.iter().filter_map(|follower| follower.status().fence).collect();
    sleep(LEASE * 3).await;
    assert_eq!(
        fences,
        crowd.iter().filter_map(|follower| follower.status().fence).collect::<Vec<_>>(),
        "it is settled"
    );
}
