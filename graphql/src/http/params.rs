//! What a request says: `query`, `operationName`, `variables`, `extensions`. Other parameters are ignored.

use async_graphql::{ServerError, Variables};
use axum::{extract::Query, http::Uri};
use serde_json::{Map, Value};

use crate::errors::{code, coded};

/// The parameters of a well-formed request. `extensions` is taken and checked, but we define none, so it is not kept.
#[derive(Debug)]
pub(super) struct Params {
    pub(super) query: String,
    pub(super) operation_name: Option<String>,
    pub(super) variables: Variables,
}

impl Params {
    /// From the body of a POST.
    pub(super) fn from_body(body: &[u8]) -> Result<Self, ServerError> {
        match serde_json::from_slice(body) {
            Ok(Value::Object(members)) => Self::from_members(members),
            Ok(Value::Array(_)) => Err(coded(
                code::BATCHING_NOT_SUPPORTED,
                "an array of requests is not supported: send one request as an object, with several root fields",
            )),
            Ok(_) => Err(coded(code::BAD_REQUEST, "the body must be a JSON object with the member query")),
            Err(error) => Err(coded(code::INVALID_JSON, format!("the body is not JSON: {error}"))),
        }
    }

    /// From the query string of a GET, where `variables` and `extensions` are JSON texts and an empty text is as good
    /// as none.
    pub(super) fn from_uri(uri: &Uri) -> Result<Self, ServerError> {
        let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(uri)
            .map_err(|error| coded(code::BAD_REQUEST, format!("the query string cannot be read: {error}")))?;
        let mut members = Map::new();
        for (name, value) in pairs {
            let value = match name.as_str() {
                "query" => Value::String(value),
                _ if value.is_empty() => continue,
                "operationName" => Value::String(value),
                "variables" | "extensions" => serde_json::from_str(&value)
                    .map_err(|error| coded(code::INVALID_JSON, format!("{name} is not JSON: {error}")))?,
                _ => continue,
            };
            if members.insert(name.clone(), value).is_some() {
                return Err(coded(code::BAD_REQUEST, format!("the parameter {name} is given twice")));
            }
        }
        Self::from_members(members)
    }

    /// From the members of a request, wherever they come from.
    pub(super) fn from_members(mut members: Map<String, Value>) -> Result<Self, ServerError> {
        let query = match members.remove("query") {
            Some(Value::String(query)) => query,
            Some(_) => return Err(wrong_type("query", "a string")),
            None => return Err(coded(code::BAD_REQUEST, "the parameter query is missing")),
        };
        let operation_name = match members.remove("operationName") {
            Some(Value::String(name)) => Some(name),
            None | Some(Value::Null) => None,
            Some(_) => return Err(wrong_type("operationName", "a string or null")),
        };
        let variables = match members.remove("variables") {
            Some(variables @ Value::Object(_)) => Variables::from_json(variables),
            None | Some(Value::Null) => Variables::default(),
            Some(_) => return Err(wrong_type("variables", "an object or null")),
        };
        match members.remove("extensions") {
            None | Some(Value::Null | Value::Object(_)) => {}
            Some(_) => return Err(wrong_type("extensions", "an object or null")),
        }
        Ok(Self { query, operation_name, variables })
    }
}

fn wrong_type(parameter: &str, wanted: &str) -> ServerError {
    coded(code::BAD_REQUEST, format!("the parameter {parameter} must be {wanted}"))
}
