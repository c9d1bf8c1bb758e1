//! Where the keys come from that tokens are checked with: a file, or a key set that is fetched and kept for a while.

use std::{path::Path, sync::Arc, time::Duration};

use jsonwebtoken::{
    Algorithm, DecodingKey,
    errors::ErrorKind,
    jwk::{JwkSet, KeyAlgorithm, PublicKeyUse},
};
use thiserror::Error;
use tokio::{
    sync::{Mutex, RwLock},
    time::{Instant, timeout},
};

use super::{config::KeySource, fetch::Address};

/// How soon a key set may be fetched again because a token names a key that is not in it: whoever makes up key ids must
/// not make us flood the issuer.
pub const REFETCH_MIN: Duration = Duration::from_secs(30);

/// How long a key set is used without asking again. A key that its issuer took back counts for that long.
pub const KEEP_MAX: Duration = Duration::from_secs(10 * 60);

/// The longest that a fetch may take.
const FETCH_WAIT_MAX: Duration = Duration::from_secs(5);

/// How long a request whose key is known waits for the set to be had anew: an issuer that hangs must not hold up everybody.
const STALE_WAIT_MAX: Duration = Duration::from_millis(500);

/// The largest key set or key file, in bytes.
const BYTES_MAX: usize = 256 * 1024;

/// The shortest secret, in bytes: as long as the hash of HS256 (RFC 7518, 3.2).
const SECRET_BYTES_MIN: usize = 32;

#[derive(Debug, Error)]
pub enum KeyError {
    #[error("read the key file {path}: {cause}")]
    File { path: String, cause: std::io::Error },
    #[error("{path} holds no public key in PEM for {algorithm:?}: {cause}")]
    Pem { path: String, algorithm: Algorithm, cause: jsonwebtoken::errors::Error },
    #[error("the secret in {path} has {bytes} bytes; it must have {SECRET_BYTES_MIN} or more")]
    Secret { path: String, bytes: usize },
    #[error("{place} holds no key set (JWKS): {cause}")]
    Set { place: String, cause: String },
    #[error("fetch the key set {url}: {cause}")]
    Fetch { url: String, cause: String },
    /// The issuer's keys are there, and the token's is not among them.
    #[error("no key of the issuer has this id")]
    Unknown,
}

/// The keys of one issuer.
pub enum Keys {
    One(DecodingKey),
    Set(KnownKeys),
    Fetched(Arc<Fetched>),
}

impl Keys {
    /// A file is read now and must be right. A URL is tried now, and again with the first token if it fails.
    pub async fn open(source: KeySource, algorithm: Algorithm) -> Result<Self, KeyError> {
        match source {
            KeySource::Secret(path) => {
                let text = read(&path)?;
                let secret = text.trim_ascii_end();
                if secret.len() < SECRET_BYTES_MIN {
                    return Err(KeyError::Secret { path: path.display().to_string(), bytes: secret.len() });
                }
                Ok(Self::One(DecodingKey::from_secret(secret)))
            }
            KeySource::Pem(path) => {
                let text = read(&path)?;
                pem(&text, algorithm).map(Self::One).map_err(|cause| KeyError::Pem {
                    path: path.display().to_string(),
                    algorithm,
                    cause,
                })
            }
            KeySource::JwksFile(path) => {
                let place = path.display().to_string();
                Ok(Self::Set(KnownKeys::parse(&read(&path)?, algorithm, &place)?))
            }
            KeySource::JwksUrl(url) => {
                let fetched = Arc::new(Fetched::new(&url, algorithm)?);
                if let Err(error) = fetched.refetch(None).await {
                    tracing::warn!("{error}; the first token asks again");
                }
                Ok(Self::Fetched(fetched))
            }
        }
    }

    /// Of a key set that could not be had when it was last asked for: what is known of it counts for so long.
    pub async fn trouble(&self) -> Option<String> {
        let Self::Fetched(fetched) = self else { return None };
        let known = fetched.known.read().await;
        if known.had_at.is_some() && known.had_at >= known.asked_at {
            return None;
        }
        let since = match known.had_at {
            Some(had_at) => format!("since {} s", had_at.elapsed().as_secs()),
            None => "yet".to_owned(),
        };
        Some(format!("the issuer has not given its key set {since}: look whether --auth-jwks answers"))
    }

    /// The key with this id; without an id the only one there is.
    pub async fn find(&self, id: Option<&str>) -> Result<DecodingKey, KeyError> {
        match self {
            Self::One(key) => Ok(key.clone()),
            Self::Set(known) => known.find(id).ok_or(KeyError::Unknown),
            Self::Fetched(fetched) => fetched.find(id).await,
        }
    }
}

fn read(path: &Path) -> Result<Vec<u8>, KeyError> {
    let failed = |cause| KeyError::File { path: path.display().to_string(), cause };
    let bytes = std::fs::read(path).map_err(failed)?;
    if bytes.len() > BYTES_MAX {
        return Err(failed(std::io::Error::other(format!("it has more than {BYTES_MAX} bytes"))));
    }
    Ok(bytes)
}

fn pem(text: &[u8], algorithm: Algorithm) -> Result<DecodingKey, jsonwebtoken::errors::Error> {
    match algorithm {
        Algorithm::ES256 | Algorithm::ES384 => DecodingKey::from_ec_pem(text),
        Algorithm::EdDSA => DecodingKey::from_ed_pem(text),
        Algorithm::RS256
        | Algorithm::RS384
        | Algorithm::RS512
        | Algorithm::PS256
        | Algorithm::PS384
        | Algorithm::PS512 => DecodingKey::from_rsa_pem(text),
        Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512 => Ok(DecodingKey::from_secret(text)),
        // the crate may learn others; the configuration names none of them
        _ => Err(ErrorKind::UnsupportedAlgorithm.into()),
    }
}

