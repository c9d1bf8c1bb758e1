//! The services there are, one line each.

use std::sync::Arc;

use event_store::{log::EventLog, sealed_log::SealedLog};
use futures::future::BoxFuture;

use crate::{
    catalog, checkout, inventory, notifications, orders, payments,
    progress::postgres::Schema,
    reactor, saga,
    service::{Given, Service, StartError},
    shipping, users,
};

/// A service and how it is started.
pub struct Entry {
    /// Its source in vectors and tokens, its place in URLs, and the name of its database.
    pub name: &'static str,
    /// The services whose feeds it needs.
    pub follows: &'static [&'static str],
    /// What it keeps in its database apart from its log.
    pub schemas: &'static [Schema],
    pub start: fn(Given) -> BoxFuture<'static, Result<Service, StartError>>,
}

/// A line here is all that the platform needs to know of a service: flags, files and databases follow from its name.
pub static REGISTER: &[Entry] = &[
    Entry { name: events::users::SOURCE, follows: &[], schemas: &[], start: |given| Box::pin(users::start(given)) },
    Entry { name: events::catalog::SOURCE, follows: &[], schemas: &[], start: |given| Box::pin(catalog::start(given)) },
    Entry {
        name: events::inventory::SOURCE,
        follows: &[],
        schemas: &[],
        start: |given| Box::pin(inventory::start(given)),
    },
    Entry {
        name: events::orders::SOURCE,
        follows: &orders::replica::FOLLOWS,
        schemas: &[orders::replica::postgres::SCHEMA],
        start: |given| Box::pin(orders::start(given)),
    },
    Entry {
        name: events::payments::SOURCE,
        follows: &[],
        schemas: &[reactor::postgres::SCHEMA],
        start: |given| Box::pin(payments::start(given)),
    },
    Entry {
        name: events::shipping::SOURCE,
        follows: &shipping::FOLLOWS,
        schemas: &[],
        start: |given| Box::pin(shipping::start(given)),
    },
    Entry {
        name: events::notifications::SOURCE,
        follows: &notifications::FOLLOWS,
        schemas: &[reactor::postgres::SCHEMA],
        start: |given| Box::pin(notifications::start(given)),
    },
    // behind all that it asks: whoever is started is given those before it as peers
    Entry {
        name: events::checkout::SOURCE,
        follows: &checkout::FOLLOWS,
        schemas: &[reactor::postgres::SCHEMA, saga::index::postgres::SCHEMA],
        start: |given| Box::pin(checkout::start(given)),
    },
];

/// The services that publish something personal.
pub const PERSONAL: [&str; 2] = [events::users::SOURCE, events::shipping::SOURCE];

/// The log of a service as the service and all its followers are to have it.
pub fn log_of(service: &str, log: Arc<dyn EventLog>) -> Arc<dyn EventLog> {
    if PERSONAL.contains(&service) { SealedLog::around(log) } else { log }
}

/// The entry of a service by its name.
pub fn find(name: &str) -> Option<&'static Entry> {
    REGISTER.iter().find(|entry| entry.name == name)
}
