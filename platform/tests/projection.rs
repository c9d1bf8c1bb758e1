//! Rebuilding by replay as operators do it: on the command line, over the admin API, and after a log was restored.

mod common;

use std::path::Path;

use common::{Home, Platform, text, tributary};
use serde_json::{Value, json};
use testkit::postgres;

const CUSTOMER: &str = "11111111-1111-4111-8111-111111111111";
const PRODUCT: &str = "22222222-2222-4222-8222-222222222222";

/// `tributary -o json projection ...`: exit code and what it printed.
async fn projection(platform: &Platform, arguments: &[&str]) -> (i32, Value) {
    let arguments = [&["-o", "json", "projection"], arguments, &["--url", &platform.url]].concat();
    let done = tributary(&arguments).await;
    let code = done.status.code().expect("it ends by itself");
    (code, serde_json::from_slice(&done.stdout).unwrap_or_else(|_| Value::from(text(&done))))
}

fn order_id(n: u32) -> String {
    format!("33333333-3333-4333-8333-{n:012}")
}

/// A customer, a product and imported orders, which nobody carries out; the token of the last.
async fn enter(platform: &Platform, orders: std::ops::Range<u32>) -> String {
    let user = json!({ "id": CUSTOMER, "name": "Ada", "email": "ada@example.com" });
    let user = platform.command("/users", "u", "", user).await.token;
    let price = json!({ "amount_minor": 1_000, "currency": "EUR" });
    let product = json!({ "id": PRODUCT, "sku": "MAP-1", "name": "River map", "unit_price": price });
    let mut token = format!("{user},{}", platform.command("/products", "p", "", product).await.token);
    for n in orders {
        let line = json!({ "product_id": PRODUCT, "product_name": "River map", "quantity": 1, "unit_price": price, "discount_bp": 0 });
        let order = json!({
            "id": order_id(n), "customer_id": CUSTOMER, "lines": [line], "status": "DELIVERED",
            "placed_at": "2026-01-01T00:00:00Z", "shipped_at": "2026-01-02T00:00:00Z", "external_ref": format!("old-{n}"),
        });
        let imported = platform.command("/orders/import", &format!("o{n}"), &token, order).await;
        token = imported.token;
    }
    token
}

async fn is_shown(platform: &Platform, n: u32, token: &str) -> bool {
    let query = format!("{{ order(id: \"{}\") {{ status }} }}", order_id(n));
    !platform.query(&query, token).await["order"].is_null()
}

async fn every_verb(home: Home) {
    let platform = Platform::up(&home).await;
    let token = enter(&platform, 0..30).await;
    assert!(is_shown(&platform, 29, &token).await);
    let name = "order_details";

    let (code, verified) = projection(&platform, &["verify", name]).await;
    assert_eq!(
        (code, &verified["phase"], &verified["report"]["differences_total"]),
        (0, &json!("verified"), &json!(0))
    );
    assert_eq!(verified["report"]["live"]["hash"], verified["report"]["built"]["hash"]);
    let (code, none) = projection(&platform, &["diff", name]).await;
    assert_eq!((code, &none["phase"]), (0, &json!("compared")), "{none}");

    // nothing is under way: there is nothing to steer, nor to go back to
    for verb in ["pause", "resume", "cancel", "throttle"] {
        let (code, said) = projection(&platform, &[verb, name]).await;
        assert!(
            code == 1 && said.as_str().is_some_and(|said| said.contains("rebuild_not_under_way")),
            "{verb}: {said}"
        );
    }
    let (code, said) = projection(&platform, &["rollback", name]).await;
    assert!(code == 1 && said.as_str().is_some_and(|said| said.contains("nothing_to_go_back_to")), "{said}");

    // one event a second, from the first on: it takes longer than this test
    let (code, begun) = projection(&platform, &["rebuild", name, "--throttle", "1", "--no-wait"]).await;
    assert_eq!((code, &begun["is_over"], &begun["throttle_events_per_s"]), (0, &json!(false), &json!(1)), "{begun}");
    let (code, said) = projection(&platform, &["verify", name]).await;
    assert!(code == 1 && said.as_str().is_some_and(|said| said.contains("rebuild_under_way")), "{said}");
    let (code, paused) = projection(&platform, &["pause", name]).await;
    assert_eq!((code, &paused["paused"]), (0, &json!(true)));
    let (_, shown) = projection(&platform, &["generations", name]).await;
    let states: Vec<_> = shown["generations"].as_array().unwrap().iter().map(|one| one["state"].clone()).collect();
    assert_eq!(states, ["live", "building"]);
    assert_eq!((&shown["rebuilds"][0]["paused"], &shown["rebuilds"][0]["purpose"]), (&json!(true), &json!("swap")));
    platform.kill().await;

    let platform = Platform::up(&home).await;
    let (_, shown) = projection(&platform, &["report", name]).await;
    assert_eq!(
        (&shown["paused"], &shown["generation"]),
        (&json!(true), &begun["generation"]),
        "a SIGKILL changes nothing"
    );
    assert_eq!(projection(&platform, &["throttle", name, "1000000"]).await.0, 0);
    assert_eq!(projection(&platform, &["resume", name]).await.0, 0);
    let is_swapped = || async { projection(&platform, &["report", name]).await.1["phase"] == "swapped" };
    platform.until("swapped", is_swapped).await;
    assert!(is_shown(&platform, 29, &token).await);

    let (code, given_up) = projection(&platform, &["rebuild", name, "--throttle", "1", "--no-wait"]).await;
    assert_eq!(code, 0, "{given_up}");
    assert_eq!(projection(&platform, &["cancel", name]).await.0, 0);
    let is_over = || async { projection(&platform, &["report", name]).await.1["phase"] == "cancelled" };
    platform.until("cancelled", is_over).await;

    let (code, back) = projection(&platform, &["rollback", name]).await;
    assert_eq!((code, &back["phase"], &back["generation"]), (0, &json!("swapped"), &json!(1)), "{back}");
    assert!(is_shown(&platform, 29, &token).await);
    let human = tributary(&["projection", "generations", name, "--url", &platform.url]).await;
    assert!(text(&human).contains("retired") && text(&human).contains("rollback"), "{}", text(&human));
}

