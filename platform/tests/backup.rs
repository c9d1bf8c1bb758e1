//! Logs and read models as files and back, as operators do it: exported from a running platform, restored when it is gone,
//! noticed by all who have read further, and healed.

mod common;

use std::path::Path;

use common::{Home, Platform, text, tributary};
use serde_json::{Value, json};
use testkit::postgres;

const CUSTOMER: &str = "11111111-1111-4111-8111-111111111111";
const PRODUCT: &str = "22222222-2222-4222-8222-222222222222";

/// What stands still until somebody acts: read models by `projection rebuild`, the rest by a restart.
const READ_MODELS: [&str; 5] =
    ["order_details", "order_search", "customer_overview", "order_timeline", "product_sales_by_day"];

/// Exit code, and what it said.
async fn says(arguments: &[&str]) -> (Option<i32>, String) {
    let done = tributary(arguments).await;
    (done.status.code(), text(&done))
}

fn at_rest(home: &Home) -> Vec<String> {
    ["--url".to_owned(), "http://127.0.0.1:1".to_owned()].into_iter().chain(home.arguments()).collect()
}

/// `restore`, with what is given.
async fn restore(home: &Home, from: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let (from, home) = (from.display().to_string(), home.arguments());
    let all = ["restore", &from].into_iter().chain(arguments.iter().copied()).chain(home.iter().map(String::as_str));
    says(&all.collect::<Vec<_>>()).await
}

async fn prepare(platform: &Platform) -> String {
    let user = json!({ "id": CUSTOMER, "name": "Ada Lovelace", "email": "ada@example.com" });
    let user = platform.command("/users", "user", "", user).await;
    let price = json!({ "amount_minor": 1450, "currency": "EUR" });
    let product = json!({ "id": PRODUCT, "sku": "MAP-1", "name": "River map", "unit_price": price });
    let product = platform.command("/products", "product", "", product).await;
    format!("{},{}", user.token, product.token)
}

/// An order that no checkout touches: imported with its final status.
async fn import(platform: &Platform, n: u32, seen: &str) -> String {
    let line = json!({ "product_id": PRODUCT, "product_name": "River map", "quantity": n,
        "unit_price": { "amount_minor": 1450, "currency": "EUR" }, "discount_bp": 0 });
    let order = json!({ "customer_id": CUSTOMER, "lines": [line], "status": "DELIVERED",
        "placed_at": "2026-01-01T00:00:00Z", "external_ref": format!("ref-{n}") });
    platform.command("/orders/import", &format!("order {n}"), seen, order).await.token
}

/// The quantities of the orders that GraphQL shows, of all that is known at `token`.
async fn quantities(platform: &Platform, token: &str) -> Vec<i64> {
    let query = "{ orders(first: 50) { edges { node { lines { quantity } } } } }";
    let orders = platform.query(query, token).await;
    let orders = orders["orders"]["edges"].as_array().expect("orders").clone();
    let mut quantities: Vec<i64> =
        orders.iter().map(|order| order["node"]["lines"][0]["quantity"].as_i64().expect("a number")).collect();
    quantities.sort_unstable();
    quantities
}

