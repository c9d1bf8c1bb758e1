//! What feeds the answers, and how far behind it is.

use std::time::Duration;

use async_graphql::SimpleObject;
use chrono::{DateTime, Utc};
use read_side::{ProjectionStatus, SourceStatus};

use super::money::SafeInt;

/// A read model: what its projection made of the services' events.
#[derive(Debug, SimpleObject)]
pub(crate) struct Projection {
    /// The read model's name, such as `order_details`.
    name: String,
    /// The version of the fold that made the rows.
    version: SafeInt,
    /// The generation that answers. A rebuild makes the next one beside it.
    generation: SafeInt,
    /// `live`, or `rebuilding` while another generation is built beside the live one.
    state: String,
    /// The generation that is being built; null if none is.
    building_generation: Option<SafeInt>,
    /// How many rows it serves.
    rows: SafeInt,
    /// Events of all its sources together that are not in the rows yet.
    lag_events: SafeInt,
    /// For how long the oldest of them has been waiting, in seconds; 0 when none waits.
    lag_seconds: f64,
    /// How far it is in each source.
    sources: Vec<ProjectionSource>,
}

/// How far a read model is in the log of one service.
#[derive(Debug, SimpleObject)]
struct ProjectionSource {
    /// The service's name.
    source: String,
    /// The position in the service's log up to which every event is in the rows.
    position: SafeInt,
    /// The log's last position when the projector last looked.
    head_position: SafeInt,
    /// Events between the two.
    lag_events: SafeInt,
    /// For how long the oldest of them has been waiting, in seconds; 0 when none waits.
    lag_seconds: f64,
    /// When the projector last looked: the lag is as it was then. Null until it has.
    observed_at: Option<DateTime<Utc>>,
    /// Events that could not be folded and wait for an operator.
    parked: SafeInt,
}

impl From<ProjectionStatus> for Projection {
    fn from(status: ProjectionStatus) -> Self {
        let sources: Vec<_> = status.vector.into_iter().map(ProjectionSource::from).collect();
        Self {
            lag_events: SafeInt(sources.iter().map(|source| source.lag_events.0).sum()),
            lag_seconds: sources.iter().map(|source| source.lag_seconds).fold(0.0, f64::max),
            name: status.name,
            version: SafeInt(status.version),
            generation: SafeInt(status.live_generation),
            state: status.state,
            building_generation: status.building_generation.map(SafeInt),
            // counted by whoever asks for them
            rows: SafeInt(status.rows.unwrap_or_default()),
            sources,
        }
    }
}

impl From<SourceStatus> for ProjectionSource {
    fn from(source: SourceStatus) -> Self {
        let lag_ms = source.lag_ms(Utc::now().timestamp_micros());
        let lag = Duration::from_millis(u64::try_from(lag_ms).unwrap_or(0));
        Self {
            position: SafeInt(source.position),
            head_position: SafeInt(source.head_position),
            lag_events: SafeInt(source.lag_events()),
            lag_seconds: lag.as_secs_f64(),
            observed_at: source.observed_at_us.and_then(DateTime::from_timestamp_micros),
            parked: SafeInt(source.parked),
            source: source.source,
        }
    }
}
