//! An order, as much of it as is asked for.

mod payment;
mod reservation;
mod shipment;
mod timeline;

use std::sync::OnceLock;

use async_graphql::{Context, Enum, ID, Object, Result, SelectionField, SimpleObject};
use chrono::{DateTime, Utc};
use events::ids::OrderId;
use read_side::order_details::{OrderColumns, OrderDetails, OrderLineRow, OrderRow};

use self::{
    payment::OrderPayment,
    reservation::{LineReservation, OrderReservation},
    shipment::OrderShipment,
    timeline::{TimelineEntry, timeline_cost},
};
use super::{
    in_turn::{InTurn, ListInTurn},
    money::Money,
    node_id::{Kind, NodeId},
    product::Product,
    read::invalid,
    time::{NoTime, maybe_time},
};

pub(super) use timeline::Timelines;

/// What was read of an order.
#[derive(Debug)]
pub(crate) struct Order {
    key: OrderId,
    /// Made when it is asked for.
    id: OnceLock<ID>,
    /// A field whose column was not read is a bug: the columns are those of the fields that are asked for.
    read: OrderColumns,
    external_ref: Option<String>,
    status: Option<OrderStatus>,
    placed_at: Option<DateTime<Utc>>,
    updated_at: Option<DateTime<Utc>>,
    confirmed_at: Option<DateTime<Utc>>,
    shipped_at: Option<DateTime<Utc>>,
    delivered_at: Option<DateTime<Utc>>,
    cancelled_at: Option<DateTime<Utc>>,
    cancel_reason: Option<String>,
    rejected: bool,
    returned_at: Option<DateTime<Utc>>,
    return_reason: Option<String>,
    customer: Option<InTurn<OrderCustomer>>,
    lines: Option<ListInTurn<OrderLine>>,
    total: Option<InTurn<Money>>,
    reservation: Option<OrderReservation>,
    payment: Option<OrderPayment>,
    shipment: Option<OrderShipment>,
    /// What is read beside it where it is one of many.
    timelines: Option<Timelines>,
    is_as_of: bool,
}

/// The columns that the fields of an order are made of.
const COLUMNS: &[(&str, OrderColumns)] = &[
    ("externalRef", column("external_ref")),
    ("status", column("status")),
    ("placedAt", column("placed_at_us")),
    ("updatedAt", column("updated_at_us")),
    ("confirmedAt", column("confirmed_at_us")),
    ("shippedAt", column("shipped_at_us")),
    ("deliveredAt", column("delivered_at_us")),
    ("cancelledAt", column("cancelled_at_us")),
    ("cancelReason", column("cancel_reason")),
    ("rejected", column("rejected")),
    ("returnedAt", column("returned_at_us")),
    ("returnReason", column("return_reason")),
    ("customer", column("customer_id")),
    ("lines", column("lines")),
    ("total", column("total_minor").and(column("currency"))),
    ("reservation", column("reservation")),
    ("payment", column("payment").and(column("currency"))),
    ("shipment", column("shipment")),
];

/// Those of [`OrderCustomer`].
const CUSTOMER_COLUMNS: &[(&str, OrderColumns)] =
    &[("name", column("customer_name")), ("email", column("customer_email"))];

const fn column(name: &str) -> OrderColumns {
    OrderColumns::of(name)
}

/// The columns that are asked for, where orders are selected.
pub(super) fn columns<'a>(selected: impl IntoIterator<Item = SelectionField<'a>>) -> OrderColumns {
    let mut columns = OrderColumns::NONE;
    let mut ask = |table: &[(&str, OrderColumns)], field: &str| {
        let of_field = table.iter().filter(|(name, _)| *name == field);
        of_field.for_each(|(_, of_field)| columns = columns | *of_field);
    };
    for order in selected {
        for field in order.selection_set() {
            ask(COLUMNS, field.name());
            if field.name() == "customer" {
                field.selection_set().for_each(|field| ask(CUSTOMER_COLUMNS, field.name()));
            }
        }
    }
    columns
}

