//! How far the sources are, noted in the query database for whoever shows lag there.
//!
//! A batch notes the head it was read with. But a head moves also while nothing can be applied, and a look that found
//! nothing new is news, too: so what the follower has last seen is written beside the batches, now and then.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use event_store::follower::{SourceStatus, Status};
use events::envelope::Name;
use serde::Serialize;
use tokio::{sync::watch, time::sleep};
use tokio_util::sync::CancellationToken;

use super::{batch::json, store::GenerationStore, transaction::Value};

/// Between two notes: as old as lag may be that another process shows, beside the time that a feed lets wait.
const NOTE_INTERVAL: Duration = Duration::from_secs(1);

/// What was seen of one source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Observed {
    source: Name,
    head_position: u64,
    observed_at_us: i64,
    waiting_since_us: Option<i64>,
}

impl Observed {
    /// `None` until its feed has answered.
    fn of((source, status): (&Name, &SourceStatus)) -> Option<Self> {
        Some(Self {
            source: source.clone(),
            head_position: status.head.as_ref()?.position,
            observed_at_us: status.observed_at?.timestamp_micros(),
            waiting_since_us: status.waiting_since().map(|since| since.timestamp_micros()),
        })
    }
}

/// Notes what the follower of `store` sees, until it is cancelled. Nothing depends on it: what fails is tried again with
/// the next look.
pub(crate) async fn note_heads(
    store: Arc<GenerationStore>,
    mut status: watch::Receiver<Status>,
    cancel: CancellationToken,
) {
    let mut noted = BTreeMap::new();
    loop {
        tokio::select! {
            () = cancel.cancelled() => return,
            changed = status.changed() => if changed.is_err() { return },
        }
        let seen: Vec<Observed> = status.borrow_and_update().sources.iter().filter_map(Observed::of).collect();
        let news: Vec<&Observed> = seen.iter().filter(|one| noted.get(&one.source) != Some(*one)).collect();
        if !news.is_empty() {
            match store.note_observed(&json(&news)).await {
                Ok(()) => noted = seen.into_iter().map(|one| (one.source.clone(), one)).collect(),
                Err(error) => tracing::debug!(%error, "the heads of the sources could not be noted"),
            }
        }
        tokio::select! {
            () = cancel.cancelled() => return,
            () = sleep(NOTE_INTERVAL) => {}
        }
    }
}

impl GenerationStore {
    async fn note_observed(&self, observed: &str) -> Result<(), sqlx::Error> {
        // between two batches, not across one: SQLite has one writer
        let mut transaction = self.pool().begin().await?;
        transaction.execute(&self.statements().note_observed, &[Value::Text(observed)]).await?;
        transaction.commit().await
    }
}
