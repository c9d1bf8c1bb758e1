//! Reads: every one is a single statement, so it sees one snapshot and leaves no transaction behind.

use std::{
    ops::{Deref, DerefMut},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use chrono::{DateTime, Utc};
use events::envelope::{Name, RecordedEvent, StreamId};
use futures::TryStreamExt;
use measures::Entered;
use sqlx::{PgConnection, PgPool, Postgres, Row, pool::PoolConnection, postgres::PgRow};
use uuid::Uuid;

use super::{cause, commit::fingerprint_of};
use crate::{
    batch_hash::{BatchRow, ChainCheck, ChainStep},
    feed::{Cursor, FeedError, FeedPage, PageLimit},
    figures::LogFigures,
    log::{ChainVerdict, CommandKey, ForgetError, LogError, LogHead, StoredOutcome, Sweep, Swept},
};

/// Head, anchor and events of one snapshot. The head's row is told by its `sequence` 0: `event_id` is the epoch and
/// `event_type` the id of the event at the reader's place. Text, because json has no binary form of its own.
const PAGE: &str = "(select position, epoch as event_id, null as aggregate_type, null as aggregate_id, \
                    0::int8 as sequence, (select event_id::text from events where position = $1) as event_type, \
                    null as event_version, null as payload, null as metadata, recorded_at from log_head) \
                    union all \
                    (select position, event_id, aggregate_type, aggregate_id, sequence, event_type, event_version, \
                    payload::text, metadata::text, recorded_at \
                    from events where position > $1 order by position limit $2)";

const STREAM: &str = "select position, event_id, aggregate_type, aggregate_id, sequence, event_type, event_version, \
                      payload::text, metadata::text, recorded_at from events \
                      where aggregate_type = $1 and aggregate_id = $2 and sequence > $3 order by sequence limit $4";

const STORED_OUTCOME: &str = "select stored.fingerprint, stored.outcome, stored.position, latest.event_id \
                              from commands as stored left join events as latest on latest.position = stored.position \
                              where stored.scope = $1 and stored.key = $2";

const FORGET_COMMANDS: &str = "select forgotten, next_scope, next_key from public.forget_commands($1, $2, $3, $4)";

/// Of what a function of ours refuses: "invalid parameter value".
const REFUSED: &str = "22023";

/// Where head and events end, in one snapshot.
const ENDS: &str = "select position, coalesce((select max(position) from events), 0) from log_head";

pub(super) const BATCHES: &str =
    "select first, last, prev_hash, hash from batches where last > $1 and first <= $2 order by last limit $3";

pub(super) const RANGE: &str = "select position, event_id, aggregate_type, aggregate_id, sequence, event_type, event_version, \
                     payload::text, metadata::text, recorded_at from events \
                     where position >= $1 and position <= $2 order by position";

/// Batches that are verified per look, ...
const BATCHES_PER_LOOK: i64 = 256;
/// ... with the events of as many of them read at once as have no more than these together; one that has more is read alone:
/// it was one transaction of ours.
const EVENTS_PER_READ: u64 = 512;
/// One in so many events that would fit a page by bytes is not asked for: these may be larger than those of the last page.
const SPARED: usize = 8;
/// Room made before a page is read; most pages are smaller than they may be.
const PREALLOCATED_EVENTS_MAX: usize = 512;

/// A connection of the pool, while it is in use.
pub(super) struct Lent {
    connection: PoolConnection<Postgres>,
    _in_use: Entered,
}

impl Deref for Lent {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.connection
    }
}

impl DerefMut for Lent {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.connection
    }
}

pub(super) struct Reader {
    pool: PgPool,
    figures: Arc<LogFigures>,
    source: Name,
    /// Mean bytes of an event in the last page. The server is asked for fewer events than fit a page by bytes: what it
    /// sends too much is read for nothing, and takes a new connection.
    event_bytes: AtomicU64,
}

impl Reader {
    pub(super) fn new(pool: PgPool, source: Name, figures: Arc<LogFigures>) -> Self {
        Self { pool, figures, source, event_bytes: AtomicU64::new(0) }
    }

    /// For single statements, beside the log as well. It goes back to the pool when it is dropped.
    pub(super) async fn connection(&self) -> Result<Lent, sqlx::Error> {
        let (connection, in_use) = self.figures.connections.get(self.pool.acquire()).await?;
        Ok(Lent { connection, _in_use: in_use })
    }

