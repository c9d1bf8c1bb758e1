//! The reactor by itself: what is noted, in which order it is done, and by whom.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use event_store::{
    clock::{Clock, ManualClock},
    follower::{FollowerStore, HaltReason, Reject, StopReason},
    memory::MemoryLog,
};
use events::envelope::{Name, RecordedEvent};
use testkit::follower_kit::{soon, store_contract::StoreHarness, write};
use uuid::Uuid;
use write_side::reactor::{
    Acted, Due, Part, Reaction, Reactor, ReactorOptions, Wanted, duty::Duties, key_of, key_of_part, store::DutyStore,
};

use super::support::{Home, TrappedDuties, Traps, feeds, idle, options, told, until};

/// Writes down what it does, and does what its events' types say.
#[derive(Default)]
struct Diary {
    /// (stream, sequence, attempt)
    done: Mutex<Vec<(String, u64, u32)>>,
    /// (part, key) of what was done of `Manifold` events
    parts: Mutex<Vec<(u16, Uuid)>>,
    /// `Shaky` events fail while this is set.
    shaking: AtomicBool,
    under_way: AtomicUsize,
    most_under_way: AtomicUsize,
}

impl Diary {
    fn pages(&self) -> Vec<(String, u64, u32)> {
        self.done.lock().unwrap().clone()
    }
}

#[async_trait]
impl Reaction for Diary {
    fn name(&self) -> &'static str {
        "diary"
    }

    fn wants(&self, _source: &str, event: &RecordedEvent) -> Result<Wanted, Reject> {
        match &*event.event_type {
            "Noted" | "Shaky" | "Panics" => Ok(Wanted::Now),
            "Later" => Ok(Wanted::At(DateTime::UNIX_EPOCH + Duration::from_secs(3_600))),
            "Idle" => Ok(Wanted::Nothing),
            "Manifold" => {
                let part = |(part, lane): (u16, &str)| Part { part, lane: lane.to_owned(), at: None, timer: false };
                Ok(Wanted::Parts([(0, "left"), (1, "left"), (2, "right")].map(part).into()))
            }
            _ => Err(Reject::UnknownEventType),
        }
    }

    async fn act(&self, due: &Due) -> Acted {
        assert_eq!(due.key, key_of_part("diary", due.event.event_id, due.part));
        assert_eq!(due.key == key_of("diary", due.event.event_id), due.part == 0);
        let under_way = self.under_way.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_under_way.fetch_max(under_way, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(1)).await;
        self.under_way.fetch_sub(1, Ordering::SeqCst);
        match &*due.event.event_type {
            "Shaky" if self.shaking.load(Ordering::SeqCst) => return Acted::Failed("it shakes".to_owned()),
            "Panics" if due.attempt == 1 => panic!("a test says so"),
            "Manifold" if due.part == 0 && self.shaking.load(Ordering::SeqCst) => {
                return Acted::Failed("it shakes".to_owned());
            }
            "Manifold" => self.parts.lock().unwrap().push((due.part, due.key)),
            _ => {}
        }
        self.done.lock().unwrap().push((due.event.stream.to_string(), due.event.sequence, due.attempt));
        Acted::Done
    }
}

async fn start(diary: &Arc<Diary>, duties: &Arc<dyn Duties>, log: &Arc<MemoryLog>, options: ReactorOptions) -> Reactor {
    let epoch = event_store::log::EventLog::identity(&**log).epoch;
    Reactor::start(Arc::clone(diary) as _, Arc::clone(duties), ("own", epoch), feeds(&[log]), options).await.unwrap()
}

async fn duties_of_a_stream_are_done_one_after_another_and_survive_failures(home: Home) {
    let (log, diary, duties) = (MemoryLog::new("own"), Arc::<Diary>::default(), home.duties().await);
    diary.shaking.store(true, Ordering::SeqCst);
    write(&log, &[("a", "Shaky"), ("b", "Noted"), ("a", "Noted"), ("c", "Idle"), ("b", "Panics"), ("b", "Noted")])
        .await;
    let reactor = start(&diary, &duties, &log, options()).await;
    until("the other stream goes on", || async { diary.pages().len() == 3 }).await;
    until("a stream waits behind what fails, which is tried more than once", || async {
        let open = duties.open(9).await.unwrap();
        open.len() == 2 && open[0].attempts > 2
    })
    .await;
    let open = duties.open(9).await.unwrap();
    assert_eq!(open[0].reason.as_deref(), Some("it shakes"));
    reactor.shutdown().await;

    // attempts are counted over restarts, and what has been done is not done again
    let reactor = start(&diary, &duties, &log, options()).await;
    diary.shaking.store(false, Ordering::SeqCst);
    idle(&duties).await;
    let pages = diary.pages();
    let of = |stream: &str| -> Vec<u64> { pages.iter().filter(|page| page.0 == stream).map(|page| page.1).collect() };
    assert_eq!((of("account-a"), of("account-b")), (vec![1, 2], vec![1, 2, 3]), "{pages:?}");
    assert!(pages.iter().any(|page| page.0 == "account-a" && page.2 > 3), "{pages:?}");
    assert!(pages.contains(&("account-b".to_owned(), 2, 2)), "a panic is a failed attempt: {pages:?}");
    reactor.shutdown().await;
}

