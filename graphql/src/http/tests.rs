//! What cannot be provoked through the real schema: a resolver that panics, one that takes too long, a mutation.

use std::time::Duration;

use async_graphql::{EmptySubscription, Object, Schema};
use axum::{
    body::{Body, to_bytes},
    http::{Request, StatusCode, header},
};
use serde_json::Value;
use tower::ServiceExt;

use crate::{GraphqlOptions, Limits, request_state::NoteExecution};

fn fails() -> i32 {
    panic!("secret detail")
}

struct Query;

#[Object]
impl Query {
    async fn panics(&self) -> i32 {
        fails()
    }

    async fn takes_long(&self) -> i32 {
        std::future::pending().await
    }
}

struct Mutation;

#[Object]
impl Mutation {
    async fn writes(&self) -> i32 {
        7
    }
}

async fn ask(request: Request<Body>) -> (StatusCode, Value) {
    let schema = Schema::build(Query, Mutation, EmptySubscription).extension(NoteExecution).finish();
    let limits = Limits { execution_max: Duration::from_millis(50), requests_max: 1, ..Limits::default() };
    let router = super::router(schema, GraphqlOptions { limits, ..GraphqlOptions::default() });
    let response = router.oneshot(request).await.unwrap();
    let status = response.status();
    (status, serde_json::from_slice(&to_bytes(response.into_body(), usize::MAX).await.unwrap()).unwrap())
}

async fn post(query: &str) -> (StatusCode, Value) {
    let body = serde_json::json!({ "query": query }).to_string();
    ask(Request::post("/graphql").header(header::CONTENT_TYPE, "application/json").body(body.into()).unwrap()).await
}

#[tokio::test]
async fn a_panic_is_an_internal_error_without_its_details() {
    let (status, answer) = post("{ panics }").await;
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(answer["errors"][0]["extensions"]["code"], "internal");
    assert!(answer["errors"][0]["extensions"]["traceId"].is_string());
    assert!(!answer.to_string().contains("secret"));
}

#[tokio::test]
async fn an_answer_that_takes_too_long_is_a_retryable_timeout_that_names_the_limit() {
    let (status, answer) = post("{ takesLong }").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    let extensions = &answer["errors"][0]["extensions"];
    assert_eq!((&extensions["code"], &extensions["limit"]), (&"request_timeout".into(), &"execution_ms".into()));
    assert_eq!(extensions["retryable"], true);
}

#[tokio::test]
async fn get_must_not_execute_mutations() {
    let request = Request::get("/graphql?query=mutation%7Bwrites%7D").body(Body::empty()).unwrap();
    let (status, answer) = ask(request).await;
    assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(answer["errors"][0]["extensions"]["code"], "method_not_allowed");
    assert_eq!(post("mutation { writes }").await, (StatusCode::OK, serde_json::json!({ "data": { "writes": 7 } })));
}
