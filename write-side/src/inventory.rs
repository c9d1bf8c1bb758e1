//! The inventory service: how many pieces there are, and for whom. Its HTTP surface; [`stock_item`] decides.
//!
//! A stock item has the id of its product. It needs no creation: what was never received has no pieces, and a
//! reservation of it is rejected like any other that finds too few. What nobody confirms in time is let go by [`expirer`],
//! a task of the service; `POST /stock/{product_id}/expire` does the same at once.

mod expirer;
pub mod reservations;
pub mod stock_item;

use std::{
    num::{NonZeroI64, NonZeroU32},
    sync::Arc,
    time::Duration,
};

use axum::{
    Router,
    extract::{FromRef, State},
    response::Response,
    routing::{get, post},
};
use event_store::{clock::Clock, feed::Feed};
use events::{ids::ProductId, orders::ORDER_LINES_MAX};
use serde::Serialize;
use serde_json::{Value, json};

use self::{
    reservations::ReservationId,
    stock_item::{StockCommand, StockItem},
};
use crate::{
    edge::{
        Edge, Incoming, PathId, Problem,
        fields::{Fields, Reading, id, integer, quantity, reason},
        request::ReadToken,
    },
    service::{Given, Service, StartError},
};

/// The most pieces that one adjustment adds or takes away.
const ADJUSTMENT_MAX: u32 = 1_000_000;

/// How long pieces are held for an order that nobody confirms, unless the reservation says otherwise: longer than any
/// checkout that is still alive takes.
const HOLD_DEFAULT: Duration = Duration::from_secs(30 * 60);
const HOLD_MAX: Duration = Duration::from_secs(30 * 24 * 60 * 60);

type Stock = State<Edge<StockItem>>;
type Answer = Result<Response, Problem>;

/// What the handlers share.
#[derive(Clone)]
struct Shared {
    stock: Edge<StockItem>,
    clock: Arc<dyn Clock>,
}

impl FromRef<Shared> for Edge<StockItem> {
    fn from_ref(shared: &Shared) -> Self {
        shared.stock.clone()
    }
}

/// Starts the service on its log, and the task that lets reservations expire.
pub async fn start(given: Given) -> Result<Service, StartError> {
    let (clock, feed) = (Arc::clone(&given.clock), Arc::clone(&given.log) as Arc<dyn Feed>);
    let mut bus = None;
    let service = Service::start::<StockItem>(events::inventory::SOURCE, given, "stock", None, |stock| {
        bus = Some(stock.bus().clone());
        routes(Shared { stock, clock: Arc::clone(&clock) })
    })?;
    if let Some(bus) = bus {
        service.spawn(|closing| expirer::run(bus, feed, clock, closing));
    }
    Ok(service)
}

/// The routes under `/stock`.
fn routes(shared: Shared) -> Router {
    Router::new()
        .route("/stock/{id}", get(show))
        .route("/stock/{id}/receive", post(receive))
        .route("/stock/{id}/adjust", post(adjust))
        .route("/stock/{id}/reserve", post(reserve))
        .route("/stock/{id}/release", post(release))
        .route("/stock/{id}/confirm", post(confirm))
        .route("/stock/{id}/ship", post(ship))
        .route("/stock/{id}/expire", post(expire))
        .with_state(shared)
}

async fn receive(State(stock): Stock, PathId(id): PathId, incoming: Incoming) -> Answer {
    let quantity = incoming.fields(|fields| fields.required("quantity", pieces))?;
    let command = StockCommand::Receive { product_id: ProductId(id), quantity };
    stock.change(&incoming, id, &json!({ "quantity": quantity }), command).await
}

async fn adjust(State(stock): Stock, PathId(id): PathId, incoming: Incoming) -> Answer {
    let (quantity, reason) = incoming.fields(|fields| {
        let quantity = fields.required("quantity", more_or_fewer);
        let reason = fields.required("reason", reason);
        Some((quantity?, reason?))
    })?;
    let body = json!({ "quantity": quantity, "reason": reason });
    stock.change(&incoming, id, &body, StockCommand::Adjust { quantity, reason }).await
}

