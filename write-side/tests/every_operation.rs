//! What must hold of each operation of each service, whatever somebody sends to it: it is their mistake, with a documented
//! code, and no log grows by it. A service or an operation that comes later is tried without a line here.

mod kit;

use axum::{
    body::Body,
    http::{Method, Request},
};
use kit::{ANA, Answer, CHAI, Everything, NOBODY, TEA, post, send};
use serde_json::{Value, json};
use write_side::edge::openapi::{Operation, operation::Kind};

const ORDER: &str = "0198c0de-0000-7000-8000-000000000021";
const PAYMENT: &str = "0198c0de-0000-7000-8000-000000000031";

fn at(operation: &Operation, id: &str) -> String {
    operation.parameters().fold(operation.path.clone(), |path, name| path.replace(&format!("{{{name}}}"), id))
}

/// Sends it, and makes sure that the document allows the answer.
async fn documented(everything: &Everything, operation: &Operation, request: Request<Body>) -> Answer {
    let answer = send(&everything.router, request).await;
    let status = answer.status.as_u16();
    assert!(status < 500, "{}: {answer:?}", operation.id);
    if status >= 400 {
        let codes = operation.problems.get(&status);
        assert!(codes.is_some_and(|codes| codes.contains(answer.code())), "{}: {answer:?}", operation.id);
    }
    answer
}

fn operations(everything: &Everything, kind: Kind) -> Vec<Operation> {
    let all = everything.services.iter().flat_map(|service| service.api.operations.clone());
    all.filter(|operation| operation.kind == kind).collect()
}

#[tokio::test]
async fn bodies_that_are_no_commands_are_refused_everywhere() {
    let everything = Everything::open().await;
    let large = format!("{{\"reason\": \"{}\"}}", "x".repeat(2 * 1024 * 1024));
    let deep = "[".repeat(100_000);
    let commands = operations(&everything, Kind::Command);
    assert!(commands.len() >= 30, "{}", commands.len());
    for operation in &commands {
        let path = at(operation, NOBODY);
        for (body, kind, code) in [
            ("{", "application/json", "invalid_json"),
            ("\u{feff}{}", "application/json", "invalid_json"),
            (&*deep, "application/json", "invalid_json"),
            ("a=b", "application/x-www-form-urlencoded", "unsupported_media_type"),
            ("{}", "text/plain", "unsupported_media_type"),
            (&*large, "application/json", "body_too_large"),
            ("[]", "application/json", "validation_failed"),
            ("\"x\"", "application/json", "validation_failed"),
            ("null", "application/json", "validation_failed"),
            ("{\"\\u0000\": 1}", "application/json", "validation_failed"),
            ("{\"🫖\": 1}", "application/json", "validation_failed"),
        ] {
            let request = post(&path, body.to_owned(), &[("content-type", kind), ("if-match", "*")]);
            let answer = documented(&everything, operation, request).await;
            let shown: String = body.chars().take(20).collect();
            assert_eq!(answer.code(), code, "{} {shown}", operation.id);
        }
    }
    assert!(everything.heads().await.iter().all(|head| *head == 0), "nothing was stored");
    everything.close().await;
}

/// Headers that mean something to every command.
#[tokio::test]
async fn headers_that_are_not_what_they_should_be_are_refused_everywhere() {
    let everything = Everything::open().await;
    for operation in operations(&everything, Kind::Command) {
        for (name, value, code) in [
            ("idempotency-key", "", "invalid_idempotency_key"),
            ("if-match", "7", "invalid_if_match"),
            ("consistency-token", "users:1:2", "invalid_consistency_token"),
            ("consistency-wait", "soon", "invalid_consistency_wait"),
        ] {
            let mut headers = vec![(name, value)];
            if name != "if-match" {
                headers.push(("if-match", "*"));
            }
            let answer = documented(&everything, &operation, post(&at(&operation, NOBODY), "{}", &headers)).await;
            assert_eq!(answer.code(), code, "{}", operation.id);
        }
    }
    assert!(everything.heads().await.iter().all(|head| *head == 0), "nothing was stored");
    everything.close().await;
}

