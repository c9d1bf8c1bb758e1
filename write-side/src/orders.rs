//! The orders service: what customers want. Its HTTP surface; [`order`] decides, [`replica`] knows products and users.

pub mod order;
pub mod replica;

use std::{sync::Arc, time::Duration};

use axum::{
    extract::{FromRef, State},
    http::StatusCode,
    response::Response,
};
use chrono::{DateTime, Utc};
use event_store::clock::Clock;
use events::{
    catalog,
    ids::{CustomerId, OrderId, ProductId},
    orders::{ORDER_LINES_MAX, OrderImported, OrderLine, OrderStatus, ReturnedLine},
    payments::PaymentMethod,
    principal::scope,
    users,
};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::time::Instant;
use uuid::Uuid;

use self::{
    order::{Customer, KnownOrder, Order, OrderCommand, Origin, PlaceOrder, WantedLine},
    replica::{Replica, ReplicaError, known::Known},
};
use crate::{
    catalog::NAME_CHARS_MAX,
    edge::{
        By, Customers, Edge, Incoming, PathId, Problem, Routes, access,
        command::{Asked, consistency_lost},
        fields::{self, Fields, Word, basis_points, id, key, quantity, reason, text, time, word},
        openapi::{command, schema, view},
        request::ReadToken,
    },
    service::{Given, Service, StartError},
};

/// The orders that the examples are about: one placed here, one imported.
pub const EXAMPLE: &str = "0198c0de-0000-7000-8000-000000000021";
pub const EXAMPLE_IMPORTED: &str = "0198c0de-0000-7000-8000-000000000022";

type Answer = Result<Response, Problem>;

/// What the handlers share.
#[derive(Clone)]
struct Shared {
    orders: Edge<Order>,
    replica: Arc<Replica>,
    clock: Arc<dyn Clock>,
}

impl FromRef<Shared> for Edge<Order> {
    fn from_ref(shared: &Shared) -> Self {
        shared.orders.clone()
    }
}

/// Its place under HTTP.
pub const RESOURCE: &str = "orders";

/// Starts the service on its log, and its replica on the feeds it is given.
pub async fn start(given: Given) -> Result<Service, StartError> {
    let replica = Arc::new(Replica::start(&given.replica, given.feeds.clone()).await?);
    let (known, clock) = (Arc::clone(&replica), Arc::clone(&given.clock));
    Service::start::<Order, _>(events::orders::SOURCE, given, RESOURCE, Some(known), |orders| {
        routes(Shared { orders, replica, clock })
    })
}

