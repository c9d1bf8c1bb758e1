//! Around every request: correlation id and trace context, the one log line, panics, the last timeout.

use std::{panic::AssertUnwindSafe, time::Duration};

use axum::{
    extract::Request,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode},
    middleware::Next,
    response::{IntoResponse, Response},
};
use events::{envelope::Metadata, payments::holds_card_number};
use futures::FutureExt;
use tracing::Instrument;
use uuid::Uuid;

use super::{fields::WITHHELD, problem::Problem};

pub const CORRELATION_ID: HeaderName = HeaderName::from_static("x-correlation-id");
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The event because of which a service commands another.
pub const CAUSATION_ID: HeaderName = HeaderName::from_static("x-causation-id");
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// The longest that any request may take: a feed's long poll (30 s) and then some.
pub const REQUEST_WAIT_MAX: Duration = Duration::from_secs(60);

/// The longest correlation id that is taken over, in characters: it goes onto every event.
const CORRELATION_CHARS_MAX: usize = 128;

/// What a request belongs to. Every handler finds it in the request's extensions.
#[derive(Debug, Clone)]
pub struct Conversation {
    pub correlation_id: String,
    pub traceparent: String,
    /// What caused it; `None` where a person or a program of somebody else begins.
    pub causation_id: Option<Uuid>,
}

impl Conversation {
    /// As the request's headers say; what is absent or of no use is made.
    pub fn of(headers: &HeaderMap) -> Self {
        let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok()).map(str::trim);
        let usable = |id: &&str| !id.is_empty() && id.len() <= CORRELATION_CHARS_MAX;
        let correlation_id = text(CORRELATION_ID).filter(usable).or_else(|| text(REQUEST_ID).filter(usable));
        let causation_id = text(CAUSATION_ID).and_then(|id| Uuid::parse_str(id).ok());
        let traceparent = text(TRACEPARENT).filter(|text| is_traceparent(text));
        Self {
            correlation_id: correlation_id.map_or_else(|| Uuid::now_v7().to_string(), str::to_owned),
            traceparent: traceparent.map_or_else(new_traceparent, str::to_owned),
            causation_id,
        }
    }

    /// What goes onto every event of the request, whoever is said to have caused it.
    pub fn metadata(&self) -> Metadata {
        Metadata {
            correlation_id: Some(self.correlation_id.clone()),
            traceparent: Some(self.traceparent.clone()),
            ..Metadata::default()
        }
    }
}

/// The layer: `router.layer(axum::middleware::from_fn(trace::around))`. Inside another one it does nothing, so that a
/// service has it alone as well as among others.
pub async fn around(mut request: Request, next: Next) -> Response {
    if request.extensions().get::<Conversation>().is_some() {
        return next.run(request).await;
    }
    let conversation = Conversation::of(request.headers());
    if let Ok(id) = HeaderValue::from_str(&conversation.correlation_id) {
        // routes that are not ours know the conversation by its header only
        request.headers_mut().insert(CORRELATION_ID, id);
    }
    let method = request.method().clone();
    let path = logged(request.uri().path()).to_owned();
    let Conversation { correlation_id, traceparent, causation_id } = &conversation;
    let causation_id = causation_id.map(tracing::field::display);
    // at the highest level, so that no filter takes the ids from the lines that it lets through
    let span = tracing::error_span!("request", %method, path, correlation_id, causation_id, traceparent);
    request.extensions_mut().insert(conversation.clone());
    let answer = AssertUnwindSafe(tokio::time::timeout(REQUEST_WAIT_MAX, next.run(request))).catch_unwind();
    let response = match answer.instrument(span.clone()).await {
        Ok(Ok(response)) => response,
        Ok(Err(_)) => unended().into_response(),
        Err(_) => Problem::internal("a handler panicked").into_response(),
    };
    let _entered = span.enter();
    finish(response, &conversation)
}

/// A path as the log may have it: whoever puts a card number into an address does not find it there.
fn logged(path: &str) -> &str {
    if holds_card_number(path) { WITHHELD } else { path }
}

/// The body of a request did not come, so nothing was done.
pub(super) fn request_timeout() -> Problem {
    Problem::new(StatusCode::REQUEST_TIMEOUT, "request_timeout", "the request did not arrive in time; try again")
}

