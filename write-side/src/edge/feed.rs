//! `GET /{service}/feed`: the log for its followers. What a page looks like is [`event_store::feed_http`]'s.

use std::sync::Arc;

use axum::{
    Extension, Router,
    body::Body,
    extract::{RawQuery, State},
    http::{HeaderValue, StatusCode},
    response::{IntoResponse, Response},
    routing::get,
};
use event_store::{feed::Feed, feed_http};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::{problem::Problem, trace::Conversation};

/// Pages under way at once: a service has few followers, and a page may take 8 MiB.
pub const FEED_READERS_MAX: usize = 64;

#[derive(Clone)]
struct Served {
    feed: Arc<dyn Feed>,
    readers: Arc<Semaphore>,
    closing: CancellationToken,
}

/// The route. When `closing` is cancelled, long polls end at once, so that a draining server need not wait for them.
pub fn routes(feed: Arc<dyn Feed>, closing: CancellationToken) -> Router {
    let path = format!("/{}/feed", feed.source());
    let readers = Arc::new(Semaphore::new(FEED_READERS_MAX));
    Router::new().route(&path, get(page)).with_state(Served { feed, readers, closing })
}

async fn page(
    State(served): State<Served>,
    RawQuery(query): RawQuery,
    Extension(conversation): Extension<Conversation>,
) -> Result<Response, Problem> {
    let _reading = served
        .readers
        .try_acquire()
        .map_err(|_| Problem::overloaded(format!("{FEED_READERS_MAX} readers of this feed are under way")))?;
    let answer = tokio::select! {
        answer = feed_http::serve(Arc::clone(&served.feed), query.as_deref(), &conversation.correlation_id) => answer,
        () = served.closing.cancelled() => {
            return Err(Problem::unavailable("the service is shutting down"));
        }
    };
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = (status, Body::from(answer.body)).into_response();
    for (name, value) in answer.headers {
        if let Ok(value) = HeaderValue::from_str(&value) {
            response.headers_mut().insert(name, value);
        }
    }
    Ok(response)
}
