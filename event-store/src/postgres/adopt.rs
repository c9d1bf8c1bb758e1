//! A service that writes with postgres-es becomes a log of ours, in place: its table gets what it lacks, and a trigger
//! numbers what the unchanged service goes on inserting. All of it in one transaction, with nobody writing meanwhile: cut
//! off half-way, nothing has happened, and done twice is done once.

use database::Database;
use sqlx::{Connection, PgConnection, raw_sql};
use thiserror::Error;

use super::{OpenError, PostgresLog, PostgresOptions, check_server, migrate, named, open};
use crate::limits::ADOPTED_BYTES_MAX;
use events::consistency::{SOURCE_CHARS_MAX, may_be_source};

const COLUMNS: &str = include_str!("../../../migrations/event-store/postgres-es/columns.sql");
const ADOPT_EVENT: &str = include_str!("../../../migrations/event-store/postgres-es/adopt_event.sql");
const CHAIN: &str = include_str!("../../../migrations/event-store/postgres-es/chain.sql");

/// What postgres-es 0.5 makes (`db/init.sql`), in the names of the catalogue.
const TABLE: [(&str, &str); 7] = [
    ("aggregate_type", "text"),
    ("aggregate_id", "text"),
    ("sequence", "bigint"),
    ("event_type", "text"),
    ("event_version", "text"),
    ("payload", "json"),
    ("metadata", "json"),
];

const FOUND: &str = "select attname::text, format_type(atttypid, atttypmod) from pg_attribute \
                     where attrelid = to_regclass('public.events') and attnum > 0 and not attisdropped";

const ADOPTED: &str =
    "select exists (select from pg_trigger where tgrelid = to_regclass('public.events') and tgname = 'events_adopt')";

/// Tables of ours that somebody else may have: nothing of theirs is touched.
const TAKEN: &str = "select string_agg(name, ', ') from unnest($1::text[]) as name \
                     where to_regclass('public.' || name) is not null";

const OURS: [&str; 8] =
    ["log_head", "log_key", "commands", "claims", "batches", "subject_keys", "erasures", "log_migrations"];

const COUNTS: &str = "select coalesce(sum(events), 0)::int8, count(*) from \
                      (select count(*) as events from events group by aggregate_type, aggregate_id) as streams";

const HOLE: &str = "select aggregate_type, aggregate_id from events group by aggregate_type, aggregate_id \
                    having min(sequence) <> 1 or max(sequence) <> count(*) limit 1";

const METADATA: &str = "select aggregate_type, aggregate_id, sequence from events \
                        where json_typeof(metadata) <> 'object' limit 1";

const OVERSIZED: &str = "select aggregate_type, aggregate_id, sequence, \
                         octet_length(payload::text) + octet_length(metadata::text) from events \
                         where octet_length(payload::text) + octet_length(metadata::text) > $1 limit 1";

/// A table of snapshots has another form with postgres-es. Ours is not needed while it writes, so theirs stays.
const SNAPSHOTS_VERSION: i32 = 11;

/// What an adoption found, or would find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Adoption {
    pub events: u64,
    pub streams: u64,
    /// It was adopted before; only what a newer release adds was done.
    pub was_adopted: bool,
}

/// Why a database was not adopted. Nothing has changed in it.
#[derive(Debug, Error)]
pub enum AdoptError {
    #[error(
        "{name:?} cannot be the name of a log, which tokens name: it is to be 1 to {SOURCE_CHARS_MAX} of A-Z, a-z, 0-9 and -"
    )]
    Name { name: String },
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error("there is no table public.events: this is not a database of postgres-es, or its tables have other names")]
    NoTable,
    #[error("public.events is not the table that postgres-es 0.5 makes: {reason}")]
    OtherTable { reason: String },
    #[error("there are tables with names of ours: {tables}")]
    Taken { tables: String },
    #[error("{aggregate_type} {aggregate_id} lacks an event: its sequences do not run from 1 without a hole")]
    Hole { aggregate_type: String, aggregate_id: String },
    #[error("the metadata of event {sequence} of {aggregate_type} {aggregate_id} is not a JSON object")]
    Metadata { aggregate_type: String, aggregate_id: String, sequence: i64 },
    #[error(
        "event {sequence} of {aggregate_type} {aggregate_id} has {bytes} bytes; no feed carries more than {ADOPTED_BYTES_MAX}"
    )]
    Oversized { aggregate_type: String, aggregate_id: String, sequence: i64, bytes: i32 },
    #[error("{step}: {error}; nothing has changed, so it can be tried again, best with the service stopped")]
    Sql { step: &'static str, error: sqlx::Error },
}

fn at(step: &'static str) -> impl Fn(sqlx::Error) -> AdoptError {
    move |error| AdoptError::Sql { step, error }
}

impl PostgresLog {
    /// Makes the events that postgres-es has written to the database at `admin_url` the log of `source`, with the rights of
    /// the table's owner. With `is_dry` only looks whether that can be done. The service's own role keeps what it may.
    pub async fn adopt(admin_url: &str, source: &str, is_dry: bool) -> Result<Adoption, AdoptError> {
        // it is for good, so it is looked at first
        if !may_be_source(source) {
            return Err(AdoptError::Name { name: source.to_owned() });
        }
        let admin: Database = admin_url.parse().map_err(OpenError::Login)?;
        let mut connection = open(&named(admin.options()), &PostgresOptions::default()).await?;
        check_server(&mut connection).await?;
        // lives on a connection that is nobody else's: a caller that goes away drops it with the connection
        let mut transaction = connection.begin().await.map_err(at("begin"))?;
        let adoption = adopt(&mut transaction, source, is_dry).await?;
        match is_dry {
            true => transaction.rollback().await.map_err(at("end the look"))?,
            false => transaction.commit().await.map_err(at("commit"))?,
        }
        let closed = connection.close().await;
        closed.map_err(at("close the connection"))?;
        Ok(adoption)
    }
}

