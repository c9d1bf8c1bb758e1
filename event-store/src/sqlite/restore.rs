//! A log's file made of a backup: beside the one that is there, by the rules of every log (its triggers check what is
//! written), and then in its place.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use rusqlite::{Connection, ErrorCode, params};
use uuid::Uuid;

use super::connection::{self, OpenError, connect_reader, connect_writer};
use crate::{
    backup::{
        BackupError, Item,
        files::{FileContents, sync_dir},
    },
    batch_hash::BatchRow,
    clock::SystemClock,
    log::LogIdentity,
};

/// Makes the log of `source` at `path` of a backup. Refused if the log there has events and is not to be replaced; on any
/// error what is there stays as it is. Nobody else may have it open. Blocks on the disk.
///
/// The log gets a new epoch: what was committed behind the end of the backup is lost, and whoever has seen it is to find
/// that out. Who was erased in the log that is replaced stays erased.
pub fn restore(
    path: &Path,
    source: &str,
    is_replaced: bool,
    mut items: FileContents,
) -> Result<LogIdentity, BackupError> {
    let file = |error: rusqlite::Error| BackupError::Refused(format!("{}: {error}", path.display()));
    let io = |source: io::Error| BackupError::Io { name: path.display().to_string(), source };
    if path.exists() {
        let (old, _) = connection::open(path, source, &SystemClock).map_err(of_old)?;
        let position: i64 = old
            .query_row("select position from log_head", [], |row| row.get(0))
            .map_err(|source| of_old(OpenError::Sqlite { path: path.to_owned(), source }))?;
        if position > 0 && !is_replaced {
            return Err(BackupError::NotEmpty { position: position.unsigned_abs() });
        }
    }
    let temporary = Temporary::beside(path).map_err(io)?;
    let mut making = Making::new(&temporary.path, source).map_err(file)?;
    while let Some(chunk) = items.blocking_recv() {
        for item in chunk? {
            making.take(item).map_err(|error| BackupError::Refused(format!("{}: {error}", path.display())))?;
        }
    }
    if !making.is_whole {
        return Err(BackupError::Refused("the backup was not read to its end".to_owned()));
    }
    let identity = making.finish(path.exists().then_some(path)).map_err(file)?;
    File::open(&temporary.path).and_then(|made| made.sync_all()).map_err(io)?;
    if path.exists() {
        leave_no_wal(path).map_err(file)?;
    }
    fs::rename(&temporary.path, path).and_then(|()| sync_dir(path)).map_err(io)?;
    Ok(identity)
}

/// Who was erased in the log that is replaced stays erased, so it is read; one that cannot be is replaced by nobody but its
/// owner.
fn of_old(error: OpenError) -> BackupError {
    let is_damaged = match &error {
        OpenError::Sqlite { source, .. } => {
            let codes = [ErrorCode::DatabaseCorrupt, ErrorCode::NotADatabase];
            source.sqlite_error_code().is_some_and(|code| codes.contains(&code))
        }
        OpenError::NotALog { .. } => true,
        OpenError::LibraryTooOld { .. } | OpenError::OtherSource { .. } | OpenError::Io { .. } => false,
    };
    BackupError::Refused(if is_damaged {
        format!(
            "{error}; move it away, with its -wal and -shm, and restore again: who was erased in it, and not yet in the \
             backup, is then not known and has to be erased anew"
        )
    } else {
        error.to_string()
    })
}

/// What the WAL of the old file holds must never be read into the new one: the last connection takes it along.
fn leave_no_wal(path: &Path) -> rusqlite::Result<()> {
    let old = connect_writer(path)?;
    old.query_row("pragma wal_checkpoint(truncate)", [], |_| Ok(()))?;
    let mode: String = old.pragma_update_and_check(None, "journal_mode", "delete", |row| row.get(0))?;
    if mode != "delete" {
        let busy = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY);
        return Err(rusqlite::Error::SqliteFailure(busy, Some("somebody else has the log open".to_owned())));
    }
    Ok(())
}

/// The new file until it has its place; what is half-made does not stay.
struct Temporary {
    path: PathBuf,
}

impl Temporary {
    fn beside(path: &Path) -> io::Result<Self> {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(".restoring");
        let temporary = Self { path: path.with_file_name(name) };
        // of one that was killed
        temporary.remove();
        Ok(temporary)
    }

    fn remove(&self) {
        for ending in ["", "-wal", "-shm", "-journal"] {
            let mut path = self.path.clone().into_os_string();
            path.push(ending);
            // mostly it is not there
            let _ = fs::remove_file(path);
        }
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        self.remove();
    }
}

/// The file that is being made. Nothing of it counts before it is whole, so nothing is journalled or synced before.
struct Making {
    connection: Connection,
    identity: LogIdentity,
    batch: Option<BatchRow>,
    is_whole: bool,
}

