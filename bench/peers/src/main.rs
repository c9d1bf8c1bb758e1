//! Measures cqrs-es with postgres-es: the `execute` of the framework on a PostgreSQL that is given to it.
//!
//! Prints one JSON object a line for each measurement. `bench` of the main workspace runs it between its own
//! measurements, on the same server; it can also be run by hand.

mod replay;
#[path = "../../src/serving.rs"]
mod serving;
#[path = "../../src/workload.rs"]
mod workload;

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use axum::{
    Json, Router,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::post,
};
use clap::{Args, Parser, Subcommand};
use cqrs_es::Aggregate;
use postgres_es::{PostgresCqrs, default_postgress_pool, postgres_cqrs};
use sqlx::{
    PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use workload::{Account, Deposit, PREPARED_EVENTS, Plan, Streams, measure, prepared_stream};

/// Rows of one statement while streams are prepared: bounds the memory of its arrays.
const PREPARE_ROWS_MAX: usize = 10_000;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
#[command(about = "Measures cqrs-es 0.5 with postgres-es 0.5 on PostgreSQL")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Makes the tables as postgres-es documents them, and streams of three events each.
    Prepare {
        #[command(flatten)]
        database: Database,
    },
    /// Measures `execute`, once for every pool size.
    Run {
        #[command(flatten)]
        database: Database,
        /// Which streams: hot, cold or fresh. postgres-es loads a stream before every command in each case.
        #[arg(long, default_value = "hot")]
        streams: Streams,
        /// Tasks that each send one command after another.
        #[arg(long, default_value_t = 32)]
        tasks: u64,
        /// Sizes of the connection pool.
        #[arg(long, value_delimiter = ',', default_value = "8,16,32")]
        pool: Vec<u32>,
        /// Measure once more with the pool that postgres-es makes itself: 10 connections, a ping before each use.
        #[arg(long)]
        documented_pool: bool,
        /// Counted time of one measurement, in milliseconds.
        #[arg(long, default_value_t = 3_000)]
        duration_ms: u64,
        /// Time before that, in milliseconds.
        #[arg(long, default_value_t = 500)]
        warm_up_ms: u64,
    },
    /// Replays events of orders, four each, into views from nothing; prints how many a second.
    Replay {
        #[arg(long)]
        url: String,
        #[arg(long, default_value_t = 20_000)]
        events: u64,
    },
    /// Serves `POST /accounts/{id}/deposits` until standard input ends; prints the address.
    Serve {
        #[arg(long)]
        url: String,
        /// Size of the connection pool; without it, the pool that postgres-es makes itself.
        #[arg(long)]
        pool: Option<u32>,
    },
}

#[derive(Args)]
struct Database {
    /// `postgres://user:password@host:port/database`, a database of its own.
    #[arg(long)]
    url: String,
    /// Streams to prepare, and to send commands to.
    #[arg(long, default_value_t = 20_000)]
    prepared: u64,
    /// Number of the first of them: every measurement has streams of its own, so that they stay short.
    #[arg(long, default_value_t = 0)]
    first: u64,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Prepare { database } => prepare(&database).await,
        Command::Run { database, streams, tasks, pool, documented_pool, duration_ms, warm_up_ms } => {
            let plan = Plan {
                streams,
                tasks,
                prepared: database.prepared,
                first: database.first,
                warm_up: Duration::from_millis(warm_up_ms),
                duration: Duration::from_millis(duration_ms),
            };
            for connections in pool {
                run(connect(&database.url, connections).await?, plan).await?;
            }
            if documented_pool {
                run(default_postgress_pool(&database.url).await, plan).await?;
            }
            Ok(())
        }
        Command::Replay { url, events } => replay::run(connect(&url, 8).await?, events).await,
        Command::Serve { url, pool: Some(connections) } => serve(connect(&url, connections).await?).await,
        Command::Serve { url, pool: None } => serve(default_postgress_pool(&url).await).await,
    }
}

