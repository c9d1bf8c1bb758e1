//! What a checkout knows of its order, and what it makes of each piece of news.
//!
//! [`CheckoutState::learn`] takes note first and then moves on as far as what is known allows. So it is all the same in
//! which order answers and facts come, and whether some come twice.

use std::collections::BTreeMap;

use events::{
    checkout::{CheckoutFact, CheckoutStep, PlacedOrder, Setback},
    ids::{PaymentId, ProductId, ShipmentId},
    money::sum_minor,
    orders::ReturnedLine,
    payments::DeclineReason,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::{
    money::{Money, MoneyStatus, Wish},
    stock::{Hold, Stock},
};
use crate::saga::definition::End;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CheckoutState {
    pub saga_id: Uuid,
    pub order: PlacedOrder,
    /// What the order costs, in minor units.
    pub total_minor: i64,
    pub stage: Stage,
    pub stock: Stock,
    pub money: Money,
    pub parcel: Parcel,
    pub life: OrderLife,
}

/// How far it has come. Each but the last two waits for one thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Stage {
    /// For all lines to be reserved.
    Reserving,
    /// For the gateway to hold the money.
    Authorizing,
    /// For all lines to be held for good.
    Securing,
    /// For the order to be confirmed: the pivot has been asked for, and only its answer says where this goes.
    Confirming,
    /// Everything that was asked for is being undone.
    Compensating(Setback),
    /// The order is confirmed: everything that is due is asked for until it is done.
    CarryingOut,
}

/// What is known of the shipment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Parcel {
    /// Nobody has been asked for one, and perhaps nobody will be.
    Unasked,
    Asked,
    Scheduled,
    Dispatched,
    Delivered,
    Lost,
    /// It never leaves the house.
    Kept,
}

/// What is known of the order itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderLife {
    pub cancelled: bool,
    pub marked_shipped: bool,
    pub marked_delivered: bool,
    /// It is not to be sent after all, if that can still be helped.
    pub called_off: bool,
    /// Pieces that came back.
    pub returned: BTreeMap<ProductId, u32>,
    /// Nothing is left with the customer.
    pub came_back: bool,
}

impl CheckoutState {
    /// A checkout of an order that was just placed; `None` if its total is beyond what money can be.
    pub fn of(saga_id: Uuid, order: PlacedOrder) -> Option<Self> {
        let prices: Result<Vec<i64>, _> = order.lines.iter().map(|line| line.price_minor(line.quantity)).collect();
        let total_minor = prices.and_then(sum_minor).ok()?;
        Some(Self {
            saga_id,
            total_minor,
            stage: Stage::Reserving,
            stock: Stock::of(order.lines.len()),
            money: Money::none(),
            parcel: Parcel::Unasked,
            life: OrderLife::default(),
            order,
        })
    }

    /// The payment that it asks for: the only one of the order that is its business.
    pub fn payment_id(saga_id: Uuid) -> PaymentId {
        PaymentId(Uuid::new_v5(&saga_id, b"payment"))
    }

    /// The shipment that it asks for.
    pub fn shipment_id(saga_id: Uuid) -> ShipmentId {
        ShipmentId(Uuid::new_v5(&saga_id, b"shipment"))
    }

    /// Something happened elsewhere.
    pub fn observe(&mut self, fact: &CheckoutFact) {
        match fact {
            CheckoutFact::OrderPlaced(_) => {}
            CheckoutFact::OrderCancelled { rejected } => {
                self.life.cancelled = true;
                self.set_back(if *rejected { Setback::Refused } else { Setback::CustomerCancelled });
            }
            CheckoutFact::OrderReturned { lines, complete } => self.returned(lines, *complete),
            // its line is released all the same: that also ends what is still being asked for it
            CheckoutFact::ReservationExpired { line: _ } => self.set_back(Setback::ReservationLost),
            CheckoutFact::PaymentAuthorized => self.money.authorized(),
            CheckoutFact::PaymentDeclined { reason } => {
                self.money.gone(MoneyStatus::Declined);
                self.set_back(match reason {
                    DeclineReason::Declined | DeclineReason::InsufficientFunds => Setback::PaymentDeclined,
                    DeclineReason::GatewayTimeout => Setback::PaymentUnanswered,
                });
            }
            CheckoutFact::PaymentCaptured { amount_minor } => self.money.captured(*amount_minor),
            CheckoutFact::CaptureFailed => self.money.capture_failed(),
            CheckoutFact::PaymentVoided => self.money.gone(MoneyStatus::Voided),
            CheckoutFact::PaymentExpired => self.money.gone(MoneyStatus::Expired),
            CheckoutFact::PaymentRefunded { refund_id, amount_minor } => {
                self.money.refunded(self.saga_id, *refund_id, *amount_minor);
            }
            CheckoutFact::RefundFailed { refund_id } => {
                if *refund_id == self.money.refund_id(self.saga_id) {
                    self.money.refunds_failed += 1;
                }
            }
            CheckoutFact::ShipmentDispatched => self.parcel_is(Parcel::Dispatched),
            CheckoutFact::ShipmentDelivered => self.parcel_is(Parcel::Delivered),
            CheckoutFact::ShipmentCancelled => self.parcel_is(Parcel::Kept),
            CheckoutFact::ShipmentLost => self.parcel_is(Parcel::Lost),
        }
        self.go_on();
    }

