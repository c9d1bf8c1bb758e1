//! The schema as it tells itself, and every question that can be made of it.

use std::collections::BTreeMap;

use serde_json::Value;

use super::expectations;

/// Names, kinds and types of everything.
pub const INTROSPECTION: &str = "{ __schema { queryType { name } subscriptionType { name } types { kind name \
    possibleTypes { name } fields(includeDeprecated: true) { name args { name defaultValue type { kind } } \
    type { kind name ofType { kind name ofType { kind name ofType { kind name ofType { name } } } } } } } } }";

#[derive(Debug)]
struct Field {
    name: String,
    /// The name of its type, lists and `!` taken off.
    of: String,
    required: Vec<String>,
}

#[derive(Debug)]
struct Type {
    kind: String,
    fields: Vec<Field>,
    possible: Vec<String>,
}

pub struct Schema {
    types: BTreeMap<String, Type>,
    pub query: String,
    pub subscription: Option<String>,
}

/// One object of an answer with all its fields that have no further ones.
#[derive(Debug, Clone)]
pub struct Question {
    /// Without `query` or `subscription` before it.
    pub document: String,
    /// `Type.field` of every field on the way.
    pub way: Vec<String>,
    /// Where its objects lie in the answer's `data`.
    path: Vec<String>,
    of: String,
    leaves: Vec<String>,
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

impl Schema {
    pub fn of(introspected: &Value) -> Self {
        let schema = &introspected["__schema"];
        let named = |of: &Value| {
            let mut of = of;
            while of["name"].is_null() {
                of = &of["ofType"];
            }
            text(&of["name"])
        };
        let field = |field: &Value| Field {
            name: text(&field["name"]),
            of: named(&field["type"]),
            required: list(&field["args"])
                .filter(|argument| argument["type"]["kind"] == "NON_NULL" && argument["defaultValue"].is_null())
                .map(|argument| text(&argument["name"]))
                .collect(),
        };
        let kind = |of: &Value| Type {
            kind: text(&of["kind"]),
            fields: list(&of["fields"]).map(field).collect(),
            possible: list(&of["possibleTypes"]).map(|one| text(&one["name"])).collect(),
        };
        let types = list(&schema["types"]).map(|of| (text(&of["name"]), kind(of)));
        Self {
            types: types.filter(|(name, _)| !name.starts_with("__")).collect(),
            query: text(&schema["queryType"]["name"]),
            subscription: schema["subscriptionType"]["name"].as_str().map(str::to_owned),
        }
    }

    /// The fields of a type.
    pub fn fields_of(&self, name: &str) -> Vec<String> {
        self.types[name].fields.iter().map(|field| field.name.clone()).collect()
    }

    /// Every `Type.field` of what can be in an answer, the roots' own left out.
    pub fn fields(&self) -> Vec<String> {
        let is_root = |name: &str| name == self.query || self.subscription.as_deref() == Some(name);
        let answered = self.types.iter().filter(|(name, of)| of.kind == "OBJECT" && !is_root(name));
        answered.flat_map(|(name, of)| of.fields.iter().map(move |field| format!("{name}.{}", field.name))).collect()
    }

    /// Whether a field has fields.
    fn has_more(&self, field: &Field) -> bool {
        matches!(self.types[&field.of].kind.as_str(), "OBJECT" | "INTERFACE" | "UNION")
    }

    /// The questions that go through a root's field, down every way to every object. A way ends where it would come to a
    /// type that it has come through. `only`: the one type that an interface stands for here.
    pub fn questions(&self, root: &str, field: &str, arguments: &str, only: Option<&str>) -> Vec<Question> {
        let found = self.types[root].fields.iter().find(|one| one.name == field).expect("a field of the root");
        let start = Question {
            document: format!("{{ {field}{arguments} _ }}"),
            way: vec![format!("{root}.{field}")],
            path: vec![field.to_owned()],
            of: root.to_owned(),
            leaves: Vec::new(),
        };
        if !self.has_more(found) {
            let document = start.document.replace(" _ ", " ");
            return vec![Question {
                document,
                way: Vec::new(),
                path: Vec::new(),
                leaves: vec![field.to_owned()],
                ..start
            }];
        }
        let mut all = Vec::new();
        self.go_down(&found.of, only, &start, &mut Vec::new(), &mut all);
        all
    }

    fn go_down(
        &self,
        of: &str,
        only: Option<&str>,
        so_far: &Question,
        passed: &mut Vec<String>,
        all: &mut Vec<Question>,
    ) {
        let with = |selection: &str| so_far.document.replace(" _ ", &format!(" {{ {selection} }} "));
        let kind = &self.types[of];
        if kind.kind != "OBJECT" {
            for one in kind.possible.iter().filter(|one| only.is_none_or(|only| only == *one)) {
                if !passed.contains(one) {
                    let document = so_far.document.replace(" _ ", &format!(" {{ ... on {one} _ }} "));
                    self.go_down(one, only, &Question { document, ..so_far.clone() }, passed, all);
                }
            }
            return;
        }
        passed.push(of.to_owned());
        let mut leaves = Vec::new();
        let mut selected = Vec::new();
        for field in &kind.fields {
            let name = format!("{of}.{}", field.name);
            let arguments = expectations::arguments(&name);
            assert!(
                field.required.is_empty() || !arguments.is_empty(),
                "say in expectations.rs with which arguments {name} is asked for: it needs {:?}",
                field.required
            );
            let asked = format!("{}{arguments}", field.name);
            // whichever type an interface stands for, the way ends where it has been
            let more = &self.types[&field.of];
            let is_passed = passed.contains(&field.of)
                || (more.kind != "OBJECT" && more.possible.iter().all(|one| passed.contains(one)));
            if self.has_more(field) && !is_passed {
                let mut further = so_far.clone();
                further.document = with(&format!("{asked} _ "));
                further.way.push(name);
                further.path.push(field.name.clone());
                self.go_down(&field.of, None, &further, passed, all);
            } else {
                leaves.push(field.name.clone());
                selected.push(if self.has_more(field) { format!("{asked} {{ __typename }}") } else { asked });
            }
        }
        passed.pop();
        if !leaves.is_empty() {
            let document = with(&selected.join(" "));
            all.push(Question { document, of: of.to_owned(), leaves, ..so_far.clone() });
        }
    }
}

impl Question {
    /// Its fields, as `Type.field`, each with all values that an answer has there.
    pub fn values<'a>(&self, data: &'a Value) -> Vec<(String, Vec<&'a Value>)> {
        let mut objects = vec![data];
        for key in &self.path {
            objects = objects.into_iter().flat_map(|object| flat(&object[key])).collect();
        }
        let mut values = Vec::new();
        for leaf in &self.leaves {
            let found = objects.iter().flat_map(|object| flat(&object[leaf])).filter(|one| !one.is_null());
            values.push((format!("{}.{leaf}", self.of), found.collect()));
        }
        values
    }
}

fn flat(value: &Value) -> Vec<&Value> {
    match value {
        Value::Array(values) => values.iter().flat_map(flat).collect(),
        one => vec![one],
    }
}
