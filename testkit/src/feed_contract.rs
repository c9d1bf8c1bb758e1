//! The contract of a [`Feed`]: the same laws in process and over any transport.
//!
//! Implement [`FeedHarness`] and write one line: `testkit::feed_contract!(MyHarness::new().await);`.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use event_store::{
    feed::{Cursor, Feed, FeedError, FeedPage, PageLimit},
    log::EventLog,
};
use events::envelope::RecordedEvent;
use uuid::Uuid;

use crate::log_contract::harness::{account, append_with_key, commit_one, fresh_key, read_all};

/// A feed and the log behind it.
#[async_trait]
pub trait FeedHarness: Send + Sync {
    /// The log, to write to.
    fn log(&self) -> Arc<dyn EventLog>;

    /// A reader's end of its feed.
    async fn feed(&self) -> Arc<dyn Feed>;

    async fn back_up(&self);

    async fn restore(&self);
}

/// Expands to one test per law.
#[macro_export]
macro_rules! feed_contract {
    ($harness:expr) => {
        $crate::feed_laws! { $harness;
            pages_follow_each_other_without_a_hole_and_end_at_the_head,
            a_page_is_bounded_by_count_and_by_bytes_and_holds_one_event_at_least,
            an_empty_log_has_an_epoch_and_a_head,
            a_waiting_reader_is_woken_by_an_event,
            a_reader_that_waits_in_vain_gets_an_empty_page,
            another_event_at_the_cursor_is_answered_as_regressed,
            a_place_beyond_the_head_is_answered_as_regressed,
            a_reader_that_knows_no_event_id_forgoes_the_check,
            an_older_copy_is_told_from_the_log_even_after_more_writes,
            a_reader_that_goes_away_disturbs_nobody,
        }
    };
}

/// Part of [`feed_contract!`].
#[macro_export]
macro_rules! feed_laws {
    ($harness:expr; $($law:ident,)+) => {
        $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $law() {
                let harness = $harness;
                $crate::feed_contract::$law(&harness).await;
            }
        )+
    };
}

/// Long enough for the slowest machine: only a law that fails waits so long.
const PATIENCE: Duration = Duration::from_secs(20);

async fn write(log: &dyn EventLog, stream: &str, count: usize) {
    let stream = account(stream);
    let version = log.read_stream(&stream, 0, usize::MAX).await.expect("the stream is read").len() as u64;
    commit_one(log, append_with_key(&stream, version, &fresh_key(), count)).await;
}

async fn page(feed: &dyn Feed, after: Cursor, events_max: usize) -> FeedPage {
    feed.page(after, PageLimit::events(events_max), Duration::ZERO).await.expect("the feed is read")
}

async fn follow(feed: &dyn Feed, limit: PageLimit) -> Vec<RecordedEvent> {
    let mut events: Vec<RecordedEvent> = Vec::new();
    loop {
        let after = events.last().map_or(Cursor::START, Cursor::at);
        let page = feed.page(after, limit, Duration::ZERO).await.expect("the feed is read");
        if page.events.is_empty() {
            assert_eq!(page.head.position, events.len() as u64);
            assert_eq!(page.head.recorded_at, events.last().expect("events").recorded_at);
            return events;
        }
        assert!(page.events.len() <= limit.events_max);
        events.extend(page.events);
    }
}

pub async fn pages_follow_each_other_without_a_hole_and_end_at_the_head(harness: &dyn FeedHarness) {
    let (log, feed) = (harness.log(), harness.feed().await);
    for n in 0..25 {
        write(&*log, &(n % 4).to_string(), 1 + n % 3).await;
    }
    assert_eq!(feed.source(), log.source());
    let events = read_all(&*log).await;
    for events_max in [1, 7, 1_000] {
        assert_eq!(follow(&*feed, PageLimit::events(events_max)).await, events, "{events_max} events a page");
    }
    assert_eq!(page(&*feed, Cursor::START, 1).await.epoch, log.identity().epoch);
}

pub async fn a_page_is_bounded_by_count_and_by_bytes_and_holds_one_event_at_least(harness: &dyn FeedHarness) {
    let (log, feed) = (harness.log(), harness.feed().await);
    write(&*log, "a", 20).await;
    let events = read_all(&*log).await;
    let bytes = |count: usize| -> usize {
        events[..count].iter().map(|event| event.payload.len() + event.metadata.len()).sum()
    };
    for (events_max, bytes_max, expected) in
        [(5, usize::MAX, 5), (20, bytes(20), 20), (20, bytes(3), 3), (20, bytes(4) - 1, 3), (20, 1, 1)]
    {
        let limit = PageLimit { events_max, bytes_max };
        let page = feed.page(Cursor::START, limit, Duration::ZERO).await.expect("the feed is read");
        assert_eq!((page.events.len(), page.head.position), (expected, 20), "{limit:?}");
    }
    assert_eq!(follow(&*feed, PageLimit { events_max: 20, bytes_max: 1 }).await, events);
}

