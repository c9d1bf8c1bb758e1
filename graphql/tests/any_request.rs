//! Whatever is sent, the answer is one of ours: JSON with data or errors, never a 5xx, and every error has a code.

mod support;

use std::sync::{LazyLock, Mutex, PoisonError};

use axum::{
    body::Body,
    http::{Method, Request, StatusCode, header},
};
use proptest::{collection::vec, prelude::*};
use serde_json::{Value, json};
use support::{Answer, Endpoint};
use tokio::runtime::Runtime;

/// Everyday cases; the long form is `cargo xtask soak edge`.
fn cases() -> ProptestConfig {
    ProptestConfig::with_cases(if std::env::var_os("TRIBUTARY_SOAK").is_some() { 50_000 } else { 300 })
}

/// One endpoint for all cases: its documents of earlier cases are no help to later ones.
static ENDPOINT: LazyLock<(Runtime, Mutex<Endpoint>)> = LazyLock::new(|| {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let endpoint = runtime.block_on(async { Endpoint::new() });
    (runtime, Mutex::new(endpoint))
});

fn send(request: Request<Body>) -> Answer {
    let (runtime, endpoint) = &*ENDPOINT;
    let endpoint = endpoint.lock().unwrap_or_else(PoisonError::into_inner).clone();
    runtime.block_on(endpoint.send(request))
}

/// The law.
fn is_one_of_ours(answer: &Answer) -> Result<(), TestCaseError> {
    let status = answer.status.as_u16();
    prop_assert!([200, 294, 400, 403, 404, 405, 406, 413, 414, 415, 422].contains(&status), "{status}");
    let content_type = answer.header("content-type");
    prop_assert!(content_type.contains("json"), "{content_type}");
    let json: Value = serde_json::from_slice(&answer.body).map_err(|error| TestCaseError::fail(error.to_string()))?;
    let errors = json["errors"].as_array().cloned().unwrap_or_default();
    prop_assert!(json.get("data").is_some() || !errors.is_empty(), "{json}");
    prop_assert!(status == 200 || !errors.is_empty(), "{json}");
    for error in errors {
        let code = error["extensions"]["code"].as_str().unwrap_or_default();
        let known = [
            "bad_request",
            "invalid_json",
            "batching_not_supported",
            "unsupported_media_type",
            "not_acceptable",
            "method_not_allowed",
            "syntax_error",
            "validation_failed",
            "limit_exceeded",
            "invalid_consistency_token",
            "invalid_consistency_wait",
            "PERSISTED_QUERY_NOT_FOUND",
            "persisted_query_mismatch",
            "rebuilding",
        ];
        prop_assert!(known.contains(&code), "{error}");
        prop_assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()), "{error}");
        let told = error.to_string();
        for telltale in ["panicked", "sqlx", "::", ".rs:"] {
            // unless the client has said it
            prop_assert!(!told.contains(telltale) || code == "syntax_error" || code == "validation_failed", "{told}");
        }
    }
    Ok(())
}

/// JSON of whatever shape.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[a-zA-Z0-9{}() ]{0,12}".prop_map(Value::from),
        Just(json!("T3JkZXI6MDAwMDAwMDAtMDAwMC0wMDAwLTAwMDAtMDAwMDAwMDMwMDAx")),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            vec(("[a-z]{1,6}", inner), 0..4).prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// Something of the schema, or nearly.
fn near_document() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        8 => proptest::sample::select(vec![
            "{", "}", "(", ")", "[", "]", ":", "!", "$", "@", "...", "=", "|", "&", "\"", "\"\"\"", "#", "\n", ",", "-", "1",
        ]).prop_map(str::to_owned),
        12 => proptest::sample::select(vec![
            "query", "mutation", "subscription", "fragment", "on", "type", "Query", "Order", "Node", "Customer", "orders",
            "order", "node", "customer", "searchOrders", "projections", "__typename", "__schema", "__type", "first", "after",
            "filter", "id", "edges", "cursor", "status", "name", "$v", "true", "null", "SHIPPED", "@skip", "@include", "if",
            "\"x\"", "99999999999999999999", "1e999", "{ orders { edges { node { id } } } }", "...f", "fragment f on Query",
        ]).prop_map(str::to_owned),
        1 => any::<String>(),
    ];
    vec(piece, 0..24).prop_map(|pieces| pieces.join(" "))
}

