//! The services as processes see each other: a server each, feeds over HTTP, logs in SQLite.

mod kit;

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use event_store::{
    feed::{Cursor, Feed, PageLimit},
    feed_http::HttpFeed,
    log::EventLog,
    sqlite::{SqliteLog, SqliteOptions},
};
use kit::{ANA, CHAI, NOBODY, order};
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};
use write_side::{Given, ReplicaHome, Service, register};

struct Server {
    url: String,
    service: Service,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Server {
    async fn start(folder: &Path, name: &str, followed: &[&Server]) -> Self {
        let log = SqliteLog::open(&folder.join(format!("{name}.db")), name, SqliteOptions::default()).unwrap();
        let feed = |other: &&Server| -> Arc<dyn Feed> {
            let url = format!("{}/{}/feed", other.url, other.service.name);
            Arc::new(HttpFeed::try_new(other.service.name, &url).unwrap())
        };
        let given = Given {
            feeds: followed.iter().map(feed).collect(),
            replica: ReplicaHome::Sqlite(folder.join("orders-replica.db")),
            ..Given::new(log as Arc<dyn EventLog>)
        };
        let service = (register::find(name).unwrap().start)(given).await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (stop, stopped) = oneshot::channel::<()>();
        let server = axum::serve(listener, service.router.clone()).with_graceful_shutdown(async move {
            let _ = stopped.await;
        });
        let task = tokio::spawn(async move { server.await.unwrap() });
        Self { url, service, stop, task }
    }

    async fn post(&self, path: &str, body: Value, headers: &[(&str, &str)]) -> reqwest::Response {
        let mut request = reqwest::Client::new().post(format!("{}{path}", self.url)).json(&body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.send().await.unwrap()
    }

    async fn stop(self) {
        self.service.close_feeds();
        self.stop.send(()).unwrap();
        self.task.await.unwrap();
        self.service.shutdown().await;
    }
}

fn token(response: &reqwest::Response) -> String {
    response.headers()["consistency-token"].to_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_go_on_while_the_other_services_are_down() {
    let folder = tempfile::tempdir().unwrap();
    let users = Server::start(folder.path(), "users", &[]).await;
    let catalog = Server::start(folder.path(), "catalog", &[]).await;
    let orders = Server::start(folder.path(), "orders", &[&users, &catalog]).await;
    let ana = users.post("/users", json!({ "id": ANA, "name": "Ana", "email": "ana@example.com" }), &[]).await;
    let chai = json!({ "id": CHAI, "sku": "CHAI", "name": "Chai", "unit_price": { "amount_minor": 1_800, "currency": "USD" } });
    let chai = catalog.post("/products", chai, &[]).await;
    let tokens = format!("{},{}", token(&ana), token(&chai));
    let placed = orders.post("/orders", order(&[(CHAI, 1)]), &[("consistency-token", &tokens)]).await;
    assert_eq!(placed.status(), 201, "{:?}", placed.text().await);

    // both have a long poll of the orders service under way, which must not hold up their end
    let stopping = Instant::now();
    users.stop().await;
    catalog.stop().await;
    assert!(stopping.elapsed() < Duration::from_secs(5), "{:?}", stopping.elapsed());
    assert_eq!(orders.post("/orders", order(&[(CHAI, 2)]), &[]).await.status(), 201);
    let unknown = orders.post("/orders", order(&[(NOBODY, 2)]), &[("consistency-wait", "100")]).await;
    assert_eq!(unknown.status(), 503);
    assert_eq!(unknown.json::<Value>().await.unwrap()["code"], "replica_behind");
    orders.stop().await;
}

/// A client that hangs up leaves nothing half-done: its command has happened or not, and its key tells.
#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_aborted_requests_take_effect_once_each() {
    let folder = tempfile::tempdir().unwrap();
    let users = Server::start(folder.path(), "users", &[]).await;
    let body = |n: u64| json!({ "name": format!("User {n}"), "email": format!("user-{n}@example.com") });
    for n in 0..200_u64 {
        let key = format!("key-{n}");
        let headers = [("idempotency-key", key.as_str())];
        let request = users.post("/users", body(n), &headers);
        let _ = tokio::time::timeout(Duration::from_micros(n * 37 % 5_000), request).await;
    }
    for n in 0..200_u64 {
        let key = format!("key-{n}");
        let answer = users.post("/users", body(n), &[("idempotency-key", &key)]).await;
        assert_eq!(answer.status(), 201, "{n}");
    }
    let page = users.service.log.page(Cursor::START, PageLimit::events(1), Duration::ZERO).await.unwrap();
    assert_eq!(page.head.position, 200);
    users.stop().await;
}
