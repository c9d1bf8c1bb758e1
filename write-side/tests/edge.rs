//! What goes in and what comes out over HTTP, whatever somebody sends.

mod kit;

use axum::{body::Body, http::Request};
use kit::{ANA, CHAI, NOBODY, Shop, TEA, order, post};
use serde_json::{Value, json};

#[tokio::test]
async fn a_creation_is_answered_with_location_version_and_token() {
    let shop = Shop::open().await;
    let answer = shop.post("/users", json!({ "name": "Ana", "email": " Ana@Example.com " })).await.expect(201);
    let id = answer.body["id"].as_str().unwrap();
    assert_eq!(answer.header("location"), format!("/users/{id}"));
    assert_eq!(answer.header("etag"), "\"1\"");
    assert!(answer.token().starts_with("users:"), "{}", answer.token());
    assert_eq!(answer.body, json!({ "id": id, "version": 1, "changed": true }));
    assert!(!answer.header("idempotency-key").is_empty());

    let shown = shop.get(answer.header("location")).await.expect(200);
    assert_eq!(shown.body["email"], "ana@example.com");
    assert_eq!((shown.header("etag"), shown.token()), ("\"1\"", answer.token()));
}

#[tokio::test]
async fn every_command_of_the_wire_table_is_there() {
    let shop = Shop::open().await;
    let token = shop.stock_up().await;
    let user = |command: &str| format!("/users/{ANA}/{command}");
    let product = |command: &str| format!("/products/{CHAI}/{command}");
    let address = json!({ "street": "Obere Str. 57\nHinterhaus", "city": "Berlin", "country": "Germany" });
    shop.post(&user("rename"), json!({ "name": "Ana 🍵" })).await.expect(200);
    shop.post(&user("email"), json!({ "email": "ana@other.example" })).await.expect(200);
    shop.post(&user("address"), address.clone()).await.expect(200);
    assert_eq!(shop.get(&format!("/users/{ANA}")).await.body["address"], address);
    shop.post(&product("rename"), json!({ "name": "Masala chai" })).await.expect(200);
    let price = json!({ "unit_price": { "amount_minor": 2_000, "currency": "USD" } });
    let repriced = shop.post_with(&product("price"), price, &[("if-match", "*")]).await.expect(200);

    let token = format!("{token},{}", repriced.token());
    let placed = shop.post_with("/orders", order(&[(CHAI, 2), (TEA, 1)]), &[("consistency-token", &token)]).await;
    let placed = placed.expect(201);
    let shown = shop.get(placed.header("location")).await.expect(200).body;
    assert_eq!((&shown["status"], &shown["lines"][0]["product_name"]), (&json!("PENDING"), &json!("Masala chai")));
    assert_eq!(shown["lines"][0]["unit_price"]["amount_minor"], 2_000);
    let cancel = format!("{}/cancel", placed.header("location"));
    shop.post(&cancel, json!({ "reason": "changed my mind" })).await.expect(200);

    let line = json!({ "product_id": CHAI, "product_name": "Chai", "quantity": 3, "discount_bp": 500,
        "unit_price": { "amount_minor": 1_440, "currency": "USD" } });
    let import = json!({ "customer_id": ANA, "lines": [line], "status": "SHIPPED", "external_ref": "10248",
        "placed_at": "1996-07-04T00:00:00Z", "shipped_at": "1996-07-16T00:00:00Z" });
    let imported = shop.post("/orders/import", import).await.expect(201);
    let give_back = format!("{}/return", imported.header("location"));
    shop.post(&give_back, json!({ "lines": [{ "product_id": CHAI, "quantity": 1 }] })).await.expect(200);
    shop.post(&give_back, json!({})).await.expect(200);
    let shown = shop.get(imported.header("location")).await.expect(200).body;
    assert_eq!((&shown["status"], &shown["placed_at"]), (&json!("RETURNED"), &json!("1996-07-04T00:00:00Z")));
    assert_eq!(shown["returned"], json!([{ "product_id": CHAI, "quantity": 3 }]));

    shop.send(post(&product("discontinue"), "", &[])).await.expect(200);
    let erase = Request::post(user("erase")).body(Body::empty()).unwrap();
    shop.send(erase).await.expect(200);
    assert_eq!(shop.get(&format!("/users/{ANA}")).await.body, json!({ "id": ANA, "erased": true }));
    shop.close().await;
}

