//! Whether two generations hold the same: a hash over their rows, references and links in key order.
//!
//! What says how far they are is left out, so generations at one vector have one hash, on either database.

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
    let mut hash = Sha256::new();
    let mut rows = 0;
    let mut transaction = store.pool().begin_snapshot().await.doing("begin")?;
    for statement in &store.statements().dump {
        let add = |line: Vec<Option<String>>| {
            let line = line.into_iter().next().flatten().unwrap_or_default();
            // as a value, because the databases write the same object in different ways
            let value: serde_json::Value =
                serde_json::from_str(&line).map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
            hash.update(value.to_string());
            hash.update(b"\n");
            rows += 1;
            Ok(())
        };
        transaction.for_each(statement, add).await.doing("read a generation")?;
        hash.update(b"\n");
    }
    transaction.rollback().await;
    Ok(TableHash { sha256: hash.finalize().into(), rows })
}
