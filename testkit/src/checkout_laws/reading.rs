//! Books that are kept up to date from the feeds of a platform, over restarts: each feed goes on behind the event that was
//! read last, so one that has lost an event is an error.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, anyhow};
use event_store::{
    feed::{Cursor, Feed, PageLimit},
    feed_http::HttpFeed,
};

use super::{Books, SOURCES};

/// Books, and how far each feed was read.
#[derive(Debug, Default)]
pub struct Audit {
    pub books: Books,
    read: BTreeMap<&'static str, Cursor>,
}

impl Audit {
    /// Reads everything that is new at the platform at `url`.
    pub async fn read(&mut self, url: &str) -> anyhow::Result<()> {
        for source in SOURCES {
            let feed = HttpFeed::try_new(source, &format!("{url}/{source}/feed")).map_err(|error| anyhow!(error))?;
            let cursor = self.read.entry(source).or_insert(Cursor::START);
            loop {
                let limit = PageLimit::events(PageLimit::EVENTS_MAX);
                let page = feed.page(*cursor, limit, Duration::ZERO).await;
                let page = page.with_context(|| format!("read the feed of {source} behind {}", cursor.position))?;
                let Some(last) = page.events.last() else { break };
                for event in &page.events {
                    let entered = self.books.enter(source, event);
                    entered.with_context(|| format!("read event {} of {source}", event.position))?;
                }
                *cursor = Cursor { position: last.position, event_id: Some(last.event_id) };
            }
        }
        Ok(())
    }

    /// How many events were read.
    pub fn events(&self) -> u64 {
        self.read.values().map(|cursor| cursor.position).sum()
    }
}
