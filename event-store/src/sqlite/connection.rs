//! Opening the file: the library's version, the settings that durability rests on, and the schema.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rusqlite::{Connection, ErrorCode, OptionalExtension, TransactionBehavior, ffi, functions::FunctionFlags, params};
use thiserror::Error;
use uuid::Uuid;

use super::checkpoint;
use crate::{clock::Clock, log::LogIdentity};

/// SQLite before 3.51.3 can corrupt a WAL that two connections write or checkpoint
/// (<https://sqlite.org/wal.html#walresetbug>).
const SQLITE_VERSION_MIN: i32 = 3_051_003;

/// "Trib": tells our files from anybody's.
const APPLICATION_ID: i32 = 0x5472_6962;

/// How long a connection waits for another one's transaction.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// Pages of 8 KiB: fewer levels and writes per row than the default of 4 KiB, and half of what 16 KiB cost where the
/// streams of a batch lie far apart, so that each dirties a page of its own.
const PAGE_SIZE_BYTES: i64 = 8 * 1024;

/// The writer's page cache; it holds the right edge of every index and the inner pages of the others.
const WRITER_CACHE_KIB: i64 = 32 * 1024;

/// A reader's page cache: pages are read once and in order.
const READER_CACHE_KIB: i64 = 4 * 1024;

/// Statements that stay prepared on each connection: more than there are.
const STATEMENTS_MAX: usize = 32;

/// Expand-only: a release adds, so that the one before it still works on the file.
const MIGRATIONS: &[(i64, &str, &str)] = &[
    (1, "log_head", include_str!("../../../migrations/event-store/sqlite/0001_log_head.sql")),
    (2, "events", include_str!("../../../migrations/event-store/sqlite/0002_events.sql")),
    (3, "commands", include_str!("../../../migrations/event-store/sqlite/0003_commands.sql")),
    (4, "claims", include_str!("../../../migrations/event-store/sqlite/0004_claims.sql")),
    (5, "batches", include_str!("../../../migrations/event-store/sqlite/0005_batches.sql")),
    (6, "forget_commands", include_str!("../../../migrations/event-store/sqlite/0006_forget_commands.sql")),
    (7, "snapshots", include_str!("../../../migrations/event-store/sqlite/0007_snapshots.sql")),
    (8, "subject_keys", include_str!("../../../migrations/event-store/sqlite/0008_subject_keys.sql")),
    (9, "erasures", include_str!("../../../migrations/event-store/sqlite/0009_erasures.sql")),
];

/// Why a log could not be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    #[error("SQLite {found} is too old: logs need 3.51.3 or later, because earlier ones can corrupt a WAL")]
    LibraryTooOld { found: String },
    #[error("{} is a database, but not a log of ours", path.display())]
    NotALog { path: PathBuf },
    #[error("{} is the log of {found}, not of {expected}", path.display())]
    OtherSource { path: PathBuf, found: String, expected: String },
    #[error("open log {}: {source}", path.display())]
    Sqlite { path: PathBuf, source: rusqlite::Error },
    #[error("open log {}: {source}", path.display())]
    Io { path: PathBuf, source: std::io::Error },
}

/// Makes or opens the log at `path` and brings its schema up to date.
pub(super) fn open(path: &Path, source: &str, clock: &dyn Clock) -> Result<(Connection, LogIdentity), OpenError> {
    check_version(rusqlite::version_number(), rusqlite::version())?;
    let failed = |source| OpenError::Sqlite { path: path.to_owned(), source };
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir).map_err(|source| OpenError::Io { path: path.to_owned(), source })?;
    }
    let started = Instant::now();
    let mut connection = loop {
        // turning a new file to WAL does not wait for its turn when two processes start at once
        match connect_writer(path) {
            Err(error) if is_busy(&error) && started.elapsed() < BUSY_TIMEOUT => {
                std::thread::sleep(Duration::from_millis(10));
            }
            other => break other.map_err(failed)?,
        }
    };
    let identity = migrate(&mut connection, path, source, clock)?;
    Ok((connection, identity))
}

fn check_version(number: i32, name: &str) -> Result<(), OpenError> {
    if number < SQLITE_VERSION_MIN {
        return Err(OpenError::LibraryTooOld { found: name.to_owned() });
    }
    Ok(())
}

