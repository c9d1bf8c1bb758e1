//! What a customer has ordered and paid.

use async_graphql::{Context, ID, Result, SimpleObject};
use chrono::{DateTime, Utc};
use events::ids::CustomerId;
use read_side::customer_overview::{self, TEMPLATE};

use super::{
    money::{Money, SafeInt},
    read::{self, read},
    time::{NoTime, time},
};

/// How often a customer has ordered, and what they have paid.
#[derive(Debug, SimpleObject)]
pub(crate) struct CustomerOverview {
    /// The customer's UUID. Pass it to `customer` for more.
    customer_id: ID,
    /// The name; null until the users service has told it, and after the customer was erased.
    name: Option<String>,
    /// The e-mail address; null as the name is.
    email: Option<String>,
    /// By currency: nothing is converted.
    totals: Vec<CustomerTotals>,
}

/// A customer's orders in one currency.
#[derive(Debug, SimpleObject)]
struct CustomerTotals {
    /// The currency's ISO 4217 code, such as `USD`.
    currency: String,
    /// How many were ever placed, or taken over from another system.
    orders: SafeInt,
    /// How many of them were called off.
    cancelled_orders: SafeInt,
    /// What was taken from the customer.
    captured: Money,
    /// What was paid back.
    refunded: Money,
    /// What was taken and not paid back.
    spend: Money,
    /// When the last of them was placed.
    last_order_at: DateTime<Utc>,
}

pub(super) async fn overview(ctx: &Context<'_>, id: CustomerId) -> Result<Option<CustomerOverview>> {
    let found = read(ctx, &TEMPLATE, async |side, consistency| side.customer_overview(id, consistency).await).await?;
    let overview = found.map(CustomerOverview::try_from).transpose();
    overview.map_err(|error| read::internal(ctx, &format!("overview of customer {id}: {error}")))
}

impl TryFrom<customer_overview::CustomerOverview> for CustomerOverview {
    type Error = NoTime;

    fn try_from(row: customer_overview::CustomerOverview) -> Result<Self, NoTime> {
        Ok(Self {
            customer_id: ID(row.customer_id.to_string()),
            name: row.name,
            email: row.email,
            totals: row.totals.into_iter().map(CustomerTotals::try_from).collect::<Result<_, _>>()?,
        })
    }
}

impl TryFrom<customer_overview::CustomerTotals> for CustomerTotals {
    type Error = NoTime;

    fn try_from(totals: customer_overview::CustomerTotals) -> Result<Self, NoTime> {
        let currency = totals.currency;
        Ok(Self {
            currency: currency.as_str().to_owned(),
            orders: SafeInt(totals.orders),
            cancelled_orders: SafeInt(totals.cancelled_orders),
            captured: Money::new(totals.captured_minor, currency),
            refunded: Money::new(totals.refunded_minor, currency),
            spend: Money::new(totals.spend_minor, currency),
            last_order_at: time("last_order_at_us", totals.last_order_at_us)?,
        })
    }
}
