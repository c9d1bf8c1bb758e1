//! GraphQL over WebSocket: each test is a sentence of the protocol `graphql-transport-ws`, or of what we promise beyond it.

#[path = "support/stage.rs"]
mod stage;

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use axum::http::{HeaderMap, HeaderValue, StatusCode};
use events::principal::Principal;
use futures::{SinkExt, StreamExt};
use graphql::{
    GraphqlOptions, LiveOptions,
    options::{Admitted, Allowance, Authenticate, Authentication, NotAdmitted},
};
use projections::{engine::store::StoreOptions, kit::Kind};
use read_side::ReadSide;
use serde_json::{Value, json};
use stage::{Stage, customer};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{Error, Message, client::IntoClientRequest, protocol::CloseFrame},
};

/// How long anything may take.
const WAIT: Duration = Duration::from_secs(20);

/// Serves a router for as long as the test runs.
async fn serve(router: axum::Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("ws://{address}/graphql")
}

/// Over a query database that nobody has made: enough for the protocol itself.
async fn served(live: LiveOptions) -> String {
    let options = GraphqlOptions { live, ..GraphqlOptions::default() };
    serve(graphql::router(ReadSide::connect_sqlite("no-such-directory"), options)).await
}

struct Client(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Client {
    async fn try_open(url: &str, headers: &[(&'static str, &str)]) -> Result<Self, Error> {
        let mut request = url.into_client_request().unwrap();
        for (name, value) in headers {
            request.headers_mut().insert(*name, HeaderValue::from_str(value).unwrap());
        }
        Ok(Self(connect_async(request).await?.0))
    }

    async fn open(url: &str) -> Self {
        Self::try_open(url, &[("sec-websocket-protocol", "graphql-transport-ws")]).await.unwrap()
    }

    /// Open and acknowledged.
    async fn begin(url: &str) -> Self {
        let mut client = Self::open(url).await;
        client.say(json!({ "type": "connection_init" })).await;
        assert_eq!(client.hear().await, json!({ "type": "connection_ack" }));
        client
    }

    async fn say(&mut self, message: Value) {
        self.say_text(&message.to_string()).await;
    }

    async fn say_text(&mut self, text: &str) {
        self.0.send(Message::text(text)).await.unwrap();
    }

    async fn subscribe(&mut self, id: &str, query: &str) {
        self.say(json!({ "type": "subscribe", "id": id, "payload": { "query": query } })).await;
    }

    async fn message(&mut self) -> Option<Message> {
        tokio::time::timeout(WAIT, self.0.next()).await.expect("in time").map(|message| message.expect("a message"))
    }

    async fn hear(&mut self) -> Value {
        loop {
            match self.message().await {
                Some(Message::Text(text)) => return serde_json::from_str(&text).unwrap(),
                Some(Message::Ping(_) | Message::Pong(_)) => {}
                other => panic!("heard {other:?}"),
            }
        }
    }

    /// The code and the reason that the server closes with.
    async fn closed(&mut self) -> (u16, String) {
        loop {
            match self.message().await {
                Some(Message::Close(Some(frame))) => return (frame.code.into(), frame.reason.to_string()),
                Some(Message::Ping(_) | Message::Pong(_)) => {}
                other => panic!("heard {other:?}"),
            }
        }
    }
}

#[tokio::test]
async fn the_subprotocol_is_graphql_transport_ws_and_no_other() {
    let url = served(LiveOptions::default()).await;
    for offered in ["graphql-transport-ws", "graphql-ws, graphql-transport-ws"] {
        let mut request = url.as_str().into_client_request().unwrap();
        request.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_str(offered).unwrap());
        let (_, response) = connect_async(request).await.unwrap();
        assert_eq!(response.headers()["sec-websocket-protocol"], "graphql-transport-ws");
    }
    let mut client = Client::try_open(&url, &[]).await.unwrap();
    assert_eq!(client.closed().await.0, 4406);
    // a client that only offers others must not take what it did not offer
    let refused = Client::try_open(&url, &[("sec-websocket-protocol", "graphql-ws")]).await;
    assert!(refused.is_err());
}

#[tokio::test]
async fn a_query_over_a_socket_has_one_answer_and_is_complete() {
    let url = served(LiveOptions::default()).await;
    let mut client = Client::begin(&url).await;
    client.subscribe("1", "{ __typename }").await;
    let answer = json!({ "id": "1", "type": "next", "payload": { "data": { "__typename": "Query" } } });
    assert_eq!(client.hear().await, answer);
    assert_eq!(client.hear().await, json!({ "id": "1", "type": "complete" }));
    // an id that is complete may be used again
    client.subscribe("1", "{ __typename }").await;
    assert_eq!(client.hear().await, answer);
}

#[tokio::test]
async fn a_document_that_cannot_run_is_an_error_that_ends_the_operation_and_not_the_socket() {
    let url = served(LiveOptions::default()).await;
    let mut client = Client::begin(&url).await;
    for (query, code) in [
        ("{", "syntax_error"),
        ("{ nothing }", "validation_failed"),
        ("subscription { nothing }", "validation_failed"),
        ("subscription { ordersChanged { kind } projectionProgress(name: \"x\") { rows } }", "validation_failed"),
        ("subscription { orderChanged(id: \"x\") { kind } }", "validation_failed"),
        ("subscription { ordersChanged { kind } }", "rebuilding"),
    ] {
        client.subscribe("1", query).await;
        let heard = client.hear().await;
        assert_eq!((&heard["type"], &heard["id"]), (&json!("error"), &json!("1")), "{query}: {heard}");
        assert_eq!(heard["payload"][0]["extensions"]["code"], code, "{query}: {heard}");
    }
    client.subscribe("1", "{ __typename }").await;
    assert_eq!(client.hear().await["type"], "next");
}

#[tokio::test]
async fn a_ping_is_answered_with_a_pong_that_says_the_same() {
    let url = served(LiveOptions::default()).await;
    // before the acknowledgement too
    let mut client = Client::open(&url).await;
    client.say(json!({ "type": "ping" })).await;
    assert_eq!(client.hear().await, json!({ "type": "pong" }));
    client.say(json!({ "type": "ping", "payload": { "at": 7 } })).await;
    assert_eq!(client.hear().await, json!({ "type": "pong", "payload": { "at": 7 } }));
    client.say(json!({ "type": "pong" })).await;
    client.say(json!({ "type": "complete", "id": "unknown" })).await;
    client.say(json!({ "type": "connection_init", "payload": null })).await;
    assert_eq!(client.hear().await, json!({ "type": "connection_ack" }));
}

#[tokio::test]
async fn what_is_no_message_closes_with_4400() {
    let url = served(LiveOptions::default()).await;
    for wrong in [
        "nonsense",
        "[]",
        r#"{"type":"start"}"#,
        r#"{"type":"subscribe","id":"1"}"#,
        r#"{"type":"subscribe","id":"","payload":{"query":"{a}"}}"#,
        r#"{"type":"subscribe","id":"1","payload":{"query":"{a}","variables":7}}"#,
    ] {
        let mut client = Client::begin(&url).await;
        client.say_text(wrong).await;
        let (code, reason) = client.closed().await;
        assert_eq!(code, 4400, "{wrong}: {reason}");
        assert!(!reason.is_empty(), "{wrong}");
    }
    let mut client = Client::open(&url).await;
    client.0.send(Message::binary(b"{}".to_vec())).await.unwrap();
    assert_eq!(client.closed().await.0, 4400);
}

#[tokio::test]
async fn a_client_that_closes_is_answered() {
    let mut client = Client::begin(&served(LiveOptions::default()).await).await;
    client.0.send(Message::Close(Some(CloseFrame { code: 1000.into(), reason: "".into() }))).await.unwrap();
    assert_eq!(client.closed().await.0, 1000);
}

#[tokio::test]
async fn an_operation_before_the_acknowledgement_closes_with_4401() {
    let mut client = Client::open(&served(LiveOptions::default()).await).await;
    client.subscribe("1", "{ __typename }").await;
    assert_eq!(client.closed().await, (4401, "Unauthorized".to_owned()));
}

#[tokio::test]
async fn no_initialisation_in_time_closes_with_4408() {
    let mut live = LiveOptions::default();
    live.limits.init_max = Duration::from_millis(50);
    let mut client = Client::open(&served(live).await).await;
    assert_eq!(client.closed().await, (4408, "Connection initialisation timeout".to_owned()));
}

#[tokio::test]
async fn an_operation_under_an_id_that_is_running_closes_with_4409() {
    let stage = Stage::new(Kind::Sqlite).await;
    let mut client = Client::begin(&serve(stage.router()).await).await;
    client.subscribe("one", "subscription { ordersChanged { kind } }").await;
    client.hear().await;
    client.subscribe("one", "{ __typename }").await;
    assert_eq!(client.closed().await, (4409, "Subscriber for one already exists".to_owned()));
}

#[tokio::test]
async fn a_second_initialisation_closes_with_4429() {
    let mut client = Client::begin(&served(LiveOptions::default()).await).await;
    client.say(json!({ "type": "connection_init" })).await;
    assert_eq!(client.closed().await, (4429, "Too many initialisation requests".to_owned()));
}

#[tokio::test]
async fn a_message_beyond_the_bound_closes_with_1009() {
    let mut client = Client::begin(&served(LiveOptions::default()).await).await;
    let long = json!({ "type": "ping", "payload": { "text": "x".repeat(300 * 1024) } });
    // the server may have closed before all of it is sent
    let _ = client.0.send(Message::text(long.to_string())).await;
    assert_eq!(client.closed().await.0, 1009);
}

#[tokio::test]
async fn a_completed_subscription_is_told_nothing_more_and_its_id_may_be_used_again() {
    let mut stage = Stage::new(Kind::Sqlite).await;
    let mut client = Client::begin(&serve(stage.router()).await).await;
    client.subscribe("1", "subscription { ordersChanged { kind orderId } }").await;
    assert_eq!(client.hear().await["payload"]["data"]["ordersChanged"]["kind"], "STARTED");
    stage.placed(1, 1);
    stage.fold().await;
    assert_eq!(client.hear().await["payload"]["data"]["ordersChanged"]["kind"], "CHANGED");
    client.say(json!({ "type": "complete", "id": "1" })).await;
    client.subscribe("2", "{ __typename }").await;
    assert_eq!(client.hear().await["id"], "2");
    assert_eq!(client.hear().await, json!({ "id": "2", "type": "complete" }));
    stage.placed(2, 1);
    stage.fold().await;
    client.subscribe("1", "{ __typename }").await;
    let heard = client.hear().await;
    assert_eq!((&heard["id"], &heard["payload"]["data"]["__typename"]), (&json!("1"), &json!("Query")));
}

#[tokio::test]
async fn the_bounds_on_operations_and_subscriptions_are_errors_that_name_them() {
    for (operations, subscriptions, code, named) in
        [(8, 2, "overloaded", "subscriptions"), (2, 8, "limit_exceeded", "operations_per_socket")]
    {
        let mut live = LiveOptions::default();
        (live.limits.operations_per_socket_max, live.limits.subscriptions_max) = (operations, subscriptions);
        let stage = Stage::with(Kind::Sqlite, live, StoreOptions::default()).await;
        let mut client = Client::begin(&serve(stage.router()).await).await;
        let mut subscribe = async |id: &str| {
            client.subscribe(id, "subscription { ordersChanged { kind } }").await;
            client.hear().await
        };
        for id in ["1", "2"] {
            assert_eq!(subscribe(id).await["type"], "next", "{named}");
        }
        let extensions = &subscribe("3").await["payload"][0]["extensions"];
        assert_eq!((&extensions["code"], &extensions["limit"]), (&json!(code), &json!(named)));
        // and whoever ends one may begin another
        client.say(json!({ "type": "complete", "id": "1" })).await;
        client.subscribe("4", "subscription { ordersChanged { kind } }").await;
        assert_eq!(client.hear().await["type"], "next", "{named}");
    }
}

#[tokio::test]
async fn so_many_sockets_are_open_and_no_more() {
    let mut live = LiveOptions::default();
    live.limits.sockets_max = 1;
    let url = served(live).await;
    let client = Client::begin(&url).await;
    let offered = [("sec-websocket-protocol", "graphql-transport-ws")];
    match Client::try_open(&url, &offered).await {
        Err(Error::Http(response)) => assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE),
        other => panic!("{:?}", other.map(|_| "open")),
    }
    drop(client);
    let again = async {
        while Client::try_open(&url, &offered).await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(WAIT, again).await.expect("its room is free again");
}

#[tokio::test]
async fn pages_of_other_origins_are_refused_unless_they_are_allowed() {
    let live = LiveOptions { allowed_origins: vec!["https://shop.example.com".to_owned()], ..LiveOptions::default() };
    let url = served(live).await;
    let own = url.replace("ws://", "http://").replace("/graphql", "");
    for (origin, opens) in [(own.as_str(), true), ("https://shop.example.com", true), ("https://evil.example", false)] {
        let offered = [("sec-websocket-protocol", "graphql-transport-ws"), ("origin", origin)];
        match Client::try_open(&url, &offered).await {
            Ok(_) => assert!(opens, "{origin}"),
            Err(Error::Http(response)) => {
                assert!(!opens, "{origin}");
                assert_eq!(response.status(), StatusCode::FORBIDDEN);
            }
            Err(error) => panic!("{origin}: {error}"),
        }
    }
}

#[tokio::test]
async fn a_socket_that_is_silent_is_cut_off_and_one_without_anything_to_do_is_let_go() {
    let mut live = LiveOptions::default();
    (live.limits.ping_every, live.limits.silence_max) = (Duration::from_millis(20), Duration::from_millis(100));
    let mut client = Client::begin(&served(live).await).await;
    // who reads nothing answers no ping
    tokio::time::sleep(Duration::from_millis(400)).await;
    let last = async {
        while let Some(Ok(message)) = client.0.next().await {
            assert!(!matches!(message, Message::Text(_)));
        }
    };
    tokio::time::timeout(WAIT, last).await.expect("it is cut off");

    let mut live = LiveOptions::default();
    (live.limits.ping_every, live.limits.idle_max) = (Duration::from_millis(20), Duration::from_millis(100));
    let stage = Stage::with(Kind::Sqlite, live, StoreOptions::default()).await;
    let url = serve(stage.router()).await;
    let (mut idle, mut busy) = (Client::begin(&url).await, Client::begin(&url).await);
    busy.subscribe("1", "subscription { ordersChanged { kind } }").await;
    busy.hear().await;
    assert_eq!(idle.closed().await.0, 1000);
    let quiet = tokio::time::timeout(Duration::from_millis(300), busy.hear()).await;
    assert!(quiet.is_err(), "it has something to do: {quiet:?}");
}

#[tokio::test]
async fn when_everything_ends_sockets_are_closed_with_1001_and_nothing_is_completed() {
    let live = LiveOptions::default();
    let closing = live.closing.clone();
    let stage = Stage::with(Kind::Sqlite, live, StoreOptions::default()).await;
    let url = serve(stage.router()).await;
    let (mut idle, mut busy) = (Client::begin(&url).await, Client::begin(&url).await);
    busy.subscribe("1", "subscription { ordersChanged { kind } }").await;
    busy.hear().await;
    closing.close();
    assert_eq!((idle.closed().await.0, busy.closed().await.0), (1001, 1001));
    drop((idle, busy));
    tokio::time::timeout(Duration::from_secs(5), closing.ended()).await.expect("all of it ends");
}

#[tokio::test]
async fn a_client_that_does_not_read_keeps_nobody_from_ending() {
    let live = LiveOptions::default();
    let closing = live.closing.clone();
    let mut stage = Stage::with(Kind::Sqlite, live, StoreOptions::default()).await;
    let mut client = Client::begin(&serve(stage.router()).await).await;
    // answers that fill every buffer in between
    let fields: Vec<_> = (0..40).map(|n| format!("c{n}: node {{ cancelReason }}")).collect();
    client.subscribe("1", &format!("subscription {{ ordersChanged {{ kind {} }} }}", fields.join(" "))).await;
    stage.placed(1, 1);
    for _ in 0..200 {
        stage.cancelled(1, 1, &"x".repeat(2_000));
        stage.fold().await;
    }
    closing.close();
    tokio::time::timeout(Duration::from_secs(9), closing.ended()).await.expect("within the deadline of the platform");
}

/// Knows a few tokens by heart.
struct Desk;

impl Authenticate for Desk {
    fn admit<'a>(
        &'a self,
        headers: &'a HeaderMap,
    ) -> Pin<Box<dyn Future<Output = Result<Admitted, NotAdmitted>> + Send + 'a>> {
        Box::pin(async move {
            let admitted = |name, customer, scope: &str, lasts_ms| Admitted {
                principal: Principal::try_new(name, customer, [scope.to_owned()]).unwrap(),
                until: Some(SystemTime::now() + Duration::from_millis(lasts_ms)),
            };
            match headers["authorization"].to_str().unwrap() {
                "Bearer staff" => Ok(admitted("desk", None, "query", 60_000)),
                "Bearer ana" => Ok(admitted("ana", Some(customer(1)), "query", 60_000)),
                "Bearer short" => Ok(admitted("short", None, "query", 300)),
                "Bearer other" => Ok(admitted("other", None, "feed", 60_000)),
                _ => Err(NotAdmitted { code: "invalid_token".to_owned(), detail: "this is no token".to_owned() }),
            }
        })
    }
}

