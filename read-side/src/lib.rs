//! The query database, from the reader's side. Never writes: that is the projector's.
//!
//! Reading order:
//! - [`order_details`]: one read model. Its row, the pure [`order_details::derive`] that makes it, its table template
//!   and its queries. [`references`]: what the rows of several read models refer to.
//! - the others, each as small as it can be: [`customer_overview`] and [`product_sales_by_day`] add up, [`order_timeline`]
//!   lists, [`order_search`] finds.
//! - [`consistency`]: how a reader waits for what a writer has just written; `met`: what it need not wait for again.
//! - [`freshness`]: how fresh an answer is.
//! - [`read_side`](ReadSide): the handle; how pointer, checkpoint and rows are read in one snapshot. `statement`: the
//!   text of that; `lending`: over which connections.
//! - [`paging`]: stretches of lists, by keyset.
//! - [`template`]: what a read model's tables look like; [`query_database`]: where they lie.
//! - [`changes`]: which rows changed, for whoever keeps an answer up to date.
//! - [`words`](mod@words): what a search finds rows by.
//! - [`status`]: what is live, and how far it is.
//!
//! What does not live here: folds (projections), HTTP and GraphQL (graphql), and any statement that changes a row.

pub mod changes;
mod columns;
pub mod consistency;
pub mod customer_overview;
pub mod error;
pub mod freshness;
mod lending;
mod met;
pub mod order_details;
pub mod order_search;
pub mod order_timeline;
pub mod paging;
pub mod product_sales_by_day;
pub mod query_database;
mod read_side;
mod rebuilding;
pub mod references;
mod statement;
pub mod status;
pub mod template;
pub mod words;

pub use changes::{Change, ChangeCursor, Changes};
pub use consistency::{Commits, Consistency, Wake};
pub use error::ReadError;
pub use read_side::ReadSide;
pub use status::{ProjectionStatus, SourceStatus};
