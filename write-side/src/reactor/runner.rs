//! Does duties that are due: one task that looks, and one for each duty under way.
//!
//! What ends while the one task is busy is settled together afterwards, so that a burst costs few commits.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use event_store::{feed::Feed, follower::ApplyError};
use measures::Counts;
use tokio::{
    sync::watch,
    task::{Id, JoinError, JoinSet},
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, Span};

use super::{
    Acted, Attempt, Due, Reaction, ReactorOptions,
    duty::{DueNow, Duty, Settled},
    event_of, key_of_part,
    store::DutyStore,
};

/// How long duties under way may take to end when the reactor does.
const DRAIN_WAIT_MAX: Duration = Duration::from_secs(5);

pub struct Runner {
    reaction: Arc<dyn Reaction>,
    store: Arc<DutyStore>,
    feeds: Vec<Arc<dyn Feed>>,
    options: ReactorOptions,
    stop: CancellationToken,
    /// The fence that this process took last.
    held: watch::Receiver<Option<u64>>,
    attempts: Arc<Counts<Attempt>>,
}

/// Duties under way: the set and, by task, what each is about.
#[derive(Default)]
struct UnderWay {
    tasks: JoinSet<Acted>,
    duties: HashMap<Id, Duty>,
    lanes: HashSet<(String, String)>,
    /// When it was last seen to that nothing waits for too long.
    hurried_at: Option<Instant>,
}

/// Says that nobody acts any more, in whichever way that came: another process is to take over then.
struct End {
    store: Arc<DutyStore>,
    stop: CancellationToken,
}

impl Drop for End {
    fn drop(&mut self) {
        if !self.stop.is_cancelled() {
            self.store.abandoned.store(true, Ordering::Relaxed);
        }
    }
}

type Ended = Result<(Id, Acted), JoinError>;

impl UnderWay {
    /// What became of a duty; a panic is our bug and a failed attempt, and the others go on.
    fn ended(&mut self, ended: Ended) -> Option<(Duty, Acted)> {
        let (id, acted) = match ended {
            Ok(ended) => ended,
            Err(error) => {
                tracing::error!(%error, "a duty panicked");
                (error.id(), Acted::Failed("it panicked".to_owned()))
            }
        };
        let duty = self.duties.remove(&id)?;
        self.lanes.remove(&lane_of(&duty));
        Some((duty, acted))
    }
}

impl Runner {
    pub fn new(
        reaction: Arc<dyn Reaction>,
        store: Arc<DutyStore>,
        feeds: Vec<Arc<dyn Feed>>,
        options: ReactorOptions,
        stop: CancellationToken,
    ) -> Self {
        let held = store.fence.subscribe();
        Self { reaction, store, feeds, options, stop, held, attempts: Arc::default() }
    }

    /// What became of what was tried; it goes on counting.
    pub fn attempts(&self) -> Arc<Counts<Attempt>> {
        Arc::clone(&self.attempts)
    }

    /// Acts whenever this process holds the fence, until it is to stop.
    pub async fn run(mut self) {
        let _end = End { store: Arc::clone(&self.store), stop: self.stop.clone() };
        let mut lost = None;
        while let Some(fence) = self.taken_after(lost).await {
            match self.act_under(fence).await {
                Ok(()) => return,
                Err(ApplyError::Fenced) => lost = Some(fence),
                Err(error) => {
                    tracing::error!(reactor = self.reaction.name(), %error, "the reactor acts no more");
                    return;
                }
            }
        }
    }

    /// The fence, once this process has taken it (again). `None`: it is to stop.
    async fn taken_after(&mut self, lost: Option<u64>) -> Option<u64> {
        tokio::select! {
            held = self.held.wait_for(|held| *held > lost) => held.ok().and_then(|held| *held),
            () = self.stop.cancelled() => None,
        }
    }

    async fn act_under(&self, fence: u64) -> Result<(), ApplyError> {
        let mut under_way = UnderWay::default();
        let ended = self.look_and_act(fence, &mut under_way).await;
        if let Err(error) = &ended {
            tracing::warn!(reactor = self.reaction.name(), %error, "nothing more is begun under this fence");
        }
        if timeout(DRAIN_WAIT_MAX, self.drain(fence, &mut under_way)).await.is_err() {
            tracing::warn!(
                reactor = self.reaction.name(),
                "duties under way did not end in time and will be done anew"
            );
        }
        ended
    }

    /// Ends when it is to stop, or when somebody else holds the fence.
    async fn look_and_act(&self, fence: u64, under_way: &mut UnderWay) -> Result<(), ApplyError> {
        loop {
            let wait = match self.due(fence, under_way).await {
                Ok(due) => {
                    let wait = self.until(&due);
                    due.duties.into_iter().for_each(|duty| self.begin(duty, under_way));
                    wait
                }
                Err(ApplyError::Unavailable(cause)) => {
                    tracing::warn!(reactor = self.reaction.name(), %cause, "duties cannot be read now");
                    self.options.hindered_wait
                }
                Err(error) => return Err(error),
            };
            tokio::select! {
                () = self.stop.cancelled() => return Ok(()),
                () = self.store.noted.notified() => {}
                () = sleep(wait) => {}
                Some(ended) = under_way.tasks.join_next_with_id() => self.settle(fence, ended, under_way).await?,
            }
        }
    }

