//! The feed: a log in position order, page by page, for whoever follows it.

use std::time::Duration;

use async_trait::async_trait;
use events::envelope::{Name, RecordedEvent};
use thiserror::Error;
use uuid::Uuid;

use crate::log::{LogHead, Source};

/// A log as its followers see it: in process, over HTTP or through a broker.
#[async_trait]
pub trait Feed: Send + Sync + 'static {
    /// The service whose log this is.
    fn source(&self) -> &Name;

    /// The events behind `after`, gapless, bounded by `limit`. When there are none yet, waits up to `wait` for one;
    /// an empty page after that is no error.
    ///
    /// The anchor is checked on every read: if the event at `after.position` is not `after.event_id`, the answer is
    /// [`FeedError::Regressed`], whatever else the log holds.
    ///
    /// Cancel-safe: readers that stop waiting and drop the call disturb nobody.
    async fn page(&self, after: Cursor, limit: PageLimit, wait: Duration) -> Result<FeedPage, FeedError>;
}

/// A place in a log: a position and the event that was seen there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cursor {
    pub position: u64,
    /// `None` only at position 0, or where the reader does not know it and forgoes the check.
    pub event_id: Option<Uuid>,
}

impl Cursor {
    pub const START: Self = Self { position: 0, event_id: None };

    pub fn at(event: &RecordedEvent) -> Self {
        Self { position: event.position, event_id: Some(event.event_id) }
    }
}

/// How much one page may hold. At least one event is returned if there is one, however large.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageLimit {
    pub events_max: usize,
    /// Payload and metadata bytes.
    pub bytes_max: usize,
}

impl PageLimit {
    /// The most events of one page.
    pub const EVENTS_MAX: usize = 5_000;
    /// The most bytes of one page.
    pub const BYTES_MAX: usize = 8 * 1024 * 1024;
    /// The longest that a page may be waited for.
    pub const WAIT_MAX: Duration = Duration::from_secs(30);

    /// At most `events_max` events, within both bounds.
    pub fn events(events_max: usize) -> Self {
        Self { events_max: events_max.clamp(1, Self::EVENTS_MAX), bytes_max: Self::BYTES_MAX }
    }
}

impl Default for PageLimit {
    fn default() -> Self {
        Self::events(1_000)
    }
}

/// A stretch of a log.
#[derive(Debug, Clone)]
pub struct FeedPage {
    pub epoch: Uuid,
    /// The head as it was when the page was read.
    pub head: LogHead,
    /// Positions `after + 1 ..`, without a hole.
    pub events: Vec<RecordedEvent>,
}

/// Why a page could not be had.
#[derive(Debug, Error)]
pub enum FeedError {
    /// The reader has seen an event that this log does not hold at that place: an older backup was restored.
    #[error(
        "the log of {feed} does not hold the event that was read at position {position}: it was restored from an older \
         copy (head is now {head})"
    )]
    Regressed { feed: Name, position: u64, head: u64 },
    #[error("feed of {feed} unreachable: {cause}")]
    Unreachable { feed: Name, cause: Source },
    /// A hole, or something that is not an event: never skipped.
    #[error("feed of {feed} is damaged at position {position}: {reason}")]
    Damaged { feed: Name, position: u64, reason: String },
}