async fn a_restored_log_is_noticed_by_all_who_have_read_further_and_healed(home: Home) {
    let dir = tempfile::tempdir().expect("a directory");
    let platform = Platform::up(&home).await;
    let seen = prepare(&platform).await;
    import(&platform, 1, &seen).await;
    import(&platform, 2, &seen).await;
    let to = dir.path().display().to_string();
    let exported = tributary(&["-o", "json", "export", "--to", &to, "--url", &platform.url]).await;
    assert!(exported.status.success(), "{}", text(&exported));
    let exported: Value = serde_json::from_slice(&exported.stdout).expect("JSON");
    let orders = exported.as_array().expect("logs").iter().find(|log| log["service"] == "orders").expect("orders");
    assert_eq!((&orders["events"], &orders["commands"]), (&json!(2), &json!(2)), "{orders}");
    let file = dir.path().join("orders.ndjson");
    let lines = std::fs::read_to_string(&file).expect("the file");
    assert!(lines.lines().any(|line| line.starts_with(r#"{"event":{"specversion":"1.0""#)), "as the feed has them");

    // what comes later is lost
    let after = import(&platform, 3, &seen).await;
    assert_eq!(quantities(&platform, &after).await, [1, 2, 3]);
    let (code, said) = restore(&home, &file, &["--replace"]).await;
    assert_eq!(code, Some(1), "while the platform runs: {said}");
    platform.kill().await;

    // refused: there are events, and a file that was changed
    let (code, said) = restore(&home, &file, &[]).await;
    assert!(code == Some(1) && said.contains("3 events") && said.contains("--replace"), "{said}");
    std::fs::write(&file, lines.replacen("\"quantity\":1", "\"quantity\":9", 1)).expect("a file");
    let (code, said) = restore(&home, &file, &["--replace"]).await;
    assert!(code == Some(1) && said.contains("orders.ndjson"), "{said}");
    assert_eq!(restore(&home, &file, &["--check"]).await.0, Some(3));
    std::fs::write(&file, lines).expect("a file");
    assert_eq!(restore(&home, dir.path(), &["--check"]).await.0, Some(0), "all of them");

    let (code, said) = restore(&home, dir.path(), &["orders", "--replace"]).await;
    assert!(code == Some(0) && said.contains("feed_regressed"), "{said}");
    let arguments = at_rest(&home);
    let verified: Vec<&str> = ["verify-chain"].into_iter().chain(arguments.iter().map(String::as_str)).collect();
    assert_eq!(says(&verified).await.0, Some(0));

    // other events in the place of those that are gone
    let platform = Platform::begin(&home, &[], &[]).await.expect("it comes up");
    let token = import(&platform, 4, &seen).await;
    import(&platform, 5, &seen).await;
    let halted = async |name: &str| {
        let (_, projections) = platform.get("/admin/projections").await;
        let of = projections.as_array().into_iter().flatten().find(|one| one["name"] == name);
        let sources = of.map(|of| of["sources"].clone()).unwrap_or_default();
        let orders = sources.as_array().into_iter().flatten().find(|source| source["source"] == "orders").cloned();
        orders.is_some_and(|orders| orders["state"].as_str().is_some_and(|state| state.contains("feed regressed")))
    };
    for name in READ_MODELS {
        platform.until(&format!("{name} halted"), || halted(name)).await;
    }
    let (code, doctor) = says(&["doctor", "--url", &platform.url]).await;
    assert!(code == Some(1) && doctor.contains("projection order_details <- orders"), "{doctor}");
    assert!(doctor.contains("projection rebuild"), "it says what to do: {doctor}");

    for name in READ_MODELS {
        let (code, said) = says(&["projection", "rebuild", name, "--url", &platform.url]).await;
        assert_eq!(code, Some(0), "{name}: {said}");
    }
    assert_eq!(quantities(&platform, &token).await, [1, 2, 4, 5], "what the log holds now");
    for name in READ_MODELS {
        let (code, said) = says(&["projection", "verify", name, "--url", &platform.url]).await;
        assert_eq!(code, Some(0), "{name}: {said}");
    }
}

#[tokio::test]
async fn a_restored_file_is_noticed_and_healed() {
    a_restored_log_is_noticed_by_all_who_have_read_further_and_healed(Home::sqlite()).await;
}

#[tokio::test]
async fn a_restored_database_is_noticed_and_healed() {
    let home = Home::postgres(postgres::shared().await).await;
    a_restored_log_is_noticed_by_all_who_have_read_further_and_healed(home).await;
}

/// Loses the read models, and nothing else.
async fn lose_read_models(home: &mut Home) {
    match home {
        Home::Sqlite(dir) => {
            std::fs::remove_dir_all(dir.path().join("query")).expect("the generations");
            for name in ["query.db", "query.db-wal", "query.db-shm"] {
                // the last two are not always there
                let _ = std::fs::remove_file(dir.path().join(name));
            }
        }
        Home::Postgres { urls, .. } => {
            let empty = postgres::shared().await.create_database("query").await.expect("a database");
            urls.insert("query", empty);
        }
    }
}

async fn read_models_that_are_lost_come_back_from_a_copy_and_go_on(mut home: Home) {
    let dir = tempfile::tempdir().expect("a directory");
    let platform = Platform::up(&home).await;
    let seen = prepare(&platform).await;
    let token = import(&platform, 1, &seen).await;
    assert_eq!(quantities(&platform, &token).await, [1]);
    let to = dir.path().display().to_string();
    let (code, said) = says(&["export", "query", "orders", "--to", &to, "--url", &platform.url]).await;
    assert!(code == Some(0) && said.contains("order_details") && said.contains("query.ndjson"), "{said}");
    let later = import(&platform, 2, &seen).await;
    assert_eq!(platform.terminate().await, Some(0));

    let file = dir.path().join("query.ndjson");
    let lines = std::fs::read_to_string(&file).expect("the file");
    std::fs::write(&file, lines.replacen("\"quantity\":1", "\"quantity\":9", 1)).expect("a file");
    let (code, said) = restore(&home, &file, &["--replace"]).await;
    assert!(code == Some(1) && said.contains("query.ndjson") && said.contains("damaged"), "{said}");
    assert_eq!(restore(&home, &file, &["--check"]).await.0, Some(3));
    std::fs::write(&file, lines).expect("a file");
    let (code, said) = restore(&home, &file, &[]).await;
    assert!(code == Some(1) && said.contains("--replace"), "what is there is not given up unasked: {said}");

    lose_read_models(&mut home).await;
    let (code, said) = restore(&home, dir.path(), &["query"]).await;
    assert!(code == Some(0) && said.contains("order_details"), "{said}");
    let platform = Platform::up(&home).await;
    assert_eq!(quantities(&platform, &later).await, [1, 2], "with what came after the copy");
    for name in READ_MODELS {
        let (code, said) = says(&["projection", "verify", name, "--url", &platform.url]).await;
        assert_eq!(code, Some(0), "{name}: {said}");
    }
    let (_, kept) = platform.get("/admin/projections/order_details/generations").await;
    let live = kept["generations"].as_array().into_iter().flatten().find(|one| one["state"] == "live").cloned();
    assert_eq!(live.map(|live| live["generation"].clone()), Some(json!(2)), "the one of the copy: {kept}");

    // from their databases while nothing runs: the same rows
    assert_eq!(platform.terminate().await, Some(0));
    let (again, arguments) = (dir.path().join("again.ndjson").display().to_string(), at_rest(&home));
    let export = ["export", "query", "--to", &again].into_iter().chain(arguments.iter().map(String::as_str));
    let (code, said) = says(&export.collect::<Vec<_>>()).await;
    assert_eq!(code, Some(0), "{said}");
    let (code, said) = restore(&home, Path::new(&again), &["--check"]).await;
    assert!(code == Some(0) && said.contains("order_search"), "{said}");
}

#[tokio::test]
async fn lost_files_of_read_models_come_back_from_a_copy() {
    read_models_that_are_lost_come_back_from_a_copy_and_go_on(Home::sqlite()).await;
}

#[tokio::test]
async fn a_lost_database_of_read_models_comes_back_from_a_copy() {
    let home = Home::postgres(postgres::shared().await).await;
    read_models_that_are_lost_come_back_from_a_copy_and_go_on(home).await;
}

#[tokio::test]
async fn a_platform_moves_to_another_directory() {
    let (from, to) = (Home::sqlite(), Home::sqlite());
    let dir = tempfile::tempdir().expect("a directory");
    let platform = Platform::up(&from).await;
    let seen = prepare(&platform).await;
    import(&platform, 7, &seen).await;
    assert_eq!(platform.terminate().await, Some(0));

    let (path, arguments) = (dir.path().display().to_string(), at_rest(&from));
    let export = ["export", "--to", &path].into_iter().chain(arguments.iter().map(String::as_str));
    let (code, said) = says(&export.collect::<Vec<_>>()).await;
    assert!(code == Some(0) && said.contains("nothing answers"), "{said}");
    let (code, said) = restore(&to, dir.path(), &[]).await;
    assert_eq!(code, Some(0), "{said}");

    let platform = Platform::up(&to).await;
    let (status, user) = platform.get(&format!("/users/{CUSTOMER}")).await;
    assert_eq!((status, &user["name"]), (200, &json!("Ada Lovelace")), "her key came along: {user}");
    platform.until("everything read", || async { quantities(&platform, "").await == [7] }).await;
    // names are taken as before, and keys answer as before
    let again = json!({ "name": "Eva", "email": "ada@example.com" });
    let taken = platform.post("/users", "another", "", &again).await.expect("an answer");
    assert_eq!(taken.body["code"], "email_taken", "{}", taken.body);
    let user = json!({ "id": CUSTOMER, "name": "Ada Lovelace", "email": "ada@example.com" });
    let replayed = platform.post("/users", "user", "", &user).await.expect("an answer");
    assert!(replayed.status < 300, "{}", replayed.body);
}
