//! How errors and data become a response.

use std::collections::BTreeMap;

use async_graphql::{ServerError, Value};
use axum::{
    http::{
        HeaderValue, StatusCode,
        header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, VARY},
    },
    response::{IntoResponse, Response},
};
use serde::Serialize;

use super::media::Media;

/// A request that was refused before anything ran. Its answer has no `data`.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    /// A fault of the document within a well-formed request: 200 under `application/json`.
    of_document: bool,
    allow: Option<&'static str>,
    errors: Vec<ServerError>,
}

impl Refusal {
    /// A request that is wrong as HTTP, whatever the client takes.
    pub(super) fn of_request(status: StatusCode, error: ServerError) -> Self {
        Self { status, of_document: false, allow: None, errors: vec![error] }
    }

    /// A method that this document or address does not take.
    pub(super) fn of_method(allow: &'static str, error: ServerError) -> Self {
        Self { allow: Some(allow), ..Self::of_request(StatusCode::METHOD_NOT_ALLOWED, error) }
    }

    /// A document that cannot be run.
    pub(super) fn of_document(errors: Vec<ServerError>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, of_document: true, allow: None, errors }
    }

    /// Whether the request is well-formed, and its document is what is wrong.
    pub(super) fn is_of_document(&self) -> bool {
        self.of_document
    }

    pub(super) fn into_errors(self) -> Vec<ServerError> {
        self.errors
    }

    pub(super) fn into_response(self, media: Media) -> Response {
        let status = if self.of_document && media == Media::Json { StatusCode::OK } else { self.status };
        let mut response = respond(status, media, &Body { data: None, errors: &self.errors, extensions: None });
        if let Some(allow) = self.allow {
            response.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
        }
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

/// The answer of a request that ran: 200, also when some of its fields failed.
pub(super) fn executed(
    media: Media,
    data: &Value,
    errors: &[ServerError],
    extensions: &BTreeMap<String, Value>,
) -> Response {
    let extensions = Some(extensions).filter(|extensions| !extensions.is_empty());
    respond(StatusCode::OK, media, &Body { data: Some(data), errors, extensions })
}

/// An answer as JSON, for what is no response of its own.
pub(super) fn json(data: Option<&Value>, errors: &[ServerError], extensions: &BTreeMap<String, Value>) -> String {
    let extensions = Some(extensions).filter(|extensions| !extensions.is_empty());
    let body = Body { data, errors, extensions };
    serde_json::to_string(&body).expect("GraphQL values, whose keys are strings, are always JSON")
}

/// Errors first, so that nobody who reads along misses them.
#[derive(Serialize)]
struct Body<'a> {
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    errors: &'a [ServerError],
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    extensions: Option<&'a BTreeMap<String, Value>>,
}

fn respond(status: StatusCode, media: Media, body: &Body) -> Response {
    let bytes = serde_json::to_vec(body).expect("GraphQL values, whose keys are strings, are always JSON");
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static(media.content_type())),
        (CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (VARY, HeaderValue::from_static("accept, consistency-token")),
    ];
    (status, headers, bytes).into_response()
}
