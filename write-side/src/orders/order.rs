//! An order: what a customer wants, at the names and prices of the day it was placed.
//!
//! Why: an order must stay readable as it was agreed on, whatever becomes of products and prices. Invariants:
//! - 1 to 2,000 lines, each product once, 1 to 1,000,000 pieces each, all in one currency, the total within money's bound;
//! - a placed order names a customer and products that the orders service's replica knows and that are still to be had;
//!   an imported one is history, and is taken over as it was;
//! - placed, confirmed, shipped, delivered: one after the other. Cancelled or rejected only before it is confirmed: from then
//!   on money and goods move, and who calls it off gives everything back ([`returning`]), we only as long as nothing has left.
//!
//! A return of named lines adds to earlier returns, so it is the one command that asks for more when it is repeated under
//! another idempotency key.

mod returning;

use std::{collections::BTreeMap, sync::Arc};

use chrono::{DateTime, Utc};
use cqrs_es::{Aggregate, event_sink::EventSink};
use event_store::bus::{Domain, Refusal};
use events::{
    ids::{CustomerId, OrderId, ProductId},
    money::{Currency, Money, sum_minor},
    orders::{
        ORDER, ORDER_LINES_MAX, OrderCancelled, OrderConfirmed, OrderDelivered, OrderEvent, OrderImported, OrderLine,
        OrderPlaced, OrderShipped, OrderStatus, ReturnedLine,
    },
};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The most pieces on one line.
pub const QUANTITY_MAX: u32 = 1_000_000;

/// How many lines a refusal names: it is stored, so it is bounded.
const LINES_NAMED_MAX: usize = 20;

/// What an order can be asked.
#[derive(Debug, Clone, PartialEq)]
pub enum OrderCommand {
    Place(PlaceOrder),
    /// Takes over an order that ended elsewhere.
    Import(OrderImported),
    /// Stock and payment are settled.
    Confirm,
    /// The customer wants it no longer: called off, or given back once it is confirmed.
    Cancel {
        reason: String,
    },
    /// We cannot carry it out: called off, or given back once it is confirmed and not shipped.
    Reject {
        reason: String,
    },
    MarkShipped {
        shipped_at: DateTime<Utc>,
    },
    MarkDelivered {
        delivered_at: DateTime<Utc>,
    },
    /// `None` = everything that is still with the customer.
    Return {
        lines: Option<Vec<ReturnedLine>>,
    },
}

/// An order to place, with what the replica knew when it came in: deciding does no IO.
#[derive(Debug, Clone, PartialEq)]
pub struct PlaceOrder {
    pub order_id: OrderId,
    pub customer_id: CustomerId,
    pub customer: Customer,
    pub lines: Vec<WantedLine>,
    pub placed_at: DateTime<Utc>,
    pub payment_method: Option<String>,
    pub external_ref: Option<String>,
}

/// What the replica knows of a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Customer {
    Unknown,
    Active,
    Erased,
}

/// A line as the customer wants it.
#[derive(Debug, Clone, PartialEq)]
pub struct WantedLine {
    pub product_id: ProductId,
    pub quantity: u32,
    pub discount_bp: u16,
    /// What the replica knows of the product; `None` = nothing.
    pub offer: Option<Offer>,
}

/// A product as the replica of the catalog knows it.
#[derive(Debug, Clone, PartialEq)]
pub struct Offer {
    pub name: Arc<str>,
    pub unit_price: Money,
    pub discontinued: bool,
}

/// One line of a command, counted from 0, and the product it names.
pub type LineRef = (usize, ProductId);

