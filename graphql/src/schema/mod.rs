//! The schema: thin types over the rows of `read-side`, one file a concept.

mod customer;
mod customer_overview;
mod in_turn;
mod money;
mod node_id;
mod order;
mod order_search;
mod orders;
mod paging;
mod product;
mod product_sales;
mod projections;
mod read;
mod subscription;
#[cfg(test)]
mod tests;
mod time;

use async_graphql::{Context, EmptyMutation, ID, Interface, Object, Result, SchemaBuilder, ValidationMode};
use chrono::{DateTime, NaiveDate, Utc};
use events::ids::{CustomerId, OrderId, ProductId};
use read_side::order_details;

use self::{
    customer::Customer,
    customer_overview::CustomerOverview,
    in_turn::InTurn,
    node_id::{Kind, NodeId, id_of},
    order::{Order, columns},
    order_search::FoundOrder,
    orders::{Asked, OrderConnection, OrderFilter, OrderSortInput},
    paging::{PageArguments, page_cost},
    product::{Product, ProductConnection, ProductFilter},
    product_sales::{ProductSales, SalesDay, TopProduct, TopProductsBy, sales_cost},
    projections::Projection,
    read::{look, read},
    subscription::Subscriptions,
};
use crate::{bounds::Bounds, options::GraphqlOptions, request_state::NoteExecution, root::Root};

pub(crate) type Schema = async_graphql::Schema<Root<Query>, EmptyMutation, Subscriptions>;
pub(crate) type Builder = SchemaBuilder<Root<Query>, EmptyMutation, Subscriptions>;

/// The schema that checks what it is asked to the letter, still without the read side.
pub(crate) fn checking(options: &GraphqlOptions) -> Builder {
    let bounds = Bounds { complexity_max: options.limits.complexity_max };
    build(options).extension(bounds).extension(NoteExecution)
}

/// The schema that answers what the checking one has let pass. Without extensions, each of which the library asks at every
/// field.
pub(crate) fn answering(options: &GraphqlOptions) -> Builder {
    build(options).validation_mode(ValidationMode::Fast).limit_complexity(options.limits.complexity_max)
}

fn build(options: &GraphqlOptions) -> Builder {
    let limits = &options.limits;
    let builder = async_graphql::Schema::build(Root(Query), EmptyMutation, Subscriptions)
        .limit_depth(limits.depth_max)
        .limit_directives(limits.directives_max)
        .limit_recursive_depth(limits.document_nesting_max)
        .override_output_type_description::<DateTime<Utc>>(
            "An instant as RFC 3339 writes it, such as `2026-11-21T08:30:00.123456+00:00`, to the microsecond.",
        );
    if options.introspection { builder } else { builder.disable_introspection() }
}

