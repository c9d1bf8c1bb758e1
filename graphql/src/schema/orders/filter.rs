//! Which orders are wanted.

use async_graphql::{Error, ID, InputObject, Result};
use chrono::{DateTime, Utc};
use events::{
    ids::{CustomerId, ProductId},
    money::Currency,
};
use read_side::order_details;

use crate::schema::{
    money::SafeInt,
    node_id::{Kind, id_of},
    order::OrderStatus,
    read::{invalid, text},
};

/// Which orders are wanted. What is left out does not matter; what is there must hold, all of it.
#[derive(Debug, Default, InputObject)]
pub(crate) struct OrderFilter {
    /// Only this customer's: a UUID or a global id.
    customer_id: Option<ID>,
    /// Only those that stand so.
    status: Option<OrderStatus>,
    /// Only those that stand in one of these ways.
    statuses: Option<Vec<OrderStatus>>,
    /// Only those placed at this instant or later.
    placed_after: Option<DateTime<Utc>>,
    /// Only those placed before this instant.
    placed_before: Option<DateTime<Utc>>,
    /// Only those whose total lies between two amounts.
    total: Option<AmountRange>,
    /// Only those with a line of this product: a UUID or a global id.
    product_id: Option<ID>,
    /// Only the one with this key in the system that it was imported from.
    external_ref: Option<String>,
}

/// Amounts of one currency, since amounts of two cannot be compared.
#[derive(Debug, InputObject)]
struct AmountRange {
    /// The currency's ISO 4217 code, such as `USD`.
    currency: String,
    /// This amount or more, in the currency's minor unit.
    min_minor: Option<SafeInt>,
    /// This amount or less, in the currency's minor unit.
    max_minor: Option<SafeInt>,
}

impl TryFrom<OrderFilter> for order_details::OrderFilter {
    type Error = Error;

    fn try_from(filter: OrderFilter) -> Result<Self> {
        let customer_id = filter.customer_id.map(|id| id_of(Kind::Customer, &id, "filter.customerId")).transpose()?;
        let product_id = filter.product_id.map(|id| id_of(Kind::Product, &id, "filter.productId")).transpose()?;
        let total = filter.total;
        let amount = |amount: Option<SafeInt>| amount.map(|SafeInt(amount_minor)| amount_minor);
        Ok(Self {
            customer_id: customer_id.map(CustomerId::from),
            status: filter.status.map(Into::into),
            statuses: filter.statuses.map(|statuses| statuses.into_iter().map(Into::into).collect()),
            placed_after_us: filter.placed_after.map(|time| time.timestamp_micros()),
            placed_before_us: filter.placed_before.map(|time| time.timestamp_micros()),
            currency: total.as_ref().map(|total| currency("filter.total.currency", &total.currency)).transpose()?,
            total_min_minor: total.as_ref().and_then(|total| amount(total.min_minor)),
            total_max_minor: total.as_ref().and_then(|total| amount(total.max_minor)),
            product_id: product_id.map(ProductId),
            external_ref: filter.external_ref.map(|key| text("filter.externalRef", key)).transpose()?,
        })
    }
}

/// A currency by its code.
pub(crate) fn currency(argument: &str, code: &str) -> Result<Currency> {
    code.parse().map_err(|_| invalid(argument, "not an ISO 4217 code in capitals, such as USD"))
}
