//! The payments service: what is paid for orders. Its HTTP surface; [`payment`] decides, [`settling`]
//! speaks to the [`gateway`].
//!
//! An answer says that a wish is stored, not what the gateway makes of it: that is on the payment itself, soon after.

pub mod gateway;
pub mod payment;
pub mod settling;

use std::sync::Arc;

use axum::{
    extract::{FromRef, State},
    response::Response,
};
use event_store::clock::Clock;
use events::{
    ids::{OrderId, PaymentId, RefundId},
    money::Money,
    payments::{AuthorizationRequested, PAYMENT_METHOD_CHARS_MAX, PaymentMethod, SOURCE},
};
use serde::Serialize;
use serde_json::{Value, json};

use self::{
    payment::{Payment, PaymentCommand},
    settling::Settling,
};
use crate::{
    edge::{
        Edge, Incoming, PathId, Problem, Routes,
        command::Asked,
        fields::{self, Fields, Word, id, reason, word},
        openapi::{command, schema, view},
        request::ReadToken,
    },
    reactor::{self, Reactor, ReactorOptions},
    service::{Given, Service, StartError},
};

/// How a payment is paid if nobody says: the simulated gateway approves it.
const PAYMENT_METHOD_DEFAULT: &str = "pm_approve";

/// The payment that the examples are about.
pub const EXAMPLE: &str = "0198c0de-0000-7000-8000-000000000031";

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

/// Its place under HTTP.
pub const RESOURCE: &str = "payments";

/// Starts the service on its log, and the reactor that speaks to the gateway.
pub async fn start(given: Given) -> Result<Service, StartError> {
    let clock = Arc::clone(&given.clock);
    let options = ReactorOptions { clock: Arc::clone(&clock), ..ReactorOptions::default() };
    let (gateway, own) = (Arc::clone(&given.gateway), given.log.identity().clone());
    let feeds = vec![Arc::clone(&given.log) as _];
    let duties = reactor::open(SOURCE, &given.duties).await?;
    let mut bus = None;
    let mut service = Service::start::<Payment, _>(SOURCE, given, RESOURCE, None, |payments| {
        bus = Some(payments.bus().clone());
        routes(Shared { payments, clock })
    })?;
    let bus = bus.ok_or_else(|| StartError::new(SOURCE, "it has no routes"))?;
    let settling = Arc::new(Settling { bus, gateway });
    let reactor = Reactor::start(settling, duties, (&own.source, own.epoch), feeds, options).await?;
    service.reactor = Some(Arc::new(reactor));
    Ok(service)
}

fn routes(shared: Shared) -> Routes {
    const NOT_NOW: &[&str] = &["payment_not_found", "payment_barred", "payment_being_voided", "payment_being_captured"];
    let dollars = |amount_minor: i64| json!({ "amount_minor": amount_minor, "currency": "USD" });
    let asked = json!({ "id": EXAMPLE, "order_id": crate::orders::EXAMPLE, "amount": dollars(3_600) });
    let change = |id, summary| command(id, summary).on(&[EXAMPLE]).after(&["authorize_payment"]).refuses(NOT_NOW);
    Routes::of(
        events::payments::SOURCE,
        "What is paid for orders. A wish is answered at once, the gateway's word comes after.",
    )
    .post(
        "/payments",
        authorize,
        command("authorize_payment", "Ask the gateway to hold an amount")
            .takes(Authorize::read, asked)
            .creates()
            .refuses(&["payment_exists", "payment_barred", "amount_out_of_range"]),
    )
    .get(
        "/payments/{id}",
        show,
        view("show_payment", "Show a payment", shown())
            .on(&[EXAMPLE])
            .after(&["authorize_payment"])
            .refuses(&["payment_not_found"]),
    )
    .post(
        "/payments/{id}/capture",
        capture,
        change("capture_payment", "Take what is held, or less")
            .takes(captured, json!({ "amount": dollars(3_600) }))
            .refuses(&["payment_not_authorized", "payment_already_captured", "capture_too_large"])
            .refuses(&["amount_out_of_range", "wrong_currency"]),
    )
    .post(
        "/payments/{id}/void",
        void,
        change("void_payment", "Give back what is held, and bar what was never asked for")
            .takes(voided, json!({ "order_id": crate::orders::EXAMPLE }))
            .refuses(&["payment_already_captured", "payment_of_another_order", "payment_not_authorized"]),
    )
    .post(
        "/payments/{id}/refund",
        refund,
        change("refund_payment", "Pay back what was taken, all or some")
            .takes(Refund::read, json!({ "amount": dollars(900), "reason": "one came broken" }))
            .after(&["authorize_payment", "capture_payment"])
            .needs_version()
            .refuses(&["payment_not_captured", "refund_exists", "refund_too_large", "too_many_refunds"])
            .refuses(&["amount_out_of_range", "wrong_currency"]),
    )
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
        requested_at: shared.clock.now_as_kept(),
    });
    let asked = Asked { id: payment_id.0, body: &body, command, creates: true, occurred_at: None };
    shared.payments.run(&incoming, asked).await
}

/// `None` within: everything that is held.
fn captured(fields: &mut Fields<'_>) -> Option<Option<Money>> {
    fields.optional_object("amount", fields::money)
}

async fn capture(State(payments): Payments, PathId(id): PathId, incoming: Incoming) -> Answer {
    let amount = incoming.fields(captured)?;
    payments.change(&incoming, id, &json!({ "amount": amount }), PaymentCommand::Capture { amount }).await
}

fn voided(fields: &mut Fields<'_>) -> Option<Option<OrderId>> {
    fields.optional("order_id", id)
}

async fn void(State(payments): Payments, PathId(id): PathId, incoming: Incoming) -> Answer {
    let order_id = incoming.fields(voided)?;
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
    payments.show(id, &token, seen).await
}

/// A payment as the world sees one.
fn seen(payment: &Payment) -> Option<Value> {
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

/// What [`seen`] makes.
fn shown() -> Value {
    let money = || schema::describe(fields::money);
    let barred =
        schema::object([("id", schema::uuid()), ("order_id", schema::uuid()), ("status", schema::constant("BARRED"))]);
    let refund = schema::object([
        ("id", schema::uuid()),
        ("amount", money()),
        ("reason", schema::string()),
        ("status", schema::string()),
    ]);
    let known = schema::object([
        ("id", schema::uuid()),
        ("order_id", schema::uuid()),
        ("status", schema::string()),
        ("amount", money()),
        ("method", schema::string()),
        ("authorized", money()),
        ("captured", money()),
        ("voided", money()),
        ("expired", money()),
        ("refunded", money()),
        ("capturing", schema::nullable(money())),
        ("voiding", schema::boolean()),
        ("declined_because", schema::nullable(schema::string())),
        ("gateway_reference", schema::nullable(schema::string())),
        ("requested_at", schema::time()),
        ("expires_at", schema::nullable(schema::time())),
        ("refunds", schema::list(refund)),
    ]);
    schema::either([barred, known])
}

impl Word for PaymentMethod {
    fn words() -> Value {
        json!({ "type": "string", "pattern": "^pm_[0-9A-Za-z_]+$", "maxLength": PAYMENT_METHOD_CHARS_MAX })
    }
}
