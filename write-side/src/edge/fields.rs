//! Reading a JSON body field by field, so that every bad field is named at once, by its JSON pointer.
//!
//! serde would stop at the first one. Unknown fields are errors: a misspelt optional field must not be lost silently.
//!
//! A function of [`Fields`] is run for two ends: [`read`] takes the fields of a body through it, and [`describe`] asks it
//! what it would take. So the OpenAPI document has each field from the one place that reads it. For that the function
//! asks for all of its fields before it gives up for one of them, which it also must do to name every bad one.

mod readers;

use events::payments::holds_card_number;
use serde_json::{Map, Value, json};

pub use self::readers::{
    Described, Read, Reading, Word, address, basis_points, described, email, id, integer, key, lines, money, quantity,
    reason, text, time, uuid, word,
};
use super::problem::FieldError;

/// The most bad fields that one answer names.
pub const FIELD_ERRORS_MAX: usize = 100;

/// The longest key of another system, in characters.
pub const EXTERNAL_REF_CHARS_MAX: usize = 128;

/// How much of an unknown field's name is repeated, in characters.
const NAME_CHARS_MAX: usize = 64;

/// Stands for what is not repeated, because it looks like a card number.
pub const WITHHELD: &str = "(withheld)";

/// The fields of one object.
pub struct Fields<'v> {
    known: Vec<&'static str>,
    end: End<'v>,
}

/// What a function of fields is run for.
enum End<'v> {
    Reading { pointer: String, object: &'v Map<String, Value>, errors: Vec<FieldError> },
    Describing(Description),
}

/// What an object's fields are, as far as they have been asked for.
#[derive(Default)]
struct Description {
    properties: Map<String, Value>,
    required: Vec<&'static str>,
}

