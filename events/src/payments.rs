//! What the payments service publishes. Every event carries its `order_id`: whoever looks at an order looks by it.
//!
//! What the gateway has to do comes in two: an intent (`...Requested`), and what became of it.

use std::{fmt, str::FromStr};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use uuid::Uuid;

use crate::{
    ids::{OrderId, PaymentId, RefundId},
    money::Money,
    published::published,
};

/// The name of the payments service: its source in vectors and tokens, and its place in URLs.
pub const SOURCE: &str = "payments";

/// The aggregate type of a payment's stream.
pub const PAYMENT: &str = "payment";

published! {
    /// Everything that can be known to have happened to a payment.
    pub enum PaymentEvent {
        "AuthorizationRequested" "1" => AuthorizationRequested,
        "PaymentAuthorized" "1" => PaymentAuthorized,
        "PaymentDeclined" "1" => PaymentDeclined,
        "CaptureRequested" "1" => CaptureRequested,
        "PaymentCaptured" "1" => PaymentCaptured,
        "CaptureFailed" "1" => CaptureFailed,
        "VoidRequested" "1" => VoidRequested,
        "PaymentVoided" "1" => PaymentVoided,
        "PaymentBarred" "1" => PaymentBarred,
        "RefundRequested" "1" => RefundRequested,
        "PaymentRefunded" "1" => PaymentRefunded,
        "RefundFailed" "1" => RefundFailed,
        "PaymentExpired" "1" => PaymentExpired,
    }
}

/// Somebody wants `amount` held for an order. The gateway is to be asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AuthorizationRequested {
    pub payment_id: PaymentId,
    pub order_id: OrderId,
    pub amount: Money,
    pub payment_method: PaymentMethod,
    pub requested_at: DateTime<Utc>,
}

/// The gateway holds the amount until `expires_at`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PaymentAuthorized {
    pub payment_id: PaymentId,
    pub order_id: OrderId,
    pub amount: Money,
    /// Under which the gateway knows it.
    pub gateway_reference: String,
    pub expires_at: DateTime<Utc>,
}

/// Nothing is held, and nothing will be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PaymentDeclined {
    pub payment_id: PaymentId,
    pub order_id: OrderId,
    pub amount: Money,
    pub reason: DeclineReason,
}

/// `amount` of what is held is to be taken; what is left of it is given back with that.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CaptureRequested {
    pub payment_id: PaymentId,
    pub order_id: OrderId,
    pub amount: Money,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PaymentCaptured {
    pub payment_id: PaymentId,
    pub order_id: OrderId,
    pub amount: Money,
}

/// The gateway says no: the amount is held as before.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CaptureFailed {
    pub payment_id: PaymentId,
    pub order_id: OrderId,
    pub amount: Money,
    /// The gateway's word for it.
    pub reason: String,
}

/// What is held, or may be, is to be given back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VoidRequested {
    pub payment_id: PaymentId,
    pub order_id: OrderId,
}

/// `amount` is held no more; it was never taken.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PaymentVoided {
    pub payment_id: PaymentId,
    pub order_id: OrderId,
    pub amount: Money,
}

/// A void came before there was anything to void: whoever asks for the authorization later is refused.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PaymentBarred {
    pub payment_id: PaymentId,
    pub order_id: OrderId,
}

/// `amount` of what was taken is to be paid back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RefundRequested {
    pub payment_id: PaymentId,
    pub order_id: OrderId,
    pub refund_id: RefundId,
    pub amount: Money,
    pub reason: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PaymentRefunded {
    pub payment_id: PaymentId,
    pub order_id: OrderId,
    pub refund_id: RefundId,
    pub amount: Money,
}

/// The gateway says no: the amount is still ours.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RefundFailed {
    pub payment_id: PaymentId,
    pub order_id: OrderId,
    pub refund_id: RefundId,
    pub amount: Money,
    /// The gateway's word for it.
    pub reason: String,
}

/// Nobody took the amount in time: it is held no more.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PaymentExpired {
    pub payment_id: PaymentId,
    pub order_id: OrderId,
    pub amount: Money,
}

/// Why nothing is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum DeclineReason {
    /// The issuer says no and not why.
    Declined,
    InsufficientFunds,
    /// The gateway did not answer, time after time.
    GatewayTimeout,
}

