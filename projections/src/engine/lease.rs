//! Who follows or builds which generation, among several processes on one PostgreSQL database.
//!
//! A lease runs by the database's clock and is renewed every third of its length. Who cannot renew stops by itself; who
//! was frozen and wakes up finds another holder. Neither is what keeps rows right: the fence does, which the next holder
//! takes before it writes, so that the one before it is refused. The lease only sees to it that there is one at a time,
//! and that there is one again within seconds. A holder that is dead, not silent, is not waited for: its connection is
//! gone, and the database knows.
//!
//! On SQLite there is one process, and it always gets what it asks for.

use std::{sync::Arc, time::Duration};

use sqlx::{ConnectOptions, Connection, PgConnection, Row};
use tokio::{
    sync::Mutex,
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{Doing, EngineError, query_database::QueryDatabase};

/// Renewals within one length: two may fail.
const RENEWALS: u32 = 3;

/// The leases of one process.
#[derive(Clone)]
pub(crate) struct Leases {
    /// `None`: nobody else is there.
    shared: Option<Arc<Shared>>,
}

struct Shared {
    database: QueryDatabase,
    length: Duration,
    /// This process, for as long as it runs.
    holder: String,
    /// Of its own, because it stands for the process: while it is there, the process is.
    session: Mutex<Session>,
}

#[derive(Default)]
struct Session {
    connection: Option<PgConnection>,
    /// Of the login that the connection was made with.
    login: u64,
}

/// A generation that this process may write. Given back when it is dropped, later; by [`Lease::give_back`], now.
pub(crate) struct Lease {
    held: Option<Held>,
    lost: CancellationToken,
}

struct Held {
    shared: Arc<Shared>,
    read_model: &'static str,
    generation: i64,
    fence: i64,
    renewing: JoinHandle<()>,
}

impl Leases {
    pub fn new(database: &QueryDatabase, length: Duration) -> Self {
        let shared = database.login().map(|_| {
            // known by more than its number, which a process on another machine may have too
            let holder = format!("{}-{}", std::process::id(), Uuid::new_v4().simple());
            Arc::new(Shared { database: database.clone(), length, holder, session: Mutex::default() })
        });
        Self { shared }
    }

    /// Takes the lease of a generation if nobody has it, and keeps it until it is given back or lost.
    pub async fn try_take(&self, read_model: &'static str, generation: i64) -> Result<Option<Lease>, EngineError> {
        let lost = CancellationToken::new();
        let Some(shared) = &self.shared else { return Ok(Some(Lease { held: None, lost })) };
        let asked = Instant::now();
        let Some(fence) = shared.take(read_model, generation).await? else { return Ok(None) };
        let renewing =
            tokio::spawn(renew(Arc::clone(shared), read_model, generation, fence, asked + shared.length, lost.clone()));
        let held = Held { shared: Arc::clone(shared), read_model, generation, fence, renewing };
        Ok(Some(Lease { held: Some(held), lost }))
    }

    /// Whether somebody else has it now.
    pub async fn is_held_elsewhere(&self, read_model: &'static str, generation: i64) -> Result<bool, EngineError> {
        let Some(shared) = &self.shared else { return Ok(false) };
        let held = format!(
            "select exists (select 1 from leases l where l.read_model = $1 and l.generation = $2 \
                and l.holder <> $3 and not ({FREE}))"
        );
        let session = &mut *shared.session.lock().await;
        let connection = shared.connection(session).await?;
        let query = sqlx::query(sqlx::AssertSqlSafe(held)).bind(read_model).bind(generation).bind(&shared.holder);
        let answer = query.fetch_one(connection).await;
        Ok(shared.checked(session, answer).doing("look at a lease")?.get(0))
    }
}

/// Whether a lease `l` binds nobody any more: it has run out, or its holder's connection is gone. A connection whose
/// beginning we may not see counts as being there.
const FREE: &str = "l.expires_at <= clock_timestamp() or (l.session_started_at is not null and not exists \
    (select 1 from pg_stat_activity a where a.pid = l.session_pid \
        and (a.backend_start is null or a.backend_start = l.session_started_at)))";

impl Shared {
    async fn connection<'s>(&self, session: &'s mut Session) -> Result<&'s mut PgConnection, EngineError> {
        let (login, options) = self.database.login().expect("leases are held in PostgreSQL");
        if session.connection.is_none() || session.login != login {
            let options = options.application_name("tributary projector lease");
            session.connection = Some(options.connect().await.doing("connect for leases")?);
            session.login = login;
        }
        Ok(session.connection.as_mut().expect("it was just made"))
    }

    /// A connection that has failed is not used again.
    fn checked<T>(&self, session: &mut Session, answer: Result<T, sqlx::Error>) -> Result<T, sqlx::Error> {
        if answer.is_err() {
            session.connection = None;
        }
        answer
    }

    async fn take(&self, read_model: &str, generation: i64) -> Result<Option<i64>, EngineError> {
        let take = format!(
            "insert into leases as l (read_model, generation, holder, fence, session_pid, session_started_at, expires_at) \
             select $1, $2, $3, 1, pg_backend_pid(), \
                (select backend_start from pg_stat_activity where pid = pg_backend_pid()), \
                clock_timestamp() + cast($4 as bigint) * interval '1 millisecond' \
             on conflict (read_model, generation) do update set holder = excluded.holder, \
                fence = l.fence + case when l.holder = excluded.holder then 0 else 1 end, \
                session_pid = excluded.session_pid, session_started_at = excluded.session_started_at, \
                expires_at = excluded.expires_at \
             where l.holder = excluded.holder or {FREE} \
             returning l.fence"
        );
        let session = &mut *self.session.lock().await;
        let connection = self.connection(session).await?;
        let query = sqlx::query(sqlx::AssertSqlSafe(take)).bind(read_model).bind(generation).bind(&self.holder);
        let answer = query.bind(self.length_ms()).fetch_optional(connection).await;
        Ok(self.checked(session, answer).doing("take a lease")?.map(|row| row.get(0)))
    }

    /// Says for how much longer; false if somebody else has it.
    async fn renew(&self, read_model: &str, generation: i64, fence: i64) -> Result<bool, EngineError> {
        let renew = "update leases set expires_at = clock_timestamp() + cast($5 as bigint) * interval '1 millisecond', \
                session_pid = pg_backend_pid(), \
                session_started_at = (select backend_start from pg_stat_activity where pid = pg_backend_pid()) \
             where read_model = $1 and generation = $2 and holder = $3 and fence = $4";
        let session = &mut *self.session.lock().await;
        let connection = self.connection(session).await?;
        let query = sqlx::query(renew).bind(read_model).bind(generation).bind(&self.holder).bind(fence);
        let answer = query.bind(self.length_ms()).execute(connection).await;
        Ok(self.checked(session, answer).doing("renew a lease")?.rows_affected() == 1)
    }

    async fn give_back(&self, read_model: &str, generation: i64, fence: i64) -> Result<(), EngineError> {
        let give = "update leases set expires_at = clock_timestamp() \
             where read_model = $1 and generation = $2 and holder = $3 and fence = $4";
        let session = &mut *self.session.lock().await;
        let connection = self.connection(session).await?;
        let query = sqlx::query(give).bind(read_model).bind(generation).bind(&self.holder).bind(fence);
        let answer = query.execute(connection).await;
        self.checked(session, answer).map(|_| ()).doing("give a lease back")
    }

    fn length_ms(&self) -> i64 {
        i64::try_from(self.length.as_millis()).unwrap_or(i64::MAX)
    }
}

