//! `tributary projection ls|rebuild|verify`; the other verbs have files of their own.

mod status;
mod why;

use std::{process::ExitCode, time::Duration};

use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use crate::{
    admin::{ProjectionView, RebuildView},
    cli::{Output, ProjectionArgs, ProjectionVerb},
    client::Client,
    output,
};

/// How often a rebuild's progress is asked for.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(200);

pub async fn run(args: ProjectionArgs, output: Output) -> Result<ExitCode> {
    match args.verb {
        ProjectionVerb::Ls { target } => ls(&Client::new(&target)?, output).await,
        ProjectionVerb::Status { name, watching, target } => {
            status::run(&Client::new(&target)?, name, &watching, output).await
        }
        ProjectionVerb::Why { name, key, target } => why::run(&Client::new(&target)?, &name, &key, output).await,
        ProjectionVerb::Rebuild { name, no_wait, target } => {
            replay(&Client::new(&target)?, &name, "rebuild", no_wait, output).await
        }
        ProjectionVerb::Parked(args) => super::parked::run(args, output).await,
        ProjectionVerb::Verify { name, target } => replay(&Client::new(&target)?, &name, "verify", false, output).await,
    }
}

async fn ls(client: &Client, output: Output) -> Result<ExitCode> {
    let projections: Vec<ProjectionView> = client.get("/admin/projections").await?;
    match output {
        Output::Json => output::json(&projections),
        Output::Human => {
            let rows = projections.into_iter().map(|projection| {
                vec![
                    projection.name,
                    projection.version.to_string(),
                    projection.live_generation.to_string(),
                    projection.state,
                    projection.rows.to_string(),
                ]
            });
            output::table(&["NAME", "VERSION", "GENERATION", "STATE", "ROWS"], rows);
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn replay(client: &Client, name: &str, verb: &str, no_wait: bool, output: Output) -> Result<ExitCode> {
    let mut progress: RebuildView = client.post(&format!("/admin/projections/{name}/{verb}"), &json!({})).await?;
    let path = format!("/admin/projections/{name}/rebuild");
    let generation = progress.generation;
    let bar = ProgressBar::new(progress.events_total).with_style(style());
    bar.set_message(format!("{name} generation {generation}"));
    while !no_wait && !progress.is_over {
        bar.set_length(progress.events_total);
        bar.set_position(progress.events_done);
        tokio::time::sleep(PROGRESS_INTERVAL).await;
        progress = client.get(&path).await?;
    }
    bar.finish_and_clear();
    match output {
        Output::Json => output::json(&progress),
        Output::Human => output::line(format!("{name}: {progress}")),
    }
    Ok(if progress.error.is_some() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn style() -> ProgressStyle {
    ProgressStyle::with_template("{msg} [{bar:40}] {pos}/{len} events, {per_sec}, {eta} left")
        .expect("the template is a constant")
        .progress_chars("=> ")
}
