//! What the checkout publishes: how far it has come with an order. Ids, numbers and words; nothing that tells of a person.
//!
//! The events are those of any saga ([`crate::saga`]), with the steps and facts of this one.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    ids::{CustomerId, OrderId, ProductId, RefundId},
    money::{Currency, MoneyError, line_total_minor},
    orders::ReturnedLine,
    payments::DeclineReason,
    saga_events,
};

/// The name of the checkout: its source in vectors and tokens, and its place in URLs.
pub const SOURCE: &str = "checkout";

/// The aggregate type of a checkout's stream.
pub const CHECKOUT: &str = "checkout";

saga_events! {
    /// Everything that can be known to have happened to a checkout.
    pub enum CheckoutEvent of <CheckoutIds, CheckoutStep, CheckoutFact> {
        "CheckoutStarted" "1" => CheckoutStarted,
        "CheckoutAdvanced" "1" => CheckoutAdvanced,
        "CheckoutStuck" "1" => CheckoutStuck,
        "CheckoutDecided" "1" => CheckoutDecided,
        "CheckoutCompleted" "1" => CheckoutCompleted,
        "CheckoutCompensated" "1" => CheckoutCompensated,
    }
}

/// What others know a checkout by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckoutIds {
    pub order_id: OrderId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub customer_id: Option<CustomerId>,
}

/// What happened elsewhere, as far as a checkout cares: the event of the same name without what it does not need.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type")]
pub enum CheckoutFact {
    OrderPlaced(PlacedOrder),
    OrderCancelled {
        /// By us, since it could not be carried out.
        #[serde(default)]
        rejected: bool,
    },
    OrderReturned {
        lines: Vec<ReturnedLine>,
        complete: bool,
    },
    ReservationExpired {
        line: u32,
    },
    PaymentAuthorized,
    PaymentDeclined {
        reason: DeclineReason,
    },
    PaymentCaptured {
        amount_minor: i64,
    },
    CaptureFailed,
    /// Voided, or barred before it was asked for: nothing is held.
    PaymentVoided,
    PaymentExpired,
    PaymentRefunded {
        refund_id: RefundId,
        amount_minor: i64,
    },
    RefundFailed {
        refund_id: RefundId,
    },
    ShipmentDispatched,
    ShipmentDelivered,
    /// Cancelled, or withdrawn before it was scheduled: nothing will be sent.
    ShipmentCancelled,
    ShipmentLost,
}

/// An order as it was placed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlacedOrder {
    pub order_id: OrderId,
    pub customer_id: CustomerId,
    pub currency: Currency,
    pub lines: Vec<CheckoutLine>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payment_method: Option<String>,
}

/// One line of an order: what it takes from the stock and what it costs. Amounts are minor units of the order's currency.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckoutLine {
    pub product_id: ProductId,
    pub quantity: u32,
    pub unit_minor: i64,
    #[serde(default)]
    pub discount_bp: u16,
}

impl CheckoutLine {
    /// What `quantity` of its pieces cost, rounded as the order's line is.
    pub fn price_minor(&self, quantity: u32) -> Result<i64, MoneyError> {
        line_total_minor(self.unit_minor, quantity, self.discount_bp)
    }
}

/// What a checkout asks of a service. Lines and refunds are counted from 0. As text: `reserve/0`, `confirm`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum CheckoutStep {
    /// Hold the pieces of a line, for a while.
    Reserve(u32),
    /// Hold the money.
    Authorize,
    /// Hold the pieces of a line for good.
    Secure(u32),
    /// Say that stock and money are settled.
    Confirm,
    /// Plan the shipment.
    Schedule,
    /// Take the money.
    Capture,
    /// The pieces of a line have left the house.
    Ship(u32),
    MarkShipped,
    MarkDelivered,
    /// Let the pieces of a line go.
    Release(u32),
    /// Give back what money is held, and bar what was never asked for.
    Void,
    /// Call the order off.
    Reject,
    /// Keep the shipment here.
    Stop,
    /// Pay back what is owed.
    Refund(u32),
    /// Say that the order comes back as a whole.
    Return,
}

