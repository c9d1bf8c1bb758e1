//! SIGKILL at named places and at random, under load: every acknowledged command is there once, and the read model is
//! what a rebuild makes of the logs.
//!
//! The short form runs with the other tests. `TRIBUTARY_SOAK=1` (`cargo xtask soak kill`) runs more rounds of more
//! commands. `TRIBUTARY_SEED=n` repeats a run.

mod common;

use std::{
    collections::{BTreeMap, BTreeSet},
    os::unix::process::ExitStatusExt,
    time::Duration,
};

use common::{Answer, Home, Platform, SIGABRT, SIGKILL, is_soak, seed, text, tributary};
use futures::{StreamExt, stream};
use serde_json::{Value, json};
use uuid::Uuid;

/// Commands in flight at once where the process dies at a random moment: large batches.
const IN_FLIGHT: usize = 256;

/// And where it dies at a named place: batches small enough that there are many.
const IN_FLIGHT_NAMED: usize = 24;

/// How long a process may take to die once nothing more is sent.
const DEATH_WAIT_MAX: Duration = Duration::from_secs(20);

/// Places at which the process dies, and how often they are passed first. Load and numbers are such that each is passed
/// on both databases, however well they batch.
const PLACES: [&str; 8] = [
    "writer.before_commit:3",
    "writer.after_commit:3",
    // behind what every follower finds to do when it starts
    "follower.before_apply:80",
    "follower.after_apply:80",
    // behind what each read model commits when it starts
    "projection.before_commit:20",
    "projection.after_commit:20",
    "writer.after_commit:6",
    "projection.before_commit:35",
];

/// What is sent: a customer, a product, and orders of them.
struct Load {
    customer: Uuid,
    product: Uuid,
    orders: Vec<Uuid>,
}

impl Load {
    fn new(orders: usize, seed: u64) -> Self {
        let id = |name: String| Uuid::new_v5(&Uuid::NAMESPACE_OID, format!("{seed} {name}").as_bytes());
        Self {
            customer: id("customer".into()),
            product: id("product".into()),
            orders: (0..orders).map(|n| id(format!("order {n}"))).collect(),
        }
    }

    /// Enters customer and product, and returns the token that shows them.
    async fn prepare(&self, platform: &Platform) -> String {
        let user = json!({"id": self.customer, "name": "Ada", "email": format!("{}@example.com", self.customer)});
        let user = platform.command("/users", &format!("user {}", self.customer), "", user).await;
        let price = json!({"amount_minor": 100, "currency": "EUR"});
        let product = json!({"id": self.product, "sku": self.product.to_string(), "name": "Map", "unit_price": price});
        let product = platform.command("/products", &format!("product {}", self.product), "", product).await;
        format!("{},{}", user.token, product.token)
    }

    /// Sends every order, many at once, and returns those that were acknowledged.
    async fn storm(&self, platform: &Platform, token: &str, in_flight: usize) -> BTreeMap<Uuid, Answer> {
        stream::iter(&self.orders)
            .map(|order| async move {
                let line = json!({"product_id": self.product, "quantity": 1});
                let body = json!({"id": order, "customer_id": self.customer, "lines": [line]});
                let answer = platform.post("/orders", &order.to_string(), token, &body).await.ok()?;
                (answer.status == 201 || answer.status == 200).then_some((*order, answer))
            })
            .buffer_unordered(in_flight)
            .filter_map(|acknowledged| async { acknowledged })
            .collect()
            .await
    }

    /// Everything that must hold once a new process has taken over.
    async fn check(&self, platform: &Platform, acknowledged: &BTreeMap<Uuid, Answer>, prepared: &str, hint: &str) {
        let now = self.storm(platform, prepared, 32).await;
        assert_eq!(now.len(), self.orders.len(), "every command is answered when it is sent again; {hint}");
        for (order, first) in acknowledged {
            assert_eq!(now[order].token, first.token, "an acknowledged command has one effect; {hint}");
        }
        let (mut after, mut placed) = (0, Vec::new());
        loop {
            let page = platform.http.get(format!("{}/orders/feed?after={after}&limit=1000", platform.url));
            let page = page.send().await.expect("a feed").text().await.expect("a page");
            if page.is_empty() {
                break;
            }
            for line in page.lines() {
                let event: Value = serde_json::from_str(line).expect("a CloudEvents object");
                after += 1;
                assert_eq!(event["position"], after, "a feed has no holes; {hint}");
                // what the checkout makes of it comes behind
                if event["type"] != "OrderPlaced" {
                    continue;
                }
                placed.push(event["subject"].as_str().expect("a subject").parse::<Uuid>().expect("an id"));
            }
        }
        let once: BTreeSet<Uuid> = placed.iter().copied().collect();
        assert_eq!(placed.len(), once.len(), "no order is there twice; {hint}");
        let mine: BTreeSet<Uuid> = self.orders.iter().copied().collect();
        assert!(once.is_superset(&mine), "every order is there; {hint}");

        let newest = now.values().max_by_key(|answer| position(&answer.token)).expect("at least one order");
        let shown = self.shown(platform, &newest.token).await;
        assert_eq!(shown, mine, "the read model shows every order; {hint}");
        // a rebuild of the same VERSION refuses to swap if a single row differs
        let rebuilt = rebuild(platform).await;
        let said = || platform.said().join("\n");
        assert!(rebuilt.status.success(), "the read model equals a rebuild; {hint}: {}\n{}", text(&rebuilt), said());
        assert_eq!(self.shown(platform, &newest.token).await, mine, "and so does the new generation; {hint}");
    }

