//! One key, one effect, one answer.

mod kit;

use std::time::Duration;

use event_store::memory::Fault;
use futures::future::join_all;
use kit::{ANA, CHAI, NOBODY, Shop, order};
use serde_json::json;

const KEY: (&str, &str) = ("idempotency-key", "key-1");

#[tokio::test]
async fn the_same_request_again_gets_the_same_answer_and_changes_nothing() {
    let shop = Shop::open().await;
    let body = json!({ "name": "Ana", "email": "ana@example.com" });
    let first = shop.post_with("/users", body.clone(), &[KEY]).await.expect(201);
    let spaced = " { \"email\" : \"ANA@example.com\" , \"name\":\"Ana\" } ";
    let again = shop.send(kit::post("/users", spaced, &[KEY])).await.expect(201);
    assert_eq!(again.body, first.body);
    for header in ["location", "etag", "consistency-token", "idempotency-key"] {
        assert_eq!(again.header(header), first.header(header), "{header}");
    }
    assert_eq!(again.header("idempotency-replayed"), "true");
    assert_eq!(kit::count(&shop.users).await, 1);
}

#[tokio::test]
async fn the_same_key_with_another_body_or_target_is_refused() {
    let shop = Shop::open().await;
    shop.stock_up().await;
    shop.post_with("/users", json!({ "name": "B", "email": "b@example.com" }), &[KEY]).await.expect(201);
    let other = shop.post_with("/users", json!({ "name": "C", "email": "b@example.com" }), &[KEY]).await.expect(422);
    assert_eq!(other.code(), "idempotency_key_reused");
    // another route is another scope, another id under the same route is another request
    shop.post_with(&format!("/users/{ANA}/rename"), json!({ "name": "C" }), &[KEY]).await.expect(200);
    let moved = shop.post_with(&format!("/users/{NOBODY}/rename"), json!({ "name": "C" }), &[KEY]).await.expect(422);
    assert_eq!(moved.code(), "idempotency_key_reused");
}

#[tokio::test]
async fn a_replay_is_answered_as_it_was_when_the_stream_has_moved_on() {
    let shop = Shop::open().await;
    shop.stock_up().await;
    let path = format!("/users/{ANA}/rename");
    let first = shop.post_with(&path, json!({ "name": "Eva" }), &[KEY]).await.expect(200);
    shop.post(&path, json!({ "name": "Eve" })).await.expect(200);
    let again = shop.post_with(&path, json!({ "name": "Eva" }), &[KEY]).await.expect(200);
    assert_eq!((again.token(), again.header("etag")), (first.token(), first.header("etag")));
    assert_eq!(shop.get(&format!("/users/{ANA}")).await.body["name"], "Eve");
}

#[tokio::test]
async fn a_refusal_is_remembered() {
    let shop = Shop::open().await;
    let token = shop.stock_up().await;
    let headers = [KEY, ("consistency-token", &token)];
    let first = shop.post_with("/orders", order(&[(NOBODY, 1)]), &headers).await.expect(422);
    assert_eq!((first.code(), first.pointers()), ("product_unknown", vec!["/lines/0/product_id"]));
    let product = json!({ "id": NOBODY, "sku": "NEW", "name": "new",
        "unit_price": { "amount_minor": 1, "currency": "USD" } });
    let added = shop.post("/products", product).await.expect(201).token();
    let again =
        shop.post_with("/orders", order(&[(NOBODY, 1)]), &[KEY, ("consistency-token", &added)]).await.expect(422);
    assert_eq!((again.code(), again.pointers()), (first.code(), first.pointers()));
    let fresh = shop.post_with("/orders", order(&[(NOBODY, 1)]), &[("consistency-token", &added)]).await;
    fresh.expect(201);
}

#[tokio::test]
async fn concurrent_twins_take_effect_once() {
    let shop = Shop::open().await;
    let token = shop.stock_up().await;
    let headers = [KEY, ("consistency-token", &token)];
    let twins = (0..16).map(|_| shop.post_with("/orders", order(&[(CHAI, 1)]), &headers));
    let answers = join_all(twins).await;
    for answer in &answers {
        assert_eq!((answer.status.as_u16(), &answer.body), (201, &answers[0].body), "{answer:?}");
        assert_eq!(answer.token(), answers[0].token());
    }
    assert_eq!(answers.iter().filter(|answer| !answer.headers.contains_key("idempotency-replayed")).count(), 1);
    assert_eq!(kit::count(&shop.orders).await, 1);
}

#[tokio::test]
async fn an_unknown_outcome_is_settled_without_the_client() {
    let shop = Shop::open().await;
    shop.users.fail_next(Fault::UnknownCommitted);
    shop.post("/users", json!({ "name": "A", "email": "a@example.com" })).await.expect(201);
    shop.users.fail_next(Fault::UnknownLost);
    shop.post("/users", json!({ "name": "B", "email": "b@example.com" })).await.expect(201);
    assert_eq!(kit::count(&shop.users).await, 2);
}

#[tokio::test]
async fn a_client_that_goes_away_leaves_its_command_done_once() {
    let shop = Shop::open().await;
    let held = shop.users.hold_commits().await;
    let body = json!({ "name": "Ana", "email": "ana@example.com" });
    let gone = tokio::time::timeout(Duration::from_millis(50), shop.post_with("/users", body.clone(), &[KEY])).await;
    assert!(gone.is_err());
    drop(held);
    shop.post_with("/users", body, &[KEY]).await.expect(201);
    assert_eq!(kit::count(&shop.users).await, 1);
}
