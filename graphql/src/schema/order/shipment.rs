//! How far the parcels of an order are.

use async_graphql::{Enum, ID, SimpleObject};
use chrono::{DateTime, Utc};
use read_side::order_details::shipment::{self, ShipmentRow};

use crate::schema::{
    money::SafeInt,
    time::{NoTime, maybe_time, time},
};

/// How far an order's parcels are: the shipment that was begun last, and all of them.
#[derive(Debug, SimpleObject)]
pub(crate) struct OrderShipment {
    /// How far it has come.
    status: ShipmentStatus,
    /// Who carries it; null until it was dispatched.
    carrier: Option<String>,
    /// The carrier's number for it; null until it was dispatched.
    tracking: Option<String>,
    /// When it was handed to the carrier.
    dispatched_at: Option<DateTime<Utc>>,
    /// When it arrived.
    delivered_at: Option<DateTime<Utc>>,
    /// Why it was given up, cancelled or lost; else null.
    reason: Option<String>,
    /// When the shipping service last recorded something of it.
    updated_at: DateTime<Utc>,
    /// How many shipments there are.
    count: SafeInt,
    /// The shipments, oldest first: the first 100 that were begun.
    shipments: Vec<Shipment>,
}

/// One shipment of an order. Where to it goes, the shipping service alone tells.
#[derive(Debug, SimpleObject)]
pub(crate) struct Shipment {
    /// The shipment's UUID.
    shipment_id: ID,
    /// How far it has come.
    status: ShipmentStatus,
    /// Who carries it; null until it was dispatched.
    carrier: Option<String>,
    /// The carrier's number for it; null until it was dispatched.
    tracking: Option<String>,
    /// When the shipping service first heard of it.
    scheduled_at: DateTime<Utc>,
    /// When it was handed to the carrier.
    dispatched_at: Option<DateTime<Utc>>,
    /// When it arrived.
    delivered_at: Option<DateTime<Utc>>,
    /// Why it was given up, cancelled or lost; else null.
    reason: Option<String>,
    /// When the shipping service last recorded something of it.
    updated_at: DateTime<Utc>,
}

/// How far a shipment has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "read_side::order_details::shipment::ShipmentStatus")]
pub(crate) enum ShipmentStatus {
    /// To be sent.
    Scheduled,
    /// With the carrier.
    Dispatched,
    /// Arrived.
    Delivered,
    /// Not to be sent any more.
    Cancelled,
    /// Sent, and not expected to arrive.
    Lost,
    /// Given up before it was scheduled.
    Withdrawn,
}

impl OrderShipment {
    pub(super) fn of(row: shipment::OrderShipment) -> Result<Option<Self>, NoTime> {
        let Some(latest) = row.latest() else { return Ok(None) };
        let Shipment { status, carrier, tracking, dispatched_at, delivered_at, reason, updated_at, .. } =
            Shipment::try_from(latest.clone())?;
        Ok(Some(Self {
            status,
            carrier,
            tracking,
            dispatched_at,
            delivered_at,
            reason,
            updated_at,
            count: SafeInt::of(u64::from(row.count)),
            shipments: row.shipments.into_iter().map(Shipment::try_from).collect::<Result<_, _>>()?,
        }))
    }
}

impl TryFrom<ShipmentRow> for Shipment {
    type Error = NoTime;

    fn try_from(row: ShipmentRow) -> Result<Self, NoTime> {
        let ShipmentRow { shipment_id, state } = row;
        Ok(Self {
            shipment_id: ID(shipment_id.to_string()),
            status: state.status.into(),
            carrier: state.carrier,
            tracking: state.tracking,
            scheduled_at: time("shipment.begun_at_us", state.begun_at_us)?,
            dispatched_at: maybe_time("shipment.dispatched_at_us", state.dispatched_at_us)?,
            delivered_at: maybe_time("shipment.delivered_at_us", state.delivered_at_us)?,
            reason: state.reason,
            updated_at: time("shipment.updated_at_us", state.updated_at_us)?,
        })
    }
}
