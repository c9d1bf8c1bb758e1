//! Makes an answer of the library what the specification says it is. async-graphql 7.2.1
//! - leaves a field that failed out of its object, and an object without fields is null: the field must be there, null;
//! - answers the fields of an object in the order in which they became ready: it must be the order of the query.
//!
//! Every field of ours that can fail is nullable (a test of the schema says so), so nothing has to be carried up.

use async_graphql::{
    Name, PathSegment, Response, Value,
    indexmap::IndexMap,
    parser::types::{ExecutableDocument, Selection, SelectionSet},
};

/// Fields below the root that wait for the database: the others of an object are ready at once, in order.
const WAITING: [&str; 2] = ["orders", "timeline"];

/// The keys of an object in the order of the query, each with the keys below it.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    fields: IndexMap<Name, Keys>,
    /// Whether one of these waits, or one below them.
    waits: bool,
}

impl Keys {
    /// Of what an operation selects.
    pub(crate) fn of(document: &ExecutableDocument, selected: &SelectionSet) -> Self {
        let mut keys = Self::default();
        keys.collect(document, selected);
        keys
    }

    // Bounded as the document's check is, which has gone before: no cycles, `selections` spreads.
    fn collect(&mut self, document: &ExecutableDocument, selected: &SelectionSet) {
        for selection in &selected.items {
            match &selection.node {
                Selection::Field(field) => {
                    let below = self.fields.entry(field.node.response_key().node.clone()).or_default();
                    below.collect(document, &field.node.selection_set.node);
                    self.waits |= below.waits || WAITING.contains(&field.node.name.node.as_str());
                }
                Selection::InlineFragment(fragment) => self.collect(document, &fragment.node.selection_set.node),
                Selection::FragmentSpread(spread) => {
                    if let Some(fragment) = document.fragments.get(&spread.node.fragment_name.node) {
                        self.collect(document, &fragment.node.selection_set.node);
                    }
                }
            }
        }
    }

    #[cfg(test)]
    pub(crate) fn first(&self) -> &str {
        self.fields.first().map_or("", |(key, _)| key.as_str())
    }

    fn sort(&self, value: &mut Value) {
        match value {
            Value::Object(fields) => {
                let place = |key: &Name| self.fields.get_index_of(key).unwrap_or(usize::MAX);
                if !fields.keys().is_sorted_by_key(place) {
                    fields.sort_by(|one, _, other, _| place(one).cmp(&place(other)));
                }
                for (key, below) in fields {
                    if let Some(keys) = self.fields.get(key).filter(|keys| keys.waits) {
                        keys.sort(below);
                    }
                }
            }
            Value::List(elements) => elements.iter_mut().for_each(|element| self.sort(element)),
            _ => {}
        }
    }
}

/// Puts in what is missing, and all of it in order.
pub(crate) fn complete(answer: &mut Response, keys: &Keys) {
    if matches!(answer.data, Value::Null) {
        answer.data = Value::Object(IndexMap::new());
    }
    for error in &answer.errors {
        put_null(&mut answer.data, &error.path);
    }
    keys.sort(&mut answer.data);
}

/// Sets the value at `path` to null, if it is not there.
fn put_null(value: &mut Value, path: &[PathSegment]) {
    let Some((segment, rest)) = path.split_first() else { return };
    match (segment, &mut *value) {
        (PathSegment::Index(index), Value::List(elements)) => {
            if let Some(element) = elements.get_mut(*index) {
                put_null(element, rest);
            }
        }
        (PathSegment::Field(key), Value::Object(fields)) => {
            put_null(fields.entry(Name::new(key)).or_insert(Value::Null), rest);
        }
        (PathSegment::Field(key), Value::Null) => {
            let mut below = Value::Null;
            put_null(&mut below, rest);
            *value = Value::Object([(Name::new(key), below)].into_iter().collect());
        }
        // what is there already has been resolved
        (PathSegment::Index(_) | PathSegment::Field(_), _) => {}
    }
}

#[cfg(test)]
mod tests {
    use async_graphql::{ServerError, parser::parse_query};
    use serde_json::json;

    use super::*;

    fn check(query: &str, data: serde_json::Value, failed: &[&[&str]], completed: &str) {
        let document = parse_query(query).unwrap();
        let (_, operation) = document.operations.iter().next().unwrap();
        let keys = Keys::of(&document, &operation.node.selection_set.node);
        let mut answer = Response::new(Value::from_json(data).unwrap());
        answer.errors = failed
            .iter()
            .map(|path| {
                let mut error = ServerError::new("failed", None);
                error.path = path.iter().map(|key| PathSegment::Field((*key).to_owned())).collect();
                error
            })
            .collect();
        complete(&mut answer, &keys);
        assert_eq!(serde_json::to_string(&answer.data).unwrap(), completed);
    }

    #[test]
    fn a_field_that_failed_is_null() {
        check("{a b}", json!({ "b": 1 }), &[&["a"]], r#"{"a":null,"b":1}"#);
        check("{a b}", json!(null), &[&["a"], &["b"]], r#"{"a":null,"b":null}"#);
        check("{a{b} c}", json!({ "a": null, "c": 1 }), &[&["a", "b"]], r#"{"a":{"b":null},"c":1}"#);
    }

    #[test]
    fn fields_are_in_the_order_of_the_query() {
        check("{b x:a{d c:orders}}", json!({ "x": { "c": 1, "d": 2 }, "b": 3 }), &[], r#"{"b":3,"x":{"d":2,"c":1}}"#);
        check(
            "{a{b{d timeline c}}}",
            json!({ "a": { "b": [{ "d": 1, "c": 2, "timeline": 3 }] } }),
            &[],
            r#"{"a":{"b":[{"d":1,"timeline":3,"c":2}]}}"#,
        );
        check("{...f a} fragment f on Q{b}", json!({ "a": 1, "b": 2 }), &[], r#"{"b":2,"a":1}"#);
    }

    #[test]
    fn an_object_of_which_everything_is_skipped_is_empty() {
        check("{a @skip(if: true)}", json!(null), &[], "{}");
    }
}
