//! A schema of a follower's own in its service's PostgreSQL database.
//!
//! Every transaction runs in a task of its own: a future that is dropped half-way would leave it open on a pooled
//! connection.

use std::{collections::BTreeSet, time::Duration};

use async_trait::async_trait;
use database::{
    Database,
    rights::{self, Right, object, rights},
};
use event_store::follower::{ApplyError, Checkpoint, Pulse, StoreError, Vector};
use futures::future::BoxFuture;
use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool, PgTransaction, Row, postgres::PgPoolOptions, raw_sql};
use thiserror::Error;
use tokio::time::timeout;

use super::{LEASE, Moved, Tenure, checkpoint, signed, unsigned};

const CONNECT_WAIT_MAX: Duration = Duration::from_secs(5);

/// A transaction here is a few statements. One that stays open belongs to a process that was frozen or cut off: the server
/// ends it, or whoever takes over would wait for its locks for ever.
const IDLE_IN_TRANSACTION_MAX: &str = "10s";

/// How long a transaction may take here, with its waits for locks. The other end of a connection may be gone without a
/// word, and who waits for it would neither act nor let another act, since the beat takes another connection.
const TRANSACTION_MAX: Duration = LEASE;

/// What a schema is made of.
#[derive(Debug, Clone, Copy)]
pub struct Schema {
    /// Goes into SQL text.
    pub name: &'static str,
    /// Whoever migrates it holds this lock of the database.
    pub lock: i64,
    /// In order; a released one never changes. The first makes the schema.
    pub migrations: &'static [&'static str],
}

/// An open schema.
#[derive(Clone)]
pub struct PostgresSchema {
    pool: PgPool,
    name: &'static str,
}

impl PostgresSchema {
    /// Connects, and makes the schema if it is missing and the role may; else an administrator does, by running the
    /// migrations.
    pub async fn connect(database: &Database, schema: Schema, connections_max: u32) -> Result<Self, SchemaError> {
        let options = PgPoolOptions::new()
            .max_connections(connections_max)
            .acquire_timeout(CONNECT_WAIT_MAX)
            .test_before_acquire(false);
        let pool = database
            .pool(options, |target| target.options([("idle_in_transaction_session_timeout", IDLE_IN_TRANSACTION_MAX)]));
        let migrating = pool.clone();
        let migrated = tokio::spawn(async move {
            let mut connection = migrating.acquire().await?;
            if schema.missing(&mut connection).await? > 0 { schema.migrate(&mut connection).await } else { Ok(()) }
        });
        match migrated.await.unwrap_or_else(|error| Err(sqlx::Error::Io(std::io::Error::other(error)))) {
            Ok(()) => Ok(Self { pool, name: schema.name }),
            Err(error) if is_forbidden(&error) => Err(SchemaError::NotMigrated { schema: schema.name, error }),
            Err(error) => Err(SchemaError::Database(error)),
        }
    }

    /// `text` with the schema's name in place of `{schema}`.
    pub fn sql(&self, text: &str) -> AssertSqlSafe<String> {
        sql(self.name, text)
    }

