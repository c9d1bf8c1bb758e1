//! What can be asked about orders.

use events::{
    ids::{CustomerId, OrderId},
    orders::OrderStatus,
};

use super::{CUSTOMER, CustomerRow, OrderDetails, TEMPLATE};
use crate::{
    ReadError, ReadSide,
    consistency::Consistency,
    read_side::{Bind, Rows},
    template::Live,
};

/// The most orders of one page.
pub const ORDERS_PAGE_MAX: usize = 1_000;

/// Which orders are wanted; what is `None` does not matter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OrderFilter {
    pub customer_id: Option<CustomerId>,
    pub status: Option<OrderStatus>,
    /// Microseconds of Unix time; this instant included.
    pub placed_after_us: Option<i64>,
    /// Microseconds of Unix time; this instant excluded.
    pub placed_before_us: Option<i64>,
    pub external_ref: Option<String>,
}

/// A place in the list of orders, newest first: behind this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OrderCursor {
    pub placed_at_us: i64,
    pub order_id: OrderId,
}

impl From<&OrderDetails> for OrderCursor {
    fn from(order: &OrderDetails) -> Self {
        Self { placed_at_us: order.placed_at_us, order_id: order.order_id }
    }
}

/// A stretch of the list of orders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderPage {
    pub rows: Vec<OrderDetails>,
    pub has_next_page: bool,
}

impl ReadSide {
    /// One order, or `None` if the read model does not hold it at (or after) the token.
    pub async fn order(&self, id: OrderId, consistency: &Consistency) -> Result<Option<OrderDetails>, ReadError> {
        let rows = Rows {
            select: |live| format!("{} where order_id = $1 and served", TEMPLATE.select_rows(live)),
            order_by: "",
            binds: vec![Bind::Text(id.to_string())],
        };
        Ok(self.read(&TEMPLATE, consistency, rows).await?.pop())
    }

    /// The orders behind `after` that `filter` lets pass, newest first, at most `first` (1 to [`ORDERS_PAGE_MAX`]; what
    /// is outside is cut).
    pub async fn orders(
        &self,
        filter: &OrderFilter,
        first: usize,
        after: Option<OrderCursor>,
        consistency: &Consistency,
    ) -> Result<OrderPage, ReadError> {
        let first = first.clamp(1, ORDERS_PAGE_MAX);
        let mut binds = Vec::new();
        let mut conditions = String::new();
        let mut condition = |text: &str, bind: Bind| {
            binds.push(bind);
            conditions.push_str(&format!(" and {text} ${}", binds.len()));
        };
        if let Some(customer_id) = filter.customer_id {
            condition("customer_id =", Bind::Text(customer_id.to_string()));
        }
        if let Some(status) = filter.status {
            condition("status =", Bind::Text(status.as_str().to_owned()));
        }
        if let Some(placed_after_us) = filter.placed_after_us {
            condition("placed_at_us >=", Bind::Integer(placed_after_us));
        }
        if let Some(placed_before_us) = filter.placed_before_us {
            condition("placed_at_us <", Bind::Integer(placed_before_us));
        }
        if let Some(external_ref) = &filter.external_ref {
            condition("external_ref =", Bind::Text(external_ref.clone()));
        }
        if let Some(after) = after {
            binds.push(Bind::Integer(after.placed_at_us));
            binds.push(Bind::Text(after.order_id.to_string()));
            let n = binds.len();
            conditions.push_str(&format!(" and (placed_at_us, order_id) < (${}, ${n})", n - 1));
        }
        // one more than wanted says whether there is a next page
        let limit = first + 1;
        let rows = Rows {
            select: |live| {
                let select = TEMPLATE.select_rows(live);
                format!("{select} where served{conditions} order by placed_at_us desc, order_id desc limit {limit}")
            },
            order_by: "order by placed_at_us desc, order_id desc",
            binds,
        };
        let mut rows: Vec<OrderDetails> = self.read(&TEMPLATE, consistency, rows).await?;
        let has_next_page = rows.len() > first;
        rows.truncate(first);
        Ok(OrderPage { rows, has_next_page })
    }

    /// A customer, from what the users service told; `None` if it has told nothing yet.
    pub async fn customer(&self, id: CustomerId, consistency: &Consistency) -> Result<Option<CustomerRow>, ReadError> {
        let rows = Rows {
            select: |live: Live| {
                let table = TEMPLATE.reference_table(live.generation, CUSTOMER);
                format!("select customer_id, name, email, erased from {table} where customer_id = $1")
            },
            order_by: "",
            binds: vec![Bind::Text(id.to_string())],
        };
        Ok(self.read(&TEMPLATE, consistency, rows).await?.pop())
    }
}
