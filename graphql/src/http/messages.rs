//! The messages of `graphql-transport-ws`, as the protocol of that name says.

use async_graphql::ServerError;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header::AUTHORIZATION};
use events::consistency::{TOKEN_HEADER, WAIT_HEADER};
use serde::Serialize;
use serde_json::{Map, Value};

use super::params::Params;

/// The subprotocol.
pub(super) const PROTOCOL: &str = "graphql-transport-ws";

/// The longest id of an operation, in bytes: it comes back with every answer.
const ID_BYTES_MAX: usize = 128;

/// Why a socket is closed, as the protocol numbers it; below 4000 as WebSocket itself does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub(super) enum Code {
    Normal = 1000,
    GoingAway = 1001,
    TooBig = 1009,
    InvalidMessage = 4400,
    /// An operation before the connection was acknowledged.
    Unauthorized = 4401,
    /// Whoever this is is not let in, or not any longer.
    Forbidden = 4403,
    SubprotocolNotAcceptable = 4406,
    InitialisationTimeout = 4408,
    SubscriberAlreadyExists = 4409,
    TooManyInitialisations = 4429,
}

/// What a client says.
#[derive(Debug)]
pub(super) enum FromClient {
    Init(Map<String, Value>),
    Ping(Option<Map<String, Value>>),
    Pong,
    /// The parameters are those of a request over HTTP; headers for this operation are in its extensions.
    Subscribe {
        id: String,
        params: Params,
        headers: HeaderMap,
    },
    Complete {
        id: String,
    },
}

impl FromClient {
    /// Errors: why it is no message of the protocol.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let Ok(Value::Object(mut members)) = serde_json::from_str(text) else {
            return Err("a message is a JSON object".to_owned());
        };
        let Some(Value::String(kind)) = members.remove("type") else {
            return Err("a message has a type".to_owned());
        };
        let payload = |members: &mut Map<String, Value>| match members.remove("payload") {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Object(payload)) => Ok(Some(payload)),
            Some(_) => Err(format!("the payload of {kind} is an object")),
        };
        let id = |members: &mut Map<String, Value>| match members.remove("id") {
            Some(Value::String(id)) if (1..=ID_BYTES_MAX).contains(&id.len()) => Ok(id),
            _ => Err(format!("the id of {kind} is a text of 1 to {ID_BYTES_MAX} bytes")),
        };
        match kind.as_str() {
            "connection_init" => Ok(Self::Init(payload(&mut members)?.unwrap_or_default())),
            "ping" => Ok(Self::Ping(payload(&mut members)?)),
            "pong" => payload(&mut members).map(|_| Self::Pong),
            "complete" => Ok(Self::Complete { id: id(&mut members)? }),
            "subscribe" => {
                let id = id(&mut members)?;
                let payload = payload(&mut members)?.ok_or("subscribe has a payload")?;
                let headers = match payload.get("extensions") {
                    Some(Value::Object(extensions)) => headers_of(extensions)?,
                    _ => HeaderMap::new(),
                };
                let params = Params::from_members(payload).map_err(|error| error.message)?;
                Ok(Self::Subscribe { id, params, headers })
            }
            _ => Err("there is no such message from a client".to_owned()),
        }
    }
}

/// The headers that a browser cannot set on a socket: by their names, whatever their case, or all of them in `headers`.
/// Whatever else there is means nothing here.
pub(super) fn headers_of(members: &Map<String, Value>) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    let within = members.get("headers").and_then(Value::as_object);
    for (name, value) in within.into_iter().flatten().chain(members) {
        let Some(header) = header_named(name) else { continue };
        let value = match value {
            Value::Null => continue,
            Value::String(text) => HeaderValue::from_str(text.trim()).ok(),
            _ => None,
        };
        let value = value.ok_or_else(|| format!("{name} is a text, as the header of this name"))?;
        headers.insert(header, value);
    }
    Ok(headers)
}

fn header_named(name: &str) -> Option<HeaderName> {
    let known = [
        AUTHORIZATION,
        HeaderName::from_static(TOKEN_HEADER),
        HeaderName::from_static(WAIT_HEADER),
        HeaderName::from_static("x-correlation-id"),
        HeaderName::from_static("x-request-id"),
    ];
    known.into_iter().find(|known| name.eq_ignore_ascii_case(known.as_str()))
}

/// `connection_ack`.
pub(super) fn ack() -> String {
    r#"{"type":"connection_ack"}"#.to_owned()
}

/// The answer to a `ping`, with what it said.
pub(super) fn pong(payload: Option<&Map<String, Value>>) -> String {
    #[derive(Serialize)]
    struct Pong<'a> {
        r#type: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        payload: Option<&'a Map<String, Value>>,
    }
    text(&Pong { r#type: "pong", payload })
}

/// An answer, which is JSON already.
pub(super) fn next(id: &str, json: &str) -> String {
    format!(r#"{{"id":{},"type":"next","payload":{json}}}"#, text(&id))
}

/// The operation has failed, and ends with it.
pub(super) fn error(id: &str, errors: &[ServerError]) -> String {
    format!(r#"{{"id":{},"type":"error","payload":{}}}"#, text(&id), text(&errors))
}

/// The operation has ended.
pub(super) fn complete(id: &str) -> String {
    format!(r#"{{"id":{},"type":"complete"}}"#, text(&id))
}

fn text(message: &impl Serialize) -> String {
    serde_json::to_string(message).expect("texts and GraphQL values are always JSON")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_no_message_is_refused_with_the_reason() {
        for wrong in [
            "",
            "nonsense",
            "[]",
            "{}",
            r#"{"type":7}"#,
            r#"{"type":"start"}"#,
            r#"{"type":"connection_ack"}"#,
            r#"{"type":"connection_init","payload":7}"#,
            r#"{"type":"ping","payload":"x"}"#,
            r#"{"type":"subscribe"}"#,
            r#"{"type":"subscribe","id":"","payload":{"query":"{a}"}}"#,
            r#"{"type":"subscribe","id":"1"}"#,
            r#"{"type":"subscribe","id":"1","payload":{}}"#,
            r#"{"type":"subscribe","id":"1","payload":{"query":7}}"#,
            r#"{"type":"subscribe","id":"1","payload":{"query":"{a}","variables":7}}"#,
            r#"{"type":"subscribe","id":"1","payload":{"query":"{a}","extensions":{"authorization":7}}}"#,
            r#"{"type":"complete"}"#,
            r#"{"type":"complete","id":7}"#,
        ] {
            assert!(FromClient::parse(wrong).is_err_and(|reason| reason.len() <= 123), "{wrong}");
        }
    }

    #[test]
    fn headers_come_flat_or_in_a_member_of_their_own_and_in_any_case() {
        let init =
            r#"{"headers":{"Consistency-Token":"a"},"authorization":"Bearer b","other":7,"Consistency-Wait":null}"#;
        let headers = headers_of(&serde_json::from_str(init).unwrap()).unwrap();
        assert_eq!(
            (&headers["consistency-token"], &headers["authorization"]),
            (&"a".parse().unwrap(), &"Bearer b".parse().unwrap())
        );
        assert_eq!(headers.len(), 2);
    }

    proptest! {
        #[test]
        fn any_text_is_a_message_or_an_error(text in r#"(\{"type":"[a-z_]{0,20}"(,"id":"[a-z]{0,3}")?(,"payload":.{0,20})?\}|.{0,60})"#) {
            let _ = FromClient::parse(&text);
        }
    }
}
