//! A payment: one amount that is held for an order, and then taken, given back or left to expire.
//!
//! Why: money moves at a gateway that may answer late, twice or never, so what we want of it (an intent) and what became
//! of that (a result) are facts of their own. Invariants:
//! - authorized once; the same authorization again changes nothing, another one under that id is refused;
//! - captured once and at most what is authorized; what a capture leaves is given back with it. Voided only before that;
//! - refunded in parts, together at most what was captured; each refund is known by an id of its own;
//! - at rest: authorized = captured + voided + expired;
//! - a void of what is not there bars it: an authorization that was sent before and arrives after is refused.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use cqrs_es::{Aggregate, event_sink::EventSink};
use event_store::bus::{Domain, Refusal};
use events::{
    ids::{OrderId, PaymentId, RefundId},
    money::{Currency, Money},
    payments::{
        AuthorizationRequested, CaptureFailed, CaptureRequested, DeclineReason, PAYMENT, PaymentAuthorized,
        PaymentBarred, PaymentCaptured, PaymentDeclined, PaymentEvent, PaymentExpired, PaymentRefunded, PaymentVoided,
        RefundFailed, RefundRequested, VoidRequested,
    },
};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The most refunds of one payment: each is kept with it for good.
pub const REFUNDS_MAX: usize = 100;

/// What a payment can be asked, by clients and by the reactor that speaks to the gateway.
#[derive(Debug, Clone, PartialEq)]
pub enum PaymentCommand {
    /// Asks the gateway to hold the amount.
    Authorize(AuthorizationRequested),
    /// Takes `amount` of what is held; `None` = all of it.
    Capture { amount: Option<Money> },
    /// Gives back what is held. With the order's id it also bars what is not there yet.
    Void { payment_id: PaymentId, order_id: Option<OrderId> },
    /// Pays back part of what was taken.
    Refund { refund_id: RefundId, amount: Money, reason: String },
    /// What the gateway said, or its silence.
    Settle(Settlement),
    /// Ends the authorization, if its time has come.
    Expire { now: DateTime<Utc> },
}

/// What became of an intent. One that was settled already stays as it was: the gateway may answer twice.
#[derive(Debug, Clone, PartialEq)]
pub enum Settlement {
    Authorized {
        gateway_reference: String,
        expires_at: DateTime<Utc>,
    },
    Declined {
        reason: DeclineReason,
    },
    /// The gateway did not answer in the end. It may hold the amount all the same, so that is given back.
    Unanswered,
    Captured,
    CaptureFailed {
        reason: String,
    },
    Voided,
    Refunded {
        refund_id: RefundId,
    },
    RefundFailed {
        refund_id: RefundId,
        reason: String,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PaymentError {
    #[error("there is no such payment")]
    NotFound,
    #[error("payment {0} is there already, with other data")]
    Exists(PaymentId),
    #[error("payment {0} was voided before it was asked for")]
    Barred(PaymentId),
    #[error("payment {0} is for order {1}")]
    OtherOrder(PaymentId, OrderId),
    #[error("an amount must be at least 1 minor unit")]
    AmountZero,
    #[error("payment {0} is in {1}, not in {2}")]
    OtherCurrency(PaymentId, Currency, Currency),
    #[error("payment {0} is {1}: nothing is held that could be captured")]
    NotAuthorized(PaymentId, PaymentStatus),
    #[error("payment {0} is being voided")]
    BeingVoided(PaymentId),
    #[error("payment {0} is being captured")]
    BeingCaptured(PaymentId),
    #[error("payment {payment_id} was captured already, {captured_minor} minor units of it")]
    AlreadyCaptured { payment_id: PaymentId, captured_minor: i64 },
    #[error("{amount_minor} minor units are to be captured; {authorized_minor} are authorized")]
    CaptureTooLarge { amount_minor: i64, authorized_minor: i64 },
    #[error("payment {0} is {1}: nothing was captured that could be refunded")]
    NotCaptured(PaymentId, PaymentStatus),
    #[error("refund {0} is there already, with other data")]
    RefundExists(RefundId),
    #[error(
        "{amount_minor} minor units are to be refunded; {left_minor} of {captured_minor} captured are left to refund"
    )]
    RefundTooLarge { amount_minor: i64, left_minor: i64, captured_minor: i64 },
    #[error("payment {0} has {REFUNDS_MAX} refunds already, the most there can be")]
    TooManyRefunds(PaymentId),
}

/// Where a payment stands.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub enum Payment {
    #[default]
    Absent,
    Barred(PaymentBarred),
    Known(Box<KnownPayment>),
}

