//! A saga's story: what happened to it, in order and with causes, and what it waits for.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use events::{
    envelope::{Metadata, RecordedEvent},
    saga::{Effect, EffectId, Input, Reply, Request, SagaEvent, Timer},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;
use write_side::{
    edge::Problem,
    reactor::duty::Duty,
    saga::{
        handle::STORY_EVENTS_MAX,
        plain::{Plain, StepName},
    },
};

use super::sagas::RunningSaga;

/// One saga.
#[derive(Debug, Serialize, Deserialize)]
pub struct SagaShown {
    /// Which kind: `checkout`.
    pub saga: String,
    #[serde(flatten)]
    pub stands: Stands,
    pub waits_for: Vec<Waiting>,
    /// While nothing is asked for: the fact that somebody owes it.
    #[serde(default)]
    pub awaits: Option<Awaiting>,
    pub events: Vec<Told>,
    /// There are events behind the last of these.
    pub more: bool,
}

/// Where it stands.
#[derive(Debug, Serialize, Deserialize)]
pub struct Stands {
    pub saga_id: Uuid,
    pub ids: Value,
    pub version: u32,
    pub phase: String,
    /// `None` while it is under way.
    pub outcome: Option<String>,
    pub started_at: DateTime<Utc>,
    pub changed_at: DateTime<Utc>,
    pub deadline_at: DateTime<Utc>,
}

/// A step that was asked for and is not answered.
#[derive(Debug, Serialize, Deserialize)]
pub struct Waiting {
    pub step: StepName,
    /// Who is asked, and for what.
    pub service: String,
    pub path: String,
    /// Where it is asked for: the version of the saga's event, and the place in it.
    pub effect: String,
    pub since: DateTime<Utc>,
    pub not_before: Option<DateTime<Utc>>,
    /// How often it was refused, and with which code the last time.
    pub refusals: u32,
    pub refusal: Option<String>,
    /// Why somebody should look, and since when.
    pub stuck: Option<String>,
    pub stuck_since: Option<DateTime<Utc>>,
    /// `None` once nothing is left to send: its answer is being recorded.
    pub sending: Option<Sending>,
}

/// A fact that somebody is to publish.
#[derive(Debug, Serialize, Deserialize)]
pub struct Awaiting {
    pub fact: String,
    pub service: String,
    pub since: DateTime<Utc>,
    /// From then on somebody should look there.
    pub overdue_at: DateTime<Utc>,
}

/// How it is going with a command.
#[derive(Debug, Serialize, Deserialize)]
pub struct Sending {
    /// Attempts without an answer.
    pub failed: u32,
    /// Why the last one had none.
    pub reason: Option<String>,
    pub next_at: DateTime<Utc>,
}

/// An event of it.
#[derive(Debug, Serialize, Deserialize)]
pub struct Told {
    pub sequence: u64,
    pub event_id: Uuid,
    pub event_type: String,
    pub recorded_at: DateTime<Utc>,
    /// For people.
    pub what: String,
    /// Where it stood then, if the event says so.
    pub phase: Option<String>,
    /// What is to be done about it.
    pub effects: Vec<Asked>,
    /// The event that led to it; `None` for an operator's decision.
    pub causation_id: Option<String>,
    pub correlation_id: Option<String>,
    pub actor: Option<String>,
    pub payload: Value,
}

/// Something to be done.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Asked {
    Command { effect: String, step: StepName, service: String, path: String, not_before: Option<DateTime<Utc>> },
    Timer { effect: String, timer: Timer, at: DateTime<Utc> },
}

/// What the saga's own view says, as far as it is needed here.
#[derive(Deserialize)]
struct View {
    #[serde(flatten)]
    stands: Stands,
    waits_for: Vec<Open>,
    awaits: Option<Awaiting>,
}

