//! How far the projections are, for whoever watches: looked at once for all of them.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use futures::{Stream, stream};
use read_side::{ProjectionStatus, ReadError, ReadSide};
use tokio::sync::watch;

use super::hub::{Inner, Live};

/// How long to wait after the query database has failed.
const AGAIN: Duration = Duration::from_secs(1);

type Seen = Option<Arc<Vec<ProjectionStatus>>>;

/// Who looks, while somebody watches.
#[derive(Default)]
pub(super) struct Progress {
    seen: Mutex<Option<watch::Sender<Seen>>>,
}

impl Live {
    /// How far `name` is, now and whenever that changes; `None` in it while there is no such read model.
    pub(crate) fn progress(&self, name: String) -> impl Stream<Item = ProjectionStatus> + Send + use<> {
        let seen = self.watch();
        let closing = self.inner.options.closing.asked_for.clone();
        stream::unfold((seen, name, None, closing), async |(mut seen, name, told, closing)| {
            let next = async {
                loop {
                    if seen.changed().await.is_err() {
                        return None;
                    }
                    let status = seen.borrow_and_update().as_ref().and_then(|all| find(all, &name));
                    if status.is_some() && status != told {
                        return status;
                    }
                }
            };
            let status = closing.run_until_cancelled(next).await??;
            Some((status.clone(), (seen, name, Some(status), closing)))
        })
    }

    fn watch(&self) -> watch::Receiver<Seen> {
        let mut held = self.inner.progress.seen.lock().expect("no panic while held");
        if let Some(sender) = &*held {
            let mut receiver = sender.subscribe();
            // what was seen last is news to whoever comes
            receiver.mark_changed();
            return receiver;
        }
        let (sender, receiver) = watch::channel(None);
        *held = Some(sender);
        self.inner.options.closing.tasks.spawn(look(Arc::clone(&self.inner)));
        receiver
    }
}

fn find(all: &[ProjectionStatus], name: &str) -> Option<ProjectionStatus> {
    all.iter().find(|status| status.name == name).cloned()
}

/// Looks until nobody watches any more, or everything ends.
async fn look(hub: Arc<Inner>) {
    let closing = hub.options.closing.asked_for.clone();
    let looking = async {
        let mut counted = None;
        while hub.progress.is_watched() {
            let wait = match now(&hub.read, hub.options.limits.count_every, &mut counted).await {
                Ok(statuses) => {
                    hub.progress.show(statuses);
                    hub.options.limits.progress_every
                }
                Err(error) => {
                    tracing::debug!(code = error.code(), "look how far the projections are: {error}");
                    AGAIN
                }
            };
            tokio::time::sleep(wait).await;
        }
    };
    closing.run_until_cancelled(looking).await;
}

/// How far they are now, with rows as of the last time that they were counted.
async fn now(
    read: &ReadSide,
    count_every: Duration,
    counted: &mut Option<(Instant, Vec<ProjectionStatus>)>,
) -> Result<Vec<ProjectionStatus>, ReadError> {
    if let Some((at, before)) = counted
        && at.elapsed() < count_every
    {
        let mut statuses = read.projections_uncounted().await?;
        for status in &mut statuses {
            status.rows = find(before, &status.name).and_then(|before| before.rows);
        }
        // one that is new has not been counted
        if statuses.iter().all(|status| status.rows.is_some()) {
            return Ok(statuses);
        }
    }
    let statuses = read.projections().await?;
    *counted = Some((Instant::now(), statuses.clone()));
    Ok(statuses)
}

impl Progress {
    /// Without anybody there is nobody to look for either, from this moment on.
    fn is_watched(&self) -> bool {
        let mut held = self.seen.lock().expect("no panic while held");
        if held.as_ref().is_some_and(|sender| sender.receiver_count() == 0) {
            *held = None;
        }
        held.is_some()
    }

    fn show(&self, statuses: Vec<ProjectionStatus>) {
        if let Some(sender) = &*self.seen.lock().expect("no panic while held") {
            sender.send_replace(Some(Arc::new(statuses)));
        }
    }
}
