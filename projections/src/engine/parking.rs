//! What is done about parked streams: their events are fetched from the feeds and folded, one stream after the other.

use std::{sync::Arc, time::Duration};

use event_store::{
    feed::{Cursor, Feed, FeedError, PageLimit},
    follower::{ApplyError, ParkedStream, StoreError},
};
use events::envelope::RecordedEvent;
use thiserror::Error;
use tokio::time::timeout;

use super::{
    EngineError,
    store::{End, GenerationStore, Parked},
};

/// Waiting events of one transaction: they are in memory together.
const WAITING_EVENTS_MAX: usize = 1_000;
/// How often a stream is looked at again because more events have come to wait with it meanwhile. From the second look on
/// the follower waits, so that only another process could add some.
const LOOKS_MAX: u32 = 3;
/// How long a feed may take to give what waits: the follower may be waiting.
const FETCH_WAIT_MAX: Duration = Duration::from_secs(10);

/// Why nothing could be done about a parked stream.
#[derive(Debug, Error)]
pub enum ParkingError {
    #[error("there is no projection {0}")]
    Unknown(String),
    #[error(
        "the live generation of {0} is not followed by this process: another one does, or it is of another version and is \
         being rebuilt. Ask the process that follows it"
    )]
    NotFollowed(&'static str),
    #[error("{0} is being replaced by another generation just now; try again in a moment")]
    Busy(&'static str),
    #[error("no stream is parked at event {0}: `tributary projection parked ls` lists what is")]
    NotParked(uuid::Uuid),
    #[error("{feed} did not give the waiting events within {wait_s} s; try again")]
    Slow { feed: String, wait_s: u64 },
    #[error("{feed} is not followed here")]
    NoFeed { feed: String },
    #[error(transparent)]
    Feed(#[from] FeedError),
    /// The log was restored from an older copy.
    #[error("the log of {feed} does not hold the event that waits at position {position}: rebuild the projection")]
    Gone { feed: String, position: u64 },
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Apply(#[from] ApplyError),
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// What became of one parked stream, or would become of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retried {
    pub read_model: &'static str,
    pub stream: ParkedStream,
    /// Events that wait no more; those that were decided to be left out are among them.
    pub folded: u64,
    /// Events that wait on.
    pub waiting: u64,
    /// The event that cannot be folded now: position and why. `None` while others wait: a dry run looks at the first
    /// thousand.
    pub still: Option<(u64, String)>,
}

/// Folds what waits with `parked` as far as it goes, or only finds out how far that is.
pub(crate) async fn retry(
    store: &GenerationStore,
    feeds: &[Arc<dyn Feed>],
    parked: &Parked,
    end: End,
) -> Result<Retried, ParkingError> {
    let source = &parked.stream.source;
    let feed = feeds.iter().find(|feed| feed.source() == source);
    let feed = feed.ok_or_else(|| ParkingError::NoFeed { feed: source.to_string() })?;
    let mut retried = Retried {
        read_model: store.projection().template.name,
        stream: parked.stream.clone(),
        folded: 0,
        waiting: parked.waiting,
        still: None,
    };
    let mut at = parked.stream.clone();
    let mut looks = 0;
    loop {
        let mut held = if looks == 0 { None } else { Some(store.hold().await) };
        let positions = store.waiting(&at, 0, WAITING_EVENTS_MAX + 1).await?;
        if positions.is_empty() {
            // somebody else has folded them
            retried.waiting = 0;
            return Ok(retried);
        }
        let events = timeout(FETCH_WAIT_MAX, fetch(&**feed, Some(&at), &positions)).await;
        let slow = |_| ParkingError::Slow { feed: source.to_string(), wait_s: FETCH_WAIT_MAX.as_secs() };
        let events = events.map_err(slow)??;
        let (now, behind) = events.split_at(events.len().min(WAITING_EVENTS_MAX));
        let later = store.folded_behind(source, now).await?;
        let later = timeout(FETCH_WAIT_MAX, fetch(&**feed, None, &later)).await.map_err(slow)??;
        let held = match &mut held {
            Some(held) => held,
            none => none.insert(store.hold().await),
        };
        let waited = match store.fold_waiting(held, &at, now, behind.first(), &later, end).await {
            Ok(waited) => waited,
            // one more has come to wait: with it, then
            Err(ApplyError::Moved) if looks < LOOKS_MAX => {
                looks += 1;
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        retried.folded += waited.folded as u64;
        retried.waiting = retried.waiting.max(positions.len() as u64).saturating_sub(waited.folded as u64);
        retried.still = waited.still.map(|(event, reason)| (event.position, reason));
        match behind.first() {
            Some(next) if retried.still.is_none() && end == End::Commit => {
                at.position = next.position;
                at.event_id = next.event_id;
                looks = 0;
            }
            _ => return Ok(retried),
        }
    }
}

/// The events at `positions`, which are of the parked stream, if one is given.
async fn fetch(
    feed: &dyn Feed,
    parked: Option<&ParkedStream>,
    positions: &[u64],
) -> Result<Vec<RecordedEvent>, ParkingError> {
    let gone = |position| ParkingError::Gone { feed: feed.source().to_string(), position };
    let mut events: Vec<RecordedEvent> = Vec::with_capacity(positions.len());
    while let Some(&first) = positions.get(events.len()) {
        // as many as lie side by side
        let wanted = &positions[events.len()..];
        let together = wanted.iter().zip(first..).take_while(|(position, expected)| *position == expected).count();
        // the event before it is not known here
        let before = Cursor { position: first - 1, event_id: None };
        let page = feed.page(before, PageLimit::events(together), Duration::ZERO).await?;
        let found = page.events.into_iter().take(together);
        let length = events.len();
        events.extend(found);
        for (event, position) in events[length..].iter().zip(&wanted[..together]) {
            let is_its = |parked: &ParkedStream| {
                event.stream == parked.stream
                    && (event.position != parked.position || event.event_id == parked.event_id)
            };
            if event.position != *position || !parked.is_none_or(is_its) {
                return Err(gone(*position));
            }
        }
        if events.len() == length {
            return Err(gone(first));
        }
    }
    Ok(events)
}

/// Folds what waits in a generation and can be folded by now, so that two generations are compared by what they make of
/// events and not by when they met them. What cannot be folded waits on.
pub(crate) async fn settle(store: &GenerationStore, feeds: &[Arc<dyn Feed>]) -> Result<(), ParkingError> {
    store.read_decisions().await?;
    for parked in store.parked().await? {
        retry(store, feeds, &parked, End::Commit).await?;
    }
    Ok(())
}

/// Carries out decisions that a crash has cut, or that another process has recorded: the stream that they are about waits
/// still. Says whether there were any. The fence must have been acquired.
pub(crate) async fn resume(store: &GenerationStore, feeds: &[Arc<dyn Feed>]) -> Result<bool, ParkingError> {
    store.read_decisions().await?;
    let mut any = false;
    for parked in store.parked().await? {
        if store.dropped().await.holds(&parked.stream.source, parked.stream.event_id) {
            retry(store, feeds, &parked, End::Commit).await?;
            any = true;
        }
    }
    Ok(any)
}