    /// What can be begun now: due, and neither it nor its lane under way.
    async fn due(&self, fence: u64, under_way: &mut UnderWay) -> Result<DueNow, ApplyError> {
        let room = self.options.in_flight_max.saturating_sub(under_way.tasks.len());
        if room == 0 {
            return Ok(DueNow::default());
        }
        let now = self.options.clock.now();
        if under_way.hurried_at.is_none_or(|at| at.elapsed() >= self.options.look_every) {
            // when the clock goes back, what was due at once is not so for a long time: no wait is to be longer than the
            // longest there is
            let longest = self.options.backoff.max.max(self.options.hindered_wait);
            self.store.duties.hurry(fence, now, now + longest).await?;
            under_way.hurried_at = Some(Instant::now());
        }
        // those under way are among the first that are due
        let mut due = self.store.duties.due(fence, now, room + under_way.tasks.len()).await?;
        let mut lanes = under_way.lanes.clone();
        due.duties.retain(|duty| lanes.insert(lane_of(duty)));
        due.duties.truncate(room);
        Ok(due)
    }

    fn until(&self, due: &DueNow) -> Duration {
        let until = due.next.map(|next| (next - self.options.clock.now()).to_std().unwrap_or_default());
        until.unwrap_or(self.options.look_every).clamp(Duration::from_millis(1), self.options.look_every)
    }

    fn begin(&self, duty: Duty, under_way: &mut UnderWay) {
        let (reaction, options) = (Arc::clone(&self.reaction), self.options.clone());
        let feed = self.feeds.iter().find(|feed| **feed.source() == *duty.id.source).cloned();
        under_way.lanes.insert(lane_of(&duty));
        let doing = duty.clone();
        let task = under_way.tasks.spawn(async move { act(&*reaction, feed, &doing, &options).await });
        under_way.duties.insert(task.id(), duty);
    }

    /// Stores what became of a duty and of all others that have ended by now.
    async fn settle(&self, fence: u64, first: Ended, under_way: &mut UnderWay) -> Result<(), ApplyError> {
        let mut settled = Settled::default();
        let mut next = Some(first);
        while let Some(ended) = next {
            if let Some((duty, acted)) = under_way.ended(ended) {
                self.became(duty, acted, &mut settled);
            }
            next = under_way.tasks.try_join_next_with_id();
        }
        match self.store.duties.settle(fence, settled).await {
            Ok(()) => Ok(()),
            // they are still noted, and looked after when they are found again
            Err(ApplyError::Unavailable(cause)) => {
                tracing::warn!(reactor = self.reaction.name(), %cause, "what became of duties cannot be stored now");
                sleep(self.options.hindered_wait).await;
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    fn became(&self, duty: Duty, acted: Acted, settled: &mut Settled) {
        self.attempts.one_more(Attempt::from(&acted));
        let later = |wait: Duration| self.options.clock.now() + wait;
        settled.put_off.push(match acted {
            Acted::Done => return settled.done.push(duty.id),
            Acted::NotBefore(due_at) => Duty { due_at, ..duty },
            Acted::Hindered(reason) => Duty { due_at: later(self.options.hindered_wait), reason: Some(reason), ..duty },
            Acted::Failed(reason) => {
                let attempts = duty.attempts.saturating_add(1);
                Duty { due_at: later(self.options.backoff.after(attempts)), attempts, reason: Some(reason), ..duty }
            }
        });
    }

    /// Lets what is under way end.
    async fn drain(&self, fence: u64, under_way: &mut UnderWay) {
        while let Some(ended) = under_way.tasks.join_next_with_id().await {
            if let Err(error) = self.settle(fence, ended, under_way).await {
                tracing::debug!(reactor = self.reaction.name(), %error, "what was under way is somebody else's to do");
            }
        }
    }
}

fn lane_of(duty: &Duty) -> (String, String) {
    (duty.id.source.clone(), duty.lane.clone())
}

async fn act(reaction: &dyn Reaction, feed: Option<Arc<dyn Feed>>, duty: &Duty, options: &ReactorOptions) -> Acted {
    let Some(feed) = feed else { return Acted::Hindered(format!("{} is not followed any more", duty.id.source)) };
    let event = match event_of(&*feed, duty).await {
        Ok(event) => event,
        Err(reason) => return Acted::Hindered(reason),
    };
    let (part, attempt) = (duty.id.part, duty.attempts.saturating_add(1));
    let key = key_of_part(reaction.name(), event.event_id, part);
    let due = Due { source: feed.source().clone(), event, part, key, attempt, now: options.clock.now() };
    let span = span(reaction.name(), &due);
    let acted = reaction.act(&due).instrument(span.clone()).await;
    span.in_scope(|| log(&due, &acted));
    acted
}

/// Every line of an attempt is in the conversation that the event belongs to, and says which event that is.
fn span(reactor: &'static str, due: &Due) -> Span {
    let metadata = due.event.metadata().unwrap_or_default();
    let (correlation_id, causation_id) = (metadata.correlation_id, due.event.event_id);
    // at the highest level, so that no filter takes the ids from the lines that it lets through
    tracing::error_span!("duty", reactor, correlation_id, %causation_id)
}

fn log(due: &Due, acted: &Acted) {
    let Due { source, event, part, attempt, .. } = due;
    let place = format!("{source} at {}, part {part}", event.position);
    match acted {
        Acted::Done | Acted::NotBefore(_) => {}
        Acted::Hindered(reason) => tracing::debug!(place, reason, "a duty is hindered"),
        Acted::Failed(reason) => tracing::warn!(place, attempt, reason, "a duty failed and is tried again"),
    }
}
