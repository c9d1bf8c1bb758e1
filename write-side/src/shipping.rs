//! The shipping service: how far the pieces of an order have come. Its HTTP surface; [`shipment`] decides, [`address_book`]
//! knows where customers live.

mod address_book;
pub mod shipment;

use std::sync::Arc;

use axum::{
    extract::{FromRef, State},
    response::Response,
};
use event_store::clock::Clock;
use events::{
    ids::{CustomerId, OrderId, ShipmentId},
    orders::ORDER_LINES_MAX,
    personal::Personal,
    shipping::{SOURCE, ShipmentLine, ShipmentScheduled},
    users::{self, Address},
};
use serde::Serialize;
use serde_json::{Value, json};

use self::{
    address_book::AddressBook,
    shipment::{KnownShipment, Shipment, ShipmentCommand},
};
use crate::{
    edge::{
        Edge, Incoming, PathId, Problem, Routes,
        command::Asked,
        fields::{self, Fields, id, key, quantity, reason, text},
        openapi::{command, schema, view},
        request::ReadToken,
    },
    service::{Given, Service, StartError},
};

/// The feed that it follows: it tells who was erased.
pub const FOLLOWS: [&str; 1] = [users::SOURCE];

/// Whom it asks where a customer lives.
pub const ASKS: [&str; 1] = [users::SOURCE];

/// Its place under HTTP.
pub const RESOURCE: &str = "shipments";

/// The shipment that the examples are about.
pub const EXAMPLE: &str = "0198c0de-0000-7000-8000-000000000041";

const CARRIER_CHARS_MAX: usize = 100;
const TRACKING_CHARS_MAX: usize = 100;

type Shipments = State<Edge<Shipment>>;
type Answer = Result<Response, Problem>;

/// What the handlers share.
#[derive(Clone)]
struct Shared {
    shipments: Edge<Shipment>,
    addresses: Arc<AddressBook>,
    clock: Arc<dyn Clock>,
}

impl FromRef<Shared> for Edge<Shipment> {
    fn from_ref(shared: &Shared) -> Self {
        shared.shipments.clone()
    }
}

/// Starts the service on its log. Who the users' feed says is erased has no address here any more.
pub async fn start(given: Given) -> Result<Service, StartError> {
    let mut given = given.sealed();
    let missing = |what: &str| StartError::new(SOURCE, format!("it is not given {what}"));
    let clock = Arc::clone(&given.clock);
    let users = given.feeds.iter().find(|feed| **feed.source() == *users::SOURCE).cloned();
    let users = users.ok_or_else(|| missing("the users' feed"))?;
    let asked = given.peers.remove(users::SOURCE).ok_or_else(|| missing("the users service to ask"))?;
    let addresses = Arc::new(AddressBook { users: asked });
    let routes = |shipments| routes(Shared { shipments, addresses, clock });
    Ok(Service::start::<Shipment, _>(SOURCE, given, RESOURCE, None, routes)?.erasing(users))
}

