//! The checkout saga: what is due for an order, from its placement to its delivery or to the last cent paid back.
//!
//! Why: an order needs pieces, money and a parcel of three services, none of which knows the others, and any of them may
//! refuse, fall silent or answer late. Invariants:
//! - before the pivot (`confirm`) everything that was asked for can be taken back, and is, when anything goes wrong;
//! - from the pivot on nothing is taken back: what is due is asked for until it is done, and what the customer no longer
//!   wants comes back as a return;
//! - the whole order or nothing: one line that finds too few pieces calls all of it off;
//! - at rest: nothing is held, and captured - refunded = price of what the customer keeps - goodwill.
//!
//! Reading order: [`super::state`] (what is known, and what news makes of it), here (what is due then, and how it is asked
//! for), [`super::told`] (which events are news), [`super::awaiting`] (which of them are owed).

use std::time::Duration;

use event_store::follower::Reject;
use events::{
    checkout::{CHECKOUT, CheckoutEvent, CheckoutFact, CheckoutIds, CheckoutStep, Setback},
    envelope::RecordedEvent,
    inventory,
    money::Money as Amount,
    orders, payments,
    saga::Request,
    shipping,
};
use serde_json::{Value, json};

use super::{
    awaiting::awaited,
    money::Wish,
    state::{CheckoutState, Parcel, Stage},
    told,
};
use crate::saga::definition::{Awaited, Definition, Kind, News, Outcome, saga_id};

/// The checkout saga.
#[derive(Debug, Clone, PartialEq)]
pub struct Checkout;

/// How long pieces are held before they are secured: twice as long as a checkout may take to its pivot, so that whatever
/// runs out runs out behind it.
pub const HOLD: Duration = Duration::from_secs(30 * 60);

/// What a checkout waits for, or its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Phase {
    AwaitingStock,
    AwaitingAuthorization,
    AwaitingHold,
    AwaitingConfirmation,
    AwaitingSchedule,
    AwaitingCapture,
    AwaitingDispatch,
    AwaitingDelivery,
    /// Delivered or lost: the books are being brought up to date.
    Closing,
    /// Confirmed, and not to be sent after all: pieces and money go back.
    CallingOff,
    Compensating,
    Completed,
    Compensated,
}

impl Phase {
    pub const ALL: [Self; 13] = [
        Self::AwaitingStock,
        Self::AwaitingAuthorization,
        Self::AwaitingHold,
        Self::AwaitingConfirmation,
        Self::AwaitingSchedule,
        Self::AwaitingCapture,
        Self::AwaitingDispatch,
        Self::AwaitingDelivery,
        Self::Closing,
        Self::CallingOff,
        Self::Compensating,
        Self::Completed,
        Self::Compensated,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AwaitingStock => "AWAITING_STOCK",
            Self::AwaitingAuthorization => "AWAITING_AUTHORIZATION",
            Self::AwaitingHold => "AWAITING_HOLD",
            Self::AwaitingConfirmation => "AWAITING_CONFIRMATION",
            Self::AwaitingSchedule => "AWAITING_SCHEDULE",
            Self::AwaitingCapture => "AWAITING_CAPTURE",
            Self::AwaitingDispatch => "AWAITING_DISPATCH",
            Self::AwaitingDelivery => "AWAITING_DELIVERY",
            Self::Closing => "CLOSING",
            Self::CallingOff => "CALLING_OFF",
            Self::Compensating => "COMPENSATING",
            Self::Completed => "COMPLETED",
            Self::Compensated => "COMPENSATED",
        }
    }
}

impl Definition for Checkout {
    const NAME: &'static str = CHECKOUT;
    const VERSION: u32 = 2;
    const FOLD: u32 = 3;
    const DEADLINE: Duration = Duration::from_secs(15 * 60);

    type Ids = CheckoutIds;
    type Step = CheckoutStep;
    type Fact = CheckoutFact;
    type State = CheckoutState;
    type Event = CheckoutEvent;

    fn told(source: &str, event: &RecordedEvent) -> Result<Option<(CheckoutIds, CheckoutFact)>, Reject> {
        told::told(source, event)
    }

    fn goes_on_without(source: &str, event: &RecordedEvent, order_id: &str) -> Result<bool, Reject> {
        told::is_carried_out_by_hand(source, event, order_id)
    }

    fn key(ids: &CheckoutIds) -> String {
        ids.order_id.to_string()
    }

