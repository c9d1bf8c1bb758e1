//! Another service as this one may ask it: by its own HTTP API, in the same process or over the network.

use std::time::Duration;

use axum::{
    Router,
    body::{Body, to_bytes},
    http::Request,
};
use serde_json::Value;
use thiserror::Error;
use tower::ServiceExt;

/// How long an answer may take.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(5);

/// The largest answer that is read: one resource.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;

/// Cheap to clone.
#[derive(Clone)]
pub enum Peer {
    /// Its routes, called without a network.
    Here(Router),
    There {
        client: reqwest::Client,
        /// Without a slash at its end.
        base_url: String,
    },
}

/// The service did not answer, or not as it should.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("ask another service: {0}")]
pub struct PeerError(String);

impl Peer {
    pub fn here(router: Router) -> Self {
        Self::Here(router)
    }

    /// `base_url` is what stands before `/{resource}`: `http://users:8080`.
    pub fn there(base_url: &str) -> Result<Self, PeerError> {
        let client = reqwest::Client::builder().timeout(ANSWER_WAIT_MAX).build();
        let client = client.map_err(|error| PeerError(error.to_string()))?;
        Ok(Self::There { client, base_url: base_url.trim_end_matches('/').to_owned() })
    }

    /// A resource's own confirmed state: `None` = there is none.
    pub async fn show(&self, path: &str) -> Result<Option<Value>, PeerError> {
        let (status, body) = match self {
            Self::Here(router) => ask_here(router.clone(), path).await?,
            Self::There { client, base_url } => ask_there(client, &format!("{base_url}{path}")).await?,
        };
        match status {
            200 => serde_json::from_slice(&body).map(Some).map_err(|_| PeerError("the answer is not JSON".to_owned())),
            404 => Ok(None),
            // the body may hold anything: it is not repeated
            status => Err(PeerError(format!("it answers {status}"))),
        }
    }
}

async fn ask_here(router: Router, path: &str) -> Result<(u16, Vec<u8>), PeerError> {
    let request = Request::get(path).body(Body::empty()).map_err(|error| PeerError(error.to_string()))?;
    let answer = async {
        let response = match router.oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        };
        let (parts, body) = response.into_parts();
        to_bytes(body, ANSWER_BYTES_MAX).await.map(|body| (parts.status.as_u16(), body.to_vec()))
    };
    let answer = tokio::time::timeout(ANSWER_WAIT_MAX, answer).await;
    answer.map_err(|_| PeerError("no answer in time".to_owned()))?.map_err(|error| PeerError(error.to_string()))
}

async fn ask_there(client: &reqwest::Client, url: &str) -> Result<(u16, Vec<u8>), PeerError> {
    let unreachable = |error: reqwest::Error| PeerError(error.without_url().to_string());
    let mut response = client.get(url).send().await.map_err(unreachable)?;
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
        if body.len() + chunk.len() > ANSWER_BYTES_MAX {
            return Err(PeerError(format!("the answer is larger than {ANSWER_BYTES_MAX} bytes")));
        }
        body.extend_from_slice(&chunk);
    }
    Ok((response.status().as_u16(), body))
}
