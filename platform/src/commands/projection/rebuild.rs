//! `tributary projection rebuild|verify|diff|rollback`, how they are steered, and what they found.

use std::{num::NonZeroU64, process::ExitCode, time::Duration};

use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};
use projections::engine::{
    compare::{Change, Comparison, Field},
    store::one_key::KeyRebuilt,
};
use serde_json::json;

use crate::{
    admin::{Generations, RebuildView},
    cli::{BuildArgs, NamedArgs, Output, WaitArgs},
    client::Client,
    output,
};

/// How often a rebuild's progress is asked for.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(200);

/// A comparison found differences.
const DIFFERENT: u8 = 3;

/// Differences that a person is shown; `-o json` has all that are kept.
const SHOWN_MAX: usize = 20;

pub async fn build(verb: &str, args: BuildArgs, output: Output) -> Result<ExitCode> {
    let body = json!({ "throttle_events_per_s": args.throttle });
    replay(&args.name, verb, &body, &args.wait, output).await
}

pub async fn one_key(args: &BuildArgs, key: &str, output: Output) -> Result<ExitCode> {
    let client = Client::new(&args.wait.target)?;
    let path = format!("/admin/projections/{}/rebuild", args.name);
    let rebuilt: KeyRebuilt = client.post(&path, &json!({ "key": key })).await?;
    match output {
        Output::Json => output::json(&rebuilt),
        Output::Human => {
            let KeyRebuilt { events, entries, .. } = rebuilt;
            let listed = if entries > 0 { format!(", {entries} entries") } else { String::new() };
            let what = match (rebuilt.was_there, rebuilt.is_there, rebuilt.changed.is_empty()) {
                (true, true, true) => "the row is what it was".to_owned(),
                (true, true, false) => rebuilt.changed.iter().map(field).collect::<Vec<_>>().join(", "),
                (false, true, _) => "the row was not there, and is now".to_owned(),
                (true, false, _) => "no event speaks of it: the row is gone".to_owned(),
                (false, false, _) => "no row".to_owned(),
            };
            output::line(format!("{} {key}: made anew from {events} events{listed}: {what}", args.name));
        }
    }
    Ok(ExitCode::SUCCESS)
}

pub async fn rollback(name: &str, to: Option<i64>, wait: &WaitArgs, output: Output) -> Result<ExitCode> {
    replay(name, "rollback", &json!({ "to": to }), wait, output).await
}

async fn replay(name: &str, verb: &str, body: &serde_json::Value, wait: &WaitArgs, output: Output) -> Result<ExitCode> {
    let client = Client::new(&wait.target)?;
    let mut progress: RebuildView = client.post(&format!("/admin/projections/{name}/{verb}"), body).await?;
    let generation = progress.generation;
    let path = format!("/admin/projections/{name}/rebuilds/{generation}");
    let bar = ProgressBar::new(progress.events_total).with_style(style());
    while !wait.no_wait && !progress.is_over {
        let how = if progress.paused { " (paused)" } else { "" };
        let left = progress.eta_s.map(|eta_s| format!(", {eta_s} s left")).unwrap_or_default();
        bar.set_prefix(format!("{name} generation {generation}{how}"));
        bar.set_message(format!("{} events/s{left}", progress.events_per_s));
        bar.set_length(progress.events_total);
        bar.set_position(progress.events_done);
        tokio::time::sleep(PROGRESS_INTERVAL).await;
        progress = client.get(&path).await?;
    }
    bar.finish_and_clear();
    tell(name, &progress, output);
    Ok(match (progress.phase.as_str(), progress.differences()) {
        // what differs is what was asked for, or why it was refused
        ("compared" | "failed", 1..) => ExitCode::from(DIFFERENT),
        ("failed" | "cancelled", _) => ExitCode::FAILURE,
        _ => ExitCode::SUCCESS,
    })
}

pub async fn steer(verb: &str, args: NamedArgs, output: Output) -> Result<ExitCode> {
    let client = Client::new(&args.target)?;
    let progress: RebuildView = client.post(&format!("/admin/projections/{}/{verb}", args.name), &json!({})).await?;
    tell(&args.name, &progress, output);
    Ok(ExitCode::SUCCESS)
}

