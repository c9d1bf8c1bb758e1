//! Laws of how long answers to commands are kept.

use std::time::Duration;

use chrono::{DateTime, Utc};
use event_store::log::{AppendOutcome, ChainVerdict, CommandKey, EventLog, ForgetError, Sweep};

use super::harness::{LogHarness, account, append_with_key, commit, commit_one, read_all};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

async fn remembers(log: &dyn EventLog, key: &str) -> bool {
    log.stored_outcome("contract", key).await.expect("the store answers").is_some()
}

/// Goes over all keys in slices of `keys_max`: how many were forgotten in each slice.
async fn sweep(log: &dyn EventLog, before: DateTime<Utc>, keys_max: usize) -> Vec<u64> {
    let (mut after, mut slices): (Option<CommandKey>, _) = (None, Vec::new());
    loop {
        let swept = log.forget_commands(Sweep { before, after: after.clone(), keys_max }).await.expect("swept");
        slices.push(swept.forgotten);
        assert!(swept.next.is_none() || swept.next > after, "a sweep goes on");
        after = swept.next;
        if after.is_none() {
            return slices;
        }
    }
}

pub async fn keys_older_than_the_bound_are_forgotten_and_younger_ones_are_kept(harness: &dyn LogHarness) {
    let log = harness.open().await;
    commit_one(&*log, append_with_key(&account("a"), 0, "old", 1)).await;
    harness.let_time_pass(20 * DAY).await;
    commit_one(&*log, append_with_key(&account("a"), 1, "young", 1)).await;
    let now = harness.let_time_pass(20 * DAY).await;

    assert_eq!(sweep(&*log, now - 41 * DAY, 100).await, [0]);
    assert!(remembers(&*log, "old").await);
    assert_eq!(sweep(&*log, now - 30 * DAY, 100).await, [1]);
    assert!(!remembers(&*log, "old").await);
    assert!(remembers(&*log, "young").await);
    assert_eq!(sweep(&*log, now - 30 * DAY, 100).await, [0], "twice is once");
}

pub async fn a_sweep_visits_every_key_slice_by_slice(harness: &dyn LogHarness) {
    let log = harness.open().await;
    let named = |name: &str, ns: std::ops::Range<usize>| -> Vec<_> {
        ns.map(|n| vec![append_with_key(&account(&format!("{name}-{n}")), 0, &format!("{n}-{name}-é"), 1)]).collect()
    };
    commit(&*log, named("old", 0..9)).await;
    let now = harness.let_time_pass(40 * DAY).await;
    commit(&*log, named("young", 0..8)).await;

    // by key: 0-old, 0-young, 1-old, ..
    assert_eq!(sweep(&*log, now - 30 * DAY, 4).await, [2, 2, 2, 2, 1]);
    for n in 0..8 {
        assert!(!remembers(&*log, &format!("{n}-old-é")).await);
        assert!(remembers(&*log, &format!("{n}-young-é")).await);
    }
    assert_eq!(sweep(&*log, now - 30 * DAY, 1).await, [0; 9], "one slice a key, and one that finds the end");
}

pub async fn a_forgotten_key_can_be_used_again_and_the_events_stay(harness: &dyn LogHarness) {
    let log = harness.open().await;
    // decided anew each time, as by a client that sends its request again
    let create = || append_with_key(&account("a"), 0, "key", 2);
    commit_one(&*log, create()).await;
    let before = read_all(&*log).await;
    let now = harness.let_time_pass(40 * DAY).await;
    assert!(matches!(commit_one(&*log, create()).await, AppendOutcome::Duplicate(_)));
    sweep(&*log, now - 30 * DAY, 100).await;

    assert_eq!(read_all(&*log).await, before);
    assert_eq!(
        commit_one(&*log, create()).await,
        AppendOutcome::Conflict { expected: 0, actual: 2 },
        "the stream still knows that it exists"
    );
    let again = commit_one(&*log, append_with_key(&account("a"), 2, "key", 1)).await;
    assert_eq!(again, AppendOutcome::Appended { version: 3, position: 3 });
    assert_eq!(log.verify_chain().await.expect("verified"), ChainVerdict::Intact { events: 3, batches: 2 });
    for attempt in harness.tamper_attempts().await {
        assert!(attempt.result.is_err(), "was let through: {}", attempt.statement);
    }
    assert!(remembers(&*log, "key").await);
}

pub async fn keys_of_the_last_day_are_not_forgotten_whoever_asks(harness: &dyn LogHarness) {
    let log = harness.open().await;
    commit_one(&*log, append_with_key(&account("a"), 0, "key", 1)).await;
    let now = harness.let_time_pass(DAY / 2).await;
    for before in [now + DAY, now, now - DAY * 11 / 12] {
        let refused = log.forget_commands(Sweep { before, after: None, keys_max: 100 }).await;
        assert!(matches!(refused, Err(ForgetError::TooYoung)), "{before}: {refused:?}");
    }
    assert!(remembers(&*log, "key").await);
    let swept = log.forget_commands(Sweep { before: now - DAY, after: None, keys_max: 100 }).await.expect("swept");
    assert_eq!((swept.forgotten, swept.next), (0, None));
}
