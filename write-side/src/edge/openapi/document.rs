//! The document itself: OpenAPI 3.1.

use serde_json::{Map, Value, json};

use super::{
    Api, Operation,
    operation::{Answer, Kind},
    schema,
};
use crate::edge::{access::Customers, problem::PROBLEM_JSON};

const ABOUT: &str = "Commands change one aggregate each and answer with its version (`ETag`) and a `Consistency-Token`. Pass \
                     tokens on, and the reader waits for what they stand for. Send an `Idempotency-Key` with every command, \
                     and send the same again when an answer is lost. Problems are RFC 9457 with a stable `code`.";

/// The document of these services.
pub fn of(apis: &[Api]) -> Value {
    let mut paths = Map::new();
    for api in apis {
        for operation in &api.operations {
            let item = paths.entry(&operation.path).or_insert_with(|| json!({}));
            item[operation.method] = describe(api, operation);
        }
    }
    let tags: Vec<Value> = apis.iter().map(|api| json!({ "name": api.service, "description": api.about })).collect();
    let title = match apis {
        [one] => format!("Tributary: {}", one.service),
        _ => "Tributary".to_owned(),
    };
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": title,
            "version": env!("CARGO_PKG_VERSION"),
            "description": ABOUT,
            "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" },
        },
        "servers": [{ "url": "/" }],
        "tags": tags,
        "paths": paths,
        "components": {
            "parameters": request_headers(),
            "headers": answer_headers(),
            "schemas": { "Problem": problem() },
            "securitySchemes": { "bearer": { "type": "http", "scheme": "bearer", "bearerFormat": "JWT" } },
        },
    })
}

/// One document of several, each as [`of`] gives it, perhaps in another release.
pub fn merge(documents: impl IntoIterator<Item = Value>) -> Value {
    let mut all = of(&[]);
    for mut document in documents {
        add(&mut all["paths"], document["paths"].take());
        if let (Some(all), Value::Array(tags)) = (all["tags"].as_array_mut(), document["tags"].take()) {
            all.extend(tags);
        }
        if let Value::Object(kinds) = document["components"].take() {
            kinds.into_iter().for_each(|(kind, components)| add(&mut all["components"][kind], components));
        }
    }
    all
}

/// Adds what is not there yet.
fn add(all: &mut Value, more: Value) {
    let Value::Object(more) = more else { return };
    if let Some(all) = all.as_object_mut() {
        for (name, value) in more {
            all.entry(name).or_insert(value);
        }
    }
}

fn describe(api: &Api, operation: &Operation) -> Value {
    let mut described = json!({
        "operationId": operation.id,
        "summary": operation.summary,
        "tags": [api.service],
        "parameters": parameters(operation),
        "responses": responses(api, operation),
    });
    let gate = operation.gate(api.service);
    let customers = match gate.customers {
        Customers::None => "Not for customers.",
        Customers::Own => "A customer has access to their own only.",
        Customers::All => "Open to every customer.",
    };
    described["description"] = json!(format!("Needs the scope `{}`. {customers}", gate.scope));
    // without authentication, which is on loopback only, nobody shows a token
    described["security"] = json!([{ "bearer": [gate.scope] }, {}]);
    if let Some(body) = &operation.body {
        let content = json!({ "application/json": { "schema": body.schema, "example": body.example } });
        described["requestBody"] = json!({ "required": body.required, "content": content });
    }
    described
}

fn parameters(operation: &Operation) -> Vec<Value> {
    let mut parameters: Vec<Value> = operation
        .parameters()
        .enumerate()
        .map(|(n, name)| {
            let mut parameter = json!({ "name": name, "in": "path", "required": true, "schema": schema::uuid() });
            if let Some(id) = operation.on.get(n) {
                parameter["example"] = json!(id);
            }
            parameter
        })
        .collect();
    let query = operation.answer.query.iter();
    parameters.extend(query.map(|(name, schema)| json!({ "name": name, "in": "query", "schema": schema })));
    let headers: &[&str] = match operation.kind {
        Kind::Command => {
            let if_match = if operation.needs_version { "IfMatchRequired" } else { "IfMatch" };
            &["IdempotencyKey", if_match, "ConsistencyToken", "ConsistencyWait", "Traceparent", "CorrelationId"]
        }
        Kind::View => &["ConsistencyToken", "ConsistencyWait", "Traceparent", "CorrelationId"],
        Kind::Other => &["Traceparent", "CorrelationId"],
    };
    parameters.extend(headers.iter().map(|name| json!({ "$ref": format!("#/components/parameters/{name}") })));
    parameters
}

fn responses(api: &Api, operation: &Operation) -> Value {
    let mut responses = Map::new();
    responses.insert("200".to_owned(), success(operation, &operation.answer, &[]));
    if operation.creates {
        let answer = Answer { description: "Made, at `Location`.", ..operation.answer.clone() };
        let mut created = success(operation, &answer, &["Location"]);
        created["links"] = links(api, operation);
        responses.insert("201".to_owned(), created);
    }
    for (status, codes) in &operation.problems {
        let sentence = codes.iter().map(|code| format!("`{code}`")).collect::<Vec<_>>().join(", ");
        let narrowed = json!({ "properties": { "status": { "const": status }, "code": { "enum": codes } } });
        let content = json!({ "schema": { "allOf": [{ "$ref": "#/components/schemas/Problem" }, narrowed] } });
        let mut headers = headers(&["X-Correlation-Id", "Traceparent"]);
        if matches!(status, 409 | 429 | 503) {
            headers.insert("Retry-After".to_owned(), header_ref("Retry-After"));
        }
        let response = json!({ "description": sentence, "content": { PROBLEM_JSON: content }, "headers": headers });
        responses.insert(status.to_string(), response);
    }
    Value::Object(responses)
}

