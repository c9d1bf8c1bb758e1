//! Holding the fence, and standing by: who holds it says so every third of a lease, and who stands by takes it when
//! nothing was heard for a whole one.
//!
//! No wall clock has a say. A beat is a number in the store that rises, and a lease that it has stood still is so many looks
//! in a row, each a third of a lease after the one before by this process' own monotonic clock; so a process that was
//! frozen looks afresh before it takes anything. Whoever is wrong about the other's death costs a hand-over and nothing
//! else: it is the fence that keeps the older one's writes out.

use std::{sync::Arc, time::Duration};

use tokio::{
    task::JoinHandle,
    time::{Instant, sleep, sleep_until},
};

use super::{
    Shared,
    applier::{Anew, Applier},
    status::StopReason,
    store::{FollowerStore, StoreError},
};

/// One or two may be late or lost.
pub(super) const BEATS_PER_LEASE: u32 = 3;

/// So many leases of silence it takes before a program takes over that knows itself to be too old: others come first, and
/// if there are only old ones, they take turns no faster than that.
const LEASES_IF_TOO_OLD: u32 = 10;

/// Between two looks that somebody asks for: each may load what the store holds.
const ASKED_LOOKS_APART: Duration = Duration::from_millis(50);

/// Raises the beat until it is dropped: from a task of its own, because a step may wait for the store for long.
pub(super) struct Beating(JoinHandle<()>);

impl Beating {
    pub fn start(applier: &Applier, lease: Duration) -> Self {
        let (store, shared) = (Arc::clone(&applier.store), Arc::clone(&applier.shared));
        Self(tokio::spawn(beat(store, shared, applier.fence, lease / BEATS_PER_LEASE)))
    }
}

impl Drop for Beating {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Ends when another holds the fence: the applier finds out by itself.
async fn beat(store: Arc<dyn FollowerStore>, shared: Arc<Shared>, fence: u64, every: Duration) {
    loop {
        sleep(every).await;
        match store.beat(fence).await {
            // while the store does not answer, nobody can take the fence either
            Ok(true) | Err(StoreError::Unavailable(_)) => {}
            Ok(false) => return,
            Err(StoreError::Bug(reason)) => return shared.fatal(reason),
        }
    }
}

impl Applier {
    /// Waits until the holder of the fence has been silent for a whole lease. What the holder has stored is loaded on the
    /// way, and whenever somebody who asks here waits for it.
    pub async fn stand_by(&mut self, lease: Duration) -> Result<(), StopReason> {
        let follower = &self.shared.name;
        tracing::warn!(%follower, "another follower has taken over: this one stands by until that one falls silent");
        self.say_where(None);
        let (mut heard, mut silent) = (None, 0);
        let mut next = Instant::now() + lease / BEATS_PER_LEASE;
        loop {
            // a look that was asked for may find that the holder lives, but says nothing of how long it has been silent
            let counts = tokio::select! {
                () = sleep_until(next) => true,
                () = self.shared.ready.notified() => false,
                () = self.shared.cancel.cancelled() => return Err(StopReason::Shutdown),
            };
            if let Some(reason) = self.shared.take_fatal() {
                return Err(StopReason::Bug(reason));
            }
            // readers say so, too, when they have read ahead
            if !self.shared.take_look_again() && !counts {
                continue;
            }
            let looked = self.look_at_the_holder().await;
            let still = matches!((&looked, &heard), (Ok(beat), Some(before)) if beat == before);
            if counts || !still {
                next = Instant::now() + lease / BEATS_PER_LEASE;
                silent = if still { silent + 1 } else { 0 };
            }
            heard = match looked {
                Ok(beat) => {
                    self.shared.store_answered();
                    Some(beat)
                }
                Err(StoreError::Bug(reason)) => return Err(StopReason::Bug(reason)),
                // it may be that the holder is not heard either
                Err(StoreError::Unavailable(cause)) => {
                    self.shared.store_failed(&cause.to_string());
                    None
                }
            };
            let leases = if self.is_too_old() { LEASES_IF_TOO_OLD } else { 1 };
            if silent >= BEATS_PER_LEASE * leases {
                tracing::warn!(follower = %self.shared.name, "whoever held the fence has been silent for a whole lease");
                return Ok(());
            }
            if !counts {
                sleep(ASKED_LOOKS_APART).await;
            }
        }
    }

    async fn look_at_the_holder(&mut self) -> Result<(u64, u64), StoreError> {
        let pulse = self.store.pulse().await?;
        if pulse.vector != self.vector {
            let acquired = self.store.reload().await?;
            self.go_on_from(acquired, Anew::Moved);
            self.say_where(None);
        }
        Ok((pulse.fence, pulse.beat))
    }
}