#[tokio::test]
async fn an_id_that_leads_nowhere_is_no_fault_of_ours_anywhere() {
    let everything = Everything::open().await;
    for (kind, method) in [(Kind::Command, Method::POST), (Kind::View, Method::GET)] {
        for operation in operations(&everything, kind).iter().filter(|operation| operation.path.contains('{')) {
            let example = operation.body.as_ref().map_or(Value::Null, |body| body.example.clone());
            let request = |id: &str| match method {
                Method::POST => post(&at(operation, id), example.to_string(), &[("if-match", "*")]),
                _ => Request::get(at(operation, id)).body(Body::empty()).unwrap(),
            };
            for wrong in ["7", "%00", "%F0%9F%AB%96", "0198c0de-0000-7000-8000-00000000002g"] {
                let answer = documented(&everything, operation, request(wrong)).await.expect(400);
                assert_eq!(answer.code(), "invalid_id", "{} {wrong}", operation.id);
            }
            let before = everything.heads().await;
            let answer = documented(&everything, operation, request(&kit::new_id())).await;
            match answer.status.as_u16() {
                // what may be the first that is heard of a thing, and says so
                200 => assert_eq!(answer.body["changed"], true, "{}: {answer:?}", operation.id),
                _ => {
                    assert!(answer.code().ends_with("_not_found"), "{}: {answer:?}", operation.id);
                    assert_eq!(everything.heads().await, before, "{}", operation.id);
                }
            }
        }
    }
    everything.close().await;
}

/// What a payment can be asked for, and cannot be.
#[tokio::test]
async fn amounts_that_cannot_be() {
    let everything = Everything::open().await;
    let money = |amount_minor: Value, currency: &str| json!({ "amount_minor": amount_minor, "currency": currency });
    let ask = async |path: &str, body: Value| {
        send(&everything.router, post(path, body.to_string(), &[("if-match", "*")])).await
    };
    let authorize = |amount: Value| json!({ "order_id": ORDER, "amount": amount });
    let (capture, refund) = (format!("/payments/{PAYMENT}/capture"), format!("/payments/{PAYMENT}/refund"));
    let refunded = |amount: Value| json!({ "amount": amount, "reason": "broken" });
    let captured = |amount: Value| json!({ "amount": amount });
    let mut wanted = authorize(money(json!(1_000), "USD"));
    wanted["id"] = json!(PAYMENT);
    ask("/payments", wanted).await.expect(201);
    let reaches = async |status: &str| {
        for _ in 0..1_000 {
            let shown =
                send(&everything.router, Request::get(format!("/payments/{PAYMENT}")).body(Body::empty()).unwrap());
            if shown.await.body["status"] == status {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        panic!("the payment is not {status}");
    };
    reaches("AUTHORIZED").await;
    for amount in [json!(-1), json!(9_007_199_254_740_992_i64), json!(u64::MAX), json!(0.5), json!("1"), json!(null)] {
        for (path, body) in [
            ("/payments", authorize(money(amount.clone(), "USD"))),
            (&*capture, captured(money(amount.clone(), "USD"))),
            (&*refund, refunded(money(amount.clone(), "USD"))),
        ] {
            assert_eq!(ask(path, body).await.expect(422).code(), "validation_failed", "{path} {amount}");
        }
    }
    let head = everything.heads().await;
    assert_eq!(ask("/payments", authorize(money(json!(0), "USD"))).await.expect(422).code(), "amount_out_of_range");
    assert_eq!(ask(&capture, captured(money(json!(0), "USD"))).await.expect(422).code(), "amount_out_of_range");
    assert_eq!(ask(&capture, captured(money(json!(1), "EUR"))).await.expect(422).code(), "wrong_currency");
    assert_eq!(ask(&capture, captured(money(json!(1_001), "USD"))).await.expect(422).code(), "capture_too_large");
    assert_eq!(ask(&refund, refunded(money(json!(1), "USD"))).await.expect(422).code(), "payment_not_captured");
    assert_eq!(everything.heads().await, head);
    ask(&capture, captured(money(json!(1_000), "USD"))).await.expect(200);
    reaches("CAPTURED").await;
    let head = everything.heads().await;
    assert_eq!(ask(&refund, refunded(money(json!(0), "USD"))).await.expect(422).code(), "amount_out_of_range");
    assert_eq!(ask(&refund, refunded(money(json!(1), "EUR"))).await.expect(422).code(), "wrong_currency");
    assert_eq!(ask(&refund, refunded(money(json!(1_001), "USD"))).await.expect(422).code(), "refund_too_large");
    for id in [ANA, CHAI, TEA] {
        let elsewhere = format!("/payments/{id}/refund");
        let refused = ask(&elsewhere, refunded(money(json!(1), "USD"))).await.expect(404);
        assert_eq!(refused.code(), "payment_not_found", "an id of another type");
    }
    assert_eq!(everything.heads().await, head);
    everything.close().await;
}
