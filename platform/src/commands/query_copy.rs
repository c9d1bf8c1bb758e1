//! The read models as a file, and read models of such a file: `query` among what is exported and restored.

use std::{
    io::Write,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use event_store::backup::files::AtomicFile;
use futures::StreamExt;
use projections::engine::copy::{
    export,
    lines::{Checker, End, Line, ReadModel, is_one},
    restore::{self, Checked, Restored},
};
use read_side::query_database::pointer_file;
use serde::Serialize;
use tokio::{sync::mpsc, time::timeout};

use super::logs::{AtRest, Logs};
use crate::{client::Client, config::urls::QUERY, output, stores};

/// The file of a directory.
const FILE: &str = "query.ndjson";

/// The longest that the next piece of a copy may take.
const PIECE_WAIT_MAX: Duration = Duration::from_secs(60);
/// Pieces of an answer that wait to be written.
const PIECES_MAX: usize = 4;

/// The copy in a directory, or a file that is one.
pub fn file_of(path: &Path) -> PathBuf {
    if path.is_dir() { path.join(FILE) } else { path.to_owned() }
}

/// Whether this file is a copy of read models, as it says itself.
pub fn is_copy(path: &Path) -> bool {
    path.is_file() && is_one(path)
}

/// What was written into a file.
#[derive(Debug, Serialize)]
pub struct Exported {
    service: &'static str,
    file: PathBuf,
    read_models: Vec<ReadModel>,
    rows: u64,
    sha256: String,
}

/// Writes what is live into `file`.
pub async fn export(logs: &Logs, file: PathBuf) -> Result<Exported> {
    let mut pieces = match logs {
        Logs::Running(client) => ask(client).await?,
        Logs::AtRest(at_rest) => at_rest_copy(at_rest).await?,
    };
    let name = file.display().to_string();
    let (mut checker, mut out, mut read_models) = (Checker::new(&name), AtomicFile::create(&file)?, Vec::new());
    let mut rest: Vec<u8> = Vec::new();
    while let Some(piece) = timeout(PIECE_WAIT_MAX, pieces.recv()).await.context("the read models fell silent")? {
        rest.extend_from_slice(&piece?);
        let Some(end) = rest.iter().rposition(|byte| *byte == b'\n') else { continue };
        let behind = rest.split_off(end + 1);
        let whole = std::mem::replace(&mut rest, behind);
        let text = std::str::from_utf8(&whole).context("a line is no text")?;
        for line in text.lines() {
            if let Line::ReadModel(read_model) = checker.line(line)? {
                read_models.push(read_model);
            }
        }
        out.write_all(&whole).with_context(|| format!("write {name}"))?;
    }
    let End { rows, sha256, .. } = checker.finish()?;
    out.keep()?;
    Ok(Exported { service: QUERY, file, read_models, rows, sha256 })
}

type Pieces = mpsc::Receiver<Result<Vec<u8>>>;

/// What the platform answers.
async fn ask(client: &Client) -> Result<Pieces> {
    let mut answer = client.stream("/admin/query/export").await?.bytes_stream();
    let (to, pieces) = mpsc::channel(PIECES_MAX);
    tokio::spawn(async move {
        while let Some(piece) = answer.next().await {
            let piece = piece.map(Vec::from).context("the platform broke off: its log says why");
            if to.send(piece).await.is_err() {
                break;
            }
        }
    });
    Ok(pieces)
}

async fn at_rest_copy(at_rest: &AtRest) -> Result<Pieces> {
    let kept = &at_rest.kept;
    if kept.databases.is_empty() && !pointer_file(&kept.data_dir).exists() {
        bail!("there are no read models in {}", kept.data_dir.display());
    }
    let database = open(at_rest).await?;
    let all = projections::all().into_iter().map(Into::into).collect();
    let mut contents = export::export(&database, all);
    let (to, pieces) = mpsc::channel(1);
    tokio::spawn(async move {
        while let Some(piece) = contents.recv().await {
            if to.send(piece.map_err(Into::into)).await.is_err() {
                break;
            }
        }
        database.close().await;
    });
    Ok(pieces)
}

async fn open(at_rest: &AtRest) -> Result<projections::QueryDatabase> {
    let databases = &at_rest.kept.databases;
    if !databases.is_empty() && !databases.has(QUERY) {
        bail!("where are the read models? Say it with --query-database-url");
    }
    stores::open_kept_query_database(&at_rest.kept).await
}

/// Whether a copy is as it was written.
pub async fn check(file: &Path) -> Result<Checked> {
    let path = file.to_owned();
    let checked = tokio::task::spawn_blocking(move || restore::check(&path)).await.context("check a copy")?;
    Ok(checked?)
}

/// What came of a copy.
#[derive(Debug, Serialize)]
pub struct OfCopy {
    service: &'static str,
    file: PathBuf,
    read_models: Vec<Restored>,
    rows: u64,
    sha256: String,
}

impl OfCopy {
    /// Makes read models of a copy, or without a place for them only tells of it.
    pub async fn make(file: PathBuf, copy: &Checked, into: Option<(&AtRest, bool)>) -> Result<Self> {
        let read_models = match into {
            Some((at_rest, is_replaced)) => {
                let database = open(at_rest).await?;
                let restored = restore::restore(&database, projections::all(), copy, is_replaced).await;
                database.close().await;
                match restored {
                    Err(error @ projections::engine::copy::CopyError::NotEmpty { .. }) => {
                        return Err(anyhow::Error::new(error).context("use --replace to have it replaced"));
                    }
                    restored => restored?,
                }
            }
            None => copy.read_models.iter().map(Restored::only_checked).collect(),
        };
        Ok(Self { service: QUERY, file, read_models, rows: copy.end.rows, sha256: copy.end.sha256.clone() })
    }

    pub fn tell(&self, is_checked: bool) {
        let rows = self.read_models.iter().map(|one| {
            let into = one.generation.map_or_else(|| "-".to_owned(), |generation| generation.to_string());
            let note = one.left_out.clone().unwrap_or_default();
            vec![one.name.clone(), one.version.to_string(), into, note]
        });
        output::table(&["READ MODEL", "VERSION", "GENERATION", "NOTE"], rows);
        if !is_checked {
            output::line(
                "The projector brings them up to date with the logs and then makes them live: start it, if it does not \
                 run. `tributary projection status` tells how far it is.",
            );
        }
    }
}

impl Exported {
    pub fn tell(&self) {
        let rows = self.read_models.iter().map(|one| {
            let note = one.left_out.as_ref().map(|why| format!("left out: {why}")).unwrap_or_default();
            vec![one.name.clone(), one.version.to_string(), one.generation.to_string(), note]
        });
        output::table(&["READ MODEL", "VERSION", "GENERATION", "NOTE"], rows);
        output::line(format!("{} rows in {}, SHA-256 of its lines {}", self.rows, self.file.display(), self.sha256));
    }
}
