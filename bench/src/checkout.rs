//! Checkouts from end to end on the real binary: how many per second, how long from `OrderPlaced` to `OrderConfirmed`, and how
//! many transactions each of them takes.
//!
//! The load is closed: so many orders are under way, and one that is confirmed makes room for the next. What it takes is read
//! from the orders' feed by the times that the log has recorded.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, anyhow, bail, ensure};
use chrono::{DateTime, Utc};
use event_store::{
    feed::{Cursor, Feed, PageLimit},
    feed_http::HttpFeed,
};
use events::{
    Published,
    envelope::RecordedEvent,
    orders::{self, OrderEvent},
};
use rusqlite::{Connection as SqliteConnection, OpenFlags};
use sqlx::{Connection as _, PgConnection};
use tokio::{
    sync::{Semaphore, watch},
    task::JoinSet,
    time::timeout,
};
use uuid::Uuid;

use crate::{
    Scale,
    platform::Platform,
    report::{Number, Report, Row},
    shop::Shop,
    workload::percentile_ms,
};

/// Pieces of each product: more than any run sells.
const PIECES: u32 = 1_000_000;
/// A page of the feed is waited for so long.
const PAGE_WAIT: Duration = Duration::from_secs(1);
/// What was placed and is not confirmed after this: the benchmark fails.
const CONFIRMED_WITHIN: Duration = Duration::from_secs(60);
/// Logs that have had no event for so long are done with every order.
const QUIET: Duration = Duration::from_secs(1);

/// Where a platform keeps its data, for who counts its transactions.
pub enum Databases {
    /// In the platform's data directory.
    Sqlite,
    /// Their URLs by name.
    Postgres(Vec<(&'static str, String)>),
}

impl Databases {
    fn name(&self) -> &'static str {
        match self {
            Self::Sqlite => "SQLite",
            Self::Postgres(_) => "PostgreSQL",
        }
    }

    fn arguments(&self) -> Vec<String> {
        match self {
            Self::Sqlite => Vec::new(),
            Self::Postgres(urls) => urls.iter().map(|(name, url)| format!("--{name}-database-url={url}")).collect(),
        }
    }
}

/// A report without rows yet.
pub fn report(scale: &Scale) -> Report {
    let mut report = Report::new("checkout", "Checkouts from end to end, OrderPlaced to OrderConfirmed", scale.pairs);
    report.notes.push(
        "Orders of two lines over HTTP to one process with all roles, none of which is declined: two reservations, an \
         authorization, two reservations made firm, the confirmation; behind it, and not waited for, the shipment's schedule and \
         the capture. Times are those of the orders' log. Commits of logs are those of all services' logs up to the capture, \
         divided by the orders; transactions that write (PostgreSQL only) are all of the server's: logs, the reactors' \
         duties and checkpoints, replicas and read models. The load generator runs on the same machine."
            .to_owned(),
    );
    report
}

/// Measures a platform of its own on `databases`.
pub async fn run(scale: &Scale, tributary: &Path, databases: &Databases) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for &in_flight in &scale.checkouts {
        eprintln!("checkout: {}, {in_flight} under way", databases.name());
        let platform = Platform::start(tributary, &databases.arguments()).await?;
        let measured = measure(scale, &platform, databases, in_flight).await;
        let measured = measured.with_context(|| format!("tributary said:\n{}", platform.output()))?;
        platform.stop().await?;
        rows.extend(measured.rows(&format!("{}, {in_flight} under way", databases.name())));
    }
    Ok(rows)
}

/// What runs of one load have shown.
#[derive(Default)]
struct Measured {
    per_s: Vec<f64>,
    /// Of each run, in order of size.
    latencies_us: Vec<Vec<u32>>,
    /// Of all services' logs, per order.
    log_commits: Vec<f64>,
    /// Of the whole server, per order.
    writing_transactions: Vec<f64>,
}

