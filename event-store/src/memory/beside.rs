//! What stands beside the log in memory: snapshots and the keys of persons.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::MutexGuard,
};

use async_trait::async_trait;
use events::envelope::StreamId;
use uuid::Uuid;

use super::MemoryLog;
use crate::{
    feed::Cursor,
    log::LogError,
    snapshot::{Snapshot, SnapshotStore},
    subject_keys::{KeyRing, SubjectKey, SubjectKeys},
};

#[derive(Debug, Default)]
pub(super) struct Beside {
    snapshots: HashMap<(StreamId, u32), Snapshot>,
    /// `None` for who was erased.
    keys: HashMap<Uuid, Option<SubjectKey>>,
    erased_up_to: Cursor,
}

impl Beside {
    fn ring(&self, subjects: &[Uuid]) -> KeyRing {
        subjects.iter().filter_map(|subject| Some((*subject, (*self.keys.get(subject)?)?))).collect()
    }
}

impl MemoryLog {
    /// By subject, also of those who were erased.
    pub(super) fn subject_keys(&self) -> Vec<(Uuid, Option<SubjectKey>)> {
        let mut keys: Vec<_> = self.beside().keys.iter().map(|(subject, key)| (*subject, *key)).collect();
        keys.sort_unstable_by_key(|(subject, _)| *subject);
        keys
    }

    fn beside(&self) -> MutexGuard<'_, Beside> {
        self.beside.lock().expect("nothing panics half-way")
    }
}

#[async_trait]
impl SnapshotStore for MemoryLog {
    async fn snapshot(&self, stream: &StreamId, fold_version: u32) -> Result<Option<Snapshot>, LogError> {
        Ok(self.beside().snapshots.get(&(stream.clone(), fold_version)).cloned())
    }

    async fn keep_snapshots(&self, snapshots: Vec<Snapshot>) -> Result<(), LogError> {
        let mut beside = self.beside();
        for snapshot in snapshots {
            beside
                .snapshots
                .retain(|(stream, version), _| *stream != snapshot.stream || *version > snapshot.fold_version);
            beside.snapshots.insert((snapshot.stream.clone(), snapshot.fold_version), snapshot);
        }
        Ok(())
    }
}

#[async_trait]
impl SubjectKeys for MemoryLog {
    async fn make_keys(&self, subjects: &[Uuid]) -> Result<KeyRing, LogError> {
        let mut beside = self.beside();
        for (subject, key) in SubjectKey::make_all(subjects)? {
            if let Entry::Vacant(free) = beside.keys.entry(subject) {
                free.insert(Some(key));
            }
        }
        Ok(beside.ring(subjects))
    }

    async fn keys(&self, subjects: &[Uuid]) -> Result<KeyRing, LogError> {
        Ok(self.beside().ring(subjects))
    }

    async fn erase_keys(&self, subjects: &[Uuid]) -> Result<(), LogError> {
        self.beside().keys.extend(subjects.iter().map(|subject| (*subject, None)));
        Ok(())
    }

    async fn erased_up_to(&self) -> Result<Cursor, LogError> {
        Ok(self.beside().erased_up_to)
    }

    async fn set_erased_up_to(&self, place: Cursor) -> Result<(), LogError> {
        self.beside().erased_up_to = place;
        Ok(())
    }
}
