//! Order details: the orders service is the root of a row; inventory, payments and shipping add facets of their own
//! ([`reservation`], [`payment`], [`shipment`]); users and catalog fill what it refers to.

mod payment;
mod reservation;
mod shipment;

use chrono::{DateTime, Utc};
use events::{
    envelope::RecordedEvent,
    ids::CustomerId,
    money::{Currency, sum_minor},
    orders::{self, OrderEvent, OrderLine, OrderStatus, ReturnedLine},
};
use read_side::order_details::{CUSTOMER, Known, OrderFacet, OrderLineRow, PRODUCT, TEMPLATE, derive};

use self::{payment::PaymentFold, reservation::ReservationFold, shipment::ShipmentFold};
use crate::{
    projection::{Facets, Fold, Link, Projection, References, begun},
    references::{CustomerFold, ProductFold},
};

/// Of the folds here and of `derive` in read-side: whoever changes what they give counts on.
pub const VERSION: u32 = 4;

pub fn projection() -> Projection {
    Projection::new(&TEMPLATE, VERSION)
        .facet::<OrderFold>()
        .facet::<ReservationFold>()
        .facet::<PaymentFold>()
        .facet::<ShipmentFold>()
        .reference::<CustomerFold>()
        .reference::<ProductFold>()
        .links(links)
        .derive(row)
}

/// The root facet.
struct OrderFold;

impl Fold for OrderFold {
    type Event = OrderEvent;
    type State = OrderFacet;
    const SOURCE: &'static str = orders::SOURCE;

    fn key(event: &OrderEvent) -> Option<String> {
        Some(match event {
            OrderEvent::OrderPlaced(event) => event.order_id.to_string(),
            OrderEvent::OrderImported(event) => event.order_id.to_string(),
            OrderEvent::OrderConfirmed(event) => event.order_id.to_string(),
            OrderEvent::OrderCancelled(event) => event.order_id.to_string(),
            OrderEvent::OrderShipped(event) => event.order_id.to_string(),
            OrderEvent::OrderDelivered(event) => event.order_id.to_string(),
            OrderEvent::OrderReturned(event) => event.order_id.to_string(),
        })
    }

    fn fold(state: Option<OrderFacet>, event: OrderEvent, recorded: &RecordedEvent) -> Result<OrderFacet, String> {
        let updated_at_us = recorded.recorded_at.timestamp_micros();
        let order = match event {
            OrderEvent::OrderPlaced(event) => OrderFacet {
                external_ref: event.external_ref,
                ..ordered(event.customer_id, OrderStatus::Pending, &event.lines, event.placed_at, updated_at_us)?
            },
            OrderEvent::OrderImported(event) => OrderFacet {
                external_ref: Some(event.external_ref),
                shipped_at_us: event.shipped_at.map(|shipped_at| shipped_at.timestamp_micros()),
                ..ordered(event.customer_id, event.status, &event.lines, event.placed_at, updated_at_us)?
            },
            OrderEvent::OrderConfirmed(_) => {
                let confirmed_at_us = Some(updated_at_us);
                OrderFacet { status: OrderStatus::Confirmed, confirmed_at_us, updated_at_us, ..begun(state)? }
            }
            OrderEvent::OrderCancelled(event) => {
                let (cancelled_at_us, cancel_reason) = (Some(updated_at_us), Some(event.reason));
                let (status, rejected) = (OrderStatus::Cancelled, event.rejected);
                OrderFacet { status, cancelled_at_us, cancel_reason, rejected, updated_at_us, ..begun(state)? }
            }
            OrderEvent::OrderShipped(event) => {
                let shipped_at_us = Some(event.shipped_at.timestamp_micros());
                OrderFacet { status: OrderStatus::Shipped, shipped_at_us, updated_at_us, ..begun(state)? }
            }
            OrderEvent::OrderDelivered(event) => {
                let delivered_at_us = Some(event.delivered_at.timestamp_micros());
                OrderFacet { status: OrderStatus::Delivered, delivered_at_us, updated_at_us, ..begun(state)? }
            }
            OrderEvent::OrderReturned(event) => {
                let mut order = begun(state)?;
                take_back(&mut order.lines, &event.lines);
                let status = if event.complete { OrderStatus::Returned } else { order.status };
                let (returned_at_us, return_reason) = (Some(updated_at_us), event.reason);
                OrderFacet { status, returned_at_us, return_reason, updated_at_us, ..order }
            }
        };
        Ok(order)
    }
}