#[tokio::test]
async fn every_bad_field_is_named_and_nothing_is_stored() {
    let shop = Shop::open().await;
    let body = json!({ "id": 7, "name": "", "email": "nobody", "address": { "street": 1 }, "nickname": "A" });
    let answer = shop.post("/users", body).await.expect(422);
    assert_eq!(answer.code(), "validation_failed");
    let expected = ["/id", "/name", "/email", "/address/street", "/address/city", "/address/country", "/nickname"];
    assert_eq!(answer.pointers(), expected);
    assert_eq!(answer.header("content-type"), "application/problem+json");
    assert_eq!(answer.body["traceId"], answer.header("x-correlation-id"));
    assert_eq!(answer.body["status"], 422);
    assert_eq!(kit::count(&shop.users).await, 0);
}

#[tokio::test]
async fn no_input_is_answered_with_our_fault() {
    let shop = Shop::open().await;
    let token = shop.stock_up().await;
    let lines = |n: usize| -> Value {
        let line = |_| json!({ "product_id": kit::new_id(), "quantity": 1 });
        json!({ "customer_id": ANA, "lines": (0..n).map(line).collect::<Vec<_>>() })
    };
    let with = |quantity: Value| json!({ "customer_id": ANA, "lines": [{ "product_id": CHAI, "quantity": quantity }] });
    let price = |amount: Value, currency: &str| json!({ "sku": "X", "name": "X", "unit_price": { "amount_minor": amount, "currency": currency } });
    let named = |name: &str| json!({ "name": name, "email": "x@example.com" });
    let (rename, cancel) = (format!("/users/{NOBODY}/rename"), format!("/orders/{NOBODY}/cancel"));
    let cases: Vec<(&str, Value, u16, &str)> = vec![
        (
            "/orders",
            json!({ "customer_id": NOBODY, "lines": [{ "product_id": CHAI, "quantity": 1 }] }),
            422,
            "customer_unknown",
        ),
        ("/orders", order(&[(NOBODY, 1)]), 422, "product_unknown"),
        ("/orders", order(&[(CHAI, 1), (CHAI, 2)]), 422, "product_repeated"),
        ("/orders", order(&[]), 422, "validation_failed"),
        ("/orders", lines(2_001), 422, "validation_failed"),
        ("/orders", lines(2_000), 422, "product_unknown"),
        ("/orders", with(json!(0)), 422, "validation_failed"),
        ("/orders", with(json!(-1)), 422, "validation_failed"),
        ("/orders", with(json!(1.5)), 422, "validation_failed"),
        ("/orders", with(json!(u64::MAX)), 422, "validation_failed"),
        ("/orders", with(json!("2")), 422, "validation_failed"),
        ("/orders", with(json!(1_000_001)), 422, "validation_failed"),
        ("/orders", json!([]), 422, "validation_failed"),
        ("/orders", json!(null), 422, "validation_failed"),
        ("/orders", json!({ "id": "not-a-uuid", "customer_id": 1, "lines": "x" }), 422, "validation_failed"),
        ("/orders/import", json!({ "status": "LOST" }), 422, "validation_failed"),
        ("/products", price(json!(1), "usd"), 422, "validation_failed"),
        ("/products", price(json!(1), "€€€"), 422, "validation_failed"),
        ("/products", price(json!(-1), "USD"), 422, "validation_failed"),
        ("/products", price(json!(9_007_199_254_740_992_i64), "USD"), 422, "validation_failed"),
        ("/products", price(json!(1), "USD"), 201, ""),
        (
            "/products",
            json!({ "sku": "CHAI", "name": "X", "unit_price": { "amount_minor": 1, "currency": "USD" } }),
            422,
            "sku_taken",
        ),
        ("/users", named(""), 422, "validation_failed"),
        ("/users", named("\u{2003}"), 422, "validation_failed"),
        ("/users", named("a\0b"), 422, "validation_failed"),
        ("/users", named(&"x".repeat(201)), 422, "validation_failed"),
        ("/users", named(&"日".repeat(200)), 201, ""),
        ("/users", json!({ "name": "👩‍🚀", "email": "👩‍🚀@example.com" }), 201, ""),
        ("/users", json!({ "name": "B", "email": "ANA@example.com" }), 422, "email_taken"),
        (&rename, json!({ "name": "X" }), 404, "user_not_found"),
        (&cancel, json!({ "reason": "X" }), 404, "order_not_found"),
        ("/users/7/rename", json!({ "name": "X" }), 400, "invalid_id"),
        ("/users/%00/rename", json!({ "name": "X" }), 400, "invalid_id"),
    ];
    for (path, body, status, code) in cases {
        let answer = shop.post_with(path, body.clone(), &[("consistency-token", &token)]).await;
        let shown: String = body.to_string().chars().take(200).collect();
        assert_eq!(answer.status.as_u16(), status, "{path} {shown}: {answer:?}");
        if !code.is_empty() {
            assert_eq!(answer.code(), code, "{path} {shown}");
        }
    }
}