/// The routes under `/shipments`.
fn routes(shared: Shared) -> Routes {
    const ENDED: &[&str] = &["shipment_not_found", "shipment_cancelled", "shipment_lost", "shipment_withdrawn"];
    let order = crate::orders::EXAMPLE;
    let scheduled = json!({
        "id": EXAMPLE, "order_id": order, "customer_id": crate::users::EXAMPLE,
        "lines": [{ "product_id": crate::catalog::EXAMPLE, "quantity": 2 }],
        "address": { "street": "Avda. de la Constitución 2222", "city": "México D.F.", "country": "Mexico" },
    });
    let change = |id, summary| command(id, summary).on(&[EXAMPLE]).refuses(ENDED);
    Routes::of(SOURCE, "How far the pieces of an order have come.")
        .post(
            "/shipments",
            schedule,
            command(
                "schedule_shipment",
                "Plan to send the pieces of an order, to the customer's address if it names none",
            )
            .takes(Schedule::read, scheduled)
            .creates()
            .fails(503, &["users_unavailable"])
            .refuses(&["shipment_exists", "shipment_withdrawn", "line_count", "product_repeated"]),
        )
        .get(
            "/shipments/{id}",
            show,
            view("show_shipment", "Show a shipment", shown())
                .on(&[EXAMPLE])
                .after(&["schedule_shipment"])
                .refuses(&["shipment_not_found"]),
        )
        .post(
            "/shipments/{id}/dispatch",
            dispatch,
            change("dispatch_shipment", "The carrier has it")
                .takes(dispatched, json!({ "carrier": "Correos", "tracking": "MX-4711" }))
                .after(&["schedule_shipment"])
                .refuses(&["shipment_already_dispatched", "shipment_already_delivered"]),
        )
        .post(
            "/shipments/{id}/deliver",
            deliver,
            change("deliver_shipment", "The customer has it")
                .after(&["dispatch_shipment"])
                .refuses(&["shipment_not_dispatched"]),
        )
        .post(
            "/shipments/{id}/cancel",
            cancel,
            change("cancel_shipment", "Keep it here; what was never scheduled never will be")
                .takes(cancelled, json!({ "order_id": order, "reason": "the customer changed their mind" }))
                .after(&["schedule_shipment"])
                .refuses(&["shipment_of_another_order"])
                .refuses(&["shipment_already_dispatched", "shipment_already_delivered"]),
        )
        .post(
            "/shipments/{id}/lose",
            lose,
            change("lose_shipment", "It is lost on its way")
                .takes(lost, json!({ "reason": "the lorry is gone" }))
                .after(&["dispatch_shipment"])
                .refuses(&["shipment_not_dispatched", "shipment_already_delivered"]),
        )
        .with_state(shared)
}

fn dispatched(fields: &mut Fields<'_>) -> Option<(String, String)> {
    let carrier = fields.required("carrier", text(CARRIER_CHARS_MAX));
    let tracking = fields.required("tracking", key(TRACKING_CHARS_MAX));
    Some((carrier?, tracking?))
}

fn cancelled(fields: &mut Fields<'_>) -> Option<(OrderId, String)> {
    let order_id = fields.required("order_id", fields::id);
    let reason = fields.required("reason", reason);
    Some((order_id?, reason?))
}

fn lost(fields: &mut Fields<'_>) -> Option<String> {
    fields.required("reason", reason)
}

#[derive(Serialize)]
struct Schedule {
    id: Option<ShipmentId>,
    order_id: OrderId,
    customer_id: CustomerId,
    lines: Vec<ShipmentLine>,
    /// The customer's own without one.
    address: Option<Address>,
}

impl Schedule {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let id = fields.optional("id", id);
        let order_id = fields.required("order_id", fields::id);
        let customer_id = fields.required("customer_id", fields::id);
        let lines = fields.list("lines", ORDER_LINES_MAX, shipment_line);
        let address = fields.optional_object("address", fields::address);
        Some(Self { id: id?, order_id: order_id?, customer_id: customer_id?, lines: lines?, address: address? })
    }
}

fn shipment_line(fields: &mut Fields<'_>) -> Option<ShipmentLine> {
    let product_id = fields.required("product_id", id);
    let quantity = fields.required("quantity", quantity);
    Some(ShipmentLine { product_id: product_id?, quantity: quantity? })
}

async fn schedule(State(shared): State<Shared>, incoming: Incoming) -> Answer {
    let body = incoming.fields(Schedule::read)?;
    let shipments = &shared.shipments;
    let shipment_id = body.id.unwrap_or_else(|| incoming.made_id(shipments.service()).into());
    let address = match &body.address {
        Some(address) => Some(address.clone()),
        None => match shared.addresses.address_of(body.customer_id, &incoming.conversation).await {
            Ok(address) => address,
            // what is scheduled already is answered as it was, whoever is away now
            Err(_) if shipments.is_answered(&incoming).await? => None,
            Err(problem) => return Err(problem),
        },
    };
    let subject = body.customer_id;
    let wanted = ShipmentScheduled {
        shipment_id,
        order_id: body.order_id,
        customer_id: subject,
        lines: body.lines.clone(),
        address: address.map_or_else(|| Personal::erased(subject), |address| Personal::of(subject, address)),
    };
    let command = ShipmentCommand::Schedule { wanted, names_address: body.address.is_some() };
    shipments.run(&incoming, Asked { id: shipment_id.0, body: &body, command, creates: true, occurred_at: None }).await
}

