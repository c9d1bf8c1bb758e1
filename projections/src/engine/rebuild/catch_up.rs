//! The building generation reads what there is, at the pace it is told, and says how far it is: it is loaded, and then
//! followed into.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use event_store::{
    clock::{Clock, SystemClock},
    follower::{FollowerOptions, Status, StopReason, Vector},
};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::{
    super::{
        load::{Hindrance, Load, LoadError, LoadOptions, Loaded},
        query_database::Figures,
        running::Running,
        store::GenerationStore,
    },
    Phase, Rebuild, RebuildError, STOP_WAIT_MAX,
};

/// Between two looks at the progress, and at what operators wish.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(200);

/// What the rate is the mean of.
const RATE_WINDOW: Duration = Duration::from_secs(10);

impl Rebuild {
    /// Loads and follows until every source's head is applied, or exactly to `until`.
    pub(super) async fn catch_up(
        &self,
        store: &Arc<GenerationStore>,
        until: Option<&Vector>,
    ) -> Result<(), RebuildError> {
        let mut rate = Rate::default();
        self.load(store, until, &mut rate).await?;
        let options = FollowerOptions { until: until.cloned(), ..self.follower.clone() };
        let mut building = Running::start_paced(Arc::clone(store), &self.feeds, options, Arc::clone(&self.pace));
        let ended = self.watch(&building, until, &mut rate).await;
        if ended.is_err() {
            // what was read ahead is not worth waiting for
            self.pace.close();
        }
        building.stop(STOP_WAIT_MAX).await;
        ended
    }

    /// Fills an empty generation with what there is now, or goes on with that; what is left is followed.
    async fn load(
        &self,
        store: &Arc<GenerationStore>,
        until: Option<&Vector>,
        rate: &mut Rate,
    ) -> Result<(), RebuildError> {
        let told = self.progress.borrow().clone();
        let loaded = Mutex::new(Loaded { events_done: told.events_done, events_total: told.events_total });
        let (cancel, hindrance) = (CancellationToken::new(), Hindrance::default());
        let options = LoadOptions { memory_bytes: self.memory_bytes, batch_events_max: self.follower.batch_events_max };
        let load = Load {
            store,
            feeds: &self.feeds,
            options: &options,
            backoff: self.follower.backoff,
            until,
            pace: &self.pace,
            hindrance: &hindrance,
            cancel: &cancel,
        };
        let loading = load.run(|now| *loaded.lock().expect("no panic while held") = now);
        tokio::pin!(loading);
        let ended = loop {
            if let Ok(ended) = timeout(PROGRESS_INTERVAL, &mut loading).await {
                break ended;
            }
            let now = *loaded.lock().expect("no panic while held");
            let figures = self.figures(now.events_done, now.events_total, rate);
            // the load goes on meanwhile: it may have, or be the next to get, the one connection that telling waits for
            let tell = async {
                if let Some(why) = hindrance.take() {
                    self.is_hindered(&why).await;
                }
                self.tell(figures).await
            };
            let (told, ended) = beside(tell, loading.as_mut()).await;
            if let Err(error) = told {
                cancel.cancel();
                if ended.is_none() {
                    // it ends between two statements
                    let _ = loading.await;
                }
                return Err(error);
            }
            if let Some(ended) = ended {
                break ended;
            }
        };
        let (projection, generation) = (self.projection.template.name, self.generation.generation);
        ended.map_err(|error| match error {
            LoadError::Cancelled | LoadError::Fenced => RebuildError::Interrupted,
            LoadError::Bug(reason) => RebuildError::Stuck { projection, generation, reason },
            LoadError::Failpoint(name) => RebuildError::Failpoint(name),
        })
    }