    /// A step is over.
    pub fn ended(&mut self, step: CheckoutStep, end: &End<'_>) {
        match step {
            CheckoutStep::Reserve(line) => self.reserve_ended(line, end),
            CheckoutStep::Secure(line) => match end {
                End::Accepted { .. } => self.stock.note(line, Hold::Secured),
                End::Refused { .. } => self.set_back(Setback::ReservationLost),
                End::Skipped => self.stock.note(line, Hold::Waived),
            },
            CheckoutStep::Confirm => self.confirm_ended(end),
            CheckoutStep::Schedule => match end {
                End::Accepted { .. } => self.parcel_is(Parcel::Scheduled),
                // it may be planned all the same, or be so yet: it is stopped, which keeps that out, too
                End::Refused { .. } | End::Skipped => {
                    self.life.called_off = true;
                    self.parcel_is(Parcel::Scheduled);
                }
            },
            CheckoutStep::Ship(line) => self.stock.note(line, Hold::Shipped),
            CheckoutStep::Release(line) => self.stock.note(line, Hold::Free),
            CheckoutStep::MarkShipped => self.life.marked_shipped = true,
            CheckoutStep::MarkDelivered => self.life.marked_delivered = true,
            CheckoutStep::Reject => self.life.cancelled = true,
            CheckoutStep::Return => self.life.came_back = true,
            CheckoutStep::Stop => match end {
                End::Accepted { .. } => self.parcel_is(Parcel::Kept),
                // where all is undone nobody was asked for a parcel: who says that there is none to stop is believed
                End::Skipped if matches!(self.stage, Stage::Compensating(_)) => self.parcel_is(Parcel::Kept),
                End::Refused { .. } | End::Skipped => {}
            },
            CheckoutStep::Authorize => match end {
                End::Accepted { report: Some(_) } => {}
                End::Refused { code: "payment_barred" } => self.set_back(Setback::AuthorizationLost),
                End::Refused { .. } => self.set_back(Setback::Refused),
                End::Accepted { report: None } | End::Skipped => self.money.authorization_waived(),
            },
            CheckoutStep::Capture | CheckoutStep::Void => match end {
                End::Accepted { report: Some(_) } | End::Refused { .. } => {}
                End::Accepted { report: None } | End::Skipped => self.money.waived(),
            },
            CheckoutStep::Refund(n) => match end {
                End::Accepted { report: Some(_) } | End::Refused { .. } => {}
                End::Accepted { report: None } | End::Skipped => self.money.refund_waived(n, self.price_minor()),
            },
        }
        self.go_on();
    }

    /// It has taken too long. Behind the pivot there is no too long.
    pub fn deadline(&mut self) {
        self.set_back(Setback::DeadlinePassed);
        self.go_on();
    }

    fn reserve_ended(&mut self, line: u32, end: &End<'_>) {
        match end {
            End::Accepted { report } if is_reserved(*report) => self.stock.note(line, Hold::Reserved),
            End::Accepted { .. } => {
                self.stock.note(line, Hold::Free);
                self.set_back(Setback::OutOfStock);
            }
            End::Refused { code: "reservation_closed" } => self.set_back(Setback::ReservationLost),
            End::Refused { .. } => self.set_back(Setback::Refused),
            End::Skipped => self.stock.note(line, Hold::Waived),
        }
    }

    fn confirm_ended(&mut self, end: &End<'_>) {
        if self.stage != Stage::Confirming {
            return;
        }
        self.stage = match end {
            End::Accepted { .. } => Stage::CarryingOut,
            End::Refused { code: "order_cancelled" } => Stage::Compensating(Setback::CustomerCancelled),
            End::Refused { .. } | End::Skipped => Stage::Compensating(Setback::Refused),
        };
    }

    /// Before the pivot is asked for, any of this ends in undoing what was done. From then on its answer decides.
    fn set_back(&mut self, setback: Setback) {
        if matches!(self.stage, Stage::Reserving | Stage::Authorizing | Stage::Securing) {
            self.stage = Stage::Compensating(setback);
        }
    }

