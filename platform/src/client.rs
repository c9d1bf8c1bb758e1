//! The command line's way to a running platform.

use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use reqwest::{
    Method, StatusCode,
    header::{AUTHORIZATION, HeaderMap, HeaderValue},
};
use serde::{Serialize, de::DeserializeOwned};

use crate::cli::Target;

/// A running platform, seen from outside.
#[derive(Clone)]
pub struct Client {
    base: String,
    http: reqwest::Client,
}

/// The path of these segments, whatever is in them.
pub fn path(segments: &[&str]) -> String {
    let mut url = reqwest::Url::parse("http://host").expect("a constant");
    url.path_segments_mut().expect("http has a path").pop_if_empty().extend(segments);
    url.path().to_owned()
}

/// The longest that one answer may take; long work is polled.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(60);

/// The longest that an answer may take that is read piece by piece: a large log over a thin line.
const STREAM_MAX: Duration = Duration::from_secs(24 * 60 * 60);

impl Target {
    /// A client that shows the token with every request.
    pub fn http(&self) -> Result<reqwest::ClientBuilder> {
        let mut headers = HeaderMap::new();
        if let Some(token) = self.token.as_deref().filter(|token| !token.is_empty()) {
            let value = HeaderValue::from_str(&format!("Bearer {token}"));
            let mut value = value.context("--token is no token: it holds characters that none has")?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        Ok(reqwest::Client::builder().timeout(ANSWER_WAIT_MAX).default_headers(headers))
    }
}

impl Client {
    pub fn new(target: &Target) -> Result<Self> {
        let base = target.url.trim_end_matches('/').to_owned();
        if !base.starts_with("http://") {
            bail!(
                "{base} is no URL of a platform: it starts with http://, such as http://127.0.0.1:8080. The command line \
                 speaks no TLS: where a proxy ends it, ask the platform behind the proxy"
            );
        }
        let http = target.http()?.build().context("set up the HTTP client")?;
        Ok(Self { base, http })
    }

    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        self.send(self.http.request(Method::GET, self.url(path)), path).await
    }

    pub async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T> {
        self.send(self.http.request(Method::POST, self.url(path)).json(body), path).await
    }

    /// For requests whose answer is to be looked at as it is.
    pub fn http(&self) -> &reqwest::Client {
        &self.http
    }

    /// Whether something answers at all.
    pub async fn is_up(&self) -> bool {
        let answer = self.http.get(self.url("/livez")).timeout(Duration::from_secs(2)).send().await;
        answer.is_ok_and(|answer| answer.status() == StatusCode::OK)
    }

    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// An answer that takes as long as it is: whoever reads it bounds the time of its pieces.
    pub async fn stream(&self, path: &str) -> Result<reqwest::Response> {
        self.answer(self.http.request(Method::GET, self.url(path)).timeout(STREAM_MAX), path).await
    }

    async fn send<T: DeserializeOwned>(&self, request: reqwest::RequestBuilder, path: &str) -> Result<T> {
        let body = self.answer(request, path).await?.bytes().await;
        let body = body.with_context(|| format!("read the answer of {path}"))?;
        serde_json::from_slice(&body).with_context(|| format!("understand the answer of {path}"))
    }

    /// The answer to a request that was done.
    async fn answer(&self, request: reqwest::RequestBuilder, path: &str) -> Result<reqwest::Response> {
        let answer = request.send().await.map_err(|error| {
            if error.is_connect() {
                anyhow!(
                    "nothing answers at {}: start the platform with `tributary up`, or say where it runs with --url",
                    self.base
                )
            } else {
                anyhow::Error::new(error).context(format!("ask {}{path}", self.base))
            }
        })?;
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let body = answer.bytes().await.with_context(|| format!("read the answer of {path}"))?;
        let problem: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
        let text = |field: &str| problem[field].as_str().map(str::to_owned);
        let detail = text("detail").or_else(|| text("title")).unwrap_or_else(|| format!("{path} answered {status}"));
        match text("code") {
            Some(code) => bail!("{detail} ({code})"),
            None => bail!("{detail}"),
        }
    }
}
