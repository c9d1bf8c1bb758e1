//! Peak memory of `tributary up --demo`, once the demo data is there and visible.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use crate::{
    Scale,
    platform::Platform,
    report::{Number, Report, Row},
};

/// How long the demo may take to be seeded and projected.
const SEEDED_WITHIN: Duration = Duration::from_secs(300);
const POLL_INTERVAL: Duration = Duration::from_millis(200);

pub async fn run(scale: &Scale, tributary: &Path) -> anyhow::Result<Report> {
    let mut report = Report::new("memory", "Peak memory of `tributary up --demo`", scale.pairs);
    let mut peaks_mib = Vec::new();
    let mut demo = String::new();
    for n in 0..scale.pairs {
        eprintln!("memory: start {} of {}", n + 1, scale.pairs);
        let platform = Platform::start(tributary, &["--demo".to_owned()]).await?;
        demo = seeded(&platform).await?;
        peaks_mib.push(platform.peak_memory_kib()? as f64 / 1_024.0);
        platform.stop().await?;
    }
    let numbers = vec![Number::of("peak_rss_mib", peaks_mib)];
    report.rows.push(Row { case: "up --demo, all roles, SQLite".to_owned(), side: "tributary".to_owned(), numbers });
    report.notes.push(format!("VmHWM of the process once the demo was projected ({demo})."));
    Ok(report)
}

/// Waits until the demo data is there and projected; gives what it holds.
async fn seeded(platform: &Platform) -> anyhow::Result<String> {
    let client = reqwest::Client::new();
    let query = json!({"query": "{ projections { sources { position lagEvents } } }"});
    let start = Instant::now();
    let mut projections = Value::Null;
    loop {
        ensure!(start.elapsed() < SEEDED_WITHIN, "the demo was not there within {SEEDED_WITHIN:?}: {projections}");
        tokio::time::sleep(POLL_INTERVAL).await;
        let output = platform.output();
        let Some(demo) = output.lines().find_map(|line| line.strip_prefix("Demo data: ")) else { continue };
        let answer = client.post(format!("{}/graphql", platform.url())).json(&query).send().await;
        let mut answer: Value = answer.context("send a query")?.json().await.context("read the query's answer")?;
        ensure!(answer.get("errors").is_none(), "the query failed: {answer}");
        projections = answer["data"]["projections"].take();
        let sources = || {
            projections
                .as_array()
                .into_iter()
                .flatten()
                .flat_map(|projection| projection["sources"].as_array())
                .flatten()
        };
        if sources().count() > 0 && sources().all(|source| source["lagEvents"] == 0) {
            return Ok(demo.split(". ").next().unwrap_or(demo).to_owned());
        }
    }
}
