//! The one way from a resolver to the read side: the request's token in, the read side's errors out.

use std::sync::Arc;

use async_graphql::{Context, Error, ErrorExtensions, Result};
use events::principal::{Principal, scope};
use read_side::{Consistency, ReadError, ReadSide, template::Template};

use crate::{errors::code, request_state::RequestState};

/// Runs one read of a read model with what is left of the request's wait. The first read of it waits for the token, the
/// others for the first: a request waits once, however many fields it has.
pub(super) async fn read<T>(
    ctx: &Context<'_>,
    read_model: &'static Template,
    reads: impl AsyncFnOnce(&ReadSide, &Consistency) -> Result<T, ReadError>,
) -> Result<T> {
    let state = state(ctx);
    let turn = state.turn(read_model.name);
    let _waiting = turn.take().await;
    let consistency = state.consistency();
    let answer = reads(&side(ctx), &consistency).await;
    if answer.is_ok() {
        turn.token_is_met();
    }
    answer.map_err(|error| answered(&error, state))
}

/// Runs one read of what is there now, whatever the token.
pub(super) async fn look<T>(
    ctx: &Context<'_>,
    reads: impl AsyncFnOnce(&ReadSide) -> Result<T, ReadError>,
) -> Result<T> {
    reads(&side(ctx)).await.map_err(|error| answered(&error, state(ctx)))
}

/// The query database as far as the one who asks may see it, with the request's witness of how fresh it is. There is no
/// other way to it from a resolver.
fn side(ctx: &Context<'_>) -> ReadSide {
    let principal = ctx.data_unchecked::<Principal>();
    // who is no customer sees everything, so whoever is nobody must not have come here
    assert!(principal.may(scope::QUERY), "the edge has let in who may not query");
    ctx.data_unchecked::<ReadSide>().scoped(principal).telling(&state(ctx).witness)
}

fn state<'a>(ctx: &Context<'a>) -> &'a RequestState {
    ctx.data_unchecked::<Arc<RequestState>>()
}

/// An argument that does not say what it should.
pub(super) fn invalid(argument: &str, error: impl std::fmt::Display) -> Error {
    Error::new(format!("{argument}: {error}")).extend_with(|_, extensions| {
        extensions.set("code", code::VALIDATION_FAILED);
        extensions.set("argument", argument);
    })
}

/// A text that is looked for. PostgreSQL's texts have no NUL, and nothing that is stored has one.
pub(super) fn text(argument: &str, text: String) -> Result<String> {
    if text.contains('\0') { Err(invalid(argument, "has a character that no text here has: NUL")) } else { Ok(text) }
}

/// An argument that fits elsewhere, with a code that says where.
pub(super) fn refused(code: &str, argument: &str, error: impl std::fmt::Display) -> Error {
    invalid(argument, error).extend_with(|_, extensions| extensions.set("code", code))
}

/// Our fault: the log gets the details, the answer a trace id to find them by.
pub(super) fn internal(ctx: &Context<'_>, error: &dyn std::fmt::Display) -> Error {
    hidden(error, state(ctx), code::INTERNAL, "the server failed; its log has the details", false)
}

/// A read error as clients see it. What only operators can act on is logged, once, and told without its details.
fn answered(error: &ReadError, state: &RequestState) -> Error {
    match error {
        ReadError::Internal(_) => {
            hidden(error, state, error.code(), "the server failed; its log has the details", error.is_retryable())
        }
        ReadError::Unavailable(_) => {
            hidden(error, state, error.code(), "the query database does not answer", error.is_retryable())
        }
        ReadError::ConsistencyTimeout { source_name, wanted, reached, .. } => {
            told(error, source_name, &[("wanted", *wanted), ("reached", *reached)])
        }
        ReadError::ConsistencyLost { source_name, .. } => told(error, source_name, &[]),
        ReadError::Parked { source_name, position, wanted, .. } => {
            told(error, source_name, &[("position", *position), ("wanted", *wanted)])
        }
        ReadError::Rebuilding { eta_s: Some(eta_s), .. } => {
            coded(error).extend_with(|_, extensions| extensions.set("etaSeconds", *eta_s))
        }
        ReadError::TooManyWaiters { .. }
        | ReadError::NotForCustomers { .. }
        | ReadError::Rebuilding { eta_s: None, .. } => coded(error),
    }
}

fn coded(error: &ReadError) -> Error {
    Error::new(error.to_string()).extend_with(|_, extensions| {
        extensions.set("code", error.code());
        extensions.set("retryable", error.is_retryable());
    })
}

fn told(error: &ReadError, source: &str, positions: &[(&str, u64)]) -> Error {
    coded(error).extend_with(|_, extensions| {
        extensions.set("source", source);
        positions.iter().for_each(|(name, position)| extensions.set(name, *position));
    })
}

fn hidden(
    error: &dyn std::fmt::Display,
    state: &RequestState,
    code: &str,
    message: &'static str,
    retryable: bool,
) -> Error {
    tracing::error!(trace_id = state.trace_id(), code, "answer a query: {error}");
    Error::new(message).extend_with(|_, extensions| {
        extensions.set("code", code);
        extensions.set("retryable", retryable);
        extensions.set("traceId", state.trace_id());
    })
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderMap;
    use serde_json::{Value, json};

    use super::*;

    fn extensions(error: ReadError) -> (String, Value) {
        let error = answered(&error, &RequestState::from_headers(&HeaderMap::new()).unwrap());
        (error.message, serde_json::to_value(error.extensions.unwrap()).unwrap())
    }

    #[test]
    fn a_timeout_says_how_far_the_read_model_is_and_to_ask_again() {
        let (message, extensions) = extensions(ReadError::ConsistencyTimeout {
            read_model: "order_details",
            source_name: "orders".to_owned(),
            wanted: 9,
            reached: 7,
            wait_ms: 2_000,
        });
        assert!(message.contains("has not reached position 9 of orders within 2000 ms"), "{message}");
        let told = json!({
            "code": "consistency_timeout", "retryable": true, "source": "orders", "wanted": 9, "reached": 7,
        });
        assert_eq!(extensions, told);
    }

    #[test]
    fn a_lost_history_is_not_to_be_asked_for_again() {
        let lost = ReadError::ConsistencyLost { read_model: "order_details", source_name: "orders".to_owned() };
        let told = json!({ "code": "consistency_lost", "retryable": false, "source": "orders" });
        assert_eq!(extensions(lost).1, told);
    }

    #[test]
    fn an_internal_error_tells_a_trace_id_and_nothing_else() {
        let (message, extensions) = extensions(ReadError::Internal("select secret from table".to_owned()));
        assert!(!message.contains("secret"), "{message}");
        assert_eq!((&extensions["code"], &extensions["retryable"]), (&json!("internal"), &json!(false)));
        assert_eq!(extensions["traceId"].as_str().map(str::len), Some(36));
    }
}
