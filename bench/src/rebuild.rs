//! Rebuilding `order_details` from four events an order: the loader, against one SQL statement that computes the same table in
//! one database, against reading, folding and copying without anything else, and against the peer's replay.

mod ceiling;
pub mod history;
mod one_database;

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use event_store::{
    feed::Feed,
    follower::{Backoff, Follower, FollowerOptions, FollowerStore},
};
use projections::{
    QueryDatabase,
    engine::{
        load::{Hindrance, Load, LoadOptions},
        pace::Pace,
        store::{GenerationStore, StoreOptions},
    },
    order_details,
    projection::Projection,
};
use read_side::template::Template;
use rusqlite::Connection as SqliteConnection;
use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use testkit::postgres::ThrowAwayPostgres;
use tokio_util::sync::CancellationToken;

use self::history::{EVENTS_PER_ORDER, Logs};
use crate::{
    Scale,
    peer::Peer,
    report::{Bound, Number, Ratio, Report, Row},
};

/// What a load may hold, here as by default.
const MEMORY_BYTES: usize = 256 * 1024 * 1024;

/// One side's seconds.
type Times = Vec<f64>;

/// Where the rows go.
struct Place {
    name: &'static str,
    database: QueryDatabase,
    logs: Logs,
    feeds: Vec<Arc<dyn Feed>>,
}

pub async fn run(scale: &Scale, server: &ThrowAwayPostgres, peer: Option<&Peer>) -> anyhow::Result<Report> {
    let events = scale.rebuild_orders * EVENTS_PER_ORDER;
    let title = format!("Rebuilding order_details from {events} events over {} orders", scale.rebuild_orders);
    let mut report = Report::new("rebuild", &title, scale.pairs);
    postgres(scale, server, peer, &mut report).await?;
    sqlite(scale, &mut report).await?;
    report.notes.push(format!(
        "Ours: six logs, each in its own database, read as feeds; rows with their facets, links and references, committed \
         with checkpoints; at most {} MiB. The statement: the same events in one table of one database; rows only. Both \
         make the primary key and six more indexes, and the rows were compared, field by field. \"read, fold, copy\": the same \
         feeds folded into the rows that readers see and copied into a table without any index, in one transaction without \
         a checkpoint.",
        MEMORY_BYTES / 1024 / 1024
    ));
    report.notes.push(
        "\"with history\" also keeps every state that each facet and reference had, one row an event: the read model as it \
         is. \"followed\": the same generation filled by a follower, 1,000 events a transaction, indexes in place: the rate at \
         which a live read model is kept up to date."
            .to_owned(),
    );
    Ok(report)
}

