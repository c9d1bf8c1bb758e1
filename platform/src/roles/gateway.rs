//! The gateway: one public port before the roles that run apart. It asks for tokens and counts requests, and passes on what
//! is let in: [`upstreams`] says to whom, [`place`] whether they answer, [`proxy`] how, [`headers`] which headers go no further,
//! [`tunnel`] what becomes of sockets, [`seats`] how many there may be. It has no database, and a role that is away leaves a hole of its own size.
//!
//! What it answers by itself: the composed order, one document of all APIs with its page, and a look at everybody's health.

mod headers;
mod place;
mod proxy;
mod seats;
mod tunnel;
mod upstreams;

use std::collections::BTreeMap;

use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, State},
    http::{HeaderMap, header::AUTHORIZATION, uri::Authority},
    routing::{any, get},
};
use futures::future::join_all;
use serde_json::Value;
use write_side::edge::{
    openapi::{document, routes::json},
    request::BODY_BYTES_MAX,
};

use self::proxy::Proxy;
use super::Role;
use crate::{
    admin::{Check, Surroundings, Verdict},
    composed, docs,
    door::Door,
    metrics::Family,
};

/// The gateway of this process.
pub struct Gateway {
    proxy: Proxy,
}

impl Gateway {
    /// Before these, by the names of services, [`PROJECT`](crate::config::urls::PROJECT) and
    /// [`GRAPHQL`](crate::config::urls::GRAPHQL).
    pub fn new(places: BTreeMap<&'static str, Vec<Authority>>) -> Self {
        Self { proxy: Proxy::new(places) }
    }
}

#[async_trait::async_trait]
impl Role for Gateway {
    fn routes(&self, door: &Door) -> Router {
        // the composed order is asked for as any caller asks
        let passed_on = Router::new()
            .route("/{*path}", any(proxy::pass_on))
            .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
            .with_state(self.proxy.clone());
        let (composed, api) = composed::routes(passed_on.clone()).serve("composed");
        let own = document::of(&[api]);
        let surroundings = Surroundings::of(None, door);
        let doctor = get(async move |State(proxy): State<Proxy>, headers: HeaderMap| {
            let (own, others) = tokio::join!(surroundings.check(), findings(&proxy, &headers));
            Json([own, others].concat())
        });
        let openapi = get(async move |State(proxy): State<Proxy>| json(every_api(&proxy, own).await.to_string()));
        passed_on.merge(composed).merge(docs::page()).merge(
            Router::new().route("/openapi.json", openapi).route("/admin/doctor", doctor).with_state(self.proxy.clone()),
        )
    }

    /// Ready as long as anybody behind it answers: what is away is away for itself.
    async fn check(&self) -> Vec<Check> {
        let asked = self.proxy.everybody().into_iter().map(async |(place, who)| {
            let name = format!("{who} at {place}");
            match self.proxy.has_started(&place).await {
                true => Check::good(name, "answers"),
                false => Check::doubtful(name, "away"),
            }
        });
        let mut checks = join_all(asked).await;
        if checks.iter().all(|check| check.verdict != Verdict::Good) {
            checks.push(Check::bad("gateway", "nothing that it stands before answers"));
        }
        checks
    }

    /// Its requests are all that it has.
    async fn measured(&self) -> Vec<Family> {
        Vec::new()
    }

    fn close(&self) {
        self.proxy.close();
    }

    async fn shutdown(&self) {
        self.proxy.shutdown().await;
    }
}

/// The documents of all services in one. That of a service that is away is the one it had when it was last asked.
async fn every_api(proxy: &Proxy, own: Value) -> Value {
    let asked = proxy.services().map(async |service| proxy.document(service).await);
    document::merge(join_all(asked).await.into_iter().flatten().chain([own]))
}

/// What everybody finds, each about itself, with the caller's own rights.
async fn findings(proxy: &Proxy, headers: &HeaderMap) -> Vec<Check> {
    let caller = headers.get(AUTHORIZATION);
    let asked = proxy.everybody().into_iter().map(async |(place, who)| {
        match proxy.ask::<Vec<Check>>(&place, "/admin/doctor", caller).await {
            Ok(found) => found,
            Err(why) => vec![Check::bad(format!("{who} at {place}"), why)],
        }
    });
    join_all(asked).await.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests;
