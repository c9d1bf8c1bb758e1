//! Another service as this one may ask and command it: by its own HTTP API, in the same process or over the network.
//!
//! The way in is that of every client, so that keys, refusals and bounds are the same for services. Who asks is the
//! service itself: in the same process a [`Principal`] says so, over the network a token ([`there`]). What was asked goes
//! on in the conversation that caused it.
//!
//! An answer is an answer, whatever its status; an error says that there was none that could be used. Whether the other
//! did what it was asked is then not known: ask again, with the same key.

mod there;

use std::{error::Error, path::PathBuf, pin::pin, time::Duration};

use axum::{
    Router,
    body::{Body, Bytes},
    http::{
        HeaderName, HeaderValue, Method, Request,
        header::{CONTENT_TYPE, IF_MATCH},
    },
};
use event_store::token_file::TokenError;
use events::principal::Principal;
use futures::{Stream, StreamExt};
use serde_json::Value;
use thiserror::Error;
use tower::ServiceExt;
use uuid::Uuid;

use self::there::There;
use crate::edge::{
    request::IDEMPOTENCY_KEY,
    trace::{CAUSATION_ID, CORRELATION_ID, Conversation, TRACEPARENT},
};

/// How long the answer to a question may take. Shorter than to a command: a service may have to ask another one before it
/// can answer a command.
const QUESTION_WAIT_MAX: Duration = Duration::from_secs(5);

/// How long the answer to a command may take: it is stored by then, and a database may be busy.
const COMMAND_WAIT_MAX: Duration = Duration::from_secs(10);

/// The largest answer that is read: one resource.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;

/// Cheap to clone.
#[derive(Clone)]
pub enum Peer {
    /// Its routes, called without a network.
    Here(Router),
    /// A server.
    There(There),
}

/// A command to another service.
#[derive(Debug, Clone)]
pub struct PeerCommand {
    /// `/orders/0198.../confirm`
    pub path: String,
    pub body: Value,
    /// The idempotency key: the same for each attempt.
    pub key: String,
    /// `If-Match: *`, for commands that want to know a version: whichever it is.
    pub any_version: bool,
    pub correlation_id: Option<String>,
    /// The event because of which it is given.
    pub causation_id: Option<Uuid>,
    pub traceparent: Option<String>,
    /// The service that asks. Over the network it is the token that says who.
    pub principal: &'static str,
}

/// A question to another service.
#[derive(Debug, Clone)]
pub struct PeerQuestion {
    /// `/users/0198...`
    pub path: String,
    pub correlation_id: Option<String>,
    pub traceparent: Option<String>,
    /// As with a [`PeerCommand`].
    pub principal: &'static str,
}

impl PeerQuestion {
    /// A question that `principal` asks on the way to answering somebody else's.
    pub fn within(conversation: &Conversation, principal: &'static str, path: String) -> Self {
        let Conversation { correlation_id, traceparent, .. } = conversation.clone();
        Self { path, correlation_id: Some(correlation_id), traceparent: Some(traceparent), principal }
    }
}

/// What the other service answered.
#[derive(Debug, Clone, PartialEq)]
pub struct PeerAnswer {
    pub status: u16,
    /// Null when it is no JSON, which an answer of success always is.
    pub body: Value,
}

