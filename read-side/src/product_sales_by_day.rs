//! Product sales by day: what was sold of a product on each day (UTC), and what came back.
//!
//! A roll-up: each order contributes its lines to the day on which it was placed, and what came back to the day on which it
//! did. A cancelled order contributes nothing. Prices are those of the order; the product's name is joined when it is read.

use chrono::NaiveDate;
use events::{
    ids::ProductId,
    money::{AMOUNT_MINOR_MAX, Currency},
};
use sqlx::FromRow;

use crate::{
    ReadError, ReadSide,
    columns::{parse, safe_minor},
    consistency::Consistency,
    paging::Conditions,
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
        indexes: &[("day", "day, currency")],
    }),
    ..Template::BLANK
};

/// The most days that may be asked for at once: three years.
pub const DAYS_MAX: usize = 1_100;

/// The most groups of one answer, the first ones: so many days in four currencies.
const GROUPS_MAX: usize = 4 * DAYS_MAX;

/// How a day is written in a group's key: days compare as their texts do.
pub const DAY_FORMAT: &str = "%Y-%m-%d";

/// What customers are not told.
const SALES: &str = "what was sold";

/// The most products of one answer.
pub const TOP_PRODUCTS_MAX: usize = 100;

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
        self.staff_only(SALES)?;
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
            order_by: "order by day, currency".into(),
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

    /// What was sold of all products together on each day from one to another, both included, [`DAYS_MAX`] at most; in
    /// one currency, or in each.
    pub async fn sales_by_day(
        &self,
        (from, to): (NaiveDate, NaiveDate),
        currency: Option<Currency>,
        consistency: &Consistency,
    ) -> Result<Vec<DayTotal>, ReadError> {
        self.staff_only(SALES)?;
        let mut conditions = days(from, to);
        if let Some(currency) = currency {
            conditions.and("g.currency =", Bind::Text(currency.to_string()));
        }
        let sums = Sums { postgres: self.is_postgres() };
        let rows = Rows {
            select: |live: Live| {
                format!(
                    "select g.day, g.currency, count(distinct case when g.quantity > 0 then g.product_id end) \
                        as products, {sums} from {groups} g where true{conditions} group by g.day, g.currency \
                     order by g.day, g.currency limit {GROUPS_MAX}",
                    sums = sums.of(&["quantity", "amount_minor", "returned_quantity", "returned_minor"]),
                    groups = TEMPLATE.groups_table(live.generation),
                    conditions = conditions.text,
                )
            },
            order_by: "order by day, currency".into(),
            binds: conditions.binds.clone(),
        };
        let found: Vec<FoundDay> = self.read(&TEMPLATE, consistency, rows).await?;
        Ok(found.into_iter().map(DayTotal::try_from).collect::<Result<_, _>>()?)
    }

    /// The products of which most was sold in a currency from one day to another, both included, at most `first` (1 to
    /// [`TOP_PRODUCTS_MAX`]; what is outside is cut). Among equals, by id.
    pub async fn top_products(
        &self,
        (from, to): (NaiveDate, NaiveDate),
        currency: Currency,
        by: TopBy,
        first: usize,
        consistency: &Consistency,
    ) -> Result<Vec<TopProduct>, ReadError> {
        self.staff_only(SALES)?;
        let mut conditions = days(from, to);
        conditions.and("g.currency =", Bind::Text(currency.to_string()));
        let sums = Sums { postgres: self.is_postgres() };
        let (by, limit) = (by.column(), first.clamp(1, TOP_PRODUCTS_MAX));
        let rows = Rows {
            select: |live: Live| {
                format!(
                    "select top.*, p.sku, p.name, p.discontinued from (select g.product_id, {sums} from {groups} g \
                        where true{conditions} group by g.product_id having sum(g.orders) > 0 \
                        order by {by} desc, product_id limit {limit}) top \
                     left join {products} p on p.product_id = top.product_id",
                    sums = sums.of(&["orders", "quantity", "amount_minor", "returned_quantity", "returned_minor"]),
                    groups = TEMPLATE.groups_table(live.generation),
                    conditions = conditions.text,
                    products = TEMPLATE.reference_table(live.generation, PRODUCT),
                )
            },
            order_by: format!("order by {by} desc, product_id").into(),
            binds: conditions.binds.clone(),
        };
        let found: Vec<FoundProduct> = self.read(&TEMPLATE, consistency, rows).await?;
        Ok(found.into_iter().map(TopProduct::try_from).collect::<Result<_, _>>()?)
    }
}

