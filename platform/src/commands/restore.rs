//! `tributary restore`: logs and read models made of files, while nothing runs. All files are checked before anything is
//! touched.

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context, Result, bail};
use event_store::{
    backup::{
        BackupError, Item,
        files::{self, BackupPaths, FileContents},
        lines::End,
    },
    log::LogIdentity,
    postgres::PostgresLog,
    sqlite,
};
use indicatif::ProgressBar;
use serde::Serialize;
use tokio::sync::mpsc;
use uuid::Uuid;
use write_side::REGISTER;

use super::{
    export::style,
    logs::AtRest,
    query_copy::{self, OfCopy},
};
use crate::{
    cli::{Output, RestoreArgs},
    config::urls::QUERY,
    output, stores,
};

/// A backup is not as it was written.
const DIFFERENT: u8 = 3;
/// Some logs were restored, and then one could not be.
const IN_PART: u8 = 2;

/// A backup that is whole, and the log that was made of it.
#[derive(Debug, Serialize)]
struct Restored {
    service: String,
    file: PathBuf,
    #[serde(flatten)]
    end: End,
    /// Of the log; absent if it was only checked.
    #[serde(skip_serializing_if = "Option::is_none")]
    epoch: Option<Uuid>,
}

pub async fn run(args: RestoreArgs, output: Output) -> Result<ExitCode> {
    let mut found = Vec::new();
    for paths in backups(&args)? {
        let file = paths.log.clone();
        match tokio::task::spawn_blocking(move || check(&paths)).await.context("check a backup")? {
            Ok(checked) => found.push(checked),
            Err(error) => {
                output::failure(&error.context(format!("check {}", file.display())));
                return Ok(if args.check { ExitCode::from(DIFFERENT) } else { ExitCode::FAILURE });
            }
        }
    }
    let mut copy = None;
    if let Some(file) = copy_of(&args) {
        match query_copy::check(&file).await {
            Ok(checked) => copy = Some((file, checked)),
            Err(error) => {
                output::failure(&error.context(format!("check {}", file.display())));
                return Ok(if args.check { ExitCode::from(DIFFERENT) } else { ExitCode::FAILURE });
            }
        }
    }
    let mut read_models = None;
    if args.check {
        if let Some((file, checked)) = copy {
            read_models = Some(OfCopy::make(file, &checked, None).await?);
        }
    } else {
        stores::make_data_dir(&args.kept)?;
        let at_rest = AtRest::lock(&args.kept)?;
        for n in 0..found.len() {
            let restored = restore(&at_rest, &found[n], args.replace).await;
            match restored.with_context(|| format!("restore the log of {}", found[n].service)) {
                Ok(identity) => found[n].epoch = Some(identity.epoch),
                Err(error) if n > 0 => {
                    let done: Vec<&str> = found[..n].iter().map(|one| &*one.service).collect();
                    output::failure(&error.context(format!("restored are {}, and no other", done.join(", "))));
                    return Ok(ExitCode::from(IN_PART));
                }
                Err(error) => return Err(error),
            }
        }
        if let Some((file, checked)) = copy {
            let made = OfCopy::make(file, &checked, Some((&at_rest, args.replace))).await;
            match made.context("restore the read models") {
                Ok(made) => read_models = Some(made),
                Err(error) if !found.is_empty() => {
                    output::failure(&error.context("the logs were restored"));
                    return Ok(ExitCode::from(IN_PART));
                }
                Err(error) => return Err(error),
            }
        }
    }
    match output {
        Output::Json => {
            let logs = found.iter().map(serde_json::to_value);
            let all = logs.chain(read_models.iter().map(serde_json::to_value)).collect::<Result<Vec<_>, _>>()?;
            output::json(&all);
        }
        Output::Human => {
            if !found.is_empty() {
                tell(&found, args.check);
            }
            read_models.iter().for_each(|made| made.tell(args.check));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The copy of read models that is meant: a file, or that of a directory if it is named.
fn copy_of(args: &RestoreArgs) -> Option<PathBuf> {
    let is_meant = query_copy::is_copy(&args.from) || args.services.iter().any(|name| name == QUERY);
    is_meant.then(|| query_copy::file_of(&args.from))
}

/// The backups that are meant: a file, or those of a directory.
fn backups(args: &RestoreArgs) -> Result<Vec<BackupPaths>> {
    if BackupPaths::is_file(&args.from) {
        if !args.services.is_empty() {
            bail!("{} is one file, and says itself whose log it is: name no service", args.from.display());
        }
        let is_log = !query_copy::is_copy(&args.from);
        return Ok(is_log.then(|| BackupPaths::of_file(&args.from)).into_iter().collect());
    }
    let all = REGISTER.iter().map(|entry| entry.name.to_owned());
    let in_dir = |service: String| BackupPaths::in_dir(&args.from, &service);
    let found: Vec<BackupPaths> = match &*args.services {
        [] => all.map(in_dir).filter(|paths| paths.log.exists()).collect(),
        services => services.iter().filter(|name| *name != QUERY).cloned().map(in_dir).collect(),
    };
    if found.is_empty() && args.services.is_empty() {
        bail!("there is no backup in {}: `tributary export --to` makes one", args.from.display());
    }
    Ok(found)
}

fn check(paths: &BackupPaths) -> Result<Restored> {
    let mut service = None;
    let end = files::check(paths, |item| {
        if let Item::Head(head) = item {
            service = Some(head.source.to_string());
        }
        Ok(())
    })?;
    let service = service.context("it is not a log")?;
    if !REGISTER.iter().any(|entry| entry.name == service) {
        bail!("it is the log of {service}, and there is no such service");
    }
    Ok(Restored { service, file: paths.log.clone(), end, epoch: None })
}

async fn restore(at_rest: &AtRest, backup: &Restored, is_replaced: bool) -> Result<LogIdentity> {
    let items = shown(files::read(&BackupPaths::of_file(&backup.file)), &backup.service, backup.end.events);
    let service = backup.service.clone();
    let kept = &at_rest.kept;
    let restored = match kept.databases.of(&service)? {
        Some(database) => PostgresLog::restore(&database, &service, is_replaced, items).await,
        None if !kept.databases.is_empty() => {
            bail!("where is the log of {service} to be? Say it with --{service}-database-url")
        }
        None => {
            let file = stores::log_file(&kept.data_dir, &service);
            let restoring = move || sqlite::restore(&file, &service, is_replaced, items);
            tokio::task::spawn_blocking(restoring).await.context("restore a log")?
        }
    };
    match restored {
        Err(error @ BackupError::NotEmpty { .. }) => {
            Err(anyhow::Error::new(error).context("use --replace to give up what is there"))
        }
        restored => Ok(restored?),
    }
}

/// The items, and a bar that moves with them.
fn shown(mut items: FileContents, service: &str, events: u64) -> FileContents {
    let (to, shown) = mpsc::channel(1);
    let bar = ProgressBar::new(events).with_style(style()).with_prefix(service.to_owned());
    tokio::spawn(async move {
        while let Some(chunk) = items.recv().await {
            if let Ok(items) = &chunk {
                bar.inc(items.iter().filter(|item| matches!(item, Item::Event(_))).count() as u64);
            }
            if to.send(chunk).await.is_err() {
                break;
            }
        }
        bar.finish_and_clear();
    });
    shown
}

fn tell(found: &[Restored], is_checked: bool) {
    let rows = found.iter().map(|one| {
        let epoch = one.epoch.map_or_else(|| "only checked".to_owned(), |epoch| epoch.to_string());
        let End { events, commands, claims, .. } = &one.end;
        let mut row = vec![one.service.clone()];
        row.extend([events, commands, claims].map(ToString::to_string));
        row.extend([epoch, one.file.display().to_string()]);
        row
    });
    output::table(&["LOG", "EVENTS", "ANSWERS", "CLAIMS", "EPOCH", "OF"], rows);
    if !is_checked {
        output::line(
            "Whoever has read further than a backup goes halts with feed_regressed. Start the platform; \
             `tributary doctor` names them, and `tributary projection rebuild NAME` heals a read model.",
        );
    }
}
