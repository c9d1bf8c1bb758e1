//! What stands before every request of the running platform: tokens, limits, slow heads, and the end.

mod common;

use std::time::{Duration, Instant};

use common::{
    Home, Platform,
    auth::{token, with_authentication},
};
use reqwest::{RequestBuilder, header::HeaderMap};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use write_side::peer::{Peer, PeerCommand, PeerError, PeerQuestion};

const ANA: &str = "11111111-1111-4111-8111-111111111111";
const EVA: &str = "22222222-2222-4222-8222-222222222222";
const CHAI: &str = "33333333-3333-4333-8333-333333333333";
const ORDER: &str = "44444444-4444-4444-8444-444444444444";

/// Status, code if it is a problem, and headers.
async fn problem(request: RequestBuilder) -> (u16, String, HeaderMap) {
    let answer = request.send().await.expect("an answer");
    let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
    let body: Value = answer.json().await.unwrap_or_default();
    (status, body["code"].as_str().unwrap_or_default().to_owned(), headers)
}

#[tokio::test]
async fn with_authentication_everybody_shows_a_token_and_does_what_it_says() {
    let home = Home::sqlite();
    let platform = with_authentication(&home, &[]).await;
    let url = |path: &str| format!("{}{path}", platform.url);
    for public in ["/livez", "/readyz?verbose", "/startupz", "/docs", "/openapi.json", "/orders/openapi.json"] {
        let answer = platform.http.get(url(public)).send().await.expect("an answer");
        assert_ne!(answer.status().as_u16(), 401, "{public}");
    }
    for closed in
        ["/users/feed", "/admin/doctor", "/metrics", "/graphql?query={__typename}", &format!("/users/{ANA}"), "/x"]
    {
        let (status, code, answer) = problem(platform.http.get(url(closed))).await;
        assert_eq!((status, &*code, answer["www-authenticate"].as_bytes()), (401, "unauthenticated", &b"Bearer"[..]));
    }

    let staff = token("desk", "users:write users:read catalog:write orders:write orders:read query feed", None, 1);
    let ana = token("ana", "orders:write orders:read users:read query feed admin", Some(ANA), 1);
    let eva = token("eva", "orders:write orders:read users:read query feed admin", Some(EVA), 1);
    let post = |token: &str, path: &str, body: Value| platform.http.post(url(path)).bearer_auth(token).json(&body);
    let price = json!({ "amount_minor": 100, "currency": "EUR" });
    for (path, body) in [
        ("/users", json!({ "id": ANA, "name": "Ana", "email": "ana@example.com" })),
        ("/users", json!({ "id": EVA, "name": "Eva", "email": "eva@example.com" })),
        ("/products", json!({ "id": CHAI, "sku": "CHAI", "name": "Chai", "unit_price": price })),
    ] {
        assert_eq!(problem(post(&staff, path, body)).await.0, 201, "{path}");
    }
    let order = |customer: &str| json!({ "id": ORDER, "customer_id": customer, "lines": [{ "product_id": CHAI, "quantity": 1 }] });
    assert_eq!(problem(post(&eva, "/orders", order(ANA))).await.1, "not_yours");
    let (status, _, placed) = problem(post(&ana, "/orders", order(ANA))).await;
    assert_eq!(status, 201);
    let cancel = format!("/orders/{ORDER}/cancel");
    assert_eq!(problem(post(&eva, &cancel, json!({ "reason": "no" }))).await.1, "order_not_found");
    assert_eq!(problem(post(&ana, &cancel, json!({ "reason": "no" }))).await.0, 200);
    assert_eq!(problem(post(&ana, "/users", json!({}))).await.1, "scope_missing");

    let get = |token: &str, path: &str| platform.http.get(url(path)).bearer_auth(token);
    assert_eq!(problem(get(&staff, "/admin/doctor")).await.1, "scope_missing");
    for closed in ["/admin/doctor", "/orders/feed"] {
        assert_eq!(problem(get(&ana, closed)).await.1, "not_for_customers", "{closed}");
    }
    // read models are cut to what is a customer's own
    let query = format!("{{order(id:\"{ORDER}\"){{orderId}}projections{{name}}}}");
    for (asks, own) in [(&ana, json!({ "orderId": ORDER })), (&eva, Value::Null)] {
        let asked = get(asks, "/graphql").query(&[("query", &query)]).header("accept", "application/json");
        let asked = asked.header("consistency-token", &placed["consistency-token"]).header("consistency-wait", "20s");
        let shown: Value = asked.send().await.expect("an answer").json().await.expect("JSON");
        assert_eq!(shown["data"], json!({ "order": own, "projections": null }), "{shown}");
        assert_eq!(shown["errors"][0]["extensions"]["code"], "not_for_customers", "{shown}");
    }
    let composed = format!("/composed/orders/{ORDER}");
    assert_eq!(problem(get(&eva, &composed)).await.1, "order_not_found", "composed with the caller's own rights");
    let shown: Value = get(&ana, &composed).send().await.expect("an answer").json().await.expect("JSON");
    assert_eq!((&shown["order"]["customer_id"], &shown["customer"]["id"]), (&json!(ANA), &json!(ANA)), "{shown}");
    assert_eq!((&shown["missing"][0]["code"], &shown["stock"]), (&json!("scope_missing"), &json!([])), "{shown}");
    assert_eq!(problem(get(&staff, "/graphql?query={__typename}")).await.0, 200);
    assert_eq!(problem(get(&staff, "/orders/feed")).await.0, 200);

    let late = token("desk", "users:read", None, -1);
    let (status, code, answer) = problem(get(&late, &format!("/users/{ANA}"))).await;
    assert_eq!((status, &*code), (401, "invalid_token"));
    assert_eq!(answer["www-authenticate"], "Bearer error=\"invalid_token\"");
}

