//! What the shipping service publishes.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{
    ids::{CustomerId, OrderId, ProductId, ShipmentId},
    published::published,
    users::Address,
};

/// The name of the shipping service: its source in vectors and tokens, and its place in URLs.
pub const SOURCE: &str = "shipping";

/// The aggregate type of a shipment's stream.
pub const SHIPMENT: &str = "shipment";

published! {
    /// Everything that can be known to have happened to a shipment.
    pub enum ShipmentEvent {
        "ShipmentScheduled" "1" => ShipmentScheduled,
        "ShipmentWithdrawn" "1" => ShipmentWithdrawn,
        "ShipmentDispatched" "1" => ShipmentDispatched,
        "ShipmentDelivered" "1" => ShipmentDelivered,
        "ShipmentCancelled" "1" => ShipmentCancelled,
        "ShipmentLost" "1" => ShipmentLost,
    }
}

/// Pieces of an order are to be sent to an address. An order may have several shipments.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ShipmentScheduled {
    pub shipment_id: ShipmentId,
    pub order_id: OrderId,
    /// Whose address it is.
    pub customer_id: CustomerId,
    pub lines: Vec<ShipmentLine>,
    pub address: Address,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShipmentLine {
    pub product_id: ProductId,
    pub quantity: u32,
}

/// An order gave up a shipment before it was scheduled. A schedule that is still on its way finds this and is refused.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ShipmentWithdrawn {
    pub shipment_id: ShipmentId,
    pub order_id: OrderId,
    pub reason: String,
}

/// The parcel was handed to a carrier.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ShipmentDispatched {
    pub shipment_id: ShipmentId,
    pub order_id: OrderId,
    pub carrier: String,
    pub tracking: String,
    pub dispatched_at: DateTime<Utc>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ShipmentDelivered {
    pub shipment_id: ShipmentId,
    pub order_id: OrderId,
    pub delivered_at: DateTime<Utc>,
}

/// Nothing was sent and nothing will be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ShipmentCancelled {
    pub shipment_id: ShipmentId,
    pub order_id: OrderId,
    pub reason: String,
}

/// The parcel was sent and nobody expects it to arrive any more.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ShipmentLost {
    pub shipment_id: ShipmentId,
    pub order_id: OrderId,
    pub reason: String,
}
