//! A shipment: pieces of an order on their way to an address.
//!
//! Why: what was sent cannot be called back, so everybody must see how far it has come. Invariants:
//! - it is scheduled once, for 1 to 2,000 lines that name each product once; the same schedule again changes nothing;
//! - scheduled -> dispatched -> delivered or lost; scheduled -> cancelled; nothing leads back, and the last three are ends;
//! - a cancellation that comes before its schedule is kept, and keeps the schedule out: a command that comes late does no
//!   harm;
//! - its address is the customer's own unless it was given one; a customer who has none may still be asked for it;
//! - once its customer is erased it has no address, and goes on as it is: what was handed to a carrier is on its way.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use cqrs_es::{Aggregate, event_sink::EventSink};
use event_store::bus::{Domain, Refusal};
use events::{
    ids::{OrderId, ProductId, ShipmentId},
    orders::ORDER_LINES_MAX,
    shipping::{
        SHIPMENT, ShipmentCancelled, ShipmentDelivered, ShipmentDispatched, ShipmentEvent, ShipmentLost,
        ShipmentScheduled, ShipmentWithdrawn,
    },
};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// What a shipment can be asked.
#[derive(Debug, Clone, PartialEq)]
pub enum ShipmentCommand {
    Schedule {
        wanted: ShipmentScheduled,
        /// Otherwise its address is the customer's of this moment, and another moment's is no other wish.
        names_address: bool,
    },
    Dispatch {
        carrier: String,
        tracking: String,
        at: DateTime<Utc>,
    },
    Deliver {
        at: DateTime<Utc>,
    },
    /// Names shipment and order, because it may be the first that is heard of them.
    Cancel {
        shipment_id: ShipmentId,
        order_id: OrderId,
        reason: String,
    },
    Lose {
        reason: String,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ShipmentError {
    #[error("there is no such shipment")]
    NotFound,
    #[error("shipment {0} is there already, with other data")]
    Exists(ShipmentId),
    #[error("shipment {0} was given up before it was scheduled")]
    Withdrawn(ShipmentId),
    #[error("shipment {0} is for order {1}")]
    OtherOrder(ShipmentId, OrderId),
    #[error("the shipment has {lines} lines; it may have 1 to {ORDER_LINES_MAX}")]
    LineCount { lines: usize },
    #[error("line {line} names a product that a line before it names")]
    ProductRepeated { line: usize, product_id: ProductId },
    /// `be`: what it was to become.
    #[error("shipment {shipment_id} is {status}: it cannot be {be}", status = .status.as_str())]
    Status { shipment_id: ShipmentId, status: ShipmentStatus, be: &'static str },
}

/// Where a shipment stands.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub enum Shipment {
    #[default]
    Absent,
    /// Given up before it was scheduled.
    Withdrawn(ShipmentWithdrawn),
    Known(Box<KnownShipment>),
}

/// What is known of a shipment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KnownShipment {
    pub scheduled: ShipmentScheduled,
    pub status: ShipmentStatus,
    pub dispatched: Option<ShipmentDispatched>,
    pub delivered_at: Option<DateTime<Utc>>,
    /// Why it was cancelled or lost.
    pub reason: Option<String>,
}

/// How far a shipment has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ShipmentStatus {
    Scheduled,
    Dispatched,
    Delivered,
    Cancelled,
    Lost,
}

impl ShipmentStatus {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Scheduled => "SCHEDULED",
            Self::Dispatched => "DISPATCHED",
            Self::Delivered => "DELIVERED",
            Self::Cancelled => "CANCELLED",
            Self::Lost => "LOST",
        }
    }
}

impl Shipment {
    /// What follows from `command` here. Nothing when it is already so.
    pub fn decide(&self, command: ShipmentCommand) -> Result<Vec<ShipmentEvent>, ShipmentError> {
        match (self, command) {
            (Self::Absent, ShipmentCommand::Schedule { wanted, .. }) => {
                check_lines(&wanted)?;
                Ok(vec![wanted.into()])
            }
            (Self::Absent, ShipmentCommand::Cancel { shipment_id, order_id, reason }) => {
                Ok(vec![ShipmentWithdrawn { shipment_id, order_id, reason }.into()])
            }
            (Self::Withdrawn(withdrawn), ShipmentCommand::Schedule { .. }) => {
                Err(ShipmentError::Withdrawn(withdrawn.shipment_id))
            }
            (Self::Withdrawn(withdrawn), ShipmentCommand::Cancel { order_id, .. }) => {
                check_order(withdrawn.shipment_id, withdrawn.order_id, order_id)?;
                Ok(vec![])
            }
            (
                Self::Absent | Self::Withdrawn(_),
                ShipmentCommand::Dispatch { .. } | ShipmentCommand::Deliver { .. } | ShipmentCommand::Lose { .. },
            ) => Err(ShipmentError::NotFound),
            (Self::Known(shipment), ShipmentCommand::Schedule { wanted, names_address }) => {
                let is_the_same = shipment.is_as(&wanted, names_address);
                if is_the_same { Ok(vec![]) } else { Err(ShipmentError::Exists(shipment.id())) }
            }
            (Self::Known(shipment), ShipmentCommand::Dispatch { carrier, tracking, at }) => {
                shipment.dispatch(carrier, tracking, at)
            }
            (Self::Known(shipment), ShipmentCommand::Deliver { at }) => shipment.deliver(at),
            (Self::Known(shipment), ShipmentCommand::Cancel { order_id, reason, .. }) => {
                check_order(shipment.id(), shipment.scheduled.order_id, order_id)?;
                shipment.cancel(reason)
            }
            (Self::Known(shipment), ShipmentCommand::Lose { reason }) => shipment.lose(reason),
        }
    }

