//! One source, read ahead and understood ahead: while one page is folded, the next is decoded and the one after it read.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use event_store::{
    feed::{Cursor, Feed, FeedError, FeedPage, PageLimit},
    follower::{Backoff, Checkpoint},
    log::LogHead,
};
use events::envelope::{Name, RecordedEvent};
use tokio::{
    sync::mpsc,
    task::{AbortHandle, JoinHandle, spawn_blocking},
    time::sleep,
};
use uuid::Uuid;

use super::{
    Stop,
    folds::{Folds, Routes},
};

/// How often a page that misses what it should hold is asked for again before it is left to the follower.
const REREADS_MAX: u32 = 5;

/// An event, and where it goes.
pub(super) struct Item {
    pub event: RecordedEvent,
    pub routes: Routes,
}

/// A stretch of a source, understood.
struct Stretch {
    epoch: Uuid,
    head: LogHead,
    items: VecDeque<Item>,
    /// What comes next is not for a load.
    is_cut: bool,
}

/// A source on its way from where the generation is to where the load ends.
pub(super) struct Source {
    pub name: Name,
    /// What has been taken out.
    pub at: Checkpoint,
    /// As it was when its last page was read.
    pub head: LogHead,
    epoch: Uuid,
    items: VecDeque<Item>,
    pages: mpsc::Receiver<JoinHandle<Stretch>>,
    decoding: Option<JoinHandle<Stretch>>,
    reader: AbortHandle,
    is_over: bool,
}

/// How a source is read.
#[derive(Clone)]
pub(super) struct Reading {
    pub page: PageLimit,
    pub backoff: Backoff,
}

impl Source {
    /// Starts to read behind `from`, up to `end`.
    pub fn start(feed: Arc<dyn Feed>, folds: Arc<Folds>, from: Checkpoint, end: LogHead, reading: Reading) -> Self {
        let name = feed.source().clone();
        // one page waits decoded, one is being read
        let (sender, pages) = mpsc::channel(1);
        let reader = tokio::spawn(read(feed, folds, from.cursor(), end.position, reading, sender)).abort_handle();
        Self {
            name,
            at: from,
            head: end,
            epoch: from.epoch,
            items: VecDeque::new(),
            pages,
            decoding: None,
            reader,
            is_over: false,
        }
    }

    /// Waits until it has a next event or is at its end. Cancel-safe.
    pub async fn fill(&mut self) -> Result<(), Stop> {
        while self.wants_filling() {
            let decoding = match &mut self.decoding {
                Some(decoding) => decoding,
                None => match self.pages.recv().await {
                    Some(decoding) => self.decoding.insert(decoding),
                    None => {
                        self.is_over = true;
                        break;
                    }
                },
            };
            let stretch = decoding.await.map_err(|error| Stop::Bug(format!("a page was not decoded: {error}")))?;
            self.decoding = None;
            self.epoch = stretch.epoch;
            self.head = stretch.head;
            self.items = stretch.items;
            if stretch.is_cut {
                self.pages.close();
                self.is_over = true;
            }
        }
        Ok(())
    }

    /// When the log took its next event, in microseconds; `None` at its end. It must have been filled.
    pub fn next_recorded_at_us(&self) -> Option<i64> {
        self.items.front().map(|item| item.event.recorded_at.timestamp_micros())
    }

    /// Takes the next event out.
    pub fn take(&mut self) -> Option<Item> {
        let item = self.items.pop_front()?;
        self.at = Checkpoint::at(self.epoch, &item.event);
        Some(item)
    }

    pub fn at_hand(&self) -> usize {
        self.items.len()
    }

    /// Whether more is to come and nothing is at hand.
    pub fn wants_filling(&self) -> bool {
        self.items.is_empty() && !self.is_over
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

/// Reads page after page and has each decoded beside the reading of the next. Ends at `until`, or at what a follower
/// must decide: it meets the same and says so.
async fn read(
    feed: Arc<dyn Feed>,
    folds: Arc<Folds>,
    mut cursor: Cursor,
    until: u64,
    reading: Reading,
    pages: mpsc::Sender<JoinHandle<Stretch>>,
) {
    let (mut failures, mut rereads) = (0, 0);
    while cursor.position < until {
        let left = usize::try_from(until - cursor.position).unwrap_or(usize::MAX);
        let limit = PageLimit { events_max: reading.page.events_max.min(left), ..reading.page };
        match feed.page(cursor, limit, Duration::ZERO).await {
            Ok(page) => {
                failures = 0;
                let page = contiguous(page, cursor, until);
                let Some(last) = page.events.last() else {
                    rereads += 1;
                    if rereads > REREADS_MAX {
                        return;
                    }
                    sleep(reading.backoff.after(rereads)).await;
                    continue;
                };
                rereads = 0;
                cursor = Cursor::at(last);
                let (folds, source) = (Arc::clone(&folds), feed.source().clone());
                if pages.send(spawn_blocking(move || understand(&folds, &source, page))).await.is_err() {
                    return;
                }
            }
            Err(FeedError::Unreachable { feed, cause }) => {
                failures += 1;
                tracing::warn!(source = %feed, %cause, failures, "load: feed unreachable, trying again");
                sleep(reading.backoff.after(failures)).await;
            }
            Err(error @ (FeedError::Regressed { .. } | FeedError::Damaged { .. })) => {
                tracing::warn!(%error, "load: the follower takes this source over");
                return;
            }
        }
    }
}

/// The events that follow `cursor` without a hole: transports may double, reorder and lose.
fn contiguous(mut page: FeedPage, cursor: Cursor, until: u64) -> FeedPage {
    if !page.events.is_sorted_by_key(|event| event.position) {
        page.events.sort_by_key(|event| event.position);
    }
    let mut next = cursor.position + 1;
    page.events.retain(|event| {
        let follows = event.position == next && event.position <= until;
        next += u64::from(follows);
        follows
    });
    page
}

/// Decodes a page's events, up to one that cannot be.
fn understand(folds: &Folds, source: &str, page: FeedPage) -> Stretch {
    let mut items = VecDeque::with_capacity(page.events.len());
    for event in page.events {
        match folds.route(source, &event) {
            Ok(routes) => items.push_back(Item { event, routes }),
            Err(reject) => {
                let position = event.position;
                tracing::warn!(source, position, %reject, "load: the follower takes this source over");
                return Stretch { epoch: page.epoch, head: page.head, items, is_cut: true };
            }
        }
    }
    Stretch { epoch: page.epoch, head: page.head, items, is_cut: false }
}