/// What is known of a payment. All amounts are minor units of the currency of `requested`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KnownPayment {
    pub requested: AuthorizationRequested,
    pub status: PaymentStatus,
    pub gateway_reference: Option<String>,
    pub expires_at: Option<DateTime<Utc>>,
    pub declined_because: Option<DeclineReason>,
    pub authorized_minor: i64,
    pub captured_minor: i64,
    pub voided_minor: i64,
    pub expired_minor: i64,
    pub refunded_minor: i64,
    /// What the gateway has been asked to take, and has not answered.
    pub capturing_minor: Option<i64>,
    /// The gateway has been asked to give back what it holds, and has not answered.
    pub voiding: bool,
    pub refunds: BTreeMap<RefundId, Refund>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Refund {
    pub amount_minor: i64,
    pub reason: String,
    pub status: RefundStatus,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum RefundStatus {
    Requested,
    Refunded,
    Failed,
}

/// What holds of the amount, by what the gateway has confirmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum PaymentStatus {
    Requested,
    Authorized,
    Declined,
    Captured,
    Voided,
    Expired,
}

impl std::fmt::Display for PaymentStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Requested => "REQUESTED",
            Self::Authorized => "AUTHORIZED",
            Self::Declined => "DECLINED",
            Self::Captured => "CAPTURED",
            Self::Voided => "VOIDED",
            Self::Expired => "EXPIRED",
        })
    }
}

type Decision = Result<Vec<PaymentEvent>, PaymentError>;

impl Payment {
    /// What follows from `command` here. Nothing when it is already so.
    pub fn decide(&self, command: PaymentCommand) -> Decision {
        match (self, command) {
            (_, PaymentCommand::Authorize(asked)) if asked.amount.amount_minor < 1 => Err(PaymentError::AmountZero),
            (Self::Absent, PaymentCommand::Authorize(asked)) => Ok(vec![asked.into()]),
            (Self::Absent, PaymentCommand::Void { payment_id, order_id: Some(order_id) }) => {
                Ok(vec![PaymentBarred { payment_id, order_id }.into()])
            }
            (Self::Absent, _) => Err(PaymentError::NotFound),
            (Self::Barred(barred), PaymentCommand::Void { order_id, .. }) => {
                check_order(barred.payment_id, barred.order_id, order_id).map(|()| vec![])
            }
            (Self::Barred(barred), _) => Err(PaymentError::Barred(barred.payment_id)),
            (Self::Known(payment), command) => payment.decide(command),
        }
    }

    fn known_mut(&mut self) -> Option<&mut KnownPayment> {
        match self {
            Self::Known(payment) => Some(payment),
            Self::Absent | Self::Barred(_) => None,
        }
    }
}

fn check_order(payment_id: PaymentId, order_id: OrderId, said: Option<OrderId>) -> Result<(), PaymentError> {
    match said {
        Some(said) if said != order_id => Err(PaymentError::OtherOrder(payment_id, order_id)),
        Some(_) | None => Ok(()),
    }
}

impl KnownPayment {
    pub fn id(&self) -> PaymentId {
        self.requested.payment_id
    }

    pub fn order_id(&self) -> OrderId {
        self.requested.order_id
    }

    pub fn money(&self, amount_minor: i64) -> Money {
        Money::new(amount_minor, self.requested.amount.currency)
    }

    /// Held and neither taken nor given back.
    pub fn held_minor(&self) -> i64 {
        self.authorized_minor - self.captured_minor - self.voided_minor - self.expired_minor
    }

    /// Taken and neither paid back nor about to be.
    pub fn refundable_minor(&self) -> i64 {
        let open = self.refunds.values().filter(|refund| refund.status == RefundStatus::Requested);
        self.captured_minor - self.refunded_minor - open.map(|refund| refund.amount_minor).sum::<i64>()
    }

    fn decide(&self, command: PaymentCommand) -> Decision {
        match command {
            PaymentCommand::Authorize(asked) => {
                // asked again later, it is the same all the same
                let asked = AuthorizationRequested { requested_at: self.requested.requested_at, ..asked };
                if asked == self.requested { Ok(vec![]) } else { Err(PaymentError::Exists(self.id())) }
            }
            PaymentCommand::Capture { amount } => self.capture(amount),
            PaymentCommand::Void { order_id, .. } => {
                check_order(self.id(), self.order_id(), order_id)?;
                self.void()
            }
            PaymentCommand::Refund { refund_id, amount, reason } => self.refund(refund_id, amount, reason),
            PaymentCommand::Settle(settlement) => Ok(self.settle(settlement)),
            PaymentCommand::Expire { now } => Ok(self.expire(now)),
        }
    }