fn routes(shared: Shared) -> Routes {
    const LINES: &[&str] = &["line_count", "quantity_out_of_range", "product_repeated"];
    const NEW: &[&str] = &["order_exists", "mixed_currencies", "total_too_large"];
    let (ana, chai) = (crate::users::EXAMPLE, crate::catalog::EXAMPLE);
    let placed = json!({ "id": EXAMPLE, "customer_id": ana, "lines": [{ "product_id": chai, "quantity": 2 }] });
    let line = json!({
        "product_id": chai, "product_name": "Chai", "quantity": 3, "discount_bp": 500,
        "unit_price": { "amount_minor": 1_440, "currency": "USD" },
    });
    let imported = json!({
        "id": EXAMPLE_IMPORTED, "customer_id": ana, "lines": [line], "status": "SHIPPED", "external_ref": "10248",
        "placed_at": "1996-07-04T00:00:00Z", "shipped_at": "1996-07-16T00:00:00Z",
    });
    // for the checkout and for operators; no business of customers
    let carry_out = |id, summary| command(id, summary).on(&[EXAMPLE]).refuses(&["order_not_found", "order_cancelled"]);
    Routes::of(events::orders::SOURCE, "What customers want, from the order to its return.")
        .post(
            "/orders",
            place,
            command("place_order", "Place an order at today's prices")
                .takes(Place::read, placed)
                .creates()
                .after(&["register_user", "add_product"])
                .customers(Customers::Own)
                .refuses(LINES)
                .refuses(NEW)
                .refuses(&["customer_unknown", "customer_erased", "product_unknown", "product_discontinued"])
                .fails(403, &["discount_not_yours"])
                .fails(503, &["replica_behind", "consistency_timeout"]),
        )
        .post(
            "/orders/import",
            import,
            command("import_order", "Take over an order that ended in another system, as it was there")
                .takes(Import::read, imported)
                .creates()
                .scope(scope::IMPORT)
                .refuses(LINES)
                .refuses(NEW),
        )
        .get(
            "/orders/{id}",
            show,
            view("show_order", "Show an order", shown())
                .on(&[EXAMPLE])
                .after(&["place_order"])
                .customers(Customers::Own)
                .refuses(&["order_not_found"]),
        )
        .post(
            "/orders/{id}/cancel",
            cancel,
            command("cancel_order", "Cancel an order, or give all of it back once it is confirmed")
                .takes(why, json!({ "reason": "ordered twice" }))
                .on(&[EXAMPLE])
                .after(&["place_order"])
                .customers(Customers::Own)
                .fails(403, &["return_not_yours"])
                .refuses(&["order_not_found"]),
        )
        .post(
            "/orders/{id}/reject",
            reject,
            command(
                "reject_order",
                "It cannot be carried out, or only be given back once it is confirmed: say why to the customer, in words without \
                 personal data",
            )
            .takes(why, json!({ "reason": "a product is out of stock" }))
            .on(&[EXAMPLE])
            .after(&["place_order"])
            .refuses(&["order_not_found", "order_already_shipped", "order_already_delivered"]),
        )
        .post(
            "/orders/{id}/return",
            give_back,
            command("return_order", "Take goods back: all or some that were shipped, or all of a confirmed order")
                .takes(returned, json!({ "lines": [{ "product_id": chai, "quantity": 1 }] }))
                .on(&[EXAMPLE_IMPORTED])
                .after(&["import_order"])
                .customers(Customers::Own)
                .fails(403, &["return_not_yours"])
                .refuses(LINES)
                .refuses(&["order_not_found", "order_not_shipped", "order_already_returned"])
                .refuses(&["order_cancelled", "product_not_ordered", "return_too_large"]),
        )
        .post(
            "/orders/{id}/confirm",
            confirm,
            carry_out("confirm_order", "Stock and payment are settled: say so, and carry the order out")
                .after(&["place_order"]),
        )
        .post(
            "/orders/{id}/ship",
            mark_shipped,
            carry_out("ship_order", "All of the order is on its way")
                .after(&["confirm_order"])
                .refuses(&["order_not_confirmed"]),
        )
        .post(
            "/orders/{id}/deliver",
            mark_delivered,
            carry_out("deliver_order", "All of the order is with the customer")
                .after(&["ship_order"])
                .refuses(&["order_not_shipped"]),
        )
        .with_state(shared)
}

#[derive(Serialize)]
struct Place {
    id: Option<OrderId>,
    customer_id: CustomerId,
    lines: Vec<PlacedLine>,
    payment_method: Option<PaymentMethod>,
    external_ref: Option<String>,
}

#[derive(Serialize)]
struct PlacedLine {
    product_id: ProductId,
    quantity: u32,
    discount_bp: u16,
}

impl Place {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let id = fields.optional("id", id);
        let customer_id = fields.required("customer_id", fields::id);
        let lines = fields.list("lines", ORDER_LINES_MAX, PlacedLine::read);
        let payment_method = fields.optional("payment_method", word::<PaymentMethod>);
        let external_ref = fields.optional("external_ref", key(fields::EXTERNAL_REF_CHARS_MAX));
        Some(Self {
            id: id?,
            customer_id: customer_id?,
            lines: lines?,
            payment_method: payment_method?,
            external_ref: external_ref?,
        })
    }

    /// The command, with what is known of its customer and products.
    fn with(&self, known: &Known, order_id: OrderId, placed_at: DateTime<Utc>) -> PlaceOrder {
        let wanted = |line: &PlacedLine| WantedLine {
            product_id: line.product_id,
            quantity: line.quantity,
            discount_bp: line.discount_bp,
            offer: known.products.get(&line.product_id).cloned(),
        };
        PlaceOrder {
            order_id,
            customer_id: self.customer_id,
            customer: known.customer(self.customer_id),
            lines: self.lines.iter().map(wanted).collect(),
            placed_at,
            payment_method: self.payment_method.clone().map(String::from),
            external_ref: self.external_ref.clone(),
        }
    }
}

