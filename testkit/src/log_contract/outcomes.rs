//! Laws of versions, chains, keys and claims: what becomes of an item.

use std::sync::Arc;

use event_store::{
    limits::Limits,
    log::{
        AppendItem, AppendOutcome, Batch, ChainVerdict, Claim, Decision, EventLog, Fingerprint, StoredOutcome,
        check_chain,
    },
    memory::MemoryLog,
};
use events::envelope::{RecordedEvent, StreamId};
use uuid::Uuid;

use super::harness::{
    LogHarness, account, append, append_with_key, batch, commit, commit_one, event, fresh_key, no_op, read_all,
    read_stream, refusal, release, take,
};

fn appended(version: u64, position: u64) -> AppendOutcome {
    AppendOutcome::Appended { version, position }
}

fn conflict(expected: u64, actual: u64) -> AppendOutcome {
    AppendOutcome::Conflict { expected, actual }
}

fn stored(outcome: AppendOutcome) -> StoredOutcome {
    match outcome {
        AppendOutcome::Duplicate(stored) => stored,
        other => panic!("not a duplicate: {other:?}"),
    }
}

fn with_claims(mut item: AppendItem, claims: impl IntoIterator<Item = Claim>) -> AppendItem {
    item.claims = claims.into_iter().collect();
    item
}

async fn is_remembered(log: &dyn EventLog, item: &AppendItem) -> bool {
    let stored = log.stored_outcome(&item.command.scope, &item.command.key).await.expect("the store answers");
    stored.is_some()
}

pub async fn events_are_read_back_byte_for_byte(harness: &dyn LogHarness) {
    let log = harness.open().await;
    let stream = account("bytes-é-\u{1f30a}");
    let mut written = append_with_key(&stream, 0, &fresh_key(), 2);
    let Decision::Append(events) = &mut written.decision else { unreachable!() };
    events[0].payload = "{\"b\":1,  \"a\":\"é \\u0000 \u{1f30a}\",\n \"n\":1.50}".into();
    events[1].event_type = "Ünusual".into();
    events[1].event_version = "2.1".into();
    assert_eq!(commit_one(&*log, written.clone()).await, appended(2, 2));

    let read = read_stream(&*log, &stream).await;
    assert_eq!(read, read_all(&*log).await);
    for (new, event) in written.events().iter().zip(&read) {
        assert_eq!((event.event_id, &event.stream), (new.event_id, &stream));
        assert_eq!((&event.event_type, &event.event_version), (&new.event_type, &new.event_version));
        assert_eq!((&event.payload, &event.metadata), (&new.payload, &new.metadata));
    }
}

pub async fn an_expected_version_that_is_not_the_streams_is_a_conflict(harness: &dyn LogHarness) {
    let log = harness.open().await;
    let stream = account("a");
    assert_eq!(commit_one(&*log, append(&stream, 1)).await, conflict(1, 0), "there is no such stream yet");
    assert_eq!(commit_one(&*log, append_with_key(&stream, 0, "first", 2)).await, appended(2, 1 + 1));
    assert_eq!(commit_one(&*log, append(&stream, 0)).await, conflict(0, 2));
    assert_eq!(commit_one(&*log, append(&stream, 1)).await, conflict(1, 2));
    assert_eq!(commit_one(&*log, append(&stream, 3)).await, conflict(3, 2));
    assert_eq!(commit_one(&*log, append(&stream, 2)).await, appended(3, 3));
    assert_eq!(read_stream(&*log, &stream).await.len(), 3);
}

pub async fn one_conflict_among_many_fails_no_neighbour(harness: &dyn LogHarness) {
    let log = harness.open().await;
    commit_one(&*log, append(&account("5"), 0)).await;
    let streams: Vec<_> = (0..10).map(|n| account(&n.to_string())).collect();
    let outcomes = commit(&*log, streams.iter().map(|stream| vec![append(stream, 0)])).await;
    for (n, outcome) in outcomes.iter().enumerate() {
        let position = if n < 5 { n as u64 + 2 } else { n as u64 + 1 };
        let expected = if n == 5 { conflict(0, 1) } else { appended(1, position) };
        assert_eq!(*outcome, expected, "item {n}");
    }
    assert_eq!(read_all(&*log).await.len(), 10, "a refused item leaves no hole");
}

