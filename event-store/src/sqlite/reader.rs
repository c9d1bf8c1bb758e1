//! Reading: every page is one snapshot, and no event's JSON is parsed.

use events::envelope::{Name, RecordedEvent, StreamId};
use rusqlite::{Connection, OptionalExtension, Row, Rows, params, types::FromSqlError};
use uuid::Uuid;

use crate::{
    batch_hash::{BatchRow, ChainCheck, ChainStep},
    clock::time_of_us,
    feed::{Cursor, FeedError, FeedPage, PageLimit},
    log::{ChainVerdict, CommandKey, Fingerprint, LogError, LogHead, LogIdentity, Source, StoredOutcome, Sweep},
};

/// Batches that are verified in one snapshot: a longer one would keep the WAL from being reused.
const VERIFIED_BATCHES_MAX: i64 = 200;

pub(super) const COLUMNS: &str =
    "position, event_id, aggregate_type, aggregate_id, sequence, event_type, event_version, payload,
    metadata, recorded_at_us";

pub(super) fn page(
    connection: &Connection,
    identity: &LogIdentity,
    after: Cursor,
    limit: PageLimit,
) -> Result<FeedPage, FeedError> {
    let failed = |error: rusqlite::Error, position| {
        let feed = identity.source.clone();
        match damage(&error) {
            Some(reason) => FeedError::Damaged { feed, position, reason },
            None => FeedError::Unreachable { feed, cause: Source::from(error) },
        }
    };
    let at_start = |error| failed(error, after.position + 1);
    let snapshot = connection.unchecked_transaction().map_err(at_start)?;
    let (head, epoch) = head(&snapshot).map_err(at_start)?;
    let regressed =
        || FeedError::Regressed { feed: identity.source.clone(), position: after.position, head: head.position };
    if after.position > head.position {
        return Err(regressed());
    }
    let start = after.position.cast_signed();
    if let Some(anchor) = after.event_id
        && event_id_at(&snapshot, start).map_err(at_start)? != Some(anchor)
    {
        return Err(regressed());
    }
    let count = limit.events_max.clamp(1, PageLimit::EVENTS_MAX);
    let behind = usize::try_from(head.position - after.position).unwrap_or(usize::MAX);
    let mut events: Vec<RecordedEvent> = Vec::with_capacity(count.min(behind));
    let mut read = || -> Result<(), FeedError> {
        let sql = format!("select {COLUMNS} from events where position > ?1 order by position limit ?2");
        let mut statement = snapshot.prepare_cached(&sql).map_err(at_start)?;
        let count = i64::try_from(count).expect("a page is small");
        let mut rows = statement.query(params![start, count]).map_err(at_start)?;
        let mut names = Names::default();
        let mut bytes = 0;
        loop {
            let position = after.position + 1 + events.len() as u64;
            let Some(row) = rows.next().map_err(|error| failed(error, position))? else { break };
            let event = names.event(row).map_err(|error| failed(error, position))?;
            if event.position != position {
                let (feed, reason) = (identity.source.clone(), format!("the next event stands at {}", event.position));
                return Err(FeedError::Damaged { feed, position, reason });
            }
            bytes += event.payload.len() + event.metadata.len();
            if bytes > limit.bytes_max && !events.is_empty() {
                break;
            }
            events.push(event);
        }
        Ok(())
    };
    read()?;
    if events.is_empty() && after.position < head.position {
        let (feed, position) = (identity.source.clone(), after.position + 1);
        return Err(FeedError::Damaged { feed, position, reason: "there is no event".to_owned() });
    }
    Ok(FeedPage { epoch, head, events })
}

fn head(connection: &Connection) -> rusqlite::Result<(LogHead, Uuid)> {
    let mut statement = connection.prepare_cached("select position, recorded_at_us, epoch from log_head")?;
    statement.query_row([], |row| {
        let head = LogHead { position: row.get::<_, i64>(0)?.unsigned_abs(), recorded_at: time_of_us(row.get(1)?) };
        Ok((head, Uuid::from_bytes(row.get(2)?)))
    })
}

fn event_id_at(connection: &Connection, position: i64) -> rusqlite::Result<Option<Uuid>> {
    let mut statement = connection.prepare_cached("select event_id from events where position = ?1")?;
    statement.query_row([position], |row| row.get(0).map(Uuid::from_bytes)).optional()
}

