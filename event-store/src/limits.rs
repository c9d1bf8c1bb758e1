//! What a log takes. Everything above is refused at command time with the limit named, so that a feed never wedges on
//! something it cannot carry.

use events::envelope::StreamId;
use thiserror::Error;

use crate::log::{AppendItem, NewEvent};

/// The bounds of one log.
#[derive(Debug, Clone)]
pub struct Limits {
    /// One event with its envelope, in bytes. 768 KiB leave room for base64 or headers below the 1 MiB that message
    /// brokers commonly carry.
    pub event_bytes_max: usize,
    /// Events of one command. Bounds the memory of one decision.
    pub events_per_command_max: usize,
    /// Aggregate types, aggregate ids, keys, claim names, event types: characters. They are index keys.
    pub id_chars_max: usize,
    /// Scopes and claim values: characters. E-mail addresses are at most 254 (RFC 5321).
    pub name_chars_max: usize,
    /// The stored answer of one command, in bytes.
    pub outcome_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            event_bytes_max: 768 * 1024,
            events_per_command_max: 1_000,
            id_chars_max: 128,
            name_chars_max: 320,
            outcome_bytes_max: 64 * 1024,
        }
    }
}

/// The envelope's own share of an event besides its names: CloudEvents' fields, id, numbers and times, generously.
pub const ENVELOPE_BYTES: usize = 1_024;

/// Payload and metadata of an event that somebody else has written, in bytes: with its envelope, and with what JSON escapes, it
/// stays a line that a follower takes over HTTP. `adopt_event.sql` says the same number.
pub const ADOPTED_BYTES_MAX: usize = 3 * 1024 * 1024;

/// A bound was passed. Nothing was written.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LimitError {
    #[error("an event of {event_type} has {bytes} bytes with its envelope; the limit is {limit} (event_bytes_max)")]
    EventBytes { event_type: String, bytes: usize, limit: usize },
    #[error("a command makes {events} events; the limit is {limit} (events_per_command_max)")]
    Events { events: usize, limit: usize },
    #[error("{field} has {chars} characters; the limit is {limit}")]
    Chars { field: &'static str, chars: usize, limit: usize },
    #[error("{field} is empty or holds a control character")]
    Text { field: &'static str },
    #[error("the stored outcome has {bytes} bytes; the limit is {limit} (outcome_bytes_max)")]
    OutcomeBytes { bytes: usize, limit: usize },
}

impl Limits {
    /// Checks one item against every bound.
    pub fn check(&self, item: &AppendItem) -> Result<(), LimitError> {
        text("aggregate_type", &item.stream.aggregate_type, self.id_chars_max)?;
        text("aggregate_id", &item.stream.aggregate_id, self.id_chars_max)?;
        text("idempotency key", &item.command.key, self.id_chars_max)?;
        text("scope", &item.command.scope, self.name_chars_max)?;
        for claim in &item.claims {
            text("claim name", &claim.name, self.id_chars_max)?;
            text("claim value", &claim.value, self.name_chars_max)?;
        }
        let events = item.events();
        if events.len() > self.events_per_command_max {
            return Err(LimitError::Events { events: events.len(), limit: self.events_per_command_max });
        }
        for event in events {
            text("event_type", &event.event_type, self.id_chars_max)?;
            text("event_version", &event.event_version, self.id_chars_max)?;
            let bytes = Self::enveloped_bytes(&item.stream, event);
            if bytes > self.event_bytes_max {
                let event_type = event.event_type.to_string();
                return Err(LimitError::EventBytes { event_type, bytes, limit: self.event_bytes_max });
            }
        }
        let bytes = item.command.outcome.len();
        if bytes > self.outcome_bytes_max {
            return Err(LimitError::OutcomeBytes { bytes, limit: self.outcome_bytes_max });
        }
        Ok(())
    }

    /// At most what the event weighs on the wire, in bytes: the aggregate's id stands there twice.
    pub fn enveloped_bytes(stream: &StreamId, event: &NewEvent) -> usize {
        let names = event.event_type.len() + event.event_version.len() + stream.aggregate_type.len();
        event_bytes(event) + ENVELOPE_BYTES + names + 2 * stream.aggregate_id.len()
    }

    /// Roughly what an item weighs in a queue or a batch, in bytes.
    pub fn item_bytes(item: &AppendItem) -> usize {
        const NAMES: usize = 256;
        NAMES + item.command.outcome.len() + item.events().iter().map(event_bytes).sum::<usize>()
    }
}

fn event_bytes(event: &NewEvent) -> usize {
    event.payload.len() + event.metadata.len()
}

/// Ids become index keys, URLs and lines of a hash: printable text of bounded length.
fn text(field: &'static str, value: &str, limit: usize) -> Result<(), LimitError> {
    // most names are ASCII, whose control characters are bytes: this runs ten times per command
    let control = match value.is_ascii() {
        true => value.bytes().any(|byte| byte.is_ascii_control()),
        false => value.chars().any(char::is_control),
    };
    if value.is_empty() || control {
        return Err(LimitError::Text { field });
    }
    // bytes bound characters from above, so counting is rarely needed
    if value.len() > limit {
        let chars = value.chars().count();
        if chars > limit {
            return Err(LimitError::Chars { field, chars, limit });
        }
    }
    Ok(())
}