impl PlacedLine {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let product_id = fields.required("product_id", id);
        let quantity = fields.required("quantity", quantity);
        let discount_bp = fields.optional("discount_bp", basis_points);
        Some(Self { product_id: product_id?, quantity: quantity?, discount_bp: discount_bp?.unwrap_or(0) })
    }
}

async fn place(State(shared): State<Shared>, incoming: Incoming) -> Answer {
    let body = incoming.fields(Place::read)?;
    access::own(&incoming.principal, body.customer_id)?;
    if incoming.principal.customer().is_some() && body.lines.iter().any(|line| line.discount_bp > 0) {
        return Err(discount_not_yours());
    }
    let order_id = body.id.unwrap_or_else(|| incoming.made_id(shared.orders.service()).into());
    let placed_at = shared.clock.now_as_kept();
    let command = match shared.filled(&body, &incoming, order_id, placed_at).await {
        Ok(command) => command,
        // an order that is done already is answered as it was, whatever the replica knows now
        Err(_) if shared.is_answered(&incoming).await? => body.with(&shared.replica.known(), order_id, placed_at),
        Err(problem) => return Err(problem),
    };
    let command = OrderCommand::Place(command);
    let asked = Asked { id: order_id.0, body: &body, command, creates: true, occurred_at: None };
    shared.orders.run(&incoming, asked).await
}

impl Shared {
    /// The order with what the replica knows, once the replica knows enough: what the token stands for, and, where a
    /// reference is missing, everything that its service has.
    async fn filled(
        &self,
        body: &Place,
        incoming: &Incoming,
        order_id: OrderId,
        placed_at: DateTime<Utc>,
    ) -> Result<PlaceOrder, Problem> {
        let started = Instant::now();
        let left = || incoming.wait.saturating_sub(started.elapsed());
        self.replica.reach(&incoming.token, left()).await.map_err(|error| match error {
            ReplicaError::Behind { source } => consistency_timeout(&source, incoming.wait),
            ReplicaError::Lost { source } => consistency_lost(&source),
            ReplicaError::Overloaded => overloaded(),
        })?;
        let look = || body.with(&self.replica.known(), order_id, placed_at);
        let mut command = look();
        for source in replica::FOLLOWS {
            if !misses(&command, source) {
                continue;
            }
            let caught_up = self.replica.catch_up(source, left()).await;
            command = look();
            match caught_up {
                Ok(()) => {}
                // what was missing may have come, even if not everything has
                Err(_) if !misses(&command, source) => {}
                Err(ReplicaError::Behind { source } | ReplicaError::Lost { source }) => {
                    return Err(replica_behind(&source));
                }
                Err(ReplicaError::Overloaded) => return Err(overloaded()),
            }
        }
        Ok(command)
    }

    async fn is_answered(&self, incoming: &Incoming) -> Result<bool, Problem> {
        self.orders.is_answered(incoming).await
    }
}

/// Whether the order names something of `source` that is not known here.
fn misses(command: &PlaceOrder, source: &str) -> bool {
    match source {
        users::SOURCE => command.customer == Customer::Unknown,
        catalog::SOURCE => command.lines.iter().any(|line| line.offer.is_none()),
        _ => false,
    }
}

/// Who has the goods cannot say that they are back, since that pays them back: customers give up what has not left.
async fn check_giver(orders: &Edge<Order>, incoming: &Incoming, id: Uuid) -> Result<(), Problem> {
    let mut has_left = false;
    let owner = |order: &Order| {
        has_left = matches!(order, Order::Known(order) if order.has_left());
        owner(order)
    };
    orders.check_owner(&incoming.principal, id, owner).await?;
    if has_left { Err(return_not_yours()) } else { Ok(()) }
}

fn return_not_yours() -> Problem {
    let detail = "the order is on its way or delivered: send it back, and whoever takes it in says so";
    Problem::new(StatusCode::FORBIDDEN, "return_not_yours", detail)
}

