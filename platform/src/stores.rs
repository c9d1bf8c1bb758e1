//! Opening what the platform keeps: one log a service, and the query database.

use std::{
    collections::BTreeMap,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, Result, bail};
use database::Database;
use event_store::{
    log::EventLog,
    postgres::{PostgresLog, PostgresOptions},
    sqlite::SqliteLog,
};
use projections::QueryDatabase;
use read_side::ReadSide;
use write_side::{ReplicaHome, register};

use crate::{
    cli::Kept,
    config::{Storage, urls::QUERY},
};

/// The file of a service's log.
pub fn log_file(data_dir: &Path, service: &str) -> PathBuf {
    data_dir.join(format!("{service}.db"))
}

/// Opens a service's log, making it if need be.
pub async fn open_log(storage: &Storage, service: &str) -> Result<Arc<dyn EventLog>> {
    let log: Arc<dyn EventLog> = match storage {
        Storage::Sqlite { data_dir } => {
            let file = log_file(data_dir, service);
            let opened = SqliteLog::open(&file, service, Default::default());
            opened.with_context(|| format!("open the log of {service} in {}", file.display()))?
        }
        Storage::Postgres { databases } => {
            let opened = PostgresLog::open(reached(databases, service)?, service, Default::default()).await;
            opened.with_context(|| format!("open the log of {service} in PostgreSQL"))?
        }
    };
    Ok(register::log_of(service, log))
}

/// Where a service keeps what it follows, apart from its log.
pub fn home(storage: &Storage, service: &str, what: &str) -> Result<ReplicaHome> {
    Ok(match storage {
        Storage::Sqlite { data_dir } => ReplicaHome::Sqlite(data_dir.join(format!("{service}-{what}.db"))),
        Storage::Postgres { databases } => ReplicaHome::Postgres(reached(databases, service)?.clone()),
    })
}

/// Opens the query database for who writes it, making it if need be.
pub async fn open_query_database(storage: &Storage) -> Result<QueryDatabase> {
    match storage {
        Storage::Sqlite { data_dir } => {
            let database = QueryDatabase::open_sqlite(data_dir).await;
            database.with_context(|| format!("open the query database in {}", data_dir.display()))
        }
        Storage::Postgres { databases } => {
            let database = QueryDatabase::open_at(reached(databases, QUERY)?).await;
            database.context("open the query database in PostgreSQL")
        }
    }
}

/// Opens the query database for whoever copies it or puts a copy into it, while its files are nobody else's.
pub async fn open_kept_query_database(kept: &Kept) -> Result<QueryDatabase> {
    open_query_database(&Storage::of(&kept.databases, &[QUERY], &kept.data_dir)?).await
}

/// The query database for who reads it. Connects when it is first asked.
pub fn open_read_side(storage: &Storage) -> Result<ReadSide> {
    match storage {
        Storage::Sqlite { data_dir } => Ok(ReadSide::connect_sqlite(data_dir)),
        Storage::Postgres { databases } => Ok(ReadSide::connect_to(reached(databases, QUERY)?)),
    }
}

fn reached<'d>(databases: &'d BTreeMap<&'static str, Database>, name: &str) -> Result<&'d Database> {
    databases.get(name).with_context(|| format!("there is no URL of the database of {name}"))
}

/// Opens the log of a service that has one, in its database or in its file, and makes nothing.
pub async fn open_existing_log(kept: &Kept, service: &str) -> Result<Arc<dyn EventLog>> {
    let log: Arc<dyn EventLog> = match kept.databases.of(service)? {
        Some(database) => {
            let options = PostgresOptions { migrate: false, ..PostgresOptions::default() };
            let opened = PostgresLog::open(&database, service, options).await;
            opened.with_context(|| format!("open the log of {service} in PostgreSQL"))?
        }
        None if !kept.databases.is_empty() => {
            bail!("where is the log of {service}? Say it with --{service}-database-url")
        }
        None => {
            let file = log_file(&kept.data_dir, service);
            if !file.exists() {
                bail!("there is no log of {service} in {}", kept.data_dir.display());
            }
            let opened = SqliteLog::open(&file, service, Default::default());
            opened.with_context(|| format!("open the log of {service} in {}", file.display()))?
        }
    };
    Ok(register::log_of(service, log))
}

/// Makes the directory that the files are to lie in, if they are files.
pub fn make_data_dir(kept: &Kept) -> Result<()> {
    if !kept.databases.is_empty() {
        return Ok(());
    }
    make_private_dir(&kept.data_dir)
}

/// Names and e-mail addresses lie there: nobody else on this machine has to read them.
pub fn make_private_dir(dir: &Path) -> Result<()> {
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.with_context(|| format!("make the directory {}", dir.display()))
}

/// Deletes the databases of a data directory, and nothing else that may lie there.
pub fn reset(data_dir: &Path) -> Result<()> {
    let Ok(entries) = std::fs::read_dir(data_dir) else { return Ok(()) };
    for entry in entries {
        let path = entry.with_context(|| format!("read {}", data_dir.display()))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let deleted = if path.is_dir() && name == "query" {
            std::fs::remove_dir_all(&path)
        } else if is_database(&name) {
            std::fs::remove_file(&path)
        } else {
            continue;
        };
        deleted.with_context(|| format!("delete {}", path.display()))?;
    }
    Ok(())
}

/// `orders.db`, `orders-replica.db`, `query.db` and their `-wal` and `-shm`.
fn is_database(name: &str) -> bool {
    let name = name.trim_end_matches("-wal").trim_end_matches("-shm");
    let Some(stem) = name.strip_suffix(".db") else { return false };
    stem == "query" || register::find(stem.trim_end_matches("-replica").trim_end_matches("-reactor")).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reset_deletes_databases_and_leaves_strangers_alone() {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::create_dir(dir.path().join("query")).expect("a directory");
        let ours = [
            "users.db",
            "users.db-wal",
            "orders-replica.db-shm",
            "payments-reactor.db",
            "query.db",
            "query/order_details.g1.db",
        ];
        let others = ["notes.txt", "holiday.db", "users.db.bak"];
        for name in ours.iter().chain(&others) {
            std::fs::write(dir.path().join(name), "x").expect("a file");
        }
        reset(dir.path()).expect("a reset");
        assert!(ours.iter().all(|name| !dir.path().join(name).exists()));
        assert!(others.iter().all(|name| dir.path().join(name).exists()));
    }
}
