//! How far the parcels of an order are. Where to they go is the shipping service's alone: an address is personal, and no
//! read model copies it.

use events::ids::ShipmentId;
use serde::{Deserialize, Serialize};

use super::several::Several;

/// The facet of the shipping service.
pub type ShipmentFacet = Several<ShipmentId, ShipmentState>;

/// One shipment, as its events tell it. Times are microseconds of Unix time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShipmentState {
    pub status: ShipmentStatus,
    pub carrier: Option<String>,
    pub tracking: Option<String>,
    /// When it was first heard of.
    pub begun_at_us: i64,
    pub dispatched_at_us: Option<i64>,
    pub delivered_at_us: Option<i64>,
    /// Why it was given up, cancelled or lost.
    pub reason: Option<String>,
    pub updated_at_us: i64,
}

/// How far a shipment has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ShipmentStatus {
    Scheduled,
    Dispatched,
    Delivered,
    Cancelled,
    Lost,
    /// Given up before it was scheduled.
    Withdrawn,
}

/// The shipments of an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderShipment {
    /// How many there are, those that are not kept included.
    pub count: u32,
    /// Oldest first, never none.
    pub shipments: Vec<ShipmentRow>,
}

/// One of an order's shipments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShipmentRow {
    pub shipment_id: ShipmentId,
    #[serde(flatten)]
    pub state: ShipmentState,
}

impl ShipmentState {
    /// One that is heard of for the first time.
    pub fn begun(status: ShipmentStatus, begun_at_us: i64) -> Self {
        Self {
            status,
            carrier: None,
            tracking: None,
            begun_at_us,
            dispatched_at_us: None,
            delivered_at_us: None,
            reason: None,
            updated_at_us: begun_at_us,
        }
    }
}

impl OrderShipment {
    /// `None` while there is no shipment.
    pub fn of(facet: &ShipmentFacet) -> Option<Self> {
        let row = |(shipment_id, state): (&ShipmentId, &ShipmentState)| ShipmentRow {
            shipment_id: *shipment_id,
            state: state.clone(),
        };
        let mut shipments: Vec<ShipmentRow> = facet.kept.iter().map(row).collect();
        shipments.sort_by_key(|shipment| (shipment.state.begun_at_us, shipment.shipment_id));
        shipments.last()?;
        Some(Self { count: facet.count, shipments })
    }

    /// The shipment that was begun last: the one whose status the order has.
    pub fn latest(&self) -> Option<&ShipmentRow> {
        self.shipments.last()
    }
}