/// A service elsewhere, with the token that its file holds at the time.
#[tokio::test]
async fn a_service_in_another_process_is_let_in_with_the_scope_of_services_and_no_further() {
    let home = Home::sqlite();
    let platform = with_authentication(&home, &[]).await;
    let file = home.dir().join("token");
    std::fs::write(&file, token("checkout-1", "service", None, -1)).expect("a file");
    let peer = Peer::there(&platform.url, Some(file.clone())).expect("a URL");
    let command = |path: &str, body: Value| PeerCommand {
        path: path.to_owned(),
        body,
        key: "key-1".to_owned(),
        any_version: false,
        correlation_id: Some("order-17".to_owned()),
        causation_id: None,
        traceparent: None,
        principal: "checkout",
    };
    let add = command("/users", json!({ "id": ANA, "name": "Ana", "email": "ana@example.com" }));
    let late = peer.send(&add).await.expect("an answer");
    assert_eq!((late.status, &late.body["code"]), (401, &json!("invalid_token")));
    std::fs::write(&file, token("checkout-1", "service", None, 1)).expect("a file");
    assert_eq!(peer.send(&add).await.expect("an answer").status, 201);
    let question = |path: &str| {
        let (path, correlation_id, traceparent) = (path.to_owned(), None, None);
        PeerQuestion { path, correlation_id, traceparent, principal: "checkout" }
    };
    let ana = peer.show(&question(&format!("/users/{ANA}"))).await.expect("an answer").expect("a user");
    assert_eq!(ana["name"], "Ana");
    for closed in ["/admin/doctor", "/users/feed", "/graphql?query={__typename}"] {
        assert_eq!(peer.show(&question(closed)).await, Err(PeerError::Status(403)), "{closed}");
    }
    let import = peer.send(&command("/orders/import", json!({}))).await.expect("an answer");
    assert_eq!((import.status, &import.body["code"]), (403, &json!("scope_missing")));

    let auditor = token("auditor", "feed", None, 1);
    let feed = platform.http.get(format!("{}/users/feed", platform.url)).bearer_auth(auditor);
    let event: Value = feed.send().await.expect("an answer").json().await.expect("one event");
    assert_eq!((&event["actor"], &event["correlationid"]), (&json!("checkout-1"), &json!("order-17")));
}

