//! Every bound holds, its error names it, and what would be slow is refused fast.

mod support;

use std::{
    fmt::Write,
    time::{Duration, Instant},
};

use axum::http::{StatusCode, header};
use graphql::{GraphqlOptions, Limits};
use serde_json::json;
use support::{Answer, Endpoint};

async fn ask(query: &str) -> Answer {
    let endpoint = Endpoint::new();
    endpoint.post(&json!({ "query": query })).header(header::ACCEPT, "application/graphql-response+json").send().await
}

/// Refused before it ran, by the bound of this name.
async fn check(query: &str, limit: &str, max: usize) {
    let started = Instant::now();
    let answer = ask(query).await;
    answer.is_refused(StatusCode::UNPROCESSABLE_ENTITY, "limit_exceeded");
    let extensions = &answer.json()["errors"][0]["extensions"];
    assert_eq!((&extensions["limit"], &extensions["max"]), (&json!(limit), &json!(max)), "{extensions}");
    let asked = extensions["asked"].as_u64().expect("what was asked for is told");
    assert!(asked > max as u64, "{extensions}");
    let message = answer.json()["errors"][0]["message"].as_str().unwrap().to_owned();
    for told in [limit, &max.to_string(), &asked.to_string()] {
        assert!(message.contains(told), "{message}");
    }
    // a hundred times what it takes; without the bound some of these would take hours
    assert!(started.elapsed() < Duration::from_secs(2), "{limit}: {:?}", started.elapsed());
}

#[tokio::test]
async fn a_document_has_at_most_so_many_tokens() {
    check(&format!("{{ {} }}", "__typename ".repeat(2_000)), "document_tokens", 2_000).await;
    check(&format!("{{ {} }}", "\"text\" ".repeat(10_000)), "document_tokens", 2_000).await;
}

#[tokio::test]
async fn a_comment_or_a_string_is_not_counted_by_its_length() {
    let query = format!("# {}\n{{ __typename }}", "word ".repeat(5_000));
    assert_eq!(ask(&query).await.status, StatusCode::OK);
    for string in ["word ".repeat(5_000), "{".repeat(1_000), "\\\"{".repeat(1_000)] {
        for quote in ["\"", "\"\"\""] {
            let query =
                format!("{{ __typename orders(after: {quote}{string}{quote}) {{ pageInfo {{ hasNextPage }} }} }}");
            assert_eq!(
                ask(&query).await.code(),
                "validation_failed",
                "a cursor that is none: the string was read as one"
            );
        }
    }
}

#[tokio::test]
async fn open_brackets_are_bounded_so_that_the_parsers_stack_is() {
    for open in ["{a", "{a(b:[", "{a(b:{c:", "query($a:["] {
        check(&open.repeat(200), "document_nesting", 48).await;
    }
}

#[tokio::test]
async fn fragments_that_spread_each_other_twice_do_not_cost_two_to_the_n() {
    let mut query = "{ ...f0 }".to_owned();
    for n in 0..25 {
        write!(query, " fragment f{n} on Query {{ ...f{} ...f{} }}", n + 1, n + 1).unwrap();
    }
    query.push_str(" fragment f25 on Query { __typename }");
    check(&query, "selections", 2_000).await;
}

#[tokio::test]
async fn depth_is_bounded_through_fragments_too() {
    let mut query = "{ __schema { types { ...f0 } } }".to_owned();
    for n in 0..20 {
        write!(query, " fragment f{n} on __Type {{ ofType {{ ...f{} }} }}", n + 1).unwrap();
    }
    query.push_str(" fragment f20 on __Type { name }");
    check(&query, "depth", 20).await;
}

#[tokio::test]
async fn aliases_are_bounded() {
    let aliases = (0..51).fold(String::new(), |text, n| text + &format!(" n{n}: __typename"));
    let query = format!("{{ __type(name: \"Order\") {{ {aliases} }} }}");
    check(&query, "aliases", 50).await;
}

