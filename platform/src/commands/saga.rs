//! `tributary saga ls|show|start|retry|force|skip`.

use std::{collections::HashMap, process::ExitCode};

use anyhow::{Result, bail};
use chrono::{DateTime, SecondsFormat, Utc};
use events::saga::{Decision, Timer};
use serde_json::Value;
use write_side::saga::{
    index::{Standing, StuckStep},
    plain::StepName,
};

use crate::{
    admin::{Asked, Awaiting, Decided, SagaList, SagaRow, SagaShown, Told, Waiting},
    cli::{DecisionArgs, Output, SagaArgs, SagaVerb},
    client::Client,
    output,
};

pub async fn run(args: SagaArgs, output: Output) -> Result<ExitCode> {
    match args.verb {
        SagaVerb::Ls { phase, stuck, overdue, limit, target } => {
            let kept = format!("stuck={stuck}&overdue={overdue}");
            ls(&Client::new(&target)?, phase, &kept, limit, output).await
        }
        SagaVerb::Show { id, target } => show(&Client::new(&target)?, &id, output).await,
        SagaVerb::Start { id, target } => start(&Client::new(&target)?, &id, output).await,
        SagaVerb::Retry(args) => decide(Decision::Retry, args, output).await,
        SagaVerb::Force(args) => decide(Decision::Force, args, output).await,
        SagaVerb::Skip(args) => decide(Decision::Skip, args, output).await,
    }
}

