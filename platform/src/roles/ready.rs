//! `/livez`, `/startupz` and `/readyz`: whether a process lives, has started once, and can do its work now.
//!
//! A process answers these from the moment it listens on; what else is asked of it waits until it has started.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    extract::{Query, State},
    http::StatusCode,
    routing::get,
};
use serde::Deserialize;

use super::Role;
use crate::admin::{Check, Verdict};

/// Where health is told, without a token and without a limit.
pub const HEALTH: [&str; 3] = ["/livez", "/readyz", "/startupz"];

/// How long a database may take to answer before its role is not ready.
pub const ANSWER_WAIT_MAX: Duration = Duration::from_secs(2);

/// The answers of a process that has not started yet.
pub fn of_nobody() -> Router {
    let starting = || async { (StatusCode::SERVICE_UNAVAILABLE, "starting\n") };
    let not_ready = || async { answer(&[Check::bad("process", "it is starting")], Asked::default()) };
    Router::new().route("/livez", get(alive)).route("/startupz", get(starting)).route("/readyz", get(not_ready))
}

/// The answers of a process that runs `role`.
pub fn of(role: Arc<dyn Role>) -> Router {
    let health = Arc::new(Health { role, has_started: AtomicBool::new(false) });
    let ready = |State(health): State<Arc<Health>>, Query(asked): Query<Asked>| async move {
        answer(&health.role.check().await, asked)
    };
    Router::new()
        .route("/livez", get(alive))
        .route("/startupz", get(|State(health): State<Arc<Health>>| async move { health.started().await }))
        .route("/readyz", get(ready))
        .with_state(health)
}

/// Whoever answers at all lives: what it waits for is no reason to end it.
async fn alive() -> &'static str {
    "ok\n"
}

struct Health {
    role: Arc<dyn Role>,
    /// Once it has, it stays so: what is lost later is a matter of `/readyz`.
    has_started: AtomicBool,
}

impl Health {
    async fn started(&self) -> (StatusCode, String) {
        if !self.has_started.load(Ordering::Relaxed)
            && let Some(awaited) = self.role.awaits().await
        {
            return (StatusCode::SERVICE_UNAVAILABLE, format!("starting\n{awaited}\n"));
        }
        self.has_started.store(true, Ordering::Relaxed);
        (StatusCode::OK, "started\n".to_owned())
    }
}

/// `?verbose` lists also what is well.
#[derive(Debug, Default, Deserialize)]
struct Asked {
    verbose: Option<String>,
}

/// A word for machines in the status, and a line on each thing for people: `[-]` before what nothing works without, `[!]`
/// before what the rest goes on without. What is well has a line when everything is asked for.
fn answer(checks: &[Check], asked: Asked) -> (StatusCode, String) {
    let (status, word) = match checks.iter().any(|check| check.verdict == Verdict::Bad) {
        false => (StatusCode::OK, "ready"),
        true => (StatusCode::SERVICE_UNAVAILABLE, "not ready"),
    };
    let mut text = format!("{word}\n");
    for Check { name, verdict, finding } in checks {
        let mark = match verdict {
            Verdict::Good if asked.verbose.is_none() => continue,
            Verdict::Good => "[+]",
            Verdict::Doubtful => "[!]",
            Verdict::Bad => "[-]",
        };
        text += &format!("{mark} {name}: {finding}\n");
    }
    (status, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_well_is_listed_on_request_and_the_rest_always() {
        let verbose = || Asked { verbose: Some(String::new()) };
        let checks = [Check::good("log users", "answers"), Check::doubtful("replica orders <- users", "unreachable")];
        let shown = "ready\n[!] replica orders <- users: unreachable\n";
        assert_eq!(answer(&checks, Asked::default()), (StatusCode::OK, shown.to_owned()));
        let shown = "ready\n[+] log users: answers\n[!] replica orders <- users: unreachable\n";
        assert_eq!(answer(&checks, verbose()), (StatusCode::OK, shown.to_owned()));
        let checks = [Check::bad("log users", "no answer within 2 s")];
        let shown = "not ready\n[-] log users: no answer within 2 s\n";
        for asked in [Asked::default(), verbose()] {
            assert_eq!(answer(&checks, asked), (StatusCode::SERVICE_UNAVAILABLE, shown.to_owned()));
        }
    }
}
