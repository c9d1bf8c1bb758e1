//! Our side: the endpoint of `graphql` with its limits, and a door that says whose question it is.

use axum::extract::Request;
use events::principal::{Principal, scope};
use graphql::GraphqlOptions;
use read_side::ReadSide;
use tower::util::MapRequestLayer;

use super::bare::Rows;
use crate::serving;

/// Who asks: a customer's id. On a platform a token says it.
pub const CUSTOMER_HEADER: &str = "x-customer";

/// Prints the address and serves until the owner is gone.
pub async fn serve(rows: Rows) -> anyhow::Result<()> {
    let read = match rows {
        Rows::Postgres { url } => ReadSide::connect_postgres(&url)?,
        Rows::Sqlite { directory } => ReadSide::connect_sqlite(directory),
    };
    let router = graphql::router(read, GraphqlOptions::default());
    serving::serve(router.layer(MapRequestLayer::new(door))).await
}

fn door(mut request: Request) -> Request {
    let customer = request.headers().get(CUSTOMER_HEADER).and_then(|id| id.to_str().ok()?.parse().ok());
    let principal = match customer {
        Some(customer) => Principal::try_new("customer-1", Some(customer), [scope::QUERY.to_owned()]),
        None => Ok(Principal::nobody()),
    };
    request.extensions_mut().insert(principal.expect("a name"));
    request
}
