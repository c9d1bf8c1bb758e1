//! What the payments service says of the money for an order.

use events::{
    ids::PaymentId,
    money::{AMOUNT_MINOR_MAX, Currency},
    payments::DeclineReason,
};
use serde::{Deserialize, Serialize};

use super::several::Several;

/// The facet of the payments service.
pub type PaymentFacet = Several<PaymentId, PaymentState>;

/// One payment, as its events tell it. Amounts are minor units of `currency`, times microseconds of Unix time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PaymentState {
    pub status: PaymentStatus,
    /// `None` for one that was given up before an amount was named.
    pub currency: Option<Currency>,
    pub authorized_minor: i64,
    pub captured_minor: i64,
    pub refunded_minor: i64,
    pub voided_minor: i64,
    pub expired_minor: i64,
    pub declined_reason: Option<DeclineReason>,
    /// The gateway's word for the last capture or refund that it refused, until one succeeds.
    pub failed_reason: Option<String>,
    /// When it was first heard of.
    pub begun_at_us: i64,
    pub authorized_at_us: Option<i64>,
    pub captured_at_us: Option<i64>,
    /// Until when the gateway holds what is authorized.
    pub expires_at_us: Option<i64>,
    pub updated_at_us: i64,
}

/// What holds of a payment, by what the gateway has confirmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum PaymentStatus {
    Requested,
    Authorized,
    Declined,
    Captured,
    Voided,
    Expired,
    /// Given up before it was asked for.
    Barred,
}

/// What was paid for an order. The amounts are sums over the payments in the order's currency.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderPayment {
    pub authorized_minor: i64,
    pub captured_minor: i64,
    pub refunded_minor: i64,
    pub voided_minor: i64,
    pub expired_minor: i64,
    /// How many payments there are, those that are not kept included.
    pub count: u32,
    /// Oldest first, never none.
    pub payments: Vec<PaymentRow>,
}

/// One of an order's payments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PaymentRow {
    pub payment_id: PaymentId,
    #[serde(flatten)]
    pub state: PaymentState,
}

impl PaymentState {
    /// One that is heard of for the first time.
    pub fn begun(status: PaymentStatus, currency: Option<Currency>, begun_at_us: i64) -> Self {
        Self {
            status,
            currency,
            authorized_minor: 0,
            captured_minor: 0,
            refunded_minor: 0,
            voided_minor: 0,
            expired_minor: 0,
            declined_reason: None,
            failed_reason: None,
            begun_at_us,
            authorized_at_us: None,
            captured_at_us: None,
            expires_at_us: None,
            updated_at_us: begun_at_us,
        }
    }
}

impl OrderPayment {
    /// Of an order in `currency`; `None` while there is no payment.
    pub fn of(facet: &PaymentFacet, currency: Currency) -> Option<Self> {
        let row = |(payment_id, state): (&PaymentId, &PaymentState)| PaymentRow {
            payment_id: *payment_id,
            state: state.clone(),
        };
        let mut payments: Vec<PaymentRow> = facet.kept.iter().map(row).collect();
        payments.sort_by_key(|payment| (payment.state.begun_at_us, payment.payment_id));
        payments.last()?;
        let sum = |amount_minor: fn(&PaymentState) -> i64| {
            let counted = payments.iter().filter(|payment| payment.state.currency == Some(currency));
            let sum = counted.fold(0_i64, |sum, payment| sum.saturating_add(amount_minor(&payment.state)));
            sum.min(AMOUNT_MINOR_MAX)
        };
        Some(Self {
            authorized_minor: sum(|payment| payment.authorized_minor),
            captured_minor: sum(|payment| payment.captured_minor),
            refunded_minor: sum(|payment| payment.refunded_minor),
            voided_minor: sum(|payment| payment.voided_minor),
            expired_minor: sum(|payment| payment.expired_minor),
            count: facet.count,
            payments,
        })
    }

    /// The payment that was begun last: the one whose status the order has.
    pub fn latest(&self) -> Option<&PaymentRow> {
        self.payments.last()
    }
}
