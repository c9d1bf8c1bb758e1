//! Words for what answers are made of: JSON Schema, as OpenAPI 3.1 takes it. Bodies need none of them: their schemas come
//! from their readers.

use serde_json::{Value, json};

pub use crate::edge::fields::{Word, describe, uuid};

/// An object with these members, all of them present, and no others.
pub fn object<const N: usize>(members: [(&str, Value); N]) -> Value {
    let required: Vec<&str> = members.iter().map(|(name, _)| *name).collect();
    let properties: serde_json::Map<_, _> = members.iter().map(|(name, of)| ((*name).to_owned(), of.clone())).collect();
    json!({ "type": "object", "properties": properties, "required": required, "additionalProperties": false })
}

/// A text.
pub fn string() -> Value {
    json!({ "type": "string" })
}

/// A text that never changes.
pub fn constant(value: impl Into<Value>) -> Value {
    json!({ "const": value.into() })
}

pub fn boolean() -> Value {
    json!({ "type": "boolean" })
}

/// A whole number of at least `min`.
pub fn integer(min: i64) -> Value {
    json!({ "type": "integer", "minimum": min })
}

/// A moment, RFC 3339.
pub fn time() -> Value {
    json!({ "type": "string", "format": "date-time" })
}

/// A list of anything from none to many.
pub fn list(items: Value) -> Value {
    json!({ "type": "array", "items": items })
}

/// Or null.
pub fn nullable(schema: Value) -> Value {
    json!({ "anyOf": [schema, { "type": "null" }] })
}

/// One of these.
pub fn either(schemas: impl IntoIterator<Item = Value>) -> Value {
    json!({ "anyOf": schemas.into_iter().collect::<Vec<_>>() })
}