#[tokio::test(flavor = "multi_thread")]
async fn rebuilds_are_steered_over_a_sigkill_and_every_verb_says_what_it_did_on_sqlite() {
    every_verb(Home::sqlite()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rebuilds_are_steered_over_a_sigkill_and_every_verb_says_what_it_did_on_postgresql() {
    every_verb(Home::postgres(postgres::shared().await).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_changed_behind_the_projector_is_reported_with_exit_code_3() {
    let home = Home::sqlite();
    let platform = Platform::up(&home).await;
    let token = enter(&platform, 0..5).await;
    assert!(is_shown(&platform, 4, &token).await);
    let file = home.dir().join("query/order_details.g1.db");
    let pool = sqlx::SqlitePool::connect(&format!("sqlite:{}", file.display())).await.expect("a generation's file");
    let changed = "update order_details_g1 set total_minor = 7 where order_id = $1";
    sqlx::query(changed).bind(order_id(3)).execute(&pool).await.expect("one row is changed");
    pool.close().await;
    for verb in ["verify", "diff", "rebuild"] {
        let (code, found) = projection(&platform, &[verb, "order_details"]).await;
        assert_eq!((code, &found["report"]["differences_total"]), (3, &json!(1)), "{verb}: {found}");
        let difference = &found["report"]["differences"][0];
        assert_eq!((&difference["key"], &difference["change"]), (&json!([order_id(3)]), &json!("changed")));
        assert_eq!(difference["fields"], json!([{ "field": "total_minor", "before": 7, "after": 1_000 }]));
    }
    let human = tributary(&["projection", "report", "order_details", "--url", &platform.url]).await;
    assert!(text(&human).contains("total_minor 7 -> 1000"), "{}", text(&human));
    let (_, listed) = platform.get("/admin/projections/order_details/generations").await;
    assert_eq!(listed["rebuilds"].as_array().map(Vec::len), Some(3), "every report is kept");
    assert_eq!(listed["rebuilds"][0]["report"]["differences_total"], 1);
}

fn copy(from: &Path, to: &Path) {
    std::fs::copy(from, to).expect("a file is copied");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_restored_from_an_older_copy_halts_is_told_and_is_healed_by_a_rebuild() {
    let home = Home::sqlite();
    let platform = Platform::up(&home).await;
    enter(&platform, 0..5).await;
    assert_eq!(platform.terminate().await, Some(0));
    // stopped, its log is one file
    let (log, backup) = (home.dir().join("orders.db"), home.dir().join("orders.backup"));
    copy(&log, &backup);

    let platform = Platform::up(&home).await;
    let lost = enter(&platform, 5..9).await;
    assert!(is_shown(&platform, 8, &lost).await);
    assert_eq!(platform.terminate().await, Some(0));
    copy(&backup, &log);
    for suffix in ["orders.db-wal", "orders.db-shm"] {
        let _ = std::fs::remove_file(home.dir().join(suffix));
    }

    let platform = Platform::up(&home).await;
    // more than were lost, so that other events stand in their places
    let other = enter(&platform, 100..107).await;
    let halted = || async {
        let (_, projections) = platform.get("/admin/projections").await;
        let mut all = projections.as_array().into_iter().flatten();
        let details = all.find(|one| one["name"] == "order_details").cloned().unwrap_or_default();
        let orders = details["sources"].as_array().into_iter().flatten().find(|one| one["source"] == "orders").cloned();
        orders.is_some_and(|orders| orders["state"].as_str().is_some_and(|state| state.contains("feed regressed")))
    };
    platform.until("halted", halted).await;
    let doctor = tributary(&["doctor", "--url", &platform.url]).await;
    assert!(text(&doctor).contains("projection rebuild"), "doctor says what to do: {}", text(&doctor));

    let (code, healed) = projection(&platform, &["rebuild", "order_details"]).await;
    assert_eq!((code, &healed["phase"]), (0, &json!("swapped")), "{healed}");
    let why = healed["report"]["not_compared"].as_str().expect("the report says why nothing was compared");
    assert!(why.contains("orders") && why.contains("older copy"), "{why}");
    assert!(is_shown(&platform, 106, &other).await && is_shown(&platform, 4, &other).await);
    assert!(!is_shown(&platform, 8, &other).await, "what the log has lost is gone");
    let query = format!("{{ order(id: \"{}\") {{ status }} }}", order_id(8));
    let request = platform.http.post(format!("{}/graphql", platform.url)).header("consistency-token", &lost);
    let answer: Value = request.json(&json!({ "query": query })).send().await.unwrap().json().await.unwrap();
    assert_eq!(answer["errors"][0]["extensions"]["code"], "consistency_lost", "{answer}");
    let (code, verified) = projection(&platform, &["verify", "order_details"]).await;
    assert_eq!((code, &verified["phase"]), (0, &json!("verified")), "{verified}");
}
