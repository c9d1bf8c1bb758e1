//! `adopt postgres-es` as an operator does it. What it makes of a database is tested in `event-store/tests/adopt.rs`.

mod common;

use common::{text, tributary};
use sqlx::{Connection, PgConnection, raw_sql};
use testkit::postgres::fresh_database;

#[tokio::test]
async fn a_database_is_looked_at_adopted_and_adopted_once() {
    let url = fresh_database("adopt").await;
    let mut connection = PgConnection::connect(&url).await.expect("the database");
    let made = "create table events (aggregate_type text not null, aggregate_id text not null, \
                sequence bigint check (sequence >= 0) not null, event_type text not null, event_version text not null, \
                payload json not null, metadata json not null, primary key (aggregate_type, aggregate_id, sequence)); \
                insert into events values ('account', 'a', 1, 'Opened', '1.0', '{}', '{}')";
    raw_sql(made).execute(&mut connection).await.expect("as postgres-es makes it");
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), format!("{url}\n")).expect("written");
    let in_file = file.path().display().to_string();
    let adopt = ["adopt", "postgres-es", "--url-file", &in_file, "--service", "accounts"];
    for (more, says) in [
        (&["--dry-run"][..], "accounts can be adopted: 1 events in 1 streams"),
        (&[], "accounts is a log now"),
        (&[], "accounts is a log already"),
    ] {
        let done = tributary(&[&adopt[..], more].concat()).await;
        assert_eq!(done.status.code(), Some(0), "{}", text(&done));
        assert!(text(&done).contains(says), "{}", text(&done));
    }
    let unsayable = tributary(&["adopt", "postgres-es", &url, "--service", "bank_accounts", "--dry-run"]).await;
    assert_eq!(unsayable.status.code(), Some(1));
    assert!(text(&unsayable).contains("cannot be the name of a log"), "{}", text(&unsayable));
    let elsewhere = tributary(&["adopt", "postgres-es", &fresh_database("empty").await, "--service", "accounts"]).await;
    assert_eq!(elsewhere.status.code(), Some(1));
    assert!(text(&elsewhere).contains("there is no table public.events"), "{}", text(&elsewhere));
}