    /// Runs `work` in a transaction, which is rolled back if it fails.
    pub async fn transact<T: Send + 'static, E: From<StoreError> + Send + 'static>(
        &self,
        work: impl for<'t> FnOnce(&'t Self, &'t mut PgTransaction<'_>) -> BoxFuture<'t, Result<T, E>> + Send + 'static,
    ) -> Result<T, E> {
        self.transact_within(TRANSACTION_MAX, work).await
    }

    /// The same with a bound of its own, for what reads much.
    pub async fn transact_within<T: Send + 'static, E: From<StoreError> + Send + 'static>(
        &self,
        bound: Duration,
        work: impl for<'t> FnOnce(&'t Self, &'t mut PgTransaction<'_>) -> BoxFuture<'t, Result<T, E>> + Send + 'static,
    ) -> Result<T, E> {
        let schema = self.clone();
        let done = tokio::spawn(async move {
            let mut connection = schema.pool.acquire().await.map_err(unavailable)?;
            let working = timeout(bound, async {
                let mut transaction = connection.begin().await.map_err(unavailable)?;
                let value = work(&schema, &mut transaction).await?;
                transaction.commit().await.map_err(unavailable)?;
                Ok(value)
            });
            let done = working.await;
            done.unwrap_or_else(|_| {
                // whatever is still on its way on it, nobody else is to wait for
                drop(connection.detach());
                Err(StoreError::Unavailable(format!("no answer of the database within {bound:?}").into()).into())
            })
        });
        done.await.unwrap_or_else(|error| Err(StoreError::Bug(format!("database task: {error}")).into()))
    }

    /// Fence and checkpoints, read in one transaction; with `take_fence`, after taking the fence.
    pub async fn load(&self, take_fence: bool) -> Result<(u64, Vector), StoreError> {
        self.transact(move |schema, transaction| {
            Box::pin(async move {
                let fence = schema.fence_in(transaction, take_fence).await?;
                Ok((fence, schema.vector(transaction).await?))
            })
        })
        .await
    }

    /// Begins a transaction that reads what there is, by taking the fence, which keeps every writer out until it ends; or by
    /// a look at it, and then all of it sees one moment and nobody waits for it.
    pub async fn fence_in(&self, transaction: &mut PgTransaction<'_>, take: bool) -> Result<u64, StoreError> {
        if take {
            return self.take_fence(transaction).await;
        }
        let snapshot = sqlx::query("set transaction isolation level repeatable read, read only");
        snapshot.execute(&mut **transaction).await.map_err(unavailable)?;
        let fence = sqlx::query_scalar(self.sql("select fence from {schema}.fence"));
        unsigned("fence", fence.fetch_one(&mut **transaction).await.map_err(unavailable)?)
    }

    /// Keeps every writer out until the transaction ends, and earlier holders for good.
    pub async fn take_fence(&self, transaction: &mut PgTransaction<'_>) -> Result<u64, StoreError> {
        let take = sqlx::query_scalar(self.sql("update {schema}.fence set fence = fence + 1 returning fence"));
        unsigned("fence", take.fetch_one(&mut **transaction).await.map_err(unavailable)?)
    }

    /// Refuses whoever does not hold the fence, and keeps it from being taken until the transaction ends.
    ///
    /// Locks that are shared could keep the beat, or who takes over, waiting for ever if they overlapped without a gap. They
    /// do not: there are two connections of a process, which do one thing after the other with round trips in between, and
    /// a beat takes up one of them.
    pub async fn check_fence(&self, transaction: &mut PgTransaction<'_>, held: u64) -> Result<(), ApplyError> {
        let select = self.sql("select fence from {schema}.fence for share");
        let fence = sqlx::query_scalar(select).fetch_one(&mut **transaction).await.map_err(unavailable)?;
        if unsigned("fence", fence)? == held { Ok(()) } else { Err(ApplyError::Fenced) }
    }

    /// Every source's checkpoint.
    pub async fn vector(&self, transaction: &mut PgTransaction<'_>) -> Result<Vector, StoreError> {
        let select = self.sql("select source, epoch, position, event_id from {schema}.checkpoint");
        let rows = sqlx::query(select).fetch_all(&mut **transaction).await.map_err(unavailable)?;
        let mut vector = Vector::new();
        for row in rows {
            let (source, epoch): (String, String) = (row.get(0), row.get(1));
            let event_id: Option<String> = row.get(3);
            vector.set(source.into(), checkpoint(&epoch, row.get(2), event_id.as_deref())?);
        }
        Ok(vector)
    }

    /// Moves a checkpoint, if fence and place are as the follower thinks.
    pub async fn move_checkpoint(&self, transaction: &mut PgTransaction<'_>, moved: &Moved) -> Result<(), ApplyError> {
        let Moved { fence, source, from, to } = moved;
        self.check_fence(transaction, *fence).await?;
        let select = self.sql("select epoch, position, event_id from {schema}.checkpoint where source = $1 for update");
        let stored: Option<(String, i64, Option<String>)> =
            sqlx::query_as(select).bind(source).fetch_optional(&mut **transaction).await.map_err(unavailable)?;
        let stored = match stored {
            Some((epoch, position, event_id)) => checkpoint(&epoch, position, event_id.as_deref())?,
            None => Checkpoint::START,
        };
        if stored != *from {
            return Err(ApplyError::Moved);
        }
        let upsert = "insert into {schema}.checkpoint (source, epoch, position, event_id) values ($1, $2, $3, $4) \
                      on conflict (source) do update set epoch = excluded.epoch, position = excluded.position, \
                      event_id = excluded.event_id";
        sqlx::query(self.sql(upsert))
            .bind(source)
            .bind(to.epoch.to_string())
            .bind(signed(to.position)?)
            .bind(to.event_id.map(|id| id.to_string()))
            .execute(&mut **transaction)
            .await
            .map_err(unavailable)?;
        Ok(())
    }
}

