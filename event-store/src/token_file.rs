//! The token that a service shows to others, as it stands in a file.

use std::path::PathBuf;

use reqwest::header::HeaderValue;
use thiserror::Error;

/// The largest file of a token, in bytes: no server takes a longer one.
const TOKEN_BYTES_MAX: usize = 8 * 1024;

/// Where a token stands. It is read anew for each request: a token ends, and whoever keeps the file puts the next one
/// there in time.
#[derive(Debug, Clone)]
pub struct TokenFile {
    file: PathBuf,
}

/// The file holds no token that could be shown. Says nothing of what it holds instead.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the file of the token {}: {reason}", .file.display())]
pub struct TokenError {
    pub file: PathBuf,
    pub reason: String,
}

impl TokenFile {
    pub fn new(file: impl Into<PathBuf>) -> Self {
        Self { file: file.into() }
    }

    /// What `Authorization` is to say now, marked as a secret.
    pub async fn authorization(&self) -> Result<HeaderValue, TokenError> {
        let token = tokio::fs::read_to_string(&self.file).await.map_err(|error| self.wrong(error.to_string()))?;
        bearer(token.trim()).map_err(|reason| self.wrong(reason))
    }

    fn wrong(&self, reason: String) -> TokenError {
        TokenError { file: self.file.clone(), reason }
    }
}

/// `Bearer <token>`, marked as a secret.
pub fn bearer(token: &str) -> Result<HeaderValue, String> {
    if token.is_empty() || token.len() > TOKEN_BYTES_MAX {
        return Err(format!("it must hold one token of 1 to {TOKEN_BYTES_MAX} bytes"));
    }
    let bearer = HeaderValue::from_str(&format!("Bearer {token}"));
    let mut bearer = bearer.map_err(|_| "it holds characters that no token has".to_owned())?;
    bearer.set_sensitive(true);
    Ok(bearer)
}
