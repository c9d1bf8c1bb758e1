//! Both generations at one vector: what is compared is of one moment, and nobody is held up for longer than that.
//!
//! The built generation never passes the live one, so it only has to catch up. Most of the way it does so while the live
//! one goes on; for the last few events the live one is frozen, and goes on as soon as a snapshot has begun.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use event_store::{
    feed::{Cursor, FeedError, PageLimit},
    follower::{ApplyError, Checkpoint, FollowerOptions, StopReason, Vector},
};
use events::envelope::Name;
use tokio::time::{Instant, sleep, timeout};

use super::{
    super::{
        EngineError,
        compare::{Comparison, compare},
        parking,
        query_database::{Frozen, Generation},
        running::Running,
        store::GenerationStore,
    },
    Phase, Rebuild, RebuildError, STOP_WAIT_MAX,
};

/// How long the two may take to meet. Under load it takes a few tries of milliseconds each.
const MEET_WAIT_MAX: Duration = Duration::from_secs(120);

/// How often a comparison under way hears whether it is still wanted.
const WISHES_EVERY: Duration = Duration::from_millis(500);

/// Between two tries.
const MEET_PAUSE: Duration = Duration::from_millis(20);

/// Events that the built generation may be behind when the live one is frozen: they take some tens of milliseconds.
const GAP_EVENTS_MAX: u64 = 500;

/// How long they may take at most, before the live one goes on and it is tried again.
const GAP_WAIT_MAX: Duration = Duration::from_secs(3);

/// How long a generation that nobody follows any more, of an older version or of a history that is gone, may have rows that
/// wait for a changed reference: if nobody finishes them, they are compared as they are.
const FAN_OUT_WAIT_MAX: Duration = Duration::from_secs(10);

/// What the built generation is to catch up to.
pub(super) struct Target {
    /// The live one's vector as it was, and what is known of sources that it does not follow.
    pub until: Vector,
    pub gone: Gone,
}

/// Sources of which the live generation has folded a history that is gone, and why that is known.
#[derive(Default)]
pub(super) struct Gone(BTreeMap<Name, String>);

impl Gone {
    /// Why nothing can be compared; `None` while everything is there.
    pub fn why(&self) -> Option<String> {
        let reasons: Vec<&str> = self.0.values().map(String::as_str).collect();
        (!reasons.is_empty()).then(|| reasons.join("; "))
    }
}

impl Rebuild {
    pub(super) async fn target(&self, live: &Generation) -> Result<Target, RebuildError> {
        let vector = self.database.vector(self.projection.template, live.generation).await?;
        let mut vector = self.followed(&vector, &Gone::default());
        let mut gone = Gone::default();
        for feed in self.feeds.iter().filter(|feed| self.projection.sources().contains(&&**feed.source())) {
            let is_followed = vector.iter().any(|(source, _)| source == feed.source());
            let at = if is_followed { vector.get(feed.source()).cursor() } else { Cursor::START };
            match feed.page(at, PageLimit::events(1), Duration::ZERO).await {
                Err(FeedError::Regressed { position, head, .. }) => {
                    let why = format!(
                        "the log of {} was restored from an older copy: generation {} has folded an event at position \
                         {position} that is not there, the head is {head}",
                        feed.source(),
                        live.generation
                    );
                    gone.0.insert(feed.source().clone(), why);
                }
                Ok(page) if !is_followed => {
                    let epoch = page.epoch;
                    let head = Checkpoint { epoch, position: page.head.position, event_id: None };
                    vector.set(feed.source().clone(), head);
                }
                // what cannot be read now is waited for when it is followed
                Ok(_) | Err(_) => {}
            }
        }
        Ok(Target { until: vector, gone })
    }

    /// As much of a vector as this program follows and can be reached: a live generation of another version may know more
    /// sources.
    fn followed(&self, vector: &Vector, gone: &Gone) -> Vector {
        let sources = self.projection.sources();
        let is_followed = |source: &Name| sources.contains(&&**source) && !gone.0.contains_key(source);
        let mut followed = Vector::new();
        for (source, checkpoint) in vector.iter().filter(|(source, _)| is_followed(source)) {
            followed.set(source.clone(), *checkpoint);
        }
        followed
    }

    /// The vector of what is built.
    pub(super) async fn vector(&self) -> Result<Vector, EngineError> {
        self.database.vector(self.projection.template, self.generation.generation).await
    }

    /// Compares both as they are at one vector, while the live one goes on.
    pub(super) async fn compare(
        &self,
        live: &Generation,
        built: &Arc<GenerationStore>,
    ) -> Result<Comparison, RebuildError> {
        let template = self.projection.template;
        let frozen = self.meet(live, built, &Gone::default()).await?;
        let (vector, open_fan_outs) = (frozen.vector.clone(), frozen.open_fan_outs);
        let snapshot = self.database.snapshot(template, live.generation).await;
        frozen.release().await;
        let mut live_snapshot = snapshot?;
        // nobody else writes it
        let mut built_snapshot = self.database.snapshot(template, built.generation()).await?;
        // the database may have ended the freeze of a process that was held up: then others have written on
        if live_snapshot.vector(template, live.generation).await? != vector {
            live_snapshot.end().await;
            built_snapshot.end().await;
            return Err(RebuildError::Unavailable(format!("generation {} did not stand still", live.generation)));
        }
        let sides = ((live, &mut live_snapshot), (&self.generation, &mut built_snapshot));
        let compared = tokio::select! {
            compared = compare(template, sides.0, sides.1, &vector) => compared,
            unwanted = self.unwanted() => return Err(unwanted),
        };
        live_snapshot.end().await;
        built_snapshot.end().await;
        let mut compared = compared?;
        if open_fan_outs > 0 {
            let note = format!("{open_fan_outs} changed references were not in all rows of the live generation yet");
            compared.notes.push(note);
        }
        Ok(compared)
    }

