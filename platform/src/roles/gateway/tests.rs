//! The gateway before real servers on loopback, good ones and bad ones.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    body::{Body, Bytes, to_bytes},
    extract::Request,
    http::{HeaderMap, StatusCode},
    middleware::from_fn,
    response::{IntoResponse, Response, Sse, sse::Event},
    routing::post,
};
use futures::{
    Stream, StreamExt,
    stream::{self, FuturesUnordered},
};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tower::ServiceExt;
use write_side::edge;

use super::*;

/// A server that ends with its test.
struct Server {
    place: Authority,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    async fn listen() -> (TcpListener, Authority) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let place = listener.local_addr().expect("an address").to_string().parse().expect("an authority");
        (listener, place)
    }

    async fn of(router: Router) -> Self {
        let (listener, place) = Self::listen().await;
        Self { place, task: tokio::spawn(async move { axum::serve(listener, router).await.expect("it serves") }) }
    }

    /// Reads what comes and hangs up, as a process that is killed.
    async fn that_hangs_up(heard: Arc<AtomicUsize>) -> Self {
        let (listener, place) = Self::listen().await;
        let hang_up = async move |mut stream: TcpStream| {
            let mut bytes = [0; 4_096];
            if stream.read(&mut bytes).await.is_ok_and(|read| read > 0) {
                heard.fetch_add(1, Ordering::Relaxed);
            }
        };
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                hang_up(stream).await;
            }
        });
        Self { place, task }
    }

    /// Takes connections, and nothing more, as a process that is stopped.
    async fn that_is_frozen() -> Self {
        let (listener, place) = Self::listen().await;
        let task = tokio::spawn(async move {
            let _listener = listener;
            std::future::pending().await
        });
        Self { place, task }
    }

    /// Makes a socket of the first request, and ends its side of it.
    async fn that_ends_sockets() -> Self {
        let (listener, place) = Self::listen().await;
        let task = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let _ = stream.read(&mut [0; 4_096]).await.expect("a request");
            let agreed = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nbye";
            stream.write_all(agreed.as_bytes()).await.expect("it is heard");
        });
        Self { place, task }
    }

    /// An address where nobody is.
    async fn nowhere() -> Authority {
        Self::listen().await.1
    }
}

