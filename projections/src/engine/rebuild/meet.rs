//! Both generations at one vector: what is compared is of one moment, and nobody is held up for longer than that.
//!
//! The built generation never passes the live one, so it only has to catch up. Most of the way it does so while the live
//! one goes on; for the last few events the live one is frozen, and goes on as soon as a snapshot has begun.

use std::{sync::Arc, time::Duration};

use event_store::{
    feed::{Cursor, FeedError, PageLimit},
    follower::{ApplyError, Checkpoint, FollowerOptions, StopReason, Vector},
};
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

/// Between two tries.
const MEET_PAUSE: Duration = Duration::from_millis(20);

/// Events that the built generation may be behind when the live one is frozen: they take some tens of milliseconds.
const GAP_EVENTS_MAX: u64 = 500;

/// How long they may take at most, before the live one goes on and it is tried again.
const GAP_WAIT_MAX: Duration = Duration::from_secs(3);

/// How long an older version's generation may have rows that wait for a changed reference: if nobody finishes them, they
/// are compared as they are.
const FAN_OUT_WAIT_MAX: Duration = Duration::from_secs(10);

/// What the built generation is to catch up to.
pub(super) enum Target {
    /// The live one's vector as it was, and what is known of sources that it does not follow.
    Until(Vector),
    /// The live one is of a history that is gone, and why.
    Gone(String),
}

impl Rebuild {
    pub(super) async fn target(&self, live: &Generation) -> Result<Target, RebuildError> {
        let vector = self.database.vector(self.projection.template, live.generation).await?;
        let mut vector = self.followed(&vector);
        for feed in self.feeds.iter().filter(|feed| self.projection.sources().contains(&&**feed.source())) {
            let is_followed = vector.iter().any(|(source, _)| source == feed.source());
            let at = if is_followed { vector.get(feed.source()).cursor() } else { Cursor::START };
            match feed.page(at, PageLimit::events(1), Duration::ZERO).await {
                Err(FeedError::Regressed { position, head, .. }) => {
                    return Ok(Target::Gone(format!(
                        "the log of {} was restored from an older copy: generation {} has folded an event at position \
                         {position} that is not there, the head is {head}",
                        feed.source(),
                        live.generation
                    )));
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
        Ok(Target::Until(vector))
    }

    /// As much of a vector as this program follows: a live generation of another version may know more sources.
    fn followed(&self, vector: &Vector) -> Vector {
        let sources = self.projection.sources();
        let mut followed = Vector::new();
        for (source, checkpoint) in vector.iter().filter(|(source, _)| sources.contains(&&***source)) {
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
        let frozen = self.meet(live, built).await?;
        let (vector, open_fan_outs) = (frozen.vector.clone(), frozen.open_fan_outs);
        let snapshot = self.database.snapshot(template, live.generation).await;
        frozen.release().await;
        let mut live_snapshot = snapshot?;
        // nobody else writes it
        let mut built_snapshot = self.database.snapshot(template, built.generation()).await?;
        let sides = ((live, &mut live_snapshot), (&self.generation, &mut built_snapshot));
        let compared = compare(template, sides.0, sides.1, &vector).await;
        live_snapshot.end().await;
        built_snapshot.end().await;
        let mut compared = compared?;
        if open_fan_outs > 0 {
            let note = format!("{open_fan_outs} changed references were not in all rows of the live generation yet");
            compared.notes.push(note);
        }
        Ok(compared)
    }

    /// Brings what is built to the live one's vector, and keeps the live one there.
    pub(super) async fn meet(&self, live: &Generation, built: &Arc<GenerationStore>) -> Result<Frozen, RebuildError> {
        let template = self.projection.template;
        let started = Instant::now();
        while started.elapsed() < MEET_WAIT_MAX {
            self.tell_phase(Phase::Comparing).await?;
            // what has come meanwhile, while the live one goes on
            let here = self.vector().await?;
            let there = self.database.vector(template, live.generation).await?;
            self.close_gap(built, &here, &there).await?;

            let frozen = self.database.freeze(template, live.generation).await?;
            let patient = live.version == self.generation.version || started.elapsed() < FAN_OUT_WAIT_MAX;
            let is_settled = frozen.open_fan_outs == 0 || !patient;
            let met = match self.vector().await {
                Ok(here) if is_settled && gap(&here, &self.followed(&frozen.vector)) <= GAP_EVENTS_MAX => {
                    self.close_gap(built, &here, &frozen.vector).await
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

    /// Follows from `here` exactly to `there`, without being held up by a throttle: somebody may be waiting. False if
    /// that takes too long.
    async fn close_gap(
        &self,
        built: &Arc<GenerationStore>,
        here: &Vector,
        there: &Vector,
    ) -> Result<bool, RebuildError> {
        if gap(here, &self.followed(there)) > 0 {
            // sources that the live one does not follow stay where they are
            let mut until = here.clone();
            there.iter().for_each(|(source, checkpoint)| until.set(source.clone(), *checkpoint));
            let until = self.followed(&until);
            let options = FollowerOptions { until: Some(until), ..self.follower.clone() };
            let mut running = Running::start(Arc::clone(built), &self.feeds, options);
            let stopped = timeout(GAP_WAIT_MAX, running.follower.stopped()).await;
            running.stop(STOP_WAIT_MAX).await;
            match stopped {
                Ok(StopReason::Reached) => {}
                Ok(StopReason::Fenced) => return Err(RebuildError::Interrupted),
                Ok(_) | Err(_) => return Ok(false),
            }
        }
        parking::settle(built, &self.feeds).await?;
        match finish_fan_outs(built).await {
            Ok(()) => Ok(true),
            Err(ApplyError::Fenced) => Err(RebuildError::Interrupted),
            Err(ApplyError::Moved) => Ok(false),
            Err(ApplyError::Unavailable(cause)) => Err(RebuildError::Unavailable(cause.to_string())),
            Err(error) => Err(EngineError::Damaged(error.to_string()).into()),
        }
    }
}

/// Advances fan-outs to their end; the follower of this store has stopped.
async fn finish_fan_outs(store: &GenerationStore) -> Result<(), ApplyError> {
    while store.advance_fan_outs().await? {}
    Ok(())
}

/// Events between two vectors, of the sources of the second.
fn gap(here: &Vector, there: &Vector) -> u64 {
    there.iter().map(|(source, goal)| goal.position.saturating_sub(here.get(source).position)).sum()
}