/// A connection that may write: every commit is on the disk before it returns.
pub(super) fn connect_writer(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    // before the first table, and only then does it have an effect
    connection.pragma_update(None, "page_size", PAGE_SIZE_BYTES)?;
    let mode: String = connection.pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0))?;
    if mode != "wal" {
        let reason = format!("journal mode is {mode}: this file system cannot do WAL");
        return Err(rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_CANTOPEN), Some(reason)));
    }
    connection.pragma_update(None, "synchronous", "full")?;
    // a key that is erased is overwritten, not only forgotten
    connection.pragma_update(None, "secure_delete", true)?;
    connection.pragma_update(None, "cache_size", -WRITER_CACHE_KIB)?;
    checkpoint::watch(&connection);
    connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    // a trigger asks for it; no other connection has it (see log_head.sql)
    connection.create_scalar_function("only_the_log_may_append", 0, FunctionFlags::SQLITE_UTF8, |_| Ok(true))?;
    Ok(connection)
}

/// A connection that copies the WAL into the file, and syncs it.
pub(super) fn connect_checkpointer(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.pragma_update(None, "synchronous", "full")?;
    Ok(connection)
}

/// A connection that only reads.
pub(super) fn connect_reader(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "query_only", true)?;
    connection.pragma_update(None, "cache_size", -READER_CACHE_KIB)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    Ok(connection)
}

/// Applies what is missing, all in one transaction: of two processes that start at once the second finds it done, and
/// a process that dies half-way leaves nothing.
fn migrate(
    connection: &mut Connection,
    path: &Path,
    source: &str,
    clock: &dyn Clock,
) -> Result<LogIdentity, OpenError> {
    let failed = |source| OpenError::Sqlite { path: path.to_owned(), source };
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Exclusive).map_err(failed)?;
    let application_id: i32 =
        transaction.pragma_query_value(None, "application_id", |row| row.get(0)).map_err(failed)?;
    let objects: i64 =
        transaction.query_row("select count(*) from sqlite_schema", [], |row| row.get(0)).map_err(failed)?;
    if objects > 0 && application_id != APPLICATION_ID {
        return Err(OpenError::NotALog { path: path.to_owned() });
    }
    apply_missing(&transaction, clock.now().timestamp_micros()).map_err(failed)?;
    let identity = read_identity(&transaction).map_err(failed)?;
    let identity = match identity {
        Some(identity) => identity,
        None => make_identity(&transaction, source).map_err(failed)?,
    };
    if &*identity.source != source {
        let (found, expected) = (identity.source.to_string(), source.to_owned());
        return Err(OpenError::OtherSource { path: path.to_owned(), found, expected });
    }
    transaction.commit().map_err(failed)?;
    Ok(identity)
}

pub(super) fn apply_missing(connection: &Connection, now_us: i64) -> rusqlite::Result<()> {
    connection.pragma_update(None, "application_id", APPLICATION_ID)?;
    connection.execute_batch(
        "create table if not exists schema_migrations (
             version integer primary key, name text not null, applied_at_us integer not null
         ) strict",
    )?;
    for (version, name, sql) in MIGRATIONS {
        let known = "select 1 from schema_migrations where version = ?1";
        if connection.query_row(known, [version], |_| Ok(())).optional()?.is_none() {
            connection.execute_batch(sql)?;
            connection.execute(
                "insert into schema_migrations (version, name, applied_at_us) values (?1, ?2, ?3)",
                params![version, name, now_us],
            )?;
        }
        crate::failpoint!("sqlite_log.migrated");
    }
    Ok(())
}

fn read_identity(connection: &Connection) -> rusqlite::Result<Option<LogIdentity>> {
    let read = |row: &rusqlite::Row<'_>| {
        Ok(LogIdentity {
            source: row.get::<_, String>(0)?.into(),
            epoch: Uuid::from_bytes(row.get(1)?),
            fingerprint_key: row.get(2)?,
        })
    };
    connection.query_row("select source, epoch, fingerprint_key from log_head", [], read).optional()
}

fn make_identity(connection: &Connection, source: &str) -> rusqlite::Result<LogIdentity> {
    let identity = LogIdentity::create(source);
    insert_identity(connection, &identity)?;
    Ok(identity)
}

pub(super) fn insert_identity(connection: &Connection, identity: &LogIdentity) -> rusqlite::Result<()> {
    let insert = "insert into log_head (id, source, epoch, fingerprint_key, position, recorded_at_us)
        values (1, ?1, ?2, ?3, 0, 0)";
    connection.execute(insert, params![&*identity.source, identity.epoch.as_bytes(), identity.fingerprint_key])?;
    Ok(())
}

/// Whether somebody else's transaction was in the way.
fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_before_3_51_3_is_refused() {
        assert!(matches!(check_version(3_051_002, "3.51.2"), Err(OpenError::LibraryTooOld { .. })));
        check_version(SQLITE_VERSION_MIN, "3.51.3").unwrap();
        check_version(rusqlite::version_number(), rusqlite::version()).unwrap();
    }

    #[test]
    fn migrations_are_numbered_from_one_without_a_hole() {
        assert!((1..).zip(MIGRATIONS).all(|(n, (version, _, _))| n == *version));
    }
}
