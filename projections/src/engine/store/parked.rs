//! Streams with an event that cannot be folded: noted with the step that meets it, seen, and folded when that has become
//! possible.

use std::{collections::HashSet, sync::Arc};

use chrono::DateTime;
use event_store::{
    follower::{ApplyError, Checkpoint, ParkedStream, Step, StoreError},
    log::LogHead,
};
use events::envelope::{Name, RecordedEvent, StreamId};
use serde::Serialize;
use uuid::Uuid;

use super::{
    super::{
        batch::{Routed, json},
        decisions::fingerprint,
        transaction::{Texts, Transaction, Value},
    },
    End, GenerationStore, Held, Refused, Work, number, signed, text, unreadable, unsigned,
};

/// A parked stream, as operators see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parked {
    pub stream: ParkedStream,
    /// Of the event that cannot be folded; empty where an older version parked it.
    pub event_type: String,
    pub event_version: String,
    pub parked_at_us: i64,
    /// Events that wait, the one that cannot be folded included.
    pub waiting: u64,
}

impl Parked {
    /// What it has in common with others that fail in the same way.
    pub fn fingerprint(&self) -> String {
        fingerprint(&self.event_type, &self.event_version, &self.stream.reason)
    }
}

/// What became of events that waited.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Waited {
    /// How many of them wait no more.
    pub folded: usize,
    /// The first of the others, and why it cannot be folded.
    pub still: Option<(RecordedEvent, String)>,
}

/// Events that waited and are now folded.
pub(super) struct Unparking<'w> {
    parked: &'w ParkedStream,
    /// The last of them, and how many there are.
    through: u64,
    count: usize,
    /// What the stream waits for from now on; `None` = it goes on.
    next: Option<(&'w RecordedEvent, &'w str)>,
}

impl Unparking<'_> {
    /// Whether the stream is parked no more.
    pub(super) fn is_over(&self) -> bool {
        self.next.is_none()
    }

    pub(super) fn key(&self) -> (Name, StreamId) {
        (self.parked.source.clone(), self.parked.stream.clone())
    }
}

/// What is asked about parked streams, besides what a batch does.
pub(super) struct ParkedStatements {
    /// -> source, aggregate type, aggregate id, position, event id, reason, event type, event version, when, how many wait;
    /// oldest first.
    list: Arc<str>,
    /// `$1..$3` source, aggregate type and id, `$4` behind which position, `$5` limit -> positions, in order.
    waiting: Arc<str>,
    /// `$1..$3` as above, `$4` through which position.
    forget_events: Arc<str>,
    /// `$1..$3` as above, `$4` the position at which it was parked.
    forget_stream: Arc<str>,
    /// As `forget_stream`, and `$5..$9` position, event id, reason, event type, event version.
    move_stream: Arc<str>,
}

impl ParkedStatements {
    pub fn new(read_model: &str, generation: i64) -> Self {
        let this = format!("read_model = '{read_model}' and generation = {generation}");
        let stream = format!("{this} and source = $1 and aggregate_type = $2 and aggregate_id = $3");
        Self {
            list: format!(
                "select source, aggregate_type, aggregate_id, cast(position as text), event_id, reason, event_type, \
                    event_version, cast(parked_at_us as text), \
                    (select cast(count(*) as text) from parked_events e where e.read_model = s.read_model \
                        and e.generation = s.generation and e.source = s.source \
                        and e.aggregate_type = s.aggregate_type and e.aggregate_id = s.aggregate_id) \
                 from parked_streams s where {this} order by s.source, s.position"
            )
            .into(),
            waiting: format!(
                "select cast(position as text) from parked_events where {stream} and position > $4 \
                 order by parked_events.position limit $5"
            )
            .into(),
            forget_events: format!("delete from parked_events where {stream} and position <= $4").into(),
            forget_stream: format!("delete from parked_streams where {stream} and position = $4").into(),
            move_stream: format!(
                "update parked_streams set position = $5, event_id = $6, reason = $7, event_type = $8, \
                    event_version = $9 where {stream} and position = $4"
            )
            .into(),
        }
    }
}

impl GenerationStore {
    /// Every parked stream, by source and place.
    pub async fn parked(&self) -> Result<Vec<Parked>, StoreError> {
        let rows = self.fetch(&self.parked_statements.list, &[]).await?;
        let parked = |row: &Texts| -> Result<Parked, Refused> {
            let unreadable = || unreadable("parked_streams");
            Ok(Parked {
                stream: parked_stream(row)?,
                event_type: text(row, 6).unwrap_or_default(),
                event_version: text(row, 7).unwrap_or_default(),
                parked_at_us: number(row, 8).ok_or_else(unreadable)?,
                waiting: number(row, 9).map(unsigned).ok_or_else(unreadable)?,
            })
        };
        Ok(rows.iter().map(parked).collect::<Result<_, _>>()?)
    }

