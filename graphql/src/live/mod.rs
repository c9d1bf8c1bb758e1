//! What changes, told to whoever has subscribed.
//!
//! Reading order:
//! - [`options`]: bounds, who is let in over a socket, and how it all ends.
//! - [`interest`]: what a subscriber wants and may see, as a pure function of a row.
//! - [`cursor`]: the place that a subscriber goes on from.
//! - [`slot`]: what waits for one subscriber, bounded.
//! - [`hub`]: the one reader of a process, which hands on to all subscribers what it has read once.
//! - [`follow`]: one subscriber's way: behind, then live.
//! - [`progress`]: how far the projections are.
//!
//! A subscriber pulls. What is not pulled waits in its slot, where an order's newer state replaces the older one; when the
//! slot is full it is emptied, and its owner reads what it has missed from the changes of the query database, a page at a
//! time, before it is live again. So nobody waits for a slow client, and a slow client loses nothing that is kept.

mod cursor;
mod follow;
mod hub;
mod interest;
pub mod options;
mod progress;
mod slot;

pub(crate) use cursor::{format_cursor, parse_cursor};
pub(crate) use follow::{Followed, Following, Kind};
pub(crate) use hub::Live;
pub(crate) use interest::{Interest, Wanted};
