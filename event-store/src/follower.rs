//! The follower kernel: one implementation under projections, replicas, reactors, sagas and relays.
//!
//! A follower reads the feeds of its sources and hands their events, source by source and in order, to a
//! [`FollowerStore`], which applies them and moves the source's checkpoint in one transaction of its own. So each event
//! takes effect once, whatever crashes, and of two followers on one store only the younger writes. With a lease
//! ([`FollowerOptions::lease`]) the older one stands by, and takes over again when the younger one has fallen silent.
//!
//! Reading order: [`checkpoint`] (where it is), [`store`] (the port to implement), [`options`] (bounds), [`status`]
//! (what it says of itself), [`memory`] (a store to copy from), then the machine: `queue`, `reader`, `applier`, `tenure`.

pub mod checkpoint;
pub mod memory;
pub mod options;
pub mod status;
pub mod store;

mod applier;
mod handle;
mod queue;
mod reader;
mod shared;
mod tenure;

use std::{collections::BTreeMap, sync::Arc};

use events::envelope::Name;
use tokio::{sync::watch, task::JoinSet};

pub use checkpoint::{Checkpoint, Coverage, Vector};
pub use handle::{FollowerHandle, TokenWaitError, WaitError};
pub use options::{Backoff, FollowerOptions, StartAt};
pub use status::{Counters, HaltReason, SourceState, SourceStatus, Status, StopReason};
pub use store::{Acquired, ApplyError, FollowerStore, ParkedStream, PoisonEvent, Pulse, Reject, Step, StoreError};

use self::{
    applier::{Applier, Source},
    queue::ReadAhead,
    reader::Reader,
    shared::{Obituary, Shared},
};
use crate::feed::Feed;

/// A follower on its way to being started.
pub struct Follower;

impl Follower {
    /// Starts a follower of `feeds` (each source once) on `store`, as a task that the handle owns. `name` is for
    /// status and logs. Needs a tokio runtime.
    ///
    /// It returns at once: the fence is taken in the background, for as long as that takes.
    pub fn start(
        name: impl Into<Name>,
        feeds: Vec<Arc<dyn Feed>>,
        store: Arc<dyn FollowerStore>,
        options: FollowerOptions,
    ) -> FollowerHandle {
        let options = Arc::new(options.normalized());
        let name = name.into();
        let sources: BTreeMap<Name, SourceStatus> =
            feeds.iter().map(|feed| (feed.source().clone(), SourceStatus::starting())).collect();
        assert_eq!(sources.len(), feeds.len(), "{name} follows a source twice");
        let until = options.until.iter().flat_map(Vector::iter).find(|(source, _)| !sources.contains_key(*source));
        assert!(until.is_none(), "{name} has a target for a source that it does not follow: {until:?}");
        let (status, _) = watch::channel(Status {
            follower: name.clone(),
            vector: Vector::new(),
            fence: None,
            standing_by: false,
            sources,
            parked: Arc::default(),
            store_failure: None,
            store_failures: 0,
            stopped: None,
        });
        let shared = Arc::new(Shared::new(name, status));
        let task = tokio::spawn(run(feeds, store, options.clone(), shared.clone()));
        FollowerHandle::new(shared, options, task)
    }
}

/// The follower's one task: it owns the readers, which end with it.
async fn run(
    feeds: Vec<Arc<dyn Feed>>,
    store: Arc<dyn FollowerStore>,
    options: Arc<FollowerOptions>,
    shared: Arc<Shared>,
) {
    let mut obituary = Obituary::new(shared.clone());
    let mut readers = JoinSet::new();
    let mut sources = Vec::with_capacity(feeds.len());
    for feed in feeds {
        let name = feed.source().clone();
        let until = options.until.as_ref().map_or(u64::MAX, |until| until.get(&name).position);
        let queue = Arc::new(ReadAhead::new(options.read_ahead_events_max, options.read_ahead_bytes_max, until));
        sources.push(Source::new(name, queue.clone()));
        let reader = Reader { feed, queue, options: options.clone(), shared: shared.clone() };
        readers.spawn(reader.run());
    }
    let (fence, vector, moved, beating) = (0, Vector::new(), 0, None);
    let mut applier = Applier { store, options, shared, sources, fence, vector, moved, beating };
    let reason = applier.run().await;
    readers.shutdown().await;
    obituary.reason = Some(reason);
}
