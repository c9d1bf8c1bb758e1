//! What wraps every event, inside a log and on the wire.
//!
//! On the wire an event is one CloudEvents 1.0 object (<https://cloudevents.io>), with the documented extensions
//! `correlationid`, `causationid`, `recordedtime`, `sequence` and `partitionkey`, and our own `position`.

use std::sync::Arc;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use thiserror::Error;
use uuid::Uuid;

/// A short, often repeated text (a type, an id), cheap to copy.
pub type Name = Arc<str>;

/// One aggregate instance.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamId {
    pub aggregate_type: Name,
    pub aggregate_id: Name,
}

impl StreamId {
    pub fn new(aggregate_type: impl Into<Name>, aggregate_id: impl Into<Name>) -> Self {
        Self { aggregate_type: aggregate_type.into(), aggregate_id: aggregate_id.into() }
    }
}

impl std::fmt::Display for StreamId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.aggregate_type, self.aggregate_id)
    }
}

/// One event as the log holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedEvent {
    /// Place in the service's log, from 1, without gaps.
    pub position: u64,
    pub event_id: Uuid,
    pub stream: StreamId,
    /// Version within the stream, from 1, without gaps.
    pub sequence: u64,
    pub event_type: Name,
    pub event_version: Name,
    /// JSON text, byte for byte as it was written.
    pub payload: String,
    /// JSON text of a [`Metadata`].
    pub metadata: String,
    /// When the log took it, in microseconds; never runs backwards within a log.
    pub recorded_at: DateTime<Utc>,
}

impl RecordedEvent {
    /// The metadata, parsed. Unknown fields are kept out, missing ones are `None`.
    pub fn metadata(&self) -> Result<Metadata, serde_json::Error> {
        serde_json::from_str(&self.metadata)
    }

    /// When it happened; where nobody says that, when it was recorded.
    pub fn occurred_at(&self) -> DateTime<Utc> {
        self.metadata().ok().and_then(|metadata| metadata.occurred_at).unwrap_or(self.recorded_at)
    }
}

/// Where an event comes from and what it belongs to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metadata {
    /// The conversation: the same on everything that one request caused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<String>,
    /// The event or command that caused this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub causation_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command_id: Option<String>,
    /// The principal that asked for it: an id, never a name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
    /// W3C trace context.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
    /// When it happened, where that is not when it was recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub occurred_at: Option<DateTime<Utc>>,
}

/// One line of a feed: a CloudEvents 1.0 object in structured JSON form.
#[derive(Debug, Serialize, Deserialize)]
struct CloudEvent<'a> {
    specversion: &'a str,
    id: Uuid,
    /// `/{service}`
    source: std::borrow::Cow<'a, str>,
    #[serde(rename = "type")]
    event_type: std::borrow::Cow<'a, str>,
    subject: std::borrow::Cow<'a, str>,
    /// When it happened; `recordedtime` says when it was recorded.
    time: String,
    datacontenttype: &'a str,
    position: u64,
    sequence: String,
    partitionkey: std::borrow::Cow<'a, str>,
    aggregatetype: std::borrow::Cow<'a, str>,
    eventversion: std::borrow::Cow<'a, str>,
    recordedtime: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    correlationid: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    causationid: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    commandid: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    actor: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    traceparent: Option<String>,
    #[serde(borrow)]
    data: &'a RawValue,
}

