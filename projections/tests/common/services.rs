//! What inventory, payments and shipping say of an order.

use events::{
    ids::{PaymentId, RefundId, ShipmentId},
    inventory::{
        ReservationConfirmed, ReservationExpired, ReservationRejected, ReservationWithdrawn, StockEvent, StockReceived,
        StockReleased, StockReserved, StockShipped,
    },
    money::{Currency, Money},
    payments::{
        AuthorizationRequested, CaptureFailed, CaptureRequested, DeclineReason, PaymentAuthorized, PaymentBarred,
        PaymentCaptured, PaymentDeclined, PaymentEvent, PaymentExpired, PaymentRefunded, PaymentVoided, RefundFailed,
        RefundRequested, VoidRequested,
    },
    personal::Personal,
    shipping::{
        ShipmentCancelled, ShipmentDelivered, ShipmentDispatched, ShipmentEvent, ShipmentLine, ShipmentLost,
        ShipmentScheduled, ShipmentWithdrawn,
    },
    users::Address,
};
use uuid::Uuid;

use super::{Random, order, product, time, user};

/// A street that must be nowhere but in the shipping service.
pub const CANARY_STREET: &str = "Canary Row 7";

pub fn payment(n: u64) -> PaymentId {
    PaymentId(Uuid::from_u128(0x4_0000 + u128::from(n)))
}

pub fn shipment(n: u64) -> ShipmentId {
    ShipmentId(Uuid::from_u128(0x5_0000 + u128::from(n)))
}

pub fn usd(amount_minor: i64) -> Money {
    Money::new(amount_minor, Currency::USD)
}

pub fn received(n: u64) -> StockEvent {
    StockReceived { product_id: product(n), quantity: 100 }.into()
}

pub fn reserved(n: u64, line: u32, of: u64) -> StockEvent {
    StockReserved { product_id: product(of), order_id: order(n), line, quantity: 2, expires_at: time(1_800) }.into()
}

pub fn rejected(n: u64, line: u32, of: u64) -> StockEvent {
    ReservationRejected { product_id: product(of), order_id: order(n), line, quantity: 2, available: 1 }.into()
}

pub fn withdrawn(n: u64, line: u32, of: u64) -> StockEvent {
    ReservationWithdrawn { product_id: product(of), order_id: order(n), line }.into()
}

pub fn reservation_confirmed(n: u64, line: u32, of: u64) -> StockEvent {
    ReservationConfirmed { product_id: product(of), order_id: order(n), line }.into()
}

pub fn reservation_expired(n: u64, line: u32, of: u64) -> StockEvent {
    ReservationExpired { product_id: product(of), order_id: order(n), line, quantity: 2 }.into()
}

pub fn released(n: u64, line: u32, of: u64) -> StockEvent {
    StockReleased { product_id: product(of), order_id: order(n), line, quantity: 2 }.into()
}

pub fn stock_shipped(n: u64, line: u32, of: u64) -> StockEvent {
    StockShipped { product_id: product(of), order_id: order(n), line, quantity: 2 }.into()
}

pub fn authorization_requested(n: u64, id: u64, amount: Money) -> PaymentEvent {
    let payment_method = "pm_approve".parse().unwrap();
    let (payment_id, order_id) = (payment(id), order(n));
    AuthorizationRequested { payment_id, order_id, amount, payment_method, requested_at: time(1) }.into()
}

pub fn authorized(n: u64, id: u64, amount: Money) -> PaymentEvent {
    let (payment_id, order_id, gateway_reference) = (payment(id), order(n), format!("sim-{id}"));
    PaymentAuthorized { payment_id, order_id, amount, gateway_reference, expires_at: time(9_000) }.into()
}

pub fn declined(n: u64, id: u64, amount: Money) -> PaymentEvent {
    let reason = DeclineReason::InsufficientFunds;
    PaymentDeclined { payment_id: payment(id), order_id: order(n), amount, reason }.into()
}

pub fn capture_requested(n: u64, id: u64, amount: Money) -> PaymentEvent {
    CaptureRequested { payment_id: payment(id), order_id: order(n), amount }.into()
}

pub fn capture_failed(n: u64, id: u64, amount: Money) -> PaymentEvent {
    CaptureFailed { payment_id: payment(id), order_id: order(n), amount, reason: "try_later".to_owned() }.into()
}

pub fn captured(n: u64, id: u64, amount: Money) -> PaymentEvent {
    PaymentCaptured { payment_id: payment(id), order_id: order(n), amount }.into()
}

pub fn void_requested(n: u64, id: u64) -> PaymentEvent {
    VoidRequested { payment_id: payment(id), order_id: order(n) }.into()
}

pub fn voided(n: u64, id: u64, amount: Money) -> PaymentEvent {
    PaymentVoided { payment_id: payment(id), order_id: order(n), amount }.into()
}

pub fn barred(n: u64, id: u64) -> PaymentEvent {
    PaymentBarred { payment_id: payment(id), order_id: order(n) }.into()
}

pub fn payment_expired(n: u64, id: u64, amount: Money) -> PaymentEvent {
    PaymentExpired { payment_id: payment(id), order_id: order(n), amount }.into()
}

