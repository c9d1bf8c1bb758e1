//! All projections, started and stopped. How they are steered: [`super::steer`].

mod parking;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use event_store::{
    feed::{Cursor, Feed, PageLimit},
    follower::{FollowerOptions, Status},
};
use events::envelope::Name;
use futures::future::join_all;
use measures::DatabaseUse;
use read_side::Wake;
use tokio::{sync::Mutex, task::JoinHandle};
use tokio_util::sync::CancellationToken;

pub use self::parking::{SHOWN_MAX, Which};
use super::{
    EngineError, copy,
    keeper::{Keeper, Shared},
    lease::Leases,
    load::LoadOptions,
    query_database::QueryDatabase,
    rebuild::Progress,
    steer::SteerError,
    store::StoreOptions,
    table_hash::{TableHash, table_hash},
    why::{self, Why, WhyError},
};
use crate::projection::Projection;

/// How a projector runs.
#[derive(Debug, Clone)]
pub struct ProjectorOptions {
    pub follower: FollowerOptions,
    pub store: StoreOptions,
    /// Wakes waiting readers of the same process: `ReadSide::wake()`.
    pub wake: Wake,
    /// Generations that were live and are kept to go back to. Each takes as much room as the live one.
    pub generations_kept: usize,
    /// What a rebuild may hold in memory, in bytes, while it loads: an estimate, not a limit of the allocator.
    pub rebuild_memory_bytes: usize,
    /// How long a generation stays with a process that is silent. It is renewed three times in that time; one whose
    /// connection is gone is not waited for.
    pub lease: Duration,
    pub changed_versions: ChangedVersions,
}

impl Default for ProjectorOptions {
    fn default() -> Self {
        Self {
            follower: FollowerOptions::default(),
            store: StoreOptions::default(),
            wake: Wake::default(),
            generations_kept: 1,
            rebuild_memory_bytes: LoadOptions::default().memory_bytes,
            lease: Duration::from_secs(5),
            changed_versions: ChangedVersions::default(),
        }
    }
}

/// What a start does about a live generation that another version made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ChangedVersions {
    /// Builds the next one beside it, reports what differs, and swaps.
    #[default]
    Rebuild,
    /// Nothing until it is told to: `diff` says what would change, `rebuild` changes it.
    Wait,
}

/// Runs every projection of this program.
pub struct Projector;

/// Owns what runs. When it is dropped, everything ends after what it is at; [`ProjectorHandle::shutdown`] waits for it.
pub struct ProjectorHandle {
    pub(super) database: QueryDatabase,
    pub(super) feeds: Vec<Arc<dyn Feed>>,
    options: ProjectorOptions,
    leases: Leases,
    pub(super) projections: BTreeMap<&'static str, Entry>,
    cancel: CancellationToken,
}

pub(super) struct Entry {
    pub projection: Arc<Projection>,
    pub shared: Arc<Shared>,
    keeper: Mutex<Option<JoinHandle<()>>>,
}

/// One projection at one moment.
#[derive(Debug, Clone)]
pub struct Report {
    pub projection: &'static str,
    pub version: u32,
    /// `None` while the live generation is of another version (it is served, and stands still until it is swapped), or
    /// another process follows it.
    pub live: Option<(i64, Status)>,
    /// The last rebuild.
    pub rebuild: Option<Progress>,
}

impl Projector {
    /// Starts every projection on `feeds`; a feed that no projection follows is left alone, and every source that one
    /// follows must be there.
    ///
    /// A read model without a live generation gets one, live from the beginning. Where the live one was made by another
    /// version, the next one is built beside it and swapped in. A rebuild that a crash has cut goes on. What another
    /// process follows or builds is left to it, and taken over within seconds when it is silent.
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
        let leases = Leases::new(&database, options.lease);
        let cancel = CancellationToken::new();
        let mut handle = ProjectorHandle { database, feeds, options, leases, projections: BTreeMap::new(), cancel };
        for projection in projections {
            for source in projection.sources() {
                let is_there = handle.feeds.iter().any(|feed| &**feed.source() == source);
                assert!(is_there, "{} follows {source}, whose feed is not given", projection.template.name);
            }
            let name = projection.template.name;
            let (projection, shared) = (Arc::new(projection), Arc::new(Shared::default()));
            let keeper = Keeper::start(
                Arc::clone(&projection),
                handle.database.clone(),
                handle.feeds.clone(),
                handle.options.clone(),
                handle.leases.clone(),
                Arc::clone(&shared),
                handle.cancel.child_token(),
            );
            let keeper = Mutex::new(Some(tokio::spawn(keeper.await?.run())));
            handle.projections.insert(name, Entry { projection, shared, keeper });
        }
        Ok(handle)
    }
}

