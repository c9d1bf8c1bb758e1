//! A customer, from what the users service told, with their orders.

use async_graphql::{ComplexObject, Context, ID, Result, SimpleObject};
use events::ids::CustomerId;
use read_side::order_details::{self, CustomerRow};

use super::{
    node_id::{Kind, NodeId},
    orders::{self, OrderConnection, OrderFilter, page_cost},
    read::invalid,
};

/// A customer: a user seen from ordering.
#[derive(Debug, SimpleObject)]
#[graphql(complex)]
pub(crate) struct Customer {
    /// The global id, for `node` and for caches.
    pub(super) id: ID,
    /// The customer's UUID, as the users service knows it.
    customer_id: ID,
    /// The name; null after the customer was erased.
    name: Option<String>,
    /// The e-mail address; null as the name is.
    email: Option<String>,
    #[graphql(skip)]
    key: CustomerId,
}

impl From<CustomerRow> for Customer {
    fn from(row: CustomerRow) -> Self {
        Self {
            id: NodeId::of(Kind::Customer, row.customer_id.0),
            customer_id: ID(row.customer_id.to_string()),
            name: row.name,
            email: row.email,
            key: row.customer_id,
        }
    }
}

#[ComplexObject]
impl Customer {
    /// The customer's orders, newest first.
    #[graphql(complexity = "page_cost(first, child_complexity)")]
    async fn orders(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The most orders to answer: 1 to 100.", default = 20)] first: i32,
        #[graphql(desc = "A cursor: the page begins behind it.")] after: Option<String>,
        #[graphql(desc = "Which of the customer's orders to answer; without it, all.")] filter: Option<OrderFilter>,
    ) -> Result<Option<OrderConnection>> {
        let filter: order_details::OrderFilter = filter.unwrap_or_default().try_into()?;
        if filter.customer_id.is_some_and(|asked| asked != self.key) {
            return Err(invalid("filter.customerId", "another customer than the one whose orders are asked for"));
        }
        let filter = order_details::OrderFilter { customer_id: Some(self.key), ..filter };
        orders::page(ctx, first, after, filter).await.map(Some)
    }
}
