//! Answers as events: the distinct connections mode of GraphQL over Server-Sent Events. Each operation is a request of its
//! own, whose answer is a stream of `next` events and one `complete`.
//!
//! What is wrong with the document is told as an event too, because a browser's `EventSource` cannot read other answers.
//! The stream ends without `complete` when everything ends or the token does: then a client comes back. `EventSource` does
//! so by itself, with the `id` of the last event, which is the cursor to go on from.

use std::{
    convert::Infallible,
    sync::Arc,
    time::{Duration, SystemTime},
};

use async_graphql::{Executor, parser::types::OperationType};
use axum::{
    body::{Body, Bytes},
    http::{
        HeaderMap, HeaderName, HeaderValue, StatusCode,
        header::{CACHE_CONTROL, CONTENT_TYPE, VARY},
    },
    response::{IntoResponse, Response},
};
use futures::{
    StreamExt,
    stream::{self, BoxStream},
};
use tokio::time::{Instant, Interval};
use tokio_util::sync::CancellationToken;

use super::{
    answer::{self, Refusal},
    asker::{Asker, origin_is_allowed},
    edge::Edge,
    media::{Events, Media},
    operation::{Step, foreign_origin},
    params::Params,
    while_read::WhileRead,
};
use crate::document;

/// A client that comes back by itself says the `id` of the last event that it got.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// Proxies must pass events on as they come.
const BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// Whether the answer is to be a stream: the client would rather have one, or the operation can only be answered so.
pub(super) fn is_meant<E>(
    edge: &Edge<E>,
    media: Option<Media>,
    events: Events,
    params: &Result<Params, Refusal>,
) -> bool {
    match events {
        Events::No => false,
        Events::Rather => true,
        Events::Also => {
            media.is_none()
                || params.as_ref().is_ok_and(|params| {
                    let known = edge.documents.find(params.asked.clone());
                    known.is_ok_and(|known| {
                        let operation = document::operation(&known.document, params.operation_name.as_deref());
                        operation.is_ok_and(|operation| operation.node.ty == OperationType::Subscription)
                    })
                })
        }
    }
}

pub(super) async fn open<E: Executor>(
    edge: Arc<Edge<E>>,
    mut asker: Asker,
    headers: &HeaderMap,
    params: Result<Params, Refusal>,
    operations: &[OperationType],
) -> Response {
    if !origin_is_allowed(&edge.options.live, headers) {
        return foreign_origin().into_response(Media::Json);
    }
    asker.resume_after = headers.get(LAST_EVENT_ID).and_then(|id| id.to_str().ok()).map(ToOwned::to_owned);
    let prepared = params.and_then(|params| edge.prepare(headers, asker.clone(), params, operations));
    let live = &edge.options.live;
    let (ping_every, closing) = (live.limits.ping_every, live.closing.asked_for.clone());
    let steps = match prepared {
        Ok(prepared) => Arc::clone(&edge).steps(prepared, &asker),
        Err(refusal) if refusal.is_of_document() => {
            stream::once(async move { Step::Failed(refusal.into_errors()) }).boxed()
        }
        Err(refusal) => return refusal.into_response(Media::Json),
    };
    let stream =
        EventStream { steps, stage: Stage::Opening, ping: pings(ping_every), until: ends_in(asker.until), closing };
    let events = stream::unfold(stream, async |mut stream| {
        let event = stream.next().await?;
        Some((Ok::<_, Infallible>(Bytes::from(event)), stream))
    });
    let events = WhileRead::new(events.boxed(), live.limits.send_max);
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8")),
        (CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (VARY, HeaderValue::from_static("accept, consistency-token, last-event-id, origin")),
        (BUFFERING, HeaderValue::from_static("no")),
    ];
    (StatusCode::OK, headers, Body::from_stream(events)).into_response()
}

/// The moment at which what was shown ends, on the clock that is waited on.
pub(super) fn ends_in(until: Option<SystemTime>) -> Option<Instant> {
    let left = until?.duration_since(SystemTime::now()).unwrap_or_default();
    // what lies beyond the clock does not end
    Instant::now().checked_add(left)
}

pub(super) fn pings(every: Duration) -> Interval {
    let mut ping = tokio::time::interval_at(Instant::now() + every, every);
    ping.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    ping
}

pub(super) async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

struct EventStream {
    steps: BoxStream<'static, Step>,
    stage: Stage,
    ping: Interval,
    until: Option<Instant>,
    closing: CancellationToken,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Opening,
    Running,
    /// Only the last event is left.
    Ending,
    Ended,
}

impl EventStream {
    /// The next event as text; `None` when the stream ends.
    async fn next(&mut self) -> Option<String> {
        match self.stage {
            // so that the client sees at once that it is heard
            Stage::Opening => {
                self.stage = Stage::Running;
                return Some(COMMENT.to_owned());
            }
            Stage::Ending => {
                self.stage = Stage::Ended;
                return Some(COMPLETE.to_owned());
            }
            Stage::Ended => return None,
            Stage::Running => {}
        }
        tokio::select! {
            // when everything ends, the operation does too: that is not its completion
            biased;
            () = self.closing.cancelled() => None,
            () = at(self.until) => None,
            step = self.steps.next() => match step {
                Some(Step::Answer { json, cursor }) => Some(event(&json, cursor.as_deref())),
                Some(Step::Failed(errors)) => {
                    self.stage = Stage::Ending;
                    Some(event(&answer::errors_json(&errors), None))
                }
                None if self.closing.is_cancelled() => None,
                None => {
                    self.stage = Stage::Ended;
                    Some(COMPLETE.to_owned())
                }
            },
            _ = self.ping.tick() => Some(COMMENT.to_owned()),
        }
    }
}

const COMMENT: &str = ":\n\n";
const COMPLETE: &str = "event: complete\ndata:\n\n";

/// JSON as it is written here has no line breaks, and a cursor neither.
fn event(json: &str, id: Option<&str>) -> String {
    match id {
        Some(id) => format!("event: next\nid: {id}\ndata: {json}\n\n"),
        None => format!("event: next\ndata: {json}\n\n"),
    }
}
