//! Whoever writes by HTTP and reads at once by GraphQL, with the token of the answer, reads what they wrote: 64 clients, two
//! processes on one PostgreSQL (each write goes to one of them, its read to either), and read models built anew meanwhile.
//!
//! The short form runs with the other tests; `cargo xtask soak read-your-writes` goes on for five minutes, one rebuild after
//! another.

#![allow(clippy::print_stdout, reason = "what was waited for is worth reading")]

mod common;

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::{Duration, Instant},
};

use common::{Home, Platform, is_soak, text, tributary};
use serde_json::{Value, json};
use testkit::postgres;
use uuid::Uuid;

const CLIENTS: u64 = 64;

/// How long it goes on behind the first rebuild.
const SHORT: Duration = Duration::from_secs(4);
const LONG: Duration = Duration::from_secs(300);

/// How long a client takes between reading and writing: what is tried is freshness, not what a machine can do.
const PAUSE_SHORT: Duration = Duration::from_millis(600);
const PAUSE_LONG: Duration = Duration::from_millis(150);

/// How often a client asks again when it is told to.
const ASKS_MAX: usize = 20;

const REBUILT: [&str; 2] = ["order_details", "customer_overview"];

fn product() -> Uuid {
    Uuid::from_u128(0xbeef)
}

fn customer(n: u64) -> Uuid {
    Uuid::from_u128(0x1_0000 + u128::from(n))
}

fn first_order(n: u64) -> Uuid {
    Uuid::from_u128(0x2_0000 + u128::from(n))
}

/// The so manyth order of a client. It is over already, so that nobody but the client does anything.
fn imported(client: u64, orders: u64, id: Uuid) -> Value {
    let price = json!({ "amount_minor": 1_250, "currency": "EUR" });
    let line = json!({ "product_id": product(), "product_name": "River map", "quantity": 1, "unit_price": price });
    let placed_at = format!("2026-01-01T{:02}:{:02}:{:02}Z", orders / 3_600 % 24, orders / 60 % 60, orders % 60);
    json!({
        "id": id, "customer_id": customer(client), "lines": [line], "status": "DELIVERED", "placed_at": placed_at,
        "external_ref": format!("{client}-{orders}"),
    })
}

struct Show {
    platforms: [Platform; 2],
    done: AtomicBool,
    /// Answers that said to ask again.
    asked_again: AtomicU64,
}

/// What a client has found.
#[derive(Default)]
struct Found {
    waits: Vec<Duration>,
    /// What was read instead of what was written.
    stale: Vec<String>,
}

impl Show {
    /// Which process gets the `n`th request of a client: every pair of writer and reader comes up.
    fn platform(&self, n: u64) -> &Platform {
        &self.platforms[usize::from(n % 2 == 1)]
    }

    async fn data(&self, at: &Platform, query: &str, token: &str) -> Value {
        let mut answer = Value::Null;
        for _ in 0..ASKS_MAX {
            let request = at.http.post(format!("{}/graphql", at.url)).header("consistency-token", token);
            let request = request.header("consistency-wait", "30s").json(&json!({ "query": query }));
            answer = request.send().await.expect("an answer").json().await.expect("JSON");
            match answer.get("errors") {
                None => return answer["data"].clone(),
                Some(errors) => assert_eq!(errors[0]["extensions"]["retryable"], true, "{query}: {answer}"),
            }
            self.asked_again.fetch_add(1, Ordering::Relaxed);
        }
        panic!("{query} was not answered: {answer}")
    }

