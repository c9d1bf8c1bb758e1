//! A reactor's checkpoint and duties in the schema `reactor` of the service's PostgreSQL database.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use database::Database;
use event_store::{
    clock::time_of_us,
    follower::{ApplyError, StoreError, Vector},
};
use sqlx::{PgTransaction, Row, postgres::PgRow};
use uuid::Uuid;

use super::duty::{DueNow, Duties, Duty, DutyId, Settled, too_many};
use crate::progress::{
    Moved, Tenure, damaged,
    postgres::{PostgresSchema, Schema, SchemaError, unavailable},
    signed, unsigned, uuid_of,
};

/// In order; a released file never changes.
const MIGRATIONS: [&str; 6] = [
    include_str!("../../../migrations/reactor/postgres/0001_reactor.sql"),
    include_str!("../../../migrations/reactor/postgres/0002_fence.sql"),
    include_str!("../../../migrations/reactor/postgres/0003_checkpoint.sql"),
    include_str!("../../../migrations/reactor/postgres/0004_duties.sql"),
    include_str!("../../../migrations/reactor/postgres/0005_parts.sql"),
    include_str!("../../../migrations/reactor/postgres/0006_beat.sql"),
];

/// "trib_rea" as a number is the lock.
pub const SCHEMA: Schema = Schema { name: "reactor", lock: 0x7472_6962_5f72_6561, migrations: &MIGRATIONS };

/// The follower and the runner; duties that end at once take turns.
const CONNECTIONS_MAX: u32 = 2;

pub struct PostgresDuties {
    schema: PostgresSchema,
}

impl PostgresDuties {
    /// Connects, and makes the schema if it is missing.
    pub async fn connect(database: &Database) -> Result<Self, SchemaError> {
        Ok(Self { schema: PostgresSchema::connect(database, SCHEMA, CONNECTIONS_MAX).await? })
    }
}

#[async_trait]
impl Duties for PostgresDuties {
    async fn load(&self, take_fence: bool) -> Result<(u64, Vector), StoreError> {
        self.schema.load(take_fence).await
    }

    fn tenure(&self) -> &dyn Tenure {
        &self.schema
    }

    async fn begin(&self, source: &str, epoch: Uuid) -> Result<(), StoreError> {
        let source = source.to_owned();
        self.schema
            .transact(move |_, transaction| {
                Box::pin(async move {
                    let insert = "insert into reactor.checkpoint (source, epoch, position, event_id) \
                                  values ($1, $2, 0, null) on conflict (source) do nothing";
                    let insert = sqlx::query(insert).bind(source).bind(epoch.to_string());
                    insert.execute(&mut **transaction).await.map_err(unavailable)?;
                    Ok(())
                })
            })
            .await
    }

    async fn note(&self, moved: Moved, duties: Vec<Duty>, open_max: usize) -> Result<(), ApplyError> {
        self.schema
            .transact(move |schema, transaction| {
                Box::pin(async move {
                    schema.move_checkpoint(transaction, &moved).await?;
                    if duties.is_empty() {
                        return Ok(());
                    }
                    let open: i64 = sqlx::query_scalar("select count(*) from reactor.duties where not timer")
                        .fetch_one(&mut **transaction)
                        .await
                        .map_err(unavailable)?;
                    if unsigned("count", open)? >= open_max as u64 {
                        return Err(too_many(open_max).into());
                    }
                    Ok(insert(transaction, &duties).await?)
                })
            })
            .await
    }

    async fn due(&self, fence: u64, now: DateTime<Utc>, limit: usize) -> Result<DueNow, ApplyError> {
        self.schema
            .transact(move |schema, transaction| {
                Box::pin(async move {
                    schema.check_fence(transaction, fence).await?;
                    let rows = sqlx::query(
                        "select source, position, part, event_id, stream, timer, due_at, attempts, reason \
                         from reactor.duties as duty where due_at <= $1 and not exists (select 1 \
                         from reactor.duties as earlier where earlier.source = duty.source \
                         and earlier.stream = duty.stream and not earlier.timer \
                         and (earlier.position, earlier.part) < (duty.position, duty.part)) \
                         order by due_at, position, part limit $2",
                    )
                    .bind(now.timestamp_micros())
                    .bind(limit_of(limit))
                    .fetch_all(&mut **transaction)
                    .await
                    .map_err(unavailable)?;
                    let next: Option<i64> =
                        sqlx::query_scalar("select min(due_at) from reactor.duties where due_at > $1")
                            .bind(now.timestamp_micros())
                            .fetch_one(&mut **transaction)
                            .await
                            .map_err(unavailable)?;
                    let duties = rows.iter().map(duty).collect::<Result<_, _>>()?;
                    Ok(DueNow { duties, next: next.map(time_of_us) })
                })
            })
            .await
    }

    async fn settle(&self, fence: u64, settled: Settled) -> Result<(), ApplyError> {
        self.schema
            .transact(move |schema, transaction| {
                Box::pin(async move {
                    schema.check_fence(transaction, fence).await?;
                    if !settled.done.is_empty() {
                        delete(transaction, &settled.done).await?;
                    }
                    for duty in &settled.put_off {
                        put_off(transaction, duty).await?;
                    }
                    Ok(())
                })
            })
            .await
    }

