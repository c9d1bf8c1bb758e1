//! Who asks: bearer tokens (JWT) on every request, where authentication is configured.
//!
//! Reading order: [`config`] (flags), [`keys`] (where keys come from), [`fetch`] (over the network), [`token`] (what a token
//! must say), [`ring_crypto`] (signatures). Here: from a request to its [`Principal`]. What a principal may is declared with each operation
//! ([`write_side::edge::access`]) and, for the parts that are not services, in [`part`].

pub mod config;
mod fetch;
mod keys;
mod ring_crypto;
mod token;

use std::{future::Future, pin::Pin};

use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header, request::Parts};
use events::principal::{Principal, scope};
use graphql::options::{Admitted, Authenticate, NotAdmitted};
use thiserror::Error;
use write_side::edge::{Problem, access};

use self::{
    config::AuthConfig,
    keys::{KeyError, Keys},
    token::TokenError,
};
use crate::roles::ready::HEALTH;

/// Checks tokens by one configuration.
pub struct Authenticator {
    keys: Keys,
    rules: token::Rules,
}

/// Why somebody is not known.
#[derive(Debug, Error)]
enum AuthError {
    #[error("this needs a token: Authorization: Bearer <token>")]
    Missing,
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error(transparent)]
    Keys(#[from] KeyError),
}

impl Authenticator {
    /// Why tokens that are good may be refused soon, or are already; `None` if there is no reason to.
    pub async fn trouble(&self) -> Option<String> {
        self.keys.trouble().await
    }

    /// Errors: the key file or the URL cannot be used. A key set that is not there yet is asked for again with the first token.
    pub async fn start(config: AuthConfig) -> Result<Self, KeyError> {
        ring_crypto::install();
        let rules = token::Rules::new(&config);
        Ok(Self { keys: Keys::open(config.keys, config.algorithm).await?, rules })
    }

    async fn known(&self, headers: &HeaderMap) -> Result<Admitted, AuthError> {
        let token = bearer(headers).ok_or(AuthError::Missing)?;
        let key_id = self.rules.key_id(token)?;
        let key = self.keys.find(key_id.as_deref()).await?;
        let (principal, until) = self.rules.check(token, &key)?;
        Ok(Admitted { principal, until: Some(until) })
    }

    #[cfg(test)]
    async fn principal(&self, headers: &HeaderMap) -> Result<Principal, AuthError> {
        self.known(headers).await.map(|known| known.principal)
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

/// Who asks, if they may at all: what their token says, or nobody where nothing of the data is to be had.
pub async fn check(authenticator: &Authenticator, request: &Parts) -> Result<Admitted, Problem> {
    let known = match authenticator.known(&request.headers).await {
        Ok(known) => known,
        Err(AuthError::Missing) if is_public(request) || opens_socket(request) => {
            return Ok(Admitted { principal: Principal::nobody(), until: None });
        }
        Err(error) => return Err(refused(&error)),
    };
    may_reach(request.uri.path(), &known.principal)?;
    Ok(known)
}

/// Whether somebody may ask the part that lies there.
fn may_reach(path: &str, principal: &Principal) -> Result<(), Problem> {
    if let Some(needed) = part(path) {
        if !principal.may(needed) {
            return Err(access::scope_missing(needed));
        }
        // read models are cut to what is a customer's own; the other parts have nothing that is
        if principal.customer().is_some() && needed != scope::QUERY {
            return Err(access::not_for_customers());
        }
    }
    Ok(())
}

/// A browser cannot show a token when it opens a socket: it does so in the first message.
impl Authenticate for Authenticator {
    fn admit<'a>(
        &'a self,
        headers: &'a HeaderMap,
    ) -> Pin<Box<dyn Future<Output = Result<Admitted, NotAdmitted>> + Send + 'a>> {
        Box::pin(async move {
            let known = self.known(headers).await.map_err(|error| refused(&error));
            let known = known.and_then(|known| may_reach(GRAPHQL, &known.principal).map(|()| known));
            known.map_err(|problem| NotAdmitted { code: problem.code.to_string(), detail: problem.detail.to_string() })
        })
    }
}

