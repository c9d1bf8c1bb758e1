//! What was sold of a product, day by day.

use async_graphql::{Context, ID, Result, SimpleObject};
use chrono::NaiveDate;
use events::ids::ProductId;
use read_side::product_sales_by_day::{self, DAYS_MAX, TEMPLATE};
use uuid::Uuid;

use super::{
    money::{Money, SafeInt},
    order::Product,
    read::{invalid, read},
};

/// What was sold of a product on the days of a stretch.
#[derive(Debug, SimpleObject)]
pub(crate) struct ProductSales {
    /// The product's UUID.
    product_id: ID,
    /// The product as the catalog knows it now; null until the catalog has told of it.
    product: Option<Product>,
    /// The days on which something was sold or came back, in order; one with several currencies comes once for each.
    days: Vec<DaySales>,
}

/// What was sold of a product on a day, in one currency. Cancelled orders sold nothing.
#[derive(Debug, SimpleObject)]
struct DaySales {
    /// The day, in UTC.
    day: NaiveDate,
    /// How many orders of the day have a line of the product.
    orders: SafeInt,
    /// How many pieces.
    quantity: SafeInt,
    /// What they cost, discounts taken off.
    amount: Money,
    /// How many pieces came back on this day, whenever they were sold.
    returned_quantity: SafeInt,
    /// What those had cost.
    returned: Money,
}

/// What a stretch costs: what one of its days costs, as often as it has days.
pub(super) fn sales_cost(from: &NaiveDate, to: &NaiveDate, child_complexity: usize) -> usize {
    let days = usize::try_from(to.signed_duration_since(*from).num_days().saturating_add(1)).unwrap_or(0);
    1_usize.saturating_add(child_complexity.saturating_mul(days.min(DAYS_MAX)))
}

pub(super) async fn sales(ctx: &Context<'_>, id: &ID, from: NaiveDate, to: NaiveDate) -> Result<Option<ProductSales>> {
    let id = Uuid::parse_str(id).map(ProductId).map_err(|_| invalid("productId", "not a UUID"))?;
    let days = to.signed_duration_since(from).num_days();
    if !usize::try_from(days).is_ok_and(|days| days < DAYS_MAX) {
        return Err(invalid("to", format!("{days} days after `from`: 0 to {} are answered", DAYS_MAX - 1)));
    }
    let found =
        read(ctx, &TEMPLATE, async |side, consistency| side.product_sales_by_day(id, (from, to), consistency).await);
    Ok(found.await?.map(ProductSales::from))
}

impl From<product_sales_by_day::ProductSales> for ProductSales {
    fn from(row: product_sales_by_day::ProductSales) -> Self {
        Self {
            product_id: ID(row.product_id.to_string()),
            product: row.product.map(Product::from),
            days: row.days.into_iter().map(DaySales::from).collect(),
        }
    }
}

impl From<product_sales_by_day::DaySales> for DaySales {
    fn from(sales: product_sales_by_day::DaySales) -> Self {
        let currency = sales.currency;
        Self {
            day: sales.day,
            orders: SafeInt(sales.orders),
            quantity: SafeInt(sales.quantity),
            amount: Money::new(sales.amount_minor, currency),
            returned_quantity: SafeInt(sales.returned_quantity),
            returned: Money::new(sales.returned_minor, currency),
        }
    }
}