#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum OrderError {
    #[error("there is no such order")]
    NotFound,
    #[error("order {0} is there already, with other data")]
    Exists(OrderId),
    #[error("customer {0} is not known")]
    CustomerUnknown(CustomerId),
    #[error("customer {0} has been erased")]
    CustomerErased(CustomerId),
    #[error("the order has {lines} lines; it may have 1 to {ORDER_LINES_MAX}")]
    LineCount { lines: usize },
    #[error("line {line} is for {quantity} pieces; it may be for 1 to {QUANTITY_MAX}")]
    Quantity { line: usize, quantity: u32 },
    #[error("{} of the lines name a product that another line names", .0.len())]
    ProductsRepeated(Vec<LineRef>),
    #[error("{} of the lines name a product that the catalog does not have", .0.len())]
    ProductsUnknown(Vec<LineRef>),
    #[error("{} of the lines name a product that is discontinued", .0.len())]
    ProductsDiscontinued(Vec<LineRef>),
    #[error("line {line} is in {currency}, line 0 in {first}: an order has one currency")]
    MixedCurrencies { line: usize, currency: Currency, first: Currency },
    #[error("the total is beyond {} minor units", events::money::AMOUNT_MINOR_MAX)]
    TotalTooLarge,
    #[error("order {0} is {1} and can no longer be confirmed")]
    NotConfirmable(OrderId, OrderStatus),
    #[error("order {0} is {1} and can no longer be rejected")]
    NotRejectable(OrderId, OrderStatus),
    #[error("order {0} is {1} and cannot be shipped: only a confirmed order is")]
    NotShippable(OrderId, OrderStatus),
    #[error("order {0} is {1} and cannot be delivered: only a shipped order is")]
    NotDeliverable(OrderId, OrderStatus),
    #[error(
        "order {0} is {1} and cannot be returned so: parts come back once they were shipped, before that all or nothing"
    )]
    NotReturnable(OrderId, OrderStatus),
    #[error("{} of the lines name a product that was not ordered", .0.len())]
    ProductsNotOrdered(Vec<LineRef>),
    #[error("line {line} returns {quantity} pieces of {product_id}; {left} of {ordered} ordered are left to return")]
    ReturnTooLarge { line: usize, product_id: ProductId, quantity: u32, left: u32, ordered: u32 },
}

/// Where an order stands.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub enum Order {
    #[default]
    Absent,
    Known(Box<KnownOrder>),
}

/// What is known of an order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KnownOrder {
    pub order_id: OrderId,
    pub customer_id: CustomerId,
    /// Never changed, so that deciding on a copy of the state copies no lines.
    #[serde(with = "shared_lines")]
    pub lines: Arc<[OrderLine]>,
    pub status: OrderStatus,
    pub placed_at: DateTime<Utc>,
    pub shipped_at: Option<DateTime<Utc>>,
    pub delivered_at: Option<DateTime<Utc>>,
    pub payment_method: Option<String>,
    pub external_ref: Option<String>,
    pub origin: Origin,
    pub cancelled_because: Option<String>,
    /// Pieces that came back, by product.
    pub returned: BTreeMap<ProductId, u32>,
}

/// How an order came to be known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Origin {
    Placed,
    Imported { status: OrderStatus },
}

impl Order {
    /// What follows from `command` here. Nothing when it is already so.
    pub fn decide(&self, command: OrderCommand) -> Result<Vec<OrderEvent>, OrderError> {
        match (self, command) {
            (Self::Absent, OrderCommand::Place(wanted)) => Ok(vec![place(wanted)?.into()]),
            (Self::Absent, OrderCommand::Import(imported)) => {
                check_lines(&imported.lines)?;
                Ok(vec![imported.into()])
            }
            (
                Self::Absent,
                OrderCommand::Confirm
                | OrderCommand::Cancel { .. }
                | OrderCommand::Reject { .. }
                | OrderCommand::MarkShipped { .. }
                | OrderCommand::MarkDelivered { .. }
                | OrderCommand::Return { .. },
            ) => Err(OrderError::NotFound),
            (Self::Known(order), OrderCommand::Place(wanted)) if order.was_placed_as(&wanted) => Ok(vec![]),
            (Self::Known(order), OrderCommand::Import(imported)) if order.was_imported_as(&imported) => Ok(vec![]),
            (Self::Known(order), OrderCommand::Place(_) | OrderCommand::Import(_)) => {
                Err(OrderError::Exists(order.order_id))
            }
            (Self::Known(order), OrderCommand::Confirm) => order.confirm(),
            (Self::Known(order), OrderCommand::Cancel { reason }) => order.cancel(reason),
            (Self::Known(order), OrderCommand::Reject { reason }) => order.reject(reason),
            (Self::Known(order), OrderCommand::MarkShipped { shipped_at }) => order.mark_shipped(shipped_at),
            (Self::Known(order), OrderCommand::MarkDelivered { delivered_at }) => order.mark_delivered(delivered_at),
            (Self::Known(order), OrderCommand::Return { lines }) => order.take_back(lines, None),
        }
    }
}

