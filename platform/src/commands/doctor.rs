//! `tributary doctor`: asks the running platform, and opens the files itself only when nothing runs.

use std::process::ExitCode;

use anyhow::{Context, Result};
use event_store::sqlite::DataDirLock;
use write_side::REGISTER;

use crate::{
    admin::{Check, Verdict, check_log},
    cli::{DoctorArgs, Output},
    client::Client,
    config::Storage,
    output, stores,
};

pub async fn run(args: DoctorArgs, output: Output) -> Result<ExitCode> {
    let client = Client::new(&args.target)?;
    let checks = if client.is_up().await {
        client.get("/admin/doctor").await?
    } else {
        let mut checks = vec![Check::doubtful("platform", format!("nothing answers at {}", args.target.url))];
        checks.extend(of_files(&args.data_dir).await);
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

async fn of_files(data_dir: &std::path::Path) -> Vec<Check> {
    let name = format!("data directory {}", data_dir.display());
    if !data_dir.is_dir() {
        return vec![Check::doubtful(name, "does not exist yet: `tributary up` makes it")];
    }
    let _lock = match DataDirLock::acquire(data_dir).with_context(|| format!("lock {}", data_dir.display())) {
        Ok(lock) => lock,
        Err(error) => return vec![Check::bad(name, format!("{error:#}; give its --url to ask it"))],
    };
    let storage = Storage::Sqlite { data_dir: data_dir.to_owned() };
    let mut checks = vec![Check::good(name, "not in use")];
    for service in REGISTER.iter().map(|entry| entry.name) {
        let file = stores::log_file(data_dir, service);
        if !file.exists() {
            checks.push(Check::doubtful(format!("log {service}"), "does not exist yet"));
            continue;
        }
        match stores::open_log(&storage, service).await {
            Ok(log) => checks.extend(check_log(service, &log).await),
            Err(error) => checks.push(Check::bad(format!("log {service}"), format!("{error:#}"))),
        }
    }
    checks
}
