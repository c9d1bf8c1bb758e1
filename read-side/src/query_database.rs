//! Where the query database lies: one PostgreSQL database, or a directory of SQLite files (`query.db` with the
//! pointers, `query/<read model>.g<N>.db` for each generation).

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use sqlx::sqlite::SqliteConnectOptions;

/// How long a statement on SQLite may wait for another connection's lock.
pub const SQLITE_BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// The oldest SQLite we run on: before it, two connections that write or checkpoint a WAL can corrupt the file.
pub const SQLITE_VERSION_MIN: (u32, u32, u32) = (3, 51, 3);

/// The file of the pointers.
pub fn pointer_file(directory: &Path) -> PathBuf {
    directory.join("query.db")
}

/// The directory of the generations.
pub fn generations_directory(directory: &Path) -> PathBuf {
    directory.join("query")
}

/// The file of one generation.
pub fn generation_file(directory: &Path, read_model: &str, generation: i64) -> PathBuf {
    generations_directory(directory).join(format!("{read_model}.g{generation}.db"))
}

/// A read-only connection to `file`.
pub fn sqlite_reader(file: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new().filename(file).read_only(true).busy_timeout(SQLITE_BUSY_TIMEOUT)
}

/// Whether `version` (as `sqlite_version()` gives it) is new enough to be trusted with a WAL.
pub fn sqlite_version_is_safe(version: &str) -> bool {
    let mut parts = version.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    let mut next = || parts.next().unwrap_or(0);
    (next(), next(), next()) >= SQLITE_VERSION_MIN
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sqlite_with_the_wal_reset_fault_is_not_safe() {
        for (version, safe) in [("3.51.3", true), ("3.52.0", true), ("4.0", true), ("3.51.2", false), ("3.46.0", false)]
        {
            assert_eq!(sqlite_version_is_safe(version), safe, "{version}");
        }
    }

    #[tokio::test]
    async fn the_sqlite_that_is_built_in_is_safe() {
        let pool = sqlx::SqlitePool::connect("sqlite::memory:").await.unwrap();
        let version: String = sqlx::query_scalar("select sqlite_version()").fetch_one(&pool).await.unwrap();
        assert!(sqlite_version_is_safe(&version), "{version}");
    }
}
