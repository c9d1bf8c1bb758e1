//! The contract of a [`FollowerStore`]: whoever writes one runs these laws on it.
//!
//! Implement [`StoreHarness`] and write one line: `testkit::follower_store_contract!(MyHarness::new().await);`.

use std::sync::Arc;

use async_trait::async_trait;
use event_store::{
    follower::{ApplyError, Checkpoint, FollowerStore, ParkedStream, Step},
    log::LogHead,
};
use events::envelope::{Name, RecordedEvent};
use uuid::Uuid;

/// A throw-away store, and events that it can apply.
#[async_trait]
pub trait StoreHarness: Send + Sync {
    /// A handle on the store; all handles see one store, the first finds it empty.
    async fn open(&self) -> Arc<dyn FollowerStore>;

    /// Six events or more of one source, positions from 1, that fold without complaint whichever of them are left out
    /// from some point on; at least two streams.
    fn events(&self) -> (Name, Vec<RecordedEvent>);

    /// Another source that the store may be told of.
    fn other_source(&self) -> Name {
        "another-source".into()
    }

    /// What the follower has made of the events, in a form that is equal exactly when the state is.
    async fn state(&self) -> String;
}

/// Expands to one test per law.
#[macro_export]
macro_rules! follower_store_contract {
    ($harness:expr) => {
        $crate::follower_store_laws! { $harness;
            a_step_moves_state_and_checkpoint_together,
            a_step_that_was_applied_is_not_applied_again,
            a_step_from_elsewhere_changes_nothing,
            the_fence_shuts_out_every_earlier_holder,
            a_step_without_events_moves_only_the_checkpoint,
            an_empty_log_has_a_checkpoint_with_its_epoch,
            what_was_applied_is_there_for_the_next_handle,
        }
    };
}

/// The laws of a store that can be followed with a lease, besides those of [`follower_store_contract!`].
#[macro_export]
macro_rules! follower_store_lease_contract {
    ($harness:expr) => {
        $crate::follower_store_laws! { $harness;
            the_holders_beat_is_seen_by_the_others_and_nobody_elses_is,
        }
    };
}

/// The laws of a store that parks streams, besides those of [`follower_store_contract!`]. One that does not is followed
/// with `parked_streams_max: 0`.
#[macro_export]
macro_rules! follower_store_parking_contract {
    ($harness:expr) => {
        $crate::follower_store_laws! { $harness;
            parked_streams_are_kept_and_their_events_are_not_folded,
            events_that_wait_without_a_parked_stream_are_answered_as_moved,
        }
    };
}

/// Part of the contracts above.
#[macro_export]
macro_rules! follower_store_laws {
    ($harness:expr; $($law:ident,)+) => {
        $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $law() {
                let harness = $harness;
                $crate::follower_kit::store_contract::$law(&harness).await;
            }
        )+
    };
}

/// Events `from..to` (positions `from + 1 ..= to`) as a step.
struct Stretch {
    source: Name,
    events: Vec<RecordedEvent>,
    head: LogHead,
    epoch: Uuid,
}

impl Stretch {
    fn of(harness: &dyn StoreHarness) -> Self {
        let (source, events) = harness.events();
        assert!(events.len() >= 6 && (1..).zip(&events).all(|(position, event)| event.position == position));
        let last = events.last().expect("six events");
        let head = LogHead { position: last.position, recorded_at: last.recorded_at };
        Self { source, events, head, epoch: Uuid::from_u128(0xE1) }
    }

    fn checkpoint(&self, position: usize) -> Checkpoint {
        match position {
            0 => Checkpoint::START,
            position => Checkpoint::at(self.epoch, &self.events[position - 1]),
        }
    }

    fn step(&self, fence: u64, from: usize, to: usize) -> Step<'_> {
        Step {
            fence,
            source: &self.source,
            from: self.checkpoint(from),
            to: self.checkpoint(to),
            events: &self.events[from..to],
            diverted: &[],
            parking: &[],
            head: &self.head,
        }
    }
}

pub async fn a_step_moves_state_and_checkpoint_together(harness: &dyn StoreHarness) {
    let (store, stretch) = (harness.open().await, Stretch::of(harness));
    let acquired = store.acquire().await.expect("the fence is free");
    assert_eq!(acquired.vector.get(&stretch.source), Checkpoint::START);
    assert!(acquired.parked.is_empty());
    let empty = harness.state().await;
    store.apply(&stretch.step(acquired.fence, 0, 2)).await.expect("the first step");
    let two = harness.state().await;
    assert_ne!(empty, two);
    store.apply(&stretch.step(acquired.fence, 2, 6)).await.expect("the second step");
    assert_ne!(two, harness.state().await);
    let now = store.reload().await.expect("the store answers");
    assert_eq!((now.fence, now.vector.get(&stretch.source)), (acquired.fence, stretch.checkpoint(6)));
}

