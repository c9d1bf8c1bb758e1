//! Commits batches on the one connection of this log that writes: one call of `append_batch` each, or of `append_event`
//! where a single event is all there is.

use std::time::Duration;

use database::Database;
use sqlx::{ConnectOptions, Connection, PgConnection, Row, postgres::PgRow};
use tokio::{sync::Mutex, time::timeout};
use uuid::Uuid;

use super::{PostgresOptions, cause, with_writer_settings};
use crate::log::{
    AppendItem, AppendOutcome, Batch, ClaimAction, CommitError, Decision, Fingerprint, NewEvent, StoredOutcome,
};

const APPEND_BATCH: &str = "select * from public.append_batch(\
                            $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, \
                            $11, $12, $13, $14, $15, $16, $17, $18, $19)";

const APPEND_EVENT: &str = "select public.append_event($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)";

/// What is acknowledged is on disk, whatever the server's default; its stricter settings stay.
const DURABLE: &str = "select set_config('synchronous_commit', 'on', false) \
                       where current_setting('synchronous_commit') = 'off'";

/// What an answer may take beyond the server's own limit before the connection is given up.
const ANSWER_GRACE: Duration = Duration::from_secs(2);
/// Between attempts to reach a server that is away, so that a busy caller does not storm it.
const RECONNECT_PAUSE_MIN: Duration = Duration::from_millis(20);
const RECONNECT_PAUSE_MAX: Duration = Duration::from_secs(1);

/// The writing connection. It is taken out while a call runs and put back only after a clean end: a call that is
/// dropped half-way closes it, and the server commits or rolls back that one statement by itself.
pub(super) struct Writer {
    database: Database,
    options: PostgresOptions,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    connection: Option<PgConnection>,
    /// Of the login that the connection was made with.
    login: u64,
    failed_attempts: u32,
    is_closed: bool,
}

impl Writer {
    pub(super) fn new(database: Database, options: &PostgresOptions) -> Self {
        Self { database, options: options.clone(), state: Mutex::default() }
    }

    pub(super) async fn commit(&self, batch: &Batch) -> Result<Vec<AppendOutcome>, CommitError> {
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        let mut state = self.state.lock().await;
        let mut connection = match state.connection.take() {
            Some(connection) if state.login == self.database.version() => connection,
            // dropped: what it committed was answered
            Some(_) | None => self.connect(&mut state).await?,
        };
        crate::failpoint!("postgres_before_commit");
        let answer_timeout = self.options.statement_timeout + ANSWER_GRACE;
        let answer = timeout(answer_timeout, append(&mut connection, batch)).await;
        crate::failpoint!("postgres_after_commit", CommitError::Unknown("failpoint".into()));
        let outcomes =
            answer.unwrap_or_else(|_| Err(CommitError::Unknown(format!("no answer within {answer_timeout:?}").into())));
        // after an unknown outcome nobody knows what the connection is still busy with
        if !matches!(outcomes, Err(CommitError::Unknown(_))) {
            state.connection = Some(connection);
        }
        outcomes
    }

    pub(super) async fn close(&self) {
        let mut state = self.state.lock().await;
        state.is_closed = true;
        if let Some(connection) = state.connection.take() {
            // the server notices either way
            let _ = connection.close().await;
        }
    }

    async fn connect(&self, state: &mut State) -> Result<PgConnection, CommitError> {
        if state.is_closed {
            return Err(CommitError::Unavailable("the log is closed".into()));
        }
        if state.failed_attempts > 0 {
            let pause = RECONNECT_PAUSE_MIN.saturating_mul(1 << (state.failed_attempts - 1).min(10));
            tokio::time::sleep(pause.min(RECONNECT_PAUSE_MAX)).await;
        }
        state.failed_attempts = state.failed_attempts.saturating_add(1);
        state.login = self.database.version();
        let attempt = async {
            let target = with_writer_settings(self.database.options(), &self.options);
            let mut connection = target.connect().await?;
            sqlx::query(DURABLE).execute(&mut connection).await?;
            Ok::<_, sqlx::Error>(connection)
        };
        match timeout(self.options.connect_timeout, attempt).await {
            Ok(Ok(connection)) => {
                state.failed_attempts = 0;
                Ok(connection)
            }
            Ok(Err(error)) => Err(CommitError::Unavailable(cause(error))),
            Err(_) => {
                let error = format!("no connection within {:?}", self.options.connect_timeout);
                Err(CommitError::Unavailable(error.into()))
            }
        }
    }
}

async fn append(connection: &mut PgConnection, batch: &Batch) -> Result<Vec<AppendOutcome>, CommitError> {
    if let Some((item, event)) = single_event(batch) {
        // fetch_all returns at the end of the answer; a row alone would come before the commit
        let rows = append_event(item, event).fetch_all(&mut *connection).await.map_err(classify)?;
        let position: Option<i64> = match &rows[..] {
            [row] => row.try_get(0).map_err(unreadable)?,
            _ => return Err(unreadable(sqlx::Error::RowNotFound)),
        };
        if let Some(position) = position {
            return Ok(vec![AppendOutcome::Appended { version: item.version_after(), position: unsigned(position) }]);
        }
    }
    let rows = Arrays::of(batch).query().fetch_all(connection).await.map_err(classify)?;
    outcomes(batch, &rows).map_err(unreadable)
}

