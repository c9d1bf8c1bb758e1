//! Everything in the database, in one snapshot: a transaction on a connection of its own, which ends with it whatever
//! becomes of whoever reads.

use futures::TryStreamExt;
use sqlx::{ConnectOptions, Connection, PgConnection, Row, postgres::PgConnectOptions, postgres::PgRow, raw_sql};
use uuid::Uuid;

use super::{
    commit::fingerprint_of,
    read::{BATCHES, Names, RANGE, batch_row, decode_number, log_error, signed},
};
use crate::{
    backup::{CHUNK_ITEMS, Chunks, ClaimItem, CommandItem, Contents, HeadItem, Item, NotTaken},
    batch_hash::BatchRow,
    log::LogError,
    subject_keys::SubjectKey,
};
use events::envelope::StreamId;

const BEGIN: &str = "begin transaction isolation level repeatable read, read only";

const HEAD: &str = "select source, epoch, position, recorded_at from log_head";

const COMMANDS: &str =
    "select scope, key, fingerprint, outcome, position, recorded_at from commands order by scope, key";

const CLAIMS: &str = "select name, value, aggregate_type, aggregate_id from claims order by name, value";

const KEYS: &str = "select subject, key from subject_keys order by subject";

pub(super) fn of(target: PgConnectOptions) -> Contents {
    let (mut chunks, contents) = Chunks::new();
    tokio::spawn(async move {
        match read(&target, &mut chunks).await {
            // whoever has gone away hears nothing, and is told nothing else
            Ok(()) | Err(Stopped::NotTaken) => {}
            Err(Stopped::Read(error)) => chunks.fail(log_error(error)).await,
            Err(Stopped::Damaged(reason)) => chunks.fail(LogError::Damaged(reason)).await,
        }
    });
    contents
}

enum Stopped {
    Read(sqlx::Error),
    Damaged(String),
    NotTaken,
}

impl From<sqlx::Error> for Stopped {
    fn from(error: sqlx::Error) -> Self {
        Self::Read(error)
    }
}

impl From<NotTaken> for Stopped {
    fn from(_: NotTaken) -> Self {
        Self::NotTaken
    }
}

async fn read(target: &PgConnectOptions, chunks: &mut Chunks) -> Result<(), Stopped> {
    let mut connection = target.connect().await?;
    raw_sql(BEGIN).execute(&mut connection).await?;
    let head = head_of(&sqlx::query(HEAD).fetch_one(&mut connection).await?)?;
    let last = head.position;
    chunks.push(Item::Head(head)).await?;
    let mut position = 0;
    while position < last {
        let query = sqlx::query(BATCHES).bind(signed(position)).bind(signed(last));
        let batches = query.bind(i64::try_from(CHUNK_ITEMS).unwrap_or(i64::MAX)).fetch_all(&mut connection).await?;
        let batches = batches.iter().map(batch_row).collect::<Result<Vec<_>, _>>()?;
        let Some(end) = batches.last().map(|batch| batch.last) else {
            return Err(Stopped::Damaged(format!("there is no batch behind position {position}")));
        };
        stretch(&mut connection, position, batches, chunks).await?;
        position = end;
    }
    each(&mut connection, COMMANDS, command, chunks).await?;
    each(&mut connection, CLAIMS, claim, chunks).await?;
    let fingerprint_key = |row: &PgRow| Ok(Item::FingerprintKey(row.try_get(0)?));
    each(&mut connection, "select fingerprint_key from log_key", fingerprint_key, chunks).await?;
    each(&mut connection, KEYS, subject_key, chunks).await?;
    chunks.whole().await?;
    connection.close().await?;
    Ok(())
}

/// Batches that follow each other, with their events.
async fn stretch(
    connection: &mut PgConnection,
    after: u64,
    batches: Vec<BatchRow>,
    chunks: &mut Chunks,
) -> Result<(), Stopped> {
    let last = batches.last().map_or(after, |batch| batch.last);
    let mut names = Names::default();
    let mut events = sqlx::query(RANGE).bind(signed(after + 1)).bind(signed(last)).fetch(connection);
    for batch in batches {
        let (first, last) = (batch.first, batch.last);
        chunks.push(Item::Batch(batch)).await?;
        for position in first..=last {
            let Some(row) = events.try_next().await? else {
                return Err(Stopped::Damaged(format!("there is no event at position {position}")));
            };
            chunks.push(Item::Event(names.event(&row)?)).await?;
        }
    }
    if events.try_next().await?.is_some() {
        return Err(Stopped::Damaged(format!("there are more events up to {last} than in its batches")));
    }
    Ok(())
}

async fn each(
    connection: &mut PgConnection,
    sql: &'static str,
    item: impl Fn(&PgRow) -> Result<Item, sqlx::Error>,
    chunks: &mut Chunks,
) -> Result<(), Stopped> {
    let mut rows = sqlx::query(sql).fetch(connection);
    while let Some(row) = rows.try_next().await? {
        chunks.push(item(&row)?).await?;
    }
    Ok(())
}

fn head_of(row: &PgRow) -> Result<HeadItem, sqlx::Error> {
    Ok(HeadItem {
        source: row.try_get::<&str, _>(0)?.into(),
        epoch: row.try_get(1)?,
        position: decode_number(row.try_get(2)?)?,
        recorded_at: row.try_get(3)?,
    })
}

fn command(row: &PgRow) -> Result<Item, sqlx::Error> {
    Ok(Item::Command(CommandItem {
        scope: row.try_get::<&str, _>(0)?.into(),
        key: row.try_get::<&str, _>(1)?.into(),
        fingerprint: fingerprint_of(row.try_get(2)?)?,
        outcome: row.try_get(3)?,
        position: decode_number(row.try_get(4)?)?,
        recorded_at: row.try_get(5)?,
    }))
}

fn claim(row: &PgRow) -> Result<Item, sqlx::Error> {
    let stream = StreamId::new(row.try_get::<&str, _>(2)?, row.try_get::<&str, _>(3)?);
    let (name, value) = (row.try_get::<&str, _>(0)?.into(), row.try_get::<&str, _>(1)?.into());
    Ok(Item::Claim(ClaimItem { name, value, stream }))
}

fn subject_key(row: &PgRow) -> Result<Item, sqlx::Error> {
    let subject: Uuid = row.try_get(0)?;
    let key: Option<[u8; 32]> = row.try_get(1)?;
    Ok(Item::SubjectKey(subject, key.map(SubjectKey)))
}
