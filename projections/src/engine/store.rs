//! One generation of a projection, as the store of a follower.
//!
//! A batch is one transaction: load what its events touch, fold in memory, write back, move the checkpoint. Each of
//! these is one statement per table, so the number of round trips does not depend on the size of the batch.

mod changes;
pub(crate) mod history;
mod late;
pub mod one_key;
mod parked;
mod rows;

use std::{collections::HashSet, sync::Arc};

use async_trait::async_trait;
use event_store::{
    clock::{Clock, SystemClock},
    failpoint,
    follower::{Acquired, ApplyError, Checkpoint, FollowerStore, Step, StoreError, Vector},
};
use events::envelope::{Name, StreamId};
use read_side::{Wake, template::Template};
use tokio::sync::{Mutex, MutexGuard, Notify};
use uuid::Uuid;

pub use self::parked::Parked;
pub(super) use self::parked::parked_stream;
use self::{
    history::Noted,
    late::Bases,
    parked::{ParkedStatements, Unparking},
    rows::Pass,
};
use super::{
    EngineError,
    batch::{self, Routed},
    decisions::Dropped,
    fan_out::{self, FanOut},
    statements::{Statements, load::LoadStatements},
    transaction::{Pool, Texts, Transaction, Value, is_passing},
};
use crate::projection::{Projection, References};

/// Bounds of one generation's writes.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// Rows that one transaction rewrites because a reference has changed. More wait for the next ones, so that a
    /// popular product does not hold up everything else.
    pub fan_out_rows_max: usize,
    /// Changed references whose rows are not all rewritten: with more, the next events wait. They are held in memory.
    pub fan_outs_open_max: usize,
    /// How many recent events of a source have their anchor kept, to be compared with consistency tokens. A token is
    /// used within seconds; this is minutes to hours.
    pub anchors_kept_events: u64,
    /// For times that are shown; nothing depends on it.
    pub clock: Arc<dyn Clock>,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            fan_out_rows_max: 500,
            fan_outs_open_max: 2_000,
            anchors_kept_events: 100_000,
            clock: SystemClock::shared(),
        }
    }
}

/// One generation of a projection.
pub struct GenerationStore {
    projection: Arc<Projection>,
    generation: i64,
    pool: Pool,
    /// Where the pointers lie, and the decisions about what is parked.
    pointers: Pool,
    statements: Statements,
    parked_statements: ParkedStatements,
    options: StoreOptions,
    wake: Wake,
    /// One writer at a time: the follower's steps, and the fan-outs between them.
    writing: Mutex<Writing>,
    /// Told when fan-outs are open.
    fan_outs_open: Notify,
}

#[derive(Default)]
struct Writing {
    fence: u64,
    /// As they are in the database; `None` = to be read first.
    fan_outs: Option<Vec<FanOut>>,
    /// It is the live generation.
    tells_changes: bool,
    /// When old changes were last swept away.
    swept_at_us: i64,
    /// What waited was committed or was not: until that is looked at, `parked` may not be what is in the database.
    stale: bool,
    /// By source: what waits goes by another way than a follower's steps.
    parked: HashSet<(Name, StreamId)>,
    /// What is left out by decision.
    dropped: Arc<Dropped>,
}

/// Leave to write. While it is held, no follower's step comes in between.
pub(crate) struct Held<'s>(MutexGuard<'s, Writing>);

/// What a transaction is about.
#[derive(Clone, Copy)]
enum Work<'w> {
    /// A follower's events.
    Step(&'w Step<'w>),
    /// Events that waited with their parked stream.
    Waiting(&'w Unparking<'w>),
    /// Rows that wait for a changed reference, and nothing else.
    FanOuts,
}

/// What becomes of a transaction in which everything went well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Commit,
    TakeBack,
}

/// Why a transaction did not come to be.
pub(super) enum Refused {
    Database(sqlx::Error),
    Apply(ApplyError),
}

impl From<sqlx::Error> for Refused {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error)
    }
}

impl From<Refused> for ApplyError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Apply(error) => error,
            Refused::Database(error) if is_passing(&error) => Self::Unavailable(Box::new(error)),
            Refused::Database(error) => Self::Bug(error.to_string()),
        }
    }
}

