//! Where everything is kept.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use database::Database;

use super::{ConfigError, databases::Databases};

#[derive(Clone)]
pub enum Storage {
    Sqlite {
        data_dir: PathBuf,
    },
    /// By the names of the services, and [`QUERY`](super::urls::QUERY) for the read models.
    Postgres {
        databases: BTreeMap<&'static str, Database>,
    },
}

impl Storage {
    /// PostgreSQL if a URL is given for any of `needed`, which then all need one; SQLite in `data_dir` else.
    pub fn of<N>(given: &Databases<N>, needed: &[&'static str], data_dir: &Path) -> Result<Self, ConfigError> {
        Ok(match given.reach(needed)? {
            Some(databases) => Self::Postgres { databases },
            None => Self::Sqlite { data_dir: data_dir.to_owned() },
        })
    }
}
