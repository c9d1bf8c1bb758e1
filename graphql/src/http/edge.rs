//! The two methods of the endpoint.

use std::sync::Arc;

use async_graphql::{Executor, Response as Executed, ServerError, parser::types::OperationType};
use axum::{
    Router,
    body::Bytes,
    extract::{DefaultBodyLimit, FromRequest, Request, State},
    http::{HeaderMap, StatusCode},
    response::Response,
    routing::get,
};
use tokio::{sync::Semaphore, task::JoinSet};
use tracing::Instrument;

use super::{
    answer::{self, Refusal},
    asker::Asker,
    complete::{Keys, complete},
    media::{self, Events, Media},
    operation::one_root_field,
    params::Params,
    seats::Seats,
    sse, ws,
};
use crate::{
    document,
    errors::{code, code_of, coded, limit_exceeded},
    options::GraphqlOptions,
    playground,
    request_state::RequestState,
};

/// The endpoint's address.
const PATH: &str = "/graphql";

/// What the address takes.
const METHODS: &str = "GET, HEAD, POST";

pub(super) struct Edge<E> {
    pub(super) executor: E,
    pub(super) options: GraphqlOptions,
    /// Bounds what runs at once.
    running: Semaphore,
    /// Bounds what stays.
    pub(super) seats: Seats,
}

/// A document that may run.
pub(super) struct Prepared {
    pub(super) request: async_graphql::Request,
    pub(super) state: Arc<RequestState>,
    pub(super) kind: OperationType,
    pub(super) keys: Keys,
}

/// `GET` and `POST /graphql`, and the playground's files.
pub(crate) fn router<E: Executor>(executor: E, options: GraphqlOptions) -> Router {
    let playground = if options.playground { playground::router() } else { Router::new() };
    let body_limit = DefaultBodyLimit::max(options.limits.body_bytes_max);
    let running = Semaphore::new(options.limits.requests_max);
    let seats = Seats::new(&options.live.limits);
    let edge = Arc::new(Edge { executor, options, running, seats });
    let methods = get(by_get).post(by_post).fallback(by_another_method);
    Router::new().route(PATH, methods.layer(body_limit)).with_state(edge).merge(playground)
}

/// Queries and event streams only; for a browser without a query, the playground; and sockets.
async fn by_get<E: Executor>(State(edge): State<Arc<Edge<E>>>, request: Request) -> Response {
    if ws::is_asked_for(request.headers()) {
        return ws::open(edge, request).await;
    }
    let (uri, headers) = (request.uri(), request.headers());
    let asks = uri.query().is_some_and(|query| query.split('&').any(|pair| pair.starts_with("query=")));
    if edge.options.playground && !asks && media::wants_html(headers) {
        return playground::page();
    }
    let (media, events) = (media::negotiate(headers), media::wants_events(headers));
    if media.is_none() && events == Events::No {
        return not_acceptable();
    }
    let asker = Asker::of(&edge.options.live, request.extensions());
    let limit = edge.options.limits.body_bytes_max;
    let params = match uri.query().map_or(0, str::len) {
        length if length > limit => Err(Refusal::of_request(
            StatusCode::URI_TOO_LONG,
            limit_exceeded("body_bytes", limit, "the query string is too long", None),
        )),
        _ => Params::from_uri(uri).map_err(|error| Refusal::of_request(StatusCode::BAD_REQUEST, error)),
    };
    if sse::is_meant(&edge, media, events, &params) {
        return sse::open(edge, asker, headers, params, &[OperationType::Query, OperationType::Subscription]).await;
    }
    edge.answer(media.unwrap_or(Media::Json), headers, asker, params, &[OperationType::Query]).await
}

