//! Customer overview: how often a customer has ordered, and what they have paid, per currency.
//!
//! A roll-up: each order contributes what the orders and the payments service say of it. Name and e-mail address follow
//! the user; they are joined when they are read, because a customer has one name and few currencies.

use events::{ids::CustomerId, money::Currency};
use sqlx::FromRow;

use crate::{
    ReadError, ReadSide,
    columns::{parse, safe_minor},
    consistency::Consistency,
    read_side::{Bind, Rows},
    references::{self, CUSTOMER},
    template::{GroupsTemplate, Live, Template, latest, sum},
};

/// The tables of this read model.
pub static TEMPLATE: Template = Template {
    name: "customer_overview",
    key: "order_id",
    sources: &[events::orders::SOURCE, events::payments::SOURCE, events::users::SOURCE],
    facets: &["order_facet", "payment_facet"],
    references: &[references::CUSTOMERS],
    groups: Some(GroupsTemplate {
        key: &["customer_id", "currency"],
        amounts: &[
            sum("orders"),
            sum("cancelled_orders"),
            sum("captured_minor"),
            sum("refunded_minor"),
            latest("last_order_at_us"),
        ],
        indexes: &[],
    }),
    ..Template::BLANK
};

/// One customer, added up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CustomerOverview {
    pub customer_id: CustomerId,
    /// `None` until the users service's event arrived, and after the customer was erased.
    pub name: Option<String>,
    /// As [`Self::name`].
    pub email: Option<String>,
    /// The person asked to be forgotten.
    pub erased: bool,
    /// By currency; none while there is no order.
    pub totals: Vec<CustomerTotals>,
}

/// A customer's orders in one currency.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CustomerTotals {
    pub currency: Currency,
    /// All that were ever placed, and those that were imported.
    pub orders: i64,
    /// Of them, those that were called off.
    pub cancelled_orders: i64,
    /// Minor units, as the next two.
    pub captured_minor: i64,
    pub refunded_minor: i64,
    /// What was taken and not paid back.
    pub spend_minor: i64,
    /// When the last of them was placed, in microseconds of Unix time.
    pub last_order_at_us: i64,
}

/// A group beside its customer; either may not be there.
#[derive(FromRow)]
struct Found {
    known: bool,
    name: Option<String>,
    email: Option<String>,
    erased: Option<bool>,
    #[sqlx(flatten)]
    group: Group,
}

/// Null in the one row of a customer without orders.
#[derive(FromRow)]
struct Group {
    currency: Option<String>,
    orders: Option<i64>,
    cancelled_orders: Option<i64>,
    captured_minor: Option<i64>,
    refunded_minor: Option<i64>,
    last_order_at_us: Option<i64>,
}

impl Group {
    fn totals(&self) -> Result<Option<CustomerTotals>, sqlx::Error> {
        let Some(currency) = &self.currency else { return Ok(None) };
        let amount = |amount: Option<i64>| safe_minor(amount.unwrap_or(0));
        let (captured_minor, refunded_minor) = (amount(self.captured_minor), amount(self.refunded_minor));
        Ok(Some(CustomerTotals {
            currency: parse("currency", currency)?,
            orders: amount(self.orders),
            cancelled_orders: amount(self.cancelled_orders),
            captured_minor,
            refunded_minor,
            spend_minor: safe_minor(captured_minor - refunded_minor),
            last_order_at_us: self.last_order_at_us.unwrap_or(0),
        }))
    }
}

impl ReadSide {
    /// What a customer has ordered and paid; `None` if neither the users service nor an order has told of them.
    pub async fn customer_overview(
        &self,
        id: CustomerId,
        consistency: &Consistency,
    ) -> Result<Option<CustomerOverview>, ReadError> {
        let rows = Rows {
            select: |live: Live| {
                let customers = TEMPLATE.reference_table(live.generation, CUSTOMER);
                let groups = TEMPLATE.groups_table(live.generation);
                let amounts = TEMPLATE.select_amounts(live, "g");
                // whose row is another's is nobody's
                let theirs = if self.sees(id) { "" } else { " and false" };
                format!(
                    "select c.customer_id is not null as known, c.name, c.email, c.erased, g.currency, {amounts} \
                     from (select 1 as one) one left join {customers} c on c.customer_id = $1{theirs} \
                     left join {groups} g on g.customer_id = $1{theirs}"
                )
            },
            order_by: "order by currency".into(),
            binds: vec![Bind::Text(id.to_string())],
        };
        let found: Vec<Found> = self.read(&TEMPLATE, consistency, rows).await?;
        let totals = found.iter().filter_map(|row| row.group.totals().transpose()).collect::<Result<Vec<_>, _>>()?;
        let Some(customer) = found.into_iter().next().filter(|row| row.known || !totals.is_empty()) else {
            return Ok(None);
        };
        Ok(Some(CustomerOverview {
            customer_id: id,
            name: customer.name,
            email: customer.email,
            erased: customer.erased.unwrap_or(false),
            totals,
        }))
    }
}
