//! The ceiling: the same feeds, read side by side, folded in memory into the rows that readers see, and copied. No
//! checkpoint, nothing to go on from, no bound of memory.

use std::{collections::HashMap, io::Write as _, sync::Arc, time::Instant};

use anyhow::Context;
use event_store::feed::{Cursor, Feed, PageLimit};
use events::{
    Published,
    catalog::ProductEvent,
    envelope::RecordedEvent,
    ids::{CustomerId, OrderId, ProductId},
    orders::{OrderEvent, OrderStatus},
    payments::PaymentEvent,
    shipping::ShipmentEvent,
    users::UserEvent,
};
use read_side::order_details::{
    Customer, Known, OrderFacet, OrderLineRow, ProductRow, derive,
    payment::{PaymentFacet, PaymentState, PaymentStatus},
    shipment::{ShipmentFacet, ShipmentState, ShipmentStatus},
};
use sqlx::{Executor, PgConnection};

#[derive(Default)]
struct Shop {
    customers: HashMap<CustomerId, Customer>,
    products: HashMap<ProductId, ProductRow>,
    orders: HashMap<OrderId, OrderFacet>,
    payments: HashMap<OrderId, PaymentFacet>,
    shipments: HashMap<OrderId, ShipmentFacet>,
}

const TABLE: &str = "create table plain (order_id text, row json)";

/// Seconds of one run.
pub async fn run(feeds: &[Arc<dyn Feed>], connection: &mut PgConnection) -> anyhow::Result<f64> {
    connection.execute("drop table if exists plain").await.context("drop the table")?;
    let start = Instant::now();
    let readers: Vec<_> = feeds.iter().map(|feed| tokio::spawn(read(Arc::clone(feed)))).collect();
    let mut shop = Shop::default();
    for (feed, reader) in feeds.iter().zip(readers) {
        for event in reader.await.context("a reader panicked")?? {
            shop.fold(feed.source(), &event)?;
        }
    }
    connection.execute("begin").await?;
    connection.execute(TABLE).await.context("make the table")?;
    let mut copy = connection.copy_in_raw("copy plain (order_id, row) from stdin").await.context("copy")?;
    let mut chunk = Vec::with_capacity(1 << 20);
    for (order_id, order) in &shop.orders {
        let known = Known {
            order,
            reservation: None,
            payment: shop.payments.get(order_id),
            shipment: shop.shipments.get(order_id),
            customer: shop.customers.get(&order.customer_id),
        };
        let derived = derive(&known, |product_id| shop.products.get(&product_id));
        let row = serde_json::to_string(&derived)?.replace('\\', "\\\\");
        writeln!(chunk, "{order_id}\t{row}")?;
        if chunk.len() > 900_000 {
            copy.send(std::mem::take(&mut chunk)).await.context("copy")?;
        }
    }
    copy.send(chunk).await.context("copy")?;
    copy.finish().await.context("copy")?;
    connection.execute("commit").await?;
    Ok(start.elapsed().as_secs_f64())
}

async fn read(feed: Arc<dyn Feed>) -> anyhow::Result<Vec<RecordedEvent>> {
    let (mut cursor, mut events) = (Cursor::START, Vec::new());
    loop {
        let page = feed.page(cursor, PageLimit::events(PageLimit::EVENTS_MAX), std::time::Duration::ZERO).await?;
        let Some(last) = page.events.last() else { return Ok(events) };
        cursor = Cursor::at(last);
        events.extend(page.events);
    }
}

