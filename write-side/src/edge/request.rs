//! What a command request says besides its command: key, expected version, token, principal; and its JSON body.

use std::time::Duration;

use axum::{
    body::Bytes,
    extract::{FromRequest, FromRequestParts, MatchedPath, Path, Request},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header, request::Parts},
};
use event_store::log::{Fingerprint, LogIdentity};
use events::{
    consistency::{ConsistencyToken, HeaderError, TOKEN_HEADER, WAIT_HEADER, from_headers},
    envelope::{Metadata, Name},
    principal::Principal,
};
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use super::{
    access,
    fields::{self, Fields},
    problem::Problem,
    trace::{Conversation, request_timeout},
};

pub const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// The largest body of a command: 2,000 lines of an imported order with long names fit.
pub const BODY_BYTES_MAX: usize = 1024 * 1024;

/// The longest that a body may take to arrive.
const BODY_WAIT_MAX: Duration = Duration::from_secs(15);

/// The longest idempotency key, in characters (they are ASCII): what a log's index takes.
const KEY_CHARS_MAX: usize = 128;

/// Under which ids are made from idempotency keys.
const ID_NAMESPACE: Uuid = Uuid::from_u128(0x7b0d_7a52_6f1e_4c0b_9d3c_52e1_8f6a_4410);

/// A command request, before its body is understood.
#[derive(Debug)]
pub struct Incoming {
    pub conversation: Conversation,
    pub principal: Principal,
    /// `POST /users/{id}/rename`
    route: String,
    /// `POST /users/0198.../rename`: what the fingerprint covers.
    concrete_route: String,
    /// The client's key, or one made for it.
    pub key: Name,
    key_is_given: bool,
    /// `If-Match`
    pub expected_version: Option<u64>,
    /// `Consistency-Token`
    pub token: ConsistencyToken,
    /// `Consistency-Wait`
    pub wait: Duration,
    body: Value,
}

impl<S: Send + Sync> FromRequest<S> for Incoming {
    type Rejection = Problem;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Problem> {
        let headers = request.headers();
        let conversation = request.extensions().get::<Conversation>().cloned();
        let conversation = conversation.unwrap_or_else(|| Conversation::of(headers));
        let principal = access::principal(request.extensions());
        let path = request.uri().path();
        let matched = request.extensions().get::<MatchedPath>().map_or(path, MatchedPath::as_str);
        let (route, concrete_route) = (route(request.method(), matched), route(request.method(), path));
        let given_key = idempotency_key(headers)?;
        let key_is_given = given_key.is_some();
        let expected_version = expected_version(headers)?;
        let (token, wait) = consistency(headers)?;
        let is_json = is_json(headers);
        let body = whole_body(request).await?;
        let body = match (body.is_empty(), is_json) {
            (true, None | Some(true)) => Value::Object(serde_json::Map::new()),
            (false, Some(true)) => serde_json::from_slice(&body).map_err(|error| {
                Problem::new(StatusCode::BAD_REQUEST, "invalid_json", format!("the body is not JSON: {error}"))
            })?,
            (_, Some(false)) | (false, None) => {
                let detail = "the body must be JSON, said with Content-Type: application/json";
                return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", detail));
            }
        };
        let key = given_key.unwrap_or_else(|| Uuid::now_v7().to_string().into());
        Ok(Self {
            conversation,
            principal,
            route,
            concrete_route,
            key,
            key_is_given,
            expected_version,
            token,
            wait,
            body,
        })
    }
}

impl Incoming {
    /// The body as a command's fields, or everything that is wrong with them.
    pub fn fields<T>(&self, read: impl FnOnce(&mut Fields<'_>) -> Option<T>) -> Result<T, Problem> {
        fields::read(&self.body, read).map_err(|errors| {
            let detail = format!("fields that are not as they should be: {}", errors.len());
            Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "validation_failed", detail).naming(errors)
        })
    }

    /// A body that says nothing more.
    pub fn no_fields(&self) -> Result<(), Problem> {
        self.fields(|_| Some(()))
    }

    /// (service, principal, route): within it a key names one command.
    pub fn scope(&self, service: &str) -> Name {
        format!("{service}|{}|{}", self.principal.name(), self.route).into()
    }

    /// Tells this request from another one under the same key. `body` is the command as understood, so that spacing
    /// and the order of fields do not count; it holds nothing that the server adds (times, made ids, prices).
    pub fn fingerprint(&self, identity: &LogIdentity, body: &impl Serialize) -> Result<Fingerprint, Problem> {
        let body = serde_json::to_vec(body).map_err(|error| Problem::internal(format!("canonical body: {error}")))?;
        Ok(Fingerprint::of(identity, &self.concrete_route, &body))
    }

    /// The id of what this request creates, if it does not say: made from its key, so that a retry names the same
    /// thing also when the log has forgotten the key. Without a key there is nothing to retry with.
    pub fn made_id(&self, service: &str) -> Uuid {
        if self.key_is_given {
            Uuid::new_v5(&ID_NAMESPACE, format!("{}|{}", self.scope(service), self.key).as_bytes())
        } else {
            Uuid::now_v7()
        }
    }

    /// What goes onto every event of this command.
    pub fn metadata(&self) -> Metadata {
        Metadata {
            actor: Some(self.principal.name().to_string()),
            causation_id: self.conversation.causation_id.map(|id| id.to_string()),
            ..self.conversation.metadata()
        }
    }
}

