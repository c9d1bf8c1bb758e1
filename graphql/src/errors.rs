//! Errors as clients see them: a sentence, a stable `extensions.code`, and what a program needs to go on. The codes are
//! the words that the HTTP edge of the services uses too.

use std::fmt::Write;

use async_graphql::{ErrorExtensionValues, Pos, ServerError, Value};

/// The stable words in `extensions.code`. The read side adds its own: [`read_side::ReadError::code`].
pub mod code {
    /// A parameter of the request is missing or of the wrong type.
    pub const BAD_REQUEST: &str = "bad_request";
    /// The body is not JSON.
    pub const INVALID_JSON: &str = "invalid_json";
    /// An array of requests was sent.
    pub const BATCHING_NOT_SUPPORTED: &str = "batching_not_supported";
    pub const UNSUPPORTED_MEDIA_TYPE: &str = "unsupported_media_type";
    pub const NOT_ACCEPTABLE: &str = "not_acceptable";
    pub const METHOD_NOT_ALLOWED: &str = "method_not_allowed";
    /// The document is not GraphQL.
    pub const SYNTAX_ERROR: &str = "syntax_error";
    /// The document or its variables do not fit the schema.
    pub const VALIDATION_FAILED: &str = "validation_failed";
    /// A cursor of a list that is sorted another way.
    pub const CURSOR_MISMATCH: &str = "cursor_mismatch";
    /// A bound was crossed; `extensions.limit`, `max` and `asked` say which and by how much.
    pub const LIMIT_EXCEEDED: &str = "limit_exceeded";
    pub const INVALID_CONSISTENCY_TOKEN: &str = "invalid_consistency_token";
    pub const INVALID_CONSISTENCY_WAIT: &str = "invalid_consistency_wait";
    /// Nobody has sent a document of this hash, or not of late. In capitals, as the clients of this protocol look for it.
    pub const PERSISTED_QUERY_NOT_FOUND: &str = "PERSISTED_QUERY_NOT_FOUND";
    /// The hash is not that of the document beside it.
    pub const PERSISTED_QUERY_MISMATCH: &str = "persisted_query_mismatch";
    /// Only listed documents are answered, and this is none.
    pub const OPERATION_NOT_LISTED: &str = "operation_not_listed";
    /// Too much is going on at once: ask again later.
    pub const OVERLOADED: &str = "overloaded";
    /// Too much of one principal's or address's own is going on at once.
    pub const TOO_MANY_REQUESTS: &str = "too_many_requests";
    /// Nobody knows who asks, and it must be known.
    pub const UNAUTHENTICATED: &str = "unauthenticated";
    /// A page of another site asks.
    pub const ORIGIN_NOT_ALLOWED: &str = "origin_not_allowed";
    /// The server is about to end.
    pub const SHUTTING_DOWN: &str = "shutting_down";
    /// The answer took too long.
    pub const TIMEOUT: &str = "request_timeout";
    /// Our fault; the log has the details under `extensions.traceId`.
    pub const INTERNAL: &str = "internal";
}

/// An error with a code.
pub(crate) fn coded(code: &str, message: impl Into<String>) -> ServerError {
    let mut error = ServerError::new(message, None);
    error.extensions.get_or_insert_default().set("code", code);
    error
}

/// A bound was crossed: the error names it.
pub(crate) fn limit_exceeded(limit: &str, max: usize, what: &str, at: Option<Pos>) -> ServerError {
    let mut error = coded(code::LIMIT_EXCEEDED, format!("{what}: the limit {limit} is {max}"));
    error.locations.extend(at);
    let extensions = error.extensions.get_or_insert_default();
    extensions.set("limit", limit);
    extensions.set("max", max);
    error
}

/// As [`limit_exceeded`], where it is known how much was asked for.
pub(crate) fn over_limit(limit: &str, max: usize, asked: usize, what: &str, at: Option<Pos>) -> ServerError {
    with_asked(limit_exceeded(limit, max, what, at), asked)
}

/// Adds how much was asked for to an error of a limit.
pub(crate) fn with_asked(mut error: ServerError, asked: usize) -> ServerError {
    let _ = write!(error.message, ", and {asked} was asked for");
    error.extensions.get_or_insert_default().set("asked", asked);
    error
}

/// Makes of an error one that goes away by itself.
pub(crate) fn retryable(mut error: ServerError, code: &str) -> ServerError {
    let extensions = error.extensions.get_or_insert_default();
    extensions.set("code", code);
    extensions.set("retryable", true);
    error
}

/// The code of an error, if it has one.
pub(crate) fn code_of(extensions: Option<&ErrorExtensionValues>) -> Option<&str> {
    match extensions?.get("code")? {
        Value::String(code) => Some(code),
        _ => None,
    }
}
