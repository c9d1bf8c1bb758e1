//! The log's contract on the log in memory.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use event_store::{
    clock::{Clock, ManualClock},
    log::EventLog,
    memory::{MemoryCopy, MemoryLog},
};
use testkit::log_contract::{LogHarness, TamperAttempt};

struct Memory {
    log: Arc<MemoryLog>,
    clock: Arc<ManualClock>,
    copy: Mutex<Option<MemoryCopy>>,
}

impl Memory {
    fn new() -> Self {
        let clock = Arc::new(ManualClock::at(Utc::now()));
        let log = MemoryLog::with_clock("accounts", Arc::clone(&clock) as Arc<dyn Clock>);
        Self { log, clock, copy: Mutex::default() }
    }
}

#[async_trait]
impl LogHarness for Memory {
    async fn open(&self) -> Arc<dyn EventLog> {
        Arc::clone(&self.log) as Arc<dyn EventLog>
    }

    async fn turn_clock_back(&self, by: Duration) {
        self.clock.set(self.clock.now() - by);
    }

    async fn let_time_pass(&self, by: Duration) -> DateTime<Utc> {
        self.clock.advance(by);
        self.clock.now()
    }

    async fn back_up(&self) {
        *self.copy.lock().unwrap() = Some(self.log.copy());
    }

    async fn restore(&self) {
        self.log.restore(self.copy.lock().unwrap().take().expect("backed up before"));
    }

    async fn tamper_attempts(&self) -> Vec<TamperAttempt> {
        Vec::new()
    }

    async fn tamper(&self, position: u64, payload: &str) {
        self.log.tamper(position, payload);
    }
}

testkit::log_contract!(Memory::new());
