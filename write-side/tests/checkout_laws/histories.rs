//! Recorded checkouts, of every version of the definition that instances may have: they are read as they were, and asked
//! again they decide as they did. What an instance was started with it keeps, so none of these files ever changes.
//!
//! `TRIBUTARY_REFRESH=1 cargo test -p write-side --test checkout_laws` records those that are missing.

use std::{env, fs, path::PathBuf};

use cqrs_es::{Aggregate, DomainEvent};
use events::{
    Published,
    checkout::{CheckoutEvent, CheckoutStep},
    saga::{Decision, Input, SagaEvent, Started},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use write_side::{
    checkout::definition::{Checkout, Phase},
    saga::{Definition, Instance, Saga, SagaCommand, definition::Happened},
};

use super::{
    shop,
    world::{Moment, World},
};

/// A line of a history.
#[derive(Serialize, Deserialize)]
struct Line {
    event_type: String,
    event_version: String,
    payload: Value,
}

#[derive(Serialize, Deserialize)]
struct History {
    events: Vec<Line>,
    /// What is known at its end.
    state: Value,
    phase: String,
}

fn folder(version: u32) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/checkout_laws/histories/v{version}"))
}

/// What is worth recording: a way for each kind of end, by what happens once a checkout is in a phase.
fn ways() -> Vec<(&'static str, World)> {
    let once = |stock, phase: Phase, moments: &[Moment]| {
        let mut world = shop(stock);
        while world.phase() != Some(phase.as_str()) {
            assert!(world.go_on(), "it never comes to {}", phase.as_str());
        }
        // who asks the gateway waits for its word
        while matches!(moments, [Moment::Gateway(_)]) && !world.gateway_is_asked() {
            assert!(world.go_on(), "nobody asks the gateway");
        }
        moments.iter().for_each(|moment| world.live(moment));
        world.come_to_rest();
        world
    };
    let skipped = || {
        let mut world = shop([5, 5]);
        while !world.waits_for().contains(&CheckoutStep::Confirm) {
            assert!(world.go_on(), "nobody confirms");
        }
        world.do_unanswered(CheckoutStep::Confirm);
        world.decide(CheckoutStep::Confirm, Decision::Skip);
        world.come_to_rest();
        world
    };
    let (enough, part) = ([5, 5], Moment::CustomerReturns { line: 1, quantity: 2 });
    vec![
        ("delivered", once(enough, Phase::AwaitingStock, &[])),
        ("out_of_stock", once([5, 1], Phase::AwaitingStock, &[])),
        ("unanswered", once(enough, Phase::AwaitingAuthorization, &[Moment::Gateway(false)])),
        ("too_late", once(enough, Phase::AwaitingAuthorization, &[Moment::Deadline])),
        ("reservation_lost", once(enough, Phase::AwaitingHold, &[Moment::ReservationsExpire])),
        ("confirmed_and_skipped", skipped()),
        ("cancelled", once(enough, Phase::AwaitingHold, &[Moment::CustomerCancels])),
        ("capture_failed", once(enough, Phase::AwaitingCapture, &[Moment::Gateway(false)])),
        ("cancelled_once_confirmed", once(enough, Phase::AwaitingDispatch, &[Moment::CustomerCancels])),
        ("lost", once(enough, Phase::AwaitingDelivery, &[Moment::Lose])),
        ("returned_in_parts", once(enough, Phase::Completed, &[part, Moment::Tell(1), Moment::CustomerCancels])),
    ]
}

fn record_what_is_missing() {
    for (name, world) in ways() {
        let file = folder(Checkout::VERSION).join(format!("{name}.json"));
        if file.exists() {
            continue;
        }
        assert!(env::var_os("TRIBUTARY_REFRESH").is_some(), "{} is missing: record it", file.display());
        world.check_laws();
        let lines = world.log.iter().map(|event| Line {
            event_type: event.event_type(),
            event_version: event.event_version(),
            payload: serde_json::to_value(event).expect("an event serializes"),
        });
        let saga = folded(&world.log);
        let instance = saga.known().expect("it began");
        let state = serde_json::to_value(&instance.state).expect("a state serializes");
        let history = History { events: lines.collect(), state, phase: instance.phase().to_owned() };
        fs::create_dir_all(folder(Checkout::VERSION)).expect("a folder");
        fs::write(&file, serde_json::to_string_pretty(&history).expect("JSON") + "\n")
            .expect("the file can be written");
    }
}