    pub(super) async fn close(&self) {
        self.pool.close().await;
    }

    pub(super) async fn page(&self, after: Cursor, limit: PageLimit) -> Result<FeedPage, FeedError> {
        let read = self.read_page(after, limit).await.map_err(|error| self.feed_error(after, error))?;
        let damaged = |position: u64, reason: &str| {
            Err(FeedError::Damaged { feed: self.source.clone(), position, reason: reason.to_owned() })
        };
        let Some((head, epoch, anchor)) = read.head else { return damaged(after.position, "log_head is empty") };
        if after.position > head.position || (after.event_id.is_some() && after.event_id != anchor) {
            let (feed, position) = (self.source.clone(), after.position);
            return Err(FeedError::Regressed { feed, position, head: head.position });
        }
        for (expected, event) in (after.position + 1..).zip(&read.events) {
            if event.position != expected {
                return damaged(expected, "there is a hole");
            }
        }
        if read.events.is_empty() && head.position > after.position {
            return damaged(after.position + 1, "there is a hole");
        }
        Ok(FeedPage { epoch, head, events: read.events })
    }

    /// Where the head is now.
    pub(super) async fn head_position(&self) -> Result<u64, sqlx::Error> {
        let position: i64 =
            sqlx::query_scalar("select position from log_head").fetch_one(&mut *self.connection().await?).await?;
        decode_number(position)
    }

    pub(super) async fn stream(
        &self,
        stream: &StreamId,
        after: u64,
        limit: usize,
    ) -> Result<Vec<RecordedEvent>, LogError> {
        let after = i64::try_from(after).unwrap_or(i64::MAX);
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let query = sqlx::query(STREAM).bind(&*stream.aggregate_type).bind(&*stream.aggregate_id).bind(after);
        let mut connection = self.connection().await.map_err(log_error)?;
        let mut rows = query.bind(limit).fetch(&mut *connection);
        let mut names = Names::default();
        let mut events = Vec::new();
        while let Some(row) = rows.try_next().await.map_err(log_error)? {
            events.push(names.event(&row).map_err(log_error)?);
        }
        Ok(events)
    }

    /// Not a read, but not the writer's either: it takes no lock that a commit needs.
    pub(super) async fn forget_commands(&self, sweep: &Sweep) -> Result<Swept, ForgetError> {
        let (scope, key) = sweep.start();
        let keys = i32::try_from(sweep.keys()).expect("a slice is bounded far below 2^31");
        // fetch_all returns at the end of the answer; a row alone would come before the commit
        let query = sqlx::query(FORGET_COMMANDS).bind(sweep.before).bind(scope).bind(key).bind(keys);
        let mut connection = self.connection().await.map_err(log_error)?;
        let rows = query.fetch_all(&mut *connection).await.map_err(|error| match error.as_database_error() {
            Some(refused) if refused.code().as_deref() == Some(REFUSED) => ForgetError::TooYoung,
            _ => ForgetError::Log(log_error(error)),
        })?;
        let row = rows.first().ok_or(sqlx::Error::RowNotFound);
        Ok(row.and_then(swept).map_err(log_error)?)
    }

    pub(super) async fn stored_outcome(&self, scope: &str, key: &str) -> Result<Option<StoredOutcome>, LogError> {
        let query = sqlx::query(STORED_OUTCOME).bind(scope).bind(key);
        let mut connection = self.connection().await.map_err(log_error)?;
        let Some(row) = query.fetch_optional(&mut *connection).await.map_err(log_error)? else { return Ok(None) };
        stored(&row).map(Some).map_err(log_error)
    }

    pub(super) async fn follow_chain(&self, mut check: ChainCheck) -> Result<ChainStep, LogError> {
        let mut connection = self.connection().await.map_err(log_error)?;
        let (head, last): (i64, i64) = sqlx::query_as(ENDS).fetch_one(&mut *connection).await.map_err(log_error)?;
        let (head, last) = (decode_number(head).map_err(log_error)?, decode_number(last).map_err(log_error)?);
        // what is committed from now on is for the next stretch
        let query = sqlx::query(BATCHES).bind(signed(check.position)).bind(signed(last)).bind(BATCHES_PER_LOOK);
        let batches = query.fetch_all(&mut *connection).await.map_err(log_error)?;
        drop(connection);
        let mut verdict = batches.is_empty().then(|| check.finish(last, head));
        let batches = batches.iter().map(batch_row).collect::<Result<Vec<_>, _>>().map_err(log_error)?;
        let mut left = &batches[..];
        while !left.is_empty() && verdict.is_none() {
            let (together, later) = left.split_at(read_together(left));
            verdict = self.follow_batches(&mut check, together).await?;
            left = later;
        }
        Ok(ChainStep { check, head, verdict })
    }