/// Fills in names and prices.
fn place(wanted: PlaceOrder) -> Result<OrderPlaced, OrderError> {
    match wanted.customer {
        Customer::Unknown => return Err(OrderError::CustomerUnknown(wanted.customer_id)),
        Customer::Erased => return Err(OrderError::CustomerErased(wanted.customer_id)),
        Customer::Active => {}
    }
    let named = |is: fn(&WantedLine) -> bool| -> Vec<LineRef> {
        let lines = wanted.lines.iter().enumerate();
        lines.filter(|(_, line)| is(line)).map(|(n, line)| (n, line.product_id)).collect()
    };
    let unknown = named(|line| line.offer.is_none());
    if !unknown.is_empty() {
        return Err(OrderError::ProductsUnknown(unknown));
    }
    let discontinued = named(|line| line.offer.as_ref().is_some_and(|offer| offer.discontinued));
    if !discontinued.is_empty() {
        return Err(OrderError::ProductsDiscontinued(discontinued));
    }
    let priced = |line: &WantedLine| {
        line.offer.as_ref().map(|offer| OrderLine {
            product_id: line.product_id,
            product_name: offer.name.to_string(),
            quantity: line.quantity,
            unit_price: offer.unit_price,
            discount_bp: line.discount_bp,
        })
    };
    let lines: Vec<OrderLine> = wanted.lines.iter().filter_map(priced).collect();
    check_lines(&lines)?;
    Ok(OrderPlaced {
        order_id: wanted.order_id,
        customer_id: wanted.customer_id,
        lines,
        placed_at: wanted.placed_at,
        payment_method: wanted.payment_method,
        external_ref: wanted.external_ref,
    })
}

/// What must hold of the lines of any order.
fn check_lines(lines: &[OrderLine]) -> Result<(), OrderError> {
    if !(1..=ORDER_LINES_MAX).contains(&lines.len()) {
        return Err(OrderError::LineCount { lines: lines.len() });
    }
    if let Some((line, wrong)) = lines.iter().enumerate().find(|(_, line)| !(1..=QUANTITY_MAX).contains(&line.quantity))
    {
        return Err(OrderError::Quantity { line, quantity: wrong.quantity });
    }
    let repeated = repeated(lines.iter().map(|line| line.product_id));
    if !repeated.is_empty() {
        return Err(OrderError::ProductsRepeated(repeated));
    }
    let first = lines[0].unit_price.currency;
    if let Some((line, other)) = lines.iter().enumerate().find(|(_, line)| line.unit_price.currency != first) {
        return Err(OrderError::MixedCurrencies { line, currency: other.unit_price.currency, first });
    }
    let totals: Result<Vec<i64>, _> = lines.iter().map(OrderLine::total_minor).collect();
    totals.and_then(sum_minor).map(drop).map_err(|_| OrderError::TotalTooLarge)
}

/// The lines whose product a line before them names.
fn repeated(products: impl Iterator<Item = ProductId>) -> Vec<LineRef> {
    let mut seen = std::collections::HashSet::new();
    products.enumerate().filter(|(_, product_id)| !seen.insert(*product_id)).collect()
}

impl KnownOrder {
    /// Whether the customer has it, or soon will.
    pub fn has_left(&self) -> bool {
        match self.status {
            OrderStatus::Shipped | OrderStatus::Delivered => true,
            OrderStatus::Pending | OrderStatus::Confirmed | OrderStatus::Cancelled | OrderStatus::Returned => false,
        }
    }

    fn was_placed_as(&self, wanted: &PlaceOrder) -> bool {
        let as_wanted = |(line, wanted): (&OrderLine, &WantedLine)| {
            (line.product_id, line.quantity, line.discount_bp)
                == (wanted.product_id, wanted.quantity, wanted.discount_bp)
        };
        self.origin == Origin::Placed
            && self.customer_id == wanted.customer_id
            && self.payment_method == wanted.payment_method
            && self.external_ref == wanted.external_ref
            && self.lines.len() == wanted.lines.len()
            && self.lines.iter().zip(&wanted.lines).all(as_wanted)
    }

    fn was_imported_as(&self, imported: &OrderImported) -> bool {
        self.origin == Origin::Imported { status: imported.status }
            && self.customer_id == imported.customer_id
            && self.placed_at == imported.placed_at
            && self.shipped_at == imported.shipped_at
            && self.external_ref.as_ref() == Some(&imported.external_ref)
            && *self.lines == *imported.lines
    }

    fn confirm(&self) -> Result<Vec<OrderEvent>, OrderError> {
        let &Self { order_id, customer_id, status, .. } = self;
        match status {
            OrderStatus::Pending => Ok(vec![OrderConfirmed { order_id, customer_id }.into()]),
            OrderStatus::Confirmed | OrderStatus::Shipped | OrderStatus::Delivered | OrderStatus::Returned => {
                Ok(vec![])
            }
            OrderStatus::Cancelled => Err(OrderError::NotConfirmable(order_id, status)),
        }
    }

