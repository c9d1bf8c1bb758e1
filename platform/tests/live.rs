//! Subscriptions to the running platform: over a socket with a token, as an event stream, and at its end.

mod common;

use std::time::{Duration, Instant};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use common::{Home, Platform};
use futures::{SinkExt, StreamExt};
use hmac::{Hmac, Mac};
use serde_json::{Value, json};
use sha2::Sha256;
use testkit::postgres;
use tokio::net::TcpStream;
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{Message, client::IntoClientRequest},
};

const SECRET: &str = "a secret of a test that is long enough for HS256";
const ANA: &str = "11111111-1111-4111-8111-111111111111";
const CHAI: &str = "33333333-3333-4333-8333-333333333333";
const ORDER: &str = "44444444-4444-4444-8444-444444444444";

/// How long anything may take.
const WAIT: Duration = Duration::from_secs(30);

fn token(subject: &str, scope: &str, seconds: i64) -> String {
    let part = |value: Value| BASE64.encode(value.to_string());
    let exp = chrono::Utc::now().timestamp() + seconds;
    let claims = json!({ "iss": "test", "aud": "tributary", "sub": subject, "scope": scope, "exp": exp });
    let message = format!("{}.{}", part(json!({ "alg": "HS256" })), part(claims));
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).expect("any length will do");
    mac.update(message.as_bytes());
    format!("{message}.{}", BASE64.encode(mac.finalize().into_bytes()))
}

async fn with_authentication(home: &Home) -> Platform {
    let secret = home.dir().join("secret");
    std::fs::write(&secret, SECRET).expect("a file");
    let key_file = format!("--auth-key-file={}", secret.display());
    let auth = ["--auth-issuer=test", "--auth-audience=tributary", "--auth-algorithm=HS256", &key_file];
    Platform::up_with(home, &auth, &[]).await.expect("the platform comes up")
}