async fn by_post<E: Executor>(State(edge): State<Arc<Edge<E>>>, request: Request) -> Response {
    let (media, events) = (media::negotiate(request.headers()), media::wants_events(request.headers()));
    if media.is_none() && events == Events::No {
        return not_acceptable();
    }
    if !media::is_json(request.headers()) {
        let error = coded(code::UNSUPPORTED_MEDIA_TYPE, "a POST must have the Content-Type application/json, in UTF-8");
        return Refusal::of_request(StatusCode::UNSUPPORTED_MEDIA_TYPE, error)
            .into_response(media.unwrap_or(Media::Json));
    }
    let asker = Asker::of(&edge.options.live, request.extensions());
    let headers = request.headers().clone();
    let limit = edge.options.limits.body_bytes_max;
    let params = match Bytes::from_request(request, &()).await {
        Ok(body) => Params::from_body(&body).map_err(|error| Refusal::of_request(StatusCode::BAD_REQUEST, error)),
        Err(rejection) if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE => Err(Refusal::of_request(
            StatusCode::PAYLOAD_TOO_LARGE,
            limit_exceeded("body_bytes", limit, "the body is too long", None),
        )),
        Err(_) => Err(Refusal::of_request(
            StatusCode::BAD_REQUEST,
            coded(code::BAD_REQUEST, "the body ended before its declared length"),
        )),
    };
    if sse::is_meant(&edge, media, events, &params) {
        let all = [OperationType::Query, OperationType::Mutation, OperationType::Subscription];
        return sse::open(edge, asker, &headers, params, &all).await;
    }
    let operations = [OperationType::Query, OperationType::Mutation];
    edge.answer(media.unwrap_or(Media::Json), &headers, asker, params, &operations).await
}

async fn by_another_method(request: Request) -> Response {
    let media = media::negotiate(request.headers()).unwrap_or(Media::Json);
    Refusal::of_method(METHODS, coded(code::METHOD_NOT_ALLOWED, "this address takes GET and POST")).into_response(media)
}

/// The client takes neither media type, so it gets the one that most can read.
fn not_acceptable() -> Response {
    let what = "Accept must name application/graphql-response+json, application/json or text/event-stream, in UTF-8";
    let error = coded(code::NOT_ACCEPTABLE, what);
    Refusal::of_request(StatusCode::NOT_ACCEPTABLE, error).into_response(Media::Json)
}

impl<E: Executor> Edge<E> {
    async fn answer(
        &self,
        media: Media,
        headers: &HeaderMap,
        asker: Asker,
        params: Result<Params, Refusal>,
        operations: &[OperationType],
    ) -> Response {
        let answered = async { self.run(self.prepare(headers, asker, params?, operations)?).await };
        match answered.await {
            Ok(executed) => answer::executed(media, &executed.data, &executed.errors, &executed.extensions),
            Err(refusal) => refusal.into_response(media),
        }
    }

    /// Checks the document.
    pub(super) fn prepare(
        &self,
        headers: &HeaderMap,
        asker: Asker,
        params: Params,
        operations: &[OperationType],
    ) -> Result<Prepared, Refusal> {
        let limits = &self.options.limits;
        let state =
            RequestState::from_headers(headers).map_err(|error| Refusal::of_request(StatusCode::BAD_REQUEST, error))?;
        let state = Arc::new(state.resuming(asker.resume_after));
        let of_document = |error| Refusal::of_document(vec![error]);
        let document = document::parse(&params.query, limits).map_err(of_document)?;
        let operation = document::operation(&document, params.operation_name.as_deref()).map_err(of_document)?;
        let kind = operation.node.ty;
        match kind {
            asked if operations.contains(&asked) => {}
            OperationType::Subscription => {
                let error = coded(
                    code::VALIDATION_FAILED,
                    "a subscription's answer is a stream: send Accept: text/event-stream, or use a socket",
                );
                return Err(of_document(error));
            }
            OperationType::Query | OperationType::Mutation => {
                let error = coded(code::METHOD_NOT_ALLOWED, "GET runs queries only: send a mutation by POST");
                return Err(Refusal::of_method("POST", error));
            }
        }
        document::check(&document, operation, &params.variables, limits).map_err(of_document)?;
        let keys = Keys::of(&document, &operation.node.selection_set.node);
        let mut document = document;
        if kind == OperationType::Subscription {
            one_root_field(&mut document, params.operation_name.as_deref()).map_err(of_document)?;
        }

        let request = async_graphql::Request::new(params.query).variables(params.variables);
        let mut request = request.data(state.clone()).data(asker.principal);
        request.operation_name = params.operation_name;
        request.set_parsed_query(document);
        Ok(Prepared { request, state, kind, keys })
    }

