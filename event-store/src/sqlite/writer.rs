//! The writer thread: one batch, one transaction, one sync.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    sync::Arc,
};

use rusqlite::{CachedStatement, Connection, ErrorCode, OptionalExtension, params};
use tokio::sync::{mpsc, oneshot, watch};

use super::{checkpoint::Checkpoints, connection::connect_writer, reader};
use crate::{
    batch_hash::{BatchHasher, GENESIS, HashedEvent},
    clock::Clock,
    log::{
        AppendItem, AppendOutcome, Batch, Claim, ClaimAction, CommandKey, CommitError, Decision, LogError, NewEvent,
        Source, StoredOutcome,
    },
};

/// Work on its way to the thread. It is done also when nobody waits for the answer any more.
pub(super) enum Job {
    Commit { batch: Arc<Batch>, reply: oneshot::Sender<Result<Vec<AppendOutcome>, CommitError>> },
    Forget(Forget),
    Beside(Beside),
}

/// Something beside the log. It leaves the connection without a transaction.
pub(super) type Beside = Box<dyn FnOnce(rusqlite::Result<&Connection>) + Send>;

/// Keys to forget, if they were recorded before a time: they were read a moment ago, outside the transaction.
pub(super) struct Forget {
    pub keys: Vec<CommandKey>,
    pub before_us: i64,
    /// How many are gone.
    pub reply: oneshot::Sender<Result<u64, LogError>>,
}

pub(super) struct LogWriter {
    pub path: PathBuf,
    /// `None` after an error that left the connection in doubt: the next batch gets a new one.
    pub connection: Option<Connection>,
    pub checkpoints: Checkpoints,
    pub clock: Arc<dyn Clock>,
    pub news: Arc<watch::Sender<u64>>,
}

impl LogWriter {
    /// Does job after job until the log is dropped.
    pub fn run(mut self, mut jobs: mpsc::Receiver<Job>) {
        while let Some(job) = jobs.blocking_recv() {
            match job {
                Job::Commit { batch, reply } => {
                    // a panic is our mistake, but not the end of the log: it drops the connection, which rolls back
                    let committed = catch_unwind(AssertUnwindSafe(|| self.commit(&batch)));
                    let panicked = |_| Err(CommitError::Unknown("the commit panicked".into()));
                    // the caller may be gone; its batch is not
                    let _ = reply.send(committed.unwrap_or_else(panicked));
                    if let Some(connection) = &self.connection {
                        self.checkpoints.committed(connection);
                    }
                }
                Job::Forget(Forget { keys, before_us, reply }) => {
                    let _ = reply.send(self.forget(&keys, before_us).map_err(reader::log_error));
                }
                Job::Beside(work) => self.beside(work),
            }
        }
    }

    fn forget(&mut self, keys: &[CommandKey], before_us: i64) -> rusqlite::Result<u64> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => connect_writer(&self.path)?,
        };
        let forgotten = forget_on(&connection, keys, before_us);
        if forgotten.is_err() {
            roll_back(&connection);
        }
        // after an error the next job gets a new one, as after a commit in doubt
        self.connection = forgotten.is_ok().then_some(connection);
        forgotten
    }

    fn beside(&mut self, work: Beside) {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => match connect_writer(&self.path) {
                Ok(connection) => connection,
                Err(error) => return work(Err(error)),
            },
        };
        let done = catch_unwind(AssertUnwindSafe(|| work(Ok(&connection))));
        self.connection = (done.is_ok() && connection.is_autocommit()).then_some(connection);
    }

    fn commit(&mut self, batch: &Batch) -> Result<Vec<AppendOutcome>, CommitError> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => connect_writer(&self.path).map_err(not_committed)?,
        };
        let result = commit_on(&connection, batch, &*self.clock);
        // a failed rollback, or an error of the disk: what this connection believes is not to be built on
        let sound = connection.is_autocommit() && !matches!(result, Err(CommitError::Unknown(_)));
        self.connection = sound.then_some(connection);
        let (outcomes, appended) = result?;
        if appended {
            self.news.send_modify(|count| *count += 1);
        }
        Ok(outcomes)
    }
}