fn discount_not_yours() -> Problem {
    Problem::new(StatusCode::FORBIDDEN, "discount_not_yours", "a customer gives no discounts: leave out discount_bp")
}

fn consistency_timeout(source: &str, wait: Duration) -> Problem {
    let detail =
        format!("what the token says of {source} did not arrive here within {} ms; try again", wait.as_millis());
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "consistency_timeout", detail).with("source", source).retry_after(1)
}

fn replica_behind(source: &str) -> Problem {
    let detail = format!(
        "the order names something that is not known here, and the news of {source} is late; try again with the same key"
    );
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "replica_behind", detail).with("source", source).retry_after(1)
}

fn overloaded() -> Problem {
    Problem::overloaded("too many requests wait for the news of other services; try again")
}

/// `POST /orders/import`: an order that ended in another system, as it was there.
#[derive(Serialize)]
struct Import {
    id: Option<OrderId>,
    customer_id: CustomerId,
    lines: Vec<OrderLine>,
    status: OrderStatus,
    placed_at: DateTime<Utc>,
    shipped_at: Option<DateTime<Utc>>,
    external_ref: String,
}

impl Import {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let id = fields.optional("id", id);
        let customer_id = fields.required("customer_id", fields::id);
        let lines = fields.list("lines", ORDER_LINES_MAX, imported_line);
        let status = fields.required("status", word::<OrderStatus>);
        let placed_at = fields.required("placed_at", time);
        let shipped_at = fields.optional("shipped_at", time);
        let external_ref = fields.required("external_ref", key(fields::EXTERNAL_REF_CHARS_MAX));
        if let (Some(status), Some(Some(_))) = (status, shipped_at)
            && matches!(status, OrderStatus::Pending | OrderStatus::Confirmed)
        {
            fields.wrong("shipped_at", format!("an order that is {status} has not been shipped"));
        }
        if let (Some(placed_at), Some(Some(shipped_at))) = (placed_at, shipped_at)
            && shipped_at < placed_at
        {
            fields.wrong("shipped_at", "is before placed_at");
        }
        Some(Self {
            id: id?,
            customer_id: customer_id?,
            lines: lines?,
            status: status?,
            placed_at: placed_at?,
            shipped_at: shipped_at?,
            external_ref: external_ref?,
        })
    }
}

fn imported_line(fields: &mut Fields<'_>) -> Option<OrderLine> {
    let product_id = fields.required("product_id", id);
    let product_name = fields.required("product_name", text(NAME_CHARS_MAX));
    let quantity = fields.required("quantity", quantity);
    let unit_price = fields.object("unit_price", fields::money);
    let discount_bp = fields.optional("discount_bp", basis_points);
    Some(OrderLine {
        product_id: product_id?,
        product_name: product_name?,
        quantity: quantity?,
        unit_price: unit_price?,
        discount_bp: discount_bp?.unwrap_or(0),
    })
}

async fn import(State(orders): State<Edge<Order>>, incoming: Incoming) -> Answer {
    let body = incoming.fields(Import::read)?;
    let order_id = body.id.unwrap_or_else(|| incoming.made_id(orders.service()).into());
    let command = OrderCommand::Import(OrderImported {
        order_id,
        customer_id: body.customer_id,
        lines: body.lines.clone(),
        status: body.status,
        placed_at: body.placed_at,
        shipped_at: body.shipped_at,
        external_ref: body.external_ref.clone(),
    });
    let occurred_at = Some(body.placed_at);
    orders.run(&incoming, Asked { id: order_id.0, body: &body, command, creates: true, occurred_at }).await
}

/// Whose order it is.
fn owner(order: &Order) -> Option<CustomerId> {
    match order {
        Order::Absent => None,
        Order::Known(order) => Some(order.customer_id),
    }
}

fn why(fields: &mut Fields<'_>) -> Option<String> {
    fields.required("reason", reason)
}

