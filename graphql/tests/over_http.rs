//! GraphQL over HTTP: each test is a sentence of the specification, or of what we promise beyond it.

mod support;

use axum::http::{Method, StatusCode, header};
use events::principal::Principal;
use serde_json::json;
use support::{Answer, Endpoint};

const NEW: &str = "application/graphql-response+json";
const OLD: &str = "application/json";

/// A document that needs no read model.
const FINE: &str = "{ __typename }";

#[tokio::test]
async fn the_answer_has_the_media_type_that_the_client_likes_best() {
    let endpoint = Endpoint::new();
    for (accept, answered) in [
        (None, OLD),
        (Some("*/*"), OLD),
        (Some("application/*"), OLD),
        (Some(OLD), OLD),
        (Some(NEW), NEW),
        (Some("application/graphql-response+json, application/json;q=0.9"), NEW),
        (Some("application/json, application/graphql-response+json"), NEW),
        (Some("application/graphql-response+json;q=0.5, application/json"), OLD),
        (Some("application/graphql-response+json;q=0, */*"), OLD),
        (Some("application/graphql-response+json; charset=utf-8, */*;q=0.1"), NEW),
        (Some("Application/JSON;charset=UTF-8"), OLD),
    ] {
        let mut request = endpoint.post(&json!({ "query": FINE }));
        if let Some(accept) = accept {
            request = request.header(header::ACCEPT, accept);
        }
        let answer = request.send().await;
        assert_eq!(answer.status, StatusCode::OK, "{accept:?}");
        assert_eq!(answer.header("content-type"), format!("{answered}; charset=utf-8"), "{accept:?}");
        assert_eq!(answer.json(), json!({ "data": { "__typename": "Query" } }));
    }
}

#[tokio::test]
async fn a_client_that_takes_neither_media_type_is_answered_406() {
    let endpoint = Endpoint::new();
    for accept in ["text/plain", "application/json;q=0", "application/json;charset=latin1", "image/*", "nonsense"] {
        let answer = endpoint.post(&json!({ "query": FINE })).header(header::ACCEPT, accept).send().await;
        answer.is_refused(StatusCode::NOT_ACCEPTABLE, "not_acceptable");
    }
}

