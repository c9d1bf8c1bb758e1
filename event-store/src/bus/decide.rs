//! From a command and a state to an item that can be appended.

use std::panic::{AssertUnwindSafe, catch_unwind};

use cqrs_es::{DomainEvent, event_sink::EventSink};
use events::envelope::{Metadata, Name, StreamId};
use futures::FutureExt;
use serde::{Deserialize, Serialize};
use tokio::task::unconstrained;
use uuid::Uuid;

use crate::{
    bus::{CommandError, CommandRequest, Domain, Executed, Loaded, Refusal, Report},
    log::{AppendItem, CommandRecord, Decision, NewEvent, StoredOutcome},
};

/// What is stored under a command's key, to be answered again.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
enum Remembered {
    Appended {
        version: u64,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        report: Option<Report>,
    },
    Unchanged {
        version: u64,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        report: Option<Report>,
    },
    Refused {
        version: u64,
        refusal: Refusal,
    },
}

/// A decision, and the state it leads to.
pub(super) struct Decided<A> {
    pub item: AppendItem,
    /// `None` when nothing changes.
    pub state: Option<A>,
    pub said: Said,
}

/// What the domain says to whoever asked.
#[derive(Default)]
pub(super) struct Said {
    pub refusal: Option<Refusal>,
    /// None on a refusal, which carries its own data.
    pub report: Option<Report>,
}

/// Runs `handle` once on a copy of the state. It must not wait for anything: it is run again after a conflict.
pub(super) fn decide<A: Domain>(
    base: &Loaded<A>,
    request: &CommandRequest<A::Command>,
    services: &A::Services,
) -> Result<Decided<A>, CommandError> {
    // a panic in a domain is that command's 500, not the end of the bus; the state it may have broken is a copy
    let decided = catch_unwind(AssertUnwindSafe(|| {
        let mut state = base.state.clone();
        let sink = EventSink::default();
        // unconstrained: the sink's lock counts against tokio's cooperation budget, and would give way once it is spent
        let handled = unconstrained(state.handle(request.command.clone(), services, &sink)).now_or_never()?;
        let events = sink.collect().now_or_never().expect("nothing holds the sink any more");
        Some(record(base, request, handled.map(|()| (events, state))))
    }));
    match decided {
        Ok(Some(decided)) => decided,
        Ok(None) => Err(CommandError::Internal(format!(
            "{} awaits something in `handle`: start its bus with `handle_does_io`",
            A::TYPE
        ))),
        Err(_) => Err(CommandError::Internal(format!("{} panicked while it decided", A::TYPE))),
    }
}

/// As [`decide`], for an aggregate whose `handle` awaits its services.
pub(super) async fn decide_with_io<A: Domain>(
    base: &Loaded<A>,
    request: &CommandRequest<A::Command>,
    services: &A::Services,
) -> Result<Decided<A>, CommandError> {
    let mut state = base.state.clone();
    let sink = EventSink::default();
    let handled = state.handle(request.command.clone(), services, &sink).await;
    let events = sink.collect().await;
    record(base, request, handled.map(|()| (events, state)))
}

/// The item that stores a refusal which the aggregate itself could not see (a name that is taken).
pub(super) fn refuse<A: Domain>(
    base: &Loaded<A>,
    request: &CommandRequest<A::Command>,
    refusal: Refusal,
) -> Decided<A> {
    let remembered = Remembered::Refused { version: base.version, refusal: refusal.clone() };
    let item = item(base, request, Decision::Refused, Vec::new(), &remembered);
    Decided { item, state: None, said: Said { refusal: Some(refusal), ..Said::default() } }
}

fn record<A: Domain>(
    base: &Loaded<A>,
    request: &CommandRequest<A::Command>,
    handled: Result<(Vec<A::Event>, A), A::Error>,
) -> Result<Decided<A>, CommandError> {
    let (events, state) = match handled {
        Ok(handled) => handled,
        Err(error) => return Ok(refuse(base, request, A::refusal(&error))),
    };
    let report = state.report(&request.command);
    let said = Said { report: report.clone(), ..Said::default() };
    if events.is_empty() {
        let remembered = Remembered::Unchanged { version: base.version, report };
        let item = item(base, request, Decision::Unchanged, Vec::new(), &remembered);
        return Ok(Decided { item, state: None, said });
    }
    let metadata = serde_json::to_string(&request.metadata).map_err(|error| internal::<A>("metadata", &error))?;
    let mut claims = Vec::new();
    let mut new_events = Vec::with_capacity(events.len());
    let mut before: Option<A> = None;
    let several = events.len() > 1;
    for event in events {
        claims.extend(before.as_ref().unwrap_or(&base.state).claims(&event));
        new_events.push(NewEvent {
            event_id: Uuid::now_v7(),
            event_type: event.event_type().into(),
            event_version: event.event_version().into(),
            payload: serde_json::to_string(&event).map_err(|error| internal::<A>("event", &error))?,
            metadata: metadata.clone(),
        });
        if several {
            before.get_or_insert_with(|| base.state.clone()).apply(event);
        }
    }
    let remembered = Remembered::Appended { version: base.version + new_events.len() as u64, report };
    let item = item(base, request, Decision::Append(new_events), claims, &remembered);
    Ok(Decided { item, state: Some(state), said })
}

fn internal<A: Domain>(what: &str, error: &serde_json::Error) -> CommandError {
    CommandError::Internal(format!("{} of {} does not serialize: {error}", what, A::TYPE))
}

fn item<A: Domain>(
    base: &Loaded<A>,
    request: &CommandRequest<A::Command>,
    decision: Decision,
    claims: Vec<crate::log::Claim>,
    remembered: &Remembered,
) -> AppendItem {
    AppendItem {
        stream: StreamId::new(aggregate_type::<A>(), request.aggregate_id.clone()),
        expected_version: base.version,
        decision,
        command: CommandRecord {
            scope: request.scope.clone(),
            key: request.key.clone(),
            fingerprint: request.fingerprint,
            outcome: serde_json::to_string(remembered).expect("words and numbers serialize"),
        },
        claims,
    }
}

fn aggregate_type<A: Domain>() -> Name {
    A::TYPE.into()
}

/// The answer of an earlier run.
pub(super) fn replay(
    stored: &StoredOutcome,
    request_fingerprint: crate::log::Fingerprint,
) -> Result<Executed, CommandError> {
    if stored.fingerprint != request_fingerprint {
        return Err(CommandError::KeyReused);
    }
    let remembered = serde_json::from_str(&stored.outcome)
        .map_err(|error| CommandError::Internal(format!("a stored outcome cannot be read: {error}")))?;
    let done = |changed, version, report| Executed {
        changed,
        version,
        position: stored.position,
        event_id: stored.event_id,
        replayed: true,
        report,
    };
    match remembered {
        Remembered::Appended { version, report } => Ok(done(true, version, report)),
        Remembered::Unchanged { version, report } => Ok(done(false, version, report)),
        Remembered::Refused { version, refusal } => Err(CommandError::Refused(refusal, done(false, version, None))),
    }
}

/// Metadata that names the command itself, unless the caller did.
pub(super) fn with_command_id(mut metadata: Metadata, key: &Name) -> Metadata {
    metadata.command_id.get_or_insert_with(|| key.to_string());
    metadata
}
