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
    /// The collection that its commands are posted to: `/<resource>`.
    pub resource: &'static str,
    /// The services whose feeds it needs.
    pub follows: &'static [&'static str],
    /// The services that it asks, or gives commands.
    pub asks: &'static [&'static str],
    /// What it keeps in its database apart from its log.
    pub schemas: &'static [Schema],
    pub start: fn(Given) -> BoxFuture<'static, Result<Service, StartError>>,
}

/// A line here is all that the platform needs to know of a service: flags, files and databases follow from its name.
pub static REGISTER: &[Entry] = &[
    Entry {
        name: events::users::SOURCE,
        resource: users::RESOURCE,
        follows: &[],
        asks: &[],
        schemas: &[],
        start: |given| Box::pin(users::start(given)),
    },
    Entry {
        name: events::catalog::SOURCE,
        resource: catalog::RESOURCE,
        follows: &[],
        asks: &[],
        schemas: &[],
        start: |given| Box::pin(catalog::start(given)),
    },
    Entry {
        name: events::inventory::SOURCE,
        resource: inventory::RESOURCE,
        follows: &[],
        asks: &[],
        schemas: &[],
        start: |given| Box::pin(inventory::start(given)),
    },
    Entry {
        name: events::orders::SOURCE,
        resource: orders::RESOURCE,
        follows: &orders::replica::FOLLOWS,
        asks: &[],
        schemas: &[orders::replica::postgres::SCHEMA],
        start: |given| Box::pin(orders::start(given)),
    },
    Entry {
        name: events::payments::SOURCE,
        resource: payments::RESOURCE,
        follows: &[],
        asks: &[],
        schemas: &[reactor::postgres::SCHEMA],
        start: |given| Box::pin(payments::start(given)),
    },
    Entry {
        name: events::shipping::SOURCE,
        resource: shipping::RESOURCE,
        follows: &shipping::FOLLOWS,
        asks: &shipping::ASKS,
        schemas: &[],
        start: |given| Box::pin(shipping::start(given)),
    },
    Entry {
        name: events::notifications::SOURCE,
        resource: notifications::RESOURCE,
        follows: &notifications::FOLLOWS,
        asks: &notifications::ASKS,
        schemas: &[reactor::postgres::SCHEMA],
        start: |given| Box::pin(notifications::start(given)),
    },
    // behind all that it asks: in one process, whoever is started can be given those before it only
    Entry {
        name: events::checkout::SOURCE,
        resource: checkout::RESOURCE,
        follows: &checkout::FOLLOWS,
        asks: &checkout::ASKS,
        schemas: &[reactor::postgres::SCHEMA, saga::index::postgres::SCHEMA],
        start: |given| Box::pin(checkout::start(given)),
    },
];

impl Entry {
    /// Whether it is a saga, which operators ask and tell under `/admin/sagas`.
    pub fn is_saga(&self) -> bool {
        self.schemas.iter().any(|schema| schema.name == saga::index::postgres::SCHEMA.name)
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_asked_stands_before_who_asks() {
        for (at, entry) in REGISTER.iter().enumerate() {
            for asked in entry.asks {
                assert!(REGISTER[..at].iter().any(|before| before.name == *asked), "{} asks {asked}", entry.name);
            }
        }
    }

    #[test]
    fn no_two_services_have_a_place_in_common() {
        for one in REGISTER {
            for other in REGISTER.iter().filter(|other| other.name != one.name) {
                for place in [one.name, one.resource] {
                    assert!(place != other.name && place != other.resource, "/{place} is of two services");
                }
            }
        }
    }
}
