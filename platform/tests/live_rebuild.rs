//! A rebuild that nobody notices: while a read model is built anew from many events, commands come in at a steady rate,
//! readers read, and nothing that they see goes backwards, fails or comes late.
//!
//! The short form runs with the other tests; `cargo xtask soak rebuild` builds from a million events on PostgreSQL and
//! from 200,000 on SQLite, under 500 commands a second.

#![allow(clippy::print_stdout, reason = "a soak says what it has measured")]

mod common;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use common::{Home, Platform, is_soak};
use cqrs_es::DomainEvent;
use event_store::{
    log::{AppendItem, AppendOutcome, Batch, CommandRecord, Decision, EventLog, Fingerprint, NewEvent},
    postgres::{PostgresLog, PostgresOptions},
    sqlite::{SqliteLog, SqliteOptions},
};
use events::{
    envelope::StreamId,
    ids::{OrderId, ProductId, UserId},
    money::{Currency, Money},
    orders::{ORDER, OrderEvent, OrderImported, OrderLine, OrderReturned, OrderStatus, ReturnedLine, SOURCE},
};
use serde_json::{Value, json};
use testkit::postgres;
use uuid::Uuid;

const NAME: &str = "order_details";

/// Who orders while the rebuild runs.
const BUYER: &str = "11111111-1111-4111-8111-111111111111";

/// Events of one order: imported, and three times something came back.
const EVENTS_PER_ORDER: u64 = 4;

/// Orders that one transaction of the preparation writes.
const ORDERS_PER_BATCH: u64 = 128;

/// How late a row may come after its command, at the 99th percentile: of a soak. The short form runs beside other tests, in
/// a build that is not made for speed, and only tells what waits for ever.
const LATE_MAX: Duration = Duration::from_secs(1);
const LATE_MAX_SHORT: Duration = Duration::from_secs(10);

/// Readers that read all the time.
const READERS: usize = 3;

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).expect("a test does not last for ever")
}

struct Scale {
    events: u64,
    commands_per_s: u64,
    /// So that the few events of the short form take long enough for everybody to read and write meanwhile.
    throttle_events_per_s: Option<u64>,
}

fn scale(soak_events: u64) -> Scale {
    if is_soak() {
        Scale { events: soak_events, commands_per_s: 500, throttle_events_per_s: None }
    } else {
        Scale { events: 4_000, commands_per_s: 20, throttle_events_per_s: Some(1_000) }
    }
}

/// Who is renamed all the time: has few orders, so that each rename reaches all of them soon.
fn customer() -> UserId {
    UserId(Uuid::from_u128(0xc0de))
}

/// Whose orders make up the bulk: 20 of each.
fn somebody(n: u64) -> UserId {
    UserId(Uuid::from_u128(0x5_0000_0000 + u128::from(n / 20)))
}

/// The order that readers look at.
fn watched() -> OrderId {
    OrderId(Uuid::from_u128(0xaaaa_0000))
}

fn product() -> ProductId {
    ProductId(Uuid::from_u128(0xbeef))
}

fn line() -> OrderLine {
    OrderLine {
        product_id: product(),
        product_name: "River map".to_owned(),
        quantity: 10,
        unit_price: Money::new(1_250, Currency::EUR),
        discount_bp: 0,
    }
}

/// The events of the `n`th order that is there before anything runs.
fn history(n: u64) -> (StreamId, Vec<NewEvent>) {
    let order_id = OrderId(Uuid::from_u128(0x1_0000_0000 + u128::from(n)));
    let imported = OrderImported {
        order_id,
        customer_id: somebody(n),
        lines: vec![line()],
        status: OrderStatus::Delivered,
        placed_at: DateTime::<Utc>::from_timestamp(1_700_000_000 + n as i64, 0).expect("a time"),
        shipped_at: None,
        external_ref: format!("before-{n}"),
    };
    let returned = || OrderReturned {
        order_id,
        customer_id: somebody(n),
        lines: vec![ReturnedLine { product_id: product(), quantity: 1 }],
        complete: false,
        reason: None,
    };
    let mut events: Vec<OrderEvent> = vec![imported.into()];
    events.extend((1..EVENTS_PER_ORDER).map(|_| OrderEvent::from(returned())));
    let new = |event: &OrderEvent| NewEvent {
        event_id: Uuid::now_v7(),
        event_type: event.event_type().into(),
        event_version: event.event_version().into(),
        payload: serde_json::to_string(event).expect("an event is plain data"),
        metadata: "{}".to_owned(),
    };
    (StreamId::new(ORDER, order_id.0.to_string()), events.iter().map(new).collect())
}