#[tokio::test]
async fn a_body_that_is_not_json_is_refused_with_its_place() {
    let shop = Shop::open().await;
    let answer = shop.send(post("/users", "{\"name\": \"A\",\n oops}", &[])).await.expect(400);
    assert_eq!(answer.code(), "invalid_json");
    assert!(answer.body["detail"].as_str().unwrap().contains("line 2 column 2"), "{answer:?}");
    for body in ["\u{feff}{}", "{\"name\": \"\\ud800\"}", "{\"n\": 1e999}", &"[".repeat(10_000), "{} {}"] {
        shop.send(post("/users", body.to_owned(), &[])).await.expect(400);
    }
    let raw = Request::post("/users").header("content-type", "application/json").body(Body::from(vec![0xff, 0xfe]));
    shop.send(raw.unwrap()).await.expect(400);
}

#[tokio::test]
async fn a_body_of_another_type_or_too_large_is_refused() {
    let shop = Shop::open().await;
    for kind in ["text/plain", "application/x-www-form-urlencoded", "application/jsonp", ""] {
        let answer = shop.send(post("/users", "{}", &[("content-type", kind)])).await.expect(415);
        assert_eq!(answer.code(), "unsupported_media_type");
    }
    let accepted = [("content-type", "Application/JSON; charset=utf-8")];
    assert_eq!(shop.send(post("/users", "{}", &accepted)).await.code(), "validation_failed");
    let large = format!("{{\"name\": \"{}\"}}", "x".repeat(2 * 1024 * 1024));
    let answer = shop.send(post("/users", large, &[])).await.expect(413);
    assert_eq!((answer.code(), &answer.body["limit_bytes"]), ("body_too_large", &json!(1_048_576)));
}

#[tokio::test]
async fn headers_that_are_not_what_they_should_be_are_refused() {
    let shop = Shop::open().await;
    let long = "k".repeat(129);
    for (name, value, code) in [
        ("idempotency-key", "", "invalid_idempotency_key"),
        ("idempotency-key", &*long, "invalid_idempotency_key"),
        ("if-match", "7", "invalid_if_match"),
        ("consistency-token", "users:1:2", "invalid_consistency_token"),
        ("consistency-wait", "soon", "invalid_consistency_wait"),
    ] {
        let body = json!({ "name": "Ana", "email": "ana@example.com" });
        let answer = shop.post_with("/users", body, &[(name, value)]).await.expect(400);
        assert_eq!(answer.code(), code, "{name}: {value}");
    }
    assert_eq!(kit::count(&shop.users).await, 0);
}

#[tokio::test]
async fn a_version_that_has_moved_on_is_answered_with_the_current_one() {
    let shop = Shop::open().await;
    shop.stock_up().await;
    let rename = |name: &str| json!({ "name": name });
    let path = format!("/users/{ANA}/rename");
    shop.post_with(&path, rename("Eva"), &[("if-match", "\"1\"")]).await.expect(200);
    let answer = shop.post_with(&path, rename("Eve"), &[("if-match", "\"1\"")]).await.expect(412);
    assert_eq!((answer.code(), &answer.body["currentVersion"]), ("version_mismatch", &json!(2)));
}

#[tokio::test]
async fn a_no_op_and_a_refusal_carry_version_and_token_too() {
    let shop = Shop::open().await;
    shop.stock_up().await;
    let path = format!("/users/{ANA}/rename");
    let first = shop.post(&path, json!({ "name": "Eva" })).await.expect(200);
    let again = shop.post(&path, json!({ "name": "Eva" })).await.expect(200);
    assert_eq!(again.body["changed"], false);
    assert_eq!((again.header("etag"), again.token()), (first.header("etag"), first.token()));
    let erased = shop.post(&format!("/users/{ANA}/erase"), json!({})).await.expect(200);
    let refused = shop.post(&path, json!({ "name": "Eve" })).await.expect(422);
    assert_eq!((refused.code(), refused.token()), ("user_erased", erased.token()));
    let same = shop.post("/users", json!({ "id": NOBODY, "name": "N", "email": "n@example.com" })).await.expect(201);
    let again = shop.post("/users", json!({ "id": NOBODY, "name": "N", "email": "n@example.com" })).await.expect(200);
    assert_eq!((again.header("location"), again.token()), (same.header("location"), same.token()));
}

#[tokio::test]
async fn an_email_address_that_was_given_back_can_be_taken() {
    let shop = Shop::open().await;
    shop.stock_up().await;
    let bea = json!({ "name": "Bea", "email": "ana@example.com" });
    assert_eq!(shop.post("/users", bea.clone()).await.expect(422).code(), "email_taken");
    shop.post(&format!("/users/{ANA}/email"), json!({ "email": "new@example.com" })).await.expect(200);
    shop.post("/users", bea.clone()).await.expect(201);
    shop.post(&format!("/users/{ANA}/erase"), json!({})).await.expect(200);
    shop.post("/users", json!({ "name": "Eva", "email": "NEW@example.com" })).await.expect(201);
}

