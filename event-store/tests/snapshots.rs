//! The bus on long streams: a snapshot shortens reading them and changes nothing else, whatever is wrong with it.

use std::{sync::Arc, time::Duration};

use cqrs_es::{Aggregate, DomainEvent, event_sink::EventSink};
use event_store::{
    bus::{BusOptions, CommandBus, CommandRequest, Domain, Loaded, Refusal},
    log::{Decision, EventLog, Fingerprint},
    memory::MemoryLog,
    snapshot::{Snapshot, SnapshotStore},
    writer::{Writer, WriterOptions},
};
use events::{
    Published,
    envelope::{Metadata, StreamId},
};
use serde::{Deserialize, Serialize};
use testkit::log_contract::harness::{append_with_key, commit_one, read_all};
use uuid::Uuid;

/// Counts, and remembers the order of what it was given.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Counter {
    count: u64,
    trace: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Counted {
    number: u64,
}

impl DomainEvent for Counted {
    fn event_type(&self) -> String {
        "Counted".to_owned()
    }

    fn event_version(&self) -> String {
        "1".to_owned()
    }
}

impl Published for Counted {
    const PUBLISHED: &'static [(&'static str, &'static str)] = &[("Counted", "1")];

    fn read(_: &str, _: &str, payload: &str) -> serde_json::Result<Self> {
        serde_json::from_str(payload)
    }
}

impl Aggregate for Counter {
    const TYPE: &'static str = "counter";
    type Command = u64;
    type Event = Counted;
    type Error = std::convert::Infallible;
    type Services = ();

    async fn handle(&mut self, number: u64, (): &(), sink: &EventSink<Self>) -> Result<(), Self::Error> {
        sink.write(Counted { number }, self).await;
        Ok(())
    }

    fn apply(&mut self, event: Counted) {
        self.count += 1;
        self.trace = self.trace.wrapping_mul(31).wrapping_add(event.number);
    }
}

impl Domain for Counter {
    const VERSION: u32 = 3;

    fn refusal(error: &Self::Error) -> Refusal {
        match *error {}
    }
}

const EVERY: u64 = 200;

struct Counters {
    log: Arc<MemoryLog>,
    bus: CommandBus<Counter>,
}

impl Counters {
    fn on(log: &Arc<MemoryLog>, snapshot_every_events: Option<u64>) -> Self {
        let writer = Writer::start(Arc::clone(log) as Arc<dyn EventLog>, WriterOptions::default());
        let options = BusOptions { snapshot_every_events, ..BusOptions::default() };
        Self { log: Arc::clone(log), bus: CommandBus::start(writer, (), options) }
    }

    /// A stream of `numbers`, decided one after another.
    async fn count(&self, numbers: std::ops::Range<u64>) {
        for number in numbers {
            let request = CommandRequest {
                aggregate_id: "c".into(),
                command: number,
                scope: "counters:count".into(),
                key: number.to_string().into(),
                fingerprint: Fingerprint([0; 32]),
                expected_version: None,
                metadata: Metadata::default(),
            };
            self.bus.execute(request).await.unwrap();
        }
    }

    async fn load(&self) -> Loaded<Counter> {
        self.bus.load("c").await.unwrap().unwrap()
    }
}

fn stream() -> StreamId {
    StreamId::new("counter", "c")
}

fn expected(count: u64) -> Counter {
    let mut counter = Counter::default();
    (0..count).for_each(|number| counter.apply(Counted { number }));
    counter
}

/// A log with a stream of `count` events, written by a bus that has ended, and so has kept what it had to keep.
async fn log_of(count: u64, snapshot_every_events: Option<u64>) -> Arc<MemoryLog> {
    let log = MemoryLog::new("counters");
    let counters = Counters::on(&log, snapshot_every_events);
    counters.count(0..count).await;
    counters.bus.shutdown().await;
    log
}

async fn kept(log: &MemoryLog) -> Option<Snapshot> {
    log.snapshot(&stream(), Counter::VERSION).await.unwrap()
}

/// given this snapshot of a stream of 450, when the stream is loaded, then its state is that of all its events
async fn check_passed_over(snapshot: impl FnOnce(Snapshot) -> Snapshot) {
    let log = log_of(450, Some(EVERY)).await;
    let wrong = snapshot(kept(&log).await.expect("kept"));
    log.keep_snapshots(vec![wrong]).await.unwrap();
    let loaded = Counters::on(&log, Some(EVERY)).load().await;
    assert_eq!((loaded.version, loaded.state), (450, expected(450)));
}

#[tokio::test]
async fn a_snapshot_is_kept_whenever_a_stream_has_grown_by_so_many_events() {
    assert_eq!(kept(&*log_of(199, Some(EVERY)).await).await, None);
    let snapshot = kept(&*log_of(450, Some(EVERY)).await).await.expect("kept");
    assert_eq!((snapshot.sequence, snapshot.fold_version), (400, 3));
    assert_eq!(serde_json::from_str::<Counter>(&snapshot.state).unwrap(), expected(400));
    assert_eq!(kept(&*log_of(450, None).await).await, None, "a bus may do without");
}

