//! Where generations lie, and which one is live.
//!
//! PostgreSQL: one database, a set of tables per generation. SQLite: `query.db` has the pointers, each generation a
//! file of its own. A generation is announced before it is made, so what a crash leaves half-made has a name and is
//! removed at the next start.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use read_side::{
    Wake,
    query_database::{self as place, SQLITE_BUSY_TIMEOUT, sqlite_version_is_safe},
    template::Template,
};
use sqlx::{
    PgPool, SqlitePool,
    migrate::Migrator,
    postgres::{PgConnectOptions, PgPoolOptions},
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

use tokio::time::timeout;

use super::{
    Doing, EngineError,
    statements::Statements,
    store::{GenerationStore, StoreOptions},
    transaction::{Pool, Texts, Value, cut_off_wal},
};
use crate::projection::Projection;

static SQLITE_POINTERS: Migrator = sqlx::migrate!("../migrations/query/sqlite/pointers");
static SQLITE_GENERATION: Migrator = sqlx::migrate!("../migrations/query/sqlite/generation");
static POSTGRES: Migrator = sqlx::migrate!("../migrations/query/postgres");

/// Connections of a projector to PostgreSQL: a live and a building generation of a few projections.
const POSTGRES_CONNECTIONS_MAX: u32 = 8;
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);
/// A transaction of ours never idles; one that does has lost its owner.
const IDLE_IN_TRANSACTION_MAX_MS: &str = "60000";
/// Page cache of a generation's writer, in KiB (negative, as the pragma wants it).
const SQLITE_CACHE_KIB: &str = "-16384";

/// How long a WAL keeps what rows were before.
const WAL_KEPT_MAX: Duration = Duration::from_secs(30);

/// The query database, for its writer.
#[derive(Clone)]
pub struct QueryDatabase {
    place: Arc<Place>,
}

enum Place {
    Sqlite { directory: PathBuf, pointers: Pool },
    Postgres { pool: PgPool },
}