impl Measured {
    fn rows(self, case: &str) -> Vec<Row> {
        let latency =
            |name, quantile| Number::of(name, self.latencies_us.iter().map(|sorted| percentile_ms(sorted, quantile)));
        let (p50, p99) = (latency("p50_ms", 0.5), latency("p99_ms", 0.99));
        let row = |side: &str, numbers| Row { case: case.to_owned(), side: side.to_owned(), numbers };
        let mut rows = vec![
            row("checkouts, OrderPlaced to OrderConfirmed", vec![Number::of("per_s", self.per_s), p50, p99]),
            row("commits of logs per checkout", vec![Number::of("commits", self.log_commits)]),
        ];
        if !self.writing_transactions.is_empty() {
            let numbers = vec![Number::of("transactions", self.writing_transactions)];
            rows.push(row("transactions that write per checkout", numbers));
        }
        rows
    }
}

async fn measure(
    scale: &Scale,
    platform: &Platform,
    databases: &Databases,
    in_flight: usize,
) -> anyhow::Result<Measured> {
    let shop = Arc::new(Shop::open(platform.url(), in_flight).await?);
    shop.stock_up(PIECES).await?;
    load(scale.warm_up, platform.url(), &shop, in_flight).await?;
    let mut measured = Measured::default();
    for _ in 0..scale.pairs {
        let before = settled(databases, platform).await?;
        let run = load(scale.checkout_duration, platform.url(), &shop, in_flight).await?;
        let after = settled(databases, platform).await?;
        let per_order = |count: u64| count as f64 / run.placed as f64;
        measured.log_commits.push(per_order(after.log_commits - before.log_commits));
        if let (Some(after), Some(before)) = (after.transactions, before.transactions) {
            measured.writing_transactions.push(per_order(after - before));
        }
        let mut latencies = run.confirmed.values().copied().collect::<Vec<_>>();
        ensure!(!latencies.is_empty(), "no order was confirmed within {:?}", scale.checkout_duration);
        latencies.sort_unstable();
        measured.per_s.push(latencies.len() as f64 / scale.checkout_duration.as_secs_f64());
        measured.latencies_us.push(latencies);
    }
    Ok(measured)
}

/// What one stretch of load has shown.
struct Run {
    placed: u64,
    /// Those confirmed while the load lasted: from the record of `OrderPlaced` to that of `OrderConfirmed`.
    confirmed: HashMap<Uuid, u32>,
}

/// Keeps so many orders under way for `duration`, then waits for the last.
async fn load(duration: Duration, url: &str, shop: &Arc<Shop>, in_flight: usize) -> anyhow::Result<Run> {
    let room = Arc::new(Semaphore::new(in_flight));
    let feed = HttpFeed::try_new(orders::SOURCE, &format!("{url}/orders/feed")).map_err(|error| anyhow!(error))?;
    let head = feed.page(Cursor::START, PageLimit::events(1), Duration::ZERO).await.context("read the feed's head")?;
    let from = Cursor { position: head.head.position, event_id: None };
    let ends_at = Utc::now() + duration;
    let (placed, told) = watch::channel(None);
    let mut reading = tokio::spawn(read(feed, from, Arc::clone(&room), told, ends_at));
    let mut tasks = JoinSet::new();
    let mut n = 0;
    while Utc::now() < ends_at {
        let permit = tokio::select! {
            permit = timeout(CONFIRMED_WITHIN, Arc::clone(&room).acquire_owned()) => permit,
            ended = &mut reading => {
                ended.context("the reader panicked")??;
                bail!("the reader ended before the load did");
            }
        };
        let permit = permit.with_context(|| format!("no order was confirmed within {CONFIRMED_WITHIN:?}"))?;
        // given back by its confirmation
        permit.context("the semaphore is never closed")?.forget();
        let shop = Arc::clone(shop);
        tasks.spawn(async move { shop.order(n).await.map(drop) });
        n += 1;
    }
    while let Some(done) = tasks.join_next().await {
        done.context("a task panicked")??;
    }
    placed.send_replace(Some(n as u64));
    let confirmed = timeout(CONFIRMED_WITHIN, reading).await;
    let confirmed = confirmed.with_context(|| format!("not every order was confirmed within {CONFIRMED_WITHIN:?}"))?;
    Ok(Run { placed: n as u64, confirmed: confirmed.context("the reader panicked")?? })
}

