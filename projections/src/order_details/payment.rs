//! The money for an order, as the gateway has confirmed it: intents change nothing here.

use events::{
    envelope::RecordedEvent,
    payments::{self, PaymentEvent},
};
use read_side::order_details::payment::{PaymentFacet, PaymentState, PaymentStatus};

use crate::projection::Fold;

pub(super) struct PaymentFold;

impl Fold for PaymentFold {
    type Event = PaymentEvent;
    type State = PaymentFacet;
    const SOURCE: &'static str = payments::SOURCE;

    fn key(event: &PaymentEvent) -> Option<String> {
        let order_id = match event {
            PaymentEvent::AuthorizationRequested(event) => event.order_id,
            PaymentEvent::PaymentAuthorized(event) => event.order_id,
            PaymentEvent::PaymentDeclined(event) => event.order_id,
            PaymentEvent::CaptureRequested(event) => event.order_id,
            PaymentEvent::PaymentCaptured(event) => event.order_id,
            PaymentEvent::CaptureFailed(event) => event.order_id,
            PaymentEvent::VoidRequested(event) => event.order_id,
            PaymentEvent::PaymentVoided(event) => event.order_id,
            PaymentEvent::PaymentBarred(event) => event.order_id,
            PaymentEvent::RefundRequested(event) => event.order_id,
            PaymentEvent::PaymentRefunded(event) => event.order_id,
            PaymentEvent::RefundFailed(event) => event.order_id,
            PaymentEvent::PaymentExpired(event) => event.order_id,
        };
        Some(order_id.to_string())
    }

    fn fold(
        state: Option<PaymentFacet>,
        event: PaymentEvent,
        recorded: &RecordedEvent,
    ) -> Result<PaymentFacet, String> {
        let now_us = recorded.recorded_at.timestamp_micros();
        let mut facet = state.unwrap_or_default();
        let payment_id = match &event {
            PaymentEvent::AuthorizationRequested(event) => {
                let currency = Some(event.amount.currency);
                facet.begin(event.payment_id, PaymentState::begun(PaymentStatus::Requested, currency, now_us));
                return Ok(facet);
            }
            PaymentEvent::PaymentBarred(event) => {
                facet.begin(event.payment_id, PaymentState::begun(PaymentStatus::Barred, None, now_us));
                return Ok(facet);
            }
            PaymentEvent::PaymentAuthorized(event) => event.payment_id,
            PaymentEvent::PaymentDeclined(event) => event.payment_id,
            PaymentEvent::CaptureRequested(event) => event.payment_id,
            PaymentEvent::PaymentCaptured(event) => event.payment_id,
            PaymentEvent::CaptureFailed(event) => event.payment_id,
            PaymentEvent::VoidRequested(event) => event.payment_id,
            PaymentEvent::PaymentVoided(event) => event.payment_id,
            PaymentEvent::RefundRequested(event) => event.payment_id,
            PaymentEvent::PaymentRefunded(event) => event.payment_id,
            PaymentEvent::RefundFailed(event) => event.payment_id,
            PaymentEvent::PaymentExpired(event) => event.payment_id,
        };
        let changed = facet.change(&payment_id, |payment| {
            payment.updated_at_us = now_us;
            apply(payment, event);
        });
        changed.map(|()| facet).map_err(|error| error.to_string())
    }
}

fn apply(payment: &mut PaymentState, event: PaymentEvent) {
    let now_us = payment.updated_at_us;
    match event {
        // how it begins, and what the gateway has yet to answer
        PaymentEvent::AuthorizationRequested(_)
        | PaymentEvent::PaymentBarred(_)
        | PaymentEvent::CaptureRequested(_)
        | PaymentEvent::VoidRequested(_)
        | PaymentEvent::RefundRequested(_) => {}
        PaymentEvent::PaymentAuthorized(event) => {
            payment.status = PaymentStatus::Authorized;
            payment.authorized_minor = event.amount.amount_minor;
            payment.authorized_at_us = Some(now_us);
            payment.expires_at_us = Some(event.expires_at.timestamp_micros());
        }
        PaymentEvent::PaymentDeclined(event) => {
            payment.status = PaymentStatus::Declined;
            payment.declined_reason = Some(event.reason);
        }
        PaymentEvent::PaymentCaptured(event) => {
            payment.status = PaymentStatus::Captured;
            payment.captured_minor = event.amount.amount_minor;
            payment.captured_at_us = Some(now_us);
            payment.failed_reason = None;
        }
        PaymentEvent::CaptureFailed(event) => payment.failed_reason = Some(event.reason),
        PaymentEvent::PaymentVoided(event) => {
            payment.voided_minor = event.amount.amount_minor;
            // one that was declined or captured stays so: what a capture leaves is given back with it
            if matches!(payment.status, PaymentStatus::Requested | PaymentStatus::Authorized) {
                payment.status = PaymentStatus::Voided;
            }
        }
        PaymentEvent::PaymentRefunded(event) => {
            payment.refunded_minor = payment.refunded_minor.saturating_add(event.amount.amount_minor);
            payment.failed_reason = None;
        }
        PaymentEvent::RefundFailed(event) => payment.failed_reason = Some(event.reason),
        PaymentEvent::PaymentExpired(event) => {
            payment.status = PaymentStatus::Expired;
            payment.expired_minor = event.amount.amount_minor;
        }
    }
}
