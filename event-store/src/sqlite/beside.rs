//! What stands beside the log in its file: snapshots and the keys of persons. Written by the log's own thread, because
//! SQLite has one writer at a time and this one need not wait for itself.

use std::time::Duration;

use async_trait::async_trait;
use events::envelope::StreamId;
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};
use tokio::sync::oneshot;
use uuid::Uuid;

use super::{SqliteLog, connection::BUSY_TIMEOUT, reader::log_error, writer::Job};
use crate::{
    feed::Cursor,
    log::LogError,
    snapshot::{Snapshot, SnapshotStore},
    subject_keys::{KeyRing, SubjectKey, SubjectKeys},
};

/// How long a checkpoint waits for readers while commits wait for it; an erasure is tried again later.
const CHECKPOINT_WAIT: Duration = Duration::from_millis(250);

impl SqliteLog {
    /// Runs `work` in a transaction on the log's thread, between two batches.
    async fn write_beside<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, LogError> {
        self.on_writer(move |connection| {
            let transaction = Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?;
            let done = work(&transaction)?;
            transaction.commit()?;
            Ok(done)
        })
        .await
    }

    async fn on_writer<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, LogError> {
        let gone = || LogError::Unavailable("the log's writer thread is gone".into());
        let jobs = self.jobs.as_ref().expect("taken by drop only");
        let (reply, answer) = oneshot::channel();
        let work = Box::new(move |connection: rusqlite::Result<&Connection>| {
            // the caller may be gone; its work is not
            let _ = reply.send(connection.and_then(work));
        });
        jobs.send(Job::Beside(work)).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?.map_err(log_error)
    }
}

#[async_trait]
impl SnapshotStore for SqliteLog {
    async fn snapshot(&self, stream: &StreamId, fold_version: u32) -> Result<Option<Snapshot>, LogError> {
        let stream = stream.clone();
        let read = move |connection: &Connection| {
            let mut statement = connection.prepare_cached(
                "select sequence, event_id, state from snapshots
                 where aggregate_type = ?1 and aggregate_id = ?2 and fold_version = ?3",
            )?;
            let place = params![&*stream.aggregate_type, &*stream.aggregate_id, fold_version];
            let found = statement.query_row(place, |row| Ok((row.get::<_, i64>(0)?, row.get(1)?, row.get(2)?)));
            Ok(found.optional()?.map(|(sequence, event_id, state)| Snapshot {
                stream: stream.clone(),
                fold_version,
                sequence: sequence.unsigned_abs(),
                event_id: Uuid::from_bytes(event_id),
                state,
            }))
        };
        self.read(read).await.map_err(LogError::Unavailable)?.map_err(log_error)
    }

    async fn keep_snapshots(&self, snapshots: Vec<Snapshot>) -> Result<(), LogError> {
        self.write_beside(move |connection| {
            let mut forget = connection.prepare_cached(
                "delete from snapshots where aggregate_type = ?1 and aggregate_id = ?2 and fold_version <= ?3",
            )?;
            let mut keep = connection.prepare_cached(
                "insert into snapshots (aggregate_type, aggregate_id, fold_version, sequence, event_id, state)
                 values (?1, ?2, ?3, ?4, ?5, ?6)",
            )?;
            for Snapshot { stream, fold_version, sequence, event_id, state } in snapshots {
                let (aggregate_type, aggregate_id) = (&*stream.aggregate_type, &*stream.aggregate_id);
                forget.execute(params![aggregate_type, aggregate_id, fold_version])?;
                let sequence = sequence.cast_signed();
                keep.execute(params![
                    aggregate_type,
                    aggregate_id,
                    fold_version,
                    sequence,
                    event_id.as_bytes(),
                    state
                ])?;
            }
            Ok(())
        })
        .await
    }
}

#[async_trait]
impl SubjectKeys for SqliteLog {
    async fn make_keys(&self, subjects: &[Uuid]) -> Result<KeyRing, LogError> {
        let ring = self.keys(subjects).await?;
        if subjects.iter().all(|subject| ring.contains_key(subject)) {
            return Ok(ring);
        }
        let (subjects, made) = (subjects.to_vec(), SubjectKey::make_all(subjects)?);
        self.write_beside(move |connection| {
            let mut make = connection
                .prepare_cached("insert into subject_keys (subject, key) values (?1, ?2) on conflict do nothing")?;
            for (subject, key) in &made {
                make.execute(params![subject.as_bytes(), key.0])?;
            }
            read_keys(connection, &subjects)
        })
        .await
    }

    async fn keys(&self, subjects: &[Uuid]) -> Result<KeyRing, LogError> {
        let subjects = subjects.to_vec();
        let read = move |connection: &Connection| read_keys(connection, &subjects);
        self.read(read).await.map_err(LogError::Unavailable)?.map_err(log_error)
    }

    /// The connection overwrites what it deletes (`secure_delete`); what the WAL still holds of it is gone once the WAL
    /// was copied into the file and cut off.
    async fn erase_keys(&self, subjects: &[Uuid]) -> Result<(), LogError> {
        let subjects = subjects.to_vec();
        self.write_beside(move |connection| {
            let mut erase = connection.prepare_cached(
                "insert into subject_keys (subject, key) values (?1, null)
                 on conflict (subject) do update set key = null where key is not null",
            )?;
            subjects.iter().try_for_each(|subject| erase.execute([subject.as_bytes()]).map(drop))
        })
        .await?;
        let busy: bool = self
            .on_writer(|connection| {
                connection.busy_timeout(CHECKPOINT_WAIT)?;
                let busy = connection.query_row("pragma wal_checkpoint(truncate)", [], |row| row.get(0));
                connection.busy_timeout(BUSY_TIMEOUT)?;
                busy
            })
            .await?;
        if busy {
            return Err(LogError::Unavailable("the WAL could not be cut off: it is being read".into()));
        }
        Ok(())
    }

    async fn erased_up_to(&self) -> Result<Cursor, LogError> {
        let read = |connection: &Connection| {
            connection.query_row("select position, event_id from erasures", [], |row| {
                let event_id = row.get::<_, Option<[u8; 16]>>(1)?.map(Uuid::from_bytes);
                Ok(Cursor { position: row.get::<_, i64>(0)?.unsigned_abs(), event_id })
            })
        };
        self.read(read).await.map_err(LogError::Unavailable)?.map_err(log_error)
    }

    async fn set_erased_up_to(&self, place: Cursor) -> Result<(), LogError> {
        self.write_beside(move |connection| {
            let (position, event_id) = (place.position.cast_signed(), place.event_id.map(Uuid::into_bytes));
            let update = "update erasures set position = ?1, event_id = ?2";
            connection.execute(update, params![position, event_id]).map(drop)
        })
        .await
    }
}

fn read_keys(connection: &Connection, subjects: &[Uuid]) -> rusqlite::Result<KeyRing> {
    let mut statement =
        connection.prepare_cached("select key from subject_keys where subject = ?1 and key is not null")?;
    let mut ring = KeyRing::new();
    for subject in subjects {
        if let Some(key) = statement.query_row([subject.as_bytes()], |row| row.get(0)).optional()? {
            ring.insert(*subject, SubjectKey(key));
        }
    }
    Ok(ring)
}