#[tokio::test]
async fn in_sqlite_duties_are_done_in_order_and_survive_failures() {
    duties_of_a_stream_are_done_one_after_another_and_survive_failures(Home::sqlite()).await;
}

#[tokio::test]
async fn in_postgres_duties_are_done_in_order_and_survive_failures() {
    duties_of_a_stream_are_done_one_after_another_and_survive_failures(Home::postgres().await).await;
}

#[tokio::test]
async fn a_duty_with_a_time_of_its_own_waits_for_it_and_holds_up_nobody() {
    let (log, diary, duties) = (MemoryLog::new("own"), Arc::<Diary>::default(), Home::sqlite().duties().await);
    let clock = Arc::new(ManualClock::at(DateTime::UNIX_EPOCH));
    let by_hand = ReactorOptions { clock: Arc::clone(&clock) as Arc<dyn Clock>, ..options() };
    let reactor = start(&diary, &duties, &log, by_hand.clone()).await;
    write(&log, &[("a", "Later"), ("a", "Noted")]).await;
    until("the other one is done", || async { !diary.pages().is_empty() }).await;
    assert_eq!(diary.pages(), [("account-a".to_owned(), 2, 1)]);
    reactor.shutdown().await;
    clock.advance(Duration::from_secs(3_600));
    let reactor = start(&diary, &duties, &log, by_hand).await;
    until("its time has come", || async { diary.pages().len() == 2 }).await;
    reactor.shutdown().await;
}

async fn an_event_may_oblige_to_several_things_each_in_its_lane(home: Home) {
    let (log, diary, duties) = (MemoryLog::new("own"), Arc::<Diary>::default(), home.duties().await);
    diary.shaking.store(true, Ordering::SeqCst);
    write(&log, &[("a", "Manifold"), ("a", "Manifold")]).await;
    let reactor = start(&diary, &duties, &log, options()).await;
    let parts = || -> Vec<u16> { diary.parts.lock().unwrap().iter().map(|(part, _)| *part).collect() };
    until("the other lane goes on", || async { parts().len() == 2 }).await;
    until("those behind what fails wait", || async {
        let open = duties.open(9).await.unwrap();
        open.len() == 4 && open[0].attempts > 1
    })
    .await;
    assert_eq!(parts(), [2, 2]);
    reactor.shutdown().await;
    diary.shaking.store(false, Ordering::SeqCst);
    let reactor = start(&diary, &duties, &log, options()).await;
    idle(&duties).await;
    assert_eq!(parts(), [2, 2, 0, 1, 0, 1], "over a restart, each once and in order");
    let keys: BTreeSet<Uuid> = diary.parts.lock().unwrap().iter().map(|(_, key)| *key).collect();
    assert_eq!(keys.len(), 6);
    reactor.shutdown().await;
}

#[tokio::test]
async fn in_sqlite_an_event_may_oblige_to_several_things() {
    an_event_may_oblige_to_several_things_each_in_its_lane(Home::sqlite()).await;
}

#[tokio::test]
async fn in_postgres_an_event_may_oblige_to_several_things() {
    an_event_may_oblige_to_several_things_each_in_its_lane(Home::postgres().await).await;
}

