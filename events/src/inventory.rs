//! What the inventory service publishes.
//!
//! A reservation belongs to one line of one order: (`order_id`, `line`), lines counted from 0. Whatever becomes of it is
//! written with both, so that a saga and the order's readers find it without knowing the stock item.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{
    ids::{OrderId, ProductId},
    published::published,
};

/// The name of the inventory service: its source in vectors and tokens, and its place in URLs.
pub const SOURCE: &str = "inventory";

/// The aggregate type of a stock item's stream; the stream's id is the product's.
pub const STOCK_ITEM: &str = "stock_item";

published! {
    /// Everything that can be known to have happened to the stock of a product.
    pub enum StockEvent {
        "StockReceived" "1" => StockReceived,
        "StockAdjusted" "1" => StockAdjusted,
        "StockReserved" "1" => StockReserved,
        "ReservationRejected" "1" => ReservationRejected,
        "ReservationWithdrawn" "1" => ReservationWithdrawn,
        "ReservationConfirmed" "1" => ReservationConfirmed,
        "ReservationExpired" "1" => ReservationExpired,
        "StockReleased" "1" => StockReleased,
        "StockShipped" "1" => StockShipped,
    }
}

/// Pieces came in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StockReceived {
    pub product_id: ProductId,
    pub quantity: u32,
}

/// Someone has counted: `quantity` more pieces were there than the books said, or, if negative, fewer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StockAdjusted {
    pub product_id: ProductId,
    pub quantity: i64,
    pub reason: String,
}

/// All pieces of a line are held for its order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StockReserved {
    pub product_id: ProductId,
    pub order_id: OrderId,
    pub line: u32,
    pub quantity: u32,
    /// Held at least until then, unless it is confirmed: then until it is shipped or released.
    pub expires_at: DateTime<Utc>,
}

/// There were fewer pieces than a line wanted, and none is held for it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReservationRejected {
    pub product_id: ProductId,
    pub order_id: OrderId,
    pub line: u32,
    pub quantity: u32,
    /// How many pieces there were to be had.
    pub available: u64,
}

/// An order gave up a line before any piece was asked for. A reservation that is still on its way finds this and is
/// refused.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReservationWithdrawn {
    pub product_id: ProductId,
    pub order_id: OrderId,
    pub line: u32,
}

/// The order is certain: what is held for its line expires no more.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReservationConfirmed {
    pub product_id: ProductId,
    pub order_id: OrderId,
    pub line: u32,
}

/// Nobody confirmed in time: the pieces are free again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReservationExpired {
    pub product_id: ProductId,
    pub order_id: OrderId,
    pub line: u32,
    pub quantity: u32,
}

/// The order gave back what was held for its line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StockReleased {
    pub product_id: ProductId,
    pub order_id: OrderId,
    pub line: u32,
    pub quantity: u32,
}

/// What was held for a line has left the house.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StockShipped {
    pub product_id: ProductId,
    pub order_id: OrderId,
    pub line: u32,
    pub quantity: u32,
}
