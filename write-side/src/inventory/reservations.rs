//! Reservations by the line they are for.

use chrono::{DateTime, Utc};
use events::ids::OrderId;
use rpds::RedBlackTreeMapSync;
use serde::{Deserialize, Serialize};

/// A line of an order, counted from 0: what a reservation is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ReservationId {
    pub order_id: OrderId,
    pub line: u32,
}

impl std::fmt::Display for ReservationId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "line {} of order {}", self.line, self.order_id)
    }
}

/// A map that shares what it has in common with its copies: every command is decided on a copy of the state, and a stock
/// item that sells well has had a hundred thousand reservations.
pub type Reservations<V> = RedBlackTreeMapSync<ReservationId, V>;

/// Pieces that are held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Open {
    pub quantity: u32,
    /// `None` = confirmed: they do not expire.
    pub expires_at: Option<DateTime<Utc>>,
}

/// How a line that holds nothing came to that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Closed {
    Rejected { quantity: u32, available: u64 },
    Withdrawn,
    Released,
    Expired,
    Shipped,
}

impl Closed {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rejected { .. } => "REJECTED",
            Self::Withdrawn => "WITHDRAWN",
            Self::Released => "RELEASED",
            Self::Expired => "EXPIRED",
            Self::Shipped => "SHIPPED",
        }
    }
}

/// As a list of pairs: the keys of a JSON object are texts, and these are not.
pub mod as_list {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::{ReservationId, Reservations};

    pub fn serialize<V: Serialize, S: Serializer>(
        reservations: &Reservations<V>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(reservations.iter())
    }

    pub fn deserialize<'de, V: Deserialize<'de>, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Reservations<V>, D::Error> {
        Ok(Vec::<(ReservationId, V)>::deserialize(deserializer)?.into_iter().collect())
    }
}
