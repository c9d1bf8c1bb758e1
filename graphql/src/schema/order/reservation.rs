//! What the inventory service holds for an order.

use async_graphql::{Enum, SimpleObject};
use chrono::{DateTime, Utc};
use read_side::order_details::reservation;

use crate::schema::{
    money::SafeInt,
    time::{NoTime, maybe_time, time},
};

/// What is held for an order.
#[derive(Debug, SimpleObject)]
pub(crate) struct OrderReservation {
    /// Where the line stands that is worst off: `REJECTED` if any line was, `SHIPPED` once all are.
    status: ReservationStatus,
    /// Pieces that are held now.
    held_quantity: SafeInt,
    /// Pieces of lines of which there were too few.
    rejected_quantity: SafeInt,
    /// Pieces that have gone out.
    shipped_quantity: SafeInt,
    /// When the inventory service last recorded something of it.
    updated_at: DateTime<Utc>,
}

/// What became of the pieces that a line wants.
#[derive(Debug, SimpleObject)]
pub(crate) struct LineReservation {
    /// Where they stand.
    status: ReservationStatus,
    /// How many pieces this is about; 0 when none were asked for.
    quantity: SafeInt,
    /// How many there were to be had when they were too few; else null.
    available: Option<SafeInt>,
    /// Until when they are held unless the order is confirmed; null when that does not matter any more.
    expires_at: Option<DateTime<Utc>>,
    /// When the inventory service recorded it.
    updated_at: DateTime<Utc>,
}

/// Where pieces of an order stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "read_side::order_details::reservation::ReservationStatus")]
pub(crate) enum ReservationStatus {
    /// There were too few.
    Rejected,
    /// Nobody confirmed in time, and they are free again.
    Expired,
    /// Given up before they were asked for.
    Withdrawn,
    /// Given back.
    Released,
    /// Not every line of the order has been answered.
    Pending,
    /// Held for a while.
    Reserved,
    /// Held until they are shipped or released.
    Confirmed,
    /// Gone out of the house.
    Shipped,
}

impl TryFrom<reservation::OrderReservation> for OrderReservation {
    type Error = NoTime;

    fn try_from(row: reservation::OrderReservation) -> Result<Self, NoTime> {
        Ok(Self {
            status: row.status.into(),
            held_quantity: SafeInt::of(row.held_quantity),
            rejected_quantity: SafeInt::of(row.rejected_quantity),
            shipped_quantity: SafeInt::of(row.shipped_quantity),
            updated_at: time("reservation.updated_at_us", row.updated_at_us)?,
        })
    }
}

impl TryFrom<reservation::LineReservation> for LineReservation {
    type Error = NoTime;

    fn try_from(row: reservation::LineReservation) -> Result<Self, NoTime> {
        Ok(Self {
            status: row.status.into(),
            quantity: SafeInt::of(u64::from(row.quantity)),
            available: row.available.map(SafeInt::of),
            expires_at: maybe_time("reservation.expires_at_us", row.expires_at_us)?,
            updated_at: time("reservation.updated_at_us", row.updated_at_us)?,
        })
    }
}