/// The service did not answer, or not as it should. Holds nothing of the answer's body, which may hold anything.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PeerError {
    #[error("ask another service: {0}")]
    Unreachable(String),
    #[error("ask another service: no answer within {} s", .0.as_secs())]
    Late(Duration),
    #[error("ask another service: the answer is larger than {ANSWER_BYTES_MAX} bytes")]
    TooLarge,
    #[error("ask another service: it answers {0}")]
    Status(u16),
    #[error("ask another service: the answer is not JSON")]
    NotJson,
    #[error("ask another service: {what} cannot be sent")]
    NotSendable { what: &'static str },
    #[error("ask another service: {0}")]
    Token(#[from] TokenError),
}

/// What goes out, by either way.
struct Call {
    method: Method,
    path: String,
    headers: Vec<(HeaderName, HeaderValue)>,
    body: Vec<u8>,
    principal: &'static str,
    wait: Duration,
}

impl Peer {
    pub fn here(router: Router) -> Self {
        Self::Here(router)
    }

    /// `base_url` is what stands before `/{resource}`: `http://users:8080`. `token_file` holds the token that is shown,
    /// which needs the scope `service`; it is read anew for each call, so that whoever keeps it may replace it.
    pub fn there(base_url: &str, token_file: Option<PathBuf>) -> Result<Self, PeerError> {
        There::try_new(base_url, token_file).map(Self::There)
    }

    /// Gives a command. The answer may be a refusal, and a 409, 429 or 503 is worth the same again.
    pub async fn send(&self, command: &PeerCommand) -> Result<PeerAnswer, PeerError> {
        let mut headers = conversation(command.correlation_id.as_deref(), command.traceparent.as_deref());
        let cause = command.causation_id.and_then(|id| HeaderValue::from_str(&id.to_string()).ok());
        headers.extend(cause.map(|id| (CAUSATION_ID, id)));
        headers.push((CONTENT_TYPE, HeaderValue::from_static("application/json")));
        let key = HeaderValue::from_str(&command.key).map_err(|_| PeerError::NotSendable { what: "the key" })?;
        headers.push((IDEMPOTENCY_KEY, key));
        if command.any_version {
            headers.push((IF_MATCH, HeaderValue::from_static("*")));
        }
        let body = serde_json::to_vec(&command.body).map_err(|_| PeerError::NotSendable { what: "the body" })?;
        let (method, path, principal) = (Method::POST, command.path.clone(), command.principal);
        let call = Call { method, path, headers, body, principal, wait: COMMAND_WAIT_MAX };
        let (status, body) = self.call(call).await?;
        let body = match (serde_json::from_slice(&body), status) {
            (Ok(body), _) => body,
            (Err(_), 200..300) => return Err(PeerError::NotJson),
            (Err(_), _) => Value::Null,
        };
        Ok(PeerAnswer { status, body })
    }

    /// A resource's own confirmed state: `None` = there is none.
    pub async fn show(&self, question: &PeerQuestion) -> Result<Option<Value>, PeerError> {
        let headers = conversation(question.correlation_id.as_deref(), question.traceparent.as_deref());
        let (method, path, principal) = (Method::GET, question.path.clone(), question.principal);
        let call = Call { method, path, headers, body: Vec::new(), principal, wait: QUESTION_WAIT_MAX };
        match self.call(call).await? {
            (200, body) => serde_json::from_slice(&body).map(Some).map_err(|_| PeerError::NotJson),
            (404, _) => Ok(None),
            (status, _) => Err(PeerError::Status(status)),
        }
    }

    async fn call(&self, call: Call) -> Result<(u16, Vec<u8>), PeerError> {
        // what stands before a path could make it another host
        if !call.path.starts_with('/') {
            return Err(PeerError::NotSendable { what: "the path" });
        }
        let wait = call.wait;
        let answer = async {
            match self {
                Self::Here(router) => here(router.clone(), call).await,
                Self::There(server) => server.call(call).await,
            }
        };
        let (status, body) = tokio::time::timeout(wait, answer).await.map_err(|_| PeerError::Late(wait))??;
        // no service of ours sends anybody elsewhere
        if (200..300).contains(&status) || status >= 400 { Ok((status, body)) } else { Err(PeerError::Status(status)) }
    }
}

/// What cannot be a header is left out: it is for people who read logs, and nothing depends on it.
fn conversation(correlation_id: Option<&str>, traceparent: Option<&str>) -> Vec<(HeaderName, HeaderValue)> {
    let header = |name, value: Option<&str>| Some((name, HeaderValue::from_str(value?).ok()?));
    [header(CORRELATION_ID, correlation_id), header(TRACEPARENT, traceparent)].into_iter().flatten().collect()
}

async fn here(router: Router, call: Call) -> Result<(u16, Vec<u8>), PeerError> {
    let mut request = Request::builder().method(call.method).uri(call.path).body(Body::from(call.body));
    if let Ok(request) = &mut request {
        request.headers_mut().extend(call.headers);
        request.extensions_mut().insert(Principal::service(call.principal));
    }
    let request = request.map_err(|_| PeerError::NotSendable { what: "the path" })?;
    let response = match router.oneshot(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    };
    let status = response.status().as_u16();
    Ok((status, bounded(response.into_body().into_data_stream(), |error| story(&error)).await?))
}

/// Reads what comes, unless it is too much.
async fn bounded<E>(
    chunks: impl Stream<Item = Result<Bytes, E>>,
    say: impl Fn(E) -> String,
) -> Result<Vec<u8>, PeerError> {
    let (mut chunks, mut body) = (pin!(chunks), Vec::new());
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|error| PeerError::Unreachable(say(error)))?;
        if body.len() + chunk.len() > ANSWER_BYTES_MAX {
            return Err(PeerError::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// An error with its causes: what failed of a connection stands in the last one.
fn story(error: &(dyn Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| (*error).source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests;
