//! The platform on roles that own nothing.

use read_side::ReadSide;
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};

use crate::{
    common::{Platform, text, tributary},
    place::Place,
};

/// Enters the demo data and says the token behind it.
async fn seed(platform: &Platform) {
    let seeded = tributary(&["demo", "seed", "--url", &platform.url]).await;
    assert!(seeded.status.success(), "{}", text(&seeded));
}

async fn orders(platform: &Platform) -> i64 {
    let answer = platform.query("{ orders(first: 1) { totalCount } }", "").await;
    answer["orders"]["totalCount"].as_i64().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn it_runs_from_the_first_command_to_a_rebuild_and_its_readers_only_read() {
    let place = Place::migrated().await;
    let platform = Platform::up(&place.home()).await;
    seed(&platform).await;
    let page = platform.http.get(format!("{}/metrics", platform.url)).send().await.unwrap().text().await.unwrap();
    for database in ["users", "checkout", "query"] {
        let line = format!("tributary_database_lock_waiters{{database=\"{database}\"}} ");
        assert!(page.contains(&line), "a role that owns nothing may look at locks: {line}");
    }
    assert!(page.contains(r#"reason="forbidden"} 0"#) && !page.contains(r#"reason="forbidden"} 1"#), "{page}");
    platform.until("seen", || async { orders(&platform).await > 0 }).await;
    let before = orders(&platform).await;

    let rebuilt = tributary(&["projection", "rebuild", "order_details", "--url", &platform.url, "-o", "json"]).await;
    assert!(rebuilt.status.success(), "{}", text(&rebuilt));
    let rebuilt: Value = serde_json::from_slice(&rebuilt.stdout).unwrap();
    assert_eq!((&rebuilt["phase"], &rebuilt["generation"]), (&json!("swapped"), &json!(2)), "{rebuilt}");
    assert_eq!(orders(&platform).await, before);

    // a generation that was made after the rights were given is there for readers, too
    let reader = ReadSide::connect_postgres(&place.url("tributary_graphql_a", "query")).unwrap();
    let statuses = reader.projections().await.unwrap();
    let live = statuses.iter().find(|of| of.name == "order_details").unwrap();
    assert!(live.live_generation == 2 && statuses.len() == read_side::status::READ_MODELS.len(), "{statuses:?}");
    let mut reader = PgConnection::connect(&place.url("tributary_graphql_a", "query")).await.unwrap();
    let rows: i64 = sqlx::query_scalar("select count(*) from order_details_g2").fetch_one(&mut reader).await.unwrap();
    assert!(rows >= before);

    assert_eq!(text(&place.migrate(&["--check"]).await), "nothing to do\n");
    assert_eq!(platform.terminate().await, Some(0));
    let owners = "select count(distinct relowner) from pg_class where relname ~ '_g[0-9]+(_|$)' and relkind = 'r'";
    assert_eq!(place.count_in("tributary_query", owners).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_tables_that_are_missing_it_says_what_to_run() {
    for (database, take_away, names) in [
        ("tributary_users", "delete from log_migrations where version = 13", "0013_erasures"),
        ("tributary_payments", "delete from reactor.migrations where version = 6", "the schema reactor"),
        ("tributary_checkout", "drop schema sagas cascade", "the schema sagas"),
        ("tributary_query", "delete from _sqlx_migrations where version = 5", "query database"),
    ] {
        let place = Place::migrated().await;
        place.as_superuser(database, take_away).await;
        let said = Platform::up_with(&place.home(), &[], &[]).await.err().expect("it does not come up");
        assert!(said.contains("run `tributary migrate") && said.contains(names), "{database}: {said}");
    }
}
