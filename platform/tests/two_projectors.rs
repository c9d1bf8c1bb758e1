//! Two real processes on one PostgreSQL: one follows a read model; frozen past its lease, it is taken over from, and what it
//! writes when it wakes up is refused and said so.

mod common;

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::{Duration, Instant},
};

use common::{Home, Platform, text, tributary};
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};
use testkit::postgres;
use uuid::Uuid;

const NAME: &str = "order_details";

/// Frozen for so long at most does the read model stand still: the lease, and what a transaction in progress may hold.
const TAKEN_OVER_MAX: Duration = Duration::from_secs(30);

async fn register(platform: &Platform, n: u64) -> String {
    let id = Uuid::from_u128(0xfeed_0000 + u128::from(n));
    let user = json!({ "id": id, "name": format!("Ada {n}"), "email": format!("{n}@example.com") });
    platform.command("/users", &format!("user {n}"), "", user).await.token
}

/// Whether rows that hold what `token` stands for can be read.
async fn is_reached(platform: &Platform, token: &str) -> bool {
    let request = platform.http.post(format!("{}/graphql", platform.url)).header("consistency-token", token);
    let query = json!({ "query": "{ orders(first: 1) { edges { node { orderId } } } }" });
    let answer = request.header("consistency-wait", "1s").json(&query).send().await.expect("an answer");
    let answer: Value = answer.json().await.expect("JSON");
    answer.get("errors").is_none()
}

async fn holder(platform: &Platform) -> Option<String> {
    let (_, shown) = platform.get(&format!("/admin/projections/{NAME}/generations")).await;
    let live = shown["generations"].as_array()?.iter().find(|one| one["state"] == "live")?.clone();
    live["holder"].as_str().map(str::to_owned)
}

/// Until what `token` stands for is read; how long that took.
async fn until_reached(platform: &Platform, token: &str) -> Duration {
    let started = Instant::now();
    while !is_reached(platform, token).await {
        assert!(started.elapsed() < TAKEN_OVER_MAX, "not taken over: {:?}", platform.said());
    }
    started.elapsed()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_is_frozen_past_its_lease_is_taken_over_from_and_writes_nothing_when_it_wakes() {
    let home = Home::postgres(postgres::shared().await).await;
    let lease = ["--lease-seconds", "2"];
    let first = Platform::up_with(&home, &lease, &[]).await.expect("up");
    let second = Platform::up_with(&home, &lease, &[]).await.expect("up");
    let by_first = holder(&first).await.expect("the first to come follows it");

    let Home::Postgres { urls, .. } = &home else { unreachable!("it was just made") };
    let mut leases = PgConnection::connect(&urls["query"]).await.expect("the query database");
    // the second takes commands all the while, so that there always is something to write
    let (stop, count) = (AtomicBool::new(false), AtomicU64::new(0));
    let load = async {
        while !stop.load(Ordering::Relaxed) {
            register(&second, count.fetch_add(1, Ordering::Relaxed)).await;
        }
    };
    let story = async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        first.signal("-STOP").await;
        let token = register(&second, 1_000_000).await;
        until_reached(&second, &token).await;
        assert_ne!(holder(&second).await, Some(by_first.clone()), "another process follows it now");
        // renewing its lease has to wait for a moment, so that what it goes on to write comes before it knows
        let mut held = leases.begin().await.expect("a transaction");
        sqlx::query("select from leases for update").execute(&mut *held).await.expect("leases");
        let before = first.said().len();
        first.signal("-CONT").await;
        let has_said = async |what: &str| first.said()[before..].iter().any(|line| line.contains(what));
        first.until("refused by the fence", || has_said("write refused")).await;
        held.rollback().await.expect("released");
        first.until("told that its lease is lost", || has_said("lease_lost")).await;
        // asked by way of whoever woke up, the rows go on as well
        let token = register(&second, 1_000_001).await;
        until_reached(&first, &token).await;
        stop.store(true, Ordering::Relaxed);
    };
    tokio::join!(load, story);
    let verified = tributary(&["projection", "verify", NAME, "--url", &first.url]).await;
    assert!(verified.status.success(), "0 differences: {}", text(&verified));

    // a process that dies is not waited for
    let by_second = holder(&first).await.expect("somebody follows it");
    let started = Instant::now();
    second.kill().await;
    let token = register(&first, 1_000_002).await;
    until_reached(&first, &token).await;
    assert_ne!(holder(&first).await, Some(by_second), "after {:?}", started.elapsed());
    let verified = tributary(&["projection", "verify", NAME, "--url", &first.url]).await;
    assert!(verified.status.success(), "0 differences: {}", text(&verified));
}
