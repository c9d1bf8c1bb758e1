//! One `GET`, in the clear or over TLS, for key sets. TLS is the rustls that the database driver and the mail bring already:
//! an HTTP client's own would bring a second verifier of certificates into the binary.

use std::sync::Arc;

use axum::{
    body::{Body, to_bytes},
    http::{Request, Uri, header::HOST},
};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::{
    TlsConnector,
    rustls::{ClientConfig, RootCertStore, crypto::ring, pki_types::ServerName},
};
use tokio_util::task::AbortOnDropHandle;

/// Where something is to be had.
pub struct Address {
    url: String,
    host: String,
    port: u16,
    /// As the `Host` header has it: with the port only if the URL has one.
    authority: String,
    /// What stands behind the host.
    path: String,
    /// `None`: in the clear.
    tls: Option<TlsConnector>,
}

impl Address {
    /// `https` trusts whom this machine trusts; `SSL_CERT_FILE` and `SSL_CERT_DIR` name others.
    ///
    /// Errors: a sentence behind the URL.
    pub fn try_new(url: &str) -> Result<Self, String> {
        let system = || {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            roots
        };
        Self::trusting(url, system)
    }

    /// As [`Self::try_new`], where certificates are to be signed by one of `roots`.
    pub fn trusting(url: &str, roots: impl FnOnce() -> RootCertStore) -> Result<Self, String> {
        let is_none = || "it is no URL such as https://id.example.com/keys".to_owned();
        let uri: Uri = url.parse().map_err(|_| is_none())?;
        let (tls, port) = match uri.scheme_str() {
            Some("http") => (None, 80),
            Some("https") => (Some(connector(roots())?), 443),
            Some(_) | None => return Err(is_none()),
        };
        let name = uri.host().ok_or_else(is_none)?;
        let authority = uri.port().map_or_else(|| name.to_owned(), |port| format!("{name}:{port}"));
        let host = name.trim_matches(['[', ']']).to_owned();
        let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        Ok(Self { url: url.to_owned(), host, port: uri.port_u16().unwrap_or(port), authority, path, tls })
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// The body of the answer, if that is a 200 with at most `bytes_max`. Nobody is sent elsewhere: a redirect is no answer.
    /// Cancel-safe: what is dropped closes its connection.
    pub async fn get(&self, bytes_max: usize) -> Result<Vec<u8>, String> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await.map_err(|error| error.to_string())?;
        match &self.tls {
            None => self.exchange(stream, bytes_max).await,
            Some(tls) => {
                let name = ServerName::try_from(self.host.clone()).map_err(|error| error.to_string())?;
                let stream = tls.connect(name, stream).await.map_err(|error| format!("TLS: {error}"))?;
                self.exchange(stream, bytes_max).await
            }
        }
    }

    async fn exchange<S>(&self, stream: S, bytes_max: usize) -> Result<Vec<u8>, String>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let whole_story = |error: hyper::Error| {
            let causes = std::iter::successors(Some(&error as &dyn std::error::Error), |error| error.source());
            causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
        };
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(whole_story)?;
        let _connection = AbortOnDropHandle::new(tokio::spawn(connection));
        let request = Request::get(&self.path).header(HOST, &self.authority).body(Body::empty());
        let request = request.map_err(|error| error.to_string())?;
        let answer = sender.send_request(request).await.map_err(whole_story)?;
        if answer.status() != 200 {
            return Err(format!("answer {}", answer.status()));
        }
        let body = to_bytes(Body::new(answer.into_body()), bytes_max).await;
        body.map(|body| body.to_vec()).map_err(|error| format!("its {bytes_max} bytes at most: {error}"))
    }
}

fn connector(roots: RootCertStore) -> Result<TlsConnector, String> {
    if roots.is_empty() {
        return Err(
            "this machine trusts nobody: install its ca-certificates, or name a file in SSL_CERT_FILE".to_owned()
        );
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let config = config.with_safe_default_protocol_versions().map_err(|error| error.to_string())?;
    Ok(TlsConnector::from(Arc::new(config.with_root_certificates(roots).with_no_client_auth())))
}

#[cfg(test)]
#[path = "fetch_tests.rs"]
mod tests;
