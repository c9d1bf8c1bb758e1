//! The hash chain of a log, followed a stretch at a time. Whoever asks carries along how far it is, so that nothing is kept
//! here between two requests, no request takes long, and there is progress to show.

use std::time::{Duration, Instant};

use axum::{
    Json,
    extract::{
        Path, Query, State,
        rejection::{PathRejection, QueryRejection},
    },
};
use event_store::{
    batch_hash::{ChainCheck, ChainStep},
    log::{ChainVerdict, EventLog, LogError},
};
use serde::{Deserialize, Serialize};
use write_side::edge::Problem;

use super::{ServicesAdmin, bad_address, of_log_error};

/// After this long an answer says how far it came.
const STRETCH: Duration = Duration::from_millis(500);

/// How far a chain was followed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainPlace {
    /// Of the last event that was looked at; 0 = none.
    #[serde(default)]
    pub position: u64,
    #[serde(default)]
    pub batches: u64,
    /// Of the last batch, in hexadecimal; absent before the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<String>,
}

/// Where a chain stands, and what was found once it was followed to its end or to where it breaks.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ChainView {
    pub service: String,
    #[serde(flatten)]
    pub place: ChainPlace,
    /// Of the last event there is.
    pub head: u64,
    /// Absent while there is more to follow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<ChainFinding>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "chain")]
pub enum ChainFinding {
    /// Every event is as it was written.
    Intact,
    /// The first place where one is not: a batch, since a hash is over a batch.
    Broken { first: u64, last: u64, reason: String },
}

impl ChainPlace {
    pub fn start() -> Self {
        Self::from(&ChainCheck::default())
    }

    fn check(&self) -> Option<ChainCheck> {
        let start = ChainCheck { position: self.position, batches: self.batches, ..ChainCheck::default() };
        match &self.hash {
            None => Some(start),
            Some(hash) => Some(ChainCheck { hash: from_hex(hash)?, ..start }),
        }
    }
}

impl From<&ChainCheck> for ChainPlace {
    fn from(check: &ChainCheck) -> Self {
        let hash = (check.batches > 0).then(|| to_hex(&check.hash));
        Self { position: check.position, batches: check.batches, hash }
    }
}

impl From<ChainVerdict> for ChainFinding {
    fn from(verdict: ChainVerdict) -> Self {
        match verdict {
            ChainVerdict::Intact { .. } => Self::Intact,
            ChainVerdict::Broken { first, last, reason } => Self::Broken { first, last, reason },
        }
    }
}

/// Follows the chain of a log for half a second.
pub async fn follow(service: &str, log: &dyn EventLog, place: &ChainPlace) -> Result<Option<ChainView>, LogError> {
    let Some(mut check) = place.check() else { return Ok(None) };
    let started = Instant::now();
    loop {
        let step: ChainStep = log.follow_chain(check).await?;
        if step.verdict.is_some() || started.elapsed() > STRETCH {
            let (service, place) = (service.to_owned(), ChainPlace::from(&step.check));
            let verdict = step.verdict.map(ChainFinding::from);
            return Ok(Some(ChainView { service, place, head: step.head, verdict }));
        }
        check = step.check;
    }
}

pub async fn chain(
    State(admin): State<ServicesAdmin>,
    path: Result<Path<String>, PathRejection>,
    query: Result<Query<ChainPlace>, QueryRejection>,
) -> Result<Json<ChainView>, Problem> {
    let Path(service) = path.map_err(|error| bad_address(&error.body_text()))?;
    let Query(place) = query.map_err(|error| bad_address(&error.body_text()))?;
    let (log, _) = admin.log(&service)?;
    let followed = follow(&service, &**log, &place).await.map_err(of_log_error)?;
    followed.map(Json).ok_or_else(|| bad_address("hash: 64 hexadecimal digits"))
}

pub fn to_hex(hash: &[u8; 32]) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub fn from_hex(text: &str) -> Option<[u8; 32]> {
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    let mut hash = [0; 32];
    for (n, byte) in hash.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * n..2 * n + 2], 16).ok()?;
    }
    Some(hash)
}
