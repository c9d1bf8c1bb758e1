//! `tributary doctor`: asks the running platform, and opens the files itself only when nothing runs.

use std::process::ExitCode;

use anyhow::{Context, Result};
use event_store::sqlite::DataDirLock;
use write_side::REGISTER;

use crate::{
    admin::{Check, Verdict, check_log, of_database, of_dir},
    cli::{DoctorArgs, Kept, Output},
    client::Client,
    output, stores,
};

pub async fn run(args: DoctorArgs, output: Output) -> Result<ExitCode> {
    let client = Client::new(&args.target)?;
    let checks = if client.is_up().await {
        client.get("/admin/doctor").await?
    } else {
        let mut checks = vec![Check::doubtful("platform", format!("nothing answers at {}", args.target.url))];
        checks.extend(at_rest(&args.kept).await);
        checks
    };
    match output {
        Output::Json => output::json(&checks),
        Output::Human => {
            let word = |verdict| match verdict {
                Verdict::Good => "good",
                Verdict::Doubtful => "look",
                Verdict::Bad => "BAD",
            };
            let rows = checks
                .iter()
                .map(|check| vec![word(check.verdict).to_owned(), check.name.clone(), check.finding.clone()]);
            output::table(&["", "WHAT", "FINDING"], rows);
        }
    }
    let bad = checks.iter().any(|check| check.verdict == Verdict::Bad);
    Ok(if bad { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Databases that are named, else the files.
async fn at_rest(kept: &Kept) -> Vec<Check> {
    match kept.databases.is_empty() {
        true => of_files(kept).await,
        false => of_databases(kept).await,
    }
}

async fn of_databases(kept: &Kept) -> Vec<Check> {
    let mut checks = Vec::new();
    for database in REGISTER.iter().map(|entry| entry.name).chain(["query"]) {
        match kept.databases.of(database) {
            Ok(Some(reached)) => checks.push(of_database(database, &reached).await),
            Ok(None) => continue,
            Err(error) => {
                checks.push(Check::bad(format!("database {database}"), error.to_string()));
                continue;
            }
        }
        if database != "query" {
            checks.extend(of_log(kept, database).await);
        }
    }
    checks
}

async fn of_log(kept: &Kept, service: &str) -> Vec<Check> {
    match stores::open_existing_log(kept, service).await {
        Ok(log) => check_log(service, &log).await,
        Err(error) => vec![Check::bad(format!("log {service}"), format!("{error:#}"))],
    }
}

async fn of_files(kept: &Kept) -> Vec<Check> {
    let data_dir = &kept.data_dir;
    let name = format!("data directory {}", data_dir.display());
    if !data_dir.is_dir() {
        return vec![Check::doubtful(name, "does not exist yet: `tributary up` makes it")];
    }
    let _lock = match DataDirLock::acquire(data_dir).with_context(|| format!("lock {}", data_dir.display())) {
        Ok(lock) => lock,
        Err(error) => return vec![Check::bad(name, format!("{error:#}; give its --url to ask it"))],
    };
    let mut checks = vec![Check::good(name, "not in use")];
    checks.extend(of_dir(data_dir));
    for service in REGISTER.iter().map(|entry| entry.name) {
        match stores::log_file(data_dir, service).exists() {
            true => checks.extend(of_log(kept, service).await),
            false => checks.push(Check::doubtful(format!("log {service}"), "does not exist yet")),
        }
    }
    checks
}
