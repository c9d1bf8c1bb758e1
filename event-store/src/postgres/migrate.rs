//! Makes the tables of a log, all of them in one transaction: killed half-way, nothing is there, and a second run
//! completes. Processes that start at once wait for each other behind an advisory lock.

use std::collections::BTreeSet;

use database::{
    change::{Change, ChangeError, quoted},
    rights::{self, Names, Right, object, rights, schema},
};
use sqlx::{Connection, PgConnection, raw_sql};
use thiserror::Error;

macro_rules! migration {
    ($version:literal, $name:literal) => {
        ($version, $name, include_str!(concat!("../../../migrations/event-store/postgres/", $name, ".sql")))
    };
}

/// What the log consists of, in order. A released file never changes: what it made is changed by a new one.
const MIGRATIONS: [(i32, &str, &str); 13] = [
    migration!(1, "0001_events"),
    migration!(2, "0002_log_head"),
    migration!(3, "0003_log_key"),
    migration!(4, "0004_commands"),
    migration!(5, "0005_claims"),
    migration!(6, "0006_batches"),
    migration!(7, "0007_append_only"),
    migration!(8, "0008_append_batch"),
    migration!(9, "0009_forget_commands"),
    migration!(10, "0010_append_event"),
    migration!(11, "0011_snapshots"),
    migration!(12, "0012_subject_keys"),
    migration!(13, "0013_erasures"),
];

/// "tributar" as a number: whoever migrates holds this lock of the database.
const MIGRATION_LOCK: i64 = 0x7472_6962_7574_6172;

/// For whoever else migrates one waits as long as that takes, but for a table only so long: behind one who waits for all of
/// it, everybody else would.
const WAIT_FOR_OTHERS: &str = "set local lock_timeout = 0";
const WAIT_FOR_TABLES: &str = "set local lock_timeout = '10s'";

/// Where all of it lies.
pub const SCHEMA: &str = "public";
/// What the service reads and nobody writes but the functions.
const TABLES: [&str; 7] = ["events", "log_head", "log_key", "commands", "claims", "batches", "log_migrations"];
/// Beside the log: the service writes them as it likes.
const TABLES_BESIDE: [&str; 3] = ["snapshots", "subject_keys", "erasures"];
/// Run with the rights of the tables' owner.
const FUNCTIONS: [&str; 3] = ["append_batch", "append_event", "forget_commands"];

/// All that the role of a service may do with its log: read it, append through two functions, and forget old answers through
/// a third. What stands beside the log is its own to write.
pub fn rights_of(service_role: &str) -> BTreeSet<Right> {
    let to = |privileges, kind, name| rights(privileges, &object(kind, SCHEMA, name), service_role);
    let read = TABLES.iter().flat_map(|table| to(&["select"], "table", table));
    let beside = TABLES_BESIDE.iter().flat_map(|table| to(&["select", "insert", "update", "delete"], "table", table));
    let append = FUNCTIONS.iter().flat_map(|function| to(&["execute"], "function", function));
    let enter = rights(&["usage"], &schema(SCHEMA), service_role);
    enter.into_iter().chain(read).chain(beside).chain(append).collect()
}

/// Why the tables could not be made. Nothing of the run stays.
#[derive(Debug, Error)]
#[error("{step}: {error}")]
pub struct MigrateError {
    /// The migration, or what else was being done.
    pub step: String,
    #[source]
    pub error: sqlx::Error,
}

impl MigrateError {
    /// Whether the role has not the right to do it.
    pub fn is_forbidden(&self) -> bool {
        const INSUFFICIENT_PRIVILEGE: &str = "42501";
        self.error.as_database_error().and_then(|error| error.code()).as_deref() == Some(INSUFFICIENT_PRIVILEGE)
    }
}

impl From<ChangeError> for MigrateError {
    fn from(ChangeError { step, error }: ChangeError) -> Self {
        Self { step, error }
    }
}

fn at(step: &str) -> impl FnOnce(sqlx::Error) -> MigrateError + use<> {
    let step = step.to_owned();
    move |error| MigrateError { step, error }
}

/// Which migrations have not been run. Those that a newer release has run are none of our business: migrations only
/// add, so that the previous release goes on working.
pub async fn missing(connection: &mut PgConnection) -> Result<Vec<&'static str>, MigrateError> {
    let made: bool = sqlx::query_scalar("select to_regclass('public.log_migrations') is not null")
        .fetch_one(&mut *connection)
        .await
        .map_err(at("look for log_migrations"))?;
    let run: Vec<i32> = match made {
        true => sqlx::query_scalar("select version from public.log_migrations")
            .fetch_all(connection)
            .await
            .map_err(at("read log_migrations"))?,
        false => Vec::new(),
    };
    Ok(MIGRATIONS.iter().filter(|(version, ..)| !run.contains(version)).map(|(_, name, _)| *name).collect())
}