async fn adopt(connection: &mut PgConnection, source: &str, is_dry: bool) -> Result<Adoption, AdoptError> {
    let settings = "set local search_path = public, pg_temp; set local statement_timeout = 0";
    raw_sql(settings).execute(&mut *connection).await.map_err(at("settings"))?;
    check_table(connection).await?;
    if !is_dry {
        // writers under way end first, and whoever comes waits; but not for ever behind one that stands open
        let lock = "set local lock_timeout = '10s'; lock table events in access exclusive mode";
        raw_sql(lock).execute(&mut *connection).await.map_err(at("wait for those who write"))?;
    }
    let (events, streams): (i64, i64) =
        sqlx::query_as(COUNTS).fetch_one(&mut *connection).await.map_err(at("count the events"))?;
    let was_adopted: bool =
        sqlx::query_scalar(ADOPTED).fetch_one(&mut *connection).await.map_err(at("look for the trigger"))?;
    let adoption = Adoption { events: events.unsigned_abs(), streams: streams.unsigned_abs(), was_adopted };
    if was_adopted {
        let identity = super::read_identity(connection).await.map_err(OpenError::Identity)?;
        super::identity_is_of(source, &identity)?;
        if !is_dry {
            migrate::make(connection, source, &[]).await.map_err(OpenError::Migrate)?;
            raw_sql(ADOPT_EVENT).execute(&mut *connection).await.map_err(at("number what is to come"))?;
        }
        return Ok(adoption);
    }
    check_names(connection).await?;
    check_events(connection).await?;
    if is_dry {
        return Ok(adoption);
    }
    raw_sql(COLUMNS).execute(&mut *connection).await.map_err(at("number the events"))?;
    let there = kept(connection).await?;
    migrate::make(connection, source, &there).await.map_err(OpenError::Migrate)?;
    raw_sql(ADOPT_EVENT).execute(&mut *connection).await.map_err(at("number what is to come"))?;
    raw_sql(CHAIN).execute(&mut *connection).await.map_err(at("chain what is there"))?;
    Ok(adoption)
}

/// The migrations whose tables are there already, and stay as they are.
async fn kept(connection: &mut PgConnection) -> Result<Vec<i32>, AdoptError> {
    let has_snapshots: bool = sqlx::query_scalar("select to_regclass('public.snapshots') is not null")
        .fetch_one(connection)
        .await
        .map_err(at("look for snapshots"))?;
    let events_version = 1;
    Ok(if has_snapshots { vec![events_version, SNAPSHOTS_VERSION] } else { vec![events_version] })
}

async fn check_table(connection: &mut PgConnection) -> Result<(), AdoptError> {
    let found: Vec<(String, String)> =
        sqlx::query_as(FOUND).fetch_all(connection).await.map_err(at("look at the table"))?;
    if found.is_empty() {
        return Err(AdoptError::NoTable);
    }
    for (name, kind) in TABLE {
        let reason = match found.iter().find(|(found, _)| found == name) {
            Some((_, found)) if found == kind => continue,
            Some((_, found)) => format!("{name} is {found}, not {kind}"),
            None => format!("it has no column {name}"),
        };
        return Err(AdoptError::OtherTable { reason });
    }
    Ok(())
}

async fn check_names(connection: &mut PgConnection) -> Result<(), AdoptError> {
    let taken: Option<String> = sqlx::query_scalar(TAKEN)
        .bind(OURS.as_slice())
        .fetch_one(&mut *connection)
        .await
        .map_err(at("look for names"))?;
    if let Some(tables) = taken {
        return Err(AdoptError::Taken { tables });
    }
    let found: Vec<(String, String)> =
        sqlx::query_as(FOUND).fetch_all(connection).await.map_err(at("look at the table"))?;
    match found.iter().find(|(name, _)| TABLE.iter().all(|(known, _)| known != name)) {
        Some((name, _)) => Err(AdoptError::OtherTable { reason: format!("it also has a column {name}") }),
        None => Ok(()),
    }
}

async fn check_events(connection: &mut PgConnection) -> Result<(), AdoptError> {
    let hole: Option<(String, String)> =
        sqlx::query_as(HOLE).fetch_optional(&mut *connection).await.map_err(at("look for holes"))?;
    if let Some((aggregate_type, aggregate_id)) = hole {
        return Err(AdoptError::Hole { aggregate_type, aggregate_id });
    }
    let odd: Option<(String, String, i64)> =
        sqlx::query_as(METADATA).fetch_optional(&mut *connection).await.map_err(at("look at the metadata"))?;
    if let Some((aggregate_type, aggregate_id, sequence)) = odd {
        return Err(AdoptError::Metadata { aggregate_type, aggregate_id, sequence });
    }
    let bytes_max = i32::try_from(ADOPTED_BYTES_MAX).expect("far below 2^31");
    let oversized: Option<(String, String, i64, i32)> =
        sqlx::query_as(OVERSIZED).bind(bytes_max).fetch_optional(connection).await.map_err(at("look at the sizes"))?;
    match oversized {
        Some((aggregate_type, aggregate_id, sequence, bytes)) => {
            Err(AdoptError::Oversized { aggregate_type, aggregate_id, sequence, bytes })
        }
        None => Ok(()),
    }
}