    fn returned(&mut self, lines: &[ReturnedLine], complete: bool) {
        for line in lines {
            *self.life.returned.entry(line.product_id).or_default() += line.quantity;
        }
        self.life.came_back |= complete;
        // only what is confirmed can come back: by us, or, before we asked for it, by hand
        if self.stage == Stage::Confirming {
            self.stage = Stage::CarryingOut;
        }
        // parts come back of what was sent only: then this is an order that a checkout has carried out before
        if complete {
            self.set_back(Setback::CustomerCancelled);
        }
    }

    /// A parcel goes one way only: what is said late changes nothing.
    fn parcel_is(&mut self, now: Parcel) {
        let goes = match self.parcel {
            Parcel::Unasked | Parcel::Asked | Parcel::Scheduled => true,
            Parcel::Dispatched => matches!(now, Parcel::Delivered | Parcel::Lost),
            Parcel::Delivered | Parcel::Lost | Parcel::Kept => false,
        };
        if goes {
            self.parcel = now;
        }
    }

    /// Moves on as far as what is known allows.
    fn go_on(&mut self) {
        if self.stage == Stage::Reserving {
            self.stock.ask_for_more();
            if self.stock.is_reserved() && self.total_minor == 0 {
                self.stage = Stage::Securing;
            } else if self.stock.is_reserved() {
                self.stage = Stage::Authorizing;
                self.money.asked();
            }
        }
        if self.money.is_gone() {
            self.set_back(Setback::AuthorizationLost);
        }
        if self.stage == Stage::Authorizing && self.money.status != MoneyStatus::Asked {
            self.stage = Stage::Securing;
        }
        if self.stage == Stage::Securing && self.stock.is_secured() {
            self.stage = Stage::Confirming;
        }
        match self.stage {
            Stage::Compensating(_) => self.money.settle(self.saga_id, 0, false, true),
            Stage::CarryingOut => self.carry_on(),
            Stage::Reserving | Stage::Authorizing | Stage::Securing | Stage::Confirming => {}
        }
    }

    fn carry_on(&mut self) {
        let money_lost = self.money.capture_failed || (self.money.is_gone() && self.money.wish != Wish::Void);
        self.life.called_off |= self.life.came_back || self.parcel == Parcel::Kept || money_lost;
        if self.parcel == Parcel::Unasked && !self.life.called_off {
            self.parcel = Parcel::Asked;
        }
        let is_planned = matches!(self.parcel, Parcel::Scheduled | Parcel::Dispatched | Parcel::Delivered);
        self.money.settle(self.saga_id, self.price_minor(), is_planned, self.life.called_off);
    }

    /// What the customer is to pay in the end, by what is known now: the pieces they keep, at the order's prices.
    pub fn price_minor(&self) -> i64 {
        match self.stage {
            Stage::Compensating(_) => return 0,
            Stage::Reserving | Stage::Authorizing | Stage::Securing | Stage::Confirming | Stage::CarryingOut => {}
        }
        if self.life.came_back || matches!(self.parcel, Parcel::Kept | Parcel::Lost) {
            return 0;
        }
        if self.life.returned.is_empty() {
            return self.total_minor;
        }
        let kept = self.order.lines.iter().map(|line| {
            let returned = self.life.returned.get(&line.product_id).copied().unwrap_or_default();
            // fewer pieces than the line has cost no more than the line, which was within bounds
            line.price_minor(line.quantity.saturating_sub(returned)).unwrap_or_default()
        });
        kept.sum()
    }

    /// Whether the pieces never leave the house.
    pub fn is_kept(&self) -> bool {
        match self.parcel {
            Parcel::Kept => true,
            Parcel::Unasked => self.life.called_off,
            Parcel::Asked | Parcel::Scheduled | Parcel::Dispatched | Parcel::Delivered | Parcel::Lost => false,
        }
    }

    /// Whether the pieces have left the house.
    pub fn has_left(&self) -> bool {
        match self.parcel {
            Parcel::Dispatched | Parcel::Delivered | Parcel::Lost => true,
            Parcel::Unasked | Parcel::Asked | Parcel::Scheduled | Parcel::Kept => false,
        }
    }
}

/// What the inventory service reports of a line. Shipped: this is a checkout of which an older copy was restored, and it goes the
/// same way again. Nothing: an operator saw to it that it is reserved.
fn is_reserved(report: Option<&Value>) -> bool {
    report.is_none_or(|reservation| reservation["status"] == "RESERVED" || reservation["status"] == "SHIPPED")
}
