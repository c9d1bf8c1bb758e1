//! One generation being followed into: a follower, and the tasks beside it that advance fan-outs and note how far the sources are.

use std::{sync::Arc, time::Duration};

use event_store::{
    feed::Feed,
    follower::{ApplyError, Follower, FollowerHandle, FollowerOptions, FollowerStore, Status, StopReason},
};
use tokio::{
    sync::{Mutex, watch},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use super::{
    observed::note_heads,
    pace::{Pace, Paced},
    parking,
    store::GenerationStore,
};

/// What is followed into now, for whoever replaces it and for whoever looks at it meanwhile.
#[derive(Default)]
pub(crate) struct Live {
    /// `None` while the live generation is of another version, which this program cannot write, or another process follows.
    pub running: Mutex<Option<Running>>,
    /// Generation and status of what was last put there: to be seen without waiting for a rebuild that compares.
    shown: std::sync::Mutex<Option<(i64, watch::Receiver<Status>)>>,
}

impl Live {
    /// Says what is followed from now on.
    pub fn show(&self, running: &Running) {
        let shown = (running.store.generation(), running.follower.watch());
        *self.shown.lock().expect("no panic while held") = Some(shown);
    }

    /// Says that nothing is followed here now: another process does it, or the live generation is of another version.
    pub fn show_nothing(&self) {
        *self.shown.lock().expect("no panic while held") = None;
    }

    /// Says why what was followed is not: until it is tried again, the last status is all there is to see.
    pub fn show_stopped(&self, generation: i64, status: Status) {
        *self.shown.lock().expect("no panic while held") = Some((generation, watch::channel(status).1));
    }

    pub fn shown(&self) -> Option<(i64, Status)> {
        let shown = self.shown.lock().expect("no panic while held");
        shown.as_ref().map(|(generation, status)| (*generation, status.borrow().clone()))
    }
}

/// Between tries when the database is away.
const FAN_OUT_RETRY: Duration = Duration::from_millis(500);

/// Between tries when something is wrong with what is written.
const FAULT_RETRY: Duration = Duration::from_secs(5);

pub(crate) struct Running {
    pub store: Arc<GenerationStore>,
    pub follower: FollowerHandle,
    /// What goes on beside the follower.
    beside: Vec<JoinHandle<()>>,
    cancel: CancellationToken,
}

impl Running {
    pub fn start(store: Arc<GenerationStore>, feeds: &[Arc<dyn Feed>], options: FollowerOptions) -> Self {
        Self::start_on(Arc::clone(&store) as Arc<dyn FollowerStore>, store, feeds, options)
    }

    /// As [`Self::start`], no faster than `pace` allows.
    pub fn start_paced(
        store: Arc<GenerationStore>,
        feeds: &[Arc<dyn Feed>],
        options: FollowerOptions,
        pace: Arc<Pace>,
    ) -> Self {
        Self::start_on(Arc::new(Paced { store: Arc::clone(&store), pace }), store, feeds, options)
    }

    fn start_on(
        followed: Arc<dyn FollowerStore>,
        store: Arc<GenerationStore>,
        feeds: &[Arc<dyn Feed>],
        options: FollowerOptions,
    ) -> Self {
        let sources = store.projection().sources();
        let feeds: Vec<_> = feeds.iter().filter(|feed| sources.contains(&&**feed.source())).cloned().collect();
        let name = store.projection().template.table(store.generation());
        let follower = Follower::start(name, feeds.clone(), followed, options);
        let cancel = CancellationToken::new();
        let beside = vec![
            tokio::spawn(advance_fan_outs(Arc::clone(&store), cancel.clone())),
            tokio::spawn(carry_out_decisions(
                Arc::clone(&store),
                feeds,
                (follower.watch(), follower.looking_again()),
                cancel.clone(),
            )),
            tokio::spawn(note_heads(Arc::clone(&store), follower.watch(), cancel.clone())),
        ];
        Self { store, follower, beside, cancel }
    }

    /// Stops both, after what they are at.
    pub async fn stop(&mut self, deadline: Duration) -> StopReason {
        self.cancel.cancel();
        let reason = self.follower.shutdown(deadline).await;
        for task in self.beside.drain(..) {
            // it ends with the transaction it is in
            let _ = task.await;
        }
        reason
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

/// Between two looks whether another process has decided about what is parked here.
const DECISIONS_LOOK: Duration = Duration::from_secs(5);

/// While the fence is held: carries out what was decided about parked streams, before a crash or by another process.
async fn carry_out_decisions(
    store: Arc<GenerationStore>,
    feeds: Vec<Arc<dyn Feed>>,
    (status, look_again): (watch::Receiver<Status>, impl Fn()),
    cancel: CancellationToken,
) {
    let mut is_told = false;
    let mut following = status.clone();
    let begun = following.wait_for(|status| status.fence.is_some() || status.stopped.is_some());
    tokio::select! {
        () = cancel.cancelled() => return,
        begun = begun => if begun.is_err() { return },
    }
    loop {
        let is_waited_for = {
            let status = status.borrow();
            if status.stopped.is_some() {
                return;
            }
            status.fence.is_some() && !status.parked.is_empty()
        };
        if is_waited_for {
            match parking::resume(&store, &feeds).await {
                Ok(true) => look_again(),
                Ok(false) => {}
                // the stream waits on and says so; an operator may try as well
                Err(error) if !is_told => {
                    is_told = true;
                    look_again();
                    let projection = store.projection().template.name;
                    tracing::warn!(projection, %error, "a decision about a parked event waits on");
                }
                // a part of it may be done
                Err(_) => look_again(),
            }
        }
        tokio::select! {
            () = cancel.cancelled() => return,
            () = tokio::time::sleep(DECISIONS_LOOK) => {}
        }
    }
}

async fn advance_fan_outs(store: Arc<GenerationStore>, cancel: CancellationToken) {
    loop {
        tokio::select! {
            () = cancel.cancelled() => return,
            () = store.fan_outs_opened() => {}
        }
        while !cancel.is_cancelled() {
            match store.advance_fan_outs().await {
                Ok(true) => {}
                Ok(false) => break,
                Err(ApplyError::Unavailable(cause)) => {
                    tracing::warn!(%cause, "fan-out: query database unavailable, trying again");
                    tokio::select! {
                        () = cancel.cancelled() => return,
                        () = tokio::time::sleep(FAN_OUT_RETRY) => {}
                    }
                }
                Err(ApplyError::Fenced) => return,
                // the follower meets the same, says so and is started anew; this one must not be the only one that is over
                Err(error) => {
                    tracing::error!(%error, "fan-out: trying again");
                    tokio::select! {
                        () = cancel.cancelled() => return,
                        () = tokio::time::sleep(FAULT_RETRY) => {}
                    }
                }
            }
        }
    }
}
