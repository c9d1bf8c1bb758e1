//! `tributary adopt postgres-es`: the events of a service that goes on writing as it did become a log.

use std::process::ExitCode;

use anyhow::{Context, Result};
use event_store::postgres::{PostgresLog, adopt::Adoption};
use serde_json::json;

use crate::{
    cli::{AdoptArgs, AdoptVerb, Output},
    output,
};

pub async fn run(args: AdoptArgs, output: Output) -> Result<ExitCode> {
    let AdoptVerb::PostgresEs { url, url_file, service, dry_run } = args.verb;
    let url = match url_file {
        Some(file) => std::fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?,
        None => url.unwrap_or_default(),
    };
    let url = url.trim();
    let adopted = PostgresLog::adopt(url, &service, dry_run).await;
    let Adoption { events, streams, was_adopted } = adopted.with_context(|| format!("adopt {service}"))?;
    match output {
        Output::Json => output::json(&json!({
            "service": service, "events": events, "streams": streams, "was_adopted": was_adopted, "dry_run": dry_run,
        })),
        Output::Human => output::line(match (was_adopted, dry_run) {
            (true, true) => format!("{service} is a log already, of {events} events; nothing was done"),
            (true, false) => format!("{service} is a log already, of {events} events, and up to date"),
            (false, true) => {
                format!("{service} can be adopted: {events} events in {streams} streams; nothing was done")
            }
            (false, false) => format!(
                "{service} is a log now: {events} events in {streams} streams are numbered, and what postgres-es inserts is \
                 numbered as it comes"
            ),
        }),
    }
    Ok(ExitCode::SUCCESS)
}
