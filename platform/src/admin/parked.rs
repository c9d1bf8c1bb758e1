//! Parked streams, for who operates them: what cannot be folded and why, and the two ways on. Trying again is for what a
//! newer release or a mended value can fold; leaving an event out is a decision, kept with its reason over every rebuild.

use std::collections::BTreeMap;

use axum::{
    Json, Router,
    extract::{
        Path, Query, State,
        rejection::{JsonRejection, PathRejection, QueryRejection},
    },
    http::StatusCode,
    routing::{get, post},
};
use chrono::{DateTime, Utc};
use event_store::{
    feed::FeedError,
    follower::{ApplyError, StoreError},
};
use events::envelope::RecordedEvent;
use projections::engine::{
    decisions::{Decision, WHY_CHARS_MAX},
    parking::{ParkingError, Retried},
    projector::Which,
    store::Parked,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;
use write_side::edge::{By, Problem, problem::FieldError};

use super::{ProjectorAdmin, bad_address};

/// Streams that one group names as examples; `show` has each.
const EXAMPLES_MAX: usize = 3;

pub fn router() -> Router<ProjectorAdmin> {
    Router::new()
        .route("/admin/parked", get(list))
        .route("/admin/parked/retry", post(retry))
        .route("/admin/parked/drop", post(drop_event))
        .route("/admin/parked/streams/{stream}", get(show))
}

/// Everything that waits, by what it fails of, and what was decided to be left out.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct ParkedList {
    pub groups: Vec<ParkedGroup>,
    pub dropped: Vec<DroppedView>,
}

/// Streams that fail in the same way.
#[derive(Debug, Serialize, Deserialize)]
pub struct ParkedGroup {
    pub projection: String,
    pub source: String,
    pub fingerprint: String,
    /// Empty where an older version parked them.
    pub event_type: String,
    pub event_version: String,
    /// Of the first; the others differ in numbers and ids.
    pub reason: String,
    pub streams: u64,
    /// Events that wait.
    pub events: u64,
    pub oldest_at: DateTime<Utc>,
    /// Some of the streams.
    pub examples: Vec<String>,
}

/// An event that is left out.
#[derive(Debug, Serialize, Deserialize)]
pub struct DroppedView {
    pub projection: String,
    pub source: String,
    pub stream: String,
    pub position: u64,
    pub event_id: Uuid,
    pub fingerprint: String,
    pub reason: String,
    pub why: String,
    pub by: String,
    pub at: DateTime<Utc>,
}

