//! A feed that says what it is told to.

use std::{fmt::Display, sync::Mutex, time::Duration};

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use event_store::{
    feed::{Cursor, Feed, FeedError, FeedPage, PageLimit},
    log::LogHead,
};
use events::{
    DomainEvent,
    consistency::ConsistencyToken,
    envelope::{Name, RecordedEvent, StreamId},
};
use tokio::sync::watch;
use uuid::Uuid;

/// The log of one service, in memory: what is pushed is committed, at its position's [`time`].
pub struct ScriptedFeed {
    source: Name,
    epoch: Uuid,
    log: Mutex<Vec<RecordedEvent>>,
    news: watch::Sender<()>,
}

/// The time of the event at a position: one second apart.
pub fn time(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_700_000_000, 0).expect("a time of this century") + TimeDelta::seconds(seconds)
}

impl ScriptedFeed {
    pub fn new(source: &str) -> Self {
        let epoch = Uuid::new_v5(&Uuid::NAMESPACE_OID, source.as_bytes());
        Self { source: source.into(), epoch, log: Mutex::default(), news: watch::Sender::new(()) }
    }

    /// Commits an event of the stream (`aggregate_type`, `aggregate_id`).
    pub fn push(&self, aggregate_type: &str, aggregate_id: impl Display, event: &impl DomainEvent) {
        let payload = serde_json::to_string(event).expect("an event serializes");
        self.push_raw(aggregate_type, aggregate_id, &event.event_type(), &event.event_version(), payload);
    }

    /// The same as text: for events of another time, and for those that nobody can read.
    pub fn push_raw(&self, aggregate_type: &str, id: impl Display, event_type: &str, version: &str, payload: String) {
        let mut log = self.lock();
        let position = log.len() as u64 + 1;
        let stream = StreamId::new(aggregate_type, id.to_string());
        let sequence = log.iter().filter(|event| event.stream == stream).count() as u64 + 1;
        log.push(RecordedEvent {
            position,
            event_id: Uuid::new_v5(&Uuid::NAMESPACE_OID, format!("{}{position}{payload}", self.source).as_bytes()),
            stream,
            sequence,
            event_type: event_type.into(),
            event_version: version.into(),
            payload,
            metadata: "{}".to_owned(),
            recorded_at: time(i64::try_from(position).expect("a position")),
        });
        drop(log);
        self.news.send_replace(());
    }

    /// Commits what another log of the same source holds behind this one's end, `events` of it at most.
    pub fn copy(&self, other: &Self, events: usize) {
        let mut log = self.lock();
        let end = log.len();
        log.extend(other.lock().iter().skip(end).take(events).cloned());
        drop(log);
        self.news.send_replace(());
    }

    /// As a log restored from an older copy: the same epoch, fewer events.
    pub fn truncate(&self, events: usize) {
        self.lock().truncate(events);
        self.news.send_replace(());
    }

    /// Changes what lies in the log at `position`: as keys that are found again, or a reader that is mended.
    pub fn rewrite(&self, position: usize, payload: String) {
        self.lock()[position - 1].payload = payload;
    }

    pub fn events(&self) -> Vec<RecordedEvent> {
        self.lock().clone()
    }

    pub fn epoch(&self) -> Uuid {
        self.epoch
    }

    pub fn head(&self) -> LogHead {
        let log = self.lock();
        let last = log.last();
        LogHead {
            position: last.map_or(0, |event| event.position),
            recorded_at: last.map_or(DateTime::UNIX_EPOCH, |event| event.recorded_at),
        }
    }

    /// The token of its last event.
    pub fn token(&self) -> ConsistencyToken {
        let last = self.lock().len();
        self.token_at(last)
    }

    /// The token of the event at `position`.
    pub fn token_at(&self, position: usize) -> ConsistencyToken {
        let event = &self.lock()[position - 1];
        ConsistencyToken::of(&self.source, self.epoch, event.position, Some(event.event_id))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<RecordedEvent>> {
        self.log.lock().expect("a test that panics ends")
    }
}

#[async_trait]
impl Feed for ScriptedFeed {
    fn source(&self) -> &Name {
        &self.source
    }

    async fn page(&self, after: Cursor, limit: PageLimit, wait: Duration) -> Result<FeedPage, FeedError> {
        let mut news = self.news.subscribe();
        let _ = tokio::time::timeout(wait, news.wait_for(|()| self.head().position != after.position)).await;
        let head = self.head();
        let log = self.lock();
        let start = usize::try_from(after.position).expect("a position of ours");
        let anchor = start.checked_sub(1).and_then(|index| log.get(index)).map(|event| event.event_id);
        if start > log.len() || (after.event_id.is_some() && after.event_id != anchor) {
            return Err(FeedError::Regressed {
                feed: self.source.clone(),
                position: after.position,
                head: head.position,
            });
        }
        let events = log[start..].iter().take(limit.events_max).cloned().collect();
        Ok(FeedPage { epoch: self.epoch, head, events })
    }
}