    fn check_amount(&self, amount: Money) -> Result<i64, PaymentError> {
        let currency = self.requested.amount.currency;
        if amount.currency != currency {
            return Err(PaymentError::OtherCurrency(self.id(), currency, amount.currency));
        }
        if amount.amount_minor < 1 { Err(PaymentError::AmountZero) } else { Ok(amount.amount_minor) }
    }

    fn capture(&self, amount: Option<Money>) -> Decision {
        let payment_id = self.id();
        let amount_minor = amount.map_or(Ok(self.requested.amount.amount_minor), |amount| self.check_amount(amount))?;
        match (self.status, self.capturing_minor) {
            (PaymentStatus::Captured, _) if self.captured_minor == amount_minor => Ok(vec![]),
            (PaymentStatus::Captured, _) => {
                Err(PaymentError::AlreadyCaptured { payment_id, captured_minor: self.captured_minor })
            }
            (PaymentStatus::Authorized, _) if self.voiding => Err(PaymentError::BeingVoided(payment_id)),
            (PaymentStatus::Authorized, Some(under_way)) if under_way == amount_minor => Ok(vec![]),
            (PaymentStatus::Authorized, Some(_)) => Err(PaymentError::BeingCaptured(payment_id)),
            (PaymentStatus::Authorized, None) if amount_minor > self.authorized_minor => {
                Err(PaymentError::CaptureTooLarge { amount_minor, authorized_minor: self.authorized_minor })
            }
            (PaymentStatus::Authorized, None) => {
                let (order_id, amount) = (self.order_id(), self.money(amount_minor));
                Ok(vec![CaptureRequested { payment_id, order_id, amount }.into()])
            }
            (
                status @ (PaymentStatus::Requested
                | PaymentStatus::Declined
                | PaymentStatus::Voided
                | PaymentStatus::Expired),
                _,
            ) => Err(PaymentError::NotAuthorized(payment_id, status)),
        }
    }

    fn void(&self) -> Decision {
        let (payment_id, order_id) = (self.id(), self.order_id());
        match self.status {
            PaymentStatus::Captured => {
                Err(PaymentError::AlreadyCaptured { payment_id, captured_minor: self.captured_minor })
            }
            PaymentStatus::Declined | PaymentStatus::Voided | PaymentStatus::Expired => Ok(vec![]),
            PaymentStatus::Requested | PaymentStatus::Authorized if self.voiding => Ok(vec![]),
            PaymentStatus::Requested | PaymentStatus::Authorized if self.capturing_minor.is_some() => {
                Err(PaymentError::BeingCaptured(payment_id))
            }
            PaymentStatus::Requested | PaymentStatus::Authorized => {
                Ok(vec![VoidRequested { payment_id, order_id }.into()])
            }
        }
    }

    fn refund(&self, refund_id: RefundId, amount: Money, reason: String) -> Decision {
        let (payment_id, order_id) = (self.id(), self.order_id());
        let amount_minor = self.check_amount(amount)?;
        match self.refunds.get(&refund_id) {
            Some(known) if known.amount_minor == amount_minor && known.reason == reason => return Ok(vec![]),
            Some(_) => return Err(PaymentError::RefundExists(refund_id)),
            None => {}
        }
        if self.status != PaymentStatus::Captured {
            return Err(PaymentError::NotCaptured(payment_id, self.status));
        }
        let (left_minor, captured_minor) = (self.refundable_minor(), self.captured_minor);
        if amount_minor > left_minor {
            return Err(PaymentError::RefundTooLarge { amount_minor, left_minor, captured_minor });
        }
        if self.refunds.len() >= REFUNDS_MAX {
            return Err(PaymentError::TooManyRefunds(payment_id));
        }
        Ok(vec![RefundRequested { payment_id, order_id, refund_id, amount, reason }.into()])
    }

