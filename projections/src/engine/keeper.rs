//! One projection in one process: follows its live generation and builds the next one, as far as the leases let it.
//!
//! What there is to do lies in the query database, so the keeper looks there from time to time and whenever it is told to:
//! a generation that was swapped in is followed, one that another process has swapped away is let go, a rebuild that
//! somebody has asked for, or a crash has cut off, is taken up by whoever gets its lease first.

use std::{sync::Arc, time::Duration};

use event_store::{feed::Feed, follower::StopReason};
use tokio::{
    sync::{Mutex, Notify, watch},
    task::JoinHandle,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use super::{
    EngineError,
    lease::{Lease, Leases},
    pace::Pace,
    projector::{ChangedVersions, ProjectorOptions},
    query_database::{Generation, QueryDatabase, Wishes},
    rebuild::{Outcome, Phase, Progress, Purpose, Rebuild, RebuildError, STOP_WAIT_MAX},
    running::{Live, Running},
};
use crate::projection::Projection;

/// Between two looks when nobody tells of anything: what another process has asked for is taken up so soon.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// After a fault of what is followed, times how many there were in a row.
const FAULT_PAUSE: Duration = Duration::from_secs(1);
const FAULT_PAUSE_MAX: Duration = Duration::from_secs(30);

/// What has run for so long begins to count anew.
const FAULTS_FORGOTTEN: Duration = Duration::from_secs(60);

/// What the keeper shares with whoever asks and steers.
#[derive(Default)]
pub(crate) struct Shared {
    pub live: Live,
    /// The last rebuild, as far as this process knows of it.
    progress: std::sync::Mutex<Option<Arc<watch::Sender<Progress>>>>,
    /// There is something to look at.
    pub look: Notify,
    /// Held by whoever makes, swaps or removes generations.
    pub control: Mutex<()>,
}

impl Shared {
    /// The channel of a rebuild: the one that is there, if it is of the same.
    pub fn channel(&self, progress: &Progress) -> Arc<watch::Sender<Progress>> {
        let mut held = self.progress.lock().expect("no panic while held");
        if let Some(channel) = &*held {
            let is_same = {
                let held = channel.borrow();
                (held.generation, held.started_at_us) == (progress.generation, progress.started_at_us)
            };
            if is_same {
                return Arc::clone(channel);
            }
        }
        let channel = Arc::new(watch::Sender::new(progress.clone()));
        *held = Some(Arc::clone(&channel));
        channel
    }

    pub fn progress(&self) -> Option<Progress> {
        let held = self.progress.lock().expect("no panic while held");
        held.as_ref().map(|channel| channel.borrow().clone())
    }
}

pub(crate) struct Keeper {
    projection: Arc<Projection>,
    database: QueryDatabase,
    feeds: Vec<Arc<dyn Feed>>,
    options: ProjectorOptions,
    leases: Leases,
    shared: Arc<Shared>,
    cancel: CancellationToken,
    /// Of the generation that is followed, or is about to be.
    live_lease: Option<(i64, Lease)>,
    building: Option<Building>,
    /// A rebuild that a failpoint or a panic has ended: the next start goes on with it.
    given_up: Option<i64>,
    /// After a fault of the live one: how many in a row, and when it is tried again.
    fault: Option<(u32, Instant)>,
    /// Since when the live one is followed.
    followed_since: Instant,
    /// The live generation is of another version, and the next one is to be built without being asked for.
    wants_build: bool,
    /// Said once.
    is_failing: bool,
}

struct Building {
    generation: i64,
    purpose: Purpose,
    progress: Arc<watch::Sender<Progress>>,
    task: JoinHandle<(Lease, Result<Outcome, RebuildError>)>,
}

impl Keeper {
    /// Finds out where things stand, removes what is left over, makes the first generation if there is none, and starts
    /// what this process is to do now.
    pub async fn start(
        projection: Arc<Projection>,
        database: QueryDatabase,
        feeds: Vec<Arc<dyn Feed>>,
        options: ProjectorOptions,
        leases: Leases,
        shared: Arc<Shared>,
        cancel: CancellationToken,
    ) -> Result<Self, EngineError> {
        let mut keeper = Self {
            projection,
            database,
            feeds,
            options,
            leases,
            shared,
            cancel,
            live_lease: None,
            building: None,
            given_up: None,
            fault: None,
            followed_since: Instant::now(),
            wants_build: false,
            is_failing: false,
        };
        keeper.tidy().await?;
        keeper.begin_life().await?;
        keeper.look().await?;
        Ok(keeper)
    }

    fn version(&self) -> i64 {
        i64::from(self.projection.version)
    }

    fn name(&self) -> &'static str {
        self.projection.template.name
    }

    /// What earlier processes have left: a rebuild that they announced goes on; what nobody has a use for is removed.
    async fn tidy(&self) -> Result<(), EngineError> {
        let template = self.projection.template;
        let has_live = self.database.live(template).await?.is_some();
        let mut open = self.database.open_rebuild(template).await?.map(|(progress, _)| progress.generation);
        for left in self.database.generations(template).await? {
            let is_left_over = left.state == "building" || left.state == "failed";
            let goes_on = open == Some(left.generation) && left.version == self.version();
            if !is_left_over || goes_on {
                continue;
            }
            // what somebody builds now is not left over
            let Some(lease) = self.leases.try_take(self.name(), left.generation).await? else { continue };
            let is_ours = left.state == "building" && left.version == self.version() && has_live;
            if is_ours && open.is_none() && self.database.is_complete(&self.projection, left.generation).await? {
                // an older program's, which tells nobody what it builds
                self.database.announce(template, left.generation, Purpose::Swap).await?;
                open = Some(left.generation);
            } else {
                self.database.drop_generation(&self.projection, left.generation).await?;
                if open == Some(left.generation) {
                    let why = "given up: a program of another version has started";
                    self.database.end_rebuild(template, left.generation, Phase::Failed, Some(why), None).await?;
                    open = None;
                }
            }
            lease.give_back().await;
        }
        if let Some(last) = self.database.rebuilds(template, 1).await?.first() {
            self.shared.channel(last);
        }
        Ok(())
    }

    /// A read model without a live generation gets one, live from the beginning, unless one that was restored is about to
    /// be; one of another version gets the next.
    async fn begin_life(&mut self) -> Result<(), EngineError> {
        let template = self.projection.template;
        if self.database.live(template).await?.is_none() && self.database.open_rebuild(template).await?.is_none() {
            match self.database.make_first(&self.projection).await {
                // another process was faster
                Ok(()) | Err(EngineError::UnderWay | EngineError::NotLive { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        let Some(live) = self.database.live(template).await? else { return Ok(()) };
        if live.version == self.version() {
            return Ok(());
        }
        // a newer program may be running beside this one: who starts last must not take its rows away
        let is_newer = self.version() > live.version;
        let is_free = is_newer || !self.leases.is_held_elsewhere(self.name(), live.generation).await?;
        self.wants_build = is_free && self.options.changed_versions == ChangedVersions::Rebuild;
        if !self.wants_build {
            tracing::warn!(
                projection = self.name(),
                program = self.version(),
                live = live.version,
                "the live generation is of another version and is not followed here; `tributary projection rebuild` \
                 builds one of this version"
            );
        }
        Ok(())
    }

    /// Keeps until it is cancelled, then ends what it is at.
    pub async fn run(mut self) {
        loop {
            let lease = self.live_lease.as_ref().map(|(_, lease)| lease);
            tokio::select! {
                () = self.cancel.cancelled() => break,
                () = self.shared.look.notified() => {}
                () = sleep(LOOK_INTERVAL) => {}
                () = async { lease.expect("guarded").lost().await }, if lease.is_some_and(|lease| !lease.is_lost()) => {}
                ended = async { (&mut self.building.as_mut().expect("guarded").task).await }, if self.building.is_some() => {
                    let building = self.building.take().expect("guarded");
                    self.end(building, ended).await;
                }
            }
            match self.look().await {
                Ok(()) => self.is_failing = false,
                Err(error) if !self.is_failing => {
                    tracing::warn!(projection = self.name(), %error, "the projector cannot look, and tries again");
                    self.is_failing = true;
                }
                Err(_) => {}
            }
        }
        if let Some(building) = self.building.take()
            && let Ok((lease, _)) = building.task.await
        {
            lease.give_back().await;
        }
        let shared = Arc::clone(&self.shared);
        let mut running = shared.live.running.lock().await;
        self.let_go(&mut running).await;
    }

    async fn look(&mut self) -> Result<(), EngineError> {
        let shared = Arc::clone(&self.shared);
        let _control = shared.control.lock().await;
        let mut live = self.database.live(self.projection.template).await?;
        if live.is_none() && self.building.is_none() {
            // what was restored did not come to life
            self.begin_life().await?;
            live = self.database.live(self.projection.template).await?;
        }
        self.keep_live(live.as_ref()).await?;
        if self.building.is_none() {
            self.keep_building(live.as_ref()).await?;
        }
        Ok(())
    }

    /// Follows the live generation if it is of this version and nobody else does.
    async fn keep_live(&mut self, live: Option<&Generation>) -> Result<(), EngineError> {
        let wanted = live.filter(|live| live.version == self.version()).map(|live| live.generation);
        let shared = Arc::clone(&self.shared);
        let mut running = shared.live.running.lock().await;
        if let Some(now) = &*running {
            let generation = now.store.generation();
            let is_ours = self.live_lease.as_ref().is_some_and(|(of, lease)| *of == generation && !lease.is_lost());
            let status = now.follower.status();
            let is_over = match &status.stopped {
                None | Some(StopReason::Shutdown | StopReason::Reached) => false,
                // with the lease still ours, whoever has taken the fence does not know of leases: it is taken back
                Some(StopReason::Fenced) => true,
                // a lease that is kept renewed by who does nothing keeps everybody away
                Some(reason) => {
                    self.note_fault(reason);
                    true
                }
            };
            if wanted != Some(generation) || !is_ours || is_over {
                self.let_go(&mut running).await;
                if is_over {
                    shared.live.show_stopped(generation, status);
                }
            }
        }
        let Some(generation) = wanted else {
            if let Some((_, lease)) = self.live_lease.take() {
                lease.give_back().await;
            }
            return Ok(());
        };
        if running.is_some() || self.fault.is_some_and(|(_, again_at)| Instant::now() < again_at) {
            return Ok(());
        }
        let lease = match self.live_lease.take() {
            Some((of, lease)) if of == generation && !lease.is_lost() => Some(lease),
            other => {
                if let Some((_, lease)) = other {
                    lease.give_back().await;
                }
                self.leases.try_take(self.name(), generation).await?
            }
        };
        let Some(lease) = lease else {
            shared.live.show_nothing();
            return Ok(());
        };
        self.live_lease = Some((generation, lease));
        self.database.complete_indexes(&self.projection, generation).await?;
        let (store, wake) = (self.options.store.clone(), self.options.wake.clone());
        let store = self.database.store(Arc::clone(&self.projection), generation, store, wake).await?;
        store.stays_live().await;
        let now = Running::start(Arc::new(store), &self.feeds, self.options.follower.clone());
        shared.live.show(&now);
        *running = Some(now);
        self.followed_since = Instant::now();
        self.wants_build = false;
        Ok(())
    }

    /// What has stopped by a fault is tried again, later each time, by whoever gets the lease.
    fn note_fault(&mut self, reason: &StopReason) {
        let ran_well = self.followed_since.elapsed() > FAULTS_FORGOTTEN;
        let failures = self.fault.filter(|_| !ran_well).map_or(1, |(failures, _)| failures.saturating_add(1));
        let pause = FAULT_PAUSE.saturating_mul(failures).min(FAULT_PAUSE_MAX);
        tracing::error!(projection = self.name(), %reason, failures, ?pause, "following has stopped, and is tried again");
        self.fault = Some((failures, Instant::now() + pause));
    }

    /// Ends following. The lease is given back unless it is of another generation, which is followed next.
    async fn let_go(&mut self, running: &mut Option<Running>) {
        let Some(mut now) = running.take() else { return };
        let generation = now.store.generation();
        self.shared.live.show_nothing();
        now.stop(STOP_WAIT_MAX).await;
        self.database.close_generation(now.store.pool()).await;
        if let Some((_, lease)) = self.live_lease.take_if(|(of, _)| *of == generation) {
            lease.give_back().await;
        }
    }

    /// Takes up the rebuild that is open, if it is for this program.
    async fn keep_building(&mut self, live: Option<&Generation>) -> Result<(), EngineError> {
        let template = self.projection.template;
        let Some((progress, wishes)) = self.database.open_rebuild(template).await? else {
            self.tell_what_ended_elsewhere().await?;
            if self.wants_build && live.is_some_and(|live| live.version != self.version()) {
                match self.database.make(&self.projection, Some((Purpose::Swap, None))).await {
                    Ok(_) => self.shared.look.notify_one(),
                    // when that is over
                    Err(EngineError::UnderWay) => {}
                    Err(error) => return Err(error),
                }
            }
            return Ok(());
        };
        let number = progress.generation;
        if self.given_up == Some(number) {
            return if wishes.cancel { self.cancel_given_up(&progress, live).await } else { Ok(()) };
        }
        let generations = self.database.generations(template).await?;
        let Some(generation) = generations.into_iter().find(|one| one.generation == number) else {
            return self
                .database
                .end_rebuild(template, number, Phase::Failed, Some("its generation is gone"), None)
                .await;
        };
        let can_build = generation.version == self.version() || progress.purpose == Purpose::Rollback;
        let lease = if can_build { self.leases.try_take(self.name(), number).await? } else { None };
        let Some(lease) = lease else {
            // somebody else builds it
            self.shared.channel(&progress).send_replace(progress);
            return Ok(());
        };
        if progress.purpose != Purpose::Rollback && !self.database.is_complete(&self.projection, number).await? {
            self.database.drop_generation(&self.projection, number).await?;
            let why = "cut off before its tables were made; ask for it again";
            return self.database.end_rebuild(template, number, Phase::Failed, Some(why), None).await;
        }
        self.begin(progress, generation, wishes, lease);
        Ok(())
    }

    /// Building it has failed in a way that the next start may mend; nobody has to wait for that.
    async fn cancel_given_up(&mut self, progress: &Progress, live: Option<&Generation>) -> Result<(), EngineError> {
        let (template, number) = (self.projection.template, progress.generation);
        let Some(lease) = self.leases.try_take(self.name(), number).await? else { return Ok(()) };
        if progress.purpose != Purpose::Rollback && live.map(|live| live.generation) != Some(number) {
            self.database.drop_generation(&self.projection, number).await?;
        }
        self.database.end_rebuild(template, number, Phase::Cancelled, None, None).await?;
        lease.give_back().await;
        self.given_up = None;
        self.shared.channel(progress).send_modify(|progress| progress.phase = Phase::Cancelled);
        Ok(())
    }

    fn begin(&mut self, progress: Progress, generation: Generation, wishes: Wishes, lease: Lease) {
        let channel = self.shared.channel(&progress);
        let hindrance = progress.error.clone().or_else(|| channel.borrow().error.clone());
        channel.send_replace(Progress { error: hindrance, ..progress.clone() });
        let pace = Arc::new(Pace::default());
        pace.set(wishes.paused, wishes.throttle_events_per_s);
        let number = generation.generation;
        let rebuild = Rebuild {
            projection: Arc::clone(&self.projection),
            database: self.database.clone(),
            feeds: self.feeds.clone(),
            follower: self.options.follower.clone(),
            store: self.options.store.clone(),
            memory_bytes: self.options.rebuild_memory_bytes,
            wake: self.options.wake.clone(),
            shared: Arc::clone(&self.shared),
            generation,
            purpose: progress.purpose,
            pace,
            progress: Arc::clone(&channel),
            lease,
            cancel: self.cancel.child_token(),
        };
        let task = tokio::spawn(rebuild.run());
        self.building = Some(Building { generation: number, purpose: progress.purpose, progress: channel, task });
    }

    /// Who watches a rebuild of another process hears of its end.
    async fn tell_what_ended_elsewhere(&self) -> Result<(), EngineError> {
        let Some(known) = self.shared.progress().filter(|known| !known.phase.is_over()) else { return Ok(()) };
        if self.given_up != Some(known.generation)
            && let Some(now) = self.database.rebuild_of(self.projection.template, known.generation).await?
        {
            self.shared.channel(&known).send_replace(now);
        }
        Ok(())
    }

    /// Sees to what a rebuild has left.
    async fn end(
        &mut self,
        building: Building,
        ended: Result<(Lease, Result<Outcome, RebuildError>), tokio::task::JoinError>,
    ) {
        let shared = Arc::clone(&self.shared);
        let _control = shared.control.lock().await;
        let generation = building.generation;
        let (lease, outcome) = match ended {
            Ok(ended) => ended,
            Err(error) => {
                tracing::error!(projection = self.name(), generation, %error, "a rebuild has ended badly");
                self.given_up = Some(generation);
                let error = "our bug: it panicked; the next start goes on with it".to_owned();
                building.progress.send_modify(|progress| {
                    progress.phase = Phase::Failed;
                    progress.error = Some(error);
                });
                return;
            }
        };
        if let Err(error) = self.conclude(&building, lease, outcome).await {
            // the next look finds it as it is
            tracing::warn!(projection = self.name(), generation, %error, "how a rebuild ended was not noted");
        }
    }

    async fn conclude(
        &mut self,
        building: &Building,
        lease: Lease,
        outcome: Result<Outcome, RebuildError>,
    ) -> Result<(), EngineError> {
        let (template, generation) = (self.projection.template, building.generation);
        let outcome = match outcome {
            // whoever has taken over has it now: neither its generation nor its end is ours
            Ok(Outcome::Compared(_)) | Err(_) if lease.is_lost() => return Ok(()),
            outcome => outcome,
        };
        let (phase, error, report) = match outcome {
            Ok(Outcome::Swapped(report)) => {
                // the one before is shut out already
                if let Some((_, before)) = self.live_lease.replace((generation, lease)) {
                    before.give_back().await;
                }
                let live = self.database.live(template).await?;
                self.keep_live(live.as_ref()).await?;
                // readers that wait find the new generation
                self.options.wake.committed();
                self.drop_old().await;
                (Phase::Swapped, None, report)
            }
            Ok(Outcome::Compared(report)) => {
                self.database.drop_generation(&self.projection, generation).await?;
                lease.give_back().await;
                match (building.purpose, &report.not_compared) {
                    (Purpose::Verify | Purpose::Diff, Some(why)) => {
                        (Phase::Failed, Some(format!("not compared: {why}")), Some(report))
                    }
                    (Purpose::Verify, None) => (Phase::Verified, None, Some(report)),
                    _ => (Phase::Compared, None, Some(report)),
                }
            }
            // whoever has the lease next goes on
            Err(RebuildError::Interrupted) => {
                lease.give_back().await;
                return Ok(());
            }
            Err(error) if error.is_passing() => {
                tracing::warn!(projection = template.name, generation, %error, "a rebuild is tried again");
                lease.give_back().await;
                return Ok(());
            }
            // leaves what a crash would
            Err(error @ RebuildError::Failpoint(_)) => {
                self.given_up = Some(generation);
                building.progress.send_modify(|progress| {
                    progress.phase = Phase::Failed;
                    progress.error = Some(error.to_string());
                });
                return Ok(());
            }
            Err(RebuildError::Cancelled) => {
                if building.purpose != Purpose::Rollback {
                    self.database.drop_generation(&self.projection, generation).await?;
                }
                lease.give_back().await;
                (Phase::Cancelled, None, None)
            }
            Err(error) => {
                tracing::warn!(projection = template.name, generation, %error, "rebuild not swapped in");
                self.database.fail(template, generation, &error.to_string()).await?;
                lease.give_back().await;
                let text = error.to_string();
                let report = if let RebuildError::Differs(report) = error { Some(*report) } else { None };
                (Phase::Failed, Some(text), report)
            }
        };
        self.database.end_rebuild(template, generation, phase, error.as_deref(), report.as_ref()).await?;
        building.progress.send_modify(|progress| {
            progress.phase = phase;
            progress.error = error;
            progress.report = report.or_else(|| progress.report.take());
        });
        Ok(())
    }

    /// Keeps so many generations to go back to, and drops what is older.
    async fn drop_old(&self) {
        let generations = match self.database.generations(self.projection.template).await {
            Ok(generations) => generations,
            Err(error) => return tracing::warn!(%error, "old generations are kept"),
        };
        let previous = match self.database.previous(self.projection.template).await {
            Ok(previous) => previous,
            Err(error) => return tracing::warn!(%error, "old generations are kept"),
        };
        let mut retired: Vec<_> = generations.iter().rev().filter(|old| old.state == "retired").collect();
        // what was live last is what an operator goes back to, whatever its number
        retired.sort_by_key(|old| Some(old.generation) != previous);
        let retired = retired.into_iter().skip(self.options.generations_kept);
        let failed = generations.iter().filter(|old| old.state == "failed");
        for old in retired.chain(failed) {
            if let Err(error) = self.database.drop_generation(&self.projection, old.generation).await {
                tracing::warn!(generation = old.generation, %error, "an old generation is kept");
            }
        }
    }
}