    /// Renames itself, and has an order taken over now and then; after each it reads what it has just done, in several read
    /// models. `begun`: the token of its first order, which it reads, too.
    async fn client(&self, n: u64, begun: &str) -> Found {
        let mut found = Found::default();
        let mut orders = 1;
        let mut token = begun.to_owned();
        for round in 0.. {
            if self.done.load(Ordering::Relaxed) {
                break;
            }
            let (writer, reader) = (self.platform(n + round), self.platform(n + round / 2));
            let name = format!("Client {n}, round {round}");
            let (path, body) = if round % 4 == 3 {
                orders += 1;
                ("/orders/import".to_owned(), imported(n, orders, Uuid::now_v7()))
            } else {
                (format!("/users/{}/rename", customer(n)), json!({ "name": name }))
            };
            let is_rename = path.ends_with("/rename");
            let written = writer.command(&path, &format!("client {n} round {round}"), &token, body).await;
            token = format!("{begun},{}", written.token);
            let query = if is_rename {
                format!(
                    "{{ order(id: \"{}\") {{ customer {{ name }} }} customer(id: \"{}\") {{ name }} \
                     customerOverview(id: \"{1}\") {{ name }} }}",
                    first_order(n),
                    customer(n)
                )
            } else {
                format!(
                    "{{ order(id: \"{}\") {{ orderId }} orders(first: 1, filter: {{customerId: \"{}\"}}) {{ edges {{ node {{ \
                     orderId }} }} }} customerOverview(id: \"{1}\") {{ totals {{ orders }} }} }}",
                    written.body["id"].as_str().expect("an id"),
                    customer(n)
                )
            };
            let asked = Instant::now();
            let data = self.data(reader, &query, &token).await;
            found.waits.push(asked.elapsed());
            let is_fresh = if is_rename {
                [&data["order"]["customer"], &data["customer"], &data["customerOverview"]]
                    .iter()
                    .all(|one| one["name"] == name)
            } else {
                let id = &written.body["id"];
                data["order"]["orderId"] == *id
                    && data["orders"]["edges"][0]["node"]["orderId"] == *id
                    && data["customerOverview"]["totals"][0]["orders"] == orders
            };
            if !is_fresh {
                found.stale.push(format!("after {path} ({name}, {orders} orders): {data}"));
            }
            tokio::time::sleep(if is_soak() { PAUSE_LONG } else { PAUSE_SHORT }).await;
        }
        found
    }

    async fn rebuild(&self) -> u64 {
        let (started, mut rebuilt) = (Instant::now(), 0);
        let goes_on = if is_soak() { LONG } else { SHORT };
        tokio::time::sleep(Duration::from_millis(500)).await;
        while rebuilt == 0 || started.elapsed() < goes_on {
            let name = REBUILT[usize::from(rebuilt % 2 == 1)];
            let told = tributary(&["projection", "rebuild", name, "--url", &self.platform(rebuilt).url]).await;
            assert!(told.status.success(), "{}", text(&told));
            rebuilt += 1;
            if !is_soak() {
                break;
            }
        }
        // and behind the last swap
        tokio::time::sleep(goes_on.saturating_sub(started.elapsed()).max(Duration::from_secs(1))).await;
        self.done.store(true, Ordering::Relaxed);
        rebuilt
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_writes_reads_it_at_once_whichever_process_and_whatever_is_rebuilt() {
    let home = Home::postgres(postgres::shared().await).await;
    let platforms = [Platform::up(&home).await, Platform::up(&home).await];
    let show = Show { platforms, done: AtomicBool::new(false), asked_again: AtomicU64::new(0) };
    let first = &show.platforms[0];
    let price = json!({ "amount_minor": 1_250, "currency": "EUR" });
    let added = json!({ "id": product(), "sku": "MAP-1", "name": "River map", "unit_price": price });
    let added = first.command("/products", "product", "", added).await.token;
    let begin = (0..CLIENTS).map(async |n| {
        let user = json!({ "id": customer(n), "name": format!("Client {n}"), "email": format!("{n}@example.com") });
        let user = first.command("/users", &format!("user {n}"), "", user).await.token;
        let order = imported(n, 1, first_order(n));
        first.command("/orders/import", &format!("order {n}"), &format!("{added},{user}"), order).await.token
    });
    let begun = futures::future::join_all(begin).await;

    let clients = futures::future::join_all((0..).zip(&begun).map(|(n, token)| show.client(n, token)));
    let (found, rebuilt) = tokio::join!(clients, show.rebuild());
    let mut waits: Vec<Duration> = found.iter().flat_map(|found| found.waits.iter().copied()).collect();
    waits.sort_unstable();
    let at = |percent: usize| waits[(waits.len() - 1) * percent / 100];
    let stale: Vec<&String> = found.iter().flat_map(|found| &found.stale).collect();
    println!(
        "{} writes read at once by {CLIENTS} clients, {rebuilt} rebuilds meanwhile: {} stale, {} asked again; answers after p50 \
         {:.1?}, p99 {:.1?}, at most {:.1?}",
        waits.len(),
        stale.len(),
        show.asked_again.load(Ordering::Relaxed),
        at(50),
        at(99),
        at(100),
    );
    assert!(stale.is_empty(), "{stale:?}");
    assert!(found.iter().all(|found| found.waits.len() > 1), "every client has read");
}
