//! The parcels of an order. Where to they go is personal, and is not told here.

use events::{
    envelope::RecordedEvent,
    shipping::{self, ShipmentEvent},
};
use read_side::order_timeline::Entry;

use super::{Entries, because, counted, of_order, said};
use crate::projection::Listing;

pub(super) struct ShipmentEntries;

impl Listing for ShipmentEntries {
    type Event = ShipmentEvent;
    type Entry = Entry;
    const SOURCE: &'static str = shipping::SOURCE;

    fn entries(event: ShipmentEvent, recorded: &RecordedEvent) -> Result<Entries, String> {
        let say = |what: &str| said(recorded, what);
        let (order_id, entry) = match event {
            ShipmentEvent::ShipmentScheduled(event) => {
                let pieces = event.lines.iter().map(|line| u64::from(line.quantity)).sum();
                (event.order_id, say(&format!("Parcel of {} to be sent.", counted(pieces, "piece"))))
            }
            ShipmentEvent::ShipmentWithdrawn(event) => {
                (event.order_id, because(say("Parcel given up before it was to be sent."), event.reason))
            }
            ShipmentEvent::ShipmentDispatched(event) => {
                let what = format!("Parcel handed to {}, tracking number {}.", event.carrier, event.tracking);
                (event.order_id, Entry { at_us: event.dispatched_at.timestamp_micros(), ..say(&what) })
            }
            ShipmentEvent::ShipmentDelivered(event) => {
                (event.order_id, Entry { at_us: event.delivered_at.timestamp_micros(), ..say("Parcel delivered.") })
            }
            ShipmentEvent::ShipmentCancelled(event) => {
                (event.order_id, because(say("Parcel cancelled: nothing is sent."), event.reason))
            }
            ShipmentEvent::ShipmentLost(event) => (event.order_id, because(say("Parcel lost."), event.reason)),
        };
        Ok(of_order(order_id, entry))
    }
}
