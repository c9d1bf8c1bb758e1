//! Orders, and what goes to their customers: parcels and mail.

use std::collections::{BTreeMap, BTreeSet};

use events::{
    ids::{NotificationId, OrderId, ProductId, ShipmentId},
    money::line_total_minor,
    notifications::{NotificationEvent, NotificationKind},
    orders::{OrderEvent, OrderLine, OrderStatus},
    shipping::ShipmentEvent,
};

use super::{Breaches, Law};

#[derive(Debug, Default)]
pub struct Orders {
    pub known: BTreeMap<OrderId, KnownOrder>,
}

#[derive(Debug)]
pub struct KnownOrder {
    pub is_imported: bool,
    pub status: OrderStatus,
    lines: Vec<OrderLine>,
    returned: BTreeMap<ProductId, u64>,
    /// What has happened to it that can happen once only.
    happened: BTreeSet<&'static str>,
}

impl KnownOrder {
    fn new(lines: &[OrderLine], status: OrderStatus, is_imported: bool) -> Self {
        let (returned, happened) = Default::default();
        Self { is_imported, status, lines: lines.to_vec(), returned, happened }
    }

    /// What the pieces cost that were shipped and did not come back.
    pub fn kept_minor(&self, shipped: impl Fn(u32) -> u64) -> i64 {
        let kept = (0..).zip(&self.lines).map(|(n, line)| {
            let returned = self.returned.get(&line.product_id).copied().unwrap_or_default();
            let kept = u32::try_from(shipped(n).saturating_sub(returned)).unwrap_or(u32::MAX);
            // beyond what a price can be, no payment can agree with it
            line_total_minor(line.unit_price.amount_minor, kept, line.discount_bp).unwrap_or(i64::MAX)
        });
        kept.fold(0, i64::saturating_add)
    }
}

impl Orders {
    pub fn enter(&mut self, event: &OrderEvent, breaches: &mut Breaches) {
        match event {
            OrderEvent::OrderPlaced(event) => {
                self.begin(event.order_id, KnownOrder::new(&event.lines, OrderStatus::Pending, false), breaches);
            }
            OrderEvent::OrderImported(event) => {
                self.begin(event.order_id, KnownOrder::new(&event.lines, event.status, true), breaches);
            }
            OrderEvent::OrderConfirmed(event) => {
                self.once(event.order_id, "confirmed", OrderStatus::Confirmed, breaches);
            }
            OrderEvent::OrderCancelled(event) => {
                self.once(event.order_id, "cancelled", OrderStatus::Cancelled, breaches);
            }
            OrderEvent::OrderShipped(event) => self.once(event.order_id, "shipped", OrderStatus::Shipped, breaches),
            OrderEvent::OrderDelivered(event) => {
                self.once(event.order_id, "delivered", OrderStatus::Delivered, breaches);
            }
            OrderEvent::OrderReturned(event) => {
                if event.complete {
                    self.once(event.order_id, "returned", OrderStatus::Returned, breaches);
                }
                let Some(order) = self.known.get_mut(&event.order_id) else { return };
                for line in &event.lines {
                    *order.returned.entry(line.product_id).or_default() += u64::from(line.quantity);
                }
            }
        }
    }

    fn begin(&mut self, order_id: OrderId, order: KnownOrder, breaches: &mut Breaches) {
        let before = self.known.insert(order_id, order);
        breaches.check(before.is_none(), Law::NothingTwice, order_id, || "it was placed again".to_owned());
    }

    fn once(&mut self, order_id: OrderId, what: &'static str, status: OrderStatus, breaches: &mut Breaches) {
        let Some(order) = self.known.get_mut(&order_id) else {
            return breaches.check(false, Law::EndsAgree, order_id, || format!("{what}, and never placed"));
        };
        let is_new = order.happened.insert(what);
        breaches.check(is_new, Law::NothingTwice, order_id, || format!("it was {what} again"));
        let is_both = order.happened.contains("confirmed") && order.happened.contains("cancelled");
        breaches.check(!is_both, Law::EndsAgree, order_id, || "it was confirmed and cancelled".to_owned());
        order.status = status;
    }
}

#[derive(Debug, Default)]
pub struct Parcels {
    known: BTreeMap<ShipmentId, Parcel>,
}

#[derive(Debug)]
struct Parcel {
    order_id: OrderId,
    happened: BTreeSet<&'static str>,
}

impl Parcels {
    pub fn enter(&mut self, event: &ShipmentEvent, breaches: &mut Breaches) {
        let (shipment_id, order_id, what) = match event {
            ShipmentEvent::ShipmentScheduled(event) => (event.shipment_id, event.order_id, "scheduled"),
            ShipmentEvent::ShipmentWithdrawn(event) => (event.shipment_id, event.order_id, "withdrawn"),
            ShipmentEvent::ShipmentDispatched(event) => (event.shipment_id, event.order_id, "dispatched"),
            ShipmentEvent::ShipmentDelivered(event) => (event.shipment_id, event.order_id, "delivered"),
            ShipmentEvent::ShipmentCancelled(event) => (event.shipment_id, event.order_id, "cancelled"),
            ShipmentEvent::ShipmentLost(event) => (event.shipment_id, event.order_id, "lost"),
        };
        let happened = BTreeSet::new();
        let parcel = self.known.entry(shipment_id).or_insert(Parcel { order_id, happened });
        let is_new = parcel.happened.insert(what);
        breaches.check(is_new, Law::NothingTwice, shipment_id, || format!("it was {what} again"));
    }

    pub fn is_lost(&self, shipment_id: ShipmentId) -> bool {
        self.known.get(&shipment_id).is_some_and(|parcel| parcel.happened.contains("lost"))
    }

    pub fn has_any_of(&self, order_id: OrderId) -> bool {
        self.known.values().any(|parcel| parcel.order_id == order_id)
    }
}

#[derive(Debug, Default)]
pub struct Mail {
    told: BTreeSet<OrderId>,
    /// Each kind of news once; only goods may come back in parts.
    kinds: BTreeSet<(OrderId, &'static str)>,
    sent: BTreeSet<NotificationId>,
}

impl Mail {
    pub fn enter(&mut self, event: &NotificationEvent, breaches: &mut Breaches) {
        match event {
            NotificationEvent::NotificationRequested(event) => {
                let kind = match event.kind {
                    NotificationKind::OrderReceived => "received",
                    NotificationKind::OrderCancelled => "cancelled",
                    NotificationKind::OrderRejected => "rejected",
                    NotificationKind::OrderShipped => "shipped",
                    NotificationKind::OrderDelivered => "delivered",
                    // it may come back in parts, and an import may come back here
                    NotificationKind::OrderReturned => return,
                };
                self.told.insert(event.order_id);
                let is_new = self.kinds.insert((event.order_id, kind));
                breaches.check(is_new, Law::NothingTwice, event.order_id, || format!("told again: {kind}"));
            }
            NotificationEvent::NotificationSent(event) => {
                let is_new = self.sent.insert(event.notification_id);
                breaches.check(is_new, Law::NothingTwice, event.order_id, || {
                    format!("notification {} was sent again", event.notification_id)
                });
            }
            NotificationEvent::NotificationFailed(_) => {}
        }
    }

    pub fn has_any_of(&self, order_id: OrderId) -> bool {
        self.told.contains(&order_id)
    }
}