#[tokio::test]
async fn a_long_stream_is_read_from_its_snapshot_on() {
    let log = log_of(450, Some(EVERY)).await;
    let folded = Counters::on(&log, None).load().await;
    // not readable any more, and not read
    log.tamper(300, "not an event");
    let counters = Counters::on(&log, Some(EVERY));
    let loaded = counters.load().await;
    assert_eq!(loaded.state, folded.state);
    assert_eq!((loaded.version, loaded.position, loaded.event_id), (450, folded.position, folded.event_id));
    counters.count(450..451).await;
    assert_eq!(counters.load().await.state, expected(451), "and goes on from there");
    assert!(Counters::on(&log, None).bus.load("c").await.is_err());
}

#[tokio::test]
async fn a_stream_that_had_none_gets_a_snapshot_when_it_is_read() {
    let log = log_of(450, None).await;
    let counters = Counters::on(&log, Some(EVERY));
    counters.count(450..451).await;
    counters.bus.shutdown().await;
    assert_eq!(kept(&log).await.expect("kept").sequence, 450);
}

#[tokio::test]
async fn a_snapshot_of_another_fold_is_passed_over() {
    check_passed_over(|snapshot| {
        let state = serde_json::to_string(&Counter { count: 7, trace: 7 }).unwrap();
        Snapshot { fold_version: 4, state, ..snapshot }
    })
    .await;
}

#[tokio::test]
async fn a_snapshot_that_cannot_be_read_is_passed_over() {
    check_passed_over(|snapshot| Snapshot { state: "{\"count\":".to_owned(), ..snapshot }).await;
    check_passed_over(|snapshot| Snapshot { state: "{\"count\":\"many\"}".to_owned(), ..snapshot }).await;
}

#[tokio::test]
async fn a_snapshot_of_another_history_is_passed_over() {
    check_passed_over(|snapshot| Snapshot { event_id: Uuid::nil(), ..snapshot }).await;
    check_passed_over(|snapshot| Snapshot { sequence: 451, ..snapshot }).await;
    check_passed_over(|snapshot| Snapshot { sequence: u64::MAX, ..snapshot }).await;
    check_passed_over(|snapshot| Snapshot { sequence: 0, ..snapshot }).await;
}

#[tokio::test]
async fn a_snapshot_from_before_a_restore_is_passed_over_and_replaced() {
    let log = log_of(250, Some(EVERY)).await;
    let copy = log.copy();
    let counters = Counters::on(&log, Some(EVERY));
    counters.count(250..650).await;
    counters.bus.shutdown().await;
    log.restore(copy);
    assert_eq!(kept(&log).await.expect("kept").sequence, 600, "beyond the stream");

    let counters = Counters::on(&log, Some(EVERY));
    assert_eq!(counters.load().await.state, expected(250));
    counters.count(250..251).await;
    counters.bus.shutdown().await;
    assert_eq!(kept(&log).await.expect("kept").sequence, 250);
}

/// No feed wedges on it, and the next command costs a snapshot and a page, not the whole of it.
#[tokio::test]
async fn a_stream_of_a_hundred_thousand_events_is_read_and_goes_on() {
    const EVENTS: u64 = 100_000;
    const AT_ONCE: u64 = 1_000;
    let log = MemoryLog::new("counters");
    for version in (0..EVENTS).step_by(usize::try_from(AT_ONCE).unwrap()) {
        let count = usize::try_from(AT_ONCE).unwrap();
        let mut item = append_with_key(&stream(), version, &format!("many {version}"), count);
        if let Decision::Append(events) = &mut item.decision {
            for (event, number) in events.iter_mut().zip(version..) {
                event.event_type = "Counted".into();
                event.payload = serde_json::to_string(&Counted { number }).unwrap();
            }
        }
        commit_one(&*log, item).await;
    }
    let counters = Counters::on(&log, Some(EVERY));
    counters.count(EVENTS..EVENTS + 1).await;
    assert_eq!(counters.load().await.state, expected(EVENTS + 1));
    counters.bus.shutdown().await;
    // all but what stands behind the snapshot is not read any more
    assert_eq!(kept(&log).await.expect("kept").sequence, EVENTS);
    let events = read_all(&*log).await;
    assert_eq!(events.len() as u64, EVENTS + 1, "every page of the feed is served");
    log.tamper(EVENTS / 2, "not an event");
    assert_eq!(Counters::on(&log, Some(EVERY)).load().await.version, EVENTS + 1);
}

#[tokio::test]
async fn snapshots_that_cannot_be_kept_stop_no_command() {
    // hundreds of streams cross the bound at once: there is room for few of them
    let log = MemoryLog::new("counters");
    let counters = Counters::on(&log, Some(1));
    let commands = (0..500_u64).map(|n| {
        counters.bus.execute(CommandRequest {
            aggregate_id: format!("c{n}").into(),
            command: n,
            scope: "counters:count".into(),
            key: n.to_string().into(),
            fingerprint: Fingerprint([0; 32]),
            expected_version: None,
            metadata: Metadata::default(),
        })
    });
    let answered = tokio::time::timeout(Duration::from_secs(20), futures::future::try_join_all(commands)).await;
    assert_eq!(answered.expect("nobody waits for snapshots").unwrap().len(), 500);
    assert_eq!(counters.log.identity().source.as_ref(), "counters");
}