async fn a_clock_that_goes_back_holds_up_nothing_but_timers(home: Home) {
    let (log, diary, duties) = (MemoryLog::new("own"), Arc::<Diary>::default(), home.duties().await);
    let clock = Arc::new(ManualClock::at(DateTime::UNIX_EPOCH + Duration::from_secs(3_000)));
    let by_hand = ReactorOptions { clock: Arc::clone(&clock) as Arc<dyn Clock>, ..options() };
    diary.shaking.store(true, Ordering::SeqCst);
    write(&log, &[("a", "Shaky"), ("a", "Later")]).await;
    let reactor = start(&diary, &duties, &log, by_hand.clone()).await;
    until("it has failed", || async { duties.open(9).await.unwrap().first().is_some_and(|duty| duty.attempts == 1) })
        .await;
    diary.shaking.store(false, Ordering::SeqCst);
    clock.set(DateTime::UNIX_EPOCH);
    until("it is done", || async { diary.pages().len() == 1 }).await;
    reactor.shutdown().await;
    // and if nobody looked while it went back
    write(&log, &[("b", "Noted")]).await;
    assert_eq!(duties.open(9).await.unwrap().len(), 1, "the timer is left");
    clock.set(DateTime::UNIX_EPOCH + Duration::from_secs(2_000));
    let hindered = Arc::new(TrappedDuties { duties: Arc::clone(&duties), traps: Arc::<Traps>::default() });
    hindered.traps.arm("done own");
    let epoch = event_store::log::EventLog::identity(&*log).epoch;
    let reactor = Reactor::start(
        Arc::clone(&diary) as _,
        Arc::clone(&hindered) as _,
        ("own", epoch),
        feeds(&[&log]),
        by_hand.clone(),
    )
    .await
    .unwrap();
    hindered.traps.sprung("it is noted, and not known to be done").await;
    reactor.abort().await;
    clock.set(DateTime::UNIX_EPOCH);
    let reactor = start(&diary, &duties, &log, by_hand).await;
    until("it is done, once more", || async { duties.open(9).await.unwrap().len() == 1 }).await;
    assert!(duties.open(9).await.unwrap()[0].timer);
    reactor.shutdown().await;
}

#[tokio::test]
async fn in_sqlite_a_clock_that_goes_back_holds_up_nothing_but_timers() {
    a_clock_that_goes_back_holds_up_nothing_but_timers(Home::sqlite()).await;
}

#[tokio::test]
async fn in_postgres_a_clock_that_goes_back_holds_up_nothing_but_timers() {
    a_clock_that_goes_back_holds_up_nothing_but_timers(Home::postgres().await).await;
}

#[tokio::test]
async fn no_more_is_taken_on_and_no_more_is_done_at_once_than_the_bounds_allow() {
    let (log, diary, duties) = (MemoryLog::new("own"), Arc::<Diary>::default(), Home::sqlite().duties().await);
    let names: Vec<String> = (0..60).map(|n| n.to_string()).collect();
    write(&log, &names.iter().map(|name| (name.as_str(), "Noted")).collect::<Vec<_>>()).await;
    let reactor = start(&diary, &duties, &log, ReactorOptions { in_flight_max: 3, open_max: 1, ..options() }).await;
    until("all are done", || async { diary.pages().len() == 60 }).await;
    assert!(diary.most_under_way.load(Ordering::SeqCst) <= 3);
    reactor.shutdown().await;
}

#[tokio::test]
async fn history_of_others_is_not_acted_on_and_our_own_is() {
    let (own, other) = (MemoryLog::new("own"), MemoryLog::new("other"));
    let (diary, duties) = (Arc::<Diary>::default(), Home::sqlite().duties().await);
    write(&own, &[("ours", "Noted")]).await;
    write(&other, &[("theirs", "Noted")]).await;
    let epoch = event_store::log::EventLog::identity(&*own).epoch;
    let feeds = feeds(&[&own, &other]);
    let reactor =
        Reactor::start(Arc::clone(&diary) as _, Arc::clone(&duties), ("own", epoch), feeds, options()).await.unwrap();
    write(&other, &[("theirs", "Noted")]).await;
    until("both are done", || async { diary.pages().len() == 2 }).await;
    idle(&duties).await;
    let mut pages = diary.pages();
    pages.sort();
    assert_eq!(pages, [("account-ours".to_owned(), 1, 1), ("account-theirs".to_owned(), 2, 1)]);
    reactor.shutdown().await;
}

#[tokio::test]
async fn of_two_reactors_only_the_younger_acts() {
    let home = Home::sqlite();
    let (log, diary, duties) = (MemoryLog::new("own"), Arc::<Diary>::default(), home.duties().await);
    let older = start(&diary, &duties, &log, options()).await;
    let younger = start(&diary, &duties, &log, options()).await;
    write(&log, &[("a", "Noted"), ("b", "Noted"), ("c", "Noted")]).await;
    assert_eq!(soon("the older one stops", older.follower().stopped()).await, StopReason::Fenced);
    idle(&duties).await;
    until("all are done", || async { diary.pages().len() >= 3 }).await;
    assert_eq!(diary.pages().len(), 3);
    older.shutdown().await;
    younger.shutdown().await;
}

