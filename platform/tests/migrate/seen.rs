//! What `doctor` sees through roles that may not look at what others do.

use sqlx::{Connection, PgConnection};
use testkit::postgres::Settings;

use crate::{
    common::{text, tributary},
    place::Place,
};

#[tokio::test]
async fn a_server_that_is_nearly_full_is_named_and_what_cannot_be_seen_is_said() {
    const CONNECTIONS_MAX: usize = 60;
    let settings = Settings::default().max_connections(CONNECTIONS_MAX as u32);
    let place = Place::with(settings.with("superuser_reserved_connections", "1")).await;
    assert!(place.migrate(&["users"]).await.status.success());
    let url = place.url("tributary_users_a", "users");
    let line = async || {
        let asked = ["doctor", "--url", "http://127.0.0.1:1", "--users-database-url", &url];
        let said = text(&tributary(&asked).await);
        said.lines().find(|line| line.contains("database users")).map(str::to_owned).expect("a line")
    };
    let alone = line().await;
    assert!(alone.contains("this role cannot see") && !alone.contains("connections are in use"), "{alone}");
    let mut crowd = Vec::new();
    for _ in 0..CONNECTIONS_MAX - 4 {
        crowd.push(PgConnection::connect(&place.admin_url()).await.unwrap());
    }
    let crowded = line().await;
    assert!(crowded.contains("of 60 connections are in use"), "{crowded}");
}
