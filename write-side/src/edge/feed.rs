//! `GET /{service}/feed`: the log for its followers. What a page looks like is [`event_store::feed_http`]'s.

use std::{convert::Infallible, sync::Arc};

use axum::{
    Extension,
    body::{Body, Bytes},
    extract::{RawQuery, State},
    handler::Handler,
    http::{HeaderValue, StatusCode, header::CONTENT_LENGTH},
    response::{IntoResponse, Response},
};
use event_store::{feed::Feed, feed_http};
use events::principal::feed_scope;
use futures::{StreamExt, stream};
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tower_http::{
    CompressionLevel,
    compression::{CompressionLayer, predicate::SizeAbove},
};

use super::{
    openapi::{
        Operation, Routes,
        operation::{Answer, Kind},
        schema,
    },
    problem::Problem,
    trace::Conversation,
};

/// Pages under way at once, until they are sent: a service has few followers, and a page may take 8 MiB.
pub const FEED_READERS_MAX: usize = 64;

/// Shorter pages fit into one packet anyway.
const COMPRESSED_BYTES_MIN: u64 = 1_024;

#[derive(Clone)]
struct Served {
    feed: Arc<dyn Feed>,
    readers: Arc<Semaphore>,
    closing: CancellationToken,
}

/// The route. When `closing` is cancelled, long polls end at once, so that a draining server need not wait for them.
pub fn routes(feed: Arc<dyn Feed>, closing: CancellationToken) -> Routes {
    let path = format!("/{}/feed", feed.source());
    let readers = Arc::new(Semaphore::new(FEED_READERS_MAX));
    let operation = operation(feed.source());
    let served = Served { feed: Arc::clone(&feed), readers, closing };
    let page = page.layer(compression());
    Routes::of(feed.source(), "The log for followers.").get(&path, page, operation).with_state(served)
}

/// For who asks for it. A page is made once for each reader, so it has to be fast.
fn compression() -> CompressionLayer<SizeAbove> {
    let layer = CompressionLayer::new().gzip(true).quality(CompressionLevel::Fastest);
    layer.compress_when(SizeAbove::new(COMPRESSED_BYTES_MIN))
}

fn operation(service: &str) -> Operation {
    let parameter = |description: &str, schema: Value| {
        let mut schema = schema;
        schema["description"] = description.into();
        schema
    };
    let answer = Answer {
        description: "Events in the log's order: one CloudEvents 1.0 object a line, with its `position`.",
        content_type: feed_http::CONTENT_TYPE,
        schema: schema::string(),
        example: None,
        query: vec![
            ("after", parameter("Events behind this position.", schema::integer(0))),
            (
                "anchor",
                parameter("The id of the event at `after`: another one there is `feed_regressed`.", schema::uuid()),
            ),
            ("limit", parameter("The most events of the page.", schema::integer(1))),
            ("bytes", parameter("The most bytes of the page.", schema::integer(1))),
            (
                "wait",
                parameter(
                    "Seconds to wait for an event when there is none, such as `2` or `0.25`; at most 30.",
                    json!({ "type": "number", "minimum": 0, "maximum": 30, "multipleOf": 0.001 }),
                ),
            ),
        ],
        headers: vec![
            ("Feed-Epoch", schema::uuid()),
            ("Feed-Head", schema::string()),
            ("Feed-Head-Time", schema::time()),
        ],
    };
    Operation::new(format!("read_{service}_feed"), "Read the log, page by page", Kind::Other, answer)
        .scope(feed_scope(service))
        .fails(400, &[feed_http::QUERY_CODE])
        .fails(409, &[feed_http::REGRESSED_CODE])
        .fails(500, &[feed_http::DAMAGED_CODE])
        .fails(503, &[feed_http::UNAVAILABLE_CODE])
}

async fn page(
    State(served): State<Served>,
    RawQuery(query): RawQuery,
    Extension(conversation): Extension<Conversation>,
) -> Result<Response, Problem> {
    let reading = Arc::clone(&served.readers)
        .try_acquire_owned()
        .map_err(|_| Problem::overloaded(format!("{FEED_READERS_MAX} readers of this feed are under way")))?;
    let answer = tokio::select! {
        answer = feed_http::serve(Arc::clone(&served.feed), query.as_deref(), &conversation.correlation_id) => answer,
        () = served.closing.cancelled() => {
            return Err(Problem::unavailable("the service is shutting down"));
        }
    };
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = (status, held(answer.body, reading)).into_response();
    for (name, value) in answer.headers {
        if let Ok(value) = HeaderValue::from_str(&value) {
            response.headers_mut().insert(name, value);
        }
    }
    Ok(response)
}

/// A page that counts as being read until it is sent: the next piece is asked for when there is room behind the first.
fn held(page: Vec<u8>, reading: OwnedSemaphorePermit) -> Response {
    let length = page.len();
    let pieces = stream::unfold((Some(page), reading), async |(page, reading)| {
        page.map(|page| (Ok::<_, Infallible>(Bytes::from(page)), (None, reading)))
    });
    // what compresses asks again after the end
    ([(CONTENT_LENGTH, length)], Body::from_stream(pieces.fuse())).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_page_counts_until_it_is_sent() {
        let readers = Arc::new(Semaphore::new(1));
        let reading = || Arc::clone(&readers).try_acquire_owned().expect("room");
        let page = held(b"page".to_vec(), reading());
        assert_eq!(page.headers()[CONTENT_LENGTH], "4");
        let mut pieces = page.into_body().into_data_stream();
        assert_eq!(pieces.next().await.expect("a piece").expect("whole"), "page");
        assert_eq!(readers.available_permits(), 0, "it may not be sent yet");
        assert!(pieces.next().await.is_none() && pieces.next().await.is_none());
        assert_eq!(readers.available_permits(), 1);
        drop(held(b"page".to_vec(), reading()));
        assert_eq!(readers.available_permits(), 1, "whoever hangs up gives it back");
    }
}
