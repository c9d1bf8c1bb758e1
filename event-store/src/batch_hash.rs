//! The hash chain over batches: what triggers cannot stop (a superuser), this shows.
//!
//! hash = SHA-256( previous hash || records ), where the records are those of the batch's events in position order,
//! joined by 0x1E, and a record is the event's fields joined by 0x1F: position, event id, aggregate type, aggregate id,
//! sequence, event type, event version, payload, metadata, recorded time in microseconds. Names hold no control
//! characters (see `limits`) and JSON text holds none unescaped outside of insignificant white space, of which 0x1E and
//! 0x1F are not, so a record can be read in one way only. The first batch follows 32 zero bytes.

use std::fmt::Write;

use events::envelope::{RecordedEvent, StreamId};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::log::ChainVerdict;

/// The hash before the first batch.
pub const GENESIS: [u8; 32] = [0; 32];

/// The hash of a batch of at least one event.
pub fn batch_hash<'a>(previous: &[u8; 32], events: impl IntoIterator<Item = &'a RecordedEvent>) -> [u8; 32] {
    let mut hasher = BatchHasher::new(previous);
    for event in events {
        hasher.event(&HashedEvent {
            position: event.position,
            event_id: event.event_id,
            stream: &event.stream,
            sequence: event.sequence,
            event_type: &event.event_type,
            event_version: &event.event_version,
            payload: &event.payload,
            metadata: &event.metadata,
            recorded_at_us: event.recorded_at.timestamp_micros(),
        });
    }
    hasher.finish()
}

/// [`batch_hash`] while the batch is being written, event by event.
pub struct BatchHasher {
    hasher: Sha256,
    text: String,
}

/// What of an event is hashed.
pub struct HashedEvent<'a> {
    pub position: u64,
    pub event_id: Uuid,
    pub stream: &'a StreamId,
    pub sequence: u64,
    pub event_type: &'a str,
    pub event_version: &'a str,
    pub payload: &'a str,
    pub metadata: &'a str,
    pub recorded_at_us: i64,
}

impl BatchHasher {
    /// `previous` is the hash of the batch before this one.
    pub fn new(previous: &[u8; 32]) -> Self {
        Self { hasher: Sha256::new_with_prefix(previous), text: String::with_capacity(256) }
    }

    pub fn event(&mut self, event: &HashedEvent<'_>) {
        let HashedEvent { position, event_id, stream, sequence, event_type, event_version, .. } = event;
        let StreamId { aggregate_type, aggregate_id } = stream;
        // one short text for all short fields: the hash is computed faster on few long pieces
        let separator = if self.text.is_empty() { "" } else { "\u{1e}" };
        self.text.clear();
        write!(
            self.text,
            "{separator}{position}\u{1f}{event_id}\u{1f}{aggregate_type}\u{1f}{aggregate_id}\u{1f}{sequence}\u{1f}\
             {event_type}\u{1f}{event_version}\u{1f}"
        )
        .expect("a String takes everything");
        self.hasher.update(&self.text);
        self.hasher.update(event.payload);
        self.hasher.update([0x1f]);
        self.hasher.update(event.metadata);
        self.text.clear();
        write!(self.text, "\u{1f}{}", event.recorded_at_us).expect("a String takes everything");
        self.hasher.update(&self.text);
    }

    pub fn finish(self) -> [u8; 32] {
        self.hasher.finalize().into()
    }
}

/// A row of `batches`: which events a transaction appended, and the hash over them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchRow {
    pub first: u64,
    pub last: u64,
    pub previous: [u8; 32],
    pub hash: [u8; 32],
}

/// Follows the hash chain batch by batch and stops at the first thing that is wrong. It is all that has to be kept between
/// two stretches: what lies behind it is append-only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainCheck {
    /// The hash of the last batch that was followed.
    pub hash: [u8; 32],
    /// The position of its last event: the next batch must start behind it.
    pub position: u64,
    pub batches: u64,
}

/// A stretch of the chain that was followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainStep {
    pub check: ChainCheck,
    /// The position of the last event there is.
    pub head: u64,
    /// `None` while there are further batches.
    pub verdict: Option<ChainVerdict>,
}

impl Default for ChainCheck {
    fn default() -> Self {
        Self { hash: GENESIS, position: 0, batches: 0 }
    }
}

impl ChainCheck {
    /// Takes the next batch with the events that stand at its positions now; the verdict if something is wrong.
    pub fn follow(&mut self, batch: &BatchRow, events: &[RecordedEvent]) -> Result<(), ChainVerdict> {
        let broken = |first, last, reason: &str| Err(ChainVerdict::Broken { first, last, reason: reason.to_owned() });
        if batch.first != self.position + 1 || batch.last < batch.first {
            return broken(self.position + 1, batch.first.max(self.position + 1), "batches do not follow each other");
        }
        if !(batch.first..=batch.last).eq(events.iter().map(|event| event.position)) {
            return broken(batch.first, batch.last, "an event is missing or stands at another position");
        }
        if batch.previous != self.hash {
            return broken(batch.first, batch.last, "the batch does not name the hash of the one before it");
        }
        if batch_hash(&batch.previous, events) != batch.hash {
            return broken(batch.first, batch.last, "the events are not those that were hashed when they were written");
        }
        self.hash = batch.hash;
        self.position = batch.last;
        self.batches += 1;
        Ok(())
    }

    /// The verdict once there is no further batch; `last` is the position of the last event there is, `head` what the
    /// head of the log says.
    pub fn finish(&self, last: u64, head: u64) -> ChainVerdict {
        if last != head {
            let (first, reason) =
                (last.min(head) + 1, format!("the last event is at {last}, but the head says {head}"));
            return ChainVerdict::Broken { first, last: last.max(head), reason };
        }
        if last == self.position {
            return ChainVerdict::Intact { events: self.position, batches: self.batches };
        }
        let (first, reason) = if last > self.position {
            (self.position + 1, "events without a batch")
        } else {
            (last + 1, "events at the end are missing")
        };
        ChainVerdict::Broken { first, last: last.max(self.position), reason: reason.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::time_of_us;

    fn event(position: u64, payload: &str) -> RecordedEvent {
        RecordedEvent {
            position,
            event_id: Uuid::from_u128(u128::from(position)),
            stream: StreamId::new("account", "a"),
            sequence: position,
            event_type: "Noted".into(),
            event_version: "1".into(),
            payload: payload.into(),
            metadata: "{}".into(),
            recorded_at: time_of_us(1_790_000_000_000_000),
        }
    }

    #[test]
    fn the_hash_is_the_one_that_is_documented() {
        let text = "1\u{1f}00000000-0000-0000-0000-000000000001\u{1f}account\u{1f}a\u{1f}1\u{1f}Noted\u{1f}1\u{1f}[1]\u{1f}{}\
                    \u{1f}1790000000000000\u{1e}2\u{1f}00000000-0000-0000-0000-000000000002\u{1f}account\u{1f}a\u{1f}2\u{1f}\
                    Noted\u{1f}1\u{1f}[2]\u{1f}{}\u{1f}1790000000000000";
        let expected: [u8; 32] = Sha256::new_with_prefix([9; 32]).chain_update(text).finalize().into();
        assert_eq!(batch_hash(&[9; 32], &[event(1, "[1]"), event(2, "[2]")]), expected);
    }
}
