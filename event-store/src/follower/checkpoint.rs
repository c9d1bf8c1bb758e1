//! How far a follower is: one checkpoint per source, together a vector.

use std::collections::BTreeMap;

use events::{
    consistency::{ConsistencyToken, ShortId},
    envelope::{Name, RecordedEvent},
};
use uuid::Uuid;

use crate::feed::Cursor;

/// The last event of one source that a follower has applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Checkpoint {
    /// The log's epoch when it was applied; nil before anything is known of the log.
    pub epoch: Uuid,
    pub position: u64,
    /// The anchor: the event at `position`; `None` only at position 0.
    pub event_id: Option<Uuid>,
}

impl Checkpoint {
    /// Nothing applied, nothing known. A source that a store has no checkpoint for stands here.
    pub const START: Self = Self { epoch: Uuid::nil(), position: 0, event_id: None };

    /// Behind `event` of a log with this epoch.
    pub fn at(epoch: Uuid, event: &RecordedEvent) -> Self {
        Self::new(epoch, Cursor::at(event))
    }

    pub fn new(epoch: Uuid, cursor: Cursor) -> Self {
        Self { epoch, position: cursor.position, event_id: cursor.event_id }
    }

    /// Where to read on.
    pub fn cursor(&self) -> Cursor {
        Cursor { position: self.position, event_id: self.event_id }
    }
}

/// A checkpoint per source.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Vector(BTreeMap<Name, Checkpoint>);

impl Vector {
    pub fn new() -> Self {
        Self::default()
    }

    /// The source's checkpoint; [`Checkpoint::START`] when there is none.
    pub fn get(&self, source: &str) -> Checkpoint {
        self.0.get(source).copied().unwrap_or(Checkpoint::START)
    }

    pub fn set(&mut self, source: Name, checkpoint: Checkpoint) {
        self.0.insert(source, checkpoint);
    }

    pub fn iter(&self) -> impl Iterator<Item = (&Name, &Checkpoint)> {
        self.0.iter()
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether every source of `target` is at its position there, or past it.
    pub fn reaches(&self, target: &Self) -> bool {
        target.0.iter().all(|(source, goal)| self.get(source).position >= goal.position)
    }

    /// Whether what a token stands for is applied. A point of a source that is not among `sources` does not count:
    /// what is made from other sources cannot show it either way.
    ///
    /// The anchor can be compared only exactly at the token's position; further on the epoch vouches for it.
    pub fn judge<'a>(&self, token: &ConsistencyToken, sources: impl IntoIterator<Item = &'a Name>) -> Coverage {
        let mut coverage = Coverage::Reached;
        for source in sources {
            let Some(point) = token.point(source) else { continue };
            let here = self.get(source);
            if here.epoch.is_nil() {
                coverage = Coverage::Behind { source: source.clone() };
            } else if ShortId::from(here.epoch) != point.epoch {
                return Coverage::OtherEpoch { source: source.clone() };
            } else if here.position < point.position {
                coverage = Coverage::Behind { source: source.clone() };
            } else if here.position == point.position && here.event_id.map(ShortId::from) != point.anchor {
                return Coverage::OtherAnchor { source: source.clone() };
            }
        }
        coverage
    }
}

impl FromIterator<(Name, Checkpoint)> for Vector {
    fn from_iter<T: IntoIterator<Item = (Name, Checkpoint)>>(checkpoints: T) -> Self {
        Self(checkpoints.into_iter().collect())
    }
}

impl IntoIterator for Vector {
    type Item = (Name, Checkpoint);
    type IntoIter = std::collections::btree_map::IntoIter<Name, Checkpoint>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

/// What a vector says of a consistency token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Coverage {
    Reached,
    /// Not yet: worth waiting for.
    Behind {
        source: Name,
    },
    /// The token is of another history of this log. Either a promotion that this follower is about to see, or an
    /// epoch that is dead: wait, and if it stays so the consistency is lost.
    OtherEpoch {
        source: Name,
    },
    /// At the token's position stands another event: lost for good.
    OtherAnchor {
        source: Name,
    },
}