/// The address of the sockets: whoever comes there without a token is nobody until the first message.
const GRAPHQL: &str = "/graphql";

fn opens_socket(request: &Parts) -> bool {
    request.uri.path() == GRAPHQL && graphql::opens_socket(&request.method, &request.headers)
}

/// The scope of the parts that are not services; a service's operations have theirs declared with them.
fn part(path: &str) -> Option<&'static str> {
    let below = |part: &str| path == part || path.strip_prefix(part).is_some_and(|rest| rest.starts_with('/'));
    if below("/admin") {
        Some(scope::ADMIN)
    } else if path == GRAPHQL {
        Some(scope::QUERY)
    } else if path == "/metrics" {
        Some(scope::METRICS)
    } else {
        None
    }
}

/// What somebody without a token gets: health, and documents about us. Nothing of the data.
fn is_public(request: &Parts) -> bool {
    let path = request.uri.path();
    let is_document = HEALTH.contains(&path)
        || ["/openapi.json", "/docs"].contains(&path)
        || ["/docs/assets/", "/graphql/assets/"].iter().any(|folder| path.starts_with(folder))
        || (path.ends_with("/openapi.json") && path.matches('/').count() == 2)
        // the playground's page: a browser has no token before somebody has typed one into it
        || (path == "/graphql" && request.uri.query().is_none());
    matches!(request.method, Method::GET | Method::HEAD) && is_document
}

fn refused(error: &AuthError) -> Problem {
    let challenge = |text: &'static str| HeaderValue::from_static(text);
    match error {
        AuthError::Missing => Problem::new(StatusCode::UNAUTHORIZED, "unauthenticated", error.to_string())
            .header(header::WWW_AUTHENTICATE, challenge("Bearer")),
        AuthError::Token(token) => Problem::new(StatusCode::UNAUTHORIZED, "invalid_token", token.to_string())
            .header(header::WWW_AUTHENTICATE, challenge("Bearer error=\"invalid_token\"")),
        AuthError::Keys(KeyError::Unknown) => {
            Problem::new(StatusCode::UNAUTHORIZED, "invalid_token", "the token is signed with a key that is not known")
                .header(header::WWW_AUTHENTICATE, challenge("Bearer error=\"invalid_token\""))
        }
        AuthError::Keys(cause) => {
            let detail = "the keys of the token's issuer cannot be had now; try again";
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "authentication_unavailable", detail)
                .caused_by(cause.to_string())
                .retry_after(1)
        }
    }
}

#[cfg(test)]
#[path = "auth/tests.rs"]
mod token_tests;

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    #[test]
    fn only_health_and_documents_are_public() {
        let public = |method: &str, path: &str| {
            is_public(&Request::builder().method(method).uri(path).body(()).expect("a request").into_parts().0)
        };
        for path in
            ["/docs", "/docs/assets/docs.js", "/openapi.json", "/users/openapi.json", "/graphql"].iter().chain(&HEALTH)
        {
            assert!(public("GET", path), "{path}");
        }
        for path in [
            "/",
            "/users/feed",
            "/admin/doctor",
            "/graphql?query={a}",
            "/metrics",
            "/orders/0198/openapi.json/x",
            "/users/1",
        ] {
            assert!(!public("GET", path), "{path}");
        }
        assert!(!public("POST", "/docs") && !public("POST", "/users/openapi.json") && !public("POST", "/graphql"));
    }

    #[test]
    fn parts_that_are_no_services_have_scopes_of_their_own() {
        for (path, needed) in [
            ("/admin", Some("admin")),
            ("/admin/doctor", Some("admin")),
            ("/administrators", None),
            ("/graphql", Some("query")),
            ("/graphql/assets/playground.js", None),
            ("/metrics", Some("metrics")),
            ("/orders", None),
        ] {
            assert_eq!(part(path), needed, "{path}");
        }
    }
}
