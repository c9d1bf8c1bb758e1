//! A database of postgres-es, made by its own DDL and written by its own statement, as a log. With the crate itself:
//! `bench/tests/adopted.rs`.

use std::{sync::Arc, time::Duration};

use event_store::{
    feed::{Cursor, Feed, PageLimit},
    log::{ChainVerdict, EventLog},
    postgres::{
        PostgresLog, PostgresOptions,
        adopt::{AdoptError, Adoption},
    },
};
use events::envelope::{RecordedEvent, StreamId};
use sqlx::{Connection, PgConnection, raw_sql};
use testkit::{
    log_contract::harness::{append, commit_one},
    postgres::fresh_database,
};

/// `db/init.sql` of postgres-es 0.5, without its views and its user.
const DDL: &str = "create table events (
        aggregate_type text not null, aggregate_id text not null, sequence bigint check (sequence >= 0) not null,
        event_type text not null, event_version text not null, payload json not null, metadata json not null,
        primary key (aggregate_type, aggregate_id, sequence)
    );
    create table snapshots (
        aggregate_type text not null, aggregate_id text not null,
        last_sequence bigint check (last_sequence >= 0) not null,
        current_snapshot bigint check (current_snapshot >= 0) not null,
        payload json not null, primary key (aggregate_type, aggregate_id, last_sequence)
    )";

/// As postgres-es 0.5 says it.
const INSERT: &str =
    "INSERT INTO events (aggregate_type, aggregate_id, sequence, event_type, event_version, payload, metadata)
VALUES ($1, $2, $3, $4, $5, $6::json, $7::json)";