async fn ls(client: &Client, phase: Option<String>, kept: &str, limit: usize, output: Output) -> Result<ExitCode> {
    let phase = phase.map(|phase| format!("&phase={}", in_address(&phase))).unwrap_or_default();
    let list: SagaList = client.get(&format!("/admin/sagas?limit={limit}&{kept}{phase}")).await?;
    match output {
        Output::Json => output::json(&list),
        Output::Human => {
            output::table(
                &["SAGA", "ID", "OF", "PHASE", "STARTED", "CHANGED", "WAITS FOR", "STUCK"],
                list.sagas.iter().map(row),
            );
            if list.more {
                output::line(format!("... more: --limit {}", limit.saturating_mul(2)));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn row(row: &SagaRow) -> Vec<String> {
    let Standing { saga_id, ids, phase, started_at, changed_at, open_steps, stuck_steps, stuck, .. } = &row.standing;
    let stuck = stuck.first().map(|StuckStep { step, reason, since }| {
        let others = stuck_steps.saturating_sub(1);
        let others = if others == 0 { String::new() } else { format!(" and {others} more") };
        format!("{step}{others} since {}: {reason}", time(*since))
    });
    vec![
        row.saga.clone(),
        saga_id.to_string(),
        known_by(ids),
        phase.clone(),
        time(*started_at),
        time(*changed_at),
        open_steps.to_string(),
        stuck.unwrap_or_default(),
    ]
}

async fn show(client: &Client, id: &str, output: Output) -> Result<ExitCode> {
    let shown: SagaShown = client.get(&format!("/admin/sagas/{}", in_address(id))).await?;
    match output {
        Output::Json => output::json(&shown),
        Output::Human => story(&shown).iter().for_each(output::line),
    }
    Ok(ExitCode::SUCCESS)
}

async fn start(client: &Client, id: &str, output: Output) -> Result<ExitCode> {
    let shown: SagaShown = client.post(&format!("/admin/sagas/{}/start", in_address(id)), &()).await?;
    match output {
        Output::Json => output::json(&shown),
        Output::Human => stands(&shown).iter().chain(&waits(&shown)).for_each(output::line),
    }
    Ok(ExitCode::SUCCESS)
}

async fn decide(decision: Decision, args: DecisionArgs, output: Output) -> Result<ExitCode> {
    let DecisionArgs { id, step, why, target } = args;
    if why.trim().is_empty() {
        bail!("--why is empty: who looks at it later wants to know why");
    }
    let word = Decided { step: StepName(step), reason: why };
    let path = format!("/admin/sagas/{}/{decision}", in_address(&id));
    let shown: SagaShown = Client::new(&target)?.post(&path, &word).await?;
    match output {
        Output::Json => output::json(&shown),
        Output::Human => {
            let mut lines = vec![format!("{decision} {} is recorded.", word.step)];
            lines.extend(stands(&shown));
            lines.extend(waits(&shown));
            lines.iter().for_each(output::line);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Everything, for a person: where it stands, what happened, what it waits for.
fn story(shown: &SagaShown) -> Vec<String> {
    let mut lines = stands(shown);
    lines.push(String::new());
    let own: HashMap<String, u64> =
        shown.events.iter().map(|event| (event.event_id.to_string(), event.sequence)).collect();
    let mut phase = None;
    for event in &shown.events {
        let cause = event.causation_id.as_ref().and_then(|cause| own.get(cause));
        lines.extend(told(event, cause.copied()));
        // said when it is another one than before
        if let Some(now) = event.phase.as_deref().filter(|now| phase != Some(*now)) {
            lines.push(format!("      = {now}"));
            phase = Some(now);
        }
    }
    if shown.more {
        lines.push("... more: `tributary stream show` pages through it".to_owned());
    }
    lines.push(String::new());
    lines.extend(waits(shown));
    lines
}

fn stands(SagaShown { saga, stands, events, .. }: &SagaShown) -> Vec<String> {
    let mut lines = vec![
        format!("{saga} {} of {}", stands.saga_id, known_by(&stands.ids)),
        format!("  phase        {}, by version {} of its definition", stands.phase, stands.version),
        format!("  outcome      {}", stands.outcome.as_deref().unwrap_or("none yet")),
        format!("  started      {}, deadline {}", time(stands.started_at), time(stands.deadline_at)),
    ];
    if let Some(correlation) = events.first().and_then(|event| event.correlation_id.as_deref()) {
        lines.push(format!("  correlation  {correlation}"));
    }
    lines
}

/// One event, with the number of the one that caused it if that is the saga's own.
fn told(Told { sequence, recorded_at, what, effects, causation_id, .. }: &Told, own: Option<u64>) -> Vec<String> {
    let mut lines = vec![format!("{sequence:>4}  {}  {what}", time(*recorded_at))];
    if let Some(cause) = causation_id {
        let own = own.map(|sequence| format!("{sequence}, ")).unwrap_or_default();
        lines.push(format!("      because of {own}event {cause}"));
    }
    lines.extend(effects.iter().map(|effect| match effect {
        Asked::Command { effect, step, service, path, not_before } => {
            let later = not_before.map(|at| format!(", not before {}", time(at))).unwrap_or_default();
            format!("      -> {effect} asks {service} for {step}: POST {path}{later}")
        }
        Asked::Timer { effect, timer: Timer::Deadline, at } => {
            format!("      -> {effect} wakes at the deadline, {}", time(*at))
        }
    }));
    lines
}

fn waits(SagaShown { stands, waits_for, awaits, .. }: &SagaShown) -> Vec<String> {
    if let Some(awaited) = awaits {
        return vec![awaiting(awaited, Utc::now())];
    }
    if waits_for.is_empty() {
        return vec![match &stands.outcome {
            Some(outcome) => format!("Waits for nothing: {outcome}."),
            None => format!("Waits for news since {}: nothing that it has asked for is open.", time(stands.changed_at)),
        }];
    }
    let mut lines = vec!["Waits for".to_owned()];
    lines.extend(waits_for.iter().flat_map(waiting));
    lines
}

/// Nothing is asked for: it is somebody's part to say the next word.
fn awaiting(Awaiting { fact, service, since, overdue_at }: &Awaiting, now: DateTime<Utc>) -> String {
    let age = age(now - *since);
    let verdict = if *overdue_at <= now { "OVERDUE since" } else { "overdue from" };
    format!("Waits for {fact} of {service} since {} ({age}); {verdict} {}.", time(*since), time(*overdue_at))
}

/// The two largest units, as people say it. A clock that went back makes nothing younger than new.
fn age(age: chrono::TimeDelta) -> String {
    let seconds = age.num_seconds().max(0);
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, minutes) => format!("{minutes} min {} s", seconds % 60),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days, hours, _) => format!("{days} d {hours} h"),
    }
}

fn waiting(waiting: &Waiting) -> Vec<String> {
    let Waiting { step, service, path, effect, since, refusals, refusal, stuck, stuck_since, sending, .. } = waiting;
    let mut lines = vec![format!("  {step}  ({effect}: {service} POST {path}) since {}", time(*since))];
    if let Some(code) = refusal {
        lines.push(format!("    refused {refusals} times, the last time with {code}"));
    }
    if let Some(sending) = sending {
        let failed = match (sending.failed, &sending.reason) {
            (0, None) => "not tried yet".to_owned(),
            (0, Some(reason)) => format!("not tried yet: {reason}"),
            (failed, reason) => format!("tried {failed} times: {}", reason.as_deref().unwrap_or("no reason is noted")),
        };
        lines.push(format!("    {failed}; next attempt {}", time(sending.next_at)));
    }
    if let Some(reason) = stuck {
        let since = stuck_since.map(|since| format!(" since {}", time(since))).unwrap_or_default();
        lines.push(format!("    STUCK{since}: {reason}"));
    }
    lines
}

/// `order_id=33.. customer_id=11..`
fn known_by(ids: &Value) -> String {
    let Value::Object(members) = ids else { return ids.to_string() };
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    members.iter().map(|(name, value)| format!("{name}={}", text(value))).collect::<Vec<_>>().join(" ")
}

fn time(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// A text of a person's as part of an address.
pub(super) fn in_address(text: &str) -> String {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(byte);
    let mut address = String::new();
    for byte in text.bytes() {
        if is_plain(&byte) { address.push(char::from(byte)) } else { address.push_str(&format!("%{byte:02X}")) }
    }
    address
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn ids_are_told_by_name() {
        assert_eq!(known_by(&json!({ "order_id": "33", "n": 7 })), "n=7 order_id=33");
    }

    #[test]
    fn a_fact_that_is_owed_is_told_with_its_age() {
        let at = |day: i64| DateTime::UNIX_EPOCH + chrono::TimeDelta::days(day);
        let awaited = Awaiting {
            fact: "ShipmentDispatched".to_owned(),
            service: "shipping".to_owned(),
            since: at(0),
            overdue_at: at(7),
        };
        let told = |now| awaiting(&awaited, now);
        let since = "Waits for ShipmentDispatched of shipping since 1970-01-01T00:00:00.000Z";
        assert_eq!(told(at(2)), format!("{since} (2 d 0 h); overdue from 1970-01-08T00:00:00.000Z."));
        assert_eq!(told(at(7)), format!("{since} (7 d 0 h); OVERDUE since 1970-01-08T00:00:00.000Z."));
        assert_eq!(
            [-5, 59, 61, 7_260].map(|s| age(chrono::TimeDelta::seconds(s))),
            ["0 s", "59 s", "1 min 1 s", "2 h 1 min"]
        );
    }

    #[test]
    fn what_people_type_stays_one_part_of_an_address() {
        assert_eq!(in_address("0198-aB_.~"), "0198-aB_.~");
        assert_eq!(in_address("a/b?c=ü"), "a%2Fb%3Fc%3D%C3%BC");
    }
}
