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
    decisions::Decision,
    parking::{ParkingError, Retried, retry},
    rebuild::STOP_WAIT_MAX,
    running::Running,
    store::{End, Parked},
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
    /// The parked streams that are meant, each with its read model. Of what is live in another version nothing is told.
    pub async fn parked(&self, which: &Which) -> Result<Vec<(&'static str, Parked)>, ParkingError> {
        let mut all = Vec::new();
        for entry in self.meant(which)? {
            match self.live(entry).await {
                Ok(running) => {
                    let parked = following(&running).store.parked().await?;
                    let name = entry.projection.template.name;
                    all.extend(parked.into_iter().filter(|parked| which.fits(parked)).map(|parked| (name, parked)));
                }
                Err(ParkingError::OtherVersion(_)) => {}
                Err(error) => return Err(error),
            }
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
            let store = Arc::clone(&following(&self.live(entry).await?).store);
            for position in store.waiting(&parked.stream, 0, SHOWN_MAX).await? {
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
        let mut all = Vec::new();
        for entry in self.meant(which)? {
            let mut running = match self.live(entry).await {
                Err(ParkingError::OtherVersion(_)) => continue,
                running => running?,
            };
            let meant = following(&running).store.parked().await?.into_iter().filter(|parked| which.fits(parked));
            all.extend(self.fold(entry, &mut running, meant.collect(), end).await?);
        }
        Ok(all)
    }

    /// Decides that a parked event is left out, now and in every rebuild, and folds what waits behind it. The decision is
    /// recorded first: what a crash cuts is gone on with at the next start.
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
            let mut running = match self.live(entry).await {
                Err(ParkingError::OtherVersion(_)) => continue,
                running => running?,
            };
            let store = Arc::clone(&following(&running).store);
            let parked = store.parked().await?.into_iter().find(|parked| parked.stream.event_id == event_id);
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
            store.read_decisions().await?;
            all.extend(self.fold(entry, &mut running, vec![parked], End::Commit).await?);
        }
        if all.is_empty() && !is_known { Err(ParkingError::NotParked(event_id)) } else { Ok(all) }
    }

    /// Tries streams of one read model again, and lets its follower know.
    async fn fold(
        &self,
        entry: &Entry,
        running: &mut MutexGuard<'_, Option<Running>>,
        parked: Vec<Parked>,
        end: End,
    ) -> Result<Vec<Retried>, ParkingError> {
        let store = Arc::clone(&following(running).store);
        let mut all = Vec::with_capacity(parked.len());
        let mut outcome = Ok(());
        for parked in &parked {
            match retry(&store, &self.feeds, parked, end).await {
                Ok(retried) => all.push(retried),
                Err(error) => {
                    outcome = Err(error);
                    break;
                }
            }
        }
        if end == End::Commit && !parked.is_empty() {
            let running = running.as_mut().expect("it was live before");
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

    /// What is followed into, for as long as the guard lives.
    async fn live<'e>(&self, entry: &'e Entry) -> Result<MutexGuard<'e, Option<Running>>, ParkingError> {
        let name = entry.projection.template.name;
        let running = timeout(LIVE_WAIT_MAX, entry.shared.live.running.lock()).await;
        let running = running.map_err(|_| ParkingError::Busy(name))?;
        if running.is_some() { Ok(running) } else { Err(ParkingError::OtherVersion(name)) }
    }
}

fn following<'g>(running: &'g MutexGuard<'_, Option<Running>>) -> &'g Running {
    running.as_ref().expect("only what is followed is given")
}
