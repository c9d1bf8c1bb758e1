//! Where a command finds the logs: behind the running platform, or in their databases when nothing runs.

use std::sync::Arc;

use anyhow::{Context, Result, bail};
use event_store::{log::EventLog, sqlite::DataDirLock};
use write_side::REGISTER;

use crate::{
    cli::{Kept, Target},
    client::Client,
    output, stores,
};

/// The way to the logs.
pub enum Logs {
    /// SQLite belongs to one process, so a platform that runs is asked.
    Running(Client),
    AtRest(AtRest),
}

/// Nothing runs on these for as long as this lives, if they are files.
pub struct AtRest {
    pub kept: Kept,
    _lock: Option<DataDirLock>,
}

impl Logs {
    /// Asks the platform if it is up; else the databases that are named, and without any the data directory.
    pub async fn find(target: &Target, kept: &Kept) -> Result<Self> {
        let client = Client::new(target)?;
        if client.is_up().await {
            return Ok(Self::Running(client));
        }
        output::note(format!("nothing answers at {}: looking at {kept}", target.url));
        Ok(Self::AtRest(AtRest::lock(kept)?))
    }
}

impl AtRest {
    /// Makes sure that nobody else uses the files.
    pub fn lock(kept: &Kept) -> Result<Self> {
        let data_dir = &kept.data_dir;
        if !kept.databases.is_empty() {
            return Ok(Self { kept: kept.clone(), _lock: None });
        }
        if !data_dir.is_dir() {
            bail!("there is no data directory {}: say where it is with --data-dir", data_dir.display());
        }
        let lock = DataDirLock::acquire(data_dir);
        let lock = lock.context("a platform works in it: give its --url to ask it")?;
        Ok(Self { kept: kept.clone(), _lock: Some(lock) })
    }

    /// The log of a service that has one.
    pub async fn open(&self, service: &str) -> Result<Arc<dyn EventLog>> {
        stores::open_existing_log(&self.kept, service).await
    }

    /// The services whose logs can be looked at: those that were asked for, or all that are there.
    pub fn services(&self, asked: &[String]) -> Vec<String> {
        let is_there = |service: &&str| match self.kept.databases.is_empty() {
            true => stores::log_file(&self.kept.data_dir, service).exists(),
            false => self.kept.databases.has(service),
        };
        match asked {
            [] => REGISTER.iter().map(|entry| entry.name).filter(is_there).map(str::to_owned).collect(),
            asked => asked.to_vec(),
        }
    }
}

/// Those that were asked for, or all.
pub fn all_or(asked: &[String]) -> Vec<String> {
    match asked {
        [] => REGISTER.iter().map(|entry| entry.name.to_owned()).collect(),
        asked => asked.to_vec(),
    }
}