    /// Follows batches whose events are read at once; the verdict if something is wrong.
    async fn follow_batches(
        &self,
        check: &mut ChainCheck,
        batches: &[BatchRow],
    ) -> Result<Option<ChainVerdict>, LogError> {
        let (Some(first), Some(last)) = (batches.first(), batches.last()) else { return Ok(None) };
        let query = sqlx::query(RANGE).bind(signed(first.first)).bind(signed(last.last));
        let mut connection = self.connection().await.map_err(log_error)?;
        let rows = query.fetch_all(&mut *connection).await.map_err(log_error)?;
        drop(connection);
        let mut rows = rows.iter().peekable();
        let mut names = Names::default();
        for batch in batches {
            let is_of_batch = |row: &&PgRow| row.try_get::<i64, _>(0).is_ok_and(|n| n <= signed(batch.last));
            let of_batch = std::iter::from_fn(|| rows.next_if(is_of_batch));
            let events: Result<Vec<_>, _> = of_batch.map(|row| names.event(row)).collect();
            let followed = match events.map_err(log_error) {
                Ok(events) => check.follow(batch, &events),
                Err(LogError::Damaged(reason)) => {
                    Err(ChainVerdict::Broken { first: batch.first, last: batch.last, reason })
                }
                Err(unavailable) => return Err(unavailable),
            };
            if let Err(broken) = followed {
                return Ok(Some(broken));
            }
        }
        Ok(None)
    }

    async fn read_page(&self, after: Cursor, limit: PageLimit) -> Result<ReadPage, sqlx::Error> {
        let events_max = limit.events_max.clamp(1, PageLimit::EVENTS_MAX);
        let asked = match self.event_bytes.load(Ordering::Relaxed) {
            0 => events_max,
            mean => {
                let fitting = limit.bytes_max / usize::try_from(mean).unwrap_or(usize::MAX);
                events_max.min((fitting - fitting / SPARED).max(1))
            }
        };
        let mut connection = self.connection().await?;
        let mut page = ReadPage { head: None, events: Vec::with_capacity(asked.min(PREALLOCATED_EVENTS_MAX)) };
        let mut names = Names::default();
        let mut bytes = 0;
        let mut is_full = false;
        {
            let query = sqlx::query(PAGE).bind(signed(after.position)).bind(i64::try_from(asked).unwrap_or(i64::MAX));
            let mut rows = query.fetch(&mut *connection);
            while let Some(row) = rows.try_next().await? {
                if row.try_get::<i64, _>(SEQUENCE)? == 0 {
                    page.head = Some(head_of(&row)?);
                    continue;
                }
                let event = names.event(&row)?;
                bytes += event.payload.len() + event.metadata.len();
                if bytes > limit.bytes_max && !page.events.is_empty() {
                    is_full = true;
                    bytes -= event.payload.len() + event.metadata.len();
                    break;
                }
                page.events.push(event);
            }
        }
        if !page.events.is_empty() {
            let mean = (bytes / page.events.len()).max(1);
            self.event_bytes.store(u64::try_from(mean).unwrap_or(u64::MAX), Ordering::Relaxed);
        }
        if is_full {
            // the rest may be large: it is not read to its end, as the pool would before it reuses the connection
            connection.connection.close_on_drop();
        }
        Ok(page)
    }

    fn feed_error(&self, after: Cursor, error: sqlx::Error) -> FeedError {
        let feed = self.source.clone();
        match error {
            sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => {
                FeedError::Damaged { feed, position: after.position + 1, reason: error.to_string() }
            }
            error => FeedError::Unreachable { feed, cause: cause(error) },
        }
    }
}

