//! What a checkout waits for while it asks for nothing: the others' part. A fact that never comes, because somebody's log
//! lost it or nobody does their work, is then seen as overdue.

use std::time::Duration;

use events::{checkout::CheckoutStep, payments, shipping};

use super::state::{CheckoutState, Parcel, Stage};
use crate::saga::definition::Awaited;

/// The payments service gives up on a gateway long before.
const SETTLED_WITHIN: Duration = Duration::from_secs(60 * 60);

/// A warehouse that needs a week has forgotten it.
const DISPATCHED_WITHIN: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// A parcel that is on its way for a month is lost, and somebody has to say so.
const DELIVERED_WITHIN: Duration = Duration::from_secs(30 * 24 * 60 * 60);

pub fn awaited(state: &CheckoutState) -> Option<Awaited> {
    let of_payments = |fact| Some(Awaited { fact, service: payments::SOURCE, patience: SETTLED_WITHIN });
    let of_shipping = |fact, patience| Some(Awaited { fact, service: shipping::SOURCE, patience });
    match (state.stage, state.money.due()) {
        // what was asked for was accepted, and that was only a promise
        (_, Some(CheckoutStep::Capture)) => return of_payments("PaymentCaptured"),
        (_, Some(CheckoutStep::Void)) => return of_payments("PaymentVoided"),
        (_, Some(CheckoutStep::Refund(_))) => return of_payments("PaymentRefunded"),
        (Stage::Authorizing, _) => return of_payments("PaymentAuthorized"),
        (Stage::Reserving | Stage::Securing | Stage::Confirming | Stage::Compensating(_), _) => return None,
        (Stage::CarryingOut, _) => {}
    }
    match state.parcel {
        Parcel::Scheduled => of_shipping("ShipmentDispatched", DISPATCHED_WITHIN),
        Parcel::Dispatched => of_shipping("ShipmentDelivered", DELIVERED_WITHIN),
        Parcel::Unasked | Parcel::Asked | Parcel::Delivered | Parcel::Lost | Parcel::Kept => None,
    }
}