    fn settle(&self, settlement: Settlement) -> Vec<PaymentEvent> {
        let (payment_id, order_id) = (self.id(), self.order_id());
        let is_requested = self.status == PaymentStatus::Requested;
        let open_refund = |refund_id: &RefundId| {
            let refund = self.refunds.get(refund_id).filter(|refund| refund.status == RefundStatus::Requested);
            refund.map(|refund| self.money(refund.amount_minor))
        };
        match settlement {
            Settlement::Authorized { gateway_reference, expires_at } if is_requested => {
                let amount = self.requested.amount;
                vec![PaymentAuthorized { payment_id, order_id, amount, gateway_reference, expires_at }.into()]
            }
            Settlement::Declined { reason } if is_requested => vec![self.declined(reason)],
            Settlement::Unanswered if is_requested && self.voiding => vec![],
            Settlement::Unanswered if is_requested => {
                vec![self.declined(DeclineReason::GatewayTimeout), VoidRequested { payment_id, order_id }.into()]
            }
            Settlement::Authorized { .. } | Settlement::Declined { .. } | Settlement::Unanswered => vec![],
            Settlement::Captured => {
                let Some(captured_minor) = self.capturing_minor else { return vec![] };
                let captured = PaymentCaptured { payment_id, order_id, amount: self.money(captured_minor) };
                let left_minor = self.held_minor() - captured_minor;
                let left = PaymentVoided { payment_id, order_id, amount: self.money(left_minor) };
                if left_minor > 0 { vec![captured.into(), left.into()] } else { vec![captured.into()] }
            }
            Settlement::CaptureFailed { reason } => {
                let amount = self.capturing_minor.map(|amount_minor| self.money(amount_minor));
                let failed = amount.map(|amount| CaptureFailed { payment_id, order_id, amount, reason }.into());
                failed.into_iter().collect()
            }
            Settlement::Voided if self.voiding => {
                vec![PaymentVoided { payment_id, order_id, amount: self.money(self.held_minor()) }.into()]
            }
            Settlement::Voided => vec![],
            Settlement::Refunded { refund_id } => {
                let refunded = |amount| PaymentRefunded { payment_id, order_id, refund_id, amount }.into();
                open_refund(&refund_id).map(refunded).into_iter().collect()
            }
            Settlement::RefundFailed { refund_id, reason } => {
                let failed = |amount| RefundFailed { payment_id, order_id, refund_id, amount, reason }.into();
                open_refund(&refund_id).map(failed).into_iter().collect()
            }
        }
    }

    fn declined(&self, reason: DeclineReason) -> PaymentEvent {
        let (payment_id, order_id, amount) = (self.id(), self.order_id(), self.requested.amount);
        PaymentDeclined { payment_id, order_id, amount, reason }.into()
    }

    /// What is under way at the gateway is waited for.
    fn expire(&self, now: DateTime<Utc>) -> Vec<PaymentEvent> {
        let is_held = self.status == PaymentStatus::Authorized && !self.voiding && self.capturing_minor.is_none();
        if !is_held || self.expires_at.is_none_or(|expires_at| now < expires_at) {
            return vec![];
        }
        let (payment_id, order_id, amount) = (self.id(), self.order_id(), self.money(self.held_minor()));
        vec![PaymentExpired { payment_id, order_id, amount }.into()]
    }

    fn apply(&mut self, event: PaymentEvent) {
        match event {
            // how it began: [`Payment`] folds them
            PaymentEvent::AuthorizationRequested(_) | PaymentEvent::PaymentBarred(_) => {}
            PaymentEvent::PaymentAuthorized(authorized) => {
                self.status = PaymentStatus::Authorized;
                self.authorized_minor = authorized.amount.amount_minor;
                self.gateway_reference = Some(authorized.gateway_reference);
                self.expires_at = Some(authorized.expires_at);
            }
            PaymentEvent::PaymentDeclined(declined) => {
                self.status = PaymentStatus::Declined;
                self.declined_because = Some(declined.reason);
            }
            PaymentEvent::CaptureRequested(requested) => self.capturing_minor = Some(requested.amount.amount_minor),
            PaymentEvent::PaymentCaptured(captured) => {
                self.status = PaymentStatus::Captured;
                self.capturing_minor = None;
                self.captured_minor += captured.amount.amount_minor;
            }
            PaymentEvent::CaptureFailed(_) => self.capturing_minor = None,
            PaymentEvent::VoidRequested(_) => self.voiding = true,
            PaymentEvent::PaymentVoided(voided) => {
                self.voiding = false;
                self.voided_minor += voided.amount.amount_minor;
                if matches!(self.status, PaymentStatus::Requested | PaymentStatus::Authorized) {
                    self.status = PaymentStatus::Voided;
                }
            }
            PaymentEvent::RefundRequested(RefundRequested { refund_id, amount, reason, .. }) => {
                let refund = Refund { amount_minor: amount.amount_minor, reason, status: RefundStatus::Requested };
                self.refunds.insert(refund_id, refund);
            }
            PaymentEvent::PaymentRefunded(refunded) => {
                self.refunded_minor += refunded.amount.amount_minor;
                self.end_refund(refunded.refund_id, RefundStatus::Refunded);
            }
            PaymentEvent::RefundFailed(failed) => self.end_refund(failed.refund_id, RefundStatus::Failed),
            PaymentEvent::PaymentExpired(expired) => {
                self.status = PaymentStatus::Expired;
                self.expired_minor += expired.amount.amount_minor;
            }
        }
    }