fn success(operation: &Operation, answer: &Answer, more: &[&str]) -> Value {
    let mut content = json!({ "schema": answer.schema });
    if let Some(example) = &answer.example {
        content["example"] = example.clone();
    }
    let common: &[&str] = match operation.kind {
        Kind::Command => &["ETag", "Consistency-Token", "Idempotency-Key", "Idempotency-Replayed"],
        Kind::View => &["ETag", "Consistency-Token"],
        Kind::Other => &[],
    };
    let mut headers = headers(&[common, more, &["X-Correlation-Id", "Traceparent"]].concat());
    headers.extend(
        answer.headers.iter().map(|(name, schema)| (name.to_string(), json!({ "required": true, "schema": schema }))),
    );
    json!({ "description": answer.description, "content": { answer.content_type: content }, "headers": headers })
}

/// What can be done with what was made: the operations at addresses below its own.
fn links(api: &Api, made_by: &Operation) -> Value {
    let below = format!("{}/{{", made_by.path);
    let next = api.operations.iter().filter(|other| other.path.starts_with(&below));
    let links = next.filter_map(|other| {
        let name = other.parameters().next()?;
        let link = json!({ "operationId": other.id, "parameters": { name: "$response.body#/id" } });
        Some((other.id.to_string(), link))
    });
    Value::Object(links.collect())
}

fn headers(names: &[&str]) -> Map<String, Value> {
    names.iter().map(|name| ((*name).to_owned(), header_ref(name))).collect()
}

fn header_ref(name: &str) -> Value {
    json!({ "$ref": format!("#/components/headers/{name}") })
}

fn request_headers() -> Value {
    let header = |name: &str, description: &str, schema: Value| json!({ "name": name, "in": "header", "required": false, "description": description, "schema": schema });
    let if_match = header(
        "If-Match",
        "The `ETag` that the decision rests on: another version is refused with 412. `*`: whichever.",
        json!({ "type": "string", "pattern": r#"^("[0-9]{1,18}"|\*)$"# }),
    );
    let mut required = if_match.clone();
    required["required"] = json!(true);
    required["example"] = json!("*");
    json!({
        "IdempotencyKey": header(
            "Idempotency-Key",
            "Names this command, so that sending it again has no second effect and gets the same answer.",
            json!({ "type": "string", "minLength": 1, "maxLength": 128, "pattern": "^[!-~]([ -~]*[!-~])?$" }),
        ),
        "IfMatch": if_match,
        "IfMatchRequired": required,
        "ConsistencyToken": header(
            "Consistency-Token",
            "What earlier answers carried, joined by commas: the answer is at least as new.",
            json!({ "type": "string" }),
        ),
        "ConsistencyWait": header(
            "Consistency-Wait",
            "How long to wait for that: milliseconds (`1500`) or seconds (`2s`), at most `30s`; without it `2s`.",
            json!({ "type": "string", "pattern": "^([0-9]{1,5}(ms)?|[0-9]{1,2}s)?$" }),
        ),
        "Traceparent": header("Traceparent", "W3C trace context, taken over onto every event.", json!({ "type": "string" })),
        "CorrelationId": header(
            "X-Correlation-Id",
            "Taken over onto every event and log line; made if it is absent or has more than 128 characters.",
            json!({ "type": "string" }),
        ),
    })
}

fn answer_headers() -> Value {
    let header = |required: bool, description: &str, schema: Value| json!({ "required": required, "description": description, "schema": schema });
    json!({
        "ETag": header(true, "The version, for `If-Match`.", json!({ "type": "string", "pattern": "^\"[0-9]+\"$" })),
        "Consistency-Token": header(true, "What a later reader is to have seen.", schema::string()),
        "Idempotency-Key": header(true, "The key that this answer is kept under.", schema::string()),
        "Idempotency-Replayed": header(false, "The answer is that of an earlier run.", schema::constant("true")),
        "Location": header(true, "The address of what was made.", schema::string()),
        "Retry-After": header(false, "Seconds after which the same is worth sending again.", schema::string()),
        "X-Correlation-Id": header(true, "What the logs know this request by.", schema::string()),
        "Traceparent": header(true, "W3C trace context.", schema::string()),
    })
}

fn problem() -> Value {
    let error = schema::object([("pointer", schema::string()), ("detail", schema::string())]);
    json!({
        "type": "object",
        "description": "RFC 9457. `code` is stable; docs/errors.md has a paragraph on each. Some have further members.",
        "required": ["type", "title", "status", "code", "detail", "traceId"],
        "properties": {
            "type": { "type": "string", "format": "uri" },
            "title": schema::string(),
            "status": { "type": "integer", "minimum": 400, "maximum": 599 },
            "code": { "type": "string", "pattern": "^[a-z_]+$" },
            "detail": schema::string(),
            "traceId": schema::string(),
            "currentVersion": schema::integer(0),
            "errors": schema::list(error),
        },
    })
}
