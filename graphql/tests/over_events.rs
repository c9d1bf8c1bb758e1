//! GraphQL over Server-Sent Events, in distinct connections: each test is a sentence of that protocol, or of what we promise
//! beyond it.

#[path = "support/stage.rs"]
mod stage;

use std::time::{Duration, SystemTime};

use axum::{
    Extension,
    body::Body,
    http::{Request, StatusCode, header},
};
use events::principal::Principal;
use graphql::{GraphqlOptions, LiveOptions, options::Admitted};
use projections::{engine::store::StoreOptions, kit::Kind};
use read_side::ReadSide;
use serde_json::{Value, json};
use stage::{Event, ORDERS, Stage, Subscriber, Subscription};

fn router() -> axum::Router {
    graphql::router(ReadSide::connect_sqlite("no-such-directory"), GraphqlOptions::default())
}

fn get(query: &str, accept: &str) -> Request<Body> {
    let encode = |byte: u8| match byte {
        byte if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    let query: String = query.bytes().map(encode).collect();
    let request = Request::get(format!("/graphql?query={query}")).header(header::ACCEPT, accept);
    request.header(header::HOST, "127.0.0.1").body(Body::empty()).unwrap()
}

fn post(query: &str, accept: &str) -> Request<Body> {
    let request = Request::post("/graphql").header(header::ACCEPT, accept);
    let request = request.header(header::CONTENT_TYPE, "application/json");
    request.body(json!({ "query": query }).to_string().into()).unwrap()
}

#[tokio::test]
async fn an_answer_is_an_event_next_and_the_end_an_event_complete() {
    for request in [get("{ __typename }", "text/event-stream"), post("{ __typename }", "text/event-stream")] {
        let mut subscriber = Subscriber::send(&router(), None, request).await;
        assert_eq!(subscriber.status, StatusCode::OK);
        assert_eq!(subscriber.headers["content-type"], "text/event-stream; charset=utf-8");
        assert_eq!(subscriber.headers["cache-control"], "no-store");
        assert_eq!(subscriber.block().await.as_deref(), Some(":\n\n"));
        let next = "event: next\ndata: {\"data\":{\"__typename\":\"Query\"}}\n\n";
        assert_eq!(subscriber.block().await.as_deref(), Some(next));
        assert_eq!(subscriber.block().await.as_deref(), Some("event: complete\ndata:\n\n"));
        assert_eq!(subscriber.block().await, None);
    }
}

#[tokio::test]
async fn what_is_wrong_with_the_document_is_an_event_and_with_the_request_a_status() {
    for (query, code) in [("{", "syntax_error"), ("{ nothing }", "validation_failed"), ("{ a", "syntax_error")] {
        let mut subscriber = Subscriber::send(&router(), None, get(query, "text/event-stream")).await;
        assert_eq!(subscriber.status, StatusCode::OK);
        let answer = subscriber.answer().await;
        assert_eq!(Subscriber::code_in(&answer), code);
        assert!(answer.get("data").is_none());
        let complete = Event { event: "complete".to_owned(), id: None, data: String::new() };
        assert_eq!((subscriber.event().await, subscriber.event().await), (Some(complete), None));
    }
    let no_query = Request::get("/graphql").header(header::ACCEPT, "text/event-stream").body(Body::empty()).unwrap();
    assert_eq!(Subscriber::send(&router(), None, no_query).await.status, StatusCode::BAD_REQUEST);
    let mut text = post("{ __typename }", "text/event-stream");
    text.headers_mut().insert(header::CONTENT_TYPE, "text/plain".parse().unwrap());
    assert_eq!(Subscriber::send(&router(), None, text).await.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    let mut foreign = get("{ __typename }", "text/event-stream");
    foreign.headers_mut().insert(header::ORIGIN, "https://evil.example".parse().unwrap());
    assert_eq!(Subscriber::send(&router(), None, foreign).await.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn a_client_that_takes_both_gets_an_event_stream_for_subscriptions_only() {
    let stage = Stage::new(Kind::Sqlite).await;
    let both = "application/graphql-response+json, application/json, text/event-stream, multipart/mixed";
    for (query, accept, answered) in [
        ("{ __typename }", both, "application/graphql-response+json; charset=utf-8"),
        ("subscription { ordersChanged { kind } }", both, "text/event-stream; charset=utf-8"),
        ("{ __typename }", "text/event-stream, application/json;q=0.5", "text/event-stream; charset=utf-8"),
        ("subscription { ordersChanged { kind } }", "application/json", "application/json; charset=utf-8"),
        ("subscription { ordersChanged { kind } }", "*/*", "application/json; charset=utf-8"),
    ] {
        let subscriber = Subscriber::send(&stage.router(), None, post(query, accept)).await;
        assert_eq!(subscriber.headers["content-type"], answered, "{query} {accept}");
    }
}

#[tokio::test]
async fn an_event_source_that_comes_back_by_itself_goes_on_behind_the_last_event() {
    let mut stage = Stage::new(Kind::Sqlite).await;
    // it cannot change its address, and need not ask for the cursor
    let document = "subscription { ordersChanged { kind } }";
    let mut subscriber = Subscriber::send(&stage.router(), None, get(document, "text/event-stream")).await;
    let started = subscriber.event().await.unwrap();
    let id = started.id.expect("each message has a place");
    // the first message is behind what the token stood for, and says so
    let started: Value = serde_json::from_str(&started.data).unwrap();
    let told = &started["extensions"]["consistency"]["readModels"]["order_details"];
    assert_eq!(told["generation"], 1, "{started}");
    drop(subscriber);
    stage.placed(1, 1);
    stage.fold().await;
    let mut again = get(document, "text/event-stream");
    again.headers_mut().insert("last-event-id", id.parse().unwrap());
    let mut subscriber = Subscriber::send(&stage.router(), None, again).await;
    let kind = |answer: Value| answer["data"]["ordersChanged"]["kind"].clone();
    assert_eq!(kind(subscriber.answer().await), "CHANGED");
}

#[tokio::test]
async fn a_stream_on_which_nothing_happens_gets_comments() {
    let mut live = LiveOptions::default();
    live.limits.ping_every = Duration::from_millis(20);
    let stage = Stage::with(Kind::Sqlite, live, StoreOptions::default()).await;
    let mut subscriber = stage.staff(ORDERS).await;
    subscriber.told().await;
    for _ in 0..3 {
        assert_eq!(subscriber.block().await.as_deref(), Some(":\n\n"));
    }
}

#[tokio::test]
async fn a_client_that_does_not_read_gives_its_place_to_others() {
    let mut live = LiveOptions::default();
    live.limits.subscriptions_max = 1;
    (live.limits.ping_every, live.limits.send_max) = (Duration::from_millis(20), Duration::from_millis(100));
    let stage = Stage::with(Kind::Sqlite, live, StoreOptions::default()).await;
    let mut silent = stage.staff(ORDERS).await;
    silent.told().await;
    let refused = stage.staff(ORDERS).await.answer().await;
    assert_eq!(Subscriber::code_in(&refused), "overloaded");
    let mut tries = 0;
    while stage.staff(ORDERS).await.answer().await.get("errors").is_some() {
        tries += 1;
        assert!(tries < 200, "its place is never given back");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    while silent.block().await.is_some() {}
}

#[tokio::test]
async fn a_stream_ends_with_the_token_it_was_asked_for_with_and_is_not_complete() {
    let stage = Stage::new(Kind::Sqlite).await;
    let principal = Principal::try_new("desk", None, ["query".to_owned()]).unwrap();
    let until = Some(SystemTime::now() + Duration::from_millis(200));
    let router = stage.router().layer(Extension(Admitted { principal, until }));
    let mut subscriber = Subscription::of(ORDERS).open(&router).await;
    assert_eq!(subscriber.told().await.kind, "STARTED");
    assert_eq!(subscriber.event().await, None);
}
