//! Which events of other services are news to a checkout: facts that it did not ask for, or whose answer was only that
//! they would be tried. What it asked for and was answered it knows from the answer, and is not told again.

use event_store::follower::Reject;
use events::{
    checkout::{CHECKOUT, CheckoutFact, CheckoutIds, CheckoutLine, PlacedOrder},
    envelope::RecordedEvent,
    ids::{CustomerId, OrderId, PaymentId, ShipmentId},
    inventory::{self, StockEvent},
    orders::{self, OrderEvent, OrderLine, OrderPlaced},
    payments::{self, PaymentEvent},
    shipping::{self, ShipmentEvent},
};

use super::state::CheckoutState;
use crate::{reactor::decode, saga::definition::saga_id};

/// The feeds that it follows besides its own.
pub const FOLLOWS: [&str; 4] = [inventory::SOURCE, orders::SOURCE, payments::SOURCE, shipping::SOURCE];

type Told = Option<(CheckoutIds, CheckoutFact)>;

/// Whose news an event is, and what it says.
pub fn told(source: &str, event: &RecordedEvent) -> Result<Told, Reject> {
    Ok(match source {
        orders::SOURCE => by_orders(decode(event)?),
        payments::SOURCE => by_payments(decode(event)?),
        shipping::SOURCE => by_shipping(decode(event)?),
        inventory::SOURCE => by_inventory(decode(event)?),
        _ => None,
    })
}

/// Whether an order has gone on without a checkout, or has ended: whoever saw to its pieces and its money then, it was not us.
pub fn is_carried_out_by_hand(source: &str, event: &RecordedEvent, order_id: &str) -> Result<bool, Reject> {
    if source != orders::SOURCE || *event.stream.aggregate_id != *order_id {
        return Ok(false);
    }
    Ok(match decode(event)? {
        OrderEvent::OrderPlaced(_) | OrderEvent::OrderImported(_) => false,
        OrderEvent::OrderConfirmed(_)
        | OrderEvent::OrderCancelled(_)
        | OrderEvent::OrderShipped(_)
        | OrderEvent::OrderDelivered(_)
        | OrderEvent::OrderReturned(_) => true,
    })
}

fn by_orders(event: OrderEvent) -> Told {
    let of = |order_id: OrderId, customer_id: CustomerId| CheckoutIds { order_id, customer_id: Some(customer_id) };
    match event {
        OrderEvent::OrderPlaced(placed) => {
            let ids = of(placed.order_id, placed.customer_id);
            Some((ids, CheckoutFact::OrderPlaced(placed_order(placed)?)))
        }
        OrderEvent::OrderCancelled(cancelled) => {
            let ids = of(cancelled.order_id, cancelled.customer_id);
            Some((ids, CheckoutFact::OrderCancelled { rejected: cancelled.rejected }))
        }
        OrderEvent::OrderReturned(returned) => {
            let ids = of(returned.order_id, returned.customer_id);
            Some((ids, CheckoutFact::OrderReturned { lines: returned.lines, complete: returned.complete }))
        }
        // history, or what we asked for and were answered
        OrderEvent::OrderImported(_)
        | OrderEvent::OrderConfirmed(_)
        | OrderEvent::OrderShipped(_)
        | OrderEvent::OrderDelivered(_) => None,
    }
}

/// `None` for an order without lines, which there cannot be.
fn placed_order(placed: OrderPlaced) -> Option<PlacedOrder> {
    let currency = placed.lines.first()?.unit_price.currency;
    let line = |line: &OrderLine| CheckoutLine {
        product_id: line.product_id,
        quantity: line.quantity,
        unit_minor: line.unit_price.amount_minor,
        discount_bp: line.discount_bp,
    };
    Some(PlacedOrder {
        order_id: placed.order_id,
        customer_id: placed.customer_id,
        currency,
        lines: placed.lines.iter().map(line).collect(),
        payment_method: placed.payment_method,
    })
}

