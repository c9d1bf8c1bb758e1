//! A person who asks to be forgotten is nowhere afterwards: not in a log, a snapshot, a claim, a read model, a replica,
//! nor in anything that the process said.

mod common;

use std::path::Path;

use common::{Home, Platform, is_well, text, tributary};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use testkit::postgres;

/// In every personal field, and in nothing else.
const CANARY: &str = "canary7f3a91";
const PERSON: &str = "11111111-1111-4111-8111-111111111111";
const NEIGHBOUR: &str = "44444444-4444-4444-8444-444444444444";
const PRODUCT: &str = "22222222-2222-4222-8222-222222222222";
const ORDER: &str = "33333333-3333-4333-8333-333333333333";
const PARCEL: &str = "55555555-5555-4555-8555-555555555555";
const NEIGHBOURS_PARCEL: &str = "66666666-6666-4666-8666-666666666666";

/// The services whose logs hold something personal.
const PERSONAL: [&str; 2] = write_side::register::PERSONAL;

fn address(nth: u32) -> Value {
    json!({
        "street": format!("{CANARY} Street {nth}"), "city": format!("{CANARY} City"), "region": CANARY,
        "postal_code": CANARY, "country": format!("{CANARY} Land"),
    })
}

/// Somebody registers, changes everything that can be changed, and orders; a neighbour does too. A consistency token.
async fn live_a_life(platform: &Platform) -> String {
    let user = json!({
        "id": PERSON, "name": format!("{CANARY} Name"), "email": format!("{CANARY}@example.com"),
        "address": address(1), "external_ref": format!("{CANARY}-ref"),
    });
    let mut token = platform.command("/users", "u", "", user.clone()).await.token;
    let neighbour = json!({"id": NEIGHBOUR, "name": "Eva Neighbour", "email": "eva@example.com"});
    token = platform.command("/users", "n", &token, neighbour).await.token;
    let price = json!({"amount_minor": 1_250, "currency": "EUR"});
    let product = json!({"id": PRODUCT, "sku": "MAP-1", "name": "River map", "unit_price": price});
    token = format!("{token},{}", platform.command("/products", "p", "", product).await.token);
    let order = json!({"id": ORDER, "customer_id": PERSON, "lines": [{"product_id": PRODUCT, "quantity": 2}]});
    let placed = platform.command("/orders", "o", &token, order).await.token;
    let parcel = |id: &str, customer: &str, address: Value| {
        let lines = json!([{"product_id": PRODUCT, "quantity": 2}]);
        json!({"id": id, "order_id": ORDER, "customer_id": customer, "lines": lines, "address": address})
    };
    platform.command("/shipments", "s", "", parcel(PARCEL, PERSON, address(3))).await;
    let dispatched = json!({"carrier": "Post", "tracking": "P-1"});
    platform.command(&format!("/shipments/{PARCEL}/dispatch"), "d", "", dispatched).await;
    let next_door = json!({"street": "Neighbour Street 1", "city": "Riverton", "country": "GB"});
    platform.command("/shipments", "ns", "", parcel(NEIGHBOURS_PARCEL, NEIGHBOUR, next_door)).await;
    let of_user = |what: &str| format!("/users/{PERSON}/{what}");
    platform.command(&of_user("rename"), "r", "", json!({"name": format!("Mx {CANARY}")})).await;
    platform.command(&of_user("address"), "a", "", address(2)).await;
    let email = json!({"email": format!("second-{CANARY}@example.com")});
    let last = platform.command(&of_user("email"), "e", "", email.clone()).await.token;

    // what is refused is stored and logged as well
    let taken = platform.post(&format!("/users/{NEIGHBOUR}/email"), "t", "", &email).await.expect("an answer");
    assert_eq!((taken.status, &taken.body["code"]), (422, &json!("email_taken")));
    let exists = platform.post("/users", "x", "", &user).await.expect("an answer");
    assert_eq!(exists.status, 200, "the same registration again changes nothing: {}", exists.body);
    let wrong = json!({"name": {"first": CANARY}, "email": format!("{CANARY} at home"), CANARY: CANARY});
    assert_eq!(platform.post("/users", "w", "", &wrong).await.expect("an answer").status, 422);
    let products = token.rsplit(',').next().expect("a point").to_owned();
    format!("{last},{products},{placed}")
}

async fn customer(platform: &Platform, token: &str) -> Value {
    let query = format!("{{ order(id: \"{ORDER}\") {{ customer {{ name email }} }} }}");
    platform.query(&query, token).await["order"]["customer"].clone()
}

async fn feed(platform: &Platform, service: &str) -> String {
    let answer = platform.http.get(format!("{}/{service}/feed?after=0&limit=1000", platform.url)).send().await;
    answer.expect("an answer").text().await.expect("a page")
}

/// Waits until nothing of the person is in any feed, and nothing else is gone.
async fn until_erased_from_the_feeds(platform: &Platform) {
    for service in PERSONAL {
        platform.until("erased from the feed", async || !feed(platform, service).await.contains(CANARY)).await;
        assert!(feed(platform, service).await.contains("Neighbour"), "nobody else is, in {service}");
    }
}

async fn parcels_address(platform: &Platform, id: &str) -> Value {
    let (status, shown) = platform.get(&format!("/shipments/{id}")).await;
    assert_eq!(status, 200, "{shown}");
    shown["address"].clone()
}