fn gateway(places: &[(&'static str, &[&Authority])]) -> (Gateway, Router) {
    let places = places.iter().map(|(name, places)| (*name, places.iter().map(|place| (*place).clone()).collect()));
    let gateway = Gateway::new(places.collect());
    let routes = gateway.routes(&Door::default());
    (gateway, routes)
}

async fn ask(router: &Router, request: Request) -> Response {
    match router.clone().oneshot(request).await {
        Ok(answer) => answer,
        Err(never) => match never {},
    }
}

async fn body(answer: Response) -> Bytes {
    to_bytes(answer.into_body(), usize::MAX).await.expect("a body")
}

async fn code(answer: Response) -> (u16, String) {
    let status = answer.status().as_u16();
    let said: Value = serde_json::from_slice(&body(answer).await).unwrap_or_default();
    (status, said["code"].as_str().unwrap_or_default().to_owned())
}

fn command(key: Option<&str>) -> Request {
    let request = Request::post("/orders").header("content-type", "application/json");
    let request = key.into_iter().fold(request, |request, key| request.header("idempotency-key", key));
    request.body(Body::from("{}")).expect("a request")
}

fn question(path: &str) -> Request {
    Request::get(path).body(Body::empty()).expect("a request")
}

#[tokio::test]
async fn where_nobody_is_nothing_was_done_and_the_next_replica_is_asked() {
    let nowhere = Server::nowhere().await;
    let (_gateway, router) = gateway(&[("orders", &[&nowhere])]);
    let answer = ask(&router, command(None)).await;
    assert_eq!(answer.headers()["retry-after"], "1");
    assert_eq!(code(answer).await, (503, "upstream_unavailable".to_owned()));
    let good = Server::of(Router::new().route("/orders", post(async |body: String| body))).await;
    let (_gateway, router) = gateway(&[("orders", &[&nowhere, &good.place])]);
    for _ in 0..2 {
        let answer = ask(&router, command(None)).await;
        assert_eq!((answer.status(), body(answer).await), (StatusCode::OK, Bytes::from("{}")), "with its body");
    }
}

#[tokio::test]
async fn what_was_sent_is_sent_again_only_if_that_cannot_double_it() {
    let heard = Arc::new(AtomicUsize::new(0));
    let bad = Server::that_hangs_up(Arc::clone(&heard)).await;
    let good = Server::of(Router::new().route("/orders", post(async || "done").get(async || "seen"))).await;
    // the first turn is always the bad one's
    let fresh = || gateway(&[("orders", &[&bad.place, &good.place])]);
    assert_eq!(code(ask(&fresh().1, command(None)).await).await, (502, "upstream_failed".to_owned()));
    assert_eq!(body(ask(&fresh().1, command(Some("k"))).await).await, "done");
    assert_eq!(body(ask(&fresh().1, question("/orders")).await).await, "seen");
    assert_eq!(heard.load(Ordering::Relaxed), 3, "each was sent there first");
}

#[tokio::test]
async fn who_is_frozen_takes_its_own_room_and_no_other() {
    let frozen = Server::that_is_frozen().await;
    let good = Server::of(Router::new().route("/users", get(async || "seen"))).await;
    let (_gateway, router) = gateway(&[("orders", &[&frozen.place]), ("users", &[&good.place])]);
    let waiting: FuturesUnordered<_> = (0..place::UNANSWERED_MAX).map(|_| ask(&router, question("/orders"))).collect();
    let mut waiting = waiting.map(|answer| panic!("nobody answers, and yet {answer:?}"));
    let others = async {
        // those that wait come first
        tokio::task::yield_now().await;
        assert_eq!(code(ask(&router, question("/orders")).await).await, (503, "overloaded".to_owned()));
        assert_eq!(body(ask(&router, question("/users")).await).await, "seen");
    };
    tokio::select! {
        biased;
        Some(()) = waiting.next() => {}
        () = others => {}
    }
}

#[tokio::test]
async fn a_frozen_replica_is_passed_over_once_somebody_has_waited_for_it() {
    let frozen = Server::that_is_frozen().await;
    let good = Server::of(Router::new().route("/orders", get(async || "seen"))).await;
    let (gateway, router) = gateway(&[("orders", &[&frozen.place, &good.place])]);
    let (frozen, _) = gateway.proxy.everybody().into_iter().find(|(place, _)| place.authority == frozen.place).unwrap();
    let silent = async {
        while !frozen.is_silent() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        answer = ask(&router, question("/orders")) => panic!("the first turn is the frozen one's, and yet {answer:?}"),
        () = silent => {}
    }
    for _ in 0..4 {
        let answer = tokio::time::timeout(Duration::from_secs(4), ask(&router, question("/orders"))).await;
        assert_eq!(body(answer.expect("at once")).await, "seen");
    }
}

#[tokio::test]
async fn a_gateway_that_is_given_its_own_address_says_so() {
    let (listener, own) = Server::listen().await;
    let (_gateway, router) = gateway(&[("orders", &[&own])]);
    let served = router.clone();
    let task = tokio::spawn(async move { axum::serve(listener, served).await.expect("it serves") });
    assert_eq!(code(ask(&router, question("/orders/7")).await).await, (508, "gateway_loop".to_owned()));
    task.abort();
}

#[tokio::test]
async fn the_callers_headers_go_on_but_for_those_between_neighbours() {
    let echo = async |headers: HeaderMap| {
        let mut seen: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (name, value) in &headers {
            seen.entry(name.to_string()).or_default().push(value.to_str().unwrap().to_owned());
        }
        ([("keep-alive", "timeout=5"), ("x-own", "1")], Json(seen))
    };
    let server = Server::of(Router::new().route("/orders/{id}", get(echo))).await;
    let (_gateway, router) = gateway(&[("orders", &[&server.place])]);
    let router = router.layer(from_fn(edge::trace::around));
    let request = Request::get("/orders/7?a=b").header("host", "shop.example").header("authorization", "Bearer x");
    let request = request.header("x-correlation-id", "conversation-7").header("traceparent", "nonsense");
    let request = request.header("connection", "x-hop").header("x-hop", "1").header("te", "trailers");
    let answer = ask(&router, request.body(Body::empty()).expect("a request")).await;
    assert!(answer.headers().contains_key("x-own") && !answer.headers().contains_key("keep-alive"));
    let seen: Value = serde_json::from_slice(&body(answer).await).expect("JSON");
    assert_eq!((&seen["host"], &seen["authorization"]), (&json!(["shop.example"]), &json!(["Bearer x"])));
    assert_eq!(seen["x-correlation-id"], json!(["conversation-7"]), "once");
    let trace = seen["traceparent"].as_array().expect("it is there");
    assert!(trace.len() == 1 && trace[0] != "nonsense", "{trace:?}");
    assert!(seen["via"][0].as_str().is_some_and(|via| via.starts_with("1.1 tributary-")), "{seen}");
    assert!(seen["x-hop"].is_null() && seen["te"].is_null(), "{seen}");
}

#[tokio::test]
async fn a_frozen_server_delays_nobody_who_asks_whether_the_gateway_is_ready() {
    let frozen = Server::that_is_frozen().await;
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    let startupz = get(async move || {
        counted.fetch_add(1, Ordering::Relaxed);
    });
    let good = Server::of(Router::new().route("/startupz", startupz)).await;
    let (gateway, _router) = gateway(&[("orders", &[&frozen.place]), ("users", &[&good.place])]);
    let many = join_all((0..50).map(|_| gateway.check()));
    for checks in
        tokio::time::timeout(Duration::from_secs(2), many).await.expect("as soon as its health check needs it")
    {
        let found =
            |verdict| checks.iter().filter(move |check| check.verdict == verdict).map(|check| check.name.as_str());
        assert_eq!(found(Verdict::Bad).count(), 0, "it is ready");
        assert_eq!(found(Verdict::Doubtful).collect::<Vec<_>>(), [format!("orders at {}", frozen.place)]);
    }
    assert_eq!(asked.load(Ordering::Relaxed), 1, "one question serves all");
}

#[tokio::test]
async fn nobody_waits_for_the_body_of_a_question() {
    let server = Server::of(Router::new().route("/orders/openapi.json", get(async |body: String| body))).await;
    let (_gateway, router) = gateway(&[("orders", &[&server.place])]);
    let withheld = Body::from_stream(stream::pending::<Result<Bytes, std::io::Error>>());
    let request = Request::get("/orders/openapi.json").header("content-length", "7").body(withheld);
    let asked = ask(&router, request.expect("a request"));
    let answer = tokio::time::timeout(Duration::from_secs(10), asked).await.expect("at once");
    assert_eq!((answer.status(), body(answer).await), (StatusCode::OK, Bytes::new()));
}

#[tokio::test]
async fn a_socket_ends_soon_after_its_first_end() {
    let upstream = Server::that_ends_sockets().await;
    let (gateway, router) = gateway(&[("graphql", &[&upstream.place])]);
    let served = Server::of(router).await;
    let mut client = TcpStream::connect(served.place.as_str()).await.expect("a connection");
    let asked = "GET /graphql HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
    client.write_all(asked.as_bytes()).await.expect("it is listened to");
    let mut heard = Vec::new();
    client.read_to_end(&mut heard).await.expect("an answer and an end");
    let heard = String::from_utf8_lossy(&heard);
    assert!(heard.starts_with("HTTP/1.1 101 ") && heard.ends_with("bye"), "{heard}");
    // the client's side is still open
    let ended = tokio::time::timeout(Duration::from_secs(20), gateway.shutdown()).await;
    assert!(ended.is_ok(), "nothing waits for a client that has nothing to say");
    drop(client);
}

#[tokio::test]
async fn of_a_service_that_is_away_the_document_is_the_one_that_it_had() {
    let mut document = document::of(&[]);
    document["paths"]["/orders"] = json!({ "get": {} });
    let server = Server::of(Router::new().route("/orders/openapi.json", get(async move || Json(document)))).await;
    let (_gateway, router) = gateway(&[("orders", &[&server.place])]);
    let paths = async || {
        let whole: Value =
            serde_json::from_slice(&body(ask(&router, question("/openapi.json")).await).await).expect("JSON");
        whole["paths"].as_object().expect("paths").keys().cloned().collect::<Vec<_>>()
    };
    assert_eq!(paths().await, ["/composed/orders/{id}", "/orders"]);
    drop(server);
    assert_eq!(paths().await, ["/composed/orders/{id}", "/orders"]);
}

#[tokio::test]
async fn an_event_stream_comes_event_by_event_and_ends_with_the_gateway() {
    fn events() -> impl Stream<Item = Result<Event, std::convert::Infallible>> {
        stream::once(async { Ok(Event::default().data("first")) }).chain(stream::pending())
    }
    let server = Server::of(Router::new().route("/graphql", get(async || Sse::new(events()).into_response()))).await;
    let (gateway, router) = gateway(&[("graphql", &[&server.place])]);
    let mut stream = ask(&router, question("/graphql")).await.into_body().into_data_stream();
    assert_eq!(stream.next().await.expect("an event").expect("whole"), "data: first\n\n");
    gateway.close();
    assert!(stream.next().await.is_none(), "it ends in good order");
}
