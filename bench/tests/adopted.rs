//! The contract with postgres-es, as its own crate: `bench/peers` writes with it before and after the adoption, and our feed
//! has all of it. `event-store/tests/adopt.rs` is the same with its statements, every day; this one builds the peers' workspace
//! first, which takes minutes: `cargo xtask soak adopt`.

use std::{path::Path, process::Output, time::Duration};

use event_store::{
    feed::{Cursor, Feed, PageLimit},
    log::{ChainVerdict, EventLog},
    postgres::{PostgresLog, PostgresOptions},
};
use testkit::postgres::fresh_database;
use tokio::process::Command;

async fn run(program: &Path, arguments: &[&str]) -> Output {
    let done = Command::new(program).args(arguments).kill_on_drop(true).output().await.expect("it runs");
    assert!(done.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
    done
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "builds the peers' workspace, which takes minutes: cargo xtask soak adopt"]
async fn the_unchanged_crate_goes_on_writing_and_its_events_are_in_our_feed() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers");
    let manifest = folder.join("Cargo.toml").display().to_string();
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let target = folder.join("target").display().to_string();
    let build = ["build", "--release", "--locked", "--quiet", "--manifest-path", &manifest, "--target-dir", &target];
    run(Path::new(&cargo), &build).await;
    let peers = folder.join("target/release/peers");

    // streams of three events, made before; then commands by the crate, from many tasks on a pool
    let url = fresh_database("adopted").await;
    run(&peers, &["prepare", "--url", &url, "--prepared", "500"]).await;
    let write = ["run", "--url", &url, "--prepared", "500", "--tasks", "8", "--pool", "8", "--duration-ms", "1500"];
    run(&peers, &[&write[..], &["--streams", "hot"]].concat()).await;
    let adopted = PostgresLog::adopt(&url, "accounts", false).await.expect("adopted");
    assert!(adopted.events > 1_500, "the crate has written before: {adopted:?}");

    let options = PostgresOptions { migrate: false, ..PostgresOptions::default() };
    let log = PostgresLog::connect(&url, "accounts", options).await.expect("a log");
    let stop = tokio_util::sync::CancellationToken::new();
    let following = {
        let (log, stop) = (log.clone(), stop.clone());
        tokio::spawn(async move {
            let (mut cursor, mut versions) = (Cursor::START, std::collections::HashMap::new());
            loop {
                let is_last = stop.is_cancelled();
                let page =
                    log.page(cursor, PageLimit::events(1_000), Duration::from_millis(200)).await.expect("a page");
                for event in &page.events {
                    assert_eq!(event.position, cursor.position + 1, "gapless");
                    let version = versions.entry(event.stream.clone()).or_insert(0);
                    assert_eq!(event.sequence, *version + 1, "{} in its order", event.stream);
                    *version = event.sequence;
                    cursor = Cursor::at(event);
                }
                if is_last && page.events.is_empty() {
                    return cursor.position;
                }
            }
        })
    };
    // loads and appends to streams from before, and to new ones
    for streams in ["hot", "fresh"] {
        run(&peers, &[&write[..], &["--streams", streams]].concat()).await;
    }
    stop.cancel();
    let read = following.await.expect("followed");
    assert!(read > adopted.events + 100, "the crate has written since: {read}");
    let verdict = log.verify_chain().await.expect("verified");
    assert!(matches!(verdict, ChainVerdict::Intact { events, .. } if events == read), "{verdict:?}");
}
