//! Sagas, for who operates them: which there are, what became of one and what it waits for, and decisions by hand.
//!
//! The list comes from the index and may be a moment late; everything about one instance comes from its log.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{
        Path, Query, State,
        rejection::{JsonRejection, PathRejection, QueryRejection},
    },
    http::StatusCode,
    routing::{get, post},
};
use chrono::Utc;
use event_store::{bus::CommandError, follower::StoreError, log::LogError};
use events::saga::Decision;
use serde::{Deserialize, Serialize};
use uuid::Uuid;
use write_side::{
    edge::{By, Problem, problem::FieldError},
    reactor::Reactor,
    saga::{
        SagaDesk, SagaIndex, Word,
        index::{Filter, Standing},
        plain::StepName,
        saga_id,
    },
};

use super::{
    ServicesAdmin, bad_address,
    story::{self, SagaShown},
};

/// The most rows of one list, and how many there are if nobody says how many they want.
const ROWS_MAX: usize = 1_000;
const ROWS_USUAL: usize = 100;

/// The longest reason for a decision, in characters: it stays on the event for good.
const REASON_CHARS_MAX: usize = 500;

/// How many duties are looked through for those of one instance: as many as a reactor may have open.
const DUTIES_MAX: usize = 10_000;

/// A saga that runs here.
#[derive(Clone)]
pub struct RunningSaga {
    pub service: &'static str,
    pub desk: Arc<dyn SagaDesk>,
    pub index: Arc<SagaIndex>,
    pub reactor: Option<Arc<Reactor>>,
}

pub fn router() -> Router<ServicesAdmin> {
    Router::new()
        .route("/admin/sagas", get(list))
        .route("/admin/sagas/{id}", get(show))
        .route("/admin/sagas/{id}/start", post(start))
        .route("/admin/sagas/{id}/{decision}", post(decide))
}

/// Some of the sagas.
#[derive(Debug, Serialize, Deserialize)]
pub struct SagaList {
    pub sagas: Vec<SagaRow>,
    /// There are others of which the same could be said.
    pub more: bool,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct SagaRow {
    /// Which kind: `checkout`.
    pub saga: String,
    #[serde(flatten)]
    pub standing: Standing,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    phase: Option<String>,
    #[serde(default)]
    stuck: bool,
    #[serde(default)]
    overdue: bool,
    limit: Option<usize>,
}

async fn list(
    State(admin): State<ServicesAdmin>,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Result<Json<SagaList>, Problem> {
    let Query(ListQuery { phase, stuck, overdue, limit }) = query.map_err(|error| bad_address(&error.body_text()))?;
    let limit = limit.unwrap_or(ROWS_USUAL).clamp(1, ROWS_MAX);
    let filter = Filter { phase, stuck, overdue: overdue.then(Utc::now) };
    let mut sagas = Vec::new();
    for saga in &admin.sagas {
        // one more than asked for tells whether there are more
        let rows = saga.index.list(filter.clone(), limit + 1).await.map_err(unreadable)?;
        let name = saga.desk.name();
        sagas.extend(rows.into_iter().map(|standing| SagaRow { saga: name.to_owned(), standing }));
    }
    if stuck {
        sagas.sort_by_key(|row| row.standing.stuck_since);
    } else if overdue {
        sagas.sort_by_key(|row| row.standing.overdue_at);
    } else {
        sagas.sort_by_key(|row| std::cmp::Reverse(row.standing.changed_at));
    }
    let more = sagas.len() > limit;
    sagas.truncate(limit);
    Ok(Json(SagaList { sagas, more }))
}

async fn show(
    State(admin): State<ServicesAdmin>,
    path: Result<Path<String>, PathRejection>,
) -> Result<Json<SagaShown>, Problem> {
    let Path(id) = path.map_err(|error| bad_address(&error.body_text()))?;
    let (saga, id) = find(&admin, &id).await?;
    Ok(Json(shown(saga, id).await?))
}

/// An operator's word.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Decided {
    /// As `show` names it.
    pub step: StepName,
    /// Why; kept with the decision, and nothing personal.
    pub reason: String,
}

/// Answers with the saga as the decision left it.
async fn decide(
    State(admin): State<ServicesAdmin>,
    By(who): By,
    path: Result<Path<(String, Decision)>, PathRejection>,
    word: Result<Json<Decided>, JsonRejection>,
) -> Result<Json<SagaShown>, Problem> {
    let Path((id, decision)) = path.map_err(|error| bad_address(&error.body_text()))?;
    let Json(Decided { step, reason }) = word.map_err(|error| invalid("", &error.body_text()))?;
    let reason = reason.trim();
    if reason.is_empty() {
        return Err(invalid("/reason", "a decision needs a reason: who looks at it later wants to know why"));
    }
    if reason.chars().count() > REASON_CHARS_MAX {
        return Err(invalid("/reason", &format!("has more than {REASON_CHARS_MAX} characters")));
    }
    let (saga, id) = find(&admin, &id).await?;
    let word = Word { decision, reason: reason.to_owned(), by: who.name().to_string() };
    match saga.desk.decide(id, &step.0, word).await {
        Ok(_) => Ok(Json(shown(saga, id).await?)),
        Err(error) => Err(undecided(error, &step, &shown(saga, id).await?)),
    }
}

/// Begins the saga of something that happened before anybody listened for it, and answers with it. The one there is, if
/// there is one, is told what an earlier start that was cut off has not told it.
async fn start(
    State(admin): State<ServicesAdmin>,
    By(who): By,
    path: Result<Path<String>, PathRejection>,
) -> Result<Json<SagaShown>, Problem> {
    let Path(about) = path.map_err(|error| bad_address(&error.body_text()))?;
    let key = Uuid::parse_str(&about).map_or(about.clone(), |id| id.to_string());
    let mut refusal = None;
    for saga in &admin.sagas {
        match saga.desk.begin_late(&key, who.name().as_ref()).await {
            Ok(()) => return Ok(Json(shown(saga, saga_id(saga.desk.name(), &key)).await?)),
            // another kind of saga may be begun by it
            Err(CommandError::Refused(refused, _)) if refused.code == "saga_not_begun" => {
                refusal = Some(refused.detail)
            }
            Err(error) => return Err(undone(error)),
        }
    }
    let detail = refusal.unwrap_or_else(|| "no saga runs here".to_owned());
    Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "saga_not_begun", detail))
}

