//! Services on logs in memory, and a client that needs no network.

#![allow(dead_code, reason = "each test binary uses its part")]

use std::{ops::Deref, sync::Arc};

use axum::{
    Router,
    body::{Body, to_bytes},
    http::{HeaderMap, Request, StatusCode},
};
use event_store::{
    clock::{Clock, SystemClock},
    feed::Feed,
    log::EventLog,
    memory::MemoryLog,
};
use serde_json::{Value, json};
use tower::ServiceExt;
use uuid::Uuid;
use write_side::{
    Given, ReplicaHome, Service,
    notifications::{Post, mailbox::MailFolder},
    peer::Peer,
    register,
};

pub const ANA: &str = "0198c0de-0000-7000-8000-000000000001";
pub const CHAI: &str = "0198c0de-0000-7000-8000-000000000011";
pub const TEA: &str = "0198c0de-0000-7000-8000-000000000012";
pub const NOBODY: &str = "0198c0de-0000-7000-8000-0000000000ff";

pub struct Shop {
    pub users: Arc<MemoryLog>,
    pub catalog: Arc<MemoryLog>,
    pub orders: Arc<MemoryLog>,
    pub services: Vec<Service>,
    client: Client,
}

/// One service by itself, on any log.
pub struct Alone {
    pub service: Service,
    client: Client,
}

/// Sends requests to routes, without a network.
#[derive(Clone)]
pub struct Client {
    router: Router,
}

#[derive(Debug, Clone)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Value,
    pub text: String,
}

impl Answer {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).unwrap_or_else(|| panic!("no {name} on {self:?}")).to_str().unwrap()
    }

    pub fn code(&self) -> &str {
        self.body["code"].as_str().unwrap_or_else(|| panic!("no code in {self:?}"))
    }

    pub fn token(&self) -> String {
        self.header("consistency-token").to_owned()
    }

    /// The pointers of the bad fields it names.
    pub fn pointers(&self) -> Vec<&str> {
        let errors = self.body["errors"].as_array().unwrap_or_else(|| panic!("no errors in {self:?}"));
        errors.iter().map(|error| error["pointer"].as_str().unwrap()).collect()
    }

    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status.as_u16(), status, "{self:?}");
        self
    }
}

impl Shop {
    pub async fn open() -> Self {
        Self::open_with(|feed| feed).await
    }

    /// The orders service sees the other services' feeds as `through` shows them.
    pub async fn open_with(through: impl Fn(Arc<dyn Feed>) -> Arc<dyn Feed>) -> Self {
        let logs = [MemoryLog::new("users"), MemoryLog::new("catalog"), MemoryLog::new("orders")];
        Self::open_on(logs, ReplicaHome::Memory, through).await
    }

    pub async fn open_on(
        logs: [Arc<MemoryLog>; 3],
        replica: ReplicaHome,
        through: impl Fn(Arc<dyn Feed>) -> Arc<dyn Feed>,
    ) -> Self {
        let mut services = Vec::<Service>::new();
        for log in &logs {
            let entry = register::find(&log.identity().source).unwrap();
            let followed = services.iter().filter(|service| entry.follows.contains(&service.name));
            let feeds = followed.map(|service| through(service.feed())).collect();
            let given = Given { feeds, replica: replica.clone(), ..Given::new(log.clone() as Arc<dyn EventLog>) };
            services.push((entry.start)(given).await.unwrap());
        }
        let router = services.iter().fold(Router::new(), |router, service| router.merge(service.router.clone()));
        let [users, catalog, orders] = logs;
        Self { users, catalog, orders, services, client: Client { router } }
    }

    /// Changes a price, whichever it was.
    pub async fn reprice(&self, product: &str, price: Value) -> String {
        let path = format!("/products/{product}/price");
        self.post_with(&path, price, &[("if-match", "*")]).await.expect(200).token()
    }

    /// Ana, Chai and Tea, and the token that says so.
    pub async fn stock_up(&self) -> String {
        let ana =
            self.post("/users", json!({ "id": ANA, "name": "Ana", "email": "ana@example.com" })).await.expect(201);
        let mut tokens = vec![ana.token()];
        for (id, sku, price) in [(CHAI, "CHAI", 1_800), (TEA, "TEA", 900)] {
            let price = json!({ "amount_minor": price, "currency": "USD" });
            let product = json!({ "id": id, "sku": sku, "name": sku.to_lowercase(), "unit_price": price });
            tokens.push(self.post("/products", product).await.expect(201).token());
        }
        tokens.join(",")
    }

    pub async fn close(self) {
        for service in &self.services {
            service.shutdown().await;
        }
    }
}

impl Deref for Shop {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl Alone {
    /// Starts the service whose log it is.
    pub async fn open(log: Arc<dyn EventLog>) -> Self {
        Self::open_at(log, SystemClock::shared()).await
    }

