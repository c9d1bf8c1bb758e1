//! One of the servers that a gateway stands before: how much it has been given to do, and whether it answers.

use std::{
    fmt,
    future::Future,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use axum::http::uri::Authority;
use tokio::sync::{Mutex, Semaphore, SemaphorePermit};

/// Requests at once that a server has and has not begun to answer. A quarter of what the gateway has room for: one that is
/// frozen must not take it away from the others.
pub const UNANSWERED_MAX: usize = 256;

/// How long it is not asked anew whether a server is well, however many want to know.
const SEEN_FOR: Duration = Duration::from_secs(1);

/// A server, whatever it is of those that we stand before.
pub struct Place {
    pub authority: Authority,
    unanswered: Semaphore,
    /// It did not say that it lives when it was last asked.
    is_silent: AtomicBool,
    /// Somebody asks it whether it lives until it says so.
    is_watched: AtomicBool,
    /// Whether it was well, and when that was asked.
    seen: Mutex<Option<(Instant, bool)>>,
}

impl Place {
    pub fn new(authority: Authority) -> Self {
        Self {
            authority,
            unanswered: Semaphore::new(UNANSWERED_MAX),
            is_silent: AtomicBool::new(false),
            is_watched: AtomicBool::new(false),
            seen: Mutex::default(),
        }
    }

    /// Room for a request more. `None`: it has enough to do.
    pub fn room(&self) -> Option<SemaphorePermit<'_>> {
        self.unanswered.try_acquire().ok()
    }

    pub fn is_silent(&self) -> bool {
        self.is_silent.load(Ordering::Relaxed)
    }

    /// It did not answer whether it lives.
    pub fn falls_silent(&self) {
        if !self.is_silent.swap(true, Ordering::Relaxed) {
            tracing::warn!(place = %self.authority, "it does not answer, and is passed over where there is another");
        }
    }

    /// `false`: it is watched already.
    pub fn begin_watch(&self) -> bool {
        !self.is_watched.swap(true, Ordering::Relaxed)
    }

    /// It has answered.
    pub fn end_watch(&self) {
        if self.is_silent.swap(false, Ordering::Relaxed) {
            tracing::info!(place = %self.authority, "it answers again");
        }
        self.is_watched.store(false, Ordering::Relaxed);
    }

    /// Whether it is well, by `asked` or by what was heard a moment ago: one question serves all who want to know.
    pub async fn is_well(&self, asked: impl Future<Output = bool>) -> bool {
        let mut seen = self.seen.lock().await;
        match *seen {
            Some((at, is_well)) if at.elapsed() < SEEN_FOR => is_well,
            _ => {
                let is_well = asked.await;
                *seen = Some((Instant::now(), is_well));
                is_well
            }
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.authority.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn whoever_wants_to_know_at_the_same_time_is_answered_by_one_question() {
        let (place, asked) = (Place::new("a:1".parse().expect("an authority")), std::cell::Cell::new(0));
        let question = || {
            place.is_well(async {
                tokio::task::yield_now().await;
                asked.set(asked.get() + 1);
                false
            })
        };
        assert_eq!((tokio::join!(question(), question()), question().await), ((false, false), false));
        assert_eq!(asked.get(), 1);
        tokio::time::sleep(SEEN_FOR).await;
        question().await;
        assert_eq!(asked.get(), 2);
    }
}