pub async fn an_empty_log_has_an_epoch_and_a_head(harness: &dyn FeedHarness) {
    let page = page(&*harness.feed().await, Cursor::START, 10).await;
    assert_eq!((page.epoch, page.head.position, page.events.len()), (harness.log().identity().epoch, 0, 0));
}

pub async fn a_waiting_reader_is_woken_by_an_event(harness: &dyn FeedHarness) {
    let (log, feed) = (harness.log(), harness.feed().await);
    write(&*log, "a", 1).await;
    let after = Cursor::at(&read_all(&*log).await[0]);
    let waiting = tokio::spawn(async move {
        let page = feed.page(after, PageLimit::default(), PATIENCE).await.expect("the feed is read");
        (page.events.len(), page.head.position, Instant::now())
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!waiting.is_finished(), "there is nothing to read yet");
    let written = Instant::now();
    write(&*log, "a", 1).await;
    let (events, head, woken) = waiting.await.expect("the reader ends well");
    assert_eq!((events, head), (1, 2));
    assert!(woken.duration_since(written) < PATIENCE / 4, "woken, not timed out");
}

pub async fn a_reader_that_waits_in_vain_gets_an_empty_page(harness: &dyn FeedHarness) {
    let (log, feed) = (harness.log(), harness.feed().await);
    write(&*log, "a", 3).await;
    let after = Cursor::at(&read_all(&*log).await[2]);
    let (started, wait) = (Instant::now(), Duration::from_millis(120));
    let page = feed.page(after, PageLimit::default(), wait).await.expect("no error");
    assert_eq!((page.events.len(), page.head.position), (0, 3));
    assert!(started.elapsed() >= wait, "it waited");
}

fn assert_regressed(answer: Result<FeedPage, FeedError>, feed: &dyn Feed, expected: (u64, u64)) {
    let Err(FeedError::Regressed { feed: named, position, head }) = answer else { panic!("{answer:?}") };
    assert_eq!((&named, position, head), (feed.source(), expected.0, expected.1));
}

pub async fn another_event_at_the_cursor_is_answered_as_regressed(harness: &dyn FeedHarness) {
    let (log, feed) = (harness.log(), harness.feed().await);
    write(&*log, "a", 5).await;
    let wrong = Cursor { position: 3, event_id: Some(Uuid::from_u128(3)) };
    assert_regressed(feed.page(wrong, PageLimit::default(), PATIENCE).await, &*feed, (3, 5));
}

pub async fn a_place_beyond_the_head_is_answered_as_regressed(harness: &dyn FeedHarness) {
    let (log, feed) = (harness.log(), harness.feed().await);
    write(&*log, "a", 5).await;
    for event_id in [None, Some(Uuid::from_u128(3))] {
        let beyond = Cursor { position: 6, event_id };
        assert_regressed(feed.page(beyond, PageLimit::default(), PATIENCE).await, &*feed, (6, 5));
    }
}

pub async fn a_reader_that_knows_no_event_id_forgoes_the_check(harness: &dyn FeedHarness) {
    let (log, feed) = (harness.log(), harness.feed().await);
    write(&*log, "a", 5).await;
    let page = page(&*feed, Cursor { position: 3, event_id: None }, 10).await;
    assert_eq!(page.events, read_all(&*log).await[3..]);
}

pub async fn an_older_copy_is_told_from_the_log_even_after_more_writes(harness: &dyn FeedHarness) {
    let (log, feed) = (harness.log(), harness.feed().await);
    write(&*log, "a", 5).await;
    harness.back_up().await;
    write(&*log, "b", 5).await;
    let events = follow(&*feed, PageLimit::default()).await;
    harness.restore().await;
    let log = harness.log();
    let lost = Cursor::at(&events[9]);
    assert_regressed(feed.page(lost, PageLimit::default(), PATIENCE).await, &*feed, (10, 5));
    write(&*log, "c", 20).await;
    assert_regressed(feed.page(lost, PageLimit::default(), PATIENCE).await, &*feed, (10, 25));
    assert_eq!(page(&*feed, Cursor::at(&events[4]), 100).await.events.len(), 20, "what both hold goes on");
}

pub async fn a_reader_that_goes_away_disturbs_nobody(harness: &dyn FeedHarness) {
    let (log, feed) = (harness.log(), harness.feed().await);
    for n in 0..20 {
        let wait = feed.page(Cursor::START, PageLimit::default(), PATIENCE);
        let gone = tokio::time::timeout(Duration::from_micros(n * 150), wait).await;
        assert!(gone.is_err(), "there was nothing to read");
    }
    write(&*log, "a", 5).await;
    assert_eq!(follow(&*feed, PageLimit::events(2)).await.len(), 5);
}
