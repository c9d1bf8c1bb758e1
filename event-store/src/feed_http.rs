//! The feed over HTTP: `GET /{service}/feed?after=<position>&anchor=<event id>&limit=<events>&wait=<seconds>`, and
//! `bytes=<bytes>` for who wants smaller pages.
//!
//! The answer is NDJSON, one CloudEvents object per line, each line ended by a line feed; a line without its end was cut
//! off on the way. Headers carry the log's epoch, its head and the head's time. When there is nothing behind `after`,
//! the answer waits up to `wait` seconds (long poll). Who says that it takes gzip may be answered in gzip. An error is a problem (RFC 9457) with one of the codes below.
//!
//! [`serve`] is the server's side for whatever HTTP framework the edge uses; [`HttpFeed`] is the client, a
//! [`Feed`](crate::feed::Feed) like any other.

mod client;
mod server;
mod unpack;

pub use client::HttpFeed;
pub use server::{Answer, FeedQuery, QueryError, encode, problem, serve};

/// The content type of a page.
pub const CONTENT_TYPE: &str = "application/x-ndjson";
/// The content type of an error.
pub const PROBLEM_CONTENT_TYPE: &str = "application/problem+json";
/// The log's epoch, a UUID.
pub const EPOCH_HEADER: &str = "feed-epoch";
/// The head's position when the page was read.
pub const HEAD_HEADER: &str = "feed-head";
/// When the head's event was recorded, RFC 3339 with microseconds.
pub const HEAD_TIME_HEADER: &str = "feed-head-time";

/// 409: the event at `after` is not the anchor; the log was restored from an older copy.
pub const REGRESSED_CODE: &str = "feed_regressed";
/// 500: the log holds something that is not an event, or a hole.
pub const DAMAGED_CODE: &str = "feed_damaged";
/// 503: the log does not answer.
pub const UNAVAILABLE_CODE: &str = "feed_unavailable";
/// 400: a parameter is not what it should be.
pub const QUERY_CODE: &str = "invalid_feed_query";
