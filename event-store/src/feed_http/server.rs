//! From a feed to an HTTP answer, without an HTTP framework.

use std::{sync::Arc, time::Duration};

use chrono::SecondsFormat;
use events::envelope::to_cloud_event;
use serde_json::json;
use thiserror::Error;
use uuid::Uuid;

use super::{
    CONTENT_TYPE, DAMAGED_CODE, EPOCH_HEADER, HEAD_HEADER, HEAD_TIME_HEADER, PROBLEM_CONTENT_TYPE, QUERY_CODE,
    REGRESSED_CODE, UNAVAILABLE_CODE,
};
use crate::feed::{Cursor, Feed, FeedError, FeedPage, PageLimit};

/// An HTTP answer, to be put into whatever the edge uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
}

/// Answers one request with `query` (what stands behind the `?`). `trace_id` goes into problems.
///
/// The read runs as a task of its own, so a client that hangs up never cancels work in a database half-way; the task
/// ends with the long poll, after [`PageLimit::WAIT_MAX`] at most. How many requests run at once is the edge's bound.
pub async fn serve(feed: Arc<dyn Feed>, query: Option<&str>, trace_id: &str) -> Answer {
    let query = match FeedQuery::parse(query.unwrap_or_default()) {
        Ok(query) => query,
        Err(error) => return problem_answer(400, QUERY_CODE, &error.to_string(), trace_id, None),
    };
    let source = feed.source().clone();
    let read = tokio::spawn(async move { feed.page(query.after, query.limit, query.wait).await });
    let page = match read.await {
        Ok(page) => page,
        Err(_) => Err(FeedError::Unreachable { feed: source.clone(), cause: "the read did not end".into() }),
    };
    match page.and_then(|page| encode(&source, &page)) {
        Ok(answer) => answer,
        Err(error) => problem(&error, trace_id),
    }
}

/// What a reader asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FeedQuery {
    pub after: Cursor,
    pub limit: PageLimit,
    pub wait: Duration,
}

/// A parameter is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{parameter} is {expected}, not {value:?}")]
pub struct QueryError {
    parameter: &'static str,
    expected: &'static str,
    value: String,
}

impl FeedQuery {
    /// Reads `after=..&anchor=..&limit=..&bytes=..&wait=..`: each may be absent, others are ignored. Too much is cut down to what
    /// a feed gives.
    pub fn parse(query: &str) -> Result<Self, QueryError> {
        let mut parsed = Self { after: Cursor::START, limit: PageLimit::default(), wait: Duration::ZERO };
        for pair in query.split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let wrong =
                |parameter, expected| QueryError { parameter, expected, value: value.chars().take(64).collect() };
            match name {
                "after" => {
                    let position = value.parse().ok().filter(|position| i64::try_from(*position).is_ok());
                    parsed.after.position = position.ok_or_else(|| wrong("after", "a position"))?;
                }
                "anchor" => {
                    let anchor =
                        Uuid::parse_str(value).map_err(|_| wrong("anchor", "the id of the event at `after`"))?;
                    parsed.after.event_id = Some(anchor);
                }
                "limit" => {
                    let limit = value.parse().ok().filter(|limit| *limit > 0);
                    let limit = limit.ok_or_else(|| wrong("limit", "a number of events from 1"))?;
                    parsed.limit.events_max = PageLimit::events(limit).events_max;
                }
                "bytes" => {
                    let bytes: Option<usize> = value.parse().ok().filter(|bytes| *bytes > 0);
                    let bytes = bytes.ok_or_else(|| wrong("bytes", "a number of bytes from 1"))?;
                    parsed.limit.bytes_max = bytes.min(PageLimit::BYTES_MAX);
                }
                "wait" => {
                    let wait = parse_seconds(value).ok_or_else(|| wrong("wait", "a number of seconds"))?;
                    parsed.wait = wait.min(PageLimit::WAIT_MAX);
                }
                _ => {}
            }
        }
        if parsed.after.position == 0 && parsed.after.event_id.is_some() {
            let expected = "absent when `after` is 0";
            return Err(QueryError { parameter: "anchor", expected, value: "present".to_owned() });
        }
        Ok(parsed)
    }
}

