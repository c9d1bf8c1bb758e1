//! `GET /metrics`: the state of a process, for Prometheus.
//!
//! Followers, pools, queues and the like keep what they measure; it is looked up when it is asked for, and put under names
//! and labels here. What databases have to be asked for is left out when they do not answer in time: an absent series raises
//! an alarm, an old value does not. To tell more, give a [`Family`] to one of the files here; names and labels are explained
//! in `docs/metrics.md`, which a test compares. Ids are never labels: they are without number.
//!
//! - `databases`: calls, connections and failures; `locks`: what their servers say; `logs`: what waits before them, and commands; `followers`, `reactors`,
//!   `sagas`, `projections`, `erasures`: how far everybody is; `requests`, `graphql`: who asks.
//! - `exposition`: the format.

mod databases;
mod erasures;
mod exposition;
mod followers;
mod graphql;
mod locks;
mod logs;
mod projections;
mod reactors;
mod requests;
mod sagas;

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    extract::State,
    http::{HeaderValue, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::get,
};
use chrono::Utc;

use crate::{
    admin::{ProjectorAdmin, ServicesAdmin},
    guard::Requests,
    roles::Role,
};
pub use exposition::Family;
pub use graphql::seen as of_graphql;
pub use locks::seen as of_storage;

/// The text format of Prometheus.
const FORMAT: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

/// How long a database may take to tell something. Whoever scrapes gives up after some ten seconds.
const LOOK_WAIT_MAX: Duration = Duration::from_secs(3);

/// `/metrics` of a process that runs `role`.
pub fn router(role: Arc<dyn Role>, requests: Arc<Requests>) -> Router {
    Router::new().route("/metrics", get(metrics)).with_state((role, requests))
}

async fn metrics(State((role, requests)): State<(Arc<dyn Role>, Arc<Requests>)>) -> Response {
    let mut families = vec![build()];
    families.extend(requests::seen(&requests));
    families.extend(role.measured().await);
    ([(CONTENT_TYPE, FORMAT)], exposition::render(families)).into_response()
}

fn build() -> Family {
    Family::gauge("tributary_build_info", "The version that runs, with the value 1.")
        .with(&[("version", env!("CARGO_PKG_VERSION"))], 1.0)
}

/// What services tell.
pub async fn of_services(admin: &ServicesAdmin) -> Vec<Family> {
    let (duties, sagas) =
        tokio::join!(in_time("duties", reactors::seen(admin)), in_time("sagas", sagas::seen(admin, Utc::now())));
    let mut families = followers::of_services(admin);
    families.extend(logs::seen(admin));
    families.extend(erasures::seen(admin));
    families.extend(duties.into_iter().flatten());
    families.extend(sagas.into_iter().flatten());
    families
}

/// What the projector tells.
pub async fn of_projector(admin: &ProjectorAdmin) -> Vec<Family> {
    let read_models = in_time("read models", projections::seen(admin)).await;
    let mut families = followers::of_projector(admin).await;
    families.extend(databases::of_use("projector", "transaction", admin.projector.figures()));
    families.extend(read_models.into_iter().flatten());
    families
}

/// What a database tells, if it does in time.
async fn in_time<T>(what: &str, look: impl Future<Output = T>) -> Option<T> {
    let told = tokio::time::timeout(LOOK_WAIT_MAX, look).await;
    told.inspect_err(|_| tracing::warn!(what, "not told within {} s, and left out", LOOK_WAIT_MAX.as_secs())).ok()
}

fn yes(is_so: bool) -> f64 {
    f64::from(u8::from(is_so))
}
