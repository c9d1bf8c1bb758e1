//! A place to keep duties, traps that stop the world at a named step, and words to put into a log.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use event_store::{
    feed::{Cursor, Feed, PageLimit},
    follower::{ApplyError, Backoff, Pulse, StoreError, Vector},
    log::{Decision, EventLog},
    memory::MemoryLog,
};
use events::envelope::{RecordedEvent, StreamId};
use testkit::{
    follower_kit::{options as follower_options, soon},
    log_contract::harness::{append, commit_one, event},
    postgres::fresh_database,
};
use tokio::sync::Notify;
use uuid::Uuid;
use write_side::{
    ReplicaHome,
    progress::{Moved, Tenure},
    reactor::{
        self, ReactorOptions,
        duty::{DueNow, Duties, Duty, Settled},
    },
};

/// Where a reactor keeps its checkpoint and duties.
pub enum Home {
    Sqlite(tempfile::TempDir),
    Postgres(String),
}

impl Home {
    pub fn sqlite() -> Self {
        Self::Sqlite(tempfile::tempdir().unwrap())
    }

    pub async fn postgres() -> Self {
        Self::Postgres(fresh_database("reactor").await)
    }

    /// Another one on the same kind of database, with nothing in it.
    pub async fn anew(&self) -> Self {
        match self {
            Self::Sqlite(_) => Self::sqlite(),
            Self::Postgres(_) => Self::postgres().await,
        }
    }

    pub fn replica(&self) -> ReplicaHome {
        match self {
            Self::Sqlite(folder) => ReplicaHome::Sqlite(folder.path().join("reactor.db")),
            Self::Postgres(url) => ReplicaHome::Postgres(url.parse().unwrap()),
        }
    }

    pub async fn duties(&self) -> Arc<dyn Duties> {
        reactor::open("a test", &self.replica()).await.unwrap()
    }
}

/// Short waits, so that a test sees many of them.
pub fn options() -> ReactorOptions {
    ReactorOptions {
        backoff: Backoff { first: Duration::from_millis(1), max: Duration::from_millis(5) },
        hindered_wait: Duration::from_millis(5),
        look_every: Duration::from_millis(20),
        follower: follower_options(),
        ..ReactorOptions::default()
    }
}

/// Steps at which a test can stop the world: whoever comes by at the armed one says so and goes no further.
#[derive(Default)]
pub struct Traps {
    armed: Mutex<Option<&'static str>>,
    sprung: Notify,
}

impl Traps {
    pub fn arm(&self, step: &'static str) {
        *self.armed.lock().unwrap() = Some(step);
    }

    pub async fn pass(&self, step: &str) {
        let caught = self.armed.lock().unwrap().take_if(|armed| *armed == step).is_some();
        if caught {
            self.sprung.notify_one();
            std::future::pending::<()>().await;
        }
    }

    pub async fn sprung(&self, what: &str) {
        soon(what, self.sprung.notified()).await;
    }
}

/// Duties with traps at `note`, `done` and `beat`.
pub struct TrappedDuties {
    pub duties: Arc<dyn Duties>,
    pub traps: Arc<Traps>,
}

#[async_trait]
impl Duties for TrappedDuties {
    async fn load(&self, take_fence: bool) -> Result<(u64, Vector), StoreError> {
        self.duties.load(take_fence).await
    }

    fn tenure(&self) -> &dyn Tenure {
        self
    }

    async fn begin(&self, source: &str, epoch: Uuid) -> Result<(), StoreError> {
        self.duties.begin(source, epoch).await
    }

    async fn note(&self, moved: Moved, duties: Vec<Duty>, open_max: usize) -> Result<(), ApplyError> {
        if !duties.is_empty() {
            self.traps.pass(&format!("note {}", moved.source)).await;
        }
        self.duties.note(moved, duties, open_max).await
    }

    async fn due(&self, fence: u64, now: DateTime<Utc>, limit: usize) -> Result<DueNow, ApplyError> {
        self.duties.due(fence, now, limit).await
    }

    async fn settle(&self, fence: u64, settled: Settled) -> Result<(), ApplyError> {
        for id in &settled.done {
            self.traps.pass(&format!("done {}", id.source)).await;
        }
        self.duties.settle(fence, settled).await
    }

    async fn hurry(&self, fence: u64, now: DateTime<Utc>, latest: DateTime<Utc>) -> Result<(), ApplyError> {
        self.duties.hurry(fence, now, latest).await
    }

    async fn open(&self, limit: usize) -> Result<Vec<Duty>, StoreError> {
        self.duties.open(limit).await
    }
}

#[async_trait]
impl Tenure for TrappedDuties {
    async fn fence(&self) -> Result<u64, StoreError> {
        self.duties.tenure().fence().await
    }

    async fn beat(&self, fence: u64) -> Result<bool, StoreError> {
        self.traps.pass("beat").await;
        self.duties.tenure().beat(fence).await
    }

    async fn pulse(&self) -> Result<Pulse, StoreError> {
        self.duties.tenure().pulse().await
    }
}

/// Waits until a look says yes.
pub async fn until<F: Future<Output = bool>>(what: &str, look: impl Fn() -> F) {
    let looking = async {
        while !look().await {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    soon(what, looking).await;
}

/// Waits until nothing is left to do but wait for times to come.
pub async fn idle(duties: &Arc<dyn Duties>) {
    until("nothing is left to do", || async { duties.open(1_000).await.unwrap().iter().all(|duty| duty.timer) }).await;
}

/// Appends what somebody says of their stream.
pub async fn tell<E: cqrs_es::DomainEvent>(log: &MemoryLog, aggregate_type: &str, id: Uuid, told: &E) {
    let stream = StreamId::new(aggregate_type, id.to_string());
    let version = log.read_stream(&stream, 0, usize::MAX).await.unwrap().len() as u64;
    let mut new = event(&format!("{stream} {version}"));
    (new.event_type, new.event_version) = (told.event_type().into(), told.event_version().into());
    new.payload = serde_json::to_string(told).unwrap();
    let mut item = append(&stream, version);
    item.decision = Decision::Append(vec![new]);
    commit_one(log, item).await;
}

/// Everything that a log holds.
pub async fn told(log: &MemoryLog) -> Vec<RecordedEvent> {
    log.page(Cursor::START, PageLimit::events(PageLimit::EVENTS_MAX), Duration::ZERO).await.unwrap().events
}

pub fn feeds(logs: &[&Arc<MemoryLog>]) -> Vec<Arc<dyn Feed>> {
    logs.iter().map(|log| Arc::clone(log) as Arc<dyn Feed>).collect()
}
