//! Rebuilding by replay, as operators ask for it and see it: `/admin/projections/{name}/...`.

use std::num::NonZeroU64;

use axum::{
    Json, Router,
    body::Bytes,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use chrono::{DateTime, Utc};
use projections::engine::{
    compare::Comparison,
    rebuild::{Progress, Purpose},
    steer::{Kept, SteerError},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::sync::watch;
use write_side::edge::Problem;

use super::ProjectorAdmin;

/// Rebuilds that one answer lists.
const LISTED_MAX: usize = 50;

pub fn router() -> Router<ProjectorAdmin> {
    Router::new()
        .route("/admin/projections/{name}/rebuild", get(last).post(rebuild))
        .route("/admin/projections/{name}/verify", post(verify))
        .route("/admin/projections/{name}/diff", post(diff))
        .route("/admin/projections/{name}/rollback", post(rollback))
        .route("/admin/projections/{name}/pause", post(pause))
        .route("/admin/projections/{name}/resume", post(resume))
        .route("/admin/projections/{name}/cancel", post(cancel))
        .route("/admin/projections/{name}/throttle", post(throttle))
        .route("/admin/projections/{name}/generations", get(generations))
        .route("/admin/projections/{name}/rebuilds/{generation}", get(one))
}

/// What a rebuild is asked for with.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    throttle_events_per_s: Option<NonZeroU64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct AskedRebuild {
    throttle_events_per_s: Option<NonZeroU64>,
    /// One key only, in place.
    key: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Back {
    to: Option<i64>,
}

/// An empty body is an empty object.
fn read<T: DeserializeOwned + Default>(body: &Bytes) -> Result<T, Problem> {
    if body.is_empty() {
        return Ok(T::default());
    }
    serde_json::from_slice(body).map_err(|error| {
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "validation_failed", format!("the body: {error}"))
    })
}

async fn rebuild(
    State(admin): State<ProjectorAdmin>,
    Path(name): Path<String>,
    body: Bytes,
) -> Result<Response, Problem> {
    let asked: AskedRebuild = read(&body)?;
    match asked.key {
        Some(key) => Ok(Json(admin.projector.rebuild_key(&name, &key).await.map_err(problem)?).into_response()),
        None => begun(admin.projector.build(&name, Purpose::Swap, asked.throttle_events_per_s).await),
    }
}

async fn verify(
    State(admin): State<ProjectorAdmin>,
    Path(name): Path<String>,
    body: Bytes,
) -> Result<Response, Problem> {
    begin(&admin, &name, Purpose::Verify, &body).await
}

async fn diff(State(admin): State<ProjectorAdmin>, Path(name): Path<String>, body: Bytes) -> Result<Response, Problem> {
    begin(&admin, &name, Purpose::Diff, &body).await
}

async fn begin(admin: &ProjectorAdmin, name: &str, purpose: Purpose, body: &Bytes) -> Result<Response, Problem> {
    let asked: Asked = read(body)?;
    begun(admin.projector.build(name, purpose, asked.throttle_events_per_s).await)
}

async fn rollback(
    State(admin): State<ProjectorAdmin>,
    Path(name): Path<String>,
    body: Bytes,
) -> Result<Response, Problem> {
    let back: Back = read(&body)?;
    begun(admin.projector.rollback(&name, back.to).await)
}

fn begun(progress: Result<watch::Receiver<Progress>, SteerError>) -> Result<Response, Problem> {
    let view = RebuildView::from(progress.map_err(problem)?.borrow().clone());
    Ok((StatusCode::ACCEPTED, Json(view)).into_response())
}

async fn pause(State(admin): State<ProjectorAdmin>, Path(name): Path<String>) -> Result<Json<RebuildView>, Problem> {
    steered(admin.projector.pause(&name).await)
}

async fn resume(State(admin): State<ProjectorAdmin>, Path(name): Path<String>) -> Result<Json<RebuildView>, Problem> {
    steered(admin.projector.resume(&name).await)
}

async fn cancel(State(admin): State<ProjectorAdmin>, Path(name): Path<String>) -> Result<Json<RebuildView>, Problem> {
    steered(admin.projector.cancel(&name).await)
}

async fn throttle(
    State(admin): State<ProjectorAdmin>,
    Path(name): Path<String>,
    body: Bytes,
) -> Result<Json<RebuildView>, Problem> {
    let asked: Asked = read(&body)?;
    steered(admin.projector.throttle(&name, asked.throttle_events_per_s).await)
}

fn steered(progress: Result<Progress, SteerError>) -> Result<Json<RebuildView>, Problem> {
    Ok(Json(progress.map_err(problem)?.into()))
}

async fn last(State(admin): State<ProjectorAdmin>, Path(name): Path<String>) -> Result<Json<RebuildView>, Problem> {
    let last = admin.projector.last_rebuild(&name).await.map_err(problem)?;
    last.map(|progress| Json(progress.into())).ok_or_else(|| not_found(format!("{name} was never rebuilt")))
}

async fn one(
    State(admin): State<ProjectorAdmin>,
    Path((name, generation)): Path<(String, i64)>,
) -> Result<Json<RebuildView>, Problem> {
    let rebuilds = admin.projector.rebuilds(&name, LISTED_MAX).await.map_err(problem)?;
    let found = rebuilds.into_iter().find(|progress| progress.generation == generation);
    let nothing = || not_found(format!("no rebuild of {name} into generation {generation} is remembered"));
    found.map(|progress| Json(progress.into())).ok_or_else(nothing)
}

async fn generations(
    State(admin): State<ProjectorAdmin>,
    Path(name): Path<String>,
) -> Result<Json<Generations>, Problem> {
    let generations = admin.projector.generations(&name).await.map_err(problem)?;
    let rebuilds = admin.projector.rebuilds(&name, LISTED_MAX).await.map_err(problem)?;
    let rebuilds = rebuilds.into_iter().map(|progress| RebuildView::from(progress).without_rows()).collect();
    Ok(Json(Generations { generations, rebuilds }))
}

fn not_found(detail: String) -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "rebuild_not_found", detail)
}