/// Reads `body` as an object. `Err`: everything that is wrong with it.
pub fn read<T>(body: &Value, fields: impl FnOnce(&mut Fields<'_>) -> Option<T>) -> Result<T, Vec<FieldError>> {
    let mut errors = Vec::new();
    read_object(body, String::new(), &mut errors, fields).filter(|_| errors.is_empty()).ok_or(errors)
}

/// What `fields` takes, as JSON Schema.
pub fn describe<T>(fields: impl FnOnce(&mut Fields<'_>) -> Option<T>) -> Value {
    let mut asked = Fields { known: Vec::new(), end: End::Describing(Description::default()) };
    fields(&mut asked);
    let End::Describing(Description { properties, required }) = asked.end else {
        unreachable!("the end of a run does not change");
    };
    let mut schema = json!({ "type": "object", "properties": properties, "additionalProperties": false });
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    schema
}

fn read_object<T>(
    value: &Value,
    pointer: String,
    errors: &mut Vec<FieldError>,
    read: impl FnOnce(&mut Fields<'_>) -> Option<T>,
) -> Option<T> {
    let Value::Object(object) = value else {
        note(errors, pointer, "must be an object".to_owned());
        return None;
    };
    let end = End::Reading { pointer, object, errors: std::mem::take(errors) };
    let mut fields = Fields { known: Vec::new(), end };
    let read = read(&mut fields);
    let End::Reading { pointer, errors: mut found, .. } = fields.end else {
        unreachable!("the end of a run does not change");
    };
    for name in object.keys().filter(|name| !fields.known.contains(&name.as_str())) {
        let name: String = match holds_card_number(name) {
            true => WITHHELD.to_owned(),
            false => name.chars().take(NAME_CHARS_MAX).collect(),
        };
        let pointer = format!("{pointer}/{}", name.replace('~', "~0").replace('/', "~1"));
        note(&mut found, pointer, format!("unknown field; known are {}", fields.known.join(", ")));
    }
    *errors = found;
    read
}

fn note(errors: &mut Vec<FieldError>, pointer: String, detail: String) {
    if errors.len() < FIELD_ERRORS_MAX {
        errors.push(FieldError { pointer, detail });
    }
}

/// What a run over the fields has for one of them.
enum Asked<'f, 'v> {
    Given {
        value: &'v Value,
        pointer: String,
        errors: &'f mut Vec<FieldError>,
    },
    Absent,
    /// Nobody gave anything: the field's description is wanted.
    Describe(&'f mut Description),
}

impl<'v> Fields<'v> {
    fn ask(&mut self, name: &'static str) -> Asked<'_, 'v> {
        self.known.push(name);
        match &mut self.end {
            End::Describing(description) => Asked::Describe(description),
            End::Reading { pointer, object, errors } => match object.get(name).filter(|value| !value.is_null()) {
                Some(value) => Asked::Given { value, pointer: format!("{pointer}/{name}"), errors },
                None => Asked::Absent,
            },
        }
    }

    /// Says that a field is wrong, for a reason that spans fields.
    pub fn wrong(&mut self, name: &'static str, detail: impl Into<String>) {
        if let End::Reading { pointer, errors, .. } = &mut self.end {
            note(errors, format!("{pointer}/{name}"), detail.into());
        }
    }

    /// `None` when the field is absent, null or wrong.
    pub fn required<T>(&mut self, name: &'static str, read: impl Read<T>) -> Option<T> {
        let read = self.optional(name, read);
        self.insist(name, read)
    }

    /// `Some(None)` when the field is absent or null; `None` when it is wrong.
    pub fn optional<T>(&mut self, name: &'static str, read: impl Read<T>) -> Option<Option<T>> {
        match self.ask(name) {
            Asked::Describe(description) => {
                description.optional(name, read.schema());
                None
            }
            Asked::Absent => Some(None),
            Asked::Given { value, pointer, errors } => match read.read(value) {
                Ok(value) => Some(Some(value)),
                Err(detail) => {
                    note(errors, pointer, detail);
                    None
                }
            },
        }
    }

    /// A nested object.
    pub fn object<T>(&mut self, name: &'static str, read: impl FnOnce(&mut Fields<'_>) -> Option<T>) -> Option<T> {
        let read = self.optional_object(name, read);
        self.insist(name, read)
    }

    pub fn optional_object<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&mut Fields<'_>) -> Option<T>,
    ) -> Option<Option<T>> {
        match self.ask(name) {
            Asked::Describe(description) => {
                description.optional(name, describe(read));
                None
            }
            Asked::Absent => Some(None),
            Asked::Given { value, pointer, errors } => read_object(value, pointer, errors, read).map(Some),
        }
    }

    /// A list of 1 to `items_max` objects.
    pub fn list<T>(
        &mut self,
        name: &'static str,
        items_max: usize,
        read: impl Fn(&mut Fields<'_>) -> Option<T>,
    ) -> Option<Vec<T>> {
        let read = self.optional_list(name, items_max, read);
        self.insist(name, read)
    }

    pub fn optional_list<T>(
        &mut self,
        name: &'static str,
        items_max: usize,
        read: impl Fn(&mut Fields<'_>) -> Option<T>,
    ) -> Option<Option<Vec<T>>> {
        let (value, pointer, errors) = match self.ask(name) {
            Asked::Describe(description) => {
                let items = describe(read);
                let list = json!({ "type": "array", "minItems": 1, "maxItems": items_max, "items": items });
                description.optional(name, list);
                return None;
            }
            Asked::Absent => return Some(None),
            Asked::Given { value, pointer, errors } => (value, pointer, errors),
        };
        let Value::Array(items) = value else {
            note(errors, pointer, "must be a list".to_owned());
            return None;
        };
        if items.is_empty() || items.len() > items_max {
            note(errors, pointer, format!("has {} entries; it may have 1 to {items_max}", items.len()));
            return None;
        }
        let read = items
            .iter()
            .enumerate()
            .map(|(n, item)| read_object(item, format!("{pointer}/{n}"), errors, &read))
            // every item is read, so that every bad one is named
            .collect::<Vec<_>>();
        read.into_iter().collect::<Option<Vec<T>>>().map(Some)
    }

    /// Makes what was read as optional a thing that must be there.
    fn insist<T>(&mut self, name: &'static str, read: Option<Option<T>>) -> Option<T> {
        if let End::Describing(description) = &mut self.end {
            description.require(name);
            return None;
        }
        let read = read?;
        if read.is_none() {
            self.wrong(name, "is required");
        }
        read
    }
}

impl Description {
    /// An optional field may also be null.
    fn optional(&mut self, name: &'static str, mut schema: Value) {
        if let Some(kind) = schema.get("type").cloned() {
            schema["type"] = json!([kind, "null"]);
        }
        if let Some(Value::Array(words)) = schema.get_mut("enum") {
            words.push(Value::Null);
        }
        self.properties.insert(name.to_owned(), schema);
    }

    /// A required one may not.
    fn require(&mut self, name: &'static str) {
        self.required.push(name);
        let Some(schema) = self.properties.get_mut(name) else { return };
        if let Some(kind) = schema.get_mut("type").and_then(|kinds| kinds.get_mut(0)).map(Value::take) {
            schema["type"] = kind;
        }
        if let Some(Value::Array(words)) = schema.get_mut("enum") {
            words.retain(|word| !word.is_null());
        }
    }
}

#[cfg(test)]
mod tests {
    use events::orders::OrderStatus;

    use super::*;

    fn pointers(errors: &[FieldError]) -> Vec<&str> {
        errors.iter().map(|error| error.pointer.as_str()).collect()
    }

    #[test]
    fn every_bad_field_is_named_at_once() {
        let body = json!({ "name": " ", "lines": [{ "n": 1 }, { "n": "2" }, 3, {}], "a/b": 1 });
        let read = read(&body, |fields| {
            let name = fields.required("name", text(10));
            let email = fields.required("email", email);
            let lines = fields.list("lines", 10, |line| line.required("n", integer(0, 1)));
            Some((name?, email?, lines?))
        });
        let errors = read.unwrap_err();
        assert_eq!(pointers(&errors), ["/name", "/email", "/lines/1/n", "/lines/2", "/lines/3/n", "/a~1b"]);
    }

    #[test]
    fn a_card_number_in_the_place_of_a_name_is_not_repeated() {
        let read = read(&json!({ "4242 4242 4242 4242": "12/29" }), |_| Some(()));
        assert_eq!(pointers(&read.unwrap_err()), ["/(withheld)"]);
    }

    #[test]
    fn the_number_of_errors_is_bounded() {
        let lines: Vec<Value> = (0..500).map(|_| json!({})).collect();
        let read = read(&json!({ "lines": lines }), |fields| {
            fields.list("lines", 1_000, |line| line.required("n", integer(0, 1)))
        });
        assert_eq!(read.unwrap_err().len(), FIELD_ERRORS_MAX);
    }

    #[test]
    fn what_is_read_is_what_is_described() {
        let schema = describe(|fields| {
            let status = fields.optional("status", word::<OrderStatus>);
            let price = fields.object("price", money);
            let lines = fields.list("lines", 7, |line| line.required("n", quantity));
            Some((status?, price?, lines?))
        });
        assert_eq!(schema["required"], json!(["price", "lines"]));
        assert_eq!(schema["additionalProperties"], false);
        assert_eq!(schema["properties"]["status"]["type"], json!(["string", "null"]));
        assert_eq!(schema["properties"]["status"]["enum"][6], Value::Null);
        assert_eq!(schema["properties"]["price"]["type"], "object");
        assert_eq!(schema["properties"]["price"]["required"], json!(["amount_minor", "currency"]));
        let lines = &schema["properties"]["lines"];
        assert_eq!((&lines["maxItems"], &lines["items"]["properties"]["n"]["maximum"]), (&json!(7), &json!(1_000_000)));
    }
}