/// Fills the orders service's log before the platform runs.
async fn fill(log: &dyn EventLog, events: u64) {
    let orders = events / EVENTS_PER_ORDER;
    for first in (0..orders).step_by(ORDERS_PER_BATCH as usize) {
        let item = |n| {
            let (stream, events) = history(n);
            let command = CommandRecord {
                scope: "orders".into(),
                key: format!("before-{n}").into(),
                fingerprint: Fingerprint([0; 32]),
                outcome: "{}".to_owned(),
            };
            let decision = Decision::Append(events);
            vec![AppendItem { stream, expected_version: 0, decision, command, claims: Vec::new() }]
        };
        let mut batch = Batch::default();
        for n in first..(first + ORDERS_PER_BATCH).min(orders) {
            batch.push(item(n)).expect("no stream and no key stands twice");
        }
        let outcomes = log.commit(Arc::new(batch)).await.expect("committed");
        assert!(outcomes.iter().all(|outcome| matches!(outcome, AppendOutcome::Appended { .. })));
    }
}

/// What writers, readers and the rebuild share.
struct Show<'p> {
    platform: &'p Platform,
    commands_per_s: u64,
    throttle_events_per_s: Option<u64>,
    written: AtomicU64,
    reads: AtomicU64,
    done: AtomicBool,
}