async fn cancel(State(orders): State<Edge<Order>>, PathId(id): PathId, incoming: Incoming) -> Answer {
    check_giver(&orders, &incoming, id).await?;
    let reason = incoming.fields(why)?;
    orders.change(&incoming, id, &json!({ "reason": reason }), OrderCommand::Cancel { reason }).await
}

async fn reject(State(orders): State<Edge<Order>>, PathId(id): PathId, incoming: Incoming) -> Answer {
    let reason = incoming.fields(why)?;
    orders.change(&incoming, id, &json!({ "reason": reason }), OrderCommand::Reject { reason }).await
}

async fn give_back(State(orders): State<Edge<Order>>, PathId(id): PathId, incoming: Incoming) -> Answer {
    check_giver(&orders, &incoming, id).await?;
    let lines = incoming.fields(returned)?;
    orders.change(&incoming, id, &json!({ "lines": lines }), OrderCommand::Return { lines }).await
}

/// `None` within: everything that is left.
fn returned(fields: &mut Fields<'_>) -> Option<Option<Vec<ReturnedLine>>> {
    fields.optional_list("lines", ORDER_LINES_MAX, returned_line)
}

async fn confirm(State(orders): State<Edge<Order>>, PathId(id): PathId, incoming: Incoming) -> Answer {
    incoming.no_fields()?;
    orders.change(&incoming, id, &json!({}), OrderCommand::Confirm).await
}

async fn mark_shipped(State(shared): State<Shared>, PathId(id): PathId, incoming: Incoming) -> Answer {
    incoming.no_fields()?;
    let command = OrderCommand::MarkShipped { shipped_at: shared.clock.now_as_kept() };
    shared.orders.change(&incoming, id, &json!({}), command).await
}

async fn mark_delivered(State(shared): State<Shared>, PathId(id): PathId, incoming: Incoming) -> Answer {
    incoming.no_fields()?;
    let command = OrderCommand::MarkDelivered { delivered_at: shared.clock.now_as_kept() };
    shared.orders.change(&incoming, id, &json!({}), command).await
}

fn returned_line(fields: &mut Fields<'_>) -> Option<ReturnedLine> {
    let product_id = fields.required("product_id", id);
    let quantity = fields.required("quantity", quantity);
    Some(ReturnedLine { product_id: product_id?, quantity: quantity? })
}

async fn show(
    State(orders): State<Edge<Order>>,
    PathId(id): PathId,
    By(who): By,
    ReadToken(token): ReadToken,
) -> Answer {
    orders.check_owner(&who, id, owner).await?;
    orders.show(id, &token, seen).await
}

/// An order as the world sees one.
fn seen(order: &Order) -> Option<Value> {
    let Order::Known(order) = order else { return None };
    let KnownOrder { lines, status, placed_at, shipped_at, delivered_at, payment_method, external_ref, .. } = &**order;
    let returned: Vec<ReturnedLine> =
        order.returned.iter().map(|(&product_id, &quantity)| ReturnedLine { product_id, quantity }).collect();
    Some(json!({
        "id": order.order_id,
        "customer_id": order.customer_id,
        "lines": **lines,
        "status": status,
        "placed_at": placed_at,
        "shipped_at": shipped_at,
        "delivered_at": delivered_at,
        "payment_method": payment_method,
        "external_ref": external_ref,
        "imported": order.origin != Origin::Placed,
        "cancelled_because": order.cancelled_because,
        "returned": returned,
    }))
}

/// What [`seen`] makes.
fn shown() -> Value {
    schema::object([
        ("id", schema::uuid()),
        ("customer_id", schema::uuid()),
        ("lines", schema::list(schema::describe(imported_line))),
        ("status", OrderStatus::words()),
        ("placed_at", schema::time()),
        ("shipped_at", schema::nullable(schema::time())),
        ("delivered_at", schema::nullable(schema::time())),
        ("payment_method", schema::nullable(schema::string())),
        ("external_ref", schema::nullable(schema::string())),
        ("imported", schema::boolean()),
        ("cancelled_because", schema::nullable(schema::string())),
        ("returned", schema::list(schema::describe(returned_line))),
    ])
}

impl Word for OrderStatus {
    fn words() -> Value {
        json!({ "type": "string", "enum": Self::WORDS })
    }
}
