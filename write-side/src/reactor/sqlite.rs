//! A reactor's checkpoint and duties in an SQLite file beside the service's log.

use std::path::Path;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use event_store::{
    clock::time_of_us,
    follower::{ApplyError, StoreError, Vector},
};
use rusqlite::{Row, Transaction, params};
use uuid::Uuid;

use super::duty::{DueNow, Duties, Duty, DutyId, Settled, too_many};
use crate::progress::{
    Moved, Tenure, signed,
    sqlite::{Durability, SqliteFile, check_fence, move_checkpoint, unavailable},
    unsigned, uuid_of,
};

/// In order; a released file never changes.
const MIGRATIONS: [&str; 5] = [
    include_str!("../../../migrations/reactor/sqlite/0001_fence.sql"),
    include_str!("../../../migrations/reactor/sqlite/0002_checkpoint.sql"),
    include_str!("../../../migrations/reactor/sqlite/0003_duties.sql"),
    include_str!("../../../migrations/reactor/sqlite/0004_parts.sql"),
    include_str!("../../../migrations/reactor/sqlite/0005_beat.sql"),
];

const COLUMNS: &str = "source, position, part, event_id, stream, timer, due_at, attempts, reason";

pub struct SqliteDuties {
    file: SqliteFile,
}

impl SqliteDuties {
    /// Opens or makes the file; `None` = in memory.
    pub fn open(path: Option<&Path>) -> Result<Self, rusqlite::Error> {
        // what is done must not be due again because a machine lost its power
        Ok(Self { file: SqliteFile::open(path, Durability::Full, &MIGRATIONS)? })
    }
}

#[async_trait]
impl Duties for SqliteDuties {
    async fn load(&self, take_fence: bool) -> Result<(u64, Vector), StoreError> {
        self.file.load(take_fence).await
    }

    fn tenure(&self) -> &dyn Tenure {
        &self.file
    }

    async fn begin(&self, source: &str, epoch: Uuid) -> Result<(), StoreError> {
        let source = source.to_owned();
        let begin = move |transaction: &Transaction<'_>| {
            let insert = "insert into checkpoint (source, epoch, position, event_id) values (?1, ?2, 0, null) \
                          on conflict (source) do nothing";
            transaction.execute(insert, params![source, epoch.to_string()]).map_err(unavailable)?;
            Ok(())
        };
        self.file.transact(begin).await
    }

    async fn note(&self, moved: Moved, duties: Vec<Duty>, open_max: usize) -> Result<(), ApplyError> {
        let note = move |transaction: &Transaction<'_>| {
            move_checkpoint(transaction, &moved)?;
            if duties.is_empty() {
                return Ok(());
            }
            let open: i64 = transaction
                .query_row("select count(*) from duties where timer = 0", [], |row| row.get(0))
                .map_err(unavailable)?;
            if unsigned("count", open)? >= open_max as u64 {
                return Err(too_many(open_max).into());
            }
            Ok(duties.iter().try_for_each(|duty| insert(transaction, duty))?)
        };
        self.file.transact(note).await
    }

    async fn due(&self, fence: u64, now: DateTime<Utc>, limit: usize) -> Result<DueNow, ApplyError> {
        let due = move |transaction: &Transaction<'_>| {
            check_fence(transaction, fence)?;
            let sql = format!(
                "select {COLUMNS} from duties as duty where due_at <= ?1 and not exists (select 1 from duties as \
                 earlier where earlier.source = duty.source and earlier.stream = duty.stream and earlier.timer = 0 \
                 and (earlier.position, earlier.part) < (duty.position, duty.part)) order by due_at, position, part \
                 limit ?2"
            );
            let duties = select(transaction, &sql, params![now.timestamp_micros(), limit_of(limit)])?;
            let next: Option<i64> = transaction
                .query_row("select min(due_at) from duties where due_at > ?1", [now.timestamp_micros()], |row| {
                    row.get(0)
                })
                .map_err(unavailable)?;
            Ok(DueNow { duties, next: next.map(time_of_us) })
        };
        self.file.transact(due).await
    }

    async fn settle(&self, fence: u64, settled: Settled) -> Result<(), ApplyError> {
        let settle = move |transaction: &Transaction<'_>| {
            check_fence(transaction, fence)?;
            let delete = "delete from duties where source = ?1 and position = ?2 and part = ?3";
            for id in &settled.done {
                let values = params![id.source, signed(id.position)?, id.part];
                transaction
                    .prepare_cached(delete)
                    .and_then(|mut delete| delete.execute(values))
                    .map_err(unavailable)?;
            }
            let update = "update duties set due_at = ?4, attempts = ?5, reason = ?6 \
                          where source = ?1 and position = ?2 and part = ?3";
            for Duty { id, due_at, attempts, reason, .. } in &settled.put_off {
                let position = signed(id.position)?;
                let values = params![id.source, position, id.part, due_at.timestamp_micros(), attempts, reason];
                transaction
                    .prepare_cached(update)
                    .and_then(|mut update| update.execute(values))
                    .map_err(unavailable)?;
            }
            Ok(())
        };
        self.file.transact(settle).await
    }

    async fn hurry(&self, fence: u64, now: DateTime<Utc>, latest: DateTime<Utc>) -> Result<(), ApplyError> {
        let hurry = move |transaction: &Transaction<'_>| {
            check_fence(transaction, fence)?;
            let update = "update duties set due_at = ?1 where due_at > ?2 and timer = 0";
            let values = params![now.timestamp_micros(), latest.timestamp_micros()];
            transaction.execute(update, values).map_err(unavailable)?;
            Ok(())
        };
        self.file.transact(hurry).await
    }

    async fn open(&self, limit: usize) -> Result<Vec<Duty>, StoreError> {
        let open = move |transaction: &Transaction<'_>| {
            let sql = format!("select {COLUMNS} from duties order by attempts desc, due_at, position, part limit ?1");
            select(transaction, &sql, params![limit_of(limit)])
        };
        self.file.transact(open).await
    }
}

