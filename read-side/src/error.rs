//! Why a read has no answer.

use thiserror::Error;

/// Every variant has a stable [`code`](Self::code) and says whether trying again can help.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The read model did not reach the token's position within the wait. Later it will have.
    #[error("{read_model} has not reached position {wanted} of {source_name} within {wait_ms} ms (it is at {reached})")]
    ConsistencyTimeout { read_model: &'static str, source_name: String, wanted: u64, reached: u64, wait_ms: u64 },
    /// The token names a history that is no longer: its log was restored from an older copy or made anew.
    #[error("the consistency token names a history of {source_name} that {read_model} does not hold")]
    ConsistencyLost { read_model: &'static str, source_name: String },
    /// More readers are waiting than one process keeps.
    #[error("{limit} readers are waiting for the read models already (waiters_max)")]
    TooManyWaiters { limit: usize },
    /// The read model has never been built; or the generation that is read stands still, because a program of another
    /// version is building the next one, and does not hold what the token asks for.
    #[error("{read_model} is being built{}", .eta_s.map_or(String::new(), |eta_s| format!(", about {eta_s} s are left")))]
    Rebuilding { read_model: &'static str, eta_s: Option<u64> },
    /// An event up to the token's position could not be folded, and waits for an operator.
    #[error("{read_model} parked an event of {source_name} at position {position}, before the token's {wanted}")]
    Parked { read_model: &'static str, source_name: String, position: u64, wanted: u64 },
    /// A customer asked for what is nobody's own.
    #[error("{what} is for staff, not for customers")]
    NotForCustomers { what: &'static str },
    #[error("query database unavailable: {0}")]
    Unavailable(#[source] sqlx::Error),
    /// Our bug, or a database that is not what we made.
    #[error("{0}")]
    Internal(String),
}

impl ReadError {
    /// Stable, for programs; `docs/errors.md` has a paragraph on each.
    pub fn code(&self) -> &'static str {
        match self {
            Self::ConsistencyTimeout { .. } => "consistency_timeout",
            Self::ConsistencyLost { .. } => "consistency_lost",
            Self::TooManyWaiters { .. } => "too_many_waiters",
            Self::Rebuilding { .. } => "rebuilding",
            Self::Parked { .. } => "parked",
            Self::NotForCustomers { .. } => "not_for_customers",
            Self::Unavailable(_) => "unavailable",
            Self::Internal(_) => "internal",
        }
    }

    /// Whether the same request may succeed later.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::ConsistencyTimeout { .. }
            | Self::TooManyWaiters { .. }
            | Self::Rebuilding { .. }
            | Self::Unavailable(_) => true,
            Self::ConsistencyLost { .. } | Self::Parked { .. } | Self::NotForCustomers { .. } | Self::Internal(_) => {
                false
            }
        }
    }
}

impl From<sqlx::Error> for ReadError {
    fn from(error: sqlx::Error) -> Self {
        match error {
            sqlx::Error::ColumnDecode { .. } | sqlx::Error::ColumnNotFound(_) | sqlx::Error::Decode(_) => {
                Self::Internal(format!("a row of the query database is not what this version writes: {error}"))
            }
            error => Self::Unavailable(error),
        }
    }
}
