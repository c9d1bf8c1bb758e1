//! The shipping service: how far the pieces of an order have come. Its HTTP surface; [`shipment`] decides.

pub mod shipment;

use std::sync::Arc;

use axum::{
    Router,
    extract::{FromRef, State},
    response::Response,
    routing::{get, post},
};
use event_store::clock::Clock;
use events::{
    ids::{CustomerId, OrderId, ShipmentId},
    orders::ORDER_LINES_MAX,
    shipping::{ShipmentLine, ShipmentScheduled},
    users::Address,
};
use serde::Serialize;
use serde_json::{Value, json};

use self::shipment::{KnownShipment, Shipment, ShipmentCommand};
use crate::{
    edge::{
        Edge, Incoming, PathId, Problem,
        command::Asked,
        fields::{self, Fields, id, key, quantity, reason, text},
        request::ReadToken,
    },
    service::{Given, Service, StartError},
};

const CARRIER_CHARS_MAX: usize = 100;
const TRACKING_CHARS_MAX: usize = 100;

type Shipments = State<Edge<Shipment>>;
type Answer = Result<Response, Problem>;

/// What the handlers share.
#[derive(Clone)]
struct Shared {
    shipments: Edge<Shipment>,
    clock: Arc<dyn Clock>,
}

impl FromRef<Shared> for Edge<Shipment> {
    fn from_ref(shared: &Shared) -> Self {
        shared.shipments.clone()
    }
}

/// Starts the service on its log.
pub async fn start(given: Given) -> Result<Service, StartError> {
    let clock = Arc::clone(&given.clock);
    Service::start::<Shipment>(events::shipping::SOURCE, given, "shipments", None, |shipments| {
        routes(Shared { shipments, clock })
    })
}

/// The routes under `/shipments`.
fn routes(shared: Shared) -> Router {
    Router::new()
        .route("/shipments", post(schedule))
        .route("/shipments/{id}", get(show))
        .route("/shipments/{id}/dispatch", post(dispatch))
        .route("/shipments/{id}/deliver", post(deliver))
        .route("/shipments/{id}/cancel", post(cancel))
        .route("/shipments/{id}/lose", post(lose))
        .with_state(shared)
}

#[derive(Serialize)]
struct Schedule {
    id: Option<ShipmentId>,
    order_id: OrderId,
    customer_id: CustomerId,
    lines: Vec<ShipmentLine>,
    address: Address,
}

impl Schedule {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let id = fields.optional("id", id);
        let order_id = fields.required("order_id", fields::id);
        let customer_id = fields.required("customer_id", fields::id);
        let lines = fields.list("lines", ORDER_LINES_MAX, shipment_line);
        let address = fields.object("address", fields::address);
        Some(Self { id: id?, order_id: order_id?, customer_id: customer_id?, lines: lines?, address: address? })
    }
}

fn shipment_line(fields: &mut Fields<'_>) -> Option<ShipmentLine> {
    let product_id = fields.required("product_id", id);
    let quantity = fields.required("quantity", quantity);
    Some(ShipmentLine { product_id: product_id?, quantity: quantity? })
}

async fn schedule(State(shipments): Shipments, incoming: Incoming) -> Answer {
    let body = incoming.fields(Schedule::read)?;
    let shipment_id = body.id.unwrap_or_else(|| incoming.made_id(shipments.service()).into());
    let command = ShipmentCommand::Schedule(ShipmentScheduled {
        shipment_id,
        order_id: body.order_id,
        customer_id: body.customer_id,
        lines: body.lines.clone(),
        address: body.address.clone(),
    });
    shipments.run(&incoming, Asked { id: shipment_id.0, body: &body, command, creates: true, occurred_at: None }).await
}

async fn dispatch(State(shared): State<Shared>, PathId(id): PathId, incoming: Incoming) -> Answer {
    let (carrier, tracking) = incoming.fields(|fields| {
        let carrier = fields.required("carrier", text(CARRIER_CHARS_MAX));
        let tracking = fields.required("tracking", key(TRACKING_CHARS_MAX));
        Some((carrier?, tracking?))
    })?;
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
    let (order_id, reason) = incoming.fields(|fields| {
        let order_id = fields.required("order_id", fields::id);
        let reason = fields.required("reason", reason);
        Some((order_id?, reason?))
    })?;
    let body = json!({ "order_id": order_id, "reason": reason });
    let command = ShipmentCommand::Cancel { shipment_id: ShipmentId(id), order_id, reason };
    shipments.change(&incoming, id, &body, command).await
}

async fn lose(State(shipments): Shipments, PathId(id): PathId, incoming: Incoming) -> Answer {
    let reason = incoming.fields(|fields| fields.required("reason", reason))?;
    shipments.change(&incoming, id, &json!({ "reason": reason }), ShipmentCommand::Lose { reason }).await
}

async fn show(State(shipments): Shipments, PathId(id): PathId, ReadToken(token): ReadToken) -> Answer {
    shipments.show(id, &token, view).await
}

/// A shipment as the world sees one.
fn view(shipment: &Shipment) -> Option<Value> {
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
        "address": shipment.scheduled.address,
        "status": shipment.status,
        "carrier": dispatched.map(|dispatched| &dispatched.carrier),
        "tracking": dispatched.map(|dispatched| &dispatched.tracking),
        "dispatched_at": dispatched.map(|dispatched| dispatched.dispatched_at),
        "delivered_at": shipment.delivered_at,
        "reason": shipment.reason,
    })
}
