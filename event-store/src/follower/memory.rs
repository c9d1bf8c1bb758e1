//! A store in memory: for tests, for replicas that may be read anew at each start, and to see how a store is written.

use std::sync::Mutex;

use async_trait::async_trait;
use events::envelope::RecordedEvent;

use super::{
    checkpoint::Vector,
    store::{Acquired, ApplyError, FollowerStore, ParkedStream, PoisonEvent, Pulse, Reject, Step, StoreError},
};
use crate::failpoint;

/// What is made of events. Reading may refuse an event, folding may not: so a step is refused before anything of it
/// is folded.
pub trait MemoryFold: Send + Sync + 'static {
    type State: Send + 'static;
    /// An event as it was understood.
    type Change: Send;

    /// Understands an event of `source`.
    fn read(&self, source: &str, event: &RecordedEvent) -> Result<Self::Change, Reject>;

    fn fold(&self, state: &mut Self::State, change: Self::Change);
}

/// State, checkpoints, fence and parked streams behind one lock: the lock is the transaction.
pub struct MemoryStore<F: MemoryFold> {
    fold: F,
    inner: Mutex<Inner<F::State>>,
}

struct Inner<S> {
    state: S,
    fence: u64,
    beat: u64,
    vector: Vector,
    parked: Vec<ParkedStream>,
    /// (source, position) of the events that wait.
    waiting: Vec<(String, u64)>,
}

impl<F: MemoryFold> MemoryStore<F> {
    pub fn new(fold: F, state: F::State) -> Self {
        let inner = Inner { state, fence: 0, beat: 0, vector: Vector::new(), parked: Vec::new(), waiting: Vec::new() };
        Self { fold, inner: Mutex::new(inner) }
    }

    /// Looks at the state and the vector that belongs to it.
    pub fn view<T>(&self, look: impl FnOnce(&F::State, &Vector) -> T) -> T {
        let inner = self.lock();
        look(&inner.state, &inner.vector)
    }

    /// (source, position) of the events that wait with their stream, in the order they came.
    pub fn waiting(&self) -> Vec<(String, u64)> {
        self.lock().waiting.clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner<F::State>> {
        self.inner.lock().expect("a fold that panics ends the test or the process")
    }
}

impl<S> Inner<S> {
    fn acquired(&self) -> Acquired {
        Acquired { fence: self.fence, vector: self.vector.clone(), parked: self.parked.clone() }
    }

    fn is_parked(&self, step: &Step<'_>, event: &RecordedEvent) -> bool {
        self.parked.iter().any(|parked| parked.source == *step.source && parked.stream == event.stream)
    }
}

#[async_trait]
impl<F: MemoryFold> FollowerStore for MemoryStore<F> {
    async fn acquire(&self) -> Result<Acquired, StoreError> {
        let mut inner = self.lock();
        inner.fence += 1;
        Ok(inner.acquired())
    }

    async fn reload(&self) -> Result<Acquired, StoreError> {
        Ok(self.lock().acquired())
    }

    async fn beat(&self, fence: u64) -> Result<bool, StoreError> {
        let mut inner = self.lock();
        let is_held = inner.fence == fence;
        inner.beat += u64::from(is_held);
        Ok(is_held)
    }

    async fn pulse(&self) -> Result<Pulse, StoreError> {
        let inner = self.lock();
        Ok(Pulse { fence: inner.fence, beat: inner.beat, vector: inner.vector.clone() })
    }

    async fn apply(&self, step: &Step<'_>) -> Result<(), ApplyError> {
        let mut inner = self.lock();
        if inner.fence != step.fence {
            return Err(ApplyError::Fenced);
        }
        if inner.vector.get(step.source) != step.from {
            return Err(ApplyError::Moved);
        }
        let parked_here = |event: &RecordedEvent| {
            inner.is_parked(step, event) || step.parking.iter().any(|parked| parked.stream == event.stream)
        };
        if step.folded().any(|event| inner.is_parked(step, event)) || !step.waiting().all(parked_here) {
            return Err(ApplyError::Moved);
        }

        let (mut changes, mut poison) = (Vec::with_capacity(step.events.len()), Vec::new());
        for event in step.folded() {
            match self.fold.read(step.source, event) {
                Ok(change) => changes.push(change),
                Err(Reject::Poison(reason)) => poison.push(PoisonEvent { position: event.position, reason }),
                // what stands before it decides first
                Err(Reject::UnknownEventType) if poison.is_empty() => return Err(Reject::UnknownEventType.of(event)),
                Err(Reject::UnknownEventType) => break,
            }
        }
        if !poison.is_empty() {
            return Err(ApplyError::Poison(poison));
        }
        failpoint!("follower_memory.before_commit", ApplyError::Unavailable("failpoint".into()));
        for change in changes {
            self.fold.fold(&mut inner.state, change);
        }
        inner.parked.extend_from_slice(step.parking);
        inner.waiting.extend(step.waiting().map(|event| (step.source.to_string(), event.position)));
        inner.vector.set(step.source.clone(), step.to);
        // committed, but the answer is lost: the next try finds the checkpoint moved
        failpoint!("follower_memory.after_commit", ApplyError::Unavailable("failpoint".into()));
        Ok(())
    }
}
