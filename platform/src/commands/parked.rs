//! `tributary projection parked ls|show|retry|drop`.

use std::process::ExitCode;

use anyhow::{Result, bail};
use chrono::{DateTime, SecondsFormat, Utc};

use super::saga::in_address;
use crate::{
    admin::{Again, DroppedView, LeftOut, Meant, ParkedGroup, ParkedList, ParkedShown, RetriedView},
    cli::{MeantArgs, Output, ParkedArgs, ParkedVerb, Target},
    client::Client,
    output,
};

pub async fn run(args: ParkedArgs, output: Output) -> Result<ExitCode> {
    match args.verb {
        ParkedVerb::Ls { meant, dropped, target } => ls(&Client::new(&target)?, meant.into(), dropped, output).await,
        ParkedVerb::Show { stream, projection, target } => {
            show(&Client::new(&target)?, &stream, projection, output).await
        }
        ParkedVerb::Retry { meant, dry_run, target } => {
            retry(&Client::new(&target)?, meant.into(), dry_run, output).await
        }
        ParkedVerb::Drop { event, why, projection, target } => {
            drop_event(&target, LeftOut { event_id: event, projection, why }, output).await
        }
    }
}

impl From<MeantArgs> for Meant {
    fn from(MeantArgs { stream, projection, fingerprint }: MeantArgs) -> Self {
        Self { projection, stream, fingerprint }
    }
}

async fn ls(client: &Client, meant: Meant, dropped: bool, output: Output) -> Result<ExitCode> {
    let list: ParkedList = client.get(&format!("/admin/parked{}", as_query(&meant))).await?;
    match output {
        Output::Json => output::json(&list),
        Output::Human if dropped => {
            let headings = ["PROJECTION", "SOURCE", "POSITION", "EVENT", "STREAM", "DROPPED", "BY", "WHY", "REASON"];
            output::table(&headings, list.dropped.iter().map(dropped_row));
        }
        Output::Human => {
            let headings =
                ["PROJECTION", "SOURCE", "FINGERPRINT", "STREAMS", "EVENTS", "SINCE", "TYPE", "REASON", "SUCH AS"];
            output::table(&headings, list.groups.iter().map(group_row));
            if !list.dropped.is_empty() {
                output::line(format!("{} events are left out by decision: --dropped lists them", list.dropped.len()));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn group_row(group: &ParkedGroup) -> Vec<String> {
    let ParkedGroup { projection, source, fingerprint, event_type, event_version, .. } = group;
    let event_type = if event_type.is_empty() { String::new() } else { format!("{event_type} v{event_version}") };
    vec![
        projection.clone(),
        source.clone(),
        fingerprint.clone(),
        group.streams.to_string(),
        group.events.to_string(),
        time(group.oldest_at),
        event_type,
        group.reason.clone(),
        group.examples.first().cloned().unwrap_or_default(),
    ]
}

fn dropped_row(dropped: &DroppedView) -> Vec<String> {
    vec![
        dropped.projection.clone(),
        dropped.source.clone(),
        dropped.position.to_string(),
        dropped.event_id.to_string(),
        dropped.stream.clone(),
        time(dropped.at),
        dropped.by.clone(),
        dropped.why.clone(),
        dropped.reason.clone(),
    ]
}

async fn show(client: &Client, stream: &str, projection: Option<String>, output: Output) -> Result<ExitCode> {
    let query = as_query(&Meant { projection, ..Meant::default() });
    let all: Vec<ParkedShown> = client.get(&format!("/admin/parked/streams/{}{query}", in_address(stream))).await?;
    match output {
        Output::Json => output::json(&all),
        Output::Human => all.iter().flat_map(told).for_each(output::line),
    }
    Ok(ExitCode::SUCCESS)
}

fn told(parked: &ParkedShown) -> Vec<String> {
    let ParkedShown { projection, source, stream, aggregate_id, fingerprint, reason, waiting, events, .. } = parked;
    let mut lines = vec![
        format!("{stream} of {source}, parked in {projection} since {}", time(parked.parked_at)),
        format!("  reason       {reason}"),
        format!("  fingerprint  {fingerprint}"),
        format!(
            "  waiting      {waiting} events; what they say: tributary stream show --service {source} {aggregate_id}"
        ),
    ];
    lines.extend(events.iter().map(|event| {
        format!(
            "  {:>8}  {}  {} v{}  {}",
            event.position,
            time(event.recorded_at),
            event.event_type,
            event.event_version,
            event.event_id,
        )
    }));
    if *waiting > events.len() as u64 {
        lines.push(format!("  ... and {} more", waiting - events.len() as u64));
    }
    if let Some(event) = events.first() {
        lines.push(format!(
            "  A newer release may fold it: tributary projection parked retry --stream {aggregate_id} --dry-run",
        ));
        lines.push(format!(
            "  To leave it out for good: tributary projection parked drop {} --why <reason>",
            event.event_id
        ));
    }
    lines
}

async fn retry(client: &Client, meant: Meant, dry_run: bool, output: Output) -> Result<ExitCode> {
    let Meant { projection, stream, fingerprint } = meant;
    let again = Again { projection, stream, fingerprint, dry_run };
    let retried: Vec<RetriedView> = client.post("/admin/parked/retry", &again).await?;
    print(&retried, dry_run, output);
    Ok(verdict(&retried))
}

async fn drop_event(target: &Target, left_out: LeftOut, output: Output) -> Result<ExitCode> {
    if left_out.why.trim().is_empty() {
        bail!("--why is empty: who looks at it later wants to know why");
    }
    let retried: Vec<RetriedView> = Client::new(target)?.post("/admin/parked/drop", &left_out).await?;
    if output == Output::Human && retried.is_empty() {
        output::line(format!("{} was left out already.", left_out.event_id));
    } else {
        print(&retried, false, output);
    }
    Ok(verdict(&retried))
}

fn print(retried: &[RetriedView], dry_run: bool, output: Output) {
    match output {
        Output::Json => output::json(&retried),
        Output::Human if retried.is_empty() => output::line("Nothing of that is parked."),
        Output::Human => {
            let folded = if dry_run { "WOULD GO ON" } else { "WENT ON" };
            let rows = retried.iter().map(|one| {
                vec![
                    one.projection.clone(),
                    one.source.clone(),
                    one.stream.clone(),
                    one.folded.to_string(),
                    one.waiting.to_string(),
                    one.still_at.map(|position| position.to_string()).unwrap_or_default(),
                    one.reason.clone().unwrap_or_default(),
                ]
            });
            output::table(&["PROJECTION", "SOURCE", "STREAM", folded, "WAITING", "AT", "REASON"], rows);
        }
    }
}

/// Done in part is told apart: something waits still.
fn verdict(retried: &[RetriedView]) -> ExitCode {
    if retried.iter().any(|one| one.waiting > 0) { ExitCode::from(2) } else { ExitCode::SUCCESS }
}

fn as_query(Meant { projection, stream, fingerprint }: &Meant) -> String {
    let parts = [("projection", projection), ("stream", stream), ("fingerprint", fingerprint)];
    let given = parts.iter().filter_map(|(name, value)| Some(format!("{name}={}", in_address((*value).as_ref()?))));
    let given: Vec<String> = given.collect();
    if given.is_empty() { String::new() } else { format!("?{}", given.join("&")) }
}

fn time(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Millis, true)
}
