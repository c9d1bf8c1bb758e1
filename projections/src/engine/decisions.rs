//! What operators have decided about events that cannot be folded. It lies beside the pointers and not in a generation, so
//! that every rebuild keeps it.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use events::envelope::{Name, StreamId};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::{
    Doing, EngineError,
    query_database::QueryDatabase,
    transaction::{Pool, Texts, Value},
};

/// The longest reason for a decision, in characters: it is kept for good.
pub const WHY_CHARS_MAX: usize = 500;

/// That an event is left out of a read model, now and in every rebuild.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    pub read_model: String,
    pub source: Name,
    pub event_id: Uuid,
    pub position: u64,
    pub stream: StreamId,
    /// What could not be folded, and why: as [`fingerprint`] has it.
    pub fingerprint: String,
    pub reason: String,
    /// The operator's reason, and who they are.
    pub why: String,
    pub by: String,
    pub at_us: i64,
}

/// The events that are left out of one read model, by source.
#[derive(Debug, Default)]
pub(crate) struct Dropped(HashMap<Name, HashSet<Uuid>>);

impl Dropped {
    pub fn holds(&self, source: &str, event_id: Uuid) -> bool {
        !self.0.is_empty() && self.0.get(source).is_some_and(|ids| ids.contains(&event_id))
    }

    /// Those that were decided about in the query database behind `pointers`.
    pub async fn load(pointers: &Pool, read_model: &str) -> Result<Self, sqlx::Error> {
        let statement: Arc<str> = "select source, event_id from parking_decisions where read_model = $1".into();
        let mut transaction = pointers.begin_snapshot().await?;
        let rows = transaction.fetch(&statement, &[Value::Text(read_model)]).await;
        transaction.rollback().await;
        let mut dropped: HashMap<Name, HashSet<Uuid>> = HashMap::new();
        for mut row in rows? {
            let (Some(event_id), Some(source)) = (row.pop().flatten(), row.pop().flatten()) else { continue };
            let event_id = event_id.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
            dropped.entry(source.into()).or_default().insert(event_id);
        }
        Ok(Self(dropped))
    }
}

/// What events that fail in the same way have in common: type, version, and the reason without what differs from event to
/// event. Words with a digit in them are ids, numbers and places.
pub fn fingerprint(event_type: &str, event_version: &str, reason: &str) -> String {
    let is_part = |symbol: char| symbol.is_alphanumeric() || symbol == '-' || symbol == '_';
    let mut kind = format!("{event_type}\n{event_version}\n");
    let mut rest = reason;
    while let Some(first) = rest.chars().next() {
        let end = match rest.find(|symbol| !is_part(symbol)) {
            Some(0) => first.len_utf8(),
            Some(end) => end,
            None => rest.len(),
        };
        let (word, behind) = rest.split_at(end);
        kind.push_str(if word.contains(|symbol: char| symbol.is_numeric()) { "#" } else { word });
        rest = behind;
    }
    Sha256::digest(kind)[..6].iter().map(|byte| format!("{byte:02x}")).collect()
}

impl QueryDatabase {
    /// Records a decision; the first one about an event stays.
    pub(crate) async fn decide(&self, decision: &Decision) -> Result<(), EngineError> {
        let statement: Arc<str> = "insert into parking_decisions (read_model, source, event_id, position, \
                aggregate_type, aggregate_id, fingerprint, reason, why, decided_by, decided_at_us) \
             values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) on conflict do nothing"
            .into();
        let event_id = decision.event_id.to_string();
        let values = [
            Value::Text(&decision.read_model),
            Value::Text(&decision.source),
            Value::Text(&event_id),
            Value::Integer(i64::try_from(decision.position).expect("positions are below 2^63")),
            Value::Text(&decision.stream.aggregate_type),
            Value::Text(&decision.stream.aggregate_id),
            Value::Text(&decision.fingerprint),
            Value::Text(&decision.reason),
            Value::Text(&decision.why),
            Value::Text(&decision.by),
            Value::Integer(decision.at_us),
        ];
        let mut transaction = self.pointers().begin().await.doing("begin")?;
        transaction.execute(&statement, &values).await.doing("record a decision")?;
        transaction.commit().await.doing("record a decision")
    }

    /// Every decision about a read model, oldest first.
    pub async fn decisions(&self, read_model: &str) -> Result<Vec<Decision>, EngineError> {
        let statement: Arc<str> = "select source, event_id, cast(position as text), aggregate_type, aggregate_id, \
                fingerprint, reason, why, decided_by, cast(decided_at_us as text) \
             from parking_decisions where read_model = $1 order by decided_at_us, source, parking_decisions.position"
            .into();
        let mut transaction = self.pointers().begin_snapshot().await.doing("begin")?;
        let rows = transaction.fetch(&statement, &[Value::Text(read_model)]).await;
        transaction.rollback().await;
        let rows = rows.doing("read decisions")?;
        let unreadable = || EngineError::Damaged("parking_decisions hold what this version does not write".to_owned());
        rows.iter().map(|row| decision(read_model, row).ok_or_else(unreadable)).collect()
    }
}

fn decision(read_model: &str, row: &Texts) -> Option<Decision> {
    let text = |place: usize| row.get(place)?.clone();
    Some(Decision {
        read_model: read_model.to_owned(),
        source: text(0)?.into(),
        event_id: text(1)?.parse().ok()?,
        position: text(2)?.parse().ok()?,
        stream: StreamId::new(text(3)?, text(4)?),
        fingerprint: text(5)?,
        reason: text(6)?,
        why: text(7)?,
        by: text(8)?,
        at_us: text(9)?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_in_the_same_way_has_one_fingerprint() {
        let of = |reason: &str| fingerprint("UserRenamed", "1", reason);
        let one = of("missing field `name` at line 1 column 52 of 0198c0de-6f3a-7c11-9d5e-0a4b8f2f7c10");
        assert_eq!(one, of("missing field `name` at line 2 column 7 of 11111111-1111-4111-8111-11111111111a"));
        assert_ne!(one, of("missing field `email` at line 1 column 52 of 0198c0de-6f3a-7c11-9d5e-0a4b8f2f7c10"));
        assert_ne!(one, fingerprint("UserRenamed", "2", "missing field `name` at line 1 column 52 of x1"));
        assert_eq!((one.len(), of("größe 3 zu groß")), (12, of("größe 44 zu groß")));
    }
}
