//! The handle to the query database, and the one way it is read.
//!
//! Pointer, checkpoint and rows come out of one statement, so out of one snapshot. Which generation is live is
//! remembered from the last read and put into the statement as a guess; the statement says which one it really was. A
//! wrong guess, or a table that is gone, is read again. On SQLite the pointer lies in another file, attached to each
//! connection.

use std::{
    borrow::Cow,
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use events::{consistency::ConsistencyToken, ids::CustomerId, principal::Principal};
use measures::DatabaseUse;
use sqlx::{
    AssertSqlSafe, FromRow, PgPool, Postgres, Row, Sqlite, SqlitePool,
    postgres::{PgPoolOptions, PgRow},
    sqlite::{SqlitePoolOptions, SqliteRow},
};
use tokio::{sync::Semaphore, time::Instant};

use crate::{
    consistency::{self, Commits, Consistency, POLL_INTERVAL, Reached, Verdict, WAIT_MAX, WAITERS_MAX, Wake},
    error::ReadError,
    freshness::{Freshness, LastSeen, Observed, Witness},
    lending::Lender,
    met::MetTokens,
    query_database,
    statement::{POSTGRES, SQLITE, statement},
    template::{Live, Template},
};

/// Connections of one process to the query database.
const CONNECTIONS_MAX: u32 = 16;
/// SQLite connections to one file: each is a thread.
const SQLITE_CONNECTIONS_MAX: u32 = 5;
/// Connections that are not lent to reads and counts of rows: for pointers and states, which are short.
const UNLENT: u32 = 1;
/// How long a read waits for a free connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);
/// How often a wrong guess at the live generation is corrected: it is wrong once a swap, and swaps are rare.
const GUESSES_MAX: usize = 5;
/// Generations whose files are kept open: the live one, the one before it, and one to come.
const OPEN_GENERATIONS_MAX: usize = 3;

/// The query database, for readers. Cheap to clone.
#[derive(Clone)]
pub struct ReadSide {
    inner: Arc<Inner>,
    /// Who is told how fresh the answers of this handle are.
    witness: Option<Witness>,
    /// Whose rows this handle reads; `None`: everybody's.
    only: Option<CustomerId>,
}

struct Inner {
    pub(crate) database: Database,
    /// The connections of reads in PostgreSQL; on SQLite each generation has its own.
    lender: Option<Arc<Lender<Postgres>>>,
    /// Of reads of rows.
    figures: Arc<DatabaseUse>,
    /// The generation that was live at the last read, by read model.
    live: Mutex<HashMap<&'static str, Live>>,
    last_seen: LastSeen,
    met: MetTokens,
    waiters: Semaphore,
    wake: Wake,
}

/// No request lives longer, and a query whose asker is gone keeps its connection from others until it ends.
const STATEMENT_TIMEOUT: &str = "60s";

/// A generation's file that is open, by its read model and number.
type Opened = ((String, i64), Arc<Lender<Sqlite>>);

pub(crate) enum Database {
    Sqlite { directory: PathBuf, pointers: SqlitePool, generations: Mutex<Vec<Opened>> },
    Postgres { pool: PgPool, reached: database::Database },
}

impl Database {
    fn sqlite(directory: PathBuf) -> Self {
        let pointers = SqlitePoolOptions::new()
            .max_connections(SQLITE_CONNECTIONS_MAX)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .test_before_acquire(false)
            .connect_lazy_with(query_database::sqlite_reader(&query_database::pointer_file(&directory)));
        Self::Sqlite { directory, pointers, generations: Mutex::default() }
    }

    fn postgres(reached: &database::Database, name: &str) -> Self {
        let options = PgPoolOptions::new()
            .max_connections(CONNECTIONS_MAX)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .test_before_acquire(false);
        let name = name.to_owned();
        let pool = reached.pool(options, move |options| {
            options.application_name(&name).options([("statement_timeout", STATEMENT_TIMEOUT)])
        });
        Self::Postgres { pool, reached: reached.clone() }
    }
}

/// What a query wants of a read model.
pub(crate) struct Rows<S> {
    /// The select on the tables of a generation, with parameters from `$1`.
    pub select: S,
    /// The order of the result once more, as SQL promises none for what comes through a join.
    pub order_by: Cow<'static, str>,
    pub binds: Vec<Bind>,
}

/// What is told beside the rows, out of the same snapshot, whether there are rows or not: an expression that gives a whole
/// number, with the parameters of the rows.
pub(crate) type Beside<'a> = Box<dyn Fn(Live) -> String + Send + Sync + 'a>;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Bind {
    Text(String),
    Integer(i64),
}

impl Bind {
    /// Ids, to be compared with by [`ReadSide::in_keys`].
    pub fn keys(ids: &[impl ToString]) -> Self {
        Self::Text(serde_json::to_string(&ids.iter().map(ToString::to_string).collect::<Vec<_>>()).expect("texts"))
    }
}

/// What one statement found.
struct Snapshot<T> {
    live_generation: Option<i64>,
    /// Whether this generation has met the token before.
    has_met: bool,
    /// Empty if nobody wanted it.
    reached: Vec<Reached>,
    /// What is told of it instead: it was seen a moment before.
    observed: Option<Arc<Observed>>,
    rows: Vec<T>,
    beside: Vec<i64>,
}

impl ReadSide {
    /// The query database in `directory`. Its files are opened when they are first read; until a projector has made
    /// them, reads answer `Rebuilding`.
    pub fn connect_sqlite(directory: impl Into<PathBuf>) -> Self {
        Self::new(Database::sqlite(directory.into()), Wake::default())
    }

    /// The query database at `url`, connected to when it is first read.
    pub fn connect_postgres(url: &str) -> Result<Self, ReadError> {
        let reached = url.parse().map_err(|error: database::LoginError| ReadError::Internal(error.to_string()))?;
        Ok(Self::connect_to(&reached))
    }

    /// The same with a login that may change while it is read.
    pub fn connect_to(reached: &database::Database) -> Self {
        Self::new(Database::postgres(reached, "tributary read-side"), Wake::default())
    }

    fn new(database: Database, wake: Wake) -> Self {
        let waiters = Semaphore::new(WAITERS_MAX);
        let (lender, figures) = match &database {
            Database::Postgres { pool, reached } => {
                let (login, lent_max) = (reached.clone(), lent_max(CONNECTIONS_MAX));
                let figures = Arc::new(DatabaseUse::of(u32::try_from(lent_max).ok()));
                let lender = Lender::new(pool.clone(), lent_max).of_login(move || login.version());
                (Some(lender.measured_by(&figures).looked_after()), figures)
            }
            Database::Sqlite { .. } => (None, Arc::new(DatabaseUse::of(None))),
        };
        let inner = Inner {
            database,
            lender,
            figures,
            live: Mutex::default(),
            last_seen: LastSeen::default(),
            met: MetTokens::default(),
            waiters,
            wake,
        };
        Self { inner: Arc::new(inner), witness: None, only: None }
    }

    /// A handle on the same query database that tells `witness` how fresh its answers are.
    pub fn telling(&self, witness: &Witness) -> Self {
        Self { witness: Some(witness.clone()), ..self.clone() }
    }

    /// The same query database over connections of its own, which `name` stands for in PostgreSQL: whoever is busy with
    /// these leaves the others theirs. The same commits wake both.
    pub fn apart(&self, name: &str) -> Self {
        let database = match &self.inner.database {
            Database::Sqlite { directory, .. } => Database::sqlite(directory.clone()),
            Database::Postgres { reached, .. } => Database::postgres(reached, name),
        };
        Self { only: self.only, ..Self::new(database, self.wake()) }
    }

    /// The same query database as `principal` may see it: a customer reads what is their own, and nothing tells them
    /// whether there is anything else. Every question of this handle keeps to that but those for changes, which are for who
    /// follows them for everybody, and judges of each whose it is.
    pub fn scoped(&self, principal: &Principal) -> Self {
        // in the hands of staff a customer's handle stays a customer's
        let only = principal.customer().or(self.only);
        Self { only, ..self.clone() }
    }

    /// The customer whose rows alone are read; `None` for staff and programs.
    pub(crate) fn only(&self) -> Option<CustomerId> {
        self.only
    }

    /// Whether rows of this customer are read.
    pub(crate) fn sees(&self, customer: CustomerId) -> bool {
        self.only.is_none_or(|own| own == customer)
    }

    /// For figures that are nobody's own: staff and programs are told them.
    pub(crate) fn staff_only(&self, what: &'static str) -> Result<(), ReadError> {
        if self.only.is_some() { Err(ReadError::NotForCustomers { what }) } else { Ok(()) }
    }

    /// What is measured of the reads of rows over the connections of this handle.
    pub fn figures(&self) -> &DatabaseUse {
        &self.inner.figures
    }

    /// For a projector of the same process: its commits wake waiting readers at once, others are polled for.
    pub fn wake(&self) -> Wake {
        self.inner.wake.clone()
    }

    /// Hears of the commits of a projector of the same process.
    pub fn commits(&self) -> Commits {
        Commits(self.inner.wake.subscribe())
    }

    pub(crate) fn database(&self) -> &Database {
        &self.inner.database
    }

    pub(crate) fn is_postgres(&self) -> bool {
        matches!(self.inner.database, Database::Postgres { .. })
    }

    /// `in (..)` of the keys in parameter `n`.
    pub(crate) fn in_keys(&self, n: usize) -> String {
        if self.is_postgres() {
            format!("in (select json_array_elements_text(cast(${n} as json)))")
        } else {
            format!("in (select value from json_each(${n}))")
        }
    }

    /// Reads `rows` from a snapshot of `template` that satisfies `consistency`, waiting for one if need be.
    ///
    /// Safe to cancel: nothing is begun that would have to be ended.
    pub(crate) async fn read<T, S>(
        &self,
        template: &'static Template,
        consistency: &Consistency,
        rows: Rows<S>,
    ) -> Result<Vec<T>, ReadError>
    where
        T: for<'r> FromRow<'r, SqliteRow> + for<'r> FromRow<'r, PgRow> + Send + Unpin,
        S: Fn(Live) -> String,
    {
        Ok(self.read_beside(template, consistency, rows, &[]).await?.0)
    }

    /// As [`Self::read`], with what is asked for beside the rows.
    pub(crate) async fn read_beside<T, S>(
        &self,
        template: &'static Template,
        consistency: &Consistency,
        rows: Rows<S>,
        beside: &[Beside<'_>],
    ) -> Result<(Vec<T>, Vec<i64>), ReadError>
    where
        T: for<'r> FromRow<'r, SqliteRow> + for<'r> FromRow<'r, PgRow> + Send + Unpin,
        S: Fn(Live) -> String,
    {
        let wait = consistency.wait.min(WAIT_MAX);
        let began = Instant::now();
        let deadline = began + wait;
        // subscribed before the look, so that a commit between look and wait is not missed
        let mut commits = self.inner.wake.subscribe();
        let mut waiting = None;
        loop {
            commits.mark_unchanged();
            let snapshot: Snapshot<T> = self.snapshot(template, consistency, &rows, beside).await?;
            let verdict = match snapshot.has_met {
                true => Verdict::Satisfied,
                false => consistency::judge(template, &consistency.token, &snapshot.reached, wait),
            };
            let late = match verdict {
                Verdict::Satisfied => {
                    self.note_met(template, &snapshot, &consistency.token);
                    self.tell(template, &snapshot, began, waiting.is_some());
                    return Ok((snapshot.rows, snapshot.beside));
                }
                Verdict::Never(error) => return Err(error),
                Verdict::NotYet(error) => error,
            };
            if Instant::now() >= deadline {
                return Err(self.explain(template, late).await);
            }
            if waiting.is_none() {
                let permit = self.inner.waiters.try_acquire();
                waiting = Some(permit.map_err(|_| ReadError::TooManyWaiters { limit: WAITERS_MAX })?);
            }
            let look_again = deadline.min(Instant::now() + POLL_INTERVAL);
            let _ = tokio::time::timeout_at(look_again, commits.changed()).await;
        }
    }

    /// Tells the witness of an answer.
    fn tell<T>(&self, template: &'static Template, snapshot: &Snapshot<T>, began: Instant, has_waited: bool) {
        let (Some(witness), Some(generation)) = (&self.witness, snapshot.live_generation) else { return };
        let observed = match &snapshot.observed {
            Some(observed) => Arc::clone(observed),
            None => self.inner.last_seen.note(template.name, generation, &snapshot.reached),
        };
        let waited = if has_waited { began.elapsed() } else { Duration::ZERO };
        witness.tell(Freshness { read_model: template.name, generation, waited, observed });
    }

    fn note_met<T>(&self, template: &'static Template, snapshot: &Snapshot<T>, token: &ConsistencyToken) {
        if let Some(generation) = snapshot.live_generation
            && !snapshot.has_met
            && !token.is_empty()
        {
            self.inner.met.note(template, generation, token);
        }
    }

    /// One statement's answer, from whichever generation was live in its snapshot.
    async fn snapshot<T, S>(
        &self,
        template: &'static Template,
        consistency: &Consistency,
        rows: &Rows<S>,
        beside: &[Beside<'_>],
    ) -> Result<Snapshot<T>, ReadError>
    where
        T: for<'r> FromRow<'r, SqliteRow> + for<'r> FromRow<'r, PgRow> + Send + Unpin,
        S: Fn(Live) -> String,
    {
        let (mut was_wrong, mut trouble) = (false, None);
        for _ in 0..GUESSES_MAX {
            let guess = match self.guess(template.name) {
                Some(guess) if !was_wrong => guess,
                // which one is live, and of which version, is asked before reading again
                _ => match self.pointer(template.name).await? {
                    Some(live) => live,
                    None => break,
                },
            };
            let (name, generation, token) = (template.name, guess.generation, &consistency.token);
            let has_met = token.is_empty() || self.inner.met.has(name, generation, token);
            let is_told = self.witness.is_some();
            // what was seen a moment before, if nothing asks for more
            let observed = if is_told && has_met { self.inner.last_seen.of(name, generation) } else { None };
            let has_use = !has_met || (is_told && observed.is_none());
            let wanted = has_use.then(|| consistency::wanted_json(&consistency.token));
            let answer = match &self.inner.database {
                Database::Postgres { .. } => {
                    let lender = self.lender().expect("PostgreSQL has one");
                    let statement = statement(POSTGRES, template, guess, wanted.is_some(), rows, beside);
                    postgres_snapshot(lender, statement, wanted.as_deref(), rows, beside.len()).await
                }
                Database::Sqlite { .. } => {
                    let lender = self.generation_lender(template.name, guess.generation);
                    let statement = statement(SQLITE, template, guess, wanted.is_some(), rows, beside);
                    sqlite_snapshot(&lender, statement, wanted.as_deref(), rows, beside.len()).await
                }
            };
            match answer {
                Ok(snapshot) if snapshot.live_generation == Some(guess.generation) => {
                    self.remember(template.name, guess);
                    return Ok(Snapshot { observed, has_met, ..snapshot });
                }
                Ok(snapshot) if snapshot.live_generation.is_none() => break,
                Ok(_) => {}
                // the guessed generation was dropped
                Err(error) if is_gone(&error) => trouble = Some(error),
                Err(error) => return Err(error.into()),
            }
            was_wrong = true;
        }
        match trouble {
            Some(error) => Err(error.into()),
            None => Err(self.rebuilding(template).await),
        }
    }

    fn guess(&self, read_model: &str) -> Option<Live> {
        self.inner.live.lock().expect("no panic while held").get(read_model).copied()
    }

    fn remember(&self, read_model: &'static str, live: Live) {
        self.inner.live.lock().expect("no panic while held").insert(read_model, live);
    }

    /// The live generation, asked for; `None` if there is none, or no query database yet.
    pub(crate) async fn pointer(&self, read_model: &str) -> Result<Option<Live>, ReadError> {
        const POINTER: &str = "select g.generation, g.version from read_models m \
             join generations g on g.read_model = m.name and g.generation = m.live_generation where m.name = $1";
        let found: Result<Option<(i64, i64)>, sqlx::Error> = match &self.inner.database {
            Database::Sqlite { pointers, .. } => {
                sqlx::query_as(POINTER).bind(read_model).fetch_optional(pointers).await
            }
            Database::Postgres { pool, .. } => sqlx::query_as(POINTER).bind(read_model).fetch_optional(pool).await,
        };
        match found {
            Ok(found) => Ok(found.map(|(generation, version)| Live { generation, version })),
            Err(error) if is_gone(&error) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The connections to PostgreSQL; `None` on SQLite.
    pub(crate) fn lender(&self) -> Option<&Lender<Postgres>> {
        self.inner.lender.as_deref()
    }

    /// Those to one generation's file.
    pub(crate) fn generation_lender(&self, read_model: &str, generation: i64) -> Arc<Lender<Sqlite>> {
        let Database::Sqlite { directory, generations, .. } = &self.inner.database else {
            unreachable!("only SQLite has a file per generation");
        };
        let mut open = generations.lock().expect("no panic while held");
        if let Some((_, lender)) = open.iter().find(|((name, held), _)| name == read_model && *held == generation) {
            return Arc::clone(lender);
        }
        let pointers = query_database::pointer_file(directory).to_string_lossy().into_owned();
        let pool = SqlitePoolOptions::new()
            .max_connections(SQLITE_CONNECTIONS_MAX)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .test_before_acquire(false)
            .after_connect(move |connection, _| {
                let pointers = pointers.clone();
                Box::pin(async move {
                    sqlx::query("attach database $1 as pointers").bind(pointers).execute(connection).await.map(|_| ())
                })
            })
            .connect_lazy_with(query_database::sqlite_reader(&query_database::generation_file(
                directory, read_model, generation,
            )));
        let lender = Lender::new(pool, lent_max(SQLITE_CONNECTIONS_MAX));
        let lender = lender.measured_by(&self.inner.figures).looked_after();
        open.push(((read_model.to_owned(), generation), Arc::clone(&lender)));
        if open.iter().filter(|((name, _), _)| name == read_model).count() > OPEN_GENERATIONS_MAX
            && let Some(oldest) = open.iter().position(|((name, _), _)| name == read_model)
        {
            let (_, lender) = open.remove(oldest);
            // ends when its last reader is done
            tokio::spawn(async move { lender.close().await });
        }
        lender
    }
}

fn lent_max(connections_max: u32) -> usize {
    (connections_max - UNLENT) as usize
}

macro_rules! snapshot_of {
    ($name:ident, $database:ty, $row:ty, $int:ty) => {
        async fn $name<T, S>(
            lender: &Lender<$database>,
            statement: AssertSqlSafe<String>,
            wanted: Option<&str>,
            rows: &Rows<S>,
            beside: usize,
        ) -> Result<Snapshot<T>, sqlx::Error>
        where
            T: for<'r> FromRow<'r, $row>,
        {
            let mut query = sqlx::query(statement);
            for bind in &rows.binds {
                query = match bind {
                    Bind::Text(text) => query.bind(text.as_str()),
                    Bind::Integer(integer) => query.bind(*integer),
                };
            }
            if let Some(wanted) = wanted {
                query = query.bind(wanted);
            }
            let mut lent = lender.lend().await?;
            let found = lender.ask(query.fetch_all(lent.connection())).await?;
            lent.give_back();
            let Some(first) = found.first() else { return Err(sqlx::Error::RowNotFound) };
            let vector: Option<String> = first.try_get("vector")?;
            let reached = vector.as_deref().map(serde_json::from_str).transpose();
            let reached = reached.map_err(|error| sqlx::Error::Decode(Box::new(error)))?.unwrap_or_default();
            let live_generation = first.try_get("live_generation")?;
            // behind the pointer, the vector and what is told beside
            let present = 2 + beside;
            let beside =
                (0..beside).map(|n| first.try_get(format!("beside_{n}").as_str())).collect::<Result<_, _>>()?;
            let mut rows = Vec::with_capacity(found.len());
            for row in &found {
                if row.try_get::<Option<$int>, _>(present)?.is_some() {
                    rows.push(T::from_row(row)?);
                }
            }
            Ok(Snapshot { live_generation, has_met: false, reached, observed: None, rows, beside })
        }
    };
}

snapshot_of!(sqlite_snapshot, Sqlite, SqliteRow, i64);
snapshot_of!(postgres_snapshot, Postgres, PgRow, i32);

/// Whether the error says that a table or a file is not there (any more, or yet).
pub(crate) fn is_gone(error: &sqlx::Error) -> bool {
    let Some(error) = error.as_database_error() else { return false };
    match error.code().as_deref() {
        // PostgreSQL: undefined_table
        Some("42P01") => true,
        // SQLite: cannot open; error with "no such table"
        Some("14") => true,
        Some("1") => error.message().contains("no such table"),
        _ => false,
    }
}
