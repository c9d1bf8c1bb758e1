//! Where the time comes from: safety never depends on it, and tests bring their own.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use chrono::{DateTime, Utc};

/// What time it is.
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// Now, by this clock. It may jump in either direction.
    fn now(&self) -> DateTime<Utc>;

    /// Now, to the microsecond that logs keep: what is written and read back is the same.
    fn now_as_kept(&self) -> DateTime<Utc> {
        time_of_us(self.now().timestamp_micros())
    }
}

/// The machine's clock: the one place that asks for it.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl SystemClock {
    pub fn shared() -> Arc<dyn Clock> {
        Arc::new(Self)
    }
}

impl Clock for SystemClock {
    fn now(&self) -> DateTime<Utc> {
        Utc::now()
    }
}

/// A clock that only moves when it is told to.
#[derive(Debug, Default)]
pub struct ManualClock {
    micros: AtomicI64,
}

impl ManualClock {
    pub fn at(now: DateTime<Utc>) -> Self {
        Self { micros: AtomicI64::new(now.timestamp_micros()) }
    }

    pub fn set(&self, now: DateTime<Utc>) {
        self.micros.store(now.timestamp_micros(), Ordering::SeqCst);
    }

    pub fn advance(&self, by: Duration) {
        self.micros.fetch_add(i64::try_from(by.as_micros()).unwrap_or(i64::MAX), Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> DateTime<Utc> {
        DateTime::from_timestamp_micros(self.micros.load(Ordering::SeqCst)).unwrap_or(DateTime::UNIX_EPOCH)
    }
}

/// The time that a log keeps as microseconds since 1970; what no calendar holds becomes the first moment of 1970.
pub fn time_of_us(us: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(us).unwrap_or(DateTime::UNIX_EPOCH)
}
