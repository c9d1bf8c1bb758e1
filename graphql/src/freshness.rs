//! `extensions.consistency`: how fresh an answer is. Every answer that reads has it, so it is short.

use std::time::Duration;

use async_graphql::{Name, Value};
use chrono::{DateTime, SecondsFormat};
use read_side::freshness::{Freshness, Witness};

/// The key under `extensions`.
pub(crate) const KEY: &str = "consistency";

/// What the witness of a request was told, for its answer; `None` if no read model was read.
pub(crate) fn told(witness: &Witness) -> Option<Value> {
    let seen = witness.seen();
    let waited = seen.iter().map(|each| each.waited).max()?;
    let read_models = seen.iter().map(|each| (Name::new(each.read_model), read_model(each)));
    Some(object([("waitedMs", milliseconds(waited)), ("readModels", Value::Object(read_models.collect()))]))
}

fn read_model(freshness: &Freshness) -> Value {
    let sources = freshness.observed.sources.iter();
    let positions = sources.map(|each| (Name::new(&each.source), each.position.into()));
    object([
        ("generation", freshness.generation.into()),
        ("observedAt", instant(freshness.observed.at_us)),
        ("waitedMs", milliseconds(freshness.waited)),
        ("positions", Value::Object(positions.collect())),
    ])
}

fn object<const N: usize>(members: [(&'static str, Value); N]) -> Value {
    Value::Object(members.into_iter().map(|(name, value)| (Name::new(name), value)).collect())
}

fn milliseconds(time: Duration) -> Value {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX).into()
}

fn instant(us: i64) -> Value {
    let at = DateTime::from_timestamp_micros(us);
    at.map_or(Value::Null, |at| at.to_rfc3339_opts(SecondsFormat::Micros, true).into())
}
