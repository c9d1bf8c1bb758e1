//! How far the parcels of an order are. The address stays where it is.

use events::{
    envelope::RecordedEvent,
    shipping::{self, ShipmentEvent},
};
use read_side::order_details::shipment::{ShipmentFacet, ShipmentState, ShipmentStatus};

use crate::projection::Fold;

pub(super) struct ShipmentFold;

impl Fold for ShipmentFold {
    type Event = ShipmentEvent;
    type State = ShipmentFacet;
    const SOURCE: &'static str = shipping::SOURCE;

    fn key(event: &ShipmentEvent) -> Option<String> {
        let order_id = match event {
            ShipmentEvent::ShipmentScheduled(event) => event.order_id,
            ShipmentEvent::ShipmentWithdrawn(event) => event.order_id,
            ShipmentEvent::ShipmentDispatched(event) => event.order_id,
            ShipmentEvent::ShipmentDelivered(event) => event.order_id,
            ShipmentEvent::ShipmentCancelled(event) => event.order_id,
            ShipmentEvent::ShipmentLost(event) => event.order_id,
        };
        Some(order_id.to_string())
    }

    fn fold(
        state: Option<ShipmentFacet>,
        event: ShipmentEvent,
        recorded: &RecordedEvent,
    ) -> Result<ShipmentFacet, String> {
        let now_us = recorded.recorded_at.timestamp_micros();
        let mut facet = state.unwrap_or_default();
        let changed = match event {
            ShipmentEvent::ShipmentScheduled(event) => {
                facet.begin(event.shipment_id, ShipmentState::begun(ShipmentStatus::Scheduled, now_us));
                Ok(())
            }
            ShipmentEvent::ShipmentWithdrawn(event) => {
                let withdrawn = ShipmentState::begun(ShipmentStatus::Withdrawn, now_us);
                facet.begin(event.shipment_id, ShipmentState { reason: Some(event.reason), ..withdrawn });
                Ok(())
            }
            ShipmentEvent::ShipmentDispatched(event) => facet.change(&event.shipment_id, |shipment| {
                shipment.status = ShipmentStatus::Dispatched;
                shipment.carrier = Some(event.carrier);
                shipment.tracking = Some(event.tracking);
                shipment.dispatched_at_us = Some(event.dispatched_at.timestamp_micros());
                shipment.updated_at_us = now_us;
            }),
            ShipmentEvent::ShipmentDelivered(event) => facet.change(&event.shipment_id, |shipment| {
                shipment.status = ShipmentStatus::Delivered;
                shipment.delivered_at_us = Some(event.delivered_at.timestamp_micros());
                shipment.updated_at_us = now_us;
            }),
            ShipmentEvent::ShipmentCancelled(event) => facet.change(&event.shipment_id, |shipment| {
                shipment.status = ShipmentStatus::Cancelled;
                shipment.reason = Some(event.reason);
                shipment.updated_at_us = now_us;
            }),
            ShipmentEvent::ShipmentLost(event) => facet.change(&event.shipment_id, |shipment| {
                shipment.status = ShipmentStatus::Lost;
                shipment.reason = Some(event.reason);
                shipment.updated_at_us = now_us;
            }),
        };
        changed.map(|()| facet).map_err(|error| error.to_string())
    }
}
