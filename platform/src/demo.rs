//! Demo data: the same users, products, stock and orders every time, entered as anyone would enter them. The checkout
//! makes of the orders what it makes of any: most are confirmed, those with a bad card are not. Some are then sent on their
//! way, and some of these arrive.
//!
//! Every id is derived from a name and every command has a fixed key, so entering the data twice, or again after it was
//! cut off, adds nothing.

mod traffic;

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use events::consistency::{ConsistencyToken, TOKEN_HEADER, WAIT_HEADER};
use reqwest::{StatusCode, header::RETRY_AFTER};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    cli::{DemoArgs, DemoVerb, Output, Target},
    output,
};

/// The namespace of all demo ids (v5).
const NAMESPACE: Uuid = Uuid::from_u128(0x7472_6962_7574_6172_792d_6465_6d6f_0001);
/// How often one request is sent while the platform asks for patience.
const SENDS_MAX: u32 = 8;
/// After an error of the platform's it is sent again after so long, then after twice that, ...
const SEND_AGAIN: Duration = Duration::from_millis(100);
/// The longest that is waited because a limit of rate says so; a second where it does not say.
const RATE_WAIT_MAX: Duration = Duration::from_secs(30);

const ORDERS: u32 = 120;

/// How long one order may take to get on, and how often it is looked at meanwhile: only a checkout that is stuck takes so
/// long.
const ORDER_WAIT_MAX: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Pieces of each product: enough for every order of the demo, and for some more.
const STOCK_EACH: u32 = 200;

const PEOPLE: [&str; 20] = [
    "Ada Lovelace",
    "Grace Hopper",
    "Katherine Johnson",
    "Alan Turing",
    "Mary Somerville",
    "Emmy Noether",
    "Barbara Liskov",
    "Leslie Lamport",
    "Radia Perlman",
    "Edsger Dijkstra",
    "Frances Allen",
    "Tony Hoare",
    "Annie Easley",
    "Niklaus Wirth",
    "Hedy Lamarr",
    "Donald Knuth",
    "Margaret Hamilton",
    "Ken Thompson",
    "Sophie Wilson",
    "Dennis Ritchie",
];

const PRODUCTS: [(&str, &str, i64); 12] = [
    ("RIV-001", "River map, folded", 1_450),
    ("RIV-002", "River map, laminated", 2_395),
    ("KAY-010", "Kayak, single", 64_900),
    ("KAY-020", "Kayak, double", 89_900),
    ("PAD-001", "Paddle, ash wood", 7_800),
    ("PAD-002", "Paddle, carbon", 18_990),
    ("VES-001", "Life vest", 5_250),
    ("BAG-015", "Dry bag, 15 l", 2_199),
    ("BAG-040", "Dry bag, 40 l", 3_899),
    ("TEN-002", "Tent for two", 22_450),
    ("STO-001", "Camping stove", 4_999),
    ("TEA-100", "Tea, 100 bags", 635),
];

pub async fn run(args: DemoArgs, output: Output) -> Result<ExitCode> {
    match args.verb {
        DemoVerb::Seed { target } => {
            let seeded = seed(&target).await?;
            match output {
                Output::Human => output::line(seeded.to_string()),
                Output::Json => output::json(&seeded),
            }
            Ok(ExitCode::SUCCESS)
        }
        DemoVerb::Traffic { rate, lasts, target } => {
            output::note("the demo data is entered, unless it is there");
            seed(&target).await?;
            let load = traffic::Load { orders_per_s: rate, lasts };
            let told = traffic::run(Entry::of(&target)?, load).await?;
            match output {
                Output::Human => output::line(told.to_string()),
                Output::Json => output::json(&told),
            }
            Ok(if told.failed + told.not_placed + told.under_way > 0 {
                ExitCode::from(IN_PART)
            } else {
                ExitCode::SUCCESS
            })
        }
    }
}

/// Some orders were not placed, or did not get on.
const IN_PART: u8 = 2;

/// What the demo data holds.
#[derive(Debug, serde::Serialize)]
pub struct Seeded {
    pub users: usize,
    pub products: usize,
    pub orders: u32,
    /// An order and its customer, to start with.
    pub order_id: Uuid,
    pub customer_id: Uuid,
    /// Covers everything that was entered.
    pub token: String,
}

impl std::fmt::Display for Seeded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} users, {} products, {} orders", self.users, self.products, self.orders)
    }
}