/// Follows the orders' feed until all that were placed are confirmed, and makes room for others.
async fn read(
    feed: HttpFeed,
    from: Cursor,
    room: Arc<Semaphore>,
    placed: watch::Receiver<Option<u64>>,
    ends_at: DateTime<Utc>,
) -> anyhow::Result<HashMap<Uuid, u32>> {
    let (mut cursor, mut seen, mut all) = (from, HashMap::new(), 0_u64);
    let mut confirmed = HashMap::new();
    while *placed.borrow() != Some(all) {
        let page = feed.page(cursor, PageLimit::events(PageLimit::EVENTS_MAX), PAGE_WAIT).await;
        for event in page.context("follow the orders' feed")?.events {
            cursor = Cursor::at(&event);
            let RecordedEvent { event_type, event_version, payload, recorded_at, .. } = event;
            match OrderEvent::decode(&event_type, &event_version, &payload)? {
                OrderEvent::OrderPlaced(placed) => drop(seen.insert(placed.order_id.0, recorded_at)),
                OrderEvent::OrderConfirmed(order) => {
                    let placed_at =
                        seen.remove(&order.order_id.0).context("an order is placed before it is confirmed")?;
                    let took_us = (recorded_at - placed_at).num_microseconds().unwrap_or(i64::MAX);
                    if recorded_at < ends_at {
                        confirmed.insert(order.order_id.0, u32::try_from(took_us).unwrap_or(u32::MAX));
                    }
                    all += 1;
                    room.add_permits(1);
                }
                OrderEvent::OrderCancelled(order) => {
                    bail!("order {} was not confirmed: {}", order.order_id, order.reason)
                }
                OrderEvent::OrderImported(_)
                | OrderEvent::OrderShipped(_)
                | OrderEvent::OrderDelivered(_)
                | OrderEvent::OrderReturned(_) => {}
            }
        }
    }
    Ok(confirmed)
}

/// What was committed so far.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Committed {
    log_commits: u64,
    transactions: Option<u64>,
}

/// Counts once all services are done with what was ordered.
async fn settled(databases: &Databases, platform: &Platform) -> anyhow::Result<Committed> {
    let mut before = count(databases, platform.data_dir()).await?;
    loop {
        tokio::time::sleep(QUIET).await;
        let now = count(databases, platform.data_dir()).await?;
        // reactors and projector look at what there is from time to time; only logs come to rest
        if now.log_commits == before.log_commits {
            return Ok(now);
        }
        before = now;
    }
}

async fn count(databases: &Databases, data_dir: PathBuf) -> anyhow::Result<Committed> {
    match databases {
        Databases::Sqlite => tokio::task::spawn_blocking(move || sqlite_commits(&data_dir)).await?,
        Databases::Postgres(urls) => postgres_commits(urls).await,
    }
}

fn sqlite_commits(data_dir: &Path) -> anyhow::Result<Committed> {
    let mut log_commits = 0;
    for entry in write_side::REGISTER {
        let path = data_dir.join(format!("{}.db", entry.name));
        let log = SqliteConnection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_ONLY);
        let log = log.with_context(|| format!("open {}", path.display()))?;
        let batches: i64 = log.query_row("select count(*) from batches", [], |row| row.get(0))?;
        log_commits += u64::try_from(batches)?;
    }
    Ok(Committed { log_commits, transactions: None })
}

async fn postgres_commits(urls: &[(&'static str, String)]) -> anyhow::Result<Committed> {
    let mut log_commits = 0;
    let mut transactions = None;
    for (name, url) in urls.iter().filter(|(name, _)| write_side::register::find(name).is_some()) {
        let mut log = PgConnection::connect(url).await.with_context(|| format!("connect to {name}"))?;
        let batches: i64 = sqlx::query_scalar("select count(*) from batches").fetch_one(&mut log).await?;
        log_commits += u64::try_from(batches)?;
        // only a transaction that writes, or locks a row, is given a number; they are the server's, not the database's
        let next = "select pg_snapshot_xmax(pg_current_snapshot())::text::bigint";
        let next: i64 = sqlx::query_scalar(next).fetch_one(&mut log).await?;
        transactions = Some(u64::try_from(next)?);
        log.close().await?;
    }
    Ok(Committed { log_commits, transactions })
}
