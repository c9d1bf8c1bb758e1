//! A log of personal values: what the database holds of them, what its readers see, and what an erasure leaves.

use std::{collections::HashSet, path::Path, sync::Arc, time::Duration};

use event_store::{
    erasure::Erasure,
    feed::{Cursor, Feed, FeedError, PageLimit},
    log::{AppendItem, AppendOutcome, ChainVerdict, Decision, EventLog, LogError},
    memory::{Fault, MemoryLog},
    sealed_log::SealedLog,
    snapshot::{Snapshot, SnapshotStore},
    sqlite::SqliteLog,
    subject_keys::{SubjectKey, SubjectKeys},
    writer::{Writer, WriterOptions},
};
use events::{DecodeError, Published, envelope::RecordedEvent, personal::Personal};
use serde::{Deserialize, Serialize};
use testkit::log_contract::harness::{account, append, commit, commit_one, release, take};
use uuid::Uuid;

const CANARY: &str = "Ana-canary-7f3a";
const ANA: Uuid = Uuid::from_u128(0xA);
const EVA: Uuid = Uuid::from_u128(0xE);

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "type")]
enum Note {
    Noted { of: Personal<String> },
    Erased { subject: Uuid },
}

impl Published for Note {
    const PUBLISHED: &'static [(&'static str, &'static str)] = &[("Noted", "1")];

    fn read(_: &str, _: &str, payload: &str) -> serde_json::Result<Self> {
        serde_json::from_str(payload)
    }
}

fn erases(event: &RecordedEvent) -> Result<Option<Uuid>, DecodeError> {
    Ok(match Note::decode(&event.event_type, &event.event_version, &event.payload)? {
        Note::Noted { .. } => None,
        Note::Erased { subject } => Some(subject),
    })
}

/// An erasure that follows the log's own feed.
fn erasure(log: &Arc<SealedLog>) -> Erasure {
    Erasure::start(log.clone(), log.clone(), erases, || {})
}

fn with_payload(mut item: AppendItem, note: &Note) -> AppendItem {
    if let Decision::Append(events) = &mut item.decision {
        events[0].payload = serde_json::to_string(note).unwrap();
    }
    item
}

fn noted(subject: Uuid, value: &str) -> Note {
    Note::Noted { of: Personal::of(subject, value.to_owned()) }
}

/// Appends a note of `subject` to a stream of their own.
async fn note(log: &dyn EventLog, version: u64, subject: Uuid, value: &str) -> AppendOutcome {
    commit_one(log, with_payload(append(&account(&subject.to_string()), version), &noted(subject, value))).await
}

async fn feed(log: &dyn Feed) -> Vec<RecordedEvent> {
    log.page(Cursor::START, PageLimit::events(100), Duration::ZERO).await.unwrap().events
}

fn value(event: &RecordedEvent) -> Option<String> {
    match serde_json::from_str(&event.payload).unwrap() {
        Note::Noted { of } => of.into_value(),
        Note::Erased { .. } => None,
    }
}

#[tokio::test]
async fn the_log_holds_ciphertext_and_its_readers_see_the_value() {
    let raw = MemoryLog::new("notes");
    let log = SealedLog::new(raw.clone());
    note(&*log, 0, ANA, CANARY).await;
    assert!(!feed(&*raw).await[0].payload.contains(CANARY));
    assert_eq!(value(&feed(&*log).await[0]).as_deref(), Some(CANARY));
    let stream = log.read_stream(&account(&ANA.to_string()), 0, 10).await.unwrap();
    assert_eq!(value(&stream[0]).as_deref(), Some(CANARY));
    assert_eq!(log.verify_chain().await.unwrap(), ChainVerdict::Intact { events: 1, batches: 1 });
}

