//! What the inventory service holds for an order. A reservation's stream is the stock item's, its row the order's.

use events::{
    envelope::RecordedEvent,
    ids::ProductId,
    inventory::{self, StockEvent},
};
use read_side::order_details::reservation::{LineReservation, ReservationFacet, ReservationStatus};

use crate::projection::{Fold, begun};

pub(super) struct ReservationFold;

impl Fold for ReservationFold {
    type Event = StockEvent;
    type State = ReservationFacet;
    const SOURCE: &'static str = inventory::SOURCE;

    fn key(event: &StockEvent) -> Option<String> {
        let order_id = match event {
            // of no order
            StockEvent::StockReceived(_) | StockEvent::StockAdjusted(_) => return None,
            StockEvent::StockReserved(event) => event.order_id,
            StockEvent::ReservationRejected(event) => event.order_id,
            StockEvent::ReservationWithdrawn(event) => event.order_id,
            StockEvent::ReservationConfirmed(event) => event.order_id,
            StockEvent::ReservationExpired(event) => event.order_id,
            StockEvent::StockReleased(event) => event.order_id,
            StockEvent::StockShipped(event) => event.order_id,
        };
        Some(order_id.to_string())
    }

    fn fold(
        state: Option<ReservationFacet>,
        event: StockEvent,
        recorded: &RecordedEvent,
    ) -> Result<ReservationFacet, String> {
        let updated_at_us = recorded.recorded_at.timestamp_micros();
        let line = |line: u32, product_id: ProductId, status: ReservationStatus, quantity: u32| LineReservation {
            line,
            product_id,
            status,
            quantity,
            available: None,
            expires_at_us: None,
            updated_at_us,
        };
        let reservation = match event {
            StockEvent::StockReceived(_) | StockEvent::StockAdjusted(_) => return begun(state),
            StockEvent::StockReserved(event) => LineReservation {
                expires_at_us: Some(event.expires_at.timestamp_micros()),
                ..line(event.line, event.product_id, ReservationStatus::Reserved, event.quantity)
            },
            StockEvent::ReservationRejected(event) => LineReservation {
                available: Some(event.available),
                ..line(event.line, event.product_id, ReservationStatus::Rejected, event.quantity)
            },
            StockEvent::ReservationWithdrawn(event) => {
                line(event.line, event.product_id, ReservationStatus::Withdrawn, 0)
            }
            StockEvent::ReservationConfirmed(event) => {
                let mut facet = begun(state)?;
                let confirmed = facet.confirm(event.line, event.product_id, updated_at_us);
                return confirmed.map(|()| facet).map_err(|error| error.to_string());
            }
            StockEvent::ReservationExpired(event) => {
                line(event.line, event.product_id, ReservationStatus::Expired, event.quantity)
            }
            StockEvent::StockReleased(event) => {
                line(event.line, event.product_id, ReservationStatus::Released, event.quantity)
            }
            StockEvent::StockShipped(event) => {
                line(event.line, event.product_id, ReservationStatus::Shipped, event.quantity)
            }
        };
        let mut facet = state.unwrap_or_default();
        facet.set(reservation);
        Ok(facet)
    }
}
