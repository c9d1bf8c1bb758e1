//! Whatever feeds and stores do, the outcome is that of one pass in order. A failure prints the seed.

use std::{sync::Arc, time::Duration};

use event_store::{
    feed::Feed,
    follower::{Follower, FollowerOptions, FollowerStore, StopReason},
    memory::MemoryLog,
};
use testkit::follower_kit::{
    FaultyFeed, POISON_TYPE, ScriptedStore, Seeded, StoreFault, assert_each_once, ledger, options, soon, write,
};

/// Runs of the law; `FOLLOWER_SEED` names one to repeat.
const SEEDS: u64 = 60;

#[tokio::test]
async fn any_order_with_duplicates_holes_faults_and_crashes_is_one_pass_in_order() {
    if let Ok(seed) = std::env::var("FOLLOWER_SEED") {
        return run(seed.parse().expect("FOLLOWER_SEED is a number")).await;
    }
    let mut lies = 0;
    for seed in 0..SEEDS {
        let outcome = tokio::spawn(async move { run_counted(seed).await }).await;
        lies += outcome.unwrap_or_else(|_| {
            panic!("seed {seed}: FOLLOWER_SEED={seed} cargo test -p event-store --test follower_faults")
        });
    }
    assert!(lies > SEEDS * 10, "the feeds have hardly lied: {lies}");
}

async fn run(seed: u64) {
    run_counted(seed).await;
}

async fn run_counted(seed: u64) -> u64 {
    let mut random = Seeded::new(seed);
    let logs = [MemoryLog::new("users"), MemoryLog::new("orders")];
    let faulty: Vec<_> =
        logs.iter().map(|log| Arc::new(FaultyFeed::new(Arc::clone(log) as Arc<dyn Feed>, random.draw()))).collect();
    let store = ledger();
    let scripted = ScriptedStore::new(store.clone());
    let follow = FollowerOptions {
        batch_events_max: 1 + random.below(12),
        read_ahead_events_max: 1 + random.below(40),
        poll_wait: Duration::from_millis(3),
        ..options()
    };
    let start = || {
        let feeds = faulty.iter().map(|feed| Arc::clone(feed) as Arc<dyn Feed>).collect();
        Follower::start("test", feeds, scripted.clone() as Arc<dyn FollowerStore>, follow.clone())
    };

    let mut waiting = [Vec::new(), Vec::new()];
    let mut spoilt = [[false; 4]; 2];
    let mut written = [0, 0];
    let mut follower = start();
    for _ in 0..12 {
        for _ in 0..random.below(12) {
            let (log, stream) = (random.below(2), random.below(4));
            let poison = random.below(40) == 0;
            let event_type = if poison { POISON_TYPE } else { "Noted" };
            write(&logs[log], &[(&stream.to_string(), event_type)]).await;
            written[log] += 1;
            spoilt[log][stream] |= poison;
            if spoilt[log][stream] {
                waiting[log].push(written[log]);
            }
        }
        match random.below(8) {
            0 => scripted.fail_next(StoreFault::Unavailable),
            1 => scripted.fail_next(StoreFault::AnswerLost),
            2 => scripted.fail_next(StoreFault::Moved),
            3 => {
                follower.abort().await;
                follower = start();
            }
            4 => {
                // a second one takes over; the first finds out or is ended
                let second = start();
                follower.shutdown(Duration::from_secs(20)).await;
                follower = second;
            }
            _ => {}
        }
        tokio::time::sleep(Duration::from_micros(random.draw() % 3_000)).await;
    }
    // a second follower that began before the first was ended may be the fenced one
    if soon("catching up", follower.caught_up()).await.is_err() {
        assert_eq!(follower.stopped().await, StopReason::Fenced, "seed {seed}: {:?}", follower.status());
        follower = start();
        soon("catching up", follower.caught_up()).await.expect("nobody else is left");
    }
    // a late answer may have shown an old head: what is written is known
    for (log, written) in logs.iter().zip(written) {
        let target = [(Feed::source(&**log).clone(), checkpoint(written))].into_iter().collect();
        soon("the end", follower.reached(&target)).await.expect("it goes on");
    }
    follower.shutdown(Duration::from_secs(20)).await;
    for (log, waiting) in logs.iter().zip(waiting) {
        assert_each_once(&store, &**log, &waiting, &format!("seed {seed}")).await;
    }
    faulty.iter().map(|feed| feed.lies()).sum()
}

fn checkpoint(position: u64) -> event_store::follower::Checkpoint {
    event_store::follower::Checkpoint { position, ..Default::default() }
}