    fn cancel(&self, reason: String) -> Result<Vec<OrderEvent>, OrderError> {
        let &Self { order_id, customer_id, status, .. } = self;
        match status {
            OrderStatus::Pending => Ok(vec![OrderCancelled { order_id, customer_id, reason, rejected: false }.into()]),
            OrderStatus::Cancelled => Ok(vec![]),
            OrderStatus::Confirmed | OrderStatus::Shipped | OrderStatus::Delivered | OrderStatus::Returned => {
                self.take_back(None, Some(reason))
            }
        }
    }

    fn reject(&self, reason: String) -> Result<Vec<OrderEvent>, OrderError> {
        let &Self { order_id, customer_id, status, .. } = self;
        match status {
            OrderStatus::Pending => Ok(vec![OrderCancelled { order_id, customer_id, reason, rejected: true }.into()]),
            OrderStatus::Confirmed => self.take_back(None, Some(reason)),
            OrderStatus::Cancelled | OrderStatus::Returned => Ok(vec![]),
            OrderStatus::Shipped | OrderStatus::Delivered => Err(OrderError::NotRejectable(order_id, status)),
        }
    }

    fn mark_shipped(&self, shipped_at: DateTime<Utc>) -> Result<Vec<OrderEvent>, OrderError> {
        let &Self { order_id, customer_id, status, .. } = self;
        match status {
            OrderStatus::Confirmed => Ok(vec![OrderShipped { order_id, customer_id, shipped_at }.into()]),
            OrderStatus::Shipped | OrderStatus::Delivered | OrderStatus::Returned => Ok(vec![]),
            OrderStatus::Pending | OrderStatus::Cancelled => Err(OrderError::NotShippable(order_id, status)),
        }
    }

    fn mark_delivered(&self, delivered_at: DateTime<Utc>) -> Result<Vec<OrderEvent>, OrderError> {
        let &Self { order_id, customer_id, status, .. } = self;
        match status {
            OrderStatus::Shipped => Ok(vec![OrderDelivered { order_id, customer_id, delivered_at }.into()]),
            // what was given up may have been on its way already: it is past this
            OrderStatus::Delivered | OrderStatus::Returned => Ok(vec![]),
            OrderStatus::Pending | OrderStatus::Confirmed | OrderStatus::Cancelled => {
                Err(OrderError::NotDeliverable(order_id, status))
            }
        }
    }
}

impl Aggregate for Order {
    const TYPE: &'static str = ORDER;
    type Command = OrderCommand;
    type Event = OrderEvent;
    type Error = OrderError;
    type Services = ();

    async fn handle(&mut self, command: OrderCommand, (): &(), sink: &EventSink<Self>) -> Result<(), OrderError> {
        for event in self.decide(command)? {
            sink.write(event, self).await;
        }
        Ok(())
    }

    fn apply(&mut self, event: OrderEvent) {
        match event {
            OrderEvent::OrderPlaced(placed) => {
                *self = Self::Known(Box::new(KnownOrder {
                    order_id: placed.order_id,
                    customer_id: placed.customer_id,
                    lines: placed.lines.into(),
                    status: OrderStatus::Pending,
                    placed_at: placed.placed_at,
                    shipped_at: None,
                    delivered_at: None,
                    payment_method: placed.payment_method,
                    external_ref: placed.external_ref,
                    origin: Origin::Placed,
                    cancelled_because: None,
                    returned: BTreeMap::new(),
                }));
            }
            OrderEvent::OrderImported(imported) => {
                *self = Self::Known(Box::new(KnownOrder {
                    order_id: imported.order_id,
                    customer_id: imported.customer_id,
                    lines: imported.lines.into(),
                    status: imported.status,
                    placed_at: imported.placed_at,
                    shipped_at: imported.shipped_at,
                    delivered_at: None,
                    payment_method: None,
                    external_ref: Some(imported.external_ref),
                    origin: Origin::Imported { status: imported.status },
                    cancelled_because: None,
                    returned: BTreeMap::new(),
                }));
            }
            OrderEvent::OrderConfirmed(_) => {
                if let Self::Known(order) = self {
                    order.status = OrderStatus::Confirmed;
                }
            }
            OrderEvent::OrderShipped(shipped) => {
                if let Self::Known(order) = self {
                    order.status = OrderStatus::Shipped;
                    order.shipped_at = Some(shipped.shipped_at);
                }
            }
            OrderEvent::OrderDelivered(delivered) => {
                if let Self::Known(order) = self {
                    order.status = OrderStatus::Delivered;
                    order.delivered_at = Some(delivered.delivered_at);
                }
            }
            OrderEvent::OrderCancelled(cancelled) => {
                if let Self::Known(order) = self {
                    order.status = OrderStatus::Cancelled;
                    order.cancelled_because = Some(cancelled.reason);
                }
            }
            OrderEvent::OrderReturned(returned) => {
                if let Self::Known(order) = self {
                    for line in returned.lines {
                        *order.returned.entry(line.product_id).or_default() += line.quantity;
                    }
                    if returned.complete {
                        order.status = OrderStatus::Returned;
                    }
                }
            }
        }
    }
}