#[async_trait]
impl Tenure for PostgresSchema {
    async fn fence(&self) -> Result<u64, StoreError> {
        let (pool, select) = (self.pool.clone(), self.sql("select fence from {schema}.fence"));
        let read = tokio::spawn(async move { sqlx::query_scalar(select).fetch_one(&pool).await });
        let read = read.await.map_err(|error| StoreError::Bug(format!("database task: {error}")))?;
        unsigned("fence", read.map_err(unavailable)?)
    }

    async fn beat(&self, held: u64) -> Result<bool, StoreError> {
        let held = signed(held)?;
        self.transact(move |schema, transaction| {
            Box::pin(async move {
                let update = sqlx::query(schema.sql("update {schema}.fence set beat = beat + 1 where fence = $1"));
                let updated = update.bind(held).execute(&mut **transaction).await.map_err(unavailable)?;
                Ok(updated.rows_affected() == 1)
            })
        })
        .await
    }

    async fn pulse(&self) -> Result<Pulse, StoreError> {
        self.transact(|schema, transaction| {
            Box::pin(async move {
                let select = sqlx::query_as(schema.sql("select fence, beat from {schema}.fence"));
                let (fence, beat): (i64, i64) = select.fetch_one(&mut **transaction).await.map_err(unavailable)?;
                let (fence, beat) = (unsigned("fence", fence)?, unsigned("beat", beat)?);
                Ok(Pulse { fence, beat, vector: schema.vector(transaction).await? })
            })
        })
        .await
    }
}

/// Names of schemas are constants of ours.
fn sql(schema: &'static str, text: &str) -> AssertSqlSafe<String> {
    AssertSqlSafe(text.replace("{schema}", schema))
}

impl Schema {
    /// How many migrations have not been run. Those that a newer release has run are none of our business.
    pub async fn missing(&self, connection: &mut PgConnection) -> Result<usize, sqlx::Error> {
        Ok(self.migrations.len().saturating_sub(self.run(connection).await?))
    }

    async fn run(&self, connection: &mut PgConnection) -> Result<usize, sqlx::Error> {
        // not `to_regclass`: whoever has looked before, and then waited for the lock, is told what was so before
        let done = "select exists (select from pg_class c join pg_namespace n on n.oid = c.relnamespace \
                    where n.nspname = $1 and c.relname = 'migrations')";
        if !sqlx::query_scalar(done).bind(self.name).fetch_one(&mut *connection).await? {
            return Ok(0);
        }
        let run = sql(self.name, "select count(*) from {schema}.migrations");
        let run: i64 = sqlx::query_scalar(run).fetch_one(connection).await?;
        Ok(usize::try_from(run).unwrap_or(usize::MAX))
    }

    /// All that is missing in one transaction, so that one who is killed leaves nothing half done. Migrations only add, so
    /// that the previous release goes on working.
    pub async fn migrate(&self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        let Schema { name, lock, migrations } = *self;
        let mut transaction = connection.begin().await?;
        sqlx::query("select pg_advisory_xact_lock($1)").bind(lock).execute(&mut *transaction).await?;
        let run = self.run(&mut transaction).await?;
        for (n, migration) in migrations.iter().enumerate().skip(run) {
            raw_sql(*migration).execute(&mut *transaction).await?;
            let table = "create table if not exists {schema}.migrations (version int4 primary key)";
            raw_sql(sql(name, table)).execute(&mut *transaction).await?;
            let version = i32::try_from(n + 1).expect("there are few migrations");
            sqlx::query(sql(name, "insert into {schema}.migrations (version) values ($1)"))
                .bind(version)
                .execute(&mut *transaction)
                .await?;
        }
        transaction.commit().await
    }