#[tokio::test]
async fn who_asks_too_often_is_told_when_to_come_again() {
    let home = Home::sqlite();
    let platform = with_authentication(&home, &["--rate-limit-per-second=1", "--rate-limit-burst=3"]).await;
    let get = |token: &str| platform.http.get(format!("{}/users/{ANA}", platform.url)).bearer_auth(token);
    let (one, two) = (token("one", "users:read", None, 1), token("two", "users:read", None, 1));
    let mut limited = None;
    for _ in 0..20 {
        let (status, code, answer) = problem(get(&one)).await;
        assert!(answer.contains_key("ratelimit") && answer.contains_key("ratelimit-policy"));
        if status == 429 {
            assert_eq!(code, "rate_limited");
            assert!(answer["retry-after"].to_str().unwrap().parse::<u64>().unwrap() >= 1);
            limited = Some(());
            break;
        }
    }
    assert!(limited.is_some(), "20 requests at once are more than 3");
    assert_eq!(problem(get(&two)).await.0, 404, "everybody has a bucket of their own");
}

#[tokio::test]
async fn a_request_whose_head_does_not_end_is_cut_off() {
    let home = Home::sqlite();
    let platform = Platform::up(&home).await;
    let mut slow = TcpStream::connect(platform.url.trim_start_matches("http://")).await.expect("a connection");
    slow.write_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX-Slow: ").await.expect("a head's beginning");
    let started = Instant::now();
    let mut answer = Vec::new();
    // a byte now and then does not help
    let ended = tokio::time::timeout(Duration::from_secs(120), async {
        loop {
            if slow.write_all(b"x").await.is_err() {
                return;
            }
            match tokio::time::timeout(Duration::from_secs(1), slow.read_to_end(&mut answer)).await {
                Ok(_) => return,
                Err(_) => continue,
            }
        }
    });
    assert!(ended.await.is_ok(), "the connection was still open after {:?}", started.elapsed());
    assert!(!String::from_utf8_lossy(&answer).contains("200 OK"));
}

#[tokio::test]
async fn who_waits_for_a_token_is_answered_when_the_platform_ends() {
    let home = Home::sqlite();
    let platform = Platform::up(&home).await;
    let user = json!({ "id": ANA, "name": "Ana", "email": "ana@example.com" });
    let token = platform.command("/users", "u", "", user).await.token;
    // a point of this log that will not come
    let mut parts: Vec<&str> = token.split(':').collect();
    parts[2] = "1000000";
    let body = json!({ "customer_id": ANA, "lines": [{ "product_id": CHAI, "quantity": 1 }] });
    let order = platform.http.post(format!("{}/orders", platform.url)).json(&body);
    let order = order.header("consistency-token", parts.join(":")).header("consistency-wait", "30s");
    let waiting = tokio::spawn(problem(order));
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(!waiting.is_finished(), "it waits");
    let (answer, ended) = tokio::join!(waiting, platform.terminate());
    assert_eq!(ended, Some(0));
    let (status, code, _) = answer.expect("no panic");
    assert_eq!((status, &*code), (503, "shutting_down"));
}

/// Whoever does not read and whoever does not finish hold up the end by the time that requests have, and no longer.
#[tokio::test]
async fn clients_that_hang_do_not_keep_the_platform_from_ending_in_time() {
    let home = Home::sqlite();
    let platform = Platform::up(&home).await;
    let address = platform.url.trim_start_matches("http://").to_owned();
    let connected = async |said: &[u8]| {
        let mut client = TcpStream::connect(&address).await.expect("a connection");
        client.write_all(said).await.expect("it is listened to");
        client
    };
    let head =
        "POST /users HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{";
    let never_finishes = connected(head.as_bytes()).await;
    let waits_for_news = connected(b"GET /users/feed?wait=30 HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    // answers of some 100 kB each, more than fits between two sockets, and nothing of them is read
    let documents = "GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(1_000);
    let never_reads = connected(documents.as_bytes()).await;
    tokio::time::sleep(Duration::from_secs(1)).await;

    let asked = Instant::now();
    assert_eq!(platform.terminate().await, Some(0));
    let took = asked.elapsed();
    // 10 s for requests, and moments for the roles
    assert!((Duration::from_secs(9)..Duration::from_secs(15)).contains(&took), "it took {took:?}");
    drop((never_finishes, waits_for_news, never_reads));
}
