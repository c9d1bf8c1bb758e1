//! Benchmarks: ratios against a limit or a peer that is measured in the same run.
//!
//! Reading order:
//! - [`workload`]: what both sides do, and how it is timed; `bench/peers` includes the same file.
//! - [`ours`], [`peer`]: the two sides. [`stores`]: fresh logs for ours.
//! - [`rebuild`]: a read model from its events, on both databases.
//! - [`commands`], [`sqlite`] (its limit: [`raw_sqlite`]), [`feed`], [`load`]: in process. [`http`]: both sides as servers ([`serving`]).
//!   [`graphql`]: the query side, against two others.
//!   [`visible`], [`live`], [`checkout`], [`apart`] (with the orders of a [`shop`]), [`memory`]: the real binary ([`platform`]).
//! - [`report`], [`table`]: what is written down.
//!
//! What does not live here: thresholds that fail a test. A slow machine is not a fault; `--gate` is for those who ask.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line tool")]
#![allow(clippy::float_arithmetic, reason = "figures, never money")]

mod apart;
mod checkout;
mod commands;
mod feed;
mod graphql;
mod http;
mod live;
mod load;
mod memory;
mod ours;
mod peer;
mod platform;
mod raw_sqlite;
mod rebuild;
mod report;
mod serving;
mod shop;
mod sqlite;
mod stores;
mod table;
mod visible;
mod workload;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::Context;
use clap::{Parser, Subcommand};
use testkit::postgres::{Settings, ThrowAwayPostgres};

use crate::{
    peer::Peer,
    platform::Platform,
    report::{Report, Row},
    workload::Streams,
};

