//! The money of one order, as its checkout knows it: what the payments service has said, and what is wished of it.
//!
//! That service answers a wish at once, and what comes of it is a fact that follows. So only facts move amounts here; a
//! wish is asked for until there is one.

use std::collections::BTreeMap;

use events::{checkout::CheckoutStep, ids::RefundId};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// All amounts are minor units of the order's currency.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Money {
    pub status: MoneyStatus,
    pub wish: Wish,
    /// A capture failed: the money that is held is not to be had.
    pub capture_failed: bool,
    pub captured_minor: i64,
    /// What this checkout paid back.
    pub refunded_minor: i64,
    /// What others paid back of the same payment. It is not taken off what the customer is owed.
    pub goodwill_minor: i64,
    /// What operators said is paid back by hand, or is not to be.
    pub waived_minor: i64,
    /// How many refunds have been begun; the last one's number is one less.
    pub refunds: u32,
    /// The last one is under way.
    pub refunding: bool,
    /// How often the gateway said no to one.
    pub refunds_failed: u32,
    /// Refunds of this checkout's own that it has not begun yet: an older copy of it was restored, and hears what it did.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub early: BTreeMap<RefundId, i64>,
}

/// The most refunds that an id is compared with: what one payment takes.
const REFUNDS_MAX: u32 = 100;

/// The most refusals of one refund that are looked through for its id: by then a person has seen to it.
const FAILURES_MAX: u32 = 5;

/// What holds of the amount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum MoneyStatus {
    /// Nobody has been asked for it, and perhaps nobody will be.
    Unasked,
    Asked,
    Authorized,
    Captured,
    Declined,
    /// Given back, or barred.
    Voided,
    Expired,
    /// An operator takes care of it.
    Waived,
}

/// What is wanted of an amount that is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Wish {
    Nothing,
    Capture { amount_minor: i64 },
    Void,
}

impl Money {
    pub fn none() -> Self {
        Self {
            status: MoneyStatus::Unasked,
            wish: Wish::Nothing,
            capture_failed: false,
            captured_minor: 0,
            refunded_minor: 0,
            goodwill_minor: 0,
            waived_minor: 0,
            refunds: 0,
            refunding: false,
            refunds_failed: 0,
            early: BTreeMap::new(),
        }
    }

    pub fn asked(&mut self) {
        if self.status == MoneyStatus::Unasked {
            self.status = MoneyStatus::Asked;
        }
    }

    pub fn authorized(&mut self) {
        if matches!(self.status, MoneyStatus::Unasked | MoneyStatus::Asked) {
            self.status = MoneyStatus::Authorized;
        }
    }

    /// Nothing is held any more. What was captured stays so: what a capture leaves is voided with it.
    pub fn gone(&mut self, how: MoneyStatus) {
        if matches!(self.status, MoneyStatus::Unasked | MoneyStatus::Asked | MoneyStatus::Authorized) {
            self.status = how;
        }
    }

    pub fn captured(&mut self, amount_minor: i64) {
        if self.status != MoneyStatus::Captured {
            self.status = MoneyStatus::Captured;
            self.captured_minor = amount_minor;
        }
    }

    pub fn capture_failed(&mut self) {
        self.capture_failed = true;
        self.wish = Wish::Nothing;
    }

    pub fn refunded(&mut self, saga_id: Uuid, refund_id: RefundId, amount_minor: i64) {
        if self.refunding && refund_id == self.refund_id(saga_id) {
            self.refunding = false;
            self.refunded_minor += amount_minor;
            return;
        }
        match number_of(saga_id, refund_id) {
            None => self.goodwill_minor += amount_minor,
            Some(n) if n >= self.refunds => drop(self.early.insert(refund_id, amount_minor)),
            // it is over: what is said of it again is no news
            Some(_) => {}
        }
    }

    /// An operator takes care of holding the amount. If it is known to be held by now, only the answer was lost.
    pub fn authorization_waived(&mut self) {
        if self.status == MoneyStatus::Asked {
            self.status = MoneyStatus::Waived;
        }
    }

    /// An operator takes care of what was to become of the amount, unless that is known by now.
    pub fn waived(&mut self) {
        if matches!(self.status, MoneyStatus::Asked | MoneyStatus::Authorized) {
            self.status = MoneyStatus::Waived;
        }
    }