impl Shop {
    /// As the projection does it, for the events that this history has.
    fn fold(&mut self, source: &str, event: &RecordedEvent) -> anyhow::Result<()> {
        let RecordedEvent { event_type, event_version, payload, .. } = event;
        let at_us = event.recorded_at.timestamp_micros();
        match source {
            events::users::SOURCE => match UserEvent::decode(event_type, event_version, payload)? {
                UserEvent::UserRegistered(event) => {
                    let customer =
                        Customer { name: event.name.into_value(), email: event.email.into_value(), erased: false };
                    self.customers.insert(event.user_id, customer);
                }
                UserEvent::UserRenamed(event) => {
                    self.customers.entry(event.user_id).or_default().name = event.name.into_value();
                }
                UserEvent::EmailChanged(event) => {
                    self.customers.entry(event.user_id).or_default().email = event.email.into_value();
                }
                UserEvent::UserErased(event) => {
                    self.customers.insert(event.user_id, Customer { erased: true, ..Customer::default() });
                }
                UserEvent::AddressChanged(_) => {}
            },
            events::catalog::SOURCE => match ProductEvent::decode(event_type, event_version, payload)? {
                ProductEvent::ProductAdded(event) => {
                    let product = ProductRow { sku: event.sku, name: event.name, discontinued: false };
                    self.products.insert(event.product_id, product);
                }
                ProductEvent::ProductRenamed(event) => {
                    self.products.get_mut(&event.product_id).context("a product")?.name = event.name;
                }
                ProductEvent::ProductDiscontinued(event) => {
                    self.products.get_mut(&event.product_id).context("a product")?.discontinued = true;
                }
                ProductEvent::PriceChanged(_) => {}
            },
            events::orders::SOURCE => match OrderEvent::decode(event_type, event_version, payload)? {
                OrderEvent::OrderPlaced(event) => {
                    let mut lines = Vec::with_capacity(event.lines.len());
                    for line in event.lines {
                        let total_minor = line.total_minor()?;
                        lines.push(OrderLineRow {
                            product_id: line.product_id,
                            product_name: line.product_name,
                            quantity: line.quantity,
                            unit_price_minor: line.unit_price.amount_minor,
                            currency: line.unit_price.currency,
                            discount_bp: line.discount_bp,
                            total_minor,
                            returned_quantity: 0,
                            product: None,
                            reservation: None,
                        });
                    }
                    let facet = OrderFacet {
                        external_ref: event.external_ref,
                        customer_id: event.customer_id,
                        status: OrderStatus::Pending,
                        placed_at_us: event.placed_at.timestamp_micros(),
                        shipped_at_us: None,
                        total_minor: lines.iter().map(|line| line.total_minor).sum(),
                        currency: lines.first().context("a line")?.currency,
                        lines,
                        updated_at_us: at_us,
                        confirmed_at_us: None,
                        cancelled_at_us: None,
                        cancel_reason: None,
                        rejected: false,
                        delivered_at_us: None,
                        returned_at_us: None,
                        return_reason: None,
                    };
                    self.orders.insert(event.order_id, facet);
                }
                OrderEvent::OrderCancelled(event) => {
                    let order = self.orders.get_mut(&event.order_id).context("an order")?;
                    order.status = OrderStatus::Cancelled;
                    order.cancelled_at_us = Some(at_us);
                    order.cancel_reason = Some(event.reason);
                    order.updated_at_us = at_us;
                }
                other => anyhow::bail!("this history has no {other:?}"),
            },
            events::payments::SOURCE => match PaymentEvent::decode(event_type, event_version, payload)? {
                PaymentEvent::AuthorizationRequested(event) => {
                    let begun = PaymentState::begun(PaymentStatus::Requested, Some(event.amount.currency), at_us);
                    self.payments.entry(event.order_id).or_default().begin(event.payment_id, begun);
                }
                PaymentEvent::PaymentAuthorized(event) => {
                    let payments = self.payments.get_mut(&event.order_id).context("a payment")?;
                    payments.change(&event.payment_id, |payment| {
                        payment.status = PaymentStatus::Authorized;
                        payment.authorized_minor = event.amount.amount_minor;
                        payment.authorized_at_us = Some(at_us);
                        payment.expires_at_us = Some(event.expires_at.timestamp_micros());
                        payment.updated_at_us = at_us;
                    })?;
                }
                other => anyhow::bail!("this history has no {other:?}"),
            },
            events::shipping::SOURCE => match ShipmentEvent::decode(event_type, event_version, payload)? {
                ShipmentEvent::ShipmentScheduled(event) => {
                    let begun = ShipmentState::begun(ShipmentStatus::Scheduled, at_us);
                    self.shipments.entry(event.order_id).or_default().begin(event.shipment_id, begun);
                }
                other => anyhow::bail!("this history has no {other:?}"),
            },
            other => anyhow::bail!("{other} says nothing in this history"),
        }
        Ok(())
    }
}