/// What was begun for a request goes on without it, or is given up: nobody knows.
fn unended() -> Problem {
    let detail =
        "the request did not end in time; whether a command took effect is not known: send it again with its key";
    Problem::new(StatusCode::REQUEST_TIMEOUT, "request_timeout", detail)
}

fn finish(mut response: Response, conversation: &Conversation) -> Response {
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        let cause = problem.more.cause.as_deref().unwrap_or(&problem.detail);
        if problem.status == StatusCode::INTERNAL_SERVER_ERROR {
            tracing::error!(code = &*problem.code, "{cause}");
        } else if problem.status.is_server_error() {
            tracing::warn!(code = &*problem.code, "{cause}");
        } else {
            tracing::debug!(code = &*problem.code, status = problem.status.as_u16(), "refused");
        }
        response = problem.render(Some(&conversation.correlation_id));
    }
    for (name, value) in [(CORRELATION_ID, &conversation.correlation_id), (TRACEPARENT, &conversation.traceparent)] {
        if let Ok(value) = HeaderValue::from_str(value) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

/// W3C trace context, version 00: `00-<32 hex>-<16 hex>-<2 hex>`, lower case, ids not zero.
fn is_traceparent(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let hex = |part: &str, digits: usize| {
        part.len() == digits && part.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
    };
    let is_zero = |part: &str| part.bytes().all(|byte| byte == b'0');
    match parts[..] {
        ["00", trace, span, flags] => {
            hex(trace, 32) && hex(span, 16) && hex(flags, 2) && !is_zero(trace) && !is_zero(span)
        }
        _ => false,
    }
}

/// A trace that begins here, not sampled.
fn new_traceparent() -> String {
    let span = Uuid::new_v4().simple().to_string();
    format!("00-{}-{}-00", Uuid::new_v4().simple(), &span[16..])
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::{Arc, Mutex},
    };

    use axum::{Router, body::Body, middleware::from_fn, routing::get};
    use tower::ServiceExt;
    use tracing::{Level, instrument::WithSubscriber};

    use super::*;

    /// What was logged.
    #[derive(Clone, Default)]
    struct Said(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Said {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn what_is_our_fault_is_logged_with_the_ids_of_its_answer_also_when_only_warnings_are() {
        let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let said = Said::default();
        let writer = said.clone();
        let subscriber = tracing_subscriber::fmt().with_max_level(Level::WARN).with_ansi(false);
        let subscriber = subscriber.with_writer(move || writer.clone()).finish();
        let broken =
            Router::new().route("/", get(async || Problem::internal("a wheel came off"))).layer(from_fn(around));
        let request = Request::get("/").header(CORRELATION_ID, "c-7").header(TRACEPARENT, trace).body(Body::empty());
        let answer = broken.oneshot(request.unwrap()).with_subscriber(subscriber).await.unwrap();
        assert_eq!((answer.status().as_u16(), answer.headers()[CORRELATION_ID].to_str().unwrap()), (500, "c-7"));
        let said = String::from_utf8(said.0.lock().unwrap().clone()).unwrap();
        assert!(said.contains("a wheel came off") && said.contains("c-7") && said.contains(trace), "{said}");
    }

    #[test]
    fn a_trace_context_is_taken_over_only_when_it_is_one() {
        assert!(is_traceparent("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"));
        assert!(is_traceparent(&new_traceparent()));
        for wrong in [
            "",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
        ] {
            assert!(!is_traceparent(wrong), "{wrong}");
        }
    }

    #[test]
    fn a_card_number_in_an_address_is_not_logged() {
        assert_eq!(logged("/payments/4242424242424242/refund"), WITHHELD);
        let fine = "/payments/0198c0de-0000-7000-8000-000000000031/refund";
        assert_eq!(logged(fine), fine);
    }

    #[test]
    fn a_correlation_id_is_taken_from_either_header_or_made() {
        let mut headers = HeaderMap::new();
        assert_eq!(Conversation::of(&headers).correlation_id.len(), 36);
        headers.insert(REQUEST_ID, HeaderValue::from_static("r-1"));
        assert_eq!(Conversation::of(&headers).correlation_id, "r-1");
        headers.insert(CORRELATION_ID, HeaderValue::from_static("c-1"));
        assert_eq!(Conversation::of(&headers).correlation_id, "c-1");
        headers.insert(CORRELATION_ID, HeaderValue::from_bytes(&[b'x'; 200]).unwrap());
        assert_eq!(Conversation::of(&headers).correlation_id, "r-1");
    }
}
