//! From a request to the answer of whose address it is.
//!
//! A request is taken in whole before it goes on: it is small, whoever sends it slowly waits here and not in a service, and
//! it can go to another replica when one is not there. Answers stream.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    body::{Body, Bytes, to_bytes},
    extract::{ConnectInfo, Request, State},
    http::{
        HeaderMap, HeaderValue, Method, StatusCode, Version,
        header::{AUTHORIZATION, CONTENT_TYPE, HOST},
        request::Parts,
        uri::{Authority, PathAndQuery, Scheme, Uri},
    },
    response::{IntoResponse, Response},
};
use events::{asker::Asker, principal::Principal};
use futures::StreamExt;
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::{Client, Error, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;
use write_side::{
    REGISTER,
    edge::{
        self, Problem, access,
        request::{IDEMPOTENCY_KEY, whole_body},
        trace::{CORRELATION_ID, Conversation, TRACEPARENT},
    },
};

use super::{
    headers,
    place::{Place, UNANSWERED_MAX},
    seats::Seats,
    tunnel::{self, Caller},
    upstreams::{Upstream, Upstreams},
};
use crate::guard::TOKENS_ASKED_FOR;

/// For a connection to come about.
const CONNECT_WAIT_MAX: Duration = Duration::from_secs(3);

/// For the head of an answer. Longer than whatever a role waits for (30 s for a feed or a token, 55 s for a GraphQL
/// operation), shorter than what any request may take.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(58);

/// An answer that takes longer is late: then it is asked whether the server lives. Only what waits for something takes as
/// long (a feed, a token), so that is not often.
const LATE: Duration = Duration::from_secs(5);

/// For a server to say that it lives, and how long it is left alone if it does not. Less than whoever asks for our own health
/// waits (two seconds, in our image).
const HEALTH_WAIT_MAX: Duration = Duration::from_secs(1);
const WATCH_EVERY: Duration = Duration::from_secs(1);

/// For what the gateway asks for itself.
const QUESTION_WAIT_MAX: Duration = Duration::from_secs(3);

/// For a doctor: it reads whole logs.
const DOCTOR_WAIT_MAX: Duration = Duration::from_secs(50);

/// The largest answer to what the gateway asks for itself.
const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Connections that are kept to each server while nothing goes over them, and for how long: less than a server waits for
/// the next head.
const IDLE_MAX: usize = 64;
const IDLE_WAIT_MAX: Duration = Duration::from_secs(15);

/// Cheap to clone.
#[derive(Clone)]
pub struct Proxy {
    shared: Arc<Shared>,
}

struct Shared {
    client: Client<HttpConnector, Body>,
    upstreams: Upstreams,
    /// Who we are in `Via`: no other process.
    name: String,
    /// What services said of themselves when they were last asked.
    documents: Mutex<BTreeMap<&'static str, Value>>,
    seats: Seats,
    closing: CancellationToken,
    /// Sockets, and looks at servers that are late.
    tasks: TaskTracker,
}

/// The handler of everything that is somebody else's.
pub async fn pass_on(State(proxy): State<Proxy>, request: Request) -> Response {
    proxy.pass_on(request).await.unwrap_or_else(IntoResponse::into_response)
}

impl Proxy {
    pub fn new(places: BTreeMap<&'static str, Vec<Authority>>) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT_WAIT_MAX));
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_WAIT_MAX)
            .pool_max_idle_per_host(IDLE_MAX)
            .build(connector);
        let shared = Shared {
            client,
            upstreams: Upstreams::new(places),
            name: format!("tributary-{}", Uuid::new_v4().simple()),
            documents: Mutex::default(),
            seats: Seats::default(),
            closing: CancellationToken::new(),
            tasks: TaskTracker::new(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Cuts off sockets and event streams.
    pub fn close(&self) {
        self.shared.closing.cancel();
    }

    pub async fn shutdown(&self) {
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
    }

    async fn pass_on(&self, mut request: Request) -> Result<Response, Problem> {
        let Some(upstream) = self.shared.upstreams.of(request.uri().path()) else {
            return Err(edge::not_found().await);
        };
        let caller = self.caller(&mut request)?;
        let (mut head, body) = request.into_parts();
        // nobody reads the body of what only reads, and whoever has no token may ask for some of that
        let body = match head.method {
            Method::GET | Method::HEAD => Bytes::new(),
            _ => whole_body(Request::from_parts(head.clone(), body)).await?,
        };
        headers::strip_request(&mut head.headers);
        if !headers::note(&mut head.headers, &self.shared.name) {
            let detail = format!("the address of {} that the gateway was given leads back to it", upstream.name);
            return Err(Problem::new(StatusCode::LOOP_DETECTED, "gateway_loop", detail));
        }
        if caller.is_some() {
            headers::upgrade(&mut head.headers);
        }
        if access::principal(&head.extensions) != Principal::anonymous() {
            head.headers.insert(TOKENS_ASKED_FOR, HeaderValue::from_static("1"));
        }
        if let Some(conversation) = head.extensions.get::<Conversation>() {
            let ids = [(CORRELATION_ID, &conversation.correlation_id), (TRACEPARENT, &conversation.traceparent)];
            for (name, id) in ids {
                if let Ok(id) = HeaderValue::from_str(id) {
                    // instead of what the caller sent, which may be of no use
                    head.headers.insert(name, id);
                }
            }
        }
        let answered = tokio::time::timeout(ANSWER_WAIT_MAX, self.send(upstream, &head, body)).await;
        let mut answer = answered.map_err(|_| timed_out(upstream))??;
        let is_socket = answer.status() == StatusCode::SWITCHING_PROTOCOLS;
        tunnel::join(caller, &mut answer, &self.shared.tasks, &self.shared.closing);
        headers::strip(answer.headers_mut());
        if is_socket {
            headers::upgrade(answer.headers_mut());
        }
        Ok(self.until_closing(answer))
    }

    /// Who wants a socket, if this request asks for one and there is room.
    fn caller(&self, request: &mut Request) -> Result<Option<Caller>, Problem> {
        if !headers::asks_for_socket(request.headers()) {
            return Ok(None);
        }
        let Some(connection) = tunnel::connection(request) else { return Ok(None) };
        let principal = access::principal(request.extensions());
        let address = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|peer| peer.0.ip());
        let seat = self.shared.seats.take(&principal, Asker::of(&principal, address))?;
        Ok(Some(Caller { connection, seat }))
    }

    /// Sends a request to the replica whose turn it is, or to the next one if this one did nothing with it, or nothing that
    /// sending it again could double: commands have their key. One that has enough to do is passed over.
    async fn send(&self, upstream: &Upstream, head: &Parts, body: Bytes) -> Result<Response, Problem> {
        let mut failed = None;
        for place in upstream.turn() {
            let Some(_room) = place.room() else { continue };
            match self.answer(place, aimed(head, &place.authority, body.clone())).await {
                Ok(answer) => return Ok(answer.map(Body::new)),
                Err(error) => {
                    let is_repeatable = head.method.is_safe() || head.headers.contains_key(IDEMPOTENCY_KEY);
                    let again = error.is_connect() || is_repeatable;
                    failed = Some((place, error));
                    if !again {
                        break;
                    }
                }
            }
        }
        Err(failed.map_or_else(|| busy(upstream), |(place, error)| away(upstream, place, &error)))
    }

    /// What a server answers, however late.
    async fn answer(&self, place: &Arc<Place>, request: Request) -> Result<Response<Incoming>, Error> {
        let mut answer = pin!(self.shared.client.request(request));
        match tokio::time::timeout(LATE, answer.as_mut()).await {
            Ok(answer) => answer,
            Err(_) => {
                self.watch(place);
                answer.await
            }
        }
    }

    /// Asks a server whether it lives until it says so. A frozen one takes requests like any other, and would be sent its
    /// share for ever.
    fn watch(&self, place: &Arc<Place>) {
        if !place.begin_watch() {
            return;
        }
        let (proxy, place) = (self.clone(), Arc::clone(place));
        self.shared.tasks.spawn(async move {
            let answers = async {
                while tokio::time::timeout(HEALTH_WAIT_MAX, proxy.get(&place, "/livez", None)).await.is_err() {
                    place.falls_silent();
                    tokio::time::sleep(WATCH_EVERY).await;
                }
            };
            tokio::select! {
                () = answers => place.end_watch(),
                () = proxy.shared.closing.cancelled() => {}
            }
        });
    }

    /// An event stream has no end of its own: it ends with us, and whoever reads it comes back.
    fn until_closing(&self, answer: Response) -> Response {
        let kind = answer.headers().get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
        if !kind.starts_with(b"text/event-stream") {
            return answer;
        }
        let closing = self.shared.closing.clone();
        answer.map(|body| Body::from_stream(body.into_data_stream().take_until(closing.cancelled_owned())))
    }

    /// The services, in the order of the register.
    pub fn services(&self) -> impl Iterator<Item = &'static str> {
        REGISTER.iter().map(|entry| entry.name)
    }

    /// Every server behind us, and who it is.
    pub fn everybody(&self) -> Vec<(Arc<Place>, String)> {
        self.shared.upstreams.places()
    }

    /// What a service says of itself; what it last said, if it does not answer.
    pub async fn document(&self, service: &'static str) -> Option<Value> {
        let upstream = self.shared.upstreams.get(service)?;
        let path = format!("/{service}/openapi.json");
        for place in upstream.turn() {
            if let Ok(document) = self.question::<Value>(place, &path, None, QUESTION_WAIT_MAX).await {
                self.documents().insert(service, document);
                break;
            }
        }
        self.documents().get(service).cloned()
    }

    fn documents(&self) -> std::sync::MutexGuard<'_, BTreeMap<&'static str, Value>> {
        self.shared.documents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a server answers to the operator who asks us.
    pub async fn ask<T: DeserializeOwned>(
        &self,
        place: &Place,
        path: &str,
        authorization: Option<&HeaderValue>,
    ) -> Result<T, String> {
        self.question(place, path, authorization, DOCTOR_WAIT_MAX).await
    }

    /// Whether a server answers, and is there for whom it is there. Everybody may ask for that and nobody is limited, so all
    /// are answered by one question a second, and within one.
    pub async fn has_started(&self, place: &Place) -> bool {
        let asked = async {
            let asked = tokio::time::timeout(HEALTH_WAIT_MAX, self.get(place, "/startupz", None)).await;
            asked.is_ok_and(|answer| answer.is_ok_and(|answer| answer.status() == StatusCode::OK))
        };
        place.is_well(asked).await
    }

    async fn question<T: DeserializeOwned>(
        &self,
        place: &Place,
        path: &str,
        authorization: Option<&HeaderValue>,
        wait: Duration,
    ) -> Result<T, String> {
        let asked = async {
            let answer = self.get(place, path, authorization).await?;
            if answer.status() != StatusCode::OK {
                return Err(format!("it answers {}", answer.status()));
            }
            let body = to_bytes(answer.into_body(), ANSWER_BYTES_MAX).await.map_err(|error| error.to_string())?;
            serde_json::from_slice(&body).map_err(|error| format!("its answer cannot be understood: {error}"))
        };
        tokio::time::timeout(wait, asked).await.map_err(|_| format!("no answer within {} s", wait.as_secs()))?
    }

    async fn get(&self, place: &Place, path: &str, authorization: Option<&HeaderValue>) -> Result<Response, String> {
        let mut request = Request::get(path).body(()).map_err(|error| error.to_string())?.into_parts().0;
        if let Some(authorization) = authorization {
            request.headers.insert(AUTHORIZATION, authorization.clone());
        }
        let answer = self.shared.client.request(aimed(&request, &place.authority, Bytes::new())).await;
        answer.map(|answer| answer.map(Body::new)).map_err(|error| story(&error))
    }
}

/// The same request, to go to one server. `Host` stays: it is the name that the caller knows us by, and whose pages may open
/// sockets depends on it.
fn aimed(head: &Parts, place: &Authority, body: Bytes) -> Request {
    let mut request = Request::new(Body::from(body));
    *request.method_mut() = head.method.clone();
    *request.version_mut() = Version::HTTP_11;
    let path = head.uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    let uri = Uri::builder().scheme(Scheme::HTTP).authority(place.clone()).path_and_query(path).build();
    *request.uri_mut() = uri.expect("a scheme, a place and a path are an address");
    let mut headers: HeaderMap = head.headers.clone();
    if let Ok(host) = HeaderValue::from_str(place.as_str()) {
        headers.entry(HOST).or_insert(host);
    }
    *request.headers_mut() = headers;
    request
}

/// Nothing came back. Whether anything was done is certain only if nothing was sent.
fn away(upstream: &Upstream, place: &Place, error: &Error) -> Problem {
    let cause = format!("{} at {place}: {}", upstream.name, story(error));
    if error.is_connect() {
        let detail = format!("{} is not there now, and nothing was done; try again", upstream.name);
        return Problem::new(StatusCode::SERVICE_UNAVAILABLE, "upstream_unavailable", detail)
            .caused_by(cause)
            .retry_after(1);
    }
    let detail = format!(
        "{} went away before it had answered; whether a command took effect is not known: send it again with its key",
        upstream.name
    );
    Problem::new(StatusCode::BAD_GATEWAY, "upstream_failed", detail).caused_by(cause).retry_after(1)
}

/// Nobody of it has room.
fn busy(upstream: &Upstream) -> Problem {
    let detail =
        format!("{} has not answered {UNANSWERED_MAX} requests yet; nothing was done, try again", upstream.name);
    Problem::overloaded(detail)
}

fn timed_out(upstream: &Upstream) -> Problem {
    let detail = format!(
        "{} did not answer within {} s; whether a command took effect is not known: send it again with its key",
        upstream.name,
        ANSWER_WAIT_MAX.as_secs()
    );
    Problem::new(StatusCode::GATEWAY_TIMEOUT, "upstream_timed_out", detail).retry_after(1)
}

/// An error with its causes.
fn story(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
