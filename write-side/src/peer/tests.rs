use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use axum::{
    body::Body,
    http::{HeaderMap, StatusCode, header::LOCATION},
    response::{IntoResponse, Response},
    routing::{any, get, post},
};
use event_store::{
    feed::{Cursor, Feed, PageLimit},
    memory::MemoryLog,
};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use uuid::Uuid;

use super::*;
use crate::{
    catalog,
    service::{Given, Service},
};

const CHAI: &str = "0198c0de-0000-7000-8000-000000000011";
const TRACEPARENT_GIVEN: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// The same routes, in this process and behind a server.
async fn both(router: Router) -> [Peer; 2] {
    let url = serve(router.clone()).await;
    [Peer::here(router), Peer::there(&url, None).unwrap()]
}

/// Serves until the test's runtime ends.
async fn serve(router: Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

fn command(path: &str, body: Value, key: &str) -> PeerCommand {
    PeerCommand {
        path: path.to_owned(),
        body,
        key: key.to_owned(),
        any_version: false,
        correlation_id: Some("order-17".to_owned()),
        causation_id: None,
        traceparent: Some(TRACEPARENT_GIVEN.to_owned()),
        principal: "checkout",
    }
}

fn question(path: &str) -> PeerQuestion {
    PeerQuestion { path: path.to_owned(), correlation_id: None, traceparent: None, principal: "checkout" }
}

/// A question with less patience than the real one.
async fn ask_briefly(peer: &Peer, path: &str) -> Result<(u16, Vec<u8>), PeerError> {
    let (method, path, wait) = (Method::GET, path.to_owned(), Duration::from_millis(200));
    peer.call(Call { method, path, headers: vec![], body: vec![], principal: "checkout", wait }).await
}

fn chai(id: &str) -> Value {
    let price = json!({ "amount_minor": 1_800, "currency": "USD" });
    json!({ "id": id, "sku": format!("CHAI-{id}"), "name": "Chai", "unit_price": price })
}

/// A real service, and a log that shows what came of the commands.
async fn products() -> (Arc<MemoryLog>, Service) {
    let log = MemoryLog::new("catalog");
    let service = catalog::start(Given::new(log.clone())).await.unwrap();
    (log, service)
}

#[tokio::test]
async fn a_command_is_taken_once_and_its_events_say_who_asked_and_in_which_conversation() {
    let (log, service) = products().await;
    for (n, peer) in both(service.router.clone()).await.iter().enumerate() {
        let id = Uuid::now_v7().to_string();
        let add = command("/products", chai(&id), &format!("key-{n}"));
        let added = peer.send(&add).await.unwrap();
        assert_eq!((added.status, &added.body["changed"]), (201, &json!(true)));
        assert_eq!(peer.send(&add).await.unwrap(), added, "the stored answer");
        let page = log.page(Cursor::START, PageLimit::events(9), Duration::ZERO).await.unwrap();
        assert_eq!(page.events.len(), n + 1);
        let metadata = page.events[n].metadata().unwrap();
        assert_eq!(metadata.correlation_id.as_deref(), Some("order-17"));
        assert_eq!(metadata.traceparent.as_deref(), Some(TRACEPARENT_GIVEN));
        // without authentication nobody over the network is anybody in particular
        let actor = if matches!(peer, Peer::Here(_)) { "checkout" } else { "anonymous" };
        assert_eq!(metadata.actor.as_deref(), Some(actor));
    }
    service.shutdown().await;
}

#[tokio::test]
async fn a_refusal_is_an_answer_and_what_is_not_there_is_not_shown() {
    let (_, service) = products().await;
    for (n, peer) in both(service.router.clone()).await.iter().enumerate() {
        let rename = command(&format!("/products/{CHAI}/rename"), json!({ "name": "Tea" }), &format!("key-{n}"));
        let refused = peer.send(&rename).await.unwrap();
        assert_eq!((refused.status, &refused.body["code"]), (404, &json!("product_not_found")));
        assert_eq!(peer.show(&question(&format!("/products/{CHAI}"))).await, Ok(None));
        let nonsense = peer.show(&question("/products/chai")).await;
        assert_eq!(nonsense, Err(PeerError::Status(400)));
    }
    service.shutdown().await;
}

#[tokio::test]
async fn a_command_that_wants_to_know_a_version_takes_any() {
    let (_, service) = products().await;
    let [peer, _] = both(service.router.clone()).await;
    peer.send(&command("/products", chai(CHAI), "add")).await.unwrap();
    let price = json!({ "unit_price": { "amount_minor": 1_900, "currency": "USD" } });
    let without = command(&format!("/products/{CHAI}/price"), price, "price");
    let refused = peer.send(&without).await.unwrap();
    assert_eq!((refused.status, &refused.body["code"]), (428, &json!("version_required")));
    let repriced = peer.send(&PeerCommand { any_version: true, ..without }).await.unwrap();
    assert_eq!((repriced.status, &repriced.body["version"]), (200, &json!(2)));
    let shown = peer.show(&question(&format!("/products/{CHAI}"))).await.unwrap().unwrap();
    assert_eq!(shown["unit_price"]["amount_minor"], 1_900);
    service.shutdown().await;
}

#[tokio::test]
async fn the_token_of_now_is_shown_over_the_network_and_without_one_nothing_is_sent() {
    let seen: Arc<Mutex<Vec<Option<String>>>> = Arc::default();
    let note = {
        let seen = Arc::clone(&seen);
        move |headers: HeaderMap| {
            let text = headers.get("authorization").map(|value| value.to_str().unwrap().to_owned());
            seen.lock().unwrap().push(text);
            async { axum::Json(json!({})) }
        }
    };
    let url = serve(Router::new().route("/orders/1", get(note.clone()).post(note))).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    let peer = Peer::there(&url, Some(file.clone())).unwrap();
    for nothing in [None, Some(""), Some("two\nlines")] {
        if let Some(text) = nothing {
            std::fs::write(&file, text).unwrap();
        }
        let error = peer.show(&question("/orders/1")).await.unwrap_err();
        assert!(matches!(error, PeerError::Token(_)) && error.to_string().contains("token"), "{error}");
        assert!(!error.to_string().contains("lines"), "what is in the file is a secret: {error}");
    }
    assert!(seen.lock().unwrap().is_empty());
    std::fs::write(&file, "first\n").unwrap();
    peer.show(&question("/orders/1")).await.unwrap();
    std::fs::write(&file, "second\n").unwrap();
    peer.send(&command("/orders/1", json!({}), "k")).await.unwrap();
    Peer::there(&url, None).unwrap().show(&question("/orders/1")).await.unwrap();
    let bearer = |token: &str| Some(format!("Bearer {token}"));
    assert_eq!(*seen.lock().unwrap(), [bearer("first"), bearer("second"), None]);
}

#[tokio::test]
async fn who_does_not_answer_in_time_is_not_waited_for() {
    let silent = Router::new().route("/orders/1", get(async || std::future::pending::<StatusCode>().await));
    let half = async || Body::from_stream(futures::stream::pending::<Result<Bytes, std::io::Error>>()).into_response();
    let half = Router::new().route("/orders/1", get(half));
    let late = PeerError::Late(Duration::from_millis(200));
    for peer in both(silent).await.into_iter().chain(both(half).await) {
        assert_eq!(ask_briefly(&peer, "/orders/1").await, Err(late.clone()));
    }
}

#[tokio::test]
async fn more_than_fits_is_not_read() {
    let endless = || async {
        let chunk = || Ok::<_, std::io::Error>(Bytes::from_static(&[b' '; 64 * 1024]));
        Body::from_stream(futures::stream::repeat_with(chunk)).into_response()
    };
    for peer in both(Router::new().route("/orders/1", get(endless).post(endless))).await {
        assert_eq!(peer.show(&question("/orders/1")).await, Err(PeerError::TooLarge));
        assert_eq!(peer.send(&command("/orders/1", json!({}), "k")).await, Err(PeerError::TooLarge));
    }
}

/// A server whose every answer breaks off after `bytes`.
async fn breaks_off_after(bytes: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 4_096]).await;
            let _ = stream.write_all(bytes).await;
        }
    });
    url
}