/// How many of these batches are read with one statement: the first, and those behind it that fit.
fn read_together(batches: &[BatchRow]) -> usize {
    let events = |batch: &BatchRow| (batch.last + 1).saturating_sub(batch.first);
    let mut left = EVENTS_PER_READ;
    let fits = |batch: &&BatchRow| {
        let fits = events(batch) <= left;
        left = left.saturating_sub(events(batch));
        fits
    };
    batches.iter().take_while(fits).count().max(1)
}

struct ReadPage {
    /// Head, epoch, and the id of the event at the reader's place.
    head: Option<(LogHead, Uuid, Option<Uuid>)>,
    events: Vec<RecordedEvent>,
}

/// The few names that a page repeats, one copy each.
#[derive(Default)]
pub(super) struct Names {
    known: Vec<Name>,
}

impl Names {
    /// More different names than this are not looked for: a search should stay cheaper than a copy.
    const KNOWN_MAX: usize = 32;

    fn intern(&mut self, text: &str) -> Name {
        if let Some(name) = self.known.iter().find(|name| ***name == *text) {
            return name.clone();
        }
        let name: Name = text.into();
        if self.known.len() < Self::KNOWN_MAX {
            self.known.push(name.clone());
        }
        name
    }

    /// Unchecked: the statements here say of which types their columns are, and a look at each costs more than its value.
    pub(super) fn event(&mut self, row: &PgRow) -> Result<RecordedEvent, sqlx::Error> {
        Ok(RecordedEvent {
            position: decode_number(row.try_get_unchecked(0)?)?,
            event_id: row.try_get_unchecked(1)?,
            stream: StreamId {
                aggregate_type: self.intern(row.try_get_unchecked(2)?),
                aggregate_id: row.try_get_unchecked::<&str, _>(3)?.into(),
            },
            sequence: decode_number(row.try_get_unchecked(SEQUENCE)?)?,
            event_type: self.intern(row.try_get_unchecked(5)?),
            event_version: self.intern(row.try_get_unchecked(6)?),
            payload: row.try_get_unchecked(7)?,
            metadata: row.try_get_unchecked(8)?,
            recorded_at: row.try_get_unchecked(9)?,
        })
    }
}

/// The column that tells the head's row from events.
const SEQUENCE: usize = 4;

fn head_of(row: &PgRow) -> Result<(LogHead, Uuid, Option<Uuid>), sqlx::Error> {
    let position = decode_number(row.try_get(0)?)?;
    let epoch: Uuid = row.try_get(1)?;
    let anchor: Option<&str> = row.try_get(5)?;
    let anchor = anchor.map(Uuid::parse_str).transpose().map_err(|error| sqlx::Error::Decode(error.into()))?;
    let recorded_at: DateTime<Utc> = row.try_get(9)?;
    Ok((LogHead { position, recorded_at }, epoch, anchor))
}

fn stored(row: &PgRow) -> Result<StoredOutcome, sqlx::Error> {
    Ok(StoredOutcome {
        fingerprint: fingerprint_of(row.try_get(0)?)?,
        outcome: row.try_get(1)?,
        position: decode_number(row.try_get(2)?)?,
        event_id: row.try_get(3)?,
    })
}

pub(super) fn batch_row(row: &PgRow) -> Result<BatchRow, sqlx::Error> {
    Ok(BatchRow {
        first: decode_number(row.try_get(0)?)?,
        last: decode_number(row.try_get(1)?)?,
        previous: row.try_get(2)?,
        hash: row.try_get(3)?,
    })
}

fn swept(row: &PgRow) -> Result<Swept, sqlx::Error> {
    let (scope, key): (Option<&str>, Option<&str>) = (row.try_get(1)?, row.try_get(2)?);
    let next = scope.zip(key).map(|(scope, key)| CommandKey { scope: scope.into(), key: key.into() });
    Ok(Swept { forgotten: decode_number(row.try_get(0)?)?, next })
}

pub(super) fn decode_number(number: i64) -> Result<u64, sqlx::Error> {
    u64::try_from(number).map_err(|error| sqlx::Error::Decode(error.into()))
}

/// What is beyond every position is asked for as the last one.
pub(super) fn signed(position: u64) -> i64 {
    i64::try_from(position).unwrap_or(i64::MAX)
}

pub(super) fn log_error(error: sqlx::Error) -> LogError {
    match error {
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => LogError::Damaged(error.to_string()),
        error => LogError::Unavailable(cause(error)),
    }
}