/// Something with a global id.
#[derive(Interface)]
#[expect(clippy::large_enum_variant, reason = "there is one at a time, on its way into an answer")]
#[graphql(field(name = "id", ty = "&ID", desc = "The global id: pass it to `node` to get the same thing again."))]
pub(crate) enum Node {
    Order(Order),
    Customer(Customer),
    Product(Product),
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
        #[graphql(
            desc = "The order as the events tell it that were recorded until this instant; null if it was not there \
            then. Without it, as it is now. What has not reached the read model yet is not told: send \
            `Consistency-Token` for what must be."
        )]
        as_of: Option<DateTime<Utc>>,
    ) -> Result<Option<InTurn<Order>>> {
        let id = OrderId(id_of(Kind::Order, &id, "id")?);
        let order = match as_of {
            None => {
                let asked = columns(ctx.look_ahead().selection_fields());
                let found = read(ctx, &order_details::TEMPLATE, async |side, consistency| {
                    side.order_columns(id, asked, consistency).await
                });
                found.await?.map(|row| Order::of(row, asked)).transpose()
            }
            Some(as_of) => {
                let found = read(ctx, &order_details::TEMPLATE, async |side, consistency| {
                    side.order_as_of(id, as_of, consistency).await
                });
                found.await?.map(|order| Order::try_from(order).map(Order::of_then)).transpose()
            }
        };
        let order = order.map_err(|error| read::internal(ctx, &format!("order {id}: {error}")))?;
        Ok(order.map(InTurn))
    }

    /// Orders, newest first unless `orderBy` says otherwise.
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
        #[graphql(desc = "Which orders to answer; without it, all.")] filter: Option<OrderFilter>,
        #[graphql(desc = "The order of the list; without it, the newest first.")] order_by: Option<OrderSortInput>,
        #[graphql(
            desc = "The list as the events tell it that were recorded until this instant: filter, order and orders are \
            those of then. Without it, as it is now. It takes time that grows with the orders that were recorded since, \
            and by `UPDATED_AT`, or with `totalCount`, with the whole list."
        )]
        as_of: Option<DateTime<Utc>>,
    ) -> Result<Option<OrderConnection>> {
        let asked = Asked { filter: filter.unwrap_or_default().try_into()?, order_by, as_of };
        orders::page(ctx, PageArguments { first, after, last, before }, asked).await.map(Some)
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
    /// that id. For staff.
    #[graphql(complexity = "sales_cost(&from, &to, child_complexity)")]
    async fn product_sales_by_day(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The product's UUID, or its global id.")] product_id: ID,
        #[graphql(desc = "The first day.")] from: NaiveDate,
        #[graphql(desc = "The last day: at most 1,100 days from the first.")] to: NaiveDate,
    ) -> Result<Option<ProductSales>> {
        product_sales::sales(ctx, &product_id, from, to).await
    }

    /// What was sold of all products together on each day (UTC) of a stretch, and what came back; a day with several
    /// currencies comes once for each, and one on which nothing was sold does not come. For staff.
    #[graphql(complexity = "sales_cost(&from, &to, child_complexity)")]
    async fn sales_by_day(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The first day.")] from: NaiveDate,
        #[graphql(desc = "The last day: at most 1,100 days from the first.")] to: NaiveDate,
        #[graphql(desc = "The ISO 4217 code of the one currency that matters, such as `USD`; without it, each.")]
        currency: Option<String>,
    ) -> Result<Option<Vec<SalesDay>>> {
        product_sales::by_day(ctx, from, to, currency).await.map(Some)
    }

    /// The products of which most was sold in a currency on the days (UTC) of a stretch. For staff.
    #[graphql(complexity = "page_cost(Some(first), None, child_complexity)")]
    async fn top_products(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The first day.")] from: NaiveDate,
        #[graphql(desc = "The last day: at most 1,100 days from the first.")] to: NaiveDate,
        #[graphql(desc = "The currency's ISO 4217 code, such as `USD`: amounts of two cannot be compared.")]
        currency: String,
        #[graphql(desc = "What makes a product come first.", default_with = "TopProductsBy::Amount")] by: TopProductsBy,
        #[graphql(desc = "The most products to answer: 1 to 100.", default = 10)] first: i32,
    ) -> Result<Option<Vec<TopProduct>>> {
        product_sales::top(ctx, (from, to), &currency, by, first).await.map(Some)
    }

    /// One product; null if the catalog has told of none of that id.
    async fn product(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The product's UUID, or its global id.")] id: ID,
    ) -> Result<Option<Product>> {
        product::product(ctx, ProductId(id_of(Kind::Product, &id, "id")?)).await
    }

    /// The products that the catalog has told of, by SKU. A product's SKU never changes, so that a walk from cursor to
    /// cursor misses none and tells none twice.
    #[graphql(complexity = "page_cost(first, last, child_complexity)")]
    async fn products(
        &self,
        ctx: &Context<'_>,
        #[graphql(
            desc = "The most products to answer, from the list's beginning: 1 to 100; 20 if neither `first` nor `last` is said."
        )]
        first: Option<i32>,
        #[graphql(desc = "A cursor: the page begins behind it.")] after: Option<String>,
        #[graphql(desc = "The most products to answer, from the list's end: 1 to 100.")] last: Option<i32>,
        #[graphql(desc = "A cursor: the page ends before it.")] before: Option<String>,
        #[graphql(desc = "Which products to answer; without it, all.")] filter: Option<ProductFilter>,
    ) -> Result<Option<ProductConnection>> {
        let filter = filter.unwrap_or_default().try_into()?;
        product::page(ctx, PageArguments { first, after, last, before }, filter).await.map(Some)
    }

    /// The orders that have every word of a text in their reference, customer, product names, SKUs or status. The last
    /// word may be the beginning of one. Newest first; none for a text without words. An order that was found, and has not
    /// reached the read model that tells it, is left out of its page.
    #[graphql(complexity = "page_cost(first, last, child_complexity)")]
    async fn search(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Words, in any order: `garcia teap` finds orders of teapots by García.")] text: String,
        #[graphql(
            desc = "The most orders to answer, from the list's beginning: 1 to 100; 20 if neither `first` nor `last` is said."
        )]
        first: Option<i32>,
        #[graphql(desc = "A cursor: the page begins behind it.")] after: Option<String>,
        #[graphql(desc = "The most orders to answer, from the list's end: 1 to 100.")] last: Option<i32>,
        #[graphql(desc = "A cursor: the page ends before it.")] before: Option<String>,
    ) -> Result<Option<OrderConnection>> {
        orders::search(ctx, &text, PageArguments { first, after, last, before }).await.map(Some)
    }

    /// As `search`, without pages and as much of an order as one list shows.
    #[graphql(
        complexity = "page_cost(Some(first), None, child_complexity)",
        deprecation = "`search` has pages, and whole orders."
    )]
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
            Kind::Order => Ok(self.order(ctx, id, None).await?.map(|order| Node::Order(order.0))),
            Kind::Customer => Ok(self.customer(ctx, id).await?.map(Node::Customer)),
            Kind::Product => Ok(self.product(ctx, id).await?.map(Node::Product)),
        }
    }

    /// The read models that answer, and how far each is behind its sources. For staff.
    async fn projections(&self, ctx: &Context<'_>) -> Result<Option<Vec<Projection>>> {
        // rows are counted where somebody wants to know: it reads whole tables
        let is_counted = ctx.look_ahead().field("rows").exists();
        // how far a projection is must be seen as it is, so no token is waited for
        let statuses = look(ctx, async |side| match is_counted {
            true => side.projections().await,
            false => side.projections_uncounted().await,
        });
        let statuses = statuses.await?;
        Ok(Some(statuses.into_iter().map(Projection::from).collect()))
    }
}
