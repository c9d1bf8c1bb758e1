//! From a request to the command bus and back: what every command answer carries, and what every failure becomes.

use std::{sync::Arc, time::Duration};

use axum::{
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use chrono::{DateTime, Utc};
use event_store::{
    bus::{CommandBus, CommandError, CommandRequest, Domain, Executed, Loaded, Outcome},
    feed::{Cursor, FeedError, PageLimit},
    log::LogError,
};
use events::{
    consistency::{ConsistencyToken, ShortId, TOKEN_HEADER},
    envelope::Metadata,
    ids::CustomerId,
    principal::Principal,
};
use measures::Kind;
use serde::Serialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    problem::{MEMBERS, Problem},
    request::{IDEMPOTENCY_KEY, Incoming},
};

/// On the answer of an earlier run with the same key.
pub const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// How soon a command whose outcome is unknown is worth sending again, in seconds.
const RETRY_UNKNOWN_SECONDS: u64 = 2;

/// The door to one kind of aggregate over HTTP.
pub struct Edge<A: Domain> {
    bus: CommandBus<A>,
    /// The collection in URLs: `users`, `products`, `orders`.
    resource: &'static str,
}

impl<A: Domain> Clone for Edge<A> {
    fn clone(&self) -> Self {
        Self { bus: self.bus.clone(), resource: self.resource }
    }
}

/// A command that is understood, and what it is to be.
pub struct Asked<'a, B, C> {
    pub id: Uuid,
    /// The body as understood: what the fingerprint covers.
    pub body: &'a B,
    pub command: C,
    /// It makes the thing: answered with 201 and `Location`.
    pub creates: bool,
    /// When it happened, where that is not now.
    pub occurred_at: Option<DateTime<Utc>>,
}

impl<A: Domain> Edge<A> {
    pub fn new(bus: CommandBus<A>, resource: &'static str) -> Self {
        Self { bus, resource }
    }

    pub fn bus(&self) -> &CommandBus<A> {
        &self.bus
    }

    /// The service whose log this is.
    pub fn service(&self) -> &str {
        &self.bus.log().identity().source
    }

    /// A change of what is there already.
    pub async fn change(
        &self,
        incoming: &Incoming,
        id: Uuid,
        body: &impl Serialize,
        command: A::Command,
    ) -> Result<Response, Problem> {
        self.run(incoming, Asked { id, body, command, creates: false, occurred_at: None }).await
    }

    /// Runs a command and answers.
    pub async fn run<B: Serialize>(
        &self,
        incoming: &Incoming,
        asked: Asked<'_, B, A::Command>,
    ) -> Result<Response, Problem> {
        self.check_own_point(&incoming.token).await?;
        let Asked { id, body, command, creates, occurred_at } = asked;
        let request = CommandRequest {
            aggregate_id: id.to_string().into(),
            command,
            scope: incoming.scope(self.service()),
            key: incoming.key.clone(),
            fingerprint: incoming.fingerprint(self.bus.log().identity(), body)?,
            expected_version: incoming.expected_version,
            metadata: Metadata { occurred_at, ..incoming.metadata() },
        };
        // the bus owns the work: a caller that goes away leaves it to be done
        let answer = self.bus.execute(request).await;
        tracing::debug!(service = self.service(), aggregate_id = %id, outcome = Outcome::of(&answer).name(), "answered");
        let answer = match answer {
            Ok(done) => self.done(id, &done, creates),
            Err(error) => self.failed(error).into_response(),
        };
        Ok(with_key(answer, incoming))
    }

    /// Whether this request's key has an answer already.
    pub async fn is_answered(&self, incoming: &Incoming) -> Result<bool, Problem> {
        let (log, scope, key) = (Arc::clone(self.bus.log()), incoming.scope(self.service()), incoming.key.clone());
        let stored = apart(async move { log.stored_outcome(&scope, &key).await }).await?;
        stored.map(|stored| stored.is_some()).map_err(log_failed)
    }

    fn done(&self, id: Uuid, done: &Executed, creates: bool) -> Response {
        let mut body = done.report.as_deref().cloned().unwrap_or_default();
        for (name, value) in [("id", json!(id)), ("version", json!(done.version)), ("changed", json!(done.changed))] {
            body.insert(name.to_owned(), value);
        }
        let status = if creates && done.changed { StatusCode::CREATED } else { StatusCode::OK };
        let mut response = (status, axum::Json(body)).into_response();
        self.mark(response.headers_mut(), done);
        if creates && let Ok(location) = HeaderValue::from_str(&format!("/{}/{id}", self.resource)) {
            response.headers_mut().insert(header::LOCATION, location);
        }
        response
    }

