//! Product sales by day: what was sold of a product on each day (UTC), and what came back.
//!
//! A roll-up: each order contributes its lines to the day on which it was placed, and what came back to the day on which it
//! did. A cancelled order contributes nothing. Prices are those of the order; the product's name is joined when it is read.

use chrono::NaiveDate;
use events::{ids::ProductId, money::Currency};
use sqlx::FromRow;

use crate::{
    ReadError, ReadSide,
    columns::{parse, safe_minor},
    consistency::Consistency,
    read_side::{Bind, Rows},
    references::{self, PRODUCT, ProductRow},
    template::{GroupsTemplate, Live, Template, sum},
};

/// The tables of this read model.
pub static TEMPLATE: Template = Template {
    name: "product_sales_by_day",
    key: "order_id",
    sources: &[events::orders::SOURCE, events::catalog::SOURCE],
    facets: &["order_facet"],
    references: &[references::PRODUCTS],
    groups: Some(GroupsTemplate {
        key: &["product_id", "day", "currency"],
        amounts: &[
            sum("orders"),
            sum("quantity"),
            sum("amount_minor"),
            sum("returned_quantity"),
            sum("returned_minor"),
        ],
        indexes: &[],
    }),
    ..Template::BLANK
};

/// The most days that may be asked for at once: three years.
pub const DAYS_MAX: usize = 1_100;

/// The most groups of one answer, the first ones: so many days in four currencies.
const GROUPS_MAX: usize = 4 * DAYS_MAX;

/// How a day is written in a group's key: days compare as their texts do.
pub const DAY_FORMAT: &str = "%Y-%m-%d";

/// What was sold of one product.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProductSales {
    pub product_id: ProductId,
    /// The product as the catalog knows it now; `None` until its event arrived.
    pub product: Option<ProductRow>,
    /// Days on which something was sold or came back, in order.
    pub days: Vec<DaySales>,
}

/// One day, in one currency.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DaySales {
    pub day: NaiveDate,
    pub currency: Currency,
    /// Orders that have a line of the product.
    pub orders: i64,
    pub quantity: i64,
    /// Minor units, discounts taken off.
    pub amount_minor: i64,
    /// What came back on this day, whenever it was sold.
    pub returned_quantity: i64,
    /// What had been paid for that, in minor units.
    pub returned_minor: i64,
}

/// A group beside its product; either may not be there.
#[derive(FromRow)]
struct Found {
    sku: Option<String>,
    name: Option<String>,
    discontinued: Option<bool>,
    day: Option<String>,
    currency: Option<String>,
    orders: Option<i64>,
    quantity: Option<i64>,
    amount_minor: Option<i64>,
    returned_quantity: Option<i64>,
    returned_minor: Option<i64>,
}

impl Found {
    fn product(self) -> Option<ProductRow> {
        Some(ProductRow { sku: self.sku?, name: self.name?, discontinued: self.discontinued? })
    }

    fn sales(&self) -> Result<Option<DaySales>, sqlx::Error> {
        let (Some(day), Some(currency)) = (&self.day, &self.currency) else { return Ok(None) };
        let amount = |amount: Option<i64>| safe_minor(amount.unwrap_or(0));
        Ok(Some(DaySales {
            day: parse("day", day)?,
            currency: parse("currency", currency)?,
            orders: amount(self.orders),
            quantity: amount(self.quantity),
            amount_minor: amount(self.amount_minor),
            returned_quantity: amount(self.returned_quantity),
            returned_minor: amount(self.returned_minor),
        }))
    }
}

impl ReadSide {
    /// What was sold of a product from one day to another, both included, [`DAYS_MAX`] at most; `None` if neither the catalog nor an order of
    /// these days has told of it.
    pub async fn product_sales_by_day(
        &self,
        id: ProductId,
        (from, to): (NaiveDate, NaiveDate),
        consistency: &Consistency,
    ) -> Result<Option<ProductSales>, ReadError> {
        let day = |day: NaiveDate| Bind::Text(day.format(DAY_FORMAT).to_string());
        let rows = Rows {
            select: |live: Live| {
                let products = TEMPLATE.reference_table(live.generation, PRODUCT);
                let groups = TEMPLATE.groups_table(live.generation);
                let amounts = TEMPLATE.select_amounts(live, "g");
                format!(
                    "select p.sku, p.name, p.discontinued, g.day, g.currency, {amounts} \
                     from (select 1 as one) one left join {products} p on p.product_id = $1 \
                     left join {groups} g on g.product_id = $1 and g.day between $2 and $3 \
                     order by g.day, g.currency limit {GROUPS_MAX}"
                )
            },
            order_by: "order by day, currency",
            binds: vec![Bind::Text(id.to_string()), day(from), day(to)],
        };
        let found: Vec<Found> = self.read(&TEMPLATE, consistency, rows).await?;
        let days = found.iter().filter_map(|row| row.sales().transpose()).collect::<Result<Vec<_>, _>>()?;
        let product = found.into_iter().next().and_then(Found::product);
        if product.is_none() && days.is_empty() {
            return Ok(None);
        }
        Ok(Some(ProductSales { product_id: id, product, days }))
    }
}