impl Domain for Order {
    const VERSION: u32 = 2;

    fn creates(command: &OrderCommand) -> bool {
        matches!(command, OrderCommand::Place(_) | OrderCommand::Import(_))
    }

    fn refusal(error: &OrderError) -> Refusal {
        let detail = error.to_string();
        let at = |code, line: usize, field: &str, detail: String| {
            let errors = serde_json::json!([{ "pointer": format!("/lines/{line}/{field}"), "detail": &detail }]);
            Refusal::new(code, detail).with("errors", errors)
        };
        match error {
            OrderError::NotFound => Refusal::new("order_not_found", detail),
            OrderError::Exists(_) => Refusal::new("order_exists", detail),
            OrderError::CustomerUnknown(customer_id) => {
                Refusal::new("customer_unknown", detail).with("customer_id", customer_id.to_string())
            }
            OrderError::CustomerErased(customer_id) => {
                Refusal::new("customer_erased", detail).with("customer_id", customer_id.to_string())
            }
            OrderError::LineCount { lines } => Refusal::new("line_count", detail).with("lines", *lines),
            OrderError::Quantity { line, .. } => at("quantity_out_of_range", *line, "quantity", detail),
            OrderError::ProductsRepeated(lines) => naming(Refusal::new("product_repeated", detail), lines),
            OrderError::ProductsUnknown(lines) => naming(Refusal::new("product_unknown", detail), lines),
            OrderError::ProductsDiscontinued(lines) => naming(Refusal::new("product_discontinued", detail), lines),
            OrderError::ProductsNotOrdered(lines) => naming(Refusal::new("product_not_ordered", detail), lines),
            OrderError::MixedCurrencies { line, .. } => at("mixed_currencies", *line, "unit_price/currency", detail),
            OrderError::TotalTooLarge => Refusal::new("total_too_large", detail),
            OrderError::NotConfirmable(_, status)
            | OrderError::NotRejectable(_, status)
            | OrderError::NotShippable(_, status)
            | OrderError::NotDeliverable(_, status)
            | OrderError::NotReturnable(_, status) => {
                stands(error, *status, detail).with("order_status", status.as_str())
            }
            OrderError::ReturnTooLarge { line, left, ordered, .. } => {
                at("return_too_large", *line, "quantity", detail).with("left", *left).with("ordered", *ordered)
            }
        }
    }
}

/// The refusal of what does not fit where an order stands.
fn stands(error: &OrderError, status: OrderStatus, detail: String) -> Refusal {
    match (error, status) {
        (
            OrderError::NotReturnable(..) | OrderError::NotDeliverable(..),
            OrderStatus::Pending | OrderStatus::Confirmed,
        ) => Refusal::new("order_not_shipped", detail),
        (_, OrderStatus::Cancelled) => Refusal::new("order_cancelled", detail),
        (_, OrderStatus::Pending | OrderStatus::Confirmed) => Refusal::new("order_not_confirmed", detail),
        (_, OrderStatus::Shipped) => Refusal::new("order_already_shipped", detail),
        (_, OrderStatus::Delivered) => Refusal::new("order_already_delivered", detail),
        (_, OrderStatus::Returned) => Refusal::new("order_already_returned", detail),
    }
}

/// Names the first of `lines` by JSON pointer.
fn naming(refusal: Refusal, lines: &[LineRef]) -> Refusal {
    let errors: Vec<_> = lines
        .iter()
        .take(LINES_NAMED_MAX)
        .map(|(line, product_id)| {
            serde_json::json!({ "pointer": format!("/lines/{line}/product_id"), "detail": product_id.to_string() })
        })
        .collect();
    refusal.with("errors", errors)
}

/// Lines behind a shared pointer, serialized as a list.
mod shared_lines {
    use std::sync::Arc;

    use events::orders::OrderLine;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<S: Serializer>(lines: &Arc<[OrderLine]>, serializer: S) -> Result<S::Ok, S::Error> {
        (**lines).serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Arc<[OrderLine]>, D::Error> {
        Vec::deserialize(deserializer).map(Into::into)
    }
}

#[cfg(test)]
#[path = "order_tests.rs"]
mod tests;