    /// Only an order that was placed begins a checkout. One that was imported is history, and its later life is no
    /// business of ours.
    fn begin(_version: u32, ids: &CheckoutIds, fact: &CheckoutFact) -> Option<CheckoutState> {
        match fact {
            CheckoutFact::OrderPlaced(placed) => {
                CheckoutState::of(saga_id(Self::NAME, &Self::key(ids)), placed.clone())
            }
            CheckoutFact::OrderCancelled { .. }
            | CheckoutFact::OrderReturned { .. }
            | CheckoutFact::ReservationExpired { .. }
            | CheckoutFact::PaymentAuthorized
            | CheckoutFact::PaymentDeclined { .. }
            | CheckoutFact::PaymentCaptured { .. }
            | CheckoutFact::CaptureFailed
            | CheckoutFact::PaymentVoided
            | CheckoutFact::PaymentExpired
            | CheckoutFact::PaymentRefunded { .. }
            | CheckoutFact::RefundFailed { .. }
            | CheckoutFact::ShipmentDispatched
            | CheckoutFact::ShipmentDelivered
            | CheckoutFact::ShipmentCancelled
            | CheckoutFact::ShipmentLost => None,
        }
    }

    fn learn(_version: u32, state: &mut CheckoutState, news: News<'_, Self>) {
        match news {
            News::Fact(fact) => state.observe(fact),
            News::Ended { step, end } => state.ended(step, &end),
            News::Deadline => state.deadline(),
        }
    }

    /// The gateway says no to a refund that it was to make: that is not done until it says yes, or until somebody sees to
    /// it by hand.
    fn failed(_version: u32, state: &CheckoutState, fact: &CheckoutFact) -> Option<(CheckoutStep, String)> {
        match (fact, state.money.due()) {
            (CheckoutFact::RefundFailed { refund_id }, Some(refund @ CheckoutStep::Refund(_)))
                if *refund_id == state.money.refund_id(state.saga_id) =>
            {
                Some((refund, "refund_failed".to_owned()))
            }
            _ => None,
        }
    }

    fn due(version: u32, state: &CheckoutState) -> Vec<CheckoutStep> {
        match state.stage {
            Stage::Reserving => state.stock.to_reserve().map(CheckoutStep::Reserve).collect(),
            Stage::Authorizing => vec![CheckoutStep::Authorize],
            Stage::Securing => state.stock.to_secure().map(CheckoutStep::Secure).collect(),
            Stage::Confirming => vec![CheckoutStep::Confirm],
            Stage::Compensating(_) => undoing(version, state),
            Stage::CarryingOut => carrying_out(state),
        }
    }

    fn request(_version: u32, state: &CheckoutState, step: CheckoutStep) -> Request {
        request(state, step)
    }

    fn kind(step: CheckoutStep) -> Kind<CheckoutStep> {
        match step {
            CheckoutStep::Reserve(line) | CheckoutStep::Secure(line) => {
                Kind::Compensable { undo: CheckoutStep::Release(line) }
            }
            CheckoutStep::Authorize => Kind::Compensable { undo: CheckoutStep::Void },
            CheckoutStep::Confirm => Kind::Pivot,
            CheckoutStep::Schedule
            | CheckoutStep::Capture
            | CheckoutStep::Ship(_)
            | CheckoutStep::MarkShipped
            | CheckoutStep::MarkDelivered
            | CheckoutStep::Release(_)
            | CheckoutStep::Void
            | CheckoutStep::Reject
            | CheckoutStep::Stop
            | CheckoutStep::Refund(_)
            | CheckoutStep::Return => Kind::Retriable,
        }
    }

    fn phase(version: u32, state: &CheckoutState) -> &'static str {
        phase(version, state).as_str()
    }

    fn awaits(_version: u32, state: &CheckoutState) -> Option<Awaited> {
        awaited(state)
    }

    fn outcome(version: u32, state: &CheckoutState) -> Option<Outcome> {
        if !state.money.is_at_rest(state.price_minor()) {
            return None;
        }
        match state.stage {
            Stage::Reserving | Stage::Authorizing | Stage::Securing | Stage::Confirming => None,
            Stage::Compensating(setback) => {
                let life = &state.life;
                let is_undone = if life.came_back { !may_leave(version, state) } else { life.cancelled };
                let is_over = state.stock.is_free() && is_undone;
                is_over.then(|| Outcome::Compensated { reason: setback.to_string() })
            }
            Stage::CarryingOut => is_carried_out(state).then_some(Outcome::Completed),
        }
    }
}

