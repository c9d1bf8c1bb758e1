//! What operators ask of a projector: build, compare, go back, and how fast. Every answer is the same in every process that
//! runs the projection, because all of it lies in the query database.

use std::{num::NonZeroU64, sync::Arc};

use event_store::follower::{ApplyError, Vector};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::sync::watch;

use super::{
    EngineError,
    projector::{Entry, ProjectorHandle},
    query_database::{Generation, Wish},
    rebuild::{Progress, Purpose},
    store::one_key::KeyRebuilt,
};

/// Why something that was asked for was not begun.
#[derive(Debug, Error)]
pub enum SteerError {
    #[error("there is no projection {0}")]
    Unknown(String),
    #[error("{projection} is being rebuilt already, into generation {generation}")]
    UnderWay { projection: String, generation: i64 },
    #[error("{0} is not being rebuilt")]
    NotUnderWay(String),
    #[error("{projection} has no generation to go back to{}", .generation.map_or(String::new(), |number| format!(        ": generation {number} was not live before, or is not kept any more")))]
    NothingToGoBackTo { projection: String, generation: Option<i64> },
    #[error(
        "generation {generation} of {projection} was made by version {version} and is older than the live one; this \
         program has version {program} and cannot bring it up to date: go back with a program of version {version}"
    )]
    CannotCatchUp { projection: String, generation: i64, version: i64, program: u32 },
    #[error("{projection} is not followed by this process: ask the one that does, or wait until it is rebuilt")]
    NotFollowedHere { projection: String },
    #[error("{key} of {projection} was not made anew: {cause}")]
    Key { projection: String, key: String, cause: ApplyError },
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// One generation, as operators see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    pub generation: i64,
    /// `VERSION` of the fold that makes it.
    pub version: i64,
    /// `building`, `live`, `retired` (to go back to) or `failed` (to be looked at).
    pub state: String,
    /// Events behind the live one; 0 for that itself.
    pub behind_events: u64,
    /// Which process follows or builds it, where several may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holder: Option<String>,
}

impl ProjectorHandle {
    pub(super) fn entry(&self, name: &str) -> Result<&Entry, SteerError> {
        self.projections.get(name).ok_or_else(|| SteerError::Unknown(name.to_owned()))
    }

    /// Builds the next generation of `name` from position 0 and swaps it in. It goes on by itself; the receiver shows
    /// how far it is, until a phase that [is over](super::rebuild::Phase::is_over).
    pub async fn rebuild(&self, name: &str) -> Result<watch::Receiver<Progress>, SteerError> {
        self.build(name, Purpose::Swap, None).await
    }

    /// Folds `name` from position 0 into a generation of its own, compares it with the live one and drops it. What is
    /// live is not touched.
    pub async fn verify(&self, name: &str) -> Result<watch::Receiver<Progress>, SteerError> {
        self.build(name, Purpose::Verify, None).await
    }

    /// As [`Self::verify`], where differences are expected: what would a rebuild by this program change?
    pub async fn diff(&self, name: &str) -> Result<watch::Receiver<Progress>, SteerError> {
        self.build(name, Purpose::Diff, None).await
    }

    /// Any of these, at a pace from its first event on: at most so many events a second.
    pub async fn build(
        &self,
        name: &str,
        purpose: Purpose,
        throttle: Option<NonZeroU64>,
    ) -> Result<watch::Receiver<Progress>, SteerError> {
        if purpose == Purpose::Rollback {
            return self.rollback(name, None).await;
        }
        let entry = self.entry(name)?;
        let template = entry.projection.template;
        let _control = entry.shared.control.lock().await;
        self.refuse_a_second(entry).await?;
        for failed in self.database.generations(template).await? {
            if failed.state == "failed" {
                self.database.drop_generation(&entry.projection, failed.generation).await?;
            }
        }
        let made = self.database.make(&entry.projection, Some((purpose, throttle))).await;
        let generation = self.or_under_way(entry, made).await?;
        self.watch(entry, generation).await
    }

    /// Makes a generation live again that was live before (`to`, or the last one), once it is as new as the live one.
    pub async fn rollback(&self, name: &str, to: Option<i64>) -> Result<watch::Receiver<Progress>, SteerError> {
        let entry = self.entry(name)?;
        let (template, program) = (entry.projection.template, entry.projection.version);
        let _control = entry.shared.control.lock().await;
        self.refuse_a_second(entry).await?;
        let nothing = || SteerError::NothingToGoBackTo { projection: name.to_owned(), generation: to };
        let live = self.database.live(template).await?.ok_or_else(nothing)?;
        let generations = self.database.generations(template).await?;
        let kept = |one: &&Generation| one.state == "retired" && to.is_none_or(|to| to == one.generation);
        // what was live last is meant, whatever its number
        let previous = self.database.previous(template).await?;
        let last = generations.iter().filter(kept).find(|one| Some(one.generation) == previous);
        let target = last.or_else(|| generations.iter().rev().find(kept)).ok_or_else(nothing)?;
        let Generation { generation, version, .. } = *target;
        if version != i64::from(program) {
            let here = self.database.vector(template, generation).await?;
            if !here.reaches(&self.database.vector(template, live.generation).await?) {
                let projection = name.to_owned();
                return Err(SteerError::CannotCatchUp { projection, generation, version, program });
            }
        }
        let announced = self.database.announce(template, generation, Purpose::Rollback).await;
        self.or_under_way(entry, announced).await?;
        self.watch(entry, generation).await
    }