/// A refund as it is asked for and paid.
pub fn refunded(n: u64, id: u64, amount: Money) -> [PaymentEvent; 2] {
    let (refund_id, reason) = (RefundId(Uuid::from_u128(1)), "broken".to_owned());
    let (payment_id, order_id) = (payment(id), order(n));
    [
        RefundRequested { payment_id, order_id, refund_id, amount, reason }.into(),
        PaymentRefunded { payment_id, order_id, refund_id, amount }.into(),
    ]
}

pub fn refund_failed(n: u64, id: u64, amount: Money) -> PaymentEvent {
    let (refund_id, reason) = (RefundId(Uuid::from_u128(1)), "account_closed".to_owned());
    RefundFailed { payment_id: payment(id), order_id: order(n), refund_id, amount, reason }.into()
}

pub fn scheduled(n: u64, id: u64) -> ShipmentEvent {
    let address = Address {
        street: CANARY_STREET.to_owned(),
        city: "Riverton".to_owned(),
        region: None,
        postal_code: None,
        country: "GB".to_owned(),
    };
    ShipmentScheduled {
        shipment_id: shipment(id),
        order_id: order(n),
        customer_id: user(1),
        lines: vec![ShipmentLine { product_id: product(1), quantity: 2 }],
        address: Personal::of(user(1), address),
    }
    .into()
}

pub fn shipment_withdrawn(n: u64, id: u64) -> ShipmentEvent {
    ShipmentWithdrawn { shipment_id: shipment(id), order_id: order(n), reason: "cancelled".to_owned() }.into()
}

pub fn dispatched(n: u64, id: u64) -> ShipmentEvent {
    ShipmentDispatched {
        shipment_id: shipment(id),
        order_id: order(n),
        carrier: "Speedy".to_owned(),
        tracking: format!("SP-{id}"),
        dispatched_at: time(500),
    }
    .into()
}

pub fn arrived(n: u64, id: u64) -> ShipmentEvent {
    ShipmentDelivered { shipment_id: shipment(id), order_id: order(n), delivered_at: time(900) }.into()
}

pub fn shipment_cancelled(n: u64, id: u64) -> ShipmentEvent {
    ShipmentCancelled { shipment_id: shipment(id), order_id: order(n), reason: "not wanted".to_owned() }.into()
}

pub fn lost(n: u64, id: u64) -> ShipmentEvent {
    ShipmentLost { shipment_id: shipment(id), order_id: order(n), reason: "fell into the river".to_owned() }.into()
}

/// One of the ways that a line's pieces go.
pub fn line_history(random: &mut Random, n: u64, line: u32, of: u64) -> Vec<StockEvent> {
    let held = reserved(n, line, of);
    match random.below(7) {
        0 => vec![rejected(n, line, of)],
        1 => vec![withdrawn(n, line, of)],
        2 => vec![held, reservation_expired(n, line, of)],
        3 => vec![held, released(n, line, of)],
        4 => vec![held, reservation_confirmed(n, line, of)],
        5 => vec![held, reservation_confirmed(n, line, of), stock_shipped(n, line, of)],
        _ => vec![received(of), held],
    }
}

/// One of the ways that a payment goes.
pub fn payment_history(random: &mut Random, n: u64, id: u64) -> Vec<PaymentEvent> {
    let currency = if random.below(6) == 0 { Currency::EUR } else { Currency::USD };
    let [all, part, rest] = [100, 60, 40].map(|amount_minor| Money::new(amount_minor, currency));
    let mut events = vec![authorization_requested(n, id, all)];
    match random.below(8) {
        0 => return vec![barred(n, id)],
        1 => events.push(declined(n, id, all)),
        2 => events.extend([authorized(n, id, all), payment_expired(n, id, all)]),
        3 => events.extend([authorized(n, id, all), void_requested(n, id), voided(n, id, all)]),
        4 => {
            let tried = [capture_requested(n, id, all), capture_failed(n, id, all)];
            events.push(authorized(n, id, all));
            events.extend(tried);
        }
        5 => {
            let taken = [capture_requested(n, id, part), captured(n, id, part), voided(n, id, rest)];
            events.push(authorized(n, id, all));
            events.extend(taken);
        }
        6 => {
            events.extend([authorized(n, id, all), capture_requested(n, id, all), captured(n, id, all)]);
            events.extend(refunded(n, id, part));
            events.extend(refunded(n, id, rest));
        }
        _ => {}
    }
    events
}

/// One of the ways that a shipment goes.
pub fn shipment_history(random: &mut Random, n: u64, id: u64) -> Vec<ShipmentEvent> {
    let begun = scheduled(n, id);
    match random.below(6) {
        0 => vec![shipment_withdrawn(n, id)],
        1 => vec![begun, shipment_cancelled(n, id)],
        2 => vec![begun, dispatched(n, id)],
        3 => vec![begun, dispatched(n, id), arrived(n, id)],
        4 => vec![begun, dispatched(n, id), lost(n, id)],
        _ => vec![begun],
    }
}
