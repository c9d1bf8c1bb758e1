//! A generation that is driven step by step, without a follower.

use std::{ops::Range, sync::Arc};

use event_store::{
    feed::Feed,
    follower::{Acquired, ApplyError, Checkpoint, FollowerStore, ParkedStream, PoisonEvent, Step},
    log::LogHead,
};
use events::envelope::{Name, RecordedEvent};
use read_side::ReadSide;

use super::{feed::ScriptedFeed, place::Place, table::Tables};
use crate::{
    QueryDatabase,
    engine::{
        store::{End, GenerationStore, StoreOptions},
        table_hash::{TableHash, table_hash},
    },
    projection::Projection,
};

/// A generation whose fence is held.
pub struct Hand {
    pub store: GenerationStore,
    pub acquired: Acquired,
    pub database: QueryDatabase,
    pub read: ReadSide,
    /// Lives as long as its files are used.
    pub place: Place,
}

impl Hand {
    /// Applies the next `count` events of `feed`, fewer if there are fewer.
    pub async fn step(&mut self, feed: &ScriptedFeed, count: usize) -> Result<(), ApplyError> {
        self.step_but(feed, count, None).await
    }

    /// The same, but the events of `late` wait.
    pub(super) async fn step_but(
        &mut self,
        feed: &ScriptedFeed,
        count: usize,
        late: Option<&ParkedStream>,
    ) -> Result<(), ApplyError> {
        let (events, head) = (feed.events(), feed.head());
        let Some((from, to, range)) = self.next(feed, &events, count) else { return Ok(()) };
        let mut step = self.as_step(feed, from, to, &events[range], &head);
        let late = late.filter(|late| late.source == *feed.source());
        let waits = |event: &RecordedEvent| late.is_some_and(|late| is_behind(late, event));
        let diverted: Vec<usize> = (0..step.events.len()).filter(|index| waits(&step.events[*index])).collect();
        let begins = |late: &ParkedStream| step.events.iter().any(|event| event.position == late.position);
        let parking: Vec<ParkedStream> = late.filter(|late| begins(late)).cloned().into_iter().collect();
        (step.diverted, step.parking) = (&diverted, &parking);
        self.store.apply(&step).await?;
        self.acquired.vector.set(feed.source().clone(), to);
        Ok(())
    }

    /// Folds what waits with a parked stream.
    pub(super) async fn unpark(&self, feeds: &[Arc<ScriptedFeed>], late: &ParkedStream) -> Result<(), ApplyError> {
        let feed = feeds.iter().find(|feed| *feed.source() == late.source).expect("a stream of one of them");
        let waiting: Vec<_> = feed.events().into_iter().filter(|event| is_behind(late, event)).collect();
        let behind = self.store.folded_behind(&late.source, &waiting).await?;
        let later: Vec<_> = feed.events().into_iter().filter(|event| behind.contains(&event.position)).collect();
        let held = &mut self.store.hold().await;
        let waited = self.store.fold_waiting(held, late, &waiting, None, &later, End::Commit).await?;
        match waited.still {
            None => Ok(()),
            Some((event, reason)) => Err(ApplyError::Poison(vec![PoisonEvent { position: event.position, reason }])),
        }
    }

    /// Does everything that the next step does, and takes it back: a crash in front of the commit.
    pub(super) async fn rehearse(&mut self, feed: &ScriptedFeed, count: usize) -> Result<(), ApplyError> {
        let events = feed.events();
        let Some((from, to, range)) = self.next(feed, &events, count) else { return Ok(()) };
        let head = feed.head();
        self.store.rehearse(&self.as_step(feed, from, to, &events[range], &head)).await
    }

    /// The step that would follow: from, to and which of `events`; `None` when there is nothing left.
    pub(super) fn next(
        &self,
        feed: &ScriptedFeed,
        events: &[RecordedEvent],
        count: usize,
    ) -> Option<(Checkpoint, Checkpoint, Range<usize>)> {
        let from = self.acquired.vector.get(feed.source());
        let start = usize::try_from(from.position).expect("a position of ours");
        let end = start.saturating_add(count).min(events.len());
        let last = events[start..end].last()?;
        Some((from, Checkpoint::at(feed.epoch(), last), start..end))
    }

    pub fn source(&self, feed: &ScriptedFeed) -> Name {
        feed.source().clone()
    }

    /// Events of `feed` that are not applied.
    pub fn behind(&self, feed: &ScriptedFeed) -> u64 {
        feed.head().position - self.acquired.vector.get(feed.source()).position
    }

    pub async fn apply(
        &self,
        feed: &ScriptedFeed,
        from: Checkpoint,
        to: Checkpoint,
        events: &[RecordedEvent],
    ) -> Result<(), ApplyError> {
        let head = feed.head();
        self.store.apply(&self.as_step(feed, from, to, events, &head)).await
    }

    fn as_step<'s>(
        &self,
        feed: &'s ScriptedFeed,
        from: Checkpoint,
        to: Checkpoint,
        events: &'s [RecordedEvent],
        head: &'s LogHead,
    ) -> Step<'s> {
        let (fence, source) = (self.acquired.fence, feed.source());
        Step { fence, source, from, to, events, diverted: &[], parking: &[], head }
    }

    /// Everything that is left, feed after feed, and every fan-out.
    pub async fn finish(&mut self, feeds: &[Arc<ScriptedFeed>]) -> Result<(), ApplyError> {
        for feed in feeds {
            self.step(feed, usize::MAX).await?;
        }
        while self.store.advance_fan_outs().await? {}
        Ok(())
    }

    /// The same generation in the hand of another process: what this one knew is forgotten, and it is shut out.
    pub(super) async fn taken_over(self, projection: Projection, options: StoreOptions) -> Self {
        let generation = self.store.generation();
        let Self { store, database, place, .. } = self;
        database.close_generation(store.pool()).await;
        place.hand(database, projection, generation, options).await
    }

    pub async fn hash(&self) -> TableHash {
        table_hash(&self.store).await.expect("a generation can be read")
    }

    pub(super) async fn table(&self) -> Result<Tables, String> {
        Tables::of(&self.store).await
    }

    /// Removes a generation that is not live.
    pub(super) async fn drop_generation(self) -> Result<(), String> {
        self.database.close_generation(self.store.pool()).await;
        let dropped = self.database.drop_generation(self.store.projection(), self.store.generation()).await;
        self.database.close().await;
        dropped.map_err(|error| error.to_string())
    }
}

/// Whether the event waits with a stream that is parked.
fn is_behind(parked: &ParkedStream, event: &RecordedEvent) -> bool {
    event.stream == parked.stream && event.position >= parked.position
}
