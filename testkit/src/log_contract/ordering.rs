//! Laws of positions, time, pages and waiting.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use event_store::{
    feed::{Cursor, PageLimit},
    log::{AppendOutcome, Decision, EventLog},
};
use events::envelope::RecordedEvent;
use uuid::Uuid;

use super::harness::{
    LogHarness, account, append, append_with_key, commit, commit_one, event, fresh_key, no_op, read_all,
};

/// Long enough for the slowest machine: only a law that fails waits so long.
const PATIENCE: Duration = Duration::from_secs(20);

pub async fn positions_are_gapless_under_eight_writers_while_a_reader_follows(harness: &dyn LogHarness) {
    const WRITERS: usize = 8;
    const COMMITS: usize = 25;
    let connections = [harness.open().await, harness.open().await];
    let writing = Arc::new(AtomicBool::new(true));
    let reader = tokio::spawn(follow(harness.open().await, Arc::clone(&writing)));
    let writers = (0..WRITERS).map(|writer| {
        let log = Arc::clone(&connections[writer % connections.len()]);
        tokio::spawn(async move {
            let mut acknowledged: Vec<(u64, Uuid)> = Vec::new();
            for n in 0..COMMITS {
                let chains = write_some(writer, n);
                let last_ids: Vec<_> =
                    chains.iter().map(|chain| chain[0].events().last().map(|e| e.event_id)).collect();
                for (outcome, event_id) in commit(&*log, chains).await.into_iter().zip(last_ids) {
                    match outcome {
                        AppendOutcome::Appended { position, .. } => {
                            acknowledged.push((position, event_id.expect("an append has events")));
                        }
                        AppendOutcome::Unchanged { .. } | AppendOutcome::Conflict { .. } => {}
                        other => panic!("{other:?}"),
                    }
                }
            }
            acknowledged
        })
    });
    let mut acknowledged = Vec::new();
    for writer in futures::future::join_all(writers).await {
        acknowledged.extend(writer.expect("the writer ends well"));
    }
    writing.store(false, Ordering::SeqCst);
    let seen = reader.await.expect("the reader ends well");

    // the reader has seen every event once and in order (it asserts so itself), and what it saw is what is there
    assert_eq!(seen, read_all(&*connections[0]).await);
    for (position, event_id) in acknowledged {
        assert_eq!(
            seen[usize::try_from(position).expect("small") - 1].event_id,
            event_id,
            "acknowledged at {position}"
        );
    }
    let mut versions: HashMap<_, u64> = HashMap::new();
    for event in &seen {
        let version = versions.entry(event.stream.clone()).or_default();
        *version += 1;
        assert_eq!(event.sequence, *version, "streams are in order within the log");
    }
    assert!(seen.is_sorted_by_key(|event| event.recorded_at));
}

/// Chains of one commit: two new streams, a no-op, and one that all writers fight for.
fn write_some(writer: usize, n: usize) -> Vec<Vec<event_store::log::AppendItem>> {
    let own = account(&format!("own-{writer}-{n}"));
    vec![
        vec![append_with_key(&own, 0, &fresh_key(), 3)],
        vec![no_op(&account(&format!("none-{writer}-{n}")), 0)],
        vec![append(&account("fought-for"), n as u64)],
        vec![append(&account(&format!("other-{writer}-{n}")), 0)],
    ]
}

/// Follows the log as a follower does, until nobody writes any more and the head is reached.
async fn follow(log: Arc<dyn EventLog>, writing: Arc<AtomicBool>) -> Vec<RecordedEvent> {
    let mut seen: Vec<RecordedEvent> = Vec::new();
    loop {
        let last_look = !writing.load(Ordering::SeqCst);
        let after = seen.last().map_or(Cursor::START, Cursor::at);
        let page = log.page(after, PageLimit::events(50), Duration::from_millis(20)).await.expect("the feed is read");
        if page.events.is_empty() && last_look {
            return seen;
        }
        for event in page.events {
            assert_eq!(event.position, seen.len() as u64 + 1, "neither a hole nor a repetition");
            assert!(event.position <= page.head.position, "a page does not reach beyond the head it shows");
            seen.push(event);
        }
    }
}

pub async fn all_events_of_a_batch_have_one_time(harness: &dyn LogHarness) {
    let log = harness.open().await;
    let chains = (0..5).map(|n| vec![append_with_key(&account(&n.to_string()), 0, &fresh_key(), 3)]);
    commit(&*log, chains).await;
    let events = read_all(&*log).await;
    assert!(events.iter().all(|event| event.recorded_at == events[0].recorded_at));
    let page = log.page(Cursor::START, PageLimit::default(), Duration::ZERO).await.expect("the feed is read");
    assert_eq!((page.head.position, page.head.recorded_at), (15, events[14].recorded_at));
}

pub async fn recorded_time_never_runs_backwards_when_the_clock_does(harness: &dyn LogHarness) {
    let log = harness.open().await;
    let stream = account("a");
    commit_one(&*log, append(&stream, 0)).await;
    harness.turn_clock_back(Duration::from_secs(3_600)).await;
    commit_one(&*log, append(&stream, 1)).await;
    commit_one(&*harness.open().await, append(&stream, 2)).await;
    let times: Vec<_> = read_all(&*log).await.into_iter().map(|event| event.recorded_at).collect();
    assert!(times.is_sorted(), "{times:?}");
    assert_eq!(times[1], times[2], "time stands still until the clock has caught up");
}

