//! The money for an order, as the gateway has confirmed it.

use async_graphql::{Enum, ID, SimpleObject};
use chrono::{DateTime, Utc};
use events::money::Currency;
use read_side::order_details::payment::{self, PaymentRow, PaymentState};

use crate::schema::{
    money::{Money, SafeInt},
    time::{NoTime, maybe_time, time},
};

/// What was paid for an order. Amounts are sums over its payments in the order's currency.
#[derive(Debug, SimpleObject)]
pub(crate) struct OrderPayment {
    /// Where the payment stands that was begun last.
    status: PaymentStatus,
    /// What the gateway has agreed to hold.
    authorized: Money,
    /// What was taken of it.
    captured: Money,
    /// What was paid back of what was taken.
    refunded: Money,
    /// What was given back without having been taken.
    voided: Money,
    /// What was held and nobody took in time.
    expired: Money,
    /// Why the gateway holds nothing of the payment that was begun last; null if it was not declined.
    declined_reason: Option<DeclineReason>,
    /// When the payments service last recorded something of any of them.
    updated_at: DateTime<Utc>,
    /// How many payments there are.
    count: SafeInt,
    /// The payments, oldest first: the first 100 that were begun.
    payments: Vec<Payment>,
}

/// One payment of an order.
#[derive(Debug, SimpleObject)]
pub(crate) struct Payment {
    /// The payment's UUID.
    payment_id: ID,
    /// Where it stands.
    status: PaymentStatus,
    /// What the gateway has agreed to hold.
    authorized: Money,
    /// What was taken of it.
    captured: Money,
    /// What was paid back of what was taken.
    refunded: Money,
    /// What was given back without having been taken.
    voided: Money,
    /// What was held and nobody took in time.
    expired: Money,
    /// Why the gateway holds nothing; null if it was not declined.
    declined_reason: Option<DeclineReason>,
    /// The gateway's word for the last capture or refund that it refused; null if there is none, or one came after it.
    failed_reason: Option<String>,
    /// When the payments service first heard of it.
    requested_at: DateTime<Utc>,
    /// When the gateway's word to hold the amount was recorded.
    authorized_at: Option<DateTime<Utc>>,
    /// When it was recorded that the amount was taken.
    captured_at: Option<DateTime<Utc>>,
    /// Until when the gateway holds what nobody takes.
    expires_at: Option<DateTime<Utc>>,
    /// When the payments service last recorded something of it.
    updated_at: DateTime<Utc>,
}

/// Where a payment stands, by what the gateway has confirmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "read_side::order_details::payment::PaymentStatus")]
pub(crate) enum PaymentStatus {
    /// The gateway has been asked to hold the amount.
    Requested,
    /// The amount is held.
    Authorized,
    /// Nothing is held.
    Declined,
    /// The amount, or part of it, was taken. Refunds do not change that.
    Captured,
    /// What was held was given back.
    Voided,
    /// Nobody took what was held in time.
    Expired,
    /// Given up before it was asked for.
    Barred,
}

/// Why a gateway holds nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "events::payments::DeclineReason")]
pub(crate) enum DeclineReason {
    /// The issuer says no and not why.
    Declined,
    /// The issuer says that there is not enough.
    InsufficientFunds,
    /// The gateway did not answer, time after time.
    GatewayTimeout,
}

impl OrderPayment {
    /// Of an order in `currency`.
    pub(super) fn of(row: payment::OrderPayment, currency: Currency) -> Result<Option<Self>, NoTime> {
        let Some(latest) = row.latest() else { return Ok(None) };
        let updated_at_us = row.payments.iter().map(|one| one.state.updated_at_us).max().unwrap_or_default();
        Ok(Some(Self {
            status: latest.state.status.into(),
            declined_reason: latest.state.declined_reason.map(Into::into),
            authorized: Money::new(row.authorized_minor, currency),
            captured: Money::new(row.captured_minor, currency),
            refunded: Money::new(row.refunded_minor, currency),
            voided: Money::new(row.voided_minor, currency),
            expired: Money::new(row.expired_minor, currency),
            updated_at: time("payment.updated_at_us", updated_at_us)?,
            count: SafeInt::of(u64::from(row.count)),
            payments: row.payments.into_iter().map(|one| Payment::of(one, currency)).collect::<Result<_, _>>()?,
        }))
    }
}

impl Payment {
    fn of(row: PaymentRow, currency: Currency) -> Result<Self, NoTime> {
        let PaymentRow { payment_id, state } = row;
        // of one that was given up before an amount was named all amounts are 0, so any currency would be right
        let money = |amount_minor: fn(&PaymentState) -> i64| {
            Money::new(amount_minor(&state), state.currency.unwrap_or(currency))
        };
        Ok(Self {
            payment_id: ID(payment_id.to_string()),
            status: state.status.into(),
            authorized: money(|state| state.authorized_minor),
            captured: money(|state| state.captured_minor),
            refunded: money(|state| state.refunded_minor),
            voided: money(|state| state.voided_minor),
            expired: money(|state| state.expired_minor),
            declined_reason: state.declined_reason.map(Into::into),
            requested_at: time("payment.begun_at_us", state.begun_at_us)?,
            authorized_at: maybe_time("payment.authorized_at_us", state.authorized_at_us)?,
            captured_at: maybe_time("payment.captured_at_us", state.captured_at_us)?,
            expires_at: maybe_time("payment.expires_at_us", state.expires_at_us)?,
            updated_at: time("payment.updated_at_us", state.updated_at_us)?,
            failed_reason: state.failed_reason,
        })
    }
}
