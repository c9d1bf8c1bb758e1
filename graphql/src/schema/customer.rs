//! A customer, from what the users service told, with their orders.

use async_graphql::{ComplexObject, Context, ID, Result, SimpleObject};
use events::ids::CustomerId;
use read_side::order_details::{self, CustomerRow};

use super::{
    node_id::{Kind, NodeId},
    orders::{self, Asked, OrderConnection, OrderFilter, OrderSortInput},
    paging::{PageArguments, page_cost},
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
    /// The customer's orders, newest first unless `orderBy` says otherwise.
    #[graphql(complexity = "page_cost(first, last, child_complexity)")]
    #[expect(clippy::too_many_arguments, reason = "each is an argument of the field")]
    async fn orders(
        &self,
        ctx: &Context<'_>,
        #[graphql(
            desc = "The most orders to answer, from the list's beginning: 1 to 100; 20 if neither `first` nor `last` is said."
        )]
        first: Option<i32>,
        #[graphql(desc = "A cursor: the page begins behind it.")] after: Option<String>,
        #[graphql(desc = "The most orders to answer, from the list's end: 1 to 100.")] last: Option<i32>,
        #[graphql(desc = "A cursor: the page ends before it.")] before: Option<String>,
        #[graphql(desc = "Which of the customer's orders to answer; without it, all.")] filter: Option<OrderFilter>,
        #[graphql(desc = "The order of the list; without it, the newest first.")] order_by: Option<OrderSortInput>,
    ) -> Result<Option<OrderConnection>> {
        let filter: order_details::OrderFilter = filter.unwrap_or_default().try_into()?;
        if filter.customer_id.is_some_and(|asked| asked != self.key) {
            return Err(invalid("filter.customerId", "another customer than the one whose orders are asked for"));
        }
        let filter = order_details::OrderFilter { customer_id: Some(self.key), ..filter };
        let asked = Asked { filter, order_by, as_of: None };
        orders::page(ctx, PageArguments { first, after, last, before }, asked).await.map(Some)
    }
}