pub async fn nothing_behind_a_conflicting_chain_head_is_applied_even_when_its_version_fits(harness: &dyn LogHarness) {
    let log = harness.open().await;
    let (stream, neighbour) = (account("chain"), account("neighbour"));
    commit_one(&*log, append(&stream, 0)).await;
    // the head was decided on version 0, but the stream is at 1, which is what the second item expects
    let chain = vec![append(&stream, 0), append(&stream, 1), no_op(&stream, 2)];
    let outcomes = commit(&*log, [chain.clone(), vec![append(&neighbour, 0)]]).await;
    assert_eq!(outcomes, [conflict(0, 1), conflict(1, 1), conflict(2, 1), appended(1, 2)]);
    for item in &chain {
        assert!(!is_remembered(&*log, item).await);
    }
    // decided again on what is true, the same commands go through
    let again = vec![append(&stream, 1), append(&stream, 2), no_op(&stream, 3)];
    let outcomes = commit(&*log, [again]).await;
    assert_eq!(outcomes, [appended(2, 3), appended(3, 4), AppendOutcome::Unchanged { version: 3, position: 4 }]);
}

pub async fn a_duplicate_in_the_middle_of_a_chain_stops_what_is_behind_it(harness: &dyn LogHarness) {
    let log = harness.open().await;
    let stream = account("chain");
    let twin = no_op(&account("elsewhere"), 0);
    let done = append(&account("done"), 0);
    assert!(commit(&*log, [vec![twin.clone()], vec![done.clone()]]).await.iter().all(AppendOutcome::is_applied));

    let mut repeated = no_op(&stream, 1);
    repeated.command = twin.command.clone();
    // its version fits, since the duplicate before it would have appended nothing
    let behind = append(&stream, 1);
    let mut repeated_behind = no_op(&stream, 2);
    repeated_behind.command = done.command.clone();
    let chain = vec![append(&stream, 0), repeated, behind.clone(), repeated_behind];
    let outcomes = commit(&*log, [chain]).await;
    assert_eq!(outcomes[0], appended(1, 2));
    assert_eq!(stored(outcomes[1].clone()).outcome, twin.command.outcome);
    assert_eq!(outcomes[2], conflict(1, 1));
    assert_eq!(stored(outcomes[3].clone()).outcome, done.command.outcome, "a stored answer goes before a conflict");
    assert!(!is_remembered(&*log, &behind).await);
    assert_eq!(read_stream(&*log, &stream).await.len(), 1);
}

pub async fn a_refusal_and_a_no_op_are_confirmed_against_a_second_writer(harness: &dyn LogHarness) {
    let (one, two) = (harness.open().await, harness.open().await);
    let stream = account("a");
    let first = append(&stream, 0);
    commit_one(&*one, first.clone()).await;
    assert_eq!(commit_one(&*two, no_op(&stream, 1)).await, AppendOutcome::Unchanged { version: 1, position: 1 });
    assert_eq!(commit_one(&*two, refusal(&stream, 1)).await, AppendOutcome::Refused { version: 1, position: 1 });
    assert_eq!(
        commit_one(&*two, refusal(&account("empty"), 0)).await,
        AppendOutcome::Refused { version: 0, position: 0 }
    );
    // the second writer appends; what the first decided on its cache is not confirmed any more
    commit_one(&*two, append(&account("other"), 0)).await;
    commit_one(&*two, append(&stream, 1)).await;
    let (stale_no_op, stale_refusal) = (no_op(&stream, 1), refusal(&stream, 1));
    assert_eq!(commit_one(&*one, stale_no_op.clone()).await, conflict(1, 2));
    assert_eq!(commit_one(&*one, stale_refusal.clone()).await, conflict(1, 2));
    assert!(!is_remembered(&*two, &stale_no_op).await && !is_remembered(&*two, &stale_refusal).await);
    // and a no-op remembers the stream's last event, which is not the log's
    commit_one(&*two, append(&account("third"), 0)).await;
    let confirmed = no_op(&stream, 2);
    assert_eq!(commit_one(&*one, confirmed.clone()).await, AppendOutcome::Unchanged { version: 2, position: 3 });
    let remembered = stored(commit_one(&*two, confirmed).await);
    let last = read_stream(&*one, &stream).await.pop().expect("two events");
    assert_eq!((remembered.position, remembered.event_id), (3, Some(last.event_id)));
    let remembered = stored(commit_one(&*one, first).await);
    assert_eq!(remembered.position, 1);
}