/// Renews until it is lost. The task is ended when the lease is given back.
async fn renew(
    shared: Arc<Shared>,
    read_model: &'static str,
    generation: i64,
    fence: i64,
    mut ours_until: Instant,
    lost: CancellationToken,
) {
    let pause = shared.length / RENEWALS;
    loop {
        sleep(pause).await;
        let asked = Instant::now();
        // a database that does not answer must not make us think that the lease is still ours
        let answer = timeout(pause, shared.renew(read_model, generation, fence)).await;
        let why = match answer {
            Ok(Ok(true)) => {
                ours_until = asked + shared.length;
                continue;
            }
            Ok(Ok(false)) => "another process has it".to_owned(),
            Ok(Err(_)) | Err(_) if Instant::now() < ours_until => continue,
            Ok(Err(error)) => error.to_string(),
            Err(_) => "the query database does not answer".to_owned(),
        };
        tracing::warn!(code = "lease_lost", read_model, generation, fence, why, "lease lost: this process stops here");
        lost.cancel();
        return;
    }
}

impl Lease {
    /// Completes when somebody else may have it. Cancel-safe.
    pub async fn lost(&self) {
        self.lost.cancelled().await;
    }

    pub fn is_lost(&self) -> bool {
        self.lost.is_cancelled()
    }

    /// Lets the next one have it at once.
    pub async fn give_back(mut self) {
        if let Some(held) = self.held.take() {
            let given = held.shared.give_back(held.read_model, held.generation, held.fence).await;
            if let Err(error) = given {
                tracing::debug!(%error, "a lease runs out by itself");
            }
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.renewing.abort();
    }
}

impl Leases {
    /// Closes the connection, and so gives everything back.
    pub async fn close(&self) {
        if let Some(shared) = &self.shared
            && let Some(connection) = shared.session.lock().await.connection.take()
        {
            let _ = connection.close().await;
        }
    }
}
