//! A query database that is written by hand, and subscribers to it.
#![allow(dead_code, reason = "each test file uses its part")]

use std::{collections::BTreeMap, time::Duration};

use axum::{
    Extension, Router,
    body::{Body, BodyDataStream},
    http::{HeaderName, Request, StatusCode, header},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use events::{
    consistency::ConsistencyToken,
    ids::{CustomerId, OrderId, ProductId, UserId},
    money::{Currency, Money},
    orders::{OrderCancelled, OrderConfirmed, OrderEvent, OrderLine, OrderPlaced},
    personal::Personal,
    principal::Principal,
    users::{UserEvent, UserRegistered, UserRenamed},
};
use futures::StreamExt;
use graphql::{GraphqlOptions, LiveOptions};
use projections::{
    engine::store::StoreOptions,
    kit::{Hand, Kind, Place, Story, time},
    order_details,
};
use serde_json::{Value, json};
use tower::ServiceExt;
use uuid::Uuid;

pub const BOTH: [Kind; 2] = [Kind::Sqlite, Kind::Postgres];

/// The services whose events make orders, as far as they say something here.
const SOURCES: [&str; 6] = ["orders", "users", "catalog", "inventory", "payments", "shipping"];

/// How long anything may take to be told.
const WAIT: Duration = Duration::from_secs(20);

/// How long nothing is told where nothing is to be told.
pub const QUIET: Duration = Duration::from_millis(200);

pub struct Stage {
    pub story: Story,
    pub hand: Hand,
    pub options: GraphqlOptions,
    router: Router,
}

pub async fn place(kind: Kind) -> Place {
    match kind {
        Kind::Sqlite => Place::sqlite(),
        Kind::Postgres => Place::postgres(testkit::postgres::fresh_database("query").await),
    }
}

/// Bounds that every test passes, and a poll that nobody waits for.
pub fn tight() -> LiveOptions {
    let mut options = LiveOptions::default();
    options.limits.waiting_rows_max = 4;
    options.limits.poll_every = Duration::from_millis(20);
    options
}

impl Stage {
    pub async fn new(kind: Kind) -> Self {
        Self::with(kind, LiveOptions::default(), StoreOptions::default()).await
    }

    pub async fn with(kind: Kind, live: LiveOptions, store: StoreOptions) -> Self {
        let hand = place(kind).await.live(order_details::projection(), store).await;
        hand.store.stays_live().await;
        let options = GraphqlOptions { live, ..GraphqlOptions::default() };
        let router = graphql::router(hand.read.clone(), options.clone());
        Self { story: Story::new(), hand, options, router }
    }

    pub fn router(&self) -> Router {
        self.router.clone()
    }

    /// Another process on the same database.
    pub fn another_router(&self) -> Router {
        graphql::router(self.hand.place.read(), self.options.clone())
    }

    /// Everything that was said gets into the rows.
    pub async fn fold(&mut self) {
        self.hand.finish(&SOURCES.map(|source| self.story.feed(source))).await.unwrap();
    }

    pub fn placed(&self, n: u128, of: u128) {
        self.order_said(n, &placed_event(n, of));
    }

    pub fn confirmed(&self, n: u128, of: u128) {
        self.order_said(n, &OrderConfirmed { order_id: order(n), customer_id: customer(of) }.into());
    }

    pub fn cancelled(&self, n: u128, of: u128, reason: &str) {
        let (order_id, customer_id, reason) = (order(n), customer(of), reason.to_owned());
        self.order_said(n, &OrderCancelled { order_id, customer_id, reason, rejected: false }.into());
    }

    pub fn order_said(&self, n: u128, event: &OrderEvent) {
        self.story.says("orders", order(n), event);
    }

    pub fn registered(&self, n: u128, name: &str) {
        let (user_id, name) = (customer(n), Personal::of(customer(n), name.to_owned()));
        let email = Personal::of(user_id, format!("{n}@example.org"));
        let event = UserRegistered { user_id, name, email, address: None, external_ref: None };
        self.story.says("users", user_id, &UserEvent::from(event));
    }

    pub fn renamed(&self, n: u128, name: &str) {
        let event = UserRenamed { user_id: customer(n), name: Personal::of(customer(n), name.to_owned()) };
        self.story.says("users", customer(n), &UserEvent::from(event));
    }

    pub fn token(&self) -> ConsistencyToken {
        self.story.feed("orders").token()
    }

    pub async fn staff(&self, document: &str) -> Subscriber {
        Subscription::of(document).open(&self.router).await
    }

    pub async fn staff_after(&self, document: &str, after: &str) -> Subscriber {
        Subscription { after: Some(after.to_owned()), ..Subscription::of(document) }.open(&self.router).await
    }

    pub async fn customer(&self, n: u128, document: &str) -> Subscriber {
        Subscription { principal: Some(of_customer(n)), ..Subscription::of(document) }.open(&self.router).await
    }
}

/// Order `n` of two teas.
pub fn placed_event(n: u128, of: u128) -> OrderEvent {
    let line = OrderLine {
        product_id: ProductId(Uuid::from_u128(0x2_0000)),
        product_name: "Tea".to_owned(),
        quantity: 2,
        unit_price: Money::new(300, Currency::EUR),
        discount_bp: 0,
    };
    OrderPlaced {
        order_id: order(n),
        customer_id: customer(of),
        lines: vec![line],
        placed_at: time(n as i64),
        payment_method: None,
        external_ref: None,
    }
    .into()
}

pub fn customer(n: u128) -> CustomerId {
    UserId(Uuid::from_u128(0x1_0000 + n))
}

pub fn order(n: u128) -> OrderId {
    OrderId(Uuid::from_u128(0x3_0000 + n))
}

/// A customer who may ask queries.
pub fn of_customer(n: u128) -> Principal {
    Principal::try_new(&format!("customer-{n}"), Some(customer(n)), ["query".to_owned()]).unwrap()
}

/// The number of the order with this global id.
pub fn number_of(id: &str) -> u128 {
    let text = String::from_utf8(URL_SAFE_NO_PAD.decode(id).unwrap()).unwrap();
    text.strip_prefix("Order:").unwrap().parse::<Uuid>().unwrap().as_u128() - 0x3_0000
}

/// Generation and number of the change that a cursor names: only tests look into it.
pub fn place_of(cursor: &str) -> (i64, i64) {
    let bytes = URL_SAFE_NO_PAD.decode(cursor).unwrap();
    let number = |at: usize| i64::from_be_bytes(bytes[at..at + 8].try_into().unwrap());
    (number(1), number(9))
}

/// All that a message has to say.
pub const ORDERS: &str = "subscription($after: String) { ordersChanged(after: $after) \
     { kind cursor orderId node { status customer { name } cancelReason } } }";

/// A request for an event stream.
pub struct Subscription<'a> {
    pub document: &'a str,
    pub principal: Option<Principal>,
    pub after: Option<String>,
    pub headers: Vec<(HeaderName, String)>,
}