/// What the binary has, too, and the peer.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
#[command(name = "bench", about = "Ratios against a limit or a peer, measured in the same run")]
struct Cli {
    #[command(subcommand)]
    benchmark: Benchmark,
    /// Print one JSON object per benchmark instead of tables.
    #[arg(long, global = true)]
    json: bool,
    /// End with exit code 1 if a gate does not hold.
    #[arg(long, global = true)]
    gate: bool,
    /// Tiny counts: shows that everything runs, the figures mean nothing.
    #[arg(long, global = true)]
    smoke: bool,
    /// How often both sides are measured, one after the other.
    #[arg(long, global = true)]
    pairs: Option<usize>,
    /// Numbers of tasks that send commands; gates are for 1 and 256.
    #[arg(long, global = true, value_delimiter = ',')]
    tasks: Option<Vec<u64>>,
    /// Counted time of one measurement, in milliseconds.
    #[arg(long, global = true)]
    duration_ms: Option<u64>,
    /// Where `<benchmark>.json` and `<benchmark>.md` are written; without it, nowhere.
    #[arg(long, global = true)]
    results: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Benchmark {
    /// Commands per second and latency on PostgreSQL, against the peer.
    Commands {
        /// Leave the peer (and with it all ratios) out.
        #[arg(long)]
        without_peer: bool,
        /// Only these: hot, cold, fresh.
        #[arg(long, value_delimiter = ',', default_value = "hot,cold,fresh")]
        streams: Vec<Streams>,
    },
    /// Commands per second and latency over HTTP, against a service on the peer.
    Http {
        /// Leave the peer (and with it all ratios) out.
        #[arg(long)]
        without_peer: bool,
    },
    /// Our side of `http`, as a process of its own.
    #[command(hide = true)]
    ServeAccounts {
        #[arg(long)]
        url: String,
    },
    /// Commands per second through the bus alone, over the log in memory: what the bus itself costs.
    Bus,
    /// Commands per second on SQLite, against the same rows written 500 per transaction.
    Sqlite,
    /// The feed in process, against a raw keyset read of the same rows, on both databases.
    Feed,
    /// Loading an aggregate of many events, with a snapshot against without, on both databases.
    Load,
    /// Rebuilding `order_details`, against one SQL statement and against the peer's replay, on both databases.
    Rebuild {
        /// Leave the peer out.
        #[arg(long)]
        without_peer: bool,
        /// Instead: five million events against one million, with the same memory. Takes minutes and gigabytes.
        #[arg(long)]
        soak: bool,
    },
    /// Questions per second over HTTP, against axum + sqlx by hand and against PostGraphile, on both databases.
    Graphql {
        /// Leave PostGraphile out.
        #[arg(long)]
        without_peer: bool,
    },
    /// Our side of `graphql`, as a process of its own.
    #[command(hide = true)]
    ServeGraphql(Served),
    /// What `graphql` is measured against, written by hand.
    #[command(hide = true)]
    ServeBare(Served),
    /// From an acknowledged command to its row in GraphQL, over HTTP.
    Visible {
        /// A platform that runs already, such as `http://127.0.0.1:8080`; without it one is started.
        #[arg(long)]
        url: Option<String>,
        #[command(flatten)]
        binary: Binary,
    },
    /// A thousand live subscribers while orders change, on both databases: delivery and memory.
    Live {
        #[command(flatten)]
        binary: Binary,
    },
    /// Checkouts per second from end to end, and the transactions that each takes, on both databases.
    Checkout {
        #[command(flatten)]
        binary: Binary,
    },
    /// Roles as processes of their own: two replicas of a service against one, and from a command to its row.
    Apart {
        #[command(flatten)]
        binary: Binary,
    },
    /// Peak memory of `tributary up --demo`.
    Memory {
        #[command(flatten)]
        binary: Binary,
    },
    /// Everything above, into `bench/results`.
    All {
        #[command(flatten)]
        binary: Binary,
    },
    /// Puts the figures of `bench/results` between the markers of a file, such as the README.
    Table {
        #[arg(long)]
        into: PathBuf,
    },
}

/// Where the rows of a side are.
#[derive(clap::Args)]
struct Served {
    /// In PostgreSQL.
    #[arg(long)]
    url: Option<String>,
    /// In SQLite.
    #[arg(long)]
    directory: Option<PathBuf>,
    #[arg(long)]
    generation: i64,
}

impl Served {
    fn rows(&self) -> anyhow::Result<graphql::bare::Rows> {
        graphql::bare::Rows::of(self.url.clone(), self.directory.clone())
    }
}

#[derive(clap::Args)]
struct Binary {
    /// The binary to start; without it, it is built first.
    #[arg(long)]
    tributary: Option<PathBuf>,
}

impl Binary {
    async fn path(&self) -> anyhow::Result<PathBuf> {
        match &self.tributary {
            Some(path) => Ok(path.clone()),
            None => platform::build().await,
        }
    }
}

/// How much is measured.
#[derive(Debug, Clone)]
pub struct Scale {
    pub pairs: usize,
    pub warm_up: Duration,
    pub duration: Duration,
    pub tasks: Vec<u64>,
    /// Kept connections over which commands are sent by HTTP, one after another on each.
    pub connections: u64,
    /// Streams that are prepared for one measurement.
    pub prepared: u64,
    /// Orders that GraphQL is asked for.
    pub graphql_orders: u64,
    /// Kept connections over which GraphQL is asked.
    pub graphql_connections: usize,
    /// Events of the feed that is read.
    pub feed_events: u64,
    /// Events of the aggregate that is loaded.
    pub load_events: u64,
    /// Orders of the history that is rebuilt from.
    pub rebuild_orders: u64,
    /// Events that the peer replays: it would take minutes for all of them.
    pub replay_events: u64,
    /// Orders of the smaller and of the larger history of a soak.
    pub soak_orders: [u64; 2],
    /// Orders that are under way at once.
    pub checkouts: Vec<usize>,
    pub checkout_duration: Duration,
    pub visible_per_s: u32,
    pub visible_duration: Duration,
    /// Sockets with a subscription each.
    pub subscribers: usize,
    pub live_per_s: u32,
}

impl Scale {
    fn full() -> Self {
        Self {
            pairs: 5,
            warm_up: Duration::from_millis(700),
            duration: Duration::from_secs(3),
            tasks: vec![1, 32, 256],
            connections: 64,
            prepared: 10_000,
            graphql_orders: 50_000,
            graphql_connections: 32,
            feed_events: 200_000,
            // the last hundred behind the last snapshot, as many as are on average
            load_events: 10_100,
            rebuild_orders: 50_000,
            replay_events: 20_000,
            soak_orders: [250_000, 1_250_000],
            checkouts: vec![1, 32, 128],
            checkout_duration: Duration::from_secs(5),
            visible_per_s: 500,
            visible_duration: Duration::from_secs(10),
            subscribers: 1_000,
            live_per_s: 500,
        }
    }

    fn smoke() -> Self {
        Self {
            pairs: 1,
            warm_up: Duration::from_millis(20),
            duration: Duration::from_millis(200),
            tasks: vec![1, 8],
            connections: 4,
            prepared: 50,
            graphql_orders: 100,
            graphql_connections: 4,
            feed_events: 600,
            load_events: 450,
            rebuild_orders: 400,
            replay_events: 400,
            soak_orders: [400, 800],
            checkouts: vec![4],
            checkout_duration: Duration::from_secs(2),
            visible_per_s: 20,
            visible_duration: Duration::from_secs(1),
            subscribers: 10,
            live_per_s: 20,
        }
    }

