//! The follower kernel on logs in memory: order, duplicates, fences, halts, parking, bounds, ends.

use std::{sync::Arc, time::Duration};

use event_store::{
    clock::{Clock, ManualClock},
    feed::Feed,
    follower::{
        Checkpoint, Coverage, Follower, FollowerHandle, FollowerOptions, FollowerStore, HaltReason, SourceState,
        StartAt, Status, StopReason, TokenWaitError, Vector, WaitError,
    },
    memory::MemoryLog,
};
use events::{consistency::ConsistencyToken, envelope::Name};
use testkit::follower_kit::{
    LedgerStore, PATIENCE, POISON_TYPE, ScriptedStore, StoreFault, UNKNOWN_TYPE, assert_each_once, feeds, ledger, logs,
    options, soon, write, write_many,
};
use uuid::Uuid;

fn start(logs: &[Arc<MemoryLog>], store: &Arc<impl FollowerStore>, options: FollowerOptions) -> FollowerHandle {
    Follower::start("test", feeds(logs), Arc::clone(store) as Arc<dyn FollowerStore>, options)
}

/// Only the position of a target counts.
fn at((source, position): (&str, u64)) -> (Name, Checkpoint) {
    (source.into(), Checkpoint { position, ..Checkpoint::START })
}

fn target(source: &str, position: u64) -> Vector {
    [at((source, position))].into_iter().collect()
}

async fn assert_all_once(store: &LedgerStore, logs: &[Arc<MemoryLog>], context: &str) {
    for log in logs {
        assert_each_once(store, &**log, &[], context).await;
    }
}

#[tokio::test]
async fn every_event_of_every_source_is_applied_once_and_in_order() {
    let (logs, store) = (logs(&[("users", 50), ("orders", 101)]).await, ledger());
    let follower = start(&logs, &store, options());
    soon("the past", follower.caught_up()).await.unwrap();
    assert_all_once(&store, &logs, "the past").await;

    write_many(&logs[0], 20, 2).await;
    write_many(&logs[1], 20, 2).await;
    let target: Vector = [("users", 70), ("orders", 121)].into_iter().map(at).collect();
    soon("the present", follower.reached(&target)).await.unwrap();
    assert_all_once(&store, &logs, "the present").await;

    let status = follower.status();
    assert_eq!((status.lag_events(), status.sources["orders"].state.clone()), (0, SourceState::Running));
    assert_eq!(status.sources["orders"].counters.events_applied, 121);
    assert_eq!(status.vector, store.view(|_, vector| vector.clone()));
    assert_eq!(soon("the end", follower.shutdown(PATIENCE)).await, StopReason::Shutdown);
}

#[tokio::test]
async fn a_follower_goes_on_where_the_last_one_stopped() {
    let (logs, store) = (logs(&[("users", 30)]).await, ledger());
    for round in 0..4 {
        let follower = start(&logs, &store, options());
        soon("catching up", follower.caught_up()).await.unwrap();
        assert_eq!(follower.shutdown(PATIENCE).await, StopReason::Shutdown);
        assert_all_once(&store, &logs, &format!("round {round}")).await;
        write_many(&logs[0], 11, 3).await;
    }
}

#[tokio::test]
async fn batches_are_bounded_and_wait_for_nobody() {
    let (logs, store) = (logs(&[("users", 100)]).await, ledger());
    let scripted = ScriptedStore::new(store.clone());
    let follower = start(&logs, &scripted, options());
    soon("catching up", follower.caught_up()).await.unwrap();
    assert!(scripted.asked().iter().all(|step| step.events <= 7));
    write_many(&logs[0], 1, 1).await;
    soon("one more", async {
        while scripted.asked().last().unwrap().to.position < 101 {
            tokio::task::yield_now().await
        }
    })
    .await;
}

