//! `tributary projection ls`; the other verbs have files of their own.

mod rebuild;
mod status;
mod why;

use std::process::ExitCode;

use anyhow::Result;

use crate::{
    admin::ProjectionView,
    cli::{Output, ProjectionArgs, ProjectionVerb},
    client::Client,
    output,
};

pub async fn run(args: ProjectionArgs, output: Output) -> Result<ExitCode> {
    match args.verb {
        ProjectionVerb::Ls { target } => ls(&Client::new(&target)?, output).await,
        ProjectionVerb::Status { name, watching, target } => {
            status::run(&Client::new(&target)?, name, &watching, output).await
        }
        ProjectionVerb::Why { name, key, target } => why::run(&Client::new(&target)?, &name, &key, output).await,
        ProjectionVerb::Verify(args) => rebuild::build("verify", args, output).await,
        ProjectionVerb::Diff(args) => rebuild::build("diff", args, output).await,
        ProjectionVerb::Rebuild { key: Some(key), build } => rebuild::one_key(&build, &key, output).await,
        ProjectionVerb::Rebuild { key: None, build } => rebuild::build("rebuild", build, output).await,
        ProjectionVerb::Rollback { name, to, wait } => rebuild::rollback(&name, to, &wait, output).await,
        ProjectionVerb::Pause(args) => rebuild::steer("pause", args, output).await,
        ProjectionVerb::Resume(args) => rebuild::steer("resume", args, output).await,
        ProjectionVerb::Cancel(args) => rebuild::steer("cancel", args, output).await,
        ProjectionVerb::Throttle { name, events_per_s, target } => {
            rebuild::throttle(&Client::new(&target)?, &name, events_per_s, output).await
        }
        ProjectionVerb::Generations(args) => rebuild::generations(args, output).await,
        ProjectionVerb::Report { name, generation, target } => {
            rebuild::report(&Client::new(&target)?, &name, generation, output).await
        }
        ProjectionVerb::Parked(args) => super::parked::run(args, output).await,
    }
}

async fn ls(client: &Client, output: Output) -> Result<ExitCode> {
    let projections: Vec<ProjectionView> = client.get("/admin/projections?rows=true").await?;
    match output {
        Output::Json => output::json(&projections),
        Output::Human => {
            let rows = projections.into_iter().map(|projection| {
                vec![
                    projection.name,
                    projection.version.to_string(),
                    projection.live_generation.to_string(),
                    projection.state,
                    projection.rows.map(|rows| rows.to_string()).unwrap_or_default(),
                ]
            });
            output::table(&["NAME", "VERSION", "GENERATION", "STATE", "ROWS"], rows);
        }
    }
    Ok(ExitCode::SUCCESS)
}
