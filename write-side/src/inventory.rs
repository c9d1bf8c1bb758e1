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
    extract::{FromRef, State},
    response::Response,
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
        Customers, Edge, Incoming, PathId, Problem, Routes,
        fields::{Described, Fields, Read, Reading, described, id, integer, quantity, reason},
        openapi::{command, schema, view},
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

/// Its place under HTTP.
pub const RESOURCE: &str = "stock";

/// Starts the service on its log, and the task that lets reservations expire.
pub async fn start(given: Given) -> Result<Service, StartError> {
    let (clock, feed) = (Arc::clone(&given.clock), Arc::clone(&given.log) as Arc<dyn Feed>);
    let mut bus = None;
    let service = Service::start::<StockItem, _>(events::inventory::SOURCE, given, RESOURCE, None, |stock| {
        bus = Some(stock.bus().clone());
        routes(Shared { stock, clock: Arc::clone(&clock) })
    })?;
    if let Some(bus) = bus {
        service.spawn(|closing| expirer::run(bus, feed, clock, closing));
    }
    Ok(service)
}

/// The routes under `/stock`.
fn routes(shared: Shared) -> Routes {
    const CLOSED: &[&str] = &["stock_item_not_found", "reservation_not_found", "reservation_closed"];
    let chai = crate::catalog::EXAMPLE;
    let line = json!({ "order_id": crate::orders::EXAMPLE, "line": 0 });
    let wanted = json!({ "order_id": crate::orders::EXAMPLE, "line": 0, "quantity": 2 });
    let change = |id, summary| command(id, summary).on(&[chai]);
    let of_line = |id, summary| {
        change(id, summary).takes(reservation_id, line.clone()).reports("reservation", reported()).refuses(CLOSED)
    };
    Routes::of(events::inventory::SOURCE, "How many pieces there are, and for whom.")
        .get(
            "/stock/{id}",
            show,
            view("show_stock", "Show how many pieces of a product there are", shown())
                .on(&[chai])
                .after(&["receive_stock"])
                .customers(Customers::All)
                .refuses(&["stock_item_not_found"]),
        )
        .post(
            "/stock/{id}/receive",
            receive,
            change("receive_stock", "Pieces have come")
                .takes(received, json!({ "quantity": 100 }))
                .refuses(&["stock_too_large"]),
        )
        .post(
            "/stock/{id}/adjust",
            adjust,
            change("adjust_stock", "Somebody has counted: there are more or fewer")
                .takes(adjusted, json!({ "quantity": -1, "reason": "one came broken" }))
                .after(&["receive_stock"])
                .refuses(&["stock_item_not_found", "stock_too_large", "stock_held"]),
        )
        .post(
            "/stock/{id}/reserve",
            reserve,
            change("reserve_stock", "Hold pieces for a line of an order; too few are an event and no error")
                .takes(Reserve::read, wanted)
                .reports("reservation", reported())
                .after(&["receive_stock"])
                .refuses(&["reservation_exists", "reservation_closed"]),
        )
        .post(
            "/stock/{id}/release",
            release,
            of_line("release_stock", "Let the pieces of a line go, also before they were asked for"),
        )
        .post(
            "/stock/{id}/confirm",
            confirm,
            of_line("confirm_stock", "Hold the pieces of a line for good").after(&["reserve_stock"]),
        )
        .post(
            "/stock/{id}/ship",
            ship,
            of_line("ship_stock", "The pieces of a line have left").after(&["reserve_stock"]),
        )
        .post(
            "/stock/{id}/expire",
            expire,
            change("expire_stock", "Let go what nobody has confirmed in time")
                .after(&["receive_stock"])
                .refuses(&["stock_item_not_found"]),
        )
        .with_state(shared)
}

/// What [`seen`] makes.
fn shown() -> Value {
    schema::object([
        ("id", schema::uuid()),
        ("on_hand", schema::integer(0)),
        ("held", schema::integer(0)),
        ("available", schema::integer(0)),
        ("reservations", schema::integer(0)),
    ])
}

/// What a command on a line says of it besides.
fn reported() -> Value {
    let pieces = || schema::integer(0);
    json!({
        "type": "object",
        "required": ["status"],
        "properties": {
            "status": schema::string(),
            "quantity": pieces(),
            "available": pieces(),
            "expires_at": schema::nullable(schema::time()),
        },
        "additionalProperties": false,
    })
}

fn received(fields: &mut Fields<'_>) -> Option<NonZeroU32> {
    fields.required("quantity", pieces)
}

fn adjusted(fields: &mut Fields<'_>) -> Option<(NonZeroI64, String)> {
    let quantity = fields.required("quantity", more_or_fewer);
    let reason = fields.required("reason", reason);
    Some((quantity?, reason?))
}

async fn receive(State(stock): Stock, PathId(id): PathId, incoming: Incoming) -> Answer {
    let quantity = incoming.fields(received)?;
    let command = StockCommand::Receive { product_id: ProductId(id), quantity };
    stock.change(&incoming, id, &json!({ "quantity": quantity }), command).await
}

async fn adjust(State(stock): Stock, PathId(id): PathId, incoming: Incoming) -> Answer {
    let (quantity, reason) = incoming.fields(adjusted)?;
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
    stock.show(id, &token, seen).await
}

/// A stock item as the world sees one. Who holds what is in its events.
fn seen(item: &StockItem) -> Option<Value> {
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

type Reader<T> = Described<fn(&Value) -> Reading<T>>;

/// A line of an order, counted from 0.
fn line() -> Reader<u32> {
    const MAX: i64 = ORDER_LINES_MAX as i64 - 1;
    described(integer(0, MAX).schema(), |value| {
        u32::try_from(integer(0, MAX).read(value)?).map_err(|error| error.to_string())
    })
}

fn pieces() -> Reader<NonZeroU32> {
    described(quantity().schema(), |value| {
        NonZeroU32::try_from(quantity().read(value)?).map_err(|error| error.to_string())
    })
}

fn more_or_fewer() -> Reader<NonZeroI64> {
    const MAX: i64 = ADJUSTMENT_MAX as i64;
    let schema = json!({ "type": "integer", "minimum": -MAX, "maximum": MAX, "not": { "const": 0 } });
    described(schema, |value| {
        let number = value.as_i64().filter(|number| (-MAX..=MAX).contains(number));
        let number = number.and_then(|number| NonZeroI64::try_from(number).ok());
        number.ok_or_else(|| format!("must be a whole number from -{MAX} to {MAX}, and not 0"))
    })
}

fn hold_seconds() -> Reader<u64> {
    const MAX: i64 = HOLD_MAX.as_secs() as i64;
    described(integer(1, MAX).schema(), |value| {
        u64::try_from(integer(1, MAX).read(value)?).map_err(|error| error.to_string())
    })
}