#[tokio::test]
async fn the_older_of_two_followers_writes_nothing_once_it_wakes_and_stops() {
    let (logs, store) = (logs(&[("users", 40)]).await, ledger());
    let frozen_store = ScriptedStore::new(store.clone());
    let ice = frozen_store.hold().await;
    let frozen = start(&logs, &frozen_store, options());
    soon("the first step", async {
        while frozen_store.asked().is_empty() {
            tokio::task::yield_now().await
        }
    })
    .await;

    let second = start(&logs, &store, options());
    soon("the second takes over", second.caught_up()).await.unwrap();
    let before = store.view(|entries, vector| (entries.clone(), vector.clone()));
    drop(ice);
    assert_eq!(soon("the first stops", frozen.stopped()).await, StopReason::Fenced);
    assert_eq!(store.view(|entries, vector| (entries.clone(), vector.clone())), before);
    assert_eq!(frozen_store.asked().len(), 1, "it does not try again");

    write_many(&logs[0], 10, 1).await;
    let target = target("users", 50);
    soon("the second goes on", second.reached(&target)).await.unwrap();
    assert_all_once(&store, &logs, "two followers").await;
    assert!(matches!(frozen.caught_up().await, Err(WaitError::Stopped(StopReason::Fenced))));
}

#[tokio::test]
async fn a_follower_with_nothing_to_do_learns_that_it_has_lost_the_fence() {
    let (logs, store) = (logs(&[("users", 10)]).await, ledger());
    let first = start(&logs, &store, FollowerOptions { fence_check: Duration::from_millis(5), ..options() });
    soon("catching up", first.caught_up()).await.unwrap();
    let _second = start(&logs, &store, options());
    assert_eq!(soon("it stops", first.stopped()).await, StopReason::Fenced);
}

#[tokio::test]
async fn a_checkpoint_found_elsewhere_under_our_own_fence_is_loaded_again() {
    let (logs, store) = (logs(&[("users", 40), ("orders", 40)]).await, ledger());
    let scripted = ScriptedStore::new(store.clone());
    for fault in [StoreFault::Moved, StoreFault::Unavailable, StoreFault::AnswerLost] {
        scripted.fail_next(fault);
    }
    let follower = start(&logs, &scripted, options());
    soon("catching up", follower.caught_up()).await.unwrap();
    assert_all_once(&store, &logs, "moved").await;
    assert_eq!(scripted.reloads(), 2, "after the move, and after the lost answer");
    assert_eq!(follower.status().store_failure, None);
}

#[tokio::test]
async fn a_checkpoint_that_is_never_where_it_should_be_is_our_bug() {
    let (logs, store) = (logs(&[("users", 5)]).await, ledger());
    let scripted = ScriptedStore::new(store.clone());
    for _ in 0..20 {
        scripted.fail_next(StoreFault::Moved);
    }
    let follower = start(&logs, &scripted, options());
    assert!(matches!(soon("it stops", follower.stopped()).await, StopReason::Bug(_)));
    assert_eq!(scripted.reloads(), options().moved_max);
}

#[tokio::test]
async fn a_store_that_is_not_there_is_tried_again_until_it_is() {
    let (logs, store) = (logs(&[("users", 40)]).await, ledger());
    let scripted = ScriptedStore::new(store.clone());
    scripted.fail_acquire(3);
    for _ in 0..5 {
        scripted.fail_next(StoreFault::Unavailable);
    }
    let follower = start(&logs, &scripted, options());
    let mut watch = follower.watch();
    soon("it shows", watch.wait_for(|status| status.store_failure.is_some())).await.unwrap();
    soon("catching up", follower.caught_up()).await.unwrap();
    assert_all_once(&store, &logs, "after failures").await;
    assert_eq!(follower.status().store_failure, None);
}

#[tokio::test]
async fn a_bug_and_a_panic_of_the_store_stop_the_follower_loudly() {
    for fault in [StoreFault::Bug, StoreFault::Panic] {
        let (logs, store) = (logs(&[("users", 5)]).await, ledger());
        let scripted = ScriptedStore::new(store.clone());
        scripted.fail_next(fault);
        let follower = start(&logs, &scripted, options());
        assert!(matches!(soon("it stops", follower.stopped()).await, StopReason::Bug(_)), "{fault:?}");
        assert!(store.view(|entries, _| entries.is_empty()));
    }
}

