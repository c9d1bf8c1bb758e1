//! What the inventory service holds for an order.

use events::{ids::ProductId, orders::ORDER_LINES_MAX};
use serde::{Deserialize, Serialize};

use super::{OrderLineRow, several::NotBegun};

/// The facet of the inventory service: what became of each line.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReservationFacet {
    /// By line and product, at most [`ORDER_LINES_MAX`].
    lines: Vec<LineReservation>,
}

/// What became of the pieces that a line wants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LineReservation {
    /// The line's place in the order, from 0.
    pub line: u32,
    pub product_id: ProductId,
    pub status: ReservationStatus,
    /// Pieces that the status is about; 0 when none were asked for.
    pub quantity: u32,
    /// How many pieces there were to be had when they were too few.
    pub available: Option<u64>,
    /// Until when they are held unless they are confirmed. Microseconds of Unix time, as all times here.
    pub expires_at_us: Option<i64>,
    /// When the inventory service recorded the status.
    pub updated_at_us: i64,
}

/// Where pieces of an order stand. In this order, the first is what a whole order is said to be of its lines' statuses:
/// no order is better off than its worst line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ReservationStatus {
    /// There were too few.
    Rejected,
    /// Nobody confirmed in time.
    Expired,
    /// Given up before they were asked for.
    Withdrawn,
    /// Given back.
    Released,
    /// Not every line has been answered.
    Pending,
    /// Held for a while.
    Reserved,
    /// Held until they are shipped or released.
    Confirmed,
    /// Gone out of the house.
    Shipped,
}

/// What is held for a whole order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderReservation {
    pub status: ReservationStatus,
    /// Pieces that are held now.
    pub held_quantity: u64,
    /// Pieces of lines that were rejected.
    pub rejected_quantity: u64,
    /// Pieces that have gone out.
    pub shipped_quantity: u64,
    /// When the last of the lines' statuses was recorded.
    pub updated_at_us: i64,
}

impl ReservationFacet {
    /// Notes what is the last word on a line.
    pub fn set(&mut self, reservation: LineReservation) {
        match self.place(reservation.line, reservation.product_id) {
            Ok(place) => self.lines[place] = reservation,
            // an order has no more lines, so this is none of its lines
            Err(_) if self.lines.len() >= ORDER_LINES_MAX => {}
            Err(place) => self.lines.insert(place, reservation),
        }
    }

    /// Pieces that are held become certain.
    pub fn confirm(&mut self, line: u32, product_id: ProductId, updated_at_us: i64) -> Result<(), NotBegun> {
        match self.place(line, product_id) {
            Ok(place) => {
                let held = &mut self.lines[place];
                held.status = ReservationStatus::Confirmed;
                held.expires_at_us = None;
                held.updated_at_us = updated_at_us;
            }
            Err(_) if self.lines.len() >= ORDER_LINES_MAX => {}
            Err(_) => return Err(NotBegun),
        }
        Ok(())
    }

    /// What became of a line of the order, if anything did.
    pub fn of_line(&self, line: usize, product_id: ProductId) -> Option<&LineReservation> {
        let line = u32::try_from(line).ok()?;
        self.place(line, product_id).ok().map(|place| &self.lines[place])
    }

    /// Of the whole order with these lines. Pieces that are held in its name count whatever they are held for; how it
    /// stands is a matter of its own lines alone, for anybody may give up a line that it has not got.
    pub fn of_order(&self, lines: &[OrderLineRow]) -> Option<OrderReservation> {
        let updated_at_us = self.lines.iter().map(|line| line.updated_at_us).max()?;
        let answered = |(line, row): (usize, &OrderLineRow)| self.of_line(line, row.product_id);
        let status = |row| answered(row).map_or(ReservationStatus::Pending, |line| line.status);
        let pieces = |counts: fn(ReservationStatus) -> bool| {
            self.lines.iter().filter(|line| counts(line.status)).map(|line| u64::from(line.quantity)).sum::<u64>()
        };
        Some(OrderReservation {
            status: lines.iter().enumerate().map(status).min()?,
            held_quantity: pieces(|status| {
                matches!(status, ReservationStatus::Reserved | ReservationStatus::Confirmed)
            }),
            rejected_quantity: pieces(|status| status == ReservationStatus::Rejected),
            shipped_quantity: pieces(|status| status == ReservationStatus::Shipped),
            updated_at_us,
        })
    }

    fn place(&self, line: u32, product_id: ProductId) -> Result<usize, usize> {
        self.lines.binary_search_by_key(&(line, product_id), |known| (known.line, known.product_id))
    }
}
