//! The documents of the services say what the services do.

mod kit;

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use axum::{body::Body, http::Request};
use kit::{Answer, Everything, post, send};
use serde_json::{Map, Value, json};
use write_side::edge::openapi::{Operation, document};

/// Every operation that has an example: commands, and views of what commands make.
fn with_examples(everything: &Everything) -> Vec<Operation> {
    let all = everything.services.iter().flat_map(|service| service.api.operations.clone());
    all.filter(|operation| operation.example_path().find('{').is_none() && !operation.path.ends_with("/feed")).collect()
}

fn named<'o>(operations: &'o [Operation], id: &str) -> &'o Operation {
    operations.iter().find(|operation| operation.id == id).unwrap_or_else(|| panic!("no operation is named {id}"))
}

/// The operations whose examples make this one's acceptable, each once, in order.
fn before<'o>(operations: &'o [Operation], operation: &'o Operation, found: &mut Vec<&'o Operation>) {
    for id in &operation.after {
        let needed = named(operations, id);
        before(operations, needed, found);
        if !found.iter().any(|other| other.id == needed.id) {
            found.push(needed);
        }
    }
}

/// What a payment is asked for next may have to wait for the gateway's word on what it was asked for before.
const GATEWAY_WAIT_MAX: Duration = Duration::from_secs(10);

