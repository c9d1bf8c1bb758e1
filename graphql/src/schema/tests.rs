//! Laws of the schema as a whole.

use async_graphql::Request;
use serde_json::Value;

use crate::GraphqlOptions;

const EVERYTHING: &str = "{ __schema { types {
    name description
    fields { name description args { name description } }
    inputFields { name description }
    enumValues { name description }
} } }";

#[tokio::test]
async fn everything_in_the_schema_is_described() {
    let schema = super::checking(&GraphqlOptions::default()).finish();
    let answer = schema.execute(Request::new(EVERYTHING)).await;
    assert!(answer.errors.is_empty(), "{:?}", answer.errors);
    let data = answer.data.into_json().unwrap();
    let mut looked_at = 0;
    for each in data["__schema"]["types"].as_array().unwrap() {
        let name = each["name"].as_str().unwrap();
        if !name.starts_with("__") && !["Boolean", "Float", "ID", "Int", "String"].contains(&name) {
            described("", each, &mut looked_at);
        }
    }
    assert!(looked_at > 60, "only {looked_at} things were looked at");
}

fn described(within: &str, thing: &Value, looked_at: &mut usize) {
    let name = format!("{within}.{}", thing["name"].as_str().unwrap());
    assert!(thing["description"].as_str().is_some_and(|text| !text.is_empty()), "{name} is not described");
    *looked_at += 1;
    for parts in ["fields", "args", "inputFields", "enumValues"] {
        thing[parts].as_array().into_iter().flatten().for_each(|part| described(&name, part, looked_at));
    }
}

#[tokio::test]
async fn introspection_can_be_switched_off() {
    let schema = super::build(&GraphqlOptions { introspection: false, ..GraphqlOptions::default() }).finish();
    let answer = schema.execute(Request::new(EVERYTHING)).await;
    assert!(answer.data.into_json().unwrap()["__schema"].is_null());
}

/// `http::complete` relies on it.
#[test]
fn every_field_that_can_fail_is_nullable() {
    let said = crate::schema_sdl();
    let query = said.split("type Query {").nth(1).unwrap().split("\n}").next().unwrap();
    let types = query.lines().filter_map(|line| {
        line.trim().rsplit_once(": ").filter(|_| line.starts_with("\t") && !line.starts_with("\t\t"))
    });
    let mut fields = 0;
    for (_, answered) in types {
        assert!(!answered.ends_with('!'), "{answered}");
        fields += 1;
    }
    assert!(fields >= 8, "only {fields} fields were looked at");
    assert!(said.contains("\t): OrderConnection\n}"), "orders of a customer");
}