    /// What the role of the service may do here: write rows, and make nothing.
    pub fn rights_of(&self, service_role: &str, tables: &[String]) -> BTreeSet<Right> {
        let write = |table: &String| {
            let privileges: &[&str] =
                if table == "migrations" { &["select"] } else { &["select", "insert", "update", "delete"] };
            rights(privileges, &object("table", self.name, table), service_role)
        };
        let enter = rights(&["usage"], &rights::schema(self.name), service_role);
        enter.into_iter().chain(tables.iter().flat_map(write)).collect()
    }
}

/// Why a schema could not be opened.
#[derive(Debug, Error)]
pub enum SchemaError {
    #[error("{0}")]
    Database(#[source] sqlx::Error),
    #[error("the schema {schema} is missing or old, and this role may not make it ({error}): run `tributary migrate`")]
    NotMigrated { schema: &'static str, error: sqlx::Error },
}

fn is_forbidden(error: &sqlx::Error) -> bool {
    const INSUFFICIENT_PRIVILEGE: &str = "42501";
    error.as_database_error().and_then(|error| error.code()).as_deref() == Some(INSUFFICIENT_PRIVILEGE)
}

pub fn unavailable(error: sqlx::Error) -> StoreError {
    StoreError::Unavailable(error.into())
}

#[cfg(test)]
mod tests {
    use testkit::postgres::fresh_database;

    use super::*;

    const SAMPLE: Schema = Schema { name: "sample", lock: 1, migrations: &["create schema sample"] };

    async fn database(name: &str) -> Database {
        fresh_database(name).await.parse().unwrap()
    }

    #[tokio::test]
    async fn the_server_ends_a_transaction_that_a_frozen_process_leaves_open() {
        let schema = PostgresSchema::connect(&database("frozen").await, SAMPLE, 1).await.unwrap();
        let in_force: Result<String, StoreError> = schema
            .transact(|_, transaction| {
                Box::pin(async move {
                    let show = sqlx::query_scalar("show idle_in_transaction_session_timeout");
                    show.fetch_one(&mut **transaction).await.map_err(unavailable)
                })
            })
            .await;
        assert_eq!(in_force.unwrap(), IDLE_IN_TRANSACTION_MAX);
    }

    #[tokio::test]
    async fn of_processes_that_start_at_once_one_makes_the_schema() {
        let twice =
            Schema { migrations: &["create schema if not exists sample", "create table sample.t (n int)"], ..SAMPLE };
        for _ in 0..5 {
            let database = database("at_once").await;
            let all = (0..8).map(|_| PostgresSchema::connect(&database, twice, 1));
            for schema in futures::future::join_all(all).await {
                schema.unwrap();
            }
        }
    }

    #[tokio::test]
    async fn a_database_that_does_not_answer_is_waited_for_no_longer_than_the_bound() {
        let schema = PostgresSchema::connect(&database("silent").await, SAMPLE, 1).await.unwrap();
        let ask = async |seconds: f64, bound: Duration| -> Result<(), StoreError> {
            let asking = schema.transact_within(bound, move |_, transaction| {
                Box::pin(async move {
                    let sleep = sqlx::query("select pg_sleep($1)").bind(seconds);
                    sleep.execute(&mut **transaction).await.map(drop).map_err(unavailable)
                })
            });
            timeout(Duration::from_secs(20), asking).await.expect("it does not wait for ever")
        };
        let silent = ask(600.0, Duration::from_millis(200)).await;
        assert!(matches!(silent, Err(StoreError::Unavailable(_))), "{silent:?}");
        // and the only connection that there may be is free again
        ask(0.0, Duration::from_secs(10)).await.unwrap();
    }
}
