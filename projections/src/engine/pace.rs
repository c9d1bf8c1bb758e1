//! How fast a generation is built: no faster than it is told, and not at all while it is paused.
//!
//! Whoever writes asks before each transaction, and waits for as long as its events may take: so a rebuild that is throttled
//! from its beginning is so from its first event on.

use std::{
    num::NonZeroU64,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use event_store::follower::{Acquired, ApplyError, FollowerStore, Step, StoreError};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

use super::store::GenerationStore;

/// The longest that one admission takes: a changed mind is heard at once, but no sum overflows.
const WAIT_MAX: Duration = Duration::from_secs(3_600);

/// Shared by who steers and who writes.
pub struct Pace {
    wish: watch::Sender<Wish>,
    paid: Mutex<Paid>,
}

#[derive(Debug, Clone, Copy)]
struct Paid {
    /// When what was admitted last may be over.
    until: Instant,
    /// Since when the next events wait. It outlives who asked and was dropped, or somebody who asks again and again would
    /// begin to wait each time.
    waiting_since: Option<Instant>,
}

impl Paid {
    fn up() -> Self {
        Self { until: Instant::now(), waiting_since: None }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Wish {
    paused: bool,
    events_per_s: Option<NonZeroU64>,
    /// The end is near: nothing more is written, and nobody is kept waiting.
    closed: bool,
}

impl Default for Pace {
    fn default() -> Self {
        let wish = Wish { paused: false, events_per_s: None, closed: false };
        Self { wish: watch::Sender::new(wish), paid: Mutex::new(Paid::up()) }
    }
}

impl Pace {
    /// Takes effect at once, also for who waits already.
    pub fn set(&self, paused: bool, events_per_s: Option<NonZeroU64>) {
        let changed = self.wish.send_if_modified(|wish| {
            let before = *wish;
            *wish = Wish { paused, events_per_s, ..before };
            *wish != before
        });
        if changed {
            *self.paid.lock().expect("no panic while held") = Paid::up();
        }
    }

    /// Admits nothing more, and keeps nobody waiting. What was read and not written is read again by whoever goes on.
    pub fn close(&self) {
        self.wish.send_modify(|wish| wish.closed = true);
    }

    /// Waits until so many events may be written; false: not any more. Cancel-safe.
    pub async fn admit(&self, events: usize) -> bool {
        let mut changes = self.wish.subscribe();
        loop {
            let wish = *changes.borrow_and_update();
            let due = match wish {
                Wish { closed: true, .. } => return false,
                Wish { paused: true, .. } => None,
                Wish { events_per_s: None, .. } => return true,
                Wish { events_per_s: Some(rate), .. } => Some(self.due(events, rate)),
            };
            tokio::select! {
                // the sender lives as long as self
                _ = changes.changed() => {}
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    let paid = Paid { until: due.expect("guarded"), waiting_since: None };
                    *self.paid.lock().expect("no panic while held") = paid;
                    return true;
                }
            }
        }
    }

    /// When so many events may be written.
    fn due(&self, events: usize, rate: NonZeroU64) -> Instant {
        let nanos = (events as u64).saturating_mul(1_000_000_000) / rate;
        let mut paid = self.paid.lock().expect("no panic while held");
        let begins_at = paid.until.max(Instant::now());
        *paid.waiting_since.get_or_insert(begins_at) + Duration::from_nanos(nanos).min(WAIT_MAX)
    }
}

/// A generation that is written at a pace.
pub(crate) struct Paced {
    pub store: Arc<GenerationStore>,
    pub pace: Arc<Pace>,
}

#[async_trait]
impl FollowerStore for Paced {
    async fn acquire(&self) -> Result<Acquired, StoreError> {
        self.store.acquire().await
    }

    async fn reload(&self) -> Result<Acquired, StoreError> {
        self.store.reload().await
    }

    async fn fence(&self) -> Result<u64, StoreError> {
        self.store.fence().await
    }

    async fn apply(&self, step: &Step<'_>) -> Result<(), ApplyError> {
        if !self.pace.admit(step.events.len()).await {
            return Err(ApplyError::Unavailable("the rebuild is interrupted".into()));
        }
        self.store.apply(step).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn per_second(events: u64) -> Option<NonZeroU64> {
        NonZeroU64::new(events)
    }

    async fn is_admitted(pace: &Pace, events: usize, within: Duration) -> bool {
        tokio::time::timeout(within, pace.admit(events)).await.unwrap_or(false)
    }

    #[tokio::test]
    async fn events_go_no_faster_than_their_rate_from_the_first_on() {
        let pace = Pace::default();
        pace.set(false, per_second(1_000));
        let started = Instant::now();
        for _ in 0..5 {
            pace.admit(50).await;
        }
        assert!(started.elapsed() >= Duration::from_millis(250), "{:?}", started.elapsed());
    }

    #[tokio::test]
    async fn paused_nothing_goes_and_resumed_everything() {
        let pace = Pace::default();
        pace.set(true, None);
        assert!(!is_admitted(&pace, 1, Duration::from_millis(50)).await);
        pace.set(false, None);
        assert!(is_admitted(&pace, 1_000_000, Duration::from_secs(5)).await);
    }

    #[tokio::test]
    async fn who_waits_hears_of_a_new_pace() {
        let pace = Arc::new(Pace::default());
        pace.set(false, per_second(1));
        let waiting = tokio::spawn({
            let pace = Arc::clone(&pace);
            async move { pace.admit(3_000).await }
        });
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(!waiting.is_finished());
        pace.set(false, per_second(100_000));
        tokio::time::timeout(Duration::from_secs(5), waiting).await.expect("admitted").unwrap();
    }

    #[tokio::test]
    async fn who_is_dropped_and_asks_again_goes_on_waiting() {
        let pace = Pace::default();
        pace.set(false, per_second(100));
        for _ in 0..100 {
            if is_admitted(&pace, 20, Duration::from_millis(20)).await {
                return;
            }
        }
        panic!("20 events at 100 a second take a fifth of a second, however often they are asked for");
    }

    #[tokio::test]
    async fn closed_it_keeps_nobody_waiting_and_admits_nothing() {
        let pace = Pace::default();
        pace.set(true, per_second(1));
        pace.close();
        let admitted = tokio::time::timeout(Duration::from_secs(5), pace.admit(1_000)).await;
        assert!(!admitted.expect("at once"));
    }
}
