//! What goes wrong with PostgreSQL in particular: crashes, cut connections, no connections, rights, migrations.

use std::{
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use event_store::{
    feed::{Cursor, Feed, FeedError, PageLimit},
    log::{AppendOutcome, Batch, ChainVerdict, CommitError, EventLog},
    postgres::{OpenError, PostgresLog, PostgresOptions},
};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use testkit::{
    log_contract::harness::{account, append, batch, commit_one, no_op, read_all},
    postgres::{Settings, ThrowAwayPostgres, fresh_database, shared},
    proxy::{Direction, FaultProxy},
};

fn impatient() -> PostgresOptions {
    PostgresOptions {
        connect_timeout: Duration::from_millis(500),
        statement_timeout: Duration::from_millis(300),
        ..PostgresOptions::default()
    }
}

async fn open(url: &str) -> Arc<PostgresLog> {
    PostgresLog::connect(url, "accounts", PostgresOptions::default()).await.unwrap()
}

/// Sends a batch until it is settled, as the writer does, and returns how often the outcome was unknown.
async fn settle(log: &PostgresLog, items: &Arc<Batch>) -> u32 {
    let mut unknown = 0;
    let start = Instant::now();
    loop {
        match log.commit(Arc::clone(items)).await {
            Ok(outcomes) => {
                let is_settled = |outcome| matches!(outcome, &AppendOutcome::Duplicate(_)) || outcome.is_applied();
                assert!(outcomes.iter().all(is_settled), "{outcomes:?}");
                return unknown;
            }
            Err(CommitError::Refused(error)) => panic!("refused: {error}"),
            Err(CommitError::Unknown(_)) => unknown += 1,
            Err(CommitError::Unavailable(_)) => {}
        }
        assert!(start.elapsed() < Duration::from_secs(60), "not settled");
    }
}

#[tokio::test]
async fn the_log_of_another_service_is_refused_by_name() {
    let url = fresh_database("other").await;
    open(&url).await.close().await;
    let refused = PostgresLog::connect(&url, "orders", PostgresOptions::default()).await.map(|_| ());
    let Err(OpenError::OtherSource { expected, found }) = refused else { panic!("{refused:?}") };
    assert_eq!((&*expected, &*found), ("orders", "accounts"));
    let refused = PostgresLog::migrate(&url, "orders", None).await;
    assert!(matches!(refused, Err(OpenError::OtherSource { .. })), "{refused:?}");
    let not_migrated = PostgresOptions { migrate: false, ..PostgresOptions::default() };
    let refused = PostgresLog::connect(&fresh_database("empty").await, "orders", not_migrated).await.map(|_| ());
    assert!(matches!(&refused, Err(OpenError::NotMigrated { missing }) if missing.len() == 13), "{refused:?}");
    let nowhere = PostgresLog::connect("postgres://127.0.0.1:1/none", "orders", impatient()).await.map(|_| ());
    assert!(matches!(nowhere, Err(OpenError::Unavailable(_))), "{nowhere:?}");
}

#[tokio::test]
async fn processes_that_start_at_once_make_one_log() {
    let url = fresh_database("race").await;
    let opened = futures::future::join_all((0..8).map(|_| open(&url))).await;
    assert!(opened.iter().all(|log| log.identity().epoch == opened[0].identity().epoch));
    assert!(opened.iter().all(|log| log.identity().fingerprint_key == opened[0].identity().fingerprint_key));
    commit_one(&*opened[3], append(&account("a"), 0)).await;
    assert_eq!(read_all(&*opened[5]).await.len(), 1);
}

/// Runs itself once more as the process that dies.
#[tokio::test]
async fn a_migration_killed_half_way_is_completed_by_the_next() {
    const VICTIM: &str = "EVENT_STORE_MIGRATE";
    if let Ok(url) = std::env::var(VICTIM) {
        PostgresLog::migrate(&url, "accounts", None).await.unwrap();
        unreachable!("the failpoint ends the process");
    }
    let url = fresh_database("killed").await;
    for passed in [1, 4, 9] {
        let mut victim = Command::new(std::env::current_exe().unwrap());
        victim.args(["--exact", "a_migration_killed_half_way_is_completed_by_the_next"]).env(VICTIM, &url);
        victim.env("TRIBUTARY_FAILPOINT", format!("postgres_migration:{passed}"));
        let status = victim.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
        assert_eq!(status.code(), None, "killed, not failed");
    }
    let log = open(&url).await;
    commit_one(&*log, append(&account("a"), 0)).await;
    assert_eq!(log.verify_chain().await.unwrap(), ChainVerdict::Intact { events: 1, batches: 1 });
}

#[tokio::test]
async fn one_plain_role_that_owns_its_database_suffices_and_still_cannot_change_history() {
    let server = shared().await;
    server.execute("postgres", "create role solo login").await.unwrap();
    server.execute("postgres", "create database solo owner solo").await.unwrap();
    let url = server.url_as("solo", "solo");
    let log = open(&url).await;
    commit_one(&*log, append(&account("a"), 0)).await;
    let mut connection = PgConnection::connect(&url).await.unwrap();
    for statement in
        ["update events set payload = '{}'", "delete from commands", "insert into events select * from events"]
    {
        let refused = connection.execute(statement).await.map(|_| ());
        assert!(refused.is_err_and(|error| error.to_string().contains("refused")), "{statement}");
    }
}

#[tokio::test]
async fn an_administrator_who_is_no_superuser_divides_the_rights() {
    let server = shared().await;
    server.execute("postgres", "create role dba login createrole").await.unwrap();
    server.execute("postgres", "create role teller login").await.unwrap();
    server.execute("postgres", "create database divided owner dba").await.unwrap();
    let admin = server.url_as("dba", "divided");
    // first as one role for all, later divided: both orders work, and again is nothing new
    open(&admin).await.close().await;
    for _ in 0..2 {
        PostgresLog::migrate(&admin, "accounts", Some("teller")).await.unwrap();
    }
    let log = open(&server.url_as("teller", "divided")).await;
    commit_one(&*log, append(&account("a"), 0)).await;
    assert_eq!(read_all(&*log).await.len(), 1);
    let unknown = PostgresLog::migrate(&admin, "accounts", Some("no\"body")).await;
    assert!(matches!(&unknown, Err(OpenError::Migrate(error)) if error.to_string().contains("does not exist")));
}

#[tokio::test]
async fn only_read_committed_may_append_and_the_log_sees_to_it() {
    let url = fresh_database("isolation").await;
    let mut connection = PgConnection::connect(&url).await.unwrap();
    let database = url.split(['/', '?']).nth(3).unwrap();
    for setting in ["default_transaction_isolation = 'serializable'", "synchronous_commit = 'off'"] {
        connection.execute(AssertSqlSafe(format!("alter database {database} set {setting}"))).await.unwrap();
    }
    let log = open(&url).await;
    commit_one(&*log, append(&account("a"), 0)).await;
    let mut connection = PgConnection::connect(&url).await.unwrap();
    let call = "select append_batch(array['t'], array['i'], array[0::int8], array[1], array[0], array['s'], \
                array['k'], array[sha256('')], array['{}'], '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}')";
    let refused = connection.execute(call).await.map(|_| ());
    assert!(refused.is_err_and(|error| error.to_string().contains("read committed")));
    connection.execute("set default_transaction_isolation = 'read committed'").await.unwrap();
    connection.execute(call).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_cut_at_any_byte_leaves_all_of_a_batch_or_nothing() {
    let url = fresh_database("cut").await;
    let proxy = FaultProxy::start(("127.0.0.1", shared().await.port())).await.unwrap();
    let log = open(&proxy.url_through(&url).unwrap()).await;
    let (mut items_sent, mut unknown) = (0, 0);
    for (direction, step) in [(Direction::ToServer, 67), (Direction::ToClient, 23)] {
        for bytes in (1..40).map(|n| n * step) {
            let name = format!("{direction:?}-{bytes}");
            let (one, two) = (account(&name), account(&format!("{name}-2")));
            let items = batch([vec![append(&one, 0), no_op(&one, 1)], vec![append(&two, 0)]]);
            proxy.cut_after(bytes, direction);
            unknown += settle(&log, &items).await;
            items_sent += 2;
            proxy.heal();
        }
    }
    assert!(unknown > 20, "only {unknown} outcomes were unknown");
    assert_eq!(read_all(&*open(&url).await).await.len(), items_sent);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_falls_silent_gives_an_unknown_outcome_in_bounded_time() {
    let url = fresh_database("silent").await;
    let proxy = FaultProxy::start(("127.0.0.1", shared().await.port())).await.unwrap();
    let log = PostgresLog::connect(&proxy.url_through(&url).unwrap(), "accounts", impatient()).await.unwrap();
    commit_one(&*log, append(&account("a"), 0)).await;
    proxy.blackhole(Direction::ToClient);
    let items = batch([vec![append(&account("a"), 1)]]);
    let start = Instant::now();
    let unknown = log.commit(Arc::clone(&items)).await;
    assert!(matches!(unknown, Err(CommitError::Unknown(_))), "{unknown:?}");
    let unavailable = log.commit(Arc::clone(&items)).await;
    assert!(matches!(unavailable, Err(CommitError::Unavailable(_))), "{unavailable:?}");
    assert!(start.elapsed() < Duration::from_secs(10));
    proxy.heal();
    settle(&log, &items).await;
    assert_eq!(read_all(&*open(&url).await).await.len(), 2);
}

/// F12: every acknowledged event is there once, whatever the server was doing when it died.
#[tokio::test(flavor = "multi_thread")]
async fn a_crash_of_the_server_under_load_loses_nothing_acknowledged() {
    const WRITERS: usize = 4;
    const CRASHES: usize = 3;
    let server = ThrowAwayPostgres::start_with(Settings::durable()).await.unwrap();
    let url = server.create_database("crash").await.unwrap();
    let logs = [open(&url).await, open(&url).await];
    let is_over = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let (log, is_over) = (Arc::clone(&logs[writer % logs.len()]), Arc::clone(&is_over));
            tokio::spawn(async move {
                let (mut acknowledged, mut unknown) = (Vec::new(), 0);
                while !is_over.load(Ordering::SeqCst) {
                    let version = acknowledged.len() as u64;
                    let stream = account(&writer.to_string());
                    let items = batch([vec![append(&stream, version), append(&stream, version + 1)]]);
                    unknown += settle(&log, &items).await;
                    acknowledged.extend(items.items().iter().map(|item| item.events()[0].event_id));
                }
                (acknowledged, unknown)
            })
        })
        .collect();
    for _ in 0..CRASHES {
        tokio::time::sleep(Duration::from_millis(300)).await;
        server.stop_immediate().await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
        server.start_again().await.unwrap();
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    is_over.store(true, Ordering::SeqCst);
    let log = open(&url).await;
    let mut sum = 0;
    let ended = futures::future::join_all(writers).await;
    let events = read_all(&*log).await;
    for (writer, ended) in ended.into_iter().enumerate() {
        let (acknowledged, _) = ended.unwrap();
        let stream = account(&writer.to_string());
        let there: Vec<_> = events.iter().filter(|event| event.stream == stream).map(|event| event.event_id).collect();
        assert_eq!(there, acknowledged);
        sum += acknowledged.len();
    }
    assert!(sum > 20, "there was load: {sum}");
    assert_eq!(events.len(), sum);
    assert!(matches!(log.verify_chain().await, Ok(ChainVerdict::Intact { .. })));
}

/// F14: waiting is bounded, and what was waiting goes on when there is room.
#[tokio::test]
async fn a_server_without_free_connections_is_unavailable_in_bounded_time() {
    let server = ThrowAwayPostgres::start_with(Settings::default().max_connections(6)).await.unwrap();
    server.execute("postgres", "create role plain login").await.unwrap();
    server.execute("postgres", "create database crowded owner plain").await.unwrap();
    let url = server.url_as("plain", "crowded");
    let log = PostgresLog::connect(&url, "accounts", impatient()).await.unwrap();
    let mut crowd = Vec::new();
    while let Ok(connection) = PgConnection::connect(&url).await {
        crowd.push(connection);
    }
    assert!(crowd.len() >= 4);
    let start = Instant::now();
    let items = batch([vec![append(&account("a"), 0)]]);
    let (committed, page) =
        tokio::join!(log.commit(Arc::clone(&items)), log.page(Cursor::START, PageLimit::default(), Duration::ZERO));
    assert!(matches!(committed, Err(CommitError::Unavailable(_))), "{committed:?}");
    assert!(matches!(page, Err(FeedError::Unreachable { .. })), "{page:?}");
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    crowd.clear();
    settle(&log, &items).await;
    let page = log.page(Cursor::START, PageLimit::default(), Duration::ZERO).await.unwrap();
    assert_eq!(page.events.len(), 1);
}
