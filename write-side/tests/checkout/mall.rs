//! Every service there is, with everything that it acts on, and a customer.

use std::{collections::BTreeMap, ops::Deref, sync::Arc, time::Duration};

use axum::Router;
use chrono::TimeDelta;
use event_store::{
    feed::{Cursor, Feed, PageLimit},
    log::EventLog,
    memory::MemoryLog,
    postgres::PostgresLog,
    sqlite::SqliteLog,
};
use events::envelope::RecordedEvent;
use serde_json::{Value, json};
use testkit::{jumping_clock::JumpingClock, postgres::fresh_database};
use write_side::{
    Given, ReplicaHome, Service,
    notifications::{Post, mailbox::MailFolder},
    payments::gateway::SimulatedGateway,
    peer::Peer,
    register,
};

use crate::kit::{ANA, Answer, CHAI, Client, TEA, new_id};

/// Only a test that fails waits so long.
const PATIENCE: Duration = Duration::from_secs(120);

/// Where the services keep what they keep.
pub enum Home {
    Memory,
    /// A file each.
    Sqlite(tempfile::TempDir),
    /// A database each.
    Postgres,
}

pub struct Mall {
    services: Vec<Service>,
    /// Of each service its own.
    clocks: BTreeMap<&'static str, Arc<JumpingClock>>,
    client: Client,
    /// What a command must wait for to know customers and products.
    token: String,
    _mail: tempfile::TempDir,
    _home: Home,
}

impl Home {
    pub fn sqlite() -> Self {
        Self::Sqlite(tempfile::tempdir().unwrap())
    }

    /// The log of a service, and where it keeps the rest.
    async fn of(&self, service: &str) -> (Arc<dyn EventLog>, ReplicaHome, ReplicaHome) {
        match self {
            Self::Memory => (MemoryLog::new(service), ReplicaHome::Memory, ReplicaHome::Memory),
            Self::Sqlite(folder) => {
                let file = |what: &str| folder.path().join(format!("{service}{what}.db"));
                let log = SqliteLog::open(&file(""), service, Default::default()).unwrap();
                (log, ReplicaHome::Sqlite(file("-replica")), ReplicaHome::Sqlite(file("-reactor")))
            }
            Self::Postgres => {
                let url = fresh_database(service).await;
                let log = PostgresLog::connect(&url, service, Default::default()).await.unwrap();
                let home = ReplicaHome::Postgres(url.parse().unwrap());
                (log, home.clone(), home)
            }
        }
    }
}

impl Mall {
    /// Open for business: Ana, chai and tea, and plenty of both.
    pub async fn open(home: Home) -> Self {
        let mail = tempfile::tempdir().unwrap();
        let mailer = Arc::new(MailFolder::open(mail.path()).unwrap());
        let post = Post { mailer, sender: "Tributary <orders@shop.example>".parse().unwrap() };
        // a gateway that is silent should not keep tests waiting for long
        let gateway = Arc::new(SimulatedGateway::new(Duration::from_millis(1)));
        let mut services = Vec::<Service>::new();
        let mut clocks = BTreeMap::<_, Arc<JumpingClock>>::new();
        for entry in register::REGISTER {
            let (log, replica, duties) = home.of(entry.name).await;
            let followed = services.iter().filter(|service| entry.follows.contains(&service.name));
            let feeds = followed.map(Service::feed).collect();
            let peers = services.iter().map(|service| (service.name, Peer::here(service.router.clone()))).collect();
            let (post, gateway) = (Some(post.clone()), gateway.clone());
            let log = register::log_of(entry.name, log);
            let clock = Arc::clone(clocks.entry(entry.name).or_default());
            let given = Given { feeds, replica, duties, peers, post, gateway, clock, ..Given::new(log) };
            services.push((entry.start)(given).await.unwrap());
        }
        let router = services.iter().fold(Router::new(), |router, service| router.merge(service.router.clone()));
        let (client, token) = (Client::of(router), String::new());
        let mut this = Self { services, clocks, client, token, _mail: mail, _home: home };
        this.stock_up().await;
        this
    }

    async fn stock_up(&mut self) {
        let ana = json!({ "id": ANA, "name": "Ana", "email": "ana@example.com" });
        let mut tokens = vec![self.post("/users", ana).await.expect(201).token()];
        for (id, sku, price) in [(CHAI, "CHAI", 1_800), (TEA, "TEA", 900)] {
            tokens.push(self.product(id, sku, price, 1_000).await);
        }
        self.token = tokens.join(",");
    }

