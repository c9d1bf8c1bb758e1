//! The checkout: what becomes of an order between its placement and its end. Its HTTP surface; [`definition`] says what is
//! due, and the engine of [`crate::saga`] sees to it.
//!
//! It takes no commands: an order that is placed begins one, and from then on it is the other services' events and
//! answers that it goes by. What operators may decide, they do by the saga's own surface.

pub mod awaiting;
#[cfg(test)]
mod case;
pub mod definition;
pub mod money;
pub mod state;
pub mod stock;
pub mod told;

use axum::{extract::State, http::StatusCode, response::Response};
use events::{
    checkout::{CHECKOUT, CheckoutLine, SOURCE, Setback},
    ids::CustomerId,
};
use serde_json::{Value, json};
use uuid::Uuid;

pub use self::told::FOLLOWS;
use self::{
    definition::{Checkout, Phase},
    state::{CheckoutState, Stage},
    stock::Hold,
};
use crate::{
    edge::{
        By, Customers, Edge, PathId, Problem, Routes,
        openapi::{schema, view},
        request::ReadToken,
    },
    saga::{self, Instance, Saga, saga_id},
    service::{Given, Service, StartError},
};

/// Whom it gives commands: those whose events tell what became of them.
pub const ASKS: [&str; 4] = FOLLOWS;

/// Its place under HTTP.
pub const RESOURCE: &str = "checkouts";

type Checkouts = Edge<Saga<Checkout>>;

/// Starts the service on its log, and the dispatcher that follows the others and asks them.
pub async fn start(given: Given) -> Result<Service, StartError> {
    let options = given.saga.clone();
    saga::start::<Checkout, _>(SOURCE, RESOURCE, given, options, |_, checkouts| routes(checkouts)).await
}

fn routes(checkouts: Checkouts) -> Routes {
    Routes::of(SOURCE, "What becomes of an order between its placement and its end.")
        .get(
            "/checkouts/{id}",
            show,
            view("show_checkout", "Show how far an order has come, by its id or by the checkout's own", shown())
                .customers(Customers::Own)
                .refuses(&["checkout_not_found"]),
        )
        .with_state(checkouts)
}

async fn show(
    State(checkouts): State<Checkouts>,
    PathId(id): PathId,
    By(who): By,
    ReadToken(token): ReadToken,
) -> Result<Response, Problem> {
    let see = async |id: Uuid| {
        checkouts.check_owner(&who, id, owner).await?;
        checkouts.show(id, &token, |checkout| checkout.known().map(seen)).await
    };
    match see(id).await {
        // an order's checkout has an id that follows from the order's
        Err(problem) if problem.status == StatusCode::NOT_FOUND => see(saga_id(CHECKOUT, &id.to_string())).await,
        shown => shown,
    }
}

/// Whose order it is about.
fn owner(checkout: &Saga<Checkout>) -> Option<CustomerId> {
    checkout.known().map(|instance| instance.state.order.customer_id)
}

/// A checkout as the world sees one.
fn seen(instance: &Instance<Checkout>) -> Value {
    let CheckoutState { saga_id, order, total_minor, stage, stock, money, parcel, life } = &instance.state;
    let amount = |amount_minor: i64| json!({ "amount_minor": amount_minor, "currency": order.currency });
    let lines = order.lines.iter().zip(stock.holds());
    let line = |(line, hold): (&CheckoutLine, &Hold)| json!({ "product_id": line.product_id, "quantity": line.quantity, "stock": hold });
    json!({
        "id": saga_id,
        "order_id": order.order_id,
        "customer_id": order.customer_id,
        "phase": instance.phase(),
        "setback": setback(*stage),
        "called_off": life.called_off,
        "total": amount(*total_minor),
        "lines": lines.map(line).collect::<Vec<_>>(),
        "payment": {
            "id": CheckoutState::payment_id(*saga_id),
            "status": money.status,
            "captured": amount(money.captured_minor),
            "refunded": amount(money.refunded_minor),
            "goodwill": amount(money.goodwill_minor),
        },
        "shipment": { "id": CheckoutState::shipment_id(*saga_id), "status": parcel },
        "waits_for": instance.open().map(|(step, _)| step.to_string()).collect::<Vec<_>>(),
        "started_at": instance.started_at,
        "changed_at": instance.changed_at,
        "deadline_at": instance.deadline_at,
    })
}

fn setback(stage: Stage) -> Option<Setback> {
    match stage {
        Stage::Compensating(setback) => Some(setback),
        Stage::Reserving | Stage::Authorizing | Stage::Securing | Stage::Confirming | Stage::CarryingOut => None,
    }
}

/// What [`seen`] makes.
fn shown() -> Value {
    let money = || schema::describe(crate::edge::fields::money);
    let line =
        schema::object([("product_id", schema::uuid()), ("quantity", schema::integer(1)), ("stock", schema::string())]);
    let payment = schema::object([
        ("id", schema::uuid()),
        ("status", schema::string()),
        ("captured", money()),
        ("refunded", money()),
        ("goodwill", money()),
    ]);
    let shipment = schema::object([("id", schema::uuid()), ("status", schema::string())]);
    schema::object([
        ("id", schema::uuid()),
        ("order_id", schema::uuid()),
        ("customer_id", schema::uuid()),
        ("phase", json!({ "type": "string", "enum": Phase::ALL.map(Phase::as_str) })),
        ("setback", schema::nullable(schema::string())),
        ("called_off", schema::boolean()),
        ("total", money()),
        ("lines", schema::list(line)),
        ("payment", payment),
        ("shipment", shipment),
        ("waits_for", schema::list(schema::string())),
        ("started_at", schema::time()),
        ("changed_at", schema::time()),
        ("deadline_at", schema::time()),
    ])
}
