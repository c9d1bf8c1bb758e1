//! `tributary projection why`: the events and commands that made a row.

use std::process::ExitCode;

use anyhow::Result;
use chrono::SecondsFormat;

use crate::{
    admin::{CauseView, WhyView},
    cli::Output,
    client::{Client, path},
    output,
};

pub async fn run(client: &Client, name: &str, key: &str, output: Output) -> Result<ExitCode> {
    // a key may hold anything, an address not
    let path = path(&["admin", "projections", name, "rows", key, "why"]);
    let why: WhyView = client.get(&path).await?;
    match output {
        Output::Json => output::json(&why),
        Output::Human => {
            output::table(
                &["RECORDED", "SOURCE", "POSITION", "EVENT", "PART", "COMMAND", "ACTOR"],
                why.events.iter().map(row),
            );
            if why.has_more {
                output::line(format!("... more: these are the first {}", why.events.len()));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn row(cause: &CauseView) -> Vec<String> {
    let maybe = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    vec![
        cause.recorded_at.to_rfc3339_opts(SecondsFormat::Millis, true),
        cause.source.clone(),
        cause.position.to_string(),
        format!("{} v{}", cause.event_type, cause.event_version),
        cause.parts.join(", "),
        maybe(&cause.command_key),
        maybe(&cause.actor),
    ]
}