impl Order {
    /// Of a row of which `read` was read.
    pub(super) fn of(row: OrderRow, read: OrderColumns) -> Result<Self, NoTime> {
        let currency = row.currency;
        Ok(Self {
            key: row.order_id,
            id: OnceLock::new(),
            read,
            external_ref: row.external_ref,
            status: row.status.map(Into::into),
            placed_at: maybe_time("placed_at_us", row.placed_at_us)?,
            updated_at: maybe_time("updated_at_us", row.updated_at_us)?,
            confirmed_at: maybe_time("confirmed_at_us", row.confirmed_at_us)?,
            shipped_at: maybe_time("shipped_at_us", row.shipped_at_us)?,
            delivered_at: maybe_time("delivered_at_us", row.delivered_at_us)?,
            cancelled_at: maybe_time("cancelled_at_us", row.cancelled_at_us)?,
            cancel_reason: row.cancel_reason,
            rejected: row.rejected.unwrap_or(false),
            returned_at: maybe_time("returned_at_us", row.returned_at_us)?,
            return_reason: row.return_reason,
            customer: row.customer_id.map(|customer_id| {
                InTurn(OrderCustomer {
                    customer_id: ID(customer_id.to_string()),
                    name: row.customer_name,
                    email: row.customer_email,
                })
            }),
            lines: row.lines.map(OrderLine::list).transpose()?,
            total: row.total_minor.zip(currency).map(|(total_minor, currency)| Money::in_turn(total_minor, currency)),
            reservation: row.reservation.map(OrderReservation::try_from).transpose()?,
            payment: match row.payment.zip(currency) {
                Some((payment, currency)) => OrderPayment::of(payment, currency)?,
                None => None,
            },
            shipment: row.shipment.map_or(Ok(None), OrderShipment::of)?,
            timelines: None,
            is_as_of: false,
        })
    }

    /// As it was at a recorded time.
    pub(super) fn of_then(self) -> Self {
        Self { is_as_of: true, ..self }
    }

    /// With what was read beside it.
    pub(super) fn with_timelines(self, timelines: Option<Timelines>) -> Self {
        Self { timelines, ..self }
    }

    fn asked<T>(&self, column: OrderColumns, value: T) -> T {
        assert!(self.read.contains(column), "{column:?} is asked for, and was not read");
        value
    }
}

impl TryFrom<OrderDetails> for Order {
    type Error = NoTime;

    fn try_from(order: OrderDetails) -> Result<Self, NoTime> {
        Self::of(order.into(), OrderColumns::ALL)
    }
}

/// What is never null is there when it was read.
fn there<'a, T>(column: &str, value: &'a Option<T>) -> &'a T {
    value.as_ref().unwrap_or_else(|| panic!("{column} is asked for, and was not read"))
}

/// An order: who placed it, what was ordered, what is held, paid and sent for it, as six services tell it.
#[Object]
impl Order {
    /// The global id, for `node` and for caches.
    pub(super) async fn id(&self) -> &ID {
        self.id.get_or_init(|| NodeId::of(Kind::Order, self.key.0))
    }

    /// The order's UUID, as the orders service knows it.
    async fn order_id(&self) -> ID {
        ID(self.key.to_string())
    }

    /// The order's key in the system that it was imported from.
    async fn external_ref(&self) -> Option<&str> {
        self.asked(const { column("external_ref") }, self.external_ref.as_deref())
    }

    /// Where the order stands.
    async fn status(&self) -> OrderStatus {
        *there("status", &self.status)
    }

    /// When the customer placed it.
    async fn placed_at(&self) -> DateTime<Utc> {
        *there("placed_at_us", &self.placed_at)
    }

    /// When the orders service last recorded something of it.
    async fn updated_at(&self) -> DateTime<Utc> {
        *there("updated_at_us", &self.updated_at)
    }

    /// When the orders service recorded that stock and payment are settled.
    async fn confirmed_at(&self) -> Option<DateTime<Utc>> {
        self.asked(const { column("confirmed_at_us") }, self.confirmed_at)
    }

    /// When all of it went out.
    async fn shipped_at(&self) -> Option<DateTime<Utc>> {
        self.asked(const { column("shipped_at_us") }, self.shipped_at)
    }

    /// When all of it had arrived.
    async fn delivered_at(&self) -> Option<DateTime<Utc>> {
        self.asked(const { column("delivered_at_us") }, self.delivered_at)
    }

    /// When the orders service recorded that it was called off.
    async fn cancelled_at(&self) -> Option<DateTime<Utc>> {
        self.asked(const { column("cancelled_at_us") }, self.cancelled_at)
    }

    /// Why it was called off.
    async fn cancel_reason(&self) -> Option<&str> {
        self.asked(const { column("cancel_reason") }, self.cancel_reason.as_deref())
    }