#[tokio::test]
async fn an_unknown_event_halts_its_source_and_what_was_noted_before_is_done() {
    let (log, diary, duties) = (MemoryLog::new("own"), Arc::<Diary>::default(), Home::sqlite().duties().await);
    write(&log, &[("a", "Noted"), ("a", "FromTheFuture"), ("a", "Noted")]).await;
    let reactor = start(&diary, &duties, &log, options()).await;
    let halted = |status: &event_store::follower::Status| {
        matches!(status.sources["own"].halt(), Some(HaltReason::UnknownEventType { position: 2, .. }))
    };
    soon("the source halts", reactor.follower().watch().wait_for(halted)).await.unwrap();
    until("the first is done", || async { diary.pages().len() == 1 }).await;
    reactor.shutdown().await;
}

#[tokio::test]
async fn a_log_restored_from_an_older_copy_is_not_acted_on() {
    let (diary, duties) = (Arc::<Diary>::default(), Home::sqlite().duties().await);
    let log = MemoryLog::new("own");
    write(&log, &[("a", "Noted"), ("b", "Noted")]).await;
    let reactor = start(&diary, &duties, &log, options()).await;
    until("both are done", || async { diary.pages().len() == 2 }).await;
    idle(&duties).await;
    reactor.shutdown().await;
    let restored = MemoryLog::new("own");
    write(&restored, &[("a", "Noted")]).await;
    let reactor = start(&diary, &duties, &restored, options()).await;
    let halted = |status: &event_store::follower::Status| {
        matches!(status.sources["own"].halt(), Some(HaltReason::FeedRegressed { .. }))
    };
    soon("the source halts", reactor.follower().watch().wait_for(halted)).await.unwrap();
    assert_eq!((diary.pages().len(), duties.open(9).await.unwrap()), (2, vec![]));
    reactor.shutdown().await;
}

struct Harness {
    home: Home,
    events: Vec<RecordedEvent>,
}

impl Harness {
    async fn new(home: Home) -> Self {
        let log = MemoryLog::new("own");
        testkit::follower_kit::write_many(&log, 6, 2).await;
        Self { home, events: told(&log).await }
    }
}

#[async_trait]
impl StoreHarness for Harness {
    async fn open(&self) -> Arc<dyn FollowerStore> {
        let clock = Arc::new(ManualClock::at(Utc::now()));
        let options = ReactorOptions { clock, ..options() };
        Arc::new(DutyStore::new(Arc::<Diary>::default(), self.home.duties().await, options))
    }

    fn events(&self) -> (Name, Vec<RecordedEvent>) {
        ("own".into(), self.events.clone())
    }

    async fn state(&self) -> String {
        let open = self.home.duties().await.open(100).await.unwrap();
        format!("{:?}", open.iter().map(|duty| (&duty.id, duty.event_id, &duty.lane)).collect::<Vec<_>>())
    }
}

mod sqlite {
    testkit::follower_store_laws! { super::Harness::new(super::Home::sqlite()).await;
        a_step_moves_state_and_checkpoint_together,
        a_step_that_was_applied_is_not_applied_again,
        a_step_from_elsewhere_changes_nothing,
        the_fence_shuts_out_every_earlier_holder,
        the_holders_beat_is_seen_by_the_others_and_nobody_elses_is,
        a_step_without_events_moves_only_the_checkpoint,
        an_empty_log_has_a_checkpoint_with_its_epoch,
        events_that_wait_without_a_parked_stream_are_answered_as_moved,
        what_was_applied_is_there_for_the_next_handle,
    }
}

mod postgres {
    testkit::follower_store_laws! { super::Harness::new(super::Home::postgres().await).await;
        a_step_moves_state_and_checkpoint_together,
        a_step_that_was_applied_is_not_applied_again,
        a_step_from_elsewhere_changes_nothing,
        the_fence_shuts_out_every_earlier_holder,
        the_holders_beat_is_seen_by_the_others_and_nobody_elses_is,
        a_step_without_events_moves_only_the_checkpoint,
        an_empty_log_has_a_checkpoint_with_its_epoch,
        events_that_wait_without_a_parked_stream_are_answered_as_moved,
        what_was_applied_is_there_for_the_next_handle,
    }
}