    fn failed(&self, error: CommandError) -> Problem {
        let detail = error.to_string();
        match error {
            CommandError::Refused(refusal, done) => {
                let status = if refusal.code.ends_with("_not_found") {
                    StatusCode::NOT_FOUND
                } else {
                    StatusCode::UNPROCESSABLE_ENTITY
                };
                let mut problem = Problem::new(status, refusal.code, detail);
                debug_assert!(!refusal.data.keys().any(|name| MEMBERS.contains(&&**name)), "{:?}", refusal.data);
                problem.more.data = refusal.data;
                self.mark(&mut problem.more.headers, &done);
                problem
            }
            CommandError::VersionMismatch { actual, .. } => {
                let mut problem = Problem::new(StatusCode::PRECONDITION_FAILED, "version_mismatch", detail);
                problem.more.current_version = Some(actual);
                problem
            }
            CommandError::Contended { .. } => Problem::new(StatusCode::CONFLICT, "contended", detail).retry_after(1),
            CommandError::KeyReused => Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "idempotency_key_reused", detail),
            CommandError::KeyBusy => Problem::new(StatusCode::CONFLICT, "idempotency_key_busy", detail).retry_after(1),
            CommandError::Overloaded { .. } => Problem::overloaded(detail),
            CommandError::Limit(_) => Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "limit_exceeded", detail),
            CommandError::OutcomeUnknown { key } => {
                Problem::new(StatusCode::SERVICE_UNAVAILABLE, "outcome_unknown", detail)
                    .with("idempotencyKey", &*key)
                    .retry_after(RETRY_UNKNOWN_SECONDS)
            }
            CommandError::Unavailable(cause) => Problem::unavailable(cause),
            CommandError::Internal(cause) => Problem::internal(cause),
        }
    }

    /// Version and token: on successes, no-ops, refusals and replays alike.
    fn mark(&self, headers: &mut axum::http::HeaderMap, done: &Executed) {
        headers.insert(header::ETAG, etag(done.version));
        headers.insert(TOKEN_HEADER, token_value(&self.bus.token(done)));
        if done.replayed {
            headers.insert(REPLAYED, HeaderValue::from_static("true"));
        }
    }

    /// The aggregate's own confirmed state, as `view` shows it.
    pub async fn show(
        &self,
        id: Uuid,
        token: &ConsistencyToken,
        view: impl FnOnce(&A) -> Option<Value>,
    ) -> Result<Response, Problem> {
        self.check_own_point(token).await?;
        let bus = self.bus.clone();
        let loaded = apart(async move { bus.load(&id.to_string()).await }).await?;
        let loaded = loaded.map_err(log_failed)?;
        let Some(Loaded { state, version, position, event_id }) = loaded else { return Err(self.not_found()) };
        let Some(body) = view(&state) else { return Err(self.not_found()) };
        let mut response = axum::Json(body).into_response();
        self.mark(
            response.headers_mut(),
            &Executed { changed: false, version, position, event_id, replayed: false, report: None },
        );
        Ok(response)
    }

    /// Refuses what a customer does to something of somebody else, as if it were not there; to staff everything is open.
    /// `owner` says whose it is.
    pub async fn check_owner(
        &self,
        principal: &Principal,
        id: Uuid,
        owner: impl FnOnce(&A) -> Option<CustomerId>,
    ) -> Result<(), Problem> {
        let Some(customer) = principal.customer() else { return Ok(()) };
        let bus = self.bus.clone();
        let loaded = apart(async move { bus.load(&id.to_string()).await }).await?.map_err(log_failed)?;
        let found = loaded.and_then(|loaded| owner(&loaded.state));
        // what is another's and what is not there get one answer, without version and token
        if found == Some(customer) { Ok(()) } else { Err(self.not_found()) }
    }

    /// There is nothing with this id, or nothing that concerns the one who asks.
    pub fn not_found(&self) -> Problem {
        let detail = format!("there is no such {}", A::TYPE);
        Problem::new(StatusCode::NOT_FOUND, format!("{}_not_found", A::TYPE), detail)
    }

    /// A token's point of this very log needs no waiting: what was acknowledged is there, unless an older copy of the
    /// log has been restored. Then what the caller has seen is lost, and deciding on what is left would hide it.
    async fn check_own_point(&self, token: &ConsistencyToken) -> Result<(), Problem> {
        let Some(point) = token.point(self.service()) else { return Ok(()) };
        let Some(before) = point.position.checked_sub(1) else { return Ok(()) };
        let after = Cursor { position: before, event_id: None };
        let log = Arc::clone(self.bus.log());
        match apart(async move { log.page(after, PageLimit::events(1), Duration::ZERO).await }).await? {
            Ok(page) if page.events.first().map(|event| ShortId::from(event.event_id)) == point.anchor => Ok(()),
            Ok(_) | Err(FeedError::Regressed { .. }) => Err(consistency_lost(self.service())),
            Err(FeedError::Unreachable { cause, .. }) => Err(Problem::unavailable(cause.to_string())),
            Err(error @ FeedError::Damaged { .. }) => Err(Problem::internal(error.to_string())),
        }
    }
}

fn log_failed(error: LogError) -> Problem {
    match error {
        LogError::Unavailable(cause) => Problem::unavailable(cause.to_string()),
        LogError::Damaged(cause) => Problem::internal(cause),
    }
}

/// Runs database work in a task of its own: a request that goes away must not cancel it half-way.
async fn apart<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> Result<T, Problem> {
    tokio::spawn(work).await.map_err(|error| Problem::internal(format!("a read ended badly: {error}")))
}

/// What the token stands for is gone: not worth trying again.
pub fn consistency_lost(source: &str) -> Problem {
    let detail = format!("the log of {source} no longer holds what this token stands for: read again without it");
    Problem::new(StatusCode::CONFLICT, "consistency_lost", detail).with("source", source)
}

/// Whatever becomes of a command, its key is on the answer.
pub fn with_key(mut answer: Response, incoming: &Incoming) -> Response {
    if let Ok(key) = HeaderValue::from_str(&incoming.key) {
        if let Some(problem) = answer.extensions_mut().get_mut::<Problem>() {
            problem.more.headers.insert(IDEMPOTENCY_KEY, key.clone());
        }
        answer.headers_mut().insert(IDEMPOTENCY_KEY, key);
    }
    answer
}

fn etag(version: u64) -> HeaderValue {
    HeaderValue::from_str(&format!("\"{version}\"")).expect("digits in quotes are a header value")
}

fn token_value(token: &ConsistencyToken) -> HeaderValue {
    HeaderValue::from_str(&token.to_string()).expect("a token is ASCII: names, digits, commas and colons")
}