fn problem(error: SteerError) -> Problem {
    let detail = error.to_string();
    match error {
        SteerError::Unknown(_) => {
            let detail = format!("{detail}; `tributary projection ls` lists them");
            Problem::new(StatusCode::NOT_FOUND, "projection_not_found", detail)
        }
        SteerError::UnderWay { .. } => Problem::new(StatusCode::CONFLICT, "rebuild_under_way", detail),
        SteerError::NotUnderWay(_) => Problem::new(StatusCode::CONFLICT, "rebuild_not_under_way", detail),
        SteerError::NothingToGoBackTo { .. } => Problem::new(StatusCode::CONFLICT, "nothing_to_go_back_to", detail),
        SteerError::CannotCatchUp { .. } => Problem::new(StatusCode::CONFLICT, "generation_too_old", detail),
        SteerError::NotFollowedHere { .. } => {
            Problem::new(StatusCode::CONFLICT, "projection_not_followed_here", detail)
        }
        SteerError::Key { .. } => Problem::new(StatusCode::CONFLICT, "key_not_rebuilt", detail),
        SteerError::Engine(_) => Problem::internal(detail),
    }
}

/// The generations of a projection, and the rebuilds that are remembered, the newest first.
#[derive(Debug, Serialize, Deserialize)]
pub struct Generations {
    pub generations: Vec<Kept>,
    pub rebuilds: Vec<RebuildView>,
}

/// A rebuild, verification, dry run or rollback: under way, or as it ended.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RebuildView {
    pub generation: i64,
    /// `swap`, `verify`, `diff` or `rollback`.
    pub purpose: String,
    /// `catching_up`, `comparing`, `swapped`, `verified`, `compared`, `failed` or `cancelled`.
    pub phase: String,
    pub is_over: bool,
    pub paused: bool,
    /// Absent: as fast as it can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub throttle_events_per_s: Option<u64>,
    pub events_done: u64,
    pub events_total: u64,
    /// Over the last 10 seconds.
    pub events_per_s: u64,
    /// How much longer it takes at this rate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eta_s: Option<u64>,
    pub started_at: DateTime<Utc>,
    pub progressed_at: DateTime<Utc>,
    /// Why it failed; of one that is not over, what last hindered it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What the comparison with the live generation found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<Comparison>,
}

impl From<Progress> for RebuildView {
    fn from(progress: Progress) -> Self {
        let time = |us| DateTime::from_timestamp_micros(us).unwrap_or_default();
        Self {
            eta_s: progress.eta_s(),
            generation: progress.generation,
            purpose: progress.purpose.as_str().to_owned(),
            phase: progress.phase.as_str().to_owned(),
            is_over: progress.phase.is_over(),
            paused: progress.paused,
            throttle_events_per_s: progress.throttle_events_per_s,
            events_done: progress.events_done,
            events_total: progress.events_total,
            events_per_s: progress.events_per_s,
            started_at: time(progress.started_at_us),
            progressed_at: time(progress.progressed_at_us),
            error: progress.error,
            report: progress.report,
        }
    }
}

impl RebuildView {
    /// For lists: the counts of the report, and not the rows.
    fn without_rows(mut self) -> Self {
        if let Some(report) = &mut self.report {
            report.differences.clear();
        }
        self
    }

    /// Rows that differ; 0 when nothing was compared.
    pub fn differences(&self) -> u64 {
        self.report.as_ref().map_or(0, |report| report.differences_total)
    }
}

impl std::fmt::Display for RebuildView {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { generation, phase, events_done, events_total, .. } = self;
        let differ = self.differences();
        match (phase.as_str(), &self.error) {
            ("swapped", _) if self.purpose == "rollback" => write!(f, "generation {generation} is live again"),
            ("swapped", _) => {
                write!(f, "generation {generation} is live, built from {events_done} events")?;
                match &self.report {
                    Some(report) if report.not_compared.is_some() => f.write_str("; nothing could be compared"),
                    Some(_) if differ > 0 => write!(f, "; {differ} rows differ from the ones before"),
                    _ => Ok(()),
                }
            }
            ("verified", _) => write!(f, "the live rows are what {events_done} events make of them: 0 differences"),
            ("compared", _) => write!(f, "{differ} rows would differ; nothing was changed"),
            ("cancelled", _) => write!(f, "generation {generation} was given up"),
            ("failed", Some(error)) => write!(f, "generation {generation} was not swapped in: {error}"),
            (phase, hindrance) => {
                let phase = if self.paused { "paused" } else { phase };
                write!(f, "generation {generation} {phase}: {events_done} of {events_total} events")?;
                if let Some(eta_s) = self.eta_s {
                    write!(f, ", {} events/s, {eta_s} s left", self.events_per_s)?;
                }
                if let Some(why) = hindrance {
                    write!(f, "; it was hindered by: {why}")?;
                }
                Ok(())
            }
        }
    }
}
