//! The GraphQL endpoint of a running platform, as its flags say.

mod common;

use common::{Home, Platform};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

const LISTED: &str = "query Listed { __typename }";

fn hash(text: &str) -> String {
    Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

async fn ask(platform: &Platform, body: &Value) -> Value {
    let asked = platform.http.post(format!("{}/graphql", platform.url)).json(body);
    asked.send().await.expect("an answer").json().await.expect("JSON")
}

fn code(answer: &Value) -> &str {
    answer["errors"][0]["extensions"]["code"].as_str().unwrap_or_default()
}

#[tokio::test]
async fn a_list_of_operations_is_all_that_is_answered_and_limits_are_as_the_flags_say() {
    let home = Home::sqlite();
    let file = home.dir().join("operations.json");
    let wide = "{ a: __typename b: __typename c: __typename }";
    std::fs::write(&file, json!({ (hash(LISTED)): LISTED, (hash(wide)): wide }).to_string()).expect("a file");
    let list = format!("--graphql-operations={}", file.display());

    let refused =
        Platform::up_with(&home, &[&list, "--graphql-aliases-max=2"], &[]).await.err().expect("one is too wide");
    assert!(refused.contains("aliases") && refused.contains(&hash(wide)), "{refused}");

    std::fs::write(&file, json!({ (hash(LISTED)): LISTED }).to_string()).expect("a file");
    let strict = [("TRIBUTARY_GRAPHQL_LISTED_ONLY", "true")];
    let platform = Platform::up_with(&home, &[&list], &strict).await.expect("the platform comes up");
    let by_hash = json!({ "extensions": { "persistedQuery": { "version": 1, "sha256Hash": hash(LISTED) } } });
    for body in [json!({ "query": LISTED }), by_hash] {
        assert_eq!(ask(&platform, &body).await, json!({ "data": { "__typename": "Query" } }));
    }
    assert_eq!(code(&ask(&platform, &json!({ "query": "{ __typename }" })).await), "operation_not_listed");
    drop(platform);

    let flags = ["--graphql-no-introspection", "--graphql-no-playground", "--graphql-aliases-max=2"];
    let platform = Platform::up_with(&home, &flags, &[]).await.expect("the platform comes up");
    let answer = ask(&platform, &json!({ "query": wide })).await;
    let extensions = &answer["errors"][0]["extensions"];
    assert_eq!(
        (code(&answer), &extensions["limit"], &extensions["max"]),
        ("limit_exceeded", &json!("aliases"), &json!(2))
    );
    let answer = ask(&platform, &json!({ "query": "{ __schema { types { name } } }" })).await;
    assert!(answer["data"]["__schema"].is_null(), "{answer}");
    let page = platform.http.get(format!("{}/graphql", platform.url)).header("accept", "text/html").send().await;
    assert_eq!(page.expect("an answer").status(), 406);
}
