//! Whether two generations hold the same: a hash over all their tables in key order.
//!
//! What says how far they are is left out, so generations at one vector have one hash, on either database.

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{Doing, EngineError, store::GenerationStore};

/// A hash, and how many rows it is of.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TableHash {
    pub sha256: [u8; 32],
    /// Rows of all tables.
    pub rows: u64,
}

impl std::fmt::Display for TableHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.sha256[..8].iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        write!(f, " over {} rows", self.rows)
    }
}

impl std::fmt::Debug for TableHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

/// Hashes a generation as it is in one snapshot.
pub async fn table_hash(store: &GenerationStore) -> Result<TableHash, EngineError> {
    let (mut hash, mut rows, mut at) = (Sha256::new(), 0, 0);
    let add = |table: usize, line: Value| {
        while at < table {
            hash.update(b"\n");
            at += 1;
        }
        hash.update(line.to_string());
        hash.update(b"\n");
        rows += 1;
    };
    each_line(store, add).await?;
    Ok(TableHash { sha256: hash.finalize().into(), rows })
}

/// Gives every line of a generation as it is in one snapshot, with the number of its table: tables one after the other,
/// lines in key order.
pub(crate) async fn each_line(store: &GenerationStore, mut take: impl FnMut(usize, Value)) -> Result<(), EngineError> {
    let mut transaction = store.pool().begin_snapshot().await.doing("begin")?;
    for (table, statement) in store.statements().dump.iter().enumerate() {
        let add = |line: Vec<Option<String>>| {
            let line = line.into_iter().next().flatten().unwrap_or_default();
            // as a value, because the databases write the same object in different ways
            take(table, serde_json::from_str(&line).map_err(|error| sqlx::Error::Decode(Box::new(error)))?);
            Ok(())
        };
        transaction.for_each(statement, add).await.doing("read a generation")?;
    }
    transaction.rollback().await;
    Ok(())
}