impl Show<'_> {
    fn goes_on(&self) -> bool {
        !self.done.load(Ordering::Relaxed)
    }

    /// Imports orders at a steady rate. Each command is sent when its time has
    /// come, whether or not the one before was answered.
    async fn write(&self) {
        let (started, mut sent) = (Instant::now(), 0_u64);
        let mut answers = futures::stream::FuturesUnordered::new();
        while self.goes_on() {
            let due = millis(started.elapsed()) * self.commands_per_s / 1_000;
            while sent < due {
                answers.push(self.import(sent));
                sent += 1;
            }
            tokio::select! {
                Some(()) = futures::StreamExt::next(&mut answers), if !answers.is_empty() => {}
                () = tokio::time::sleep(Duration::from_millis(2)) => {}
            }
        }
        while futures::StreamExt::next(&mut answers).await.is_some() {}
        let rate = self.written.load(Ordering::Relaxed) * 1_000 / millis(started.elapsed()).max(1);
        assert!(rate * 10 > self.commands_per_s * 8, "{rate} commands a second were taken");
    }

    async fn import(&self, n: u64) {
        let order = json!({
            "customer_id": BUYER, "lines": [line()], "status": "DELIVERED", "placed_at": "2026-01-01T00:00:00Z",
            "external_ref": format!("now-{n}"),
        });
        self.platform.command("/orders/import", &format!("now {n}"), "", order).await;
        self.written.fetch_add(1, Ordering::Relaxed);
    }

    /// Follows one number that only grows, and how far every source is read: neither may ever fall.
    async fn read(&self) {
        let (mut name_before, mut vector_before) = (0, std::collections::BTreeMap::<String, i64>::new());
        while self.goes_on() {
            let query = format!("{{ order(id: \"{}\") {{ customer {{ name }} }} }}", watched().0);
            let seen = self.platform.query(&query, "").await;
            let name = seen["order"]["customer"]["name"].as_str().expect("a name").to_owned();
            let name: u64 = name.trim_start_matches("Ada ").parse().expect("a number");
            assert!(name >= name_before, "a name that was {name_before} is {name} again");
            name_before = name;
            let (_, projections) = self.platform.get("/admin/projections").await;
            for projection in projections.as_array().expect("a list") {
                for source in projection["sources"].as_array().expect("a list") {
                    let of = format!("{} {}", projection["name"], source["source"]);
                    let position = source["position"].as_i64().expect("a position");
                    let before = vector_before.insert(of.clone(), position).unwrap_or(0);
                    assert!(position >= before, "{of} was at {before} and is at {position}");
                }
            }
            self.reads.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How long after each command its row can be read.
    async fn measure(&self) -> Vec<Duration> {
        let (mut late, mut n) = (Vec::new(), 0_u64);
        while self.goes_on() {
            n += 1;
            let path = format!("/users/{}/rename", customer());
            let (key, name) = (format!("rename {n}"), json!({ "name": format!("Ada {n}") }));
            let token = self.platform.command(&path, &key, "", name).await.token;
            let started = Instant::now();
            let id = Uuid::from_u128(watched().0.as_u128() + u128::from(n));
            let order = json!({
                "id": id, "customer_id": customer(), "lines": [line()], "status": "DELIVERED",
                "placed_at": "2026-01-01T00:00:00Z", "external_ref": format!("measured-{n}"),
            });
            let token = self.platform.command("/orders/import", &format!("measured {n}"), &token, order).await.token;
            let seen = self.platform.query(&format!("{{ order(id: \"{id}\") {{ status }} }}"), &token).await;
            assert!(!seen["order"].is_null(), "what a token stands for is read");
            late.push(started.elapsed());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        late
    }

    /// Rebuilds, and says from how many events and how long it took.
    async fn rebuild(&self) -> (u64, Duration) {
        let path = format!("/admin/projections/{NAME}/rebuild");
        let started = Instant::now();
        let asked = json!({ "throttle_events_per_s": self.throttle_events_per_s });
        let begun = self.platform.http.post(format!("{}{path}", self.platform.url)).json(&asked).send().await;
        assert_eq!(begun.expect("an answer").status(), 202);
        let before = (self.written.load(Ordering::Relaxed), self.reads.load(Ordering::Relaxed));
        let over = loop {
            let (status, progress) = self.platform.get(&path).await;
            assert_eq!(status, 200, "{progress}");
            if progress["is_over"] == true {
                break progress;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        };
        assert_eq!((&over["phase"], &over["error"]), (&json!("swapped"), &Value::Null), "{over}");
        assert_eq!(over["report"]["differences_total"], 0, "{over}");
        let after = (self.written.load(Ordering::Relaxed), self.reads.load(Ordering::Relaxed));
        assert!(after.0 > before.0 && after.1 > before.1, "{before:?}, {after:?}: nobody wrote or read meanwhile");
        (over["events_done"].as_u64().expect("a number"), started.elapsed())
    }
}

async fn nobody_notices(home: Home, log: Arc<dyn EventLog>, scale: Scale) {
    fill(&*log, scale.events).await;
    drop(log);
    let platform = Platform::up(&home).await;
    let user = json!({ "id": customer(), "name": "Ada 0", "email": "ada@example.com" });
    let user = platform.command("/users", "user", "", user).await.token;
    let price = json!({ "amount_minor": 1_250, "currency": "EUR" });
    let body = json!({ "id": product(), "sku": "MAP-1", "name": "River map", "unit_price": price });
    let token = format!("{user},{}", platform.command("/products", "product", "", body).await.token);
    let is_followed = || async {
        let (_, projections) = platform.get("/admin/projections").await;
        let all = projections.as_array().into_iter().flatten();
        let behind: i64 = all
            .flat_map(|one| one["sources"].as_array().cloned().unwrap_or_default())
            .map(|source| source["head_position"].as_i64().unwrap_or(0) - source["position"].as_i64().unwrap_or(0))
            .sum();
        behind == 0 && projections.as_array().is_some_and(|all| !all.is_empty())
    };
    let started = Instant::now();
    while !is_followed().await {
        assert!(started.elapsed() < Duration::from_secs(1_200), "the rows do not catch up with what was there before");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let buyer = json!({ "id": BUYER, "name": "Buyer", "email": "buyer@example.com" });
    let token = format!("{token},{}", platform.command("/users", "buyer", "", buyer).await.token);
    let order = json!({
        "id": watched(), "customer_id": customer(), "lines": [line()], "status": "DELIVERED",
        "placed_at": "2026-01-01T00:00:00Z", "external_ref": "watched",
    });
    let token = platform.command("/orders/import", "watched", &token, order).await.token;
    platform.query(&format!("{{ order(id: \"{}\") {{ status }} }}", watched().0), &token).await;

    let show = Show {
        platform: &platform,
        commands_per_s: scale.commands_per_s,
        throttle_events_per_s: scale.throttle_events_per_s,
        written: AtomicU64::new(0),
        reads: AtomicU64::new(0),
        done: AtomicBool::new(false),
    };
    let readers = futures::future::join_all((0..READERS).map(|_| show.read()));
    let rebuilt = async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        let rebuilt = show.rebuild().await;
        // behind the swap, too
        tokio::time::sleep(Duration::from_secs(2)).await;
        show.done.store(true, Ordering::Relaxed);
        rebuilt
    };
    let ((), _, mut late, (events, took)) = tokio::join!(show.write(), readers, show.measure(), rebuilt);
    assert!(events >= scale.events, "{events} of {}", scale.events);
    // all of them and the one that is watched
    let orders = scale.events / EVENTS_PER_ORDER + show.written.load(Ordering::Relaxed) + late.len() as u64 + 1;
    let shown = || async {
        let shown = platform.query("{ orders(first: 1) { totalCount } }", "").await;
        shown["orders"]["totalCount"].as_u64() == Some(orders)
    };
    platform.until("every order is shown once, by the generation that was swapped in", shown).await;
    late.sort_unstable();
    let at = |percent: usize| late[(late.len() - 1) * percent / 100];
    let (written, reads) = (show.written.load(Ordering::Relaxed), show.reads.load(Ordering::Relaxed));
    let told = format!(
        "{events} events rebuilt in {took:.1?} while {written} commands were taken and {reads} reads were answered; command \
         to row p50 {:.0?}, p99 {:.0?}, at most {:.0?}",
        at(50),
        at(99),
        at(100)
    );
    println!("{told}");
    assert!(at(99) < if is_soak() { LATE_MAX } else { LATE_MAX_SHORT }, "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_notices_a_rebuild_on_sqlite() {
    let home = Home::sqlite();
    let log = SqliteLog::open(&home.dir().join("orders.db"), SOURCE, SqliteOptions::default()).expect("a log");
    nobody_notices(home, log, scale(200_000)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_notices_a_rebuild_on_postgresql() {
    let home = Home::postgres(postgres::shared().await).await;
    let Home::Postgres { urls, .. } = &home else { unreachable!("it was just made") };
    let log = PostgresLog::connect(&urls[SOURCE], SOURCE, PostgresOptions::default()).await.expect("a log");
    nobody_notices(home, log, scale(1_000_000)).await;
}
