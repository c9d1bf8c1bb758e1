//! `extensions.consistency`: how fresh an answer is. Every answer that reads has it, so it is short.

use std::time::Duration;

use chrono::{DateTime, SecondsFormat};
use read_side::freshness::{Freshness, Observed, Witness};
use serde::{
    Serialize, Serializer,
    ser::{SerializeMap, SerializeStruct},
};

/// The extensions of an answer.
#[derive(Debug, Serialize)]
pub(crate) struct Extensions {
    consistency: Told,
}

/// What was told of each read model that was read.
#[derive(Debug)]
struct Told(Vec<Freshness>);

/// What the witness was told since it was last asked; `None` if no read model was read.
pub(crate) fn told(witness: &Witness) -> Option<Extensions> {
    let seen = witness.take();
    (!seen.is_empty()).then_some(Extensions { consistency: Told(seen) })
}

impl Serialize for Told {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let waited = self.0.iter().map(|each| each.waited).max().unwrap_or_default();
        let mut told = serializer.serialize_struct("Told", 2)?;
        told.serialize_field("waitedMs", &milliseconds(waited))?;
        told.serialize_field("readModels", &ReadModels(&self.0))?;
        told.end()
    }
}

struct ReadModels<'a>(&'a [Freshness]);

impl Serialize for ReadModels<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|each| (each.read_model, ReadModel(each))))
    }
}

struct ReadModel<'a>(&'a Freshness);

impl Serialize for ReadModel<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Freshness { generation, waited, observed, .. } = self.0;
        let mut told = serializer.serialize_map(Some(4))?;
        told.serialize_entry("generation", generation)?;
        told.serialize_entry("observedAt", &instant(observed.at_us))?;
        told.serialize_entry("waitedMs", &milliseconds(*waited))?;
        told.serialize_entry("positions", &Positions(observed))?;
        told.end()
    }
}

struct Positions<'a>(&'a Observed);

impl Serialize for Positions<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.sources.iter().map(|each| (&each.source, each.position)))
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn instant(us: i64) -> Option<String> {
    DateTime::from_timestamp_micros(us).map(|at| at.to_rfc3339_opts(SecondsFormat::Micros, true))
}
