//! `tributary migrate` on real servers: what it makes, what it divides, and that the platform runs on it.

mod behind;
#[path = "../common/mod.rs"]
mod common;
mod forbidden;
mod interrupted;
#[path = "../common/place.rs"]
mod place;
mod previous;
mod restricted;
mod rotation;
mod seen;
mod tls;
mod waiting;

use common::{databases, text};
use place::Place;
use serde_json::Value;

#[tokio::test]
async fn what_is_missing_is_told_then_made_and_then_there_is_nothing_to_do() {
    let place = Place::new().await;
    let told = place.migrate(&["--check"]).await;
    assert_eq!(told.status.code(), Some(3), "{}", text(&told));
    for name in databases() {
        assert!(text(&told).contains(&format!("would create database \"tributary_{name}\"")), "{}", text(&told));
    }
    assert_eq!(place.count("select count(*) from pg_database where datname like 'tributary%'").await, 0);
    assert_eq!(place.count("select count(*) from pg_roles where rolname like 'tributary%'").await, 0);

    let made = place.migrate(&[]).await;
    assert!(made.status.success() && text(&made).contains("changes made"), "{}", text(&made));
    assert!(!text(&made).contains("SCRAM"), "what is told holds no secret");
    for again in [&["--check"][..], &[], &["orders", "query", "--check"]] {
        let again = place.migrate(again).await;
        assert_eq!((again.status.code(), &*text(&again)), (Some(0), "nothing to do\n"));
    }
    let told = place.migrate(&["--check", "-o", "json"]).await;
    assert_eq!(serde_json::from_slice::<Value>(&told.stdout).unwrap(), Value::Array(Vec::new()));
}

#[tokio::test]
async fn one_database_is_migrated_alone() {
    let place = Place::new().await;
    let made = place.migrate(&["users"]).await;
    assert!(made.status.success(), "{}", text(&made));
    assert_eq!(place.count("select count(*) from pg_database where datname like 'tributary%'").await, 1);
    let wrong = place.migrate(&["accounts"]).await;
    assert_eq!(wrong.status.code(), Some(2), "{}", text(&wrong));
}

/// Connections are bounded for each login, so of many replicas the last ones would get none.
#[tokio::test]
async fn as_many_processes_as_are_told_of_have_connections() {
    let place = Place::migrated().await;
    let limit = async |role: &str| {
        place.count(&format!("select rolconnlimit::int8 from pg_roles where rolname = 'tributary_{role}_a'")).await
    };
    let roles = ["users", "checkout", "projector", "graphql"];
    let of_two = futures::future::join_all(roles.map(limit)).await;
    let again = place.migrate(&["--processes", "6"]).await;
    assert!(again.status.success(), "{}", text(&again));
    let of_six = futures::future::join_all(roles.map(limit)).await;
    assert_eq!(of_six, of_two.iter().map(|limit| limit * 3).collect::<Vec<_>>());
    let none = place.migrate(&["--processes", "0"]).await;
    assert_eq!(none.status.code(), Some(2), "{}", text(&none));
}

#[tokio::test]
async fn several_at_once_make_everything_once() {
    let place = Place::new().await;
    let runs = futures::future::join_all((0..3).map(|_| place.migrate(&["orders", "query"]))).await;
    assert!(runs.iter().all(|run| run.status.success()), "{:?}", runs.iter().map(text).collect::<Vec<_>>());
    let idle = runs.iter().filter(|run| text(run) == "nothing to do\n").count();
    assert_eq!(idle, 2, "one of them did it all");
}

/// Rights that were given, or a table that was made, by mistake.
#[tokio::test]
async fn what_is_not_as_it_should_be_is_put_right() {
    let place = Place::migrated().await;
    place
        .as_superuser(
            "tributary_users",
            "grant insert, update on events to tributary_users; grant select on log_key to public; \
             create table stray (n int); alter table snapshots owner to postgres; \
             grant all on schema public to public; grant connect on database tributary_users to public; \
             grant update (payload, metadata) on events to tributary_users_b",
        )
        .await;
    place
        .as_superuser(
            "postgres",
            "alter role tributary_users_a createrole; alter role tributary_users_owner login; \
             grant tributary_users_owner, pg_write_all_data to tributary_users_a; \
             grant tributary_users to tributary_users_b with admin option",
        )
        .await;
    assert_eq!(place.migrate(&["users", "--check"]).await.status.code(), Some(3));
    let put_right = place.migrate(&["users"]).await;
    let said = text(&put_right);
    for change in [
        "revoke insert, update on table \"public\".\"events\" from \"tributary_users\"",
        "revoke select on table \"public\".\"log_key\" from public",
        "alter table public.stray owner to tributary_users_owner",
        "alter table public.snapshots owner to tributary_users_owner",
        "revoke create, usage on schema \"public\" from public",
        "revoke connect on database \"tributary_users\" from public",
        "alter role \"tributary_users_a\" nosuperuser",
        "alter role \"tributary_users_owner\" nologin",
        "revoke tributary_users_owner from tributary_users_a",
        "revoke pg_write_all_data from tributary_users_a",
        "revoke admin option for tributary_users from tributary_users_b",
        "revoke update (\"metadata\"), update (\"payload\") on table \"public\".\"events\" from \"tributary_users_b\"",
    ] {
        assert!(said.contains(change), "{change} in:\n{said}");
    }
    assert_eq!(text(&place.migrate(&["--check"]).await), "nothing to do\n");
}

#[tokio::test]
async fn what_cannot_be_done_is_said_with_the_way_out() {
    let place = Place::new().await;
    let nobody = common::tributary(&["migrate"]).await;
    assert_eq!(nobody.status.code(), Some(1));
    assert!(text(&nobody).contains("--admin-url-file"), "{}", text(&nobody));

    std::fs::remove_file(place.secret("tributary_users_a")).unwrap();
    let missing = place.migrate(&["users"]).await;
    assert_eq!(missing.status.code(), Some(1));
    assert!(text(&missing).contains("neither tributary_users_a nor tributary_users_b"), "{}", text(&missing));

    std::fs::write(place.secret("tributary_users_a"), "schlüssel").unwrap();
    let odd = place.migrate(&["users"]).await;
    assert!(text(&odd).contains("printable ASCII") && !text(&odd).contains("schlüssel"), "{}", text(&odd));
}