    async fn hurry(&self, fence: u64, now: DateTime<Utc>, latest: DateTime<Utc>) -> Result<(), ApplyError> {
        self.schema
            .transact(move |schema, transaction| {
                Box::pin(async move {
                    schema.check_fence(transaction, fence).await?;
                    sqlx::query("update reactor.duties set due_at = $1 where due_at > $2 and not timer")
                        .bind(now.timestamp_micros())
                        .bind(latest.timestamp_micros())
                        .execute(&mut **transaction)
                        .await
                        .map_err(unavailable)?;
                    Ok(())
                })
            })
            .await
    }

    async fn open(&self, limit: usize) -> Result<Vec<Duty>, StoreError> {
        self.schema
            .transact(move |_, transaction| {
                Box::pin(async move {
                    let select = "select source, position, part, event_id, stream, timer, due_at, attempts, reason \
                                  from reactor.duties order by attempts desc, due_at, position, part limit $1";
                    let rows = sqlx::query(select).bind(limit_of(limit)).fetch_all(&mut **transaction).await;
                    rows.map_err(unavailable)?.iter().map(duty).collect()
                })
            })
            .await
    }
}

fn limit_of(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

/// One statement, however many there are.
async fn insert(transaction: &mut PgTransaction<'_>, duties: &[Duty]) -> Result<(), StoreError> {
    let positions = duties.iter().map(|duty| signed(duty.id.position)).collect::<Result<Vec<_>, _>>()?;
    let attempts = duties.iter().map(|duty| i32::try_from(duty.attempts).unwrap_or(i32::MAX));
    sqlx::query(
        "insert into reactor.duties (source, position, part, event_id, stream, timer, due_at, attempts, reason) \
         select * from unnest($1::text[], $2::bigint[], $3::integer[], $4::text[], $5::text[], $6::boolean[], \
         $7::bigint[], $8::integer[], $9::text[])",
    )
    .bind(duties.iter().map(|duty| duty.id.source.clone()).collect::<Vec<_>>())
    .bind(positions)
    .bind(duties.iter().map(|duty| i32::from(duty.id.part)).collect::<Vec<_>>())
    .bind(duties.iter().map(|duty| duty.event_id.to_string()).collect::<Vec<_>>())
    .bind(duties.iter().map(|duty| duty.lane.clone()).collect::<Vec<_>>())
    .bind(duties.iter().map(|duty| duty.timer).collect::<Vec<_>>())
    .bind(duties.iter().map(|duty| duty.due_at.timestamp_micros()).collect::<Vec<_>>())
    .bind(attempts.collect::<Vec<_>>())
    .bind(duties.iter().map(|duty| duty.reason.clone()).collect::<Vec<_>>())
    .execute(&mut **transaction)
    .await
    .map_err(unavailable)?;
    Ok(())
}

/// One statement, however many there are.
async fn delete(transaction: &mut PgTransaction<'_>, done: &[DutyId]) -> Result<(), StoreError> {
    let positions = done.iter().map(|id| signed(id.position)).collect::<Result<Vec<_>, _>>()?;
    sqlx::query(
        "delete from reactor.duties as duty using unnest($1::text[], $2::bigint[], $3::integer[]) \
         as done (source, position, part) where duty.source = done.source and duty.position = done.position \
         and duty.part = done.part",
    )
    .bind(done.iter().map(|id| id.source.clone()).collect::<Vec<_>>())
    .bind(positions)
    .bind(done.iter().map(|id| i32::from(id.part)).collect::<Vec<_>>())
    .execute(&mut **transaction)
    .await
    .map_err(unavailable)?;
    Ok(())
}

async fn put_off(transaction: &mut PgTransaction<'_>, duty: &Duty) -> Result<(), StoreError> {
    let update = "update reactor.duties set due_at = $4, attempts = $5, reason = $6 \
                  where source = $1 and position = $2 and part = $3";
    sqlx::query(update)
        .bind(duty.id.source.clone())
        .bind(signed(duty.id.position)?)
        .bind(i32::from(duty.id.part))
        .bind(duty.due_at.timestamp_micros())
        .bind(i32::try_from(duty.attempts).unwrap_or(i32::MAX))
        .bind(duty.reason.clone())
        .execute(&mut **transaction)
        .await
        .map_err(unavailable)?;
    Ok(())
}

fn duty(row: &PgRow) -> Result<Duty, StoreError> {
    let (source, position, part): (String, i64, i32) = (row.get(0), row.get(1), row.get(2));
    let (event_id, lane): (String, String) = (row.get(3), row.get(4));
    let (timer, due_at, attempts): (bool, i64, i32) = (row.get(5), row.get(6), row.get(7));
    let part = u16::try_from(part).map_err(|_| damaged(format!("part {part}")))?;
    Ok(Duty {
        id: DutyId { source, position: unsigned("position", position)?, part },
        event_id: uuid_of(&event_id)?,
        lane,
        timer,
        due_at: time_of_us(due_at),
        attempts: u32::try_from(attempts).unwrap_or(u32::MAX),
        reason: row.get(8),
    })
}
