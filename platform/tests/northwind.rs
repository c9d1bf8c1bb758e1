//! The JOIN oracle: Northwind goes in through the commands, and GraphQL must answer what one SQL JOIN on the source
//! answers. The real database where it is at hand, else one of its shape.

mod common;

use std::time::Duration;

use common::{Home, Platform, binary, text, tributary};
use testkit::{northwind::Northwind, postgres};

const ALL_AGREE: &str = "830 of 830 orders, 2,155 of 2,155 lines, 0 differences";

async fn import(from: &str, url: &str) -> std::process::Output {
    tributary(&["import", "northwind", "--from", from, "--url", url, "--verify"]).await
}

async fn heads(platform: &Platform) -> Vec<String> {
    let mut heads = Vec::new();
    for service in ["users", "catalog", "orders"] {
        let page = platform.http.get(format!("{}/{service}/feed?limit=1", platform.url)).send().await.expect("a feed");
        heads.push(page.headers()["feed-head"].to_str().expect("a number").to_owned());
    }
    heads
}

async fn the_oracle(home: Home) {
    let northwind = Northwind::real_or_synthetic().expect("a source");
    let from = northwind.path.display().to_string();
    let platform = Platform::up(&home).await;
    let first = import(&from, &platform.url).await;
    assert!(first.status.success() && text(&first).contains(ALL_AGREE), "{}", text(&first));
    let before = heads(&platform).await;
    let second = import(&from, &platform.url).await;
    assert!(second.status.success() && text(&second).contains(ALL_AGREE), "{}", text(&second));
    assert_eq!(heads(&platform).await, before, "importing twice adds nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_answers_as_the_join_on_its_source_on_sqlite() {
    the_oracle(Home::sqlite()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_answers_as_the_join_on_its_source_on_postgresql() {
    the_oracle(Home::postgres(postgres::shared().await).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_reads_a_source_in_postgresql() {
    let server = postgres::shared().await;
    let from = Northwind::real_or_synthetic().expect("a source").to_postgres(server).await.expect("a copy");
    let home = Home::sqlite();
    let platform = Platform::up(&home).await;
    let done = import(&from, &platform.url).await;
    assert!(done.status.success() && text(&done).contains(ALL_AGREE), "{}", text(&done));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_that_is_killed_and_run_again_ends_the_same() {
    let northwind = Northwind::real_or_synthetic().expect("a source");
    let from = northwind.path.display().to_string();
    let home = Home::sqlite();
    for (importer_dies_after_ms, platform_dies_after_ms) in [(700, 2_000), (2_000, 900)] {
        let platform = Platform::up(&home).await;
        let arguments = ["import", "northwind", "--from", &from, "--url", &platform.url];
        let mut importer = tokio::process::Command::new(binary())
            .args(arguments)
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("it starts");
        tokio::join!(
            async {
                tokio::time::sleep(Duration::from_millis(importer_dies_after_ms)).await;
                // perhaps it is done already, or has given up: then there is nothing left to kill
                let _ = importer.kill().await;
            },
            async {
                tokio::time::sleep(Duration::from_millis(platform_dies_after_ms)).await;
                platform.kill().await;
            }
        );
    }
    let platform = Platform::up(&home).await;
    let done = import(&from, &platform.url).await;
    assert!(done.status.success() && text(&done).contains(ALL_AGREE), "{}", text(&done));
    assert_eq!(heads(&platform).await, heads_of_one_import(&from).await, "as many events as one import makes");
}

async fn heads_of_one_import(from: &str) -> Vec<String> {
    let home = Home::sqlite();
    let platform = Platform::up(&home).await;
    let done = import(from, &platform.url).await;
    assert!(done.status.success(), "{}", text(&done));
    heads(&platform).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_breaks_a_rule_is_reported_and_the_rest_goes_on() {
    let northwind = Northwind::synthetic().expect("a source");
    northwind.execute("update order_details set quantity = 0 where order_id = 10248").expect("a spoilt order");
    let home = Home::sqlite();
    let platform = Platform::up(&home).await;
    let report = home.dir().join("report.jsonl");
    let from = northwind.path.display().to_string();
    let report_text = report.display().to_string();
    let arguments = ["import", "northwind", "--from", &from, "--url", &platform.url, "--report", &report_text];
    let done = tributary(&arguments).await;
    assert_eq!(done.status.code(), Some(2), "{}", text(&done));
    let report = std::fs::read_to_string(&report).expect("a report");
    assert!(report.contains("10248") && report.contains("quantity"), "{report}");
    assert_eq!(report.lines().count(), 1, "{report}");
    let seen = platform
        .query("{ orders(first: 1, filter: {externalRef: \"10249\"}) { edges { node { status } } } }", "")
        .await;
    assert_eq!(seen["orders"]["edges"][0]["node"]["status"], "SHIPPED", "{seen}");
}
