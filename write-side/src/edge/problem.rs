//! Errors on the wire: RFC 9457 `application/problem+json` with a stable `code`.
//!
//! Every code has a paragraph in `docs/errors.md`; a test compares. The correlation id (`traceId`) is filled in by
//! [`super::trace`], the only place that knows it and the only one that logs.

use std::borrow::Cow;

use axum::{
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use serde_json::{Map, Value};

/// What `Content-Type` says of a problem.
pub const PROBLEM_JSON: &str = "application/problem+json";

/// The members that every problem may have: what a refusal says besides has other names.
pub const MEMBERS: [&str; 7] = ["type", "title", "status", "detail", "instance", "code", "traceId"];

/// An answer that says what is wrong and what to do.
#[derive(Debug, Clone)]
pub struct Problem {
    pub status: StatusCode,
    /// Stable, snake_case.
    pub code: Cow<'static, str>,
    /// One sentence for people, without personal data.
    pub detail: String,
    /// The rest, behind a pointer: problems travel as errors, and those should be small.
    pub more: Box<More>,
}

/// What only some problems say.
#[derive(Debug, Clone, Default)]
pub struct More {
    /// Bad fields, each by its JSON pointer.
    pub errors: Vec<FieldError>,
    /// The stream's version, where the caller thought it was another.
    pub current_version: Option<u64>,
    /// Further members, for programs.
    pub data: Map<String, Value>,
    pub headers: HeaderMap,
    /// What we log and do not tell.
    pub cause: Option<String>,
}

/// One bad field of a body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FieldError {
    /// RFC 6901; `""` is the whole body.
    pub pointer: String,
    pub detail: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    #[serde(rename = "type")]
    kind: String,
    title: String,
    status: u16,
    code: &'a str,
    detail: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_id: Option<&'a str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    errors: &'a [FieldError],
    #[serde(skip_serializing_if = "Option::is_none")]
    current_version: Option<u64>,
    #[serde(flatten)]
    data: &'a Map<String, Value>,
}

impl Problem {
    pub fn new(status: StatusCode, code: impl Into<Cow<'static, str>>, detail: impl Into<String>) -> Self {
        Self { status, code: code.into(), detail: detail.into(), more: Box::default() }
    }

    /// Our bug: the caller learns the trace id and nothing else.
    pub fn internal(cause: impl Into<String>) -> Self {
        let detail = "something went wrong on our side; the trace id finds it in the logs";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail).caused_by(cause)
    }

    /// A store does not answer now.
    pub fn unavailable(cause: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "the service's log does not answer now; try again")
            .caused_by(cause)
            .retry_after(1)
    }

    /// More requests at once than a named bound allows.
    pub fn overloaded(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "overloaded", detail).retry_after(1)
    }

    pub fn caused_by(mut self, cause: impl Into<String>) -> Self {
        self.more.cause = Some(cause.into());
        self
    }

    /// Worth trying again after so many seconds.
    pub fn retry_after(self, seconds: u64) -> Self {
        self.header(header::RETRY_AFTER, HeaderValue::from(seconds))
    }

    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.more.headers.insert(name, value);
        self
    }

    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.more.data.insert(name.to_owned(), value.into());
        self
    }

    /// Names bad fields.
    pub fn naming(mut self, errors: Vec<FieldError>) -> Self {
        self.more.errors = errors;
        self
    }

    /// The answer, with the correlation id if it is known.
    pub fn render(&self, trace_id: Option<&str>) -> Response {
        let body = Body {
            kind: format!("urn:tributary:problem:{}", self.code),
            title: self.code.replace('_', " "),
            status: self.status.as_u16(),
            code: &self.code,
            detail: &self.detail,
            trace_id,
            errors: &self.more.errors,
            current_version: self.more.current_version,
            data: &self.more.data,
        };
        let body = serde_json::to_vec(&body).expect("texts and numbers serialize");
        let mut response = (self.status, [(header::CONTENT_TYPE, PROBLEM_JSON)], body).into_response();
        response.headers_mut().extend(self.more.headers.clone());
        response
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.render(None);
        response.extensions_mut().insert(self);
        response
    }
}
