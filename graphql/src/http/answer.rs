//! How errors and data become a response.

use async_graphql::{ServerError, Value};
use axum::{
    http::{
        HeaderName, HeaderValue, StatusCode,
        header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, VARY, WWW_AUTHENTICATE},
    },
    response::{IntoResponse, Response},
};
use serde::Serialize;

use super::media::Media;
use crate::{
    errors::{code, code_of, coded},
    freshness::Extensions,
};

/// However long something may take, look again after this many seconds.
const RETRY_AFTER_MAX_S: u64 = 60;

/// A request that was refused before anything ran. Its answer has no `data`.
#[derive(Debug)]
pub(super) struct Refusal {
    /// Under `application/graphql-response+json`.
    status: StatusCode,
    /// Under `application/json`, whose clients take an answer for one of ours only if it is 200.
    json_status: StatusCode,
    /// What this status is to be told with.
    header: Option<(HeaderName, &'static str)>,
    errors: Vec<ServerError>,
}

/// What most answers fit into.
const ANSWER_BYTES_USUAL: usize = 2 * 1_024;

/// What the specification calls it when an answer has data and errors. Whoever does not know it takes it for 200.
const PARTIAL_SUCCESS: u16 = 294;

impl Refusal {
    /// A request that is wrong as HTTP, whatever the client takes.
    pub(super) fn of_request(status: StatusCode, error: ServerError) -> Self {
        Self { status, json_status: status, header: None, errors: vec![error] }
    }

    /// A request whose parameters are not as they should be: 422, or 400 if they cannot even be read.
    pub(super) fn of_parameters(error: ServerError) -> Self {
        let status = match code_of(error.extensions.as_ref()) {
            Some(code::INVALID_JSON) => StatusCode::BAD_REQUEST,
            _ => StatusCode::UNPROCESSABLE_ENTITY,
        };
        Self { json_status: StatusCode::BAD_REQUEST, ..Self::of_request(status, error) }
    }

    /// A method that this document or address does not take.
    pub(super) fn of_method(allow: &'static str, error: ServerError) -> Self {
        Self { header: Some((ALLOW, allow)), ..Self::of_request(StatusCode::METHOD_NOT_ALLOWED, error) }
    }

    /// Whoever asks may not ask at all.
    pub(super) fn of_nobody() -> Self {
        let error = coded(code::UNAUTHENTICATED, "this needs a token that may query");
        Self { header: Some((WWW_AUTHENTICATE, "Bearer")), ..Self::of_request(StatusCode::UNAUTHORIZED, error) }
    }

    /// A document of a well-formed request that cannot be run.
    pub(super) fn of_document(errors: Vec<ServerError>) -> Self {
        let code = errors.first().and_then(|error| code_of(error.extensions.as_ref()));
        let status = match code {
            Some(code::SYNTAX_ERROR | code::PERSISTED_QUERY_MISMATCH) => StatusCode::BAD_REQUEST,
            Some(code::OPERATION_NOT_LISTED) => StatusCode::FORBIDDEN,
            _ => StatusCode::UNPROCESSABLE_ENTITY,
        };
        Self { status, json_status: StatusCode::OK, header: None, errors }
    }

    /// Whether the request is well-formed, and its document is what is wrong.
    pub(super) fn is_of_document(&self) -> bool {
        self.json_status == StatusCode::OK
    }

    pub(super) fn into_errors(self) -> Vec<ServerError> {
        self.errors
    }

    pub(super) fn into_response(self, media: Media) -> Response {
        let status = if media == Media::Json { self.json_status } else { self.status };
        let body = Body { data: None, errors: &self.errors, extensions: None };
        let mut response = respond(status, media, &body);
        if let Some((name, value)) = self.header {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        response
    }
}

/// What a request that ran is answered: complete, with codes on its errors.
#[derive(Debug)]
pub(super) struct Answered {
    pub(super) data: Value,
    pub(super) errors: Vec<ServerError>,
    pub(super) extensions: Option<Extensions>,
}

/// The answer of a request that ran: 200, and 294 under the newer media type when some of its fields failed.
pub(super) fn answered(media: Media, answered: &Answered) -> Response {
    let Answered { data, errors, extensions } = answered;
    let status = match media {
        Media::GraphqlResponse if !errors.is_empty() => {
            StatusCode::from_u16(PARTIAL_SUCCESS).expect("three digits are a status")
        }
        Media::GraphqlResponse | Media::Json => StatusCode::OK,
    };
    respond(status, media, &Body { data: Some(data), errors, extensions: extensions.as_ref() })
}

impl Answered {
    /// For what is no response of its own.
    pub(super) fn json(&self) -> String {
        json(&Body { data: Some(&self.data), errors: &self.errors, extensions: self.extensions.as_ref() })
    }
}

/// Errors without an answer, for what is no response of its own.
pub(super) fn errors_json(errors: &[ServerError]) -> String {
    json(&Body { data: None, errors, extensions: None })
}

fn json(body: &Body) -> String {
    serde_json::to_string(body).expect("GraphQL values, whose keys are strings, are always JSON")
}

/// Errors first, so that nobody who reads along misses them.
#[derive(Serialize)]
struct Body<'a> {
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    errors: &'a [ServerError],
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    extensions: Option<&'a Extensions>,
}

fn respond(status: StatusCode, media: Media, body: &Body) -> Response {
    let mut bytes = Vec::with_capacity(ANSWER_BYTES_USUAL);
    serde_json::to_writer(&mut bytes, body).expect("GraphQL values, whose keys are strings, are always JSON");
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static(media.content_type())),
        (CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (VARY, HeaderValue::from_static("accept, consistency-token")),
    ];
    let mut response = (status, headers, bytes).into_response();
    if let Some(seconds) = body.errors.iter().filter_map(retry_after).max() {
        response.headers_mut().insert(RETRY_AFTER, seconds.into());
    }
    response
}

/// After how many seconds the same request is worth asking again, if it is at all.
fn retry_after(error: &ServerError) -> Option<u64> {
    const SOON: u64 = 1;
    let extensions = error.extensions.as_ref()?;
    if extensions.get("retryable") != Some(&Value::Boolean(true)) {
        return None;
    }
    match extensions.get("etaSeconds") {
        Some(Value::Number(eta)) => Some(eta.as_u64().unwrap_or(SOON).clamp(SOON, RETRY_AFTER_MAX_S)),
        _ => Some(SOON),
    }
}