/// The outcomes, and whether there are new events.
fn commit_on(
    connection: &Connection,
    batch: &Batch,
    clock: &dyn Clock,
) -> Result<(Vec<AppendOutcome>, bool), CommitError> {
    run(connection, "begin immediate").map_err(not_committed)?;
    let mut appended = append(connection, batch, clock, Versions::Assumed);
    if let Err(error) = &appended
        && error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation)
    {
        // some version is not as assumed: once more, looking first
        roll_back(connection);
        run(connection, "begin immediate").map_err(not_committed)?;
        appended = append(connection, batch, clock, Versions::Read);
    }
    match appended {
        Ok(done) => {
            crate::failpoint!("sqlite_log.before_commit");
            run(connection, "commit").map_err(|error| {
                roll_back(connection);
                commit_failed(error)
            })?;
            crate::failpoint!("sqlite_log.after_commit");
            Ok(done)
        }
        Err(error) => {
            roll_back(connection);
            Err(not_committed(error))
        }
    }
}

/// A transaction of its own, so that no commit ever waits for more than one slice.
fn forget_on(connection: &Connection, keys: &[CommandKey], before_us: i64) -> rusqlite::Result<u64> {
    run(connection, "begin immediate")?;
    let mut forgotten = 0;
    let mut delete = connection.prepare_cached(FORGET)?;
    for key in keys {
        forgotten += delete.execute(params![&*key.scope, &*key.key, before_us])? as u64;
    }
    run(connection, "commit")?;
    Ok(forgotten)
}

fn run(connection: &Connection, sql: &str) -> rusqlite::Result<()> {
    connection.prepare_cached(sql)?.execute([]).map(|_| ())
}

/// SQLite may have rolled back by itself already, so an error says nothing; `is_autocommit` does.
fn roll_back(connection: &Connection) {
    if !connection.is_autocommit() {
        let _ = run(connection, "rollback");
    }
}

/// An error before COMMIT was tried.
fn not_committed(error: rusqlite::Error) -> CommitError {
    match error.sqlite_error_code() {
        // a constraint that only our own mistake can break, or a file that is not what we made
        Some(
            ErrorCode::ConstraintViolation
            | ErrorCode::DatabaseCorrupt
            | ErrorCode::NotADatabase
            | ErrorCode::ApiMisuse
            | ErrorCode::TypeMismatch
            | ErrorCode::TooBig
            | ErrorCode::Unknown,
        )
        | None => CommitError::Refused(Source::from(error)),
        Some(_) => CommitError::Unavailable(Source::from(error)),
    }
}

/// An error of COMMIT itself. A full disk or a busy file stops it before its last frame is written. An IO error may come
/// from the sync after that frame: this process rolls back, but after a crash the frame may be found and count.
fn commit_failed(error: rusqlite::Error) -> CommitError {
    match error.sqlite_error_code() {
        Some(ErrorCode::SystemIoFailure) => CommitError::Unknown(Source::from(error)),
        _ => not_committed(error),
    }
}

/// How an append knows that its stream is where it was decided.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Versions {
    /// It assumes so. The unique index on streams or the trigger on the head fails the transaction if it is not: cheap
    /// where one process writes and knows its streams, which on SQLite is the rule.
    Assumed,
    /// It reads the version first, and so finds out which item is wrong.
    Read,
}

fn append(
    connection: &Connection,
    batch: &Batch,
    clock: &dyn Clock,
    versions: Versions,
) -> rusqlite::Result<(Vec<AppendOutcome>, bool)> {
    let mut appending = Appending::start(connection, clock)?;
    let mut outcomes = Vec::with_capacity(batch.len());
    for chain in batch.chains() {
        let head = &chain[0];
        let mut place = match (versions, &head.decision) {
            // the position behind an append is its own, so this one is never looked at; a claim may be refused only on
            // a version that is known
            (Versions::Assumed, Decision::Append(_)) if head.claims.is_empty() => {
                Place { version: head.expected_version, position: 0 }
            }
            _ => appending.place_of(head)?,
        };
        let mut broken = false;
        for item in chain {
            let outcome = appending.apply(item, broken, &mut place)?;
            broken |= !outcome.is_applied();
            outcomes.push(outcome);
        }
    }
    Ok((outcomes, appending.finish()?))
}

