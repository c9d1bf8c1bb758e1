//! An order, all of it from one row.

use async_graphql::{Enum, ID, SimpleObject};
use chrono::{DateTime, Utc};
use read_side::order_details::{OrderDetails, OrderLineRow, ProductRow};

use super::{
    money::Money,
    node_id::{Kind, NodeId},
};

/// An order: its customer and its products, as three services tell them.
#[derive(Debug, SimpleObject)]
pub(crate) struct Order {
    /// The global id, for `node` and for caches.
    pub(super) id: ID,
    /// The order's UUID, as the orders service knows it.
    order_id: ID,
    /// The order's key in the system that it was imported from.
    external_ref: Option<String>,
    /// Where the order stands.
    status: OrderStatus,
    /// When the customer placed it.
    placed_at: DateTime<Utc>,
    /// Who placed it.
    customer: OrderCustomer,
    /// What was ordered, in the order of the order form.
    lines: Vec<OrderLine>,
    /// The sum of the lines' totals.
    total: Money,
}

/// Who placed an order, under the name they have now.
#[derive(Debug, SimpleObject)]
struct OrderCustomer {
    /// The customer's UUID. Pass it to `customer` for more.
    customer_id: ID,
    /// The name; null until the users service has told it, and after the customer was erased.
    name: Option<String>,
    /// The e-mail address; null as the name is.
    email: Option<String>,
}

/// One line of an order. Name and price are what they were on that day.
#[derive(Debug, SimpleObject)]
struct OrderLine {
    /// The product's UUID.
    product_id: ID,
    /// The product's name as ordered.
    product_name: String,
    /// How many.
    quantity: u32,
    /// The price of one, as ordered.
    unit_price: Money,
    /// The discount on this line in basis points: 1000 is 10 %.
    discount_bp: u32,
    /// What the line costs: unit price times quantity, less the discount, rounded half up to the minor unit once.
    total: Money,
    /// The product as the catalog knows it now; null until the catalog has told of it.
    product: Option<Product>,
}

/// A product as the catalog knows it now.
#[derive(Debug, SimpleObject)]
struct Product {
    /// The stock-keeping unit, unique among the products.
    sku: String,
    /// Its present name.
    name: String,
    /// Whether it can no longer be ordered.
    discontinued: bool,
}

/// Where an order stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "events::orders::OrderStatus")]
pub(crate) enum OrderStatus {
    /// Placed, and not confirmed yet.
    Pending,
    /// Stock and payment are settled.
    Confirmed,
    /// Called off.
    Cancelled,
    /// On its way.
    Shipped,
    /// Arrived.
    Delivered,
    /// All of it came back.
    Returned,
}

/// The row holds a time that no calendar has.
#[derive(Debug, thiserror::Error)]
#[error("order {order_id}: placed_at_us is {placed_at_us}, which is no time")]
pub(crate) struct NoTime {
    order_id: String,
    placed_at_us: i64,
}

impl TryFrom<OrderDetails> for Order {
    type Error = NoTime;

    fn try_from(row: OrderDetails) -> Result<Self, NoTime> {
        let placed_at = DateTime::from_timestamp_micros(row.placed_at_us)
            .ok_or_else(|| NoTime { order_id: row.order_id.to_string(), placed_at_us: row.placed_at_us })?;
        Ok(Self {
            id: NodeId::of(Kind::Order, row.order_id.0),
            order_id: ID(row.order_id.to_string()),
            external_ref: row.external_ref,
            status: row.status.into(),
            placed_at,
            customer: OrderCustomer {
                customer_id: ID(row.customer_id.to_string()),
                name: row.customer_name,
                email: row.customer_email,
            },
            lines: row.lines.into_iter().map(OrderLine::from).collect(),
            total: Money::new(row.total_minor, row.currency),
        })
    }
}

impl From<OrderLineRow> for OrderLine {
    fn from(row: OrderLineRow) -> Self {
        Self {
            product_id: ID(row.product_id.to_string()),
            product_name: row.product_name,
            quantity: row.quantity,
            unit_price: Money::new(row.unit_price_minor, row.currency),
            discount_bp: u32::from(row.discount_bp),
            total: Money::new(row.total_minor, row.currency),
            product: row.product.map(Product::from),
        }
    }
}

impl From<ProductRow> for Product {
    fn from(row: ProductRow) -> Self {
        Self { sku: row.sku, name: row.name, discontinued: row.discontinued }
    }
}
