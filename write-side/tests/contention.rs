//! Sixty-four clients want the last pieces of one stock item at once: as many get one as there are, and all are answered.

mod kit;

use std::{collections::BTreeMap, sync::Arc};

use event_store::{
    log::EventLog,
    memory::MemoryLog,
    postgres::{PostgresLog, PostgresOptions},
    sqlite::{SqliteLog, SqliteOptions},
};
use futures::future::join_all;
use kit::{Alone, CHAI, Client};
use serde_json::json;

const CLIENTS: usize = 64;
const PIECES: u64 = 40;

/// Every client asks one of `services` for a piece, all at once.
async fn the_last_pieces(services: &[Alone]) {
    let first = &services[0];
    first.post(&format!("/stock/{CHAI}/receive"), json!({ "quantity": PIECES })).await.expect(200);
    let asking = (0..CLIENTS).map(|n| {
        let client = Client::clone(&services[n % services.len()]);
        tokio::spawn(async move {
            let wanted = json!({ "order_id": kit::new_id(), "line": 0, "quantity": 1 });
            client.post(&format!("/stock/{CHAI}/reserve"), wanted).await.expect(200)
        })
    });
    let mut answers: BTreeMap<String, u64> = BTreeMap::new();
    let mut versions = Vec::new();
    for answer in join_all(asking).await {
        let answer = answer.expect("everybody is answered");
        let status = answer.body["reservation"]["status"].as_str().unwrap().to_owned();
        *answers.entry(status).or_default() += 1;
        versions.push(answer.body["version"].as_u64().unwrap());
    }
    let (reserved, rejected) = (answers["RESERVED"], answers["REJECTED"]);
    assert_eq!((reserved, reserved + rejected), (PIECES, CLIENTS as u64), "{answers:?}");

    // one event a client, on top of the receipt: each has a version of its own, and the last one is the stream's
    versions.sort_unstable();
    assert_eq!(versions, (2..=CLIENTS as u64 + 1).collect::<Vec<_>>());
    for shop in services {
        let shown = shop.get(&format!("/stock/{CHAI}")).await.expect(200);
        assert_eq!(shown.header("etag"), format!("\"{}\"", CLIENTS + 1));
        assert_eq!((&shown.body["on_hand"], &shown.body["available"]), (&json!(PIECES), &json!(0)));
    }
    let feed = first.get(&format!("/inventory/feed?limit={}", 2 * CLIENTS)).await.expect(200);
    let of_type = |name: &str| feed.text.lines().filter(|line| line.contains(&format!("\"type\":\"{name}\""))).count();
    assert_eq!(feed.text.lines().count(), CLIENTS + 1);
    assert_eq!(of_type("StockReserved"), PIECES as usize, "{}", feed.text);
    for shop in services {
        shop.service.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn as_many_clients_get_a_piece_as_there_are_in_memory() {
    the_last_pieces(&[Alone::open(MemoryLog::new("inventory")).await]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn as_many_clients_get_a_piece_as_there_are_on_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    let log = SqliteLog::open(&folder.path().join("inventory.db"), "inventory", SqliteOptions::default()).unwrap();
    the_last_pieces(&[Alone::open(log as Arc<dyn EventLog>).await]).await;
}

/// Two services that know nothing of each other but the database: each decides on a state that the other has outdated. Two
/// processes of the binary do the same in `platform/tests/contention.rs`.
#[tokio::test(flavor = "multi_thread")]
async fn as_many_clients_get_a_piece_as_there_are_from_two_services_on_one_postgresql_database() {
    let url = testkit::postgres::fresh_database("inventory").await;
    let mut services = Vec::new();
    for _ in 0..2 {
        let log = PostgresLog::connect(&url, "inventory", PostgresOptions::default()).await.unwrap();
        services.push(Alone::open(log as Arc<dyn EventLog>).await);
    }
    the_last_pieces(&services).await;
}
