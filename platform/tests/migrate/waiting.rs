//! What a run waits for: another run as long as that takes, a table not longer than everybody behind it can bear.

use std::time::{Duration, Instant};

use sqlx::{Connection, PgConnection, raw_sql};

use crate::{common::text, place::Place};

/// Longer than a table is waited for.
const LONG: Duration = Duration::from_secs(11);

#[tokio::test]
async fn another_run_is_waited_for_as_long_as_it_takes() {
    let place = Place::new().await;
    let mut other = PgConnection::connect(&place.admin_url()).await.unwrap();
    // "tributal", as a run that takes long holds it
    raw_sql("select pg_advisory_lock(x'747269627574616c'::int8)").execute(&mut other).await.unwrap();
    let release = async {
        tokio::time::sleep(LONG).await;
        other.close().await.unwrap();
    };
    let (made, ()) = tokio::join!(place.migrate(&["users"]), release);
    assert!(made.status.success(), "{}", text(&made));
}

#[tokio::test]
async fn a_table_that_somebody_holds_ends_the_run_and_the_next_one_goes_on() {
    let place = Place::new().await;
    assert!(place.migrate(&["users"]).await.status.success());
    let as_before = "drop function refuse_change, refuse_foreign_write, check_head_move cascade; \
                     delete from log_migrations where version = 7";
    place.as_superuser("tributary_users", as_before).await;
    let mut holder = PgConnection::connect(&place.server.url("tributary_users")).await.unwrap();
    raw_sql("begin; lock table events in row exclusive mode").execute(&mut holder).await.unwrap();
    let started = Instant::now();
    let refused = tokio::time::timeout(6 * LONG, place.migrate(&["users"])).await.expect("it ends by itself");
    assert!(!refused.status.success() && started.elapsed() > LONG - Duration::from_secs(2), "{}", text(&refused));
    assert!(
        text(&refused).contains("0007_append_only") && text(&refused).contains("lock timeout"),
        "{}",
        text(&refused)
    );
    holder.close().await.unwrap();
    let made = place.migrate(&["users"]).await;
    assert!(made.status.success() && text(&made).contains("run migration 0007"), "{}", text(&made));
}