/// `2` or `0.25`.
fn parse_seconds(text: &str) -> Option<Duration> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, "0"));
    if fraction.is_empty() || fraction.len() > 3 || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let millis = fraction.parse::<u64>().ok()? * [100, 10, 1][fraction.len() - 1];
    Some(Duration::from_secs(seconds.parse::<u32>().ok()?.into()) + Duration::from_millis(millis))
}

/// A page as an answer. An event that cannot be written is a damaged feed; what stands before it still goes out.
pub fn encode(source: &str, page: &FeedPage) -> Result<Answer, FeedError> {
    let mut body = Vec::new();
    for event in &page.events {
        match to_cloud_event(source, event) {
            Ok(line) => {
                body.extend_from_slice(line.as_bytes());
                body.push(b'\n');
            }
            Err(_) if !body.is_empty() => break,
            Err(error) => {
                let (feed, position, reason) = (source.into(), event.position, error.to_string());
                return Err(FeedError::Damaged { feed, position, reason });
            }
        }
    }
    let headers = vec![
        ("content-type", CONTENT_TYPE.to_owned()),
        ("cache-control", "no-store".to_owned()),
        (EPOCH_HEADER, page.epoch.to_string()),
        (HEAD_HEADER, page.head.position.to_string()),
        (HEAD_TIME_HEADER, page.head.recorded_at.to_rfc3339_opts(SecondsFormat::Micros, true)),
    ];
    Ok(Answer { status: 200, headers, body })
}

/// An error as an answer.
pub fn problem(error: &FeedError, trace_id: &str) -> Answer {
    let detail = error.to_string();
    match error {
        FeedError::Regressed { position, head, .. } => {
            problem_answer(409, REGRESSED_CODE, &detail, trace_id, Some((*position, *head)))
        }
        FeedError::Damaged { position, .. } => {
            problem_answer(500, DAMAGED_CODE, &detail, trace_id, Some((*position, 0)))
        }
        // the cause may name hosts and files: it is for our log, not for the reader
        FeedError::Unreachable { feed, cause } => {
            tracing::warn!(%feed, %cause, trace_id, "feed unavailable");
            problem_answer(503, UNAVAILABLE_CODE, "the log does not answer", trace_id, None)
        }
    }
}

fn problem_answer(status: u16, code: &str, detail: &str, trace_id: &str, place: Option<(u64, u64)>) -> Answer {
    let mut body = json!({
        "type": format!("urn:tributary:problem:{code}"), "title": code.replace('_', " "), "status": status, "code": code,
        "detail": detail, "traceId": trace_id,
    });
    if let Some((position, head)) = place {
        body["position"] = position.into();
        body["head"] = head.into();
    }
    let headers = vec![("content-type", PROBLEM_CONTENT_TYPE.to_owned()), ("cache-control", "no-store".to_owned())];
    Answer { status, headers, body: body.to_string().into_bytes() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_says_what_it_means_or_is_refused() {
        let query =
            FeedQuery::parse("after=7&anchor=00000000-0000-0000-0000-000000000009&limit=20&wait=1.5&x=y").unwrap();
        assert_eq!(query.after, Cursor { position: 7, event_id: Some(Uuid::from_u128(9)) });
        assert_eq!((query.limit.events_max, query.wait), (20, Duration::from_millis(1_500)));

        let all = FeedQuery::parse("").unwrap();
        assert_eq!((all.after, all.wait), (Cursor::START, Duration::ZERO));
        assert_eq!(FeedQuery::parse("wait=3600").unwrap().wait, PageLimit::WAIT_MAX);
        assert_eq!(FeedQuery::parse("limit=1000000").unwrap().limit.events_max, PageLimit::EVENTS_MAX);

        let id = "anchor=00000000-0000-0000-0000-000000000009";
        for wrong in [
            "after=-1",
            "after=x",
            "after=18446744073709551615",
            "anchor=9",
            "limit=0",
            "bytes=0",
            "wait=1.",
            "wait=-1",
            id,
        ] {
            assert!(FeedQuery::parse(wrong).is_err(), "{wrong}");
        }
    }
}