impl Making {
    fn new(path: &Path, source: &str) -> rusqlite::Result<Self> {
        let connection = connect_writer(path)?;
        connection.pragma_update(None, "journal_mode", "off")?;
        connection.pragma_update(None, "synchronous", "off")?;
        connection.execute_batch("begin exclusive")?;
        connection::apply_missing(&connection, chrono::Utc::now().timestamp_micros())?;
        Ok(Self { connection, identity: LogIdentity::create(source), batch: None, is_whole: false })
    }

    fn take(&mut self, item: Item) -> Result<(), String> {
        let failed = |error: rusqlite::Error| error.to_string();
        match item {
            Item::KeysHead(head) | Item::Head(head) if head.source != self.identity.source => {
                Err(format!("it is to be the log of {}, and the backup is of {}", self.identity.source, head.source))
            }
            Item::KeysHead(_) => Ok(()),
            Item::FingerprintKey(key) => {
                self.identity.fingerprint_key = key;
                connection::insert_identity(&self.connection, &self.identity).map_err(failed)
            }
            Item::SubjectKey(subject, key) => self.subject_key(subject, key.map(|key| key.0)).map_err(failed),
            Item::Head(_) => self.open_head().map_err(failed),
            Item::Batch(batch) => {
                self.batch = Some(batch);
                Ok(())
            }
            Item::Event(_) | Item::Command(_) | Item::Claim(_) => self.row(&item).map_err(failed),
            Item::Whole => {
                self.is_whole = true;
                Ok(())
            }
        }
    }

    fn subject_key(&self, subject: Uuid, key: Option<[u8; 32]>) -> rusqlite::Result<()> {
        let mut insert = self.connection.prepare_cached("insert into subject_keys (subject, key) values (?1, ?2)")?;
        insert.execute(params![subject.as_bytes(), key]).map(drop)
    }

    /// What the triggers of events and commands ask for.
    fn open_head(&self) -> rusqlite::Result<()> {
        self.connection.prepare_cached("update log_head set appending = 1")?.execute([]).map(drop)
    }

    fn row(&mut self, item: &Item) -> rusqlite::Result<()> {
        match item {
            Item::Event(event) => {
                let mut insert = self.connection.prepare_cached(super::writer::INSERT_EVENT)?;
                insert.execute(params![
                    event.position.cast_signed(),
                    event.event_id.as_bytes(),
                    &*event.stream.aggregate_type,
                    &*event.stream.aggregate_id,
                    event.sequence.cast_signed(),
                    &*event.event_type,
                    &*event.event_version,
                    event.payload,
                    event.metadata,
                    event.recorded_at.timestamp_micros()
                ])?;
                if let Some(batch) = self.batch.take_if(|batch| batch.last == event.position) {
                    let BatchRow { first, last, previous, hash } = batch;
                    let insert = "insert into batches (first, last, prev_hash, hash) values (?1, ?2, ?3, ?4)";
                    let mut insert = self.connection.prepare_cached(insert)?;
                    insert.execute(params![first.cast_signed(), last.cast_signed(), previous, hash])?;
                    let moved = "update log_head set position = ?1, recorded_at_us = ?2";
                    let place = [last.cast_signed(), event.recorded_at.timestamp_micros()];
                    self.connection.prepare_cached(moved)?.execute(place)?;
                }
            }
            Item::Command(command) => {
                let mut insert = self.connection.prepare_cached(super::writer::INSERT_COMMAND)?;
                insert.execute(params![
                    &*command.scope,
                    &*command.key,
                    command.fingerprint.0,
                    command.outcome,
                    command.position.cast_signed(),
                    command.recorded_at.timestamp_micros()
                ])?;
            }
            Item::Claim(claim) => {
                let insert = "insert into claims (name, value, aggregate_type, aggregate_id) values (?1, ?2, ?3, ?4)";
                let stream = &claim.stream;
                let held: [&str; 4] = [&claim.name, &claim.value, &stream.aggregate_type, &stream.aggregate_id];
                self.connection.prepare_cached(insert)?.execute(held)?;
            }
            Item::Head(_)
            | Item::Batch(_)
            | Item::KeysHead(_)
            | Item::FingerprintKey(_)
            | Item::SubjectKey(..)
            | Item::Whole => {}
        }
        Ok(())
    }

    /// Who was erased in the log that was there is erased in this one, whatever the backup knows.
    fn erase_as_in(&self, old: &Path) -> rusqlite::Result<()> {
        let old = connect_reader(old)?;
        let mut erased = old.prepare("select subject from subject_keys where key is null")?;
        let mut erased = erased.query([])?;
        let erase = "insert into subject_keys (subject, key) values (?1, null)
            on conflict (subject) do update set key = null";
        let mut erase = self.connection.prepare(erase)?;
        while let Some(row) = erased.next()? {
            erase.execute([row.get::<_, [u8; 16]>(0)?])?;
        }
        Ok(())
    }

    fn finish(self, old: Option<&Path>) -> rusqlite::Result<LogIdentity> {
        if let Some(old) = old {
            self.erase_as_in(old)?;
        }
        let Self { connection, identity, .. } = self;
        connection.execute_batch("update log_head set appending = 0; commit")?;
        connection.close().map_err(|(_, error)| error)?;
        Ok(identity)
    }
}
