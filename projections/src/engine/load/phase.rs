//! One phase of a load: events out of the sources, into the states, and from there into the database.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use event_store::{
    feed::PageLimit,
    follower::{Checkpoint, Vector},
};
use events::{consistency::ShortId, envelope::RecordedEvent};
use tokio::{
    task::{JoinHandle, spawn_blocking},
    time::sleep_until,
};

use super::{
    Ends, Load, Stop,
    cache::{Additions, Cache, Changes},
    folds::Folds,
    source::{Item, Reading, Source},
    writer::{Anchors, Progress, Writer},
};

/// How long a transaction may grow: what a crash costs, and how long a waiting source or a pause keeps it open.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(10);
/// How long nothing may come before what is written is committed: a transaction that idles is ended by the database.
const IDLE_MAX: Duration = Duration::from_secs(2);
/// Events of one row of anchors: a reader fetches a row for each point of a token.
const ANCHORS_PER_ROW_MAX: usize = 1_000;
/// Where one in so many written rows has to be written again, rows are kept for longer.
const REWRITTEN_MAX: u64 = 8;

/// The shares of the memory.
struct Budget {
    states: usize,
    /// Rows are written when those that were not weigh more than this.
    unwritten: usize,
    /// Of one page of one source: one is read, one decoded, one folded, and what is decoded weighs as much again.
    page: usize,
    references: usize,
    sheet: usize,
    keys: usize,
    /// What one transaction may write.
    transaction: usize,
}

impl Budget {
    fn of(memory: usize, sources: usize) -> Self {
        Self {
            states: memory / 2,
            unwritten: memory / 8,
            page: (memory / 4 / 6 / sources.max(1)).clamp(1, PageLimit::BYTES_MAX),
            references: memory / 16,
            // each sheet is handed from thread to thread: with few and large ones nobody waits for that
            sheet: (memory / 16).clamp(1, 16 * 1024 * 1024),
            keys: memory / 16,
            transaction: memory.saturating_mul(2),
        }
    }
}

impl Load<'_> {
    pub(super) fn writer(&self, fence: u64) -> Writer {
        let budget = Budget::of(self.options.memory_bytes, 1);
        Writer::new(Arc::clone(self.store), fence, budget.references, budget.sheet)
    }
}

/// Begins to read the sources of `folds` from `vector` to `ends`.
pub(super) fn read_ahead(load: &Load<'_>, folds: &Arc<Folds>, vector: &Vector, ends: &Ends) -> Lanes {
    Lanes::start(load, folds, vector, ends, &Budget::of(load.options.memory_bytes, ends.len()))
}

/// Loads the sources of `folds`, as `lanes` reads them, from `vector` to `ends`. Gives the writer back, and where the
/// sources are.
pub(super) async fn run(
    load: &Load<'_>,
    folds: &Arc<Folds>,
    lanes: Lanes,
    vector: &Vector,
    ends: &Ends,
    writer: Writer,
    report: impl Fn(u64) + Send + Sync,
) -> Result<(Writer, u64), Stop> {
    let budget = Budget::of(load.options.memory_bytes, ends.len());
    if lanes.0.iter().all(|lane| lane.source.at.position >= ends[lane.name].position) {
        return Ok((writer, lanes.position()));
    }
    let mut phase = Phase {
        folds: Arc::clone(folds),
        lanes,
        cache: Some(Cache::new(budget.keys)),
        pen: Pen::Idle(Box::new(writer)),
        unwritten_max: budget.unwritten,
        written: 0,
        rewritten: 0,
        uncommitted_bytes: 0,
        checkpoint_at: Instant::now() + CHECKPOINT_EVERY,
        budget,
    };
    let loaded = phase.load(load, vector, report).await;
    // a connection goes back to its pool between two statements, never within one
    let mut writer = match (loaded, phase.pen.idle().await) {
        (Ok(()), writer) => writer?,
        (Err(stop), Ok(writer)) => {
            writer.rollback().await;
            return Err(stop);
        }
        (Err(stop), Err(_)) => return Err(stop),
    };
    let position = phase.lanes.position();
    for ((table, key), state, bytes) in phase.cache.expect("nothing folds now").into_references() {
        if !writer.keep_reference(table, key, state, bytes) {
            break;
        }
    }
    Ok((writer, position))
}