#[tokio::test]
async fn without_its_key_a_value_is_null_for_every_reader_and_a_neighbours_is_not() {
    let log = SealedLog::new(MemoryLog::new("notes"));
    note(&*log, 0, ANA, CANARY).await;
    note(&*log, 0, EVA, "Eva").await;
    log.erase_keys(&[ANA]).await.unwrap();
    let values: Vec<_> = feed(&*log).await.iter().map(value).collect();
    assert_eq!(values, [None, Some("Eva".to_owned())]);
    assert_eq!(log.verify_chain().await.unwrap(), ChainVerdict::Intact { events: 2, batches: 2 });
    note(&*log, 1, ANA, CANARY).await;
    assert_eq!(value(&feed(&*log).await[2]), None, "what comes too late is never written");
}

#[tokio::test]
async fn a_claim_stands_in_the_log_as_a_hash_and_is_answered_as_it_was_made() {
    let raw = MemoryLog::new("notes");
    let log = SealedLog::new(raw.clone());
    let claiming = |stream: &str, claims| AppendItem { claims, ..append(&account(stream), 0) };
    commit_one(&*log, claiming("a", vec![take("email", CANARY)])).await;
    let taken = commit_one(&*log, claiming("b", vec![take("email", CANARY)])).await;
    assert_eq!(taken, AppendOutcome::Taken(take("email", CANARY)));
    let in_clear = commit_one(&*raw, claiming("c", vec![take("email", CANARY)])).await;
    assert!(matches!(in_clear, AppendOutcome::Appended { .. }), "it stands there under another name");
    let released = AppendItem { claims: vec![release("email", CANARY)], ..append(&account("a"), 1) };
    commit_one(&*log, released).await;
    let again = commit_one(&*log, claiming("b", vec![take("email", CANARY)])).await;
    assert!(matches!(again, AppendOutcome::Appended { .. }), "{again:?}");
}

#[tokio::test]
async fn an_unknown_outcome_is_settled_although_the_ciphertext_is_another_each_time() {
    let raw = MemoryLog::new("notes");
    let writer = Writer::start(SealedLog::new(raw.clone()), WriterOptions::default());
    raw.fail_next(Fault::UnknownCommitted);
    let item = with_payload(append(&account("a"), 0), &noted(ANA, CANARY));
    let outcomes = writer.append(vec![item]).await.unwrap();
    assert_eq!(outcomes, [AppendOutcome::Appended { version: 1, position: 1 }]);
    assert_eq!(value(&feed(&**writer.log()).await[0]).as_deref(), Some(CANARY));
}

#[tokio::test]
async fn a_snapshot_holds_ciphertext() {
    let raw = MemoryLog::new("notes");
    let log = SealedLog::new(raw.clone());
    log.make_keys(&[ANA]).await.unwrap();
    let state = serde_json::to_string(&noted(ANA, CANARY)).unwrap();
    let (stream, event_id) = (account("a"), Uuid::now_v7());
    let snapshot = Snapshot { stream: stream.clone(), fold_version: 1, sequence: 1, event_id, state };
    log.keep_snapshots(vec![snapshot.clone()]).await.unwrap();
    assert!(!raw.snapshot(&stream, 1).await.unwrap().unwrap().state.contains(CANARY));
    assert_eq!(log.snapshot(&stream, 1).await.unwrap(), Some(snapshot));
    log.erase_keys(&[ANA]).await.unwrap();
    assert!(!log.snapshot(&stream, 1).await.unwrap().unwrap().state.contains(CANARY));
}

#[tokio::test]
async fn ciphertext_of_another_event_is_damage_and_not_skipped() {
    let raw = MemoryLog::new("notes");
    let log = SealedLog::new(raw.clone());
    note(&*log, 0, ANA, CANARY).await;
    note(&*log, 1, ANA, "Eva").await;
    raw.tamper(2, &feed(&*raw).await[0].payload);
    let page = log.page(Cursor::START, PageLimit::events(10), Duration::ZERO).await;
    assert!(matches!(page, Err(FeedError::Damaged { position: 2, .. })), "{page:?}");
    let stream = log.read_stream(&account(&ANA.to_string()), 0, 10).await;
    assert!(matches!(stream, Err(LogError::Damaged(_))), "{stream:?}");
}

