//! Folds whose types are forgotten.

use std::{any::Any, marker::PhantomData, sync::Arc};

use event_store::follower::Reject;
use events::{DecodeError, Published, envelope::RecordedEvent};

use super::{Fold, State};

/// An event of a type that only its fold knows.
pub(crate) type Decoded = Box<dyn Any + Send>;

/// A [`Fold`] whose types are forgotten, so that the engine can keep many.
pub(crate) trait Folding: Send + Sync {
    fn source(&self) -> &'static str;
    fn route(&self, event: &RecordedEvent) -> Result<Option<(String, Decoded)>, Reject>;
    fn fold(&self, state: Option<State>, event: Decoded, recorded: &RecordedEvent) -> Result<State, Reject>;
    /// Whether what the state was before is to be forgotten.
    fn erases(&self, event: &Decoded) -> bool;
    fn read(&self, json: &str) -> Result<State, serde_json::Error>;
    fn write(&self, state: &State) -> String;
    /// Every event version that it can be given.
    #[cfg(test)]
    fn versions(&self) -> Vec<(&'static str, &'static str)>;
}

struct Typed<F>(PhantomData<fn() -> F>);

pub(super) fn of<F: Fold>() -> Box<dyn Folding> {
    Box::new(Typed::<F>(PhantomData))
}

impl<F: Fold> Folding for Typed<F> {
    fn source(&self) -> &'static str {
        F::SOURCE
    }

    fn route(&self, event: &RecordedEvent) -> Result<Option<(String, Decoded)>, Reject> {
        let decoded = decode::<F::Event>(event)?;
        Ok(F::key(&decoded).map(|key| (key, Box::new(decoded) as Decoded)))
    }

    fn fold(&self, state: Option<State>, event: Decoded, recorded: &RecordedEvent) -> Result<State, Reject> {
        let state = state.map(|state| {
            let state: Arc<F::State> = state.downcast().expect("the state that this fold made");
            Arc::unwrap_or_clone(state)
        });
        let event = event.downcast().expect("the event that this fold decoded");
        F::fold(state, *event, recorded).map(|state| Arc::new(state) as State).map_err(Reject::Poison)
    }

    fn erases(&self, event: &Decoded) -> bool {
        F::erases(event.downcast_ref().expect("the event that this fold decoded"))
    }

    fn read(&self, json: &str) -> Result<State, serde_json::Error> {
        serde_json::from_str::<F::State>(json).map(|state| Arc::new(state) as State)
    }

    fn write(&self, state: &State) -> String {
        let state: &F::State = state.downcast_ref().expect("the state that this fold made");
        serde_json::to_string(state).expect("a state is plain data")
    }

    #[cfg(test)]
    fn versions(&self) -> Vec<(&'static str, &'static str)> {
        testkit::golden::versions::<F::Event>()
    }
}

/// The event as what it is published as.
pub(super) fn decode<E: Published>(event: &RecordedEvent) -> Result<E, Reject> {
    // PostgreSQL has no text with a NUL in it; refused on both databases, so that both hold the same rows
    if event.payload.contains("\\u0000") && has_nul(&event.payload) {
        return Err(Reject::Poison("the payload holds a NUL character".to_owned()));
    }
    E::decode(&event.event_type, &event.event_version, &event.payload).map_err(|error| match error {
        DecodeError::UnknownType { .. } => Reject::UnknownEventType,
        DecodeError::Payload { .. } => Reject::Poison(error.to_string()),
    })
}

/// Whether a text in the JSON holds a NUL: the escape may also be an escaped backslash before `u0000`.
fn has_nul(json: &str) -> bool {
    fn in_value(value: &serde_json::Value) -> bool {
        match value {
            serde_json::Value::String(text) => text.contains('\0'),
            serde_json::Value::Array(values) => values.iter().any(in_value),
            serde_json::Value::Object(fields) => fields.values().any(in_value),
            serde_json::Value::Null | serde_json::Value::Bool(_) | serde_json::Value::Number(_) => false,
        }
    }
    serde_json::from_str(json).is_ok_and(|value| in_value(&value))
}
