//! What the shipping service publishes. The address is [`Personal`]: null once the customer is erased.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    ids::{CustomerId, OrderId, ProductId, ShipmentId},
    personal::Personal,
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
        "ShipmentScheduled" "2" => ShipmentScheduled,
        "ShipmentWithdrawn" "1" => ShipmentWithdrawn,
        "ShipmentDispatched" "1" => ShipmentDispatched,
        "ShipmentDelivered" "1" => ShipmentDelivered,
        "ShipmentCancelled" "1" => ShipmentCancelled,
        "ShipmentLost" "1" => ShipmentLost,
    }
    upcast {
        "ShipmentScheduled" "1" to "2" => plain_to_personal,
    }
}

/// Version 1 had the address in plain text, which no erasure reaches.
fn plain_to_personal(mut event: Value) -> Result<Value, String> {
    let subject = event["customer_id"].clone();
    let address = event.get_mut("address").ok_or("it has no address")?;
    *address = json!({ "personal_of": subject, "value": address.take() });
    Ok(event)
}

/// Pieces of an order are to be sent to an address. An order may have several shipments.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ShipmentScheduled {
    pub shipment_id: ShipmentId,
    pub order_id: OrderId,
    /// Whose address it is, and goes with.
    pub customer_id: CustomerId,
    pub lines: Vec<ShipmentLine>,
    pub address: Personal<Address>,
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
