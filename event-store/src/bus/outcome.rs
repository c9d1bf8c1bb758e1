//! What became of commands, in few words, to be counted.

use measures::Kind;

use super::{CommandError, Executed};

/// What a caller was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// There are new events.
    Appended,
    /// It was already so.
    Unchanged,
    /// The domain says no.
    Refused,
    /// What an earlier run with the same key was answered.
    Replayed,
    VersionMismatch,
    Contended,
    KeyReused,
    KeyBusy,
    Overloaded,
    LimitExceeded,
    OutcomeUnknown,
    Unavailable,
    Internal,
}

impl Outcome {
    pub fn of(answer: &Result<Executed, CommandError>) -> Self {
        match answer {
            Ok(Executed { replayed: true, .. }) | Err(CommandError::Refused(_, Executed { replayed: true, .. })) => {
                Self::Replayed
            }
            Ok(Executed { changed: true, .. }) => Self::Appended,
            Ok(Executed { changed: false, .. }) => Self::Unchanged,
            Err(CommandError::Refused(..)) => Self::Refused,
            Err(CommandError::VersionMismatch { .. }) => Self::VersionMismatch,
            Err(CommandError::Contended { .. }) => Self::Contended,
            Err(CommandError::KeyReused) => Self::KeyReused,
            Err(CommandError::KeyBusy) => Self::KeyBusy,
            Err(CommandError::Overloaded { .. }) => Self::Overloaded,
            Err(CommandError::Limit(_)) => Self::LimitExceeded,
            Err(CommandError::OutcomeUnknown { .. }) => Self::OutcomeUnknown,
            Err(CommandError::Unavailable(_)) => Self::Unavailable,
            Err(CommandError::Internal(_)) => Self::Internal,
        }
    }
}

impl Kind for Outcome {
    const ALL: &'static [Self] = &[
        Self::Appended,
        Self::Unchanged,
        Self::Refused,
        Self::Replayed,
        Self::VersionMismatch,
        Self::Contended,
        Self::KeyReused,
        Self::KeyBusy,
        Self::Overloaded,
        Self::LimitExceeded,
        Self::OutcomeUnknown,
        Self::Unavailable,
        Self::Internal,
    ];

    fn index(self) -> usize {
        self as usize
    }

    /// Where there is a code of the same meaning in `docs/errors.md`, that one.
    fn name(self) -> &'static str {
        match self {
            Self::Appended => "appended",
            Self::Unchanged => "unchanged",
            Self::Refused => "refused",
            Self::Replayed => "replayed",
            Self::VersionMismatch => "version_mismatch",
            Self::Contended => "contended",
            Self::KeyReused => "idempotency_key_reused",
            Self::KeyBusy => "idempotency_key_busy",
            Self::Overloaded => "overloaded",
            Self::LimitExceeded => "limit_exceeded",
            Self::OutcomeUnknown => "outcome_unknown",
            Self::Unavailable => "unavailable",
            Self::Internal => "internal",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_outcome_stands_at_its_place() {
        assert!(Outcome::ALL.iter().enumerate().all(|(place, outcome)| outcome.index() == place));
    }
}