async fn insert(connection: &mut PgConnection, id: &str, sequence: i64) -> Result<(), sqlx::Error> {
    let payload = format!(r#"{{"Deposited": {{ "note": "{id} {sequence} é" }}}}"#);
    let query = sqlx::query(INSERT).bind("account").bind(id).bind(sequence).bind("Deposited").bind("1.0");
    query.bind(payload).bind(r#"{"time": "2026-01-01T00:00:00Z"}"#).execute(connection).await.map(drop)
}

/// The database of a service that has written `streams` streams of three events.
async fn database(streams: usize) -> (String, PgConnection) {
    let url = fresh_database("adopt").await;
    let mut connection = PgConnection::connect(&url).await.unwrap();
    raw_sql(DDL).execute(&mut connection).await.unwrap();
    for n in 0..streams {
        for sequence in 1..=3 {
            insert(&mut connection, &format!("a-{n}"), sequence).await.unwrap();
        }
    }
    (url, connection)
}

async fn log(url: &str) -> Arc<PostgresLog> {
    let options = PostgresOptions { migrate: false, ..PostgresOptions::default() };
    PostgresLog::connect(url, "accounts", options).await.unwrap()
}

async fn read_all(log: &dyn Feed) -> Vec<RecordedEvent> {
    let mut all: Vec<RecordedEvent> = Vec::new();
    loop {
        let after = all.last().map_or(Cursor::START, Cursor::at);
        let page = log.page(after, PageLimit::events(500), Duration::ZERO).await.unwrap();
        if page.events.is_empty() {
            return all;
        }
        all.extend(page.events);
    }
}

/// Positions without a hole, times that do not run backwards, and each stream in its order.
fn is_in_order(events: &[RecordedEvent]) {
    let mut versions = std::collections::HashMap::new();
    for (position, event) in (1..).zip(events) {
        assert_eq!(event.position, position);
        let version = versions.entry(event.stream.clone()).or_insert(0);
        assert_eq!(event.sequence, *version + 1, "{}", event.stream);
        *version = event.sequence;
    }
    assert!(events.is_sorted_by_key(|event| event.recorded_at));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_written_is_numbered_and_what_is_written_goes_on_under_many_writers() {
    const WRITERS: usize = 6;
    const EACH: usize = 25;
    let (url, _) = database(1_200).await;
    let dry = PostgresLog::adopt(&url, "accounts", true).await.unwrap();
    assert_eq!(dry, Adoption { events: 3_600, streams: 1_200, was_adopted: false });
    assert_eq!(PostgresLog::adopt(&url, "accounts", false).await.unwrap(), dry);
    let log = log(&url).await;
    let before = read_all(&*log).await;
    assert_eq!(before.len(), 3_600);
    is_in_order(&before);
    assert!(before[0].payload.contains(r#"{ "note": "a-0 1 é" }"#), "byte for byte: {}", before[0].payload);

    // a reader that follows meanwhile sees nothing out of order, and nothing twice
    let following = {
        let log = Arc::clone(&log);
        tokio::spawn(async move {
            let (mut seen, mut cursor) = (Vec::new(), Cursor::START);
            while seen.len() < 3_600 + WRITERS * EACH * 2 {
                let page = log.page(cursor, PageLimit::events(200), Duration::from_secs(5)).await.unwrap();
                cursor = page.events.last().map_or(cursor, Cursor::at);
                seen.extend(page.events);
            }
            seen
        })
    };
    let writers = (0..WRITERS).map(|writer| {
        let url = url.clone();
        tokio::spawn(async move {
            let mut connection = PgConnection::connect(&url).await.unwrap();
            for n in 0..EACH {
                // as postgres-es does: the events of a command in a transaction, which may be rolled back
                for rolled_back in [true, false] {
                    let mut transaction = connection.begin().await.unwrap();
                    insert(&mut transaction, &format!("w-{writer}-{n}"), 1).await.unwrap();
                    insert(&mut transaction, &format!("w-{writer}-{n}"), 2).await.unwrap();
                    match rolled_back {
                        true => transaction.rollback().await.unwrap(),
                        false => transaction.commit().await.unwrap(),
                    }
                }
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    let seen = tokio::time::timeout(Duration::from_secs(60), following).await.unwrap().unwrap();
    assert_eq!(seen, read_all(&*log).await);
    is_in_order(&seen);
    let batches = 4 + (WRITERS * EACH * 2) as u64;
    assert_eq!(log.verify_chain().await.unwrap(), ChainVerdict::Intact { events: seen.len() as u64, batches });
}

#[tokio::test(flavor = "multi_thread")]
async fn adopted_twice_is_adopted_once_and_both_ways_of_writing_go_on() {
    let (url, mut theirs) = database(2).await;
    PostgresLog::adopt(&url, "accounts", false).await.unwrap();
    insert(&mut theirs, "a-0", 4).await.unwrap();
    let again = PostgresLog::adopt(&url, "accounts", false).await.unwrap();
    assert_eq!(again, Adoption { events: 7, streams: 2, was_adopted: true });
    let other = PostgresLog::adopt(&url, "orders", false).await.unwrap_err().to_string();
    assert!(other.contains("the log of accounts"), "{other}");

    // what does not continue its stream is a duplicate key, as postgres-es knows it
    for sequence in [4, 6] {
        let refused = insert(&mut theirs, "a-0", sequence).await.unwrap_err();
        assert!(refused.as_database_error().unwrap().is_unique_violation(), "{refused}");
    }
    let sized = |bytes: usize| format!(r#"{{"n":"{}"}}"#, "n".repeat(bytes));
    let mut too_much = sqlx::query(INSERT).bind("account").bind("a-0").bind(5_i64).bind("Deposited").bind("1.0");
    too_much = too_much.bind(sized(3 * 1024 * 1024)).bind("{}");
    let refused = too_much.execute(&mut theirs).await.unwrap_err().to_string();
    assert!(refused.contains("more than a feed carries"), "{refused}");
    for change in ["update events set payload = '{}'", "delete from events", "truncate events"] {
        assert!(raw_sql(change).execute(&mut theirs).await.is_err(), "{change}");
    }
    // a service can move to the bus, stream by stream
    let log = log(&url).await;
    let stream = StreamId::new("account", "a-0");
    assert!(commit_one(&*log, append(&stream, 4)).await.is_applied());
    insert(&mut theirs, "a-0", 6).await.unwrap();
    assert_eq!(read_all(&*log).await.len(), 9);
    is_in_order(&read_all(&*log).await);
    assert!(matches!(log.verify_chain().await.unwrap(), ChainVerdict::Intact { events: 9, .. }));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_newer_release_adds_comes_with_the_next_adoption() {
    let (url, mut owner) = database(1).await;
    PostgresLog::adopt(&url, "accounts", false).await.unwrap();
    let as_before = "drop table erasures; delete from log_migrations where version = 13";
    raw_sql(as_before).execute(&mut owner).await.unwrap();
    let options = || PostgresOptions { migrate: false, ..PostgresOptions::default() };
    assert!(PostgresLog::connect(&url, "accounts", options()).await.is_err());
    assert!(PostgresLog::adopt(&url, "accounts", true).await.unwrap().was_adopted, "only a look");
    assert!(PostgresLog::connect(&url, "accounts", options()).await.is_err());
    assert!(PostgresLog::adopt(&url, "accounts", false).await.unwrap().was_adopted);
    insert(&mut owner, "a-0", 4).await.unwrap();
    assert_eq!(read_all(&*log(&url).await).await.len(), 4);
}

#[tokio::test]
async fn a_name_that_no_token_can_say_is_refused_before_anything_is_looked_at() {
    for name in ["bank_accounts", "", "a:b", &"a".repeat(65)] {
        let refused = PostgresLog::adopt("postgres://nobody@127.0.0.1:1/nothing", name, true).await.unwrap_err();
        assert!(matches!(refused, AdoptError::Name { .. }), "{refused}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_may_only_insert_needs_no_further_right() {
    let (url, mut owner) = database(1).await;
    PostgresLog::adopt(&url, "accounts", false).await.unwrap();
    let role = format!("writer_{}", uuid::Uuid::new_v4().simple());
    let rights = format!("create role {role} login; grant select, insert on events to {role}");
    raw_sql(sqlx::AssertSqlSafe(rights)).execute(&mut owner).await.unwrap();
    let mut writer = PgConnection::connect(&url.replace("postgres@", &format!("{role}@"))).await.unwrap();
    insert(&mut writer, "a-0", 4).await.unwrap();
    assert!(raw_sql("select * from log_head").execute(&mut writer).await.is_err(), "it sees no more than before");
    assert!(raw_sql("update log_head set position = 99").execute(&mut writer).await.is_err());
    assert_eq!(read_all(&*log(&url).await).await.len(), 4);

    // nor may it number its events itself, whatever it says: a place beyond the head would hold up all who follow
    let columns = INSERT.replace("metadata)", "metadata, position, event_id, recorded_at)");
    let values = columns.replace("$7::json)", "$7::json, 99, gen_random_uuid(), now())");
    raw_sql("set tributary.writer = 'append'").execute(&mut writer).await.unwrap();
    let own = sqlx::query(sqlx::AssertSqlSafe(values)).bind("account").bind("a-0").bind(5_i64).bind("Deposited");
    own.bind("1.0").bind("{}").bind("{}").execute(&mut writer).await.unwrap();
    let log = log(&url).await;
    is_in_order(&read_all(&*log).await);
    assert!(matches!(log.verify_chain().await.unwrap(), ChainVerdict::Intact { events: 5, .. }));
    let stream = StreamId::new("account", "a-0");
    assert!(commit_one(&*log, append(&stream, 5)).await.is_applied(), "the log itself does");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_adopted_is_named_and_stays_as_it_is() {
    let adopted = async |change: &'static str| {
        let (url, mut connection) = database(2).await;
        raw_sql(change).execute(&mut connection).await.unwrap();
        let refused = PostgresLog::adopt(&url, "accounts", false).await.unwrap_err();
        let made: Option<String> =
            sqlx::query_scalar("select to_regclass('batches')::text").fetch_one(&mut connection).await.unwrap();
        assert_eq!(made, None, "nothing was made");
        refused
    };
    let refused = adopted("delete from events where sequence = 2 and aggregate_id = 'a-1'").await;
    assert!(matches!(&refused, AdoptError::Hole { aggregate_id, .. } if aggregate_id == "a-1"), "{refused}");
    let refused = adopted("update events set metadata = '[]' where sequence = 3 and aggregate_id = 'a-0'").await;
    assert!(matches!(&refused, AdoptError::Metadata { sequence: 3, .. }), "{refused}");
    let refused = adopted("alter table events alter column payload type jsonb").await.to_string();
    assert!(refused.contains("payload is jsonb, not json"), "{refused}");
    let refused = adopted("create table commands (a int)").await;
    assert!(matches!(&refused, AdoptError::Taken { tables } if tables == "commands"), "{refused}");
    let refused =
        adopted("update events set payload = json_build_object('n', repeat('n', 3145728)) where sequence = 2").await;
    assert!(matches!(&refused, AdoptError::Oversized { sequence: 2, .. }), "{refused}");
    let refused = adopted("drop table events").await;
    assert!(matches!(refused, AdoptError::NoTable), "{refused}");

    // somebody who writes and does not end
    let (url, mut writing) = database(1).await;
    let mut transaction = writing.begin().await.unwrap();
    insert(&mut transaction, "a-0", 4).await.unwrap();
    let refused = PostgresLog::adopt(&url, "accounts", false).await.unwrap_err().to_string();
    assert!(refused.contains("wait for those who write") && refused.contains("service stopped"), "{refused}");
    transaction.commit().await.unwrap();
    assert_eq!(PostgresLog::adopt(&url, "accounts", false).await.unwrap().events, 4);
}
