//! One operation of an API: what it takes, what it answers, and every code it may refuse with.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
};

use events::principal;
use serde_json::{Value, json};

use super::schema;
use crate::edge::{
    access::{Customers, Gate},
    fields::{Fields, describe},
};

/// Problems that any request may be answered with, by status.
const ANY: &[(u16, &[&str])] = &[
    (401, &["unauthenticated", "invalid_token"]),
    (403, &["not_local", "not_for_customers", "scope_missing", "tokens_not_checked"]),
    (408, &["request_timeout"]),
    (429, &["rate_limited"]),
    (500, &["internal"]),
    (503, &["authentication_unavailable", "overloaded", "shutting_down", "unavailable"]),
];

/// Problems of requests with a `Consistency-Token`.
const TOKEN: &[(u16, &[&str])] =
    &[(400, &["invalid_consistency_token", "invalid_consistency_wait"]), (409, &["consistency_lost"])];

/// Problems that every command may have, besides.
const COMMAND: &[(u16, &[&str])] = &[
    (400, &["invalid_json", "body_unreadable", "invalid_idempotency_key", "invalid_if_match"]),
    (409, &["contended", "idempotency_key_busy"]),
    (412, &["version_mismatch"]),
    (413, &["body_too_large"]),
    (415, &["unsupported_media_type"]),
    (422, &["validation_failed", "idempotency_key_reused", "limit_exceeded"]),
    (503, &["outcome_unknown"]),
];

/// One method of one address. Made by [`command`], [`view`] or [`Operation::new`]; [`super::Routes`] gives it its address.
#[derive(Debug, Clone)]
pub struct Operation {
    /// Unique among all services: `register_user`.
    pub id: Cow<'static, str>,
    pub summary: &'static str,
    pub method: &'static str,
    pub path: String,
    pub kind: Kind,
    /// Schema and example of the body.
    pub body: Option<Body>,
    pub answer: Answer,
    /// The answer is 201 with `Location` when it made something, 200 when that was there.
    pub creates: bool,
    /// Codes of problems by their status.
    pub problems: BTreeMap<u16, BTreeSet<&'static str>>,
    /// What the refusals of the domain are, among the problems.
    pub refusals: Vec<&'static str>,
    /// The ids that the example's address names, in order.
    pub on: Vec<&'static str>,
    /// What opens it; the service's own scope without one.
    pub scope: Option<Cow<'static, str>>,
    pub customers: Customers,
    /// `If-Match` must be there.
    pub needs_version: bool,
    /// Operations whose examples come before this one's, so that it is accepted.
    pub after: Vec<&'static str>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Changes something; takes a key and an expected version.
    Command,
    /// Shows something, as new as a token says.
    View,
    /// Neither: a feed.
    Other,
}

#[derive(Debug, Clone)]
pub struct Body {
    pub schema: Value,
    pub example: Value,
    /// There are fields that must be there.
    pub required: bool,
}