#[tokio::test]
async fn a_post_without_the_content_type_application_json_in_utf_8_is_answered_415() {
    let endpoint = Endpoint::new();
    let body = json!({ "query": FINE });
    let refused = [
        None,
        Some("text/plain"),
        Some("application/x-www-form-urlencoded"),
        Some("multipart/form-data; boundary=x"),
        Some("application/graphql"),
        Some("application/json; charset=iso-8859-1"),
    ];
    for content_type in refused {
        let answer = endpoint.post_as(content_type, body.to_string()).send().await;
        answer.is_refused(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type");
    }
    for content_type in ["application/json", "application/json; charset=utf-8", "Application/JSON; Charset=\"UTF-8\""] {
        let answer = endpoint.post_as(Some(content_type), body.to_string()).send().await;
        assert_eq!(answer.status, StatusCode::OK, "{content_type}");
    }
}

#[tokio::test]
async fn a_body_that_is_no_json_is_answered_400_and_parameters_that_are_wrong_422_or_400_to_older_clients() {
    let endpoint = Endpoint::new();
    for (body, code) in [
        ("", "invalid_json"),
        ("{", "invalid_json"),
        ("{\"query\": \"{ __typename }\"} x", "invalid_json"),
        ("\"{ __typename }\"", "bad_request"),
        ("null", "bad_request"),
        ("{}", "bad_request"),
        ("{\"query\": null}", "bad_request"),
        ("{\"query\": 7}", "bad_request"),
        ("{\"query\": [\"{ __typename }\"]}", "bad_request"),
        ("{\"query\": \"{ __typename }\", \"operationName\": 7}", "bad_request"),
        ("{\"query\": \"{ __typename }\", \"variables\": \"{}\"}", "bad_request"),
        ("{\"query\": \"{ __typename }\", \"variables\": []}", "bad_request"),
        ("{\"query\": \"{ __typename }\", \"extensions\": \"x\"}", "bad_request"),
        ("[{\"query\": \"{ __typename }\"}]", "batching_not_supported"),
    ] {
        let unprocessable = if code == "invalid_json" { 400 } else { 422 };
        for (accept, status) in [(NEW, unprocessable), (OLD, 400)] {
            let request = endpoint.post_as(Some(OLD), body.to_owned()).header(header::ACCEPT, accept);
            request.send().await.is_refused(StatusCode::from_u16(status).unwrap(), code);
        }
    }
}

#[tokio::test]
async fn an_operation_that_is_meant_must_be_one_that_there_is() {
    let endpoint = Endpoint::new();
    let several = "query A { a: __typename } query B { b: __typename }";
    for (query, name) in [(several, json!(null)), (several, json!("C")), (several, json!("")), (FINE, json!("A"))] {
        let body = json!({ "query": query, "operationName": name });
        let answer = endpoint.post(&body).header(header::ACCEPT, NEW).send().await;
        answer.is_refused(StatusCode::UNPROCESSABLE_ENTITY, "validation_failed");
    }
    // on GET the empty name is none
    let answer = endpoint.get(&[("query", several), ("operationName", "")]).send().await;
    answer.is_refused(StatusCode::OK, "validation_failed");
    // and `null` is a name
    let answer = endpoint.get(&[("query", "query null { __typename }"), ("operationName", "null")]).send().await;
    assert_eq!(answer.json()["data"]["__typename"], "Query");
}

#[tokio::test]
async fn null_and_unknown_parameters_do_no_harm() {
    let endpoint = Endpoint::new();
    let body = json!({ "query": FINE, "operationName": null, "variables": null, "extensions": null, "id": 7 });
    assert_eq!(endpoint.post(&body).send().await.status, StatusCode::OK);
    let body = json!({ "query": FINE, "variables": {}, "extensions": { "some": { "thing": 1 } } });
    assert_eq!(endpoint.post(&body).send().await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_document_that_cannot_run_is_400_or_422_under_the_newer_media_type_and_200_under_the_older() {
    let endpoint = Endpoint::new();
    for (body, code) in [
        (json!({ "query": "" }), "syntax_error"),
        (json!({ "query": "{" }), "syntax_error"),
        (json!({ "query": "{ __typename(" }), "syntax_error"),
        (json!({ "query": "type Query { a: Int }" }), "syntax_error"),
        (json!({ "query": "{ nothing }" }), "validation_failed"),
        (json!({ "query": "{ order { id } }" }), "validation_failed"),
        (json!({ "query": "{ orders(first: \"ten\") { pageInfo { hasNextPage } } }" }), "validation_failed"),
        (json!({ "query": "{ orders(first: 0) { pageInfo { hasNextPage } } }" }), "validation_failed"),
        (json!({ "query": "query A { __typename } query B { __typename }" }), "validation_failed"),
        (json!({ "query": "query A { __typename }", "operationName": "C" }), "validation_failed"),
        (json!({ "query": FINE, "operationName": "C" }), "validation_failed"),
        (json!({ "query": "query ($id: ID!) { order(id: $id) { id } }" }), "validation_failed"),
        (
            json!({ "query": "query ($id: ID!) { order(id: $id) { id } }", "variables": { "id": null } }),
            "validation_failed",
        ),
        (
            json!({ "query": "query ($n: Int!) { orders(first: $n) { pageInfo { hasNextPage } } }", "variables": { "n": "x" } }),
            "validation_failed",
        ),
        (json!({ "query": "mutation { writes }" }), "validation_failed"),
        (json!({ "query": "subscription { changes }" }), "validation_failed"),
        (json!({ "query": "{ ...a } fragment a on Query { ...a }" }), "validation_failed"),
        (json!({ "query": "{ ...unknown }" }), "validation_failed"),
    ] {
        let unparsable = code == "syntax_error";
        let status = if unparsable { StatusCode::BAD_REQUEST } else { StatusCode::UNPROCESSABLE_ENTITY };
        let answer = endpoint.post(&body).header(header::ACCEPT, NEW).send().await;
        answer.is_refused(status, code);
        let answer = endpoint.post(&body).header(header::ACCEPT, OLD).send().await;
        answer.is_refused(StatusCode::OK, code);
    }
}

#[tokio::test]
async fn a_request_that_ran_has_data_even_when_its_fields_failed_and_is_a_partial_success() {
    let endpoint = Endpoint::new();
    for (accept, status) in [(NEW, 294), (OLD, 200)] {
        let body = json!({ "query": "{ __typename order(id: \"no id\") { id } }" });
        let answer = endpoint.post(&body).header(header::ACCEPT, accept).send().await;
        assert_eq!(answer.status, StatusCode::from_u16(status).unwrap());
        assert_eq!(answer.json()["data"], json!({ "__typename": "Query", "order": null }));
        assert_eq!(answer.code(), "validation_failed");
        assert_eq!(answer.json()["errors"][0]["path"], json!(["order"]));
    }
}

#[tokio::test]
async fn operation_name_says_which_operation_runs() {
    let endpoint = Endpoint::new();
    let query = "query A { a: __typename } query B { b: __typename }";
    for (name, field) in [("A", "a"), ("B", "b")] {
        let answer = endpoint.post(&json!({ "query": query, "operationName": name })).send().await;
        assert_eq!(answer.json()["data"][field], "Query");
        let answer = endpoint.get(&[("query", query), ("operationName", name)]).send().await;
        assert_eq!(answer.json()["data"][field], "Query");
    }
}

#[tokio::test]
async fn get_takes_its_parameters_from_the_query_string() {
    let endpoint = Endpoint::new();
    let query = "query Q($yes: Boolean!) { __typename projections @skip(if: $yes) { name } }";
    let answer = endpoint
        .get(&[("query", query), ("variables", "{\"yes\": true}"), ("extensions", "{\"a\": 1}"), ("more", "x")])
        .send()
        .await;
    assert_eq!(answer.json(), json!({ "data": { "__typename": "Query" } }));
    let answer = endpoint.get(&[("query", FINE), ("operationName", ""), ("variables", "")]).send().await;
    assert_eq!(answer.status, StatusCode::OK, "an empty text is as good as none");
    for (pairs, code) in [
        (&[("operationName", "A")][..], "bad_request"),
        (&[("query", FINE), ("variables", "{")], "invalid_json"),
        (&[("query", FINE), ("variables", "[]")], "bad_request"),
        (&[("query", FINE), ("query", FINE)], "bad_request"),
        (&[("query", ""), ("operationName", "A")], "bad_request"),
        (&[("query", FINE), ("extensions", "1")], "bad_request"),
    ] {
        endpoint.get(pairs).send().await.is_refused(StatusCode::BAD_REQUEST, code);
    }
}

#[tokio::test]
async fn get_must_not_execute_mutations() {
    let answer = Endpoint::new().get(&[("query", "mutation { anything }")]).send().await;
    answer.is_refused(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed");
    assert_eq!(answer.header("allow"), "POST");
}

#[tokio::test]
async fn whoever_may_not_query_is_answered_401_whatever_is_asked() {
    let feeds = Principal::try_new("relay", None, ["feed".to_owned()]).unwrap();
    for principal in [Principal::nobody(), feeds] {
        let endpoint = Endpoint::new().by(principal);
        let changes = "subscription { ordersChanged { kind } }";
        let progress = "subscription { projectionProgress(name: \"order_details\") { rows } }";
        for query in ["{ __typename }", "{ projections { name } }", changes, progress, "{"] {
            let posted = endpoint.post(&json!({ "query": query }));
            let got = endpoint.get(&[("query", query)]);
            let events = endpoint.get(&[("query", query)]).header(header::ACCEPT, "text/event-stream");
            for answer in [posted.send().await, got.send().await, events.send().await] {
                assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{query}");
                assert_eq!(answer.headers[header::WWW_AUTHENTICATE], "Bearer");
                assert_eq!(answer.json()["errors"][0]["extensions"]["code"], "unauthenticated");
            }
        }
    }
}

#[tokio::test]
async fn other_methods_are_answered_405_with_allow() {
    for method in [Method::PUT, Method::DELETE, Method::PATCH, Method::OPTIONS] {
        let answer = Endpoint::new().request(method, "/graphql").send().await;
        answer.is_refused(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed");
        assert_eq!(answer.header("allow"), "GET, HEAD, POST");
    }
}

#[tokio::test]
async fn a_body_beyond_the_limit_is_answered_413_and_the_limit_is_named() {
    let padded = json!({ "query": FINE, "padding": "x".repeat(256 * 1024) });
    let answer = Endpoint::new().post(&padded).send().await;
    answer.is_refused(StatusCode::PAYLOAD_TOO_LARGE, "limit_exceeded");
    assert_eq!(answer.json()["errors"][0]["extensions"]["limit"], "body_bytes");
    assert_eq!(answer.json()["errors"][0]["extensions"]["max"], 256 * 1024);
}

#[tokio::test]
async fn consistency_headers_that_cannot_be_read_are_answered_400() {
    let endpoint = Endpoint::new();
    for (name, value, code) in [
        ("consistency-token", "orders", "invalid_consistency_token"),
        ("consistency-token", "orders:1:2:3", "invalid_consistency_token"),
        ("consistency-wait", "soon", "invalid_consistency_wait"),
        ("consistency-wait", "31s", "invalid_consistency_wait"),
    ] {
        for accept in [NEW, OLD] {
            let request = endpoint.post(&json!({ "query": FINE })).header(header::ACCEPT, accept);
            let answer = request.header(name.try_into().unwrap(), value).send().await;
            answer.is_refused(StatusCode::BAD_REQUEST, code);
        }
    }
    for (name, value) in [("consistency-token", ""), ("consistency-wait", "1500ms"), ("consistency-wait", "2s")] {
        let request = endpoint.post(&json!({ "query": FINE }));
        assert_eq!(request.header(name.try_into().unwrap(), value).send().await.status, StatusCode::OK);
    }
}

#[tokio::test]
async fn an_answer_is_not_kept_by_caches() {
    let answer: Answer = Endpoint::new().get(&[("query", FINE)]).send().await;
    assert_eq!(answer.header("cache-control"), "no-store");
}

#[tokio::test]
async fn a_browser_without_a_query_gets_the_playground_and_everyone_else_an_answer() {
    const BROWSER: &str = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
    let endpoint = Endpoint::new();
    let page = endpoint.request(Method::GET, "/graphql").header(header::ACCEPT, BROWSER).send().await;
    assert_eq!((page.status, page.header("content-type")), (StatusCode::OK, "text/html; charset=utf-8".to_owned()));
    assert!(page.header("content-security-policy").contains("script-src 'self'"));
    let answer = endpoint.get(&[("query", FINE)]).header(header::ACCEPT, BROWSER).send().await;
    assert_eq!(answer.json()["data"]["__typename"], "Query");
    let answer = endpoint.request(Method::GET, "/graphql").send().await;
    answer.is_refused(StatusCode::BAD_REQUEST, "bad_request");
}

#[tokio::test]
async fn the_playgrounds_files_have_types_and_are_not_sent_twice() {
    let endpoint = Endpoint::new();
    for (name, content_type) in [("graphiql.min.js", "text/javascript"), ("graphiql.min.css", "text/css")] {
        let path = format!("/graphql/assets/{name}");
        let file = endpoint.request(Method::GET, &path).send().await;
        assert_eq!(file.status, StatusCode::OK);
        assert_eq!(file.header("content-type"), format!("{content_type}; charset=utf-8"));
        assert_eq!(file.header("x-content-type-options"), "nosniff");
        let again =
            endpoint.request(Method::GET, &path).header(header::IF_NONE_MATCH, &file.header("etag")).send().await;
        assert_eq!((again.status, again.body.len()), (StatusCode::NOT_MODIFIED, 0));
    }
    let missing = endpoint.request(Method::GET, "/graphql/assets/other.js").send().await;
    assert_eq!(missing.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_request_whose_fields_are_all_skipped_has_an_empty_answer() {
    for query in ["{ projections @skip(if: true) { name } }", "{ projections @include(if: false) { name } }"] {
        let answer = Endpoint::new().post(&json!({ "query": query })).send().await;
        assert_eq!((answer.status, answer.json()), (StatusCode::OK, json!({ "data": {} })), "{query}");
    }
}

#[tokio::test]
async fn a_variable_that_is_left_out_has_its_default_also_in_a_directive() {
    let endpoint = Endpoint::new();
    let query = "query ($no: Boolean! = true) { __typename projections @skip(if: $no) { name } }";
    for (variables, projections) in
        [(json!({}), json!(null)), (json!({ "no": true }), json!(null)), (json!({ "no": false }), json!([]))]
    {
        let answer = endpoint.post(&json!({ "query": query, "variables": variables })).send().await;
        assert_eq!(answer.json()["data"]["projections"], projections, "{variables}");
    }
}
