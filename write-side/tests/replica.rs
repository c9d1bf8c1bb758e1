//! What the orders service knows of users and products, and what it does when it does not know enough.

mod kit;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use event_store::{
    feed::{Cursor, Feed, FeedError, FeedPage, PageLimit},
    follower::{FollowerOptions, HaltReason},
    memory::MemoryLog,
};
use events::envelope::Name;
use kit::{ANA, CHAI, NOBODY, Shop, TEA, order};
use serde_json::json;
use write_side::ReplicaHome;

const KEY: (&str, &str) = ("idempotency-key", "key-1");
const SHORT: (&str, &str) = ("consistency-wait", "100");

/// The network between the orders service and the others.
#[derive(Clone, Default)]
struct Wire(Arc<AtomicBool>);

impl Wire {
    fn cut(&self, cut: bool) {
        self.0.store(cut, Ordering::SeqCst);
    }

    fn through(&self) -> impl Fn(Arc<dyn Feed>) -> Arc<dyn Feed> {
        let wire = self.clone();
        move |feed| Arc::new(Wired { wire: wire.clone(), feed })
    }
}

struct Wired {
    wire: Wire,
    feed: Arc<dyn Feed>,
}

#[async_trait]
impl Feed for Wired {
    fn source(&self) -> &Name {
        self.feed.source()
    }

    async fn page(&self, after: Cursor, limit: PageLimit, wait: Duration) -> Result<FeedPage, FeedError> {
        // polls often, so that a cut is noticed at once
        let page = self.feed.page(after, limit, wait.min(Duration::from_millis(10))).await;
        if self.wire.0.load(Ordering::SeqCst) {
            return Err(FeedError::Unreachable { feed: self.source().clone(), cause: "cut".into() });
        }
        page
    }
}

#[tokio::test]
async fn an_order_waits_for_what_its_token_stands_for() {
    let wire = Wire::default();
    let shop = Shop::open_with(wire.through()).await;
    wire.cut(true);
    let token = shop.stock_up().await;
    let headers = [("consistency-token", &*token), ("consistency-wait", "5s")];
    let waiting = shop.post_with("/orders", order(&[(CHAI, 1)]), &headers);
    let healing = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        wire.cut(false);
    };
    let (answer, ()) = tokio::join!(waiting, healing);
    answer.expect(201);
}

#[tokio::test]
async fn a_token_that_is_not_reached_in_time_stores_nothing() {
    let wire = Wire::default();
    let shop = Shop::open_with(wire.through()).await;
    wire.cut(true);
    let token = shop.stock_up().await;
    let headers = [KEY, SHORT, ("consistency-token", &*token)];
    let answer = shop.post_with("/orders", order(&[(CHAI, 1)]), &headers).await.expect(503);
    assert_eq!((answer.code(), answer.header("retry-after")), ("consistency_timeout", "1"));
    wire.cut(false);
    let headers = [KEY, ("consistency-token", &*token), ("consistency-wait", "10s")];
    let answer = shop.post_with("/orders", order(&[(CHAI, 1)]), &headers).await.expect(201);
    assert!(!answer.headers.contains_key("idempotency-replayed"));
}

#[tokio::test]
async fn a_token_of_a_dead_history_is_lost_and_not_worth_a_retry() {
    let shop = Shop::open().await;
    shop.stock_up().await;
    let dead = "catalog:0123456789ab:1:0123456789ab";
    let headers = [SHORT, ("consistency-token", dead)];
    let answer = shop.post_with("/orders", order(&[(CHAI, 1)]), &headers).await.expect(409);
    assert_eq!((answer.code(), &answer.body["source"]), ("consistency_lost", &json!("catalog")));
}

#[tokio::test]
async fn a_reference_that_is_missing_while_news_are_late_is_refused_for_now_and_never_stored() {
    let wire = Wire::default();
    let shop = Shop::open_with(wire.through()).await;
    wire.cut(true);
    shop.stock_up().await;
    let answer = shop.post_with("/orders", order(&[(CHAI, 1)]), &[KEY, SHORT]).await.expect(503);
    assert_eq!((answer.code(), &answer.body["source"]), ("replica_behind", &json!("users")));
    wire.cut(false);
    shop.post_with("/orders", order(&[(CHAI, 1)]), &[KEY, ("consistency-wait", "10s")]).await.expect(201);
}