/// One generation of a read model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Generation {
    pub generation: i64,
    /// `VERSION` of the fold that makes it.
    pub version: i64,
    /// `building`, `live`, `retired` or `failed`.
    pub state: String,
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
        Ok(Self { place: Arc::new(Place::Sqlite { directory, pointers: Pool::sqlite(pool) }) })
    }

    /// Opens the query database at `url`, and makes its tables if they are not there.
    pub async fn open_postgres(url: &str) -> Result<Self, EngineError> {
        let options = url.parse::<PgConnectOptions>().doing("read its URL")?;
        let options = options.application_name("tributary projector").options([
            ("idle_in_transaction_session_timeout", IDLE_IN_TRANSACTION_MAX_MS),
            // folds read a few rows by key: compiling that costs more than running it
            ("jit", "off"),
        ]);
        let pool = PgPoolOptions::new()
            .max_connections(POSTGRES_CONNECTIONS_MAX)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .test_before_acquire(false)
            .connect_with(options)
            .await
            .doing("connect")?;
        POSTGRES.run(&pool).await.doing("migrate")?;
        Ok(Self { place: Arc::new(Place::Postgres { pool }) })
    }

    /// The live generation, if there is one.
    pub async fn live(&self, template: &Template) -> Result<Option<Generation>, EngineError> {
        let statement = "select cast(g.generation as text), cast(g.version as text), g.state from read_models m \
             join generations g on g.read_model = m.name and g.generation = m.live_generation where m.name = $1";
        Ok(self.fetch_generations(statement, template).await?.pop())
    }

    /// Every generation there is, in order.
    pub async fn generations(&self, template: &Template) -> Result<Vec<Generation>, EngineError> {
        let statement = "select cast(generation as text), cast(version as text), state from generations \
             where read_model = $1 order by generations.generation";
        self.fetch_generations(statement, template).await
    }

    async fn fetch_generations(&self, statement: &str, template: &Template) -> Result<Vec<Generation>, EngineError> {
        let mut transaction = self.pointers().begin_snapshot().await.doing("begin")?;
        let rows = transaction.fetch(&statement.into(), &[Value::Text(template.name)]).await;
        transaction.rollback().await;
        let rows = rows.doing("read generations")?;
        rows.iter().map(generation).collect()
    }

    /// Makes an empty generation, in the state `building`: the number behind the last.
    pub async fn create(&self, projection: &Projection) -> Result<i64, EngineError> {
        let template = projection.template;
        let generation = self.generations(template).await?.last().map_or(1, |last| last.generation + 1);
        let announce = "insert into generations (read_model, generation, version, state, created_at_us) \
             values ($1, $2, $3, 'building', $4)";
        let values = [
            Value::Text(template.name),
            Value::Integer(generation),
            Value::Integer(i64::from(projection.version)),
            Value::Integer(now_us()),
        ];
        let mut transaction = self.pointers().begin().await.doing("begin")?;
        transaction.execute(&announce.into(), &values).await.doing("announce a generation")?;
        transaction.commit().await.doing("announce a generation")?;
        let pool = self.generation_pool(template, generation).await?;
        let statements = self.statements(projection, generation);
        let mut transaction = pool.begin().await.doing("begin")?;
        for statement in statements.create_tables.iter().chain(&statements.create_indexes) {
            transaction.execute(statement, &[]).await.doing("make a generation's tables")?;
        }
        transaction.commit().await.doing("make a generation's tables")?;
        self.close_generation(&pool).await;
        Ok(generation)
    }

    /// Whether a generation was made to the end.
    pub async fn is_complete(&self, projection: &Projection, generation: i64) -> Result<bool, EngineError> {
        if let Place::Sqlite { directory, .. } = &*self.place
            && !place::generation_file(directory, projection.template.name, generation).exists()
        {
            return Ok(false);
        }
        let pool = self.generation_pool(projection.template, generation).await?;
        let mut transaction = pool.begin_snapshot().await.doing("begin")?;
        let statement: Arc<str> =
            "select cast(fence as text) from fences where read_model = $1 and generation = $2".into();
        let values = [Value::Text(projection.template.name), Value::Integer(generation)];
        let found = transaction.fetch(&statement, &values).await;
        transaction.rollback().await;
        self.close_generation(&pool).await;
        Ok(!found.doing("look at a generation")?.is_empty())
    }

    /// Makes `generation` the live one, in one transaction, if the live one is still `from`. The one before stays, to
    /// go back to.
    pub async fn swap(&self, template: &Template, from: Option<i64>, generation: i64) -> Result<(), EngineError> {
        let mut transaction = self.pointers().begin().await.doing("begin")?;
        let point: Arc<str> = "insert into read_models (name, live_generation, previous_generation, swapped_at_us) \
             values ($1, $2, null, $3) \
             on conflict (name) do update set previous_generation = read_models.live_generation, \
                live_generation = excluded.live_generation, swapped_at_us = excluded.swapped_at_us \
             where read_models.live_generation is not distinct from $4"
            .into();
        let values = [
            Value::Text(template.name),
            Value::Integer(generation),
            Value::Integer(now_us()),
            Value::MaybeInteger(from),
        ];
        if transaction.execute(&point, &values).await.doing("swap generations")? != 1 {
            transaction.rollback().await;
            let reason = format!("generation {from:?} of {} is not live any more: no swap", template.name);
            return Err(EngineError::Damaged(reason));
        }
        let states: Arc<str> =
            "update generations set state = case when generation = $2 then 'live' else 'retired' end \
             where read_model = $1 and (generation = $2 or state = 'live')"
                .into();
        let values = [Value::Text(template.name), Value::Integer(generation)];
        transaction.execute(&states, &values).await.doing("swap generations")?;
        transaction.commit().await.doing("swap generations")
    }

    /// Marks a generation that must not become live, and why.
    pub async fn fail(&self, template: &Template, generation: i64, reason: &str) -> Result<(), EngineError> {
        let statement: Arc<str> = "update generations set state = 'failed', reason = $3 \
             where read_model = $1 and generation = $2 and state = 'building'"
            .into();
        let values = [Value::Text(template.name), Value::Integer(generation), Value::Text(reason)];
        let mut transaction = self.pointers().begin().await.doing("begin")?;
        transaction.execute(&statement, &values).await.doing("mark a generation")?;
        transaction.commit().await.doing("mark a generation")
    }

    /// Removes a generation that is not live. Its last readers may see it go, and read the live one.
    pub async fn drop_generation(&self, projection: &Projection, generation: i64) -> Result<(), EngineError> {
        let template = projection.template;
        assert!(self.live(template).await?.map(|live| live.generation) != Some(generation), "the live one stays");
        match &*self.place {
            Place::Sqlite { directory, .. } => {
                let file = place::generation_file(directory, template.name, generation);
                for suffix in ["", "-wal", "-shm"] {
                    let mut name = file.as_os_str().to_owned();
                    name.push(suffix);
                    match tokio::fs::remove_file(PathBuf::from(name)).await {
                        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                            return Err(error).doing("remove a generation's file");
                        }
                        _ => {}
                    }
                }
            }
            Place::Postgres { pool } => {
                let statements = self.statements(projection, generation);
                let mut transaction = Pool::postgres(pool.clone()).begin().await.doing("begin")?;
                for statement in &statements.drop {
                    transaction.execute(statement, &[]).await.doing("drop a generation's tables")?;
                }
                transaction.commit().await.doing("drop a generation's tables")?;
            }
        }
        let forget: Arc<str> = "delete from generations where read_model = $1 and generation = $2".into();
        let values = [Value::Text(template.name), Value::Integer(generation)];
        let mut transaction = self.pointers().begin().await.doing("begin")?;
        transaction.execute(&forget, &values).await.doing("forget a generation")?;
        transaction.commit().await.doing("forget a generation")
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
            Place::Postgres { pool } => Pool::postgres(pool.clone()),
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
                Ok(Pool::sqlite(pool))
            }
            Place::Postgres { pool } => Ok(Pool::postgres(pool.clone())),
        }
    }
}

