//! When something fails behind the endpoint, the answer says what to do and nothing about how it is made.

mod support;

use std::{sync::Arc, time::Duration};

use axum::http::{StatusCode, header};
use event_store::{feed::Feed, memory::MemoryLog};
use graphql::GraphqlOptions;
use projections::{Projector, ProjectorOptions, QueryDatabase};
use read_side::ReadSide;
use serde_json::{Value, json};
use support::{Answer, Endpoint};
use testkit::postgres::ThrowAwayPostgres;

/// A question to every read model.
const EVERYTHING: &str = r#"{
    order(id: "00000000-0000-0000-0000-000000030001") { status }
    orders(filter: { status: SHIPPED }) { edges { node { lines { productName } } } }
    customer(id: "00000000-0000-0000-0000-000000010001") { name }
    customerOverview(id: "00000000-0000-0000-0000-000000010001") { name }
    productSalesByDay(productId: "00000000-0000-0000-0000-000000020001", from: "2026-01-01", to: "2026-01-31") { productId }
    searchOrders(text: "tea") { orderId }
    projections { name }
}"#;

/// What stands in no answer: SQL, names of tables and types, places of files, and what a panic or a driver says.
const TELLTALES: [&str; 16] = [
    "select ",
    "from ",
    "relation",
    "column",
    "sqlx",
    "sqlite",
    "postgres",
    "::",
    ".rs",
    "/",
    "_g1",
    "panick",
    "os error",
    "syntax error",
    "pool",
    "query.db",
];

async fn ask(endpoint: &Endpoint) -> Answer {
    let request = endpoint.post(&json!({ "query": EVERYTHING }));
    request.header(header::ACCEPT, "application/graphql-response+json").send().await
}

/// Every error has a code that is one of ours, and says nothing else than it should.
#[track_caller]
fn says_nothing(answer: &Answer, codes: &[&str]) {
    let json = answer.json();
    let errors = json["errors"].as_array().unwrap_or_else(|| panic!("{json}"));
    assert!(!errors.is_empty(), "{json}");
    for error in errors {
        let code = error["extensions"]["code"].as_str().unwrap_or_default();
        assert!(codes.contains(&code), "{error}");
        assert!(error["extensions"]["traceId"].is_string() || code == "rebuilding", "{error}");
    }
    let told = |error: &Value| format!("{} {}", error["message"], error["extensions"]).to_lowercase();
    let told = errors.iter().map(told).collect::<String>();
    for telltale in TELLTALES {
        assert!(!told.contains(telltale), "{telltale:?} in {told}");
    }
}

#[tokio::test]
async fn a_database_that_is_away_is_unavailable_and_worth_a_retry() {
    let server = ThrowAwayPostgres::start().await.unwrap();
    let url = server.create_database("query").await.unwrap();
    QueryDatabase::open_postgres(&url).await.unwrap();
    let endpoint = Endpoint::over(ReadSide::connect_postgres(&url).unwrap(), GraphqlOptions::default());
    says_nothing(&ask(&endpoint).await, &["rebuilding"]);
    server.stop_immediate().await.unwrap();
    let answer = tokio::time::timeout(Duration::from_secs(30), ask(&endpoint)).await.expect("a wait has an end");
    assert_eq!(answer.status, StatusCode::from_u16(294).unwrap());
    says_nothing(&answer, &["unavailable"]);
    assert_eq!(answer.header("retry-after"), "1");
    let every_field_is_null = answer.json()["data"].as_object().unwrap().values().all(Value::is_null);
    assert!(every_field_is_null, "{}", answer.json());
}

#[tokio::test]
async fn a_database_that_is_not_what_we_made_tells_nothing_of_itself() {
    let server = testkit::postgres::shared().await;
    let url = server.create_database("query").await.unwrap();
    let feeds = ["users", "catalog", "orders", "inventory", "payments", "shipping"].map(MemoryLog::new);
    let feeds = feeds.into_iter().map(|log| log as Arc<dyn Feed>).collect();
    let database = QueryDatabase::open_postgres(&url).await.unwrap();
    let projector = Projector::start(database, feeds, ProjectorOptions::default()).await.unwrap();
    projector.caught_up().await;
    projector.shutdown().await;
    let endpoint = Endpoint::over(ReadSide::connect_postgres(&url).unwrap(), GraphqlOptions::default());
    assert_eq!(ask(&endpoint).await.json()["errors"], Value::Null);
    let database = url.rsplit('/').next().unwrap().split('?').next().unwrap();
    for table in ["order_details_g1", "customer_overview_g1", "product_sales_by_day_g1", "order_search_g1"] {
        let sql = format!(
            "alter table {table} rename to gone; create table {table} (nothing integer); drop table gone cascade"
        );
        server.execute(database, &sql).await.unwrap();
    }
    let answer = ask(&endpoint).await;
    says_nothing(&answer, &["unavailable", "internal"]);
    assert!(answer.json()["data"]["order"].is_null(), "{}", answer.json());
}

#[tokio::test]
async fn a_file_that_is_no_database_tells_nothing_of_itself() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("query.db"), "this is no database, but a text of some length".repeat(100))
        .unwrap();
    let endpoint = Endpoint::over(ReadSide::connect_sqlite(directory.path()), GraphqlOptions::default());
    says_nothing(&ask(&endpoint).await, &["unavailable", "internal"]);
}

/// What the library says of a document that does not fit has names of the schema, and none of ours.
#[tokio::test]
async fn a_document_that_does_not_fit_is_told_in_the_words_of_the_schema() {
    let endpoint = Endpoint::new();
    for (query, variables) in [
        ("{ orders(first: \"ten\") { edges { cursor } } }", json!({})),
        ("{ orders(filter: { status: NOTHING }) { edges { cursor } } }", json!({})),
        ("{ orders(filter: { placedAfter: \"soon\" }) { edges { cursor } } }", json!({})),
        ("query ($s: OrderStatus) { orders(filter: { status: $s }) { edges { cursor } } }", json!({ "s": 7 })),
        ("query ($f: OrderFilter) { orders(filter: $f) { edges { cursor } } }", json!({ "f": { "status": [] } })),
        ("query ($d: DateTime) { orders(filter: { placedAfter: $d }) { edges { cursor } } }", json!({ "d": {} })),
        ("query ($n: Int!) { orders(first: $n) { edges { cursor } } }", json!({ "n": 1e300 })),
        ("{ productSalesByDay(productId: \"x\", from: \"a\", to: \"b\") { productId } }", json!({})),
        ("{ order(id: \"x\") { id } }", json!({})),
        ("{ node(id: \"T3JkZXI6eA\") { id } }", json!({})),
        ("{ orders(after: \"%\") { edges { cursor } } }", json!({})),
    ] {
        let body = json!({ "query": query, "variables": variables });
        let answer = endpoint.post(&body).send().await;
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (StatusCode::OK, "validation_failed"),
            "{query}: {}",
            answer.json()
        );
        let told = answer.json()["errors"].to_string().to_lowercase();
        for telltale in
            ["sqlx", "::", ".rs", "panick", "i32", "i64", "u64", "usize", "chrono", "serde", "uuid::", "option<"]
        {
            assert!(!told.contains(telltale), "{query}: {telltale:?} in {told}");
        }
    }
}
