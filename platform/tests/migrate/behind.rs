//! The platform behind PgBouncer: its roles have what a connection would otherwise ask for.

use std::{collections::BTreeMap, sync::Arc};

use testkit::{pgbouncer::PgBouncer, postgres::ThrowAwayPostgres};

use crate::{
    common::{Home, Platform, databases, text, tributary},
    place::group_of,
};

#[tokio::test(flavor = "multi_thread")]
async fn it_runs_on_few_connections_of_the_server_from_commands_to_a_rebuild() {
    let server = ThrowAwayPostgres::start().await.unwrap();
    let migrated = tributary(&["migrate", "--admin-url", &server.url("postgres")]).await;
    assert!(migrated.status.success(), "{}", text(&migrated));
    let before = PgBouncer::start(&server, 4).unwrap();
    let url = |name| {
        let url = server.url_as(&format!("{}_a", group_of(name)), &format!("tributary_{name}"));
        url.replace(&format!(":{}/", server.port()), &format!(":{}/", before.port()))
    };
    let urls: BTreeMap<_, _> = databases().map(|name| (name, url(name))).collect();
    let home = Home::Postgres { urls, folder: Arc::new(tempfile::tempdir().unwrap()) };
    let platform = Platform::up(&home).await;
    let seeded = tributary(&["demo", "seed", "--url", &platform.url]).await;
    assert!(seeded.status.success(), "{}", text(&seeded));
    const COUNT: &str = "{ orders(first: 1) { totalCount } }";
    platform.until("seen", || async { platform.query(COUNT, "").await["orders"]["totalCount"] != 0 }).await;
    let rebuilt = tributary(&["projection", "rebuild", "order_details", "--url", &platform.url]).await;
    assert!(rebuilt.status.success(), "{}", text(&rebuilt));
    platform.kill().await;

    // whoever comes after a crash takes over what the dead one held
    let platform = Platform::up(&home).await;
    let verified = tributary(&["projection", "verify", "order_details", "--url", &platform.url]).await;
    assert!(verified.status.success(), "{}", text(&verified));
    assert_eq!(platform.terminate().await, Some(0));
}
