//! Loading an aggregate of many events, from its snapshot on against from its first event on.

use std::{sync::Arc, time::Instant};

use anyhow::{Context, ensure};
use event_store::log::EventLog;
use testkit::postgres::ThrowAwayPostgres;

use crate::{
    Scale,
    ours::Ours,
    report::{Bound, Number, Ratio, Report, Row},
    stores,
};

/// The one stream there is.
const STREAM: &str = "long";

/// How often it is loaded in one measurement.
const LOADS: u32 = 20;

pub async fn run(scale: &Scale, postgres: &ThrowAwayPostgres) -> anyhow::Result<Report> {
    let title = "Loading an aggregate of many events, with a snapshot against without";
    let mut report = Report::new("load", title, scale.pairs);
    let folder = tempfile::tempdir().context("a temporary directory")?;
    database(scale, "SQLite", stores::sqlite_log(&folder.path().join("load.db"))?, &mut report).await?;
    let url = postgres.create_database("load").await?;
    database(scale, "PostgreSQL", stores::postgres_log(&url).await?, &mut report).await?;
    report.notes.push(format!(
        "One stream of {} events of about 300 bytes, loaded {LOADS} times in a row by a bus that has nothing in memory. \
         A snapshot is kept every {} events, so up to as many are still read behind it.",
        scale.load_events,
        Ours::SNAPSHOT_EVERY_EVENTS
    ));
    Ok(report)
}

async fn database(scale: &Scale, name: &str, log: Arc<dyn EventLog>, report: &mut Report) -> anyhow::Result<()> {
    eprintln!("load: {name}");
    let filling = Ours::start_with(Arc::clone(&log), 1, Some(Ours::SNAPSHOT_EVERY_EVENTS));
    filling.fill(STREAM, scale.load_events).await?;
    filling.shutdown().await;
    let with = Ours::start_with(Arc::clone(&log), 1, Some(Ours::SNAPSHOT_EVERY_EVENTS));
    let without = Ours::start_with(log, 1, None);
    // once for the caches
    let (read, folded) = (with.load(STREAM).await?, without.load(STREAM).await?);
    ensure!(read == folded, "the two ways lead to different states: {read:?} and {folded:?}");
    let (mut fast, mut slow) = (Vec::new(), Vec::new());
    for _ in 0..scale.pairs {
        fast.push(time(&with).await?);
        slow.push(time(&without).await?);
    }
    let row = |side: &str, times: &[f64]| {
        let numbers = vec![Number::of("load_ms", times.iter().copied())];
        Row { case: name.to_owned(), side: side.to_owned(), numbers }
    };
    report.rows.push(row("with a snapshot", &fast));
    report.rows.push(row("from the first event", &slow));
    let ratio = Ratio::of(name, "time without / time with a snapshot", slow.into_iter().zip(fast));
    report.ratios.push(ratio.gate(Bound::AtLeast(5.0)));
    with.shutdown().await;
    without.shutdown().await;
    Ok(())
}

/// Milliseconds of one load.
async fn time(ours: &Ours) -> anyhow::Result<f64> {
    let start = Instant::now();
    for _ in 0..LOADS {
        ours.load(STREAM).await?;
    }
    Ok((start.elapsed() / LOADS).as_secs_f64() * 1_000.0)
}