    fn known_mut(&mut self) -> Option<&mut KnownShipment> {
        match self {
            Self::Known(shipment) => Some(shipment),
            Self::Absent | Self::Withdrawn(_) => None,
        }
    }
}

fn check_lines(wanted: &ShipmentScheduled) -> Result<(), ShipmentError> {
    let lines = &wanted.lines;
    if !(1..=ORDER_LINES_MAX).contains(&lines.len()) {
        return Err(ShipmentError::LineCount { lines: lines.len() });
    }
    let mut seen = HashSet::new();
    match lines.iter().enumerate().find(|(_, line)| !seen.insert(line.product_id)) {
        Some((line, repeated)) => Err(ShipmentError::ProductRepeated { line, product_id: repeated.product_id }),
        None => Ok(()),
    }
}

fn check_order(shipment_id: ShipmentId, its: OrderId, named: OrderId) -> Result<(), ShipmentError> {
    if its == named { Ok(()) } else { Err(ShipmentError::OtherOrder(shipment_id, its)) }
}

impl KnownShipment {
    pub fn id(&self) -> ShipmentId {
        self.scheduled.shipment_id
    }

    /// Whether `wanted` is what was scheduled. An erased address can be told from none, and says no to none: a repeat that
    /// comes after the erasure is still a repeat.
    fn is_as(&self, wanted: &ShipmentScheduled, names_address: bool) -> bool {
        let ShipmentScheduled { shipment_id, order_id, customer_id, lines, address } = &self.scheduled;
        (shipment_id, order_id, customer_id, lines)
            == (&wanted.shipment_id, &wanted.order_id, &wanted.customer_id, &wanted.lines)
            && (!names_address || address.value().is_none() || *address == wanted.address)
    }

    fn dispatch(
        &self,
        carrier: String,
        tracking: String,
        at: DateTime<Utc>,
    ) -> Result<Vec<ShipmentEvent>, ShipmentError> {
        let (shipment_id, order_id) = (self.id(), self.scheduled.order_id);
        let is_the_same = |was: &ShipmentDispatched| was.carrier == carrier && was.tracking == tracking;
        match (self.status, &self.dispatched) {
            (ShipmentStatus::Scheduled, _) => {
                Ok(vec![ShipmentDispatched { shipment_id, order_id, carrier, tracking, dispatched_at: at }.into()])
            }
            (ShipmentStatus::Dispatched | ShipmentStatus::Delivered | ShipmentStatus::Lost, Some(was))
                if is_the_same(was) =>
            {
                Ok(vec![])
            }
            (status, _) => Err(ShipmentError::Status { shipment_id, status, be: "dispatched so" }),
        }
    }

    fn deliver(&self, at: DateTime<Utc>) -> Result<Vec<ShipmentEvent>, ShipmentError> {
        let (shipment_id, order_id) = (self.id(), self.scheduled.order_id);
        match self.status {
            ShipmentStatus::Dispatched => {
                Ok(vec![ShipmentDelivered { shipment_id, order_id, delivered_at: at }.into()])
            }
            ShipmentStatus::Delivered => Ok(vec![]),
            status @ (ShipmentStatus::Scheduled | ShipmentStatus::Cancelled | ShipmentStatus::Lost) => {
                Err(ShipmentError::Status { shipment_id, status, be: "delivered" })
            }
        }
    }

    fn cancel(&self, reason: String) -> Result<Vec<ShipmentEvent>, ShipmentError> {
        let (shipment_id, order_id) = (self.id(), self.scheduled.order_id);
        match self.status {
            ShipmentStatus::Scheduled => Ok(vec![ShipmentCancelled { shipment_id, order_id, reason }.into()]),
            ShipmentStatus::Cancelled => Ok(vec![]),
            status @ (ShipmentStatus::Dispatched | ShipmentStatus::Delivered | ShipmentStatus::Lost) => {
                Err(ShipmentError::Status { shipment_id, status, be: "cancelled" })
            }
        }
    }

