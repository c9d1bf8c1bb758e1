//! SIGKILL at random moments while commands come in and rebuilds run: afterwards every read model is what its events make
//! of it.
//!
//! The short form runs with the other tests; `cargo xtask soak projector` kills 200 times on each database.
//! `TRIBUTARY_SEED=n` repeats a run.

mod common;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use common::{Home, Platform, is_soak, seed, text, tributary};
use serde_json::{Value, json};
use testkit::postgres;
use uuid::Uuid;

/// Commands in flight at once.
const IN_FLIGHT: usize = 32;

const IMPORT: &str = "/orders/import";

/// Every so many kills a rebuild is under way.
const REBUILD_EVERY: u64 = 3;

fn id(seed: u64, name: &str) -> Uuid {
    Uuid::new_v5(&Uuid::NAMESPACE_OID, format!("{seed} {name}").as_bytes())
}

/// Customers who are renamed, products that are too, and imported orders of both: every way in which rows change.
struct Load {
    seed: u64,
    customers: Vec<Uuid>,
    products: Vec<Uuid>,
}

impl Load {
    async fn prepare(platform: &Platform, seed: u64) -> Self {
        let (customers, products): (Vec<_>, Vec<_>) =
            (0..4).map(|n| (id(seed, &format!("customer {n}")), id(seed, &format!("product {n}")))).unzip();
        for customer in &customers {
            let user = json!({ "id": customer, "name": "Ada", "email": format!("{customer}@example.com") });
            platform.command("/users", &customer.to_string(), "", user).await;
        }
        for product in &products {
            let price = json!({ "amount_minor": 100, "currency": "EUR" });
            let body = json!({ "id": product, "sku": product.to_string(), "name": "Map", "unit_price": price });
            platform.command("/products", &product.to_string(), "", body).await;
        }
        Self { seed, customers, products }
    }

    /// The `n`th command.
    fn command(&self, n: u64) -> (String, Value) {
        let customer = self.customers[(n % 4) as usize];
        let product = self.products[(n / 4 % 4) as usize];
        match n % 5 {
            0 => (format!("/users/{customer}/rename"), json!({ "name": format!("Ada {n}") })),
            1 => (format!("/products/{product}/rename"), json!({ "name": format!("Map {n}") })),
            _ => {
                let price = json!({ "amount_minor": 100 + n % 7, "currency": "EUR" });
                let line = json!({
                    "product_id": product, "product_name": "Map", "quantity": 1 + n % 3, "unit_price": price, "discount_bp": 0,
                });
                let order = json!({
                    "id": id(self.seed, &format!("order {n}")), "customer_id": customer, "lines": [line],
                    "status": "DELIVERED", "placed_at": "2026-01-01T00:00:00Z", "external_ref": format!("{}-{n}", self.seed),
                });
                (IMPORT.to_owned(), order)
            }
        }
    }

    /// Sends commands until told to stop or nobody answers; how many orders were acknowledged.
    async fn storm(&self, platform: &Platform, first: u64, stop: &AtomicBool) -> u64 {
        let workers = (0..IN_FLIGHT as u64).map(|worker| async move {
            let mut orders = 0;
            for n in (first + worker..).step_by(IN_FLIGHT) {
                let (path, body) = self.command(n);
                let sent = platform.post(&path, &format!("{} {n}", self.seed), "", &body).await;
                orders += u64::from(sent.as_ref().is_ok_and(|sent| sent.status == 201) && path == IMPORT);
                if sent.is_err() || stop.load(Ordering::Relaxed) {
                    break;
                }
            }
            orders
        });
        futures::future::join_all(workers).await.iter().sum()
    }
}

async fn names(platform: &Platform) -> Vec<String> {
    let (_, projections) = platform.get("/admin/projections").await;
    let all = projections.as_array().expect("a list").iter();
    all.map(|one| one["name"].as_str().expect("a name").to_owned()).collect()
}

/// Waits for what a kill has cut off, which goes on by itself.
async fn settled(platform: &Platform, name: &str) {
    let path = format!("/admin/projections/{name}/rebuild");
    let is_over = || async {
        let (status, rebuild) = platform.get(&path).await;
        status == 404 || rebuild["is_over"] == true
    };
    platform.until("over", is_over).await;
}

async fn killed(home: Home, kills: u64) {
    let seed = seed();
    let mut chances = seed | 1;
    let load = {
        let platform = Platform::up(&home).await;
        Load::prepare(&platform, seed).await
    };
    let (mut orders, mut rebuilds) = (0, 0);
    for kill in 0..kills {
        chances = chances.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let delay = Duration::from_millis(50 + (chances >> 33) % 900);
        let mut doomed = Platform::up(&home).await;
        if kill % REBUILD_EVERY == 0 {
            // one that a kill has cut off may be under way still
            let path = format!("{}/admin/projections/order_details/rebuild", doomed.url);
            let asked = doomed.http.post(path).send().await.expect("an answer");
            rebuilds += u64::from(asked.status() == 202);
        }
        let stop = Arc::new(AtomicBool::new(false));
        let storm = load.storm(&doomed, kill * 10_000, &stop);
        let (acknowledged, ()) = tokio::join!(storm, async {
            tokio::time::sleep(delay).await;
            let pid = doomed.pid().to_string();
            let status = tokio::process::Command::new("kill").args(["-KILL", &pid]).status().await;
            assert!(status.expect("kill is there").success());
            stop.store(true, Ordering::Relaxed);
        });
        doomed.ended().await;
        orders += acknowledged;
    }
    assert!(rebuilds > 0 && orders > kills, "{rebuilds} rebuilds begun and {orders} orders taken: nothing was cut off");
    let platform = Platform::up(&home).await;
    for name in names(&platform).await {
        settled(&platform, &name).await;
        let verified = tributary(&["-o", "json", "projection", "verify", &name, "--url", &platform.url]).await;
        let hint = format!("{name} after {kills} kills; repeat with TRIBUTARY_SEED={seed}");
        assert!(verified.status.success(), "{hint}: {}", text(&verified));
        let verified: Value = serde_json::from_slice(&verified.stdout).expect("JSON");
        assert_eq!(verified["report"]["differences_total"], 0, "{hint}: {verified}");
        assert!(verified["report"]["live"]["rows"].as_u64() > Some(0), "{hint}: {verified}");
    }
    // whose answer was cut off may be there as well
    let shown = platform.query("{ orders(first: 1) { totalCount } }", "").await["orders"]["totalCount"].as_u64();
    assert!(shown >= Some(orders), "{shown:?} of {orders} orders are shown; repeat with TRIBUTARY_SEED={seed}");
}

fn kills() -> u64 {
    if is_soak() { 200 } else { 5 }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_random_under_load_the_read_models_are_what_their_events_make_of_them_on_sqlite() {
    killed(Home::sqlite(), kills()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_random_under_load_the_read_models_are_what_their_events_make_of_them_on_postgresql() {
    killed(Home::postgres(postgres::shared().await).await, kills()).await;
}
