//! Parked streams of what is followed: seen, tried again, and decided about.

use std::{sync::Arc, time::Duration};

use event_store::{
    failpoint,
    feed::{Cursor, PageLimit},
    follower::HaltReason,
};
use events::envelope::RecordedEvent;
use tokio::{sync::MutexGuard, time::timeout};
use uuid::Uuid;

use super::{Entry, ProjectorHandle};
use crate::engine::{
    EngineError,
    decisions::Decision,
    parking::{ParkingError, Retried, retry},
    rebuild::STOP_WAIT_MAX,
    running::Running,
    store::{End, GenerationStore, Parked},
};

/// How long somebody waits for a live generation that is being compared.
const LIVE_WAIT_MAX: Duration = Duration::from_secs(5);
/// The most waiting events of a stream that are shown.
pub const SHOWN_MAX: usize = 100;

/// Which parked streams are meant: all that fit every part that is given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Which {
    pub projection: Option<String>,
    /// The stream as it is shown, or the aggregate's id.
    pub stream: Option<String>,
    pub fingerprint: Option<String>,
}

impl Which {
    fn fits(&self, parked: &Parked) -> bool {
        let stream = &parked.stream.stream;
        let is_stream = |named: &String| *named == stream.to_string() || **named == *stream.aggregate_id;
        self.stream.as_ref().is_none_or(is_stream)
            && self.fingerprint.as_ref().is_none_or(|fingerprint| *fingerprint == parked.fingerprint())
    }
}

impl ProjectorHandle {
    /// The parked streams that are meant, each with its read model, whoever follows it.
    pub async fn parked(&self, which: &Which) -> Result<Vec<(&'static str, Parked)>, ParkingError> {
        let mut all = Vec::new();
        for entry in self.meant(which)? {
            let Some(seen) = self.see(entry).await? else { continue };
            let parked = seen.store.parked().await;
            self.release(seen).await;
            let name = entry.projection.template.name;
            all.extend(parked?.into_iter().filter(|parked| which.fits(parked)).map(|parked| (name, parked)));
        }
        Ok(all)
    }

    /// What operators have decided about events of these read models, oldest first.
    pub async fn decisions(&self, which: &Which) -> Result<Vec<Decision>, ParkingError> {
        let mut all = Vec::new();
        for entry in self.meant(which)? {
            all.extend(self.database.decisions(entry.projection.template.name).await?);
        }
        Ok(all)
    }

    /// The first events that wait with a parked stream, as the log holds them.
    pub async fn waiting(&self, read_model: &str, parked: &Parked) -> Result<Vec<RecordedEvent>, ParkingError> {
        let which = Which { projection: Some(read_model.to_owned()), ..Which::default() };
        let source = &parked.stream.source;
        let feed = self.feeds.iter().find(|feed| feed.source() == source);
        let feed = feed.ok_or_else(|| ParkingError::NoFeed { feed: source.to_string() })?;
        let mut events = Vec::new();
        for entry in self.meant(&which)? {
            let Some(seen) = self.see(entry).await? else { continue };
            let positions = seen.store.waiting(&parked.stream, 0, SHOWN_MAX).await;
            self.release(seen).await;
            for position in positions? {
                let before = Cursor { position: position - 1, event_id: None };
                let page = feed.page(before, PageLimit::events(1), Duration::ZERO).await?;
                events.extend(page.events.into_iter().next());
            }
        }
        Ok(events)
    }

    /// Folds what waits with the streams that are meant, as far as it can be folded by now; with `dry_run` nothing is
    /// changed. One transaction a stream; the follower goes on meanwhile.
    pub async fn retry_parked(&self, which: &Which, dry_run: bool) -> Result<Vec<Retried>, ParkingError> {
        let end = if dry_run { End::TakeBack } else { End::Commit };
        let (mut all, mut is_tried, mut elsewhere) = (Vec::new(), false, None);
        for entry in self.meant(which)? {
            let Some(seen) = self.see(entry).await? else { continue };
            let is_followed = seen.is_followed;
            let parked = seen.store.parked().await;
            self.release(seen).await;
            let meant: Vec<_> = parked?.into_iter().filter(|parked| which.fits(parked)).collect();
            if meant.is_empty() {
                continue;
            }
            if is_followed {
                is_tried = true;
                all.extend(self.fold(entry, meant, end).await?);
                continue;
            }
            let read_model = entry.projection.template.name;
            elsewhere = Some(read_model);
            all.extend(meant.into_iter().map(|Parked { stream, waiting, .. }| {
                let still = Some((stream.position, "not followed by this process: ask the one that does".to_owned()));
                Retried { read_model, stream, folded: 0, waiting, still }
            }));
        }
        match elsewhere {
            Some(name) if !is_tried => Err(ParkingError::NotFollowed(name)),
            _ => Ok(all),
        }
    }