fn guarded() -> LiveOptions {
    LiveOptions { authenticate: Some(Authentication(Arc::new(Desk))), ..LiveOptions::default() }
}

/// What `connection_init` is answered with: the acknowledgement, or a close.
async fn init(url: &str, payload: Value) -> Result<Client, (u16, String)> {
    let mut client = Client::open(url).await;
    client.say(json!({ "type": "connection_init", "payload": payload })).await;
    match client.message().await {
        Some(Message::Text(_)) => Ok(client),
        Some(Message::Close(Some(frame))) => Err((frame.code.into(), frame.reason.to_string())),
        other => panic!("heard {other:?}"),
    }
}

#[tokio::test]
async fn the_token_comes_with_the_first_message_and_whoever_has_none_that_counts_is_closed_with_4403() {
    let url = served(guarded()).await;
    for payload in [
        json!({ "authorization": "Bearer staff" }),
        json!({ "Authorization": "Bearer staff", "other": 7 }),
        json!({ "headers": { "Authorization": "Bearer ana" } }),
    ] {
        assert!(init(&url, payload.clone()).await.is_ok(), "{payload}");
    }
    for (payload, said) in [
        (json!({}), "unauthenticated"),
        (json!({ "authorization": "Bearer nonsense" }), "invalid_token"),
        (json!({ "authorization": "Bearer other" }), "unauthenticated"),
    ] {
        let (code, reason) = init(&url, payload.clone()).await.err().unwrap();
        assert_eq!(code, 4403, "{payload}");
        assert!(reason.contains(said), "{payload}: {reason}");
    }
    let (code, _) = init(&url, json!({ "authorization": 7 })).await.err().unwrap();
    assert_eq!(code, 4400);
}

