//! A run that is killed, at any moment, is completed by the next.

use std::{process::Stdio, time::Duration};

use tokio::process::Command;

use crate::{
    common::{Platform, binary, seed, text},
    place::Place,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_was_killed_is_completed_by_the_next() {
    let mut chance = seed();
    let mut next = || {
        // xorshift
        chance ^= chance << 13;
        chance ^= chance >> 7;
        chance ^= chance << 17;
        chance
    };
    let place = Place::new().await;
    let seed = next();
    let mut killed = 0;
    for attempt in 0..40 {
        let mut child = Command::new(binary())
            .args(["migrate", "--admin-url", &place.admin_url(), "--secrets-dir", &place.secrets()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let moment = Duration::from_millis(20 + next() % 400);
        if tokio::time::timeout(moment, child.wait()).await.is_ok() {
            break;
        }
        child.kill().await.unwrap();
        killed = attempt + 1;
    }
    assert!(killed > 3, "{killed} kills only, seed {seed}");
    let made = place.migrate(&[]).await;
    assert!(made.status.success(), "seed {seed}: {}", text(&made));
    assert_eq!(text(&place.migrate(&["--check"]).await), "nothing to do\n", "seed {seed}");
    Platform::up(&place.home()).await;
}
