//! Laws of what goes wrong: lost answers, restored copies, tampering, callers that go away, things too large.

use std::{sync::Arc, time::Duration};

use event_store::{
    feed::{Cursor, FeedError, PageLimit},
    limits::{LimitError, Limits},
    log::{AppendOutcome, Batch, BatchError, ChainVerdict, CommitError, Decision},
    writer::{Writer, WriterOptions},
};

use events::envelope::to_cloud_event;

use super::harness::{
    LogHarness, account, append, append_with_key, batch, commit, commit_one, event, fresh_key, no_op, read_all,
    read_stream, refusal, take,
};

pub async fn an_unknown_outcome_is_settled_by_resending(harness: &dyn LogHarness) {
    let log = harness.open_cut_after_commit().await;
    let stream = account("a");
    let items = batch([vec![append(&stream, 0), append(&stream, 1), no_op(&stream, 2)]]);
    let lost = log.commit(Arc::clone(&items)).await;
    assert!(matches!(lost, Err(CommitError::Unknown(_))), "{lost:?}");
    let outcomes = log.commit(Arc::clone(&items)).await.expect("the connection is back");
    for (n, (item, outcome)) in items.items().iter().zip(outcomes).enumerate() {
        let AppendOutcome::Duplicate(stored) = outcome else { panic!("item {n} was not recognized: {outcome:?}") };
        assert_eq!(stored.outcome, item.command.outcome);
        let last_event = items.items()[n.min(1)].events()[0].event_id;
        assert_eq!(stored.event_id, Some(last_event), "its own event id is the proof");
    }
    assert_eq!(read_stream(&*log, &stream).await.len(), 2);
}

pub async fn a_writer_settles_an_unknown_outcome_by_itself(harness: &dyn LogHarness) {
    let log = harness.open_cut_after_commit().await;
    let writer = Writer::start(Arc::clone(&log), WriterOptions::default());
    let stream = account("a");
    let chain = vec![append(&stream, 0), append(&stream, 1), refusal(&stream, 2)];
    let outcomes = writer.append(chain).await.expect("settled");
    let expected = [
        AppendOutcome::Appended { version: 1, position: 1 },
        AppendOutcome::Appended { version: 2, position: 2 },
        AppendOutcome::Refused { version: 2, position: 2 },
    ];
    assert_eq!(outcomes, expected);
    assert_eq!(read_all(&*log).await.len(), 2);
    writer.shutdown().await;
}

pub async fn an_older_copy_is_told_from_the_log_even_after_more_writes(harness: &dyn LogHarness) {
    let (stream, limit) = (account("a"), PageLimit::default());
    {
        let log = harness.open().await;
        commit_one(&*log, append_with_key(&stream, 0, &fresh_key(), 3)).await;
    }
    harness.back_up().await;
    let (kept, lost, epoch) = {
        let log = harness.open().await;
        commit_one(&*log, append_with_key(&stream, 3, &fresh_key(), 3)).await;
        let events = read_all(&*log).await;
        (Cursor::at(&events[2]), Cursor::at(&events[5]), log.identity().epoch)
    };
    harness.restore().await;
    let log = harness.open().await;
    assert_eq!(read_all(&*log).await.len(), 3);
    assert_eq!(log.identity().epoch, epoch, "nothing tells the copy but its events");
    let regressed = |answer: Result<_, FeedError>, head: u64| match answer {
        Err(FeedError::Regressed { position: 6, head: told, .. }) => assert_eq!(told, head),
        other => panic!("not regressed: {other:?}"),
    };
    regressed(log.page(lost, limit, Duration::ZERO).await, 3);
    // a wait does not turn it into patience
    regressed(log.page(lost, limit, Duration::from_secs(20)).await, 3);
    // other events take the place of the lost ones, and more
    commit_one(&*log, append_with_key(&stream, 3, &fresh_key(), 5)).await;
    regressed(log.page(lost, limit, Duration::ZERO).await, 8);
    let page = log.page(kept, limit, Duration::ZERO).await.expect("who read only what was kept goes on");
    assert_eq!(page.events.len(), 5);
    assert!(matches!(log.verify_chain().await, Ok(ChainVerdict::Intact { events: 8, batches: 2 })));
}

