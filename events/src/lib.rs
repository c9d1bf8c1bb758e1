//! The published language: what services say to each other, and nothing else.
//!
//! Reading order:
//! - [`envelope`]: what wraps every event (position, stream, metadata) and its CloudEvents form on the wire.
//! - [`consistency`]: the `Consistency-Token` that lets a reader wait for what a writer has just written.
//! - [`Published`]: how events are read back, also those of versions that are no longer written ([`Upcaster`]).
//! - [`personal`]: values that belong to a person, and can be erased.
//! - [`ids`], [`money`], [`principal`], [`asker`]: the words all services share.
//! - [`users`], [`catalog`], [`inventory`], [`orders`], [`payments`], [`shipping`], [`notifications`], [`checkout`]: one
//!   file a service, one type an event. [`saga`] has what all sagas publish.
//!
//! What does not live here: decisions (write-side), folds into rows (projections), and any IO. Golden samples of
//! every published version lie in `golden/`; a test reads each of them back.

pub mod consistency;
pub mod envelope;
pub mod personal;
mod published;

#[cfg(feature = "domain")]
pub mod asker;
#[cfg(feature = "domain")]
pub mod catalog;
#[cfg(feature = "domain")]
pub mod checkout;
#[cfg(feature = "domain")]
pub mod ids;
#[cfg(feature = "domain")]
pub mod inventory;
#[cfg(feature = "domain")]
pub mod money;
#[cfg(feature = "domain")]
pub mod notifications;
#[cfg(feature = "domain")]
pub mod orders;
#[cfg(feature = "domain")]
pub mod payments;
#[cfg(feature = "domain")]
pub mod principal;
#[cfg(feature = "domain")]
pub mod saga;
#[cfg(feature = "domain")]
pub mod shipping;
#[cfg(feature = "domain")]
pub mod users;

/// What says its own type and version: every event of a service, on its way into a log.
#[cfg(feature = "domain")]
pub use cqrs_es::DomainEvent;
pub use published::{DecodeError, Published, Upcaster};
