//! Order search: the orders service is the root of a row; users and catalog fill the names that it is found by.

use events::{
    envelope::RecordedEvent,
    ids::{CustomerId, ProductId},
    money::sum_minor,
    orders::{self, OrderEvent, OrderLine, OrderStatus},
};
use read_side::{
    order_search::{OrderFacet, TEMPLATE, derive},
    references::{CUSTOMER, PRODUCT},
};

use crate::{
    projection::{Facets, Fold, Link, Projection, References, begun},
    references::{CustomerFold, ProductFold},
};

/// Of the folds here, of `derive` in read-side and of how it makes words: whoever changes what they give counts on.
pub const VERSION: u32 = 1;

pub fn projection() -> Projection {
    Projection::new(&TEMPLATE, VERSION)
        .facet::<OrderFold>()
        .reference::<CustomerFold>()
        .reference::<ProductFold>()
        .links(links)
        .derive(row)
}

struct OrderFold;

impl Fold for OrderFold {
    type Event = OrderEvent;
    type State = OrderFacet;
    const SOURCE: &'static str = orders::SOURCE;

    fn key(event: &OrderEvent) -> Option<String> {
        let order_id = match event {
            OrderEvent::OrderPlaced(event) => event.order_id,
            OrderEvent::OrderImported(event) => event.order_id,
            OrderEvent::OrderConfirmed(event) => event.order_id,
            OrderEvent::OrderCancelled(event) => event.order_id,
            OrderEvent::OrderShipped(event) => event.order_id,
            OrderEvent::OrderDelivered(event) => event.order_id,
            OrderEvent::OrderReturned(event) => event.order_id,
        };
        Some(order_id.to_string())
    }

    fn fold(state: Option<OrderFacet>, event: OrderEvent, _: &RecordedEvent) -> Result<OrderFacet, String> {
        let stands = |state: Option<OrderFacet>, status| Ok(OrderFacet { status, ..begun(state)? });
        match event {
            OrderEvent::OrderPlaced(event) => {
                let placed_at_us = event.placed_at.timestamp_micros();
                let order = ordered(event.customer_id, OrderStatus::Pending, placed_at_us, event.lines)?;
                Ok(OrderFacet { external_ref: event.external_ref, ..order })
            }
            OrderEvent::OrderImported(event) => {
                let placed_at_us = event.placed_at.timestamp_micros();
                let order = ordered(event.customer_id, event.status, placed_at_us, event.lines)?;
                Ok(OrderFacet { external_ref: Some(event.external_ref), ..order })
            }
            OrderEvent::OrderConfirmed(_) => stands(state, OrderStatus::Confirmed),
            OrderEvent::OrderCancelled(_) => stands(state, OrderStatus::Cancelled),
            OrderEvent::OrderShipped(_) => stands(state, OrderStatus::Shipped),
            OrderEvent::OrderDelivered(_) => stands(state, OrderStatus::Delivered),
            OrderEvent::OrderReturned(event) if event.complete => stands(state, OrderStatus::Returned),
            OrderEvent::OrderReturned(_) => begun(state),
        }
    }
}

fn ordered(
    customer_id: CustomerId,
    status: OrderStatus,
    placed_at_us: i64,
    lines: Vec<OrderLine>,
) -> Result<OrderFacet, String> {
    let currency = lines.first().ok_or("an order without lines")?.unit_price.currency;
    let totals = lines.iter().map(OrderLine::total_minor).collect::<Result<Vec<_>, _>>();
    let total_minor = totals.and_then(sum_minor).map_err(|error| error.to_string())?;
    let products = lines.into_iter().map(|line| (line.product_id, line.product_name)).collect();
    Ok(OrderFacet { external_ref: None, customer_id, status, placed_at_us, total_minor, currency, products })
}

// its place in the template
const ORDER: usize = 0;

fn links(facets: &Facets) -> Vec<Link> {
    let Some(order) = facets.get::<OrderFacet>(ORDER) else { return Vec::new() };
    let customer = Link { reference: CUSTOMER, foreign_key: order.customer_id.to_string() };
    let product = |product_id: &ProductId| Link { reference: PRODUCT, foreign_key: product_id.to_string() };
    std::iter::once(customer).chain(order.products.iter().map(|(product_id, _)| product(product_id))).collect()
}

fn row(facets: &Facets, references: &References) -> Option<String> {
    let order = facets.get::<OrderFacet>(ORDER)?;
    let customer = references.get(CUSTOMER, &order.customer_id.to_string());
    let derived = derive(order, customer, |product_id| references.get(PRODUCT, &product_id.to_string()));
    Some(serde_json::to_string(&derived).expect("a row is plain data"))
}