/// What takes back what was asked for: pieces and money at once, so that a gateway that hangs keeps no pieces from
/// others; the customer is told once both are back.
fn undoing(version: u32, state: &CheckoutState) -> Vec<CheckoutStep> {
    let mut due: Vec<CheckoutStep> = state.money.due().into_iter().collect();
    // it was confirmed after all, by us or by hand: then there may be a parcel of it, too
    due.extend((state.life.came_back && may_leave(version, state)).then_some(CheckoutStep::Stop));
    due.extend(state.stock.to_release().map(CheckoutStep::Release));
    if due.is_empty() && state.money.is_at_rest(0) && !state.life.cancelled && !state.life.came_back {
        due.push(CheckoutStep::Reject);
    }
    due
}

/// Whether a parcel of an order that is undone may still leave, as far as is known. Instances of version 1 do not ask.
fn may_leave(version: u32, state: &CheckoutState) -> bool {
    match state.parcel {
        Parcel::Unasked | Parcel::Asked | Parcel::Scheduled => version >= 2,
        Parcel::Dispatched | Parcel::Delivered | Parcel::Lost | Parcel::Kept => false,
    }
}

fn carrying_out(state: &CheckoutState) -> Vec<CheckoutStep> {
    let life = &state.life;
    let mut due = Vec::new();
    let mut asks = |is_due: bool, step: CheckoutStep| due.extend(is_due.then_some(step));
    asks(state.parcel == Parcel::Asked, CheckoutStep::Schedule);
    // refused once it has left, and then that fact is on its way: it is not due any more, and comes back as a return
    asks(state.parcel == Parcel::Scheduled && life.called_off, CheckoutStep::Stop);
    asks(state.has_left() && !life.marked_shipped, CheckoutStep::MarkShipped);
    let is_delivered = state.parcel == Parcel::Delivered && life.marked_shipped;
    asks(is_delivered && !life.marked_delivered && !life.came_back, CheckoutStep::MarkDelivered);
    asks(state.is_kept() && !life.came_back, CheckoutStep::Return);
    due.extend(state.money.due());
    if state.has_left() {
        due.extend(state.stock.to_ship().map(CheckoutStep::Ship));
    }
    if state.is_kept() {
        due.extend(state.stock.to_release().map(CheckoutStep::Release));
    }
    due
}

/// Whether goods and order are where they belong; the money is another question.
fn is_carried_out(state: &CheckoutState) -> bool {
    let life = &state.life;
    let has_left = state.stock.is_shipped() && life.marked_shipped;
    match state.parcel {
        Parcel::Delivered => has_left && (life.marked_delivered || life.came_back),
        Parcel::Lost => has_left,
        Parcel::Unasked | Parcel::Kept => state.is_kept() && state.stock.is_free() && life.came_back,
        Parcel::Asked | Parcel::Scheduled | Parcel::Dispatched => false,
    }
}

/// Where a checkout stands.
pub fn phase(version: u32, state: &CheckoutState) -> Phase {
    match Checkout::outcome(version, state) {
        Some(Outcome::Completed) => return Phase::Completed,
        Some(Outcome::Compensated { .. }) => return Phase::Compensated,
        None => {}
    }
    match state.stage {
        Stage::Reserving => Phase::AwaitingStock,
        Stage::Authorizing => Phase::AwaitingAuthorization,
        Stage::Securing => Phase::AwaitingHold,
        Stage::Confirming => Phase::AwaitingConfirmation,
        Stage::Compensating(_) => Phase::Compensating,
        Stage::CarryingOut => match state.parcel {
            Parcel::Dispatched => Phase::AwaitingDelivery,
            Parcel::Delivered | Parcel::Lost => Phase::Closing,
            Parcel::Unasked | Parcel::Asked | Parcel::Scheduled | Parcel::Kept if state.life.called_off => {
                Phase::CallingOff
            }
            Parcel::Unasked | Parcel::Asked => Phase::AwaitingSchedule,
            Parcel::Scheduled if state.money.is_at_rest(state.price_minor()) => Phase::AwaitingDispatch,
            Parcel::Scheduled | Parcel::Kept => Phase::AwaitingCapture,
        },
    }
}

