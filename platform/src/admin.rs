//! The admin API, under `/admin`: what the command line talks to while the platform runs. With authentication it needs the
//! scope `admin`; without, it is on loopback only, like everything.

mod chain;
mod checks;
mod export;
mod parked;
mod query_export;
mod rebuilds;
mod sagas;
mod story;
mod surroundings;
mod views;
mod why;

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::Arc,
};

use axum::{
    Json, Router,
    extract::{
        Path, Query, State,
        rejection::{PathRejection, QueryRejection},
    },
    http::StatusCode,
    routing::get,
};
use event_store::{
    erasure::Erasure,
    follower::StopReason,
    log::{EventLog, LogError},
};
use events::envelope::StreamId;
use projections::{ProjectorHandle, engine::projector::Report};
use read_side::{ProjectionStatus, ReadSide};
use serde::Deserialize;
use write_side::{edge::Problem, orders::replica::Replica, reactor::Reactor};

pub use chain::{ChainFinding, ChainPlace, ChainView, follow as follow_chain};
pub use checks::{Check, Verdict, of_erasure, of_log as check_log};
pub use parked::{Again, DroppedView, LeftOut, Meant, ParkedGroup, ParkedList, ParkedShown, RetriedView};
pub use rebuilds::{Generations, RebuildView};
pub use sagas::{Decided, RunningSaga, SagaList, SagaRow};
pub use story::{Asked, Awaiting, SagaShown, Told, Waiting};
pub use surroundings::{Surroundings, of_database, of_dir};
pub use views::{EventView, ProjectionView, SourceView, StreamEvents};
pub use why::{CauseView, WhyView};

/// The most events that one answer of `stream show` carries.
const STREAM_EVENTS_MAX: usize = 1_000;

/// What the admin API looks at: the roles of this process.
#[derive(Clone, Default)]
pub struct Admin {
    pub services: ServicesAdmin,
    pub projector: Option<ProjectorAdmin>,
    /// What all of it stands on.
    pub surroundings: Surroundings,
}

/// The services of this process.
#[derive(Clone, Default)]
pub struct ServicesAdmin {
    /// Each one's log, with the aggregate type of its streams.
    pub logs: BTreeMap<String, (Arc<dyn EventLog>, &'static str)>,
    /// What services copy from others, by service.
    pub replicas: Vec<(&'static str, Arc<Replica>)>,
    /// What acts outside of services, by service.
    pub reactors: Vec<(&'static str, Arc<Reactor>)>,
    /// What deletes the keys of persons, by service.
    pub erasures: Vec<(&'static str, Arc<Erasure>)>,
    /// Writes that span services.
    pub sagas: Vec<RunningSaga>,
}

/// The projector of this process.
#[derive(Clone)]
pub struct ProjectorAdmin {
    pub read: ReadSide,
    pub projector: Arc<ProjectorHandle>,
}

/// Why sources are not being read, by projection and source.
pub type Halts = BTreeMap<(String, String), Standstill>;

/// Why a source is not being read.
pub enum Standstill {
    /// The follower goes on with its other sources. This one waits for somebody.
    Halted(String),
    /// The whole follower has ended by a fault. The projector begins anew by itself.
    Stopped(String),
}

impl fmt::Display for Standstill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Halted(reason) => f.write_str(reason),
            Self::Stopped(reason) => write!(f, "stopped: {reason}"),
        }
    }
}

impl ServicesAdmin {
    /// A service's log, and the aggregate type of its streams.
    fn log(&self, service: &str) -> Result<&(Arc<dyn EventLog>, &'static str), Problem> {
        self.logs.get(service).ok_or_else(|| {
            let services: Vec<&str> = self.logs.keys().map(String::as_str).collect();
            let detail = format!("there is no service {service}; there are {}", services.join(", "));
            Problem::new(StatusCode::NOT_FOUND, "service_not_found", detail)
        })
    }
}

impl ProjectorAdmin {
    pub async fn halts(&self) -> Halts {
        let mut halts = Halts::new();
        for report in self.projector.status().await {
            let Some((_, status)) = report.live else { continue };
            let stopped = status.stopped.as_ref().filter(|reason| !matches!(reason, StopReason::Shutdown));
            for (source, status) in &status.sources {
                let standstill = match (stopped, status.halt()) {
                    (Some(reason), _) => Standstill::Stopped(reason.to_string()),
                    (None, Some(reason)) => Standstill::Halted(reason.to_string()),
                    (None, None) => continue,
                };
                halts.insert((report.projection.to_owned(), source.to_string()), standstill);
            }
        }
        halts
    }