pub async fn a_step_that_was_applied_is_not_applied_again(harness: &dyn StoreHarness) {
    let (store, stretch) = (harness.open().await, Stretch::of(harness));
    let fence = store.acquire().await.expect("the fence is free").fence;
    for (from, to) in [(0, 3), (3, 6)] {
        store.apply(&stretch.step(fence, from, to)).await.expect("the step");
        let once = harness.state().await;
        let again = store.apply(&stretch.step(fence, from, to)).await;
        assert!(matches!(again, Err(ApplyError::Moved)), "{again:?}");
        assert_eq!(once, harness.state().await);
    }
}

pub async fn a_step_from_elsewhere_changes_nothing(harness: &dyn StoreHarness) {
    let (store, stretch) = (harness.open().await, Stretch::of(harness));
    let fence = store.acquire().await.expect("the fence is free").fence;
    store.apply(&stretch.step(fence, 0, 3)).await.expect("the step");
    let before = harness.state().await;
    let mut other_event = stretch.step(fence, 3, 6);
    other_event.from.event_id = Some(Uuid::from_u128(1));
    let mut other_epoch = stretch.step(fence, 3, 6);
    other_epoch.from.epoch = Uuid::from_u128(0xE2);
    for step in [stretch.step(fence, 2, 6), stretch.step(fence, 4, 6), other_event, other_epoch] {
        let answer = store.apply(&step).await;
        assert!(matches!(answer, Err(ApplyError::Moved)), "from {:?}: {answer:?}", step.from);
    }
    assert_eq!(before, harness.state().await);
    assert_eq!(store.reload().await.expect("answers").vector.get(&stretch.source), stretch.checkpoint(3));
}

pub async fn the_fence_shuts_out_every_earlier_holder(harness: &dyn StoreHarness) {
    let (first, second, stretch) = (harness.open().await, harness.open().await, Stretch::of(harness));
    let old = first.acquire().await.expect("the fence is free").fence;
    first.apply(&stretch.step(old, 0, 2)).await.expect("the step");
    let acquired = second.acquire().await.expect("the fence is taken over");
    assert!(acquired.fence > old);
    assert_eq!(acquired.vector.get(&stretch.source), stretch.checkpoint(2));
    let before = harness.state().await;
    let answer = first.apply(&stretch.step(old, 2, 4)).await;
    assert!(matches!(answer, Err(ApplyError::Fenced)), "{answer:?}");
    assert_eq!(before, harness.state().await);
    assert_eq!(first.reload().await.expect("answers").fence, acquired.fence);
    assert_eq!(first.fence().await.expect("answers"), acquired.fence);
    second.apply(&stretch.step(acquired.fence, 2, 4)).await.expect("the holder goes on");
    // also when the checkpoint has moved meanwhile, the fence is what the earlier holder hears of
    let answer = first.apply(&stretch.step(old, 2, 4)).await;
    assert!(matches!(answer, Err(ApplyError::Fenced)), "{answer:?}");
}

pub async fn the_holders_beat_is_seen_by_the_others_and_nobody_elses_is(harness: &dyn StoreHarness) {
    let (first, second, stretch) = (harness.open().await, harness.open().await, Stretch::of(harness));
    let fence = first.acquire().await.expect("the fence is free").fence;
    let before = second.pulse().await.expect("answers");
    assert_eq!(before.fence, fence);
    assert_eq!(before, second.pulse().await.expect("answers"), "who looks changes nothing");
    assert!(first.beat(fence).await.expect("answers"));
    first.apply(&stretch.step(fence, 0, 2)).await.expect("the step");
    let after = second.pulse().await.expect("answers");
    assert!(after.fence == fence && after.beat > before.beat, "{before:?} {after:?}");
    assert_eq!(after.vector.get(&stretch.source), stretch.checkpoint(2));

    let taken = second.acquire().await.expect("the fence is taken over").fence;
    let before = first.pulse().await.expect("answers");
    assert_eq!(before.fence, taken);
    assert!(!first.beat(fence).await.expect("answers"), "it is another's by now");
    assert_eq!(before, first.pulse().await.expect("answers"));
}

