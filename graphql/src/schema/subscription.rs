//! What changes, as it changes.

use std::sync::Arc;

use async_graphql::{Context, Enum, Error, ErrorExtensions, ID, Object, Result, Subscription};
use events::{
    ids::OrderId,
    principal::{Principal, scope},
};
use futures::{Stream, StreamExt};
use read_side::{
    ChangeCursor, ReadSide,
    order_details::{self, ChangedOrders, ChangesOf},
    status::READ_MODELS,
};

use super::{
    in_turn::InTurn,
    node_id::{Kind, NodeId, id_of},
    order::Order,
    orders::OrderFilter,
    projections::Projection,
    read::{self, invalid, read},
};
use crate::{
    errors::code,
    live::{self, Followed, Following, Interest, Live, Wanted, format_cursor, parse_cursor},
    request_state::RequestState,
};

/// The root of what is told as it happens.
pub(crate) struct Subscriptions;

/// What changes, told as it changes.
///
/// What is there already is not told: a subscription to orders begins with the message `STARTED`, and whoever reads what
/// they show once it has come misses nothing. Each message has a `cursor`. Whoever comes back with it as `after` is told
/// what happened meanwhile, each order once and as it is now, if it was at most a day; after that, and when a read model was
/// built anew, comes one `RESYNC`: read what you show anew, and go on.
#[Subscription(name = "Subscription")]
impl Subscriptions {
    /// One order, whenever something about it changes. Nothing is told of an order that there is not, or not yet.
    async fn order_changed(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The order's UUID, or its global id.")] id: ID,
        #[graphql(desc = "The cursor of the last message that you got: go on behind it.")] after: Option<String>,
    ) -> Result<impl Stream<Item = OrderChange> + use<>> {
        let id = OrderId(id_of(Kind::Order, &id, "id")?);
        follow(ctx, Wanted::Order(id), after).await
    }

    /// The orders that a filter lets pass, whenever something about one of them changes.
    async fn orders_changed(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which orders to tell of; without it, all.")] filter: Option<OrderFilter>,
        #[graphql(desc = "The cursor of the last message that you got: go on behind it.")] after: Option<String>,
    ) -> Result<impl Stream<Item = OrderChange> + use<>> {
        follow(ctx, Wanted::Orders(filter.unwrap_or_default().try_into()?), after).await
    }

    /// How far a read model is: at once, and whenever that changes.
    async fn projection_progress(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The read model's name, such as `order_details`.")] name: String,
    ) -> Result<impl Stream<Item = Projection> + use<>> {
        let principal = asker(ctx)?;
        if principal.customer().is_some() {
            return Err(refused("not_for_customers", "how far a read model is, is for staff and programs"));
        }
        if !READ_MODELS.iter().any(|template| template.name == name) {
            return Err(invalid("name", "there is no read model of this name"));
        }
        let live: &Live = ctx.data_unchecked();
        Ok(live.progress(name).map(Projection::from))
    }
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "live::Kind")]
pub(crate) enum ChangeKind {
    /// From here on everything is told. Read now what you show.
    Started,
    /// The order in `node` is as it is now.
    Changed,
    /// The order of this id is not to be shown any more: it does not fit the filter as it stands now. Whoever did not show
    /// it has nothing to do.
    Gone,
    /// What happened before this cursor is not known. Read what you show anew, once, and go on.
    Resync,
}

/// A message about orders.
#[derive(Debug)]
pub(crate) struct OrderChange(Followed);

/// A message about orders.
#[Object]
impl OrderChange {
    /// What happened.
    async fn kind(&self) -> ChangeKind {
        self.0.kind.into()
    }

    /// Pass it as `after` to go on behind this message.
    async fn cursor(&self) -> String {
        format_cursor(self.0.cursor)
    }

    /// The global id of the order that this is about; null with `STARTED` and `RESYNC`.
    async fn order_id(&self) -> Option<ID> {
        self.0.order_id.map(|id| NodeId::of(Kind::Order, id.0))
    }

    /// The order as it is now; null where the kind says so.
    async fn node(&self, ctx: &Context<'_>) -> Result<Option<InTurn<Order>>> {
        let Some(row) = &self.0.row else { return Ok(None) };
        let order = Order::try_from((**row).clone());
        order
            .map(|order| Some(InTurn(order)))
            .map_err(|error| read::internal(ctx, &format!("order {}: {error}", row.order_id)))
    }
}

async fn follow(
    ctx: &Context<'_>,
    wanted: Wanted,
    after: Option<String>,
) -> Result<impl Stream<Item = OrderChange> + use<>> {
    let interest = Interest { scope: asker(ctx)?.customer(), wanted };
    let state = ctx.data_unchecked::<Arc<RequestState>>();
    // an event stream's own way of coming back counts more, because its document cannot change
    let after = match state.resume_after().or(after) {
        None => None,
        Some(text) => {
            let cursor = parse_cursor(&text);
            Some(cursor.ok_or_else(|| invalid("after", "not a cursor: pass on, unchanged, the cursor of a message"))?)
        }
    };
    let head = head(ctx).await?;
    state.begin_following();
    let (told, state) = (Following::begin(ctx.data_unchecked(), interest, after, head), Arc::clone(state));
    Ok(told.into_stream().map(move |followed| {
        state.tell_cursor(|| format_cursor(followed.cursor));
        OrderChange(followed)
    }))
}

/// The last change there is, at (or after) the token.
async fn head(ctx: &Context<'_>) -> Result<ChangeCursor> {
    let read = read(ctx, &order_details::TEMPLATE, async |side: &ReadSide, consistency| {
        side.changed_orders(None, ChangesOf::All, 1, consistency).await
    });
    match read.await? {
        ChangedOrders::Since { cursor, .. } | ChangedOrders::Resync { cursor } => Ok(cursor),
    }
}

/// Whoever may ask at all.
fn asker<'a>(ctx: &Context<'a>) -> Result<&'a Principal> {
    match ctx.data_opt::<Principal>() {
        Some(principal) if principal.may(scope::QUERY) => Ok(principal),
        _ => Err(refused(code::UNAUTHENTICATED, "this needs a token")),
    }
}

fn refused(code: &'static str, message: &str) -> Error {
    Error::new(message).extend_with(|_, extensions| {
        extensions.set("code", code);
        extensions.set("retryable", false);
    })
}
