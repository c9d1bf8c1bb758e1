//! Locks of PostgreSQL databases: who waits for one now, for how long, and deadlocks. The servers are asked, so sessions of
//! others count as well.

use database::Database;
use futures::future::join_all;
use sqlx::{ConnectOptions, Connection, FromRow};

use super::{Family, LOOK_WAIT_MAX};
use crate::config::Storage;

/// What every role may look at.
const LOCKS: &str = "select count(locks.pid) as waiters, \
        coalesce(extract(epoch from max(clock_timestamp() - locks.waitstart)), 0)::float8 as longest_wait_seconds, \
        (select deadlocks from pg_stat_database where datname = current_database()) as deadlocks \
    from pg_stat_activity as sessions left join pg_locks as locks on locks.pid = sessions.pid and not locks.granted \
    where sessions.datname = current_database()";

#[derive(FromRow)]
struct Locks {
    waiters: i64,
    longest_wait_seconds: f64,
    /// Since the server's statistics were last reset.
    deadlocks: i64,
}

/// Of each database that this process writes. SQLite has one writer and nobody to ask.
pub async fn seen(storage: &Storage) -> Vec<Family> {
    let Storage::Postgres { databases } = storage else { return Vec::new() };
    let mut waiters = Family::gauge("tributary_database_lock_waiters", "Sessions that wait for a lock of others.");
    let mut longest = Family::gauge(
        "tributary_database_lock_longest_wait_seconds",
        "For how long the one that has waited longest is waiting; 0 when none is.",
    );
    let mut deadlocks =
        Family::counter("tributary_database_deadlocks_total", "Deadlocks that the server has ended, by its own count.");
    let asked = databases.iter().map(async |(name, database)| (*name, ask(database).await));
    for (name, locks) in join_all(asked).await {
        let Some(locks) = locks else { continue };
        let labels = [("database", name)];
        waiters.push_whole(&labels, locks.waiters.unsigned_abs());
        // times of the server may go back by a little
        longest.push(&labels, locks.longest_wait_seconds.max(0.0));
        deadlocks.push_whole(&labels, locks.deadlocks.unsigned_abs());
    }
    vec![waiters, longest, deadlocks]
}

/// Over a connection for this one question: those of a pool may all wait for what is asked about.
async fn ask(database: &Database) -> Option<Locks> {
    let asked = async {
        let options = database.options().application_name("tributary metrics").disable_statement_logging();
        let mut connection = options.connect().await?;
        let locks = sqlx::query_as(LOCKS).fetch_one(&mut connection).await?;
        connection.close().await?;
        Ok::<Locks, sqlx::Error>(locks)
    };
    match tokio::time::timeout(LOOK_WAIT_MAX, asked).await {
        Ok(Ok(locks)) => Some(locks),
        Ok(Err(error)) => {
            tracing::warn!(%error, "locks cannot be counted");
            None
        }
        Err(_) => {
            tracing::warn!("locks are not told in time, and left out");
            None
        }
    }
}
