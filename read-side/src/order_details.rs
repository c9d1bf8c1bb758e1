//! Order details: one row answers every question about an order, whichever service an answer comes from.
//!
//! The root facet is the orders service's; [`reservation`], [`payment`] and [`shipment`] are facets of the services that
//! carry the order out. Customer and products are references, filled by the users and the catalog service. A line's
//! product name and price stay what they were when the order was placed; the customer's name and e-mail address follow
//! the user.

mod as_of;
mod changed;
mod columns;
pub mod payment;
pub mod products;
mod queries;
pub mod reservation;
mod row;
pub mod several;
pub mod shipment;

use events::{
    ids::{CustomerId, OrderId, ProductId},
    money::Currency,
    orders::OrderStatus,
};
use serde::{Deserialize, Serialize};

pub use crate::references::{CUSTOMER, Customer, PRODUCT, ProductRow};
pub use changed::{CHANGED_ORDERS_MAX, ChangedOrder, ChangedOrders, ChangesOf, Fits};
pub use columns::{OrderColumns, OrderRow};
pub use queries::{OrderCursor, OrderFilter, OrderSort, SortKey};

use self::{
    payment::{OrderPayment, PaymentFacet},
    reservation::{LineReservation, OrderReservation, ReservationFacet},
    shipment::{OrderShipment, ShipmentFacet},
};
use crate::{
    references,
    template::{Kind, Template, column, column_since},
};

/// The tables of this read model.
pub static TEMPLATE: Template = Template {
    name: "order_details",
    key: "order_id",
    sources: &[
        events::orders::SOURCE,
        events::inventory::SOURCE,
        events::payments::SOURCE,
        events::shipping::SOURCE,
        events::users::SOURCE,
        events::catalog::SOURCE,
    ],
    facets: &["order_facet", "reservation_facet", "payment_facet", "shipment_facet"],
    columns: &[
        column("external_ref", Kind::Text),
        column("customer_id", Kind::Text),
        column("customer_name", Kind::Text),
        column("customer_email", Kind::Text),
        column("status", Kind::Text),
        column("placed_at_us", Kind::Integer),
        column("shipped_at_us", Kind::Integer),
        column("lines", Kind::Json),
        column("total_minor", Kind::Integer),
        column("currency", Kind::Text),
        column("updated_at_us", Kind::Integer),
        column_since(2, "confirmed_at_us", Kind::Integer),
        column_since(2, "cancelled_at_us", Kind::Integer),
        column_since(2, "cancel_reason", Kind::Text),
        column_since(2, "rejected", Kind::Boolean),
        column_since(2, "delivered_at_us", Kind::Integer),
        column_since(2, "returned_at_us", Kind::Integer),
        column_since(2, "return_reason", Kind::Text),
        column_since(2, "reservation", Kind::Json),
        column_since(2, "payment", Kind::Json),
        column_since(2, "shipment", Kind::Json),
    ],
    indexes: &[
        ("newest", "placed_at_us desc, order_id desc"),
        ("customer", "customer_id, placed_at_us desc, order_id desc"),
        ("status", "status, placed_at_us desc, order_id desc"),
        ("external_ref", "external_ref"),
        ("total", "total_minor desc, order_id desc"),
        ("updated", "updated_at_us desc, order_id desc"),
    ],
    references: &[references::CUSTOMERS, references::PRODUCTS],
    reference_indexes: &[(PRODUCT, "sku", "sku, product_id")],
    history: true,
    ..Template::BLANK
};

/// One order as it is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderDetails {
    pub order_id: OrderId,
    /// The key this order has in the system it came from.
    pub external_ref: Option<String>,
    pub customer_id: CustomerId,
    /// `None` until the users service's event arrived, and after the customer was erased.
    pub customer_name: Option<String>,
    /// As [`Self::customer_name`].
    pub customer_email: Option<String>,
    pub status: OrderStatus,
    /// Microseconds of Unix time.
    pub placed_at_us: i64,
    /// Microseconds of Unix time; `None` until it was shipped, and where an imported order does not tell.
    pub shipped_at_us: Option<i64>,
    pub lines: Vec<OrderLineRow>,
    pub total_minor: i64,
    pub currency: Currency,
    /// When the orders service last recorded something of this order, in microseconds of Unix time.
    pub updated_at_us: i64,
    /// When its confirmation was recorded, in microseconds of Unix time.
    pub confirmed_at_us: Option<i64>,
    /// When its cancellation was recorded, in microseconds of Unix time.
    pub cancelled_at_us: Option<i64>,
    pub cancel_reason: Option<String>,
    /// It was cancelled because it could not be carried out, and the reason is ours, not the customer's.
    pub rejected: bool,
    /// When it arrived, in microseconds of Unix time.
    pub delivered_at_us: Option<i64>,
    /// When the last return was recorded, in microseconds of Unix time.
    pub returned_at_us: Option<i64>,
    /// Why, if the last return said it.
    pub return_reason: Option<String>,
    /// `None` until the inventory service was asked for pieces: never for an imported order, as the next two.
    pub reservation: Option<OrderReservation>,
    /// `None` until the payments service has heard of the order.
    pub payment: Option<OrderPayment>,
    /// `None` until the shipping service has heard of the order.
    pub shipment: Option<OrderShipment>,
}