pub async fn throttle(client: &Client, name: &str, rate: Option<NonZeroU64>, output: Output) -> Result<ExitCode> {
    let body = json!({ "throttle_events_per_s": rate });
    let progress: RebuildView = client.post(&format!("/admin/projections/{name}/throttle"), &body).await?;
    tell(name, &progress, output);
    Ok(ExitCode::SUCCESS)
}

fn tell(name: &str, progress: &RebuildView, output: Output) {
    match output {
        Output::Json => output::json(progress),
        Output::Human => {
            output::line(format!("{name}: {progress}"));
            if progress.is_over
                && let Some(report) = &progress.report
            {
                tell_report(report);
            }
        }
    }
}

pub async fn generations(args: NamedArgs, output: Output) -> Result<ExitCode> {
    let path = format!("/admin/projections/{}/generations", args.name);
    let Generations { generations, rebuilds } = Client::new(&args.target)?.get(&path).await?;
    if output == Output::Json {
        output::json(&Generations { generations, rebuilds });
        return Ok(ExitCode::SUCCESS);
    }
    let rows = generations.into_iter().map(|one| {
        let holder = one.holder.unwrap_or_default();
        vec![one.generation.to_string(), one.version.to_string(), one.state, one.behind_events.to_string(), holder]
    });
    output::table(&["GENERATION", "VERSION", "STATE", "BEHIND", "HOLDER"], rows);
    if rebuilds.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    output::line("");
    let rows = rebuilds.into_iter().map(|rebuild| {
        let differences = rebuild.report.as_ref().map(|report| report.differences_total.to_string());
        vec![
            rebuild.generation.to_string(),
            rebuild.purpose,
            if rebuild.paused && !rebuild.is_over { "paused".to_owned() } else { rebuild.phase },
            format!("{} of {}", rebuild.events_done, rebuild.events_total),
            rebuild.events_per_s.to_string(),
            rebuild.eta_s.map(|eta_s| format!("{eta_s} s")).unwrap_or_default(),
            differences.unwrap_or_default(),
            rebuild.started_at.format("%Y-%m-%d %H:%M:%S").to_string(),
        ]
    });
    let headings = ["REBUILD INTO", "PURPOSE", "PHASE", "EVENTS", "PER S", "LEFT", "DIFFERENCES", "STARTED (UTC)"];
    output::table(&headings, rows);
    Ok(ExitCode::SUCCESS)
}

pub async fn report(client: &Client, name: &str, generation: Option<i64>, output: Output) -> Result<ExitCode> {
    let path = match generation {
        Some(generation) => format!("/admin/projections/{name}/rebuilds/{generation}"),
        None => format!("/admin/projections/{name}/rebuild"),
    };
    let rebuild: RebuildView = client.get(&path).await?;
    tell(name, &rebuild, output);
    Ok(if rebuild.differences() > 0 { ExitCode::from(DIFFERENT) } else { ExitCode::SUCCESS })
}

fn tell_report(report: &Comparison) {
    if let Some(why) = &report.not_compared {
        output::line(format!("  not compared: {why}"));
    }
    for note in &report.notes {
        output::line(format!("  note: {note}"));
    }
    for table in &report.tables {
        let counts = [(table.rows_changed, "changed"), (table.rows_added, "added"), (table.rows_removed, "removed")];
        let counts: Vec<String> =
            counts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect();
        output::line(format!("  {}: {}", table.table, counts.join(", ")));
    }
    for difference in report.differences.iter().take(SHOWN_MAX) {
        let what = match difference.change {
            Change::Added => "added".to_owned(),
            Change::Removed => "removed".to_owned(),
            Change::Changed => difference.fields.iter().map(field).collect::<Vec<_>>().join(", "),
        };
        output::line(format!("  {} {}: {what}", difference.table, difference.key.join("/")));
    }
    let unsaid = report.differences_total.saturating_sub(SHOWN_MAX as u64);
    if unsaid > 0 && !report.differences.is_empty() {
        output::line(format!("  and {unsaid} more; -o json names the first {}", report.differences.len()));
    }
}

fn field(field: &Field) -> String {
    match (&field.before, &field.after) {
        (Some(before), Some(after)) => format!("{} {before} -> {after}", field.field),
        // texts are not kept
        _ => field.field.clone(),
    }
}

fn style() -> ProgressStyle {
    ProgressStyle::with_template("{prefix} [{bar:40}] {pos}/{len} events, {msg}")
        .expect("the template is a constant")
        .progress_chars("=> ")
}
