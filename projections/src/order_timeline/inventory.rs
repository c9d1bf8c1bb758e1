//! What is held for an order's lines. People count lines from 1.

use events::{
    envelope::RecordedEvent,
    inventory::{self, StockEvent},
};
use read_side::order_timeline::Entry;

use super::{Entries, counted, of_order, said};
use crate::projection::Listing;

pub(super) struct StockEntries;

impl Listing for StockEntries {
    type Event = StockEvent;
    type Entry = Entry;
    const SOURCE: &'static str = inventory::SOURCE;

    fn entries(event: StockEvent, recorded: &RecordedEvent) -> Result<Entries, String> {
        let pieces = |quantity: u32| counted(u64::from(quantity), "piece");
        let (order_id, line, what) = match event {
            // of no order
            StockEvent::StockReceived(_) | StockEvent::StockAdjusted(_) => return Ok(Vec::new()),
            StockEvent::StockReserved(event) => {
                (event.order_id, event.line, format!("{} held", pieces(event.quantity)))
            }
            StockEvent::ReservationRejected(event) => {
                let what = format!("{} wanted, {} to be had, none held", pieces(event.quantity), event.available);
                (event.order_id, event.line, what)
            }
            StockEvent::ReservationWithdrawn(event) => {
                (event.order_id, event.line, "given up before any piece was held".to_owned())
            }
            StockEvent::ReservationConfirmed(event) => {
                (event.order_id, event.line, "what is held stays held until it is sent".to_owned())
            }
            StockEvent::ReservationExpired(event) => {
                let what = format!("{} no longer held: nobody confirmed in time", pieces(event.quantity));
                (event.order_id, event.line, what)
            }
            StockEvent::StockReleased(event) => {
                (event.order_id, event.line, format!("{} given back to stock", pieces(event.quantity)))
            }
            StockEvent::StockShipped(event) => {
                (event.order_id, event.line, format!("{} left the house", pieces(event.quantity)))
            }
        };
        Ok(of_order(order_id, said(recorded, format!("Line {}: {what}.", u64::from(line) + 1))))
    }
}
