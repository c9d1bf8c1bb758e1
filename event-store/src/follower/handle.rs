//! The owner's end of a follower: status, waiting, stopping.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use events::{consistency::ConsistencyToken, envelope::Name};
use thiserror::Error;
use tokio::{sync::watch, task::JoinHandle, time::timeout};

use super::{
    FollowerOptions, Shared,
    checkpoint::{Coverage, Vector},
    status::{HaltReason, Status, StopReason},
};

/// Who waits for what another process applies has the store looked at so often.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Owns a follower's task. When it is dropped, the follower applies what it has read ahead and ends.
pub struct FollowerHandle {
    shared: Arc<Shared>,
    options: Arc<FollowerOptions>,
    task: Mutex<Option<JoinHandle<()>>>,
    /// Keeps the channel open for late readers.
    status: watch::Receiver<Status>,
}

impl FollowerHandle {
    pub(super) fn new(shared: Arc<Shared>, options: Arc<FollowerOptions>, task: JoinHandle<()>) -> Self {
        let status = shared.status.subscribe();
        Self { shared, options, task: Mutex::new(Some(task)), status }
    }

    /// How it is now.
    pub fn status(&self) -> Status {
        self.status.borrow().clone()
    }

    /// What is applied, durably.
    pub fn vector(&self) -> Vector {
        self.status.borrow().vector.clone()
    }

    /// Events not yet applied, and for how long the oldest of them has been waiting, in milliseconds.
    pub fn lag(&self) -> (u64, u64) {
        let now = self.options.clock.now();
        let status = self.status.borrow();
        (status.lag_events(), status.sources.values().map(|source| source.lag_ms(now)).max().unwrap_or(0))
    }

    /// Changes of the status, as they come.
    pub fn watch(&self) -> watch::Receiver<Status> {
        self.shared.status.subscribe()
    }

    /// Lets the follower read anew what its store says of itself: somebody else has changed there what is parked. It would
    /// find out by itself at the next event of such a stream ([`ApplyError::Moved`](super::ApplyError::Moved)).
    pub fn look_again(&self) {
        self.shared.look_again();
    }

    /// The same for a task that does not own the follower.
    pub fn looking_again(&self) -> impl Fn() + Send + 'static {
        let shared = Arc::clone(&self.shared);
        move || shared.look_again()
    }

    /// Waits until every source's head, as its feed gives it, is applied. Cancel-safe.
    pub async fn caught_up(&self) -> Result<(), WaitError> {
        self.wait(Status::is_caught_up).await
    }

    /// Waits until everything in `target` is applied. Cancel-safe.
    pub async fn reached(&self, target: &Vector) -> Result<(), WaitError> {
        self.wait(|status| status.fence.is_some() && status.vector.reaches(target)).await
    }

    async fn wait(&self, mut enough: impl FnMut(&Status) -> bool) -> Result<(), WaitError> {
        let mut verdict = Ok(());
        let judge = |status: &Status| {
            if enough(status) {
                return true;
            }
            if let Some(reason) = &status.stopped {
                verdict = Err(WaitError::Stopped(reason.clone()));
            } else if let Some((source, reason)) = status.stuck() {
                verdict = Err(WaitError::Halted { feed: source.clone(), reason: reason.clone() });
            }
            verdict.is_err()
        };
        self.watch().wait_for(judge).await.map_err(|_| WaitError::Stopped(StopReason::Aborted))?;
        verdict
    }

    /// Waits at most `wait` until what `token` says of this follower's sources is applied. Cancel-safe.
    pub async fn covers(&self, token: &ConsistencyToken, wait: Duration) -> Result<(), TokenWaitError> {
        let judge = |status: &Status| status.vector.judge(token, status.sources.keys());
        let done = |status: &Status| {
            matches!(judge(status), Coverage::Reached | Coverage::OtherAnchor { .. }) || status.stopped.is_some()
        };
        // on a time-out, too, the last look decides
        let _ = timeout(wait, self.comes_true(done)).await;
        match judge(&self.status.borrow()) {
            Coverage::Reached => Ok(()),
            Coverage::Behind { source } => Err(TokenWaitError::Behind { feed: source }),
            Coverage::OtherEpoch { source } | Coverage::OtherAnchor { source } => {
                Err(TokenWaitError::Lost { feed: source })
            }
        }
    }

    /// Waits until the status is so. Who stands by looks at the store again meanwhile, since another moves it. Cancel-safe.
    pub async fn comes_true(&self, mut is_so: impl FnMut(&Status) -> bool) {
        let mut watch = self.watch();
        loop {
            let mut is_there = false;
            let judge = |status: &Status| {
                is_there = is_so(status);
                is_there || status.standing_by
            };
            // the sender lives as long as this handle
            let _ = watch.wait_for(judge).await;
            if is_there {
                return;
            }
            self.look_again();
            // when nothing has changed, it is time to ask for another look
            let _ = timeout(LOOK_AGAIN, watch.changed()).await;
        }
    }

    /// Waits until the follower runs no more. Cancel-safe.
    pub async fn stopped(&self) -> StopReason {
        let mut watch = self.watch();
        let stopped = watch.wait_for(|status| status.stopped.is_some()).await;
        stopped.ok().and_then(|status| status.stopped.clone()).unwrap_or(StopReason::Aborted)
    }

    /// Ends the follower: nothing more is read, what is read ahead is applied, then its task is joined. When that is
    /// not done after `deadline`, the task is aborted, as by a crash, and the answer is [`StopReason::Aborted`].
    pub async fn shutdown(&self, deadline: Duration) -> StopReason {
        self.shared.cancel.cancel();
        if timeout(deadline, self.stopped()).await.is_err() {
            self.abort().await;
        }
        self.join().await;
        self.stopped().await
    }

    /// Ends the follower at once, as a crash would: a step in progress may be in the store or not.
    pub async fn abort(&self) {
        if let Some(task) = &*self.task.lock().expect("nothing panics while it holds this lock") {
            task.abort();
        }
        self.join().await;
    }

    async fn join(&self) {
        let task = self.task.lock().expect("nothing panics while it holds this lock").take();
        if let Some(task) = task {
            // how it ended is in the status
            let _ = task.await;
        }
    }
}

impl Drop for FollowerHandle {
    fn drop(&mut self) {
        self.shared.cancel.cancel();
    }
}

/// What was waited for will not come.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum WaitError {
    #[error("the follower has stopped: {0}")]
    Stopped(StopReason),
    #[error("{feed} stands still: {reason}")]
    Halted { feed: Name, reason: HaltReason },
}

/// A token's point is not applied.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TokenWaitError {
    /// Not yet: the same may be asked again.
    #[error("{feed} is not applied that far yet")]
    Behind { feed: Name },
    /// The token is of a history that is gone.
    #[error("what the token says of {feed} is lost")]
    Lost { feed: Name },
}