fn folded(events: &[CheckoutEvent]) -> Saga<Checkout> {
    let mut saga = Saga::<Checkout>::default();
    events.iter().cloned().for_each(|event| saga.apply(event));
    saga
}

#[test]
fn a_recorded_checkout_of_any_version_is_read_as_it_was_and_decides_as_it_did() {
    record_what_is_missing();
    let mut read = 0;
    for version in 1..=Checkout::VERSION {
        for entry in fs::read_dir(folder(version)).expect("histories of each version") {
            let file = entry.expect("a file").path();
            let name = file.display();
            let text = fs::read_to_string(&file).expect("a history");
            let history: History = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
            let events = history.events.iter().map(|line| {
                CheckoutEvent::decode(&line.event_type, &line.event_version, &line.payload.to_string())
                    .unwrap_or_else(|error| panic!("{name}: {error}"))
            });
            let events: Vec<CheckoutEvent> = events.collect();
            let saga = folded(&events);
            let instance = saga.known().unwrap_or_else(|| panic!("{name} begins nothing"));
            assert_eq!(instance.version, version, "{name}");
            assert_eq!(serde_json::to_value(&instance.state).unwrap(), history.state, "{name} is read differently");
            assert_eq!(instance.phase(), history.phase, "{name}");
            check_decisions(&name.to_string(), &events);
            read += 1;
        }
    }
    assert!(read >= ways().len());
}

/// Tells an instance once more what it was told, and compares what it makes of it.
fn check_decisions(name: &str, events: &[CheckoutEvent]) {
    let mut saga = Saga::<Checkout>::default();
    let mut expected = events.iter().peekable();
    while let Some(event) = expected.next() {
        let happened: Happened<Checkout> = event.clone().into();
        let Some(command) = command(saga.known(), &happened) else { panic!("{name}: {event:?} follows from nothing") };
        let decided = saga.decide(command).expect("it was decided once").into_iter();
        let decided: Vec<CheckoutEvent> = decided.map(|decided| as_old_as(&happened, decided).into()).collect();
        let mut recorded = vec![event.clone()];
        // what follows from an event stands behind it
        while let Some(follows) = expected.next_if(|event| {
            matches!(event, CheckoutEvent::CheckoutCompleted(_) | CheckoutEvent::CheckoutCompensated(_))
        }) {
            recorded.push(follows.clone());
        }
        assert_eq!(decided, recorded, "{name} decides differently");
        recorded.into_iter().for_each(|event| saga.apply(event));
    }
}

/// What begins today is of the newest version, and begins in the same way.
fn as_old_as(recorded: &Happened<Checkout>, decided: Happened<Checkout>) -> Happened<Checkout> {
    match (recorded, decided) {
        (SagaEvent::Started(recorded), SagaEvent::Started(decided)) => {
            SagaEvent::Started(Started { version: recorded.version, ..decided })
        }
        (_, decided) => decided,
    }
}

fn command(before: Option<&Instance<Checkout>>, happened: &Happened<Checkout>) -> Option<SagaCommand<Checkout>> {
    Some(match happened.clone() {
        SagaEvent::Started(started) => SagaCommand::Observe {
            ids: started.ids,
            fact: started.fact,
            at: started.at,
            deadline_at: started.deadline_at,
        },
        SagaEvent::Advanced(advanced) => match advanced.input {
            Input::Observed { fact } => {
                let (ids, at, deadline_at) = (advanced.ids, advanced.at, before?.deadline_at);
                SagaCommand::Observe { ids, fact, at, deadline_at }
            }
            Input::Replied { effect, step, reply } => SagaCommand::Reply { step, effect, reply, at: advanced.at },
            Input::TimerFired { effect, timer } => SagaCommand::Fire { effect, timer, at: advanced.at },
        },
        SagaEvent::Decided(decided) => SagaCommand::Decide {
            step: decided.step,
            decision: decided.decision,
            by: decided.by,
            reason: decided.reason,
            at: decided.at,
        },
        SagaEvent::Stuck(_) | SagaEvent::Completed(_) | SagaEvent::Compensated(_) => return None,
    })
}
