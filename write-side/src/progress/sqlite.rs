//! An SQLite file of a follower's own, beside the log's: `synchronous=NORMAL` would not do there.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use event_store::follower::{ApplyError, Checkpoint, Pulse, StoreError, Vector};
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};

use super::{Moved, Tenure, checkpoint, signed, unsigned};

/// How long another process (a look from outside) may hold the file.
const BUSY_WAIT_MAX: std::time::Duration = std::time::Duration::from_secs(5);

/// One connection, used on threads that may block.
#[derive(Clone)]
pub struct SqliteFile {
    connection: Arc<Mutex<Connection>>,
}

/// How much a lost step costs when the machine loses its power.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// The last steps may be lost and are then applied again.
    Rebuildable,
    /// What was answered stays.
    Full,
}

impl SqliteFile {
    /// Opens or makes the file (`None` = in memory), and runs those of `migrations` that are missing; a released one
    /// never changes.
    pub fn open(path: Option<&Path>, durability: Durability, migrations: &[&str]) -> Result<Self, rusqlite::Error> {
        let mut connection = match path {
            Some(path) => Connection::open(path)?,
            None => Connection::open_in_memory()?,
        };
        connection.pragma_update(None, "journal_mode", "wal")?;
        let synchronous = match durability {
            Durability::Rebuildable => "normal",
            Durability::Full => "full",
        };
        connection.pragma_update(None, "synchronous", synchronous)?;
        connection.busy_timeout(BUSY_WAIT_MAX)?;
        migrate(&mut connection, migrations)?;
        Ok(Self { connection: Arc::new(Mutex::new(connection)) })
    }

    /// Runs `work` in a transaction, which is rolled back if it fails.
    pub async fn transact<T: Send + 'static, E: From<StoreError> + Send + 'static>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E> {
        let connection = Arc::clone(&self.connection);
        let done = tokio::task::spawn_blocking(move || {
            let mut connection = connection.lock().unwrap_or_else(PoisonError::into_inner);
            let transaction =
                connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(unavailable)?;
            let value = work(&transaction)?;
            transaction.commit().map_err(unavailable)?;
            Ok(value)
        });
        done.await.unwrap_or_else(|error| Err(StoreError::Bug(format!("database thread: {error}")).into()))
    }

    /// Fence and checkpoints, read in one transaction; with `with_fence`, after taking the fence.
    pub async fn load(&self, with_fence: bool) -> Result<(u64, Vector), StoreError> {
        let load = move |transaction: &Transaction<'_>| {
            if with_fence {
                take_fence(transaction)?;
            }
            Ok((fence(transaction)?, vector(transaction)?))
        };
        self.transact(load).await
    }
}

#[async_trait]
impl Tenure for SqliteFile {
    async fn fence(&self) -> Result<u64, StoreError> {
        self.transact(fence).await
    }

    async fn beat(&self, held: u64) -> Result<bool, StoreError> {
        let beat = move |transaction: &Transaction<'_>| {
            let update = "update fence set beat = beat + 1 where fence = ?1";
            Ok(transaction.execute(update, [signed(held)?]).map_err(unavailable)? == 1)
        };
        self.transact(beat).await
    }

    async fn pulse(&self) -> Result<Pulse, StoreError> {
        let pulse = |transaction: &Transaction<'_>| {
            let beat = transaction.query_row("select beat from fence", [], |row| row.get(0)).map_err(unavailable)?;
            Ok(Pulse { fence: fence(transaction)?, beat: unsigned("beat", beat)?, vector: vector(transaction)? })
        };
        self.transact(pulse).await
    }
}

/// All that is missing in one transaction; `user_version` counts.
fn migrate(connection: &mut Connection, migrations: &[&str]) -> Result<(), rusqlite::Error> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let run: u32 = transaction.query_row("pragma user_version", [], |row| row.get(0))?;
    for sql in migrations.iter().skip(usize::try_from(run).unwrap_or(usize::MAX)) {
        transaction.execute_batch(sql)?;
    }
    let version = u32::try_from(migrations.len()).expect("there are few migrations").max(run);
    transaction.pragma_update(None, "user_version", version)?;
    transaction.commit()
}

pub fn take_fence(transaction: &Transaction<'_>) -> Result<(), StoreError> {
    transaction.execute("update fence set fence = fence + 1", []).map_err(unavailable)?;
    Ok(())
}

pub fn fence(transaction: &Transaction<'_>) -> Result<u64, StoreError> {
    let fence = transaction.query_row("select fence from fence", [], |row| row.get(0)).map_err(unavailable)?;
    unsigned("fence", fence)
}

/// Refuses whoever does not hold the fence.
pub fn check_fence(transaction: &Transaction<'_>, held: u64) -> Result<(), ApplyError> {
    if fence(transaction)? == held { Ok(()) } else { Err(ApplyError::Fenced) }
}

/// Every source's checkpoint.
pub fn vector(transaction: &Transaction<'_>) -> Result<Vector, StoreError> {
    let mut select =
        transaction.prepare_cached("select source, epoch, position, event_id from checkpoint").map_err(unavailable)?;
    let rows = select
        .query_map([], |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get(2)?, row.get::<_, Option<String>>(3)?))
        })
        .map_err(unavailable)?;
    let mut vector = Vector::new();
    for row in rows {
        let (source, epoch, position, event_id) = row.map_err(unavailable)?;
        vector.set(source.into(), checkpoint(&epoch, position, event_id.as_deref())?);
    }
    Ok(vector)
}

/// Moves a checkpoint, if fence and place are as the follower thinks.
pub fn move_checkpoint(transaction: &Transaction<'_>, moved: &Moved) -> Result<(), ApplyError> {
    let Moved { fence, source, from, to } = moved;
    check_fence(transaction, *fence)?;
    let stored = transaction
        .query_row("select epoch, position, event_id from checkpoint where source = ?1", [source], |row| {
            Ok((row.get::<_, String>(0)?, row.get(1)?, row.get::<_, Option<String>>(2)?))
        })
        .optional()
        .map_err(unavailable)?;
    let stored = match stored {
        Some((epoch, position, event_id)) => checkpoint(&epoch, position, event_id.as_deref())?,
        None => Checkpoint::START,
    };
    if stored != *from {
        return Err(ApplyError::Moved);
    }
    transaction
        .execute(
            "insert into checkpoint (source, epoch, position, event_id) values (?1, ?2, ?3, ?4) on conflict (source) \
             do update set epoch = excluded.epoch, position = excluded.position, event_id = excluded.event_id",
            params![source, to.epoch.to_string(), signed(to.position)?, to.event_id.map(|id| id.to_string())],
        )
        .map_err(unavailable)?;
    Ok(())
}

pub fn unavailable(error: rusqlite::Error) -> StoreError {
    StoreError::Unavailable(error.into())
}
