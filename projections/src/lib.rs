//! From events to rows: N feeds into one row, exactly once, in any interleaving.
//!
//! Reading order:
//! - [`order_details`]: one projection. Which events go to which row, and the folds. As boring as it gets.
//! - [`customer_overview`], [`product_sales_by_day`]: what adds up; [`order_timeline`]: a list; [`order_search`]: rows that
//!   are found by words.
//! - `references`: what rows of several of them refer to.
//! - [`projection`]: what a projection is made of, and why that converges.
//! - [`engine`]: what runs it. Batches, checkpoints, fan-outs, generations, rebuilds.
//! - [`Projector`]: the engine on all projections, for the platform.
//! - `kit` (feature `kit`): what a projection is tested with, yours too.
//!
//! What does not live here: rows, their `derive` and their queries (read-side), commands, aggregates, and any IO in a
//! projection.

pub mod customer_overview;
pub mod engine;
#[cfg(test)]
mod golden;
#[cfg(feature = "kit")]
pub mod kit;
pub mod order_details;
pub mod order_search;
pub mod order_timeline;
pub mod product_sales_by_day;
pub mod projection;
mod references;

pub use engine::{
    projector::{ChangedVersions, Projector, ProjectorHandle, ProjectorOptions},
    query_database::{QueryDatabase, schema as query_schema},
};

/// Every projection there is: the one list to add to.
pub fn all() -> Vec<projection::Projection> {
    vec![
        order_details::projection(),
        customer_overview::projection(),
        product_sales_by_day::projection(),
        order_timeline::projection(),
        order_search::projection(),
    ]
}