#[tokio::test]
async fn correlation_and_trace_travel_from_request_to_event_and_answer() {
    let shop = Shop::open().await;
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let headers = [("x-request-id", "conversation-1"), ("traceparent", trace)];
    let body = json!({ "name": "Ana", "email": "ana@example.com" });
    let answer = shop.post_with("/users", body, &headers).await.expect(201);
    assert_eq!((answer.header("x-correlation-id"), answer.header("traceparent")), ("conversation-1", trace));
    let line: Value = serde_json::from_str(&shop.get("/users/feed").await.expect(200).text).unwrap();
    assert_eq!((&line["correlationid"], &line["traceparent"]), (&json!("conversation-1"), &json!(trace)));
    assert_eq!((&line["actor"], &line["causationid"]), (&json!("anonymous"), &Value::Null));

    // what caused it is an event or nothing
    for (cause, kept, name) in [(NOBODY, json!(NOBODY), "Eva"), ("because", Value::Null, "Ada")] {
        let body = json!({ "name": name, "email": format!("{name}@example.com") });
        shop.post_with("/users", body, &[("x-causation-id", cause)]).await.expect(201);
        let feed = shop.get("/users/feed").await.expect(200).text;
        let line: Value = serde_json::from_str(feed.lines().last().unwrap()).unwrap();
        assert_eq!(line["causationid"], kept, "{cause}");
    }
}

#[tokio::test]
async fn a_feed_is_served_page_by_page_from_its_anchor() {
    let shop = Shop::open().await;
    shop.stock_up().await;
    let page = shop.get("/catalog/feed?limit=1").await.expect(200);
    assert_eq!((page.header("content-type"), page.header("feed-head")), ("application/x-ndjson", "2"));
    assert!(!page.header("feed-epoch").is_empty() && !page.header("feed-head-time").is_empty());
    let first: Value = serde_json::from_str(&page.text).unwrap();
    assert_eq!((&first["type"], &first["position"]), (&json!("ProductAdded"), &json!(1)));
    let next = shop.get(&format!("/catalog/feed?after=1&anchor={}", first["id"].as_str().unwrap())).await.expect(200);
    assert_eq!(next.text.lines().count(), 1);
    let other = shop.get(&format!("/catalog/feed?after=1&anchor={NOBODY}")).await.expect(409);
    assert_eq!(other.code(), "feed_regressed");
    shop.get("/catalog/feed?after=x").await.expect(400);
    shop.get(&format!("/products/{NOBODY}")).await.expect(404);
    shop.send(Request::delete("/products").body(Body::empty()).unwrap()).await.expect(405);
}

#[tokio::test]
async fn what_a_token_stands_for_is_missed_after_a_restore() {
    let shop = Shop::open().await;
    let backup = shop.users.copy();
    let token = shop.stock_up().await;
    let rename = format!("/users/{ANA}/rename");
    shop.post_with(&rename, json!({ "name": "Eva" }), &[("consistency-token", &token)]).await.expect(200);
    shop.users.restore(backup);
    let answer = shop.post_with(&rename, json!({ "name": "Eve" }), &[("consistency-token", &token)]).await.expect(409);
    assert_eq!(answer.code(), "consistency_lost");
}

#[tokio::test]
async fn a_panic_of_ours_is_a_problem_with_a_trace_id_and_tells_nothing() {
    async fn broken() -> &'static str {
        panic!("the secret is 42")
    }
    let router = axum::Router::new().route("/broken", axum::routing::get(broken)).fallback(write_side::edge::not_found);
    let router = write_side::edge::around(router);
    let get = |path: &str| Request::get(path).header("x-correlation-id", "c-1").body(Body::empty()).unwrap();
    let response = tower::ServiceExt::oneshot(router.clone(), get("/broken")).await.unwrap();
    assert_eq!(response.status().as_u16(), 500);
    let body = axum::body::to_bytes(response.into_body(), 10_000).await.unwrap();
    let text = String::from_utf8(body.to_vec()).unwrap();
    assert!(text.contains("\"code\":\"internal\"") && text.contains("c-1") && !text.contains("42"), "{text}");
    let response = tower::ServiceExt::oneshot(router, get("/nothing")).await.unwrap();
    assert_eq!((response.status().as_u16(), response.headers()["x-correlation-id"].to_str().unwrap()), (404, "c-1"));
}
