//! Two processes on one PostgreSQL database and sixty-four clients on one stock item: as many get a piece as there are.

mod common;

use std::collections::BTreeMap;

use common::{Home, Platform};
use futures::future::join_all;
use serde_json::{Value, json};
use testkit::postgres;
use uuid::Uuid;

const CLIENTS: u64 = 64;
const PIECES: u64 = 40;

const PRODUCT: &str = "22222222-2222-4222-8222-222222222222";

/// Each decides on a state that the other one's decisions outdate all the time.
#[tokio::test(flavor = "multi_thread")]
async fn two_processes_on_one_database_sell_no_piece_twice_and_leave_nobody_without_an_answer() {
    let home = Home::postgres(postgres::shared().await).await;
    let processes = [Platform::up(&home).await, Platform::up(&home).await];
    assert_ne!(processes[0].pid(), processes[1].pid());
    let stock = |command: &str| format!("/stock/{PRODUCT}/{command}");
    let received = processes[0].command(&stock("receive"), "receive", "", json!({ "quantity": PIECES })).await;

    let (path, token) = (stock("reserve"), &received.token);
    let asking = (0..CLIENTS).map(|n| {
        let (process, path) = (&processes[n as usize % processes.len()], &path);
        async move {
            let wanted = json!({ "order_id": Uuid::new_v4(), "line": 0, "quantity": 1 });
            process.command(path, &format!("client-{n}"), token, wanted).await.body
        }
    });
    let answers = join_all(asking).await;

    // the first law: what is promised is there, and everybody learns where they stand
    let mut stands: BTreeMap<&str, u64> = BTreeMap::new();
    for answer in &answers {
        *stands.entry(answer["reservation"]["status"].as_str().expect("a status")).or_default() += 1;
    }
    assert_eq!(stands, BTreeMap::from([("REJECTED", CLIENTS - PIECES), ("RESERVED", PIECES)]));
    // the second: one event a client behind the receipt, each with a version of its own, the last one the stream's
    let mut versions: Vec<u64> = answers.iter().map(|answer| answer["version"].as_u64().expect("a version")).collect();
    versions.sort_unstable();
    assert_eq!(versions, (2..=CLIENTS + 1).collect::<Vec<_>>());

    for process in &processes {
        let (status, shown) = process.get(&format!("/stock/{PRODUCT}")).await;
        let all_held =
            json!({ "id": PRODUCT, "on_hand": PIECES, "held": PIECES, "available": 0, "reservations": PIECES });
        assert_eq!((status, shown), (200, all_held));
        let feed = process.http.get(format!("{}/inventory/feed?limit=1000", process.url)).send().await.expect("a feed");
        let feed = feed.text().await.expect("a page");
        let positions: Vec<Value> = feed
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).expect("a CloudEvents object")["position"].take())
            .collect();
        assert_eq!(positions, (1..=CLIENTS + 1).map(Value::from).collect::<Vec<_>>(), "one feed, without a hole");
    }
}