/// How a step is asked for. What is only a wish at the payments service keeps its id, so that its answer can be told from
/// an operator's word, which comes with none.
fn request(state: &CheckoutState, step: CheckoutStep) -> Request {
    let (order, order_id) = (&state.order, state.order.order_id);
    let to_stock = |line: u32, what: &str, more: Value| {
        let wanted = usize::try_from(line).ok().and_then(|line| order.lines.get(line));
        let product_id = wanted.map(|line| line.product_id).unwrap_or_default();
        let mut body = json!({ "order_id": order_id, "line": line });
        if let (Some(body), Value::Object(more)) = (body.as_object_mut(), more) {
            body.extend(more);
        }
        Request::post(inventory::SOURCE, format!("/stock/{product_id}/{what}"), body)
    };
    let to_order = |what: &str, body: Value| Request::post(orders::SOURCE, format!("/orders/{order_id}/{what}"), body);
    let payment_id = CheckoutState::payment_id(state.saga_id);
    let to_payment = |what: &str, body: Value| {
        Request::post(payments::SOURCE, format!("/payments/{payment_id}/{what}"), body).keep("id")
    };
    let shipment_id = CheckoutState::shipment_id(state.saga_id);
    let money = |amount_minor: i64| Amount::new(amount_minor, order.currency);
    match step {
        CheckoutStep::Reserve(line) => {
            let quantity = usize::try_from(line).ok().and_then(|line| order.lines.get(line)).map(|line| line.quantity);
            let wanted = json!({ "quantity": quantity, "hold_seconds": HOLD.as_secs() });
            to_stock(line, "reserve", wanted).keep("reservation")
        }
        CheckoutStep::Secure(line) => to_stock(line, "confirm", Value::Null),
        CheckoutStep::Ship(line) => to_stock(line, "ship", Value::Null),
        CheckoutStep::Release(line) => to_stock(line, "release", Value::Null),
        CheckoutStep::Authorize => {
            let mut body = json!({ "id": payment_id, "order_id": order_id, "amount": money(state.total_minor) });
            if let Some(method) = &order.payment_method {
                body["method"] = json!(method);
            }
            Request::post(payments::SOURCE, "/payments", body).keep("id")
        }
        CheckoutStep::Capture => {
            let amount_minor = match state.money.wish {
                Wish::Capture { amount_minor } => amount_minor,
                Wish::Nothing | Wish::Void => state.price_minor(),
            };
            to_payment("capture", json!({ "amount": money(amount_minor) }))
        }
        CheckoutStep::Void => to_payment("void", json!({ "order_id": order_id })),
        CheckoutStep::Refund(_) => {
            let amount = money(state.money.owed_minor(state.price_minor()));
            let refund_id = state.money.refund_id(state.saga_id);
            to_payment("refund", json!({ "id": refund_id, "amount": amount, "reason": why_refund(state) }))
                .any_version()
        }
        CheckoutStep::Confirm => to_order("confirm", json!({})),
        CheckoutStep::MarkShipped => to_order("ship", json!({})),
        CheckoutStep::MarkDelivered => to_order("deliver", json!({})),
        CheckoutStep::Return => to_order("return", json!({})),
        CheckoutStep::Reject => to_order("reject", json!({ "reason": setback(state).as_sentence() })),
        CheckoutStep::Schedule => {
            let pieces =
                order.lines.iter().map(|line| json!({ "product_id": line.product_id, "quantity": line.quantity }));
            let body = json!({
                "id": shipment_id,
                "order_id": order_id,
                "customer_id": order.customer_id,
                "lines": pieces.collect::<Vec<_>>(),
            });
            Request::post(shipping::SOURCE, "/shipments", body)
        }
        CheckoutStep::Stop => {
            let body = json!({ "order_id": order_id, "reason": "the order was called off" });
            Request::post(shipping::SOURCE, format!("/shipments/{shipment_id}/cancel"), body)
        }
    }
}

fn why_refund(state: &CheckoutState) -> &'static str {
    match state.parcel {
        Parcel::Lost => "the parcel was lost",
        Parcel::Kept => "the order was not sent",
        Parcel::Unasked | Parcel::Asked | Parcel::Scheduled | Parcel::Dispatched | Parcel::Delivered => {
            match state.stage {
                Stage::Compensating(setback) => setback.as_sentence(),
                Stage::Reserving | Stage::Authorizing | Stage::Securing | Stage::Confirming | Stage::CarryingOut => {
                    "given back"
                }
            }
        }
    }
}

fn setback(state: &CheckoutState) -> Setback {
    match state.stage {
        Stage::Compensating(setback) => setback,
        Stage::Reserving | Stage::Authorizing | Stage::Securing | Stage::Confirming | Stage::CarryingOut => {
            Setback::Refused
        }
    }
}

#[cfg(test)]
#[path = "definition_tests.rs"]
mod tests;
