//! An order, all of it from one row.

mod payment;
mod reservation;
mod shipment;
mod timeline;

use async_graphql::{ComplexObject, Context, Enum, ID, Result, SimpleObject};
use chrono::{DateTime, Utc};
use events::ids::OrderId;
use read_side::order_details::{OrderDetails, OrderLineRow, ProductRow};

use self::{
    payment::OrderPayment,
    reservation::{LineReservation, OrderReservation},
    shipment::OrderShipment,
    timeline::{TimelineEntry, timeline_cost},
};
use super::{
    money::Money,
    node_id::{Kind, NodeId},
    time::{NoTime, maybe_time, time},
};

/// An order: who placed it, what was ordered, what is held, paid and sent for it, as six services tell it.
#[derive(Debug, SimpleObject)]
#[graphql(complex)]
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
    /// When the orders service recorded that stock and payment are settled.
    confirmed_at: Option<DateTime<Utc>>,
    /// When all of it went out.
    shipped_at: Option<DateTime<Utc>>,
    /// When all of it had arrived.
    delivered_at: Option<DateTime<Utc>>,
    /// When the orders service recorded that it was called off.
    cancelled_at: Option<DateTime<Utc>>,
    /// Why it was called off.
    cancel_reason: Option<String>,
    /// Whether it was called off because it could not be carried out: then the reason is ours, otherwise the customer's.
    rejected: bool,
    /// When the orders service last recorded that something of it came back.
    returned_at: Option<DateTime<Utc>>,
    /// Why, if the last return said it.
    return_reason: Option<String>,
    /// Who placed it.
    customer: OrderCustomer,
    /// What was ordered, in the order of the order form.
    lines: Vec<OrderLine>,
    /// The sum of the lines' totals.
    total: Money,
    /// What the inventory service holds for it; null until pieces were asked for, and for an imported order.
    reservation: Option<OrderReservation>,
    /// What was paid for it; null until the payments service has heard of it, and for an imported order.
    payment: Option<OrderPayment>,
    /// How far its parcels are; null until the shipping service has heard of it, and for an imported order.
    shipment: Option<OrderShipment>,
    #[graphql(skip)]
    key: OrderId,
}

#[ComplexObject]
impl Order {
    /// What became of it, service by service, oldest first; at most 1,000 entries.
    #[graphql(complexity = "timeline_cost(child_complexity)")]
    async fn timeline(&self, ctx: &Context<'_>) -> Result<Option<Vec<TimelineEntry>>> {
        timeline::of(ctx, self.key).await.map(Some)
    }
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
    /// How many of them came back.
    returned_quantity: u32,
    /// The product as the catalog knows it now; null until the catalog has told of it.
    product: Option<Product>,
    /// What became of the pieces it wants; null until they were asked for, and in an imported order.
    reservation: Option<LineReservation>,
}

/// A product as the catalog knows it now.
#[derive(Debug, SimpleObject)]
pub(super) struct Product {
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

impl TryFrom<OrderDetails> for Order {
    type Error = NoTime;

    fn try_from(row: OrderDetails) -> Result<Self, NoTime> {
        let currency = row.currency;
        Ok(Self {
            id: NodeId::of(Kind::Order, row.order_id.0),
            order_id: ID(row.order_id.to_string()),
            external_ref: row.external_ref,
            status: row.status.into(),
            placed_at: time("placed_at_us", row.placed_at_us)?,
            confirmed_at: maybe_time("confirmed_at_us", row.confirmed_at_us)?,
            shipped_at: maybe_time("shipped_at_us", row.shipped_at_us)?,
            delivered_at: maybe_time("delivered_at_us", row.delivered_at_us)?,
            cancelled_at: maybe_time("cancelled_at_us", row.cancelled_at_us)?,
            cancel_reason: row.cancel_reason,
            rejected: row.rejected,
            returned_at: maybe_time("returned_at_us", row.returned_at_us)?,
            return_reason: row.return_reason,
            customer: OrderCustomer {
                customer_id: ID(row.customer_id.to_string()),
                name: row.customer_name,
                email: row.customer_email,
            },
            lines: row.lines.into_iter().map(OrderLine::try_from).collect::<Result<_, _>>()?,
            total: Money::new(row.total_minor, currency),
            reservation: row.reservation.map(OrderReservation::try_from).transpose()?,
            payment: row.payment.map_or(Ok(None), |payment| OrderPayment::of(payment, currency))?,
            shipment: row.shipment.map_or(Ok(None), OrderShipment::of)?,
            key: row.order_id,
        })
    }
}

impl TryFrom<OrderLineRow> for OrderLine {
    type Error = NoTime;

    fn try_from(row: OrderLineRow) -> Result<Self, NoTime> {
        Ok(Self {
            product_id: ID(row.product_id.to_string()),
            product_name: row.product_name,
            quantity: row.quantity,
            unit_price: Money::new(row.unit_price_minor, row.currency),
            discount_bp: u32::from(row.discount_bp),
            total: Money::new(row.total_minor, row.currency),
            returned_quantity: row.returned_quantity,
            product: row.product.map(Product::from),
            reservation: row.reservation.map(LineReservation::try_from).transpose()?,
        })
    }
}

impl From<ProductRow> for Product {
    fn from(row: ProductRow) -> Self {
        Self { sku: row.sku, name: row.name, discontinued: row.discontinued }
    }
}