pub(super) fn stream(
    connection: &Connection,
    stream: &StreamId,
    after: u64,
    limit: usize,
) -> Result<Vec<RecordedEvent>, LogError> {
    let sql = format!(
        "select {COLUMNS} from events
         where aggregate_type = ?1 and aggregate_id = ?2 and sequence > ?3 order by sequence limit ?4"
    );
    let after = i64::try_from(after).unwrap_or(i64::MAX);
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let read = || {
        let mut statement = connection.prepare_cached(&sql)?;
        let rows = statement.query(params![&*stream.aggregate_type, &*stream.aggregate_id, after, limit])?;
        collect(rows)
    };
    let events = read().map_err(log_error)?;
    // the sequences were made without a hole; one that is there now is damage, and folding over it would be worse
    if !(after + 1..).zip(&events).all(|(sequence, event)| event.sequence == sequence.unsigned_abs()) {
        return Err(LogError::Damaged(format!("a version of {stream} is missing")));
    }
    Ok(events)
}

fn collect(mut rows: Rows<'_>) -> rusqlite::Result<Vec<RecordedEvent>> {
    let mut names = Names::default();
    let mut events = Vec::new();
    while let Some(row) = rows.next()? {
        events.push(names.event(row)?);
    }
    Ok(events)
}

/// The keys of a slice that are to be forgotten, and where the next slice starts.
pub(super) fn old_commands(
    connection: &Connection,
    sweep: &Sweep,
) -> rusqlite::Result<(Vec<CommandKey>, Option<CommandKey>)> {
    let mut statement = connection.prepare_cached(
        "select scope, key, recorded_at_us from commands where (scope, key) > (?1, ?2) order by scope, key limit ?3",
    )?;
    let (scope, key) = sweep.start();
    let keys_max = i64::try_from(sweep.keys()).expect("a slice is bounded far below 2^63");
    let (mut old, mut last, mut count) = (Vec::new(), None, 0);
    let mut rows = statement.query(params![scope, key, keys_max])?;
    while let Some(row) = rows.next()? {
        let key = CommandKey { scope: row.get::<_, String>(0)?.into(), key: row.get::<_, String>(1)?.into() };
        if row.get::<_, i64>(2)? < sweep.before.timestamp_micros() {
            old.push(key.clone());
        }
        last = Some(key);
        count += 1;
    }
    Ok((old, last.filter(|_| count == keys_max)))
}

pub(super) fn stored_outcome(
    connection: &Connection,
    scope: &str,
    key: &str,
) -> rusqlite::Result<Option<StoredOutcome>> {
    let mut statement = connection.prepare_cached(
        "select commands.fingerprint, commands.outcome, commands.position, events.event_id
         from commands left join events on events.position = commands.position
         where commands.scope = ?1 and commands.key = ?2",
    )?;
    let read = |row: &Row<'_>| {
        Ok(StoredOutcome {
            fingerprint: Fingerprint(row.get(0)?),
            outcome: row.get(1)?,
            position: row.get::<_, i64>(2)?.unsigned_abs(),
            event_id: row.get::<_, Option<[u8; 16]>>(3)?.map(Uuid::from_bytes),
        })
    };
    statement.query_row([scope, key], read).optional()
}

pub(super) fn follow_chain(connection: &Connection, mut check: ChainCheck) -> Result<ChainStep, LogError> {
    let snapshot = connection.unchecked_transaction().map_err(log_error)?;
    let (last, head) = last_positions(&snapshot).map_err(log_error)?;
    let batches = next_batches(&snapshot, check.position).map_err(log_error)?;
    let mut verdict = batches.is_empty().then(|| check.finish(last, head));
    for batch in batches {
        let followed = match events_of(&snapshot, &batch).map_err(log_error) {
            Ok(events) => check.follow(&batch, &events),
            Err(LogError::Damaged(reason)) => {
                Err(ChainVerdict::Broken { first: batch.first, last: batch.last, reason })
            }
            Err(unavailable) => return Err(unavailable),
        };
        if let Err(broken) = followed {
            verdict = Some(broken);
            break;
        }
    }
    Ok(ChainStep { check, head, verdict })
}