fn limit_of(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

fn insert(transaction: &Transaction<'_>, duty: &Duty) -> Result<(), StoreError> {
    let sql = format!("insert into duties ({COLUMNS}) values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)");
    let Duty { id, event_id, lane, timer, due_at, attempts, reason } = duty;
    let position = signed(id.position)?;
    transaction
        .prepare_cached(&sql)
        .and_then(|mut insert| {
            insert.execute(params![
                id.source,
                position,
                id.part,
                event_id.to_string(),
                lane,
                timer,
                due_at.timestamp_micros(),
                attempts,
                reason
            ])
        })
        .map_err(unavailable)?;
    Ok(())
}

fn select(transaction: &Transaction<'_>, sql: &str, values: &[&dyn rusqlite::ToSql]) -> Result<Vec<Duty>, StoreError> {
    let mut select = transaction.prepare_cached(sql).map_err(unavailable)?;
    let mut rows = select.query(values).map_err(unavailable)?;
    let mut duties = Vec::new();
    while let Some(row) = rows.next().map_err(unavailable)? {
        duties.push(duty(row)?);
    }
    Ok(duties)
}

fn duty(row: &Row<'_>) -> Result<Duty, StoreError> {
    let read = || -> rusqlite::Result<_> {
        let texts: (String, String, String) = (row.get(0)?, row.get(3)?, row.get(4)?);
        let numbers: (i64, u16, bool, i64, u32) = (row.get(1)?, row.get(2)?, row.get(5)?, row.get(6)?, row.get(7)?);
        Ok((texts, numbers, row.get(8)?))
    };
    let ((source, event_id, lane), (position, part, timer, due_at, attempts), reason) = read().map_err(unavailable)?;
    Ok(Duty {
        id: DutyId { source, position: unsigned("position", position)?, part },
        event_id: uuid_of(&event_id)?,
        lane,
        timer,
        due_at: time_of_us(due_at),
        attempts,
        reason,
    })
}
