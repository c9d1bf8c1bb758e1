//! `/readyz`: whether a role can do its work now, and what it waits for.

use axum::http::StatusCode;

/// What is not as it should be.
#[derive(Debug, Default)]
pub struct Waiting {
    /// Nothing works before these have come.
    pub holds_up: Vec<String>,
    /// Worth telling; the rest goes on without.
    pub aside: Vec<String>,
}

/// The answer: a word for machines in the status, and a line on each thing for people.
pub fn answer(waiting: Waiting) -> (StatusCode, String) {
    let Waiting { holds_up, aside } = waiting;
    let (status, word) = match holds_up.is_empty() {
        true => (StatusCode::OK, "ready"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "not ready"),
    };
    let lines = std::iter::once(word.to_owned()).chain(holds_up).chain(aside);
    (status, lines.map(|line| line + "\n").collect())
}
