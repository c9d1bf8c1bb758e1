//! Why databases fail, in few words: a label has them, and somebody is woken for some.

use crate::Kind;

/// Why a call of a database has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// Two transactions waited for each other, and this one gave way.
    Deadlock,
    /// A lock was waited for as long as anybody may.
    LockTimeout,
    /// A statement ran for as long as it may.
    StatementTimeout,
    /// Others have changed what it had read.
    Serialization,
    /// The server has no connection left, or the pool had none in time.
    NoConnection,
    DiskFull,
    /// It cannot be reached, hung up, or is starting or ending.
    Unreachable,
    /// A role may not do that, or is not let in.
    Forbidden,
    Other,
}

impl Kind for Failure {
    const ALL: &'static [Self] = &[
        Self::Deadlock,
        Self::LockTimeout,
        Self::StatementTimeout,
        Self::Serialization,
        Self::NoConnection,
        Self::DiskFull,
        Self::Unreachable,
        Self::Forbidden,
        Self::Other,
    ];

    fn index(self) -> usize {
        self as usize
    }

    fn name(self) -> &'static str {
        match self {
            Self::Deadlock => "deadlock",
            Self::LockTimeout => "lock_timeout",
            Self::StatementTimeout => "statement_timeout",
            Self::Serialization => "serialization",
            Self::NoConnection => "no_connection",
            Self::DiskFull => "disk_full",
            Self::Unreachable => "unreachable",
            Self::Forbidden => "forbidden",
            Self::Other => "other",
        }
    }
}

impl Failure {
    /// By the code that the database gives: PostgreSQL's SQLSTATE, or SQLite's number, extended or not.
    pub fn of_code(code: &str) -> Self {
        match code {
            "40P01" => Self::Deadlock,
            "55P03" => Self::LockTimeout,
            "57014" => Self::StatementTimeout,
            "40001" => Self::Serialization,
            "53300" => Self::NoConnection,
            "53100" => Self::DiskFull,
            "42501" => Self::Forbidden,
            code if code.len() == 5 => match code.get(..2) {
                Some("08" | "57") => Self::Unreachable,
                Some("28") => Self::Forbidden,
                _ => Self::Other,
            },
            // the low byte is the plain code
            code => match code.parse::<u32>().map(|code| code & 0xff) {
                // busy and locked, after the time that may be waited
                Ok(5 | 6) => Self::LockTimeout,
                Ok(13) => Self::DiskFull,
                Ok(10 | 14) => Self::Unreachable,
                Ok(3 | 8) => Self::Forbidden,
                _ => Self::Other,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_both_databases_have_their_reasons() {
        for (code, failure) in [
            ("40P01", Failure::Deadlock),
            ("55P03", Failure::LockTimeout),
            ("5", Failure::LockTimeout),
            ("261", Failure::LockTimeout),
            ("57014", Failure::StatementTimeout),
            ("57P01", Failure::Unreachable),
            ("08006", Failure::Unreachable),
            ("53300", Failure::NoConnection),
            ("53100", Failure::DiskFull),
            ("13", Failure::DiskFull),
            ("42501", Failure::Forbidden),
            ("28P01", Failure::Forbidden),
            ("23505", Failure::Other),
            ("", Failure::Other),
            ("a\u{e4}\u{e4}", Failure::Other),
        ] {
            assert_eq!(Failure::of_code(code), failure, "{code}");
        }
    }

    #[test]
    fn each_failure_stands_at_its_place() {
        assert!(Failure::ALL.iter().enumerate().all(|(place, failure)| failure.index() == place));
    }
}
