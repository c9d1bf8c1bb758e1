//! GraphQL: what is being answered, who stays, and the query database as it is read.

use ::graphql::GraphqlFigures;
use measures::DatabaseUse;

use super::{Family, databases};

pub fn seen(figures: &GraphqlFigures, read: &DatabaseUse) -> Vec<Family> {
    let mut requests = Family::gauge("tributary_graphql_requests_under_way", "GraphQL requests being answered.");
    requests.push_whole(&[], figures.requests.now());
    let mut sockets = Family::gauge("tributary_graphql_sockets", "WebSockets that are open.");
    sockets.push_whole(&[], figures.sockets.now());
    let mut subscriptions =
        Family::gauge("tributary_graphql_subscriptions", "Operations that stay, over sockets and as event streams.");
    subscriptions.push_whole(&[], figures.subscriptions.now());
    let mut families = vec![requests, sockets, subscriptions];
    families.extend(databases::of_use("graphql", "query", read));
    families
}
