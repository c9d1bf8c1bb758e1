//! Waiting for what a writer has just written.
//!
//! A read with a token is answered from a snapshot that has applied every point of the token which its read model
//! follows, or not at all: late is an error that says so, never an older answer and never a hang.

use std::{sync::Arc, time::Duration};

use events::consistency::{ConsistencyToken, Point, ShortId};
pub use events::consistency::{WAIT_DEFAULT, WAIT_MAX};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use uuid::Uuid;

use crate::{error::ReadError, template::Template};

/// How many readers one process lets wait at a time: each holds a request, its memory and its client's connection.
pub const WAITERS_MAX: usize = 1_024;
/// How often a waiting reader looks when nobody wakes it: a projector in another process cannot.
pub(crate) const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// What a reader must see, and how long it waits for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Consistency {
    pub token: ConsistencyToken,
    /// At most [`WAIT_MAX`]; more is cut.
    pub wait: Duration,
}

impl Default for Consistency {
    fn default() -> Self {
        Self { token: ConsistencyToken::default(), wait: WAIT_DEFAULT }
    }
}

impl Consistency {
    /// Whatever is there now.
    pub fn any() -> Self {
        Self::default()
    }

    /// At least the points of `token`, waited for as long as usual.
    pub fn at_least(token: ConsistencyToken) -> Self {
        Self { token, wait: WAIT_DEFAULT }
    }

    pub fn with_wait(self, wait: Duration) -> Self {
        Self { wait: wait.min(WAIT_MAX), ..self }
    }
}

/// Wakes the readers of this process when a projector of this process has committed. Only a wake-up, never the truth:
/// who is woken looks for itself.
#[derive(Debug, Clone)]
pub struct Wake(Arc<watch::Sender<()>>);

impl Wake {
    pub fn committed(&self) {
        self.0.send_replace(());
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<()> {
        self.0.subscribe()
    }
}

/// The other end of [`Wake`], for whoever follows changes.
#[derive(Debug)]
pub struct Commits(pub(crate) watch::Receiver<()>);

impl Commits {
    /// Until a projector of this process has committed since the last time; for ever, if it never does.
    ///
    /// Safe to cancel.
    pub async fn heard(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl Default for Wake {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(())))
    }
}

/// What the statement asks about: a token's points, as JSON.
#[derive(Debug, Serialize)]
struct Wanted<'a> {
    source: &'a str,
    position: u64,
}

/// The points of `token` as the parameter of a statement.
pub(crate) fn wanted_json(token: &ConsistencyToken) -> String {
    let wanted: Vec<_> = token.points().map(|(source, point)| Wanted { source, position: point.position }).collect();
    serde_json::to_string(&wanted).expect("names and numbers become JSON")
}

/// How far a generation is in one source, as read in one snapshot with its rows.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Reached {
    pub source: String,
    pub epoch: Option<Uuid>,
    pub position: i64,
    pub event_id: Option<Uuid>,
    /// Position of the event whose fan-out is the oldest that is not finished.
    pub fan_out: Option<i64>,
    /// Position of the oldest parked event.
    pub parked: Option<i64>,
    /// The event at the wanted position, in hex; `None` if it is too long ago to be known.
    pub anchor: Option<String>,
}

/// What a vector means to a token.
#[derive(Debug)]
pub(crate) enum Verdict {
    Satisfied,
    /// Not yet; the error is what to say when it stays so.
    NotYet(ReadError),
    Never(ReadError),
}

/// Judges every point of `token` whose source the read model follows; the others are none of its business.
pub(crate) fn judge(template: &Template, token: &ConsistencyToken, reached: &[Reached], waited: Duration) -> Verdict {
    let read_model = template.name;
    let mut verdict = Verdict::Satisfied;
    for source in template.sources {
        let Some(point) = token.point(source) else { continue };
        let Some(reached) = reached.iter().find(|reached| reached.source == *source) else {
            // an older version made this generation, from fewer sources; the next one is being built beside it
            verdict = Verdict::NotYet(ReadError::Rebuilding { read_model, eta_s: None });
            continue;
        };
        match judge_point(read_model, point, reached, waited) {
            Verdict::Satisfied => {}
            Verdict::NotYet(error) => verdict = Verdict::NotYet(error),
            never @ Verdict::Never(_) => return never,
        }
    }
    verdict
}

