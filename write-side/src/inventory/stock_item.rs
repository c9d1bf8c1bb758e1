//! A stock item: how many pieces of a product there are, and for whom some of them are held.
//!
//! Why: pieces are promised to orders before they leave the house, and no piece is promised twice. Invariants:
//! - on hand = received + adjusted - shipped; held = what open reservations hold; 0 <= held <= on hand <= 1,000,000,000;
//! - all or nothing: a line gets every piece it wants or none, and the rejection says how many there were to be had;
//! - a line is answered once. The answer stands, a rejection too, and what has ended (withdrawn, released, expired,
//!   shipped) is never opened again: a command that comes late or twice does no harm;
//! - what nobody confirms expires; what is confirmed is held until it is shipped or released.
//!
//! What is received and adjusted adds up, so these two ask for more when they are repeated under another idempotency key.

use std::num::{NonZeroI64, NonZeroU32};

use chrono::{DateTime, Utc};
use cqrs_es::{Aggregate, event_sink::EventSink};
use event_store::bus::{Domain, Refusal, Report};
use events::{
    ids::ProductId,
    inventory::{
        ReservationConfirmed, ReservationExpired, ReservationRejected, ReservationWithdrawn, STOCK_ITEM, StockAdjusted,
        StockEvent, StockReceived, StockReleased, StockReserved, StockShipped,
    },
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, json};
use thiserror::Error;

use super::reservations::{Closed, Open, ReservationId, Reservations, as_list};

/// The most pieces of one product: far below what sums of them could overflow.
pub const ON_HAND_MAX: u64 = 1_000_000_000;

/// The most reservations that one command lets expire: its events are one transaction's. Whoever asks asks again.
pub const EXPIRED_PER_COMMAND_MAX: usize = 500;

/// What a stock item can be asked. Those that name the product may be the first that is heard of it.
#[derive(Debug, Clone, PartialEq)]
pub enum StockCommand {
    Receive {
        product_id: ProductId,
        quantity: NonZeroU32,
    },
    /// More (positive) or fewer pieces than the books say.
    Adjust {
        quantity: NonZeroI64,
        reason: String,
    },
    Reserve {
        product_id: ProductId,
        id: ReservationId,
        quantity: NonZeroU32,
        expires_at: DateTime<Utc>,
    },
    Release {
        product_id: ProductId,
        id: ReservationId,
    },
    Confirm {
        id: ReservationId,
    },
    Ship {
        id: ReservationId,
    },
    /// Lets expire what is due at `now`, the longest overdue first, at most [`EXPIRED_PER_COMMAND_MAX`].
    Expire {
        now: DateTime<Utc>,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum StockError {
    #[error("there is no such stock item: nothing of this product was ever received or asked for")]
    NotFound,
    #[error("{quantity} more pieces than the {on_hand} on hand are beyond {ON_HAND_MAX}")]
    TooMany { quantity: u64, on_hand: u64 },
    #[error("{fewer} pieces fewer than the {on_hand} on hand would not leave the {held} that are held for orders")]
    Held { fewer: u64, on_hand: u64, held: u64 },
    #[error("{id} has asked for {asked} pieces, and cannot ask for {quantity} as well")]
    Exists { id: ReservationId, asked: u32, quantity: u32 },
    #[error("nothing is reserved for {0}")]
    NotReserved(ReservationId),
    #[error("the reservation for {0} is {how}", how = .1.as_str())]
    Closed(ReservationId, Closed),
}

/// Where a stock item stands.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub enum StockItem {
    #[default]
    Absent,
    Known(Stock),
}

/// What is known of a stock item.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stock {
    pub product_id: ProductId,
    pub on_hand: u64,
    pub held: u64,
    #[serde(with = "as_list")]
    pub open: Reservations<Open>,
    /// Answered or ended: what tells a command that comes late or twice from a new one.
    #[serde(with = "as_list")]
    pub closed: Reservations<Closed>,
}

