//! What all services together owe to every order, checked on what they published: no order half done, no piece and no
//! cent lost or there twice.
//!
//! [`Books`] adds up the events of all services: each service's in its own order, between services in any. What must hold
//! at every moment is checked with each event ([`Books::breaches`]), what must hold once nothing is under way by
//! [`Books::at_rest`]. They are pure, and no copy of the services: they never ask what was meant, only whether the sums
//! agree. [`Audit`] reads them from a running platform.
//!
//! Reading order: [`Law`], [`Books`]; then what is added up, [`stock`], [`money`], [`orders`], [`sagas`]; then [`reading`].

mod money;
mod orders;
mod reading;
mod sagas;
mod stock;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use events::{
    DecodeError, Published, checkout,
    envelope::RecordedEvent,
    ids::{OrderId, ProductId, ShipmentId},
    inventory, notifications,
    orders::{self as order_events, OrderStatus},
    payments, shipping,
};

use self::{
    money::Money,
    orders::{KnownOrder, Mail, Orders, Parcels},
    sagas::{KnownSaga, Sagas},
    stock::Stock,
};
pub use self::{reading::Audit, sagas::End};

/// Who publishes what is added up.
pub const SOURCES: [&str; 6] = [
    order_events::SOURCE,
    inventory::SOURCE,
    payments::SOURCE,
    shipping::SOURCE,
    notifications::SOURCE,
    checkout::SOURCE,
];

/// What must hold. The first four at every moment, all of them at rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Law {
    ReservedAddsUp,
    StockIsThere,
    AuthorizedAddsUp,
    NothingTwice,
    NothingIsHeld,
    PaidIsThePrice,
    EverySagaEnds,
    EndsAgree,
    AcknowledgedIsThere,
    OneSagaEach,
    ImportsAreHistory,
}

impl Law {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ReservedAddsUp => "reserved = held + shipped + released + expired",
            Self::StockIsThere => "no stock is below zero",
            Self::AuthorizedAddsUp => {
                "authorized = held + captured + voided + expired, and no more is refunded than captured"
            }
            Self::NothingTwice => "nothing is done twice",
            Self::NothingIsHeld => "at rest no piece and no money is held, and nothing is under way",
            Self::PaidIsThePrice => "at rest captured - refunded = price(shipped - returned) - goodwill",
            Self::EverySagaEnds => "every saga ends",
            Self::EndsAgree => "an order ends as its saga does",
            Self::AcknowledgedIsThere => "every acknowledged order is there",
            Self::OneSagaEach => "every placed order has one saga, and nothing else has any",
            Self::ImportsAreHistory => "nothing is done about an imported order",
        }
    }
}

/// A law that does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Breach {
    pub law: Law,
    /// Of which order, payment or product.
    pub about: String,
    pub why: String,
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.law.as_str(), self.about, self.why)
    }
}

/// Breaches as they are found.
#[derive(Debug, Clone, Default)]
struct Breaches(Vec<Breach>);

impl Breaches {
    /// Notes a breach of `law` unless `holds`.
    fn check(&mut self, holds: bool, law: Law, about: impl fmt::Display, why: impl FnOnce() -> String) {
        if !holds {
            self.0.push(Breach { law, about: about.to_string(), why: why() });
        }
    }
}

/// Where an order and its saga stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing<'a> {
    /// What the saga waits for, or its end.
    pub phase: &'a str,
    pub status: OrderStatus,
    /// Of the shipment that the saga asks for.
    pub shipment_id: ShipmentId,
}

/// Everything that was published, added up.
#[derive(Debug, Default)]
pub struct Books {
    orders: Orders,
    stock: Stock,
    money: Money,
    parcels: Parcels,
    mail: Mail,
    sagas: Sagas,
    breaches: Breaches,
}

impl Books {
    /// Takes the next event of `source`; those of other sources change nothing.
    ///
    /// Errors: it is none of the published language.
    pub fn enter(&mut self, source: &str, event: &RecordedEvent) -> Result<(), DecodeError> {
        let RecordedEvent { event_type, event_version, payload, .. } = event;
        self.read(source, event_type, event_version, payload)
    }

    fn read(&mut self, source: &str, event_type: &str, version: &str, payload: &str) -> Result<(), DecodeError> {
        let breaches = &mut self.breaches;
        match source {
            order_events::SOURCE => self.orders.enter(&Published::decode(event_type, version, payload)?, breaches),
            inventory::SOURCE => self.stock.enter(&Published::decode(event_type, version, payload)?, breaches),
            payments::SOURCE => self.money.enter(&Published::decode(event_type, version, payload)?, breaches),
            shipping::SOURCE => self.parcels.enter(&Published::decode(event_type, version, payload)?, breaches),
            notifications::SOURCE => self.mail.enter(&Published::decode(event_type, version, payload)?, breaches),
            checkout::SOURCE => self.sagas.enter(Published::decode(event_type, version, payload)?, breaches),
            _ => {}
        }
        Ok(())
    }

    /// What did not hold at some moment so far.
    pub fn breaches(&self) -> &[Breach] {
        &self.breaches.0
    }

    /// Orders that were placed and whose saga has not come to its end, with what is known of it.
    pub fn under_way(&self) -> BTreeMap<OrderId, String> {
        let placed = self.orders.known.iter().filter(|(_, order)| !order.is_imported);
        let not_ended = placed.filter_map(|(order_id, _)| match self.sagas.known.get(order_id) {
            None => Some((*order_id, "has no saga".to_owned())),
            Some(KnownSaga { end: None, phase, .. }) => Some((*order_id, phase.clone())),
            Some(_) => None,
        });
        not_ended.collect()
    }

