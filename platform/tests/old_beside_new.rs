//! An earlier binary and this one on the same databases, for one step of a release, forwards and back: `cargo xtask soak
//! old-beside-new` builds the earlier one and names it.

mod common;
#[path = "common/place.rs"]
mod place;

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::{Output, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use common::{
    Home, Platform,
    apart::{Apart, all},
    binary, text, tributary,
};
use futures::future::join_all;
use place::Place;
use serde_json::{Value, json};
use tokio::process::Command;
use uuid::Uuid;

/// Names the earlier binary.
const OLD_BINARY: &str = "TRIBUTARY_OLD_BINARY";

const OLD: &str = "old";
const NEW: &str = "new";

const CUSTOMER: &str = "11111111-1111-4111-8111-111111111111";
const PRODUCT: &str = "33333333-3333-4333-8333-333333333333";

/// Orders that are placed by way of either gateway in each stage.
const ORDERS_A_STAGE: usize = 6;

/// How long anything may take.
const WAIT: Duration = Duration::from_secs(120);

/// What was acknowledged.
#[derive(Default)]
struct Shop {
    known: String,
    placed: BTreeSet<Uuid>,
}

impl Shop {
    async fn open(gateway: &Platform) -> Self {
        let user = json!({ "id": CUSTOMER, "name": "Ana", "email": "ana@example.com" });
        let user = gateway.command("/users", "u", "", user).await.token;
        let price = json!({ "amount_minor": 1_800, "currency": "USD" });
        let product = json!({ "id": PRODUCT, "sku": "CHAI", "name": "Chai", "unit_price": price });
        let product = gateway.command("/products", "p", "", product).await.token;
        gateway.command(&format!("/stock/{PRODUCT}/receive"), "s", "", json!({ "quantity": 10_000 })).await;
        Self { known: format!("{user},{product}"), placed: BTreeSet::new() }
    }

    /// Orders by way of each, which all go their way to the confirmation, and are read by way of each at the token of it.
    async fn goes_on(&mut self, stage: &str, gateways: &[&Platform]) {
        let placed = (0..ORDERS_A_STAGE).flat_map(|_| gateways).map(|gateway| place_order(gateway, &self.known));
        for id in join_all(placed).await {
            self.placed.insert(id);
            let token = confirmed(stage, gateways[0], id).await;
            for gateway in gateways {
                let query = format!("{{ order(id: \"{id}\") {{ status customer {{ name }} }} }}");
                let read = gateway.query(&query, &token).await;
                let expected = json!({ "status": "CONFIRMED", "customer": { "name": "Ana" } });
                assert_eq!(read["order"], expected, "{stage}");
            }
        }
    }
}

async fn place_order(gateway: &Platform, known: &str) -> Uuid {
    let id = Uuid::now_v7();
    let order = json!({ "id": id, "customer_id": CUSTOMER, "lines": [{ "product_id": PRODUCT, "quantity": 1 }] });
    gateway.command("/orders", &id.to_string(), known, order).await;
    id
}

/// Waits for the checkout, by the word of the orders service.
async fn confirmed(stage: &str, gateway: &Platform, id: Uuid) -> String {
    let started = Instant::now();
    loop {
        let answer = gateway.http.get(format!("{}/orders/{id}", gateway.url)).send().await.expect("an answer");
        let token = answer.headers().get("consistency-token").and_then(|token| token.to_str().ok()).map(str::to_owned);
        let shown: Value = answer.json().await.expect("JSON");
        if shown["status"] == "CONFIRMED" {
            return token.expect("a state comes with a token");
        }
        assert!(started.elapsed() < WAIT, "{stage}: still {shown}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// `migrate` of a binary, to its end.
async fn migrate(program: &Path, place: &Place, arguments: &[&str]) -> Output {
    let (url, secrets) = (place.admin_url(), place.secrets());
    let all = [&["migrate", "--admin-url", &url, "--secrets-dir", &secrets], arguments].concat();
    Command::new(program).args(all).stdin(Stdio::null()).output().await.expect("it starts")
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the binary of an earlier release: cargo xtask soak old-beside-new"]
async fn a_release_is_rolled_out_beside_the_one_before_and_back_and_nothing_is_lost() {
    let old =
        PathBuf::from(std::env::var_os(OLD_BINARY).unwrap_or_else(|| panic!("{OLD_BINARY} names the earlier binary")));
    let place = Place::new().await;
    let migrated = migrate(&old, &place, &[]).await;
    assert!(migrated.status.success(), "{}", text(&migrated));
    let Home::Postgres { mut urls, folder } = place.home() else { unreachable!("it is kept in PostgreSQL") };
    urls.insert("graphql", place.url("tributary_graphql_a", "query"));
    let mut before = Apart::with_binary(&old, urls, folder, &[]);
    before.start(&all()).await;
    let mut shop = Shop::open(before.gateway()).await;
    shop.goes_on("the old release alone", &[before.gateway()]).await;

    migrate_while_orders_come(&place, before.gateway(), &mut shop).await;
    shop.goes_on("the old release on new tables", &[before.gateway()]).await;

    let mut after = before.beside(&binary());
    after.start(&all()).await;
    shop.goes_on("both", &[before.gateway(), after.gateway()]).await;
    answers_are_kept_for_either(&before, &after, &mut shop).await;

    // who leads dies, whoever it is: the other one takes over, and what either writes the other one reads
    for role in ["project", "checkout", "orders", "payments"] {
        // a projector keeps its lease, and what acts for all goes to who was started last: either way the new one leads in
        // the end, which asks by way of a gateway; the old one asks the old ones only
        let sides = if role == "project" { [NEW, OLD] } else { [OLD, NEW] };
        for side in sides {
            let apart = if side == OLD { &mut before } else { &mut after };
            apart.kill(role).await;
            // the old gateway knows no other orders service than the old one
            let is_cut_off = (side, role) == (OLD, "orders");
            let gateways = if is_cut_off { vec![after.gateway()] } else { vec![after.gateway(), before.gateway()] };
            shop.goes_on(&format!("without the {side} {role}"), &gateways).await;
            let apart = if side == OLD { &mut before } else { &mut after };
            apart.start(&[role]).await;
        }
    }
    before.kill("graphql").await;
    shop.goes_on("the new graphql", &[after.gateway()]).await;
    before.start(&["graphql"]).await;

    // back: the new release is taken away
    let ended = after.terminate().await;
    assert!(ended.values().all(|code| *code == Some(0)), "{ended:?}");
    shop.goes_on("back to the old release", &[before.gateway()]).await;

    // and forwards again, for good
    let mut after = before.beside(&binary());
    after.start(&all()).await;
    let ended = before.terminate().await;
    assert!(ended.values().all(|code| *code == Some(0)), "{ended:?}");
    shop.goes_on("the new release alone", &[after.gateway()]).await;
    laws_hold(after.gateway(), &shop).await;
}

async fn migrate_while_orders_come(place: &Place, gateway: &Platform, shop: &mut Shop) {
    let is_over = AtomicBool::new(false);
    let coming = async {
        let mut placed = Vec::new();
        while !is_over.load(Ordering::Relaxed) || placed.is_empty() {
            placed.push(place_order(gateway, &shop.known).await);
        }
        placed
    };
    let migrated = async {
        let migrated = migrate(&binary(), place, &[]).await;
        is_over.store(true, Ordering::Relaxed);
        migrated
    };
    let (placed, migrated) = tokio::join!(coming, migrated);
    assert!(migrated.status.success(), "{}", text(&migrated));
    let again = migrate(&binary(), place, &["--check"]).await;
    assert_eq!(again.status.code(), Some(0), "{}", text(&again));
    shop.placed.extend(&placed);
    for id in placed {
        confirmed("while it is migrated", gateway, id).await;
    }
}

/// A command that one has answered is answered by the other one from what was stored.
async fn answers_are_kept_for_either(before: &Apart, after: &Apart, shop: &mut Shop) {
    for (first, second) in [(before, after), (after, before)] {
        let id = Uuid::now_v7();
        let order = json!({ "id": id, "customer_id": CUSTOMER, "lines": [{ "product_id": PRODUCT, "quantity": 2 }] });
        let answered = first.of("orders").command("/orders", &id.to_string(), &shop.known, order.clone()).await;
        let again = second.of("orders").command("/orders", &id.to_string(), &shop.known, order).await;
        assert_eq!((answered.token, answered.body), (again.token, again.body));
        shop.placed.insert(id);
    }
}

async fn laws_hold(gateway: &Platform, shop: &Shop) {
    for id in &shop.placed {
        confirmed("in the end", gateway, *id).await;
    }
    for read_model in read_side::status::READ_MODELS {
        let verified = tributary(&["projection", "verify", read_model.name, "--url", &gateway.url]).await;
        assert!(verified.status.success(), "{}: {}", read_model.name, text(&verified));
    }
    let chains = tributary(&["verify-chain", "--url", &gateway.url]).await;
    assert!(chains.status.success(), "{}", text(&chains));
    let placed = once_each(gateway, "OrderPlaced").await;
    assert_eq!(placed, shop.placed, "every acknowledged order is there, and no other");
    assert_eq!(once_each(gateway, "OrderConfirmed").await, shop.placed);
}

/// Whose events of a type are in the orders' log, and that there is one of each.
async fn once_each(gateway: &Platform, event_type: &str) -> BTreeSet<Uuid> {
    let feed = gateway.http.get(format!("{}/orders/feed?after=0&limit=10000", gateway.url)).send().await;
    let feed = feed.expect("an answer").text().await.expect("text");
    let mut found = BTreeSet::new();
    for line in feed.lines() {
        let event: Value = serde_json::from_str(line).expect("an event");
        if event["type"].as_str().is_some_and(|of| of.contains(event_type)) {
            let id = event["data"]["order_id"].as_str().expect("an order's id").parse().expect("an id");
            assert!(found.insert(id), "{event_type} of {id} is there twice");
        }
    }
    found
}
