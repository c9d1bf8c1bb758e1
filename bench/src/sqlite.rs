//! Commands per second on SQLite, against the same rows in the same tables and indexes, written 500 per transaction.

use std::{path::Path, time::Instant};

use anyhow::Context;

use crate::{
    Scale,
    ours::Ours,
    raw_sqlite::{RawFile, Rows},
    report::{Bound, Number, Ratio, Report, Row},
    stores,
    workload::{Measured, PREPARED_EVENTS, Plan, Streams},
};

pub async fn run(scale: &Scale) -> anyhow::Result<Report> {
    let title = "Commands through the bus on SQLite, against the same rows written 500 per transaction";
    let mut report = Report::new("sqlite", title, scale.pairs);
    let most = scale.tasks.iter().copied().max().unwrap_or(1);
    // new streams where it is compared: few tasks tell nothing new
    let cases = scale.tasks.iter().map(|tasks| (Streams::Hot, *tasks)).chain([(Streams::Fresh, most)]);
    for (streams, tasks) in cases {
        let case = format!("{}, {tasks} tasks", streams.as_str());
        eprintln!("sqlite: {case}");
        let plan = plan(scale, streams, tasks);
        let mut runs = Vec::new();
        let (mut checked, mut bare) = (Vec::new(), Vec::new());
        for _ in 0..scale.pairs {
            let folder = tempfile::tempdir().context("a temporary directory")?;
            let path = folder.path().join("ours.db");
            runs.push(ours(plan, &path).await?);
            if tasks == most {
                let prepared = usize::try_from(plan.prepared * PREPARED_EVENTS)?;
                let rates = tokio::task::spawn_blocking(move || {
                    let rows = Rows::read(&path)?;
                    let rate = |name, with_triggers| raw(&rows, prepared, &folder.path().join(name), with_triggers);
                    Ok::<_, anyhow::Error>((rate("checked.db", true)?, rate("bare.db", false)?))
                });
                let (with_triggers, without) = rates.await.context("write raw rows")??;
                checked.push(with_triggers);
                bare.push(without);
            }
        }
        report.rows.push(Row::of_commands(&case, "tributary", &runs));
        if tasks == most {
            raw_rows(&mut report, &case, &runs, &checked, &bare);
        }
    }
    report.notes.push(
        "Every commit is synced on both sides. The raw rows are those that the run before them left in its file, keys \
         and batch hashes included, written by one thread that does nothing else into a file made by the same \
         migrations: with the append-only triggers, and once more without."
            .to_owned(),
    );
    Ok(report)
}

fn raw_rows(report: &mut Report, case: &str, ours: &[Measured], checked: &[f64], bare: &[f64]) {
    let sides = [("same tables, indexes and triggers", checked), ("same tables and indexes, no triggers", bare)];
    for (side, rates) in sides {
        let side = format!("raw rows, 500 per transaction: {side}");
        let numbers = vec![Number::of("per_s", rates.iter().copied())];
        report.rows.push(Row { case: case.to_owned(), side, numbers });
    }
    for (what, rates) in sides {
        let pairs = ours.iter().zip(rates).map(|(ours, raw)| (ours.per_s, *raw));
        let what = format!("commands per second / raw rows ({what})");
        report.ratios.push(Ratio::of(case, &what, pairs).gate(Bound::AtLeast(0.7)));
    }
}

fn plan(scale: &Scale, streams: Streams, tasks: u64) -> Plan {
    let prepared = if streams == Streams::Fresh { 0 } else { scale.prepared };
    Plan { streams, tasks, prepared, first: 0, warm_up: scale.warm_up, duration: scale.duration }
}

async fn ours(plan: Plan, path: &Path) -> anyhow::Result<Measured> {
    let hot_aggregates_max = usize::try_from(plan.prepared * 2)?.max(1);
    let ours = Ours::start(stores::sqlite_log(path)?, hot_aggregates_max);
    ours.prepare(plan).await?;
    let measured = ours.measure(plan).await?;
    ours.shutdown().await;
    Ok(measured)
}

/// Rows (an event and its command) per second. The prepared ones are written before the clock starts, as for ours.
fn raw(rows: &Rows, prepared: usize, path: &Path, with_triggers: bool) -> anyhow::Result<f64> {
    let file = RawFile::open(path, with_triggers)?;
    let prepared = prepared.min(rows.len());
    file.write(rows, 0..prepared)?;
    let start = Instant::now();
    file.write(rows, prepared..rows.len())?;
    Ok((rows.len() - prepared) as f64 / start.elapsed().as_secs_f64())
}
