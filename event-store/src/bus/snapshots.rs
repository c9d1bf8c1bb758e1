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
        if self.every_events.is_some_and(|every| loaded.version / every > version_before / every) {
            // no room: there will be another one
            let _ = self.offered.try_reserve().map(|room| room.send((id.clone(), loaded.clone())));
        }
    }
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
