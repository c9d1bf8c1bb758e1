//! The feed in process, page by page, against a raw keyset read of the same rows that decodes as little as it can.

use std::{
    hint::black_box,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use event_store::{
    feed::{Cursor, PageLimit},
    log::EventLog,
};
use futures::TryStreamExt;
use rusqlite::{Connection, types::ValueRef};
use sqlx::{Connection as _, PgConnection, Row as _};
use testkit::postgres::ThrowAwayPostgres;

use crate::{
    Scale,
    ours::Ours,
    report::{Bound, Number, Ratio, Report, Row},
    stores,
    workload::{PREPARED_EVENTS, Plan, Streams},
};

/// Events of one page, on both sides.
const PAGE_EVENTS: usize = PageLimit::EVENTS_MAX;

/// Where the raw side reads.
enum Raw {
    Sqlite(PathBuf),
    Postgres(Box<PgConnection>),
}

pub async fn run(scale: &Scale, postgres: &ThrowAwayPostgres) -> anyhow::Result<Report> {
    let title = "Reading the feed in process, against a raw keyset read of the same rows";
    let mut report = Report::new("feed", title, scale.pairs);
    let folder = tempfile::tempdir().context("a temporary directory")?;
    let path = folder.path().join("feed.db");
    database(scale, "SQLite", stores::sqlite_log(&path)?, Raw::Sqlite(path), &mut report).await?;
    let url = postgres.create_database("feed").await?;
    let raw = Raw::Postgres(Box::new(PgConnection::connect(&url).await.context("connect to PostgreSQL")?));
    database(scale, "PostgreSQL", stores::postgres_log(&url).await?, raw, &mut report).await?;
    report.notes.push(format!(
        "{} events of about 300 bytes, pages of {PAGE_EVENTS}. The raw side runs one prepared keyset query per page and \
         takes every column as bytes; the feed also checks head, anchor and contiguity, and gives events that own their data.",
        scale.feed_events
    ));
    Ok(report)
}

async fn database(
    scale: &Scale,
    name: &str,
    log: Arc<dyn EventLog>,
    mut raw: Raw,
    report: &mut Report,
) -> anyhow::Result<()> {
    eprintln!("feed: {name}");
    let events = fill(scale, &log).await?;
    if let Raw::Postgres(connection) = &mut raw {
        sqlx::query("vacuum analyze events").execute(&mut **connection).await.context("analyze the events")?;
    }
    // once for the caches
    feed(&*log, events).await?;
    raw.read(events).await?;
    let (mut ours, mut others) = (Vec::new(), Vec::new());
    for _ in 0..scale.pairs {
        ours.push(events as f64 / feed(&*log, events).await?.as_secs_f64());
        others.push(events as f64 / raw.read(events).await?.as_secs_f64());
    }
    let row = |side: &str, rates: &[f64]| {
        let numbers = vec![Number::of("per_s", rates.iter().copied())];
        Row { case: name.to_owned(), side: side.to_owned(), numbers }
    };
    report.rows.push(row("feed, events", &ours));
    report.rows.push(row("raw keyset read, rows", &others));
    let ratio = Ratio::of(name, "feed / raw keyset read", ours.into_iter().zip(others));
    report.ratios.push(ratio.gate(Bound::AtLeast(0.6)));
    Ok(())
}

/// Writes the events, through the bus: they look as they do in a service. How many there are.
async fn fill(scale: &Scale, log: &Arc<dyn EventLog>) -> anyhow::Result<u64> {
    let streams = scale.feed_events.div_ceil(PREPARED_EVENTS);
    let ours = Ours::start(Arc::clone(log), 1);
    let none = Duration::ZERO;
    let plan = Plan { streams: Streams::Hot, tasks: 1, prepared: streams, first: 0, warm_up: none, duration: none };
    ours.prepare(plan).await?;
    ours.shutdown().await;
    Ok(streams * PREPARED_EVENTS)
}

async fn feed(log: &dyn EventLog, events: u64) -> anyhow::Result<Duration> {
    let start = Instant::now();
    let mut cursor = Cursor::START;
    loop {
        let page = log.page(cursor, PageLimit::events(PAGE_EVENTS), Duration::ZERO).await.context("read a page")?;
        let Some(last) = page.events.last() else { break };
        cursor = Cursor::at(last);
        black_box(&page);
    }
    ensure!(cursor.position == events, "the feed ended at {}, not at {events}", cursor.position);
    Ok(start.elapsed())
}

impl Raw {
    async fn read(&mut self, events: u64) -> anyhow::Result<Duration> {
        let start = Instant::now();
        let read = match self {
            Self::Sqlite(path) => {
                let path = path.clone();
                tokio::task::spawn_blocking(move || read_sqlite(&path)).await.context("a reader panicked")??
            }
            Self::Postgres(connection) => read_postgres(connection).await?,
        };
        let elapsed = start.elapsed();
        ensure!(read == events, "{read} raw rows, not {events}");
        Ok(elapsed)
    }
}

const SQLITE_PAGE: &str =
    "select position, event_id, aggregate_type, aggregate_id, sequence, event_type, event_version,
        payload, metadata, recorded_at_us
    from events where position > ?1 order by position limit ?2";

/// A row's bytes are SQLite's own until the next step, so a page that somebody can use has to be copied: here into one
/// buffer. (On PostgreSQL the client library has done that when it gives a row.)
fn read_sqlite(path: &Path) -> anyhow::Result<u64> {
    let connection = Connection::open(path).context("open the file")?;
    let mut statement = connection.prepare(SQLITE_PAGE)?;
    let (mut position, mut read) = (0_i64, 0);
    loop {
        let mut rows = statement.query((position, PAGE_EVENTS as i64))?;
        let before = read;
        let mut page: Vec<u8> = Vec::new();
        while let Some(row) = rows.next()? {
            for column in 0..10 {
                match row.get_ref(column)? {
                    ValueRef::Text(bytes) | ValueRef::Blob(bytes) => page.extend_from_slice(bytes),
                    number => {
                        black_box(number);
                    }
                }
            }
            position = row.get(0)?;
            read += 1;
        }
        black_box(&page);
        if read == before {
            return Ok(read);
        }
    }
}

const POSTGRES_PAGE: &str = "select position, event_id, aggregate_type, aggregate_id, sequence, event_type,
        event_version, payload, metadata, recorded_at
    from events where position > $1 order by position limit $2";

async fn read_postgres(connection: &mut PgConnection) -> anyhow::Result<u64> {
    let (mut position, mut read) = (0_i64, 0);
    loop {
        let before = read;
        let mut rows = sqlx::query(POSTGRES_PAGE).bind(position).bind(PAGE_EVENTS as i64).fetch(&mut *connection);
        while let Some(row) = rows.try_next().await? {
            for column in 0..10 {
                black_box(row.try_get_raw(column)?.as_bytes().map_err(anyhow::Error::from_boxed)?);
            }
            position = row.try_get(0)?;
            read += 1;
        }
        if read == before {
            return Ok(read);
        }
    }
}