/// The one event of the one command that is all of `batch`.
fn single_event(batch: &Batch) -> Option<(&AppendItem, &NewEvent)> {
    match batch.items() {
        [item] if item.claims.is_empty() => match item.events() {
            [event] => Some((item, event)),
            _ => None,
        },
        _ => None,
    }
}

fn append_event<'a>(
    item: &'a AppendItem,
    event: &'a NewEvent,
) -> sqlx::query::Query<'a, sqlx::Postgres, sqlx::postgres::PgArguments> {
    sqlx::query(APPEND_EVENT)
        .bind(&*item.stream.aggregate_type)
        .bind(&*item.stream.aggregate_id)
        .bind(number(item.expected_version))
        .bind(&*item.command.scope)
        .bind(&*item.command.key)
        .bind(&item.command.fingerprint.0[..])
        .bind(&*item.command.outcome)
        .bind(event.event_id)
        .bind(&*event.event_type)
        .bind(&*event.event_version)
        .bind(&*event.payload)
        .bind(&*event.metadata)
}

/// The server has committed something, whatever we make of its answer.
fn unreadable(error: sqlx::Error) -> CommitError {
    CommitError::Unknown(cause(error))
}

/// What an error says about the transaction of the one statement that ran.
///
/// An ERROR means that it was rolled back. A FATAL or PANIC ends the session at a moment that may lie behind the
/// commit (a shutdown while a synchronous standby is waited for, for one), and so may a connection that breaks.
fn classify(error: sqlx::Error) -> CommitError {
    use sqlx::postgres::{PgDatabaseError, PgSeverity};
    let Some(answer) = error.as_database_error().and_then(|error| error.try_downcast_ref::<PgDatabaseError>()) else {
        return match error {
            // never sent
            sqlx::Error::Encode(_) | sqlx::Error::Configuration(_) => CommitError::Refused(cause(error)),
            _ => CommitError::Unknown(cause(error)),
        };
    };
    if matches!(answer.severity(), PgSeverity::Fatal | PgSeverity::Panic) {
        return CommitError::Unknown(cause(error));
    }
    // https://www.postgresql.org/docs/15/errcodes-appendix.html: connections, read-only (a standby), rollbacks,
    // resources, prerequisites, operator intervention, system errors
    let code = answer.code();
    let for_a_while = ["08", "40", "53", "55", "57", "58"].iter().any(|class| code.starts_with(class));
    match for_a_while || code == "25006" {
        true => CommitError::Unavailable(cause(error)),
        false => CommitError::Refused(cause(error)),
    }
}

/// A batch as the arrays that `append_batch` takes: see its header.
#[derive(Default)]
struct Arrays<'a> {
    aggregate_types: Vec<&'a str>,
    aggregate_ids: Vec<&'a str>,
    bases: Vec<i64>,

    item_chains: Vec<i32>,
    event_counts: Vec<i32>,
    scopes: Vec<&'a str>,
    keys: Vec<&'a str>,
    fingerprints: Vec<&'a [u8]>,
    outcomes: Vec<&'a str>,

    event_items: Vec<i32>,
    event_ids: Vec<Uuid>,
    event_types: Vec<&'a str>,
    event_versions: Vec<&'a str>,
    payloads: Vec<&'a str>,
    metadatas: Vec<&'a str>,

    claim_items: Vec<i32>,
    claim_takes: Vec<bool>,
    claim_names: Vec<&'a str>,
    claim_values: Vec<&'a str>,
}

impl<'a> Arrays<'a> {
    fn of(batch: &'a Batch) -> Self {
        let mut arrays = Self::default();
        for (chain, items) in (1..).zip(batch.chains()) {
            let head = &items[0];
            arrays.aggregate_types.push(&head.stream.aggregate_type);
            arrays.aggregate_ids.push(&head.stream.aggregate_id);
            arrays.bases.push(number(head.expected_version));
            for item in items {
                arrays.item_chains.push(chain);
                arrays.event_counts.push(count(item.events().len()));
                arrays.scopes.push(&item.command.scope);
                arrays.keys.push(&item.command.key);
                arrays.fingerprints.push(&item.command.fingerprint.0);
                arrays.outcomes.push(&item.command.outcome);
                let this_item = count(arrays.item_chains.len());
                for event in item.events() {
                    arrays.event_items.push(this_item);
                    arrays.event_ids.push(event.event_id);
                    arrays.event_types.push(&event.event_type);
                    arrays.event_versions.push(&event.event_version);
                    arrays.payloads.push(&event.payload);
                    arrays.metadatas.push(&event.metadata);
                }
                for claim in &item.claims {
                    arrays.claim_items.push(this_item);
                    arrays.claim_takes.push(claim.action == ClaimAction::Take);
                    arrays.claim_names.push(&claim.name);
                    arrays.claim_values.push(&claim.value);
                }
            }
        }
        arrays
    }