    /// Makes one key of the live generation anew, in place: its row, links, entries and what its groups hold of it.
    pub async fn rebuild_key(&self, name: &str, key: &str) -> Result<KeyRebuilt, SteerError> {
        let entry = self.entry(name)?;
        let store = {
            let running = entry.shared.live.running.lock().await;
            let not_here = || SteerError::NotFollowedHere { projection: name.to_owned() };
            Arc::clone(&running.as_ref().ok_or_else(not_here)?.store)
        };
        let (key, projection) = (key.to_owned(), name.to_owned());
        let sources = entry.projection.sources();
        let feeds: Vec<_> = self.feeds.iter().filter(|feed| sources.contains(&&**feed.source())).cloned().collect();
        // in a task of its own, because whoever asks may go away in the middle of a transaction
        let task = tokio::spawn(async move { (store.rebuild_key(&key, &feeds).await, key) });
        let (rebuilt, key) = task.await.map_err(|error| EngineError::Damaged(error.to_string()))?;
        rebuilt.map_err(|cause| SteerError::Key { projection, key, cause })
    }

    async fn refuse_a_second(&self, entry: &Entry) -> Result<(), SteerError> {
        match self.database.open_rebuild(entry.projection.template).await? {
            Some((Progress { projection, generation, .. }, _)) => Err(SteerError::UnderWay { projection, generation }),
            None => Ok(()),
        }
    }

    /// Another process may have been faster.
    async fn or_under_way<T>(&self, entry: &Entry, done: Result<T, EngineError>) -> Result<T, SteerError> {
        match done {
            Err(EngineError::UnderWay) => {
                self.refuse_a_second(entry).await?;
                Err(EngineError::UnderWay.into())
            }
            done => Ok(done?),
        }
    }

    async fn watch(&self, entry: &Entry, generation: i64) -> Result<watch::Receiver<Progress>, SteerError> {
        let begun = self.database.rebuild_of(entry.projection.template, generation).await?;
        let gone = || EngineError::Damaged(format!("the rebuild into generation {generation} is gone"));
        let receiver = entry.shared.channel(&begun.ok_or_else(gone)?).subscribe();
        entry.shared.look.notify_one();
        Ok(receiver)
    }

    /// Stops the rebuild under way where it is, over restarts, until it is resumed.
    pub async fn pause(&self, name: &str) -> Result<Progress, SteerError> {
        self.wish(name, Wish::Pause).await
    }

    pub async fn resume(&self, name: &str) -> Result<Progress, SteerError> {
        self.wish(name, Wish::Resume).await
    }

    /// Ends the rebuild under way; what it has built is removed.
    pub async fn cancel(&self, name: &str) -> Result<Progress, SteerError> {
        self.wish(name, Wish::Cancel).await
    }

    /// How many events a second the rebuild under way may fold; `None` = as fast as it can.
    pub async fn throttle(&self, name: &str, events_per_s: Option<NonZeroU64>) -> Result<Progress, SteerError> {
        self.wish(name, Wish::Throttle(events_per_s)).await
    }

    async fn wish(&self, name: &str, wish: Wish) -> Result<Progress, SteerError> {
        let entry = self.entry(name)?;
        let template = entry.projection.template;
        let not_under_way = || SteerError::NotUnderWay(name.to_owned());
        let generation = self.database.wish(template, wish).await?.ok_or_else(not_under_way)?;
        entry.shared.look.notify_one();
        self.database.rebuild_of(template, generation).await?.ok_or_else(not_under_way)
    }

    /// The last rebuild of `name`, of whichever process; `None` if there was none.
    pub async fn last_rebuild(&self, name: &str) -> Result<Option<Progress>, SteerError> {
        let template = self.entry(name)?.projection.template;
        Ok(self.database.rebuilds(template, 1).await?.pop())
    }

    /// The rebuilds of `name`, the newest first.
    pub async fn rebuilds(&self, name: &str, limit: usize) -> Result<Vec<Progress>, SteerError> {
        Ok(self.database.rebuilds(self.entry(name)?.projection.template, limit).await?)
    }

    /// Which generations of `name` there are.
    pub async fn generations(&self, name: &str) -> Result<Vec<Kept>, SteerError> {
        let template = self.entry(name)?.projection.template;
        let holders = self.database.holders(template).await?;
        let live = match self.database.live(template).await? {
            Some(live) => self.database.vector(template, live.generation).await?,
            None => Vector::new(),
        };
        let mut kept = Vec::new();
        for Generation { generation, version, state } in self.database.generations(template).await? {
            // one that goes while we look
            let Ok(vector) = self.database.vector(template, generation).await else { continue };
            let behind = live.iter().map(|(source, there)| there.position.saturating_sub(vector.get(source).position));
            let holder = holders.iter().find(|(of, ..)| *of == generation);
            let holder = holder.map(|(_, holder, _)| holder.clone());
            kept.push(Kept { generation, version, state, behind_events: behind.sum(), holder });
        }
        Ok(kept)
    }
}