async fn postgres(
    scale: &Scale,
    server: &ThrowAwayPostgres,
    peer: Option<&Peer>,
    report: &mut Report,
) -> anyhow::Result<()> {
    eprintln!("rebuild: filling logs on PostgreSQL");
    let logs = Logs::postgres(server).await?;
    logs.fill(0, scale.rebuild_orders).await?;
    let url = server.create_database("query").await?;
    let mut one = one_database::Postgres::copy(&server.create_database("one").await?, &logs).await?;
    let mut beside = PgConnection::connect(&url).await.context("connect to PostgreSQL")?;
    let place = Place::new("PostgreSQL", QueryDatabase::open_postgres(&url).await?, logs);
    place.warm_up().await?;
    one.compute().await?;

    let (mut ours, mut with_history, mut theirs, mut plain) = (Times::new(), Times::new(), Times::new(), Times::new());
    for pair in 0..scale.pairs {
        eprintln!("rebuild: PostgreSQL, pair {} of {}", pair + 1, scale.pairs);
        beside.execute("checkpoint").await?;
        let loaded = place.load(without_history()).await?;
        ours.push(loaded.seconds);
        if pair == 0 {
            let rows = postgres_rows(&mut beside, &loaded.table).await?;
            one_database::ensure_same(&rows, &one.rows().await?)?;
        }
        place.drop(loaded).await?;
        one.forget().await?;
        let start = Instant::now();
        one.compute().await?;
        theirs.push(start.elapsed().as_secs_f64());
        beside.execute("checkpoint").await?;
        plain.push(ceiling::run(&place.feeds, &mut beside).await?);
        beside.execute("checkpoint").await?;
        let loaded = place.load(order_details::projection()).await?;
        with_history.push(loaded.seconds);
        place.drop(loaded).await?;
    }
    let sides = Sides { ours: &ours, with_history: &with_history, theirs: &theirs };
    let events = place.events().await?;
    sides.report(place.name, events, report);
    report.rows.push(row(place.name, "read, fold, copy", events, &plain));
    let ratio = Ratio::of(place.name, "rebuild / read, fold, copy", rates(events, &ours).zip(rates(events, &plain)));
    report.ratios.push(ratio);
    report.rows.push(row(place.name, "followed", events, &place.follow(scale).await?));
    if let Some(peer) = peer {
        let events = scale.replay_events;
        let url = server.create_database("replay").await?;
        let mut replayed = Vec::new();
        for _ in 0..scale.pairs.min(3) {
            replayed.push(peer.replay(&url, events).await?);
        }
        let rate = Number::of("per_s", replayed.iter().copied());
        let ratio = rates(place.events().await?, &ours).zip(replayed.iter().copied().cycle());
        let ratio = Ratio::of(place.name, "rebuild / the peer's replay", ratio);
        report.ratios.push(ratio.gate(Bound::AtLeast(50.0)));
        let side = format!("cqrs-es QueryReplay with postgres-es views, {events} events");
        report.rows.push(Row { case: place.name.to_owned(), side, numbers: vec![rate] });
    }
    Ok(())
}

async fn sqlite(scale: &Scale, report: &mut Report) -> anyhow::Result<()> {
    eprintln!("rebuild: filling logs on SQLite");
    let folder = tempfile::tempdir().context("a temporary directory")?;
    let logs = Logs::sqlite(folder.path())?;
    logs.fill(0, scale.rebuild_orders).await?;
    let one = one_database::Sqlite::copy(&folder.path().join("one.db"), &logs).await?;
    let place = Place::new("SQLite", QueryDatabase::open_sqlite(folder.path().join("query")).await?, logs);
    place.warm_up().await?;
    one.compute()?;
    let (mut ours, mut with_history, mut theirs) = (Times::new(), Times::new(), Times::new());
    for pair in 0..scale.pairs {
        eprintln!("rebuild: SQLite, pair {} of {}", pair + 1, scale.pairs);
        let loaded = place.load(without_history()).await?;
        ours.push(loaded.seconds);
        if pair == 0 {
            let file = read_side::query_database::generation_file(
                &folder.path().join("query"),
                "order_details",
                loaded.store.generation(),
            );
            one_database::ensure_same(&sqlite_rows(&file, &loaded.table)?, &one.rows()?)?;
        }
        place.drop(loaded).await?;
        one.forget()?;
        let start = Instant::now();
        one.compute()?;
        theirs.push(start.elapsed().as_secs_f64());
        let loaded = place.load(order_details::projection()).await?;
        with_history.push(loaded.seconds);
        place.drop(loaded).await?;
    }
    let sides = Sides { ours: &ours, with_history: &with_history, theirs: &theirs };
    let events = place.events().await?;
    sides.report(place.name, events, report);
    report.rows.push(row(place.name, "followed", events, &place.follow(scale).await?));
    Ok(())
}

struct Sides<'s> {
    ours: &'s Times,
    with_history: &'s Times,
    theirs: &'s Times,
}

impl Sides<'_> {
    fn report(&self, case: &str, events: u64, report: &mut Report) {
        report.rows.push(row(case, "rebuild", events, self.ours));
        report.rows.push(row(case, "rebuild, with history", events, self.with_history));
        report.rows.push(row(case, "one SQL statement and its indexes", events, self.theirs));
        let pairs = rates(events, self.ours).zip(rates(events, self.theirs));
        let ratio = Ratio::of(case, "rebuild / one SQL statement", pairs);
        report.ratios.push(ratio.gate(Bound::AtLeast(1.2)).goal(Bound::AtLeast(2.0)));
    }
}