    /// Where a placed order and its saga stand.
    pub fn standing(&self, order_id: OrderId) -> Option<Standing<'_>> {
        let (order, saga) = (self.orders.known.get(&order_id)?, self.sagas.known.get(&order_id)?);
        Some(Standing { phase: &saga.phase, status: order.status, shipment_id: saga.shipment_id() })
    }

    /// How many sagas have ended in which way.
    pub fn ends(&self) -> BTreeMap<String, usize> {
        let mut ends = BTreeMap::new();
        for end in self.sagas.known.values().filter_map(|saga| saga.end.as_ref()) {
            *ends.entry(end.to_string()).or_default() += 1;
        }
        ends
    }

    /// How many orders stand where.
    pub fn statuses(&self) -> BTreeMap<&'static str, usize> {
        let mut statuses = BTreeMap::new();
        for order in self.orders.known.values().filter(|order| !order.is_imported) {
            *statuses.entry(order.status.as_str()).or_default() += 1;
        }
        statuses
    }

    /// Pieces on hand and held of a product, as `GET /stock/{id}` is to show them.
    pub fn level(&self, product_id: ProductId) -> (i64, i64) {
        self.stock.level(product_id)
    }

    /// Everything that does not hold once nothing is under way any more, and what did not hold before. `acknowledged` are
    /// the orders whose placement was answered.
    pub fn at_rest(&self, acknowledged: &BTreeSet<OrderId>) -> Vec<Breach> {
        let mut breaches = self.breaches.clone();
        for order_id in acknowledged {
            let is_placed = self.orders.known.get(order_id).is_some_and(|order| !order.is_imported);
            breaches.check(is_placed, Law::AcknowledgedIsThere, order_id, || "it was never placed".to_owned());
        }
        self.stock.at_rest(&mut breaches);
        self.money.at_rest(&mut breaches);
        for order_id in self.sagas.known.keys().filter(|order_id| !self.orders.known.contains_key(*order_id)) {
            breaches.check(false, Law::OneSagaEach, order_id, || "a saga, and no such order".to_owned());
        }
        for (order_id, order) in &self.orders.known {
            match (order.is_imported, self.sagas.known.get(order_id)) {
                (true, saga) => self.check_import(*order_id, saga, &mut breaches),
                (false, None) => breaches.check(false, Law::OneSagaEach, order_id, || "it has no saga".to_owned()),
                (false, Some(saga)) => self.check_order(*order_id, order, saga, &mut breaches),
            }
        }
        breaches.0
    }

    /// Whether an order that was placed is whole or undone.
    fn check_order(&self, order_id: OrderId, order: &KnownOrder, saga: &KnownSaga, breaches: &mut Breaches) {
        let paid_minor = self.money.paid_minor(saga.payment_id());
        let is_lost = self.parcels.is_lost(saga.shipment_id());
        let shipped: u64 = self.stock.lines_of(order_id).map(|(_, line)| line.shipped).sum();
        let status = order.status;
        let ends = match &saga.end {
            None => {
                return breaches.check(false, Law::EverySagaEnds, order_id, || format!("it is {}", saga.phase));
            }
            Some(End::Completed) => match status {
                OrderStatus::Delivered | OrderStatus::Returned => true,
                OrderStatus::Shipped => is_lost,
                OrderStatus::Pending | OrderStatus::Confirmed | OrderStatus::Cancelled => false,
            },
            Some(End::Compensated { .. }) => {
                matches!(status, OrderStatus::Cancelled | OrderStatus::Returned) && shipped == 0
            }
        };
        let end = saga.end.as_ref().map(ToString::to_string).unwrap_or_default();
        breaches.check(ends, Law::EndsAgree, order_id, || {
            format!("the saga is {end}, the order {status}, {shipped} pieces shipped, lost: {is_lost}")
        });
        // what operators see to by hand is not in the books
        if saga.is_by_hand {
            return;
        }
        let kept_minor = if is_lost { 0 } else { order.kept_minor(|line| self.stock.shipped(order_id, line)) };
        let account = self.money.account(saga.payment_id());
        let goodwill_minor = account.map_or(0, |account| account.refunded_by_others_minor(&saga.refunds));
        // goods that left while their money was lost to us are written off
        let is_written_off = account.is_some_and(|account| account.was_lost && account.captured_minor == 0);
        let price_minor = if is_written_off { 0 } else { (kept_minor - goodwill_minor).max(0) };
        breaches.check(paid_minor == price_minor, Law::PaidIsThePrice, order_id, || {
            format!("{paid_minor} was paid for what costs {kept_minor}, with {goodwill_minor} of goodwill")
        });
    }

    fn check_import(&self, order_id: OrderId, saga: Option<&KnownSaga>, breaches: &mut Breaches) {
        let mut absent = |is_there: bool, what: &str| {
            breaches.check(!is_there, Law::ImportsAreHistory, order_id, || format!("there is {what}"));
        };
        absent(saga.is_some(), "a saga");
        absent(self.stock.lines_of(order_id).next().is_some(), "a reservation");
        absent(self.money.has_account_of(order_id), "a payment");
        absent(self.parcels.has_any_of(order_id), "a shipment");
        absent(self.mail.has_any_of(order_id), "mail");
    }
}
