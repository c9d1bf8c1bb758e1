//! Databases of the previous release, in which one role owned everything and logged in, are migrated in place.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    common::{Home, Platform, databases, text, tributary},
    place::Place,
};

#[tokio::test(flavor = "multi_thread")]
async fn what_is_there_is_kept_and_who_owned_it_goes_on() {
    let place = Place::new().await;
    let mut urls = BTreeMap::new();
    for name in databases() {
        let role = format!("tributary_{name}");
        let make = format!("create role {role} login password 'before'");
        place.as_superuser("postgres", &make).await;
        place.server.execute("postgres", &format!("create database {role} owner {role}")).await.unwrap();
        urls.insert(name, place.server.url_as(&format!("{role}:before"), &role));
    }
    let before = Home::Postgres { urls, folder: Arc::new(tempfile::tempdir().unwrap()) };
    let platform = Platform::up(&before).await;
    let seeded = tributary(&["demo", "seed", "--url", &platform.url]).await;
    assert!(seeded.status.success(), "{}", text(&seeded));
    const COUNT: &str = "{ orders(first: 1) { totalCount } }";
    platform.until("seen", || async { platform.query(COUNT, "").await["orders"]["totalCount"] != 0 }).await;
    let orders = platform.query(COUNT, "").await;

    // while it runs
    let migrated = place.migrate(&[]).await;
    assert!(migrated.status.success(), "{}", text(&migrated));
    assert_eq!(text(&place.migrate(&["--check"]).await), "nothing to do\n");
    let add = |key: &'static str| {
        let body = serde_json::json!({"sku": key, "name": key, "unit_price": {"amount_minor": 1, "currency": "EUR"}});
        ("/products", key, body)
    };
    let (path, key, body) = add("while-it-runs");
    platform.command(path, key, "", body).await;
    assert_eq!(platform.terminate().await, Some(0));

    // the new one, and the previous one beside it once more
    let platform = Platform::up(&place.home()).await;
    assert_eq!(platform.query(COUNT, "").await, orders);
    let (path, key, body) = add("with-new-roles");
    platform.command(path, key, "", body).await;
    let beside = Platform::up(&before).await;
    let (path, key, body) = add("beside-it");
    beside.command(path, key, "", body).await;
    let rebuilt = tributary(&["projection", "verify", "order_details", "--url", &platform.url]).await;
    assert!(rebuilt.status.success(), "{}", text(&rebuilt));
    assert_eq!(
        place
            .count_in(
                "tributary_catalog",
                "select count(*) from events where event_type = 'ProductAdded' \
        and payload->>'sku' in ('while-it-runs', 'with-new-roles', 'beside-it')"
            )
            .await,
        3
    );
    assert_eq!(beside.terminate().await, Some(0));
    assert_eq!(platform.terminate().await, Some(0));
}