#[tokio::test]
async fn root_fields_are_bounded_also_within_fragments() {
    let fields = (0..21).fold(String::new(), |text, n| text + &format!(" n{n}: __typename"));
    check(&format!("{{ {fields} }}"), "root_fields", 20).await;
    check(&format!("{{ ... on Query {{ ...f }} }} fragment f on Query {{ {fields} }}"), "root_fields", 20).await;
}

#[tokio::test]
async fn directives_are_bounded() {
    check(&format!("{{ __typename {} }}", "@include(if: true) ".repeat(51)), "directives", 50).await;
}

#[tokio::test]
async fn complexity_is_fields_times_page_sizes() {
    let line =
        "productId productName quantity discountBp unitPrice { amountMinor currency } total { amountMinor currency }";
    let orders =
        |alias: &str| format!("{alias}: orders(first: 100) {{ edges {{ node {{ id lines {{ {line} }} }} }} }}");
    let query: String = (0..8).map(|n| orders(&format!("page{n}"))).collect();
    check(&format!("{{ {query} }}"), "complexity", 10_000).await;
    let query: String = (0..5).map(|n| orders(&format!("page{n}"))).collect();
    assert!(ask(&format!("{{ {query} }}")).await.json()["data"].is_object(), "it ran");
}

#[tokio::test]
async fn a_page_has_at_most_a_hundred_rows_however_the_size_is_given() {
    let page = |first: &str| format!("orders(first: {first}) {{ pageInfo {{ hasNextPage }} }}");
    check(&format!("{{ {} }}", page("101")), "first", 100).await;
    check(&format!("query ($n: Int! = 1000) {{ {} }}", page("$n")), "first", 100).await;
    check(&format!("{{ customer(id: \"x\") {{ ...c }} }} fragment c on Customer {{ {} }}", page("5000")), "first", 100)
        .await;
    let body = json!({ "query": format!("query ($n: Int!) {{ {} }}", page("$n")), "variables": { "n": 101 } });
    assert_eq!(Endpoint::new().post(&body).send().await.code(), "limit_exceeded");
}

#[tokio::test]
async fn the_introspection_of_common_tools_is_within_the_limits() {
    let answer = ask(include_str!("support/introspection.graphql")).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert!(answer.json()["data"]["__schema"]["types"].as_array().is_some_and(|types| types.len() > 20));
}

#[tokio::test]
async fn what_was_asked_for_is_counted_to_the_end() {
    let asked = |answer: Answer| answer.json()["errors"][0]["extensions"]["asked"].clone();
    assert_eq!(asked(ask(&format!("{{ {} }}", "__typename ".repeat(3_000))).await), 3_002);
    assert_eq!(asked(ask(&"{a".repeat(200)).await), 200);
    assert_eq!(asked(ask("{ orders(first: 1000) { pageInfo { hasNextPage } } }").await), 1_000);
    let fields = (0..21).fold(String::new(), |text, n| text + &format!(" n{n}: __typename"));
    assert_eq!(asked(ask(&format!("{{ {fields} }}")).await), 21);
    let long = json!({ "query": "{ __typename }", "padding": "x".repeat(256 * 1024) });
    let length = long.to_string().len();
    let request = Endpoint::new().post(&long).header(header::CONTENT_LENGTH, &length.to_string());
    assert_eq!(asked(request.send().await), length);
}

#[tokio::test]
async fn more_requests_than_may_run_are_answered_503() {
    let limits = Limits { requests_max: 0, ..Limits::default() };
    let endpoint = Endpoint::with(GraphqlOptions { limits, ..GraphqlOptions::default() });
    let answer = endpoint.post(&json!({ "query": "{ __typename }" })).send().await;
    answer.is_refused(StatusCode::SERVICE_UNAVAILABLE, "overloaded");
    assert_eq!(answer.header("retry-after"), "1");
}

mod any_text {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

        #[test]
        fn is_answered_or_refused(query in "[{}()\\[\\]\"\\\\a-c$@!:.#\n ]{0,60}") {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let answer = runtime.block_on(ask(&query));
            let statuses = [StatusCode::OK, StatusCode::BAD_REQUEST, StatusCode::UNPROCESSABLE_ENTITY];
            prop_assert!(statuses.contains(&answer.status));
            prop_assert!(answer.json().is_object());
        }
    }
}
