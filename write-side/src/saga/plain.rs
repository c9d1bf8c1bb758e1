//! A saga's events in words that hold of any saga, for those who do not know which it is: ids and facts are JSON, steps
//! are texts.

use std::fmt;

use event_store::follower::Reject;
use events::{envelope::RecordedEvent, saga::SagaEvent};
use serde::{Deserialize, Deserializer, Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::definition::{Definition, Happened};
use crate::reactor::decode;

/// What happened to an instance of any saga.
pub type Plain = SagaEvent<Value, StepName, Value>;

/// Reads an event of the saga `D`.
pub fn plain<D: Definition>(event: &RecordedEvent) -> Result<Plain, Reject> {
    let happened: Happened<D> = decode::<D::Event>(event)?.into();
    Ok(match happened {
        SagaEvent::Started(started) => SagaEvent::Started(retold(&started)?),
        SagaEvent::Advanced(advanced) => SagaEvent::Advanced(retold(&advanced)?),
        SagaEvent::Stuck(stuck) => SagaEvent::Stuck(retold(&stuck)?),
        SagaEvent::Decided(decided) => SagaEvent::Decided(retold(&decided)?),
        SagaEvent::Completed(completed) => SagaEvent::Completed(retold(&completed)?),
        SagaEvent::Compensated(compensated) => SagaEvent::Compensated(retold(&compensated)?),
    })
}

/// The same event over other types: it is the same JSON.
fn retold<T: DeserializeOwned>(event: &impl Serialize) -> Result<T, Reject> {
    let json = serde_json::to_value(event).and_then(serde_json::from_value);
    json.map_err(|error| Reject::Poison(error.to_string()))
}

/// A step of whichever saga, as people type it: a bare word for one that is a word, else JSON.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct StepName(pub String);

impl StepName {
    pub fn of(step: &impl Serialize) -> Self {
        Self::from(serde_json::to_value(step).expect("a step serializes: it is in the log"))
    }
}

impl From<Value> for StepName {
    fn from(step: Value) -> Self {
        match step {
            Value::String(word) => Self(word),
            other => Self(other.to_string()),
        }
    }
}

impl<'de> Deserialize<'de> for StepName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Value::deserialize(deserializer).map(Self::from)
    }
}

impl fmt::Display for StepName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
