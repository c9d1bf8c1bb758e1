//! The payments service: what is paid for orders. Its HTTP surface; [`payment`] decides, [`settling`]
//! speaks to the [`gateway`].
//!
//! An answer says that a wish is stored, not what the gateway makes of it: that is on the payment itself, soon after.

pub mod gateway;
pub mod payment;
pub mod settling;

use std::sync::Arc;

use axum::{
    Router,
    extract::{FromRef, State},
    response::Response,
    routing::{get, post},
};
use chrono::{DateTime, Utc};
use event_store::clock::{Clock, SystemClock};
use events::{
    ids::{OrderId, PaymentId, RefundId},
    money::Money,
    payments::{AuthorizationRequested, PaymentMethod, SOURCE},
};
use serde::Serialize;
use serde_json::{Value, json};

use self::{
    payment::{Payment, PaymentCommand},
    settling::Settling,
};
use crate::{
    edge::{
        Edge, Incoming, PathId, Problem,
        command::Asked,
        fields::{self, Fields, id, reason, word},
        request::ReadToken,
    },
    reactor::{self, Reactor, ReactorOptions},
    service::{Given, Service, StartError},
};

/// How a payment is paid if nobody says: the simulated gateway approves it.
const PAYMENT_METHOD_DEFAULT: &str = "pm_approve";

type Payments = State<Edge<Payment>>;
type Answer = Result<Response, Problem>;

/// What the handlers share.
#[derive(Clone)]
struct Shared {
    payments: Edge<Payment>,
    clock: Arc<dyn Clock>,
}

impl FromRef<Shared> for Edge<Payment> {
    fn from_ref(shared: &Shared) -> Self {
        shared.payments.clone()
    }
}

/// Starts the service on its log, and the reactor that speaks to the gateway.
pub async fn start(given: Given) -> Result<Service, StartError> {
    let clock = SystemClock::shared();
    let (gateway, own) = (Arc::clone(&given.gateway), given.log.identity().clone());
    let feeds = vec![Arc::clone(&given.log) as _];
    let duties = reactor::open(SOURCE, &given.replica).await?;
    let mut bus = None;
    let mut service = Service::start::<Payment>(SOURCE, given, "payments", None, |payments| {
        bus = Some(payments.bus().clone());
        routes(Shared { payments, clock })
    })?;
    let bus = bus.ok_or_else(|| StartError::new(SOURCE, "it has no routes"))?;
    let settling = Arc::new(Settling { bus, gateway });
    let reactor = Reactor::start(settling, duties, (&own.source, own.epoch), feeds, ReactorOptions::default()).await?;
    service.reactor = Some(Arc::new(reactor));
    Ok(service)
}

fn routes(shared: Shared) -> Router {
    Router::new()
        .route("/payments", post(authorize))
        .route("/payments/{id}", get(show))
        .route("/payments/{id}/capture", post(capture))
        .route("/payments/{id}/void", post(void))
        .route("/payments/{id}/refund", post(refund))
        .with_state(shared)
}

#[derive(Serialize)]
struct Authorize {
    id: Option<PaymentId>,
    order_id: OrderId,
    amount: Money,
    method: PaymentMethod,
}

impl Authorize {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let id = fields.optional("id", id);
        let order_id = fields.required("order_id", fields::id);
        let amount = fields.object("amount", fields::money);
        let method = fields.optional("method", word::<PaymentMethod>);
        let default = || PAYMENT_METHOD_DEFAULT.parse().ok();
        Some(Self { id: id?, order_id: order_id?, amount: amount?, method: method?.or_else(default)? })
    }
}

async fn authorize(State(shared): State<Shared>, incoming: Incoming) -> Answer {
    let body = incoming.fields(Authorize::read)?;
    let payment_id = body.id.unwrap_or_else(|| incoming.made_id(shared.payments.service()).into());
    let command = PaymentCommand::Authorize(AuthorizationRequested {
        payment_id,
        order_id: body.order_id,
        amount: body.amount,
        payment_method: body.method.clone(),
        requested_at: to_the_microsecond(shared.clock.now()),
    });
    let asked = Asked { id: payment_id.0, body: &body, command, creates: true, occurred_at: None };
    shared.payments.run(&incoming, asked).await
}

/// What logs keep.
fn to_the_microsecond(now: DateTime<Utc>) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(now.timestamp_micros()).unwrap_or(now)
}

async fn capture(State(payments): Payments, PathId(id): PathId, incoming: Incoming) -> Answer {
    let amount = incoming.fields(|fields| fields.optional_object("amount", fields::money))?;
    payments.change(&incoming, id, &json!({ "amount": amount }), PaymentCommand::Capture { amount }).await
}

async fn void(State(payments): Payments, PathId(id): PathId, incoming: Incoming) -> Answer {
    let order_id = incoming.fields(|fields| fields.optional("order_id", fields::id::<OrderId>))?;
    let command = PaymentCommand::Void { payment_id: id.into(), order_id };
    payments.change(&incoming, id, &json!({ "order_id": order_id }), command).await
}

#[derive(Serialize)]
struct Refund {
    id: Option<RefundId>,
    amount: Money,
    reason: String,
}

impl Refund {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let id = fields.optional("id", id);
        let amount = fields.object("amount", fields::money);
        let reason = fields.required("reason", reason);
        Some(Self { id: id?, amount: amount?, reason: reason? })
    }
}

async fn refund(State(payments): Payments, PathId(id): PathId, incoming: Incoming) -> Answer {
    let body = incoming.fields(Refund::read)?;
    let refund_id = body.id.unwrap_or_else(|| incoming.made_id(payments.service()).into());
    let command = PaymentCommand::Refund { refund_id, amount: body.amount, reason: body.reason.clone() };
    payments.change(&incoming, id, &body, command).await
}

async fn show(State(payments): Payments, PathId(id): PathId, ReadToken(token): ReadToken) -> Answer {
    payments.show(id, &token, view).await
}

/// A payment as the world sees one.
fn view(payment: &Payment) -> Option<Value> {
    let payment = match payment {
        Payment::Absent => return None,
        Payment::Barred(barred) => {
            return Some(json!({ "id": barred.payment_id, "order_id": barred.order_id, "status": "BARRED" }));
        }
        Payment::Known(payment) => payment,
    };
    let refunds: Vec<Value> = payment
        .refunds
        .iter()
        .map(|(id, refund)| {
            let amount = payment.money(refund.amount_minor);
            json!({ "id": id, "amount": amount, "reason": refund.reason, "status": refund.status })
        })
        .collect();
    Some(json!({
        "id": payment.id(),
        "order_id": payment.order_id(),
        "status": payment.status,
        "amount": payment.requested.amount,
        "method": payment.requested.payment_method,
        "authorized": payment.money(payment.authorized_minor),
        "captured": payment.money(payment.captured_minor),
        "voided": payment.money(payment.voided_minor),
        "expired": payment.money(payment.expired_minor),
        "refunded": payment.money(payment.refunded_minor),
        "capturing": payment.capturing_minor.map(|amount_minor| payment.money(amount_minor)),
        "voiding": payment.voiding,
        "declined_because": payment.declined_because,
        "gateway_reference": payment.gateway_reference,
        "requested_at": payment.requested.requested_at,
        "expires_at": payment.expires_at,
        "refunds": refunds,
    }))
}