/// Of all payments of an order only the checkout's own is its business.
fn by_payments(event: PaymentEvent) -> Told {
    match event {
        PaymentEvent::PaymentAuthorized(event) => {
            paid(event.payment_id, event.order_id, CheckoutFact::PaymentAuthorized)
        }
        PaymentEvent::PaymentDeclined(event) => {
            paid(event.payment_id, event.order_id, CheckoutFact::PaymentDeclined { reason: event.reason })
        }
        PaymentEvent::PaymentCaptured(event) => {
            let amount_minor = event.amount.amount_minor;
            paid(event.payment_id, event.order_id, CheckoutFact::PaymentCaptured { amount_minor })
        }
        PaymentEvent::CaptureFailed(event) => paid(event.payment_id, event.order_id, CheckoutFact::CaptureFailed),
        PaymentEvent::PaymentVoided(event) => paid(event.payment_id, event.order_id, CheckoutFact::PaymentVoided),
        PaymentEvent::PaymentBarred(event) => paid(event.payment_id, event.order_id, CheckoutFact::PaymentVoided),
        PaymentEvent::PaymentExpired(event) => paid(event.payment_id, event.order_id, CheckoutFact::PaymentExpired),
        PaymentEvent::PaymentRefunded(event) => {
            let (refund_id, amount_minor) = (event.refund_id, event.amount.amount_minor);
            paid(event.payment_id, event.order_id, CheckoutFact::PaymentRefunded { refund_id, amount_minor })
        }
        PaymentEvent::RefundFailed(event) => {
            let refund_id = event.refund_id;
            paid(event.payment_id, event.order_id, CheckoutFact::RefundFailed { refund_id })
        }
        PaymentEvent::AuthorizationRequested(_)
        | PaymentEvent::CaptureRequested(_)
        | PaymentEvent::VoidRequested(_)
        | PaymentEvent::RefundRequested(_) => None,
    }
}

fn paid(payment_id: PaymentId, order_id: OrderId, fact: CheckoutFact) -> Told {
    let is_ours = payment_id == CheckoutState::payment_id(saga_id(CHECKOUT, &order_id.to_string()));
    is_ours.then_some((CheckoutIds { order_id, customer_id: None }, fact))
}

/// Of all shipments of an order only the checkout's own is its business.
fn by_shipping(event: ShipmentEvent) -> Told {
    match event {
        ShipmentEvent::ShipmentDispatched(event) => {
            sent(event.shipment_id, event.order_id, CheckoutFact::ShipmentDispatched)
        }
        ShipmentEvent::ShipmentDelivered(event) => {
            sent(event.shipment_id, event.order_id, CheckoutFact::ShipmentDelivered)
        }
        ShipmentEvent::ShipmentCancelled(event) => {
            sent(event.shipment_id, event.order_id, CheckoutFact::ShipmentCancelled)
        }
        ShipmentEvent::ShipmentWithdrawn(event) => {
            sent(event.shipment_id, event.order_id, CheckoutFact::ShipmentCancelled)
        }
        ShipmentEvent::ShipmentLost(event) => sent(event.shipment_id, event.order_id, CheckoutFact::ShipmentLost),
        ShipmentEvent::ShipmentScheduled(_) => None,
    }
}

fn sent(shipment_id: ShipmentId, order_id: OrderId, fact: CheckoutFact) -> Told {
    let is_ours = shipment_id == CheckoutState::shipment_id(saga_id(CHECKOUT, &order_id.to_string()));
    is_ours.then_some((CheckoutIds { order_id, customer_id: None }, fact))
}

fn by_inventory(event: StockEvent) -> Told {
    match event {
        StockEvent::ReservationExpired(event) => {
            let ids = CheckoutIds { order_id: event.order_id, customer_id: None };
            Some((ids, CheckoutFact::ReservationExpired { line: event.line }))
        }
        StockEvent::StockReceived(_)
        | StockEvent::StockAdjusted(_)
        | StockEvent::StockReserved(_)
        | StockEvent::ReservationRejected(_)
        | StockEvent::ReservationWithdrawn(_)
        | StockEvent::ReservationConfirmed(_)
        | StockEvent::StockReleased(_)
        | StockEvent::StockShipped(_) => None,
    }
}