impl From<Refused> for StoreError {
    fn from(refused: Refused) -> Self {
        match ApplyError::from(refused) {
            ApplyError::Unavailable(cause) => Self::Unavailable(cause),
            error => Self::Bug(error.to_string()),
        }
    }
}

#[async_trait]
impl FollowerStore for GenerationStore {
    async fn acquire(&self) -> Result<Acquired, StoreError> {
        let mut writing = self.writing.lock().await;
        let acquired = self.look(&mut writing, true).await?;
        Ok(acquired)
    }

    async fn reload(&self) -> Result<Acquired, StoreError> {
        let mut writing = self.writing.lock().await;
        let acquired = self.look(&mut writing, false).await?;
        Ok(acquired)
    }

    async fn apply(&self, step: &Step<'_>) -> Result<(), ApplyError> {
        let mut writing = self.writing.lock().await;
        if writing.stale || !self.agrees(&writing.parked, step) {
            return Err(ApplyError::Moved);
        }
        let routed = Routed::of(&self.projection, step, &writing.dropped)?;
        // backpressure: what waits is bounded, so the events that make more of it wait for it
        while writing.fan_outs.as_ref().is_some_and(|open| open.len() > self.options.fan_outs_open_max) {
            self.transact(&mut writing, step.fence, Work::FanOuts, Routed::nothing(&self.projection), End::Commit)
                .await?;
        }
        self.transact(&mut writing, step.fence, Work::Step(step), routed, End::Commit).await?;
        Ok(())
    }
}

impl GenerationStore {
    pub(crate) fn new(
        projection: Arc<Projection>,
        generation: i64,
        (pool, pointers): (Pool, Pool),
        options: StoreOptions,
        wake: Wake,
    ) -> Self {
        let statements = Statements::new(projection.template, generation, &projection.sources(), pool.is_postgres());
        let parked_statements = ParkedStatements::new(projection.template.name, generation);
        Self {
            projection,
            generation,
            pool,
            pointers,
            statements,
            parked_statements,
            options,
            wake,
            writing: Mutex::default(),
            fan_outs_open: Notify::new(),
        }
    }

    pub fn generation(&self) -> i64 {
        self.generation
    }

    pub fn projection(&self) -> &Arc<Projection> {
        &self.projection
    }

    /// Releases what only this generation uses: a file's connection; connections to PostgreSQL are everybody's.
    pub async fn close(&self) {
        if !self.pool.is_postgres() {
            self.pool.close().await;
        }
    }

    pub(crate) fn pool(&self) -> &Pool {
        &self.pool
    }

    pub(crate) fn statements(&self) -> &Statements {
        &self.statements
    }

    pub(super) fn load_statements(&self) -> LoadStatements {
        let (template, tables) = (self.projection.template, &self.statements.tables);
        LoadStatements::new(template, self.generation, tables, self.pool.is_postgres())
    }

    pub(super) fn options(&self) -> &StoreOptions {
        &self.options
    }

    /// Statements sent so far by this store, begin and commit included.
    pub fn statements_sent(&self) -> u64 {
        self.pool.sent()
    }

    /// Waits until there may be fan-outs to advance. Cancel-safe.
    pub async fn fan_outs_opened(&self) {
        self.fan_outs_open.notified().await;
    }

    /// Rewrites the next rows that wait for a changed reference, in a transaction of its own, and says whether more
    /// wait. The fence must have been acquired. Not cancel-safe.
    pub async fn advance_fan_outs(&self) -> Result<bool, ApplyError> {
        let mut writing = self.writing.lock().await;
        if writing.fan_outs.as_ref().is_some_and(Vec::is_empty) {
            return Ok(false);
        }
        let fence = writing.fence;
        self.transact(&mut writing, fence, Work::FanOuts, Routed::nothing(&self.projection), End::Commit).await?;
        Ok(writing.fan_outs.as_ref().is_some_and(|open| !open.is_empty()))
    }

    /// Does all that applying `step` does and takes it back, as a crash in front of the commit would.
    #[cfg(feature = "kit")]
    pub(crate) async fn rehearse(&self, step: &Step<'_>) -> Result<(), ApplyError> {
        let mut writing = self.writing.lock().await;
        let routed = Routed::of(&self.projection, step, &writing.dropped)?;
        self.transact(&mut writing, step.fence, Work::Step(step), routed, End::TakeBack).await?;
        Ok(())
    }