/// Enters the demo data into a running platform, or finds it there.
pub async fn seed(target: &Target) -> Result<Seeded> {
    let entry = Entry::of(target)?;
    let mut known = ConsistencyToken::default();
    let mut batch: Vec<(String, String, Value)> = Vec::new();
    for (n, name) in PEOPLE.iter().enumerate() {
        let email = format!("{}@example.com", name.to_lowercase().replace(' ', "."));
        let address = json!({"street": format!("{} Quay Street", n + 1), "city": "Riverton", "country": "GB"});
        let body = json!({"id": user(n), "name": name, "email": email, "address": address});
        batch.push((format!("demo-user-{n}"), "/users".into(), body));
    }
    for (n, (sku, name, amount_minor)) in PRODUCTS.iter().enumerate() {
        let unit_price = json!({"amount_minor": amount_minor, "currency": "EUR"});
        let body = json!({"id": product(n), "sku": sku, "name": name, "unit_price": unit_price});
        batch.push((format!("demo-product-{n}"), "/products".into(), body));
    }
    known.merge(&entry.all(batch, &known).await?);
    for n in 0..PRODUCTS.len() {
        known.merge(&entry.stock(n).await?);
    }
    let orders = (0..ORDERS).map(|n| (format!("demo-order-{n}"), "/orders".to_owned(), order_body(n))).collect();
    known.merge(&entry.all(orders, &known).await?);
    for n in 0..ORDERS {
        entry.carry_out(n).await?;
        known.merge(&entry.settled(n).await?);
    }
    Ok(Seeded {
        users: PEOPLE.len(),
        products: PRODUCTS.len(),
        orders: ORDERS,
        order_id: order(0),
        customer_id: user(0),
        token: known.to_string(),
    })
}

fn user(n: usize) -> Uuid {
    Uuid::new_v5(&NAMESPACE, format!("user {n}").as_bytes())
}

fn product(n: usize) -> Uuid {
    Uuid::new_v5(&NAMESPACE, format!("product {n}").as_bytes())
}

fn order(n: u32) -> Uuid {
    Uuid::new_v5(&NAMESPACE, format!("order {n}").as_bytes())
}

/// One to three lines that differ from order to order, by arithmetic and not by chance.
fn order_body(n: u32) -> Value {
    let n = n as usize;
    let lines = (0..=n % 3).map(|line| {
        json!({
            "product_id": product((n * 5 + line * 3) % PRODUCTS.len()),
            "quantity": 1 + (n + line) % 4,
            "discount_bp": if n.is_multiple_of(6) { 500 } else { 0 },
        })
    });
    json!({
        "id": order(n as u32),
        "customer_id": user(n % PEOPLE.len()),
        "lines": lines.collect::<Vec<_>>(),
        "payment_method": if n % 10 == 7 { "pm_decline" } else { "pm_approve" },
        "external_ref": format!("demo-{n}"),
    })
}

struct Entry {
    url: String,
    http: reqwest::Client,
}

impl Entry {
    fn of(target: &Target) -> Result<Self> {
        let http = target.http()?.build().context("set up the HTTP client")?;
        Ok(Self { url: target.url.trim_end_matches('/').to_owned(), http })
    }

    /// Sends commands one after another, so that the logs are the same every time, and returns what a reader must wait
    /// for to see them all.
    async fn all(&self, commands: Vec<(String, String, Value)>, known: &ConsistencyToken) -> Result<ConsistencyToken> {
        let mut all = ConsistencyToken::default();
        for (key, path, body) in commands {
            all.merge(&self.one(key, path, body, known.to_string()).await?);
        }
        Ok(all)
    }

    /// Receives pieces of a product unless there are some: receipts add up once their key is forgotten.
    async fn stock(&self, n: usize) -> Result<ConsistencyToken> {
        let path = format!("/stock/{}", product(n));
        let item = self.read(&path).await?;
        if item.status().is_success() {
            return token_of(&item);
        }
        let (key, path) = (format!("demo-stock-{n}"), format!("{path}/receive"));
        self.one(key, path, json!({"quantity": STOCK_EACH}), String::new()).await
    }