pub async fn a_key_has_one_effect_and_its_stored_answer(harness: &dyn LogHarness) {
    let log = harness.open().await;
    let stream = account("a");
    let first = append_with_key(&stream, 0, "once", 2);
    assert_eq!(commit_one(&*log, first.clone()).await, appended(2, 2));
    let again = append_with_key(&stream, 2, "once", 1);
    let stored = stored(commit_one(&*log, again).await);
    assert_eq!(stored.outcome, first.command.outcome, "the first answer, byte for byte");
    assert_eq!((stored.position, stored.event_id), (2, Some(first.events()[1].event_id)));
    assert_eq!(log.stored_outcome("contract", "once").await.expect("the store answers"), Some(stored));
    assert_eq!(log.stored_outcome("contract", "never").await.expect("the store answers"), None);
    // the same key in another scope is another command
    let mut elsewhere = append_with_key(&stream, 2, "once", 1);
    elsewhere.command.scope = "elsewhere".into();
    assert_eq!(commit_one(&*log, elsewhere).await, appended(3, 3));
}

pub async fn a_retried_key_gets_its_answer_although_the_stream_moved_on(harness: &dyn LogHarness) {
    let log = harness.open().await;
    let stream = account("a");
    let first = append(&stream, 0);
    commit_one(&*log, first.clone()).await;
    commit_one(&*log, append(&stream, 1)).await;
    let remembered = stored(commit_one(&*log, first.clone()).await);
    assert_eq!((remembered.position, remembered.event_id), (1, Some(first.events()[0].event_id)));
    // also when its claim is gone to another stream meanwhile
    let claimed = with_claims(append(&account("b"), 0), [take("email", "x")]);
    commit_one(&*log, claimed.clone()).await;
    commit_one(&*log, with_claims(append(&account("b"), 1), [release("email", "x")])).await;
    commit_one(&*log, with_claims(append(&account("c"), 0), [take("email", "x")])).await;
    assert_eq!(stored(commit_one(&*log, claimed).await).position, 3);
}

pub async fn the_same_key_on_two_writers_at_once_is_applied_once(harness: &dyn LogHarness) {
    let (one, two) = (harness.open().await, harness.open().await);
    for round in 0..20 {
        let key = format!("round-{round}");
        // different streams, so that only the key can tell
        let (left, right) = (account(&format!("left-{round}")), account(&format!("right-{round}")));
        let (left, right) = (append_with_key(&left, 0, &key, 1), append_with_key(&right, 0, &key, 1));
        let (a, b) = tokio::join!(commit_one(&*one, left), commit_one(&*two, right));
        let applied = [&a, &b].into_iter().filter(|outcome| outcome.is_applied()).count();
        assert_eq!(applied, 1, "{a:?} and {b:?}");
        assert_eq!(stored(if a.is_applied() { b } else { a }).position, round + 1);
    }
    assert_eq!(read_all(&*one).await.len(), 20);
}

pub async fn the_same_key_with_another_body_shows_the_stored_fingerprint(harness: &dyn LogHarness) {
    let log = harness.open().await;
    let mut first = append(&account("a"), 0);
    first.command.fingerprint = Fingerprint::of(log.identity(), "deposit", b"{\"amount\":1}");
    commit_one(&*log, first.clone()).await;
    let mut other = append(&account("a"), 1);
    other.command = first.command.clone();
    other.command.fingerprint = Fingerprint::of(log.identity(), "deposit", b"{\"amount\":2}");
    assert_ne!(first.command.fingerprint, other.command.fingerprint);
    assert_eq!(stored(commit_one(&*log, other).await).fingerprint, first.command.fingerprint);
    assert_eq!(read_all(&*log).await.len(), 1);
}

pub async fn a_key_is_stored_only_when_its_item_is_applied(harness: &dyn LogHarness) {
    let log = harness.open().await;
    commit_one(&*log, with_claims(append(&account("holder"), 0), [take("sku", "1")])).await;
    let conflicting = append(&account("a"), 7);
    let taken = with_claims(append(&account("b"), 0), [take("sku", "1")]);
    let outcomes = commit(&*log, [vec![conflicting.clone()], vec![taken.clone()]]).await;
    assert!(outcomes.iter().all(|outcome| !outcome.is_applied()), "{outcomes:?}");
    for mut item in [conflicting, taken] {
        assert!(!is_remembered(&*log, &item).await);
        (item.expected_version, item.claims) = (0, Vec::new());
        assert!(commit_one(&*log, item).await.is_applied(), "the key is still free");
    }
}

