//! What of authentication can be configured.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use thiserror::Error;

/// Who issues the tokens that requests must carry. Without these flags there is no authentication, and the platform
/// listens on loopback only.
#[derive(Debug, Clone, Default, Args)]
pub struct AuthArgs {
    /// Issuer of the tokens, as their `iss` says; turns authentication on
    #[arg(long, env = "TRIBUTARY_AUTH_ISSUER")]
    pub auth_issuer: Option<String>,
    /// Whom the tokens are for, as their `aud` says
    #[arg(long, env = "TRIBUTARY_AUTH_AUDIENCE")]
    pub auth_audience: Option<String>,
    /// How the tokens are signed; no other algorithm is accepted, whatever a token says
    #[arg(long, env = "TRIBUTARY_AUTH_ALGORITHM", value_enum)]
    pub auth_algorithm: Option<Algorithm>,
    /// File with the issuer's public key in PEM or, for HS256 and its like, with the shared secret
    #[arg(long, env = "TRIBUTARY_AUTH_KEY_FILE")]
    pub auth_key_file: Option<PathBuf>,
    /// Key set (JWKS) of the issuer: a file, or a URL that is asked again when a token names a key it does not have
    #[arg(long, env = "TRIBUTARY_AUTH_JWKS")]
    pub auth_jwks: Option<String>,
}

/// The algorithms of signatures (RFC 7518, 8037). `none` is not among them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "UPPER")]
pub enum Algorithm {
    Hs256,
    Hs384,
    Hs512,
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Ps384,
    Ps512,
    Es256,
    Es384,
    #[value(name = "EdDSA")]
    EdDsa,
}

impl From<Algorithm> for jsonwebtoken::Algorithm {
    fn from(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Hs256 => Self::HS256,
            Algorithm::Hs384 => Self::HS384,
            Algorithm::Hs512 => Self::HS512,
            Algorithm::Rs256 => Self::RS256,
            Algorithm::Rs384 => Self::RS384,
            Algorithm::Rs512 => Self::RS512,
            Algorithm::Ps256 => Self::PS256,
            Algorithm::Ps384 => Self::PS384,
            Algorithm::Ps512 => Self::PS512,
            Algorithm::Es256 => Self::ES256,
            Algorithm::Es384 => Self::ES384,
            Algorithm::EdDsa => Self::EdDSA,
        }
    }
}

impl Algorithm {
    /// The same secret signs and verifies.
    pub fn is_shared_secret(self) -> bool {
        matches!(self, Self::Hs256 | Self::Hs384 | Self::Hs512)
    }
}

/// Authentication, fully said.
#[derive(Debug, Clone)]
pub struct AuthConfig {
    pub issuer: String,
    pub audience: String,
    pub algorithm: jsonwebtoken::Algorithm,
    pub keys: KeySource,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    /// One public key in PEM.
    Pem(PathBuf),
    /// One shared secret.
    Secret(PathBuf),
    /// A key set.
    JwksFile(PathBuf),
    JwksUrl(String),
}

#[derive(Debug, Error, PartialEq, Eq)]
pub enum AuthConfigError {
    #[error(
        "authentication needs --auth-issuer, --auth-audience, --auth-algorithm and one of --auth-key-file and \
         --auth-jwks; {missing} is missing"
    )]
    Missing { missing: &'static str },
    #[error("--auth-key-file and --auth-jwks exclude each other: a token is checked with one of them")]
    TwoKeySources,
    #[error("--auth-jwks holds public keys, and {0:?} is signed with a shared secret: use --auth-key-file")]
    SharedSecretInKeySet(Algorithm),
}

impl AuthArgs {
    /// `None`: no authentication. Empty values count as absent, so that an environment file may leave them empty.
    pub fn config(&self) -> Result<Option<AuthConfig>, AuthConfigError> {
        let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let (issuer, audience, jwks) = (given(&self.auth_issuer), given(&self.auth_audience), given(&self.auth_jwks));
        let key_file = self.auth_key_file.clone().filter(|path| !path.as_os_str().is_empty());
        if issuer.is_none() && audience.is_none() && jwks.is_none() && key_file.is_none() {
            return Ok(None);
        }
        let missing = |missing| AuthConfigError::Missing { missing };
        let issuer = issuer.ok_or(missing("--auth-issuer"))?;
        let audience = audience.ok_or(missing("--auth-audience"))?;
        let algorithm = self.auth_algorithm.ok_or(missing("--auth-algorithm"))?;
        let keys = match (key_file, jwks) {
            (None, None) => return Err(missing("--auth-key-file or --auth-jwks")),
            (Some(_), Some(_)) => return Err(AuthConfigError::TwoKeySources),
            (None, Some(_)) if algorithm.is_shared_secret() => {
                return Err(AuthConfigError::SharedSecretInKeySet(algorithm));
            }
            (Some(path), None) if algorithm.is_shared_secret() => KeySource::Secret(path),
            (Some(path), None) => KeySource::Pem(path),
            (None, Some(url)) if url.starts_with("https://") || url.starts_with("http://") => KeySource::JwksUrl(url),
            (None, Some(path)) => KeySource::JwksFile(path.into()),
        };
        Ok(Some(AuthConfig { issuer, audience, algorithm: algorithm.into(), keys }))
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Told {
        #[command(flatten)]
        auth: AuthArgs,
    }

    fn config(flags: &[&str]) -> Result<Option<KeySource>, AuthConfigError> {
        let told = Told::parse_from(std::iter::once("up").chain(flags.iter().copied()));
        told.auth.config().map(|config| config.map(|config| config.keys))
    }

    #[test]
    fn it_is_said_in_full_or_not_at_all() {
        assert_eq!(config(&[]), Ok(None));
        let full = ["--auth-issuer=i", "--auth-audience=a", "--auth-algorithm=RS256", "--auth-jwks=http://i/keys"];
        assert_eq!(config(&full), Ok(Some(KeySource::JwksUrl("http://i/keys".to_owned()))));
        let over_tls = [&full[..3], &["--auth-jwks=https://i/keys"]].concat();
        assert_eq!(config(&over_tls), Ok(Some(KeySource::JwksUrl("https://i/keys".to_owned()))));
        for left_out in 0..3 {
            let mut some = full.to_vec();
            some.remove(left_out);
            assert!(matches!(config(&some), Err(AuthConfigError::Missing { .. })), "{some:?}");
        }
        assert!(matches!(config(&full[..3]), Err(AuthConfigError::Missing { .. })));
        assert_eq!(config(&[&full[..], &["--auth-key-file=k"]].concat()), Err(AuthConfigError::TwoKeySources));
    }

    #[test]
    fn the_algorithm_says_what_the_key_is() {
        let with = |algorithm: &str, key: &str| {
            config(&["--auth-issuer=i", "--auth-audience=a", &format!("--auth-algorithm={algorithm}"), key])
        };
        assert_eq!(with("HS256", "--auth-key-file=k"), Ok(Some(KeySource::Secret("k".into()))));
        assert_eq!(with("EdDSA", "--auth-key-file=k"), Ok(Some(KeySource::Pem("k".into()))));
        assert_eq!(with("ES256", "--auth-jwks=keys.json"), Ok(Some(KeySource::JwksFile("keys.json".into()))));
        assert!(matches!(with("HS512", "--auth-jwks=k"), Err(AuthConfigError::SharedSecretInKeySet(_))));
    }
}
