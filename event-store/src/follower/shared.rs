//! What a follower's tasks and its handle share: the status, the wake-up and the end.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering},
};

use chrono::{DateTime, Utc};
use events::envelope::Name;
use measures::{Spread, spread::SIZE_BOUNDS};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    checkpoint::{Checkpoint, Vector},
    queue::Load,
    status::{HaltReason, SourceState, SourceStatus, Status, StopReason},
    store::ParkedStream,
};
use crate::log::LogHead;

pub(super) struct Shared {
    pub name: Name,
    pub status: watch::Sender<Status>,
    /// Wakes the applier.
    pub ready: Notify,
    /// The end is wished for.
    pub cancel: CancellationToken,
    fatal: Mutex<Option<String>>,
    /// Somebody else has changed what is parked in the store.
    look_again: AtomicBool,
}

impl Shared {
    pub fn new(name: Name, status: watch::Sender<Status>) -> Self {
        let (ready, cancel) = (Notify::new(), CancellationToken::new());
        Self { name, status, ready, cancel, fatal: Mutex::default(), look_again: AtomicBool::new(false) }
    }

    /// Something that must not happen has happened: the applier stops.
    pub fn fatal(&self, reason: impl Into<String>) {
        *self.fatal.lock().expect("nothing panics while it holds this lock") = Some(reason.into());
        self.ready.notify_one();
    }

    pub fn take_fatal(&self) -> Option<String> {
        self.fatal.lock().expect("nothing panics while it holds this lock").clone()
    }

    /// Asks the applier to read from its store what is parked.
    pub fn look_again(&self) {
        self.look_again.store(true, Ordering::Release);
        self.ready.notify_one();
    }

    pub fn take_look_again(&self) -> bool {
        self.look_again.swap(false, Ordering::AcqRel)
    }

    fn source(&self, source: &Name, change: impl FnOnce(&mut SourceStatus)) {
        self.status.send_modify(|status| {
            if let Some(source) = status.sources.get_mut(source) {
                change(source);
            }
        });
    }

    pub fn set_state(&self, source: &Name, state: SourceState) {
        self.source(source, |status| {
            // what does not heal is not glossed over by what does
            if status.halt().is_some_and(|before| !before.heals_by_itself()) {
                return;
            }
            // said once when it begins; how often it was tried since is in the status
            if let SourceState::Halted(reason) = &state
                && status.halt().is_none_or(|before| before.code() != reason.code())
            {
                tracing::warn!(follower = %self.name, %source, code = reason.code(), %reason, "source halted");
                status.counters.halts += 1;
            }
            status.state = state;
        });
    }

    pub fn halt(&self, source: &Name, reason: HaltReason) {
        self.set_state(source, SourceState::Halted(reason));
    }

    /// What its halt was about is in the store by now: another knew what to do.
    pub fn goes_on(&self, source: &Name) {
        tracing::info!(follower = %self.name, %source, "another has brought the source past where it was halted");
        self.source(source, |status| status.state = SourceState::Running);
    }

    /// The feed has answered. An answer that comes late, or from behind, does not take the head back.
    pub fn observed(&self, source: &Name, epoch: Uuid, head: &LogHead, now: DateTime<Utc>) {
        self.source(source, |status| {
            status.observed_at = Some(now);
            let newer = status.head.as_ref().is_none_or(|seen| seen.position <= head.position);
            if newer || status.checkpoint.epoch != epoch {
                status.head = Some(head.clone());
            }
            if status.halt().is_none_or(HaltReason::heals_by_itself) {
                status.state = SourceState::Running;
            }
        });
    }

    /// A page was read.
    pub fn read(&self, source: &Name, load: Load, duplicates: u64, reread: bool) {
        self.source(source, |status| {
            status.set_load(load);
            status.counters.duplicates += duplicates;
            status.counters.rereads += u64::from(reread);
        });
    }

    /// A step is in the store.
    pub fn applied(
        &self,
        source: &Name,
        checkpoint: Checkpoint,
        events: usize,
        load: Load,
        parked: Option<Arc<[ParkedStream]>>,
    ) {
        self.status.send_modify(|status| {
            status.vector.set(source.clone(), checkpoint);
            let parked_before = status.parked.len();
            if let Some(parked) = parked {
                status.parked = parked;
            }
            let parked = status.parked.len().saturating_sub(parked_before);
            if let Some(status) = status.sources.get_mut(source) {
                status.checkpoint = checkpoint;
                status.set_load(load);
                status.counters.steps += 1;
                status.counters.steps_by_size[Spread::place(&SIZE_BOUNDS, events as u64)] += 1;
                status.counters.parked += parked as u64;
                status.counters.events_applied += events as u64;
            }
        });
    }

    /// The store's own account is now ours; `None` = and the fence is another's.
    pub fn took_over(&self, fence: Option<u64>, vector: &Vector, parked: Arc<[ParkedStream]>) {
        self.status.send_modify(|status| {
            status.fence = fence;
            status.standing_by = fence.is_none();
            status.vector = vector.clone();
            status.parked = parked;
            for (source, status) in &mut status.sources {
                status.checkpoint = vector.get(source);
            }
        });
    }

    pub fn store_failed(&self, cause: &str) {
        self.status.send_modify(|status| {
            if status.store_failure.is_none() {
                tracing::warn!(follower = %self.name, cause, "follower store unavailable, trying again");
            }
            status.store_failure = Some(cause.to_owned());
            status.store_failures += 1;
        });
    }

    pub fn store_answered(&self) {
        self.status.send_if_modified(|status| status.store_failure.take().is_some());
    }
}

impl SourceStatus {
    fn set_load(&mut self, load: Load) {
        self.read_ahead_events = load.events;
        self.read_ahead_bytes = load.bytes;
        self.read_ahead_events_peak = load.events_peak;
        self.read_ahead_bytes_peak = load.bytes_peak;
        self.pending_since = load.pending_since;
    }
}

/// Writes the stop reason when the follower's task ends, in whichever way it ends.
pub(super) struct Obituary {
    shared: Arc<Shared>,
    pub reason: Option<StopReason>,
}

impl Obituary {
    pub fn new(shared: Arc<Shared>) -> Self {
        Self { shared, reason: None }
    }
}

impl Drop for Obituary {
    fn drop(&mut self) {
        let reason = self.reason.take().unwrap_or_else(|| {
            if std::thread::panicking() {
                StopReason::Bug("the follower panicked".to_owned())
            } else {
                StopReason::Aborted
            }
        });
        if let StopReason::Bug(reason) = &reason {
            tracing::error!(follower = %self.shared.name, reason, "follower stopped");
        } else {
            tracing::info!(follower = %self.shared.name, %reason, "follower stopped");
        }
        self.shared.status.send_modify(|status| status.stopped = Some(reason));
    }
}