/// A transaction under way, behind the one write lock: nobody else can move the head.
struct Appending<'c> {
    connection: &'c Connection,
    head: i64,
    position: i64,
    /// Whether something was written, so that the head is open.
    open: bool,
    recorded_at_us: i64,
    previous_hash: [u8; 32],
    hasher: BatchHasher,
    place_of: CachedStatement<'c>,
    insert_command: CachedStatement<'c>,
    insert_event: CachedStatement<'c>,
}

/// Where a stream stands: its version, and the position of its last event; 0 = none.
struct Place {
    version: u64,
    position: i64,
}

const HEAD: &str = "select position, recorded_at_us,
        coalesce((select hash from batches order by first desc limit 1), ?1)
    from log_head";

const OPEN_HEAD: &str = "update log_head set appending = 1";

const PLACE_OF: &str = "select sequence, position from events
    where aggregate_type = ?1 and aggregate_id = ?2 order by sequence desc limit 1";

// `or fail`, not the default `or abort`, for which SQLite copies every page that a statement with triggers is about to
// change: three times the work. A single row that fails has changed nothing.
pub(super) const INSERT_COMMAND: &str =
    "insert or fail into commands (scope, key, fingerprint, outcome, position, recorded_at_us)
    values (?1, ?2, ?3, ?4, ?5, ?6)";

const FORGET: &str = "delete from commands where scope = ?1 and key = ?2 and recorded_at_us < ?3";

pub(super) const INSERT_EVENT: &str =
    "insert or fail into events (position, event_id, aggregate_type, aggregate_id, sequence,
        event_type, event_version, payload, metadata, recorded_at_us)
    values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";

const TAKE: &str = "insert or fail into claims (name, value, aggregate_type, aggregate_id) values (?1, ?2, ?3, ?4)
    on conflict (name, value) do nothing";

const RELEASE: &str = "delete from claims where name = ?1 and value = ?2 and aggregate_type = ?3 and aggregate_id = ?4";

const HELD_BY_ANOTHER: &str = "select 1 from claims
    where name = ?1 and value = ?2 and (aggregate_type, aggregate_id) <> (?3, ?4)";

impl<'c> Appending<'c> {
    fn start(connection: &'c Connection, clock: &dyn Clock) -> rusqlite::Result<Self> {
        let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
        let (head, last_us, previous_hash): (i64, i64, [u8; 32]) =
            connection.prepare_cached(HEAD)?.query_row([GENESIS], read)?;
        Ok(Self {
            connection,
            head,
            position: head,
            open: false,
            recorded_at_us: clock.now().timestamp_micros().max(last_us),
            previous_hash,
            hasher: BatchHasher::new(&previous_hash),
            place_of: connection.prepare_cached(PLACE_OF)?,
            insert_command: connection.prepare_cached(INSERT_COMMAND)?,
            insert_event: connection.prepare_cached(INSERT_EVENT)?,
        })
    }

    fn place_of(&mut self, item: &AppendItem) -> rusqlite::Result<Place> {
        let stream = [&*item.stream.aggregate_type, &*item.stream.aggregate_id];
        let mut rows = self.place_of.query(stream)?;
        Ok(match rows.next()? {
            Some(row) => Place { version: row.get::<_, i64>(0)?.unsigned_abs(), position: row.get(1)? },
            None => Place { version: 0, position: 0 },
        })
    }

    /// Every check but that of an assumed version comes before the first write, so nothing of an item has to be taken
    /// back.
    fn apply(&mut self, item: &AppendItem, broken: bool, place: &mut Place) -> rusqlite::Result<AppendOutcome> {
        if broken || item.expected_version != place.version {
            let conflict = AppendOutcome::Conflict { expected: item.expected_version, actual: place.version };
            return Ok(self.stored(item)?.map_or(conflict, AppendOutcome::Duplicate));
        }
        if let Some(taken) = self.taken(item)? {
            return Ok(self.stored(item)?.map_or(AppendOutcome::Taken(taken), AppendOutcome::Duplicate));
        }
        let events = item.events();
        let count = i64::try_from(events.len()).expect("a command's events are few");
        let position = if count == 0 { place.position } else { self.position + count };
        if !self.remember(item, position)? {
            // the key is known, so what was assumed of the stream is not
            *place = self.place_of(item)?;
            let stored = self.stored(item)?.ok_or(rusqlite::Error::QueryReturnedNoRows)?;
            return Ok(AppendOutcome::Duplicate(stored));
        }
        self.settle_claims(item)?;
        for (sequence, event) in (place.version + 1..).zip(events) {
            self.insert(item, sequence, event)?;
        }
        *place = Place { version: item.version_after(), position };
        let (version, position) = (place.version, position.unsigned_abs());
        Ok(match item.decision {
            Decision::Append(_) => AppendOutcome::Appended { version, position },
            Decision::Unchanged => AppendOutcome::Unchanged { version, position },
            Decision::Refused => AppendOutcome::Refused { version, position },
        })
    }