struct Phase {
    folds: Arc<Folds>,
    lanes: Lanes,
    /// Away only while it folds.
    cache: Option<Cache>,
    pen: Pen,
    unwritten_max: usize,
    /// Rows written, and of those the ones written again, since the bound was last looked at.
    written: u64,
    rewritten: u64,
    /// What was handed to the pen since the last checkpoint.
    uncommitted_bytes: usize,
    checkpoint_at: Instant,
    budget: Budget,
}

impl Phase {
    async fn load(&mut self, load: &Load<'_>, vector: &Vector, report: impl Fn(u64) + Send + Sync) -> Result<(), Stop> {
        self.remember_keys(vector).await?;
        loop {
            let wanted = load.options.batch_events_max.max(1);
            let ready = async {
                if self.lanes.fill().await? {
                    let is_admitted = load.pace.admit(self.lanes.at_hand().min(wanted)).await;
                    return if is_admitted { Ok(true) } else { Err(Stop::Cancelled) };
                }
                Ok(false)
            };
            let more = tokio::select! {
                () = load.cancel.cancelled() => return Err(Stop::Cancelled),
                ready = ready => ready?,
                () = sleep_until(self.checkpoint_at.min(Instant::now() + IDLE_MAX).into()) => {
                    self.checkpoint().await?;
                    continue;
                }
            };
            if !more {
                break;
            }
            let items = self.lanes.take(wanted);
            let missing = self.cache.as_ref().expect("nothing folds now").missing(&self.folds, &items);
            self.load_missing(missing).await?;
            self.fold(items).await?;
            report(self.lanes.position());
            self.write().await?;
            if self.is_checkpoint_due() {
                self.checkpoint().await?;
            }
        }
        self.checkpoint().await
    }

    fn cache(&mut self) -> &mut Cache {
        self.cache.as_mut().expect("nothing folds now")
    }

    /// A load that goes on does not know which rows it has written.
    async fn remember_keys(&mut self, vector: &Vector) -> Result<(), Stop> {
        if self.folds.sources().iter().all(|source| vector.get(source).position == 0) {
            return Ok(());
        }
        let mut writer = self.pen.idle().await?;
        for table in self.folds.own_tables() {
            let cache = self.cache();
            writer.for_each_key(table, |key| cache.remember(&(table, key))).await?;
        }
        self.pen = Pen::Idle(Box::new(writer));
        Ok(())
    }

    /// Loads rows that are in the database only; keys by table.
    async fn load_missing(&mut self, missing: Vec<Vec<String>>) -> Result<(), Stop> {
        if missing.iter().all(Vec::is_empty) {
            return Ok(());
        }
        // what is being written may be what is missing
        let mut writer = self.pen.idle().await?;
        let folds = Arc::clone(&self.folds);
        for (table, keys) in missing.iter().enumerate().filter(|(_, keys)| !keys.is_empty()) {
            for stored in writer.load(&folds, table, keys).await? {
                self.cache().insert((table, stored.key), stored.facets, stored.json_bytes);
            }
        }
        self.pen = Pen::Idle(Box::new(writer));
        Ok(())
    }

    async fn fold(&mut self, items: Vec<(usize, Item)>) -> Result<(), Stop> {
        let mut cache = self.cache.take().expect("nothing folds now");
        let folds = Arc::clone(&self.folds);
        let folding = spawn_blocking(move || {
            let folded = cache.fold(&folds, items);
            (cache, folded)
        });
        let (cache, folded) = folding.await.map_err(|error| Stop::Bug(format!("a fold panicked: {error}")))?;
        self.cache = Some(cache);
        folded.map_err(|unfoldable| Stop::Unfoldable {
            source: self.folds.sources()[unfoldable.source],
            position: unfoldable.position,
            reason: unfoldable.reason,
        })
    }

