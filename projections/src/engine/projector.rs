//! All projections, started and stopped.

mod parking;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use event_store::{
    feed::Feed,
    follower::{FollowerOptions, Status},
};
use read_side::Wake;
use thiserror::Error;
use tokio::{
    sync::{Mutex, watch},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

pub use self::parking::{SHOWN_MAX, Which};
use super::{
    EngineError,
    query_database::{Generation, QueryDatabase},
    rebuild::{Phase, Progress, Purpose, Rebuild, RebuildError, STOP_WAIT_MAX},
    running::{Live, Running},
    store::StoreOptions,
    table_hash::{TableHash, table_hash},
    why::{self, Why, WhyError},
};
use crate::projection::Projection;

/// How a projector runs.
#[derive(Debug, Clone, Default)]
pub struct ProjectorOptions {
    pub follower: FollowerOptions,
    pub store: StoreOptions,
    /// Wakes waiting readers of the same process: `ReadSide::wake()`.
    pub wake: Wake,
}

/// Runs every projection of this program.
pub struct Projector;

/// Owns what runs. When it is dropped, everything ends after what it is at; [`ProjectorHandle::shutdown`] waits for it.
pub struct ProjectorHandle {
    database: QueryDatabase,
    feeds: Vec<Arc<dyn Feed>>,
    options: ProjectorOptions,
    projections: BTreeMap<&'static str, Entry>,
    cancel: CancellationToken,
}

struct Entry {
    projection: Arc<Projection>,
    live: Arc<Live>,
    rebuild: Mutex<Option<Rebuilding>>,
}

struct Rebuilding {
    progress: watch::Receiver<Progress>,
    task: JoinHandle<Result<(), RebuildError>>,
}

/// Why a rebuild was not begun.
#[derive(Debug, Error)]
pub enum StartRebuildError {
    #[error("there is no projection {0}")]
    Unknown(String),
    #[error("{projection} is being rebuilt already, into generation {generation}")]
    UnderWay { projection: String, generation: i64 },
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// One projection at one moment.
#[derive(Debug, Clone)]
pub struct Report {
    pub projection: &'static str,
    pub version: u32,
    /// `None` while the live generation is of another version: it is served, and stands still until it is swapped.
    pub live: Option<(i64, Status)>,
    pub rebuild: Option<Progress>,
}

impl Projector {
    /// Starts every projection on `feeds`; a feed that no projection follows is left alone, and every source that one
    /// follows must be there.
    ///
    /// A read model without a live generation gets one, live from the beginning. Where the live one was made by another
    /// version, the next one is built beside it and swapped in. A rebuild that a crash has cut goes on.
    pub async fn start(
        database: QueryDatabase,
        feeds: Vec<Arc<dyn Feed>>,
        options: ProjectorOptions,
    ) -> Result<ProjectorHandle, EngineError> {
        Self::start_with(crate::all(), database, feeds, options).await
    }

    /// As [`Self::start`], with projections of the caller's.
    pub async fn start_with(
        projections: Vec<Projection>,
        database: QueryDatabase,
        feeds: Vec<Arc<dyn Feed>>,
        options: ProjectorOptions,
    ) -> Result<ProjectorHandle, EngineError> {
        let mut handle = ProjectorHandle {
            database,
            feeds,
            options,
            projections: BTreeMap::new(),
            cancel: CancellationToken::new(),
        };
        for projection in projections {
            for source in projection.sources() {
                let is_there = handle.feeds.iter().any(|feed| &**feed.source() == source);
                assert!(is_there, "{} follows {source}, whose feed is not given", projection.template.name);
            }
            let name = projection.template.name;
            let entry = Entry { projection: Arc::new(projection), live: Arc::default(), rebuild: Mutex::default() };
            handle.start_one(&entry).await?;
            handle.projections.insert(name, entry);
        }
        Ok(handle)
    }
}

impl ProjectorHandle {
    async fn start_one(&self, entry: &Entry) -> Result<(), EngineError> {
        let projection = &entry.projection;
        let template = projection.template;
        let version = i64::from(projection.version);
        let live = self.database.live(template).await?;
        let mut resumed = None;
        for left in self.database.generations(template).await?.into_iter().filter(is_left_over) {
            // what failed was kept to be looked at until now
            let usable = left.state == "building" && live.is_some() && left.version == version && resumed.is_none();
            if usable && self.database.is_complete(projection, left.generation).await? {
                resumed = Some(left.generation);
            } else {
                self.database.drop_generation(projection, left.generation).await?;
            }
        }
        let live = match live {
            Some(live) => live,
            None => {
                let generation = self.database.create(projection).await?;
                self.database.swap(template, None, generation).await?;
                self.database.live(template).await?.expect("it was just made live")
            }
        };
        if live.version == version {
            let running = self.follow(projection, live.generation).await?;
            entry.live.show(&running);
            *entry.live.running.lock().await = Some(running);
        }
        match (resumed, live.version == version) {
            (Some(generation), _) => self.begin(entry, generation, Purpose::Swap).await,
            (None, false) => {
                let generation = self.database.create(projection).await?;
                self.begin(entry, generation, Purpose::Swap).await;
            }
            (None, true) => {}
        }
        Ok(())
    }

    async fn follow(&self, projection: &Arc<Projection>, generation: i64) -> Result<Running, EngineError> {
        let options = (self.options.store.clone(), self.options.wake.clone());
        let store = self.database.store(Arc::clone(projection), generation, options.0, options.1).await?;
        store.stays_live().await;
        Ok(Running::start(Arc::new(store), &self.feeds, self.options.follower.clone()))
    }

    /// Starts the task of a rebuild.
    async fn begin(&self, entry: &Entry, generation: i64, purpose: Purpose) {
        let (progress, receiver) = watch::channel(Progress {
            projection: entry.projection.template.name.to_owned(),
            generation,
            phase: Phase::CatchingUp,
            events_done: 0,
            events_total: 0,
            events_per_s: 0,
            error: None,
        });
        let rebuild = Rebuild {
            projection: Arc::clone(&entry.projection),
            database: self.database.clone(),
            feeds: self.feeds.clone(),
            follower: self.options.follower.clone(),
            store: self.options.store.clone(),
            wake: self.options.wake.clone(),
            live: Arc::clone(&entry.live),
            progress,
            cancel: self.cancel.child_token(),
        };
        let task = tokio::spawn(rebuild.run(generation, purpose));
        *entry.rebuild.lock().await = Some(Rebuilding { progress: receiver, task });
    }

    fn entry(&self, name: &str) -> Result<&Entry, StartRebuildError> {
        self.projections.get(name).ok_or_else(|| StartRebuildError::Unknown(name.to_owned()))
    }

    /// Builds the next generation of `name` from position 0 and swaps it in. It goes on by itself; the receiver shows
    /// how far it is, until a phase that [is over](Phase::is_over).
    pub async fn rebuild(&self, name: &str) -> Result<watch::Receiver<Progress>, StartRebuildError> {
        self.start_rebuild(name, Purpose::Swap).await
    }

    /// Folds `name` from position 0 into a generation of its own, compares it with the live one and drops it.
    pub async fn verify(&self, name: &str) -> Result<watch::Receiver<Progress>, StartRebuildError> {
        self.start_rebuild(name, Purpose::Verify).await
    }

    async fn start_rebuild(
        &self,
        name: &str,
        purpose: Purpose,
    ) -> Result<watch::Receiver<Progress>, StartRebuildError> {
        let entry = self.entry(name)?;
        if let Some(rebuilding) = &*entry.rebuild.lock().await
            && !rebuilding.task.is_finished()
        {
            let generation = rebuilding.progress.borrow().generation;
            return Err(StartRebuildError::UnderWay { projection: name.to_owned(), generation });
        }
        for failed in self.database.generations(entry.projection.template).await? {
            if failed.state == "failed" {
                self.database.drop_generation(&entry.projection, failed.generation).await?;
            }
        }
        let generation = self.database.create(&entry.projection).await?;
        self.begin(entry, generation, purpose).await;
        let rebuild = entry.rebuild.lock().await;
        Ok(rebuild.as_ref().expect("it was just begun").progress.clone())
    }

    /// Every projection, as it is now. Never waits for a rebuild.
    pub async fn status(&self) -> Vec<Report> {
        let mut reports = Vec::with_capacity(self.projections.len());
        for (name, entry) in &self.projections {
            let live = entry.live.shown();
            let rebuild = entry.rebuild.lock().await;
            let rebuild = rebuild.as_ref().map(|rebuilding| rebuilding.progress.borrow().clone());
            reports.push(Report { projection: name, version: entry.projection.version, live, rebuild });
        }
        reports
    }

    /// The hash of the live generation of `name` as it is now; `None` while it is of another version.
    pub async fn live_hash(&self, name: &str) -> Result<Option<TableHash>, StartRebuildError> {
        match &*self.entry(name)?.live.running.lock().await {
            Some(running) => Ok(Some(table_hash(&running.store).await?)),
            None => Ok(None),
        }
    }

    /// The events that made the row `key` of `name`.
    pub async fn why(&self, name: &str, key: &str) -> Result<Why, WhyError> {
        let entry = self.projections.get(name).ok_or_else(|| WhyError::Unknown(name.to_owned()))?;
        let store = entry.live.running.lock().await.as_ref().map(|running| Arc::clone(&running.store));
        let store = store.ok_or(WhyError::NotFollowed { projection: entry.projection.template.name })?;
        why::why(&entry.projection, &store, &self.feeds, key).await
    }

    /// Waits until every live generation has applied its sources' heads and finished its fan-outs, or has stopped.
    pub async fn caught_up(&self) {
        for entry in self.projections.values() {
            // not under the lock for long: a rebuild may want it
            loop {
                let live = entry.live.running.lock().await;
                let Some(running) = live.as_ref() else { break };
                let caught_up = running.follower.caught_up();
                match tokio::time::timeout(Duration::from_millis(50), caught_up).await {
                    Ok(Ok(())) if running.store.has_open_fan_outs().await => {
                        drop(live);
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                    Ok(_) => break,
                    Err(_) => {}
                }
            }
        }
    }

    /// Ends everything after what it is at. A rebuild under way stays as it is and goes on at the next start.
    pub async fn shutdown(&self) {
        self.cancel.cancel();
        for entry in self.projections.values() {
            if let Some(rebuilding) = entry.rebuild.lock().await.take() {
                let _ = rebuilding.task.await;
            }
            if let Some(mut running) = entry.live.running.lock().await.take() {
                running.stop(STOP_WAIT_MAX).await;
                self.database.close_generation(running.store.pool()).await;
            }
        }
        self.database.close().await;
    }
}

/// Neither live nor kept to go back to.
fn is_left_over(generation: &Generation) -> bool {
    generation.state == "building" || generation.state == "failed"
}

impl Drop for ProjectorHandle {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}
