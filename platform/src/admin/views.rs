//! What the admin API answers, in the words of the command line. Both sides of the wire use these types.

use chrono::{DateTime, Utc};
use events::envelope::{Metadata, RecordedEvent};
use serde::{Deserialize, Serialize};
use write_side::edge::Problem;

use super::Halts;

/// A projection, its live generation, and how far it has read.
#[derive(Debug, Serialize, Deserialize)]
pub struct ProjectionView {
    pub name: String,
    /// `VERSION` of the fold that made the live generation.
    pub version: i64,
    pub live_generation: i64,
    pub building_generation: Option<i64>,
    /// What last hindered building it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hindrance: Option<String>,
    /// `live` or `rebuilding`.
    pub state: String,
    /// Rows that are served; absent unless they were asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<i64>,
    pub sources: Vec<SourceView>,
}

/// A projection's place in one feed.
#[derive(Debug, Serialize, Deserialize)]
pub struct SourceView {
    pub source: String,
    pub position: i64,
    pub head_position: i64,
    pub lag_events: i64,
    /// For how long the oldest event that is known and not applied has been waiting, in milliseconds; 0 when none waits.
    pub lag_ms: i64,
    /// When the head was last seen: the lag is as it was then. Absent until it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_at: Option<DateTime<Utc>>,
    /// Events that wait for an operator.
    pub parked: i64,
    /// `running`, or why it is halted.
    pub state: String,
}

impl ProjectionView {
    pub fn new(status: read_side::ProjectionStatus, halts: &Halts, hindrance: Option<String>) -> Self {
        let now_us = Utc::now().timestamp_micros();
        let sources = status.vector.iter().map(|source| SourceView {
            source: source.source.clone(),
            position: source.position,
            head_position: source.head_position,
            lag_events: source.lag_events(),
            lag_ms: source.lag_ms(now_us),
            observed_at: source.observed_at_us.and_then(DateTime::from_timestamp_micros),
            parked: source.parked,
            state: match halts.get(&(status.name.clone(), source.source.clone())) {
                Some(standstill) => standstill.to_string(),
                None => "running".to_owned(),
            },
        });
        Self {
            sources: sources.collect(),
            name: status.name,
            version: status.version,
            live_generation: status.live_generation,
            building_generation: status.building_generation,
            hindrance,
            state: status.state,
            rows: status.rows,
        }
    }
}

/// Events of one stream, in order.
#[derive(Debug, Serialize, Deserialize)]
pub struct StreamEvents {
    pub service: String,
    pub stream: String,
    pub events: Vec<EventView>,
    /// There are events behind the last of these.
    pub more: bool,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct EventView {
    pub sequence: u64,
    pub position: u64,
    pub event_id: uuid::Uuid,
    pub event_type: String,
    pub event_version: String,
    pub recorded_at: DateTime<Utc>,
    pub payload: serde_json::Value,
    pub metadata: Metadata,
}

impl TryFrom<RecordedEvent> for EventView {
    type Error = Problem;

    fn try_from(event: RecordedEvent) -> Result<Self, Problem> {
        let damaged = |error| Problem::internal(format!("{} at {}: {error}", event.stream, event.sequence));
        Ok(Self {
            sequence: event.sequence,
            position: event.position,
            event_id: event.event_id,
            event_type: event.event_type.to_string(),
            event_version: event.event_version.to_string(),
            recorded_at: event.recorded_at,
            payload: serde_json::from_str(&event.payload).map_err(damaged)?,
            metadata: event.metadata().map_err(damaged)?,
        })
    }
}