    fn end_refund(&mut self, refund_id: RefundId, status: RefundStatus) {
        if let Some(refund) = self.refunds.get_mut(&refund_id) {
            refund.status = status;
        }
    }
}

impl From<AuthorizationRequested> for KnownPayment {
    fn from(requested: AuthorizationRequested) -> Self {
        Self {
            requested,
            status: PaymentStatus::Requested,
            gateway_reference: None,
            expires_at: None,
            declined_because: None,
            authorized_minor: 0,
            captured_minor: 0,
            voided_minor: 0,
            expired_minor: 0,
            refunded_minor: 0,
            capturing_minor: None,
            voiding: false,
            refunds: BTreeMap::new(),
        }
    }
}

impl Aggregate for Payment {
    const TYPE: &'static str = PAYMENT;
    type Command = PaymentCommand;
    type Event = PaymentEvent;
    type Error = PaymentError;
    type Services = ();

    async fn handle(&mut self, command: PaymentCommand, (): &(), sink: &EventSink<Self>) -> Result<(), PaymentError> {
        for event in self.decide(command)? {
            sink.write(event, self).await;
        }
        Ok(())
    }

    fn apply(&mut self, event: PaymentEvent) {
        match (event, self.known_mut()) {
            (PaymentEvent::AuthorizationRequested(requested), _) => *self = Self::Known(Box::new(requested.into())),
            (PaymentEvent::PaymentBarred(barred), _) => *self = Self::Barred(barred),
            (event, Some(payment)) => payment.apply(event),
            (_, None) => {}
        }
    }
}

impl Domain for Payment {
    fn creates(command: &PaymentCommand) -> bool {
        matches!(command, PaymentCommand::Authorize(_))
    }

    fn refusal(error: &PaymentError) -> Refusal {
        let detail = error.to_string();
        let of = |code: &'static str, payment_id: &PaymentId| {
            Refusal::new(code, detail.clone()).with("payment_id", payment_id.to_string())
        };
        match error {
            PaymentError::NotFound => Refusal::new("payment_not_found", detail),
            PaymentError::Exists(payment_id) => of("payment_exists", payment_id),
            PaymentError::Barred(payment_id) => of("payment_barred", payment_id),
            PaymentError::OtherOrder(payment_id, order_id) => {
                of("payment_of_another_order", payment_id).with("order_id", order_id.to_string())
            }
            PaymentError::AmountZero => Refusal::new("amount_out_of_range", detail),
            PaymentError::OtherCurrency(payment_id, currency, _) => {
                of("wrong_currency", payment_id).with("currency", currency.as_str())
            }
            PaymentError::NotAuthorized(payment_id, status) => {
                of("payment_not_authorized", payment_id).with("payment_status", status.to_string())
            }
            PaymentError::BeingVoided(payment_id) => of("payment_being_voided", payment_id),
            PaymentError::BeingCaptured(payment_id) => of("payment_being_captured", payment_id),
            PaymentError::AlreadyCaptured { payment_id, captured_minor } => {
                of("payment_already_captured", payment_id).with("captured_minor", *captured_minor)
            }
            PaymentError::CaptureTooLarge { amount_minor, authorized_minor } => {
                Refusal::new("capture_too_large", detail)
                    .with("amount_minor", *amount_minor)
                    .with("authorized_minor", *authorized_minor)
            }
            PaymentError::NotCaptured(payment_id, status) => {
                of("payment_not_captured", payment_id).with("payment_status", status.to_string())
            }
            PaymentError::RefundExists(refund_id) => {
                Refusal::new("refund_exists", detail).with("refund_id", refund_id.to_string())
            }
            PaymentError::RefundTooLarge { amount_minor, left_minor, captured_minor } => {
                Refusal::new("refund_too_large", detail)
                    .with("amount_minor", *amount_minor)
                    .with("left_minor", *left_minor)
                    .with("captured_minor", *captured_minor)
            }
            PaymentError::TooManyRefunds(payment_id) => {
                of("too_many_refunds", payment_id).with("refunds_max", REFUNDS_MAX)
            }
        }
    }
}

#[cfg(test)]
#[path = "payment_tests.rs"]
mod tests;
