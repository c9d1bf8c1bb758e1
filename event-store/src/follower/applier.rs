//! Applies what the readers have read ahead: one step at a time, so that the store never sees two at once.

use std::{collections::HashSet, sync::Arc};

use events::envelope::{Name, RecordedEvent, StreamId};
use tokio::time::sleep;

use super::{
    Shared,
    checkpoint::{Checkpoint, Vector},
    options::FollowerOptions,
    queue::{ReadAhead, Taken},
    status::{HaltReason, StopReason},
    store::{Acquired, ApplyError, FollowerStore, ParkedStream, PoisonEvent, Step, StoreError},
    tenure::Beating,
};
use crate::failpoint;

pub(super) struct Applier {
    pub store: Arc<dyn FollowerStore>,
    pub options: Arc<FollowerOptions>,
    pub shared: Arc<Shared>,
    pub sources: Vec<Source>,
    pub fence: u64,
    pub vector: Vector,
    /// How often in a row the checkpoint was found elsewhere.
    pub moved: u32,
    /// While the fence is ours, and this program is of use to it.
    pub beating: Option<Beating>,
}

pub(super) struct Source {
    pub name: Name,
    pub queue: Arc<ReadAhead>,
    pub parked: Vec<ParkedStream>,
    pub parked_streams: HashSet<StreamId>,
    /// Where an event of it could not be applied: it stands still until the follower is started anew, or another has
    /// brought the store past it.
    pub halted: Option<Halted>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Halted {
    position: u64,
    /// A newer program would know what to do.
    too_old: bool,
}

/// Which sources are read again in any case.
#[derive(Debug, Clone, Copy)]
pub(super) enum Anew {
    /// At the start of a tenure: what was read ahead may be taken out already.
    All,
    /// The one that was found elsewhere.
    Source(usize),
    /// None but those that stand elsewhere.
    Moved,
}

/// How far a step came.
struct Applied {
    events: usize,
    parking: Vec<ParkedStream>,
    halt: Option<HaltReason>,
}

impl Applier {
    /// Runs until the follower stops. A step in progress is finished, whatever else happens: dropping a store's
    /// transaction half-way is left to the end of the process.
    pub async fn run(&mut self) -> StopReason {
        match self.follow().await {
            Ok(never) => match never {},
            Err(reason) => reason,
        }
    }

    async fn follow(&mut self) -> Result<std::convert::Infallible, StopReason> {
        loop {
            let acquired = self.ask_store(Ask::Acquire).await?;
            self.take_over(acquired);
            self.beating = self.options.lease.filter(|_| !self.is_too_old()).map(|lease| Beating::start(self, lease));
            let Err(reason) = self.hold().await;
            self.beating = None;
            match (reason, self.options.lease) {
                (StopReason::Fenced, Some(lease)) => self.stand_by(lease).await?,
                (reason, _) => return Err(reason),
            }
        }
    }

    /// Whether a newer program would come further than this one.
    pub fn is_too_old(&self) -> bool {
        self.sources.iter().any(|source| source.halted.is_some_and(|halted| halted.too_old))
    }

    /// Applies what comes, while the fence is ours.
    async fn hold(&mut self) -> Result<std::convert::Infallible, StopReason> {
        let mut next = 0;
        loop {
            if let Some(reason) = self.shared.take_fatal() {
                return Err(StopReason::Bug(reason));
            }
            if self.shared.take_look_again() {
                self.reload(Anew::Moved).await?;
            }
            if self.options.until.as_ref().is_some_and(|until| self.vector.reaches(until)) {
                return Err(StopReason::Reached);
            }
            // in turn, so that a busy source does not starve the others
            let count = self.sources.len();
            let ready = (0..count).map(|n| (next + n) % count).find(|&n| self.sources[n].queue.is_ready());
            match ready {
                Some(index) => {
                    self.step(index).await?;
                    next = index + 1;
                }
                // what was read ahead is applied before the end
                None if self.shared.cancel.is_cancelled() => return Err(StopReason::Shutdown),
                None => tokio::select! {
                    () = self.shared.ready.notified() => {}
                    () = self.shared.cancel.cancelled() => {}
                    () = sleep(self.options.fence_check) => self.look().await?,
                },
            }
        }
    }

    /// Looks whether the store is still ours. That it does not answer now is no news for who has nothing to write.
    async fn look(&self) -> Result<(), StopReason> {
        match self.store.fence().await {
            Ok(fence) if fence != self.fence => Err(StopReason::Fenced),
            Ok(_) | Err(StoreError::Unavailable(_)) => Ok(()),
            Err(StoreError::Bug(reason)) => Err(StopReason::Bug(reason)),
        }
    }

