//! Commands per second and their latency over HTTP: a service on our edge against plain axum on the peer.
//!
//! Reading order: [`accounts`] (our side; the peer's is `bench/peers`, and [`crate::serving`] is under both), [`server`] (a
//! side as a process of its own), [`client`] (the load, in this process).

pub mod accounts;
pub mod client;
pub mod server;

use std::sync::Arc;

use anyhow::Context;
use testkit::postgres::ThrowAwayPostgres;
use tokio::process::Command;

use self::{client::Connections, server::Server};
use crate::{
    Scale,
    peer::{POOLS, Peer},
    report::{Bound, Ratio, Report, Row},
    workload::{Measured, Plan, Streams, measure},
};

/// `peer` = `None` leaves the peer out, and with it all ratios.
pub async fn run(scale: &Scale, postgres: &ThrowAwayPostgres, peer: Option<&Peer>) -> anyhow::Result<Report> {
    let title = "Commands over HTTP: a service on our edge, against the same on axum with cqrs-es + postgres-es";
    let mut report = Report::new("http", title, scale.pairs);
    let plan = Plan {
        streams: Streams::Hot,
        tasks: scale.connections,
        prepared: scale.prepared,
        first: 0,
        warm_up: scale.warm_up,
        duration: scale.duration,
    };
    let case = format!("hot, {} connections", plan.tasks);
    eprintln!("http: {case}");
    let url = postgres.create_database("http").await?;
    let peer_url = postgres.create_database("http_peer").await?;
    let pool = match peer {
        Some(peer) => best_pool(peer, &peer_url, plan).await?,
        None => 0,
    };
    let (mut our_runs, mut peer_runs, mut documented_runs) = (Vec::new(), Vec::new(), Vec::new());
    for pair in 0..scale.pairs as u64 {
        // streams of their own for every run, so that they stay short
        let plan = Plan { first: (pair + 1) * plan.prepared, ..plan };
        our_runs.push(ours(&url, plan).await?);
        if let Some(peer) = peer {
            peer.prepare(&peer_url, plan).await?;
            peer_runs.push(theirs(peer, &peer_url, Some(pool), plan).await?);
            documented_runs.push(theirs(peer, &peer_url, None, plan).await?);
        }
    }
    report.rows.push(Row::of_commands(&case, "tributary", &our_runs));
    if peer.is_some() {
        report.rows.push(Row::of_commands(&case, &format!("axum + cqrs-es, pool of {pool}"), &peer_runs));
        report.rows.push(Row::of_commands(&case, "axum + cqrs-es, its own pool of 10", &documented_runs));
        report.ratios.extend(ratios(&case, &our_runs, &peer_runs));
    }
    report.notes.push(
        "Both sides are processes of their own with the same address, the same JSON body and the same server under them; \
         the load comes from a third one on the same machine, one request after another on each connection. Ours stores \
         the key and the answer of each request and gives back version and consistency token; the peer's handler is that \
         of its documentation, and its pool the best of 8, 16 and 32 connections, without a ping before each use."
            .to_owned(),
    );
    Ok(report)
}

/// The pool with which the peer answers most commands.
async fn best_pool(peer: &Peer, url: &str, plan: Plan) -> anyhow::Result<u32> {
    let plan = Plan { duration: plan.duration / 2, ..plan };
    peer.prepare(url, plan).await?;
    let mut best: Option<Measured> = None;
    for pool in POOLS {
        let run = theirs(peer, url, Some(pool), plan).await?;
        if best.as_ref().is_none_or(|best| run.per_s > best.per_s) {
            best = Some(run);
        }
    }
    Ok(best.context("no pool was tried")?.pool)
}

/// A fresh process of this very program: its streams are made through its own door, and are in its memory then.
async fn ours(url: &str, plan: Plan) -> anyhow::Result<Measured> {
    let mut command = Command::new(std::env::current_exe().context("our own path")?);
    command.args(["serve-accounts", "--url", url]);
    let server = Server::start(command).await?;
    let connections = Connections::open(server.address(), plan.tasks).await?;
    connections.prepare(plan).await.context("prepare streams over HTTP")?;
    load("tributary", 0, connections, server, plan).await
}

/// `pool` = `None`: the pool that postgres-es makes itself.
async fn theirs(peer: &Peer, url: &str, pool: Option<u32>, plan: Plan) -> anyhow::Result<Measured> {
    let server = Server::start(peer.serve(url, pool)).await?;
    let connections = Connections::open(server.address(), plan.tasks).await?;
    load("axum + cqrs-es", pool.unwrap_or_default(), connections, server, plan).await
}

async fn load(name: &str, pool: u32, connections: Connections, server: Server, plan: Plan) -> anyhow::Result<Measured> {
    let connections = Arc::new(connections);
    let measured = measure(name, pool, plan, move |account, command| {
        let connections = Arc::clone(&connections);
        async move { connections.deposit(&account, &command).await }
    })
    .await
    .with_context(|| format!("send commands to {name}"))?;
    server.stop().await?;
    Ok(measured)
}

fn ratios(case: &str, ours: &[Measured], peer: &[Measured]) -> Vec<Ratio> {
    let pairs = |value: fn(&Measured) -> f64| ours.iter().zip(peer).map(move |(ours, peer)| (value(ours), value(peer)));
    let rate = Ratio::of(case, "HTTP commands per second, ours / the peer's best", pairs(|run| run.per_s));
    let wait = Ratio::of(case, "p99 over HTTP, ours / the peer's best", pairs(|run| run.p99_ms));
    vec![rate.gate(Bound::AtLeast(3.0)).goal(Bound::AtLeast(6.0)), wait]
}