impl StockItem {
    /// What follows from `command` here. Nothing when it is already so.
    pub fn decide(&self, command: StockCommand) -> Result<Vec<StockEvent>, StockError> {
        let unheard_of;
        let stock = match (self, &command) {
            (Self::Known(stock), _) => stock,
            (
                Self::Absent,
                StockCommand::Receive { product_id, .. }
                | StockCommand::Reserve { product_id, .. }
                | StockCommand::Release { product_id, .. },
            ) => {
                unheard_of = Stock::none(*product_id);
                &unheard_of
            }
            (
                Self::Absent,
                StockCommand::Adjust { .. }
                | StockCommand::Confirm { .. }
                | StockCommand::Ship { .. }
                | StockCommand::Expire { .. },
            ) => return Err(StockError::NotFound),
        };
        match command {
            StockCommand::Receive { quantity, .. } => stock.receive(quantity.get()),
            StockCommand::Adjust { quantity, reason } => stock.adjust(quantity.get(), reason),
            StockCommand::Reserve { id, quantity, expires_at, .. } => stock.reserve(id, quantity.get(), expires_at),
            StockCommand::Release { id, .. } => stock.release(id),
            StockCommand::Confirm { id } => stock.confirm(id),
            StockCommand::Ship { id } => stock.ship(id),
            StockCommand::Expire { now } => Ok(stock.expire(now)),
        }
    }
}

impl Stock {
    fn none(product_id: ProductId) -> Self {
        Self { product_id, on_hand: 0, held: 0, open: Reservations::new_sync(), closed: Reservations::new_sync() }
    }

    /// Pieces that are neither held nor gone.
    pub fn available(&self) -> u64 {
        self.on_hand - self.held
    }

    fn receive(&self, quantity: u32) -> Result<Vec<StockEvent>, StockError> {
        self.check_room(u64::from(quantity))?;
        Ok(vec![StockReceived { product_id: self.product_id, quantity }.into()])
    }

    fn adjust(&self, quantity: i64, reason: String) -> Result<Vec<StockEvent>, StockError> {
        let change = quantity.unsigned_abs();
        if quantity > 0 {
            self.check_room(change)?;
        } else if change > self.available() {
            return Err(StockError::Held { fewer: change, on_hand: self.on_hand, held: self.held });
        }
        Ok(vec![StockAdjusted { product_id: self.product_id, quantity, reason }.into()])
    }

    fn check_room(&self, quantity: u64) -> Result<(), StockError> {
        if quantity > ON_HAND_MAX - self.on_hand {
            return Err(StockError::TooMany { quantity, on_hand: self.on_hand });
        }
        Ok(())
    }

    fn reserve(
        &self,
        id: ReservationId,
        quantity: u32,
        expires_at: DateTime<Utc>,
    ) -> Result<Vec<StockEvent>, StockError> {
        let asked = match (self.open.get(&id), self.closed.get(&id)) {
            (Some(open), _) => Some(open.quantity),
            (None, Some(Closed::Rejected { quantity, .. })) => Some(*quantity),
            // it has got what it wants: who asks has lost their memory, and must not take that for a loss of the pieces
            (None, Some(Closed::Shipped)) => return Ok(vec![]),
            (None, Some(&how)) => return Err(StockError::Closed(id, how)),
            (None, None) => None,
        };
        match asked {
            Some(asked) if asked == quantity => return Ok(vec![]),
            Some(asked) => return Err(StockError::Exists { id, asked, quantity }),
            None => {}
        }
        let (product_id, available) = (self.product_id, self.available());
        let ReservationId { order_id, line } = id;
        Ok(vec![if u64::from(quantity) <= available {
            StockReserved { product_id, order_id, line, quantity, expires_at }.into()
        } else {
            ReservationRejected { product_id, order_id, line, quantity, available }.into()
        }])
    }

    fn release(&self, id: ReservationId) -> Result<Vec<StockEvent>, StockError> {
        let (product_id, ReservationId { order_id, line }) = (self.product_id, id);
        match (self.open.get(&id), self.closed.get(&id)) {
            (Some(&Open { quantity, .. }), _) => {
                Ok(vec![StockReleased { product_id, order_id, line, quantity }.into()])
            }
            (None, None) => Ok(vec![ReservationWithdrawn { product_id, order_id, line }.into()]),
            (None, Some(&how @ Closed::Shipped)) => Err(StockError::Closed(id, how)),
            (None, Some(Closed::Rejected { .. } | Closed::Withdrawn | Closed::Released | Closed::Expired)) => {
                Ok(vec![])
            }
        }
    }