    /// Begins to write what was not touched for longest, if there is enough of it and the pen is free; waits for the pen
    /// where there is too much.
    async fn write(&mut self) -> Result<(), Stop> {
        let (states_max, unwritten_max) = (self.budget.states, self.unwritten_max);
        let unwritten = self.cache().unwritten_bytes();
        if unwritten > unwritten_max && (self.pen.is_idle() || unwritten > states_max) {
            let (changes, additions) = self.take_unwritten(unwritten_max / 2);
            let writer = self.pen.idle().await?;
            self.pen = Pen::write(writer, Arc::clone(&self.folds), changes, additions);
            self.adapt();
        }
        self.cache().shrink(states_max);
        Ok(())
    }

    fn take_unwritten(&mut self, keep_bytes: usize) -> (Changes, Additions) {
        let folds = Arc::clone(&self.folds);
        let cache = self.cache();
        let before = cache.unwritten_bytes();
        let (changes, additions) = (cache.take_changed(&folds, keep_bytes), cache.take_additions());
        self.uncommitted_bytes += before - self.cache().unwritten_bytes();
        self.written += changes.iter().map(|changes| changes.len() as u64).sum::<u64>();
        (changes, additions)
    }

    /// Keeps rows for longer before they are written, where too many are written again.
    fn adapt(&mut self) {
        let rewritten = self.cache().rewritten;
        let again = rewritten - self.rewritten;
        if again.saturating_mul(REWRITTEN_MAX) > self.written {
            self.unwritten_max = self.unwritten_max.saturating_mul(2).min(self.budget.states * 3 / 4);
        }
        (self.written, self.rewritten) = (0, rewritten);
    }

    fn is_checkpoint_due(&self) -> bool {
        self.uncommitted_bytes > self.budget.transaction || Instant::now() >= self.checkpoint_at
    }

    /// Writes everything that is folded, and commits with it how far the sources are.
    async fn checkpoint(&mut self) -> Result<(), Stop> {
        self.checkpoint_at = Instant::now() + CHECKPOINT_EVERY;
        let (changes, additions) = self.take_unwritten(0);
        let mut writer = self.pen.idle().await?;
        let progress = self.lanes.progress();
        if writer.is_open() || !progress.is_empty() {
            writer.write(&self.folds, changes, additions).await?;
            writer.checkpoint(&progress).await?;
            self.lanes.committed();
        }
        self.uncommitted_bytes = 0;
        self.pen = Pen::Idle(Box::new(writer));
        Ok(())
    }
}

/// The writer, here or at work.
enum Pen {
    Idle(Box<Writer>),
    /// Not aborted when it is dropped: it ends with what it is at.
    Busy(JoinHandle<Result<Writer, Stop>>),
    /// It was taken, or what it was at has failed.
    Gone,
}

impl Pen {
    fn write(mut writer: Writer, folds: Arc<Folds>, changes: Changes, additions: Additions) -> Self {
        Self::Busy(tokio::spawn(async move {
            writer.write(&folds, changes, additions).await?;
            Ok(writer)
        }))
    }

    fn is_idle(&self) -> bool {
        match self {
            Self::Idle(_) => true,
            Self::Busy(task) => task.is_finished(),
            Self::Gone => false,
        }
    }

    /// Takes the writer out when it has done what it is at.
    async fn idle(&mut self) -> Result<Writer, Stop> {
        match std::mem::replace(self, Self::Gone) {
            Self::Idle(writer) => Ok(*writer),
            Self::Busy(task) => task.await.map_err(|error| Stop::Bug(format!("the writer panicked: {error}")))?,
            Self::Gone => Err(Stop::Bug("the writer is gone".to_owned())),
        }
    }
}

/// The sources of a phase, side by side.
pub(super) struct Lanes(Vec<Lane>);