fn route(method: &Method, path: &str) -> String {
    format!("{method} {path}")
}

/// The body of a request, once all of it is there. Its routes bound it, with
/// [`DefaultBodyLimit`](axum::extract::DefaultBodyLimit).
pub async fn whole_body(request: Request) -> Result<Bytes, Problem> {
    let body = tokio::time::timeout(BODY_WAIT_MAX, Bytes::from_request(request, &())).await;
    body.map_err(|_| request_timeout())?.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => body_too_large(),
        _ => Problem::new(StatusCode::BAD_REQUEST, "body_unreadable", "the body did not arrive whole"),
    })
}

fn body_too_large() -> Problem {
    let detail = format!("the body is larger than {BODY_BYTES_MAX} bytes");
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", detail).with("limit_bytes", BODY_BYTES_MAX)
}

/// `None`: the request does not say.
fn is_json(headers: &HeaderMap) -> Option<bool> {
    let kind = headers.get(header::CONTENT_TYPE)?.to_str().unwrap_or_default();
    let essence = kind.split(';').next().unwrap_or_default().trim();
    Some(essence.eq_ignore_ascii_case("application/json"))
}

/// The one value of a header, as text.
fn single<'h>(headers: &'h HeaderMap, name: &HeaderName, code: &'static str) -> Result<Option<&'h str>, Problem> {
    let wrong = || Problem::new(StatusCode::BAD_REQUEST, code, format!("{name} must stand once, in printable ASCII"));
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => value.to_str().map(|text| Some(text.trim())).map_err(|_| wrong()),
        (Some(_), Some(_)) => Err(wrong()),
    }
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<Name>, Problem> {
    let key = single(headers, &IDEMPOTENCY_KEY, "invalid_idempotency_key")?;
    if key.is_some_and(|key| key.is_empty() || key.len() > KEY_CHARS_MAX || key.contains('\t')) {
        let detail = format!("Idempotency-Key must have 1 to {KEY_CHARS_MAX} printable ASCII characters");
        return Err(Problem::new(StatusCode::BAD_REQUEST, "invalid_idempotency_key", detail));
    }
    Ok(key.map(Name::from))
}

/// `"7"`: the version that an `ETag` gave; `*`: whichever.
fn expected_version(headers: &HeaderMap) -> Result<Option<u64>, Problem> {
    let Some(text) = single(headers, &header::IF_MATCH, "invalid_if_match")? else { return Ok(None) };
    if text == "*" {
        return Ok(None);
    }
    let version = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).and_then(|text| text.parse().ok());
    match version {
        Some(version) => Ok(Some(version)),
        None => {
            let detail = "If-Match must be one ETag as we gave it, such as \"7\", or *";
            Err(Problem::new(StatusCode::BAD_REQUEST, "invalid_if_match", detail))
        }
    }
}

fn consistency(headers: &HeaderMap) -> Result<(ConsistencyToken, Duration), Problem> {
    let values = |name| headers.get_all(name).into_iter().map(|value: &HeaderValue| value.to_str().ok());
    from_headers(values(TOKEN_HEADER), values(WAIT_HEADER)).map_err(|error| {
        let code = match error {
            HeaderError::Token(_) => "invalid_consistency_token",
            HeaderError::Wait(_) => "invalid_consistency_wait",
        };
        Problem::new(StatusCode::BAD_REQUEST, code, error.to_string())
    })
}

/// The `{id}` of a path.
#[derive(Debug, Clone, Copy)]
pub struct PathId(pub Uuid);

impl<S: Send + Sync> FromRequestParts<S> for PathId {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let wrong = || Problem::new(StatusCode::BAD_REQUEST, "invalid_id", "the id in the path must be a UUID");
        let Path(text) = Path::<String>::from_request_parts(parts, state).await.map_err(|_| wrong())?;
        let id = Uuid::parse_str(&text).map_err(|_| wrong())?;
        Ok(Self(id))
    }
}

/// The `Consistency-Token` of a read.
#[derive(Debug, Clone)]
pub struct ReadToken(pub ConsistencyToken);

impl<S: Send + Sync> FromRequestParts<S> for ReadToken {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        consistency(&parts.headers).map(|(token, _)| Self(token))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &HeaderName, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(name.clone(), HeaderValue::from_static(value))])
    }

    #[test]
    fn an_if_match_is_an_etag_of_ours() {
        for (text, version) in
            [("\"7\"", Some(Some(7))), ("*", Some(None)), ("7", None), ("W/\"7\"", None), ("\"x\"", None)]
        {
            assert_eq!(expected_version(&headers(&header::IF_MATCH, text)).ok(), version, "{text}");
        }
        assert_eq!(expected_version(&HeaderMap::new()).ok(), Some(None));
    }

    #[test]
    fn an_idempotency_key_is_printable_and_bounded() {
        assert!(idempotency_key(&headers(&IDEMPOTENCY_KEY, "import-42/x")).unwrap().is_some());
        assert!(idempotency_key(&headers(&IDEMPOTENCY_KEY, "")).is_err());
        let long = HeaderMap::from_iter([(IDEMPOTENCY_KEY, HeaderValue::from_bytes(&[b'k'; 129]).unwrap())]);
        assert!(idempotency_key(&long).is_err());
    }
}