#[tokio::test]
async fn what_was_acknowledged_a_moment_ago_is_not_taken_for_missing() {
    let shop = Shop::open().await;
    shop.stock_up().await;
    for n in 0..50 {
        let product = json!({ "sku": format!("SKU-{n}"), "name": "new",
            "unit_price": { "amount_minor": 1, "currency": "USD" } });
        let added = shop.post("/products", product).await.expect(201);
        shop.post("/orders", order(&[(added.body["id"].as_str().unwrap(), 1)])).await.expect(201);
    }
}

#[tokio::test]
async fn a_retry_of_a_finished_order_is_answered_while_the_news_are_late() {
    let wire = Wire::default();
    let shop = Shop::open_with(wire.through()).await;
    let token = shop.stock_up().await;
    let body = order(&[(CHAI, 1), (NOBODY, 1)]);
    let headers = [KEY, ("consistency-token", &*token)];
    let first = shop.post_with("/orders", body.clone(), &headers).await.expect(422);
    wire.cut(true);
    let again = shop.post_with("/orders", body, &[KEY, SHORT]).await.expect(422);
    assert_eq!((again.code(), again.token()), (first.code(), first.token()));
    // what is new is not refused for good
    let new = shop.post_with("/orders", order(&[(NOBODY, 1)]), &[SHORT]).await.expect(503);
    assert_eq!(new.code(), "replica_behind");
    // and what is known needs nobody else
    shop.post("/orders", order(&[(CHAI, 1)])).await.expect(201);
}

#[tokio::test]
async fn changes_of_the_catalog_and_the_users_reach_the_next_order() {
    let shop = Shop::open().await;
    shop.stock_up().await;
    let gone = shop.post(&format!("/products/{TEA}/discontinue"), json!({})).await.expect(200).token();
    let refused = shop.post_with("/orders", order(&[(CHAI, 1), (TEA, 1)]), &[("consistency-token", &gone)]).await;
    assert_eq!((refused.code(), refused.pointers()), ("product_discontinued", vec!["/lines/1/product_id"]));
    let euros = json!({ "unit_price": { "amount_minor": 5, "currency": "EUR" } });
    let euros = shop.reprice(CHAI, euros).await;
    let other = json!({ "sku": "OTHER", "name": "other", "unit_price": { "amount_minor": 1, "currency": "USD" } });
    let other = shop.post("/products", other).await.expect(201);
    let token = format!("{euros},{}", other.token());
    let mixed = order(&[(CHAI, 1), (other.body["id"].as_str().unwrap(), 1)]);
    let refused = shop.post_with("/orders", mixed, &[("consistency-token", &token)]).await.expect(422);
    assert_eq!(refused.code(), "mixed_currencies");
    let erased = shop.post(&format!("/users/{ANA}/erase"), json!({})).await.expect(200).token();
    let refused = shop.post_with("/orders", order(&[(CHAI, 1)]), &[("consistency-token", &erased)]).await.expect(422);
    assert_eq!(refused.code(), "customer_erased");
}

#[tokio::test]
async fn a_product_that_cannot_be_read_is_never_sold_and_the_known_ones_are() {
    let logs = [MemoryLog::new("users"), MemoryLog::new("catalog"), MemoryLog::new("orders")];
    let first = Shop::open_on(logs.clone(), ReplicaHome::Memory, |feed| feed).await;
    first.stock_up().await;
    first.close().await;
    logs[1].tamper(2, "{\"sku\": 7}");
    let shop = Shop::open_on(logs, ReplicaHome::Memory, |feed| feed).await;
    let headers = [("consistency-wait", "300")];
    shop.post_with("/orders", order(&[(CHAI, 1)]), &headers).await.expect(201);
    let answer = shop.post_with("/orders", order(&[(TEA, 1)]), &headers).await.expect(503);
    assert_eq!(answer.code(), "replica_behind");
    let status = shop.services[2].replica.as_ref().unwrap().follower().status();
    let halt = status.sources["catalog"].halt();
    assert!(matches!(halt, Some(HaltReason::Poison { position: 2, .. })), "{halt:?}");
    assert_eq!(FollowerOptions::default().parked_streams_max, 1_000, "others do park");
}

