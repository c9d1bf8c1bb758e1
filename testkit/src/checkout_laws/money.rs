//! Money: of each payment.

use std::collections::{BTreeMap, BTreeSet};

use events::{
    ids::{OrderId, PaymentId, RefundId},
    payments::PaymentEvent,
};

use super::{Breaches, Law};

#[derive(Debug, Default)]
pub struct Money {
    accounts: BTreeMap<PaymentId, Account>,
}

/// One payment, in minor units of its currency.
#[derive(Debug, Default)]
pub struct Account {
    order_id: OrderId,
    authorized_minor: i64,
    pub captured_minor: i64,
    voided_minor: i64,
    expired_minor: i64,
    refunded: BTreeMap<RefundId, i64>,
    /// It was held, and was not to be had: its capture failed, or it expired.
    pub was_lost: bool,
    /// What the gateway was asked for and has not answered: intents by their word.
    asked: BTreeSet<String>,
    authorizations: u32,
}

impl Account {
    fn refunded_minor(&self) -> i64 {
        self.refunded.values().sum()
    }

    /// What was paid back besides the saga's own refunds.
    pub fn refunded_by_others_minor(&self, own: &BTreeSet<RefundId>) -> i64 {
        self.refunded.iter().filter(|(refund_id, _)| !own.contains(refund_id)).map(|(_, minor)| minor).sum()
    }

    fn held_minor(&self) -> i64 {
        self.authorized_minor - self.captured_minor - self.voided_minor - self.expired_minor
    }
}

fn refund(refund_id: RefundId) -> String {
    format!("refund {refund_id}")
}

impl Money {
    pub fn enter(&mut self, event: &PaymentEvent, breaches: &mut Breaches) {
        match event {
            PaymentEvent::AuthorizationRequested(event) => {
                let account = self.of(event.payment_id, event.order_id);
                account.authorizations += 1;
                account.asked.insert("authorize".to_owned());
                let once = account.authorizations == 1;
                breaches.check(once, Law::NothingTwice, event.payment_id, || "it was asked for again".to_owned());
            }
            PaymentEvent::PaymentAuthorized(event) => {
                let account = self.of(event.payment_id, event.order_id);
                let once = account.authorized_minor == 0 && account.asked.remove("authorize");
                account.authorized_minor += event.amount.amount_minor;
                breaches.check(once, Law::NothingTwice, event.payment_id, || "it was authorized unasked".to_owned());
            }
            PaymentEvent::PaymentDeclined(event) => {
                self.of(event.payment_id, event.order_id).asked.remove("authorize");
            }
            PaymentEvent::CaptureRequested(event) => {
                self.of(event.payment_id, event.order_id).asked.insert("capture".to_owned());
            }
            PaymentEvent::PaymentCaptured(event) => {
                let account = self.of(event.payment_id, event.order_id);
                let once = account.asked.remove("capture") && account.captured_minor == 0;
                account.captured_minor += event.amount.amount_minor;
                breaches.check(once, Law::NothingTwice, event.payment_id, || "it was captured unasked".to_owned());
                self.check(event.payment_id, breaches);
            }
            PaymentEvent::CaptureFailed(event) => {
                let account = self.of(event.payment_id, event.order_id);
                account.asked.remove("capture");
                account.was_lost = true;
            }
            PaymentEvent::VoidRequested(event) => {
                self.of(event.payment_id, event.order_id).asked.insert("void".to_owned());
            }
            PaymentEvent::PaymentVoided(event) => {
                let account = self.of(event.payment_id, event.order_id);
                // whatever the gateway may say to the authorization now, nothing is held
                account.asked.remove("authorize");
                account.asked.remove("void");
                account.voided_minor += event.amount.amount_minor;
                self.check(event.payment_id, breaches);
            }
            PaymentEvent::PaymentBarred(event) => drop(self.of(event.payment_id, event.order_id)),
            PaymentEvent::RefundRequested(event) => {
                let account = self.of(event.payment_id, event.order_id);
                let once = account.asked.insert(refund(event.refund_id));
                breaches
                    .check(once, Law::NothingTwice, event.payment_id, || format!("{} again", refund(event.refund_id)));
            }
            PaymentEvent::PaymentRefunded(event) => {
                let account = self.of(event.payment_id, event.order_id);
                let once = account.asked.remove(&refund(event.refund_id));
                *account.refunded.entry(event.refund_id).or_default() += event.amount.amount_minor;
                breaches.check(once, Law::NothingTwice, event.payment_id, || {
                    format!("{} unasked", refund(event.refund_id))
                });
                self.check(event.payment_id, breaches);
            }
            PaymentEvent::RefundFailed(event) => {
                self.of(event.payment_id, event.order_id).asked.remove(&refund(event.refund_id));
            }
            PaymentEvent::PaymentExpired(event) => {
                let account = self.of(event.payment_id, event.order_id);
                account.expired_minor += event.amount.amount_minor;
                account.was_lost = true;
                self.check(event.payment_id, breaches);
            }
        }
    }

    fn of(&mut self, payment_id: PaymentId, order_id: OrderId) -> &mut Account {
        self.accounts.entry(payment_id).or_insert_with(|| Account { order_id, ..Account::default() })
    }

    fn check(&self, payment_id: PaymentId, breaches: &mut Breaches) {
        let Some(account) = self.accounts.get(&payment_id) else { return };
        let adds_up = account.held_minor() >= 0 && account.refunded_minor() <= account.captured_minor;
        breaches.check(adds_up, Law::AuthorizedAddsUp, payment_id, || format!("{account:?}"));
    }

    pub fn at_rest(&self, breaches: &mut Breaches) {
        for (payment_id, account) in &self.accounts {
            let at_rest = account.held_minor() == 0 && account.asked.is_empty();
            breaches.check(at_rest, Law::NothingIsHeld, payment_id, || format!("{account:?}"));
        }
    }

    pub fn account(&self, payment_id: PaymentId) -> Option<&Account> {
        self.accounts.get(&payment_id)
    }

    pub fn has_account_of(&self, order_id: OrderId) -> bool {
        self.accounts.values().any(|account| account.order_id == order_id)
    }

    /// What was taken and not paid back.
    pub fn paid_minor(&self, payment_id: PaymentId) -> i64 {
        self.account(payment_id).map_or(0, |account| account.captured_minor - account.refunded_minor())
    }
}
