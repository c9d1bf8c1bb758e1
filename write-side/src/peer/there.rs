//! A service behind a network: a server that may be slow, send too much, or go away at any byte.

use std::{path::PathBuf, time::Duration};

use axum::http::{HeaderValue, header::AUTHORIZATION};
use reqwest::{Client, Url, redirect::Policy};

use super::{Call, PeerError, bounded, story};

/// For a connection to come about.
const CONNECT_WAIT_MAX: Duration = Duration::from_secs(3);

/// The largest file of a token, in bytes: no server takes a longer one.
const TOKEN_BYTES_MAX: usize = 8 * 1024;

/// Where a service is, and what is shown there.
#[derive(Clone)]
pub struct There {
    client: Client,
    /// Without a slash at its end.
    base_url: String,
    token_file: Option<PathBuf>,
}

impl There {
    pub(super) fn try_new(base_url: &str, token_file: Option<PathBuf>) -> Result<Self, PeerError> {
        let base_url = base_url.trim_end_matches('/').to_owned();
        Url::parse(&base_url).map_err(|error| PeerError::Unreachable(error.to_string()))?;
        // services talk to each other directly, whatever the environment says of proxies, and a token is shown to nobody
        // that an answer names
        let client = Client::builder().connect_timeout(CONNECT_WAIT_MAX).no_proxy().redirect(Policy::none()).build();
        let client = client.map_err(|error| PeerError::Unreachable(story(&error)))?;
        Ok(Self { client, base_url, token_file })
    }

    pub(super) async fn call(&self, call: Call) -> Result<(u16, Vec<u8>), PeerError> {
        let mut request = self.client.request(call.method, format!("{}{}", self.base_url, call.path)).body(call.body);
        for (name, value) in call.headers {
            request = request.header(name, value);
        }
        if let Some(token) = self.token().await? {
            request = request.header(AUTHORIZATION, token);
        }
        let say = |error: reqwest::Error| story(&error.without_url());
        let response = request.send().await.map_err(|error| PeerError::Unreachable(say(error)))?;
        let status = response.status().as_u16();
        Ok((status, bounded(response.bytes_stream(), say).await?))
    }

    /// As it stands in the file now: a token ends, and whoever keeps the file puts the next one there in time.
    async fn token(&self) -> Result<Option<HeaderValue>, PeerError> {
        let Some(file) = &self.token_file else { return Ok(None) };
        let wrong = |reason: String| PeerError::Token { file: file.clone(), reason };
        let token = tokio::fs::read_to_string(file).await.map_err(|error| wrong(error.to_string()))?;
        let token = token.trim();
        if token.is_empty() || token.len() > TOKEN_BYTES_MAX {
            return Err(wrong(format!("it must hold one token of 1 to {TOKEN_BYTES_MAX} bytes")));
        }
        let bearer = HeaderValue::from_str(&format!("Bearer {token}"));
        let mut bearer = bearer.map_err(|_| wrong("it holds characters that no token has".to_owned()))?;
        bearer.set_sensitive(true);
        Ok(Some(bearer))
    }
}