impl<'a> Subscription<'a> {
    pub fn of(document: &'a str) -> Self {
        Self { document, principal: None, after: None, headers: vec![] }
    }

    pub async fn open(self, router: &Router) -> Subscriber {
        let body = json!({ "query": self.document, "variables": { "after": self.after } });
        let mut request = Request::post("/graphql")
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "text/event-stream");
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let request = request.body(Body::from(body.to_string())).unwrap();
        Subscriber::send(router, self.principal, request).await
    }
}

/// Somebody who reads an event stream, and only as much of it as they want.
pub struct Subscriber {
    pub status: StatusCode,
    pub headers: axum::http::HeaderMap,
    body: BodyDataStream,
    heard: String,
}

/// An event as it was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    pub event: String,
    pub id: Option<String>,
    pub data: String,
}

/// A message about orders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    pub kind: String,
    pub cursor: String,
    /// Its number.
    pub order: Option<u128>,
    pub node: Value,
}

impl Subscriber {
    pub async fn send(router: &Router, principal: Option<Principal>, request: Request<Body>) -> Self {
        let router = match principal {
            Some(principal) => router.clone().layer(Extension(principal)),
            None => router.clone(),
        };
        let response = router.oneshot(request).await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        Self { status, headers, body: response.into_body().into_data_stream(), heard: String::new() }
    }