pub async fn a_step_without_events_moves_only_the_checkpoint(harness: &dyn StoreHarness) {
    let (store, stretch) = (harness.open().await, Stretch::of(harness));
    let fence = store.acquire().await.expect("the fence is free").fence;
    store.apply(&stretch.step(fence, 0, 3)).await.expect("the step");
    let before = harness.state().await;
    let mut step = stretch.step(fence, 3, 3);
    step.to.epoch = Uuid::from_u128(0xE2);
    store.apply(&step).await.expect("a new epoch");
    assert_eq!(before, harness.state().await);
    assert_eq!(store.reload().await.expect("answers").vector.get(&stretch.source), step.to);

    // a start at the head: from nowhere to somewhere
    let other = harness.other_source();
    let mut jump = stretch.step(fence, 3, 3);
    (jump.source, jump.from, jump.to) = (&other, Checkpoint::START, stretch.checkpoint(6));
    store.apply(&jump).await.expect("a start at the head");
    let now = store.reload().await.expect("answers").vector;
    assert_eq!((now.get(&other), now.get(&stretch.source)), (jump.to, step.to));
}

pub async fn an_empty_log_has_a_checkpoint_with_its_epoch(harness: &dyn StoreHarness) {
    let (store, stretch) = (harness.open().await, Stretch::of(harness));
    let fence = store.acquire().await.expect("the fence is free").fence;
    let nothing_yet = Checkpoint { epoch: stretch.epoch, ..Checkpoint::START };
    let mut step = stretch.step(fence, 0, 0);
    step.to = nothing_yet;
    store.apply(&step).await.expect("the epoch is noted");
    assert_eq!(store.reload().await.expect("answers").vector.get(&stretch.source), nothing_yet);
    let mut step = stretch.step(fence, 0, 3);
    let answer = store.apply(&step).await;
    assert!(matches!(answer, Err(ApplyError::Moved)), "{answer:?}");
    step.from = nothing_yet;
    store.apply(&step).await.expect("the first events");
    assert_eq!(store.reload().await.expect("answers").vector.get(&stretch.source), stretch.checkpoint(3));
}

pub async fn parked_streams_are_kept_and_their_events_are_not_folded(harness: &dyn StoreHarness) {
    let (store, stretch) = (harness.open().await, Stretch::of(harness));
    let fence = store.acquire().await.expect("the fence is free").fence;
    let before = harness.state().await;
    let event = &stretch.events[0];
    let parked = ParkedStream {
        source: stretch.source.clone(),
        stream: event.stream.clone(),
        position: event.position,
        event_id: event.event_id,
        reason: "a test says so".to_owned(),
    };
    let waits: Vec<usize> = (0..6).filter(|index| stretch.events[*index].stream == event.stream).collect();
    let mut step = stretch.step(fence, 0, 1);
    let parking = [parked.clone()];
    (step.diverted, step.parking) = (&[0], &parking);
    store.apply(&step).await.expect("the stream is parked");
    assert_eq!(before, harness.state().await);
    let now = store.reload().await.expect("answers");
    assert_eq!((now.parked, now.vector.get(&stretch.source)), (vec![parked.clone()], stretch.checkpoint(1)));

    let later: Vec<usize> = waits.iter().filter(|index| **index > 0).map(|index| index - 1).collect();
    let mut step = stretch.step(fence, 1, 6);
    step.diverted = &later;
    store.apply(&step).await.expect("the others go on");
    assert_ne!(before, harness.state().await, "events of another stream are folded");
    assert_eq!(store.acquire().await.expect("taken over").parked, [parked]);
}

pub async fn events_that_wait_without_a_parked_stream_are_answered_as_moved(harness: &dyn StoreHarness) {
    let (store, stretch) = (harness.open().await, Stretch::of(harness));
    let fence = store.acquire().await.expect("the fence is free").fence;
    let before = harness.state().await;
    // diverted, but not parked (any more)
    let mut step = stretch.step(fence, 0, 1);
    step.diverted = &[0];
    let answer = store.apply(&step).await;
    assert!(matches!(answer, Err(ApplyError::Moved)), "{answer:?}");
    assert_eq!(before, harness.state().await);
    assert_eq!(store.reload().await.expect("answers").vector.get(&stretch.source), Checkpoint::START);
}

pub async fn what_was_applied_is_there_for_the_next_handle(harness: &dyn StoreHarness) {
    let stretch = Stretch::of(harness);
    let first = harness.open().await;
    let fence = first.acquire().await.expect("the fence is free").fence;
    first.apply(&stretch.step(fence, 0, 4)).await.expect("the step");
    let state = harness.state().await;
    drop(first);
    let second = harness.open().await;
    let acquired = second.acquire().await.expect("the fence is taken over");
    assert_eq!(acquired.vector.get(&stretch.source), stretch.checkpoint(4));
    assert_eq!(state, harness.state().await);
    second.apply(&stretch.step(acquired.fence, 4, 6)).await.expect("and goes on");
}