    fn confirm(&self, id: ReservationId) -> Result<Vec<StockEvent>, StockError> {
        let (product_id, ReservationId { order_id, line }) = (self.product_id, id);
        match self.reserved(id)? {
            Some(Open { expires_at: Some(_), .. }) => {
                Ok(vec![ReservationConfirmed { product_id, order_id, line }.into()])
            }
            Some(Open { expires_at: None, .. }) | None => Ok(vec![]),
        }
    }

    fn ship(&self, id: ReservationId) -> Result<Vec<StockEvent>, StockError> {
        let (product_id, ReservationId { order_id, line }) = (self.product_id, id);
        Ok(self
            .reserved(id)?
            .map(|open| {
                let quantity = open.quantity;
                StockShipped { product_id, order_id, line, quantity }.into()
            })
            .into_iter()
            .collect())
    }

    /// The open reservation; `None` when it was shipped, which is as good as confirmed.
    fn reserved(&self, id: ReservationId) -> Result<Option<&Open>, StockError> {
        match (self.open.get(&id), self.closed.get(&id)) {
            (Some(open), _) => Ok(Some(open)),
            (None, Some(Closed::Shipped)) => Ok(None),
            (None, Some(&how)) => Err(StockError::Closed(id, how)),
            (None, None) => Err(StockError::NotReserved(id)),
        }
    }

    fn expire(&self, now: DateTime<Utc>) -> Vec<StockEvent> {
        let due = self.open.iter().filter_map(|(id, open)| Some((open.expires_at.filter(|at| *at <= now)?, id, open)));
        let mut due: Vec<_> = due.collect();
        due.sort_unstable_by_key(|(expires_at, id, _)| (*expires_at, **id));
        let expired = due.into_iter().take(EXPIRED_PER_COMMAND_MAX).map(|(_, id, open)| {
            let (product_id, ReservationId { order_id, line }) = (self.product_id, *id);
            ReservationExpired { product_id, order_id, line, quantity: open.quantity }.into()
        });
        expired.collect()
    }

    fn close(&mut self, id: ReservationId, how: Closed) {
        if let Some(open) = self.open.get(&id) {
            self.held -= u64::from(open.quantity);
            self.open.remove_mut(&id);
        }
        self.closed.insert_mut(id, how);
    }

    /// What is known of a line, as its order's saga wants to hear it.
    fn report(&self, id: &ReservationId) -> Option<Report> {
        let reservation = match (self.open.get(id), self.closed.get(id)) {
            (Some(Open { quantity, expires_at }), _) => {
                json!({ "status": "RESERVED", "quantity": quantity, "expires_at": expires_at })
            }
            (None, Some(how @ Closed::Rejected { quantity, available })) => {
                json!({ "status": how.as_str(), "quantity": quantity, "available": available })
            }
            (None, Some(how)) => json!({ "status": how.as_str() }),
            (None, None) => return None,
        };
        Some(Box::new(Map::from_iter([("reservation".to_owned(), reservation)])))
    }
}

impl Aggregate for StockItem {
    const TYPE: &'static str = STOCK_ITEM;
    type Command = StockCommand;
    type Event = StockEvent;
    type Error = StockError;
    type Services = ();

    async fn handle(&mut self, command: StockCommand, (): &(), sink: &EventSink<Self>) -> Result<(), StockError> {
        for event in self.decide(command)? {
            sink.write(event, self).await;
        }
        Ok(())
    }

