//! Where generations lie, and which one is live.
//!
//! PostgreSQL: one database, a set of tables per generation. SQLite: `query.db` has the pointers, each generation a
//! file of its own.
//!
//! `generations`: which there are, and which one is live. `rebuilds`: what is built, how far it is and what operators wish
//! of it. `freeze`: a generation held still for a moment. `restoring`: a generation from a copy. `schema`: what the PostgreSQL database is made of, and who may do
//! what in it.

mod freeze;
mod generations;
mod rebuilds;
mod restoring;
pub mod schema;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, LazyLock},
    time::Duration,
};

use database::Database;
use measures::DatabaseUse;
use read_side::{
    Wake,
    query_database::{self as place, SQLITE_BUSY_TIMEOUT, sqlite_version_is_safe},
    template::Template,
};
use sqlx::{
    Executor, PgPool, SqlitePool,
    migrate::Migrator,
    postgres::{PgConnectOptions, PgPoolOptions},
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

use tokio::time::timeout;

use super::{
    Doing, EngineError,
    statements::Statements,
    store::{GenerationStore, StoreOptions},
    transaction::{Pool, cut_off_wal},
};
use crate::projection::Projection;

pub(crate) use freeze::{Frozen, Snapshot};
pub use generations::Generation;
pub(crate) use rebuilds::{Figures, Wish, Wishes};
pub(crate) use restoring::{Restoring, Untaken};

static SQLITE_POINTERS: LazyLock<Migrator> =
    LazyLock::new(|| growing(sqlx::migrate!("../migrations/query/sqlite/pointers")));
static SQLITE_GENERATION: LazyLock<Migrator> =
    LazyLock::new(|| growing(sqlx::migrate!("../migrations/query/sqlite/generation")));

/// What a newer program has added does not disturb this one: migrations of the query database only add.
fn growing(mut migrator: Migrator) -> Migrator {
    migrator.set_ignore_missing(true);
    migrator
}

/// Connections of a projector to PostgreSQL: a live generation of each projection, some being built, and their fan-outs.
const POSTGRES_CONNECTIONS_MAX: u32 = 16;
/// On SQLite everybody shares one connection to the pointers, each for a moment.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);
/// A transaction of ours never idles; one that does has lost its owner, and whoever takes over waits so long for its locks.
const IDLE_IN_TRANSACTION_MAX_MS: &str = "5000";
/// Rows of a few KiB lie four or five to a page, without overflow pages. Files that are there keep theirs.
const SQLITE_PAGE_BYTES: u32 = 16 * 1024;
/// Rows of more than 2 KiB are compressed when they are written. LZ4 takes a quarter of the time of pglz, which was a third of
/// what a load costs the server; a server that was built without it goes on as it is.
const COMPRESS_FAST: &str = "select set_config(name, 'lz4', false) from pg_settings \
    where name = 'default_toast_compression' and 'lz4' = any(enumvals)";
/// Page cache of a generation's writer, in KiB (negative, as the pragma wants it).
const SQLITE_CACHE_KIB: &str = "-16384";

/// How long a WAL keeps what rows were before.
const WAL_KEPT_MAX: Duration = Duration::from_secs(30);

/// The query database, for its writer.
#[derive(Clone)]
pub struct QueryDatabase {
    place: Arc<Place>,
    figures: Arc<DatabaseUse>,
}

enum Place {
    Sqlite { directory: PathBuf, pointers: Pool },
    Postgres { pool: PgPool, database: Database },
}

impl QueryDatabase {
    /// Opens the query database in `directory`, and makes it if it is not there.
    pub async fn open_sqlite(directory: impl Into<PathBuf>) -> Result<Self, EngineError> {
        let directory = directory.into();
        tokio::fs::create_dir_all(place::generations_directory(&directory)).await.doing("make its directory")?;
        let pool = sqlite_pool(&place::pointer_file(&directory)).await.doing("open query.db")?;
        let version: String =
            sqlx::query_scalar("select sqlite_version()").fetch_one(&pool).await.doing("ask for its version")?;
        if !sqlite_version_is_safe(&version) {
            return Err(EngineError::SqliteTooOld { version });
        }
        SQLITE_POINTERS.run(&pool).await.doing("migrate query.db")?;
        migrate_live(&directory, &pool).await?;
        let figures = Arc::new(DatabaseUse::of(None));
        let pointers = looked_after(pool, &figures);
        Ok(Self { place: Arc::new(Place::Sqlite { directory, pointers }), figures })
    }

    /// Opens the query database at `url`, and makes its tables if they are not there.
    pub async fn open_postgres(url: &str) -> Result<Self, EngineError> {
        Self::open_at(&url.parse::<Database>().map_err(EngineError::Login)?).await
    }

    /// The same with a login that may change while the database is open.
    pub async fn open_at(database: &Database) -> Result<Self, EngineError> {
        let options = PgPoolOptions::new()
            .max_connections(POSTGRES_CONNECTIONS_MAX)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .test_before_acquire(false)
            .after_connect(|connection, _| Box::pin(async move { connection.execute(COMPRESS_FAST).await.map(drop) }));
        let pool = database.pool(options, with_settings);
        let mut connection = pool.acquire().await.doing("connect")?;
        if !schema::missing(&mut connection).await?.is_empty() {
            if !schema::may_migrate(&mut connection).await? {
                return Err(EngineError::NotMigrated);
            }
            schema::migrate(&mut connection).await?;
        }
        drop(connection);
        let figures = Arc::new(DatabaseUse::of(Some(POSTGRES_CONNECTIONS_MAX)));
        Ok(Self { place: Arc::new(Place::Postgres { pool, database: database.clone() }), figures })
    }

    /// What is measured of its transactions.
    pub fn figures(&self) -> &DatabaseUse {
        &self.figures
    }

    /// How to connect besides the pool, and which login that is; `None` on SQLite, where there is one process.
    pub(crate) fn login(&self) -> Option<(u64, PgConnectOptions)> {
        match &*self.place {
            Place::Sqlite { .. } => None,
            Place::Postgres { database, .. } => Some((database.version(), with_settings(database.options()))),
        }
    }

    /// One generation, to be followed into.
    pub async fn store(
        &self,
        projection: Arc<Projection>,
        generation: i64,
        options: StoreOptions,
        wake: Wake,
    ) -> Result<GenerationStore, EngineError> {
        let pool = self.generation_pool(projection.template, generation).await?;
        Ok(GenerationStore::new(projection, generation, (pool, self.pointers()), options, wake))
    }

    /// Releases what [`Self::store`] has opened.
    pub(crate) async fn close_generation(&self, pool: &Pool) {
        match &*self.place {
            Place::Sqlite { .. } => pool.close().await,
            // all generations share it
            Place::Postgres { .. } => {}
        }
    }

    /// Closes every connection.
    pub async fn close(&self) {
        self.pointers().close().await;
    }

    pub(super) fn pointers(&self) -> Pool {
        match &*self.place {
            Place::Sqlite { pointers, .. } => pointers.clone(),
            Place::Postgres { pool, .. } => Pool::postgres(pool.clone(), &self.figures),
        }
    }

    fn statements(&self, projection: &Projection, generation: i64) -> Statements {
        let postgres = matches!(&*self.place, Place::Postgres { .. });
        Statements::new(projection.template, generation, &projection.sources(), postgres)
    }

    async fn generation_pool(&self, template: &Template, generation: i64) -> Result<Pool, EngineError> {
        match &*self.place {
            Place::Sqlite { directory, .. } => {
                let pool = sqlite_pool(&place::generation_file(directory, template.name, generation)).await;
                let pool = pool.doing("open a generation's file")?;
                SQLITE_GENERATION.run(&pool).await.doing("migrate a generation's file")?;
                Ok(looked_after(pool, &self.figures))
            }
            Place::Postgres { pool, .. } => Ok(Pool::postgres(pool.clone(), &self.figures)),
        }
    }
}

fn with_settings(options: PgConnectOptions) -> PgConnectOptions {
    options.application_name("tributary projector").options([
        ("idle_in_transaction_session_timeout", IDLE_IN_TRANSACTION_MAX_MS),
        // folds read a few rows by key: compiling that costs more than running it
        ("jit", "off"),
        // a plan that was made while a generation was empty reads all of it later
        ("plan_cache_mode", "force_custom_plan"),
    ])
}

/// The files of the live generations, also of those that another version has made and that nobody writes here: readers ask
/// them for what has come since, too.
async fn migrate_live(directory: &Path, pointers: &SqlitePool) -> Result<(), EngineError> {
    let live = "select name, live_generation from read_models where live_generation is not null";
    let live: Vec<(String, i64)> = sqlx::query_as(live).fetch_all(pointers).await.doing("read the pointers")?;
    for (read_model, generation) in live {
        let file = place::generation_file(directory, &read_model, generation);
        if file.exists() {
            let pool = sqlite_pool(&file).await.doing("open a generation's file")?;
            SQLITE_GENERATION.run(&pool).await.doing("migrate a generation's file")?;
            pool.close().await;
        }
    }
    Ok(())
}

/// One writing connection: SQLite has one writer, and a second would only wait for it.
async fn sqlite_pool(file: &Path) -> Result<SqlitePool, sqlx::Error> {
    let pool = SqlitePoolOptions::new()
        .max_connections(1)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .test_before_acquire(false)
        .connect_with(sqlite_writer(file).create_if_missing(true))
        .await?;
    Ok(pool)
}

/// A pool whose WAL is looked after, for as long as somebody has the pool.
fn looked_after(pool: SqlitePool, figures: &Arc<DatabaseUse>) -> Pool {
    let task = tokio::spawn(cut_off_wal_every_so_often(pool.clone()));
    Pool::sqlite(pool, figures).kept_by(&task)
}

fn sqlite_writer(file: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(file)
        .page_size(SQLITE_PAGE_BYTES)
        .journal_mode(SqliteJournalMode::Wal)
        // a read model is made from the logs: what a power cut takes is made again, with its checkpoint
        .synchronous(SqliteSynchronous::Normal)
        .pragma("cache_size", SQLITE_CACHE_KIB)
        // who was erased is overwritten, not only forgotten
        .pragma("secure_delete", "on")
        .busy_timeout(SQLITE_BUSY_TIMEOUT)
}

/// Ends when the pool is closed.
async fn cut_off_wal_every_so_often(pool: SqlitePool) {
    let closed = pool.close_event();
    tokio::pin!(closed);
    while timeout(WAL_KEPT_MAX, &mut closed).await.is_err() {
        cut_off_wal(&pool).await;
    }
}

/// For what is shown; nothing depends on it.
pub(crate) fn now_us() -> i64 {
    use event_store::clock::{Clock, SystemClock};
    SystemClock.now().timestamp_micros()
}