#[derive(Deserialize)]
struct Open {
    step: StepName,
    effect: String,
    not_before: Option<DateTime<Utc>>,
    refusals: u32,
    refusal: Option<String>,
    stuck: Option<String>,
}

/// What the story tells of an effect.
struct Known {
    request: Request,
    position: u64,
    part: u16,
    since: DateTime<Utc>,
}

pub fn tell(
    saga: &RunningSaga,
    view: Value,
    events: Vec<RecordedEvent>,
    duties: &[Duty],
) -> Result<SagaShown, Problem> {
    let View { stands, waits_for, awaits } =
        serde_json::from_value(view).map_err(|error| Problem::internal(error.to_string()))?;
    let more = events.len() >= STORY_EVENTS_MAX;
    let mut known: HashMap<String, Known> = HashMap::new();
    let mut stuck_since: HashMap<StepName, DateTime<Utc>> = HashMap::new();
    let mut told = Vec::with_capacity(events.len());
    for event in events {
        let damaged = |error: &dyn std::fmt::Display| {
            Problem::internal(format!("{} at {}: {error}", event.stream, event.sequence))
        };
        let happened = saga.desk.plain(&event).map_err(|reject| damaged(&reject))?;
        let what = sentence(&happened, &known);
        let mut effects = Vec::new();
        for (effect, part) in effects_of(&happened).iter().zip(0..) {
            let id = EffectId { sequence: event.sequence, index: part }.to_string();
            if let Effect::Ask { request, .. } = effect {
                let (request, position, since) = (request.clone(), event.position, event.recorded_at);
                known.insert(id.clone(), Known { request, position, part, since });
            }
            effects.push(Asked::of(id, effect));
        }
        if let SagaEvent::Stuck(stuck) = &happened {
            stuck_since.insert(stuck.step.clone(), stuck.at);
        }
        let payload = serde_json::from_str(&event.payload).map_err(|error| damaged(&error))?;
        let Metadata { correlation_id, causation_id, actor, .. } = event.metadata().map_err(|error| damaged(&error))?;
        told.push(Told {
            sequence: event.sequence,
            event_id: event.event_id,
            event_type: event.event_type.to_string(),
            recorded_at: event.recorded_at,
            what,
            phase: phase_of(&happened),
            effects,
            causation_id,
            correlation_id,
            actor,
            payload,
        });
    }
    let waits_for = waits_for.into_iter().filter_map(|open| {
        // what the last events ask for is not told if there are too many of them
        let Known { request, position, part, since } = known.get(&open.effect)?;
        let is_its =
            |duty: &&Duty| duty.id.source == saga.service && duty.id.position == *position && duty.id.part == *part;
        let sending = duties.iter().find(is_its).map(|duty| Sending {
            failed: duty.attempts,
            reason: duty.reason.clone(),
            next_at: duty.due_at,
        });
        let Open { step, effect, not_before, refusals, refusal, stuck } = open;
        let stuck_since = stuck.as_ref().and_then(|_| stuck_since.get(&step).copied());
        let (service, path, since) = (request.service.clone(), request.path.clone(), *since);
        Some(Waiting { step, service, path, effect, since, not_before, refusals, refusal, stuck, stuck_since, sending })
    });
    let waits_for = waits_for.collect();
    Ok(SagaShown { saga: saga.desk.name().to_owned(), stands, waits_for, awaits, events: told, more })
}

impl Asked {
    fn of(id: String, effect: &Effect<StepName>) -> Self {
        match effect.clone() {
            Effect::Ask { step, request: Request { service, path, .. }, not_before } => {
                Self::Command { effect: id, step, service, path, not_before }
            }
            Effect::Wake { timer, at } => Self::Timer { effect: id, timer, at },
        }
    }
}

fn effects_of(happened: &Plain) -> &[Effect<StepName>] {
    match happened {
        SagaEvent::Started(started) => &started.effects,
        SagaEvent::Advanced(advanced) => &advanced.effects,
        SagaEvent::Decided(decided) => &decided.effects,
        SagaEvent::Stuck(_) | SagaEvent::Completed(_) | SagaEvent::Compensated(_) => &[],
    }
}

