//! What is measured of a log is what happens to it, on a real server: waits for connections and locks, deadlocks, resends.

use std::{sync::Arc, time::Duration};

use event_store::{
    feed::{Cursor, Feed, PageLimit},
    log::EventLog,
    postgres::{PostgresLog, PostgresOptions},
    writer::{Writer, WriterOptions},
};
use measures::{Counts, Failure};
use sqlx::{Connection, Executor, PgConnection};
use testkit::{
    log_contract::harness::{account, append},
    postgres::fresh_database,
};

/// How long something that is to come may take.
const WAIT: Duration = Duration::from_secs(20);

async fn until(what: &str, is_so: impl Fn() -> bool) {
    let begun = std::time::Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < WAIT, "still not: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn failed(failures: &Counts<Failure>, reason: &str) -> u64 {
    failures.now().find(|(name, _)| *name == reason).expect("a reason").1
}

/// A log, and a connection of somebody else's who holds `table` so that nobody may touch it.
async fn held(table: &str, options: PostgresOptions) -> (Arc<PostgresLog>, PgConnection) {
    let url = fresh_database("figures").await;
    let log = PostgresLog::connect(&url, "accounts", options).await.unwrap();
    let mut other = PgConnection::connect(&url).await.unwrap();
    let lock = format!("begin; lock table {table} in access exclusive mode");
    other.execute(sqlx::AssertSqlSafe(lock)).await.unwrap();
    (log, other)
}

#[tokio::test]
async fn whoever_waits_for_a_connection_is_seen_and_how_long_it_took() {
    let options = PostgresOptions { read_connections_max: 1, ..PostgresOptions::default() };
    let (log, mut other) = held("events", options).await;
    let page = |log: Arc<PostgresLog>| async move {
        log.page(Cursor::START, PageLimit::events(1), Duration::ZERO).await.unwrap();
    };
    let readers = [tokio::spawn(page(Arc::clone(&log))), tokio::spawn(page(Arc::clone(&log)))];
    let connections = &log.figures().connections;
    until("one reads and one waits", || (connections.in_use.now(), connections.waiting.now()) == (1, 1)).await;
    tokio::time::sleep(Duration::from_millis(120)).await;
    other.execute("rollback").await.unwrap();
    for reader in readers {
        reader.await.unwrap();
    }
    assert_eq!((connections.in_use.now(), connections.waiting.now()), (0, 0));
    let waits = connections.waits.now();
    assert_eq!(waits.counts.iter().sum::<u64>(), 2);
    assert!(waits.sum >= Duration::from_millis(100).as_nanos() as u64, "{waits:?}");
    let pages = log.figures().page.now();
    assert_eq!(pages.counts.iter().sum::<u64>(), 2);
    assert!(pages.sum >= Duration::from_millis(200).as_nanos() as u64, "{pages:?}");
    assert!(log.figures().failures.now().all(|(_, count)| count == 0));
}

#[tokio::test]
async fn a_lock_that_is_not_given_is_a_failure_with_its_reason_and_the_batch_is_sent_again() {
    let options = PostgresOptions { lock_timeout: Duration::from_millis(100), ..PostgresOptions::default() };
    let (log, mut other) = held("log_head", options).await;
    let writer = Writer::start(Arc::clone(&log) as Arc<dyn EventLog>, WriterOptions::default());
    let appending = {
        let writer = writer.clone();
        tokio::spawn(async move { writer.append(vec![append(&account("a"), 0)]).await })
    };
    let figures = log.figures();
    until("refused a lock", || failed(&figures.failures, "lock_timeout") > 0 && figures.resends.now() > 0).await;
    assert_eq!(figures.queued_chains.now(), 1);
    assert!(figures.queued_bytes.now() > 0);
    other.execute("rollback").await.unwrap();
    let outcomes = appending.await.unwrap().unwrap();
    assert!(outcomes[0].is_applied(), "{outcomes:?}");
    until("nothing waits", || (figures.queued_chains.now(), figures.queued_bytes.now()) == (0, 0)).await;
    let batches = figures.batch_commands.now();
    assert_eq!((batches.counts.iter().sum::<u64>(), batches.sum), (1, 1));
    assert_eq!(failed(&figures.failures, "other"), 0);
    let sends = figures.append.now().counts.iter().sum::<u64>();
    assert_eq!(sends, 1 + figures.resends.now(), "each sending is a call");
    writer.shutdown().await;
}

#[tokio::test]
async fn what_the_server_says_of_a_deadlock_is_one() {
    let url = fresh_database("deadlock").await;
    let mut one = PgConnection::connect(&url).await.unwrap();
    let mut other = PgConnection::connect(&url).await.unwrap();
    one.execute("create table pair (n int primary key); insert into pair values (1), (2)").await.unwrap();
    let lock = |n: i32| sqlx::query("select n from pair where n = $1 for update").bind(n);
    for (connection, n) in [(&mut one, 1), (&mut other, 2)] {
        connection.execute("begin").await.unwrap();
        lock(n).execute(connection).await.unwrap();
    }
    let (first, second) = tokio::join!(lock(2).execute(&mut one), lock(1).execute(&mut other));
    let failure = first.err().or(second.err()).expect("one of them gives way");
    assert_eq!(database::failure(&failure), Failure::Deadlock);
}