async fn send_example(everything: &Everything, operation: &Operation, token: &str) -> Answer {
    let started = Instant::now();
    loop {
        let answer = send_once(everything, operation, token).await;
        let waits = operation.path.starts_with("/payments/") && answer.status == 422;
        if !waits || started.elapsed() > GATEWAY_WAIT_MAX {
            return answer;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn send_once(everything: &Everything, operation: &Operation, token: &str) -> Answer {
    let (path, token) = (operation.example_path(), ("consistency-token", token));
    match &operation.body {
        Some(body) => {
            send(&everything.router, post(&path, body.example.to_string(), &[token, ("if-match", "*")])).await
        }
        None => {
            let request = Request::get(path).header(token.0, token.1);
            send(&everything.router, request.body(Body::empty()).unwrap()).await
        }
    }
}

/// Checks a value against what of JSON Schema our documents use.
fn fits(schema: &Value, value: &Value, at: &str) -> Result<(), String> {
    if let Some(choices) = schema["anyOf"].as_array() {
        let errors: Vec<String> = choices.iter().filter_map(|choice| fits(choice, value, at).err()).collect();
        return if errors.len() < choices.len() { Ok(()) } else { Err(errors.join("; or ")) };
    }
    let wrong = |what: &str| Err(format!("{at} is {value}, and not {what}"));
    if schema.get("const").is_some_and(|constant| constant != value) {
        return wrong(&schema["const"].to_string());
    }
    if schema["enum"].as_array().is_some_and(|words| !words.contains(value)) {
        return wrong(&schema["enum"].to_string());
    }
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    match &schema["type"] {
        Value::Null => {}
        Value::Array(kinds) if kinds.contains(&json!(kind)) => {}
        one if *one == kind => {}
        other => return wrong(&other.to_string()),
    }
    for (n, item) in value.as_array().into_iter().flatten().enumerate() {
        fits(&schema["items"], item, &format!("{at}/{n}"))?;
    }
    let Some(object) = value.as_object() else { return Ok(()) };
    let none = Map::new();
    let properties = schema["properties"].as_object().unwrap_or(&none);
    for name in schema["required"].as_array().into_iter().flatten() {
        if !object.contains_key(name.as_str().unwrap()) {
            return Err(format!("{at} has no {name}"));
        }
    }
    for (name, member) in object {
        match properties.get(name) {
            Some(schema) => fits(schema, member, &format!("{at}/{name}"))?,
            None if schema["additionalProperties"] == false => return Err(format!("{at} has {name}")),
            None => {}
        }
    }
    Ok(())
}

#[tokio::test]
async fn every_example_is_accepted_and_answered_as_documented() {
    let operations = with_examples(&Everything::open().await);
    assert!(operations.len() >= 16, "{}", operations.len());
    for operation in &operations {
        let everything = Everything::open().await;
        let mut earlier = Vec::new();
        before(&operations, operation, &mut earlier);
        let mut token = String::new();
        for needed in earlier {
            let answer = send_example(&everything, needed, &token).await;
            assert!(answer.status.is_success(), "{} before {}: {answer:?}", needed.id, operation.id);
            token = [token, answer.token()].join(",");
        }
        let answer = send_example(&everything, operation, &token).await;
        let expected = if operation.creates { 201 } else { 200 };
        assert_eq!(answer.status.as_u16(), expected, "{}: {answer:?}", operation.id);
        assert_eq!(fits(&operation.answer.schema, &answer.body, ""), Ok(()), "{}", operation.id);
        everything.close().await;
    }
}

/// A body with every field of the schema, each with a value that is as good as any.
fn full(schema: &Value) -> Value {
    let kind = schema["type"].as_str().or_else(|| schema["type"][0].as_str()).unwrap_or_default();
    match (kind, schema["format"].as_str()) {
        ("object", _) => {
            let members = schema["properties"].as_object().unwrap().iter();
            Value::Object(members.map(|(name, of)| (name.clone(), full(of))).collect())
        }
        ("array", _) => json!([full(&schema["items"])]),
        ("integer", _) => schema["minimum"].clone(),
        ("string", Some("uuid")) => json!("0198c0de-0000-7000-8000-000000000099"),
        ("string", Some("email")) => json!("somebody@example.com"),
        ("string", Some("date-time")) => json!("1996-07-04T00:00:00Z"),
        ("string", _) if schema["enum"].is_array() => schema["enum"][0].clone(),
        ("string", _) if schema["pattern"] == "^[A-Z]{3}$" => json!("USD"),
        ("string", _) if schema["pattern"].as_str().is_some_and(|of| of.starts_with("^pm_")) => json!("pm_approve"),
        ("string", _) => json!("x"),
        other => panic!("no value for {other:?}: {schema}"),
    }
}

/// `body` with what the example says, which also keeps the rules that span fields.
fn over(body: Value, example: &Value) -> Value {
    match (body, example) {
        (Value::Object(mut members), Value::Object(better)) => {
            for (name, value) in better {
                let member = members.remove(name).unwrap_or_default();
                members.insert(name.clone(), over(member, value));
            }
            Value::Object(members)
        }
        (Value::Array(items), Value::Array(better)) => {
            items.into_iter().zip(better).map(|(item, better)| over(item, better)).collect()
        }
        (_, better) => better.clone(),
    }
}

/// Every field of the schema, by its pointer.
fn fields(schema: &Value, at: &str, found: &mut Vec<(String, Value)>) {
    for (name, of) in schema["properties"].as_object().into_iter().flatten() {
        let pointer = format!("{at}/{name}");
        fields(of, &pointer, found);
        fields(&of["items"], &format!("{pointer}/0"), found);
        found.push((pointer, of.clone()));
    }
}

/// Values on both sides of what the schema promises: (accepted, refused).
fn edges(schema: &Value) -> (Vec<Value>, Vec<Value>) {
    let (mut good, mut bad) = (vec![full(schema)], vec![json!(true)]);
    if let (Some(chars_max), Some(1)) = (schema["maxLength"].as_u64(), schema["minLength"].as_u64()) {
        let text = |chars: u64| json!("é".repeat(usize::try_from(chars).unwrap()));
        good.push(text(chars_max));
        bad.extend([text(chars_max + 1), json!(""), json!("a\0b")]);
    }
    if let (Some(min), Some(max)) = (schema["minimum"].as_i64(), schema["maximum"].as_i64()) {
        good.extend([json!(min), json!(max)]);
        bad.extend([json!(min - 1), json!(max + 1), json!(1.5)]);
    }
    if let Some(items_max) = schema["maxItems"].as_u64() {
        let list = |items: u64| Value::Array((0..items).map(|_| full(&schema["items"])).collect());
        good.push(list(items_max));
        bad.extend([list(items_max + 1), json!([])]);
    }
    if let Some(words) = schema["enum"].as_array() {
        good.extend(words.iter().filter(|word| !word.is_null()).cloned());
        bad.push(json!("NO_SUCH_WORD"));
    }
    if schema["format"].is_string() {
        bad.push(json!("neither an id nor a time nor an address"));
    }
    let null_is_fine = schema["type"].as_array().is_some_and(|kinds| kinds.contains(&json!("null")));
    if null_is_fine { &mut good } else { &mut bad }.push(Value::Null);
    (good, bad)
}

/// Whether a body is refused for this field. What else is wrong with it does not matter.
async fn is_named(everything: &Everything, operation: &Operation, body: &Value, pointer: &str) -> bool {
    let path = operation.example_path();
    let answer =
        send(&everything.router, post(&path, body.to_string(), &[("consistency-wait", "0"), ("if-match", "*")])).await;
    assert!(!matches!(answer.status.as_u16(), 400 | 413 | 415 | 500), "{}: {answer:?}", operation.id);
    if answer.body["code"] != "validation_failed" {
        return false;
    }
    answer.pointers().iter().any(|named| *named == pointer || named.starts_with(&format!("{pointer}/")))
}

#[tokio::test]
async fn documented_fields_and_bounds_are_those_of_the_reader() {
    let everything = Everything::open().await;
    for operation in with_examples(&everything) {
        let Some(body) = &operation.body else { continue };
        let good_body = over(full(&body.schema), &body.example);
        let mut documented = Vec::new();
        fields(&body.schema, "", &mut documented);
        for (pointer, schema) in documented {
            let (good, bad) = edges(&schema);
            let with = |value: Value| {
                let mut body = good_body.clone();
                *body.pointer_mut(&pointer).unwrap() = value;
                body
            };
            for value in good {
                let text: String = value.to_string().chars().take(80).collect();
                let refused = is_named(&everything, &operation, &with(value), &pointer).await;
                assert!(!refused, "{}: {pointer} = {text} is documented and refused", operation.id);
            }
            for value in bad {
                let text: String = value.to_string().chars().take(80).collect();
                let refused = is_named(&everything, &operation, &with(value), &pointer).await;
                assert!(refused, "{}: {pointer} = {text} is against the document and taken", operation.id);
            }
        }
        let mut stranger = good_body.clone();
        stranger["no_such_field"] = json!(1);
        assert!(is_named(&everything, &operation, &stranger, "/no_such_field").await, "{}", operation.id);
    }
    everything.close().await;
}

#[tokio::test]
async fn the_document_is_whole() {
    fn references<'v>(value: &'v Value, found: &mut BTreeSet<&'v str>) {
        match value {
            Value::Object(members) => {
                found.extend(members.get("$ref").and_then(Value::as_str));
                members.values().for_each(|member| references(member, found));
            }
            Value::Array(items) => items.iter().for_each(|item| references(item, found)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    let everything = Everything::open().await;
    let apis: Vec<_> = everything.services.iter().map(|service| service.api.clone()).collect();
    let all = document::of(&apis);
    assert_eq!(all["openapi"], "3.1.0");
    let mut found = BTreeSet::new();
    references(&all, &mut found);
    assert!(found.len() >= 10, "{found:?}");
    for reference in found {
        assert!(all.pointer(reference.trim_start_matches('#')).is_some(), "{reference} leads nowhere");
    }
    let operations: Vec<&Operation> = apis.iter().flat_map(|api| &api.operations).collect();
    let ids: BTreeSet<&str> = operations.iter().map(|operation| &*operation.id).collect();
    assert_eq!(ids.len(), operations.len(), "two operations have one name: {ids:?}");
    for service in &everything.services {
        let path = format!("/{}/openapi.json", service.name);
        let served = send(&everything.router, Request::get(path).body(Body::empty()).unwrap()).await.expect(200);
        assert_eq!(served.body, document::of(std::slice::from_ref(&service.api)));
        assert!(!service.api.operations.is_empty() && !service.api.about.is_empty(), "{}", service.name);
    }
}