fn judge_point(read_model: &'static str, point: &Point, reached: &Reached, waited: Duration) -> Verdict {
    let source_name = reached.source.clone();
    let wanted = point.position;
    let at = u64::try_from(reached.position).unwrap_or(0);
    if wanted == 0 {
        return Verdict::Satisfied;
    }
    let lost = ReadError::ConsistencyLost { read_model, source_name: source_name.clone() };
    if reached.epoch.is_some_and(|epoch| ShortId::from(epoch) != point.epoch) {
        // the token may also name a newer history that the projector has yet to meet: only time tells
        return Verdict::NotYet(lost);
    }
    if let Some(parked) =
        reached.parked.and_then(|parked| u64::try_from(parked).ok()).filter(|parked| *parked <= wanted)
    {
        return Verdict::Never(ReadError::Parked { read_model, source_name, position: parked, wanted });
    }
    if at < wanted || reached.fan_out.and_then(|open| u64::try_from(open).ok()).is_some_and(|open| open <= wanted) {
        // while a fan-out is open, the last point that every row has is the one before it
        let open = reached.fan_out.and_then(|open| u64::try_from(open - 1).ok());
        let wait_ms = u64::try_from(waited.as_millis()).unwrap_or(u64::MAX);
        let reached = open.map_or(at, |open| open.min(at));
        return Verdict::NotYet(ReadError::ConsistencyTimeout { read_model, source_name, wanted, reached, wait_ms });
    }
    let held = if at == wanted {
        reached.event_id.map(ShortId::from)
    } else {
        reached.anchor.as_deref().and_then(|anchor| anchor.to_ascii_lowercase().parse().ok())
    };
    match (held, point.anchor) {
        (Some(held), Some(anchor)) if held != anchor => Verdict::Never(lost),
        _ => Verdict::Satisfied,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reached(position: i64) -> Reached {
        Reached {
            source: "orders".to_owned(),
            epoch: Some(Uuid::from_u128(1)),
            position,
            event_id: Some(Uuid::from_u128(900 + position as u128)),
            fan_out: None,
            parked: None,
            anchor: None,
        }
    }

    fn token(position: u64) -> ConsistencyToken {
        ConsistencyToken::of("orders", Uuid::from_u128(1), position, Some(Uuid::from_u128(900 + u128::from(position))))
    }

    fn code(verdict: Verdict) -> &'static str {
        match verdict {
            Verdict::Satisfied => "satisfied",
            Verdict::NotYet(error) | Verdict::Never(error) => error.code(),
        }
    }

    static TEMPLATE: Template =
        Template { name: "order_details", key: "order_id", sources: &["orders", "payments"], ..Template::BLANK };

    fn check(token: &ConsistencyToken, reached: Reached, expected: &str) {
        assert_eq!(code(judge(&TEMPLATE, token, &[reached], WAIT_DEFAULT)), expected);
    }

    #[test]
    fn a_point_that_was_reached_satisfies() {
        check(&token(7), reached(7), "satisfied");
        check(&token(7), reached(8), "satisfied");
        check(&ConsistencyToken::default(), reached(0), "satisfied");
    }

    #[test]
    fn a_point_ahead_is_waited_for() {
        check(&token(8), reached(7), "consistency_timeout");
    }

    #[test]
    fn a_source_that_is_not_followed_is_ignored() {
        let elsewhere = ConsistencyToken::of("notifications", Uuid::from_u128(5), 99, Some(Uuid::from_u128(9)));
        check(&elsewhere, reached(7), "satisfied");
    }

    #[test]
    fn a_source_that_an_older_generation_does_not_follow_is_waited_for() {
        let payments = ConsistencyToken::of("payments", Uuid::from_u128(5), 1, Some(Uuid::from_u128(9)));
        check(&payments, reached(7), "rebuilding");
    }

    #[test]
    fn another_history_is_lost() {
        let other_epoch = ConsistencyToken::of("orders", Uuid::from_u128(2), 7, Some(Uuid::from_u128(907)));
        check(&other_epoch, reached(7), "consistency_lost");
        let other_event = ConsistencyToken::of("orders", Uuid::from_u128(1), 7, Some(Uuid::from_u128(1)));
        check(&other_event, reached(7), "consistency_lost");
        check(&other_event, Reached { anchor: Some("00000000038B".to_owned()), ..reached(8) }, "consistency_lost");
        check(&token(7), Reached { anchor: Some("00000000038B".to_owned()), ..reached(8) }, "satisfied");
    }

    #[test]
    fn a_point_whose_fan_out_is_open_is_not_reached() {
        check(&token(7), Reached { fan_out: Some(7), ..reached(9) }, "consistency_timeout");
        check(&token(7), Reached { fan_out: Some(8), ..reached(9) }, "satisfied");
    }

    #[test]
    fn a_point_behind_a_parked_event_is_refused() {
        check(&token(7), Reached { parked: Some(7), ..reached(9) }, "parked");
        check(&token(7), Reached { parked: Some(8), ..reached(9) }, "satisfied");
    }
}
