//! Keeping snapshots, out of the way of commands: one task per bus takes states that have come far enough and writes
//! them together. Too many at once are dropped: the stream is read from further back until its next one.

use std::{sync::Arc, time::Duration};

use events::envelope::{Name, StreamId};
use tokio::{sync::mpsc, task::JoinHandle, time::timeout};

use super::{
    Domain, Loaded,
    load::{self, Begin},
};
use crate::{
    log::{EventLog, LogError},
    snapshot::Snapshot,
};

/// States that wait to be kept. Each is a copy of an aggregate, so they are few.
const WAITING_MAX: usize = 64;

/// How long states are gathered before they are written: so few transactions are added to those of the commands.
const GATHER: Duration = Duration::from_millis(200);

/// Where states are offered. Cheap to clone.
pub(super) struct Snapshots<A> {
    every_events: Option<u64>,
    offered: mpsc::Sender<(Name, Loaded<A>)>,
}

impl<A> Clone for Snapshots<A> {
    fn clone(&self) -> Self {
        Self { every_events: self.every_events, offered: self.offered.clone() }
    }
}

/// The task ends when nobody is left to offer anything.
pub(super) fn start<A: Domain>(log: Arc<dyn EventLog>, every_events: Option<u64>) -> (Snapshots<A>, JoinHandle<()>) {
    let (offered, states) = mpsc::channel(WAITING_MAX);
    (Snapshots { every_events: every_events.map(|every| every.max(1)), offered }, tokio::spawn(keep(log, states)))
}

impl<A: Domain> Snapshots<A> {
    /// Folds what the log holds behind `from`, beginning at a snapshot if that is shorter.
    pub(super) async fn load(
        &self,
        log: &dyn EventLog,
        stream: &StreamId,
        from: Loaded<A>,
    ) -> Result<Loaded<A>, LogError> {
        let begin = Begin::of(self.every_events);
        let (loaded, read_from) = load::catch_up(log, stream, from, begin).await?;
        self.offer(&stream.aggregate_id, read_from, &loaded);
        Ok(loaded)
    }

    /// Takes a state that was at `version_before` when it was last kept or offered, if it has come far enough since.
    pub(super) fn offer(&self, id: &Name, version_before: u64, loaded: &Loaded<A>) {
        let has_come_far = |every| {
            let spacing = spacing(every, loaded.version);
            loaded.version / spacing > version_before / spacing
        };
        if self.every_events.is_some_and(has_come_far) {
            // no room: there will be another one
            let _ = self.offered.try_reserve().map(|room| room.send((id.clone(), loaded.clone())));
        }
    }
}

/// How many events lie between two snapshots of a stream that is at `version`: `every` at first, and later a sixteenth to an
/// eighth of all there are. A state may grow with its stream, and a snapshot is the whole of one; so all that is ever written
/// of a stream's states grows as the stream does, and a load folds no more than an eighth of it anew.
fn spacing(every: u64, version: u64) -> u64 {
    every << (version / every.saturating_mul(8)).max(1).ilog2()
}

async fn keep<A: Domain>(log: Arc<dyn EventLog>, mut states: mpsc::Receiver<(Name, Loaded<A>)>) {
    while let Some(first) = states.recv().await {
        let mut gathered = vec![first];
        let gather = async {
            while gathered.len() < WAITING_MAX
                && let Some(next) = states.recv().await
            {
                gathered.retain(|(id, _)| *id != next.0);
                gathered.push(next);
            }
        };
        // time is over, or there is no more: either way what is here is written
        let _ = timeout(GATHER, gather).await;
        let snapshots: Vec<Snapshot> = gathered.iter().filter_map(|(id, loaded)| snapshot_of(id, loaded)).collect();
        if let Err(error) = log.keep_snapshots(snapshots).await {
            tracing::warn!(source = %log.source(), %error, "snapshots could not be kept");
        }
    }
}

fn snapshot_of<A: Domain>(id: &Name, loaded: &Loaded<A>) -> Option<Snapshot> {
    let state = serde_json::to_string(&loaded.state);
    let state = state.inspect_err(|error| tracing::error!(%error, "{} does not serialize", A::TYPE)).ok()?;
    Some(Snapshot {
        stream: StreamId::new(A::TYPE, id.clone()),
        fold_version: A::VERSION,
        sequence: loaded.version,
        event_id: loaded.event_id?,
        state,
    })
}

#[cfg(test)]
mod tests {
    use super::spacing;

    #[test]
    fn snapshots_become_rarer_as_a_stream_grows() {
        assert_eq!([1, 200, 3_199].map(|version| spacing(200, version)), [200; 3]);
        assert_eq!([3_200, 6_399, 6_400, 100_000].map(|version| spacing(200, version)), [400, 400, 800, 6_400]);
        assert_eq!([1, 15, 16].map(|version| spacing(1, version)), [1, 1, 2]);
        for version in (1_600..1_000_000).step_by(777) {
            assert!(spacing(200, version) * 8 <= version, "{version}");
        }
        // what is written in all, if a state is as long as its stream: in proportion to it, not to its square
        let kept = |end: u64| (1..=end).filter(|version| version % spacing(200, *version) == 0).sum::<u64>();
        assert!(kept(400_000) < 400_000 * 32 && kept(400_000) > 400_000);
    }
}
