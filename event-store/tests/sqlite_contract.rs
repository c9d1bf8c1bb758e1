//! The log's contract on SQLite, and what only SQLite has to show.

use std::{path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use event_store::{
    clock::{Clock, ManualClock},
    log::EventLog,
    sqlite::{SqliteLog, SqliteOptions},
};
use rusqlite::{Connection, ErrorCode};
use testkit::log_contract::{LogHarness, TamperAttempt};

struct Sqlite {
    dir: tempfile::TempDir,
    clock: Arc<ManualClock>,
}

impl Sqlite {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), clock: Arc::new(ManualClock::at(Utc::now())) }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("accounts.db")
    }
}

#[async_trait]
impl LogHarness for Sqlite {
    async fn open(&self) -> Arc<dyn EventLog> {
        let options = SqliteOptions { clock: Arc::clone(&self.clock) as Arc<dyn Clock>, ..SqliteOptions::default() };
        SqliteLog::open(&self.path(), "accounts", options).unwrap()
    }

    async fn turn_clock_back(&self, by: Duration) {
        self.clock.set(self.clock.now() - by);
    }

    async fn let_time_pass(&self, by: Duration) -> DateTime<Utc> {
        self.clock.advance(by);
        self.clock.now()
    }

    async fn back_up(&self) {
        std::fs::copy(self.path(), self.dir.path().join("copy.db")).unwrap();
    }

    async fn restore(&self) {
        for left in ["accounts.db-wal", "accounts.db-shm"] {
            assert!(!self.dir.path().join(left).exists(), "the last handle cleans up");
        }
        std::fs::copy(self.dir.path().join("copy.db"), self.path()).unwrap();
    }

    async fn tamper_attempts(&self) -> Vec<TamperAttempt> {
        let connection = Connection::open(self.path()).unwrap();
        let tried = |statement: &str| {
            let result = connection.execute(statement, []).map(|_| ());
            if let Err(error) = &result {
                let refused = error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation)
                    || error.to_string().contains("no such function: only_the_log_may_append");
                assert!(refused, "not refused but wrong: {error}");
            }
            TamperAttempt { statement: statement.to_owned(), result: result.map_err(|error| error.to_string()) }
        };
        TAMPERING.iter().copied().map(tried).collect()
    }

    async fn tamper(&self, position: u64, payload: &str) {
        let connection = Connection::open(self.path()).unwrap();
        connection.execute_batch("drop trigger events_unchanged").unwrap();
        let changed = connection
            .execute("update events set payload = ?1 where position = ?2", (payload, i64::try_from(position).unwrap()))
            .unwrap();
        assert_eq!(changed, 1);
    }
}

testkit::log_contract!(Sqlite::new());

const TAMPERING: &[&str] = &[
    "update events set payload = '{}' where position = 1",
    "update or replace events set position = 2 where position = 1",
    "delete from events where position = 3",
    "delete from events",
    // an event in the place of another: by position, by stream and sequence, by event id
    "insert or replace into events select 1, randomblob(16), 'x', 'y', 1, event_type, event_version, '{}', metadata,
        recorded_at_us from events where position = 1",
    "replace into events select 4, randomblob(16), aggregate_type, aggregate_id, sequence, event_type, event_version,
        '{}', metadata, recorded_at_us from events where position = 1",
    "insert or replace into events select 4, event_id, 'x', 'y', 1, event_type, event_version, '{}', metadata,
        recorded_at_us from events where position = 1",
    "insert or ignore into events select 1, randomblob(16), 'x', 'y', 1, event_type, event_version, '{}', metadata,
        recorded_at_us from events where position = 1",
    // a hole in the log, a hole in a stream, a position that SQLite would choose
    "insert into events select 9, randomblob(16), 'x', 'y', 1, event_type, event_version, '{}', metadata,
        recorded_at_us from events where position = 1",
    "insert into events select 4, randomblob(16), 'x', 'y', 2, event_type, event_version, '{}', metadata,
        recorded_at_us from events where position = 1",
    "insert into events (event_id, aggregate_type, aggregate_id, sequence, event_type, event_version, payload,
        metadata, recorded_at_us) values (randomblob(16), 'x', 'y', 1, 't', '1', '{}', '{}', 0)",
    "update log_head set position = 2",
    "update log_head set position = 4",
    "update log_head set epoch = randomblob(16), position = position + 1",
    "update log_head set recorded_at_us = 0",
    "update log_head set appending = 1",
    "delete from log_head",
    "insert or replace into log_head select 1, source, epoch, fingerprint_key, 0, 0, 1 from log_head",
    "replace into log_head select 2, source, epoch, fingerprint_key, 0, 0, 1 from log_head",
    "update commands set outcome = '{}'",
    "delete from commands",
    "insert or replace into commands select scope, key, fingerprint, '{}', position, recorded_at_us from commands limit 1",
    "replace into commands (rowid, scope, key, fingerprint, outcome, position, recorded_at_us)
        select 1, 'another', key, fingerprint, '{}', position, recorded_at_us from commands limit 1",
    "update batches set hash = zeroblob(32)",
    "delete from batches",
    "insert or replace into batches select first, last, prev_hash, zeroblob(32) from batches",
    "replace into batches select last + 1, last + 1, zeroblob(32), hash from batches",
];