    /// Whether it was called off because it could not be carried out: then the reason is ours, otherwise the customer's.
    async fn rejected(&self) -> bool {
        self.asked(const { column("rejected") }, self.rejected)
    }

    /// When the orders service last recorded that something of it came back.
    async fn returned_at(&self) -> Option<DateTime<Utc>> {
        self.asked(const { column("returned_at_us") }, self.returned_at)
    }

    /// Why, if the last return said it.
    async fn return_reason(&self) -> Option<&str> {
        self.asked(const { column("return_reason") }, self.return_reason.as_deref())
    }

    /// Who placed it.
    async fn customer(&self) -> &InTurn<OrderCustomer> {
        there("customer_id", &self.customer)
    }

    /// What was ordered, in the order of the order form.
    async fn lines(&self) -> &ListInTurn<OrderLine> {
        there("lines", &self.lines)
    }

    /// The sum of the lines' totals.
    async fn total(&self) -> &InTurn<Money> {
        there("total_minor", &self.total)
    }

    /// What the inventory service holds for it; null until pieces were asked for, and for an imported order.
    async fn reservation(&self) -> Option<&OrderReservation> {
        self.asked(const { column("reservation") }, self.reservation.as_ref())
    }

    /// What was paid for it; null until the payments service has heard of it, and for an imported order.
    async fn payment(&self) -> Option<&OrderPayment> {
        self.asked(const { column("payment") }, self.payment.as_ref())
    }

    /// How far its parcels are; null until the shipping service has heard of it, and for an imported order.
    async fn shipment(&self) -> Option<&OrderShipment> {
        self.asked(const { column("shipment") }, self.shipment.as_ref())
    }

    /// What became of it, service by service, oldest first; at most 1,000 entries. Not told of an order as of a time.
    #[graphql(complexity = "timeline_cost(child_complexity)")]
    async fn timeline(&self, ctx: &Context<'_>) -> Result<Option<Vec<TimelineEntry>>> {
        if self.is_as_of {
            return Err(invalid("asOf", "an order as of a time has no timeline: ask for it without `asOf`"));
        }
        timeline::of(ctx, self.key, self.timelines.as_ref()).await.map(Some)
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

/// A line as it was read: what it is shown as is made when it is asked for.
#[derive(Debug)]
struct OrderLine {
    row: OrderLineRow,
    reservation: Option<LineReservation>,
}

/// One line of an order. Name and price are what they were on that day.
#[Object]
impl OrderLine {
    /// The product's UUID.
    async fn product_id(&self) -> ID {
        ID(self.row.product_id.to_string())
    }

    /// The product's name as ordered.
    async fn product_name(&self) -> &str {
        &self.row.product_name
    }

    /// How many.
    async fn quantity(&self) -> u32 {
        self.row.quantity
    }

    /// The price of one, as ordered.
    async fn unit_price(&self) -> InTurn<Money> {
        Money::in_turn(self.row.unit_price_minor, self.row.currency)
    }

    /// The discount on this line in basis points: 1000 is 10 %.
    async fn discount_bp(&self) -> u32 {
        self.row.discount_bp.into()
    }

    /// What the line costs: unit price times quantity, less the discount, rounded half up to the minor unit once.
    async fn total(&self) -> InTurn<Money> {
        Money::in_turn(self.row.total_minor, self.row.currency)
    }

    /// How many of them came back.
    async fn returned_quantity(&self) -> u32 {
        self.row.returned_quantity
    }

    /// The product as the catalog knows it now; null until the catalog has told of it.
    async fn product(&self) -> Option<Product> {
        self.row.product.clone().map(|product| Product::of(self.row.product_id, product))
    }

    /// What became of the pieces it wants; null until they were asked for, and in an imported order.
    async fn reservation(&self) -> Option<&LineReservation> {
        self.reservation.as_ref()
    }
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

impl OrderLine {
    fn list(rows: Vec<OrderLineRow>) -> Result<ListInTurn<Self>, NoTime> {
        rows.into_iter().map(Self::try_from).collect::<Result<_, _>>().map(ListInTurn)
    }
}

impl TryFrom<OrderLineRow> for OrderLine {
    type Error = NoTime;

    fn try_from(mut row: OrderLineRow) -> Result<Self, NoTime> {
        let reservation = row.reservation.take().map(LineReservation::try_from).transpose()?;
        Ok(Self { row, reservation })
    }
}
