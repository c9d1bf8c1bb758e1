//! How long answers to commands are kept: one task per service goes over the log's idempotency keys, slice by slice in
//! key order, and forgets those that are old.
//!
//! In key order there is no index by time to pay for at every commit. Several processes on one log may do this at once:
//! they only find less to do.

use std::{sync::Arc, sync::Mutex, time::Duration};

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::{
    clock::{Clock, SystemClock},
    log::{EventLog, Sweep, Swept},
};

/// How long keys are kept, and how gently they are gone over.
#[derive(Debug, Clone)]
pub struct RetentionOptions {
    /// A key is kept at least so long. Logs refuse less than a day.
    pub keep: Duration,
    /// Keys of one slice; at most [`Sweep::KEYS_MAX`].
    pub slice_keys_max: usize,
    /// Between two slices. With `slice_keys_max` this bounds the work: 1,000 keys a second, ten million in three hours.
    pub slice_pause: Duration,
    /// Between the end of the keys and the next time over them.
    pub sweep_pause: Duration,
    /// After an error, before the same slice is tried again.
    pub error_pause: Duration,
    pub clock: Arc<dyn Clock>,
}

impl Default for RetentionOptions {
    fn default() -> Self {
        Self {
            keep: Duration::from_secs(30 * 24 * 60 * 60),
            slice_keys_max: 250,
            slice_pause: Duration::from_millis(250),
            sweep_pause: Duration::from_secs(60 * 60),
            error_pause: Duration::from_secs(60),
            clock: SystemClock::shared(),
        }
    }
}

/// The task that forgets. It ends when this is shut down or dropped.
pub struct Retention {
    stopping: CancellationToken,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Retention {
    pub fn start(log: Arc<dyn EventLog>, options: RetentionOptions) -> Self {
        let stopping = CancellationToken::new();
        let stopped = stopping.clone();
        // to give up a slice half-way is safe: the log forgets all of it or nothing
        let task = tokio::spawn(async move { _ = stopped.run_until_cancelled(sweep_forever(&*log, &options)).await });
        Self { stopping, task: Mutex::new(Some(task)) }
    }

    /// Ends the task, without waiting for a slice under way.
    pub async fn shutdown(&self) {
        self.stopping.cancel();
        let task = self.task.lock().expect("the lock is held for a take only").take();
        if let Some(task) = task
            && let Err(error) = task.await
        {
            tracing::error!(%error, "the retention of keys ended badly");
        }
    }
}

impl Drop for Retention {
    fn drop(&mut self) {
        self.stopping.cancel();
    }
}

async fn sweep_forever(log: &dyn EventLog, options: &RetentionOptions) {
    let source = &log.identity().source;
    let mut after = None;
    let mut forgotten_in_all = 0;
    loop {
        let before = options.clock.now() - options.keep;
        let pause =
            match log.forget_commands(Sweep { before, after: after.clone(), keys_max: options.slice_keys_max }).await {
                Ok(Swept { forgotten, next }) => {
                    forgotten_in_all += forgotten;
                    after = next;
                    match after {
                        Some(_) => options.slice_pause,
                        None => {
                            tracing::debug!(%source, forgotten = forgotten_in_all, "went over all idempotency keys");
                            forgotten_in_all = 0;
                            options.sweep_pause
                        }
                    }
                }
                Err(error) => {
                    tracing::warn!(%source, %error, "could not forget old idempotency keys; trying again");
                    options.error_pause
                }
            };
        tokio::time::sleep(pause).await;
    }
}