    fn apply(&mut self, event: StockEvent) {
        let stock = self.known(product_of(&event));
        match event {
            StockEvent::StockReceived(received) => stock.on_hand += u64::from(received.quantity),
            StockEvent::StockAdjusted(adjusted) => {
                stock.on_hand = stock.on_hand.saturating_add_signed(adjusted.quantity);
            }
            StockEvent::StockReserved(StockReserved { order_id, line, quantity, expires_at, .. }) => {
                stock.held += u64::from(quantity);
                let open = Open { quantity, expires_at: Some(expires_at) };
                stock.open.insert_mut(ReservationId { order_id, line }, open);
            }
            StockEvent::ReservationRejected(ReservationRejected { order_id, line, quantity, available, .. }) => {
                stock.close(ReservationId { order_id, line }, Closed::Rejected { quantity, available });
            }
            StockEvent::ReservationWithdrawn(ReservationWithdrawn { order_id, line, .. }) => {
                stock.close(ReservationId { order_id, line }, Closed::Withdrawn);
            }
            StockEvent::ReservationConfirmed(ReservationConfirmed { order_id, line, .. }) => {
                let id = ReservationId { order_id, line };
                if let Some(&Open { quantity, .. }) = stock.open.get(&id) {
                    stock.open.insert_mut(id, Open { quantity, expires_at: None });
                }
            }
            StockEvent::ReservationExpired(ReservationExpired { order_id, line, .. }) => {
                stock.close(ReservationId { order_id, line }, Closed::Expired);
            }
            StockEvent::StockReleased(StockReleased { order_id, line, .. }) => {
                stock.close(ReservationId { order_id, line }, Closed::Released);
            }
            StockEvent::StockShipped(StockShipped { order_id, line, quantity, .. }) => {
                stock.close(ReservationId { order_id, line }, Closed::Shipped);
                stock.on_hand -= u64::from(quantity);
            }
        }
    }
}

impl StockItem {
    fn known(&mut self, product_id: ProductId) -> &mut Stock {
        if let Self::Absent = self {
            *self = Self::Known(Stock::none(product_id));
        }
        match self {
            Self::Known(stock) => stock,
            Self::Absent => unreachable!("it was made known a line ago"),
        }
    }
}

/// The product whose stock an event is about.
pub fn product_of(event: &StockEvent) -> ProductId {
    match event {
        StockEvent::StockReceived(event) => event.product_id,
        StockEvent::StockAdjusted(event) => event.product_id,
        StockEvent::StockReserved(event) => event.product_id,
        StockEvent::ReservationRejected(event) => event.product_id,
        StockEvent::ReservationWithdrawn(event) => event.product_id,
        StockEvent::ReservationConfirmed(event) => event.product_id,
        StockEvent::ReservationExpired(event) => event.product_id,
        StockEvent::StockReleased(event) => event.product_id,
        StockEvent::StockShipped(event) => event.product_id,
    }
}

impl Domain for StockItem {
    fn refusal(error: &StockError) -> Refusal {
        let detail = error.to_string();
        let about = |refusal: Refusal, id: &ReservationId| {
            refusal.with("order_id", id.order_id.to_string()).with("line", id.line)
        };
        match error {
            StockError::NotFound => Refusal::new("stock_item_not_found", detail),
            StockError::TooMany { on_hand, .. } => {
                Refusal::new("stock_too_large", detail).with("on_hand", *on_hand).with("on_hand_max", ON_HAND_MAX)
            }
            StockError::Held { on_hand, held, .. } => {
                Refusal::new("stock_held", detail).with("on_hand", *on_hand).with("held", *held)
            }
            StockError::Exists { id, asked, .. } => {
                about(Refusal::new("reservation_exists", detail), id).with("quantity", *asked)
            }
            StockError::NotReserved(id) => about(Refusal::new("reservation_not_found", detail), id),
            StockError::Closed(id, how) => {
                about(Refusal::new("reservation_closed", detail), id).with("reservation_status", how.as_str())
            }
        }
    }

    fn report(&self, command: &StockCommand) -> Option<Report> {
        let Self::Known(stock) = self else { return None };
        match command {
            StockCommand::Reserve { id, .. }
            | StockCommand::Release { id, .. }
            | StockCommand::Confirm { id }
            | StockCommand::Ship { id } => stock.report(id),
            StockCommand::Receive { .. } | StockCommand::Adjust { .. } | StockCommand::Expire { .. } => None,
        }
    }
}

#[cfg(test)]
#[path = "stock_item_tests.rs"]
mod tests;