    async fn watch(&self, building: &Running, until: Option<&Vector>, rate: &mut Rate) -> Result<(), RebuildError> {
        loop {
            let ended = timeout(PROGRESS_INTERVAL, async {
                tokio::select! {
                    caught_up = building.follower.caught_up(), if until.is_none() => match caught_up {
                        Ok(_) => Ok(()),
                        Err(_) => Err(building.follower.stopped().await),
                    },
                    stopped = building.follower.stopped() => match stopped {
                        StopReason::Reached => Ok(()),
                        reason => Err(reason),
                    },
                    () = self.cancel.cancelled() => Ok(()),
                }
            })
            .await;
            let status = building.follower.status();
            let events_done: u64 = status.vector.iter().map(|(_, checkpoint)| checkpoint.position).sum();
            let events_total = match until {
                Some(until) => until.iter().map(|(_, checkpoint)| checkpoint.position).sum::<u64>().max(events_done),
                None => status.lag_events() + events_done,
            };
            let figures = if status.fence.is_some() {
                self.figures(events_done, events_total, rate)
            } else {
                // it does not know yet where it stands
                let told = self.progress.borrow();
                let (events_done, events_total, events_per_s) =
                    (told.events_done, told.events_total, told.events_per_s);
                Figures { phase: Phase::CatchingUp, events_done, events_total, events_per_s }
            };
            if let Some(why) = &status.store_failure {
                self.is_hindered(why).await;
            }
            self.tell(figures).await?;
            match ended {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(reason)) => return Err(self.stopped(&reason)),
                Err(_) => {}
            }
            if let Some((source, reason)) = status.stuck() {
                return Err(self.stuck(format!("{source}: {reason}")));
            }
            if let Some(until) = until {
                stays_reachable(&status, until)?;
            }
        }
    }

    /// One that was taken over from has nothing to say of the rebuild any more: whoever has taken over goes on.
    fn stopped(&self, reason: &StopReason) -> RebuildError {
        match reason {
            StopReason::Fenced | StopReason::Shutdown | StopReason::Aborted => RebuildError::Interrupted,
            StopReason::Failpoint(name) => RebuildError::Failpoint(name),
            reason => self.stuck(reason.to_string()),
        }
    }

    pub(super) fn stuck(&self, reason: String) -> RebuildError {
        let (projection, generation) = (self.projection.template.name, self.generation.generation);
        RebuildError::Stuck { projection, generation, reason }
    }

    fn figures(&self, events_done: u64, events_total: u64, rate: &mut Rate) -> Figures {
        let events_per_s = rate.add(Instant::now(), events_done);
        self.progress.send_modify(|progress| {
            progress.events_done = events_done;
            progress.events_total = events_total;
            progress.events_per_s = events_per_s;
            progress.progressed_at_us = SystemClock.now().timestamp_micros();
        });
        Figures { phase: Phase::CatchingUp, events_done, events_total, events_per_s }
    }
}

/// That no log ends in front of what is to be reached: one that does was restored from an older copy since it was known how
/// far the live generation is, and would be waited for until it is as long again, with other events.
fn stays_reachable(status: &Status, until: &Vector) -> Result<(), RebuildError> {
    for (source, status) in &status.sources {
        let (position, head) = (until.get(source).position, status.head.as_ref().map(|head| head.position));
        if let Some(head) = head.filter(|head| *head < position) {
            return Err(RebuildError::Shortened { of: source.clone(), position, head });
        }
    }
    Ok(())
}

/// Waits for `one`, and lets `other` go on meanwhile; what `other` has ended in, if it has.
async fn beside<A, B>(one: impl Future<Output = A>, mut other: Pin<&mut impl Future<Output = B>>) -> (A, Option<B>) {
    tokio::pin!(one);
    let mut ended = None;
    loop {
        tokio::select! {
            biased;
            done = &mut one => return (done, ended),
            done = &mut other, if ended.is_none() => ended = Some(done),
        }
    }
}

/// Events a second over the last seconds.
#[derive(Default)]
struct Rate(VecDeque<(Instant, u64)>);

impl Rate {
    fn add(&mut self, now: Instant, done: u64) -> u64 {
        // a restart of the follower may begin before its checkpoint is known
        if self.0.back().is_some_and(|(_, before)| *before > done) {
            self.0.clear();
        }
        self.0.push_back((now, done));
        // the oldest that is kept is as old as the window, or a little older
        while self.0.get(1).is_some_and(|(at, _)| now.duration_since(*at) >= RATE_WINDOW) {
            self.0.pop_front();
        }
        let (since, before) = self.0.front().copied().unwrap_or((now, done));
        let elapsed_ms = u64::try_from(now.duration_since(since).as_millis()).unwrap_or(u64::MAX);
        ((done - before) * 1_000).checked_div(elapsed_ms).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_goes_on_beside_may_hold_what_is_waited_for() {
        let connection = tokio::sync::Mutex::new(());
        let other = async {
            let held = connection.lock().await;
            tokio::time::sleep(Duration::from_millis(50)).await;
            drop(held);
            let _next = connection.lock().await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        tokio::pin!(other);
        assert!(timeout(Duration::from_millis(10), &mut other).await.is_err(), "it holds the connection");
        let told = timeout(Duration::from_secs(5), beside(connection.lock(), other.as_mut())).await;
        drop(told.expect("whoever is waited for goes on"));
    }

    #[test]
    fn the_rate_is_that_of_the_last_seconds() {
        let (start, mut rate) = (Instant::now(), Rate::default());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(rate.add(at(0), 0), 0);
        assert_eq!(rate.add(at(1), 1_000), 1_000);
        for second in 2..=30 {
            rate.add(at(second), 1_000 + (second - 1) * 10);
        }
        assert_eq!(rate.add(at(31), 1_300), 10, "the first second is long ago");
    }

    #[test]
    fn a_rate_begins_anew_behind_a_restart() {
        let (start, mut rate) = (Instant::now(), Rate::default());
        rate.add(start, 500);
        assert_eq!(rate.add(start + Duration::from_secs(1), 0), 0);
        assert_eq!(rate.add(start + Duration::from_secs(2), 700), 700);
    }
}
