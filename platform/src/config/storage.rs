//! Where everything is kept.

use std::{
    collections::{BTreeMap, HashSet},
    path::{Path, PathBuf},
};

use sqlx::postgres::PgConnectOptions;

use super::{
    ConfigError,
    urls::{EveryDatabase, Named},
};

#[derive(Clone)]
pub enum Storage {
    Sqlite {
        data_dir: PathBuf,
    },
    /// URLs by the names of the services, and [`QUERY`](super::urls::QUERY) for the read models.
    Postgres {
        urls: BTreeMap<&'static str, String>,
    },
}

impl Storage {
    /// PostgreSQL if a URL is given for any of `needed`, which then all need one; SQLite in `data_dir` else.
    pub fn of(
        given: &BTreeMap<&'static str, String>,
        needed: &[&'static str],
        data_dir: &Path,
    ) -> Result<Self, ConfigError> {
        let urls: BTreeMap<_, _> = needed.iter().filter_map(|name| Some((*name, given.get(name)?.clone()))).collect();
        if urls.is_empty() {
            return Ok(Self::Sqlite { data_dir: data_dir.to_owned() });
        }
        let missing = needed.iter().filter(|name| !urls.contains_key(*name));
        let missing: Vec<String> = missing.map(|name| format!("--{}", EveryDatabase::flag(name))).collect();
        if !missing.is_empty() {
            let (given, all, missing) = (urls.len(), needed.len(), missing.join(", "));
            return Err(ConfigError::SomeDatabases { given, all, missing });
        }
        let mut seen = HashSet::new();
        for (&name, url) in &urls {
            if !seen.insert(database_of(url).ok_or(ConfigError::NotPostgres { name })?) {
                return Err(ConfigError::SharedDatabase);
            }
        }
        Ok(Self::Postgres { urls })
    }
}

/// Server and database that a URL names, however it is spelt. Never says the URL: it may hold a password.
pub fn database_of(url: &str) -> Option<(String, u16, String)> {
    if !["postgres://", "postgresql://"].iter().any(|scheme| url.starts_with(scheme)) {
        return None;
    }
    let options = url.parse::<PgConnectOptions>().ok()?;
    let host = match options.get_host() {
        "localhost" | "::1" | "[::1]" => "127.0.0.1",
        host => host,
    };
    // without a name, the server takes the user's
    let database = options.get_database().unwrap_or_else(|| options.get_username());
    Some((host.to_ascii_lowercase(), options.get_port(), database.to_owned()))
}
