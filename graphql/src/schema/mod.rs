//! The schema: thin types over the rows of `read-side`, one file a concept.

mod customer;
mod customer_overview;
mod money;
mod node_id;
mod order;
mod order_search;
mod orders;
mod product_sales;
mod projections;
mod read;
mod subscription;
#[cfg(test)]
mod tests;
mod time;

use async_graphql::{Context, EmptyMutation, ID, Interface, Object, Result, Schema, SchemaBuilder};
use chrono::{DateTime, NaiveDate, Utc};
use events::ids::{CustomerId, OrderId};
use read_side::order_details;

use self::{
    customer::Customer,
    customer_overview::CustomerOverview,
    node_id::{Kind, NodeId, id_of},
    order::Order,
    order_search::FoundOrder,
    orders::{OrderConnection, OrderFilter, page_cost},
    product_sales::{ProductSales, sales_cost},
    projections::Projection,
    read::{look, read},
    subscription::Subscriptions,
};
use crate::{bounds::Bounds, options::GraphqlOptions, request_state::NoteExecution};

/// The schema with the limits of `options`, still without the read side.
pub(crate) fn build(options: &GraphqlOptions) -> SchemaBuilder<Query, EmptyMutation, Subscriptions> {
    let limits = &options.limits;
    let builder = Schema::build(Query, EmptyMutation, Subscriptions)
        .limit_depth(limits.depth_max)
        .limit_directives(limits.directives_max)
        .limit_recursive_depth(limits.document_nesting_max)
        .override_output_type_description::<DateTime<Utc>>(
            "An instant as RFC 3339 writes it, such as `2026-11-21T08:30:00.123456+00:00`, to the microsecond.",
        )
        .extension(Bounds { complexity_max: limits.complexity_max })
        .extension(NoteExecution);
    if options.introspection { builder } else { builder.disable_introspection() }
}

/// Something with a global id.
#[derive(Interface)]
#[expect(clippy::large_enum_variant, reason = "there is one at a time, on its way into an answer")]
#[graphql(field(name = "id", ty = "&ID", desc = "The global id: pass it to `node` to get the same thing again."))]
pub(crate) enum Node {
    Order(Order),
    Customer(Customer),
}

/// The root. Every field that reads is nullable, so that one which fails leaves the others their answers.
pub(crate) struct Query;

/// Questions that span services. Every answer comes from read models in the query database; none joins services.
///
/// To read your own writes, send the header `Consistency-Token` with what a command's answer carried in it: the answer
/// then includes that command's effects, or is the error `consistency_timeout` after `Consistency-Wait` (2 s unless
/// said otherwise, at most 30 s).
#[Object]
impl Query {
    /// One order; null if there is none of that id.
    async fn order(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The order's UUID, or its global id.")] id: ID,
    ) -> Result<Option<Order>> {
        let id = OrderId(id_of(Kind::Order, &id, "id")?);
        let found =
            read(ctx, &order_details::TEMPLATE, async |side, consistency| side.order(id, consistency).await).await?;
        let order = found.map(Order::try_from).transpose();
        order.map_err(|error| read::internal(ctx, &format!("order {id}: {error}")))
    }

    /// Orders, newest first.
    #[graphql(complexity = "page_cost(first, child_complexity)")]
    async fn orders(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The most orders to answer: 1 to 100.", default = 20)] first: i32,
        #[graphql(desc = "A cursor: the page begins behind it.")] after: Option<String>,
        #[graphql(desc = "Which orders to answer; without it, all.")] filter: Option<OrderFilter>,
    ) -> Result<Option<OrderConnection>> {
        orders::page(ctx, first, after, filter.unwrap_or_default().try_into()?).await.map(Some)
    }

    /// One customer, with their orders; null if the users service has told of none of that id.
    async fn customer(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The customer's UUID, or its global id.")] id: ID,
    ) -> Result<Option<Customer>> {
        let id = CustomerId::from(id_of(Kind::Customer, &id, "id")?);
        let found =
            read(ctx, &order_details::TEMPLATE, async |side, consistency| side.customer(id, consistency).await).await?;
        Ok(found.map(Customer::from))
    }

    /// How often a customer has ordered, and what they have paid; null if nobody has told of one of that id.
    async fn customer_overview(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The customer's UUID, or its global id.")] id: ID,
    ) -> Result<Option<CustomerOverview>> {
        customer_overview::overview(ctx, CustomerId::from(id_of(Kind::Customer, &id, "id")?)).await
    }

    /// What was sold of a product on each day (UTC) of a stretch, and what came back; null if nobody has told of one of
    /// that id.
    #[graphql(complexity = "sales_cost(&from, &to, child_complexity)")]
    async fn product_sales_by_day(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The product's UUID.")] product_id: ID,
        #[graphql(desc = "The first day.")] from: NaiveDate,
        #[graphql(desc = "The last day: at most 1,100 days from the first.")] to: NaiveDate,
    ) -> Result<Option<ProductSales>> {
        product_sales::sales(ctx, &product_id, from, to).await
    }

    /// The orders that have every word of a text in their reference, customer, product names, SKUs or status. The last
    /// word may be the beginning of one. Newest first; none for a text without words.
    #[graphql(complexity = "page_cost(first, child_complexity)")]
    async fn search_orders(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Words, in any order: `garcia teap` finds orders of teapots by García.")] text: String,
        #[graphql(desc = "The most orders to answer: 1 to 100.", default = 20)] first: i32,
    ) -> Result<Option<Vec<FoundOrder>>> {
        order_search::search(ctx, &text, first).await.map(Some)
    }

    /// Anything by its global id; null if there is nothing of that id.
    async fn node(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "A global id, as any `id` in an answer.")] id: ID,
    ) -> Result<Option<Node>> {
        let NodeId { kind, uuid } = id.parse().map_err(|error| read::invalid("id", error))?;
        let id = ID(uuid.to_string());
        match kind {
            Kind::Order => Ok(self.order(ctx, id).await?.map(Node::Order)),
            Kind::Customer => Ok(self.customer(ctx, id).await?.map(Node::Customer)),
        }
    }

    /// The read models that answer, and how far each is behind its sources.
    async fn projections(&self, ctx: &Context<'_>) -> Result<Option<Vec<Projection>>> {
        // how far a projection is must be seen as it is, so no token is waited for
        let statuses = look(ctx, async |side| side.projections().await).await?;
        Ok(Some(statuses.into_iter().map(Projection::from).collect()))
    }
}