/// Runs what is missing, makes the head of a new log of `source`, and with a `service_role` divides the rights.
///
/// The transaction lives on a connection that is nobody else's: a caller that goes away drops it with the connection.
pub async fn run(connection: &mut PgConnection, source: &str, service_role: Option<&str>) -> Result<(), MigrateError> {
    let mut transaction = connection.begin().await.map_err(at("begin"))?;
    raw_sql("set local search_path = public, pg_temp; set local statement_timeout = 0")
        .execute(&mut *transaction)
        .await
        .map_err(at("settings"))?;
    make(&mut transaction, source, &[]).await?;
    if let Some(role) = service_role {
        divide_rights(&mut transaction, role).await?;
    }
    transaction.commit().await.map_err(at("commit"))
}

/// Runs what is missing, and makes the head of a new log, in the transaction of whoever calls. What `there` numbers was
/// made by somebody else, and is only noted.
pub(super) async fn make(connection: &mut PgConnection, source: &str, there: &[i32]) -> Result<(), MigrateError> {
    raw_sql(WAIT_FOR_OTHERS).execute(&mut *connection).await.map_err(at("settings"))?;
    sqlx::query("select pg_advisory_xact_lock($1)")
        .bind(MIGRATION_LOCK)
        .execute(&mut *connection)
        .await
        .map_err(at("wait for another migration"))?;
    raw_sql(WAIT_FOR_TABLES).execute(&mut *connection).await.map_err(at("settings"))?;
    raw_sql(
        "create table if not exists log_migrations (version int4 primary key, name text not null, run_at timestamptz \
         not null default now())",
    )
    .execute(&mut *connection)
    .await
    .map_err(at("log_migrations"))?;
    for (version, name, _) in MIGRATIONS.iter().filter(|(version, ..)| there.contains(version)) {
        note(connection, *version, name).await?;
    }
    let missing = missing(connection).await?;
    for (version, name, sql) in MIGRATIONS.iter().filter(|(_, name, _)| missing.contains(name)) {
        raw_sql(*sql).execute(&mut *connection).await.map_err(at(name))?;
        note(connection, *version, name).await?;
        crate::failpoint!("postgres_migration");
    }
    sqlx::query(
        "insert into log_head (source, epoch, position, recorded_at) \
         select $1, gen_random_uuid(), 0, 'epoch' where not exists (select from log_head)",
    )
    .bind(source)
    .execute(&mut *connection)
    .await
    .map_err(at("log_head"))?;
    Ok(())
}

async fn note(connection: &mut PgConnection, version: i32, name: &'static str) -> Result<(), MigrateError> {
    let note = sqlx::query("insert into log_migrations (version, name) values ($1, $2)").bind(version).bind(name);
    note.execute(connection).await.map(drop).map_err(at(name))
}

/// A role that nobody logs in as owns everything, and the service may do what [`rights_of`] says and nothing else.
async fn divide_rights(transaction: &mut PgConnection, service_role: &str) -> Result<(), MigrateError> {
    const NAMES: &str = "select owner, current_database()::text, quote_ident(current_user), \
                         exists (select from pg_roles where rolname = owner) \
                         from (select left(current_database(), 50) || '_log_owner' as owner) as names";
    let (owner, name, admin, exists): (String, String, String, bool) =
        sqlx::query_as(NAMES).fetch_one(&mut *transaction).await.map_err(at("names of roles"))?;
    let quoted_owner = quoted(&owner);
    let mut prepare = vec![
        format!("grant {quoted_owner} to {admin}"),
        format!("grant usage, create on schema {SCHEMA} to {quoted_owner}"),
    ];
    if !exists {
        prepare.insert(0, format!("create role {quoted_owner} nologin"));
    }
    for statement in prepare {
        Change::new(statement).run(transaction).await?;
    }
    for change in rights::owned_by(transaction, &owner, &[SCHEMA], Names::ALL).await? {
        change.run(transaction).await?;
    }
    let mut wanted = rights_of(service_role);
    wanted.extend(rights(&["connect"], &rights::database(&name), service_role));
    // the functions look their tables up in public: nobody else may put things there
    for change in rights::compare(transaction, &[SCHEMA], &[&owner], &[service_role], &wanted).await? {
        change.run(transaction).await?;
    }
    Ok(())
}
