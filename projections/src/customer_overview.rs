//! Customer overview: each order contributes to its customer's totals what the orders and the payments service say of it.

use std::collections::{BTreeMap, BTreeSet};

use events::{
    envelope::RecordedEvent,
    ids::CustomerId,
    money::{Currency, Money},
    orders::{self, OrderEvent, OrderLine, OrderStatus},
    payments::{self, PaymentEvent},
};
use read_side::customer_overview::TEMPLATE;
use serde::{Deserialize, Serialize};

use crate::{
    projection::{Facets, Fold, Projection, Share, begun},
    references::CustomerFold,
};

/// Of the folds here and of what they contribute: whoever changes what they give counts on.
pub const VERSION: u32 = 1;

pub fn projection() -> Projection {
    Projection::new(&TEMPLATE, VERSION)
        .facet::<OrderFold>()
        .facet::<PaymentFold>()
        .reference::<CustomerFold>()
        .contribute(contribute)
}

/// Whose order it is, and whether it still counts.
#[derive(Clone, Serialize, Deserialize)]
struct Ordered {
    customer_id: CustomerId,
    currency: Currency,
    placed_at_us: i64,
    cancelled: bool,
}

struct OrderFold;

impl Fold for OrderFold {
    type Event = OrderEvent;
    type State = Ordered;
    const SOURCE: &'static str = orders::SOURCE;

    fn key(event: &OrderEvent) -> Option<String> {
        let order_id = match event {
            OrderEvent::OrderPlaced(event) => event.order_id,
            OrderEvent::OrderImported(event) => event.order_id,
            OrderEvent::OrderCancelled(event) => event.order_id,
            // what comes back changes the totals when it is paid back
            OrderEvent::OrderConfirmed(_)
            | OrderEvent::OrderShipped(_)
            | OrderEvent::OrderDelivered(_)
            | OrderEvent::OrderReturned(_) => return None,
        };
        Some(order_id.to_string())
    }

    fn fold(state: Option<Ordered>, event: OrderEvent, _: &RecordedEvent) -> Result<Ordered, String> {
        let begins_again = state.is_some();
        let ordered = |customer_id, lines: &[OrderLine], placed_at_us, cancelled| {
            if begins_again {
                // what it has contributed can be changed, and not be given to somebody else
                return Err("an order that begins a second time".to_owned());
            }
            let currency = lines.first().ok_or("an order without lines")?.unit_price.currency;
            Ok(Ordered { customer_id, currency, placed_at_us, cancelled })
        };
        match event {
            OrderEvent::OrderPlaced(event) => {
                ordered(event.customer_id, &event.lines, event.placed_at.timestamp_micros(), false)
            }
            OrderEvent::OrderImported(event) => {
                let cancelled = event.status == OrderStatus::Cancelled;
                ordered(event.customer_id, &event.lines, event.placed_at.timestamp_micros(), cancelled)
            }
            OrderEvent::OrderCancelled(_) => Ok(Ordered { cancelled: true, ..begun(state)? }),
            OrderEvent::OrderConfirmed(_)
            | OrderEvent::OrderShipped(_)
            | OrderEvent::OrderDelivered(_)
            | OrderEvent::OrderReturned(_) => begun(state),
        }
    }
}

/// What was taken and paid back for an order, by currency.
type Paid = BTreeMap<Currency, PaidIn>;

#[derive(Clone, Default, Serialize, Deserialize)]
struct PaidIn {
    captured_minor: i64,
    refunded_minor: i64,
}

/// The money that has moved: what is only asked for or held is no spend.
struct PaymentFold;

impl Fold for PaymentFold {
    type Event = PaymentEvent;
    type State = Paid;
    const SOURCE: &'static str = payments::SOURCE;

    fn key(event: &PaymentEvent) -> Option<String> {
        moved(event).map(|(order_id, ..)| order_id)
    }

    fn fold(state: Option<Paid>, event: PaymentEvent, _: &RecordedEvent) -> Result<Paid, String> {
        let mut paid = state.unwrap_or_default();
        if let Some((_, amount, direction)) = moved(&event) {
            let paid = paid.entry(amount.currency).or_default();
            let sum_minor = match direction {
                Direction::Taken => &mut paid.captured_minor,
                Direction::PaidBack => &mut paid.refunded_minor,
            };
            *sum_minor = sum_minor.saturating_add(amount.amount_minor);
        }
        Ok(paid)
    }
}

enum Direction {
    Taken,
    PaidBack,
}

/// Whose money has moved, how much, and whereto; `None` when none has.
fn moved(event: &PaymentEvent) -> Option<(String, Money, Direction)> {
    match event {
        PaymentEvent::PaymentCaptured(event) => Some((event.order_id.to_string(), event.amount, Direction::Taken)),
        PaymentEvent::PaymentRefunded(event) => Some((event.order_id.to_string(), event.amount, Direction::PaidBack)),
        PaymentEvent::AuthorizationRequested(_)
        | PaymentEvent::PaymentAuthorized(_)
        | PaymentEvent::PaymentDeclined(_)
        | PaymentEvent::CaptureRequested(_)
        | PaymentEvent::CaptureFailed(_)
        | PaymentEvent::VoidRequested(_)
        | PaymentEvent::PaymentVoided(_)
        | PaymentEvent::PaymentBarred(_)
        | PaymentEvent::RefundRequested(_)
        | PaymentEvent::RefundFailed(_)
        | PaymentEvent::PaymentExpired(_) => None,
    }
}

// places in the template
const ORDER: usize = 0;
const PAYMENT: usize = 1;

fn contribute(facets: &Facets) -> Vec<Share> {
    let Some(order) = facets.get::<Ordered>(ORDER) else { return Vec::new() };
    let paid = facets.get::<Paid>(PAYMENT).cloned().unwrap_or_default();
    // a payment in another currency than the order's is strange, and somebody's money
    let currencies: BTreeSet<Currency> = paid.keys().copied().chain([order.currency]).collect();
    let share = |currency: Currency| {
        let paid = paid.get(&currency).cloned().unwrap_or_default();
        let orders = i64::from(currency == order.currency);
        let cancelled = if order.cancelled { orders } else { 0 };
        Share {
            group: vec![order.customer_id.to_string(), currency.to_string()],
            amounts: vec![orders, cancelled, paid.captured_minor, paid.refunded_minor, order.placed_at_us],
        }
    };
    currencies.into_iter().map(share).collect()
}
