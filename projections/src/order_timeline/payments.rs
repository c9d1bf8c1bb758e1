//! The money for an order: what was asked of the gateway, and what it said.

use events::{
    envelope::RecordedEvent,
    payments::{self, DeclineReason, PaymentEvent},
};
use read_side::order_timeline::Entry;

use super::{Entries, about, because, of_order, said};
use crate::projection::Listing;

pub(super) struct PaymentEntries;

impl Listing for PaymentEntries {
    type Event = PaymentEvent;
    type Entry = Entry;
    const SOURCE: &'static str = payments::SOURCE;

    fn entries(event: PaymentEvent, recorded: &RecordedEvent) -> Result<Entries, String> {
        let say = |what: &str| said(recorded, what);
        let (order_id, entry) = match event {
            PaymentEvent::AuthorizationRequested(event) => {
                let asked = Entry { at_us: event.requested_at.timestamp_micros(), ..say("Payment asked for.") };
                (event.order_id, about(asked, event.amount))
            }
            PaymentEvent::PaymentAuthorized(event) => (event.order_id, about(say("Payment held."), event.amount)),
            PaymentEvent::PaymentDeclined(event) => {
                let what = match event.reason {
                    DeclineReason::Declined => "Payment declined.",
                    DeclineReason::InsufficientFunds => "Payment declined: there is not enough money.",
                    DeclineReason::GatewayTimeout => "Payment given up: the gateway did not answer.",
                };
                (event.order_id, about(say(what), event.amount))
            }
            PaymentEvent::CaptureRequested(event) => (event.order_id, about(say("Payment to be taken."), event.amount)),
            PaymentEvent::PaymentCaptured(event) => (event.order_id, about(say("Payment taken."), event.amount)),
            PaymentEvent::CaptureFailed(event) => {
                let failed = about(say("The gateway refused to take the payment."), event.amount);
                (event.order_id, because(failed, event.reason))
            }
            PaymentEvent::VoidRequested(event) => (event.order_id, say("Payment to be released.")),
            PaymentEvent::PaymentVoided(event) => (event.order_id, about(say("Payment released."), event.amount)),
            PaymentEvent::PaymentBarred(event) => (event.order_id, say("Payment given up before it was asked for.")),
            PaymentEvent::RefundRequested(event) => {
                let asked = about(say("Money to be paid back."), event.amount);
                (event.order_id, because(asked, event.reason))
            }
            PaymentEvent::PaymentRefunded(event) => (event.order_id, about(say("Money paid back."), event.amount)),
            PaymentEvent::RefundFailed(event) => {
                let failed = about(say("The gateway refused to pay money back."), event.amount);
                (event.order_id, because(failed, event.reason))
            }
            PaymentEvent::PaymentExpired(event) => {
                (event.order_id, about(say("Payment no longer held: nobody took it in time."), event.amount))
            }
        };
        Ok(of_order(order_id, entry))
    }
}