    /// Reads anew what is left out by decision.
    pub(crate) async fn read_decisions(&self) -> Result<(), StoreError> {
        let dropped = Dropped::load(&self.pointers, self.projection.template.name).await.map_err(Refused::from)?;
        self.writing.lock().await.dropped = Arc::new(dropped);
        Ok(())
    }

    /// What is left out by decision, as last read.
    pub(crate) async fn dropped(&self) -> Arc<Dropped> {
        Arc::clone(&self.writing.lock().await.dropped)
    }

    /// Whether rows wait for a changed reference.
    pub async fn has_open_fan_outs(&self) -> bool {
        // unknown counts as open: whoever writes next finds out
        !self.writing.lock().await.fan_outs.as_ref().is_some_and(Vec::is_empty)
    }

    /// Takes the fence, or only looks; reads vector, parked streams and open fan-outs.
    async fn look(&self, writing: &mut Writing, take: bool) -> Result<Acquired, Refused> {
        writing.fan_outs = None;
        let dropped = Dropped::load(&self.pointers, self.projection.template.name).await?;
        let mut transaction = self.pool.begin().await?;
        let fence = if take { &self.statements.take_fence } else { &self.statements.hold_fence };
        let fence = transaction.fetch(fence, &[]).await?;
        let Some(fence) = fence.first().and_then(|row| number(row, 0)) else {
            let reason = format!("generation {} of {} is not there", self.generation, self.projection.template.name);
            return Err(Refused::Apply(ApplyError::Bug(reason)));
        };
        let checkpoints = transaction.fetch(&self.statements.load_checkpoints, &[]).await?;
        let parked = transaction.fetch(&self.statements.load_parked, &[]).await?;
        let fan_outs = self.load_fan_outs(&mut transaction).await?;
        transaction.commit().await?;
        if !fan_outs.is_empty() {
            self.fan_outs_open.notify_one();
        }
        if take {
            // only what was taken is ours: fan-outs must not go on under the fence of who has taken over
            writing.fence = unsigned(fence);
        }
        let parked: Vec<_> = parked.iter().map(parked_stream).collect::<Result<_, _>>()?;
        writing.fan_outs = Some(fan_outs);
        writing.stale = false;
        writing.parked = parked.iter().map(|parked| (parked.source.clone(), parked.stream.clone())).collect();
        writing.dropped = Arc::new(dropped);
        Ok(Acquired { fence: unsigned(fence), vector: vector(&checkpoints)?, parked })
    }

    async fn load_fan_outs(&self, transaction: &mut Transaction) -> Result<Vec<FanOut>, Refused> {
        let rows = transaction.fetch(&self.statements.load_fan_outs, &[]).await?;
        let fan_out = |row: &Texts| {
            Some(FanOut {
                reference: text(row, 0)?,
                foreign_key: text(row, 1)?,
                source: text(row, 2)?,
                after_key: text(row, 3)?,
                position: number(row, 4)?,
            })
        };
        rows.iter().map(|row| fan_out(row).ok_or_else(|| unreadable("fan_outs"))).collect()
    }

    /// One transaction: the events of a step, or some that waited, and rows that wait for changed references.
    async fn transact(
        &self,
        writing: &mut Writing,
        fence: u64,
        work: Work<'_>,
        routed: Routed<'_>,
        end: End,
    ) -> Result<(), Refused> {
        // until it is known how this ends, what is in memory may not be what is in the database
        let known = writing.fan_outs.take();
        let was_stale = writing.stale;
        // what is taken back has changed nothing, and nobody may write next
        let kept = if matches!(work, Work::Waiting(_)) { known.clone() } else { None };
        let mut transaction = self.pool.begin().await?;
        match self.fill(&mut transaction, (&mut *writing, known), fence, work, routed).await {
            Ok(_) if end == End::TakeBack => {
                transaction.rollback().await;
                writing.fan_outs = kept;
                Ok(())
            }
            Ok(open) => {
                writing.stale |= matches!(work, Work::Waiting(_));
                failpoint!("projection.before_commit", Refused::Apply(ApplyError::Unavailable("failpoint".into())));
                transaction.commit().await?;
                // committed, but the answer is lost: the next try finds the checkpoint moved
                failpoint!("projection.after_commit", Refused::Apply(ApplyError::Unavailable("failpoint".into())));
                if !open.is_empty() {
                    self.fan_outs_open.notify_one();
                }
                writing.fan_outs = Some(open);
                match work {
                    Work::Step(step) => {
                        let parking = step.parking.iter().map(|parked| (parked.source.clone(), parked.stream.clone()));
                        writing.parked.extend(parking);
                    }
                    Work::Waiting(unparking) => {
                        writing.stale = was_stale;
                        if unparking.is_over() {
                            writing.parked.remove(&unparking.key());
                        }
                    }
                    Work::FanOuts => {}
                }
                self.wake.committed();
                Ok(())
            }
            Err(refused) => {
                transaction.rollback().await;
                writing.fan_outs = kept;
                Err(refused)
            }
        }
    }

