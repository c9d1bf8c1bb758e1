//! The two methods of the endpoint.

use std::{convert::Infallible, panic::AssertUnwindSafe, sync::Arc};

use async_graphql::{Executor, Response as Executed, ServerError, Value, parser::types::OperationType};
use axum::{
    Router,
    body::Bytes,
    extract::{DefaultBodyLimit, FromRequest, Request, State},
    http::{HeaderMap, StatusCode, header::CONTENT_LENGTH},
    response::Response,
    routing::get,
};
use events::principal::scope;
use futures::FutureExt;

use super::{
    answer::{self, Answered, Refusal},
    asker::Asker,
    complete::{Keys, complete},
    compress,
    media::{self, Events, Media},
    operation::one_root_field,
    params::Params,
    seats::Seats,
    sse, ws,
};
use crate::{
    document,
    documents::Documents,
    errors::{code, code_of, coded, limit_exceeded, over_limit, retryable, with_asked},
    freshness,
    options::GraphqlOptions,
    playground,
    request_state::RequestState,
    running::{NoPlace, Running},
};

/// The endpoint's address.
const PATH: &str = "/graphql";

/// What the address takes.
const METHODS: &str = "GET, HEAD, POST";

pub(super) struct Edge<E> {
    pub(super) executor: E,
    pub(super) options: GraphqlOptions,
    pub(super) documents: Documents,
    /// Bounds what runs at once.
    running: Running,
    /// Bounds what stays.
    pub(super) seats: Seats,
}

/// A document that may run.
pub(super) struct Prepared {
    pub(super) request: async_graphql::Request,
    pub(super) state: Arc<RequestState>,
    pub(super) kind: OperationType,
    pub(super) keys: Arc<Keys>,
    /// Against whose share of what runs at once it counts.
    counted: events::asker::Asker,
}

/// `GET` and `POST /graphql`, and the playground's files.
pub(crate) fn router<E: Executor>(executor: E, options: GraphqlOptions) -> Router {
    let playground = if options.playground { playground::router() } else { Router::new() };
    let body_limit = DefaultBodyLimit::max(options.limits.body_bytes_max);
    let documents = Documents::new(options.limits.clone(), options.listed.clone());
    let running = Running::new(options.limits.requests_max, options.limits.requests_per_principal_max)
        .measured_by(&options.figures.requests);
    let seats = Seats::new(&options.live.limits).measured_by(&options.figures);
    let edge = Arc::new(Edge { executor, options, documents, running, seats });
    let methods = get(by_get).post(by_post).fallback(by_another_method);
    // one layer of two: each costs a box and a copy of what is below it for every request
    let methods = methods.layer::<_, Infallible>((compress::layer(), body_limit));
    Router::new().route(PATH, methods).with_state(edge).merge(playground)
}

/// Queries and event streams only; for a browser without a query, the playground; and sockets.
async fn by_get<E: Executor>(State(edge): State<Arc<Edge<E>>>, request: Request) -> Response {
    if ws::opens_socket(request.method(), request.headers()) {
        return ws::open(edge, request).await;
    }
    let (uri, headers) = (request.uri(), request.headers());
    let asks = |pair: &str| pair.starts_with("query=") || pair.starts_with("extensions=");
    let asks = uri.query().is_some_and(|query| query.split('&').any(asks));
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
            over_limit("body_bytes", limit, length, "the query string is too long", None),
        )),
        _ => Params::from_uri(uri).map_err(Refusal::of_parameters),
    };
    if sse::is_meant(&edge, media, events, &params) {
        return sse::open(edge, asker, headers, params, &[OperationType::Query, OperationType::Subscription]).await;
    }
    edge.answer(media.unwrap_or(Media::Json), headers, asker, params, &[OperationType::Query]).await
}

