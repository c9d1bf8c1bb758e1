//! A follower's store that fails, hangs or is slow on command.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use event_store::follower::{Acquired, ApplyError, Checkpoint, FollowerStore, Pulse, Step, StoreError};
use events::envelope::Name;
use tokio::sync::{OwnedRwLockWriteGuard, RwLock};

/// How the next `apply` goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreFault {
    /// Not applied.
    Unavailable,
    /// Applied, but the answer is lost.
    AnswerLost,
    /// Not applied; the checkpoint is said to be elsewhere.
    Moved,
    /// Not applied; said to be our bug.
    Bug,
    /// As a panic of the store.
    Panic,
}

/// A step that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    pub source: Name,
    pub fence: u64,
    pub from: Checkpoint,
    pub to: Checkpoint,
    pub events: usize,
    pub diverted: usize,
}

/// Wraps a store; without a script it does what the store does.
pub struct ScriptedStore {
    store: Arc<dyn FollowerStore>,
    script: Mutex<Script>,
    gate: Arc<RwLock<()>>,
}

#[derive(Default)]
struct Script {
    faults: VecDeque<StoreFault>,
    acquire_failures: u32,
    pulse_failures: u32,
    delay: Duration,
    asked: Vec<Asked>,
    reloads: u32,
}

impl ScriptedStore {
    pub fn new(store: Arc<dyn FollowerStore>) -> Arc<Self> {
        Arc::new(Self { store, script: Mutex::default(), gate: Arc::default() })
    }

    /// The next `apply` that nobody has scripted yet goes wrong; called twice, the next two.
    pub fn fail_next(&self, fault: StoreFault) {
        self.script().faults.push_back(fault);
    }

    /// The next `count` times the fence is not to be had.
    pub fn fail_acquire(&self, count: u32) {
        self.script().acquire_failures = count;
    }

    /// The next `count` times nobody can be told whether the holder lives.
    pub fn fail_pulse(&self, count: u32) {
        self.script().pulse_failures = count;
    }

    /// Every `apply` takes so long.
    pub fn slow_down(&self, delay: Duration) {
        self.script().delay = delay;
    }

    /// While the guard lives, steps and beats hang before they reach the store, as in a process that is frozen.
    pub async fn hold(&self) -> OwnedRwLockWriteGuard<()> {
        Arc::clone(&self.gate).write_owned().await
    }

    /// Every step asked for so far, in order.
    pub fn asked(&self) -> Vec<Asked> {
        self.script().asked.clone()
    }

    pub fn reloads(&self) -> u32 {
        self.script().reloads
    }

    fn script(&self) -> std::sync::MutexGuard<'_, Script> {
        self.script.lock().expect("no panic while scripted")
    }
}

#[async_trait]
impl FollowerStore for ScriptedStore {
    async fn acquire(&self) -> Result<Acquired, StoreError> {
        {
            let mut script = self.script();
            if script.acquire_failures > 0 {
                script.acquire_failures -= 1;
                return Err(StoreError::Unavailable("scripted".into()));
            }
        }
        self.store.acquire().await
    }

    async fn reload(&self) -> Result<Acquired, StoreError> {
        self.script().reloads += 1;
        self.store.reload().await
    }

    async fn fence(&self) -> Result<u64, StoreError> {
        self.store.fence().await
    }

    async fn beat(&self, fence: u64) -> Result<bool, StoreError> {
        let _open = self.gate.read().await;
        self.store.beat(fence).await
    }

    async fn pulse(&self) -> Result<Pulse, StoreError> {
        {
            let mut script = self.script();
            if script.pulse_failures > 0 {
                script.pulse_failures -= 1;
                return Err(StoreError::Unavailable("scripted".into()));
            }
        }
        self.store.pulse().await
    }

    async fn apply(&self, step: &Step<'_>) -> Result<(), ApplyError> {
        let (fault, delay) = {
            let mut script = self.script();
            script.asked.push(Asked {
                source: step.source.clone(),
                fence: step.fence,
                from: step.from,
                to: step.to,
                events: step.events.len(),
                diverted: step.diverted.len(),
            });
            (script.faults.pop_front(), script.delay)
        };
        let _open = self.gate.read().await;
        if delay > Duration::ZERO {
            tokio::time::sleep(delay).await;
        }
        match fault {
            None => self.store.apply(step).await,
            Some(StoreFault::Unavailable) => Err(ApplyError::Unavailable("scripted, not applied".into())),
            Some(StoreFault::AnswerLost) => {
                self.store.apply(step).await?;
                Err(ApplyError::Unavailable("scripted, applied".into()))
            }
            Some(StoreFault::Moved) => Err(ApplyError::Moved),
            Some(StoreFault::Bug) => Err(ApplyError::Bug("scripted".to_owned())),
            Some(StoreFault::Panic) => panic!("scripted"),
        }
    }
}
