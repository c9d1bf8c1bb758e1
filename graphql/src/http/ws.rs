//! Operations over a socket, by the protocol `graphql-transport-ws`. The older one, whose subprotocol is called
//! `graphql-ws`, is not spoken.
//!
//! The GraphQL library has this protocol too, without most of its close codes, without bounds, and with both names; so it
//! is spoken here.
//!
//! A socket is one task: it reads, runs its operations and writes. While it cannot write it does nothing else, so a client
//! that does not read is not worked for; what its subscriptions are told waits in their slots, which are bounded.

use std::{collections::HashMap, sync::Arc, time::Duration};

use async_graphql::{Executor, parser::types::OperationType};
use axum::{
    extract::{
        FromRequestParts, Request,
        ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade},
    },
    http::{HeaderMap, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use events::principal::scope;
use futures::{
    StreamExt,
    future::{AbortHandle, Abortable},
    stream::{self, BoxStream, SelectAll},
};
use serde_json::{Map, Value};
use tokio::time::{Instant, timeout, timeout_at};

use super::{
    answer::Refusal,
    asker::{Asker, origin_is_allowed},
    edge::Edge,
    media::Media,
    messages::{self, Code, FromClient, PROTOCOL, headers_of},
    operation::{Step, foreign_origin},
    params::Params,
    seats::Seat,
    sse::{at, ends_in, pings},
};
use crate::{
    errors::{code, coded, limit_exceeded, retryable},
    live::options::{Allowance, Authentication, LiveLimits},
};

/// How long a client has to answer a close.
const CLOSE_WAIT: Duration = Duration::from_secs(2);

/// The longest reason of a close, in bytes.
const REASON_BYTES_MAX: usize = 123;

/// Bytes of the buffers of one socket: most messages are smaller.
const BUFFER_BYTES: usize = 8 * 1024;

/// What may be asked over a socket.
const OPERATIONS: [OperationType; 3] = [OperationType::Query, OperationType::Mutation, OperationType::Subscription];

/// Whether a request wants to open a socket. Whoever lets such a request in without a token asks here, so that nothing else
/// gets in that way.
pub fn opens_socket(method: &Method, headers: &HeaderMap) -> bool {
    method == Method::GET
        && headers.get(header::UPGRADE).is_some_and(|upgrade| upgrade.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

pub(super) async fn open<E: Executor>(edge: Arc<Edge<E>>, request: Request) -> Response {
    let (mut parts, _) = request.into_parts();
    if !origin_is_allowed(&edge.options.live, &parts.headers) {
        return foreign_origin().into_response(Media::Json);
    }
    let unavailable = |error| Refusal::of_request(StatusCode::SERVICE_UNAVAILABLE, error).into_response(Media::Json);
    if edge.options.live.closing.asked_for.is_cancelled() {
        return unavailable(coded(code::SHUTTING_DOWN, "the server is about to end"));
    }
    let asker = Asker::of(&edge.options.live, &parts.extensions);
    let seat = match edge.seats.socket(&asker) {
        Ok(seat) => seat,
        Err(error) => return unavailable(error),
    };
    let upgrade = match WebSocketUpgrade::from_request_parts(&mut parts, &()).await {
        Ok(upgrade) => upgrade,
        Err(rejection) => {
            let status = rejection.into_response().status();
            let error = coded(code::BAD_REQUEST, "this is no request to open a WebSocket of version 13");
            return Refusal::of_request(status, error).into_response(Media::Json);
        }
    };
    let message_bytes_max = edge.options.limits.body_bytes_max;
    let upgrade = upgrade
        .max_message_size(message_bytes_max)
        .max_frame_size(message_bytes_max)
        .read_buffer_size(BUFFER_BYTES)
        .write_buffer_size(0)
        .protocols([PROTOCOL]);
    let speaks = upgrade.selected_protocol().is_some();
    let tasks = edge.options.live.closing.tasks.clone();
    upgrade.on_upgrade(move |socket| {
        tasks.track_future(async move {
            let mut connection = Connection::new(edge, socket, seat, parts.headers, asker);
            let end = if speaks {
                connection.talk().await
            } else {
                End::Close(Code::SubprotocolNotAcceptable, format!("the subprotocol is {PROTOCOL}"))
            };
            connection.end(end).await;
        })
    })
}

/// How a connection ends.
enum End {
    Close(Code, String),
    /// The client has closed. It gets its answer when its connection is read on.
    Left,
    /// There is nobody to say it to.
    Gone,
}

fn close<T>(code: Code, reason: impl Into<String>) -> Result<T, End> {
    Err(End::Close(code, reason.into()))
}

type Steps = Abortable<BoxStream<'static, (Arc<str>, Option<Step>)>>;

struct Connection<E> {
    edge: Arc<Edge<E>>,
    socket: WebSocket,
    seat: Seat,
    /// Those of the request, and those that the first message has brought.
    headers: HeaderMap,
    asker: Asker,
    is_acknowledged: bool,
    until: Option<Instant>,
    operations: SelectAll<Steps>,
    running: HashMap<Arc<str>, AbortHandle>,
    heard_at: Instant,
    busy_at: Instant,
}

impl<E: Executor> Connection<E> {
    fn new(edge: Arc<Edge<E>>, socket: WebSocket, seat: Seat, headers: HeaderMap, asker: Asker) -> Self {
        let now = Instant::now();
        Self {
            edge,
            socket,
            seat,
            headers,
            until: ends_in(asker.until),
            asker,
            is_acknowledged: false,
            operations: SelectAll::new(),
            running: HashMap::new(),
            heard_at: now,
            busy_at: now,
        }
    }

    fn limits(&self) -> &LiveLimits {
        &self.edge.options.live.limits
    }

    /// Until something ends it.
    async fn talk(&mut self) -> End {
        let init_until = Instant::now() + self.limits().init_max;
        let mut ping = pings(self.limits().ping_every);
        let closing = self.edge.options.live.closing.asked_for.clone();
        loop {
            let done = tokio::select! {
                () = closing.cancelled() => close(Code::GoingAway, "the server is about to end"),
                () = at(self.until) => close(Code::Forbidden, "the token ended; get a new one"),
                () = at(Some(init_until)), if !self.is_acknowledged => {
                    close(Code::InitialisationTimeout, "Connection initialisation timeout")
                }
                message = self.socket.recv() => match message {
                    Some(Ok(message)) => self.hear(message, init_until).await,
                    Some(Err(error)) if is_too_big(&error) => close(Code::TooBig, "the message is too long"),
                    Some(Err(_)) | None => Err(End::Gone),
                },
                Some((id, step)) = self.operations.next() => self.tell(&id, step).await,
                _ = ping.tick() => self.look_alive().await,
            };
            if let Err(end) = done {
                return end;
            }
        }
    }

    async fn hear(&mut self, message: Message, init_until: Instant) -> Result<(), End> {
        self.heard_at = Instant::now();
        let text = match message {
            Message::Text(text) => {
                self.busy_at = self.heard_at;
                text
            }
            Message::Ping(_) | Message::Pong(_) => return Ok(()),
            Message::Binary(_) => return close(Code::InvalidMessage, "messages are text"),
            Message::Close(_) => return Err(End::Left),
        };
        match FromClient::parse(&text) {
            Err(reason) => close(Code::InvalidMessage, reason),
            Ok(FromClient::Init(_)) if self.is_acknowledged => {
                close(Code::TooManyInitialisations, "Too many initialisation requests")
            }
            Ok(FromClient::Init(payload)) => match timeout_at(init_until, self.begin(&payload)).await {
                Ok(begun) => begun,
                Err(_) => close(Code::InitialisationTimeout, "Connection initialisation timeout"),
            },
            Ok(FromClient::Ping(payload)) => self.send(messages::pong(payload.as_ref())).await,
            Ok(FromClient::Pong) => Ok(()),
            Ok(FromClient::Subscribe { .. }) if !self.is_acknowledged => close(Code::Unauthorized, "Unauthorized"),
            Ok(FromClient::Subscribe { id, params, headers }) => self.subscribe(&id.into(), params, headers).await,
            Ok(FromClient::Complete { id }) => {
                if let Some(operation) = self.running.remove(id.as_str()) {
                    operation.abort();
                }
                Ok(())
            }
        }
    }

    /// Lets the client in, or not.
    async fn begin(&mut self, payload: &Map<String, Value>) -> Result<(), End> {
        let brought = match headers_of(payload) {
            Ok(headers) => headers,
            Err(reason) => return close(Code::InvalidMessage, reason),
        };
        let brings_token = brought.contains_key(header::AUTHORIZATION);
        self.headers.extend(brought);
        if let Some(Authentication(authentication)) = &self.edge.options.live.authenticate
            && brings_token
        {
            match authentication.admit(&self.headers).await {
                Ok(admitted) => self.asker = self.asker.admitted(admitted),
                Err(refused) => return close(Code::Forbidden, format!("{}: {}", refused.code, refused.detail)),
            }
            self.until = ends_in(self.asker.until);
            if let Err(error) = self.edge.seats.move_socket(&mut self.seat, &self.asker) {
                return close(Code::Forbidden, format!("{}: {}", code::TOO_MANY_REQUESTS, error.message));
            }
        }
        if !self.asker.principal.may(scope::QUERY) {
            let reason = "unauthenticated: this needs a token, as authorization in the payload of connection_init";
            return close(Code::Forbidden, reason);
        }
        self.is_acknowledged = true;
        self.busy_at = Instant::now();
        self.send(messages::ack()).await
    }

    async fn subscribe(&mut self, id: &Arc<str>, params: Params, headers: HeaderMap) -> Result<(), End> {
        if self.running.contains_key(id) {
            return close(Code::SubscriberAlreadyExists, format!("Subscriber for {id} already exists"));
        }
        let operations_max = self.limits().operations_per_socket_max;
        if self.running.len() >= operations_max {
            let what = "too many operations run over this socket";
            let error = limit_exceeded("operations_per_socket", operations_max, what, None);
            return self.send(messages::error(id, &[error])).await;
        }
        if let Some(Allowance(take)) = &self.edge.options.live.allowance
            && let Err(refused) = take(self.asker.counted())
        {
            let error = retryable(coded(&refused.code, refused.detail), &refused.code);
            return self.send(messages::error(id, &[error])).await;
        }
        if headers.contains_key(header::AUTHORIZATION) {
            let what = "a token is shown in the payload of connection_init: it is the whole socket's";
            return self.send(messages::error(id, &[coded(code::BAD_REQUEST, what)])).await;
        }
        let mut all = self.headers.clone();
        all.extend(headers);
        let steps = match self.edge.prepare(&all, self.asker.clone(), params, &OPERATIONS) {
            Ok(prepared) => Arc::clone(&self.edge).steps(prepared, &self.asker),
            Err(refusal) => return self.send(messages::error(id, &refusal.into_errors())).await,
        };
        let (told, ended) = (Arc::clone(id), Arc::clone(id));
        let steps =
            steps.map(move |step| (Arc::clone(&told), Some(step))).chain(stream::once(async move { (ended, None) }));
        let (handle, registration) = AbortHandle::new_pair();
        self.running.insert(Arc::clone(id), handle);
        self.operations.push(Abortable::new(steps.boxed(), registration));
        Ok(())
    }

    async fn tell(&mut self, id: &Arc<str>, step: Option<Step>) -> Result<(), End> {
        self.busy_at = Instant::now();
        match step {
            Some(Step::Answer { json, .. }) => self.send(messages::next(id, &json)).await,
            Some(Step::Failed(errors)) => {
                if let Some(operation) = self.running.remove(id) {
                    operation.abort();
                }
                self.send(messages::error(id, &errors)).await
            }
            // when everything ends, the operation does too: that is not its completion
            None if self.edge.options.live.closing.asked_for.is_cancelled() => Ok(()),
            None => {
                self.running.remove(id);
                self.send(messages::complete(id)).await
            }
        }
    }

    /// Pings a client that may be gone, and lets one go that has nothing to do.
    async fn look_alive(&mut self) -> Result<(), End> {
        let LiveLimits { silence_max, idle_max, .. } = *self.limits();
        if self.heard_at.elapsed() > silence_max {
            return Err(End::Gone);
        }
        if self.running.is_empty() && self.busy_at.elapsed() > idle_max {
            return close(Code::Normal, "nothing was asked for a long time");
        }
        self.write(Message::Ping(Vec::new().into())).await
    }

    async fn send(&mut self, text: String) -> Result<(), End> {
        self.write(Message::Text(text.into())).await
    }

    /// Waits for the client, but not for ever, and not long when everything ends.
    async fn write(&mut self, message: Message) -> Result<(), End> {
        let closing = self.edge.options.live.closing.asked_for.clone();
        let send_max = self.limits().send_max;
        let late = async {
            tokio::select! {
                () = tokio::time::sleep(send_max) => {}
                () = at(self.until.map(|until| until + CLOSE_WAIT)) => {}
                () = async { closing.cancelled().await; tokio::time::sleep(CLOSE_WAIT).await } => {}
            }
        };
        tokio::select! {
            sent = self.socket.send(message) => sent.map_err(|_| End::Gone),
            () = late => Err(End::Gone),
        }
    }

    /// Says why, and gives the client a moment to hear it.
    async fn end(mut self, end: End) {
        self.operations.clear();
        let parting = async {
            match end {
                End::Close(code, mut reason) => {
                    while reason.len() > REASON_BYTES_MAX {
                        reason.pop();
                    }
                    let frame = CloseFrame { code: code as u16, reason: reason.into() };
                    if self.socket.send(Message::Close(Some(frame))).await.is_err() {
                        return;
                    }
                }
                End::Left => {}
                End::Gone => return,
            }
            while let Some(Ok(_)) = self.socket.recv().await {}
        };
        let _ = timeout(CLOSE_WAIT, parting).await;
    }
}

/// What the library below says of a message beyond the bound; it has no other way to say it.
fn is_too_big(error: &axum::Error) -> bool {
    error.to_string().contains("too long")
}