/// `POST /stock/{product_id}/reserve`: answered with 200 also when it is rejected, because others must see that too.
#[derive(Serialize)]
struct Reserve {
    #[serde(flatten)]
    id: ReservationId,
    quantity: NonZeroU32,
    hold_seconds: Option<u64>,
}

impl Reserve {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let id = reservation_id(fields);
        let quantity = fields.required("quantity", pieces);
        let hold_seconds = fields.optional("hold_seconds", hold_seconds);
        Some(Self { id: id?, quantity: quantity?, hold_seconds: hold_seconds? })
    }
}

async fn reserve(State(shared): State<Shared>, PathId(id): PathId, incoming: Incoming) -> Answer {
    let body = incoming.fields(Reserve::read)?;
    let hold = body.hold_seconds.map_or(HOLD_DEFAULT, Duration::from_secs);
    let command = StockCommand::Reserve {
        product_id: ProductId(id),
        id: body.id,
        quantity: body.quantity,
        expires_at: shared.clock.now_as_kept() + hold,
    };
    shared.stock.change(&incoming, id, &body, command).await
}

async fn release(State(stock): Stock, PathId(id): PathId, incoming: Incoming) -> Answer {
    let line = incoming.fields(reservation_id)?;
    stock.change(&incoming, id, &line, StockCommand::Release { product_id: ProductId(id), id: line }).await
}

async fn confirm(State(stock): Stock, PathId(id): PathId, incoming: Incoming) -> Answer {
    let line = incoming.fields(reservation_id)?;
    stock.change(&incoming, id, &line, StockCommand::Confirm { id: line }).await
}

async fn ship(State(stock): Stock, PathId(id): PathId, incoming: Incoming) -> Answer {
    let line = incoming.fields(reservation_id)?;
    stock.change(&incoming, id, &line, StockCommand::Ship { id: line }).await
}

/// What the expirer does by itself, for whoever does not want to wait for it.
async fn expire(State(shared): State<Shared>, PathId(id): PathId, incoming: Incoming) -> Answer {
    incoming.no_fields()?;
    let now = shared.clock.now_as_kept();
    shared.stock.change(&incoming, id, &json!({}), StockCommand::Expire { now }).await
}

async fn show(State(stock): Stock, PathId(id): PathId, ReadToken(token): ReadToken) -> Answer {
    stock.show(id, &token, view).await
}

/// A stock item as the world sees one. Who holds what is in its events.
fn view(item: &StockItem) -> Option<Value> {
    match item {
        StockItem::Absent => None,
        StockItem::Known(stock) => Some(json!({
            "id": stock.product_id,
            "on_hand": stock.on_hand,
            "held": stock.held,
            "available": stock.available(),
            "reservations": stock.open.size(),
        })),
    }
}

/// `{order_id, line}`
fn reservation_id(fields: &mut Fields<'_>) -> Option<ReservationId> {
    let order_id = fields.required("order_id", id);
    let line = fields.required("line", line);
    Some(ReservationId { order_id: order_id?, line: line? })
}

/// A line of an order, counted from 0.
fn line(value: &Value) -> Reading<u32> {
    let line = integer(0, ORDER_LINES_MAX as i64 - 1)(value)?;
    u32::try_from(line).map_err(|error| error.to_string())
}

fn pieces(value: &Value) -> Reading<NonZeroU32> {
    NonZeroU32::try_from(quantity(value)?).map_err(|error| error.to_string())
}

fn more_or_fewer(value: &Value) -> Reading<NonZeroI64> {
    let number = value.as_i64().filter(|number| number.unsigned_abs() <= u64::from(ADJUSTMENT_MAX));
    let number = number.and_then(|number| NonZeroI64::try_from(number).ok());
    number.ok_or_else(|| format!("must be a whole number from -{ADJUSTMENT_MAX} to {ADJUSTMENT_MAX}, and not 0"))
}

fn hold_seconds(value: &Value) -> Reading<u64> {
    let seconds = integer(1, HOLD_MAX.as_secs() as i64)(value)?;
    u64::try_from(seconds).map_err(|error| error.to_string())
}