fn rates(events: u64, seconds: &[f64]) -> impl Iterator<Item = f64> {
    seconds.iter().map(move |seconds| events as f64 / seconds)
}

fn row(case: &str, side: &str, events: u64, seconds: &[f64]) -> Row {
    let numbers = vec![Number::of("per_s", rates(events, seconds)), Number::of("seconds", seconds.iter().copied())];
    Row { case: case.to_owned(), side: side.to_owned(), numbers }
}

/// What the statement computes: rows, without what they were before.
fn without_history() -> Projection {
    let mut projection = order_details::projection();
    // once a measurement
    projection.template = Box::leak(Box::new(Template { history: false, ..*projection.template }));
    projection
}

/// A generation that was filled.
struct Loaded {
    store: Arc<GenerationStore>,
    table: String,
    seconds: f64,
    peak_rss_mib: f64,
}

impl Place {
    fn new(name: &'static str, database: QueryDatabase, logs: Logs) -> Self {
        let feeds = logs.feeds();
        Self { name, database, logs, feeds }
    }

    async fn events(&self) -> anyhow::Result<u64> {
        self.logs.events().await
    }

    async fn empty(&self, projection: Projection) -> anyhow::Result<Arc<GenerationStore>> {
        let projection = Arc::new(projection);
        let generation = self.database.create(&projection).await?;
        let store = self.database.store(projection, generation, StoreOptions::default(), read_side::Wake::default());
        Ok(Arc::new(store.await?))
    }

    /// For the caches, and for connections.
    async fn warm_up(&self) -> anyhow::Result<()> {
        let loaded = self.load(without_history()).await?;
        self.drop(loaded).await
    }

    async fn load(&self, projection: Projection) -> anyhow::Result<Loaded> {
        let memory = Memory::watch();
        let start = Instant::now();
        let store = self.empty(projection).await?;
        let load = Load {
            store: &store,
            feeds: &self.feeds,
            options: &LoadOptions { memory_bytes: MEMORY_BYTES, ..LoadOptions::default() },
            backoff: Backoff::default(),
            until: None,
            pace: &Pace::default(),
            hindrance: &Hindrance::default(),
            cancel: &CancellationToken::new(),
        };
        load.run(|_| {}).await?;
        let seconds = start.elapsed().as_secs_f64();
        let table = store.projection().template.table(store.generation());
        Ok(Loaded { store, table, seconds, peak_rss_mib: memory.peak_mib() })
    }

    async fn drop(&self, loaded: Loaded) -> anyhow::Result<()> {
        let (projection, generation) = (Arc::clone(loaded.store.projection()), loaded.store.generation());
        loaded.store.close().await;
        Ok(self.database.drop_generation(&projection, generation).await?)
    }

    /// Seconds in which a follower fills a generation.
    async fn follow(&self, scale: &Scale) -> anyhow::Result<Times> {
        let mut times = Times::new();
        for _ in 0..scale.pairs.min(3) {
            let start = Instant::now();
            let store = self.empty(order_details::projection()).await?;
            let followed = Arc::clone(&store) as Arc<dyn FollowerStore>;
            let follower = Follower::start("bench", self.feeds.clone(), followed, FollowerOptions::default());
            follower.caught_up().await.context("follow")?;
            while store.advance_fan_outs().await.context("fan out")? {}
            times.push(start.elapsed().as_secs_f64());
            follower.shutdown(Duration::from_secs(30)).await;
            let table = String::new();
            self.drop(Loaded { store, table, seconds: 0.0, peak_rss_mib: 0.0 }).await?;
        }
        Ok(times)
    }
}

