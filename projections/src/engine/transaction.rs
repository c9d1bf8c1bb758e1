//! One way to talk to either database: texts in, texts out, and how often.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use futures::{StreamExt, TryStreamExt, stream::BoxStream};
use measures::{DatabaseUse, Entered};
use sqlx::{
    AssertSqlSafe, Executor, PgConnection, PgPool, Postgres, Row, Sqlite, SqlitePool,
    postgres::{PgCopyIn, PgDatabaseError, PgSeverity},
};
use tokio::task::{AbortHandle, JoinHandle};

/// Connections to one database of either kind.
#[derive(Clone)]
pub(crate) struct Pool {
    kind: Kind,
    /// Statements sent so far, commits included: round trips on PostgreSQL, thread hops on SQLite.
    sent: Arc<AtomicU64>,
    figures: Arc<DatabaseUse>,
    /// What looks after it, as long as somebody has it.
    _kept: Option<Arc<Kept>>,
}

/// A task that ends when this is dropped.
struct Kept(AbortHandle);

impl Drop for Kept {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[derive(Clone)]
enum Kind {
    Sqlite(SqlitePool),
    Postgres(PgPool),
}

/// A parameter.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Value<'v> {
    Text(&'v str),
    MaybeText(Option<&'v str>),
    Integer(i64),
    MaybeInteger(Option<i64>),
    Bytes(&'v [u8]),
}

/// A statement's answer: every column as text.
pub(crate) type Texts = Vec<Option<String>>;

/// A transaction; rolled back when it is dropped.
pub(crate) struct Transaction {
    kind: Begun,
    sent: Arc<AtomicU64>,
    figures: Arc<DatabaseUse>,
    began: Instant,
    _in_use: Entered,
}

enum Begun {
    Sqlite(sqlx::Transaction<'static, Sqlite>),
    Postgres(sqlx::Transaction<'static, Postgres>),
}

/// How long cutting off a WAL may wait for readers. Whoever writes waits as long.
const CUT_OFF_WAIT_MAX_MS: u32 = 100;

/// Copies the WAL into the file and cuts it off: it keeps rows as they were before, also of people who were erased since.
/// Busy with readers, it is left to the next time.
pub(super) async fn cut_off_wal(pool: &SqlitePool) {
    let cut_off = async {
        let mut connection = pool.acquire().await?;
        let before: i64 = sqlx::query_scalar("pragma busy_timeout").fetch_one(&mut *connection).await?;
        let patience = |ms: i64| AssertSqlSafe(format!("pragma busy_timeout = {ms}"));
        sqlx::query(patience(CUT_OFF_WAIT_MAX_MS.into())).execute(&mut *connection).await?;
        let cut_off = sqlx::query("pragma wal_checkpoint(truncate)").execute(&mut *connection).await;
        sqlx::query(patience(before)).execute(&mut *connection).await?;
        cut_off
    };
    if let Err(error) = cut_off.await {
        tracing::debug!(%error, "a WAL of the query database could not be cut off");
    }
}

impl Pool {
    pub fn sqlite(pool: SqlitePool, figures: &Arc<DatabaseUse>) -> Self {
        Self::new(Kind::Sqlite(pool), figures)
    }

    pub fn postgres(pool: PgPool, figures: &Arc<DatabaseUse>) -> Self {
        Self::new(Kind::Postgres(pool), figures)
    }

    fn new(kind: Kind, figures: &Arc<DatabaseUse>) -> Self {
        Self { kind, sent: Arc::default(), figures: Arc::clone(figures), _kept: None }
    }

    /// With `task` beside it, until the last one that has this pool drops it.
    pub fn kept_by(self, task: &JoinHandle<()>) -> Self {
        Self { _kept: Some(Arc::new(Kept(task.abort_handle()))), ..self }
    }

    pub fn is_postgres(&self) -> bool {
        matches!(self.kind, Kind::Postgres(_))
    }

    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Begins to write. Cancel-safe.
    pub async fn begin(&self) -> Result<Transaction, sqlx::Error> {
        let pool = self.clone();
        to_its_end(async move { pool.begin_here().await }).await
    }

    async fn begin_here(&self) -> Result<Transaction, sqlx::Error> {
        self.begun(async {
            Ok(match &self.kind {
                // the lock now, not when the first row is written: an upgrade fails instead of waiting
                Kind::Sqlite(pool) => Begun::Sqlite(pool.begin_with("begin immediate").await?),
                Kind::Postgres(pool) => Begun::Postgres(pool.begin().await?),
            })
        })
        .await
    }

    /// Begins to read: everything in it sees the same moment. Cancel-safe.
    pub async fn begin_snapshot(&self) -> Result<Transaction, sqlx::Error> {
        let pool = self.clone();
        to_its_end(async move { pool.begin_snapshot_here().await }).await
    }

    async fn begin_snapshot_here(&self) -> Result<Transaction, sqlx::Error> {
        self.begun(async {
            Ok(match &self.kind {
                Kind::Sqlite(pool) => Begun::Sqlite(pool.begin().await?),
                Kind::Postgres(pool) => {
                    Begun::Postgres(pool.begin_with("begin isolation level repeatable read read only").await?)
                }
            })
        })
        .await
    }

    /// What has begun is a connection in use; beginning is waiting for one, and for the lock of a file.
    async fn begun(&self, begin: impl Future<Output = Result<Begun, sqlx::Error>>) -> Result<Transaction, sqlx::Error> {
        self.sent.fetch_add(1, Ordering::Relaxed);
        let begun = self.figures.connections.get(begin).await;
        let (kind, in_use) = noted(&self.figures, begun)?;
        let (sent, figures) = (Arc::clone(&self.sent), Arc::clone(&self.figures));
        Ok(Transaction { kind, sent, figures, began: Instant::now(), _in_use: in_use })
    }

    /// SQLite, a file that nobody else has open: pages go to their place at once, each written once, instead of to a WAL
    /// first. A crash is undone as ever. Where somebody has it open after all, the WAL stays.
    pub async fn write_in_place(&self) {
        self.journal("pragma journal_mode = truncate; pragma synchronous = full").await;
    }

    /// Ends [`Self::write_in_place`]; whoever opens the file anew ends it, too.
    pub async fn write_ahead(&self) {
        self.journal("pragma journal_mode = wal; pragma synchronous = normal").await;
    }

    async fn journal(&self, pragmas: &'static str) {
        if let Kind::Sqlite(pool) = &self.kind
            && let Err(error) = pool.execute(pragmas).await
        {
            tracing::debug!(%error, "a file of the query database keeps its journal");
        }
    }

    /// Closes what was opened for a moment only: whoever uses the database for longer sees to its WAL. PostgreSQL's
    /// connections are shared, and stay.
    pub async fn let_go(&self) {
        if let Kind::Sqlite(pool) = &self.kind {
            pool.close().await;
        }
    }

    pub async fn close(&self) {
        match &self.kind {
            Kind::Sqlite(pool) => {
                // readers may have the file open still, and then closing leaves the WAL
                cut_off_wal(pool).await;
                pool.close().await;
            }
            Kind::Postgres(pool) => pool.close().await,
        }
    }
}

/// An error is counted by what it says of the database.
fn noted<T>(figures: &DatabaseUse, done: Result<T, sqlx::Error>) -> Result<T, sqlx::Error> {
    if let Err(error) = &done {
        figures.failures.one_more(database::failure(error));
    }
    done
}

/// A begin that is dropped half-way leaves a connection in the pool that acknowledges writes and loses them: so it goes on
/// in a task of its own, and who waits no more drops a transaction that has begun.
async fn to_its_end(
    begin: impl Future<Output = Result<Transaction, sqlx::Error>> + Send + 'static,
) -> Result<Transaction, sqlx::Error> {
    match tokio::spawn(begin).await {
        Ok(begun) => begun,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // the runtime ends
            Err(_) => Err(sqlx::Error::WorkerCrashed),
        },
    }
}

macro_rules! bound {
    ($statement:expr, $values:expr) => {{
        let mut query = sqlx::query(AssertSqlSafe(Arc::clone($statement)));
        for value in $values {
            query = match *value {
                Value::Text(text) => query.bind(text),
                Value::MaybeText(text) => query.bind(text),
                Value::Integer(integer) => query.bind(integer),
                Value::MaybeInteger(integer) => query.bind(integer),
                Value::Bytes(bytes) => query.bind(bytes),
            };
        }
        query
    }};
}

macro_rules! texts {
    ($rows:expr) => {
        $rows.iter().map(|row| (0..row.len()).map(|n| row.try_get(n)).collect()).collect()
    };
}

impl Transaction {
    /// Rows changed.
    pub async fn execute(&mut self, statement: &Arc<str>, values: &[Value<'_>]) -> Result<u64, sqlx::Error> {
        self.sent.fetch_add(1, Ordering::Relaxed);
        let changed = match &mut self.kind {
            Begun::Sqlite(begun) => {
                bound!(statement, values).execute(&mut **begun).await.map(|done| done.rows_affected())
            }
            Begun::Postgres(begun) => {
                bound!(statement, values).execute(&mut **begun).await.map(|done| done.rows_affected())
            }
        };
        noted(&self.figures, changed)
    }

    /// Rows of text columns.
    pub async fn fetch(&mut self, statement: &Arc<str>, values: &[Value<'_>]) -> Result<Vec<Texts>, sqlx::Error> {
        self.sent.fetch_add(1, Ordering::Relaxed);
        match &mut self.kind {
            Begun::Sqlite(begun) => {
                texts!(noted(&self.figures, bound!(statement, values).fetch_all(&mut **begun).await)?)
            }
            Begun::Postgres(begun) => {
                texts!(noted(&self.figures, bound!(statement, values).fetch_all(&mut **begun).await)?)
            }
        }
    }

    pub fn is_postgres(&self) -> bool {
        matches!(self.kind, Begun::Postgres(_))
    }

    /// PostgreSQL: its commit does not wait for the disk. Whoever commits later and waits, waits for this one, too; a crash of
    /// the server before that undoes it whole. <https://www.postgresql.org/docs/current/wal-async-commit.html>
    pub async fn leave_sync_to_a_later_one(&mut self) -> Result<(), sqlx::Error> {
        match self.is_postgres() {
            true => self.execute(&"set local synchronous_commit = off".into(), &[]).await.map(drop),
            false => Ok(()),
        }
    }

    /// Rows of text columns, one after the other, without holding them all.
    pub fn stream<'t>(&'t mut self, statement: &Arc<str>) -> BoxStream<'t, Result<Texts, sqlx::Error>> {
        self.sent.fetch_add(1, Ordering::Relaxed);
        let statement = AssertSqlSafe(Arc::clone(statement));
        macro_rules! stream {
            ($begun:expr) => {{
                let rows = sqlx::query(statement).fetch(&mut **$begun);
                rows.map(|row| row.and_then(|row| (0..row.len()).map(|n| row.try_get(n)).collect())).boxed()
            }};
        }
        match &mut self.kind {
            Begun::Sqlite(begun) => stream!(begun),
            Begun::Postgres(begun) => stream!(begun),
        }
    }

    /// As [`Self::stream`], with a call for each.
    pub async fn for_each(
        &mut self,
        statement: &Arc<str>,
        mut take: impl FnMut(Texts) -> Result<(), sqlx::Error>,
    ) -> Result<(), sqlx::Error> {
        let mut rows = self.stream(statement);
        while let Some(row) = rows.try_next().await? {
            take(row)?;
        }
        Ok(())
    }

    /// Begins to copy rows into a table. PostgreSQL only.
    pub async fn begin_copy(&mut self, statement: &str) -> Result<PgCopyIn<&mut PgConnection>, sqlx::Error> {
        self.sent.fetch_add(1, Ordering::Relaxed);
        match &mut self.kind {
            Begun::Sqlite(_) => unreachable!("SQLite has no COPY"),
            Begun::Postgres(begun) => begun.copy_in_raw(statement).await,
        }
    }

    pub async fn commit(self) -> Result<(), sqlx::Error> {
        self.sent.fetch_add(1, Ordering::Relaxed);
        let committed = match self.kind {
            Begun::Sqlite(begun) => begun.commit().await,
            Begun::Postgres(begun) => begun.commit().await,
        };
        noted(&self.figures, committed)?;
        self.figures.calls.add_since(self.began);
        Ok(())
    }

    /// Ends it without effect. Dropping does the same, later.
    pub async fn rollback(self) {
        // a connection that cannot roll back is closed, which rolls back
        let _ = match self.kind {
            Begun::Sqlite(begun) => begun.rollback().await,
            Begun::Postgres(begun) => begun.rollback().await,
        };
    }
}

/// Whether the same may succeed later: the database is away, busy or full. Anything else is a fault of ours.
pub(crate) fn is_passing(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed
        | sqlx::Error::Protocol(_) => true,
        sqlx::Error::Database(error) => {
            // whatever the reason, the session is over, and the next one may fare better
            let has_ended = error
                .try_downcast_ref::<PgDatabaseError>()
                .is_some_and(|error| matches!(error.severity(), PgSeverity::Fatal | PgSeverity::Panic));
            has_ended || error.code().as_deref().is_some_and(is_passing_code)
        }
        _ => false,
    }
}

fn is_passing_code(code: &str) -> bool {
    match code {
        // PostgreSQL: this process was held up within a transaction for too long; the server takes no writes just now, as a
        // standby that is about to be promoted
        "25P03" | "25P04" | "25006" => true,
        // PostgreSQL: connection, resources, operator's intervention, rollback (deadlock), lock not available
        code if code.len() == 5 => ["08", "53", "57", "40", "55", "58"].iter().any(|class| code.starts_with(class)),
        // SQLite: busy, locked, out of memory, interrupted, disk full, cannot open, and input/output, in their low byte
        code => matches!(code.parse::<u32>().map(|code| code & 0xff), Ok(5 | 6 | 7 | 9 | 10 | 13 | 14)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_succeed_later_is_told_from_a_fault_of_ours() {
        for code in ["25P03", "25P04", "25006", "08006", "53300", "57P01", "40P01", "55P03", "58030", "5", "261", "13"]
        {
            assert!(is_passing_code(code), "{code}");
        }
        for code in ["25001", "25P02", "42P01", "23505", "22001", "1", "19", "2067", ""] {
            assert!(!is_passing_code(code), "{code}");
        }
    }
}