pub async fn a_place_beyond_the_head_is_answered_as_regressed(harness: &dyn LogHarness) {
    let log = harness.open().await;
    commit_one(&*log, append(&account("a"), 0)).await;
    for event_id in [None, Some(uuid::Uuid::now_v7())] {
        let beyond = Cursor { position: 2, event_id };
        let answer = log.page(beyond, PageLimit::default(), Duration::from_secs(20)).await;
        assert!(matches!(answer, Err(FeedError::Regressed { position: 2, head: 1, .. })), "{answer:?}");
    }
}

pub async fn history_cannot_be_changed(harness: &dyn LogHarness) {
    let log = harness.open().await;
    let mut item = append_with_key(&account("a"), 0, &fresh_key(), 2);
    item.claims = vec![take("email", "x")];
    commit(&*log, [vec![item], vec![append(&account("b"), 0)]]).await;
    let before = read_all(&*log).await;
    for attempt in harness.tamper_attempts().await {
        assert!(attempt.result.is_err(), "was let through: {}", attempt.statement);
    }
    assert_eq!(read_all(&*log).await, before);
    assert_eq!(log.verify_chain().await.expect("verified"), ChainVerdict::Intact { events: 3, batches: 1 });
    assert_eq!(
        commit_one(&*log, append(&account("b"), 1)).await,
        AppendOutcome::Appended { version: 2, position: 4 },
        "the log goes on"
    );
}

pub async fn batch_hashes_verify(harness: &dyn LogHarness) {
    let log = harness.open().await;
    assert_eq!(log.verify_chain().await.expect("verified"), ChainVerdict::Intact { events: 0, batches: 0 });
    let (one, two) = (harness.open().await, harness.open().await);
    for n in 0..10 {
        let log = if n % 2 == 0 { &one } else { &two };
        let stream = account(&n.to_string());
        let chain = vec![append_with_key(&stream, 0, &fresh_key(), 3), no_op(&stream, 3)];
        // a conflict leaves no trace, and a batch without events no hash
        let conflicting = vec![append(&account(&format!("conflict-{n}")), 9)];
        commit(&**log, [chain, conflicting]).await;
        commit_one(&**log, refusal(&stream, 3)).await;
    }
    assert_eq!(log.verify_chain().await.expect("verified"), ChainVerdict::Intact { events: 30, batches: 10 });
}

