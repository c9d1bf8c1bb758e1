//! The index in the schema `sagas` of the service's PostgreSQL database.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use database::Database;
use event_store::{
    clock::time_of_us,
    follower::{ApplyError, StoreError, Vector},
};
use sqlx::{AssertSqlSafe, PgTransaction, Row, postgres::PgRow};
use uuid::Uuid;

use super::{
    Filter, Tally,
    standing::{Standing, StuckStep},
    store::Rows,
};
use crate::progress::{
    Moved, Tenure, damaged,
    postgres::{PostgresSchema, Schema, SchemaError, unavailable},
    signed, unsigned, uuid_of,
};

/// "trib_sag" as a number is the lock.
pub const SCHEMA: Schema = Schema { name: "sagas", lock: 0x7472_6962_5f73_6167, migrations: &MIGRATIONS };

/// In order; a released file never changes.
const MIGRATIONS: [&str; 6] = [
    include_str!("../../../../migrations/sagas/postgres/0001_sagas.sql"),
    include_str!("../../../../migrations/sagas/postgres/0002_fence.sql"),
    include_str!("../../../../migrations/sagas/postgres/0003_checkpoint.sql"),
    include_str!("../../../../migrations/sagas/postgres/0004_sagas.sql"),
    include_str!("../../../../migrations/sagas/postgres/0005_beat.sql"),
    include_str!("../../../../migrations/sagas/postgres/0006_overdue.sql"),
];

const COLUMNS: &str = "saga_id, ids, version, phase, started_at, changed_at, deadline_at, outcome, open_steps, \
                       stuck_steps, stuck_since, stuck, overdue_at";

/// The follower applies one step at a time; the other is for who looks.
const CONNECTIONS_MAX: u32 = 2;

pub struct PostgresRows {
    schema: PostgresSchema,
}

impl PostgresRows {
    /// Connects, and makes the schema if it is missing.
    pub async fn connect(database: &Database) -> Result<Self, SchemaError> {
        Ok(Self { schema: PostgresSchema::connect(database, SCHEMA, CONNECTIONS_MAX).await? })
    }
}

#[async_trait]
impl Rows for PostgresRows {
    async fn load(&self, take_fence: bool) -> Result<(u64, Vector), StoreError> {
        self.schema.load(take_fence).await
    }

    fn tenure(&self) -> &dyn Tenure {
        &self.schema
    }

    async fn known(&self, ids: Vec<Uuid>) -> Result<Vec<Standing>, StoreError> {
        let ids: Vec<String> = ids.iter().map(Uuid::to_string).collect();
        self.schema
            .transact(move |_, transaction| {
                Box::pin(async move {
                    let select = AssertSqlSafe(format!("select {COLUMNS} from sagas.sagas where saga_id = any($1)"));
                    let rows = sqlx::query(select).bind(ids).fetch_all(&mut **transaction).await;
                    rows.map_err(unavailable)?.iter().map(standing).collect()
                })
            })
            .await
    }

    async fn write(&self, moved: Moved, rows: Vec<Standing>) -> Result<(), ApplyError> {
        let columns = Columns::of(&rows)?;
        self.schema
            .transact(move |schema, transaction| {
                Box::pin(async move {
                    schema.move_checkpoint(transaction, &moved).await?;
                    Ok(write(transaction, columns).await.map_err(unavailable)?)
                })
            })
            .await
    }

    async fn forget(&self) -> Result<(), StoreError> {
        self.schema
            .transact(move |schema, transaction| {
                Box::pin(async move {
                    schema.take_fence(transaction).await?;
                    for table in ["sagas.checkpoint", "sagas.sagas"] {
                        // one of two constants
                        let delete = AssertSqlSafe(format!("delete from {table}"));
                        sqlx::query(delete).execute(&mut **transaction).await.map_err(unavailable)?;
                    }
                    Ok(())
                })
            })
            .await
    }

    async fn list(&self, filter: Filter, limit: usize) -> Result<Vec<Standing>, StoreError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.schema
            .transact(move |_, transaction| {
                Box::pin(async move {
                    let (sql, phase) = filter.sql(&format!("select {COLUMNS} from sagas.sagas"), "$1");
                    // made of constants, and a number
                    let mut select = sqlx::query(AssertSqlSafe(format!("{sql} limit {limit}")));
                    if let Some(phase) = phase {
                        select = select.bind(phase);
                    }
                    let rows = select.fetch_all(&mut **transaction).await;
                    rows.map_err(unavailable)?.iter().map(standing).collect()
                })
            })
            .await
    }

    async fn tally(&self, now: DateTime<Utc>) -> Result<Tally, StoreError> {
        self.schema
            .transact(move |_, transaction| {
                Box::pin(async move {
                    let phases: Vec<(String, i64)> =
                        sqlx::query_as("select phase, count(*) from sagas.sagas group by phase order by phase")
                            .fetch_all(&mut **transaction)
                            .await
                            .map_err(unavailable)?;
                    let (oldest, stuck, overdue): (Option<i64>, i64, i64) = sqlx::query_as(
                        "select (select min(started_at) from sagas.sagas where outcome is null), \
                         (select count(*) from sagas.sagas where stuck_since is not null), \
                         (select count(*) from sagas.sagas where overdue_at <= $1)",
                    )
                    .bind(now.timestamp_micros())
                    .fetch_one(&mut **transaction)
                    .await
                    .map_err(unavailable)?;
                    let phases = phases.into_iter().map(|(phase, count)| Ok((phase, unsigned("count", count)?)));
                    Ok(Tally {
                        phases: phases.collect::<Result<_, StoreError>>()?,
                        oldest_started_at: oldest.map(time_of_us),
                        stuck: unsigned("count", stuck)?,
                        overdue: unsigned("count", overdue)?,
                    })
                })
            })
            .await
    }
}