/// Why a line is not an event, or an event cannot become a line.
#[derive(Debug, Error)]
pub enum EnvelopeError {
    #[error("not a CloudEvents object of ours: {0}")]
    Json(#[from] serde_json::Error),
    #[error("{field} is not what it should be: {value}")]
    Field { field: &'static str, value: String },
}

/// Writes `event` of `source` as one CloudEvents object, without a line feed.
pub fn to_cloud_event(source: &str, event: &RecordedEvent) -> Result<String, EnvelopeError> {
    let metadata = event.metadata()?;
    let recorded = timestamp(event.recorded_at);
    let line = CloudEvent {
        specversion: "1.0",
        id: event.event_id,
        source: format!("/{source}").into(),
        event_type: (&*event.event_type).into(),
        subject: (&*event.stream.aggregate_id).into(),
        time: metadata.occurred_at.map_or_else(|| recorded.clone(), timestamp),
        datacontenttype: "application/json",
        position: event.position,
        sequence: event.sequence.to_string(),
        partitionkey: (&*event.stream.aggregate_id).into(),
        aggregatetype: (&*event.stream.aggregate_type).into(),
        eventversion: (&*event.event_version).into(),
        recordedtime: recorded,
        correlationid: metadata.correlation_id,
        causationid: metadata.causation_id,
        commandid: metadata.command_id,
        actor: metadata.actor,
        traceparent: metadata.traceparent,
        data: serde_json::from_str(&event.payload)?,
    };
    Ok(serde_json::to_string(&line)?)
}

/// Reads back what [`to_cloud_event`] wrote.
pub fn from_cloud_event(line: &str) -> Result<RecordedEvent, EnvelopeError> {
    let line: CloudEvent<'_> = serde_json::from_str(line)?;
    if line.specversion != "1.0" {
        return Err(EnvelopeError::Field { field: "specversion", value: line.specversion.to_owned() });
    }
    let recorded_at = parse_timestamp("recordedtime", &line.recordedtime)?;
    let occurred_at = Some(parse_timestamp("time", &line.time)?).filter(|time| *time != recorded_at);
    let sequence =
        line.sequence.parse().map_err(|_| EnvelopeError::Field { field: "sequence", value: line.sequence.clone() })?;
    let metadata = Metadata {
        correlation_id: line.correlationid,
        causation_id: line.causationid,
        command_id: line.commandid,
        actor: line.actor,
        traceparent: line.traceparent,
        occurred_at,
    };
    Ok(RecordedEvent {
        position: line.position,
        event_id: line.id,
        stream: StreamId::new(&*line.aggregatetype, &*line.partitionkey),
        sequence,
        event_type: (&*line.event_type).into(),
        event_version: (&*line.eventversion).into(),
        payload: line.data.get().to_owned(),
        metadata: serde_json::to_string(&metadata)?,
        recorded_at,
    })
}

fn timestamp(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Micros, true)
}

fn parse_timestamp(field: &'static str, text: &str) -> Result<DateTime<Utc>, EnvelopeError> {
    DateTime::parse_from_rfc3339(text)
        .map(|time| time.with_timezone(&Utc))
        .map_err(|_| EnvelopeError::Field { field, value: text.to_owned() })
}

#[cfg(test)]
mod tests {
    use chrono::TimeZone;

    use super::*;

    fn sample() -> RecordedEvent {
        let metadata = Metadata {
            correlation_id: Some("conversation-1".into()),
            actor: Some("anonymous".into()),
            occurred_at: Some(Utc.with_ymd_and_hms(1996, 7, 4, 0, 0, 0).unwrap()),
            ..Metadata::default()
        };
        RecordedEvent {
            position: 42,
            event_id: Uuid::from_u128(7),
            stream: StreamId::new("order", "o-1"),
            sequence: 3,
            event_type: "OrderPlaced".into(),
            event_version: "1".into(),
            payload: r#"{"b":1,  "a":"é"}"#.into(),
            metadata: serde_json::to_string(&metadata).unwrap(),
            recorded_at: Utc.timestamp_micros(1_790_000_000_123_456).unwrap(),
        }
    }

    #[test]
    fn an_event_survives_the_wire_byte_for_byte() {
        let line = to_cloud_event("orders", &sample()).unwrap();
        assert!(!line.contains('\n'));
        assert!(line.contains(r#""data":{"b":1,  "a":"é"}"#), "{line}");
        assert_eq!(from_cloud_event(&line).unwrap(), sample());
    }

    #[test]
    fn a_line_of_another_specversion_is_refused() {
        let line =
            to_cloud_event("orders", &sample()).unwrap().replace(r#""specversion":"1.0""#, r#""specversion":"2.0""#);
        assert!(matches!(from_cloud_event(&line), Err(EnvelopeError::Field { field: "specversion", .. })));
    }
}