/// An order as it begins.
fn ordered(
    customer_id: CustomerId,
    status: OrderStatus,
    ordered: &[OrderLine],
    placed_at: DateTime<Utc>,
    updated_at_us: i64,
) -> Result<OrderFacet, String> {
    let (lines, total_minor, currency) = lines(ordered)?;
    Ok(OrderFacet {
        external_ref: None,
        customer_id,
        status,
        placed_at_us: placed_at.timestamp_micros(),
        shipped_at_us: None,
        lines,
        total_minor,
        currency,
        updated_at_us,
        confirmed_at_us: None,
        cancelled_at_us: None,
        cancel_reason: None,
        rejected: false,
        delivered_at_us: None,
        returned_at_us: None,
        return_reason: None,
    })
}

/// Counts what came back at its lines. No two lines of an order name one product.
fn take_back(lines: &mut [OrderLineRow], returned: &[ReturnedLine]) {
    for back in returned {
        for line in lines.iter_mut().filter(|line| line.product_id == back.product_id) {
            line.returned_quantity = line.returned_quantity.saturating_add(back.quantity);
        }
    }
}

/// The lines as ordered, their sum, and its currency.
fn lines(lines: &[OrderLine]) -> Result<(Vec<OrderLineRow>, i64, Currency), String> {
    let currency = lines.first().ok_or("an order without lines")?.unit_price.currency;
    let mut rows = Vec::with_capacity(lines.len());
    for line in lines {
        if line.unit_price.currency != currency {
            return Err(format!("an order in {currency} and {}", line.unit_price.currency));
        }
        rows.push(OrderLineRow {
            product_id: line.product_id,
            product_name: line.product_name.clone(),
            quantity: line.quantity,
            unit_price_minor: line.unit_price.amount_minor,
            currency,
            discount_bp: line.discount_bp,
            total_minor: line.total_minor().map_err(|error| error.to_string())?,
            returned_quantity: 0,
            product: None,
            reservation: None,
        });
    }
    let total_minor = sum_minor(rows.iter().map(|line| line.total_minor)).map_err(|error| error.to_string())?;
    Ok((rows, total_minor, currency))
}

// places in the template
const ORDER: usize = 0;
const RESERVATION: usize = 1;
const PAYMENT: usize = 2;
const SHIPMENT: usize = 3;

fn links(facets: &Facets) -> Vec<Link> {
    let Some(order) = facets.get::<OrderFacet>(ORDER) else { return Vec::new() };
    let customer = Link { reference: CUSTOMER, foreign_key: order.customer_id.to_string() };
    let products = order.lines.iter().map(|line| Link { reference: PRODUCT, foreign_key: line.product_id.to_string() });
    std::iter::once(customer).chain(products).collect()
}

fn row(facets: &Facets, references: &References) -> Option<String> {
    let order = facets.get::<OrderFacet>(ORDER)?;
    let known = Known {
        order,
        reservation: facets.get(RESERVATION),
        payment: facets.get(PAYMENT),
        shipment: facets.get(SHIPMENT),
        customer: references.get(CUSTOMER, &order.customer_id.to_string()),
    };
    let derived = derive(&known, |product_id| references.get(PRODUCT, &product_id.to_string()));
    Some(serde_json::to_string(&derived).expect("a row is plain data"))
}