/// One day, in one currency, over all products.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DayTotal {
    pub day: NaiveDate,
    pub currency: Currency,
    /// How many different ones were sold.
    pub products: i64,
    pub quantity: i64,
    /// Minor units, discounts taken off.
    pub amount_minor: i64,
    /// What came back on this day, whenever it was sold.
    pub returned_quantity: i64,
    /// What had been paid for that, in minor units.
    pub returned_minor: i64,
}

/// What was sold of a product over some days.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopProduct {
    pub product_id: ProductId,
    /// The product as the catalog knows it now; `None` until its event arrived.
    pub product: Option<ProductRow>,
    /// Orders that have a line of the product.
    pub orders: i64,
    pub quantity: i64,
    /// Minor units, discounts taken off.
    pub amount_minor: i64,
    /// What came back on these days, whenever it was sold.
    pub returned_quantity: i64,
    /// What had been paid for that, in minor units.
    pub returned_minor: i64,
}

/// What makes a product come first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TopBy {
    Amount,
    Quantity,
    Orders,
}

impl TopBy {
    fn column(self) -> &'static str {
        match self {
            Self::Amount => "amount_minor",
            Self::Quantity => "quantity",
            Self::Orders => "orders",
        }
    }
}

fn days(from: NaiveDate, to: NaiveDate) -> Conditions {
    let mut conditions = Conditions::default();
    let day = |day: NaiveDate| Bind::Text(day.format(DAY_FORMAT).to_string());
    conditions.and("g.day >=", day(from));
    conditions.and("g.day <=", day(to));
    conditions
}

struct Sums {
    postgres: bool,
}

impl Sums {
    /// Columns of groups, added up. PostgreSQL adds in its widest type, and what leaves the safe integers is cut later.
    fn of(&self, columns: &[&str]) -> String {
        let sum = |column: &&str| match self.postgres {
            true => format!("cast(least(sum(g.{column}), {AMOUNT_MINOR_MAX}) as bigint) as {column}"),
            false => format!("sum(g.{column}) as {column}"),
        };
        columns.iter().map(sum).collect::<Vec<_>>().join(", ")
    }
}

#[derive(FromRow)]
struct FoundDay {
    day: String,
    currency: String,
    products: i64,
    quantity: i64,
    amount_minor: i64,
    returned_quantity: i64,
    returned_minor: i64,
}

impl TryFrom<FoundDay> for DayTotal {
    type Error = sqlx::Error;

    fn try_from(row: FoundDay) -> Result<Self, sqlx::Error> {
        Ok(Self {
            day: parse("day", &row.day)?,
            currency: parse("currency", &row.currency)?,
            products: row.products,
            quantity: safe_minor(row.quantity),
            amount_minor: safe_minor(row.amount_minor),
            returned_quantity: safe_minor(row.returned_quantity),
            returned_minor: safe_minor(row.returned_minor),
        })
    }
}

#[derive(FromRow)]
struct FoundProduct {
    product_id: String,
    sku: Option<String>,
    name: Option<String>,
    discontinued: Option<bool>,
    orders: i64,
    quantity: i64,
    amount_minor: i64,
    returned_quantity: i64,
    returned_minor: i64,
}

impl TryFrom<FoundProduct> for TopProduct {
    type Error = sqlx::Error;

    fn try_from(row: FoundProduct) -> Result<Self, sqlx::Error> {
        let product = match (row.sku, row.name, row.discontinued) {
            (Some(sku), Some(name), Some(discontinued)) => Some(ProductRow { sku, name, discontinued }),
            _ => None,
        };
        Ok(Self {
            product_id: parse("product_id", &row.product_id)?,
            product,
            orders: safe_minor(row.orders),
            quantity: safe_minor(row.quantity),
            amount_minor: safe_minor(row.amount_minor),
            returned_quantity: safe_minor(row.returned_quantity),
            returned_minor: safe_minor(row.returned_minor),
        })
    }
}