async fn by_post<E: Executor>(State(edge): State<Arc<Edge<E>>>, mut request: Request) -> Response {
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
    let headers = std::mem::take(request.headers_mut());
    let limit = edge.options.limits.body_bytes_max;
    let params = match Bytes::from_request(request, &()).await {
        Ok(body) => Params::from_body(&body).map_err(Refusal::of_parameters),
        Err(rejection) if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE => {
            let error = limit_exceeded("body_bytes", limit, "the body is too long", None);
            // a body that comes in chunks does not say how long it is
            let declared = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
            let error = declared.map_or(error.clone(), |declared| with_asked(error, declared));
            Err(Refusal::of_request(StatusCode::PAYLOAD_TOO_LARGE, error))
        }
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
            Ok(answered) => answer::answered(media, &answered),
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
        // whatever let somebody in, nobody asks for data without the right to
        if !asker.principal.may(scope::QUERY) {
            return Err(Refusal::of_nobody());
        }
        let counted = asker.counted();
        let state =
            RequestState::from_headers(headers).map_err(|error| Refusal::of_request(StatusCode::BAD_REQUEST, error))?;
        let state = Arc::new(state.resuming(asker.resume_after));
        let of_document = |error| Refusal::of_document(vec![error]);
        let known = self.documents.find(params.asked).map_err(of_document)?;
        let name = params.operation_name.as_deref();
        let operation = document::operation(&known.document, name).map_err(of_document)?;
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
        document::check_variables(&known.document, operation, &params.variables).map_err(of_document)?;
        let variables = document::with_defaults(&operation.node, params.variables);
        let keys = known.keys(name);
        let mut document = known.document.clone();
        if kind == OperationType::Subscription {
            one_root_field(&mut document, name).map_err(of_document)?;
        }

        // the text is not looked at any more
        let request = async_graphql::Request::new("").variables(variables);
        let mut request = request.data(state.clone()).data(asker.principal).data(known);
        request.operation_name = params.operation_name;
        request.set_parsed_query(document);
        Ok(Prepared { request, state, kind, keys, counted })
    }

    /// Runs what is answered once.
    pub(super) async fn run(&self, prepared: Prepared) -> Result<Answered, Refusal> {
        let Prepared { request, state, keys, counted, .. } = prepared;
        let executed = self.run_bounded(request, counted, &state).await?;
        // what the library answers by itself reaches no root of ours, and neither does a root whose fields are all skipped;
        // a refusal has errors
        if state.is_executed() || executed.data != Value::Null || executed.errors.is_empty() {
            return Ok(answered(executed, &keys, &state));
        }
        let errors = executed.errors.into_iter().map(|error| self.named(error)).collect();
        Err(Refusal::of_document(errors))
    }

    /// Runs it, for a while at most; a panic is an answer. Dropped with the request: reads are single statements, which are
    /// safe to give up when the client has gone.
    async fn run_bounded(
        &self,
        request: async_graphql::Request,
        counted: events::asker::Asker,
        state: &RequestState,
    ) -> Result<Executed, Refusal> {
        let limits = &self.options.limits;
        let _place = self.running.enter(counted).map_err(|no| match no {
            NoPlace::ForAnybody(error) => Refusal::of_request(StatusCode::SERVICE_UNAVAILABLE, error),
            NoPlace::ForAsker(error) => Refusal::of_request(StatusCode::TOO_MANY_REQUESTS, error),
        })?;
        // what a panic leaves behind is dropped with the request
        let execution = AssertUnwindSafe(Box::pin(self.executor.execute(request))).catch_unwind();
        match tokio::time::timeout(limits.execution_max, execution).await {
            Ok(Ok(executed)) => Ok(executed),
            Ok(Err(_)) => {
                tracing::error!(trace_id = state.trace_id(), "run a query: it panicked, as was said where it did");
                let mut error = coded(code::INTERNAL, "the server failed; its log has the details");
                error.extensions.get_or_insert_default().set("traceId", state.trace_id());
                Err(Refusal::of_request(StatusCode::INTERNAL_SERVER_ERROR, error))
            }
            Err(_) => {
                let max_ms = usize::try_from(limits.execution_max.as_millis()).unwrap_or(usize::MAX);
                let what = "the operation was cut off, as its answer takes too long";
                let error = limit_exceeded("execution_ms", max_ms, what, None);
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
            "Query is nested too deep." => over("depth", limits.depth_max, "the document is nested too deep"),
            _ => {
                give_code(&mut error);
                error
            }
        }
    }
}

/// What the library has executed, as it is answered.
pub(super) fn answered(mut executed: Executed, keys: &Keys, state: &RequestState) -> Answered {
    complete(&mut executed, keys);
    executed.errors.iter_mut().for_each(give_code);
    Answered { data: executed.data, errors: executed.errors, extensions: freshness::told(&state.witness) }
}

/// Gives an error of the library the code it has not: the document or a value in it did not fit.
fn give_code(error: &mut ServerError) {
    if code_of(error.extensions.as_ref()).is_none() {
        error.extensions.get_or_insert_default().set("code", code::VALIDATION_FAILED);
    }
}
