//! The keys of persons: what is personal in a log is readable for as long as its subject's key lives. They stand in a
//! table of the log's own database that, unlike the log, may be deleted from.

use std::{collections::HashMap, fmt};

use async_trait::async_trait;
use ring::rand::{SecureRandom, SystemRandom};
use uuid::Uuid;

use crate::{feed::Cursor, log::LogError};

/// The key of one subject: 256 random bits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SubjectKey(pub [u8; 32]);

impl SubjectKey {
    /// A new key, from the system's source of randomness.
    pub fn make() -> Result<Self, LogError> {
        let mut key = [0; 32];
        let filled = SystemRandom::new().fill(&mut key);
        filled.map_err(|_| LogError::Unavailable("the system gives no random bytes".into()))?;
        Ok(Self(key))
    }

    /// One for each of `subjects`.
    pub fn make_all(subjects: &[Uuid]) -> Result<Vec<(Uuid, Self)>, LogError> {
        subjects.iter().map(|subject| Ok((*subject, Self::make()?))).collect()
    }
}

impl fmt::Debug for SubjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SubjectKey(..)")
    }
}

/// Keys by subject, as many as there are.
pub type KeyRing = HashMap<Uuid, SubjectKey>;

/// The keys beside one log. Each call but [`SubjectKeys::keys`] is safe to cancel only in that it may then be done or
/// not; repeated, it is done once.
#[async_trait]
pub trait SubjectKeys: Send + Sync {
    /// The keys of `subjects`. Who never had one gets one, and it is durable before anybody sees it; who was erased has
    /// none and gets none. Each subject stands in the list once.
    async fn make_keys(&self, subjects: &[Uuid]) -> Result<KeyRing, LogError>;

    /// The keys of those of `subjects` who have one.
    async fn keys(&self, subjects: &[Uuid]) -> Result<KeyRing, LogError>;

    /// Deletes the keys of `subjects` for good, as far as the store can say so, and remembers that they were erased.
    async fn erase_keys(&self, subjects: &[Uuid]) -> Result<(), LogError>;

    /// The place in the users' feed up to which all erasures have been carried out here; its start at first.
    async fn erased_up_to(&self) -> Result<Cursor, LogError>;

    /// Moves that place.
    async fn set_erased_up_to(&self, place: Cursor) -> Result<(), LogError>;
}
