//! A clock that runs, and jumps when it is told to.

use std::sync::atomic::{AtomicI64, Ordering};

use chrono::{DateTime, TimeDelta, Utc};
use event_store::clock::Clock;

/// The machine's clock, put forward or back.
#[derive(Debug, Default)]
pub struct JumpingClock {
    offset_seconds: AtomicI64,
}

impl JumpingClock {
    pub fn jump(&self, by: TimeDelta) {
        self.offset_seconds.fetch_add(by.num_seconds(), Ordering::SeqCst);
    }
}

impl Clock for JumpingClock {
    fn now(&self) -> DateTime<Utc> {
        Utc::now() + TimeDelta::seconds(self.offset_seconds.load(Ordering::SeqCst))
    }
}
