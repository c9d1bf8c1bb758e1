//! What was sold of a product, day by day.

use async_graphql::{Context, Enum, ID, Result, SimpleObject};
use chrono::NaiveDate;
use events::ids::ProductId;
use read_side::product_sales_by_day::{self, DAYS_MAX, TEMPLATE};

use super::{
    money::{Money, SafeInt},
    node_id::{Kind, id_of},
    orders::currency,
    paging::page_size,
    product::Product,
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
    let id = ProductId(id_of(Kind::Product, id, "productId")?);
    check_days(from, to)?;
    let found =
        read(ctx, &TEMPLATE, async |side, consistency| side.product_sales_by_day(id, (from, to), consistency).await);
    Ok(found.await?.map(ProductSales::from))
}

fn check_days(from: NaiveDate, to: NaiveDate) -> Result<()> {
    let days = to.signed_duration_since(from).num_days();
    if usize::try_from(days).is_ok_and(|days| days < DAYS_MAX) {
        return Ok(());
    }
    Err(invalid("to", format!("{days} days after `from`: 0 to {} are answered", DAYS_MAX - 1)))
}

/// What was sold on a day of all products together, in one currency. Cancelled orders sold nothing.
#[derive(Debug, SimpleObject)]
pub(crate) struct SalesDay {
    /// The day, in UTC.
    day: NaiveDate,
    /// How many different products were sold.
    products: SafeInt,
    /// How many pieces.
    quantity: SafeInt,
    /// What they cost, discounts taken off.
    amount: Money,
    /// How many pieces came back on this day, whenever they were sold.
    returned_quantity: SafeInt,
    /// What those had cost.
    returned: Money,
}

pub(super) async fn by_day(
    ctx: &Context<'_>,
    from: NaiveDate,
    to: NaiveDate,
    code: Option<String>,
) -> Result<Vec<SalesDay>> {
    check_days(from, to)?;
    let code = code.map(|code| currency("currency", &code)).transpose()?;
    let found = read(ctx, &TEMPLATE, async |side, consistency| side.sales_by_day((from, to), code, consistency).await);
    Ok(found.await?.into_iter().map(SalesDay::from).collect())
}

impl From<product_sales_by_day::DayTotal> for SalesDay {
    fn from(total: product_sales_by_day::DayTotal) -> Self {
        let currency = total.currency;
        Self {
            day: total.day,
            products: SafeInt(total.products),
            quantity: SafeInt(total.quantity),
            amount: Money::new(total.amount_minor, currency),
            returned_quantity: SafeInt(total.returned_quantity),
            returned: Money::new(total.returned_minor, currency),
        }
    }
}

/// What makes a product come first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "read_side::product_sales_by_day::TopBy")]
pub(crate) enum TopProductsBy {
    /// What its pieces cost.
    Amount,
    /// How many pieces were sold.
    Quantity,
    /// How many orders have a line of it.
    Orders,
}

/// A product and what was sold of it on the days of a stretch, in one currency. Cancelled orders sold nothing.
#[derive(Debug, SimpleObject)]
pub(crate) struct TopProduct {
    /// The product's UUID.
    product_id: ID,
    /// The product as the catalog knows it now; null until the catalog has told of it.
    product: Option<Product>,
    /// How many orders of these days have a line of it.
    orders: SafeInt,
    /// How many pieces.
    quantity: SafeInt,
    /// What they cost, discounts taken off.
    amount: Money,
    /// How many pieces came back on these days, whenever they were sold.
    returned_quantity: SafeInt,
    /// What those had cost.
    returned: Money,
}

pub(super) async fn top(
    ctx: &Context<'_>,
    (from, to): (NaiveDate, NaiveDate),
    code: &str,
    by: TopProductsBy,
    first: i32,
) -> Result<Vec<TopProduct>> {
    check_days(from, to)?;
    let (currency, first) = (currency("currency", code)?, page_size("first", first)?);
    let found = read(ctx, &TEMPLATE, async |side, consistency| {
        side.top_products((from, to), currency, by.into(), first, consistency).await
    });
    let top = |row: product_sales_by_day::TopProduct| TopProduct {
        product_id: ID(row.product_id.to_string()),
        product: row.product.map(|product| Product::of(row.product_id, product)),
        orders: SafeInt(row.orders),
        quantity: SafeInt(row.quantity),
        amount: Money::new(row.amount_minor, currency),
        returned_quantity: SafeInt(row.returned_quantity),
        returned: Money::new(row.returned_minor, currency),
    };
    Ok(found.await?.into_iter().map(top).collect())
}

impl From<product_sales_by_day::ProductSales> for ProductSales {
    fn from(row: product_sales_by_day::ProductSales) -> Self {
        Self {
            product_id: ID(row.product_id.to_string()),
            product: row.product.map(|product| Product::of(row.product_id, product)),
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