    fn lose(&self, reason: String) -> Result<Vec<ShipmentEvent>, ShipmentError> {
        let (shipment_id, order_id) = (self.id(), self.scheduled.order_id);
        match self.status {
            ShipmentStatus::Dispatched => Ok(vec![ShipmentLost { shipment_id, order_id, reason }.into()]),
            ShipmentStatus::Lost => Ok(vec![]),
            status @ (ShipmentStatus::Scheduled | ShipmentStatus::Delivered | ShipmentStatus::Cancelled) => {
                Err(ShipmentError::Status { shipment_id, status, be: "lost" })
            }
        }
    }
}

impl Aggregate for Shipment {
    const TYPE: &'static str = SHIPMENT;
    type Command = ShipmentCommand;
    type Event = ShipmentEvent;
    type Error = ShipmentError;
    type Services = ();

    async fn handle(&mut self, command: ShipmentCommand, (): &(), sink: &EventSink<Self>) -> Result<(), ShipmentError> {
        for event in self.decide(command)? {
            sink.write(event, self).await;
        }
        Ok(())
    }

    fn apply(&mut self, event: ShipmentEvent) {
        match event {
            ShipmentEvent::ShipmentScheduled(scheduled) => {
                *self = Self::Known(Box::new(KnownShipment {
                    scheduled,
                    status: ShipmentStatus::Scheduled,
                    dispatched: None,
                    delivered_at: None,
                    reason: None,
                }));
            }
            ShipmentEvent::ShipmentWithdrawn(withdrawn) => *self = Self::Withdrawn(withdrawn),
            ShipmentEvent::ShipmentDispatched(dispatched) => {
                if let Some(shipment) = self.known_mut() {
                    shipment.status = ShipmentStatus::Dispatched;
                    shipment.dispatched = Some(dispatched);
                }
            }
            ShipmentEvent::ShipmentDelivered(delivered) => {
                if let Some(shipment) = self.known_mut() {
                    shipment.status = ShipmentStatus::Delivered;
                    shipment.delivered_at = Some(delivered.delivered_at);
                }
            }
            ShipmentEvent::ShipmentCancelled(cancelled) => {
                if let Some(shipment) = self.known_mut() {
                    shipment.status = ShipmentStatus::Cancelled;
                    shipment.reason = Some(cancelled.reason);
                }
            }
            ShipmentEvent::ShipmentLost(lost) => {
                if let Some(shipment) = self.known_mut() {
                    shipment.status = ShipmentStatus::Lost;
                    shipment.reason = Some(lost.reason);
                }
            }
        }
    }
}

impl Domain for Shipment {
    // 2: the address is personal
    const VERSION: u32 = 2;

    fn creates(command: &ShipmentCommand) -> bool {
        matches!(command, ShipmentCommand::Schedule { .. })
    }

    fn refusal(error: &ShipmentError) -> Refusal {
        let detail = error.to_string();
        match error {
            ShipmentError::NotFound => Refusal::new("shipment_not_found", detail),
            ShipmentError::Exists(_) => Refusal::new("shipment_exists", detail),
            ShipmentError::Withdrawn(_) => Refusal::new("shipment_withdrawn", detail),
            ShipmentError::OtherOrder(_, order_id) => {
                Refusal::new("shipment_of_another_order", detail).with("order_id", order_id.to_string())
            }
            ShipmentError::LineCount { lines } => Refusal::new("line_count", detail).with("lines", *lines),
            ShipmentError::ProductRepeated { line, product_id } => {
                let pointer = format!("/lines/{line}/product_id");
                let errors = serde_json::json!([{ "pointer": pointer, "detail": product_id.to_string() }]);
                Refusal::new("product_repeated", detail).with("errors", errors)
            }
            ShipmentError::Status { status, .. } => {
                let refusal = match status {
                    ShipmentStatus::Scheduled => Refusal::new("shipment_not_dispatched", detail),
                    ShipmentStatus::Dispatched => Refusal::new("shipment_already_dispatched", detail),
                    ShipmentStatus::Delivered => Refusal::new("shipment_already_delivered", detail),
                    ShipmentStatus::Cancelled => Refusal::new("shipment_cancelled", detail),
                    ShipmentStatus::Lost => Refusal::new("shipment_lost", detail),
                };
                refusal.with("shipment_status", status.as_str())
            }
        }
    }
}

#[cfg(test)]
#[path = "shipment_tests.rs"]
mod tests;
