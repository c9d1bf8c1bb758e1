//! Which fields of a row differ.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Fields of one row that are named.
const FIELDS_MAX: usize = 50;

/// A field that is not the same on both sides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Field {
    /// The column, and where in its JSON: `payment.captured_minor`, `lines[0].quantity`.
    pub field: String,
    /// Numbers, truth values and null; a text, or anything that may hold one, is left out.
    #[serde(default, with = "some", skip_serializing_if = "Option::is_none")]
    pub before: Option<Value>,
    #[serde(default, with = "some", skip_serializing_if = "Option::is_none")]
    pub after: Option<Value>,
}

/// A null that is there is not the same as none.
mod some {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use serde_json::Value;

    pub fn serialize<S: Serializer>(value: &Option<Value>, serializer: S) -> Result<S::Ok, S::Error> {
        value.serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
        Value::deserialize(deserializer).map(Some)
    }
}

/// The fields in which two rows differ.
pub(crate) fn differing(before: &Value, after: &Value) -> Vec<Field> {
    let mut fields = Vec::new();
    walk("", before, after, &mut fields);
    fields
}

fn walk(path: &str, before: &Value, after: &Value, fields: &mut Vec<Field>) {
    if before == after || fields.len() >= FIELDS_MAX {
        return;
    }
    match (before, after) {
        (Value::Object(one), Value::Object(other)) => {
            let names = one.keys().chain(other.keys().filter(|name| !one.contains_key(*name)));
            for name in names {
                let of = |object: &serde_json::Map<String, Value>| object.get(name).cloned().unwrap_or_default();
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                walk(&path, &of(one), &of(other), fields);
            }
        }
        (Value::Array(one), Value::Array(other)) if one.len() == other.len() => {
            for (n, (one, other)) in one.iter().zip(other).enumerate() {
                walk(&format!("{path}[{n}]"), one, other, fields);
            }
        }
        _ => fields.push(Field { field: path.to_owned(), before: shown(before), after: shown(after) }),
    }
}

/// What may be kept for ever of a value.
fn shown(value: &Value) -> Option<Value> {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => Some(value.clone()),
        Value::String(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_field_is_named_down_to_where_it_differs() {
        let before = json!({"total": 1, "lines": [{"quantity": 1, "sku": "a"}, {"quantity": 2}], "paid": null});
        let after = json!({"total": 1, "lines": [{"quantity": 1, "sku": "b"}, {"quantity": 3}], "paid": 7});
        let named: Vec<_> = differing(&before, &after)
            .into_iter()
            .map(|Field { field, before, after }| (field, before, after))
            .collect();
        let expected = [
            ("lines[0].sku".to_owned(), None, None),
            ("lines[1].quantity".to_owned(), Some(json!(2)), Some(json!(3))),
            ("paid".to_owned(), Some(Value::Null), Some(json!(7))),
        ];
        assert_eq!(named, expected);
    }

    #[test]
    fn no_text_of_a_row_is_kept() {
        let name = json!({"customer_name": "Ada", "facet": {"email": "ada@example.com"}, "tags": ["Ada"]});
        let other = json!({"customer_name": "Eve", "facet": {"email": "eve@example.com"}, "tags": []});
        let kept = serde_json::to_string(&differing(&name, &other)).unwrap();
        assert!(!kept.contains("Ada") && !kept.contains("ada@") && !kept.contains("Eve"), "{kept}");
        assert!(kept.contains("facet.email"));
    }

    #[test]
    fn a_null_survives_its_text() {
        let field = Field { field: "paid".to_owned(), before: Some(Value::Null), after: None };
        let text = serde_json::to_string(&field).unwrap();
        assert_eq!(text, r#"{"field":"paid","before":null}"#);
        assert_eq!(serde_json::from_str::<Field>(&text).unwrap(), field);
    }
}