    async fn step(&mut self, index: usize) -> Result<(), StopReason> {
        let source = &self.sources[index];
        let Some(taken) = source.queue.take(self.options.batch_events_max, self.options.batch_bytes_max) else {
            return Ok(());
        };
        let from = self.vector.get(&source.name);
        let positions = taken.events.iter().map(|event| event.position);
        if !taken.jump && !positions.eq(from.position + 1..=taken.end.position) {
            let reason = format!("events of {} do not follow position {}", source.name, from.position);
            return Err(StopReason::Bug(reason));
        }
        let Some(applied) = self.apply(source, from, &taken).await? else {
            return self.moved(index).await;
        };
        self.moved = 0;
        self.commit(index, from, &taken, applied);
        failpoint!("follower.after_apply", StopReason::Failpoint("follower.after_apply"));
        Ok(())
    }

    /// Brings the step into the store, less what cannot be: poison streams are parked, and an unknown event cuts the
    /// step short. `None`: the checkpoint was elsewhere.
    ///
    /// Every turn of the loop parks a stream, cuts the step or waits for the store, so it ends.
    async fn apply(&self, source: &Source, from: Checkpoint, taken: &Taken) -> Result<Option<Applied>, StopReason> {
        let (mut count, mut failures, mut parking, mut halt) = (taken.events.len(), 0, Vec::new(), None);
        loop {
            let events = &taken.events[..count];
            if events.is_empty() && halt.is_some() {
                return Ok(Some(Applied { events: 0, parking, halt }));
            }
            let diverted = source.diverted(events, &parking);
            let step = Step {
                fence: self.fence,
                source: &source.name,
                from,
                to: end_of(taken, count),
                events,
                diverted: &diverted,
                parking: &parking,
                head: &taken.head,
            };
            failpoint!("follower.before_apply", StopReason::Failpoint("follower.before_apply"));
            match self.store.apply(&step).await {
                Ok(()) => {
                    self.shared.store_answered();
                    return Ok(Some(Applied { events: count, parking, halt }));
                }
                Err(ApplyError::Moved) => return Ok(None),
                Err(ApplyError::Fenced) => return Err(StopReason::Fenced),
                Err(ApplyError::Bug(reason)) => return Err(StopReason::Bug(reason)),
                Err(ApplyError::Unavailable(cause)) => {
                    failures += 1;
                    self.unavailable(&cause.to_string(), failures).await?;
                }
                Err(ApplyError::UnknownEventType { position, event_type, event_version }) => {
                    count = index_of(&step, position)?;
                    parking.retain(|stream: &ParkedStream| stream.position < position);
                    halt = Some(HaltReason::UnknownEventType { position, event_type, event_version });
                }
                Err(ApplyError::Poison(mut poison)) => {
                    poison.sort_by_key(|event| event.position);
                    let mut more = Vec::new();
                    for PoisonEvent { position, reason } in poison {
                        let index = index_of(&step, position)?;
                        let event = &events[index];
                        if diverted.contains(&index) {
                            return Err(StopReason::Bug(format!("the store folded position {position}: it is parked")));
                        }
                        if more.iter().any(|stream: &ParkedStream| stream.stream == event.stream) {
                            continue;
                        }
                        let parked = source.parked.len() + parking.len() + more.len();
                        if parked >= self.options.parked_streams_max {
                            count = index;
                            halt = Some(HaltReason::Poison { position, reason, parked });
                            break;
                        }
                        more.push(ParkedStream {
                            source: source.name.clone(),
                            stream: event.stream.clone(),
                            position,
                            event_id: event.event_id,
                            reason,
                        });
                    }
                    if more.is_empty() && halt.is_none() {
                        return Err(StopReason::Bug("the store reported poison, but no event".to_owned()));
                    }
                    parking.append(&mut more);
                    // what a cut step no longer holds, it does not park
                    let end = events[..count].last().map_or(0, |event| event.position);
                    parking.retain(|stream| stream.position <= end);
                }
            }
        }
    }

    /// Keeps in mind what is in the store now, and says so.
    fn commit(&mut self, index: usize, from: Checkpoint, taken: &Taken, applied: Applied) {
        let Applied { events, parking, halt } = applied;
        let source = &mut self.sources[index];
        let moved = halt.is_none() || events > 0;
        let checkpoint = if moved { end_of(taken, events) } else { from };
        self.vector.set(source.name.clone(), checkpoint);
        for stream in &parking {
            tracing::warn!(
                follower = %self.shared.name, source = %source.name, stream = %stream.stream,
                position = stream.position, reason = %stream.reason, "stream parked"
            );
            source.parked_streams.insert(stream.stream.clone());
        }
        let parked_more = !parking.is_empty();
        source.parked.extend(parking);
        match halt {
            None => source.queue.done(),
            Some(reason) => {
                let too_old = matches!(reason, HaltReason::UnknownEventType { .. });
                source.halted = Some(Halted { position: checkpoint.position + 1, too_old });
                source.queue.close();
                self.shared.halt(&source.name, reason);
                if too_old {
                    // it goes on with the other sources, but stands in nobody's way: a newer program may stand by
                    self.beating = None;
                }
            }
        }
        let source = &self.sources[index];
        let parked =
            parked_more.then(|| self.sources.iter().flat_map(|source| source.parked.iter().cloned()).collect());
        self.shared.applied(&source.name, checkpoint, events, source.queue.load(), parked);
    }