    fn of(cli: &Cli) -> Self {
        let mut scale = if cli.smoke { Self::smoke() } else { Self::full() };
        scale.pairs = cli.pairs.unwrap_or(scale.pairs).max(1);
        if let Some(tasks) = &cli.tasks {
            scale.tasks = tasks.iter().map(|tasks| (*tasks).clamp(1, scale.prepared)).collect();
        }
        scale.duration = cli.duration_ms.map_or(scale.duration, Duration::from_millis);
        scale
    }
}

/// This folder: where the peers, and by default the results, are.
fn folder() -> PathBuf {
    std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| PathBuf::from("bench"), PathBuf::from)
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let cli = Cli::parse();
    let scale = Scale::of(&cli);
    let is_side = matches!(
        cli.benchmark,
        Benchmark::Table { .. }
            | Benchmark::ServeAccounts { .. }
            | Benchmark::ServeGraphql(_)
            | Benchmark::ServeBare(_)
    );
    if cfg!(debug_assertions) && !cli.smoke && !is_side {
        eprintln!("a debug build: run `cargo run --release -p bench` for figures that mean something");
    }
    let mut failed = false;
    match &cli.benchmark {
        Benchmark::Commands { without_peer, streams } => {
            failed |= finish(&cli, None, commands(&scale, streams, *without_peer).await?)?;
        }
        Benchmark::Http { without_peer } => failed |= finish(&cli, None, http(&scale, *without_peer).await?)?,
        Benchmark::ServeAccounts { url } => http::accounts::serve(url).await?,
        Benchmark::Bus => failed |= finish(&cli, None, commands::run_bus_alone(&scale).await?)?,
        Benchmark::Sqlite => failed |= finish(&cli, None, sqlite::run(&scale).await?)?,
        Benchmark::Feed => failed |= finish(&cli, None, feed::run(&scale, &server().await?).await?)?,
        Benchmark::Load => failed |= finish(&cli, None, load::run(&scale, &server().await?).await?)?,
        Benchmark::Rebuild { soak: true, .. } => {
            failed |= finish(&cli, None, rebuild::soak(&scale, &server().await?).await?)?;
        }
        Benchmark::Rebuild { without_peer, soak: false } => {
            failed |= finish(&cli, None, rebuild(&scale, *without_peer).await?)?;
        }
        Benchmark::Graphql { without_peer } => {
            failed |= finish(&cli, None, graphql::run(&scale, &server().await?, !without_peer).await?)?;
        }
        Benchmark::ServeGraphql(served) => graphql::ours::serve(served.rows()?).await?,
        Benchmark::ServeBare(served) => graphql::bare::serve(served.rows()?, served.generation).await?,
        Benchmark::Visible { url, binary } => {
            failed |= finish(&cli, None, visible(&scale, url.as_deref(), binary).await?)?;
        }
        Benchmark::Live { binary } => failed |= finish(&cli, None, live(&scale, binary).await?)?,
        Benchmark::Checkout { binary } => failed |= finish(&cli, None, checkout(&scale, binary).await?)?,
        Benchmark::Apart { binary } => {
            failed |= finish(&cli, None, apart::run(&scale, &binary.path().await?, &server().await?).await?)?;
        }
        Benchmark::Memory { binary } => {
            failed |= finish(&cli, None, memory::run(&scale, &binary.path().await?).await?)?
        }
        Benchmark::All { binary } => {
            let results = folder().join("results");
            // figures of a smoke run are not kept
            let results = (!cli.smoke).then_some(&*results);
            failed |= finish(&cli, results, commands(&scale, &Streams::ALL, false).await?)?;
            failed |= finish(&cli, results, http(&scale, false).await?)?;
            failed |= finish(&cli, results, sqlite::run(&scale).await?)?;
            failed |= finish(&cli, results, feed::run(&scale, &server().await?).await?)?;
            failed |= finish(&cli, results, load::run(&scale, &server().await?).await?)?;
            failed |= finish(&cli, results, rebuild(&scale, false).await?)?;
            failed |= finish(&cli, results, graphql::run(&scale, &server().await?, true).await?)?;
            failed |= finish(&cli, results, visible(&scale, None, binary).await?)?;
            failed |= finish(&cli, results, live(&scale, binary).await?)?;
            failed |= finish(&cli, results, checkout(&scale, binary).await?)?;
            failed |= finish(&cli, results, apart::run(&scale, &binary.path().await?, &server().await?).await?)?;
            failed |= finish(&cli, results, memory::run(&scale, &binary.path().await?).await?)?;
        }
        Benchmark::Table { into } => table::write(&folder().join("results"), into)?,
    }
    Ok(if failed && cli.gate { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// A server as a careful administrator would run it: fsync on.
async fn server() -> anyhow::Result<ThrowAwayPostgres> {
    ThrowAwayPostgres::start_with(Settings::durable()).await
}

async fn commands(scale: &Scale, streams: &[Streams], without_peer: bool) -> anyhow::Result<Report> {
    let peer = if without_peer { None } else { Some(Peer::build(&folder()).await?) };
    commands::run(scale, streams, &server().await?, peer.as_ref()).await
}

async fn http(scale: &Scale, without_peer: bool) -> anyhow::Result<Report> {
    let peer = if without_peer { None } else { Some(Peer::build(&folder()).await?) };
    http::run(scale, &server().await?, peer.as_ref()).await
}

async fn rebuild(scale: &Scale, without_peer: bool) -> anyhow::Result<Report> {
    let peer = if without_peer { None } else { Some(Peer::build(&folder()).await?) };
    rebuild::run(scale, &server().await?, peer.as_ref()).await
}

async fn visible(scale: &Scale, url: Option<&str>, binary: &Binary) -> anyhow::Result<Report> {
    let mut report = visible::report(scale);
    if let Some(url) = url {
        report.rows = visible::run(scale, url.trim_end_matches('/'), "a running platform").await?;
        return Ok(report);
    }
    let tributary = binary.path().await?;
    report.rows.extend(visible_with(scale, &tributary, "SQLite", &[]).await?);
    let postgres = server().await?;
    let databases = databases(&postgres).await?;
    let databases: Vec<String> =
        databases.iter().map(|(database, url)| format!("--{database}-database-url={url}")).collect();
    report.rows.extend(visible_with(scale, &tributary, "PostgreSQL", &databases).await?);
    Ok(report)
}

async fn live(scale: &Scale, binary: &Binary) -> anyhow::Result<Report> {
    let tributary = binary.path().await?;
    let mut report = live::report(scale);
    report.rows.extend(live::run(scale, &tributary, "SQLite", &[]).await?);
    let postgres = server().await?;
    let databases = databases(&postgres).await?;
    let databases: Vec<String> =
        databases.iter().map(|(database, url)| format!("--{database}-database-url={url}")).collect();
    report.rows.extend(live::run(scale, &tributary, "PostgreSQL", &databases).await?);
    Ok(report)
}

async fn checkout(scale: &Scale, binary: &Binary) -> anyhow::Result<Report> {
    let tributary = binary.path().await?;
    let mut report = checkout::report(scale);
    report.rows.extend(checkout::run(scale, &tributary, &checkout::Databases::Sqlite).await?);
    let postgres = server().await?;
    let databases = checkout::Databases::Postgres(databases(&postgres).await?);
    report.rows.extend(checkout::run(scale, &tributary, &databases).await?);
    Ok(report)
}

/// Every database of a platform, by name.
async fn databases(postgres: &ThrowAwayPostgres) -> anyhow::Result<Vec<(&'static str, String)>> {
    let mut databases = Vec::new();
    for database in write_side::REGISTER.iter().map(|entry| entry.name).chain(["query"]) {
        databases.push((database, postgres.create_database(database).await?));
    }
    Ok(databases)
}

async fn visible_with(
    scale: &Scale,
    tributary: &Path,
    databases: &str,
    arguments: &[String],
) -> anyhow::Result<Vec<Row>> {
    let platform = Platform::start(tributary, arguments).await?;
    let rows = visible::run(scale, platform.url(), databases).await;
    let rows = rows.with_context(|| format!("tributary said:\n{}", platform.output()))?;
    platform.stop().await?;
    Ok(rows)
}

/// Prints and keeps a report; whether a gate does not hold.
fn finish(cli: &Cli, results: Option<&Path>, report: Report) -> anyhow::Result<bool> {
    match cli.json {
        true => println!("{}", serde_json::to_string(&report)?),
        false => println!("{}", report.markdown()),
    }
    if let Some(results) = cli.results.as_deref().or(results) {
        report.save(results)?;
    }
    let mut failed = false;
    for ratio in report.failed() {
        failed = true;
        eprintln!("gate not held: {}: {} is {:.2}x", ratio.case, ratio.what, ratio.number.median);
    }
    Ok(failed)
}