#[tokio::test]
async fn an_unknown_event_type_halts_its_source_behind_what_is_known_and_no_other() {
    let (logs, store) = (logs(&[("users", 24), ("orders", 40)]).await, ledger());
    write(&logs[0], &[("0", UNKNOWN_TYPE), ("1", "Noted")]).await;
    let follower = start(&logs, &store, options());
    let halted = soon("users halt", follower.caught_up()).await;
    let reason =
        HaltReason::UnknownEventType { position: 25, event_type: UNKNOWN_TYPE.into(), event_version: "1".into() };
    assert_eq!(halted, Err(WaitError::Halted { feed: "users".into(), reason: reason.clone() }));

    write_many(&logs[1], 10, 1).await;
    let target = target("orders", 50);
    let mut watch = follower.watch();
    soon("orders go on", watch.wait_for(|status| status.vector.reaches(&target))).await.unwrap();
    assert_each_once(&store, &*logs[1], &[], "orders").await;
    let status = follower.status();
    assert_eq!(status.sources["users"].state, SourceState::Halted(reason));
    assert_eq!((status.vector.get("users").position, status.sources["users"].lag_events()), (24, 2));
    assert_eq!(store.view(|entries, _| entries.iter().filter(|entry| &*entry.0 == "users").count()), 24);

    // a restart does not skip it either
    follower.shutdown(PATIENCE).await;
    let again = start(&logs, &store, options());
    assert!(matches!(soon("users halt again", again.caught_up()).await, Err(WaitError::Halted { .. })));
    assert_eq!(store.view(|_, vector| vector.get("users").position), 24);
}

#[tokio::test]
async fn a_poison_event_parks_its_stream_and_only_that() {
    let log = MemoryLog::new("users");
    write_many(&log, 10, 2).await;
    // 11: stream 0 is spoilt; 12, 14, 16 are its later events; 15: stream 2 is spoilt in the same batch
    let spoilt =
        [("0", POISON_TYPE), ("0", "Noted"), ("1", "Noted"), ("0", "Noted"), ("2", POISON_TYPE), ("0", "Noted")];
    write(&log, &spoilt).await;
    write(&log, &[("1", "Noted"), ("2", "Noted"), ("3", "Noted")]).await;
    let (logs, store) = ([log], ledger());
    let follower = start(&logs, &store, options());
    soon("catching up", follower.caught_up()).await.unwrap();

    let waiting = [11, 12, 14, 15, 16, 18];
    assert_each_once(&store, &*logs[0], &waiting, "parked").await;
    assert_eq!(store.waiting(), waiting.map(|position| ("users".to_owned(), position)));
    let parked: Vec<_> =
        follower.status().parked.iter().map(|it| (it.stream.aggregate_id.to_string(), it.position)).collect();
    assert_eq!(parked, [("0".to_owned(), 11), ("2".to_owned(), 15)]);

    // and it stays so over a restart
    follower.shutdown(PATIENCE).await;
    write(&logs[0], &[("0", "Noted"), ("1", "Noted")]).await;
    let again = start(&logs, &store, options());
    soon("catching up again", again.caught_up()).await.unwrap();
    assert_each_once(&store, &*logs[0], &[11, 12, 14, 15, 16, 18, 20], "parked").await;
    assert_eq!(again.status().parked.len(), 2);
}

#[tokio::test]
async fn more_poison_than_may_be_parked_halts_the_source() {
    for streams_max in [0, 1, 2] {
        let log = MemoryLog::new("users");
        write(&log, &[("0", "Noted"), ("1", POISON_TYPE), ("2", POISON_TYPE), ("0", "Noted"), ("3", POISON_TYPE)])
            .await;
        let (logs, store) = ([log], ledger());
        let follower = start(&logs, &store, FollowerOptions { parked_streams_max: streams_max, ..options() });
        let halted = soon("it halts", follower.caught_up()).await;
        let Err(WaitError::Halted { reason: HaltReason::Poison { position, parked, .. }, .. }) = halted else {
            panic!("{streams_max} streams: {halted:?}");
        };
        let expected = [2, 3, 5][streams_max];
        assert_eq!((position, parked), (expected, streams_max));
        assert_eq!(store.view(|_, vector| vector.get("users").position), expected - 1);
    }
}

