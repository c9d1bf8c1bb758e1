//! How long answers to commands are kept, on the log in memory with a clock that only moves when it is told to.

use std::{sync::Arc, time::Duration};

use chrono::Utc;
use event_store::{
    clock::{Clock, ManualClock},
    log::EventLog,
    memory::MemoryLog,
    retention::{Retention, RetentionOptions},
};
use testkit::log_contract::harness::{account, append_with_key, commit_one};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Long enough for hundreds of slices.
const PATIENCE: Duration = Duration::from_secs(10);

async fn remembered(log: &MemoryLog) -> Vec<String> {
    let mut remembered = Vec::new();
    for n in 0..20 {
        let key = format!("key-{n:02}");
        if log.stored_outcome("contract", &key).await.unwrap().is_some() {
            remembered.push(key);
        }
    }
    remembered
}

async fn until_remembered(log: &MemoryLog, count: usize) {
    let looking = async {
        while remembered(log).await.len() != count {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(PATIENCE, looking).await.expect("old keys are forgotten in time");
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_forgotten_when_their_time_is_over_also_those_that_came_later() {
    let clock = Arc::new(ManualClock::at(Utc::now()));
    let log = MemoryLog::with_clock("accounts", Arc::clone(&clock) as Arc<dyn Clock>);
    let append = async |n: usize| {
        let item = append_with_key(&account(&n.to_string()), 0, &format!("key-{n:02}"), 1);
        assert!(commit_one(&*log, item).await.is_applied());
    };
    for n in 0..10 {
        append(n).await;
    }
    clock.advance(20 * DAY);
    for n in 10..20 {
        append(n).await;
    }
    let pause = Duration::from_millis(1);
    let options = RetentionOptions {
        slice_keys_max: 3,
        slice_pause: pause,
        sweep_pause: pause,
        error_pause: pause,
        clock: Arc::clone(&clock) as Arc<dyn Clock>,
        ..RetentionOptions::default()
    };
    let retention = Retention::start(Arc::clone(&log) as Arc<dyn EventLog>, options);
    tokio::time::sleep(20 * pause).await;
    assert_eq!(remembered(&log).await.len(), 20, "nothing is old yet");

    clock.advance(11 * DAY);
    until_remembered(&log, 10).await;
    assert_eq!(remembered(&log).await[0], "key-10");
    clock.advance(20 * DAY);
    until_remembered(&log, 0).await;

    retention.shutdown().await;
    append(20).await;
    clock.advance(40 * DAY);
    tokio::time::sleep(20 * pause).await;
    assert!(log.stored_outcome("contract", "key-20").await.unwrap().is_some(), "nobody forgets any more");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_does_not_end_the_task() {
    let clock = Arc::new(ManualClock::at(Utc::now()));
    let log = MemoryLog::with_clock("accounts", Arc::clone(&clock) as Arc<dyn Clock>);
    commit_one(&*log, append_with_key(&account("a"), 0, "key-00", 1)).await;
    // this clock is ahead of the log's, so that the log refuses to forget
    let ahead = Arc::new(ManualClock::at(clock.now() + 60 * DAY));
    let pause = Duration::from_millis(1);
    let options = RetentionOptions { error_pause: pause, sweep_pause: pause, clock: ahead, ..Default::default() };
    let retention = Retention::start(Arc::clone(&log) as Arc<dyn EventLog>, options);
    tokio::time::sleep(20 * pause).await;
    assert_eq!(remembered(&log).await, ["key-00"]);
    clock.advance(60 * DAY);
    until_remembered(&log, 0).await;
    retention.shutdown().await;
}