    async fn moved(&mut self, index: usize) -> Result<(), StopReason> {
        self.moved += 1;
        if self.moved > self.options.moved_max {
            return Err(StopReason::Bug(format!("the checkpoint was found elsewhere {} times in a row", self.moved)));
        }
        self.reload(Anew::Source(index)).await
    }

    /// Looks where the store stands, under our own fence.
    async fn reload(&mut self, anew: Anew) -> Result<(), StopReason> {
        let acquired = self.ask_store(Ask::Reload).await?;
        if acquired.fence != self.fence {
            return Err(StopReason::Fenced);
        }
        self.go_on_from(acquired, anew);
        self.say_where(Some(self.fence));
        Ok(())
    }

    /// The fence is ours.
    fn take_over(&mut self, acquired: Acquired) {
        (self.fence, self.moved) = (acquired.fence, 0);
        self.go_on_from(acquired, Anew::All);
        self.say_where(Some(self.fence));
    }

    /// Goes on from what the store holds, and reads from there again what stands elsewhere than we thought.
    pub fn go_on_from(&mut self, acquired: Acquired, anew: Anew) {
        for (index, source) in self.sources.iter_mut().enumerate() {
            let here = acquired.vector.get(&source.name);
            source.parked = acquired.parked.iter().filter(|parked| parked.source == source.name).cloned().collect();
            source.parked_streams = source.parked.iter().map(|parked| parked.stream.clone()).collect();
            let again = match anew {
                Anew::All => true,
                Anew::Source(elsewhere) => elsewhere == index,
                Anew::Moved => false,
            };
            if source.halted.is_some_and(|halted| halted.position <= here.position) {
                // whoever held the fence meanwhile knew what to do
                source.halted = None;
                self.shared.goes_on(&source.name);
            }
            if (again || self.vector.get(&source.name) != here) && source.halted.is_none() {
                source.queue.reset(here);
            }
        }
        self.vector = acquired.vector;
    }

    /// For the status: where the store stands, and under which fence of ours.
    pub fn say_where(&self, fence: Option<u64>) {
        let parked = self.sources.iter().flat_map(|source| source.parked.iter().cloned()).collect();
        self.shared.took_over(fence, &self.vector, parked);
    }

    /// Takes the fence, or looks again, as long as it takes.
    async fn ask_store(&self, ask: Ask) -> Result<Acquired, StopReason> {
        let mut failures = 0;
        loop {
            let answer = match ask {
                Ask::Acquire => self.store.acquire().await,
                Ask::Reload => self.store.reload().await,
            };
            match answer {
                Ok(acquired) => {
                    self.shared.store_answered();
                    return Ok(acquired);
                }
                Err(StoreError::Bug(reason)) => return Err(StopReason::Bug(reason)),
                Err(StoreError::Unavailable(cause)) => {
                    failures += 1;
                    self.unavailable(&cause.to_string(), failures).await?;
                }
            }
        }
    }

    async fn unavailable(&self, cause: &str, failures: u32) -> Result<(), StopReason> {
        self.shared.store_failed(cause);
        tokio::select! {
            () = sleep(self.options.backoff.after(failures)) => Ok(()),
            () = self.shared.cancel.cancelled() => Err(StopReason::Shutdown),
        }
    }
}

#[derive(Clone, Copy)]
enum Ask {
    Acquire,
    Reload,
}

impl Source {
    pub fn new(name: Name, queue: Arc<ReadAhead>) -> Self {
        Self { name, queue, parked: Vec::new(), parked_streams: HashSet::new(), halted: None }
    }

    /// Which of `events` wait, because their stream is parked or is about to be.
    fn diverted(&self, events: &[RecordedEvent], parking: &[ParkedStream]) -> Vec<usize> {
        if self.parked_streams.is_empty() && parking.is_empty() {
            return Vec::new();
        }
        let waits = |event: &RecordedEvent| {
            self.parked_streams.contains(&event.stream)
                || parking.iter().any(|parked| parked.position <= event.position && parked.stream == event.stream)
        };
        events.iter().enumerate().filter(|(_, event)| waits(event)).map(|(index, _)| index).collect()
    }
}

/// Where the checkpoint stands once the first `count` events are applied.
fn end_of(taken: &Taken, count: usize) -> Checkpoint {
    if count == taken.events.len() {
        return Checkpoint::new(taken.epoch, taken.end);
    }
    Checkpoint::at(taken.epoch, &taken.events[count - 1])
}

/// Where in the step the store's complaint about `position` belongs.
fn index_of(step: &Step<'_>, position: u64) -> Result<usize, StopReason> {
    let index = position.checked_sub(step.from.position + 1).and_then(|index| usize::try_from(index).ok());
    index.filter(|index| *index < step.events.len()).ok_or_else(|| {
        StopReason::Bug(format!("the store complained of position {position}, which is not in its step"))
    })
}
