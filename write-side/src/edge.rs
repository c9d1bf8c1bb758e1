//! The HTTP edge of every service: strict on the way in, the same promises on every answer.
//!
//! Reading order: [`access`] (who may), [`request`] (headers and JSON of a command), [`fields`] (every bad field named at once), [`command`]
//! (to the bus and back), [`feed`] (the log for followers), [`problem`] (RFC 9457), [`trace`] (around it all), [`openapi`]
//! (what a service says of itself).

pub mod access;
pub mod command;
pub mod feed;
pub mod fields;
pub mod openapi;
pub mod problem;
pub mod request;
pub mod trace;

use axum::{Router, extract::DefaultBodyLimit, http::StatusCode, middleware::from_fn};

pub use access::{By, Customers};
pub use command::Edge;
pub use openapi::{Api, Routes};
pub use problem::Problem;
pub use request::{Incoming, PathId};

/// What goes around the routes of a service.
pub fn around(routes: Router) -> Router {
    routes
        .method_not_allowed_fallback(method_not_allowed)
        .layer(DefaultBodyLimit::max(request::BODY_BYTES_MAX))
        .layer(from_fn(trace::around))
}

/// The fallback for methods that an address does not take.
pub async fn method_not_allowed() -> Problem {
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "this address does not take this method")
}

/// The fallback for addresses that no service has; whoever mounts the services sets it.
pub async fn not_found() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "route_not_found", "there is nothing at this address")
}