    /// Positions of the first `limit` events behind `after` that wait with a stream, in order.
    pub async fn waiting(&self, parked: &ParkedStream, after: u64, limit: usize) -> Result<Vec<u64>, StoreError> {
        let [source, aggregate_type, aggregate_id] = address(parked);
        let limit = Value::Integer(i64::try_from(limit).unwrap_or(i64::MAX));
        let values = [source, aggregate_type, aggregate_id, Value::Integer(signed(after)), limit];
        let rows = self.fetch(&self.parked_statements.waiting, &values).await?;
        let position = |row: &Texts| number(row, 0).map(unsigned).ok_or_else(|| unreadable("parked_events"));
        Ok(rows.iter().map(position).collect::<Result<_, _>>()?)
    }

    async fn fetch(&self, statement: &Arc<str>, values: &[Value<'_>]) -> Result<Vec<Texts>, Refused> {
        let mut transaction = self.pool.begin_snapshot().await?;
        let rows = transaction.fetch(statement, values).await;
        transaction.rollback().await;
        Ok(rows?)
    }

    /// Waits until nobody writes, and keeps it so.
    pub(crate) async fn hold(&self) -> Held<'_> {
        Held(self.writing.lock().await)
    }

    /// Folds `events`, the first of those that wait with `parked`, in order and in one transaction: up to the first that
    /// still cannot be folded, or to the end. `behind` is the one that waits behind them, if there is one. What was decided
    /// to be left out is left out. `later` are the events that were folded behind them already, into the same states
    /// ([`Self::folded_behind`]).
    ///
    /// [`ApplyError::Moved`] when others wait with the stream, or none any more. Not cancel-safe.
    pub(crate) async fn fold_waiting(
        &self,
        Held(writing): &mut Held<'_>,
        parked: &ParkedStream,
        events: &[RecordedEvent],
        behind: Option<&RecordedEvent>,
        later: &[RecordedEvent],
        end: End,
    ) -> Result<Waited, ApplyError> {
        let (fence, dropped) = (writing.fence, Arc::clone(&writing.dropped));
        let head = LogHead { position: 0, recorded_at: DateTime::UNIX_EPOCH };
        let (mut count, mut still) = (events.len(), None);
        loop {
            let Some(last) = events[..count].last() else { return Ok(Waited { folded: 0, still }) };
            let waiting_on: Vec<usize> = (count..events.len()).collect();
            let step = Step {
                fence,
                source: &parked.source,
                from: Checkpoint::START,
                to: Checkpoint::START,
                events,
                diverted: &waiting_on,
                parking: &[],
                head: &head,
            };
            let refused = match Routed::of(&self.projection, &step, &dropped) {
                Ok(mut routed) => {
                    routed.join(&self.projection, &parked.source, later)?;
                    let poison = still.as_ref().map(|(event, reason): &(RecordedEvent, String)| (event, &**reason));
                    let next = poison.or(behind.map(|event| (event, &*parked.reason)));
                    let unparking = Unparking { parked, through: last.position, count, next };
                    match self.transact(writing, fence, Work::Waiting(&unparking), routed, end).await {
                        Ok(()) => return Ok(Waited { folded: count, still }),
                        Err(refused) => refused.into(),
                    }
                }
                Err(refused) => refused,
            };
            let (position, reason) = match refused {
                ApplyError::Poison(poison) => (poison[0].position, poison[0].reason.clone()),
                ApplyError::UnknownEventType { position, .. } => (position, refused.to_string()),
                error => return Err(error),
            };
            let at = events[..count].iter().position(|event| event.position == position);
            // each turn is shorter than the one before it, so this ends
            count = at.ok_or_else(|| ApplyError::Bug(format!("position {position} was not to be folded")))?;
            still = Some((events[count].clone(), reason));
        }
    }

    /// Whether the step takes the same streams for parked as the store does.
    pub(super) fn agrees(&self, parked: &HashSet<(Name, StreamId)>, step: &Step<'_>) -> bool {
        if parked.is_empty() && step.diverted.is_empty() {
            return true;
        }
        let is_parked = |event: &RecordedEvent| parked.contains(&(step.source.clone(), event.stream.clone()));
        let is_being_parked = |event: &RecordedEvent| step.parking.iter().any(|parking| parking.stream == event.stream);
        step.waiting().all(|event| is_parked(event) || is_being_parked(event)) && !step.folded().any(is_parked)
    }

