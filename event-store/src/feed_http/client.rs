//! A feed at the other end of a connection that may break anywhere.

use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use events::envelope::{Name, RecordedEvent, from_cloud_event};
use reqwest::{
    Client, Response, StatusCode, Url,
    header::{ACCEPT_ENCODING, AUTHORIZATION, HeaderMap, HeaderValue},
    redirect::Policy,
};
use serde::Deserialize;
use tokio::time::{Instant, timeout_at};

use super::{DAMAGED_CODE, EPOCH_HEADER, HEAD_HEADER, HEAD_TIME_HEADER, REGRESSED_CODE, unpack::Unpacker};
use crate::{
    feed::{Cursor, Feed, FeedError, FeedPage, PageLimit},
    limits::ENVELOPE_BYTES,
    log::{LogHead, Source},
    token_file::{TokenFile, bearer},
};

/// For a connection to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// For an answer, besides the time that it was told to wait. What has come by then is used.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);
/// One event as a line: several times what a log takes.
const LINE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// What is read of an error.
const PROBLEM_BYTES_MAX: usize = 64 * 1024;

/// A service's feed over HTTP.
///
/// Whatever happens on the way, a page never has a hole: of an answer that is cut, damaged or too large the whole lines
/// up to there are used, and the next page goes on behind them.
#[derive(Debug, Clone)]
pub struct HttpFeed {
    source: Name,
    url: Url,
    client: Client,
    shown: Shown,
    compressed: bool,
}

/// What stands in `Authorization`.
#[derive(Debug, Clone)]
enum Shown {
    Nothing,
    Token(HeaderValue),
    File(TokenFile),
}

impl HttpFeed {
    /// The feed of `source` at `url`, for example `http://127.0.0.1:8080/orders/feed`. Connects when it is first read.
    ///
    /// Errors: `url` is not an absolute URL.
    pub fn try_new(source: impl Into<Name>, url: &str) -> Result<Self, Source> {
        let url = Url::parse(url)?;
        // services talk to each other directly, whatever the environment says of proxies, and a token is shown to nobody
        // that an answer names
        let client = Client::builder().connect_timeout(CONNECT_TIMEOUT).no_proxy().redirect(Policy::none()).build()?;
        Ok(Self { source: source.into(), url, client, shown: Shown::Nothing, compressed: false })
    }

    /// Shows this token with every request.
    ///
    /// Errors: it holds characters that no token has.
    pub fn with_token(self, token: &str) -> Result<Self, Source> {
        Ok(Self { shown: Shown::Token(bearer(token)?), ..self })
    }

    /// Shows the token that the file holds at the time, which needs the scope `feed:<source>`, or `feed` for all feeds.
    pub fn with_token_file(self, file: TokenFile) -> Self {
        Self { shown: Shown::File(file), ..self }
    }

    /// Asks for compressed pages: less on the wire for more work at both ends.
    pub fn compressed(self) -> Self {
        Self { compressed: true, ..self }
    }

    async fn authorization(&self) -> Result<Option<HeaderValue>, FeedError> {
        match &self.shown {
            Shown::Nothing => Ok(None),
            Shown::Token(token) => Ok(Some(token.clone())),
            Shown::File(file) => file.authorization().await.map(Some).map_err(|error| self.unreachable(error)),
        }
    }

    fn unreachable(&self, cause: impl Into<Source>) -> FeedError {
        FeedError::Unreachable { feed: self.source.clone(), cause: cause.into() }
    }

    fn request_url(&self, after: Cursor, limit: PageLimit, wait: Duration) -> Url {
        let mut url = self.url.clone();
        {
            let mut query = url.query_pairs_mut();
            query.append_pair("after", &after.position.to_string());
            if let Some(anchor) = after.event_id {
                query.append_pair("anchor", &anchor.to_string());
            }
            query.append_pair("limit", &limit.events_max.to_string());
            query.append_pair("bytes", &limit.bytes_max.to_string());
            query.append_pair("wait", &format!("{}.{:03}", wait.as_secs(), wait.subsec_millis()));
        }
        url
    }