#[tokio::test]
async fn one_principal_has_so_many_sockets_and_others_have_theirs() {
    let mut live = guarded();
    live.limits.sockets_per_asker_max = 1;
    let url = served(live).await;
    let ana = init(&url, json!({ "authorization": "Bearer ana" })).await.ok().unwrap();
    let (code, reason) = init(&url, json!({ "authorization": "Bearer ana" })).await.err().unwrap();
    assert_eq!(code, 4403);
    assert!(reason.contains("too_many_requests") && reason.contains("sockets_per_asker is 1"), "{reason}");
    init(&url, json!({ "authorization": "Bearer staff" })).await.expect("somebody else's");
    drop(ana);
    let again = async {
        while init(&url, json!({ "authorization": "Bearer ana" })).await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(WAIT, again).await.expect("her place is free again");
}

#[tokio::test]
async fn each_operation_counts_as_a_request_and_one_too_many_is_an_error_of_its_own() {
    let asked = Arc::new(AtomicUsize::new(0));
    let allowance = Allowance(Arc::new(move |_| match asked.fetch_add(1, Ordering::Relaxed) {
        2 => Err(NotAdmitted { code: "rate_limited".to_owned(), detail: "slow down".to_owned() }),
        _ => Ok(()),
    }));
    let mut client =
        Client::begin(&served(LiveOptions { allowance: Some(allowance), ..LiveOptions::default() }).await).await;
    for (id, kind) in [("1", "next"), ("2", "next"), ("3", "error"), ("4", "next")] {
        client.subscribe(id, "{ __typename }").await;
        let heard = client.hear().await;
        assert_eq!((&heard["id"], &heard["type"]), (&json!(id), &json!(kind)));
        match kind {
            "next" => assert_eq!(client.hear().await, json!({ "id": id, "type": "complete" })),
            _ => {
                let extensions = json!({ "code": "rate_limited", "retryable": true });
                assert_eq!(heard["payload"], json!([{ "message": "slow down", "extensions": extensions }]));
            }
        }
    }
}

#[tokio::test]
async fn a_token_with_an_operation_is_refused_and_not_passed_over() {
    let mut client = init(&served(guarded()).await, json!({ "authorization": "Bearer staff" })).await.expect("let in");
    let payload = json!({ "query": "{ __typename }", "extensions": { "headers": { "Authorization": "Bearer ana" } } });
    client.say(json!({ "type": "subscribe", "id": "1", "payload": payload })).await;
    let heard = client.hear().await;
    assert_eq!((&heard["type"], &heard["payload"][0]["extensions"]["code"]), (&json!("error"), &json!("bad_request")));
}

#[tokio::test]
async fn a_token_that_ends_ends_the_socket_with_4403() {
    let stage = Stage::with(Kind::Sqlite, guarded(), StoreOptions::default()).await;
    let url = serve(stage.router()).await;
    let mut client = init(&url, json!({ "authorization": "Bearer short" })).await.ok().unwrap();
    client.subscribe("1", "subscription { ordersChanged { kind } }").await;
    client.hear().await;
    let (code, reason) = client.closed().await;
    assert_eq!((code, reason.contains("token ended")), (4403, true), "{reason}");
}

#[tokio::test]
async fn each_socket_sees_what_its_token_lets_it_see() {
    let mut stage = Stage::with(Kind::Sqlite, guarded(), StoreOptions::default()).await;
    let url = serve(stage.router()).await;
    let mut staff = init(&url, json!({ "authorization": "Bearer staff" })).await.ok().unwrap();
    let mut ana = init(&url, json!({ "authorization": "Bearer ana" })).await.ok().unwrap();
    for client in [&mut staff, &mut ana] {
        client.subscribe("1", "subscription { ordersChanged { kind node { orderId } } }").await;
        client.hear().await;
    }
    stage.placed(1, 2);
    stage.fold().await;
    stage.placed(2, 1);
    stage.fold().await;
    let told = |heard: Value| heard["payload"]["data"]["ordersChanged"]["node"]["orderId"].clone();
    assert_eq!(told(staff.hear().await), stage::order(1).to_string());
    assert_eq!(told(staff.hear().await), stage::order(2).to_string());
    assert_eq!(told(ana.hear().await), stage::order(2).to_string());
}

#[tokio::test]
async fn an_operation_may_bring_a_consistency_token_of_its_own() {
    let mut stage = Stage::new(Kind::Sqlite).await;
    let mut client = Client::begin(&serve(stage.router()).await).await;
    stage.placed(1, 1);
    let subscribe = |wait: &str| {
        let extensions = json!({ "consistency-token": stage.token().to_string(), "consistency-wait": wait });
        let query = format!("{{ order(id: \"{}\") {{ status }} }}", stage::order(1));
        json!({ "type": "subscribe", "id": wait, "payload": { "query": query, "extensions": extensions } })
    };
    let (short, long) = (subscribe("20ms"), subscribe("20s"));
    client.say(short).await;
    let heard = client.hear().await;
    assert_eq!(heard["payload"]["errors"][0]["extensions"]["code"], "consistency_timeout", "{heard}");
    client.hear().await;
    client.say(long).await;
    stage.fold().await;
    assert_eq!(client.hear().await["payload"]["data"]["order"]["status"], "PENDING");
}
