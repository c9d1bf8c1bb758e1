//! The log on PostgreSQL: one database per service, any number of processes.
//!
//! - [`migrate`]: makes the tables, the append function and the roles' rights; safe to run from many processes at once.
//! - [`adopt`]: makes a log of what postgres-es has written and goes on writing.
//! - `commit`: one call of `append_batch` per batch, on one connection that writes and does nothing else.
//! - `read`: pages, streams, stored outcomes and the hash chain, on a small pool that never opens a transaction; the
//!   pool also calls `forget_commands`, which waits for nobody and which nobody waits for.
//! - `beside`: snapshots and the keys of persons, on the same pool.
//! - `contents`: all of it, for a backup; `restore`: a log made of a backup.
//! - `wake`: how a waiting reader learns that there is more.
//!
//! But for migrations and backups, which have connections of their own, nothing opens an explicit transaction: a future that is dropped half-way would leave it open on a pooled
//! connection, and the next autocommit write on that connection would be acknowledged and lost. And no write uses
//! `fetch_one`: it returns with the row, which the server sends *before* it commits; only the end of the answer says
//! that the commit is done.

pub mod adopt;
mod beside;
mod commit;
mod contents;
pub mod migrate;
mod read;
mod restore;
mod wake;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use database::{Database, LoginError};
use events::envelope::{Name, RecordedEvent, StreamId};
use sqlx::{
    ConnectOptions, Connection, PgConnection, PgPool, Row,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use thiserror::Error;
use uuid::Uuid;

use crate::{
    backup::Contents,
    batch_hash::{ChainCheck, ChainStep},
    feed::{Cursor, Feed, FeedError, FeedPage, PageLimit},
    figures::LogFigures,
    log::{
        AppendOutcome, Batch, CommitError, EventLog, ForgetError, LogError, LogIdentity, Source as Cause,
        StoredOutcome, Sweep, Swept,
    },
};

/// The oldest server that is supported: the SQL was written and measured on it.
pub const SERVER_VERSION_MIN: i32 = 15;

/// How a log on PostgreSQL is opened.
#[derive(Debug, Clone)]
pub struct PostgresOptions {
    /// Whether missing migrations are run, if this connection has the right to; else they are an error.
    pub migrate: bool,
    /// Connections for reading. The writer has one more of its own.
    pub read_connections_max: u32,
    /// The longest a connection is waited for, from the pool or from the server.
    pub connect_timeout: Duration,
    /// The longest a statement may run on the server.
    pub statement_timeout: Duration,
    /// The longest the head of the log is waited for, behind other writers.
    pub lock_timeout: Duration,
}

impl Default for PostgresOptions {
    fn default() -> Self {
        Self {
            migrate: true,
            read_connections_max: 4,
            connect_timeout: Duration::from_secs(5),
            statement_timeout: Duration::from_secs(30),
            lock_timeout: Duration::from_secs(10),
        }
    }
}

/// The log of one service in a PostgreSQL database of its own.
pub struct PostgresLog {
    identity: LogIdentity,
    figures: Arc<LogFigures>,
    /// For what needs a connection of its own.
    database: Database,
    options: PostgresOptions,
    writer: commit::Writer,
    reader: read::Reader,
    wake: wake::Wake,
}

impl PostgresLog {
    /// Opens the log of the service `source` in the database at `url`, and makes its tables if they are missing.
    pub async fn connect(url: &str, source: &str, options: PostgresOptions) -> Result<Arc<Self>, OpenError> {
        Self::open(&url.parse().map_err(OpenError::Login)?, source, options).await
    }

    /// The same with a login that may change while the log is open.
    pub async fn open(database: &Database, source: &str, options: PostgresOptions) -> Result<Arc<Self>, OpenError> {
        let mut connection = open(&named(database.options()), &options).await?;
        check_server(&mut connection).await?;
        let missing = migrate::missing(&mut connection).await.map_err(OpenError::Migrate)?;
        if !missing.is_empty() {
            if !options.migrate {
                return Err(OpenError::NotMigrated { missing });
            }
            match migrate::run(&mut connection, source, None).await {
                // a role that owns nothing
                Err(error) if error.is_forbidden() => return Err(OpenError::NotMigrated { missing }),
                run => run.map_err(OpenError::Migrate)?,
            }
        }
        let identity = read_identity(&mut connection).await.map_err(OpenError::Identity)?;
        connection.close().await.map_err(OpenError::Unavailable)?;
        identity_is_of(source, &identity)?;
        let figures = Arc::new(LogFigures::of(options.read_connections_max));
        let reader = read::Reader::new(read_pool(database, &options), identity.source.clone(), Arc::clone(&figures));
        let writer = commit::Writer::new(database.clone(), &options);
        let (database, wake) = (database.clone(), wake::Wake::default());
        Ok(Arc::new(Self { identity, figures, database, options, writer, reader, wake }))
    }

    /// Makes the tables with an administrator's rights. With a `service_role`, which must exist, they belong to a role
    /// that nobody can log in as, and the service role may read them, append, and forget old answers,
    /// nothing else; then open the log with [`PostgresOptions::migrate`] off.
    pub async fn migrate(admin_url: &str, source: &str, service_role: Option<&str>) -> Result<(), OpenError> {
        let admin: Database = admin_url.parse().map_err(OpenError::Login)?;
        let mut connection = open(&named(admin.options()), &PostgresOptions::default()).await?;
        check_server(&mut connection).await?;
        migrate::run(&mut connection, source, service_role).await.map_err(OpenError::Migrate)?;
        let identity = read_identity(&mut connection).await.map_err(OpenError::Identity)?;
        connection.close().await.map_err(OpenError::Unavailable)?;
        identity_is_of(source, &identity)
    }

    /// Closes every connection, once running calls are done. Later calls fail.
    pub async fn close(&self) {
        self.writer.close().await;
        self.reader.close().await;
    }
}

#[async_trait]
impl EventLog for PostgresLog {
    fn identity(&self) -> &LogIdentity {
        &self.identity
    }

    fn figures(&self) -> &LogFigures {
        &self.figures
    }

    async fn commit(&self, batch: Arc<Batch>) -> Result<Vec<AppendOutcome>, CommitError> {
        let outcomes = self.figures.appended(self.writer.commit(&batch)).await?;
        let last = outcomes.iter().filter_map(|outcome| match outcome {
            AppendOutcome::Appended { position, .. } => Some(*position),
            _ => None,
        });
        if let Some(position) = last.max() {
            self.wake.head_is(position);
        }
        Ok(outcomes)
    }

    async fn read_stream(&self, stream: &StreamId, after: u64, limit: usize) -> Result<Vec<RecordedEvent>, LogError> {
        self.figures.read(self.reader.stream(stream, after, limit)).await
    }

    async fn stored_outcome(&self, scope: &str, key: &str) -> Result<Option<StoredOutcome>, LogError> {
        self.figures.read(self.reader.stored_outcome(scope, key)).await
    }

    async fn forget_commands(&self, sweep: Sweep) -> Result<Swept, ForgetError> {
        self.reader.forget_commands(&sweep).await
    }

    fn contents(&self) -> Contents {
        contents::of(with_backup_settings(self.database.options(), &self.options))
    }

    async fn follow_chain(&self, check: ChainCheck) -> Result<ChainStep, LogError> {
        self.reader.follow_chain(check).await
    }
}

#[async_trait]
impl Feed for PostgresLog {
    fn source(&self) -> &Name {
        &self.identity.source
    }

    async fn page(&self, after: Cursor, limit: PageLimit, wait: Duration) -> Result<FeedPage, FeedError> {
        let deadline = tokio::time::Instant::now() + wait.min(PageLimit::WAIT_MAX);
        loop {
            let news = self.wake.subscribe();
            let page = self.figures.paged(self.reader.page(after, limit)).await?;
            let head = page.head.position;
            if !page.events.is_empty() || !self.wake.moved_from(head, news, &self.reader, deadline).await {
                return Ok(page);
            }
        }
    }
}

/// Why a log could not be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    #[error(transparent)]
    Login(LoginError),
    #[error("connect to PostgreSQL: {0}")]
    Unavailable(#[source] sqlx::Error),
    #[error("connect to PostgreSQL: no answer within {0:?}")]
    Timeout(Duration),
    #[error("the server is PostgreSQL {found}; at least {SERVER_VERSION_MIN} is needed")]
    ServerVersion { found: String },
    #[error(
        "the database is encoded in {found}; it must be UTF8 (create database ... encoding 'UTF8' template template0)"
    )]
    Encoding { found: String },
    #[error(
        "the log's tables are missing or old ({}), and this role may not make them: run `tributary migrate`",
        missing.join(", ")
    )]
    NotMigrated { missing: Vec<&'static str> },
    #[error("migrate the log: {0}")]
    Migrate(#[source] migrate::MigrateError),
    #[error("read who the log is: {0}")]
    Identity(#[source] sqlx::Error),
    #[error("the database holds the log of {found}, not of {expected}")]
    OtherSource { expected: String, found: String },
}

fn named(target: PgConnectOptions) -> PgConnectOptions {
    target.application_name("tributary").disable_statement_logging()
}

/// Settings of every connection. No statement is part of a transaction, so one that stays open is a fault that the
/// server ends; and it looks for clients that went away while they wait for a lock.
fn with_common_settings(target: PgConnectOptions, options: &PostgresOptions) -> PgConnectOptions {
    let statement_timeout_ms = options.statement_timeout.as_millis().to_string();
    let lock_timeout_ms = options.lock_timeout.as_millis().to_string();
    named(target).options([
        ("statement_timeout", statement_timeout_ms.as_str()),
        ("lock_timeout", lock_timeout_ms.as_str()),
        ("idle_in_transaction_session_timeout", "10s"),
        ("default_transaction_isolation", "read committed"),
        ("jit", "off"),
        // to the letter what append_event asks for
        ("search_path", "public, pg_temp"),
    ])
}

/// A snapshot is read for as long as it takes; that nobody takes what was read ends it after
/// [`TAKE_MAX`](crate::backup::TAKE_MAX).
fn with_backup_settings(target: PgConnectOptions, options: &PostgresOptions) -> PgConnectOptions {
    with_common_settings(target, options)
        .options([("statement_timeout", "0"), ("idle_in_transaction_session_timeout", "120s")])
}

/// Every plan is made once, perhaps on an empty table, and must be right when it grows.
fn with_writer_settings(target: PgConnectOptions, options: &PostgresOptions) -> PgConnectOptions {
    with_common_settings(target, options).options([
        ("client_connection_check_interval", "2s"),
        ("plan_cache_mode", "force_generic_plan"),
        ("enable_seqscan", "off"),
        ("enable_bitmapscan", "off"),
    ])
}

/// Every read is an index look-up. Its plan is made once, perhaps on an empty table, and must be right when it grows;
/// and only a plan without parallel workers keeps the order of a page's two parts.
fn read_pool(database: &Database, options: &PostgresOptions) -> PgPool {
    let pool = PgPoolOptions::new()
        .max_connections(options.read_connections_max)
        .acquire_timeout(options.connect_timeout)
        .test_before_acquire(false);
    let options = options.clone();
    database.pool(pool, move |target| {
        with_common_settings(target, &options).options([
            ("enable_seqscan", "off"),
            ("enable_bitmapscan", "off"),
            ("max_parallel_workers_per_gather", "0"),
        ])
    })
}

async fn open(target: &PgConnectOptions, options: &PostgresOptions) -> Result<PgConnection, OpenError> {
    match tokio::time::timeout(options.connect_timeout, target.connect()).await {
        Ok(connected) => connected.map_err(OpenError::Unavailable),
        Err(_) => Err(OpenError::Timeout(options.connect_timeout)),
    }
}

async fn check_server(connection: &mut PgConnection) -> Result<(), OpenError> {
    const QUERY: &str = "select current_setting('server_version'), current_setting('server_version_num')::int4, \
                         current_setting('server_encoding')";
    let row = sqlx::query(QUERY).fetch_one(connection).await.map_err(OpenError::Unavailable)?;
    let number: i32 = row.try_get(1).map_err(OpenError::Unavailable)?;
    if number / 10_000 < SERVER_VERSION_MIN {
        return Err(OpenError::ServerVersion { found: row.try_get(0).map_err(OpenError::Unavailable)? });
    }
    let found: String = row.try_get(2).map_err(OpenError::Unavailable)?;
    if found != "UTF8" {
        return Err(OpenError::Encoding { found });
    }
    Ok(())
}

async fn read_identity(connection: &mut PgConnection) -> Result<LogIdentity, sqlx::Error> {
    const QUERY: &str = "select source, epoch, fingerprint_key from public.log_head cross join public.log_key";
    let row = sqlx::query(QUERY).fetch_one(connection).await?;
    let source: &str = row.try_get(0)?;
    let epoch: Uuid = row.try_get(1)?;
    let fingerprint_key: [u8; 32] = row.try_get(2)?;
    Ok(LogIdentity { source: source.into(), epoch, fingerprint_key })
}

fn identity_is_of(source: &str, identity: &LogIdentity) -> Result<(), OpenError> {
    if *identity.source == *source {
        return Ok(());
    }
    Err(OpenError::OtherSource { expected: source.to_owned(), found: identity.source.to_string() })
}

/// Any error as the cause of one of ours.
fn cause(error: impl Into<Cause>) -> Cause {
    error.into()
}
