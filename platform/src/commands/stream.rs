//! `tributary stream show` and `stream tail`.

use std::{process::ExitCode, time::Duration};

use anyhow::{Context, Result, anyhow};
use event_store::{
    feed::{Cursor, Feed, FeedError, PageLimit},
    feed_http::HttpFeed,
};
use events::envelope::{RecordedEvent, to_cloud_event};

use crate::{
    admin::StreamEvents,
    cli::{Output, StreamArgs, StreamVerb, Target},
    client::Client,
    output,
};

pub async fn run(args: StreamArgs, output: Output) -> Result<ExitCode> {
    match args.verb {
        StreamVerb::Show { service, id, after, limit, target } => {
            show(&service, &id, after, limit, &target, output).await
        }
        StreamVerb::Tail { service, after, limit, target } => tail(&service, after, limit, &target, output).await,
    }
}

async fn show(service: &str, id: &str, after: u64, limit: usize, target: &Target, output: Output) -> Result<ExitCode> {
    let client = Client::new(target)?;
    let stream: StreamEvents =
        client.get(&format!("/admin/streams/{service}/{id}?after={after}&limit={limit}")).await?;
    match output {
        Output::Json => output::json(&stream),
        Output::Human => {
            let rows = stream.events.iter().map(|event| {
                vec![
                    event.sequence.to_string(),
                    event.position.to_string(),
                    event.recorded_at.to_rfc3339_opts(chrono::SecondsFormat::Millis, true),
                    format!("{} v{}", event.event_type, event.event_version),
                    event.payload.to_string(),
                ]
            });
            output::table(&["VERSION", "POSITION", "RECORDED", "EVENT", "PAYLOAD"], rows);
            if stream.more {
                output::line(format!(
                    "... more: --after {}",
                    stream.events.last().map_or(after, |event| event.sequence)
                ));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// How long a feed waits for news before it is asked again.
const NEWS_WAIT: Duration = Duration::from_secs(25);
/// Between attempts to reach a service that is away.
const AGAIN_WAIT: Duration = Duration::from_secs(1);
/// Events of one page.
const PAGE_EVENTS: usize = 500;

async fn tail(
    service: &str,
    after: Option<u64>,
    limit: Option<u64>,
    target: &Target,
    output: Output,
) -> Result<ExitCode> {
    let client = Client::new(target)?;
    let feed = HttpFeed::try_new(service, &client.url(&format!("/{service}/feed"))).map_err(|error| anyhow!(error))?;
    let feed = match target.token.as_deref().filter(|token| !token.is_empty()) {
        Some(token) => feed.with_token(token).map_err(|error| anyhow!(error)).context("--token")?,
        None => feed,
    };
    let mut cursor = Cursor { position: after.unwrap_or(0), event_id: None };
    if after.is_none() {
        let page = feed.page(cursor, PageLimit::events(1), Duration::ZERO).await;
        cursor.position = page.with_context(|| format!("read the feed of {service}"))?.head.position;
    }
    let mut printed = 0;
    while limit.is_none_or(|limit| printed < limit) {
        let page = match feed.page(cursor, PageLimit::events(PAGE_EVENTS), NEWS_WAIT).await {
            Ok(page) => page,
            // it was there a moment ago, and may be again
            Err(error @ FeedError::Unreachable { .. }) if printed > 0 => {
                tracing::warn!(%error, "waiting for the feed");
                tokio::time::sleep(AGAIN_WAIT).await;
                continue;
            }
            Err(error) => return Err(error).with_context(|| format!("read the feed of {service}")),
        };
        for event in page.events {
            if limit.is_some_and(|limit| printed >= limit) {
                break;
            }
            print(&event, service, output)?;
            cursor = Cursor { position: event.position, event_id: Some(event.event_id) };
            printed += 1;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// One event, one line: so that it can be piped.
fn print(event: &RecordedEvent, service: &str, output: Output) -> Result<()> {
    match output {
        Output::Json => output::line(to_cloud_event(service, event).context("an event of the feed")?),
        Output::Human => output::line(format!(
            "{:>8}  {}  {} v{}  {}@{}  {}",
            event.position,
            event.recorded_at.to_rfc3339_opts(chrono::SecondsFormat::Millis, true),
            event.event_type,
            event.event_version,
            event.stream.aggregate_id,
            event.sequence,
            event.payload,
        )),
    }
    Ok(())
}