/// One parked stream with the events that wait, less what they say: that is in the log.
#[derive(Debug, Serialize, Deserialize)]
pub struct ParkedShown {
    pub projection: String,
    pub source: String,
    pub stream: String,
    pub aggregate_id: String,
    pub fingerprint: String,
    pub reason: String,
    pub parked_at: DateTime<Utc>,
    pub waiting: u64,
    /// The first of them; the very first is the one that cannot be folded.
    pub events: Vec<WaitingEvent>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct WaitingEvent {
    pub position: u64,
    pub sequence: u64,
    pub event_id: Uuid,
    pub event_type: String,
    pub event_version: String,
    pub recorded_at: DateTime<Utc>,
}

/// What became of one stream, or would.
#[derive(Debug, Serialize, Deserialize)]
pub struct RetriedView {
    pub projection: String,
    pub source: String,
    pub stream: String,
    /// Events that wait no more.
    pub folded: u64,
    /// Events that wait on.
    pub waiting: u64,
    /// The event that cannot be folded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub still_at: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Which streams are meant: all that fit.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Meant {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub projection: Option<String>,
    /// As it is listed, or the aggregate's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
}

impl From<Meant> for Which {
    fn from(Meant { projection, stream, fingerprint }: Meant) -> Self {
        Self { projection, stream, fingerprint }
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Again {
    // beside a flattened part, unknown fields cannot be refused
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub projection: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
    /// Only find out what would become of them.
    #[serde(default)]
    pub dry_run: bool,
}

/// That an event is to be left out.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeftOut {
    pub event_id: Uuid,
    /// Of one read model; without it of each where a stream is parked at the event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub projection: Option<String>,
    /// Kept with the decision; nothing personal.
    pub why: String,
}

async fn list(
    State(admin): State<ProjectorAdmin>,
    meant: Result<Query<Meant>, QueryRejection>,
) -> Result<Json<ParkedList>, Problem> {
    let Query(meant) = meant.map_err(|error| bad_address(&error.body_text()))?;
    let which = Which::from(meant);
    let groups = grouped(admin.projector.parked(&which).await.map_err(problem)?);
    let dropped = admin.projector.decisions(&which).await.map_err(problem)?;
    Ok(Json(ParkedList { groups, dropped: dropped.into_iter().map(dropped_view).collect() }))
}

async fn show(
    State(admin): State<ProjectorAdmin>,
    path: Result<Path<String>, PathRejection>,
    meant: Result<Query<Meant>, QueryRejection>,
) -> Result<Json<Vec<ParkedShown>>, Problem> {
    let Path(stream) = path.map_err(|error| bad_address(&error.body_text()))?;
    let Query(meant) = meant.map_err(|error| bad_address(&error.body_text()))?;
    let which = Which::from(Meant { stream: Some(stream.clone()), ..meant });
    let mut all = Vec::new();
    for (projection, parked) in admin.projector.parked(&which).await.map_err(problem)? {
        let events = admin.projector.waiting(projection, &parked).await.map_err(problem)?;
        all.push(shown(projection, &parked, events));
    }
    if all.is_empty() {
        let detail = format!("{stream} is not parked; `tributary projection parked ls` lists what is");
        return Err(Problem::new(StatusCode::NOT_FOUND, "not_parked", detail));
    }
    Ok(Json(all))
}

async fn retry(
    State(admin): State<ProjectorAdmin>,
    again: Result<Json<Again>, JsonRejection>,
) -> Result<Json<Vec<RetriedView>>, Problem> {
    let Json(Again { projection, stream, fingerprint, dry_run }) =
        again.map_err(|error| invalid("", &error.body_text()))?;
    let which = Which { projection, stream, fingerprint };
    let retried = admin.projector.retry_parked(&which, dry_run).await.map_err(problem)?;
    Ok(Json(retried.into_iter().map(retried_view).collect()))
}

async fn drop_event(
    State(admin): State<ProjectorAdmin>,
    By(who): By,
    left_out: Result<Json<LeftOut>, JsonRejection>,
) -> Result<Json<Vec<RetriedView>>, Problem> {
    let Json(LeftOut { event_id, projection, why }) = left_out.map_err(|error| invalid("", &error.body_text()))?;
    let why = why.trim();
    if why.is_empty() {
        return Err(invalid("/why", "a decision needs a reason: who looks at it later wants to know why"));
    }
    if why.chars().count() > WHY_CHARS_MAX {
        return Err(invalid("/why", &format!("has more than {WHY_CHARS_MAX} characters")));
    }
    let dropped = admin.projector.drop_parked(event_id, projection.as_deref(), why, who.name()).await;
    Ok(Json(dropped.map_err(problem)?.into_iter().map(retried_view).collect()))
}

/// By read model, source and fingerprint; what has waited longest first.
fn grouped(parked: Vec<(&'static str, Parked)>) -> Vec<ParkedGroup> {
    let mut groups: BTreeMap<(&str, String, String), ParkedGroup> = BTreeMap::new();
    for (projection, parked) in parked {
        let (source, fingerprint) = (parked.stream.source.to_string(), parked.fingerprint());
        let at = time(parked.parked_at_us);
        let group = groups.entry((projection, source, fingerprint)).or_insert_with_key(|(_, source, fingerprint)| {
            ParkedGroup {
                projection: projection.to_owned(),
                source: source.clone(),
                fingerprint: fingerprint.clone(),
                event_type: parked.event_type.clone(),
                event_version: parked.event_version.clone(),
                reason: parked.stream.reason.clone(),
                streams: 0,
                events: 0,
                oldest_at: at,
                examples: Vec::new(),
            }
        });
        group.streams += 1;
        group.events += parked.waiting;
        group.oldest_at = group.oldest_at.min(at);
        if group.examples.len() < EXAMPLES_MAX {
            group.examples.push(parked.stream.stream.to_string());
        }
    }
    let mut groups: Vec<ParkedGroup> = groups.into_values().collect();
    groups.sort_by_key(|group| group.oldest_at);
    groups
}

fn shown(projection: &str, parked: &Parked, events: Vec<RecordedEvent>) -> ParkedShown {
    let event = |event: RecordedEvent| WaitingEvent {
        position: event.position,
        sequence: event.sequence,
        event_id: event.event_id,
        event_type: event.event_type.to_string(),
        event_version: event.event_version.to_string(),
        recorded_at: event.recorded_at,
    };
    ParkedShown {
        projection: projection.to_owned(),
        source: parked.stream.source.to_string(),
        stream: parked.stream.stream.to_string(),
        aggregate_id: parked.stream.stream.aggregate_id.to_string(),
        fingerprint: parked.fingerprint(),
        reason: parked.stream.reason.clone(),
        parked_at: time(parked.parked_at_us),
        waiting: parked.waiting,
        events: events.into_iter().map(event).collect(),
    }
}

fn dropped_view(decision: Decision) -> DroppedView {
    DroppedView {
        projection: decision.read_model,
        source: decision.source.to_string(),
        stream: decision.stream.to_string(),
        position: decision.position,
        event_id: decision.event_id,
        fingerprint: decision.fingerprint,
        reason: decision.reason,
        why: decision.why,
        by: decision.by,
        at: time(decision.at_us),
    }
}

fn retried_view(retried: Retried) -> RetriedView {
    let (still_at, reason) = retried.still.unzip();
    RetriedView {
        projection: retried.read_model.to_owned(),
        source: retried.stream.source.to_string(),
        stream: retried.stream.stream.to_string(),
        folded: retried.folded,
        waiting: retried.waiting,
        still_at,
        reason,
    }
}

fn time(us: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(us).unwrap_or_default()
}

fn problem(error: ParkingError) -> Problem {
    let detail = error.to_string();
    match error {
        ParkingError::Unknown(_) => {
            let detail = format!("{detail}; `tributary projection ls` lists them");
            Problem::new(StatusCode::NOT_FOUND, "projection_not_found", detail)
        }
        ParkingError::NotParked(_) => Problem::new(StatusCode::NOT_FOUND, "not_parked", detail),
        ParkingError::Busy(_) => Problem::new(StatusCode::CONFLICT, "rebuild_under_way", detail).retry_after(1),
        ParkingError::NotFollowed(_) => Problem::new(StatusCode::CONFLICT, "projection_not_followed_here", detail),
        ParkingError::Gone { .. } | ParkingError::Feed(FeedError::Regressed { .. }) => {
            Problem::new(StatusCode::CONFLICT, "feed_regressed", detail)
        }
        ParkingError::Feed(FeedError::Unreachable { .. })
        | ParkingError::Slow { .. }
        | ParkingError::Store(StoreError::Unavailable(_))
        | ParkingError::Apply(ApplyError::Unavailable(_)) => Problem::unavailable(detail),
        // another process has taken over, or is at it just now
        ParkingError::Apply(ApplyError::Fenced | ApplyError::Moved) => {
            Problem::new(StatusCode::CONFLICT, "contended", detail).retry_after(1)
        }
        ParkingError::Feed(FeedError::Damaged { .. })
        | ParkingError::NoFeed { .. }
        | ParkingError::Store(StoreError::Bug(_))
        | ParkingError::Apply(_)
        | ParkingError::Engine(_) => Problem::internal(detail),
    }
}

fn invalid(pointer: &str, detail: &str) -> Problem {
    let named = FieldError { pointer: pointer.to_owned(), detail: detail.to_owned() };
    let summary = if pointer.is_empty() { detail.to_owned() } else { format!("{}: {detail}", &pointer[1..]) };
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "validation_failed", summary).naming(vec![named])
}