    /// An operator takes care of what refund `n` was to pay back, unless it is known to be paid by now.
    pub fn refund_waived(&mut self, n: u32, price_minor: i64) {
        if self.due() == Some(CheckoutStep::Refund(n)) {
            self.waived_minor += self.owed_minor(price_minor);
            self.refunding = false;
        }
    }

    /// Whether nothing is held any more that was, or should have been.
    pub fn is_gone(&self) -> bool {
        matches!(self.status, MoneyStatus::Declined | MoneyStatus::Voided | MoneyStatus::Expired)
    }

    /// Decides what is wanted next, where `price_minor` is what the customer is to pay in the end: `take` says whether
    /// that may be taken now, `give_up` that nothing more will be.
    pub fn settle(&mut self, saga_id: Uuid, price_minor: i64, take: bool, give_up: bool) {
        let is_held = match self.status {
            MoneyStatus::Authorized => true,
            // whatever comes of the authorization, nobody wants it now
            MoneyStatus::Asked => give_up,
            MoneyStatus::Unasked
            | MoneyStatus::Captured
            | MoneyStatus::Declined
            | MoneyStatus::Voided
            | MoneyStatus::Expired
            | MoneyStatus::Waived => false,
        };
        if is_held && self.wish == Wish::Nothing {
            if give_up || price_minor == 0 {
                self.wish = Wish::Void;
            } else if take {
                self.wish = Wish::Capture { amount_minor: price_minor };
            }
        }
        self.begin_refund(price_minor);
        // what was paid back before this copy knew that it would be owed
        while self.refunding
            && let Some(amount_minor) = self.early.remove(&self.refund_id(saga_id))
        {
            self.refunding = false;
            self.refunded_minor += amount_minor;
            self.begin_refund(price_minor);
        }
    }

    fn begin_refund(&mut self, price_minor: i64) {
        let is_owed = self.owed_minor(price_minor) > 0;
        if is_owed && !self.refunding {
            self.refunds += 1;
        }
        // others may have paid back everything first: then ours is refused, and nothing is left to ask for
        self.refunding = is_owed;
    }

    /// What is to be paid back: what was taken beyond the price, less what was paid back for that, and never more than
    /// what is left of it after everybody's refunds.
    pub fn owed_minor(&self, price_minor: i64) -> i64 {
        let left = self.captured_minor - self.refunded_minor - self.waived_minor;
        (left - price_minor.max(self.goodwill_minor)).max(0)
    }

    /// Nothing is held, on its way or owed.
    pub fn is_at_rest(&self, price_minor: i64) -> bool {
        match self.status {
            MoneyStatus::Asked | MoneyStatus::Authorized => false,
            MoneyStatus::Captured => self.owed_minor(price_minor) == 0,
            MoneyStatus::Unasked
            | MoneyStatus::Declined
            | MoneyStatus::Voided
            | MoneyStatus::Expired
            | MoneyStatus::Waived => true,
        }
    }

    /// What is to be asked of the payments service.
    pub fn due(&self) -> Option<CheckoutStep> {
        match (self.status, self.wish) {
            (MoneyStatus::Authorized, Wish::Capture { .. }) => Some(CheckoutStep::Capture),
            (MoneyStatus::Asked | MoneyStatus::Authorized, Wish::Void) => Some(CheckoutStep::Void),
            (MoneyStatus::Captured, _) if self.refunding => Some(CheckoutStep::Refund(self.refunds - 1)),
            (
                MoneyStatus::Unasked
                | MoneyStatus::Asked
                | MoneyStatus::Authorized
                | MoneyStatus::Captured
                | MoneyStatus::Declined
                | MoneyStatus::Voided
                | MoneyStatus::Expired
                | MoneyStatus::Waived,
                _,
            ) => None,
        }
    }

    /// Of the refund under way: another one for each that the gateway said no to.
    pub fn refund_id(&self, saga_id: Uuid) -> RefundId {
        refund_id(saga_id, self.refunds.saturating_sub(1), self.refunds_failed)
    }
}

fn refund_id(saga_id: Uuid, n: u32, failed: u32) -> RefundId {
    let name = match failed {
        0 => format!("refund/{n}"),
        failed => format!("refund/{n}/{failed}"),
    };
    RefundId(Uuid::new_v5(&saga_id, name.as_bytes()))
}

/// Which of a checkout's own refunds it is, if it is one.
fn number_of(saga_id: Uuid, id: RefundId) -> Option<u32> {
    (0..REFUNDS_MAX).find(|n| (0..=FAILURES_MAX).any(|failed| refund_id(saga_id, *n, failed) == id))
}