    fn stored(&self, item: &AppendItem) -> rusqlite::Result<Option<StoredOutcome>> {
        reader::stored_outcome(self.connection, &item.command.scope, &item.command.key)
    }

    fn taken(&self, item: &AppendItem) -> rusqlite::Result<Option<Claim>> {
        for claim in item.claims.iter().filter(|claim| claim.action == ClaimAction::Take) {
            let mut held = self.connection.prepare_cached(HELD_BY_ANOTHER)?;
            if held.query_row(claim_params(item, claim), |_| Ok(())).optional()?.is_some() {
                return Ok(Some(claim.clone()));
            }
        }
        Ok(None)
    }

    fn settle_claims(&self, item: &AppendItem) -> rusqlite::Result<()> {
        for claim in &item.claims {
            let sql = match claim.action {
                ClaimAction::Take => TAKE,
                ClaimAction::Release => RELEASE,
            };
            self.connection.prepare_cached(sql)?.execute(claim_params(item, claim))?;
        }
        Ok(())
    }

    /// Whether the key is new; if so, its answer is stored now.
    fn remember(&mut self, item: &AppendItem, position: i64) -> rusqlite::Result<bool> {
        if !self.open {
            run(self.connection, OPEN_HEAD)?;
            self.open = true;
        }
        let command = &item.command;
        let inserted = self.insert_command.execute(params![
            &*command.scope,
            &*command.key,
            command.fingerprint.0,
            command.outcome,
            position,
            self.recorded_at_us
        ]);
        match inserted {
            Ok(_) => Ok(true),
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn insert(&mut self, item: &AppendItem, sequence: u64, event: &NewEvent) -> rusqlite::Result<()> {
        self.position += 1;
        self.insert_event.execute(params![
            self.position,
            event.event_id.as_bytes(),
            &*item.stream.aggregate_type,
            &*item.stream.aggregate_id,
            sequence.cast_signed(),
            &*event.event_type,
            &*event.event_version,
            event.payload,
            event.metadata,
            self.recorded_at_us
        ])?;
        self.hasher.event(&HashedEvent {
            position: self.position.unsigned_abs(),
            event_id: event.event_id,
            stream: &item.stream,
            sequence,
            event_type: &event.event_type,
            event_version: &event.event_version,
            payload: &event.payload,
            metadata: &event.metadata,
            recorded_at_us: self.recorded_at_us,
        });
        Ok(())
    }

    /// Moves the head and chains the batch's hash, if there are events. Whether there are.
    fn finish(self) -> rusqlite::Result<bool> {
        if self.position == self.head {
            if self.open {
                run(self.connection, "update log_head set appending = 0")?;
            }
            return Ok(false);
        }
        let mut insert = self
            .connection
            .prepare_cached("insert into batches (first, last, prev_hash, hash) values (?1, ?2, ?3, ?4)")?;
        insert.execute(params![self.head + 1, self.position, self.previous_hash, self.hasher.finish()])?;
        let mut update =
            self.connection.prepare_cached("update log_head set position = ?1, recorded_at_us = ?2, appending = 0")?;
        update.execute([self.position, self.recorded_at_us])?;
        Ok(true)
    }
}

fn claim_params<'a>(item: &'a AppendItem, claim: &'a Claim) -> [&'a str; 4] {
    [&claim.name, &claim.value, &item.stream.aggregate_type, &item.stream.aggregate_id]
}