struct Socket(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Socket {
    /// Open, with its first message said.
    async fn open(platform: &Platform, payload: Value) -> Self {
        let url = format!("{}/graphql", platform.url.replacen("http", "ws", 1));
        let mut request = url.into_client_request().expect("an address");
        request.headers_mut().insert("sec-websocket-protocol", "graphql-transport-ws".parse().expect("a header"));
        let mut socket = Self(connect_async(request).await.expect("a socket").0);
        socket.say(json!({ "type": "connection_init", "payload": payload })).await;
        socket
    }

    async fn say(&mut self, message: Value) {
        self.0.send(Message::text(message.to_string())).await.expect("a message can be sent");
    }

    /// A message, or code and reason of the close.
    async fn hear(&mut self) -> Result<Value, (u16, String)> {
        loop {
            match tokio::time::timeout(WAIT, self.0.next()).await.expect("in time").expect("it goes on").expect("whole")
            {
                Message::Text(text) => return Ok(serde_json::from_str(&text).expect("JSON")),
                Message::Close(Some(frame)) => return Err((frame.code.into(), frame.reason.to_string())),
                _ => {}
            }
        }
    }

    async fn subscribe(&mut self, document: &str) {
        self.say(json!({ "type": "subscribe", "id": "1", "payload": { "query": document } })).await;
    }
}

const ORDERS: &str = "subscription { ordersChanged { kind cursor node { orderId status } } }";

#[tokio::test]
async fn a_socket_is_opened_without_a_token_and_says_it_with_its_first_message() {
    let home = Home::sqlite();
    let platform = with_authentication(&home).await;
    let staff = token("desk", "query", 3_600);
    for (payload, code) in [
        (json!({}), "unauthenticated"),
        (json!({ "authorization": "Bearer x" }), "invalid_token"),
        (json!({ "authorization": format!("Bearer {}", token("desk", "query", -3_600)) }), "invalid_token"),
        (json!({ "authorization": format!("Bearer {}", token("feeder", "feed", 3_600)) }), "scope_missing"),
    ] {
        let (close, reason) = Socket::open(&platform, payload.clone()).await.hear().await.expect_err("it is closed");
        assert_eq!(close, 4403, "{payload}");
        assert!(reason.starts_with(code), "{payload}: {reason}");
    }
    let mut socket = Socket::open(&platform, json!({ "authorization": format!("Bearer {staff}") })).await;
    assert_eq!(socket.hear().await, Ok(json!({ "type": "connection_ack" })));
    socket.subscribe(ORDERS).await;
    assert_eq!(socket.hear().await.expect("a message")["payload"]["data"]["ordersChanged"]["kind"], "STARTED");
    // an event stream shows its token as every request does
    let events = |token: Option<&str>| {
        let request = platform.http.get(format!("{}/graphql", platform.url)).query(&[("query", ORDERS)]);
        let request = request.header("accept", "text/event-stream");
        token.into_iter().fold(request, |request, token| request.bearer_auth(token)).send()
    };
    assert_eq!(events(None).await.expect("an answer").status().as_u16(), 401);
    let mut stream = events(Some(&staff)).await.expect("an answer");
    assert_eq!(stream.status().as_u16(), 200);
    let mut heard = String::new();
    while !heard.contains("STARTED") {
        let chunk = tokio::time::timeout(WAIT, stream.chunk()).await.expect("in time").expect("whole");
        heard.push_str(std::str::from_utf8(&chunk.expect("it goes on")).expect("text"));
    }
}

/// Only what opens a socket may do without a token, and a request that says so and does not gets nothing either.
#[tokio::test]
async fn nothing_but_a_socket_gets_in_without_a_token() {
    let home = Home::sqlite();
    let platform = with_authentication(&home).await;
    let url = format!("{}/graphql", platform.url);
    let upgrade = [("upgrade", "websocket"), ("connection", "upgrade")];
    for accept in ["application/json", "text/event-stream"] {
        for query in ["{ projections { name } }", "{ orders { nodes { id } } }", "{ __typename }", ORDERS] {
            let post = platform.http.post(&url).json(&json!({ "query": query }));
            let get = platform.http.get(&url).query(&[("query", query)]);
            for request in [post, get] {
                let request = upgrade.iter().fold(request, |request, (name, value)| request.header(*name, *value));
                let answer = request.header("accept", accept).send().await.expect("an answer");
                let (status, body) = (answer.status(), answer.text().await.expect("a body"));
                assert!(status.is_client_error() && !body.contains("\"data\""), "{accept}, {query}: {status} {body}");
            }
        }
    }
}

#[tokio::test]
async fn a_socket_ends_when_its_token_does() {
    let home = Home::sqlite();
    let platform = with_authentication(&home).await;
    // with the leeway, a second is left
    let short = token("desk", "query", -29);
    let mut socket = Socket::open(&platform, json!({ "authorization": format!("Bearer {short}") })).await;
    assert_eq!(socket.hear().await, Ok(json!({ "type": "connection_ack" })));
    socket.subscribe("subscription { projectionProgress(name: \"order_details\") { rows } }").await;
    let (code, reason) = loop {
        if let Err(closed) = socket.hear().await {
            break closed;
        }
    };
    assert_eq!((code, reason.contains("token ended")), (4403, true), "{reason}");
}

async fn told_and_ended(home: &Home) {
    let platform = Platform::up(home).await;
    let price = json!({ "amount_minor": 100, "currency": "EUR" });
    let user = json!({ "id": ANA, "name": "Ana", "email": "ana@example.com" });
    let user = platform.command("/users", "u", "", user).await.token;
    let product = json!({ "id": CHAI, "sku": "CHAI", "name": "Chai", "unit_price": price });
    let product = platform.command("/products", "p", "", product).await.token;

    let mut socket = Socket::open(&platform, Value::Null).await;
    assert_eq!(socket.hear().await, Ok(json!({ "type": "connection_ack" })));
    socket.subscribe(ORDERS).await;
    assert_eq!(socket.hear().await.expect("a message")["payload"]["data"]["ordersChanged"]["kind"], "STARTED");
    let order = json!({ "id": ORDER, "customer_id": ANA, "lines": [{ "product_id": CHAI, "quantity": 1 }] });
    platform.command("/orders", "o", &format!("{user},{product}"), order).await;
    // there are no pieces, so the checkout calls it off
    loop {
        let told = socket.hear().await.expect("a message")["payload"]["data"]["ordersChanged"].clone();
        assert_eq!(told["node"]["orderId"], ORDER, "{told}");
        if told["node"]["status"] == "CANCELLED" {
            break;
        }
    }
    let begun = Instant::now();
    let ending = tokio::spawn(platform.terminate());
    let closed = loop {
        if let Err(closed) = socket.hear().await {
            break closed;
        }
    };
    assert_eq!(closed.0, 1001, "{}", closed.1);
    assert_eq!(ending.await.expect("no panic"), Some(0));
    assert!(begun.elapsed() < Duration::from_secs(10), "it took {:?}", begun.elapsed());
}

#[tokio::test]
async fn subscribers_are_told_and_sent_away_at_the_end_on_sqlite() {
    told_and_ended(&Home::sqlite()).await;
}

#[tokio::test]
async fn subscribers_are_told_and_sent_away_at_the_end_on_postgresql() {
    told_and_ended(&Home::postgres(postgres::shared().await).await).await;
}