/// The instance that is meant: by its own id, or by what it is about.
async fn find<'a>(admin: &'a ServicesAdmin, text: &str) -> Result<(&'a RunningSaga, Uuid), Problem> {
    let given = Uuid::parse_str(text).ok();
    // an id may be written in more than one way; instances are made from the usual one
    let key = given.map_or(text.to_owned(), |id| id.to_string());
    for saga in &admin.sagas {
        for id in given.into_iter().chain([saga_id(saga.desk.name(), &key)]) {
            if saga.desk.view(id).await.map_err(unavailable)?.is_some() {
                return Ok((saga, id));
            }
        }
    }
    let detail = format!(
        "there is no saga {text}: name it by its own id or by that of what it is about, such as an order; \
         `tributary saga ls` lists them"
    );
    Err(Problem::new(StatusCode::NOT_FOUND, "saga_not_found", detail))
}

async fn shown(saga: &RunningSaga, id: Uuid) -> Result<SagaShown, Problem> {
    let duties = match &saga.reactor {
        Some(reactor) => reactor.open(DUTIES_MAX).await.map_err(unreadable)?,
        None => Vec::new(),
    };
    let view = saga.desk.view(id).await.map_err(unavailable)?;
    let view = view.ok_or_else(|| Problem::internal(format!("saga {id} was there a moment ago")))?;
    let events = saga.desk.story(id).await.map_err(unavailable)?;
    story::tell(saga, view, events, &duties)
}

/// Why nothing was decided, with what could be.
fn undecided(error: CommandError, step: &StepName, saga: &SagaShown) -> Problem {
    match error {
        CommandError::Refused(refusal, _) if refusal.code == "step_not_open" => {
            let id = saga.stands.saga_id;
            if let Some(outcome) = saga.stands.outcome.as_deref().filter(|_| saga.waits_for.is_empty()) {
                let detail = format!("{} {id} has ended ({outcome}): nothing is left to decide about it", saga.saga);
                return Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "saga_ended", detail);
            }
            let open: Vec<&str> = saga.waits_for.iter().map(|waiting| &*waiting.step.0).collect();
            let open = if open.is_empty() { "nothing that was asked for".to_owned() } else { open.join(", ") };
            let detail = format!("{step} is not open: {} {id} waits for {open}", saga.saga);
            Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "step_not_open", detail).with("step", &*step.0)
        }
        error => undone(error),
    }
}

/// Why nothing was done.
fn undone(error: CommandError) -> Problem {
    let detail = error.to_string();
    match error {
        CommandError::Refused(refusal, _) => Problem::new(StatusCode::UNPROCESSABLE_ENTITY, refusal.code, detail),
        CommandError::Unavailable(cause) => Problem::unavailable(cause),
        CommandError::Overloaded { .. } => Problem::overloaded(detail),
        CommandError::Contended { .. } | CommandError::KeyBusy => {
            Problem::new(StatusCode::CONFLICT, "contended", detail).retry_after(1)
        }
        CommandError::OutcomeUnknown { .. } => {
            let detail = "whether it was recorded is not known; `tributary saga show` tells";
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "outcome_unknown", detail).retry_after(1)
        }
        CommandError::VersionMismatch { .. }
        | CommandError::KeyReused
        | CommandError::Limit(_)
        | CommandError::Internal(_) => Problem::internal(detail),
    }
}

fn invalid(pointer: &str, detail: &str) -> Problem {
    let named = FieldError { pointer: pointer.to_owned(), detail: detail.to_owned() };
    let summary = if pointer.is_empty() { detail.to_owned() } else { format!("{}: {detail}", &pointer[1..]) };
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "validation_failed", summary).naming(vec![named])
}

fn unavailable(error: LogError) -> Problem {
    match error {
        LogError::Unavailable(error) => Problem::unavailable(error.to_string()),
        LogError::Damaged(reason) => Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "log_damaged", reason),
    }
}

fn unreadable(error: StoreError) -> Problem {
    match error {
        StoreError::Unavailable(error) => Problem::unavailable(error.to_string()),
        StoreError::Bug(reason) => Problem::internal(reason),
    }
}
