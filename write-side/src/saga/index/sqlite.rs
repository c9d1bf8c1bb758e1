//! The index in an SQLite file of its own: it can be made anew from the log.

use std::path::Path;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use event_store::{
    clock::time_of_us,
    follower::{ApplyError, StoreError, Vector},
};
use rusqlite::{OptionalExtension, Row, Transaction, params, params_from_iter};
use uuid::Uuid;

use super::{
    Filter, Tally,
    standing::{Standing, StuckStep},
    store::Rows,
};
use crate::progress::{
    Moved, Tenure, damaged, signed,
    sqlite::{Durability, SqliteFile, move_checkpoint, take_fence, unavailable},
    unsigned, uuid_of,
};

/// In order; a released file never changes.
const MIGRATIONS: [&str; 5] = [
    include_str!("../../../../migrations/sagas/sqlite/0001_fence.sql"),
    include_str!("../../../../migrations/sagas/sqlite/0002_checkpoint.sql"),
    include_str!("../../../../migrations/sagas/sqlite/0003_sagas.sql"),
    include_str!("../../../../migrations/sagas/sqlite/0004_beat.sql"),
    include_str!("../../../../migrations/sagas/sqlite/0005_overdue.sql"),
];

const COLUMNS: &str = "saga_id, ids, version, phase, started_at, changed_at, deadline_at, outcome, open_steps, \
                       stuck_steps, stuck_since, stuck, overdue_at";

pub struct SqliteRows {
    file: SqliteFile,
}

impl SqliteRows {
    /// Opens or makes the file; `None` = in memory.
    pub fn open(path: Option<&Path>) -> Result<Self, rusqlite::Error> {
        Ok(Self { file: SqliteFile::open(path, Durability::Rebuildable, &MIGRATIONS)? })
    }
}

#[async_trait]
impl Rows for SqliteRows {
    async fn load(&self, take_fence: bool) -> Result<(u64, Vector), StoreError> {
        self.file.load(take_fence).await
    }

    fn tenure(&self) -> &dyn Tenure {
        &self.file
    }

    async fn known(&self, ids: Vec<Uuid>) -> Result<Vec<Standing>, StoreError> {
        let known = move |transaction: &Transaction<'_>| {
            let sql = format!("select {COLUMNS} from sagas where saga_id = ?1");
            let mut rows = Vec::new();
            for id in ids {
                rows.extend(select(transaction, &sql, params![id.to_string()])?);
            }
            Ok(rows)
        };
        self.file.transact(known).await
    }

    async fn write(&self, moved: Moved, rows: Vec<Standing>) -> Result<(), ApplyError> {
        let write = move |transaction: &Transaction<'_>| {
            move_checkpoint(transaction, &moved)?;
            Ok(rows.iter().try_for_each(|row| replace(transaction, row))?)
        };
        self.file.transact(write).await
    }

    async fn forget(&self) -> Result<(), StoreError> {
        let forget = move |transaction: &Transaction<'_>| {
            take_fence(transaction)?;
            transaction.execute_batch("delete from checkpoint; delete from sagas;").map_err(unavailable)
        };
        self.file.transact(forget).await
    }

    async fn list(&self, filter: Filter, limit: usize) -> Result<Vec<Standing>, StoreError> {
        let list = move |transaction: &Transaction<'_>| {
            let (sql, phase) = filter.sql(&format!("select {COLUMNS} from sagas"), "?1");
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            select(transaction, &format!("{sql} limit {limit}"), params_from_iter(phase))
        };
        self.file.transact(list).await
    }

    async fn tally(&self, now: DateTime<Utc>) -> Result<Tally, StoreError> {
        let tally = move |transaction: &Transaction<'_>| {
            let mut select = transaction
                .prepare_cached("select phase, count(*) from sagas group by phase order by phase")
                .map_err(unavailable)?;
            let counted = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).map_err(unavailable)?;
            let phases = counted.map(|row| {
                let (phase, count) = row.map_err(unavailable)?;
                Ok((phase, unsigned("count", count)?))
            });
            let oldest: Option<i64> = transaction
                .query_row(
                    "select started_at from sagas where outcome is null order by started_at limit 1",
                    [],
                    |row| row.get(0),
                )
                .optional()
                .map_err(unavailable)?;
            let count = |condition: String| -> Result<u64, StoreError> {
                let sql = format!("select count(*) from sagas where {condition}");
                unsigned("count", transaction.query_row(&sql, [], |row| row.get(0)).map_err(unavailable)?)
            };
            let stuck = count("stuck_since is not null".to_owned())?;
            let overdue = count(format!("overdue_at <= {}", now.timestamp_micros()))?;
            let phases = phases.collect::<Result<_, StoreError>>()?;
            Ok(Tally { phases, oldest_started_at: oldest.map(time_of_us), stuck, overdue })
        };
        self.file.transact(tally).await
    }
}

fn replace(transaction: &Transaction<'_>, row: &Standing) -> Result<(), StoreError> {
    let sql = format!(
        "insert or replace into sagas ({COLUMNS}) values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, \
         ?13)"
    );
    let stuck = serde_json::to_string(&row.stuck).map_err(|error| StoreError::Bug(error.to_string()))?;
    let us = |time: DateTime<Utc>| time.timestamp_micros();
    let (open_steps, stuck_steps) = (signed(row.open_steps)?, signed(row.stuck_steps)?);
    let values = params![
        row.saga_id.to_string(),
        row.ids.to_string(),
        row.version,
        row.phase,
        us(row.started_at),
        us(row.changed_at),
        us(row.deadline_at),
        row.outcome,
        open_steps,
        stuck_steps,
        row.stuck_since.map(us),
        stuck,
        row.overdue_at.map(us),
    ];
    transaction.prepare_cached(&sql).and_then(|mut replace| replace.execute(values)).map_err(unavailable)?;
    Ok(())
}

fn select(
    transaction: &Transaction<'_>,
    sql: &str,
    values: impl rusqlite::Params,
) -> Result<Vec<Standing>, StoreError> {
    let mut select = transaction.prepare_cached(sql).map_err(unavailable)?;
    let rows = select.query_map(values, |row| Ok(standing(row))).map_err(unavailable)?;
    rows.map(|row| row.map_err(unavailable)?).collect()
}

fn standing(row: &Row<'_>) -> Result<Standing, StoreError> {
    fn get<T: rusqlite::types::FromSql>(row: &Row<'_>, column: usize) -> Result<T, StoreError> {
        row.get(column).map_err(unavailable)
    }
    let (saga_id, ids, stuck): (String, String, String) = (get(row, 0)?, get(row, 1)?, get(row, 11)?);
    let stuck: Vec<StuckStep> =
        serde_json::from_str(&stuck).map_err(|_| damaged(format!("stuck steps of {saga_id}")))?;
    Ok(Standing {
        saga_id: uuid_of(&saga_id)?,
        ids: serde_json::from_str(&ids).map_err(|_| damaged(format!("ids of {saga_id}")))?,
        version: get(row, 2)?,
        phase: get(row, 3)?,
        started_at: time_of_us(get(row, 4)?),
        changed_at: time_of_us(get(row, 5)?),
        deadline_at: time_of_us(get(row, 6)?),
        outcome: get(row, 7)?,
        open_steps: unsigned("count", get(row, 8)?)?,
        stuck_steps: unsigned("count", get(row, 9)?)?,
        stuck_since: get::<Option<i64>>(row, 10)?.map(time_of_us),
        stuck,
        overdue_at: get::<Option<i64>>(row, 12)?.map(time_of_us),
    })
}