/// One writing connection: SQLite has one writer, and a second would only wait for it.
async fn sqlite_pool(file: &Path) -> Result<SqlitePool, sqlx::Error> {
    let options = SqliteConnectOptions::new()
        .filename(file)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        // a read model is made from the logs: what a power cut takes is made again, with its checkpoint
        .synchronous(SqliteSynchronous::Normal)
        .pragma("cache_size", SQLITE_CACHE_KIB)
        // who was erased is overwritten, not only forgotten
        .pragma("secure_delete", "on")
        .busy_timeout(SQLITE_BUSY_TIMEOUT);
    let pool = SqlitePoolOptions::new()
        .max_connections(1)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .test_before_acquire(false)
        .connect_with(options)
        .await?;
    tokio::spawn(cut_off_wal_every_so_often(pool.clone()));
    Ok(pool)
}

/// Ends when the pool is closed.
async fn cut_off_wal_every_so_often(pool: SqlitePool) {
    let closed = pool.close_event();
    tokio::pin!(closed);
    while timeout(WAL_KEPT_MAX, &mut closed).await.is_err() {
        cut_off_wal(&pool).await;
    }
}

fn generation(row: &Texts) -> Result<Generation, EngineError> {
    let number = |place: usize| row.get(place)?.as_deref()?.parse().ok();
    let read = || Some(Generation { generation: number(0)?, version: number(1)?, state: row.get(2)?.clone()? });
    read().ok_or_else(|| EngineError::Damaged("generations hold something that this version does not write".to_owned()))
}

/// For what is shown; nothing depends on it.
fn now_us() -> i64 {
    use event_store::clock::{Clock, SystemClock};
    SystemClock.now().timestamp_micros()
}
