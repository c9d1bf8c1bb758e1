//! Why a row is as it is: the events that made it, without what they say.

use axum::{
    Json,
    extract::{Path, State, rejection::PathRejection},
    http::StatusCode,
};
use chrono::{DateTime, Utc};
use projections::engine::why::{Cause, ToldBy, WhyError};
use serde::{Deserialize, Serialize};
use uuid::Uuid;
use write_side::edge::Problem;

use super::{ProjectorAdmin, bad_address};

/// What made a row.
#[derive(Debug, Serialize, Deserialize)]
pub struct WhyView {
    pub projection: String,
    pub key: String,
    pub generation: i64,
    /// `history`, or `feeds` where there is none.
    pub told_by: String,
    /// In the order of their recorded times.
    pub events: Vec<CauseView>,
    /// There are more of them.
    pub has_more: bool,
}

/// An event that was folded into the row, and the command that it came from. Ids only: what it says may be personal.
#[derive(Debug, Serialize, Deserialize)]
pub struct CauseView {
    pub recorded_at: DateTime<Utc>,
    pub source: String,
    pub position: u64,
    pub event_id: Uuid,
    pub stream: String,
    pub sequence: u64,
    pub event_type: String,
    pub event_version: String,
    /// The facets and references that it was folded into, or the entries that it added to.
    pub parts: Vec<String>,
    /// The idempotency key of the command.
    pub command_key: Option<String>,
    pub causation_id: Option<String>,
    pub correlation_id: Option<String>,
    /// Who gave the command: an id.
    pub actor: Option<String>,
}

pub async fn why(
    State(admin): State<ProjectorAdmin>,
    path: Result<Path<(String, String)>, PathRejection>,
) -> Result<Json<WhyView>, Problem> {
    let Path((projection, key)) = path.map_err(|error| bad_address(&error.body_text()))?;
    let why = admin.projector.why(&projection, &key).await.map_err(|error| match &error {
        WhyError::Unknown(_) => {
            let detail = format!("{error}; `tributary projection ls` lists them");
            Problem::new(StatusCode::NOT_FOUND, "projection_not_found", detail)
        }
        WhyError::NoRow { .. } => Problem::new(StatusCode::NOT_FOUND, "row_not_found", error.to_string()),
        WhyError::NotFollowed { .. } | WhyError::Feed(_) => Problem::unavailable(error.to_string()),
        WhyError::Engine(_) => Problem::internal(error.to_string()),
    })?;
    let told_by = match why.told_by {
        ToldBy::History => "history",
        ToldBy::Feeds => "feeds",
    };
    let events = why.causes.into_iter().map(CauseView::try_from).collect::<Result<_, _>>()?;
    let (generation, has_more) = (why.generation, why.has_more);
    Ok(Json(WhyView { projection, key, generation, told_by: told_by.to_owned(), events, has_more }))
}

impl TryFrom<Cause> for CauseView {
    type Error = Problem;

    fn try_from(Cause { source, parts, event }: Cause) -> Result<Self, Problem> {
        let damaged = |error| Problem::internal(format!("{} at {}: {error}", event.stream, event.sequence));
        let metadata = event.metadata().map_err(damaged)?;
        Ok(Self {
            recorded_at: event.recorded_at,
            source: source.to_string(),
            position: event.position,
            event_id: event.event_id,
            stream: event.stream.to_string(),
            sequence: event.sequence,
            event_type: event.event_type.to_string(),
            event_version: event.event_version.to_string(),
            parts: parts.into_iter().map(str::to_owned).collect(),
            command_key: metadata.command_id,
            causation_id: metadata.causation_id,
            correlation_id: metadata.correlation_id,
            actor: metadata.actor,
        })
    }
}