fn phase_of(happened: &Plain) -> Option<String> {
    match happened {
        SagaEvent::Started(started) => Some(started.phase.clone()),
        SagaEvent::Advanced(advanced) => Some(advanced.phase.clone()),
        SagaEvent::Decided(decided) => Some(decided.phase.clone()),
        SagaEvent::Stuck(_) | SagaEvent::Completed(_) | SagaEvent::Compensated(_) => None,
    }
}

/// What happened, for people.
fn sentence(happened: &Plain, known: &HashMap<String, Known>) -> String {
    match happened {
        SagaEvent::Started(started) => format!("begun by {}", brief(&started.fact)),
        SagaEvent::Advanced(advanced) => match &advanced.input {
            Input::Observed { fact } => format!("learned of {}", brief(fact)),
            Input::Replied { effect, step, reply } => {
                let who = known.get(&effect.to_string()).map_or("?", |known| &*known.request.service);
                match reply {
                    Reply::Accepted { report: None } => format!("{who} accepted {step}"),
                    Reply::Accepted { report: Some(report) } => format!("{who} accepted {step}: {}", brief(report)),
                    Reply::Refused { code, detail } => format!("{who} refused {step}: {code} ({detail})"),
                }
            }
            Input::TimerFired { timer: Timer::Deadline, .. } => "the deadline has passed".to_owned(),
        },
        SagaEvent::Stuck(stuck) => {
            format!("{} is stuck after {} attempts: {}", stuck.step, stuck.attempts, stuck.reason)
        }
        SagaEvent::Decided(decided) => {
            format!("{} decided to {} {}: {}", decided.by, decided.decision, decided.step, decided.reason)
        }
        SagaEvent::Completed(_) => "completed".to_owned(),
        SagaEvent::Compensated(compensated) => format!("undone: {}", compensated.reason),
    }
}

/// The longest that a sentence shows of a fact or a report, in characters; `-o json` has all of it.
const BRIEF_CHARS_MAX: usize = 120;

/// A fact or a report in one line: its name, and as much of the rest as fits.
fn brief(value: &Value) -> String {
    let (name, rest) = match value {
        Value::String(word) => return word.clone(),
        Value::Object(members) => match members.get("type").and_then(Value::as_str) {
            Some(name) => {
                let rest: serde_json::Map<_, _> = members
                    .iter()
                    .filter(|(member, _)| *member != "type")
                    .map(|(n, v)| (n.clone(), v.clone()))
                    .collect();
                if rest.is_empty() {
                    return name.to_owned();
                }
                (format!("{name} "), Value::Object(rest).to_string())
            }
            None => (String::new(), value.to_string()),
        },
        other => (String::new(), other.to_string()),
    };
    let mut chars = rest.chars();
    let mut text = name + &chars.by_ref().take(BRIEF_CHARS_MAX).collect::<String>();
    if chars.next().is_some() {
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_fact_is_told_by_its_name_and_in_one_line() {
        assert_eq!(brief(&json!("WISHED")), "WISHED");
        assert_eq!(brief(&json!({ "type": "PaymentAuthorized" })), "PaymentAuthorized");
        assert_eq!(brief(&json!({ "type": "Lost", "line": 3 })), r#"Lost {"line":3}"#);
        assert_eq!(brief(&json!({ "bounced": { "times": 2 } })), r#"{"bounced":{"times":2}}"#);
        let long = brief(&json!({ "type": "OrderPlaced", "lines": vec![1; 500] }));
        assert!(long.starts_with("OrderPlaced {\"lines\":[1,1,") && long.ends_with('…'), "{long}");
        assert_eq!(long.chars().count(), "OrderPlaced ".len() + BRIEF_CHARS_MAX + 1);
    }
}