    /// What stands up to the next blank line; `None` at the end of the stream.
    pub async fn block(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.heard.find("\n\n") {
                let rest = self.heard.split_off(end + 2);
                return Some(std::mem::replace(&mut self.heard, rest));
            }
            let more = tokio::time::timeout(WAIT, self.body.next()).await.expect("something is said in time")?;
            self.heard.push_str(std::str::from_utf8(&more.unwrap()).unwrap());
        }
    }

    /// The next event; comments are passed over.
    pub async fn event(&mut self) -> Option<Event> {
        loop {
            let block = self.block().await?;
            let mut event = Event { event: String::new(), id: None, data: String::new() };
            for line in block.lines().filter(|line| !line.is_empty()) {
                let (name, value) = line.split_once(':').expect("a line of an event has a colon");
                let value = value.strip_prefix(' ').unwrap_or(value).to_owned();
                match name {
                    "" => {}
                    "event" => event.event = value,
                    "id" => event.id = Some(value),
                    "data" => event.data = value,
                    other => panic!("no field of an event: {other}"),
                }
            }
            if !event.event.is_empty() {
                return Some(event);
            }
        }
    }

    /// The next answer, whatever it is.
    pub async fn answer(&mut self) -> Value {
        let event = self.event().await.expect("the stream goes on");
        assert_eq!(event.event, "next", "{event:?}");
        serde_json::from_str(&event.data).unwrap()
    }

    /// The next message about orders.
    pub async fn told(&mut self) -> Told {
        let answer = self.answer().await;
        assert!(answer.get("errors").is_none(), "{answer}");
        let message = answer["data"].as_object().and_then(|data| data.values().next()).expect("a root field");
        let text = |name: &str| message[name].as_str().unwrap_or_default().to_owned();
        Told {
            kind: text("kind"),
            cursor: text("cursor"),
            order: message["orderId"].as_str().map(number_of),
            node: message["node"].clone(),
        }
    }

    #[track_caller]
    pub fn code_in(answer: &Value) -> String {
        answer["errors"][0]["extensions"]["code"].as_str().unwrap_or_else(|| panic!("no code: {answer}")).to_owned()
    }

    /// Kind and order of the next messages, and then nothing.
    pub async fn hears(&mut self, expected: &[(&str, Option<u128>)]) -> String {
        let mut cursor = String::new();
        for expected in expected {
            let told = self.told().await;
            assert_eq!((told.kind.as_str(), told.order), *expected);
            cursor = told.cursor;
        }
        self.hears_nothing().await;
        cursor
    }

    pub async fn hears_nothing(&mut self) {
        if let Ok(event) = tokio::time::timeout(QUIET, self.event()).await {
            panic!("told: {event:?}");
        }
    }
}

/// What somebody who shows orders has on their screen.
#[derive(Debug, Default)]
pub struct Screen {
    pub orders: BTreeMap<u128, Value>,
    pub resyncs: usize,
    pub messages: usize,
    pub cursor: Option<String>,
}

impl Screen {
    /// Takes a message in; its place is behind that of all before it, so nothing is told twice.
    pub fn take(&mut self, told: Told, what: &str) {
        if let Some(last) = &self.cursor {
            let (last, now) = (place_of(last), place_of(&told.cursor));
            assert!(last.0 != now.0 || last.1 < now.1, "{what}: {now:?} is told behind {last:?}");
        }
        self.cursor = Some(told.cursor);
        self.messages += 1;
        match (told.kind.as_str(), told.order) {
            ("CHANGED", Some(order)) => {
                assert!(told.node.is_object(), "{what}");
                self.orders.insert(order, told.node);
            }
            ("GONE", Some(order)) => drop(self.orders.remove(&order)),
            ("RESYNC", None) => self.resyncs += 1,
            ("STARTED", None) => {}
            other => panic!("{what}: {other:?}"),
        }
    }
}