pub async fn tampering_is_named(harness: &dyn LogHarness) {
    let log = harness.open().await;
    for n in 0..5 {
        commit_one(&*log, append_with_key(&account(&n.to_string()), 0, &fresh_key(), 2)).await;
    }
    harness.tamper(6, r#"{"note":"never happened"}"#).await;
    let verdict = harness.open().await.verify_chain().await.expect("verified");
    assert!(matches!(verdict, ChainVerdict::Broken { first: 5, last: 6, .. }), "{verdict:?}");
}

pub async fn commits_whose_callers_go_away_are_committed_or_not_but_never_half(harness: &dyn LogHarness) {
    const COMMITS: u64 = 200;
    let log = harness.open().await;
    let mut tried = Vec::new();
    for n in 0..COMMITS {
        let items = batch((0..3).map(|part| vec![append(&account(&format!("{n}-{part}")), 0)]));
        let commit = {
            let (log, items) = (Arc::clone(&log), Arc::clone(&items));
            tokio::spawn(async move { log.commit(items).await.map(|_| ()) })
        };
        // from not even polled to done
        tokio::time::sleep(Duration::from_micros(n * 20)).await;
        commit.abort();
        let acknowledged = matches!(commit.await, Ok(Ok(())));
        tried.push((items, acknowledged));
    }
    // what is still under way ends before this is answered, or conflicts with nothing
    commit_one(&*log, append(&account("last"), 0)).await;
    let settled = settle(harness).await;
    for (items, acknowledged) in &tried {
        let there = items.items().iter().filter(|item| settled.contains(&item.events()[0].event_id)).count();
        assert!(there == 0 || there == 3, "a batch is there in part");
        assert!(there == 3 || !acknowledged, "an acknowledged batch is gone");
    }
    assert_eq!(harness.open_transactions().await, 0, "no connection is left in a transaction");
    // every batch can be sent again, whatever became of it
    for (items, _) in &tried {
        log.commit(Arc::clone(items)).await.expect("the log is well");
    }
    assert_eq!(read_all(&*log).await.len() as u64, COMMITS * 3 + 1);
}

/// The ids of all events, once nothing is added any more.
async fn settle(harness: &dyn LogHarness) -> Vec<uuid::Uuid> {
    let log = harness.open().await;
    let mut events = read_all(&*log).await;
    loop {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let now = read_all(&*log).await;
        if now.len() == events.len() {
            return now.into_iter().map(|event| event.event_id).collect();
        }
        events = now;
    }
}

pub async fn the_largest_event_and_the_longest_names_are_stored_and_served(harness: &dyn LogHarness) {
    let log = harness.open().await;
    let limits = Limits::default();
    let wide = |length: usize| "\u{1f30a}".repeat(length);
    let mut item = append(&account(&wide(limits.id_chars_max)), 0);
    item.command.key = wide(limits.id_chars_max).into();
    item.command.scope = wide(limits.name_chars_max).into();
    item.command.outcome = format!("\"{}\"", "x".repeat(limits.outcome_bytes_max - 2));
    item.claims = vec![take(&wide(limits.id_chars_max), &wide(limits.name_chars_max))];
    let mut large = event("");
    large.event_type = wide(limits.id_chars_max).into();
    large.event_version = wide(limits.id_chars_max).into();
    large.payload = String::new();
    let room = limits.event_bytes_max - Limits::enveloped_bytes(&item.stream, &large);
    large.payload = format!("\"{}\"", "x".repeat(room - 2));
    let many = (1..limits.events_per_command_max).map(|n| event(&n.to_string()));
    item.decision = Decision::Append(std::iter::once(large).chain(many).collect());
    assert!(commit_one(&*log, item.clone()).await.is_applied());
    let events = read_all(&*log).await;
    assert_eq!(events.len(), limits.events_per_command_max);
    assert_eq!((&events[0].payload, &events[0].stream), (&item.events()[0].payload, &item.stream));
    let line = to_cloud_event(log.source(), &events[0]).expect("it is an event");
    assert!(line.len() <= limits.event_bytes_max, "{} bytes with its envelope", line.len());
    let stored = log.stored_outcome(&item.command.scope, &item.command.key).await.expect("the store answers");
    assert_eq!(stored.expect("stored").outcome, item.command.outcome);
}

pub async fn what_passes_a_limit_is_refused_with_the_limit_named(harness: &dyn LogHarness) {
    let log = harness.open().await;
    let limits = Limits::default();
    let mut item = append(&account("a"), 0);
    let mut large = event("");
    large.payload = String::new();
    let room = limits.event_bytes_max - Limits::enveloped_bytes(&item.stream, &large);
    large.payload = format!("\"{}\"", "x".repeat(room - 1));
    item.decision = Decision::Append(vec![large]);
    let refused = Batch::try_new(vec![item], &limits).map(|_| ());
    let Err(BatchError::Limit(error @ LimitError::EventBytes { .. })) = refused else { panic!("{refused:?}") };
    assert!(error.to_string().contains("786432"), "{error}");
    let long = account(&"x".repeat(limits.id_chars_max + 1));
    let refused = Batch::try_new(vec![append(&long, 0)], &limits).map(|_| ());
    assert!(matches!(refused, Err(BatchError::Limit(LimitError::Chars { limit: 128, .. }))), "{refused:?}");
    let many = append_with_key(&account("a"), 0, "many", limits.events_per_command_max + 1);
    let refused = Batch::try_new(vec![many], &limits).map(|_| ());
    assert!(matches!(refused, Err(BatchError::Limit(LimitError::Events { limit: 1_000, .. }))), "{refused:?}");
    assert_eq!(read_all(&*log).await.len(), 0);
}