pub async fn a_claim_is_refused_while_another_stream_holds_it(harness: &dyn LogHarness) {
    let (one, two) = (harness.open().await, harness.open().await);
    let claim = take("email", "ada@example.org");
    let ada = with_claims(append(&account("ada"), 0), [claim.clone()]);
    assert!(commit_one(&*one, ada).await.is_applied());
    // nothing of the refused item stays, neither its event nor its other claim
    let eve = with_claims(append(&account("eve"), 0), [take("email", "eve@example.org"), claim.clone()]);
    let behind = append(&account("eve"), 1);
    let outcomes = commit(&*two, [vec![eve.clone(), behind], vec![append(&account("bob"), 0)]]).await;
    assert_eq!(outcomes, [AppendOutcome::Taken(claim), conflict(1, 0), appended(1, 2)]);
    assert!(!is_remembered(&*one, &eve).await);
    let bob = with_claims(append(&account("bob"), 1), [take("email", "eve@example.org")]);
    assert!(commit_one(&*one, bob).await.is_applied());
    // another kind of name with the same value is another claim
    let sku = with_claims(append(&account("eve"), 0), [take("sku", "ada@example.org")]);
    assert!(commit_one(&*two, sku).await.is_applied());
}

pub async fn a_claim_is_taken_again_by_its_holder_and_by_others_once_released(harness: &dyn LogHarness) {
    let log = harness.open().await;
    let (ada, eve) = (account("ada"), account("eve"));
    let chain =
        vec![with_claims(append(&ada, 0), [take("email", "x")]), with_claims(append(&ada, 1), [take("email", "y")])];
    assert!(commit(&*log, [chain]).await.iter().all(AppendOutcome::is_applied));
    assert!(commit_one(&*log, with_claims(append(&ada, 2), [take("email", "x")])).await.is_applied());
    assert!(!commit_one(&*log, with_claims(append(&eve, 0), [take("email", "x")])).await.is_applied());
    assert!(commit_one(&*log, with_claims(append(&ada, 3), [release("email", "x")])).await.is_applied());
    assert!(commit_one(&*log, with_claims(append(&eve, 0), [take("email", "x")])).await.is_applied());
    assert!(!commit_one(&*log, with_claims(append(&ada, 4), [take("email", "x")])).await.is_applied());
}

pub async fn a_claim_is_released_in_the_item_that_takes_another(harness: &dyn LogHarness) {
    let log = harness.open().await;
    let (ada, eve) = (account("ada"), account("eve"));
    commit_one(&*log, with_claims(append(&ada, 0), [take("email", "old")])).await;
    commit_one(&*log, with_claims(append(&eve, 0), [take("email", "held")])).await;
    // when the new one is taken, the old one is not given back
    let failed =
        commit_one(&*log, with_claims(append(&ada, 1), [release("email", "old"), take("email", "held")])).await;
    assert_eq!(failed, AppendOutcome::Taken(take("email", "held")));
    assert!(!commit_one(&*log, with_claims(append(&eve, 1), [take("email", "old")])).await.is_applied());
    let moved = with_claims(append(&ada, 1), [release("email", "old"), take("email", "new")]);
    assert!(commit_one(&*log, moved).await.is_applied());
    assert!(commit_one(&*log, with_claims(append(&eve, 1), [take("email", "old")])).await.is_applied());
    assert!(!commit_one(&*log, with_claims(append(&eve, 2), [take("email", "new")])).await.is_applied());
}

pub async fn a_claim_that_another_stream_holds_is_not_released(harness: &dyn LogHarness) {
    let log = harness.open().await;
    commit_one(&*log, with_claims(append(&account("ada"), 0), [take("email", "x")])).await;
    let eve = with_claims(append(&account("eve"), 0), [release("email", "x"), release("email", "nobodys")]);
    assert!(commit_one(&*log, eve).await.is_applied(), "nothing happens, which is no error");
    let taken = commit_one(&*log, with_claims(append(&account("eve"), 1), [take("email", "x")])).await;
    assert_eq!(taken, AppendOutcome::Taken(take("email", "x")));
}