    /// What last hindered rebuilds that are not over, by read model.
    async fn hindrances(&self) -> HashMap<&'static str, String> {
        let reports = self.projector.status().await.into_iter();
        let hindrance = |report: Report| {
            let rebuild = report.rebuild.filter(|rebuild| !rebuild.phase.is_over())?;
            Some((report.projection, rebuild.error?))
        };
        reports.filter_map(hindrance).collect()
    }
}

pub fn router(admin: Admin) -> Router {
    let mut routes = Router::new();
    if !admin.services.logs.is_empty() {
        let of_services = Router::new()
            .route("/admin/streams/{service}/{id}", get(stream))
            .route("/admin/logs/{service}/chain", get(chain::chain))
            .route("/admin/logs/{service}/export", get(export::export))
            .merge(sagas::router());
        routes = routes.merge(of_services.with_state(admin.services.clone()));
    }
    if let Some(projector) = admin.projector.clone() {
        let of_projector = Router::new()
            .route("/admin/projections", get(projections))
            .route("/admin/projections/{name}/rows/{key}/why", get(why::why))
            .route("/admin/query/export", get(query_export::export))
            .merge(parked::router())
            .merge(rebuilds::router());
        routes = routes.merge(of_projector.with_state(projector));
    }
    routes.merge(Router::new().route("/admin/doctor", get(doctor)).with_state(admin))
}

/// Rows are counted on request only: whoever watches asks again and again.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ProjectionsQuery {
    #[serde(default)]
    rows: bool,
}

async fn projections(
    State(admin): State<ProjectorAdmin>,
    Query(query): Query<ProjectionsQuery>,
) -> Result<Json<Vec<ProjectionView>>, Problem> {
    let statuses = match query.rows {
        true => admin.read.projections().await,
        false => admin.read.projections_uncounted().await,
    };
    let statuses = statuses.map_err(|error| Problem::unavailable(error.to_string()))?;
    let (halts, mut hindrances) = (admin.halts().await, admin.hindrances().await);
    let view = |status: ProjectionStatus| {
        let hindrance = hindrances.remove(&*status.name);
        ProjectionView::new(status, &halts, hindrance)
    };
    Ok(Json(statuses.into_iter().map(view).collect()))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StreamQuery {
    #[serde(default)]
    after: u64,
    limit: Option<usize>,
}

async fn stream(
    State(admin): State<ServicesAdmin>,
    path: Result<Path<(String, String)>, PathRejection>,
    query: Result<Query<StreamQuery>, QueryRejection>,
) -> Result<Json<StreamEvents>, Problem> {
    let Path((service, id)) = path.map_err(|error| bad_address(&error.body_text()))?;
    let Query(query) = query.map_err(|error| bad_address(&error.body_text()))?;
    let (log, aggregate_type) = admin.log(&service)?;
    let limit = query.limit.unwrap_or(STREAM_EVENTS_MAX).clamp(1, STREAM_EVENTS_MAX);
    let stream = StreamId::new(*aggregate_type, id.as_str());
    // one more than asked for tells whether there are more
    let mut events = log.read_stream(&stream, query.after, limit + 1).await.map_err(of_log_error)?;
    if events.is_empty() && query.after == 0 {
        let detail = format!("{service} has no events of {aggregate_type} {id}");
        return Err(Problem::new(StatusCode::NOT_FOUND, "stream_not_found", detail));
    }
    let more = events.len() > limit;
    events.truncate(limit);
    let events = events.into_iter().map(EventView::try_from).collect::<Result<_, _>>()?;
    Ok(Json(StreamEvents { service, stream: stream.to_string(), events, more }))
}

fn of_log_error(error: LogError) -> Problem {
    match error {
        LogError::Unavailable(error) => Problem::unavailable(error.to_string()),
        LogError::Damaged(reason) => Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "log_damaged", reason),
    }
}

fn bad_address(why: &str) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "invalid_address", why)
}

async fn doctor(State(admin): State<Admin>) -> Json<Vec<Check>> {
    Json(checks::of_running(&admin).await)
}