async fn connect(url: &str, connections: u32) -> anyhow::Result<PgPool> {
    let options: PgConnectOptions = url.parse().context("read --url")?;
    PgPoolOptions::new()
        .max_connections(connections)
        .min_connections(connections)
        // the default asks the server before every use: one round trip more, and this is the peer's best
        .test_before_acquire(false)
        // a task in the queue of a full pool waits; giving up would only end the measurement
        .acquire_timeout(Duration::from_secs(60))
        .connect_with(options)
        .await
        .context("connect to PostgreSQL")
}

/// The DDL of postgres-es 0.5 (`db/init.sql`), without the tables that plain event mode does not use.
pub(crate) const EVENTS_TABLE: &str = "
create table if not exists events
(
    aggregate_type text                         not null,
    aggregate_id   text                         not null,
    sequence       bigint check (sequence >= 0) not null,
    event_type     text                         not null,
    event_version  text                         not null,
    payload        json                         not null,
    metadata       json                         not null,
    primary key (aggregate_type, aggregate_id, sequence)
)";

async fn prepare(database: &Database) -> anyhow::Result<()> {
    let pool = connect(&database.url, 1).await?;
    sqlx::query(EVENTS_TABLE).execute(&pool).await.context("make the events table")?;
    let numbers: Vec<u64> = (database.first..database.first + database.prepared).collect();
    for numbers in numbers.chunks(PREPARE_ROWS_MAX) {
        let ids: Vec<String> = numbers.iter().copied().map(prepared_stream).collect();
        let Deposit { amount_minor, reference, memo, opens: _ } = Deposit::sample(100, false);
        let event = workload::AccountEvent::Deposited { amount_minor, reference, memo };
        sqlx::query(
            "insert into events (aggregate_type, aggregate_id, sequence, event_type, event_version, payload, metadata)
             select $1, id, sequence, 'Deposited', '1', $2, '{}'
             from unnest($3::text[]) as id, generate_series(1, $4) as sequence",
        )
        .bind(Account::TYPE)
        .bind(serde_json::to_value(&event)?)
        .bind(&ids)
        .bind(PREPARED_EVENTS as i64)
        .execute(&pool)
        .await
        .context("prepare streams")?;
    }
    sqlx::query("vacuum analyze events").execute(&pool).await.context("analyze the events table")?;
    Ok(())
}

/// One measurement in plain event mode. The snapshot modes are left out because they are wrong, not because they are
/// slow: `EventSink::write` applies an event at once and they apply it again.
async fn run(pool: PgPool, plan: Plan) -> anyhow::Result<()> {
    let connections = pool.options().get_max_connections();
    let framework = Arc::new(postgres_cqrs::<Account>(pool.clone(), Vec::new(), ()));
    let measured = measure("cqrs-es + postgres-es", connections, plan, move |stream, command| {
        let framework = Arc::clone(&framework);
        async move { framework.execute(&stream, command).await }
    })
    .await
    .context("execute a command")?;
    pool.close().await;
    println!("{}", serde_json::to_string(&measured)?);
    Ok(())
}

type Accounts = State<Arc<PostgresCqrs<Account>>>;

/// The same commands over HTTP, as the documentation of the framework has them behind axum.
async fn serve(pool: PgPool) -> anyhow::Result<()> {
    let framework = Arc::new(postgres_cqrs::<Account>(pool.clone(), Vec::new(), ()));
    let router = Router::new().route("/accounts/{id}/deposits", post(deposit)).with_state(framework);
    serving::serve(router).await?;
    pool.close().await;
    Ok(())
}

async fn deposit(State(accounts): Accounts, Path(id): Path<String>, Json(command): Json<Deposit>) -> Response {
    match accounts.execute(&id, command).await {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(error) => (StatusCode::BAD_REQUEST, error.to_string()).into_response(),
    }
}
