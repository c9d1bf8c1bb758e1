//! Order timeline: what four services say of an order, in words. One listing a service.

mod inventory;
mod payments;
mod shipping;

use events::{
    envelope::RecordedEvent,
    ids::OrderId,
    money::Money,
    orders::{self, OrderEvent, OrderStatus},
};
use read_side::order_timeline::{Entry, TEMPLATE};

use self::{inventory::StockEntries, payments::PaymentEntries, shipping::ShipmentEntries};
use crate::projection::{Listing, Projection};

/// Of the listings here, down to their words: whoever changes what they give counts on.
pub const VERSION: u32 = 1;

pub fn projection() -> Projection {
    Projection::new(&TEMPLATE, VERSION)
        .listing::<OrderEntries>()
        .listing::<StockEntries>()
        .listing::<PaymentEntries>()
        .listing::<ShipmentEntries>()
}

/// What an event comes to: one entry of one order.
type Entries = Vec<(String, Entry)>;

/// An entry that says `what`, at the time of `recorded`.
fn said(recorded: &RecordedEvent, what: impl Into<String>) -> Entry {
    Entry {
        at_us: recorded.occurred_at().timestamp_micros(),
        event: recorded.event_type.to_string(),
        what: what.into(),
        reason: None,
        amount_minor: None,
        currency: None,
    }
}

fn about(entry: Entry, amount: Money) -> Entry {
    Entry { amount_minor: Some(amount.amount_minor), currency: Some(amount.currency), ..entry }
}

fn because(entry: Entry, reason: impl Into<Option<String>>) -> Entry {
    Entry { reason: reason.into(), ..entry }
}

fn of_order(order_id: OrderId, entry: Entry) -> Entries {
    vec![(order_id.to_string(), entry)]
}

/// `1 line`, `2 lines`.
fn counted(count: u64, one: &str) -> String {
    if count == 1 { format!("1 {one}") } else { format!("{count} {one}s") }
}

struct OrderEntries;

impl Listing for OrderEntries {
    type Event = OrderEvent;
    type Entry = Entry;
    const SOURCE: &'static str = orders::SOURCE;

    fn entries(event: OrderEvent, recorded: &RecordedEvent) -> Result<Entries, String> {
        let say = |what: String| said(recorded, what);
        let (order_id, entry) = match event {
            OrderEvent::OrderPlaced(event) => {
                let what = format!("Order placed: {}.", counted(event.lines.len() as u64, "line"));
                (event.order_id, Entry { at_us: event.placed_at.timestamp_micros(), ..say(what) })
            }
            OrderEvent::OrderImported(event) => {
                let stood = match event.status {
                    OrderStatus::Pending => "pending",
                    OrderStatus::Confirmed => "confirmed",
                    OrderStatus::Cancelled => "cancelled",
                    OrderStatus::Shipped => "shipped",
                    OrderStatus::Delivered => "delivered",
                    OrderStatus::Returned => "returned",
                };
                let placed = event.placed_at.format("%Y-%m-%d");
                let what = format!("Order of {placed} taken over from another system, where it was {stood}.");
                (event.order_id, say(what))
            }
            OrderEvent::OrderConfirmed(event) => {
                (event.order_id, say("Order confirmed: stock and payment are settled.".to_owned()))
            }
            OrderEvent::OrderCancelled(event) => {
                let what =
                    if event.rejected { "Order rejected: it cannot be carried out." } else { "Order cancelled." };
                (event.order_id, because(say(what.to_owned()), event.reason))
            }
            OrderEvent::OrderShipped(event) => {
                let shipped = say("Everything is on its way.".to_owned());
                (event.order_id, Entry { at_us: event.shipped_at.timestamp_micros(), ..shipped })
            }
            OrderEvent::OrderDelivered(event) => {
                let delivered = say("Everything has arrived.".to_owned());
                (event.order_id, Entry { at_us: event.delivered_at.timestamp_micros(), ..delivered })
            }
            OrderEvent::OrderReturned(event) => {
                let pieces = event.lines.iter().map(|line| u64::from(line.quantity)).sum();
                let whole = if event.complete { ", and nothing is left with the customer" } else { "" };
                let what = format!("Given back: {}{whole}.", counted(pieces, "piece"));
                (event.order_id, because(say(what), event.reason))
            }
        };
        Ok(of_order(order_id, entry))
    }
}
