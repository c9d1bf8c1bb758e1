//! Documents by their hash: those that were sent once, and those that an operator has listed.

mod support;

use axum::http::{StatusCode, header};
use graphql::{GraphqlOptions, ListError, Listed, documents::Hash};
use serde_json::{Value, json};
use support::{Answer, Endpoint};

const NEW: &str = "application/graphql-response+json";
const DOCUMENT: &str = "query Named($no: Boolean! = true) { __typename projections @skip(if: $no) { name } }";

fn persisted(text: &str) -> Value {
    json!({ "persistedQuery": { "version": 1, "sha256Hash": Hash::of(text).to_string() } })
}

async fn ask(endpoint: &Endpoint, body: Value) -> Answer {
    endpoint.post(&body).header(header::ACCEPT, NEW).send().await
}

#[tokio::test]
async fn a_document_is_registered_by_sending_it_once_with_its_hash() {
    let endpoint = Endpoint::new();
    let by_hash = json!({ "extensions": persisted(DOCUMENT) });
    let unknown = ask(&endpoint, by_hash.clone()).await;
    unknown.is_refused(StatusCode::UNPROCESSABLE_ENTITY, "PERSISTED_QUERY_NOT_FOUND");
    assert_eq!(unknown.json()["errors"][0]["message"], "PersistedQueryNotFound", "what clients look for");
    let older = endpoint.post(&by_hash).header(header::ACCEPT, "application/json").send().await;
    older.is_refused(StatusCode::OK, "PERSISTED_QUERY_NOT_FOUND");

    let data = json!({ "data": { "__typename": "Query" } });
    let registering = ask(&endpoint, json!({ "query": DOCUMENT, "extensions": persisted(DOCUMENT) })).await;
    assert_eq!((registering.status, registering.json()), (StatusCode::OK, data.clone()));
    assert_eq!(ask(&endpoint, by_hash.clone()).await.json(), data);
    let mut named = by_hash;
    named["operationName"] = json!("Named");
    named["variables"] = json!({ "no": false });
    assert_eq!(ask(&endpoint, named).await.json()["data"]["projections"], json!([]));
    let elsewhere = ask(&Endpoint::new(), json!({ "extensions": persisted(DOCUMENT) })).await;
    assert_eq!(elsewhere.code(), "PERSISTED_QUERY_NOT_FOUND");
}

#[tokio::test]
async fn a_get_takes_a_hash_and_needs_no_query() {
    let endpoint = Endpoint::new();
    let extensions = persisted(DOCUMENT).to_string();
    let by_hash = [("extensions", extensions.as_str())];
    assert_eq!(endpoint.get(&by_hash).send().await.code(), "PERSISTED_QUERY_NOT_FOUND");
    endpoint.get(&[("query", DOCUMENT), ("extensions", &extensions)]).send().await;
    for browser in ["*/*", "text/html,*/*;q=0.8"] {
        let answer = endpoint.get(&by_hash).header(header::ACCEPT, browser).send().await;
        assert_eq!(answer.json(), json!({ "data": { "__typename": "Query" } }));
    }
}

#[tokio::test]
async fn a_hash_that_is_not_the_documents_is_refused_and_registers_nothing() {
    let endpoint = Endpoint::new();
    let body = json!({ "query": "{ __typename }", "extensions": persisted(DOCUMENT) });
    let answer = ask(&endpoint, body).await;
    answer.is_refused(StatusCode::BAD_REQUEST, "persisted_query_mismatch");
    let right = Hash::of("{ __typename }").to_string();
    assert!(answer.json()["errors"][0]["message"].as_str().unwrap().contains(&right), "it says what would be right");
    assert_eq!(ask(&endpoint, json!({ "extensions": persisted(DOCUMENT) })).await.code(), "PERSISTED_QUERY_NOT_FOUND");
}

#[tokio::test]
async fn a_persisted_query_must_say_its_version_and_a_hash() {
    let endpoint = Endpoint::new();
    let hash = Hash::of(DOCUMENT).to_string();
    for wrong in [
        json!(7),
        json!({}),
        json!({ "version": 1 }),
        json!({ "sha256Hash": hash }),
        json!({ "version": 2, "sha256Hash": hash }),
        json!({ "version": "1", "sha256Hash": hash }),
        json!({ "version": 1, "sha256Hash": "abc" }),
        json!({ "version": 1, "sha256Hash": "g".repeat(64) }),
        json!({ "version": 1, "sha256Hash": 7 }),
    ] {
        for query in [json!(DOCUMENT), json!(null)] {
            let answer = ask(&endpoint, json!({ "query": query, "extensions": { "persistedQuery": wrong } })).await;
            answer.is_refused(StatusCode::UNPROCESSABLE_ENTITY, "bad_request");
        }
    }
}