impl ProjectorHandle {
    /// What is measured of the query database, as it is written.
    pub fn figures(&self) -> &DatabaseUse {
        self.database.figures()
    }

    /// Every projection, as it is now. Never waits for a rebuild.
    pub async fn status(&self) -> Vec<Report> {
        let report = |(name, entry): (&&'static str, &Entry)| Report {
            projection: name,
            version: entry.projection.version,
            live: entry.shared.live.shown(),
            rebuild: entry.shared.progress(),
        };
        self.projections.iter().map(report).collect()
    }

    /// The hash of the live generation of `name` as it is now; `None` while it is not followed here.
    pub async fn live_hash(&self, name: &str) -> Result<Option<TableHash>, SteerError> {
        match &*self.entry(name)?.shared.live.running.lock().await {
            Some(running) => Ok(Some(table_hash(&running.store).await?)),
            None => Ok(None),
        }
    }

    /// A copy of what is live, as a file of lines.
    pub fn export(&self) -> copy::export::Contents {
        let projections = self.projections.values().map(|entry| Arc::clone(&entry.projection)).collect();
        copy::export::export(&self.database, projections)
    }

    /// The events that made the row `key` of `name`.
    pub async fn why(&self, name: &str, key: &str) -> Result<Why, WhyError> {
        let entry = self.projections.get(name).ok_or_else(|| WhyError::Unknown(name.to_owned()))?;
        let store = entry.shared.live.running.lock().await.as_ref().map(|running| Arc::clone(&running.store));
        let store = store.ok_or(WhyError::NotFollowed { projection: entry.projection.template.name })?;
        why::why(&entry.projection, &store, &self.feeds, key).await
    }

    /// Waits until every live generation that is followed here has applied what its sources hold now and finished its
    /// fan-outs, or has stopped.
    pub async fn caught_up(&self) {
        let heads = self.heads().await;
        for entry in self.projections.values() {
            // not under the lock for long: a swap may want it
            loop {
                let live = entry.shared.live.running.lock().await;
                let Some(running) = live.as_ref() else { break };
                let caught_up = running.follower.caught_up();
                match tokio::time::timeout(Duration::from_millis(50), caught_up).await {
                    Ok(Ok(()))
                        if !reaches(&running.follower.status(), &heads) || running.store.has_open_fan_outs().await =>
                    {
                        drop(live);
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                    Ok(_) => break,
                    Err(_) => {}
                }
            }
        }
    }

    /// How far the sources are, of those that answer: a follower knows only the heads that it has been told.
    async fn heads(&self) -> Vec<(Name, u64)> {
        let limit = PageLimit { events_max: 1, bytes_max: PageLimit::BYTES_MAX };
        let looks = self.feeds.iter().map(async |feed| {
            let page = feed.page(Cursor::START, limit, Duration::ZERO).await.ok()?;
            Some((feed.source().clone(), page.head.position))
        });
        join_all(looks).await.into_iter().flatten().collect()
    }

    /// Ends everything after what it is at. A rebuild under way stays as it is: the next start, or another process, goes
    /// on with it.
    pub async fn shutdown(&self) {
        self.cancel.cancel();
        for entry in self.projections.values() {
            if let Some(keeper) = entry.keeper.lock().await.take() {
                let _ = keeper.await;
            }
        }
        self.leases.close().await;
        self.database.close().await;
    }
}

/// Whether all of `heads` that are followed are applied.
fn reaches(status: &Status, heads: &[(Name, u64)]) -> bool {
    let followed = heads.iter().filter(|(source, _)| status.sources.contains_key(source));
    followed.into_iter().all(|(source, head)| status.vector.get(source).position >= *head)
}

impl Drop for ProjectorHandle {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}
