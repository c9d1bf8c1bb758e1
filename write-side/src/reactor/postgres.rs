//! A reactor's checkpoint and duties in the schema `reactor` of the service's PostgreSQL database.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use event_store::{
    clock::time_of_us,
    follower::{ApplyError, StoreError, Vector},
};
use sqlx::{PgTransaction, Row, postgres::PgRow};
use uuid::Uuid;

use super::duty::{DueNow, Duties, Duty, DutyId, too_many};
use crate::progress::{
    Moved,
    postgres::{PostgresSchema, Schema, unavailable},
    signed, unsigned, uuid_of,
};

/// In order; a released file never changes.
const MIGRATIONS: [&str; 4] = [
    include_str!("../../../migrations/reactor/postgres/0001_reactor.sql"),
    include_str!("../../../migrations/reactor/postgres/0002_fence.sql"),
    include_str!("../../../migrations/reactor/postgres/0003_checkpoint.sql"),
    include_str!("../../../migrations/reactor/postgres/0004_duties.sql"),
];

/// "trib_rea" as a number is the lock.
const SCHEMA: Schema = Schema { name: "reactor", lock: 0x7472_6962_5f72_6561, migrations: &MIGRATIONS };

/// The follower and the runner; duties that end at once take turns.
const CONNECTIONS_MAX: u32 = 2;

pub struct PostgresDuties {
    schema: PostgresSchema,
}

impl PostgresDuties {
    /// Connects, and makes the schema if it is missing.
    pub async fn connect(url: &str) -> Result<Self, sqlx::Error> {
        Ok(Self { schema: PostgresSchema::connect(url, SCHEMA, CONNECTIONS_MAX).await? })
    }
}

#[async_trait]
impl Duties for PostgresDuties {
    async fn load(&self, take_fence: bool) -> Result<(u64, Vector), StoreError> {
        self.schema
            .transact(move |schema, transaction| {
                Box::pin(async move {
                    let fence = schema.lock_fence(transaction, take_fence).await?;
                    Ok((fence, schema.vector(transaction).await?))
                })
            })
            .await
    }

    async fn fence(&self) -> Result<u64, StoreError> {
        self.schema.fence().await
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
                        "select source, position, event_id, stream, timer, due_at, attempts, reason \
                         from reactor.duties as duty where due_at <= $1 and not exists (select 1 \
                         from reactor.duties as earlier where earlier.source = duty.source \
                         and earlier.stream = duty.stream and not earlier.timer \
                         and earlier.position < duty.position) order by due_at, position limit $2",
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

    async fn done(&self, fence: u64, duty: &DutyId) -> Result<(), ApplyError> {
        let DutyId { source, position } = duty.clone();
        self.schema
            .transact(move |schema, transaction| {
                Box::pin(async move {
                    schema.check_fence(transaction, fence).await?;
                    sqlx::query("delete from reactor.duties where source = $1 and position = $2")
                        .bind(source)
                        .bind(signed(position)?)
                        .execute(&mut **transaction)
                        .await
                        .map_err(unavailable)?;
                    Ok(())
                })
            })
            .await
    }

    async fn put_off(&self, fence: u64, duty: &Duty) -> Result<(), ApplyError> {
        let duty = duty.clone();
        self.schema
            .transact(move |schema, transaction| {
                Box::pin(async move {
                    schema.check_fence(transaction, fence).await?;
                    let update = "update reactor.duties set due_at = $3, attempts = $4, reason = $5 \
                                  where source = $1 and position = $2";
                    sqlx::query(update)
                        .bind(duty.id.source)
                        .bind(signed(duty.id.position)?)
                        .bind(duty.due_at.timestamp_micros())
                        .bind(i32::try_from(duty.attempts).unwrap_or(i32::MAX))
                        .bind(duty.reason)
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
                    let select = "select source, position, event_id, stream, timer, due_at, attempts, reason \
                                  from reactor.duties order by attempts desc, due_at, position limit $1";
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
        "insert into reactor.duties (source, position, event_id, stream, timer, due_at, attempts, reason) \
         select * from unnest($1::text[], $2::bigint[], $3::text[], $4::text[], $5::boolean[], $6::bigint[], \
         $7::integer[], $8::text[])",
    )
    .bind(duties.iter().map(|duty| duty.id.source.clone()).collect::<Vec<_>>())
    .bind(positions)
    .bind(duties.iter().map(|duty| duty.event_id.to_string()).collect::<Vec<_>>())
    .bind(duties.iter().map(|duty| duty.stream.clone()).collect::<Vec<_>>())
    .bind(duties.iter().map(|duty| duty.timer).collect::<Vec<_>>())
    .bind(duties.iter().map(|duty| duty.due_at.timestamp_micros()).collect::<Vec<_>>())
    .bind(attempts.collect::<Vec<_>>())
    .bind(duties.iter().map(|duty| duty.reason.clone()).collect::<Vec<_>>())
    .execute(&mut **transaction)
    .await
    .map_err(unavailable)?;
    Ok(())
}

fn duty(row: &PgRow) -> Result<Duty, StoreError> {
    let (source, position): (String, i64) = (row.get(0), row.get(1));
    let (event_id, stream): (String, String) = (row.get(2), row.get(3));
    let (timer, due_at, attempts): (bool, i64, i32) = (row.get(4), row.get(5), row.get(6));
    Ok(Duty {
        id: DutyId { source, position: unsigned("position", position)? },
        event_id: uuid_of(&event_id)?,
        stream,
        timer,
        due_at: time_of_us(due_at),
        attempts: u32::try_from(attempts).unwrap_or(u32::MAX),
        reason: row.get(7),
    })
}