/// Orders are placed from what was stored, before any feed has answered.
async fn survives_a_restart(home: ReplicaHome) {
    let wire = Wire::default();
    let logs = [MemoryLog::new("users"), MemoryLog::new("catalog"), MemoryLog::new("orders")];
    let shop = Shop::open_on(logs.clone(), home.clone(), wire.through()).await;
    let mut token = shop.stock_up().await;
    let price = json!({ "unit_price": { "amount_minor": 2_000, "currency": "USD" } });
    token = format!("{token},{}", shop.reprice(CHAI, price).await);
    shop.post_with("/orders", order(&[(CHAI, 1)]), &[("consistency-token", &token)]).await.expect(201);
    shop.close().await;
    wire.cut(true);
    let shop = Shop::open_on(logs, home, wire.through()).await;
    let headers = [("consistency-token", &*token)];
    let placed = shop.post_with("/orders", order(&[(CHAI, 2)]), &headers).await.expect(201);
    let shown = shop.get(placed.header("location")).await.body;
    assert_eq!(shown["lines"][0]["unit_price"]["amount_minor"], 2_000);
    // and on from there, not from the beginning
    wire.cut(false);
    let erased = shop.post(&format!("/users/{ANA}/erase"), json!({})).await.expect(200).token();
    let headers = [("consistency-token", &*erased), ("consistency-wait", "10s")];
    let refused = shop.post_with("/orders", order(&[(CHAI, 1)]), &headers).await.expect(422);
    assert_eq!(refused.code(), "customer_erased");
    let status = shop.services[2].replica.as_ref().unwrap().follower().status();
    assert_eq!(status.sources["users"].counters.events_applied, 1);
    shop.close().await;
}

#[tokio::test]
async fn a_replica_in_sqlite_survives_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    survives_a_restart(ReplicaHome::Sqlite(folder.path().join("orders-replica.db"))).await;
}

#[tokio::test]
async fn a_replica_in_postgres_survives_a_restart() {
    let url = testkit::postgres::fresh_database("replica").await;
    survives_a_restart(ReplicaHome::Postgres(url.parse().unwrap())).await;
}

#[tokio::test]
async fn a_log_restored_from_an_older_copy_is_read_anew_at_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    let replica = ReplicaHome::Sqlite(folder.path().join("orders-replica.db"));
    let logs = || [MemoryLog::new("users"), MemoryLog::new("catalog"), MemoryLog::new("orders")];
    let shop = Shop::open_on(logs(), replica.clone(), |feed| feed).await;
    let token = shop.stock_up().await;
    shop.post_with("/orders", order(&[(CHAI, 1)]), &[("consistency-token", &*token)]).await.expect(201);
    let [users, _, orders] = [&shop.users, &shop.catalog, &shop.orders].map(Arc::clone);
    shop.close().await;

    // the catalog's backup is from before there was anything
    let shop = Shop::open_on([users, MemoryLog::new("catalog"), orders], replica, |feed| feed).await;
    let price = json!({ "amount_minor": 700, "currency": "USD" });
    let tea = json!({ "id": TEA, "sku": "TEA", "name": "tea", "unit_price": price });
    let token = shop.post("/products", tea).await.expect(201).token();
    let headers = [("consistency-token", &*token)];
    let ordered = shop.post_with("/orders", order(&[(TEA, 1)]), &headers).await.expect(201);
    let ordered = shop.get(ordered.header("location")).await.expect(200);
    assert_eq!(ordered.body["lines"][0]["unit_price"]["amount_minor"], 700);
    let gone = shop.post_with("/orders", order(&[(CHAI, 1)]), &headers).await.expect(422);
    assert_eq!(gone.code(), "product_unknown");
}