    /// Everything between begin and commit; gives the fan-outs that are open behind it.
    async fn fill(
        &self,
        transaction: &mut Transaction,
        (writing, known): (&mut Writing, Option<Vec<FanOut>>),
        fence: u64,
        work: Work<'_>,
        routed: Routed<'_>,
    ) -> Result<Vec<FanOut>, Refused> {
        self.claim(transaction, fence, work).await?;
        let stored = match known {
            Some(known) => known,
            None => self.load_fan_outs(transaction).await?,
        };
        let bases = match work {
            Work::Waiting(_) => self.bases(transaction, routed.places(&self.projection)).await?,
            Work::Step(_) | Work::FanOuts => Bases::default(),
        };
        let noted = Noted::of(self.projection.template);
        let mut pass = Pass { bases, ahead: routed.ahead, noted, poison: Vec::new(), shown: Vec::new() };
        let mut references = References::default();
        let mut changed = Vec::new();
        for (place, by_key) in routed.references.into_iter().enumerate() {
            if !by_key.is_empty() {
                changed.extend(self.fold_reference(transaction, place, by_key, &mut references, &mut pass).await?);
            }
        }
        let cursors = fan_out::merge(&stored, changed);
        let advanced = self.find_fan_out(transaction, cursors).await?;
        let entities = self.fold_rows(transaction, routed.facets, &advanced.keys, &mut pass).await?;
        let Pass { noted, mut poison, shown, .. } = pass;
        if !poison.is_empty() {
            poison.sort_by_key(|event| event.position);
            return Err(Refused::Apply(ApplyError::Poison(poison)));
        }
        self.load_missing_references(transaction, &entities, &mut references).await?;
        let served = self.write_rows(transaction, &entities, &references).await?;
        let groups = self.write_groups(transaction, &entities).await?;
        self.write_entries(transaction, &routed.entries).await?;
        self.write_history(transaction, noted).await?;
        let Template { groups: rolled_up, entries: list, .. } = self.projection.template;
        let told = match (rolled_up, list) {
            (Some(_), _) => [groups, shown].concat(),
            (None, Some(_)) => routed.listed.into_iter().collect(),
            (None, None) => served,
        };
        self.write_changes(transaction, writing, &told).await?;
        self.write_fan_outs(transaction, &stored, &advanced).await?;
        match work {
            Work::Step(step) => {
                self.write_anchors(transaction, step).await?;
                self.write_parked(transaction, step).await?;
            }
            Work::Waiting(unparking) => self.write_unparked(transaction, unparking).await?,
            Work::FanOuts => {}
        }
        Ok(advanced.open)
    }

    /// As a batch does it, for whoever writes in another way.
    pub(super) async fn claim_for(
        &self,
        transaction: &mut Transaction,
        fence: u64,
        step: Option<&Step<'_>>,
    ) -> Result<(), Refused> {
        self.claim(transaction, fence, step.map_or(Work::FanOuts, Work::Step)).await
    }