impl CheckoutStep {
    /// Its word, and its number if there are several of it.
    fn parts(self) -> (&'static str, Option<u32>) {
        match self {
            Self::Reserve(line) => ("reserve", Some(line)),
            Self::Authorize => ("authorize", None),
            Self::Secure(line) => ("secure", Some(line)),
            Self::Confirm => ("confirm", None),
            Self::Schedule => ("schedule", None),
            Self::Capture => ("capture", None),
            Self::Ship(line) => ("ship", Some(line)),
            Self::MarkShipped => ("mark_shipped", None),
            Self::MarkDelivered => ("mark_delivered", None),
            Self::Release(line) => ("release", Some(line)),
            Self::Void => ("void", None),
            Self::Reject => ("reject", None),
            Self::Stop => ("stop", None),
            Self::Refund(n) => ("refund", Some(n)),
            Self::Return => ("return", None),
        }
    }

    /// One of each, those of which there are several with number `n`.
    pub fn each(n: u32) -> [Self; 15] {
        [
            Self::Reserve(n),
            Self::Authorize,
            Self::Secure(n),
            Self::Confirm,
            Self::Schedule,
            Self::Capture,
            Self::Ship(n),
            Self::MarkShipped,
            Self::MarkDelivered,
            Self::Release(n),
            Self::Void,
            Self::Reject,
            Self::Stop,
            Self::Refund(n),
            Self::Return,
        ]
    }

    /// Its word without a number: `reserve`.
    pub fn word(self) -> &'static str {
        self.parts().0
    }
}

impl fmt::Display for CheckoutStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.parts() {
            (word, Some(number)) => write!(f, "{word}/{number}"),
            (word, None) => f.write_str(word),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a checkout has no such step; it has steps such as confirm and reserve/0")]
pub struct UnknownStep;

impl FromStr for CheckoutStep {
    type Err = UnknownStep;

    fn from_str(text: &str) -> Result<Self, UnknownStep> {
        let (word, number) = match text.split_once('/') {
            Some((word, number)) => (word, Some(number.parse().map_err(|_| UnknownStep)?)),
            None => (text, None),
        };
        let all = Self::each(number.unwrap_or_default());
        all.into_iter().find(|step| step.parts() == (word, number)).ok_or(UnknownStep)
    }
}

impl TryFrom<String> for CheckoutStep {
    type Error = UnknownStep;

    fn try_from(text: String) -> Result<Self, UnknownStep> {
        text.parse()
    }
}

impl From<CheckoutStep> for String {
    fn from(step: CheckoutStep) -> Self {
        step.to_string()
    }
}

/// Why a checkout undid what it had done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Setback {
    /// A line found fewer pieces than it wanted.
    OutOfStock,
    /// Pieces that were held are held no more.
    ReservationLost,
    PaymentDeclined,
    /// The gateway did not answer, time after time.
    PaymentUnanswered,
    /// Money that was held is held no more.
    AuthorizationLost,
    CustomerCancelled,
    DeadlinePassed,
    /// A service refuses a step for a reason that nobody foresaw.
    Refused,
}

impl Setback {
    /// What the customer is told.
    pub fn as_sentence(self) -> &'static str {
        match self {
            Self::OutOfStock => "out of stock",
            Self::ReservationLost => "the reservation ran out",
            Self::PaymentDeclined => "the payment was declined",
            Self::PaymentUnanswered => "the payment could not be made in time",
            Self::AuthorizationLost => "the payment was given back",
            Self::CustomerCancelled => "the customer cancelled",
            Self::DeadlinePassed => "the checkout took too long",
            Self::Refused => "the order could not be carried out",
        }
    }
}

impl fmt::Display for Setback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OutOfStock => "OUT_OF_STOCK",
            Self::ReservationLost => "RESERVATION_LOST",
            Self::PaymentDeclined => "PAYMENT_DECLINED",
            Self::PaymentUnanswered => "PAYMENT_UNANSWERED",
            Self::AuthorizationLost => "AUTHORIZATION_LOST",
            Self::CustomerCancelled => "CUSTOMER_CANCELLED",
            Self::DeadlinePassed => "DEADLINE_PASSED",
            Self::Refused => "REFUSED",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_reads_as_it_is_written() {
        for (step, text) in [
            (CheckoutStep::Reserve(0), "reserve/0"),
            (CheckoutStep::Refund(12), "refund/12"),
            (CheckoutStep::MarkShipped, "mark_shipped"),
        ] {
            assert_eq!(step.to_string(), text);
            assert_eq!(text.parse(), Ok(step));
        }
        for wrong in ["", "reserve", "confirm/0", "reserve/", "reserve/-1", "Confirm", "pay"] {
            assert_eq!(wrong.parse::<CheckoutStep>(), Err(UnknownStep), "{wrong}");
        }
    }
}
