//! What tests need and a release does not have.
//!
//! Reading order:
//! - [`log_contract`]: the laws of a log, for every adapter.
//! - [`feed_contract`]: the laws of a feed, in process or over a transport; [`feed_server`] is one to cut and bend.
//! - [`follower_kit`]: what a follower and its store are tested with.
//! - [`golden`]: a sample of every event version, and what folds make of it.
//! - [`postgres`]: throw-away PostgreSQL servers, and a fresh database per test.
//! - `small_disk`: a disk that such a server fills.
//! - [`pgbouncer`]: PgBouncer before such a server.
//! - [`promtool`]: what Prometheus says of a page of metrics.
//! - [`proxy`]: a small TCP proxy that breaks connections where a test says.
//! - [`jumping_clock`]: a clock that is put forward or back.
//! - [`checkout_laws`]: what must hold of all services' events together, whatever has crashed.
//! - [`northwind`]: a source for imports, the real one or one of its shape.

pub mod checkout_laws;
pub mod feed_contract;
pub mod feed_server;
pub mod follower_kit;
pub mod golden;
pub mod jumping_clock;
pub mod log_contract;
pub mod northwind;
pub mod pgbouncer;
pub mod postgres;
pub mod promtool;
pub mod proxy;
mod small_disk;