    /// An answer that is no page.
    async fn refusal(&self, response: Response, after: Cursor, deadline: Instant) -> FeedError {
        let status = response.status();
        let problem = timeout_at(deadline, read_problem(response)).await.unwrap_or_default();
        let feed = self.source.clone();
        match problem.code.as_str() {
            REGRESSED_CODE => {
                let position = problem.position.unwrap_or(after.position);
                FeedError::Regressed { feed, position, head: problem.head.unwrap_or(0) }
            }
            DAMAGED_CODE => {
                let position = problem.position.unwrap_or(after.position + 1);
                FeedError::Damaged { feed, position, reason: problem.detail }
            }
            code => self.unreachable(format!("answer {status} {code} {}", problem.detail)),
        }
    }
}

#[async_trait]
impl Feed for HttpFeed {
    fn source(&self) -> &Name {
        &self.source
    }

    async fn page(&self, after: Cursor, limit: PageLimit, wait: Duration) -> Result<FeedPage, FeedError> {
        let wait = wait.min(PageLimit::WAIT_MAX);
        let limit = PageLimit {
            events_max: limit.events_max.clamp(1, PageLimit::EVENTS_MAX),
            bytes_max: limit.bytes_max.clamp(1, PageLimit::BYTES_MAX),
        };
        let deadline = Instant::now() + wait + ANSWER_TIMEOUT;
        let mut request = self.client.get(self.request_url(after, limit, wait));
        if let Some(authorization) = self.authorization().await? {
            request = request.header(AUTHORIZATION, authorization);
        }
        if self.compressed {
            request = request.header(ACCEPT_ENCODING, "gzip");
        }
        let response = match timeout_at(deadline, request.send()).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return Err(self.unreachable(whole_story(&error))),
            Err(_) => return Err(self.unreachable("no answer in time")),
        };
        if response.status() != StatusCode::OK {
            return Err(self.refusal(response, after, deadline).await);
        }
        let (epoch, head) = page_headers(response.headers()).map_err(|what| self.unreachable(what))?;
        let unpacker = Unpacker::of(response.headers()).map_err(|what| self.unreachable(what))?;
        let mut lines = Lines::new(after.position, limit);
        let end = lines.read(response, unpacker, deadline).await;
        if lines.events.is_empty() {
            match end {
                End::Whole | End::Full => {}
                End::Cut(cause) => return Err(self.unreachable(cause)),
                End::Damaged(reason) => {
                    let (feed, position) = (self.source.clone(), after.position + 1);
                    return Err(FeedError::Damaged { feed, position, reason });
                }
            }
        }
        Ok(FeedPage { epoch, head, events: lines.events })
    }
}

fn page_headers(headers: &HeaderMap) -> Result<(uuid::Uuid, LogHead), String> {
    fn header<T: std::str::FromStr>(headers: &HeaderMap, name: &str) -> Result<T, String> {
        let value = headers.get(name).and_then(|value| value.to_str().ok()).and_then(|value| value.parse().ok());
        value.ok_or_else(|| format!("the answer is not a feed's: no {name}"))
    }
    let recorded_at: DateTime<Utc> = header(headers, HEAD_TIME_HEADER)?;
    Ok((header(headers, EPOCH_HEADER)?, LogHead { position: header(headers, HEAD_HEADER)?, recorded_at }))
}

/// How reading a body ended.
enum End {
    Whole,
    /// As much as was asked for, or as we take at once.
    Full,
    Cut(Source),
    Damaged(String),
}

/// Events from a body, line by line, as far as they follow each other.
struct Lines {
    events: Vec<RecordedEvent>,
    next: u64,
    limit: PageLimit,
    /// Payload and metadata of `events`.
    event_bytes: usize,
    /// What may still be read, in bytes.
    body_bytes_left: usize,
    /// The beginning of a line.
    rest: Vec<u8>,
}