    /// As [`Self::open`], where it is as late as `clock` says. Nothing ever happens in the services that it follows.
    pub async fn open_at(log: Arc<dyn EventLog>, clock: Arc<dyn Clock>) -> Self {
        let follows = register::find(&log.identity().source).unwrap().follows;
        let feeds = follows.iter().map(|name| MemoryLog::new(name) as Arc<dyn Feed>).collect();
        Self::open_following(log, clock, feeds).await
    }

    /// As [`Self::open_at`], where it follows `feeds`. The users service that it may ask knows nobody.
    pub async fn open_following(log: Arc<dyn EventLog>, clock: Arc<dyn Clock>, feeds: Vec<Arc<dyn Feed>>) -> Self {
        Self::open_asking(log, clock, feeds, Peer::here(Router::new())).await
    }

    /// As [`Self::open_following`], where it may ask `users`.
    pub async fn open_asking(
        log: Arc<dyn EventLog>,
        clock: Arc<dyn Clock>,
        feeds: Vec<Arc<dyn Feed>>,
        users: Peer,
    ) -> Self {
        let entry = register::find(&log.identity().source).unwrap();
        let peers = [("users", users)].into();
        let service = (entry.start)(Given { clock, feeds, peers, ..Given::new(log) }).await.unwrap();
        let client = Client { router: service.router.clone() };
        Self { service, client }
    }
}

impl Deref for Alone {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl Client {
    pub fn of(router: Router) -> Self {
        Self { router }
    }

    pub async fn send(&self, request: Request<Body>) -> Answer {
        send(&self.router, request).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(Request::get(path).body(Body::empty()).unwrap()).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.post_with(path, body, &[]).await
    }

    pub async fn post_with(&self, path: &str, body: Value, headers: &[(&str, &str)]) -> Answer {
        self.send(post(path, body.to_string(), headers)).await
    }
}

/// Every service of the register on a log in memory: for what must hold of all of them.
pub struct Everything {
    pub logs: Vec<Arc<MemoryLog>>,
    pub services: Vec<Service>,
    pub router: Router,
    /// Where mail goes.
    _mail: tempfile::TempDir,
}

impl Everything {
    pub async fn open() -> Self {
        let (mut logs, mut services) = (Vec::new(), Vec::<Service>::new());
        let mail = tempfile::tempdir().unwrap();
        let mailer = Arc::new(MailFolder::open(mail.path()).unwrap());
        let post = Post { mailer, sender: "Tributary <orders@shop.example>".parse().unwrap() };
        for entry in register::REGISTER {
            let log = MemoryLog::new(entry.name);
            // the checkout hears of nothing: what becomes of an order here is what a test makes of it
            let hears = entry.name != events::checkout::SOURCE;
            let followed = services.iter().filter(|service| hears && entry.follows.contains(&service.name));
            let feeds = followed.map(Service::feed).collect();
            let peers = services.iter().map(|service| (service.name, Peer::here(service.router.clone()))).collect();
            let given =
                Given { feeds, peers, post: Some(post.clone()), ..Given::new(log.clone() as Arc<dyn EventLog>) };
            services.push((entry.start)(given).await.unwrap());
            logs.push(log);
        }
        let router = services.iter().fold(Router::new(), |router, service| router.merge(service.router.clone()));
        Self { logs, services, router, _mail: mail }
    }

    /// How many events each log holds, but that of notifications, which moves by itself.
    pub async fn heads(&self) -> Vec<u64> {
        let mut heads = Vec::new();
        for log in self.logs.iter().filter(|log| *log.identity().source != *events::notifications::SOURCE) {
            heads.push(count(log).await);
        }
        heads
    }

    pub async fn close(self) {
        for service in self.services.iter().rev() {
            service.shutdown().await;
        }
    }
}

pub async fn send(router: &Router, request: Request<Body>) -> Answer {
    let response = router.clone().oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let text = String::from_utf8(to_bytes(body, usize::MAX).await.unwrap().to_vec()).unwrap();
    let body = serde_json::from_str(&text).unwrap_or(Value::Null);
    Answer { status: parts.status, headers: parts.headers, body, text }
}

pub fn post(path: &str, body: impl Into<Body>, headers: &[(&str, &str)]) -> Request<Body> {
    let mut request = Request::post(path);
    if !headers.iter().any(|(name, _)| *name == "content-type") {
        request = request.header("content-type", "application/json");
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(body.into()).unwrap()
}

pub fn order(lines: &[(&str, u32)]) -> Value {
    let lines: Vec<Value> =
        lines.iter().map(|(product, quantity)| json!({ "product_id": product, "quantity": quantity })).collect();
    json!({ "customer_id": ANA, "lines": lines })
}

/// How many events a log holds.
pub async fn count(log: &MemoryLog) -> u64 {
    let limit = event_store::feed::PageLimit::events(1);
    log.page(event_store::feed::Cursor::START, limit, std::time::Duration::ZERO).await.unwrap().head.position
}

pub fn new_id() -> String {
    Uuid::now_v7().to_string()
}