    /// Notes streams that are parked from here on, and events that wait with theirs.
    pub(super) async fn write_parked(&self, transaction: &mut Transaction, step: &Step<'_>) -> Result<(), Refused> {
        #[derive(Serialize)]
        struct Stream<'s> {
            source: &'s str,
            aggregate_type: &'s str,
            aggregate_id: &'s str,
            position: u64,
            event_id: Uuid,
            reason: &'s str,
            parked_at_us: i64,
            event_type: Option<&'s str>,
            event_version: Option<&'s str>,
        }
        #[derive(Serialize)]
        struct Event<'e> {
            source: &'e str,
            position: u64,
            aggregate_type: &'e str,
            aggregate_id: &'e str,
        }
        let parked_at_us = self.options.clock.now().timestamp_micros();
        let stream = |parked: &'_ ParkedStream| {
            let event = step.events.iter().find(|event| event.position == parked.position);
            json(&Stream {
                source: &parked.source,
                aggregate_type: &parked.stream.aggregate_type,
                aggregate_id: &parked.stream.aggregate_id,
                position: parked.position,
                event_id: parked.event_id,
                reason: &parked.reason,
                parked_at_us,
                event_type: event.map(|event| &*event.event_type),
                event_version: event.map(|event| &*event.event_version),
            })
        };
        if !step.parking.is_empty() {
            let streams: Vec<String> = step.parking.iter().map(stream).collect();
            let streams = super::super::batch::array(&streams);
            transaction.execute(&self.statements.insert_parked_streams, &[Value::Text(&streams)]).await?;
        }
        let events: Vec<_> = step
            .waiting()
            .map(|event| Event {
                source: step.source,
                position: event.position,
                aggregate_type: &event.stream.aggregate_type,
                aggregate_id: &event.stream.aggregate_id,
            })
            .collect();
        if !events.is_empty() {
            transaction.execute(&self.statements.insert_parked_events, &[Value::Text(&json(&events))]).await?;
        }
        Ok(())
    }

    /// Forgets events that waited, and the stream with its last one.
    pub(super) async fn write_unparked(
        &self,
        transaction: &mut Transaction,
        unparking: &Unparking<'_>,
    ) -> Result<(), Refused> {
        let Unparking { parked, through, count, next } = unparking;
        let moved = || Refused::Apply(ApplyError::Moved);
        let [source, aggregate_type, aggregate_id] = address(parked);
        let (through, parked_at) = (Value::Integer(signed(*through)), Value::Integer(signed(parked.position)));
        let forgotten = [source, aggregate_type, aggregate_id, through];
        let forgotten = transaction.execute(&self.parked_statements.forget_events, &forgotten).await?;
        if forgotten != *count as u64 {
            return Err(moved());
        }
        let changed = match next {
            Some((event, reason)) => {
                let event_id = event.event_id.to_string();
                let values = [
                    source,
                    aggregate_type,
                    aggregate_id,
                    parked_at,
                    Value::Integer(signed(event.position)),
                    Value::Text(&event_id),
                    Value::Text(reason),
                    Value::Text(&event.event_type),
                    Value::Text(&event.event_version),
                ];
                transaction.execute(&self.parked_statements.move_stream, &values).await?
            }
            None => {
                let more = [source, aggregate_type, aggregate_id, through, Value::Integer(1)];
                if !transaction.fetch(&self.parked_statements.waiting, &more).await?.is_empty() {
                    return Err(moved());
                }
                let values = [source, aggregate_type, aggregate_id, parked_at];
                transaction.execute(&self.parked_statements.forget_stream, &values).await?
            }
        };
        if changed == 1 { Ok(()) } else { Err(moved()) }
    }
}

fn address(parked: &ParkedStream) -> [Value<'_>; 3] {
    let stream = &parked.stream;
    [Value::Text(&parked.source), Value::Text(&stream.aggregate_type), Value::Text(&stream.aggregate_id)]
}

pub(in crate::engine) fn parked_stream(row: &Texts) -> Result<ParkedStream, Refused> {
    let parked = || {
        Some(ParkedStream {
            source: text(row, 0)?.into(),
            stream: StreamId::new(text(row, 1)?, text(row, 2)?),
            position: unsigned(number(row, 3)?),
            event_id: text(row, 4)?.parse().ok()?,
            reason: text(row, 5)?,
        })
    };
    parked().ok_or_else(|| unreadable("parked_streams"))
}