impl Lines {
    fn new(after: u64, limit: PageLimit) -> Self {
        let body_bytes_left = limit.bytes_max + limit.events_max.saturating_mul(ENVELOPE_BYTES) + LINE_BYTES_MAX;
        Self { events: Vec::new(), next: after + 1, limit, event_bytes: 0, body_bytes_left, rest: Vec::new() }
    }

    async fn read(&mut self, mut response: Response, mut unpacker: Unpacker, deadline: Instant) -> End {
        loop {
            let chunk = match timeout_at(deadline, response.chunk()).await {
                Ok(Ok(Some(chunk))) => chunk,
                Ok(Ok(None)) if !self.rest.is_empty() => return End::Cut("the answer ends within a line".into()),
                Ok(Ok(None)) if unpacker.is_whole() => return End::Whole,
                Ok(Ok(None)) => return End::Cut("the compressed answer ends before its end".into()),
                Ok(Err(error)) => return End::Cut(whole_story(&error).into()),
                Err(_) => return End::Cut("the answer did not end in time".into()),
            };
            match unpacker.take(&chunk, |piece| self.piece(piece)) {
                Ok(None) => {}
                Ok(Some(end)) => return end,
                Err(error) => return End::Cut(error.into()),
            }
        }
    }

    /// A piece of the body, which may be the last one that is wanted.
    fn piece(&mut self, piece: &[u8]) -> Option<End> {
        if let Some(end) = self.take(piece) {
            return Some(end);
        }
        if piece.len() > self.body_bytes_left {
            return Some(End::Full);
        }
        self.body_bytes_left -= piece.len();
        None
    }

    /// Reads the lines that end in `chunk`; what begins in it is kept.
    fn take(&mut self, chunk: &[u8]) -> Option<End> {
        let mut rest = chunk;
        while let Some(at) = rest.iter().position(|byte| *byte == b'\n') {
            let (line, behind) = rest.split_at(at);
            rest = &behind[1..];
            let outcome = if self.rest.is_empty() {
                self.line(line)
            } else {
                let mut whole = std::mem::take(&mut self.rest);
                whole.extend_from_slice(line);
                self.line(&whole)
            };
            match outcome {
                Ok(true) if self.events.len() < self.limit.events_max => {}
                Ok(_) => return Some(End::Full),
                Err(reason) => return Some(End::Damaged(reason)),
            }
        }
        self.rest.extend_from_slice(rest);
        (self.rest.len() > LINE_BYTES_MAX).then(|| End::Damaged(format!("a line of more than {LINE_BYTES_MAX} bytes")))
    }

    /// `false`: the event does not fit into the page any more.
    fn line(&mut self, line: &[u8]) -> Result<bool, String> {
        let text = std::str::from_utf8(line).map_err(|_| "a line is not UTF-8".to_owned())?;
        let event = from_cloud_event(text).map_err(|error| error.to_string())?;
        if event.position != self.next {
            return Err(format!("position {} stands where {} belongs", event.position, self.next));
        }
        self.event_bytes += event.payload.len() + event.metadata.len();
        if !self.events.is_empty() && self.event_bytes > self.limit.bytes_max {
            return Ok(false);
        }
        self.next += 1;
        self.events.push(event);
        Ok(true)
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Problem {
    code: String,
    detail: String,
    position: Option<u64>,
    head: Option<u64>,
}

async fn read_problem(mut response: Response) -> Problem {
    let mut body = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        if body.len() + chunk.len() > PROBLEM_BYTES_MAX {
            break;
        }
        body.extend_from_slice(&chunk);
    }
    serde_json::from_slice(&body).unwrap_or_default()
}

/// An error with its causes: on its own, this client's only says that a request failed.
fn whole_story(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