    /// Moves the checkpoint, or only holds the fence: first, so that whoever is too late does no work.
    async fn claim(&self, transaction: &mut Transaction, fence: u64, work: Work<'_>) -> Result<(), Refused> {
        if let Work::Step(step) = work {
            let (from, to) = (Texted::of(&step.from), Texted::of(&step.to));
            let now_us = self.options.clock.now().timestamp_micros();
            let moved = [
                Value::Text(step.source),
                Value::MaybeText(to.epoch.as_deref()),
                Value::Integer(to.position),
                Value::MaybeText(to.event_id.as_deref()),
                Value::MaybeInteger(step.events.last().map(|event| event.recorded_at.timestamp_micros())),
                Value::Integer(signed(step.head.position)),
                Value::Integer(now_us),
                Value::Integer(from.position),
                Value::MaybeText(from.event_id.as_deref()),
                Value::MaybeText(from.epoch.as_deref()),
                Value::Integer(signed(fence)),
            ];
            if transaction.execute(&self.statements.move_checkpoint, &moved).await? == 1 {
                return Ok(());
            }
        }
        let held = transaction.fetch(&self.statements.hold_fence, &[]).await?;
        let held = held.first().and_then(|row| number(row, 0)).map(unsigned);
        match (held == Some(fence), work) {
            (false, _) => {
                tracing::warn!(
                    code = "fenced",
                    read_model = self.projection.template.name,
                    generation = self.generation,
                    fence,
                    held = held.unwrap_or(0),
                    "write refused: another process has taken this generation over"
                );
                Err(Refused::Apply(ApplyError::Fenced))
            }
            (true, Work::Step(_)) => Err(Refused::Apply(ApplyError::Moved)),
            (true, Work::Waiting(_) | Work::FanOuts) => Ok(()),
        }
    }

    /// Remembers which events these were, and forgets those of long ago.
    async fn write_anchors(&self, transaction: &mut Transaction, step: &Step<'_>) -> Result<(), Refused> {
        let (Some(first), Some(last)) = (step.events.first(), step.events.last()) else { return Ok(()) };
        let forget = last.position.saturating_sub(self.options.anchors_kept_events);
        // while catching up, what is so old that it would be forgotten at the head is not written at all
        if step.head.position.saturating_sub(last.position) < self.options.anchors_kept_events {
            let anchors = batch::anchors(step.events);
            let values = [
                Value::Text(step.source),
                Value::Integer(signed(first.position)),
                Value::Integer(signed(last.position)),
                Value::Bytes(&anchors),
            ];
            transaction.execute(&self.statements.insert_anchors, &values).await?;
            if forget > 0 {
                let values = [Value::Text(step.source), Value::Integer(signed(forget))];
                transaction.execute(&self.statements.prune_anchors, &values).await?;
            }
        }
        Ok(())
    }
}

/// A checkpoint as its columns.
struct Texted {
    epoch: Option<String>,
    position: i64,
    event_id: Option<String>,
}

impl Texted {
    fn of(checkpoint: &Checkpoint) -> Self {
        Self {
            epoch: (!checkpoint.epoch.is_nil()).then(|| checkpoint.epoch.to_string()),
            position: signed(checkpoint.position),
            event_id: checkpoint.event_id.map(|id| id.to_string()),
        }
    }
}

pub(super) fn vector(rows: &[Texts]) -> Result<Vector, Refused> {
    let checkpoint = |row: &Texts| -> Option<(Name, Checkpoint)> {
        let epoch = text(row, 1).map_or(Ok(Uuid::nil()), |epoch| epoch.parse()).ok()?;
        let event_id = text(row, 3).map(|id| id.parse()).transpose().ok()?;
        Some((text(row, 0)?.into(), Checkpoint { epoch, position: unsigned(number(row, 2)?), event_id }))
    };
    rows.iter().map(|row| checkpoint(row).ok_or_else(|| unreadable("checkpoints"))).collect()
}

/// A vector from rows of source, epoch, position and event id.
pub(super) fn read_vector(rows: &[Texts]) -> Result<Vector, EngineError> {
    vector(rows)
        .map_err(|_| EngineError::Damaged("checkpoints hold something that this version does not write".to_owned()))
}

pub(super) fn text(row: &Texts, place: usize) -> Option<String> {
    row.get(place)?.clone()
}

pub(super) fn number(row: &Texts, place: usize) -> Option<i64> {
    row.get(place)?.as_deref()?.parse().ok()
}

fn unreadable(table: &str) -> Refused {
    Refused::Apply(ApplyError::Bug(format!("{table} hold something that this version does not write")))
}

/// Positions and fences count what a log holds: far below 2^63.
fn signed(number: u64) -> i64 {
    i64::try_from(number).expect("positions and fences are below 2^63")
}

pub(super) fn unsigned(number: i64) -> u64 {
    u64::try_from(number).expect("positions and fences are not negative")
}