async fn dispatch(State(shared): State<Shared>, PathId(id): PathId, incoming: Incoming) -> Answer {
    let (carrier, tracking) = incoming.fields(dispatched)?;
    let body = json!({ "carrier": carrier, "tracking": tracking });
    let command = ShipmentCommand::Dispatch { carrier, tracking, at: shared.clock.now_as_kept() };
    shared.shipments.change(&incoming, id, &body, command).await
}

async fn deliver(State(shared): State<Shared>, PathId(id): PathId, incoming: Incoming) -> Answer {
    incoming.no_fields()?;
    let command = ShipmentCommand::Deliver { at: shared.clock.now_as_kept() };
    shared.shipments.change(&incoming, id, &json!({}), command).await
}

/// Names the order too: the shipment may not be known yet, and its cancellation is then kept for the order.
async fn cancel(State(shipments): Shipments, PathId(id): PathId, incoming: Incoming) -> Answer {
    let (order_id, reason) = incoming.fields(cancelled)?;
    let body = json!({ "order_id": order_id, "reason": reason });
    let command = ShipmentCommand::Cancel { shipment_id: ShipmentId(id), order_id, reason };
    shipments.change(&incoming, id, &body, command).await
}

async fn lose(State(shipments): Shipments, PathId(id): PathId, incoming: Incoming) -> Answer {
    let reason = incoming.fields(lost)?;
    shipments.change(&incoming, id, &json!({ "reason": reason }), ShipmentCommand::Lose { reason }).await
}

async fn show(State(shipments): Shipments, PathId(id): PathId, ReadToken(token): ReadToken) -> Answer {
    shipments.show(id, &token, seen).await
}

/// A shipment as the world sees one.
fn seen(shipment: &Shipment) -> Option<Value> {
    match shipment {
        Shipment::Absent => None,
        Shipment::Withdrawn(withdrawn) => Some(json!({
            "id": withdrawn.shipment_id,
            "order_id": withdrawn.order_id,
            "status": "WITHDRAWN",
            "reason": withdrawn.reason,
        })),
        Shipment::Known(shipment) => Some(known(shipment)),
    }
}

fn known(shipment: &KnownShipment) -> Value {
    let dispatched = shipment.dispatched.as_ref();
    json!({
        "id": shipment.id(),
        "order_id": shipment.scheduled.order_id,
        "customer_id": shipment.scheduled.customer_id,
        "lines": shipment.scheduled.lines,
        "address": shipment.scheduled.address.value(),
        "status": shipment.status,
        "carrier": dispatched.map(|dispatched| &dispatched.carrier),
        "tracking": dispatched.map(|dispatched| &dispatched.tracking),
        "dispatched_at": dispatched.map(|dispatched| dispatched.dispatched_at),
        "delivered_at": shipment.delivered_at,
        "reason": shipment.reason,
    })
}

/// What [`seen`] makes.
fn shown() -> Value {
    let withdrawn = schema::object([
        ("id", schema::uuid()),
        ("order_id", schema::uuid()),
        ("status", schema::constant("WITHDRAWN")),
        ("reason", schema::string()),
    ]);
    let known = schema::object([
        ("id", schema::uuid()),
        ("order_id", schema::uuid()),
        ("customer_id", schema::uuid()),
        ("lines", schema::list(schema::describe(shipment_line))),
        ("address", schema::nullable(schema::describe(fields::address))),
        ("status", schema::string()),
        ("carrier", schema::nullable(schema::string())),
        ("tracking", schema::nullable(schema::string())),
        ("dispatched_at", schema::nullable(schema::time())),
        ("delivered_at", schema::nullable(schema::time())),
        ("reason", schema::nullable(schema::string())),
    ]);
    schema::either([withdrawn, known])
}
