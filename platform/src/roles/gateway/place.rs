//! One of the servers that a gateway stands before: how much it has been given to do, and whether it answers.

use std::{
    fmt,
    sync::atomic::{AtomicBool, Ordering},
};

use axum::http::uri::Authority;
use tokio::sync::{Semaphore, SemaphorePermit};

/// Requests at once that a server has and has not begun to answer. A quarter of what the gateway has room for: one that is
/// frozen must not take it away from the others.
pub const UNANSWERED_MAX: usize = 256;

/// A server, whatever it is of those that we stand before.
pub struct Place {
    pub authority: Authority,
    unanswered: Semaphore,
    /// It did not say that it lives when it was last asked.
    is_silent: AtomicBool,
    /// Somebody asks it whether it lives until it says so.
    is_watched: AtomicBool,
}

impl Place {
    pub fn new(authority: Authority) -> Self {
        Self {
            authority,
            unanswered: Semaphore::new(UNANSWERED_MAX),
            is_silent: AtomicBool::new(false),
            is_watched: AtomicBool::new(false),
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
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.authority.fmt(f)
    }
}
