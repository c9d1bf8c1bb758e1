//! The history of a generation: every state that a facet or a reference has had, one row per folded event, so that a row
//! can be derived as it was at any recorded time.
//!
//! An event that erases takes what its state was before with it, in the same transaction. So live and rebuilt history are
//! the same, and neither holds what the log has forgotten.

use events::envelope::RecordedEvent;
use read_side::template::Template;
use serde::Serialize;

use super::{
    super::{
        batch::{array, json, push_field},
        transaction::{Transaction, Value},
    },
    GenerationStore, Refused,
};
use crate::projection::{Folding, State};

/// What the events of a batch add to the history.
#[derive(Default)]
pub(crate) struct Noted {
    states: Vec<Noting>,
    erased: Vec<Erased>,
}

struct Noting {
    key: String,
    /// The facet or the reference.
    part: &'static str,
    position: u64,
    recorded_at_us: i64,
    /// As JSON text.
    state: String,
}

/// What a part was before a position is to be forgotten.
#[derive(Serialize)]
struct Erased {
    key: String,
    part: &'static str,
    position: u64,
}

/// Where the states of one part of one key are noted.
pub(crate) struct Place<'n> {
    pub noted: &'n mut Noted,
    pub part: &'static str,
    pub key: &'n str,
}

impl Place<'_> {
    /// That `event` has made `state`; an event that erases takes what was before with it.
    pub fn note(&mut self, event: &RecordedEvent, fold: &dyn Folding, state: &State, erases: bool) {
        if erases {
            self.forget(event.position);
        }
        let Place { noted, part, key } = self;
        let (part, position, recorded_at_us) = (*part, event.position, event.recorded_at.timestamp_micros());
        noted.states.push(Noting { key: (*key).to_owned(), part, position, recorded_at_us, state: fold.write(state) });
    }

    /// Nothing of before `position` is kept.
    pub fn forget(&mut self, position: u64) {
        let Place { noted, part, key } = self;
        noted.states.retain(|before| (before.part, &*before.key) != (*part, &**key));
        noted.erased.push(Erased { key: (*key).to_owned(), part, position });
    }
}

impl Noted {
    /// Where a batch notes its states: nowhere, if the read model keeps no history.
    pub fn of(template: &Template) -> Option<Self> {
        template.history.then(Self::default)
    }

    /// The rows to insert, each as a JSON object by column.
    pub fn rows(&self) -> Vec<String> {
        self.states.iter().map(Noting::row).collect()
    }

    /// What is to be forgotten first, as JSON; `None` if nothing is.
    pub fn forgotten(&self) -> Option<String> {
        (!self.erased.is_empty()).then(|| json(&self.erased))
    }
}

impl Noting {
    fn row(&self) -> String {
        let mut row = String::with_capacity(self.state.len() + 160);
        row.push('{');
        push_field(&mut row, "key", &json(&self.key));
        push_field(&mut row, "part", &json(self.part));
        push_field(&mut row, "position", &json(&self.position));
        push_field(&mut row, "recorded_at_us", &json(&self.recorded_at_us));
        push_field(&mut row, "state", &self.state);
        row.push('}');
        row
    }
}

impl GenerationStore {
    /// At most one statement for what is forgotten, and one for what is new.
    pub(super) async fn write_history(
        &self,
        transaction: &mut Transaction,
        noted: Option<Noted>,
    ) -> Result<(), Refused> {
        let Some(noted) = noted else { return Ok(()) };
        if let Some(forgotten) = noted.forgotten() {
            transaction.execute(&self.statements.forget_history, &[Value::Text(&forgotten)]).await?;
        }
        let rows = noted.rows();
        if !rows.is_empty() {
            transaction.execute(&self.statements.upsert_history, &[Value::Text(&array(&rows))]).await?;
        }
        Ok(())
    }
}