#[tokio::test]
async fn a_restored_log_halts_its_source_with_the_reason_even_after_more_writes() {
    let (logs, store) = (logs(&[("users", 20), ("orders", 5)]).await, ledger());
    let backup = logs[0].copy();
    write_many(&logs[0], 10, 1).await;
    let follower = start(&logs, &store, options());
    soon("catching up", follower.caught_up()).await.unwrap();
    logs[0].restore(backup);
    write_many(&logs[0], 50, 1).await;
    let mut watch = follower.watch();
    let regressed = soon("it halts", watch.wait_for(|status| status.stuck().is_some()))
        .await
        .unwrap()
        .stuck()
        .map(|it| it.1.clone());
    let Some(HaltReason::FeedRegressed { position: 30, .. }) = regressed else { panic!("{regressed:?}") };
    assert_eq!(regressed.unwrap().code(), "feed_regressed");
    write_many(&logs[1], 5, 1).await;
    let target = target("orders", 10);
    soon("orders go on", watch.wait_for(|status| status.vector.reaches(&target))).await.unwrap();
    assert_eq!(store.view(|_, vector| vector.get("users").position), 30, "nothing of the other history is applied");
}

#[tokio::test]
async fn what_was_only_read_ahead_of_a_log_that_is_restored_does_no_harm() {
    let (logs, store) = (logs(&[("users", 9)]).await, ledger());
    let backup = logs[0].copy();
    write_many(&logs[0], 11, 1).await;
    let scripted = ScriptedStore::new(store.clone());
    let ice = scripted.hold().await;
    let follower = start(&logs, &scripted, FollowerOptions { read_ahead_events_max: 60, ..options() });
    let mut watch = follower.watch();
    soon("reading ahead", watch.wait_for(|status| status.sources["users"].read_ahead_events == 20)).await.unwrap();
    logs[0].restore(backup);
    write_many(&logs[0], 40, 2).await;
    // the step that hangs (1 to 7) is of both histories; what was read behind it is dropped and read again
    let head = |status: &Status| status.sources["users"].head.as_ref().is_some_and(|head| head.position == 49);
    soon("the other history", watch.wait_for(head)).await.unwrap();
    drop(ice);
    soon("catching up", follower.caught_up()).await.unwrap();
    assert_all_once(&store, &logs, "fallen back").await;
}

#[tokio::test]
async fn a_new_epoch_with_a_matching_anchor_goes_on_and_is_noted_at_once() {
    let (logs, store) = (logs(&[("users", 12)]).await, ledger());
    let follower = start(&logs, &store, options());
    soon("catching up", follower.caught_up()).await.unwrap();
    follower.shutdown(PATIENCE).await;

    let promoted = Arc::new(OtherEpoch { log: logs[0].clone(), epoch: Uuid::from_u128(0xE2) });
    let follower = Follower::start("test", vec![promoted.clone() as Arc<dyn Feed>], store.clone(), options());
    let mut watch = follower.watch();
    soon("the new epoch", watch.wait_for(|status| status.vector.get("users").epoch == promoted.epoch)).await.unwrap();
    assert_eq!(store.view(|_, vector| vector.get("users").position), 12, "without an event");
    write_many(&logs[0], 5, 1).await;
    let target = target("users", 17);
    soon("going on", follower.reached(&target)).await.unwrap();
    assert_all_once(&store, &logs, "promoted").await;
}

/// A log after its promotion.
struct OtherEpoch {
    log: Arc<MemoryLog>,
    epoch: Uuid,
}

#[async_trait::async_trait]
impl Feed for OtherEpoch {
    fn source(&self) -> &Name {
        self.log.source()
    }

    async fn page(
        &self,
        after: event_store::feed::Cursor,
        limit: event_store::feed::PageLimit,
        wait: Duration,
    ) -> Result<event_store::feed::FeedPage, event_store::feed::FeedError> {
        let page = self.log.page(after, limit, wait).await?;
        Ok(event_store::feed::FeedPage { epoch: self.epoch, ..page })
    }
}

