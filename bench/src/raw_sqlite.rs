//! The limit on SQLite: rows that are there already, written by one prepared statement each, 500 per transaction.

use std::path::Path;

use anyhow::Context;
use rusqlite::{Connection, functions::FunctionFlags, params_from_iter, types::Value};

/// Events of one transaction.
const ROWS_PER_TRANSACTION: usize = 500;

// `or fail`, as the log does it: with triggers the default, `or abort`, copies every page that a row is about to change
const INSERT_EVENT: &str = "insert or fail into events (position, event_id, aggregate_type, aggregate_id, sequence,
        event_type, event_version, payload, metadata, recorded_at_us)
    values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";
const INSERT_COMMAND: &str = "insert or fail into commands (scope, key, fingerprint, outcome, position, recorded_at_us)
    values (?1, ?2, ?3, ?4, ?5, ?6)";

/// What a log holds, ready to be written again: every event with the command that made it.
pub struct Rows {
    events: Vec<Vec<Value>>,
    commands: Vec<Vec<Value>>,
}

impl Rows {
    /// Reads a log in which every command has made one event.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let connection = Connection::open(path).context("open the log that is copied")?;
        let events = "select position, event_id, aggregate_type, aggregate_id, sequence, event_type, event_version,
                payload, metadata, recorded_at_us from events order by position";
        let commands =
            "select scope, key, fingerprint, outcome, position, recorded_at_us from commands order by position";
        let rows = Self { events: all(&connection, events)?, commands: all(&connection, commands)? };
        anyhow::ensure!(rows.events.len() == rows.commands.len(), "a command here makes one event");
        Ok(rows)
    }

    pub fn len(&self) -> usize {
        self.events.len()
    }
}

fn all(connection: &Connection, sql: &str) -> anyhow::Result<Vec<Vec<Value>>> {
    let mut statement = connection.prepare(sql)?;
    let columns = statement.column_count();
    let rows = statement.query_map([], |row| (0..columns).map(|n| row.get(n)).collect())?;
    rows.collect::<Result<_, _>>().context("read the log that is copied")
}

/// A file with the same tables and indexes, made by opening a log there.
pub struct RawFile {
    connection: Connection,
}

impl RawFile {
    /// `with_triggers` = as the log has them: its append-only triggers see every row and, behind a transaction, check it.
    pub fn open(path: &Path, with_triggers: bool) -> anyhow::Result<Self> {
        drop(crate::stores::sqlite_log(path)?);
        let connection = Connection::open(path).context("open the raw file")?;
        // what the log sets on its own connection; the rest is in the file
        connection.pragma_update(None, "synchronous", "full")?;
        connection.pragma_update(None, "cache_size", -32 * 1_024)?;
        connection.pragma_update(None, "wal_autocheckpoint", 4_096)?;
        // the triggers let through only who has it, which is the log's writer
        connection.create_scalar_function("only_the_log_may_append", 0, FunctionFlags::SQLITE_UTF8, |_| Ok(true))?;
        if !with_triggers {
            let triggers = "select name from sqlite_schema where type = 'trigger'";
            for name in all(&connection, triggers)?.into_iter().flatten() {
                if let Value::Text(name) = name {
                    connection.execute_batch(&format!("drop trigger {name}"))?;
                }
            }
        }
        Ok(Self { connection })
    }

    /// Writes a stretch of `rows`, and behind it moves the head and chains a hash, as the log does per transaction.
    pub fn write(&self, rows: &Rows, range: std::ops::Range<usize>) -> anyhow::Result<()> {
        let connection = &self.connection;
        let mut event = connection.prepare(INSERT_EVENT)?;
        let mut command = connection.prepare(INSERT_COMMAND)?;
        let mut batch =
            connection.prepare("insert into batches (first, last, prev_hash, hash) values (?1, ?2, ?3, ?4)")?;
        let mut head = connection.prepare("update log_head set position = ?1, recorded_at_us = ?2, appending = 0")?;
        let last_hash = "select coalesce((select hash from batches order by first desc limit 1), zeroblob(32))";
        let mut hash: [u8; 32] = connection.query_row(last_hash, [], |row| row.get(0))?;
        let together = rows.events[range.clone()]
            .chunks(ROWS_PER_TRANSACTION)
            .zip(rows.commands[range].chunks(ROWS_PER_TRANSACTION));
        for (events, commands) in together {
            connection.execute_batch("begin immediate; update log_head set appending = 1")?;
            for (event_row, command_row) in events.iter().zip(commands) {
                command.execute(params_from_iter(command_row))?;
                event.execute(params_from_iter(event_row))?;
            }
            let (first, last) = (&events[0], &events[events.len() - 1]);
            // which bytes stand there does not matter here, only that a row is written
            let previous = hash;
            hash = hash.map(|byte| byte.wrapping_add(1));
            batch.execute((&first[0], &last[0], previous, hash))?;
            head.execute((&last[0], &last[9]))?;
            connection.execute_batch("commit")?;
        }
        Ok(())
    }
}