    /// Runs what is answered once.
    pub(super) async fn run(&self, prepared: Prepared) -> Result<Executed, Refusal> {
        let Prepared { request, state, keys, .. } = prepared;
        let mut executed = self.run_apart(request, &state).await?;
        if state.is_executed() {
            complete(&mut executed, &keys);
            executed.errors.iter_mut().for_each(give_code);
            return Ok(executed);
        }
        let errors = executed.errors.into_iter().map(|error| self.named(error)).collect();
        Err(Refusal::of_document(errors))
    }

    /// Runs in a task of its own, so that a panic is an answer. The task ends with this future: reads are single
    /// statements, which are safe to give up when the client has gone.
    async fn run_apart(&self, request: async_graphql::Request, state: &RequestState) -> Result<Executed, Refusal> {
        let limits = &self.options.limits;
        let Ok(_permit) = self.running.try_acquire() else {
            let error = limit_exceeded("requests", limits.requests_max, "too many requests are running", None);
            return Err(Refusal::of_request(StatusCode::SERVICE_UNAVAILABLE, retryable(error, code::OVERLOADED)));
        };
        let executor = self.executor.clone();
        let mut task = JoinSet::new();
        task.spawn(async move { executor.execute(request).await }.in_current_span());
        match tokio::time::timeout(limits.execution_max, task.join_next()).await {
            Ok(Some(Ok(executed))) => Ok(executed),
            Ok(None) => unreachable!("the set holds one task"),
            Ok(Some(Err(error))) => {
                tracing::error!(trace_id = state.trace_id, "run a query: {error}");
                let mut error = coded(code::INTERNAL, "the server failed; its log has the details");
                error.extensions.get_or_insert_default().set("traceId", state.trace_id.as_str());
                Err(Refusal::of_request(StatusCode::INTERNAL_SERVER_ERROR, error))
            }
            Err(_) => {
                let max_ms = usize::try_from(limits.execution_max.as_millis()).unwrap_or(usize::MAX);
                let error = limit_exceeded("execution_ms", max_ms, "the answer takes too long", None);
                Err(Refusal::of_request(StatusCode::SERVICE_UNAVAILABLE, retryable(error, code::TIMEOUT)))
            }
        }
    }

    /// The library's own refusals, in our words and with our codes.
    pub(super) fn named(&self, mut error: ServerError) -> ServerError {
        let limits = &self.options.limits;
        let over = |limit, max, what| {
            let mut named = limit_exceeded(limit, max, what, None);
            named.locations = error.locations.clone();
            named
        };
        match error.message.as_str() {
            "Query is too complex." => over("complexity", limits.complexity_max, "the query may answer too much"),
            "Query is nested too deep." => over("depth", limits.depth_max, "the document is nested too deep"),
            _ => {
                give_code(&mut error);
                error
            }
        }
    }
}

/// Gives an error of the library the code it has not: the document or a value in it did not fit.
pub(super) fn give_code(error: &mut ServerError) {
    if code_of(error.extensions.as_ref()).is_none() {
        error.extensions.get_or_insert_default().set("code", code::VALIDATION_FAILED);
    }
}

pub(super) fn retryable(mut error: ServerError, code: &str) -> ServerError {
    let extensions = error.extensions.get_or_insert_default();
    extensions.set("code", code);
    extensions.set("retryable", true);
    error
}
