//! Followers of one store with a lease: one acts, the others stand by, and no silence lasts for longer than a lease.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use event_store::{
    follower::{
        Acquired, ApplyError, Checkpoint, Follower, FollowerHandle, FollowerOptions, FollowerStore, Pulse, Status,
        Step, StopReason, StoreError, Vector,
    },
    memory::MemoryLog,
};
use testkit::follower_kit::{
    LedgerStore, PATIENCE, ScriptedStore, UNKNOWN_TYPE, assert_each_once, feeds, ledger, logs, options, soon, write,
    write_many,
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
    let fences = || crowd.iter().filter_map(|follower| follower.status().fence).collect::<Vec<_>>();
    // where several were as quick, all but the last one are refused a moment later
    let settled = soon("one of them holds the fence", async {
        let mut before = fences();
        loop {
            sleep(LEASE * 3).await;
            let now = fences();
            if now.len() == 1 && now == before {
                return now;
            }
            before = now;
        }
    });
    let settled = settled.await;
    sleep(LEASE * 3).await;
    assert_eq!(fences(), settled, "it is settled");
}

/// A newer program on the same store: it knows the type that the older one does not.
struct Newer(Arc<LedgerStore>);

#[async_trait]
impl FollowerStore for Newer {
    async fn acquire(&self) -> Result<Acquired, StoreError> {
        self.0.acquire().await
    }

    async fn reload(&self) -> Result<Acquired, StoreError> {
        self.0.reload().await
    }

    async fn beat(&self, fence: u64) -> Result<bool, StoreError> {
        self.0.beat(fence).await
    }

    async fn pulse(&self) -> Result<Pulse, StoreError> {
        self.0.pulse().await
    }

    async fn apply(&self, step: &Step<'_>) -> Result<(), ApplyError> {
        let mut events = step.events.to_vec();
        events.iter_mut().for_each(|event| event.event_type = "Noted".into());
        self.0.apply(&Step { events: &events, ..*step }).await
    }
}

fn is_halted(status: &Status) -> bool {
    status.sources["users"].halt().is_some()
}

#[tokio::test]
async fn who_halted_at_what_it_does_not_know_goes_on_once_another_is_past_it() {
    let (logs, store) = (logs(&[("users", 40)]).await, ledger());
    let old = start(&logs, &store);
    write(&logs[0], &[("0", UNKNOWN_TYPE)]).await;
    soon("the old one halts", old.watch().wait_for(is_halted)).await.unwrap();
    let new = start(&logs, &Arc::new(Newer(store.clone())));
    soon("the new one goes on", new.reached(&at(41))).await.unwrap();
    standing_by(&old, "the old one stands by").await;
    new.abort().await;
    write_many(&logs[0], 10, 3).await;
    soon("the old one goes on in turn", old.comes_true(|status| status.vector.reaches(&at(51)))).await;
    assert!(old.status().fence.is_some() && !is_halted(&old.status()), "{:?}", old.status());
    assert_each_once(&store, &*logs[0], &[], "two programs").await;
    assert_eq!(old.shutdown(PATIENCE).await, StopReason::Shutdown);
}

#[tokio::test]
async fn who_is_too_old_for_what_comes_gives_way_to_a_newer_one_that_stands_by() {
    let (logs, store) = (logs(&[("users", 40)]).await, ledger());
    let new = start(&logs, &Arc::new(Newer(store.clone())));
    holding(&new, "the new one begins alone").await;
    let old = start(&logs, &store);
    standing_by(&new, "an old one was started behind it").await;
    write(&logs[0], &[("0", UNKNOWN_TYPE)]).await;
    soon("the new one takes over and goes on", new.reached(&at(41))).await.unwrap();
    standing_by(&old, "the old one stands by").await;
    soon("its halt is over", old.watch().wait_for(|status| !is_halted(status))).await.unwrap();
    assert_each_once(&store, &*logs[0], &[], "two programs").await;
}

#[tokio::test]
async fn programs_that_are_all_too_old_do_not_take_it_from_each_other_all_the_time() {
    let (logs, store) = (logs(&[("users", 40)]).await, ledger());
    let second = start(&logs, &store);
    holding(&second, "the second begins alone").await;
    let first = start(&logs, &store);
    standing_by(&second, "the second stands by").await;
    write(&logs[0], &[("0", UNKNOWN_TYPE)]).await;
    soon("the second tries, too", second.watch().wait_for(is_halted)).await.unwrap();
    let fence = second.status().fence;
    sleep(LEASE * 4).await;
    assert_eq!((second.status().fence, first.status().standing_by), (fence, true));
}

#[tokio::test]
async fn who_stands_by_and_is_waited_for_looks_at_once() {
    let (logs, store) = (logs(&[("users", 40)]).await, ledger());
    let options = FollowerOptions { lease: Some(PATIENCE * 9), ..options() };
    let start = || Follower::start("test", feeds(&logs), store.clone(), options.clone());
    let other = start();
    holding(&other, "the other begins alone").await;
    let holder = start();
    soon("the holder begins", holder.caught_up()).await.unwrap();
    other.look_again();
    // it hears of its loss when it wants to write, or looks
    write_many(&logs[0], 10, 3).await;
    standing_by(&other, "the other stands by").await;
    write_many(&logs[0], 10, 3).await;
    soon("what the holder applies is known", other.comes_true(|status| status.vector.reaches(&at(60)))).await;
    assert!(other.status().standing_by);
}

#[tokio::test]
async fn looks_that_are_asked_for_do_not_make_a_silence_longer() {
    let (logs, store) = (logs(&[("users", 5)]).await, ledger());
    let other = start(&logs, &store);
    holding(&other, "the other begins alone").await;
    let holder = start(&logs, &store);
    standing_by(&other, "the other stands by").await;
    holder.abort().await;
    let killed_at = Instant::now();
    let never = other.comes_true(|_| false);
    tokio::select! {
        () = never => unreachable!("it never comes true"),
        () = holding(&other, "it takes over") => {}
    }
    assert!(killed_at.elapsed() >= LEASE * 2 / 3, "{:?}", killed_at.elapsed());
}