    /// Waits until what is at work is not wanted any more, and says why.
    async fn unwanted(&self) -> RebuildError {
        loop {
            tokio::select! {
                () = self.cancel.cancelled() => return RebuildError::Interrupted,
                () = sleep(WISHES_EVERY) => {}
            }
            if let Err(unwanted) = self.tell_phase(Phase::Comparing).await {
                return unwanted;
            }
        }
    }

    /// Brings what is built to the live one's vector, but for sources that are `gone`, and keeps the live one there.
    pub(super) async fn meet(
        &self,
        live: &Generation,
        built: &Arc<GenerationStore>,
        gone: &Gone,
    ) -> Result<Frozen, RebuildError> {
        let template = self.projection.template;
        let started = Instant::now();
        while started.elapsed() < MEET_WAIT_MAX {
            self.tell_phase(Phase::Comparing).await?;
            // what has come meanwhile, while the live one goes on
            let here = self.vector().await?;
            let there = self.database.vector(template, live.generation).await?;
            let is_near = self.close_gap(built, &here, &self.followed(&there, gone), MEET_WAIT_MAX).await?;
            if !is_near {
                // a service does not answer, say: nobody is to stand still for it
                sleep(MEET_PAUSE).await;
                continue;
            }
            // what is parked by then waits for the next rebuild: nobody is to stand still for it
            parking::settle(built, &self.feeds).await?;

            let frozen = self.database.freeze(template, live.generation).await?;
            let is_followed = live.version == self.generation.version && gone.0.is_empty();
            let patient = is_followed || started.elapsed() < FAN_OUT_WAIT_MAX;
            let is_settled = frozen.open_fan_outs == 0 || !patient;
            let met = match self.vector().await {
                Ok(here) if is_settled => {
                    let there = self.followed(&frozen.vector, gone);
                    match gap(&here, &there) <= GAP_EVENTS_MAX {
                        true => self.close_gap(built, &here, &there, GAP_WAIT_MAX).await,
                        false => Ok(false),
                    }
                }
                Ok(_) => Ok(false),
                Err(error) => Err(error.into()),
            };
            match met {
                Ok(true) => return Ok(frozen),
                Ok(false) => frozen.release().await,
                Err(error) => {
                    frozen.release().await;
                    return Err(error);
                }
            }
            sleep(MEET_PAUSE).await;
        }
        Err(RebuildError::NotMet { live: live.generation, built: built.generation(), wait_s: MEET_WAIT_MAX.as_secs() })
    }

    /// Follows from `here` exactly to `there`, of which every source is followed, without being held up by a throttle:
    /// somebody may be waiting. False if that takes too long; what waits for changed references may take `fan_outs_wait`.
    async fn close_gap(
        &self,
        built: &Arc<GenerationStore>,
        here: &Vector,
        there: &Vector,
        fan_outs_wait: Duration,
    ) -> Result<bool, RebuildError> {
        let started = Instant::now();
        if gap(here, there) > 0 {
            // sources that the live one does not follow are not in it, and stay where they are
            let options = FollowerOptions { until: Some(there.clone()), ..self.follower.clone() };
            let mut running = Running::start(Arc::clone(built), &self.feeds, options);
            let stopped = timeout(GAP_WAIT_MAX, running.follower.stopped()).await;
            let status = running.follower.status();
            running.stop(STOP_WAIT_MAX).await;
            if let Some((source, reason)) = status.stuck() {
                return Err(self.stuck(format!("{source}: {reason}")));
            }
            match stopped {
                Ok(StopReason::Reached) => {}
                Ok(StopReason::Fenced) => return Err(RebuildError::Interrupted),
                Ok(_) | Err(_) => return Ok(false),
            }
        }
        match finish_fan_outs(built, started + fan_outs_wait).await {
            Ok(are_finished) => Ok(are_finished),
            Err(ApplyError::Fenced) => Err(RebuildError::Interrupted),
            Err(ApplyError::Moved) => Ok(false),
            Err(ApplyError::Unavailable(cause)) => Err(RebuildError::Unavailable(cause.to_string())),
            Err(error) => Err(EngineError::Damaged(error.to_string()).into()),
        }
    }
}

/// Advances fan-outs, to their end or until `deadline`; the follower of this store has stopped. Whether it was their end.
async fn finish_fan_outs(store: &GenerationStore, deadline: Instant) -> Result<bool, ApplyError> {
    while store.advance_fan_outs().await? {
        if Instant::now() >= deadline {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Events between two vectors, of the sources of the second.
fn gap(here: &Vector, there: &Vector) -> u64 {
    there.iter().map(|(source, goal)| goal.position.saturating_sub(here.get(source).position)).sum()
}
