//! What a token must say, and the principal that it names.

use std::time::{Duration, SystemTime};

use events::{
    ids::CustomerId,
    principal::{Principal, PrincipalError},
};
use jsonwebtoken::{DecodingKey, Validation, decode, decode_header, errors::ErrorKind};
use serde::{Deserialize, Deserializer};
use serde_json::{Number, Value};
use thiserror::Error;

use super::config::AuthConfig;

/// How far the issuer's clock may be from ours, in seconds: a token is good this much before its `nbf` and behind its
/// `exp`.
pub const LEEWAY_SECONDS: u64 = 30;

/// The longest token, in bytes: a signature is checked over all of it.
const TOKEN_BYTES_MAX: usize = 8 * 1024;

pub struct Rules {
    validation: Validation,
}

/// What of a token is read. `scope` is RFC 8693's list in one text; some issuers say `scp`, and as a list.
#[derive(Debug, Deserialize)]
struct Claims {
    sub: String,
    /// Seconds of Unix time; some issuers write fractions. What it must be is the validation's to say.
    #[serde(default)]
    exp: Value,
    #[serde(default, alias = "scp")]
    scope: Scopes,
    #[serde(default, deserialize_with = "stated")]
    customer_id: Option<CustomerId>,
}

/// A claim that is there and null is the issuer's mistake. It must not make a customer one of the staff.
fn stated<'de, D: Deserializer<'de>>(claim: D) -> Result<Option<CustomerId>, D::Error> {
    CustomerId::deserialize(claim).map(Some)
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Scopes {
    Text(String),
    List(Vec<String>),
}

impl Default for Scopes {
    fn default() -> Self {
        Self::List(Vec::new())
    }
}

impl Scopes {
    fn into_list(self) -> Vec<String> {
        match self {
            Self::Text(text) => text.split_ascii_whitespace().map(str::to_owned).collect(),
            Self::List(list) => list,
        }
    }
}

/// Why a token does not count. The sentences tell its bearer what to do and nothing that the token does not say.
#[derive(Debug, Error)]
pub enum TokenError {
    #[error("this is no token, or its signature is not by the issuer's key")]
    NotOurs,
    #[error("the token ended; get a new one")]
    Expired,
    #[error("the token does not count yet")]
    NotYet,
    #[error("the token is by another issuer")]
    Issuer,
    #[error("the token is for another audience")]
    Audience,
    #[error("the token is signed with another algorithm than the configured one")]
    Algorithm,
    #[error("the token lacks the claim {0}")]
    Lacks(String),
    #[error("a claim of the token is not of the type that it must be: sub is a text, scope a text, customer_id a UUID")]
    Claims,
    #[error("the token's sub: {0}")]
    Subject(#[from] PrincipalError),
}

impl Rules {
    pub fn new(config: &AuthConfig) -> Self {
        let mut validation = Validation::new(config.algorithm);
        validation.leeway = LEEWAY_SECONDS;
        validation.validate_nbf = true;
        validation.set_issuer(&[&config.issuer]);
        validation.set_audience(&[&config.audience]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        Self { validation }
    }

    /// Which key the token says it is signed with. Only to find that key: nothing of the header is trusted, and the
    /// algorithm is the configured one.
    pub fn key_id(&self, token: &str) -> Result<Option<String>, TokenError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::NotOurs);
        }
        let header = decode_header(token).map_err(|_| TokenError::NotOurs)?;
        if !self.validation.algorithms.contains(&header.alg) {
            return Err(TokenError::Algorithm);
        }
        Ok(header.kid)
    }

    /// Checks signature and claims; gives also when the token ends.
    pub fn check(&self, token: &str, key: &DecodingKey) -> Result<(Principal, SystemTime), TokenError> {
        let claims = decode::<Claims>(token, key, &self.validation).map_err(|error| match error.kind() {
            ErrorKind::ExpiredSignature => TokenError::Expired,
            ErrorKind::ImmatureSignature => TokenError::NotYet,
            ErrorKind::InvalidIssuer => TokenError::Issuer,
            ErrorKind::InvalidAudience => TokenError::Audience,
            ErrorKind::InvalidAlgorithm | ErrorKind::UnsupportedAlgorithm => TokenError::Algorithm,
            ErrorKind::MissingRequiredClaim(claim) => TokenError::Lacks(claim.clone()),
            ErrorKind::InvalidClaimFormat(_) | ErrorKind::Json(_) => TokenError::Claims,
            _ => TokenError::NotOurs,
        })?;
        let Claims { sub, exp, scope, customer_id } = claims.claims;
        let principal = Principal::try_new(&sub, customer_id, scope.into_list())?;
        let ends_at = exp.as_number().and_then(ends_at);
        Ok((principal, ends_at.ok_or(TokenError::Claims)?))
    }
}

/// When a token with this `exp` has ended, by our clock and with the leeway. One beyond every clock is of no issuer.
fn ends_at(exp: &Number) -> Option<SystemTime> {
    let whole = exp.to_string().split(['.', 'e', 'E']).next()?.parse::<u64>();
    let seconds = exp.as_u64().or(whole.ok())?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds.checked_add(LEEWAY_SECONDS)?))
}