/// The rate at many events against the rate at few, with the same memory.
pub async fn soak(scale: &Scale, server: &ThrowAwayPostgres) -> anyhow::Result<Report> {
    let [few, many] = scale.soak_orders;
    let (few_events, many_events) = (few * EVENTS_PER_ORDER, many * EVENTS_PER_ORDER);
    let title =
        format!("Rebuilding order_details from {many_events} events against {few_events}, with the same memory");
    let mut report = Report::new("rebuild-soak", &title, 1);
    let logs = Logs::postgres(server).await?;
    let url = server.create_database("query").await?;
    let mut beside = PgConnection::connect(&url).await.context("connect to PostgreSQL")?;
    let place = Place::new("PostgreSQL", QueryDatabase::open_postgres(&url).await?, logs);
    let mut measured = Vec::new();
    for (from, to) in [(0, few), (few, many)] {
        eprintln!("rebuild: filling logs up to {} events", to * EVENTS_PER_ORDER);
        place.logs.fill(from, to).await?;
        beside.execute("checkpoint").await?;
        let loaded = place.load(without_history()).await?;
        let events = place.events().await?;
        let rate = events as f64 / loaded.seconds;
        let numbers = vec![
            Number::of("per_s", [rate]),
            Number::of("seconds", [loaded.seconds]),
            Number::of("peak_rss_mib", [loaded.peak_rss_mib]),
        ];
        report.rows.push(Row { case: place.name.to_owned(), side: format!("rebuild, {events} events"), numbers });
        measured.push(rate);
        place.drop(loaded).await?;
    }
    let what = "rate at many events / rate at few";
    report.ratios.push(Ratio::of(place.name, what, [(measured[1], measured[0])]).gate(Bound::AtLeast(0.7)));
    report.notes.push(format!(
        "--rebuild-memory {} MiB. The resident memory is that of the whole benchmark, which also wrote the history.",
        MEMORY_BYTES / 1024 / 1024
    ));
    Ok(report)
}

/// Looks at the resident memory of this process until it is asked for.
struct Memory {
    peak_kib: Arc<AtomicU64>,
    ended: Arc<AtomicBool>,
}

impl Memory {
    fn watch() -> Self {
        let (peak_kib, ended) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let watching = (Arc::clone(&peak_kib), Arc::clone(&ended));
        std::thread::spawn(move || {
            while !watching.1.load(Ordering::Relaxed) {
                watching.0.fetch_max(resident_kib(), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        Self { peak_kib, ended }
    }

    fn peak_mib(self) -> f64 {
        self.peak_kib.load(Ordering::Relaxed) as f64 / 1_024.0
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
    }
}

/// 0 where the system does not tell.
fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok()).unwrap_or(0)
}

/// Every row as one JSON object, in the order of its key.
fn rows_statement(table: &str, is_postgres: bool) -> String {
    let fields: Vec<String> = one_database::COLUMNS
        .iter()
        .map(|column| match *column {
            "lines" | "reservation" | "payment" | "shipment" if is_postgres => format!("'{column}', {column}::json"),
            "lines" | "reservation" | "payment" | "shipment" => format!("'{column}', json({column})"),
            column => format!("'{column}', {column}"),
        })
        .collect();
    let object = if is_postgres { "json_build_object" } else { "json_object" };
    let cast = if is_postgres { "::text" } else { "" };
    format!("select {object}({}){cast} from {table} order by order_id", fields.join(", "))
}

async fn postgres_rows(connection: &mut PgConnection, table: &str) -> anyhow::Result<Vec<Value>> {
    let rows: Vec<String> = sqlx::query_scalar(AssertSqlSafe(rows_statement(table, true)))
        .fetch_all(connection)
        .await
        .context("read rows")?;
    rows.iter().map(|row| Ok(serde_json::from_str(row)?)).collect()
}

fn sqlite_rows(file: &Path, table: &str) -> anyhow::Result<Vec<Value>> {
    rows_of(&SqliteConnection::open(file).context("open a generation's file")?, table)
}

fn rows_of(connection: &SqliteConnection, table: &str) -> anyhow::Result<Vec<Value>> {
    let mut statement = connection.prepare(&rows_statement(table, false)).context("read rows")?;
    let rows = statement.query_map((), |row| row.get::<_, String>(0))?;
    let values: Result<Vec<Value>, _> = rows.map(|row| anyhow::Ok(serde_json::from_str(&row?)?)).collect();
    let values = values?;
    ensure!(!values.is_empty(), "{table} is empty");
    Ok(values)
}
