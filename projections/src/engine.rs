//! What runs projections.
//!
//! Reading order:
//! - [`query_database`]: where generations lie; making, swapping and dropping them.
//! - [`store`]: one generation as a follower's store. A batch is one transaction with the same number of round trips
//!   whatever its size; `batch` is its pure half, `groups` what rows add up to, `fan_out` what a changed reference asks
//!   for.
//! - [`parking`]: what is done about streams with an event that cannot be folded; [`decisions`]: what operators have
//!   decided to leave out.
//! - [`rebuild`]: the next generation beside the live one, and the swap; [`pace`]: how fast.
//!   [`load`] fills it from the logs.
//! - [`compare`]: what differs between two generations; [`table_hash`]: whether anything does.
//! - `keeper`: one projection in one process: follows the live generation, builds what is asked for, as `lease` lets it.
//! - [`projector`]: all of it, started and stopped; [`steer`]: what operators ask of it.
//! - [`copy`]: the read models in a file, and read models of such a file.
//! - [`why`]: the events that made a row.
//! - `statements` and `transaction`: SQL from templates, on either database.

mod batch;
pub mod compare;
pub mod copy;
pub mod decisions;
mod fan_out;
mod groups;
mod keeper;
mod lease;
pub mod load;
mod observed;
pub mod pace;
pub mod parking;
pub mod projector;
pub mod query_database;
pub mod rebuild;
mod running;
pub(crate) mod statements;
pub mod steer;
pub mod store;
pub mod table_hash;
mod transaction;
pub mod why;

use thiserror::Error;

/// Why the engine cannot do something with the query database.
#[derive(Debug, Error)]
pub enum EngineError {
    #[error("query database: {context}: {cause}")]
    Database { context: &'static str, cause: sqlx::Error },
    #[error("query database: {context}: {cause}")]
    Migration { context: &'static str, cause: sqlx::migrate::MigrateError },
    #[error(transparent)]
    Login(database::LoginError),
    #[error(
        "the query database's tables are missing or old, and this role does not own them: run `tributary migrate query`"
    )]
    NotMigrated,
    #[error("query database: {context}: {cause}")]
    File { context: &'static str, cause: std::io::Error },
    /// A fault of SQLite before 3.51.3 can corrupt a file that two connections write.
    #[error("SQLite {version} is older than 3.51.3, which is the first that is safe with a write-ahead log")]
    SqliteTooOld { version: String },
    /// Of one read model there is one rebuild at a time.
    #[error("another rebuild of it is under way")]
    UnderWay,
    /// Somebody else has swapped generations meanwhile.
    #[error("{read_model}: generation {} is not the live one any more: no swap", .generation.unwrap_or(0))]
    NotLive { read_model: &'static str, generation: Option<i64> },
    /// Our bug, or a database that is not what we made.
    #[error("query database: {0}")]
    Damaged(String),
}

/// Says what was being done when the database failed.
pub(crate) trait Doing<T> {
    fn doing(self, context: &'static str) -> Result<T, EngineError>;
}

impl<T> Doing<T> for Result<T, sqlx::Error> {
    fn doing(self, context: &'static str) -> Result<T, EngineError> {
        self.map_err(|cause| EngineError::Database { context, cause })
    }
}

impl<T> Doing<T> for Result<T, sqlx::migrate::MigrateError> {
    fn doing(self, context: &'static str) -> Result<T, EngineError> {
        self.map_err(|cause| EngineError::Migration { context, cause })
    }
}

impl<T> Doing<T> for Result<T, std::io::Error> {
    fn doing(self, context: &'static str) -> Result<T, EngineError> {
        self.map_err(|cause| EngineError::File { context, cause })
    }
}
