//! Does duties that are due: one task that looks, and one for each duty under way.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use event_store::{feed::Feed, follower::ApplyError};
use tokio::{
    task::{Id, JoinError, JoinSet},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    Acted, Due, Reaction, ReactorOptions,
    duty::{DueNow, Duty},
    event_of, key_of,
    store::DutyStore,
};

/// How long duties under way may take to end when the reactor does.
const DRAIN_WAIT_MAX: Duration = Duration::from_secs(5);

pub struct Runner {
    pub reaction: Arc<dyn Reaction>,
    pub store: Arc<DutyStore>,
    pub feeds: Vec<Arc<dyn Feed>>,
    pub options: ReactorOptions,
    pub stop: CancellationToken,
}

/// Duties under way: the set and, by task, what each is about.
#[derive(Default)]
struct UnderWay {
    tasks: JoinSet<Result<(), ApplyError>>,
    duties: HashMap<Id, Duty>,
    streams: HashSet<(String, String)>,
}

impl Runner {
    pub async fn run(self) {
        let mut held = self.store.fence.subscribe();
        let fence = tokio::select! {
            held = held.wait_for(Option::is_some) => held.ok().and_then(|fence| *fence),
            () = self.stop.cancelled() => None,
        };
        let Some(fence) = fence else { return };
        let mut under_way = UnderWay::default();
        if let Err(error) = self.look_and_act(fence, &mut under_way).await {
            tracing::warn!(reactor = self.reaction.name(), %error, "the reactor acts no more");
        }
        let drain = async { while under_way.tasks.join_next().await.is_some() {} };
        if timeout(DRAIN_WAIT_MAX, drain).await.is_err() {
            tracing::warn!(
                reactor = self.reaction.name(),
                "duties under way did not end in time and will be done anew"
            );
        }
    }

    /// Ends when it is to stop, or when somebody else holds the fence.
    async fn look_and_act(&self, fence: u64, under_way: &mut UnderWay) -> Result<(), ApplyError> {
        loop {
            let wait = match self.due(fence, under_way).await {
                Ok(due) => {
                    let wait = self.until(&due);
                    due.duties.into_iter().for_each(|duty| self.begin(fence, duty, under_way));
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
                Some(ended) = under_way.tasks.join_next_with_id() => self.ended(fence, ended, under_way).await?,
            }
        }
    }

    /// What can be begun now: due, and neither it nor its stream under way.
    async fn due(&self, fence: u64, under_way: &UnderWay) -> Result<DueNow, ApplyError> {
        let room = self.options.in_flight_max.saturating_sub(under_way.tasks.len());
        if room == 0 {
            return Ok(DueNow::default());
        }
        let now = self.options.clock.now();
        // those under way are among the first that are due
        let mut due = self.store.duties.due(fence, now, room + under_way.tasks.len()).await?;
        let mut streams = under_way.streams.clone();
        due.duties.retain(|duty| streams.insert(stream_of(duty)));
        due.duties.truncate(room);
        Ok(due)
    }

    fn until(&self, due: &DueNow) -> Duration {
        let until = due.next.map(|next| (next - self.options.clock.now()).to_std().unwrap_or_default());
        until.unwrap_or(self.options.look_every).clamp(Duration::from_millis(1), self.options.look_every)
    }

    fn begin(&self, fence: u64, duty: Duty, under_way: &mut UnderWay) {
        let (reaction, store, options) = (Arc::clone(&self.reaction), Arc::clone(&self.store), self.options.clone());
        let feed = self.feeds.iter().find(|feed| **feed.source() == *duty.id.source).cloned();
        under_way.streams.insert(stream_of(&duty));
        let doing = duty.clone();
        let task = under_way.tasks.spawn(async move {
            let acted = act(&*reaction, feed, &doing, &options).await;
            settle(&store, fence, doing, acted, &options, reaction.name()).await
        });
        under_way.duties.insert(task.id(), duty);
    }

    async fn ended(
        &self,
        fence: u64,
        ended: Result<(Id, Result<(), ApplyError>), JoinError>,
        under_way: &mut UnderWay,
    ) -> Result<(), ApplyError> {
        let (id, outcome) = match ended {
            Ok((id, outcome)) => (id, Some(outcome)),
            Err(error) => (error.id(), None),
        };
        let Some(duty) = under_way.duties.remove(&id) else { return Ok(()) };
        under_way.streams.remove(&stream_of(&duty));
        let name = self.reaction.name();
        let outcome = match outcome {
            Some(outcome) => outcome,
            // our bug, and a failed attempt: the others go on
            None => {
                let acted = Acted::Failed("it panicked".to_owned());
                settle(&self.store, fence, duty, acted, &self.options, name).await
            }
        };
        match outcome {
            Ok(()) => Ok(()),
            // it is still noted, and looked after when it is found again
            Err(ApplyError::Unavailable(cause)) => {
                tracing::warn!(reactor = name, %cause, "what became of a duty cannot be stored now");
                sleep(self.options.hindered_wait).await;
                Ok(())
            }
            Err(error) => Err(error),
        }
    }
}

fn stream_of(duty: &Duty) -> (String, String) {
    (duty.id.source.clone(), duty.stream.clone())
}

async fn act(reaction: &dyn Reaction, feed: Option<Arc<dyn Feed>>, duty: &Duty, options: &ReactorOptions) -> Acted {
    let Some(feed) = feed else { return Acted::Hindered(format!("{} is not followed any more", duty.id.source)) };
    let event = match event_of(&*feed, duty).await {
        Ok(event) => event,
        Err(reason) => return Acted::Hindered(reason),
    };
    let key = key_of(reaction.name(), event.event_id);
    let attempt = duty.attempts.saturating_add(1);
    reaction.act(&Due { source: feed.source().clone(), event, key, attempt, now: options.clock.now() }).await
}

/// Stores what became of a duty.
async fn settle(
    store: &DutyStore,
    fence: u64,
    duty: Duty,
    acted: Acted,
    options: &ReactorOptions,
    name: &'static str,
) -> Result<(), ApplyError> {
    let Duty { id, attempts, .. } = &duty;
    let later = |wait: Duration| options.clock.now() + wait;
    let put_off = match acted {
        Acted::Done => return store.duties.done(fence, id).await,
        Acted::NotBefore(due_at) => Duty { due_at, ..duty },
        Acted::Hindered(reason) => {
            tracing::debug!(reactor = name, source = id.source, position = id.position, reason, "duty hindered");
            Duty { due_at: later(options.hindered_wait), reason: Some(reason), ..duty }
        }
        Acted::Failed(reason) => {
            let attempts = attempts.saturating_add(1);
            let (source, position) = (&id.source, id.position);
            tracing::warn!(reactor = name, source, position, attempts, reason, "a duty failed and is tried again");
            Duty { due_at: later(options.backoff.after(attempts)), attempts, reason: Some(reason), ..duty }
        }
    };
    store.duties.put_off(fence, &put_off).await
}
