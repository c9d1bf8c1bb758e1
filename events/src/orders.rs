//! What the orders service publishes. Every event carries its `order_id` and its `customer_id`: who looks at an order or
//! at a customer's orders looks by them.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{
    ids::{CustomerId, OrderId, ProductId},
    money::{Money, MoneyError, line_total_minor},
    published::published,
};

/// The name of the orders service: its source in vectors and tokens, and its place in URLs.
pub const SOURCE: &str = "orders";

/// The aggregate type of an order's stream.
pub const ORDER: &str = "order";

/// The most lines one order may have.
pub const ORDER_LINES_MAX: usize = 2_000;

published! {
    /// Everything that can be known to have happened to an order.
    pub enum OrderEvent {
        "OrderPlaced" "1" => OrderPlaced,
        "OrderImported" "1" => OrderImported,
        "OrderConfirmed" "1" => OrderConfirmed,
        "OrderCancelled" "1" => OrderCancelled,
        "OrderShipped" "1" => OrderShipped,
        "OrderDelivered" "1" => OrderDelivered,
        "OrderReturned" "1" => OrderReturned,
    }
}

/// A customer placed an order: it is `PENDING` until checkout confirms it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OrderPlaced {
    pub order_id: OrderId,
    pub customer_id: CustomerId,
    pub lines: Vec<OrderLine>,
    pub placed_at: DateTime<Utc>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payment_method: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_ref: Option<String>,
}

/// An order that ended in another system, taken over with its own times, prices and status. No reactor and no saga
/// acts on it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OrderImported {
    pub order_id: OrderId,
    pub customer_id: CustomerId,
    pub lines: Vec<OrderLine>,
    pub status: OrderStatus,
    pub placed_at: DateTime<Utc>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shipped_at: Option<DateTime<Utc>>,
    pub external_ref: String,
}

/// Stock and payment are settled: from here on the order is carried out, and what the customer no longer wants comes
/// back as a return.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OrderConfirmed {
    pub order_id: OrderId,
    pub customer_id: CustomerId,
}

/// The order was called off before it was confirmed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OrderCancelled {
    pub order_id: OrderId,
    pub customer_id: CustomerId,
    pub reason: String,
    /// It was us who could not carry it out, and the reason is ours; otherwise both are the customer's.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub rejected: bool,
}

/// All of the order is on its way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OrderShipped {
    pub order_id: OrderId,
    pub customer_id: CustomerId,
    pub shipped_at: DateTime<Utc>,
}

/// All of the order is with the customer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OrderDelivered {
    pub order_id: OrderId,
    pub customer_id: CustomerId,
    pub delivered_at: DateTime<Utc>,
}

/// Goods came back, or were given up before they left. `lines` are those of this time; `complete` says that nothing is left
/// with the customer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OrderReturned {
    pub order_id: OrderId,
    pub customer_id: CustomerId,
    pub lines: Vec<ReturnedLine>,
    pub complete: bool,
    /// Why, where it was said: by who wanted to cancel and was too late for that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReturnedLine {
    pub product_id: ProductId,
    pub quantity: u32,
}

/// One line as ordered: name and price stay what they were on that day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OrderLine {
    pub product_id: ProductId,
    pub product_name: String,
    pub quantity: u32,
    pub unit_price: Money,
    #[serde(default)]
    pub discount_bp: u16,
}

impl OrderLine {
    /// What this line costs, in minor units of its currency.
    pub fn total_minor(&self) -> Result<i64, MoneyError> {
        line_total_minor(self.unit_price.amount_minor, self.quantity, self.discount_bp)
    }
}

/// Where an order stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum OrderStatus {
    Pending,
    Confirmed,
    Cancelled,
    Shipped,
    Delivered,
    Returned,
}

impl OrderStatus {
    pub const ALL: [Self; 6] =
        [Self::Pending, Self::Confirmed, Self::Cancelled, Self::Shipped, Self::Delivered, Self::Returned];

    /// The words of [`Self::ALL`].
    pub const WORDS: [&'static str; 6] = {
        let mut words = [""; 6];
        let mut n = 0;
        while n < words.len() {
            words[n] = Self::ALL[n].as_str();
            n += 1;
        }
        words
    };

    /// The word on the wire, in the log and in the read model.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::Confirmed => "CONFIRMED",
            Self::Cancelled => "CANCELLED",
            Self::Shipped => "SHIPPED",
            Self::Delivered => "DELIVERED",
            Self::Returned => "RETURNED",
        }
    }
}

impl std::fmt::Display for OrderStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for OrderStatus {
    type Err = UnknownStatus;

    fn from_str(text: &str) -> Result<Self, UnknownStatus> {
        Self::ALL.into_iter().find(|status| status.as_str() == text).ok_or(UnknownStatus)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an order status is one of PENDING, CONFIRMED, CANCELLED, SHIPPED, DELIVERED, RETURNED")]
pub struct UnknownStatus;
