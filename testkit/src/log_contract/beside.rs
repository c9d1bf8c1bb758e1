//! Laws of what is kept beside a log: snapshots, and the keys of persons.

use event_store::{feed::Cursor, log::ChainVerdict, snapshot::Snapshot, subject_keys::KeyRing};
use uuid::Uuid;

use super::harness::{LogHarness, account, append, commit_one};

fn snapshot(name: &str, fold_version: u32, sequence: u64) -> Snapshot {
    let state = format!(r#"{{"of": "{name} at {sequence}", "é": [1.50]}}"#);
    Snapshot { stream: account(name), fold_version, sequence, event_id: Uuid::now_v7(), state }
}

fn subjects(count: usize) -> Vec<Uuid> {
    std::iter::repeat_with(Uuid::now_v7).take(count).collect()
}

pub async fn a_snapshot_is_read_back_by_its_stream_and_version_on_every_handle(harness: &dyn LogHarness) {
    let (log, other) = (harness.open().await, harness.open().await);
    let kept = [snapshot("a", 1, 200), snapshot("b", 7, 1), snapshot("c", u32::MAX, 3)];
    log.keep_snapshots(kept.to_vec()).await.expect("kept");
    for snapshot in &kept {
        let read = other.snapshot(&snapshot.stream, snapshot.fold_version).await.expect("read");
        assert_eq!(read.as_ref(), Some(snapshot));
    }
    assert_eq!(other.snapshot(&account("a"), 2).await.expect("read"), None, "of another version");
    assert_eq!(other.snapshot(&account("d"), 1).await.expect("read"), None, "of another stream");
    log.keep_snapshots(Vec::new()).await.expect("none is no error");
}

pub async fn a_snapshot_takes_the_place_of_the_one_before_and_of_earlier_versions(harness: &dyn LogHarness) {
    let log = harness.open().await;
    let first = snapshot("a", 1, 400);
    log.keep_snapshots(vec![first, snapshot("b", 1, 5)]).await.expect("kept");
    // also one that reaches less far: a log that was restored is shorter
    let shorter = snapshot("a", 1, 200);
    log.keep_snapshots(vec![shorter.clone()]).await.expect("kept");
    assert_eq!(log.snapshot(&account("a"), 1).await.expect("read"), Some(shorter));
    let newer = snapshot("a", 2, 600);
    log.keep_snapshots(vec![newer.clone()]).await.expect("kept");
    assert_eq!(log.snapshot(&account("a"), 2).await.expect("read"), Some(newer.clone()));
    assert_eq!(log.snapshot(&account("a"), 1).await.expect("read"), None);
    assert!(log.snapshot(&account("b"), 1).await.expect("read").is_some(), "another stream's stays");
    log.keep_snapshots(vec![snapshot("a", 1, 800)]).await.expect("kept");
    let kept = log.snapshot(&account("a"), 2).await.expect("read");
    assert_eq!(kept, Some(newer), "an earlier release that still runs takes nothing from a later one");
}

pub async fn snapshots_are_no_part_of_the_history(harness: &dyn LogHarness) {
    let log = harness.open().await;
    commit_one(&*log, append(&account("a"), 0)).await;
    log.keep_snapshots(vec![snapshot("a", 1, 1)]).await.expect("kept");
    assert_eq!(log.verify_chain().await.expect("verified"), ChainVerdict::Intact { events: 1, batches: 1 });
}

pub async fn a_subject_gets_one_key_whoever_asks_first(harness: &dyn LogHarness) {
    let handles = [harness.open().await, harness.open().await];
    let subjects = subjects(50);
    let backwards: Vec<Uuid> = subjects.iter().rev().copied().collect();
    let rings: Vec<KeyRing> =
        futures::future::try_join_all([handles[0].make_keys(&subjects), handles[1].make_keys(&backwards)])
            .await
            .expect("made");
    assert_eq!(rings[0].len(), 50);
    assert_eq!(rings[0], rings[1]);
    assert_eq!(handles[0].make_keys(&subjects).await.expect("there already"), rings[0]);
    let mut different: Vec<[u8; 32]> = rings[0].values().map(|key| key.0).collect();
    different.sort_unstable();
    different.dedup();
    assert_eq!(different.len(), 50, "no two have the same key");
}

pub async fn keys_are_asked_for_without_being_made(harness: &dyn LogHarness) {
    let log = harness.open().await;
    let subjects = subjects(3);
    assert!(log.keys(&subjects).await.expect("none").is_empty());
    let made = log.make_keys(&subjects[..2]).await.expect("made");
    assert_eq!(log.keys(&subjects).await.expect("read"), made);
    assert!(log.keys(&[]).await.expect("none").is_empty());
    assert!(log.make_keys(&[]).await.expect("none").is_empty());
}

pub async fn an_erased_key_is_gone_and_is_not_made_again(harness: &dyn LogHarness) {
    let (log, other) = (harness.open().await, harness.open().await);
    let subjects = subjects(3);
    let made = log.make_keys(&subjects[..2]).await.expect("made");
    // one with a key, and one that never had one
    for _ in 0..2 {
        log.erase_keys(&subjects[1..]).await.expect("erased, also twice");
    }
    assert!(log.make_keys(&subjects[1..]).await.expect("asked").is_empty());
    let left = other.keys(&subjects).await.expect("read");
    assert_eq!(left, KeyRing::from([(subjects[0], made[&subjects[0]])]), "a neighbour's key stays");
}

pub async fn how_far_erasures_are_done_is_remembered(harness: &dyn LogHarness) {
    let (log, other) = (harness.open().await, harness.open().await);
    assert_eq!(log.erased_up_to().await.expect("read"), Cursor::START);
    let place = |position| Cursor { position, event_id: Some(Uuid::now_v7()) };
    // also backwards: a feed that was restored is shorter
    for place in [place(7), place(3), Cursor::START] {
        log.set_erased_up_to(place).await.expect("set");
        assert_eq!(other.erased_up_to().await.expect("read"), place);
    }
}