fn next_batches(connection: &Connection, after: u64) -> rusqlite::Result<Vec<BatchRow>> {
    let mut statement = connection
        .prepare_cached("select first, last, prev_hash, hash from batches where first > ?1 order by first limit ?2")?;
    statement.query_map([after.cast_signed(), VERIFIED_BATCHES_MAX], batch_row)?.collect()
}

pub(super) fn batch_row(row: &Row<'_>) -> rusqlite::Result<BatchRow> {
    Ok(BatchRow {
        first: row.get::<_, i64>(0)?.unsigned_abs(),
        last: row.get::<_, i64>(1)?.unsigned_abs(),
        previous: row.get(2)?,
        hash: row.get(3)?,
    })
}

fn events_of(connection: &Connection, batch: &BatchRow) -> rusqlite::Result<Vec<RecordedEvent>> {
    let sql = format!("select {COLUMNS} from events where position between ?1 and ?2 order by position");
    let mut statement = connection.prepare_cached(&sql)?;
    collect(statement.query([batch.first.cast_signed(), batch.last.cast_signed()])?)
}

fn last_positions(connection: &Connection) -> rusqlite::Result<(u64, u64)> {
    let sql = "select coalesce((select max(position) from events), 0), position from log_head";
    connection
        .query_row(sql, [], |row| Ok((row.get::<_, i64>(0)?.unsigned_abs(), row.get::<_, i64>(1)?.unsigned_abs())))
}

/// Names that come again and again in a page, each kept once.
#[derive(Default)]
pub(super) struct Names {
    aggregate_type: Option<Name>,
    event_types: Vec<Name>,
    event_versions: Vec<Name>,
}

/// Event types that are remembered while a page is read; a service has a handful, and the search is linear.
const NAMES_MAX: usize = 32;

impl Names {
    pub(super) fn event(&mut self, row: &Row<'_>) -> rusqlite::Result<RecordedEvent> {
        let aggregate_type = text(row, 2)?;
        let aggregate_type = match &self.aggregate_type {
            Some(name) if **name == *aggregate_type => name.clone(),
            _ => self.aggregate_type.insert(aggregate_type.into()).clone(),
        };
        Ok(RecordedEvent {
            position: row.get::<_, i64>(0)?.unsigned_abs(),
            event_id: Uuid::from_bytes(row.get(1)?),
            stream: StreamId { aggregate_type, aggregate_id: text(row, 3)?.into() },
            sequence: row.get::<_, i64>(4)?.unsigned_abs(),
            event_type: interned(&mut self.event_types, text(row, 5)?),
            event_version: interned(&mut self.event_versions, text(row, 6)?),
            payload: text(row, 7)?.to_owned(),
            metadata: text(row, 8)?.to_owned(),
            recorded_at: time_of_us(row.get(9)?),
        })
    }
}

fn text<'r>(row: &'r Row<'_>, column: usize) -> rusqlite::Result<&'r str> {
    let broken = |error: FromSqlError| {
        rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, Box::new(error))
    };
    row.get_ref(column)?.as_str().map_err(broken)
}

fn interned(names: &mut Vec<Name>, name: &str) -> Name {
    if let Some(known) = names.iter().find(|known| ***known == *name) {
        return known.clone();
    }
    if names.len() == NAMES_MAX {
        names.clear();
    }
    names.push(name.into());
    names[names.len() - 1].clone()
}

/// What is wrong with the store, if it is the store and not its being out of reach.
fn damage(error: &rusqlite::Error) -> Option<String> {
    use rusqlite::{Error, ErrorCode};
    let damaged = match error {
        Error::SqliteFailure(cause, _) => {
            matches!(cause.code, ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
        }
        Error::FromSqlConversionFailure(..)
        | Error::IntegralValueOutOfRange(..)
        | Error::InvalidColumnType(..)
        | Error::QueryReturnedNoRows
        | Error::Utf8Error(..) => true,
        _ => false,
    };
    damaged.then(|| error.to_string())
}

pub(super) fn log_error(error: rusqlite::Error) -> LogError {
    match damage(&error) {
        Some(reason) => LogError::Damaged(reason),
        None => LogError::Unavailable(Source::from(error)),
    }
}
