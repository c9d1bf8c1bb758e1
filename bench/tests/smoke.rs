//! Every benchmark runs, with tiny counts, and produces its figures. No thresholds: a slow machine is not a fault.

use std::process::Command;

use serde_json::Value;

/// Runs a benchmark and gives its report.
fn check(arguments: &[&str]) -> Value {
    let output =
        Command::new(env!("CARGO_BIN_EXE_bench")).args(arguments).args(["--smoke", "--json"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "bench {arguments:?}: {said}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let rows = report["rows"].as_array().unwrap();
    assert!(!rows.is_empty(), "{report}");
    for row in rows {
        for number in row["numbers"].as_array().unwrap() {
            assert!(number["median"].as_f64().unwrap() > 0.0, "{row}");
        }
    }
    report
}

fn ratios(report: &Value) -> usize {
    report["ratios"].as_array().unwrap().len()
}

#[test]
fn commands_on_postgresql_are_measured() {
    let report = check(&["commands", "--without-peer"]);
    assert_eq!(ratios(&report), 0, "nothing to compare with");
}

#[test]
fn commands_over_http_are_measured() {
    let report = check(&["http", "--without-peer"]);
    assert_eq!(ratios(&report), 0, "nothing to compare with");
}

#[test]
fn commands_on_the_bus_alone_are_measured() {
    check(&["bus"]);
}

#[test]
fn commands_on_sqlite_are_measured_against_raw_rows() {
    // hot and fresh streams, each with and without triggers
    assert_eq!(ratios(&check(&["sqlite"])), 4);
}

#[test]
fn the_feed_is_measured_against_raw_reads_on_both_databases() {
    assert_eq!(ratios(&check(&["feed"])), 2);
}

#[test]
fn loading_is_measured_with_and_without_a_snapshot_on_both_databases() {
    assert_eq!(ratios(&check(&["load"])), 2);
}

#[test]
fn rebuilds_are_measured_on_both_databases_and_give_what_one_statement_computes() {
    // against the statement on each, against reading, folding and copying on PostgreSQL
    assert_eq!(ratios(&check(&["rebuild", "--without-peer"])), 3);
}

#[test]
fn rebuilds_of_many_events_are_measured_against_those_of_few() {
    assert_eq!(ratios(&check(&["rebuild", "--soak"])), 1);
}

#[test]
fn graphql_is_measured_on_both_databases_against_the_same_answers_by_hand() {
    // two questions on each
    assert_eq!(ratios(&check(&["graphql", "--without-peer"])), 4);
}

#[test]
fn visibility_is_measured_on_the_real_binary_with_both_databases() {
    // imports and checkouts, four rows each, on each
    let report = check(&["visible"]);
    assert_eq!(report["rows"].as_array().unwrap().len(), 16, "{report}");
}

#[test]
fn live_subscribers_are_told_on_the_real_binary_with_both_databases() {
    // delivery, rate and memory on each
    let report = check(&["live"]);
    assert_eq!(report["rows"].as_array().unwrap().len(), 6, "{report}");
}

#[test]
fn checkouts_are_measured_on_the_real_binary_with_both_databases() {
    // checkouts and commits on each, transactions on PostgreSQL
    let report = check(&["checkout"]);
    assert_eq!(report["rows"].as_array().unwrap().len(), 5, "{report}");
}

#[test]
fn roles_apart_are_measured_with_one_and_with_two_replicas() {
    // two replicas over one, directly and behind a gateway, and the gateway itself
    let report = check(&["apart"]);
    assert_eq!(ratios(&report), 3);
    // four sides; then imports and checkouts, four rows each, directly and behind a gateway
    assert_eq!(report["rows"].as_array().unwrap().len(), 4 + 16, "{report}");
}

#[test]
fn peak_memory_of_the_demo_is_measured() {
    check(&["memory"]);
}
