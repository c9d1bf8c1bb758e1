//! `tributary export`: logs and read models as files, from the running platform or from their databases when nothing runs.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Context, Result, bail};
use event_store::{
    backup::{
        BackupError, Contents, Item,
        files::{self, BackupPaths},
        lines::{End, LineReader},
    },
    log::LogError,
};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use tokio::sync::mpsc;

use super::{
    logs::{Logs, all_or},
    query_copy,
};
use crate::{
    cli::{ExportArgs, Output},
    client::Client,
    config::urls::QUERY,
    output, stores,
};

/// A log that was exported.
#[derive(Debug, Serialize)]
struct Exported {
    service: String,
    file: PathBuf,
    keys: PathBuf,
    #[serde(flatten)]
    end: End,
}

pub async fn run(args: ExportArgs, output: Output) -> Result<ExitCode> {
    let logs = Logs::find(&args.target, &args.kept).await?;
    let (query, asked): (Vec<String>, Vec<String>) = args.services.iter().cloned().partition(|name| name == QUERY);
    let is_query = !query.is_empty();
    let services = match &logs {
        _ if is_query && asked.is_empty() => Vec::new(),
        Logs::Running(_) => all_or(&asked),
        Logs::AtRest(at_rest) => at_rest.services(&asked),
    };
    let is_file = BackupPaths::is_file(&args.to);
    let wanted = services.len() + usize::from(is_query);
    if is_file && wanted != 1 {
        bail!("{} is one file, and {wanted} are wanted: name one, or a directory", args.to.display());
    }
    let dir = if is_file { args.to.parent() } else { Some(&*args.to) };
    if let Some(dir) = dir.filter(|dir| !dir.as_os_str().is_empty()) {
        stores::make_private_dir(dir)?;
    }
    let mut exported = Vec::new();
    for service in services {
        let paths = match is_file {
            true => BackupPaths::of_file(&args.to),
            false => BackupPaths::in_dir(&args.to, &service),
        };
        let end = export(&logs, &service, &paths).await.with_context(|| format!("export the log of {service}"))?;
        exported.push(Exported { service, file: paths.log, keys: paths.keys, end });
    }
    let read_models = match is_query {
        true => {
            let copied = query_copy::export(&logs, query_copy::file_of(&args.to)).await;
            Some(copied.context("export the read models")?)
        }
        false => None,
    };
    match output {
        Output::Json => {
            let logs = exported.iter().map(serde_json::to_value);
            let all = logs.chain(read_models.iter().map(serde_json::to_value)).collect::<Result<Vec<_>, _>>()?;
            output::json(&all);
        }
        Output::Human if exported.is_empty() => read_models.iter().for_each(query_copy::Exported::tell),
        Output::Human => {
            let rows = exported.iter().map(|one| {
                let End { events, batches, commands, claims, sha256, .. } = &one.end;
                let counts = [events, batches, commands, claims].map(ToString::to_string);
                let mut row = vec![one.service.clone()];
                row.extend(counts);
                row.extend([one.file.display().to_string(), sha256.clone()]);
                row
            });
            output::table(&["LOG", "EVENTS", "BATCHES", "ANSWERS", "CLAIMS", "FILE", "SHA-256 OF ITS LINES"], rows);
            read_models.iter().for_each(query_copy::Exported::tell);
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn export(logs: &Logs, service: &str, paths: &BackupPaths) -> Result<End> {
    let contents = match logs {
        Logs::Running(client) => ask(client, service).await?,
        Logs::AtRest(at_rest) => at_rest.open(service).await?.contents(),
    };
    let bar = ProgressBar::new(0).with_style(style()).with_prefix(service.to_owned());
    let written = files::write(contents, paths, |item| match item {
        Item::Head(head) => bar.set_length(head.position),
        Item::Event(_) => bar.inc(1),
        _ => {}
    });
    let end = written.await?;
    bar.finish_and_clear();
    Ok(end)
}

/// What the platform answers, line by line.
async fn ask(client: &Client, service: &str) -> Result<Contents> {
    let answer = client.stream(&format!("/admin/logs/{service}/export")).await?;
    let (to, contents) = mpsc::channel(LINES_WAITING_MAX);
    let name = format!("the answer about {service}");
    tokio::spawn(async move {
        let last = take_lines(answer, &name, &to).await.map(|()| vec![Item::Whole]);
        // whoever has gone away hears nothing
        let _ = to.send(last.map_err(|error| LogError::Unavailable(error.into()))).await;
    });
    Ok(contents)
}

/// Pieces of the answer that wait to be written.
const LINES_WAITING_MAX: usize = 4;

/// The longest that the next piece of an answer may take.
const PIECE_WAIT_MAX: Duration = Duration::from_secs(60);

async fn take_lines(
    mut answer: reqwest::Response,
    name: &str,
    to: &mpsc::Sender<Result<Vec<Item>, LogError>>,
) -> Result<()> {
    let mut reader = LineReader::new(name);
    let mut rest: Vec<u8> = Vec::new();
    loop {
        let piece = tokio::time::timeout(PIECE_WAIT_MAX, answer.chunk()).await.context("the platform fell silent")?;
        let Some(piece) = piece.context("the platform broke off: its log says why")? else { break };
        rest.extend_from_slice(&piece);
        let Some(end) = rest.iter().rposition(|byte| *byte == b'\n') else { continue };
        let behind = rest.split_off(end + 1);
        let text = String::from_utf8(std::mem::replace(&mut rest, behind)).context("a line is no text")?;
        let items = text.lines().filter_map(|line| reader.line(line).transpose());
        let items = items.collect::<Result<Vec<_>, BackupError>>()?;
        if to.send(Ok(items)).await.is_err() {
            return Ok(());
        }
    }
    reader.finish()?;
    Ok(())
}

pub fn style() -> ProgressStyle {
    ProgressStyle::with_template("{prefix} [{bar:40}] {human_pos}/{human_len} events, {per_sec}")
        .expect("the template is a constant")
        .progress_chars("=> ")
}