/// The most characters of a payment method's token.
pub const PAYMENT_METHOD_CHARS_MAX: usize = 64;

/// How many digits in a row are taken for a card number: the shortest in use has 12.
pub const CARD_NUMBER_DIGITS_MIN: usize = 12;

/// A token that stands for a way to pay: `pm_` and letters, digits and underscores. Who turned it into a token knows the
/// card; nothing here ever does, so what looks like a card number is refused, and never repeated.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PaymentMethod(String);

impl PaymentMethod {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for PaymentMethod {
    type Err = PaymentMethodError;

    fn from_str(text: &str) -> Result<Self, PaymentMethodError> {
        if holds_card_number(text) {
            return Err(PaymentMethodError::CardNumber);
        }
        let token = text.strip_prefix("pm_").filter(|token| !token.is_empty());
        let fine = |token: &str| token.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        match token {
            Some(token) if fine(token) && text.len() <= PAYMENT_METHOD_CHARS_MAX => Ok(Self(text.to_owned())),
            Some(_) | None => Err(PaymentMethodError::Format),
        }
    }
}

/// Whether `text` has so many digits in a row that they may be a card's, be they grouped by spaces, dashes, dots or
/// underscores. Ids of ours are none, however many digits they have: a reason often names an order.
pub fn holds_card_number(text: &str) -> bool {
    const ID_CHARS: usize = 36;
    let (mut digits, mut rest) = (0, text);
    while let Some(char) = rest.chars().next() {
        if rest.get(..ID_CHARS).is_some_and(|id| Uuid::parse_str(id).is_ok()) {
            digits = 0;
            rest = &rest[ID_CHARS..];
            continue;
        }
        digits = match char {
            char if char.is_numeric() => digits + 1,
            ' ' | '-' | '_' | '.' | '\u{a0}' => digits,
            _ => 0,
        };
        if digits >= CARD_NUMBER_DIGITS_MIN {
            return true;
        }
        rest = &rest[char.len_utf8()..];
    }
    false
}

impl TryFrom<String> for PaymentMethod {
    type Error = PaymentMethodError;

    fn try_from(text: String) -> Result<Self, PaymentMethodError> {
        text.parse()
    }
}

impl From<PaymentMethod> for String {
    fn from(method: PaymentMethod) -> Self {
        method.0
    }
}

impl fmt::Display for PaymentMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for PaymentMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What keeps a text from being a payment method. Never says the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum PaymentMethodError {
    #[error(
        "a payment method is a token such as pm_approve: pm_ and then letters, digits and underscores, at most \
         {PAYMENT_METHOD_CHARS_MAX} characters"
    )]
    Format,
    #[error("this looks like a card number, and must not be sent here: send the token that stands for the card")]
    CardNumber,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payment_method_is_a_token() {
        for fine in ["pm_approve", "pm_timeout_then_approve", "pm_1NtX3o2eZvKYlo2C", "pm_12345678901"] {
            assert_eq!(fine.parse::<PaymentMethod>().unwrap().as_str(), fine);
        }
        let long = format!("pm_{}", "x".repeat(62));
        for wrong in ["", "pm_", "approve", "pm_a b", "pm_é", "pm-approve", "PM_approve", &long] {
            assert_eq!(wrong.parse::<PaymentMethod>(), Err(PaymentMethodError::Format), "{wrong}");
        }
    }

    #[test]
    fn a_card_number_is_refused_and_not_repeated() {
        for card in
            ["4242424242424242", "pm_4242424242424242", "pm_4242_4242_4242", "4242 4242-4242.4242", "٤٢٤٢٤٢٤٢٤٢٤٢"]
        {
            let refused = card.parse::<PaymentMethod>().unwrap_err();
            assert_eq!(refused, PaymentMethodError::CardNumber);
            assert!(!refused.to_string().contains("42"));
            assert!(serde_json::from_str::<PaymentMethod>(&format!("\"{card}\"")).is_err());
        }
        assert!(!holds_card_number("order 10248 of 1996-07-04, 2 of 3"));
        assert!(!holds_card_number(
            "instead of 0198c0de-0000-7000-8000-000000000021, 0198c0de-0000-7000-8000-000000000022"
        ));
        assert!(holds_card_number("0198c0de-0000-7000-8000-000000000021 by 4242 4242 4242 4242"));
    }
}
