//! What stands beside the log in its database: snapshots and the keys of persons. Each call is a statement or two on
//! the pool, none of which waits for the head of the log.

use async_trait::async_trait;
use events::envelope::StreamId;
use sqlx::{PgConnection, Row};
use uuid::Uuid;

use super::{
    PostgresLog,
    read::{Lent, log_error},
};
use crate::{
    feed::Cursor,
    log::LogError,
    snapshot::{Snapshot, SnapshotStore},
    subject_keys::{KeyRing, SubjectKey, SubjectKeys},
};

const SNAPSHOT: &str = "select sequence, event_id, state from snapshots \
                        where aggregate_type = $1 and aggregate_id = $2 and fold_version = $3";

const KEEP_SNAPSHOTS: &str = "with kept (aggregate_type, aggregate_id, fold_version, sequence, event_id, state) as ( \
        select * from unnest($1::text[], $2::text[], $3::int8[], $4::int8[], $5::uuid[], $6::text[]) \
    ), outdated as ( \
        delete from snapshots using kept \
        where snapshots.aggregate_type = kept.aggregate_type and snapshots.aggregate_id = kept.aggregate_id \
            and snapshots.fold_version < kept.fold_version \
    ) \
    insert into snapshots (aggregate_type, aggregate_id, fold_version, sequence, event_id, state) \
    select * from kept order by aggregate_type, aggregate_id \
    on conflict (aggregate_type, aggregate_id, fold_version) do update \
    set sequence = excluded.sequence, event_id = excluded.event_id, state = excluded.state";

// in one order, so that two processes that make keys at once do not wait for each other in a circle
const MAKE_KEYS: &str = "insert into subject_keys (subject, key) \
                         select * from unnest($1::uuid[], $2::bytea[]) as made (subject, key) order by subject \
                         on conflict (subject) do nothing";

const KEYS: &str = "select subject, key from subject_keys where subject = any($1) and key is not null";

const ERASE_KEYS: &str = "insert into subject_keys (subject, key) \
                          select subject, null from unnest($1::uuid[]) as erased (subject) order by subject \
                          on conflict (subject) do update set key = null where subject_keys.key is not null";

#[async_trait]
impl SnapshotStore for PostgresLog {
    async fn snapshot(&self, stream: &StreamId, fold_version: u32) -> Result<Option<Snapshot>, LogError> {
        let query = sqlx::query(SNAPSHOT).bind(&*stream.aggregate_type).bind(&*stream.aggregate_id);
        let mut connection = self.connection().await?;
        let row = query.bind(i64::from(fold_version)).fetch_optional(&mut *connection).await.map_err(log_error)?;
        let Some(row) = row else { return Ok(None) };
        let sequence: i64 = row.try_get(0).map_err(log_error)?;
        Ok(Some(Snapshot {
            stream: stream.clone(),
            fold_version,
            sequence: sequence.unsigned_abs(),
            event_id: row.try_get(1).map_err(log_error)?,
            state: row.try_get(2).map_err(log_error)?,
        }))
    }

    async fn keep_snapshots(&self, snapshots: Vec<Snapshot>) -> Result<(), LogError> {
        let texts = |text: fn(&Snapshot) -> &str| snapshots.iter().map(text).map(str::to_owned).collect::<Vec<_>>();
        let numbers = |number: fn(&Snapshot) -> i64| snapshots.iter().map(number).collect::<Vec<_>>();
        let event_ids: Vec<Uuid> = snapshots.iter().map(|snapshot| snapshot.event_id).collect();
        sqlx::query(KEEP_SNAPSHOTS)
            .bind(texts(|snapshot| &snapshot.stream.aggregate_type))
            .bind(texts(|snapshot| &snapshot.stream.aggregate_id))
            .bind(numbers(|snapshot| i64::from(snapshot.fold_version)))
            .bind(numbers(|snapshot| snapshot.sequence.cast_signed()))
            .bind(event_ids)
            .bind(texts(|snapshot| &snapshot.state))
            .execute(&mut *self.connection().await?)
            .await
            .map_err(log_error)?;
        Ok(())
    }
}

#[async_trait]
impl SubjectKeys for PostgresLog {
    async fn make_keys(&self, subjects: &[Uuid]) -> Result<KeyRing, LogError> {
        let mut connection = self.connection().await?;
        let ring = read_keys(&mut connection, subjects).await?;
        if subjects.iter().all(|subject| ring.contains_key(subject)) {
            return Ok(ring);
        }
        let (subjects, keys): (Vec<Uuid>, Vec<Vec<u8>>) =
            SubjectKey::make_all(subjects)?.into_iter().map(|(subject, key)| (subject, key.0.to_vec())).unzip();
        // committed when it returns, before anything is encrypted under these keys
        sqlx::query(MAKE_KEYS).bind(&subjects).bind(keys).execute(&mut *connection).await.map_err(log_error)?;
        read_keys(&mut connection, &subjects).await
    }

    async fn keys(&self, subjects: &[Uuid]) -> Result<KeyRing, LogError> {
        read_keys(&mut *self.connection().await?, subjects).await
    }

    /// No statement can read them any more. Their bytes are gone once the page was vacuumed and written again, and in
    /// the write-ahead log and in backups they live as long as those are kept.
    async fn erase_keys(&self, subjects: &[Uuid]) -> Result<(), LogError> {
        sqlx::query(ERASE_KEYS).bind(subjects).execute(&mut *self.connection().await?).await.map_err(log_error)?;
        Ok(())
    }

    async fn erased_up_to(&self) -> Result<Cursor, LogError> {
        let query = sqlx::query_as("select position, event_id from erasures");
        let (position, event_id): (i64, Option<Uuid>) =
            query.fetch_one(&mut *self.connection().await?).await.map_err(log_error)?;
        Ok(Cursor { position: position.unsigned_abs(), event_id })
    }

    async fn set_erased_up_to(&self, place: Cursor) -> Result<(), LogError> {
        sqlx::query("update erasures set position = $1, event_id = $2")
            .bind(place.position.cast_signed())
            .bind(place.event_id)
            .execute(&mut *self.connection().await?)
            .await
            .map_err(log_error)?;
        Ok(())
    }
}

impl PostgresLog {
    /// One of those that read. What is written here is a single statement too.
    async fn connection(&self) -> Result<Lent, LogError> {
        self.reader.connection().await.map_err(log_error)
    }
}

async fn read_keys(connection: &mut PgConnection, subjects: &[Uuid]) -> Result<KeyRing, LogError> {
    let rows = sqlx::query(KEYS).bind(subjects).fetch_all(connection).await.map_err(log_error)?;
    let key = |row: &sqlx::postgres::PgRow| Ok((row.try_get(0)?, SubjectKey(row.try_get(1)?)));
    rows.iter().map(key).collect::<Result<_, sqlx::Error>>().map_err(log_error)
}