pub async fn an_event_id_that_is_in_the_log_already_refuses_the_batch(harness: &dyn LogHarness) {
    let log = harness.open().await;
    let first = append(&account("a"), 0);
    commit_one(&*log, first.clone()).await;
    let mut repeated = append(&account("b"), 0);
    let mut twin = event("twin");
    twin.event_id = first.events()[0].event_id;
    repeated.decision = Decision::Append(vec![event("new"), twin]);
    let neighbour = append(&account("c"), 0);
    let refused = log.commit(batch([vec![neighbour.clone()], vec![repeated]])).await;
    assert!(matches!(refused, Err(event_store::log::CommitError::Refused(_))), "{refused:?}");
    assert_eq!(read_all(&*log).await.len(), 1, "nothing of the batch stays");
    assert_eq!(commit_one(&*log, neighbour).await, appended(1, 2), "and the log goes on");
}

pub async fn an_empty_batch_is_answered_with_nothing(harness: &dyn LogHarness) {
    let log: Arc<dyn EventLog> = harness.open().await;
    assert_eq!(commit(&*log, []).await, []);
    assert_eq!(log.read_stream(&account("none"), 0, 10).await.expect("the stream is read"), []);
    assert_ne!(log.identity().epoch, Uuid::nil());
}

/// Chains made at random, mostly sound: on few streams, so that they conflict, with keys and claims that come again.
struct Chains {
    state: u64,
    keys: u64,
}

impl Chains {
    /// A number below `bound` (SplitMix64).
    fn below(&mut self, bound: u64) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }

    fn key(&mut self) -> String {
        let used_before = self.keys > 0 && self.below(7) == 0;
        self.keys += u64::from(!used_before);
        format!("random-{}", if used_before { self.below(self.keys) } else { self.keys - 1 })
    }

    fn claims(&mut self) -> Vec<Claim> {
        let count = [0, 0, 0, 1, 2][usize::try_from(self.below(5)).expect("small")];
        let mut claims: Vec<Claim> = Vec::new();
        while claims.len() < count {
            let value = format!("name-{}", self.below(6));
            let claim = if self.below(3) == 0 { release("name", &value) } else { take("name", &value) };
            if claims.iter().all(|other| other.value != claim.value) {
                claims.push(claim);
            }
        }
        claims
    }

    fn chain(&mut self, stream: &StreamId, version: u64) -> Vec<AppendItem> {
        // one version too far or too early now and then
        let mut version = match self.below(8) {
            0 => version + 1,
            1 => version.saturating_sub(1),
            _ => version,
        };
        let mut chain = Vec::new();
        for _ in 0..=self.below(4) {
            let count = usize::try_from(self.below(4)).expect("small");
            let mut item = append_with_key(stream, version, &self.key(), count);
            if count == 0 {
                item.decision = if self.below(2) == 0 { Decision::Unchanged } else { Decision::Refused };
            }
            item.claims = self.claims();
            version = item.version_after();
            chain.push(item);
        }
        chain
    }
}

pub async fn any_batch_has_the_outcomes_that_the_log_in_memory_gives(harness: &dyn LogHarness) {
    const BATCHES: u64 = 400;
    const SEED: u64 = 2;
    let (log, model) = (harness.open().await, MemoryLog::new("model"));
    let streams: Vec<_> = (0..6).map(|n| account(&n.to_string())).collect();
    let mut chains = Chains { state: SEED, keys: 0 };
    let mut seen = std::collections::HashSet::new();
    for n in 0..BATCHES {
        let mut batch = Batch::default();
        for _ in 0..=chains.below(4) {
            let stream = &streams[usize::try_from(chains.below(6)).expect("small")];
            let version = read_stream(&*model, stream).await.len() as u64;
            let chain = chains.chain(stream, version);
            // what stands twice would wait for the next batch
            if check_chain(&chain, &Limits::default()).is_ok() {
                let _ = batch.push(chain);
            }
        }
        let batch = Arc::new(batch);
        let expected = model.commit(Arc::clone(&batch)).await.expect("the model answers");
        let outcomes = log.commit(Arc::clone(&batch)).await.expect("the log answers");
        assert_eq!(outcomes, expected, "batch {n} of seed {SEED}: {:#?}", batch.items());
        seen.extend(outcomes.iter().map(std::mem::discriminant));
    }
    assert_eq!(seen.len(), 6, "every outcome came up");
    let facts = |events: Vec<RecordedEvent>| -> Vec<_> {
        events.into_iter().map(|event| (event.position, event.event_id, event.stream, event.sequence)).collect()
    };
    assert_eq!(facts(read_all(&*log).await), facts(read_all(&*model).await));
    assert!(matches!(log.verify_chain().await, Ok(ChainVerdict::Intact { .. })));
}