/// A document that runs, or nearly: one that fits, with something done to one of its characters.
fn damaged_document() -> impl Strategy<Value = String> {
    let fine = proptest::sample::select(vec![
        "query Q($n: Int = 5, $f: OrderFilter) { orders(first: $n, filter: $f) { edges { cursor node { ...o } } } } \
         fragment o on Order { id status customer { name } lines { productName total { amountMinor } } }",
        "{ order(id: \"00000000-0000-0000-0000-000000030001\") { id total { amountMinor currency } } }",
        "query ($yes: Boolean!) { __typename @include(if: $yes) projections @skip(if: $yes) { name sources { source } } }",
        "{ node(id: \"T3JkZXI6MDAwMDAwMDAtMDAwMC0wMDAwLTAwMDAtMDAwMDAwMDMwMDAx\") { id ... on Order { status } } }",
    ]);
    (fine, any::<prop::sample::Index>(), proptest::option::of(any::<char>()), any::<bool>()).prop_map(
        |(text, at, put, takes)| {
            let mut chars: Vec<char> = text.chars().collect();
            let at = at.index(chars.len());
            if takes {
                chars.remove(at);
            }
            if let Some(put) = put {
                chars.insert(at, put);
            }
            chars.into_iter().collect()
        },
    )
}

fn any_headers() -> impl Strategy<Value = Vec<(&'static str, String)>> {
    let header = prop_oneof![
        ("[a-z/+*;=,.q0-9 -]{0,40}").prop_map(|value| ("accept", value)),
        ("[a-z0-9:,-]{0,40}").prop_map(|value| ("consistency-token", value)),
        ("[0-9a-z ]{0,8}").prop_map(|value| ("consistency-wait", value)),
        ("[a-z/;= -]{0,30}").prop_map(|value| ("content-type", value)),
        ("[a-z;=,0-9. *]{0,20}").prop_map(|value| ("accept-encoding", value)),
    ];
    vec(header, 0..4)
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn bytes_are_answered(bytes in vec(any::<u8>(), 0..300), headers in any_headers()) {
        let mut request = Request::post("/graphql").header(header::CONTENT_TYPE, "application/json");
        for (name, value) in headers.into_iter().filter(|(name, _)| *name != "accept-encoding") {
            request = request.header(name, value);
        }
        is_one_of_ours(&send(request.body(bytes.into()).unwrap()))?;
    }

    #[test]
    fn parameters_of_any_shape_are_answered(
        query in any_json(), name in any_json(), variables in any_json(), extensions in any_json(), persisted in any_json(),
    ) {
        let extensions = match extensions {
            Value::Object(mut members) => {
                members.insert("persistedQuery".to_owned(), persisted);
                Value::Object(members)
            }
            other => other,
        };
        let body = json!({ "query": query, "operationName": name, "variables": variables, "extensions": extensions });
        let request = Request::post("/graphql").header(header::CONTENT_TYPE, "application/json");
        is_one_of_ours(&send(request.body(body.to_string().into()).unwrap()))?;
    }

    #[test]
    fn what_is_nearly_a_document_is_answered(
        text in prop_oneof![near_document(), damaged_document()], variables in any_json(), newer in any::<bool>(),
    ) {
        let variables = if variables.is_object() { variables } else { json!({ "n": variables, "f": variables, "yes": variables }) };
        let body = json!({ "query": text, "variables": variables }).to_string();
        let accept = if newer { "application/graphql-response+json" } else { "application/json" };
        let request = Request::post("/graphql").header(header::CONTENT_TYPE, "application/json").header(header::ACCEPT, accept);
        let answer = send(request.body(body.into()).unwrap());
        is_one_of_ours(&answer)?;
        // a request of which nothing was answered is no success to whoever reads the status
        let has_data = answer.json().get("data").is_some();
        prop_assert_eq!(answer.status.is_success(), has_data || !newer);
    }

    #[test]
    fn any_query_string_is_answered(text in "[a-zA-Z0-9%&=+{}:\"_.-]{0,80}", head in any::<bool>()) {
        let method = if head { Method::HEAD } else { Method::GET };
        let uri = format!("/graphql?{}", text.replace(['{', '}', '"'], "%7B"));
        let answer = send(Request::builder().method(method.clone()).uri(uri).body(Body::empty()).unwrap());
        if method == Method::GET {
            is_one_of_ours(&answer)?;
        }
        prop_assert!(answer.status < StatusCode::INTERNAL_SERVER_ERROR);
    }
}
