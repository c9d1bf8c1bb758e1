//! `tributary verify-chain`: whether the events of a log are those that were written, which the hashes of `batches` tell.

use std::process::ExitCode;

use anyhow::{Context, Result};
use indicatif::ProgressBar;

use super::{
    export::style,
    logs::{Logs, all_or},
};
use crate::{
    admin::{ChainFinding, ChainPlace, ChainView, follow_chain},
    cli::{Output, VerifyChainArgs},
    output,
};

/// An event is not as it was written.
const DIFFERENT: u8 = 3;

pub async fn run(args: VerifyChainArgs, output: Output) -> Result<ExitCode> {
    let logs = Logs::find(&args.target, &args.kept).await?;
    let services = match &logs {
        Logs::Running(_) => all_or(&args.services),
        Logs::AtRest(at_rest) => at_rest.services(&args.services),
    };
    let mut views = Vec::new();
    for service in services {
        views.push(verify(&logs, &service).await.with_context(|| format!("verify the chain of {service}"))?);
    }
    match output {
        Output::Json => output::json(&views),
        Output::Human => tell(&views),
    }
    let is_broken = |view: &ChainView| matches!(view.verdict, Some(ChainFinding::Broken { .. }));
    Ok(if views.iter().any(is_broken) { ExitCode::from(DIFFERENT) } else { ExitCode::SUCCESS })
}

async fn verify(logs: &Logs, service: &str) -> Result<ChainView> {
    let log = match logs {
        Logs::Running(_) => None,
        Logs::AtRest(at_rest) => Some(at_rest.open(service).await?),
    };
    let bar = ProgressBar::new(0).with_style(style()).with_prefix(service.to_owned());
    let mut place = ChainPlace::start();
    loop {
        let view: ChainView = match (logs, &log) {
            (Logs::Running(client), _) => {
                let hash = place.hash.map(|hash| format!("&hash={hash}")).unwrap_or_default();
                let from = format!("position={}&batches={}{hash}", place.position, place.batches);
                client.get(&format!("/admin/logs/{service}/chain?{from}")).await?
            }
            (Logs::AtRest(_), log) => {
                let log = log.as_ref().expect("opened above");
                follow_chain(service, &**log, &place).await?.expect("a place of our own")
            }
        };
        bar.set_length(view.head);
        bar.set_position(view.place.position);
        if view.verdict.is_some() {
            bar.finish_and_clear();
            return Ok(view);
        }
        place = view.place;
    }
}

fn tell(views: &[ChainView]) {
    let rows = views.iter().map(|view| {
        let found = match &view.verdict {
            Some(ChainFinding::Broken { first, last, reason }) if first == last => {
                format!("BROKEN at position {first}: {reason}")
            }
            Some(ChainFinding::Broken { first, last, reason }) => {
                format!("BROKEN at positions {first} to {last}: {reason}")
            }
            Some(ChainFinding::Intact) | None => "as it was written".to_owned(),
        };
        let ChainPlace { position, batches, hash } = &view.place;
        let hash = hash.clone().unwrap_or_default();
        vec![view.service.clone(), position.to_string(), batches.to_string(), hash, found]
    });
    output::table(&["LOG", "EVENTS", "BATCHES", "HASH OF THE LAST", "FOUND"], rows);
}