/// One statement, however many there are.
async fn write(transaction: &mut PgTransaction<'_>, columns: Columns) -> Result<(), sqlx::Error> {
    if columns.saga_ids.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "insert into sagas.sagas (saga_id, ids, version, phase, started_at, changed_at, deadline_at, outcome, open_steps, \
         stuck_steps, stuck_since, stuck, overdue_at) select * from unnest($1::text[], $2::text[], $3::bigint[], $4::text[], \
         $5::bigint[], $6::bigint[], $7::bigint[], $8::text[], $9::bigint[], $10::bigint[], $11::bigint[], $12::text[], \
         $13::bigint[]) \
         on conflict (saga_id) do update set ids = excluded.ids, version = excluded.version, phase = excluded.phase, \
         started_at = excluded.started_at, changed_at = excluded.changed_at, deadline_at = excluded.deadline_at, \
         outcome = excluded.outcome, open_steps = excluded.open_steps, stuck_steps = excluded.stuck_steps, \
         stuck_since = excluded.stuck_since, stuck = excluded.stuck, overdue_at = excluded.overdue_at",
    )
    .bind(columns.saga_ids)
    .bind(columns.ids)
    .bind(columns.versions)
    .bind(columns.phases)
    .bind(columns.started_at)
    .bind(columns.changed_at)
    .bind(columns.deadline_at)
    .bind(columns.outcomes)
    .bind(columns.open_steps)
    .bind(columns.stuck_steps)
    .bind(columns.stuck_since)
    .bind(columns.stuck)
    .bind(columns.overdue_at)
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

/// Rows as columns.
#[derive(Default)]
struct Columns {
    saga_ids: Vec<String>,
    ids: Vec<String>,
    versions: Vec<i64>,
    phases: Vec<String>,
    started_at: Vec<i64>,
    changed_at: Vec<i64>,
    deadline_at: Vec<i64>,
    outcomes: Vec<Option<String>>,
    open_steps: Vec<i64>,
    stuck_steps: Vec<i64>,
    stuck_since: Vec<Option<i64>>,
    stuck: Vec<String>,
    overdue_at: Vec<Option<i64>>,
}

impl Columns {
    fn of(rows: &[Standing]) -> Result<Self, StoreError> {
        let us = |time: DateTime<Utc>| time.timestamp_micros();
        let mut columns = Self::default();
        for row in rows {
            columns.saga_ids.push(row.saga_id.to_string());
            columns.ids.push(row.ids.to_string());
            columns.versions.push(row.version.into());
            columns.phases.push(row.phase.clone());
            columns.started_at.push(us(row.started_at));
            columns.changed_at.push(us(row.changed_at));
            columns.deadline_at.push(us(row.deadline_at));
            columns.outcomes.push(row.outcome.clone());
            columns.open_steps.push(signed(row.open_steps)?);
            columns.stuck_steps.push(signed(row.stuck_steps)?);
            columns.stuck_since.push(row.stuck_since.map(us));
            let stuck = serde_json::to_string(&row.stuck).map_err(|error| StoreError::Bug(error.to_string()))?;
            columns.stuck.push(stuck);
            columns.overdue_at.push(row.overdue_at.map(us));
        }
        Ok(columns)
    }
}

fn standing(row: &PgRow) -> Result<Standing, StoreError> {
    let (saga_id, ids, stuck): (String, String, String) = (row.get(0), row.get(1), row.get(11));
    let stuck: Vec<StuckStep> =
        serde_json::from_str(&stuck).map_err(|_| damaged(format!("stuck steps of {saga_id}")))?;
    let version: i64 = row.get(2);
    Ok(Standing {
        saga_id: uuid_of(&saga_id)?,
        ids: serde_json::from_str(&ids).map_err(|_| damaged(format!("ids of {saga_id}")))?,
        version: u32::try_from(version).map_err(|_| damaged(format!("version {version}")))?,
        phase: row.get(3),
        started_at: time_of_us(row.get(4)),
        changed_at: time_of_us(row.get(5)),
        deadline_at: time_of_us(row.get(6)),
        outcome: row.get(7),
        open_steps: unsigned("count", row.get(8))?,
        stuck_steps: unsigned("count", row.get(9))?,
        stuck_since: row.get::<Option<i64>, _>(10).map(time_of_us),
        stuck,
        overdue_at: row.get::<Option<i64>, _>(12).map(time_of_us),
    })
}
