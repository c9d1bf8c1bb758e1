//! Where an instance stands, as far as a list shows it.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::saga::{definition::Definition, instance::Instance, plain::StepName};

/// The most stuck steps that a row names; all of them are counted. With a service that is away, each line of an order is
/// stuck for the same reason.
pub const STUCK_NAMED_MAX: usize = 20;

/// A row of the index.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Standing {
    pub saga_id: Uuid,
    /// What others know it by: an object.
    pub ids: Value,
    /// Of its definition.
    pub version: u32,
    pub phase: String,
    pub started_at: DateTime<Utc>,
    pub changed_at: DateTime<Utc>,
    pub deadline_at: DateTime<Utc>,
    /// `None` while it is under way.
    pub outcome: Option<String>,
    /// Steps that wait for an answer, stuck ones among them.
    pub open_steps: u64,
    pub stuck_steps: u64,
    pub stuck_since: Option<DateTime<Utc>>,
    /// The first of them, at most [`STUCK_NAMED_MAX`].
    pub stuck: Vec<StuckStep>,
    /// From when on the fact that it waits for is overdue; `None` = it waits for none.
    #[serde(default)]
    pub overdue_at: Option<DateTime<Utc>>,
}

/// A step that somebody should look at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StuckStep {
    pub step: StepName,
    pub reason: String,
    pub since: DateTime<Utc>,
}

impl Standing {
    /// Of an instance as it is. `since` says when a step was said to be stuck, as far as that is known.
    pub fn of<D: Definition>(instance: &Instance<D>, since: impl Fn(&StepName) -> Option<DateTime<Utc>>) -> Self {
        let named = |(step, reason): (D::Step, &str)| {
            let step = StepName::of(&step);
            let since = since(&step).unwrap_or(instance.changed_at);
            StuckStep { step, reason: reason.to_owned(), since }
        };
        let stuck: Vec<StuckStep> =
            instance.stuck().map(|(step, _, reason)| named((step, reason))).take(STUCK_NAMED_MAX).collect();
        Self {
            saga_id: instance.saga_id,
            ids: serde_json::to_value(&instance.ids).expect("ids serialize: they are in the log"),
            version: instance.version,
            phase: instance.phase().to_owned(),
            started_at: instance.started_at,
            changed_at: instance.changed_at,
            deadline_at: instance.deadline_at,
            outcome: instance.outcome().map(|outcome| outcome.to_string()),
            open_steps: instance.open().count() as u64,
            stuck_steps: instance.stuck().count() as u64,
            stuck_since: stuck.iter().map(|step| step.since).min(),
            stuck,
            overdue_at: instance.awaits().map(|(_, overdue_at)| overdue_at),
        }
    }

    /// Since when a step is stuck, if it is.
    pub fn stuck_since(&self, step: &StepName) -> Option<DateTime<Utc>> {
        self.stuck.iter().find(|stuck| stuck.step == *step).map(|stuck| stuck.since)
    }
}