    /// Puts the clock of a service forward or back, or those of all.
    pub fn jump(&self, service: Option<&str>, by: TimeDelta) {
        let meant = self.clocks.iter().filter(|(name, _)| service.is_none_or(|service| service == **name));
        meant.for_each(|(_, clock)| clock.jump(by));
    }

    /// A product and so many pieces of it.
    pub async fn product(&self, id: &str, sku: &str, amount_minor: i64, pieces: u32) -> String {
        let unit_price = json!({ "amount_minor": amount_minor, "currency": "USD" });
        let product = json!({ "id": id, "sku": sku, "name": sku.to_lowercase(), "unit_price": unit_price });
        let added = self.post("/products", product).await.expect(201);
        self.post(&format!("/stock/{id}/receive"), json!({ "quantity": pieces })).await.expect(200);
        added.token()
    }

    /// Ana orders.
    pub async fn order(&self, lines: &[(&str, u32)], payment_method: &str) -> String {
        let lines = lines.iter().map(|(id, quantity)| json!({ "product_id": id, "quantity": quantity }));
        let lines: Vec<Value> = lines.collect();
        self.place(json!({ "customer_id": ANA, "lines": lines, "payment_method": payment_method }), "").await
    }

    /// Places an order that waits for `known` besides.
    pub async fn place(&self, mut order: Value, known: &str) -> String {
        let id = new_id();
        order["id"] = json!(id);
        let token = [&*self.token, known].join(",");
        let token = token.trim_end_matches(',');
        let headers = [("consistency-token", token), ("consistency-wait", "20s")];
        self.post_with("/orders", order, &headers).await.expect(201);
        id
    }

    /// Waits until the checkout of an order has come to a phase, and shows it.
    pub async fn until(&self, order: &str, phase: &str) -> Value {
        self.until_any(order, &[phase]).await
    }

    /// The same of one of several phases.
    pub async fn until_any(&self, order: &str, phases: &[&str]) -> Value {
        let path = format!("/checkouts/{order}");
        let mut seen = Value::Null;
        let waiting = async {
            while !phases.iter().any(|phase| seen["phase"] == *phase) || is_busy(&seen) {
                tokio::time::sleep(Duration::from_millis(5)).await;
                seen = self.get(&path).await.body;
            }
        };
        if tokio::time::timeout(PATIENCE, waiting).await.is_err() {
            panic!("waited in vain for {phases:?}: {seen:#}");
        }
        seen
    }

    /// What a service shows.
    pub async fn seen(&self, path: &str) -> Value {
        self.get(path).await.expect(200).body
    }

    /// Tells the shipping service how far the parcel of a checkout has come.
    pub async fn parcel(&self, checkout: &Value, what: &str) -> Answer {
        let body = match what {
            "dispatch" => json!({ "carrier": "Correos", "tracking": "MX-4711" }),
            "cancel" => json!({ "order_id": checkout["order_id"], "reason": "out of boxes" }),
            "lose" => json!({ "reason": "the lorry is gone" }),
            _ => json!({}),
        };
        let id = checkout["shipment"]["id"].as_str().unwrap();
        self.post(&format!("/shipments/{id}/{what}"), body).await.expect(200)
    }

    /// Everything that a service ever published, of the first some thousand events.
    pub async fn published(&self, service: &str) -> Vec<RecordedEvent> {
        let service = self.services.iter().find(|running| running.name == service).unwrap();
        let feed: Arc<dyn Feed> = service.feed();
        let (mut events, mut at) = (Vec::new(), Cursor::START);
        loop {
            let limit = PageLimit::events(PageLimit::EVENTS_MAX);
            let page = feed.page(at, limit, Duration::ZERO).await.unwrap().events;
            let Some(last) = page.last() else { return events };
            at = Cursor { position: last.position, event_id: Some(last.event_id) };
            events.extend(page);
        }
    }

    pub async fn close(self) {
        for service in self.services.iter().rev() {
            service.shutdown().await;
        }
    }
}

/// Whether the checkout waits for an answer: what it shows is then about to change.
fn is_busy(checkout: &Value) -> bool {
    checkout["waits_for"].as_array().is_some_and(|steps| !steps.is_empty())
}

impl Deref for Mall {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}