#[tokio::test]
async fn starting_at_the_head_is_remembered_before_the_first_event() {
    let (logs, store) = (logs(&[("users", 15), ("orders", 0)]).await, ledger());
    let reactor = FollowerOptions { start_at: StartAt::Head, ..options() };
    let follower = start(&logs, &store, reactor.clone());
    soon("the heads", follower.caught_up()).await.unwrap();
    let noted = |vector: &Vector| ["users", "orders"].map(|source| vector.get(source));
    let mut watch = follower.watch();
    let known = |status: &Status| noted(&status.vector).iter().all(|it| !it.epoch.is_nil());
    soon("the heads are noted", watch.wait_for(known)).await.unwrap();
    assert_eq!(store.view(|_, vector| noted(vector).map(|it| it.position)), [15, 0]);
    follower.shutdown(PATIENCE).await;

    // what is written while nobody follows is not lost
    write_many(&logs[0], 3, 1).await;
    write_many(&logs[1], 2, 1).await;
    let follower = start(&logs, &store, reactor);
    soon("the new events", follower.caught_up()).await.unwrap();
    assert_each_once(&store, &*logs[0], &(1..=15).collect::<Vec<_>>(), "users").await;
    assert_each_once(&store, &*logs[1], &[], "orders").await;
}

#[tokio::test]
async fn a_target_is_reached_exactly_and_ends_the_follower() {
    let (logs, store) = (logs(&[("users", 50), ("orders", 50)]).await, ledger());
    let until = target("users", 23);
    let follower = start(&logs, &store, FollowerOptions { until: Some(until), ..options() });
    assert_eq!(soon("the target", follower.stopped()).await, StopReason::Reached);
    assert_eq!(store.view(|entries, vector| (entries.len(), vector.get("users").position)), (23, 23));
    // a target that lies behind is reached at once
    let until = target("users", 10);
    let follower = start(&logs, &store, FollowerOptions { until: Some(until), ..options() });
    assert_eq!(soon("the target", follower.stopped()).await, StopReason::Reached);
    // and the next follower goes on
    let follower = start(&logs, &store, options());
    soon("the rest", follower.caught_up()).await.unwrap();
    assert_all_once(&store, &logs, "after the target").await;
}

#[tokio::test]
async fn a_slow_store_keeps_memory_bounded() {
    let (logs, store) = (logs(&[("users", 400)]).await, ledger());
    let scripted = ScriptedStore::new(store.clone());
    scripted.slow_down(Duration::from_millis(2));
    let bytes_max = 3_000;
    let follower = start(&logs, &scripted, FollowerOptions { read_ahead_bytes_max: bytes_max, ..options() });
    let mut watch = follower.watch();
    soon("it is busy", watch.wait_for(|status| status.sources["users"].read_ahead_events > 0)).await.unwrap();
    assert!(follower.lag().0 > 0);
    soon("catching up", follower.caught_up()).await.unwrap();
    assert_all_once(&store, &logs, "slow").await;
    let source = follower.status().sources["users"].clone();
    assert!((1..=20).contains(&source.read_ahead_events_peak), "{source:?}");
    assert!((1..=bytes_max).contains(&source.read_ahead_bytes_peak), "{source:?}");
    assert_eq!((source.read_ahead_events, source.read_ahead_bytes, source.pending_since), (0, 0, None));
}

#[tokio::test]
async fn an_event_larger_than_every_bound_still_goes() {
    let (logs, store) = (logs(&[("users", 10)]).await, ledger());
    let tiny = FollowerOptions { read_ahead_bytes_max: 1, batch_bytes_max: 1, ..options() };
    let follower = start(&logs, &store, tiny);
    soon("catching up", follower.caught_up()).await.unwrap();
    assert_all_once(&store, &logs, "tiny bounds").await;
    assert_eq!(follower.status().sources["users"].read_ahead_events_peak, 1);
}