/// One line: name and price as ordered, the product as it is now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderLineRow {
    pub product_id: ProductId,
    pub product_name: String,
    pub quantity: u32,
    pub unit_price_minor: i64,
    pub currency: Currency,
    pub discount_bp: u16,
    pub total_minor: i64,
    /// How many of them came back.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub returned_quantity: u32,
    /// `None` until the catalog's event arrived.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub product: Option<ProductRow>,
    /// `None` until the inventory service was asked for them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reservation: Option<LineReservation>,
}

fn is_zero(quantity: &u32) -> bool {
    *quantity == 0
}

/// A customer as the users service knows them now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CustomerRow {
    pub customer_id: CustomerId,
    pub name: Option<String>,
    pub email: Option<String>,
    /// The person asked to be forgotten.
    pub erased: bool,
}

/// The root facet: what the orders service has said of an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderFacet {
    pub external_ref: Option<String>,
    pub customer_id: CustomerId,
    pub status: OrderStatus,
    pub placed_at_us: i64,
    pub shipped_at_us: Option<i64>,
    /// Without their products and reservations, which other services tell.
    pub lines: Vec<OrderLineRow>,
    pub total_minor: i64,
    pub currency: Currency,
    pub updated_at_us: i64,
    pub confirmed_at_us: Option<i64>,
    pub cancelled_at_us: Option<i64>,
    pub cancel_reason: Option<String>,
    pub rejected: bool,
    pub delivered_at_us: Option<i64>,
    pub returned_at_us: Option<i64>,
    pub return_reason: Option<String>,
}

/// What is known of an order: each part is folded from one source.
pub struct Known<'a> {
    pub order: &'a OrderFacet,
    pub reservation: Option<&'a ReservationFacet>,
    pub payment: Option<&'a PaymentFacet>,
    pub shipment: Option<&'a ShipmentFacet>,
    pub customer: Option<&'a Customer>,
}

/// What [`derive`] gives: the columns of [`TEMPLATE`].
#[derive(Debug, Serialize)]
pub struct Derived<'a> {
    external_ref: Option<&'a str>,
    customer_id: CustomerId,
    customer_name: Option<&'a str>,
    customer_email: Option<&'a str>,
    status: OrderStatus,
    placed_at_us: i64,
    shipped_at_us: Option<i64>,
    lines: Vec<OrderLineRow>,
    total_minor: i64,
    currency: Currency,
    updated_at_us: i64,
    confirmed_at_us: Option<i64>,
    cancelled_at_us: Option<i64>,
    cancel_reason: Option<&'a str>,
    rejected: bool,
    delivered_at_us: Option<i64>,
    returned_at_us: Option<i64>,
    return_reason: Option<&'a str>,
    reservation: Option<OrderReservation>,
    payment: Option<OrderPayment>,
    shipment: Option<OrderShipment>,
}

/// The row, from the facets and what its references say now. Pure: the same states give the same row, whatever order
/// they came to be in.
pub fn derive<'a>(known: &Known<'a>, product: impl Fn(ProductId) -> Option<&'a ProductRow>) -> Derived<'a> {
    let Known { order, reservation, payment, shipment, customer } = *known;
    let whole = |(place, line): (usize, &OrderLineRow)| OrderLineRow {
        product: product(line.product_id).cloned(),
        reservation: reservation.and_then(|facet| facet.of_line(place, line.product_id)).cloned(),
        ..line.clone()
    };
    Derived {
        external_ref: order.external_ref.as_deref(),
        customer_id: order.customer_id,
        customer_name: customer.and_then(|customer| customer.name.as_deref()),
        customer_email: customer.and_then(|customer| customer.email.as_deref()),
        status: order.status,
        placed_at_us: order.placed_at_us,
        shipped_at_us: order.shipped_at_us,
        lines: order.lines.iter().enumerate().map(whole).collect(),
        total_minor: order.total_minor,
        currency: order.currency,
        updated_at_us: order.updated_at_us,
        confirmed_at_us: order.confirmed_at_us,
        cancelled_at_us: order.cancelled_at_us,
        cancel_reason: order.cancel_reason.as_deref(),
        rejected: order.rejected,
        delivered_at_us: order.delivered_at_us,
        returned_at_us: order.returned_at_us,
        return_reason: order.return_reason.as_deref(),
        reservation: reservation.and_then(|facet| facet.of_order(&order.lines)),
        payment: payment.and_then(|facet| OrderPayment::of(facet, order.currency)),
        shipment: shipment.and_then(OrderShipment::of),
    }
}