#[tokio::test]
async fn a_document_that_is_refused_is_not_registered() {
    let endpoint = Endpoint::new();
    let many = format!("{{ {} }}", "__typename ".repeat(2_000));
    for (text, code) in [("{", "syntax_error"), (many.as_str(), "limit_exceeded")] {
        let answer = ask(&endpoint, json!({ "query": text, "extensions": persisted(text) })).await;
        assert_eq!(answer.code(), code);
        let answer = ask(&endpoint, json!({ "extensions": persisted(text) })).await;
        assert_eq!(answer.code(), "PERSISTED_QUERY_NOT_FOUND");
    }
}

/// An endpoint with a list.
async fn listing(list: &Value, strict: bool) -> Result<Endpoint, ListError> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), list.to_string()).unwrap();
    let options = GraphqlOptions::default();
    let listed = Listed::load(file.path(), strict, &options).await?;
    Ok(Endpoint::with(GraphqlOptions { listed, ..options }))
}

/// The two forms that tools write.
fn lists() -> [Value; 3] {
    let hash = Hash::of(DOCUMENT).to_string();
    [
        json!({ (hash.clone()): DOCUMENT }),
        json!({ (format!("sha256:{hash}")): DOCUMENT }),
        json!({
            "format": "apollo-persisted-query-manifest", "version": 1,
            "operations": [{ "id": hash, "name": "Named", "type": "query", "body": DOCUMENT }],
        }),
    ]
}

#[tokio::test]
async fn in_strict_mode_listed_documents_are_answered_by_hash_and_by_text_and_no_others() {
    for list in lists() {
        let endpoint = listing(&list, true).await.unwrap();
        for body in [
            json!({ "query": DOCUMENT }),
            json!({ "extensions": persisted(DOCUMENT) }),
            json!({ "query": DOCUMENT, "extensions": persisted(DOCUMENT) }),
        ] {
            assert_eq!(ask(&endpoint, body).await.json(), json!({ "data": { "__typename": "Query" } }));
        }
        for text in ["{ __typename }", &format!("{DOCUMENT} "), "{ __schema { types { name } } }", "{", ""] {
            for body in [
                json!({ "query": text }),
                json!({ "extensions": persisted(text) }),
                json!({ "query": text, "extensions": persisted(text) }),
            ] {
                let answer = ask(&endpoint, body.clone()).await;
                answer.is_refused(StatusCode::FORBIDDEN, "operation_not_listed");
                let older = endpoint.post(&body).send().await;
                older.is_refused(StatusCode::OK, "operation_not_listed");
                let message = answer.json()["errors"][0]["message"].as_str().unwrap().to_owned();
                assert!(message.contains(&Hash::of(text).to_string()), "it names the hash to list: {message}");
            }
        }
    }
}

#[tokio::test]
async fn without_strict_mode_a_list_is_known_from_the_start_and_others_are_answered_too() {
    for list in lists() {
        let endpoint = listing(&list, false).await.unwrap();
        let data = json!({ "data": { "__typename": "Query" } });
        assert_eq!(ask(&endpoint, json!({ "extensions": persisted(DOCUMENT) })).await.json(), data);
        assert_eq!(ask(&endpoint, json!({ "query": "{ __typename }" })).await.json(), data);
    }
}

#[tokio::test]
async fn a_list_that_would_be_refused_is_refused_at_the_start_and_says_why() {
    let hash = |text: &str| Hash::of(text).to_string();
    let of = |text: &str| json!({ (hash(text)): text });
    let many = format!("{{ {} }}", "__typename ".repeat(2_000));
    for (list, why) in [
        (json!([]), "neither an object of texts"),
        (json!({ "a": 7 }), "neither an object of texts"),
        (json!({ "operations": [{ "id": "x" }], "version": 1 }), "missing field `body`"),
        (json!({ "operations": [], "version": 2 }), "version 2"),
        (json!({ "named": DOCUMENT }), hash(DOCUMENT).as_str()),
        (json!({ (hash("{ __typename }")): DOCUMENT }), hash(DOCUMENT).as_str()),
        (of("{"), "not GraphQL"),
        (of("{ nothing }"), "nothing"),
        (of("query A { __typename } query B { nothing }"), "nothing"),
        (of("query ($id: ID!) { __typename }"), "id"),
        (of(&many), "document_tokens"),
        (of("subscription { a: ordersChanged { kind } b: ordersChanged { kind } }"), "exactly one root field"),
    ] {
        let refused = listing(&list, true).await.err().unwrap_or_else(|| panic!("{list} was taken"));
        assert!(refused.to_string().contains(why), "{refused}, and not a word of {why}");
    }
    let empty = listing(&json!({}), true).await.err().expect("nothing would be answered");
    assert!(empty.to_string().contains("empty"), "{empty}");
    assert!(listing(&json!({}), false).await.is_ok());
    let nowhere = Listed::load("no/such/file".as_ref(), true, &GraphqlOptions::default()).await.unwrap_err();
    assert!(nowhere.to_string().contains("no/such/file"), "{nowhere}");
}