/// What success looks like.
#[derive(Debug, Clone)]
pub struct Answer {
    pub description: &'static str,
    pub content_type: &'static str,
    pub schema: Value,
    pub example: Option<Value>,
    /// Parameters in the address's query: name and schema with a description.
    pub query: Vec<(&'static str, Value)>,
    /// Headers besides those that every answer of its kind has.
    pub headers: Vec<(&'static str, Value)>,
}

/// A command: `POST`, with what every command takes and answers.
pub fn command(id: &'static str, summary: &'static str) -> Operation {
    let answer = Answer::json("Done, or done already: `changed` tells.", done());
    let body = Body { schema: describe(|_| Some(())), example: json!({}), required: false };
    let operation = Operation { body: Some(body), ..Operation::new(id, summary, Kind::Command, answer) };
    operation.may_have(TOKEN).may_have(COMMAND)
}

/// An aggregate's own confirmed state: `GET`.
pub fn view(id: &'static str, summary: &'static str, schema: Value) -> Operation {
    let answer = Answer::json("The confirmed state.", schema);
    Operation::new(id, summary, Kind::View, answer).may_have(TOKEN)
}

/// What every command answers.
fn done() -> Value {
    schema::object([("id", schema::uuid()), ("version", schema::integer(0)), ("changed", schema::boolean())])
}

impl Answer {
    pub fn json(description: &'static str, schema: Value) -> Self {
        let content_type = "application/json";
        Self { description, content_type, schema, example: None, query: Vec::new(), headers: Vec::new() }
    }
}

impl Operation {
    pub fn new(id: impl Into<Cow<'static, str>>, summary: &'static str, kind: Kind, answer: Answer) -> Self {
        let operation = Self {
            id: id.into(),
            summary,
            method: "",
            path: String::new(),
            kind,
            body: None,
            answer,
            creates: false,
            problems: BTreeMap::new(),
            refusals: Vec::new(),
            on: Vec::new(),
            scope: None,
            customers: Customers::None,
            needs_version: false,
            after: Vec::new(),
        };
        operation.may_have(ANY)
    }

    /// It makes something: 201 and `Location`.
    pub fn creates(mut self) -> Self {
        self.creates = true;
        self
    }

    /// The body's fields are those that `read` reads, and `example` is a body that is accepted.
    pub fn takes<T>(mut self, read: impl FnOnce(&mut Fields<'_>) -> Option<T>, example: Value) -> Self {
        let schema = describe(read);
        let required = schema.get("required").is_some();
        self.body = Some(Body { schema, example, required });
        self
    }

    /// The answer says more than that it is done: what the aggregate reports.
    pub fn reports(mut self, member: &'static str, schema: Value) -> Self {
        self.answer.schema["properties"][member] = schema;
        self
    }

    /// What the answer to the example may look like.
    pub fn shows(mut self, example: Value) -> Self {
        self.answer.example = Some(example);
        self
    }

    /// The domain's refusals: `..._not_found` is 404, everything else 422.
    pub fn refuses(mut self, codes: &[&'static str]) -> Self {
        self.refusals.extend(codes);
        codes.iter().fold(self, |operation, code| {
            let status = if code.ends_with("_not_found") { 404 } else { 422 };
            operation.fails(status, &[*code])
        })
    }

    /// Other problems.
    pub fn fails(mut self, status: u16, codes: &[&'static str]) -> Self {
        self.problems.entry(status).or_default().extend(codes);
        self
    }

    /// The ids of the example's address, in order.
    pub fn on(mut self, ids: &[&'static str]) -> Self {
        self.on = ids.to_vec();
        self
    }

    /// The operations whose examples must have been done before this one's.
    pub fn after(mut self, operations: &[&'static str]) -> Self {
        self.after = operations.to_vec();
        self
    }

    /// What opens it instead of the service's own scope.
    pub fn scope(mut self, scope: impl Into<Cow<'static, str>>) -> Self {
        self.scope = Some(scope.into());
        self
    }

    /// What of it is open to customers; without this, nothing.
    pub fn customers(mut self, customers: Customers) -> Self {
        self.customers = customers;
        if customers == Customers::Own && self.kind == Kind::Command {
            return self.fails(403, &["not_yours"]);
        }
        self
    }

    /// Nobody should give this command without having seen what it changes.
    pub fn needs_version(mut self) -> Self {
        self.needs_version = true;
        self.fails(428, &["version_required"])
    }

    /// What stands before it.
    pub fn gate(&self, service: &str) -> Gate {
        let scope = match (&self.scope, self.kind) {
            (Some(scope), _) => scope.clone(),
            (None, Kind::Command) => principal::write_scope(service).into(),
            (None, Kind::View) => principal::read_scope(service).into(),
            (None, Kind::Other) => principal::scope::ADMIN.into(),
        };
        Gate { scope, customers: self.customers, needs_version: self.needs_version }
    }

    fn may_have(self, problems: &[(u16, &[&'static str])]) -> Self {
        problems.iter().fold(self, |operation, (status, codes)| operation.fails(*status, codes))
    }

    pub(super) fn at(mut self, method: &'static str, path: &str) -> Self {
        self.method = method;
        path.clone_into(&mut self.path);
        let named = self.parameters().count();
        assert!(self.on.is_empty() || self.on.len() == named, "{} names {named} ids in its address", self.id);
        if named > 0 && self.kind != Kind::Other {
            return self.fails(400, &["invalid_id"]);
        }
        self
    }

    /// The names in the braces of the path.
    pub fn parameters(&self) -> impl Iterator<Item = &str> {
        self.path.split('{').skip(1).filter_map(|rest| rest.split('}').next())
    }

    /// The address of the example.
    pub fn example_path(&self) -> String {
        let names: Vec<String> = self.parameters().map(|name| format!("{{{name}}}")).collect();
        names.iter().zip(&self.on).fold(self.path.clone(), |path, (name, id)| path.replace(name, id))
    }
}