/// The keys of Ana and Eva are there or not.
async fn wait_for_keys(log: &dyn EventLog, expected: [bool; 2]) {
    for _ in 0..500 {
        let ring = log.keys(&[ANA, EVA]).await.unwrap();
        if [ANA, EVA].map(|subject| ring.contains_key(&subject)) == expected {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the keys are not {expected:?}");
}

#[tokio::test]
async fn an_erasure_deletes_the_key_now_or_at_the_next_start() {
    let log = SealedLog::new(MemoryLog::new("notes"));
    note(&*log, 0, ANA, CANARY).await;
    note(&*log, 0, EVA, "Eva").await;
    let carrying_out = erasure(&log);
    commit_one(&*log, with_payload(append(&account("x"), 0), &Note::Erased { subject: ANA })).await;
    wait_for_keys(&*log, [false, true]).await;
    carrying_out.shutdown().await;
    assert_eq!(log.erased_up_to().await.unwrap().position, 3);

    // as after a crash between the event and the key
    commit_one(&*log, with_payload(append(&account("x"), 1), &Note::Erased { subject: EVA })).await;
    let _erasure = erasure(&log);
    wait_for_keys(&*log, [false, false]).await;
}

#[tokio::test]
async fn erasures_are_carried_out_anew_on_a_log_that_was_restored() {
    let raw = MemoryLog::new("notes");
    let log = SealedLog::new(raw.clone());
    let copy = raw.copy();
    note(&*log, 0, EVA, "Eva").await;
    log.set_erased_up_to(Cursor::at(&feed(&*log).await[0])).await.unwrap();
    raw.restore(copy);
    let _erasure = erasure(&log);
    commit_one(&*log, with_payload(append(&account("x"), 0), &Note::Erased { subject: EVA })).await;
    wait_for_keys(&*log, [false, false]).await;
}

/// All that stands in the files of a folder.
fn content(folder: &Path) -> Vec<Vec<u8>> {
    std::fs::read_dir(folder).unwrap().map(|entry| std::fs::read(entry.unwrap().path()).unwrap()).collect()
}

/// How many of `keys` stand in it: told by their beginnings, for it is long.
fn count(content: &[Vec<u8>], keys: &[&SubjectKey]) -> usize {
    let beginnings: HashSet<&[u8]> = keys.iter().map(|key| &key.0[..8]).collect();
    let windows = content.iter().flat_map(|file| file.windows(8));
    windows.filter(|window| beginnings.contains(window)).collect::<HashSet<_>>().len()
}

#[tokio::test(flavor = "multi_thread")]
async fn on_sqlite_neither_a_value_nor_an_erased_key_is_left_in_any_file() {
    let folder = tempfile::tempdir().unwrap();
    let raw = SqliteLog::open(&folder.path().join("notes.db"), "notes", Default::default()).unwrap();
    let log = SealedLog::new(raw);
    // in no order, so that pages of keys are split, and split again
    let subjects: Vec<Uuid> = std::iter::repeat_with(Uuid::new_v4).take(900).collect();
    for some in subjects.chunks(60) {
        let of =
            |subject: &Uuid| vec![with_payload(append(&account(&subject.to_string()), 0), &noted(*subject, CANARY))];
        commit(&*log, some.iter().map(of)).await;
    }
    let keys = log.keys(&subjects).await.unwrap();
    let (erased, kept) = subjects.split_at(600);
    let erased_keys: Vec<&SubjectKey> = erased.iter().map(|subject| &keys[subject]).collect();
    let before = content(folder.path());
    assert!(!before.iter().any(|file| file.windows(CANARY.len()).any(|window| window == CANARY.as_bytes())));
    assert_eq!(count(&before, &erased_keys), 600, "while they live, they are there");
    for some in erased.chunks(50) {
        log.erase_keys(some).await.unwrap();
    }
    assert_eq!(count(&content(folder.path()), &erased_keys), 0, "erased keys in the files");
    assert_eq!(log.keys(&subjects).await.unwrap().len(), kept.len());
    let events = log.page(Cursor::START, PageLimit::events(5_000), Duration::ZERO).await.unwrap().events;
    assert_eq!(events.iter().filter(|event| value(event).is_some()).count(), kept.len());
}
