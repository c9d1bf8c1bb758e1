//! Product sales by day: each order contributes its lines to the day it was placed on, and what came back to the day it did.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use events::{
    envelope::RecordedEvent,
    ids::ProductId,
    money::{Currency, line_total_minor},
    orders::{self, OrderEvent, OrderLine, OrderStatus, ReturnedLine},
};
use read_side::product_sales_by_day::{DAY_FORMAT, TEMPLATE};
use serde::{Deserialize, Serialize};

use crate::{
    projection::{Facets, Fold, Projection, Share, begun},
    references::ProductFold,
};

/// Of the folds here and of what they contribute: whoever changes what they give counts on.
pub const VERSION: u32 = 1;

pub fn projection() -> Projection {
    Projection::new(&TEMPLATE, VERSION).facet::<OrderFold>().reference::<ProductFold>().contribute(contribute)
}

/// What an order sold.
#[derive(Clone, Serialize, Deserialize)]
struct Sold {
    day: String,
    cancelled: bool,
    lines: Vec<SoldLine>,
}

#[derive(Clone, Serialize, Deserialize)]
struct SoldLine {
    product_id: ProductId,
    currency: Currency,
    quantity: u32,
    unit_price_minor: i64,
    discount_bp: u16,
    amount_minor: i64,
    /// What came back, by day.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    returned: BTreeMap<String, Pieces>,
}

#[derive(Clone, Copy, Default, Serialize, Deserialize)]
struct Pieces {
    quantity: u32,
    amount_minor: i64,
}

impl SoldLine {
    fn of(line: &OrderLine) -> Result<Self, String> {
        Ok(Self {
            product_id: line.product_id,
            currency: line.unit_price.currency,
            quantity: line.quantity,
            unit_price_minor: line.unit_price.amount_minor,
            discount_bp: line.discount_bp,
            amount_minor: line.total_minor().map_err(|error| error.to_string())?,
            returned: BTreeMap::new(),
        })
    }

    /// Takes pieces back, at most those that are still out. What they had cost is what the line costs less without them:
    /// so all that comes back of a line adds up to what the line had cost, however it is rounded.
    fn take_back(&mut self, day: &str, quantity: u32) -> Result<(), String> {
        let price_minor = |quantity| line_total_minor(self.unit_price_minor, quantity, self.discount_bp);
        let out = self.quantity - self.returned.values().map(|pieces| pieces.quantity).sum::<u32>();
        let quantity = quantity.min(out);
        let amount_minor = price_minor(out).and_then(|before| price_minor(out - quantity).map(|after| before - after));
        let amount_minor = amount_minor.map_err(|error| error.to_string())?;
        if quantity > 0 {
            let pieces = self.returned.entry(day.to_owned()).or_default();
            pieces.quantity += quantity;
            pieces.amount_minor += amount_minor;
        }
        Ok(())
    }
}

struct OrderFold;

impl Fold for OrderFold {
    type Event = OrderEvent;
    type State = Sold;
    const SOURCE: &'static str = orders::SOURCE;

    fn key(event: &OrderEvent) -> Option<String> {
        let order_id = match event {
            OrderEvent::OrderPlaced(event) => event.order_id,
            OrderEvent::OrderImported(event) => event.order_id,
            OrderEvent::OrderCancelled(event) => event.order_id,
            OrderEvent::OrderReturned(event) => event.order_id,
            // sold is what was ordered
            OrderEvent::OrderConfirmed(_) | OrderEvent::OrderShipped(_) | OrderEvent::OrderDelivered(_) => return None,
        };
        Some(order_id.to_string())
    }

    fn fold(state: Option<Sold>, event: OrderEvent, recorded: &RecordedEvent) -> Result<Sold, String> {
        match event {
            OrderEvent::OrderPlaced(event) => sold(&event.lines, event.placed_at, OrderStatus::Pending),
            OrderEvent::OrderImported(event) => sold(&event.lines, event.placed_at, event.status),
            OrderEvent::OrderCancelled(_) => Ok(Sold { cancelled: true, ..begun(state)? }),
            OrderEvent::OrderReturned(event) => {
                let mut order = begun(state)?;
                take_back(&mut order.lines, &event.lines, &day(recorded.occurred_at()))?;
                Ok(order)
            }
            OrderEvent::OrderConfirmed(_) | OrderEvent::OrderShipped(_) | OrderEvent::OrderDelivered(_) => begun(state),
        }
    }
}

fn sold(lines: &[OrderLine], placed_at: DateTime<Utc>, status: OrderStatus) -> Result<Sold, String> {
    let day = day(placed_at);
    let mut lines = lines.iter().map(SoldLine::of).collect::<Result<Vec<_>, _>>()?;
    if status == OrderStatus::Returned {
        // an imported order does not tell when it came back: then the day it was placed on, so that both add up to nothing
        lines.iter_mut().try_for_each(|line| line.take_back(&day, line.quantity))?;
    }
    Ok(Sold { day, cancelled: status == OrderStatus::Cancelled, lines })
}

/// No two lines of an order name one product.
fn take_back(lines: &mut [SoldLine], returned: &[ReturnedLine], day: &str) -> Result<(), String> {
    for back in returned {
        if let Some(line) = lines.iter_mut().find(|line| line.product_id == back.product_id) {
            line.take_back(day, back.quantity)?;
        }
    }
    Ok(())
}

/// The day in UTC.
fn day(at: DateTime<Utc>) -> String {
    at.format(DAY_FORMAT).to_string()
}

// its place in the template
const ORDER: usize = 0;

fn contribute(facets: &Facets) -> Vec<Share> {
    let Some(order) = facets.get::<Sold>(ORDER).filter(|order| !order.cancelled) else { return Vec::new() };
    let mut shares = Vec::with_capacity(order.lines.len());
    for line in &order.lines {
        let group = |day: &str| vec![line.product_id.to_string(), day.to_owned(), line.currency.to_string()];
        let quantity = i64::from(line.quantity);
        shares.push(Share { group: group(&order.day), amounts: vec![1, quantity, line.amount_minor, 0, 0] });
        for (day, pieces) in &line.returned {
            let quantity = i64::from(pieces.quantity);
            shares.push(Share { group: group(day), amounts: vec![0, 0, 0, quantity, pieces.amount_minor] });
        }
    }
    shares
}
