//! Commands per second and their latency, through the command bus on PostgreSQL, against the peer on the same server.

use std::{sync::Arc, time::Duration};

use event_store::{log::EventLog, memory::MemoryLog};
use testkit::postgres::ThrowAwayPostgres;

use crate::{
    Scale,
    ours::Ours,
    peer::{POOLS, Peer},
    report::{Bound, Ratio, Report, Row},
    stores,
    workload::{Measured, Plan, Streams},
};

/// Tasks of the case that has gates.
const MANY_TASKS: u64 = 256;

/// `peer` = `None` leaves the peer out, and with it all ratios.
pub async fn run(
    scale: &Scale,
    streams: &[Streams],
    postgres: &ThrowAwayPostgres,
    peer: Option<&Peer>,
) -> anyhow::Result<Report> {
    let title = "Commands through the bus on PostgreSQL, against cqrs-es + postgres-es on the same server";
    let mut report = Report::new("commands", title, scale.pairs);
    for &streams in streams {
        for &tasks in &scale.tasks {
            let plan = Plan {
                streams,
                tasks,
                prepared: scale.prepared,
                first: 0,
                warm_up: scale.warm_up,
                duration: scale.duration,
            };
            case(scale, postgres, peer, plan, &mut report).await?;
        }
    }
    report.rows.push(bus_alone(scale).await?);
    report.notes.push(
        "One event of about 300 bytes per command, an idempotency key stored with each; fsync on, one server for both \
         sides. hot = streams of three events, in the bus's cache (the peer has none: it loads them); cold = the same \
         streams, none in the cache; fresh = a new stream for every command. The peer's pool is the best of 8, 16 and \
         32 connections, without a ping before each use and without snapshots; its own \
         pool is what its documentation uses, with the ping. It stores no keys."
            .to_owned(),
    );
    Ok(report)
}

async fn case(
    scale: &Scale,
    postgres: &ThrowAwayPostgres,
    peer: Option<&Peer>,
    plan: Plan,
    report: &mut Report,
) -> anyhow::Result<()> {
    let case = format!("{}, {} tasks", plan.streams.as_str(), plan.tasks);
    eprintln!("commands: {case}");
    let hot_aggregates_max = if plan.streams == Streams::Hot { usize::try_from(plan.prepared * 2)? } else { 1 };
    let url = postgres.create_database("commands").await?;
    let ours = Ours::start(stores::postgres_log(&url).await?, hot_aggregates_max);
    let peer_url = postgres.create_database("commands_peer").await?;
    let pool = match peer {
        Some(peer) => best_pool(peer, &peer_url, plan).await?,
        None => 0,
    };
    let (mut our_runs, mut peer_runs, mut documented_runs) = (Vec::new(), Vec::new(), Vec::new());
    for pair in 0..scale.pairs as u64 {
        // streams of their own for every run, so that they stay short
        let plan = Plan { first: (pair + 1) * plan.prepared, ..plan };
        ours.prepare(plan).await?;
        if let Some(peer) = peer {
            peer.prepare(&peer_url, plan).await?;
        }
        our_runs.push(ours.measure(plan).await?);
        if let Some(peer) = peer {
            let hot = plan.streams == Streams::Hot;
            let mut runs = peer.run(&peer_url, plan, &[pool], hot).await?.into_iter();
            peer_runs.extend(runs.next());
            documented_runs.extend(runs);
        }
    }
    ours.shutdown().await;
    report.rows.push(Row::of_commands(&case, "tributary", &our_runs));
    if peer.is_some() {
        report.rows.push(Row::of_commands(&case, &format!("cqrs-es + postgres-es, pool of {pool}"), &peer_runs));
        report.ratios.extend(ratios(&case, plan, &our_runs, &peer_runs));
        if !documented_runs.is_empty() {
            report.rows.push(Row::of_commands(&case, "cqrs-es + postgres-es, its own pool of 10", &documented_runs));
        }
    }
    Ok(())
}

/// The pool with which the peer is at its best: for one task the quickest, for many the most commands.
async fn best_pool(peer: &Peer, url: &str, plan: Plan) -> anyhow::Result<u32> {
    let plan = Plan { duration: plan.duration / 2, ..plan };
    peer.prepare(url, plan).await?;
    let runs = peer.run(url, plan, &POOLS, false).await?;
    let best = runs.iter().max_by(|a, b| match plan.tasks {
        1 => b.p50_ms.total_cmp(&a.p50_ms),
        _ => a.per_s.total_cmp(&b.per_s),
    });
    Ok(best.expect("one run for every pool").pool)
}

fn ratios(case: &str, plan: Plan, ours: &[Measured], peer: &[Measured]) -> Vec<Ratio> {
    let hot = plan.streams == Streams::Hot;
    let pairs = |value: fn(&Measured) -> f64| ours.iter().zip(peer).map(move |(ours, peer)| (value(ours), value(peer)));
    let mut rate = Ratio::of(case, "commands per second, ours / the peer's", pairs(|run| run.per_s));
    let mut wait = Ratio::of(case, "p50, ours / the peer's", pairs(|run| run.p50_ms));
    if hot && plan.tasks == MANY_TASKS {
        rate = rate.gate(Bound::AtLeast(6.0)).goal(Bound::AtLeast(12.0));
    }
    if hot && plan.tasks == 1 {
        wait = wait.gate(Bound::AtMost(0.5)).goal(Bound::AtMost(0.3));
    }
    vec![rate, wait]
}

/// The bus over the log in memory, on its own: for those who look for where time goes.
pub async fn run_bus_alone(scale: &Scale) -> anyhow::Result<Report> {
    let mut report = Report::new("bus", "Commands through the bus, log in memory", scale.pairs);
    report.rows.push(bus_alone(scale).await?);
    Ok(report)
}

/// What is left when the database costs nothing.
async fn bus_alone(scale: &Scale) -> anyhow::Result<Row> {
    let tasks = scale.tasks.iter().copied().max().unwrap_or(1);
    let plan = Plan {
        streams: Streams::Hot,
        tasks,
        prepared: scale.prepared,
        first: 0,
        warm_up: scale.warm_up.min(Duration::from_millis(200)),
        // every event stays in memory
        duration: scale.duration.min(Duration::from_secs(1)),
    };
    let mut runs = Vec::new();
    for _ in 0..scale.pairs {
        let log: Arc<dyn EventLog> = MemoryLog::new("bench");
        let ours = Ours::start(log, usize::try_from(plan.prepared * 2)?);
        ours.prepare(plan).await?;
        runs.push(ours.measure(plan).await?);
        ours.shutdown().await;
    }
    Ok(Row::of_commands(&format!("hot, {tasks} tasks"), "the bus alone (log in memory)", &runs))
}