    async fn shown(&self, platform: &Platform, token: &str) -> BTreeSet<Uuid> {
        let (mut after, mut shown) = (String::new(), BTreeSet::new());
        loop {
            let query = format!(
                "{{ orders(first: 100{after}, filter: {{customerId: \"{}\"}}) {{ edges {{ node {{ orderId }} }} \
                 pageInfo {{ hasNextPage endCursor }} }} }}",
                self.customer
            );
            let page = platform.query(&query, token).await["orders"].clone();
            for edge in page["edges"].as_array().expect("edges") {
                let id = edge["node"]["orderId"].as_str().expect("an id").parse().expect("a UUID");
                assert!(shown.insert(id), "a row is listed once");
            }
            if page["pageInfo"]["hasNextPage"] == false {
                return shown;
            }
            after = format!(", after: {}", page["pageInfo"]["endCursor"]);
        }
    }
}

/// Position of the orders point in a token.
/// How long a rebuild that was cut off may take to end by itself: whoever starts goes on with it.
const RESUMED_WAIT_MAX: Duration = Duration::from_secs(60);

/// Rebuilds `order_details`, once nobody else does.
async fn rebuild(platform: &Platform) -> std::process::Output {
    let until = tokio::time::Instant::now() + RESUMED_WAIT_MAX;
    loop {
        let rebuilt = tributary(&["projection", "rebuild", "order_details", "--url", &platform.url]).await;
        if !text(&rebuilt).contains("rebuild_under_way") || tokio::time::Instant::now() > until {
            return rebuilt;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn position(token: &str) -> u64 {
    token
        .parse::<events::consistency::ConsistencyToken>()
        .ok()
        .and_then(|t| t.point("orders").map(|p| p.position))
        .unwrap_or(0)
}

async fn dies_at(home: &Home, place: &str, orders: usize, seed: u64) {
    let hint = format!("killed at {place}; repeat with TRIBUTARY_SEED={seed}");
    let load = Load::new(orders, seed);
    let platform = Platform::up(home).await;
    let prepared = load.prepare(&platform).await;
    platform.terminate().await;
    let mut doomed = Platform::up_with(home, &[], &[("TRIBUTARY_FAILPOINT", place)]).await.expect("up");
    let acknowledged = load.storm(&doomed, &prepared, IN_FLIGHT_NAMED).await;
    died_at_its_place(&mut doomed, &hint).await;
    let platform = Platform::up(home).await;
    load.check(&platform, &acknowledged, &prepared, &hint).await;
}

async fn dies_at_random(home: &Home, orders: usize, rounds: u32, seed: u64) {
    let mut delays = seed | 1;
    for round in 0..rounds {
        delays = delays.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let delay = Duration::from_millis(20 + (delays >> 33) % 1_500);
        let hint = format!("round {round}, killed after {delay:?}; repeat with TRIBUTARY_SEED={seed}");
        let load = Load::new(orders, seed.wrapping_add(u64::from(round)));
        let mut doomed = Platform::up(home).await;
        let prepared = load.prepare(&doomed).await;
        let (acknowledged, ()) = tokio::join!(load.storm(&doomed, &prepared, IN_FLIGHT), async {
            tokio::time::sleep(delay).await;
            kill_by_pid(doomed.pid()).await;
        });
        // the storm may be over before the kill: only a process that was waited for has let go of its directory
        let ended = doomed.ended().await;
        assert_eq!(ended.signal(), Some(SIGKILL), "{ended}; {hint}");
        let platform = Platform::up(home).await;
        load.check(&platform, &acknowledged, &prepared, &hint).await;
    }
}

async fn died_at_its_place(doomed: &mut Platform, hint: &str) {
    let ended = tokio::time::timeout(DEATH_WAIT_MAX, doomed.ended()).await;
    let ended = ended.unwrap_or_else(|_| panic!("it did not die; {hint}"));
    assert_eq!(ended.signal(), Some(SIGABRT), "{ended}; {hint}");
}

async fn kill_by_pid(pid: u32) {
    let status = tokio::process::Command::new("kill").args(["-KILL", &pid.to_string()]).status().await;
    assert!(status.expect("kill is there").success());
}

/// The short form takes every other place, beginning where the seed says, and leaves out the last ones, which are second
/// helpings of others.
#[tokio::test(flavor = "multi_thread")]
async fn killed_at_named_places_nothing_acknowledged_is_lost_or_doubled() {
    let seed = seed();
    let (orders, places): (_, Vec<&str>) = if is_soak() {
        (1_000, PLACES.to_vec())
    } else {
        (200, PLACES[..PLACES.len() - 2].iter().skip((seed % 2) as usize).step_by(2).copied().collect())
    };
    for place in places {
        for home in Home::both_or_one(seed).await {
            dies_at(&home, place, orders, seed).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_random_nothing_acknowledged_is_lost_or_doubled() {
    let seed = seed();
    for home in Home::both_or_one(seed).await {
        dies_at_random(&home, 1_000, if is_soak() { 30 } else { 1 }, seed).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_around_the_swap_of_a_rebuild_one_generation_is_live_and_right() {
    for place in ["projection.before_swap", "projection.after_swap"] {
        let home = Home::sqlite();
        let load = Load::new(50, seed());
        let mut doomed = Platform::up_with(&home, &[], &[("TRIBUTARY_FAILPOINT", place)]).await.expect("up");
        let prepared = load.prepare(&doomed).await;
        let acknowledged = load.storm(&doomed, &prepared, 32).await;
        assert_eq!(acknowledged.len(), 50);
        let rebuild = tributary(&["projection", "rebuild", "order_details", "--url", &doomed.url]).await;
        assert!(!rebuild.status.success(), "it died at {place}: {}", text(&rebuild));
        died_at_its_place(&mut doomed, place).await;
        let platform = Platform::up(&home).await;
        load.check(&platform, &acknowledged, &prepared, place).await;
    }
}