/// The keys of a set that tokens of our algorithm can be signed with, by id.
#[derive(Debug, Default)]
pub struct KnownKeys(Vec<(Option<String>, DecodingKey)>);

impl KnownKeys {
    fn parse(text: &[u8], algorithm: Algorithm, place: &str) -> Result<Self, KeyError> {
        let failed = |cause: String| KeyError::Set { place: place.to_owned(), cause };
        let set: JwkSet = serde_json::from_slice(text).map_err(|error| failed(error.to_string()))?;
        // other keys of the issuer, for encryption or another algorithm, are none of ours
        let usable = set.keys.iter().filter(|key| {
            let for_signatures = !matches!(key.common.public_key_use, Some(PublicKeyUse::Encryption));
            let said = key.common.key_algorithm.as_ref().map(KeyAlgorithm::to_string);
            for_signatures && said.is_none_or(|said| said == format!("{algorithm:?}"))
        });
        let keys = usable.filter_map(|key| {
            let decoded = DecodingKey::from_jwk(key).ok()?;
            (decoded.family() == algorithm.family()).then(|| (key.common.key_id.clone(), decoded))
        });
        let keys: Vec<_> = keys.collect();
        if keys.is_empty() {
            return Err(failed(format!("none of its {} keys is for signatures by {algorithm:?}", set.keys.len())));
        }
        Ok(Self(keys))
    }

    fn find(&self, id: Option<&str>) -> Option<DecodingKey> {
        match (id, &self.0[..]) {
            (None, [(_, only)]) => Some(only.clone()),
            (None, _) => None,
            (Some(_), keys) => keys.iter().find(|(known, _)| known.as_deref() == id).map(|(_, key)| key.clone()),
        }
    }
}

/// A key set at a URL.
pub struct Fetched {
    address: Address,
    algorithm: Algorithm,
    known: RwLock<Known>,
    /// Held by the one who fetches; the others wait for what it brings.
    fetching: Mutex<()>,
}

#[derive(Default)]
struct Known {
    keys: KnownKeys,
    /// When the set was last asked for, whatever came of it.
    asked_at: Option<Instant>,
    /// When it was last had: before `asked_at`, and it was last asked for in vain.
    had_at: Option<Instant>,
}

impl Fetched {
    fn new(url: &str, algorithm: Algorithm) -> Result<Self, KeyError> {
        let address = Address::try_new(url).map_err(|cause| KeyError::Fetch { url: url.to_owned(), cause })?;
        Ok(Self { address, algorithm, known: RwLock::default(), fetching: Mutex::default() })
    }

    async fn find(self: &Arc<Self>, id: Option<&str>) -> Result<DecodingKey, KeyError> {
        let (found, asked_at, is_fresh) = {
            let known = self.known.read().await;
            (known.keys.find(id), known.asked_at, known.had_at.is_some_and(|at| at.elapsed() < KEEP_MAX))
        };
        // in a task of its own: whoever asks may hang up, and the set is not asked for again so soon
        let refetch = || {
            let this = Arc::clone(self);
            tokio::spawn(async move { this.refetch(asked_at).await })
        };
        match found {
            Some(key) if is_fresh => Ok(key),
            // an issuer that does not answer now has not taken its keys back
            Some(key) => match timeout(STALE_WAIT_MAX, refetch()).await {
                Ok(Ok(Ok(()))) => self.known.read().await.keys.find(id).ok_or(KeyError::Unknown),
                Ok(Ok(Err(_)) | Err(_)) | Err(_) => Ok(key),
            },
            None => {
                refetch().await.map_err(|error| self.in_vain(error.to_string()))??;
                self.known.read().await.keys.find(id).ok_or(KeyError::Unknown)
            }
        }
    }

    /// Fetches the set, unless somebody has since `seen`, or it was asked for just now: what came of that counts.
    async fn refetch(&self, seen: Option<Instant>) -> Result<(), KeyError> {
        let _turn = self.fetching.lock().await;
        {
            let mut known = self.known.write().await;
            let just_now = known.asked_at.is_some_and(|at| at.elapsed() < REFETCH_MIN);
            if known.asked_at != seen || just_now {
                let was_had = known.had_at >= known.asked_at;
                return if was_had { Ok(()) } else { Err(self.in_vain("it could not be had a moment ago")) };
            }
            known.asked_at = Some(Instant::now());
        }
        let silence = || format!("no answer within {} s", FETCH_WAIT_MAX.as_secs());
        let fetched = timeout(FETCH_WAIT_MAX, self.address.get(BYTES_MAX)).await.unwrap_or_else(|_| Err(silence()));
        let text = fetched.map_err(|cause| self.in_vain(cause))?;
        let keys = KnownKeys::parse(&text, self.algorithm, self.address.url())?;
        let mut known = self.known.write().await;
        known.keys = keys;
        known.had_at = Some(Instant::now());
        Ok(())
    }

    fn in_vain(&self, cause: impl Into<String>) -> KeyError {
        KeyError::Fetch { url: self.address.url().to_owned(), cause: cause.into() }
    }
}

/// As if the set had been fetched so much earlier.
#[cfg(test)]
pub async fn let_time_pass(keys: &Keys, time: Duration) {
    let Keys::Fetched(fetched) = keys else { panic!("keys from a URL alone grow old") };
    let mut known = fetched.known.write().await;
    known.asked_at = known.asked_at.and_then(|at| at.checked_sub(time));
    known.had_at = known.had_at.and_then(|at| at.checked_sub(time));
}