    /// Sends every fourth order on its way, and lets half of those arrive, unless they have come so far already.
    async fn carry_out(&self, n: u32) -> Result<()> {
        let is_over = |phase: &str| matches!(phase, "COMPLETED" | "COMPENSATED");
        let to_dispatch = |phase: &str| matches!(phase, "AWAITING_DISPATCH" | "AWAITING_DELIVERY") || is_over(phase);
        let checkout = self.checkout(n, to_dispatch).await?;
        let shipment = checkout["shipment"]["id"].as_str().unwrap_or_default().to_owned();
        if n.is_multiple_of(4) && checkout["phase"] == "AWAITING_DISPATCH" {
            let parcel = json!({"carrier": "River Post", "tracking": format!("RP-{n:04}")});
            let path = format!("/shipments/{shipment}/dispatch");
            self.one(format!("demo-dispatch-{n}"), path, parcel, String::new()).await?;
        }
        if n.is_multiple_of(4) {
            let to_deliver = |phase: &str| phase == "AWAITING_DELIVERY" || is_over(phase);
            let checkout = self.checkout(n, to_deliver).await?;
            if n.is_multiple_of(8) && checkout["phase"] == "AWAITING_DELIVERY" {
                let path = format!("/shipments/{shipment}/deliver");
                self.one(format!("demo-deliver-{n}"), path, json!({}), String::new()).await?;
                self.checkout(n, |phase| phase == "COMPLETED").await?;
            }
        }
        Ok(())
    }

    /// The checkout of an order, once it waits for nobody's answer and its phase is as wanted.
    async fn checkout(&self, n: u32, is_so_far: impl Fn(&str) -> bool) -> Result<Value> {
        let started = Instant::now();
        loop {
            let seen = self.checkout_of(order(n)).await?;
            let is_idle = seen["waits_for"].as_array().is_some_and(Vec::is_empty);
            if is_idle && is_so_far(seen["phase"].as_str().unwrap_or_default()) {
                return Ok(seen);
            }
            if started.elapsed() > ORDER_WAIT_MAX {
                bail!("the checkout of demo order {n} does not get on: look at {}/checkouts/{}", self.url, order(n));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// As it says itself; it begins a moment after its order is placed, and until then there is none.
    async fn checkout_of(&self, order: Uuid) -> Result<Value> {
        let path = format!("/checkouts/{order}");
        self.read(&path).await?.json().await.with_context(|| format!("read {path}"))
    }

    /// What a reader must wait for to see how far an order has come.
    async fn settled(&self, n: u32) -> Result<ConsistencyToken> {
        token_of(&self.read(&format!("/orders/{}", order(n))).await?)
    }

    async fn read(&self, path: &str) -> Result<reqwest::Response> {
        let ask = || self.http.get(format!("{}{path}", self.url)).send();
        patiently(ask).await.with_context(|| format!("read {path}"))
    }

    async fn one(&self, key: String, path: String, body: Value, known: String) -> Result<ConsistencyToken> {
        let ask = || {
            let request = self.http.post(format!("{}{path}", self.url)).header("idempotency-key", &key);
            request.header(TOKEN_HEADER, &known).header(WAIT_HEADER, "10s").json(&body).send()
        };
        let answer = patiently(ask).await.with_context(|| format!("send {key}"))?;
        let status = answer.status();
        if !status.is_success() {
            bail!("{key} was answered {status}: {}", answer.text().await.unwrap_or_default());
        }
        token_of(&answer)
    }
}

/// Asks again for as long as the answer is that it is too early, or an error of the platform's; then takes that for the answer.
async fn patiently<A>(ask: impl Fn() -> A) -> Result<reqwest::Response, reqwest::Error>
where
    A: Future<Output = Result<reqwest::Response, reqwest::Error>>,
{
    for send in 1..SENDS_MAX {
        let answer = ask().await?;
        let wait = match answer.status() {
            StatusCode::TOO_MANY_REQUESTS => retry_after(&answer).min(RATE_WAIT_MAX),
            status if status.is_server_error() => SEND_AGAIN * send,
            _ => return Ok(answer),
        };
        tokio::time::sleep(wait).await;
    }
    ask().await
}

fn retry_after(answer: &reqwest::Response) -> Duration {
    let said = answer.headers().get(RETRY_AFTER).and_then(|said| said.to_str().ok()?.parse().ok());
    Duration::from_secs(said.unwrap_or(1))
}

fn token_of(answer: &reqwest::Response) -> Result<ConsistencyToken> {
    let token = answer.headers().get(TOKEN_HEADER).and_then(|token| token.to_str().ok());
    Ok(token.with_context(|| format!("{} answered without a token", answer.url()))?.parse()?)
}
