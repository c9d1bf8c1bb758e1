//! Crashes at every failpoint around the checkpoint. Failpoints belong to the whole process, so these tests have one of
//! their own and take turns.

use std::sync::Arc;

use event_store::{
    failpoint,
    follower::{Follower, FollowerStore, StopReason},
};
use testkit::follower_kit::{assert_each_once, feeds, ledger, logs, options, soon, write_many};

static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// Crashes at the `nth` passage of `name`, starts anew on the same store until everything is applied, and gives back
/// how often it crashed.
async fn crashes_at(name: &str, nth: u64) -> u32 {
    let (logs, store) = (logs(&[("users", 20), ("orders", 25)]).await, ledger());
    failpoint::arm(name, nth);
    let mut crashes = 0;
    loop {
        let follower = Follower::start("test", feeds(&logs), store.clone() as Arc<dyn FollowerStore>, options());
        tokio::select! {
            biased;
            reason = follower.stopped() => {
                assert!(matches!(reason, StopReason::Failpoint(_)), "{reason:?}");
                crashes += 1;
            }
            caught_up = soon("catching up", follower.caught_up()) => {
                if caught_up.is_ok() {
                    break;
                }
            }
        }
        if crashes == 1 {
            // the world goes on while the follower is down
            write_many(&logs[0], 5, 2).await;
        }
    }
    failpoint::disarm_all();
    for log in &logs {
        assert_each_once(&store, &**log, &[], &format!("{name}:{nth}")).await;
    }
    crashes
}

#[tokio::test]
async fn a_crash_before_or_after_any_step_applies_every_event_once() {
    let _turn = TURN.lock().await;
    for name in ["follower.before_apply", "follower.after_apply"] {
        // 20 and 25 events in steps of 7 are seven steps
        for nth in 1..=7 {
            assert_eq!(crashes_at(name, nth).await, 1, "{name}:{nth}");
        }
    }
}

#[tokio::test]
async fn a_store_that_fails_before_or_after_its_commit_applies_every_event_once() {
    let _turn = TURN.lock().await;
    for name in ["follower_memory.before_commit", "follower_memory.after_commit"] {
        for nth in 1..=7 {
            assert_eq!(crashes_at(name, nth).await, 0, "{name}:{nth}: the kernel settles it without a restart");
        }
    }
}
