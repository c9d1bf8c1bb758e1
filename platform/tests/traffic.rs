//! `demo traffic`: live load on a running platform, which it also takes to the door.

mod common;

use common::{Home, Platform, text, tributary};
use serde_json::Value;

#[tokio::test]
async fn orders_are_placed_paid_sent_and_delivered() {
    let limits = ["--rate-limit-per-second", "100", "--rate-limit-burst", "50"];
    let platform =
        Platform::up_with(&Home::sqlite(), &limits, &[]).await.expect("with the limits of a platform with tokens");
    let load = ["-o", "json", "demo", "traffic", "--rate", "10", "--for", "3s", "--url", &platform.url];
    let done = tributary(&load).await;
    assert_eq!(done.status.code(), Some(0), "{}", text(&done));
    let told: Value = serde_json::from_slice(&done.stdout).expect("JSON");
    let count = |name: &str| told[name].as_u64().expect(name);
    assert!((20..=40).contains(&count("placed")), "ten a second for three seconds: {told}");
    assert_eq!(count("confirmed") + count("compensated"), count("placed"), "{told}");
    assert!(count("compensated") > 0 && count("sent") > 0, "{told}");
    assert_eq!(count("delivered"), count("sent"), "{told}");
    let quantile = |name: &str| told["placing"][name].as_u64().expect(name);
    assert!(quantile("p50_us") > 0 && quantile("p50_us") <= quantile("p99_us"), "{told}");

    assert_eq!(count("failed"), 0, "whoever is told to slow down does: {told}");

    let wrong = tributary(&["demo", "traffic", "--for", "1d"]).await;
    assert_eq!(wrong.status.code(), Some(2), "{}", text(&wrong));
}