    fn query(self) -> sqlx::query::Query<'static, sqlx::Postgres, sqlx::postgres::PgArguments> {
        sqlx::query(APPEND_BATCH)
            .bind(self.aggregate_types)
            .bind(self.aggregate_ids)
            .bind(self.bases)
            .bind(self.item_chains)
            .bind(self.event_counts)
            .bind(self.scopes)
            .bind(self.keys)
            .bind(self.fingerprints)
            .bind(self.outcomes)
            .bind(self.event_items)
            .bind(self.event_ids)
            .bind(self.event_types)
            .bind(self.event_versions)
            .bind(self.payloads)
            .bind(self.metadatas)
            .bind(self.claim_items)
            .bind(self.claim_takes)
            .bind(self.claim_names)
            .bind(self.claim_values)
    }
}

/// Versions and positions are below 2^63: the log counts them from 1.
fn number(version: u64) -> i64 {
    i64::try_from(version).unwrap_or(i64::MAX)
}

fn count(items: usize) -> i32 {
    i32::try_from(items).expect("a batch is bounded far below 2^31")
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

/// Reads the answer of `append_batch`: one row of arrays.
fn outcomes(batch: &Batch, rows: &[PgRow]) -> Result<Vec<AppendOutcome>, sqlx::Error> {
    let [row] = rows else { return Err(sqlx::Error::RowNotFound) };
    let statuses: Vec<i16> = row.try_get("statuses")?;
    let versions: Vec<i64> = row.try_get("versions")?;
    let positions: Vec<i64> = row.try_get("positions")?;
    let taken: Option<Vec<Option<i32>>> = row.try_get("taken")?;
    let taken = taken.unwrap_or_default();
    let mut stored = Stored::read(row)?;
    let lengths = [statuses.len(), versions.len(), positions.len()];
    assert_eq!(lengths, [batch.len(); 3], "append_batch answers every item");
    let claims: Vec<_> = batch.items().iter().flat_map(|item| &item.claims).collect();
    let mut outcomes = Vec::with_capacity(batch.len());
    for (n, item) in batch.items().iter().enumerate() {
        let (version, position) = (unsigned(versions[n]), unsigned(positions[n]));
        outcomes.push(match (statuses[n], &item.decision) {
            (0, Decision::Append(_)) => AppendOutcome::Appended { version, position },
            (0, Decision::Unchanged) => AppendOutcome::Unchanged { version, position },
            (0, Decision::Refused) => AppendOutcome::Refused { version, position },
            (1, _) => AppendOutcome::Duplicate(stored.take(n)?),
            (2, _) => AppendOutcome::Conflict { expected: item.expected_version, actual: version },
            (3, _) => {
                let claim = taken
                    .get(n)
                    .copied()
                    .flatten()
                    .and_then(|n| usize::try_from(n - 1).ok())
                    .and_then(|n| claims.get(n));
                let claim = claim.ok_or_else(|| sqlx::Error::Protocol("append_batch names no claim".into()))?;
                AppendOutcome::Taken((*claim).clone())
            }
            (status, _) => return Err(sqlx::Error::Protocol(format!("append_batch answers status {status}"))),
        });
    }
    Ok(outcomes)
}

/// What is stored under the keys of duplicates, by item.
struct Stored(std::collections::HashMap<usize, StoredOutcome>);

impl Stored {
    fn read(row: &PgRow) -> Result<Self, sqlx::Error> {
        let Some(items): Option<Vec<i32>> = row.try_get("stored_items")? else { return Ok(Self(Default::default())) };
        let fingerprints: Vec<Vec<u8>> = row.try_get("stored_fingerprints")?;
        let outcomes: Vec<String> = row.try_get("stored_outcomes")?;
        let positions: Vec<i64> = row.try_get("stored_positions")?;
        let event_ids: Vec<Option<Uuid>> = row.try_get("stored_event_ids")?;
        let lengths = [fingerprints.len(), outcomes.len(), positions.len(), event_ids.len()];
        assert_eq!(lengths, [items.len(); 4], "append_batch answers every duplicate");
        let mut stored = std::collections::HashMap::with_capacity(items.len());
        for (n, (outcome, fingerprint)) in outcomes.into_iter().zip(fingerprints).enumerate() {
            let item = usize::try_from(items[n] - 1).map_err(|error| sqlx::Error::Decode(error.into()))?;
            let fingerprint = fingerprint_of(&fingerprint)?;
            let position = unsigned(positions[n]);
            stored.insert(item, StoredOutcome { fingerprint, outcome, position, event_id: event_ids[n] });
        }
        Ok(Self(stored))
    }

    fn take(&mut self, item: usize) -> Result<StoredOutcome, sqlx::Error> {
        self.0.remove(&item).ok_or_else(|| sqlx::Error::Protocol("append_batch lost a stored outcome".into()))
    }
}

pub(super) fn fingerprint_of(bytes: &[u8]) -> Result<Fingerprint, sqlx::Error> {
    bytes.try_into().map(Fingerprint).map_err(|_| sqlx::Error::Decode("a fingerprint has 32 bytes".into()))
}
