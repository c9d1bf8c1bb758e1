//! What a request says: `query`, `operationName`, `variables`, `extensions`. Other parameters are ignored, and so are
//! extensions other than `persistedQuery`.

use async_graphql::{ServerError, Variables};
use axum::{extract::Query, http::Uri};
use serde_json::{Map, Value};

use crate::{
    documents::{Asked, Hash},
    errors::{code, coded},
};

/// The version of the protocol of persisted queries that there is.
const PERSISTED_QUERY_VERSION: u64 = 1;

/// The parameters of a well-formed request.
#[derive(Debug)]
pub(crate) struct Params {
    pub(crate) asked: Asked,
    pub(crate) operation_name: Option<String>,
    pub(crate) variables: Variables,
}

impl Params {
    /// From the body of a POST.
    pub(crate) fn from_body(body: &[u8]) -> Result<Self, ServerError> {
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
                _ if value.is_empty() => continue,
                "query" | "operationName" => Value::String(value),
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
    pub(crate) fn from_members(mut members: Map<String, Value>) -> Result<Self, ServerError> {
        let query = match members.remove("query") {
            Some(Value::String(query)) => Some(query),
            Some(Value::Null) | None => None,
            Some(_) => return Err(wrong_type("query", "a string")),
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
        let hash = match members.remove("extensions") {
            None | Some(Value::Null) => None,
            Some(Value::Object(extensions)) => extensions.get("persistedQuery").map(persisted_query).transpose()?,
            Some(_) => return Err(wrong_type("extensions", "an object or null")),
        };
        let asked = match (query, hash) {
            (Some(query), None) => Asked::Text(query),
            (Some(query), Some(hash)) => Asked::Named(query, hash),
            (None, Some(hash)) => Asked::Hash(hash),
            (None, None) => return Err(coded(code::BAD_REQUEST, "the parameter query is missing")),
        };
        Ok(Self { asked, operation_name, variables })
    }
}

/// `{"version": 1, "sha256Hash": "<64 hexadecimal digits>"}`
fn persisted_query(value: &Value) -> Result<Hash, ServerError> {
    let Value::Object(members) = value else {
        return Err(wrong_type("extensions.persistedQuery", "an object"));
    };
    if members.get("version").and_then(Value::as_u64) != Some(PERSISTED_QUERY_VERSION) {
        let message = format!("extensions.persistedQuery.version must be {PERSISTED_QUERY_VERSION}");
        return Err(coded(code::BAD_REQUEST, message));
    }
    let hash = members.get("sha256Hash").and_then(Value::as_str).and_then(Hash::from_hex);
    hash.ok_or_else(|| wrong_type("extensions.persistedQuery.sha256Hash", "64 hexadecimal digits"))
}

fn wrong_type(parameter: &str, wanted: &str) -> ServerError {
    coded(code::BAD_REQUEST, format!("the parameter {parameter} must be {wanted}"))
}
