//! The feed's contract in process and over HTTP, and what only a connection can do wrong.

use std::{
    io::Write,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use event_store::{
    feed::{Cursor, Feed, FeedError, PageLimit},
    feed_http::HttpFeed,
    follower::{Follower, HaltReason},
    log::EventLog,
    memory::{MemoryCopy, MemoryLog},
};
use flate2::{Compression, write::GzEncoder};
use testkit::{
    feed_contract::FeedHarness,
    feed_server::FeedServer,
    follower_kit::{assert_each_once, ledger, options, soon, write_many},
};

/// A log in memory, read in process or through a server.
struct Harness {
    log: Arc<MemoryLog>,
    server: Option<FeedServer>,
    copy: Mutex<Option<MemoryCopy>>,
}

impl Harness {
    fn in_process() -> Self {
        Self { log: MemoryLog::new("accounts"), server: None, copy: Mutex::default() }
    }

    async fn over_http() -> Self {
        let harness = Self::in_process();
        let server = FeedServer::start(harness.log.clone()).await;
        Self { server: Some(server), ..harness }
    }
}

#[async_trait]
impl FeedHarness for Harness {
    fn log(&self) -> Arc<dyn EventLog> {
        self.log.clone()
    }

    async fn feed(&self) -> Arc<dyn Feed> {
        match &self.server {
            Some(server) => Arc::new(HttpFeed::try_new("accounts", &server.url()).unwrap()),
            None => self.log.clone(),
        }
    }

    async fn back_up(&self) {
        *self.copy.lock().unwrap() = Some(self.log.copy());
    }

    async fn restore(&self) {
        self.log.restore(self.copy.lock().unwrap().take().expect("backed up before"));
    }
}

mod in_process {
    use super::Harness;
    testkit::feed_contract!(Harness::in_process());
}

mod over_http {
    use super::Harness;
    testkit::feed_contract!(Harness::over_http().await);
}

async fn served(events: usize) -> (Arc<MemoryLog>, FeedServer, HttpFeed) {
    let log = MemoryLog::new("accounts");
    write_many(&log, events, 3).await;
    let server = FeedServer::start(log.clone()).await;
    let feed = HttpFeed::try_new("accounts", &server.url()).unwrap();
    (log, server, feed)
}

async fn read(feed: &HttpFeed) -> Result<Vec<u64>, FeedError> {
    let page = feed.page(Cursor::START, PageLimit::default(), Duration::ZERO).await?;
    Ok(page.events.into_iter().map(|event| event.position).collect())
}

#[tokio::test]
async fn a_body_cut_anywhere_gives_its_whole_lines_or_an_error_but_never_a_hole() {
    let (_log, server, feed) = served(4).await;
    let mut seen = std::collections::BTreeSet::new();
    for bytes in 0..2_400 {
        server.cut_body_after(bytes);
        match read(&feed).await {
            Ok(positions) => {
                assert!((1..).zip(&positions).all(|(expected, position)| expected == *position), "{positions:?}");
                seen.insert(positions.len());
            }
            Err(FeedError::Unreachable { .. }) => _ = seen.insert(0),
            Err(other) => panic!("cut after {bytes} bytes: {other}"),
        }
    }
    assert_eq!(Vec::from_iter(seen), [0, 1, 2, 3, 4]);
}

#[tokio::test]
async fn a_compressed_page_is_the_same_page_and_cut_anywhere_it_has_no_hole() {
    let (_log, server, feed) = served(40).await;
    let plain = read(&feed).await.unwrap();
    server.bend(|answer| {
        let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
        packed.write_all(&answer.body).unwrap();
        answer.body = packed.finish().unwrap();
        answer.headers.push(("content-encoding", "gzip".to_owned()));
    });
    let feed = feed.compressed();
    assert_eq!(read(&feed).await.unwrap(), plain);
    for bytes in (0..4_000).step_by(7) {
        server.cut_body_after(bytes);
        match read(&feed).await {
            Ok(positions) => assert_eq!(positions, plain[..positions.len()]),
            Err(FeedError::Unreachable { .. }) => {}
            Err(other) => panic!("cut after {bytes} bytes: {other}"),
        }
    }
    server.cut_body_after(u64::MAX);
    server.bend(|answer| answer.headers.push(("content-encoding", "gzip".to_owned())));
    assert!(matches!(read(&feed).await, Err(FeedError::Unreachable { .. })), "it says gzip and is not");
}

#[tokio::test]
async fn a_damaged_line_is_never_skipped() {
    let (_log, server, feed) = served(6).await;
    server.bend(|answer| {
        let text = String::from_utf8(answer.body.clone()).unwrap();
        answer.body = text.replace(r#""position":3,"#, r#""position":"three","#).into_bytes();
    });
    assert_eq!(read(&feed).await.unwrap(), [1, 2], "the lines before it are good");
    let after = feed.page(Cursor::START, PageLimit::events(2), Duration::ZERO).await.unwrap().events.pop().unwrap();
    let damaged = feed.page(Cursor::at(&after), PageLimit::default(), Duration::ZERO).await;
    assert!(matches!(damaged, Err(FeedError::Damaged { position: 3, .. })), "{damaged:?}");
}

#[tokio::test]
async fn a_line_that_is_missing_on_the_way_ends_the_page() {
    let (_log, server, feed) = served(6).await;
    let without = |line: usize| {
        move |answer: &mut event_store::feed_http::Answer| {
            let text = String::from_utf8(answer.body.clone()).unwrap();
            let kept = text.split_inclusive('\n').enumerate().filter(|(n, _)| *n != line).map(|(_, line)| line);
            answer.body = kept.collect::<String>().into_bytes();
        }
    };
    server.bend(without(3));
    assert_eq!(read(&feed).await.unwrap(), [1, 2, 3]);
    server.bend(without(0));
    assert!(matches!(read(&feed).await, Err(FeedError::Damaged { position: 1, .. })));
}

#[tokio::test]
async fn what_is_not_a_feed_is_unreachable() {
    let (_log, server, feed) = served(2).await;
    server.bend(|answer| answer.headers.retain(|(name, _)| *name != "feed-epoch"));
    let error = read(&feed).await.unwrap_err().to_string();
    assert!(error.contains("no feed-epoch"), "{error}");
    server.bend(|answer| (answer.status, answer.body) = (502, b"<html>bad gateway</html>".to_vec()));
    let error = read(&feed).await.unwrap_err().to_string();
    assert!(error.contains("502"), "{error}");
    let (url, _) = (server.url(), drop(server));
    let error = read(&HttpFeed::try_new("accounts", &url).unwrap()).await.unwrap_err();
    assert!(matches!(error, FeedError::Unreachable { .. }), "{error}");
    assert!(HttpFeed::try_new("accounts", "not a url").is_err());
}

#[tokio::test]
async fn a_query_that_makes_no_sense_is_a_problem_with_its_parameter() {
    let log = MemoryLog::new("accounts");
    let answer = event_store::feed_http::serve(log, Some("after=minus-one"), "trace-7").await;
    assert_eq!(answer.status, 400);
    let body = String::from_utf8(answer.body).unwrap();
    assert!(body.contains("invalid_feed_query") && body.contains("after") && body.contains("trace-7"), "{body}");
}

#[tokio::test]
async fn a_follower_runs_over_a_bad_connection_as_it_does_in_process() {
    let (log, server, feed) = served(60).await;
    let store = ledger();
    server.cut_body_after(2_000);
    let follower = Follower::start("test", vec![Arc::new(feed)], store.clone(), options());
    soon("over a cut connection", follower.caught_up()).await.unwrap();
    server.be_honest();
    server.bend(|answer| answer.status = 503);
    write_many(&log, 30, 2).await;
    let target = [("accounts".into(), event_store::follower::Checkpoint { position: 90, ..Default::default() })];
    let mut watch = follower.watch();
    let halted = |status: &event_store::follower::Status| {
        matches!(status.sources["accounts"].halt(), Some(HaltReason::Unreachable { .. }))
    };
    soon("unreachable", watch.wait_for(halted)).await.unwrap();
    server.be_honest();
    soon("healed", follower.reached(&target.into_iter().collect())).await.unwrap();
    assert_each_once(&store, &*log, &[], "over HTTP").await;
    assert!(follower.status().stuck().is_none());
    let anchored = server.requests().iter().any(|target| target.contains("anchor=") && target.contains("wait=0.200"));
    assert!(anchored, "{:?}", server.requests());
}
