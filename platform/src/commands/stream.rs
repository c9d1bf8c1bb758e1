//! `tributary stream show`.

use std::process::ExitCode;

use anyhow::Result;

use crate::{
    admin::StreamEvents,
    cli::{Output, StreamArgs, StreamVerb},
    client::Client,
    output,
};

pub async fn run(args: StreamArgs, output: Output) -> Result<ExitCode> {
    let StreamVerb::Show { service, id, after, limit, target } = args.verb;
    let client = Client::new(&target)?;
    let stream: StreamEvents =
        client.get(&format!("/admin/streams/{service}/{id}?after={after}&limit={limit}")).await?;
    match output {
        Output::Json => output::json(&stream),
        Output::Human => {
            let rows = stream.events.iter().map(|event| {
                vec![
                    event.sequence.to_string(),
                    event.position.to_string(),
                    event.recorded_at.to_rfc3339_opts(chrono::SecondsFormat::Millis, true),
                    format!("{} v{}", event.event_type, event.event_version),
                    event.payload.to_string(),
                ]
            });
            output::table(&["VERSION", "POSITION", "RECORDED", "EVENT", "PAYLOAD"], rows);
            if stream.more {
                output::line(format!(
                    "... more: --after {}",
                    stream.events.last().map_or(after, |event| event.sequence)
                ));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}