#[tokio::test]
async fn a_connection_that_breaks_is_no_answer() {
    let nobody = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    };
    let before = breaks_off_after(b"").await;
    let within = breaks_off_after(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"status\":").await;
    for url in [nobody, before, within] {
        let peer = Peer::there(&url, None).unwrap();
        let error = peer.send(&command("/orders/1/confirm", json!({}), "k")).await.unwrap_err();
        assert!(matches!(error, PeerError::Unreachable(_)), "{error:?}");
        assert!(!error.to_string().contains("/orders/1"), "an address is somebody's order: {error}");
    }
}

#[tokio::test]
async fn nobody_is_sent_elsewhere() {
    let reached = Arc::new(AtomicUsize::new(0));
    let count = {
        let reached = Arc::clone(&reached);
        move || {
            reached.fetch_add(1, Ordering::SeqCst);
            async { axum::Json(json!({})) }
        }
    };
    let elsewhere = serve(Router::new().fallback(any(count))).await;
    let redirect = move || {
        let to = format!("{elsewhere}/taken");
        async move { (StatusCode::TEMPORARY_REDIRECT, [(LOCATION, to)]).into_response() as Response }
    };
    for peer in both(Router::new().route("/orders/1", post(redirect))).await {
        let error = peer.send(&command("/orders/1", json!({}), "k")).await;
        assert_eq!(error, Err(PeerError::Status(307)));
    }
    assert_eq!(reached.load(Ordering::SeqCst), 0);
    let error = Peer::there("http://users", None).unwrap().show(&question("@elsewhere/users/1")).await;
    assert_eq!(error, Err(PeerError::NotSendable { what: "the path" }));
}

#[tokio::test]
async fn a_success_is_json_and_a_failure_need_not_be() {
    let text = |status: StatusCode| async move || (status, "<html>");
    let router =
        Router::new().route("/good", post(text(StatusCode::OK))).route("/bad", post(text(StatusCode::BAD_GATEWAY)));
    for peer in both(router).await {
        assert_eq!(peer.send(&command("/good", json!({}), "k")).await, Err(PeerError::NotJson));
        let bad = peer.send(&command("/bad", json!({}), "k")).await;
        assert_eq!(bad, Ok(PeerAnswer { status: 502, body: Value::Null }));
    }
}