/// Every file below `folder` that holds the canary, but messages that were sent.
fn files_with_canary(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            // a letter that was posted is not ours to call back, and the folder stands for the post (decision 7)
            if path.file_name().is_some_and(|name| name == "mail") {
                assert_messages_only(&path);
                continue;
            }
            found.extend(files_with_canary(&path));
        } else if holds_canary(&std::fs::read(&path).expect("a file")) {
            found.push(path.display().to_string());
        }
    }
    found
}

/// Nothing hides where nothing is searched.
fn assert_messages_only(folder: &Path) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let is_message = path.extension().is_some_and(|extension| extension == "eml" || extension == "partial");
        assert!(is_message && !path.is_dir(), "{path:?}");
    }
}

fn holds_canary(bytes: &[u8]) -> bool {
    bytes.to_ascii_lowercase().windows(CANARY.len()).any(|window| window == CANARY.as_bytes())
}

/// Every table of the databases that holds the canary in some row.
async fn tables_with_canary<'u>(urls: impl Iterator<Item = &'u String>) -> Vec<String> {
    const TABLES: &str = "select format('%I.%I', schemaname, tablename) from pg_tables \
                          where schemaname not in ('pg_catalog', 'information_schema')";
    let mut found = Vec::new();
    for url in urls {
        let mut database = PgConnection::connect(url).await.expect("a database");
        let tables: Vec<String> = sqlx::query_scalar(TABLES).fetch_all(&mut database).await.expect("tables");
        assert!(tables.len() > 3, "{tables:?}");
        for table in tables {
            let count = format!("select count(*) from {table} as t where t::text ilike '%{CANARY}%'");
            let rows: i64 = sqlx::query_scalar(AssertSqlSafe(count)).fetch_one(&mut database).await.expect("a count");
            if rows > 0 {
                found.push(format!("{table}: {rows} rows"));
            }
        }
    }
    found
}

async fn places_with_canary(home: &Home) -> Vec<String> {
    match home {
        Home::Sqlite(dir) => files_with_canary(dir.path()),
        Home::Postgres { urls, .. } => tables_with_canary(urls.values()).await,
    }
}

async fn an_erased_person_is_nowhere(home: Home) {
    let platform = Platform::up_with(&home, &[], &[("TRIBUTARY_LOG", "debug")]).await.expect("up");
    let token = live_a_life(&platform).await;
    let known = json!({"name": format!("Mx {CANARY}"), "email": format!("second-{CANARY}@example.com")});
    assert_eq!(customer(&platform, &token).await, known);
    for service in PERSONAL {
        assert!(feed(&platform, service).await.contains(CANARY), "while the key lives, followers of {service} read it");
    }
    assert_eq!(parcels_address(&platform, PARCEL).await, address(3));
    let (_, shown) = platform.get(&format!("/users/{PERSON}")).await;
    assert_eq!((&shown["name"], &shown["address"]), (&known["name"], &address(2)));
    let before = places_with_canary(&home).await;
    assert!(!before.is_empty(), "the read model holds it, or this test finds nothing");
    let known_to = ["order_details", "customer_overview", "order_search"];
    let is_known = |place: &String| known_to.iter().any(|read_model| place.contains(read_model));
    assert!(before.iter().all(is_known), "in nothing else: {before:?}");

    let erased = platform.command(&format!("/users/{PERSON}/erase"), "gone", "", json!({})).await.token;
    assert_eq!(customer(&platform, &erased).await, json!({"name": null, "email": null}));
    until_erased_from_the_feeds(&platform).await;
    platform.until("no address", async || parcels_address(&platform, PARCEL).await == Value::Null).await;
    assert_eq!(parcels_address(&platform, NEIGHBOURS_PARCEL).await["street"], "Neighbour Street 1");
    let (status, shown) = platform.get(&format!("/users/{PERSON}")).await;
    assert_eq!((status, shown), (200, json!({"id": PERSON, "erased": true})));
    let again = json!({"name": "Somebody Else", "email": format!("second-{CANARY}@example.com")});
    let again = platform.command("/users", "free", "", again).await;
    assert_eq!(again.status, 201, "the address is free again");
    let erased = platform.command(&format!("{}/erase", again.location), "gone too", "", json!({})).await.token;

    until_erased_from_the_feeds(&platform).await;
    for read_model in known_to {
        let rebuilt = tributary(&["projection", "verify", read_model, "--url", &platform.url]).await;
        assert!(rebuilt.status.success(), "a rebuild of {read_model} equals live: {}", text(&rebuilt));
    }
    let said = platform.said();
    assert!(said.len() > 5, "it says something at this level: {said:?}");
    assert!(!holds_canary(said.join("\n").as_bytes()), "{said:?}");
    assert_eq!(platform.terminate().await, Some(0));
    assert_eq!(places_with_canary(&home).await, Vec::<String>::new());

    let platform = Platform::up(&home).await;
    assert_eq!(customer(&platform, &erased).await, json!({"name": null, "email": null}));
    assert_eq!(parcels_address(&platform, PARCEL).await, Value::Null);
    platform.command(&format!("/shipments/{PARCEL}/deliver"), "arrived", "", json!({})).await;
    let doctor = tributary(&["doctor", "--url", &platform.url]).await;
    assert!(is_well(&doctor), "{}", text(&doctor));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erased_person_is_in_no_file_of_the_data_directory() {
    an_erased_person_is_nowhere(Home::sqlite()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erased_person_is_in_no_table_of_any_database() {
    an_erased_person_is_nowhere(Home::postgres(postgres::shared().await).await).await;
}
