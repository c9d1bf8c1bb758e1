//! The services there are, one line each.

use futures::future::BoxFuture;

use crate::{
    catalog, orders,
    service::{Given, Service, StartError},
    users,
};

/// A service and how it is started.
pub struct Entry {
    /// Its source in vectors and tokens, and its place in URLs.
    pub name: &'static str,
    /// The services whose feeds it needs.
    pub follows: &'static [&'static str],
    pub start: fn(Given) -> BoxFuture<'static, Result<Service, StartError>>,
}

/// In an order in which each finds the feeds it follows.
pub const REGISTER: [Entry; 3] = [
    Entry { name: events::users::SOURCE, follows: &[], start: |given| Box::pin(users::start(given)) },
    Entry { name: events::catalog::SOURCE, follows: &[], start: |given| Box::pin(catalog::start(given)) },
    Entry {
        name: events::orders::SOURCE,
        follows: &orders::replica::FOLLOWS,
        start: |given| Box::pin(orders::start(given)),
    },
];

/// The entry of a service by its name.
pub fn find(name: &str) -> Option<&'static Entry> {
    const REGISTERED: &[Entry] = &REGISTER;
    REGISTERED.iter().find(|entry| entry.name == name)
}
