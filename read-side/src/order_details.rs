//! Order details: one row answers every question about an order, whichever service an answer comes from.
//!
//! The root facet is the orders service's; customer and products are references, filled by the users and the catalog
//! service. A line's product name and price stay what they were when the order was placed; the customer's name and
//! e-mail address follow the user.

mod queries;
mod row;

use events::{
    ids::{CustomerId, OrderId, ProductId},
    money::Currency,
    orders::OrderStatus,
};
use serde::{Deserialize, Serialize};

pub use queries::{ORDERS_PAGE_MAX, OrderCursor, OrderFilter, OrderPage};

use crate::template::{Column, Kind, ReferenceTemplate, Template, column};

/// The tables of this read model.
pub static TEMPLATE: Template = Template {
    name: "order_details",
    key: "order_id",
    facets: &["order_facet"],
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
    ],
    indexes: &[
        ("newest", "placed_at_us desc, order_id desc"),
        ("customer", "customer_id, placed_at_us desc, order_id desc"),
        ("status", "status, placed_at_us desc, order_id desc"),
        ("external_ref", "external_ref"),
    ],
    references: &[
        ReferenceTemplate { name: CUSTOMER, key: "customer_id", columns: CUSTOMER_COLUMNS },
        ReferenceTemplate { name: PRODUCT, key: "product_id", columns: PRODUCT_COLUMNS },
    ],
};

/// The reference that the users service fills.
pub const CUSTOMER: &str = "customer";
const CUSTOMER_COLUMNS: &[Column] =
    &[column("name", Kind::Text), column("email", Kind::Text), column("erased", Kind::Boolean)];

/// The reference that the catalog service fills.
pub const PRODUCT: &str = "product";
const PRODUCT_COLUMNS: &[Column] =
    &[column("sku", Kind::Text), column("name", Kind::Text), column("discontinued", Kind::Boolean)];

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
    /// `None` until the catalog's event arrived.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub product: Option<ProductRow>,
}

/// A product as the catalog knows it now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProductRow {
    pub sku: String,
    pub name: String,
    pub discontinued: bool,
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

/// The state of the customer reference.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Customer {
    pub name: Option<String>,
    pub email: Option<String>,
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
    /// Without their products, which the catalog tells.
    pub lines: Vec<OrderLineRow>,
    pub total_minor: i64,
    pub currency: Currency,
    pub updated_at_us: i64,
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
}

/// The row, from the facet and what its references say now. Pure: the same states give the same row, whatever order
/// they came to be in.
pub fn derive<'a>(
    order: &'a OrderFacet,
    customer: Option<&'a Customer>,
    product: impl Fn(ProductId) -> Option<&'a ProductRow>,
) -> Derived<'a> {
    let with_product =
        |line: &OrderLineRow| OrderLineRow { product: product(line.product_id).cloned(), ..line.clone() };
    Derived {
        external_ref: order.external_ref.as_deref(),
        customer_id: order.customer_id,
        customer_name: customer.and_then(|customer| customer.name.as_deref()),
        customer_email: customer.and_then(|customer| customer.email.as_deref()),
        status: order.status,
        placed_at_us: order.placed_at_us,
        shipped_at_us: order.shipped_at_us,
        lines: order.lines.iter().map(with_product).collect(),
        total_minor: order.total_minor,
        currency: order.currency,
        updated_at_us: order.updated_at_us,
    }
}
