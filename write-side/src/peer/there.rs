//! A service behind a network: a server that may be slow, send too much, or go away at any byte.

use std::{path::PathBuf, time::Duration};

use axum::http::header::AUTHORIZATION;
use event_store::token_file::TokenFile;
use reqwest::{Client, Url, redirect::Policy};

use super::{Call, PeerError, bounded, story};

/// For a connection to come about.
const CONNECT_WAIT_MAX: Duration = Duration::from_secs(3);

/// Where a service is, and what is shown there.
#[derive(Clone)]
pub struct There {
    client: Client,
    /// Without a slash at its end.
    base_url: String,
    token: Option<TokenFile>,
}

impl There {
    pub(super) fn try_new(base_url: &str, token_file: Option<PathBuf>) -> Result<Self, PeerError> {
        let base_url = base_url.trim_end_matches('/').to_owned();
        Url::parse(&base_url).map_err(|error| PeerError::Unreachable(error.to_string()))?;
        // services talk to each other directly, whatever the environment says of proxies, and a token is shown to nobody
        // that an answer names
        let client = Client::builder().connect_timeout(CONNECT_WAIT_MAX).no_proxy().redirect(Policy::none()).build();
        let client = client.map_err(|error| PeerError::Unreachable(story(&error)))?;
        Ok(Self { client, base_url, token: token_file.map(TokenFile::new) })
    }

    pub(super) async fn call(&self, call: Call) -> Result<(u16, Vec<u8>), PeerError> {
        let mut request = self.client.request(call.method, format!("{}{}", self.base_url, call.path)).body(call.body);
        for (name, value) in call.headers {
            request = request.header(name, value);
        }
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, token.authorization().await?);
        }
        let say = |error: reqwest::Error| story(&error.without_url());
        let response = request.send().await.map_err(|error| PeerError::Unreachable(say(error)))?;
        let status = response.status().as_u16();
        Ok((status, bounded(response.bytes_stream(), say).await?))
    }
}