    /// Decides that a parked event is left out, now and in every rebuild, and folds what waits behind it. The decision is
    /// recorded first: what a crash cuts is gone on with at the next start, and where another process follows, that one
    /// carries it out within seconds.
    ///
    /// Without `projection` it is left out of every read model where a stream is parked at it.
    pub async fn drop_parked(
        &self,
        event_id: Uuid,
        projection: Option<&str>,
        why: &str,
        by: &str,
    ) -> Result<Vec<Retried>, ParkingError> {
        let which = Which { projection: projection.map(str::to_owned), ..Which::default() };
        let (mut all, mut is_known) = (Vec::new(), false);
        for entry in self.meant(&which)? {
            let name = entry.projection.template.name;
            let Some(seen) = self.see(entry).await? else { continue };
            let is_followed = seen.is_followed;
            let parked = seen.store.parked().await;
            self.release(seen).await;
            let parked = parked?.into_iter().find(|parked| parked.stream.event_id == event_id);
            let Some(parked) = parked else {
                is_known |= self.database.decisions(name).await?.iter().any(|decision| decision.event_id == event_id);
                continue;
            };
            let decision = Decision {
                read_model: name.to_owned(),
                source: parked.stream.source.clone(),
                event_id,
                position: parked.stream.position,
                stream: parked.stream.stream.clone(),
                fingerprint: parked.fingerprint(),
                reason: parked.stream.reason.clone(),
                why: why.to_owned(),
                by: by.to_owned(),
                at_us: self.options.store.clock.now().timestamp_micros(),
            };
            self.database.decide(&decision).await?;
            failpoint!("parking.decided", ParkingError::Busy(name));
            tracing::warn!(projection = name, source = %decision.source, position = decision.position, why, by, "event dropped");
            if is_followed {
                all.extend(self.fold(entry, vec![parked], End::Commit).await?);
            } else {
                let Parked { stream, waiting, .. } = parked;
                let still = Some((stream.position, "left out by the process that follows, within seconds".to_owned()));
                all.push(Retried { read_model: name, stream, folded: 0, waiting, still });
            }
        }
        if all.is_empty() && !is_known { Err(ParkingError::NotParked(event_id)) } else { Ok(all) }
    }

    /// Tries streams of one read model again, and lets its follower know.
    async fn fold(&self, entry: &Entry, parked: Vec<Parked>, end: End) -> Result<Vec<Retried>, ParkingError> {
        let name = entry.projection.template.name;
        let mut running = self.running(entry).await?;
        let running = running.as_mut().ok_or(ParkingError::NotFollowed(name))?;
        let store = Arc::clone(&running.store);
        store.read_decisions().await?;
        let is_to_be_told = end == End::Commit && !parked.is_empty();
        // in a task of its own, because whoever asks may go away in the middle of a transaction
        let folding = tokio::spawn({
            let (store, feeds) = (Arc::clone(&store), self.feeds.clone());
            async move {
                let mut all = Vec::with_capacity(parked.len());
                for parked in &parked {
                    match retry(&store, &feeds, parked, end).await {
                        Ok(retried) => all.push(retried),
                        Err(error) => return (all, Err(error)),
                    }
                }
                (all, Ok(()))
            }
        });
        let (all, outcome) = folding.await.map_err(|error| EngineError::Damaged(error.to_string()))?;
        if is_to_be_told {
            // a source that stood still because too many of its streams were parked is followed anew
            let is_full =
                |source: &event_store::follower::SourceStatus| matches!(source.halt(), Some(HaltReason::Poison { .. }));
            if running.follower.status().sources.values().any(is_full) {
                running.stop(STOP_WAIT_MAX).await;
                *running = Running::start(store, &self.feeds, self.options.follower.clone());
                entry.shared.live.show(running);
            } else {
                running.follower.look_again();
            }
        }
        outcome.map(|()| all)
    }

    fn meant(&self, which: &Which) -> Result<Vec<&Entry>, ParkingError> {
        match &which.projection {
            Some(name) => {
                let entry = self.projections.get(name.as_str());
                Ok(vec![entry.ok_or_else(|| ParkingError::Unknown(name.clone()))?])
            }
            None => Ok(self.projections.values().collect()),
        }
    }

    /// The live generation of a read model, to be looked at; `None` if there is none.
    async fn see(&self, entry: &Entry) -> Result<Option<Seen>, ParkingError> {
        if let Some(running) = &*self.running(entry).await? {
            return Ok(Some(Seen { store: Arc::clone(&running.store), is_followed: true }));
        }
        let projection = &entry.projection;
        let Some(live) = self.database.live(projection.template).await? else { return Ok(None) };
        let (options, wake) = (self.options.store.clone(), self.options.wake.clone());
        let store = self.database.store(Arc::clone(projection), live.generation, options, wake).await?;
        Ok(Some(Seen { store: Arc::new(store), is_followed: false }))
    }

    async fn release(&self, seen: Seen) {
        if !seen.is_followed {
            self.database.close_generation(seen.store.pool()).await;
        }
    }

    /// What is followed into here, for as long as the guard lives.
    async fn running<'e>(&self, entry: &'e Entry) -> Result<MutexGuard<'e, Option<Running>>, ParkingError> {
        let running = timeout(LIVE_WAIT_MAX, entry.shared.live.running.lock()).await;
        running.map_err(|_| ParkingError::Busy(entry.projection.template.name))
    }
}

/// A live generation, whoever follows it.
struct Seen {
    store: Arc<GenerationStore>,
    /// By this process.
    is_followed: bool,
}
