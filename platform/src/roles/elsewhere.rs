//! Services that are not in this process: their feeds are read and they are asked over HTTP.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use anyhow::{Context, Result, anyhow};
use event_store::{feed::Feed, feed_http::HttpFeed, token_file::TokenFile};
use write_side::peer::Peer;

/// Where they are. Empty where every service is in this process.
#[derive(Debug, Clone, Default)]
pub struct Elsewhere {
    /// By the names of the services: `http://host:port`.
    pub bases: BTreeMap<&'static str, String>,
    /// Holds the token that is shown to them, if they ask for one.
    pub token_file: Option<PathBuf>,
    /// Whether feeds are to come compressed.
    pub compressed: bool,
}

impl Elsewhere {
    /// The log of a service as its followers here see it.
    pub fn feed(&self, service: &'static str) -> Result<Arc<dyn Feed>> {
        let url = format!("{}/{service}/feed", self.base(service)?);
        let feed = HttpFeed::try_new(service, &url).map_err(|error| anyhow!(error));
        let feed = feed.with_context(|| format!("follow {service}"))?;
        let feed = if self.compressed { feed.compressed() } else { feed };
        Ok(match &self.token_file {
            Some(file) => Arc::new(feed.with_token_file(TokenFile::new(file))),
            None => Arc::new(feed),
        })
    }

    /// A service as it is asked and given commands from here.
    pub fn peer(&self, service: &'static str) -> Result<Peer> {
        Peer::there(self.base(service)?, self.token_file.clone()).with_context(|| format!("ask {service}"))
    }

    fn base(&self, service: &str) -> Result<&str> {
        self.bases.get(service).map(String::as_str).with_context(|| format!("{service} is neither here nor elsewhere"))
    }
}