struct Lane {
    name: &'static str,
    source: Source,
    /// What the last checkpoint says.
    committed: Checkpoint,
    /// The last event of the last batch that had one of it.
    last: Option<RecordedEvent>,
    /// Events further from the head than this need no anchor.
    anchors_kept: u64,
    anchors: Vec<Anchors>,
}

impl Lanes {
    fn start(load: &Load<'_>, folds: &Arc<Folds>, vector: &Vector, ends: &Ends, budget: &Budget) -> Self {
        let page = PageLimit { bytes_max: budget.page, ..PageLimit::events(PageLimit::EVENTS_MAX) };
        let lane = |name: &&'static str| {
            let (from, end) = (vector.get(name), ends[name].clone());
            let reading = Reading { page, backoff: load.backoff };
            let (feed, folds) = (Arc::clone(load.feed(name)), Arc::clone(folds));
            Lane {
                name,
                source: Source::start(feed, folds, from, end, reading),
                committed: from,
                last: None,
                anchors_kept: load.store.options().anchors_kept_events,
                anchors: Vec::new(),
            }
        };
        Self(folds.sources().iter().map(lane).collect())
    }

    /// Waits until every source has a next event or is at its end; whether any has one. Cancel-safe.
    async fn fill(&mut self) -> Result<bool, Stop> {
        for lane in &mut self.0 {
            lane.source.fill().await?;
        }
        Ok(self.0.iter().any(|lane| lane.source.next_recorded_at_us().is_some()))
    }

    /// The next events, oldest first, each with the place of its source: as many as are wanted, fewer when a source has
    /// to be filled again.
    fn take(&mut self, events_max: usize) -> Vec<(usize, Item)> {
        let mut items = Vec::with_capacity(events_max);
        while items.len() < events_max {
            let next = |(place, lane): (usize, &Lane)| Some((lane.source.next_recorded_at_us()?, place));
            let Some((_, place)) = self.0.iter().enumerate().filter_map(next).min() else { break };
            let lane = &mut self.0[place];
            let Some(item) = lane.source.take() else { break };
            lane.note(&item.event);
            items.push((place, item));
            if lane.source.wants_filling() {
                break;
            }
        }
        for (place, lane) in self.0.iter_mut().enumerate() {
            let last = items.iter().rev().find(|(of, _)| *of == place);
            lane.last = last.map(|(_, item)| item.event.clone()).or(lane.last.take());
        }
        items
    }

    fn at_hand(&self) -> usize {
        self.0.iter().map(|lane| lane.source.at_hand()).sum()
    }

    fn position(&self) -> u64 {
        self.0.iter().map(|lane| lane.source.at.position).sum()
    }

    /// What the next checkpoint is to say.
    fn progress(&mut self) -> Vec<Progress> {
        let moved = self.0.iter_mut().filter(|lane| lane.source.at != lane.committed);
        moved
            .filter_map(|lane| {
                Some(Progress {
                    source: lane.source.name.clone(),
                    from: lane.committed,
                    to: lane.source.at,
                    last: lane.last.clone()?,
                    head: lane.source.head.clone(),
                    anchors: std::mem::take(&mut lane.anchors),
                })
            })
            .collect()
    }

    fn committed(&mut self) {
        for lane in &mut self.0 {
            lane.committed = lane.source.at;
        }
    }
}

impl Lane {
    /// Remembers which event this was, if a token may ask for it.
    fn note(&mut self, event: &RecordedEvent) {
        if self.source.head.position.saturating_sub(event.position) < self.anchors_kept {
            let id = ShortId::from(event.event_id);
            match self.anchors.last_mut() {
                Some(anchors) if anchors.bytes.len() < ANCHORS_PER_ROW_MAX * id.as_bytes().len() => {
                    anchors.last = event.position;
                    anchors.bytes.extend_from_slice(id.as_bytes());
                }
                _ => self.anchors.push(Anchors {
                    first: event.position,
                    last: event.position,
                    bytes: id.as_bytes().to_vec(),
                }),
            }
        }
    }
}
