//! The command services: each owns its aggregates, its log and its place under HTTP, and nobody else's.
//!
//! Reading order:
//! - [`users`], [`catalog`], [`inventory`], [`orders`], [`payments`], [`shipping`], [`notifications`]: a file a service (what
//!   it takes over HTTP) and one an aggregate under it (what it decides, purely); [`orders::replica`] is what orders know of
//!   users and products.
//! - [`checkout`]: what becomes of an order between them; a service that is a saga.
//! - [`edge`]: what all of them do the same way over HTTP; every code it answers has a paragraph in `docs/errors.md`.
//! - [`reactor`]: what acts on events outside the database; [`progress`]: where followers keep how far they are.
//! - [`saga`]: what ends whole or undone across services, as an engine.
//! - [`peer`]: how one asks another.
//! - [`service`], [`register`]: how they are started and found.
//!
//! What does not live here: the log and the bus (event-store), read models and queries (read-side, graphql). No service
//! opens another's database or names another's aggregate.

pub mod catalog;
pub mod checkout;
pub mod edge;
pub mod inventory;
pub mod notifications;
pub mod orders;
pub mod payments;
pub mod peer;
pub mod progress;
pub mod reactor;
pub mod register;
pub mod saga;
pub mod service;
pub mod shipping;
pub mod users;

pub use orders::replica::ReplicaHome;
pub use register::{Entry, REGISTER};
pub use service::{Given, Service, StartError};
