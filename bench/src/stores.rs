//! Fresh logs for our side.

use std::{path::Path, sync::Arc};

use anyhow::Context;
use event_store::{
    log::EventLog,
    postgres::{PostgresLog, PostgresOptions},
    sqlite::{SqliteLog, SqliteOptions},
};

/// The service that all logs here belong to.
pub const SOURCE: &str = "bench";

/// Opens, or makes, the log in the database at `url`.
pub async fn postgres_log(url: &str) -> anyhow::Result<Arc<dyn EventLog>> {
    let log = PostgresLog::connect(url, SOURCE, PostgresOptions::default()).await;
    Ok(log.context("open a log on PostgreSQL")?)
}

/// Opens, or makes, the log in the file at `path`.
pub fn sqlite_log(path: &Path) -> anyhow::Result<Arc<dyn EventLog>> {
    Ok(SqliteLog::open(path, SOURCE, SqliteOptions::default()).context("open a log on SQLite")?)
}