#[tokio::test]
async fn shutting_down_applies_what_was_read_and_joins() {
    let (logs, store) = (logs(&[("users", 20)]).await, ledger());
    let scripted = ScriptedStore::new(store.clone());
    let ice = scripted.hold().await;
    let follower = start(&logs, &scripted, options());
    let mut watch = follower.watch();
    soon("reading ahead", watch.wait_for(|status| status.sources["users"].read_ahead_events == 20)).await.unwrap();
    let (reason, ()) = tokio::join!(follower.shutdown(PATIENCE), async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        drop(ice);
    });
    assert_eq!(reason, StopReason::Shutdown);
    assert_all_once(&store, &logs, "drained").await;
    assert_eq!(Arc::strong_count(&logs[0]), 1, "no reader is left");
}

#[tokio::test]
async fn shutting_down_ends_at_its_deadline_whatever_the_store_does() {
    let (logs, store) = (logs(&[("users", 20)]).await, ledger());
    let scripted = ScriptedStore::new(store.clone());
    let _ice = scripted.hold().await;
    let follower = start(&logs, &scripted, options());
    soon("the first step", async {
        while scripted.asked().is_empty() {
            tokio::task::yield_now().await
        }
    })
    .await;
    assert_eq!(soon("the end", follower.shutdown(Duration::from_millis(30))).await, StopReason::Aborted);
    assert!(store.view(|entries, _| entries.is_empty()));
}

#[tokio::test]
async fn lag_is_counted_in_events_and_in_time() {
    let (logs, store) = (logs(&[("users", 20)]).await, ledger());
    let page = logs[0].page(Default::default(), Default::default(), Duration::ZERO).await.unwrap();
    let clock = Arc::new(ManualClock::at(page.head.recorded_at));
    clock.advance(Duration::from_secs(90));
    let scripted = ScriptedStore::new(store.clone());
    let ice = scripted.hold().await;
    let follower = start(&logs, &scripted, FollowerOptions { clock: clock.clone(), ..options() });
    let mut watch = follower.watch();
    soon("the head", watch.wait_for(|status| status.sources["users"].head.is_some())).await.unwrap();
    let (events, lag_ms) = follower.lag();
    assert_eq!(events, 20);
    assert!((90_000..91_000).contains(&lag_ms), "{lag_ms} ms");
    let source = follower.status().sources["users"].clone();
    assert_eq!((source.observed_at, source.waiting_since()), (Some(clock.now()), Some(page.events[0].recorded_at)));
    drop(ice);
    soon("catching up", follower.caught_up()).await.unwrap();
    assert_eq!(follower.lag(), (0, 0));
    assert_eq!(follower.status().sources["users"].waiting_since(), None);
}

#[tokio::test]
async fn a_token_is_waited_for_and_a_dead_one_is_told_apart() {
    let (logs, store) = (logs(&[("users", 5)]).await, ledger());
    let page = logs[0].page(Default::default(), Default::default(), Duration::ZERO).await.unwrap();
    let token = |position: u64, epoch| {
        let anchor = page.events.get(position as usize - 1).map_or(Uuid::from_u128(6), |event| event.event_id);
        ConsistencyToken::of("users", epoch, position, Some(anchor))
    };
    let follower = start(&logs, &store, options());
    let short = Duration::from_millis(30);
    assert_eq!(soon("the token", follower.covers(&token(5, page.epoch), PATIENCE)).await, Ok(()));
    assert_eq!(follower.covers(&token(3, page.epoch), short).await, Ok(()));
    let behind = TokenWaitError::Behind { feed: "users".into() };
    assert_eq!(follower.covers(&token(6, page.epoch), short).await, Err(behind));
    let lost = TokenWaitError::Lost { feed: "users".into() };
    assert_eq!(follower.covers(&token(3, Uuid::from_u128(1)), short).await, Err(lost.clone()));
    let other = ConsistencyToken::of("users", page.epoch, 5, Some(Uuid::from_u128(5)));
    assert_eq!(soon("no waiting", follower.covers(&other, PATIENCE * 2)).await, Err(lost));
    // what is not followed does not count
    let foreign = ConsistencyToken::of("payments", page.epoch, 99, Some(Uuid::from_u128(5)));
    assert_eq!(follower.covers(&foreign, short).await, Ok(()));
    assert_eq!(Vector::new().judge(&foreign, &["users".into()]), Coverage::Reached);
}