pub async fn a_page_is_bounded_by_count(harness: &dyn LogHarness) {
    let log = harness.open().await;
    commit_one(&*log, append_with_key(&account("a"), 0, "many", 25)).await;
    let mut after = Cursor::START;
    for expected in [10, 10, 5, 0] {
        let page = log.page(after, PageLimit::events(10), Duration::ZERO).await.expect("the feed is read");
        assert_eq!((page.events.len(), page.head.position), (expected, 25));
        assert_eq!(page.epoch, log.identity().epoch);
        after = page.events.last().map_or(after, Cursor::at);
    }
}

pub async fn a_page_is_bounded_by_bytes_and_holds_one_event_at_least(harness: &dyn LogHarness) {
    let log = harness.open().await;
    let events: Vec<_> = (0..10).map(|_| event(&"x".repeat(1_000))).collect();
    let bytes = events[0].payload.len() + events[0].metadata.len();
    let mut item = append(&account("a"), 0);
    item.decision = Decision::Append(events);
    commit_one(&*log, item).await;
    for (bytes_max, expected) in [(1, 1), (bytes, 1), (bytes * 3, 3), (bytes * 4 - 1, 3), (bytes * 100, 10)] {
        let limit = PageLimit { events_max: 100, bytes_max };
        let page = log.page(Cursor::START, limit, Duration::ZERO).await.expect("the feed is read");
        assert_eq!(page.events.len(), expected, "{bytes_max} bytes");
    }
}

pub async fn a_page_behind_the_head_is_empty_and_no_error(harness: &dyn LogHarness) {
    let log = harness.open().await;
    let page = log.page(Cursor::START, PageLimit::default(), Duration::from_millis(30)).await.expect("an empty log");
    assert_eq!((page.events.len(), page.head.position), (0, 0));
    commit_one(&*log, append(&account("a"), 0)).await;
    let last = read_all(&*log).await.pop().expect("one event");
    let started = Instant::now();
    let wait = Duration::from_millis(80);
    let page = log.page(Cursor::at(&last), PageLimit::default(), wait).await.expect("the feed is read");
    assert_eq!((page.events.len(), page.head.position, page.head.recorded_at), (0, 1, last.recorded_at));
    assert!(started.elapsed() >= wait, "it waited for news");
    // who does not know the event forgoes the check
    let unknown = Cursor { position: 1, event_id: None };
    assert!(log.page(unknown, PageLimit::default(), Duration::ZERO).await.is_ok());
}

pub async fn a_waiting_reader_is_woken_by_a_commit(harness: &dyn LogHarness) {
    let log = harness.open().await;
    woken_by(Arc::clone(&log), log).await;
}

pub async fn a_waiting_reader_is_woken_by_a_commit_on_another_connection(harness: &dyn LogHarness) {
    woken_by(harness.open().await, harness.open().await).await;
}

async fn woken_by(reader: Arc<dyn EventLog>, writer: Arc<dyn EventLog>) {
    let waiting = tokio::spawn(async move {
        let page = reader.page(Cursor::START, PageLimit::default(), PATIENCE).await.expect("the feed is read");
        (page.events.len(), Instant::now())
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!waiting.is_finished(), "there is nothing to read yet");
    // a commit without events is no news
    commit_one(&*writer, no_op(&account("none"), 0)).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!waiting.is_finished(), "there is still nothing to read");
    let committed = Instant::now();
    commit_one(&*writer, append(&account("a"), 0)).await;
    let (events, woken) = waiting.await.expect("the reader ends well");
    assert_eq!(events, 1);
    assert!(woken.duration_since(committed) < PATIENCE / 4, "woken, not timed out");
}

pub async fn a_stream_is_read_from_any_version(harness: &dyn LogHarness) {
    let log = harness.open().await;
    let stream = account("a");
    commit_one(&*log, append_with_key(&stream, 0, "first", 4)).await;
    commit_one(&*log, append(&account("b"), 0)).await;
    commit_one(&*log, append(&stream, 4)).await;
    let sequences = async |after, limit| -> Vec<(u64, u64)> {
        let events = log.read_stream(&stream, after, limit).await.expect("the stream is read");
        events.into_iter().map(|event| (event.sequence, event.position)).collect()
    };
    assert_eq!(sequences(0, 100).await, [(1, 1), (2, 2), (3, 3), (4, 4), (5, 6)]);
    assert_eq!(sequences(1, 2).await, [(2, 2), (3, 3)]);
    assert_eq!(sequences(4, 100).await, [(5, 6)]);
    assert_eq!(sequences(5, 100).await, []);
    assert_eq!(sequences(99, 100).await, []);
    assert_eq!(sequences(0, 0).await, []);
}

pub async fn the_identity_is_the_same_on_every_connection(harness: &dyn LogHarness) {
    let (one, two) = (harness.open().await, harness.open().await);
    assert_eq!(one.identity().source, two.identity().source);
    assert_eq!(one.source(), &one.identity().source);
    assert_eq!(one.identity().epoch, two.identity().epoch);
    assert_eq!(one.identity().fingerprint_key, two.identity().fingerprint_key);
    assert_ne!(one.identity().fingerprint_key, [0; 32]);
}
