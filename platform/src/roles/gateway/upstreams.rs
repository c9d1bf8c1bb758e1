//! Who answers for an address, and where they are.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::http::uri::Authority;
use write_side::REGISTER;

use super::place::Place;
use crate::config::urls::{GRAPHQL, PROJECT};

/// One role, or one service, with its replicas.
pub struct Upstream {
    pub name: &'static str,
    places: Vec<Arc<Place>>,
    next: AtomicUsize,
}

impl Upstream {
    /// Each of its places once, beginning with the one whose turn it is; last of all those that do not answer.
    pub fn turn(&self) -> impl Iterator<Item = &Arc<Place>> {
        let first = self.next.fetch_add(1, Ordering::Relaxed) % self.places.len();
        let turn = self.places[first..].iter().chain(&self.places[..first]);
        let (silent, answering): (Vec<_>, Vec<_>) = turn.partition(|place| place.is_silent());
        answering.into_iter().chain(silent)
    }
}

/// All that a gateway stands before.
pub struct Upstreams {
    known: BTreeMap<&'static str, Upstream>,
}

impl Upstreams {
    pub fn new(places: BTreeMap<&'static str, Vec<Authority>>) -> Self {
        // a server of several is one server
        let mut servers: BTreeMap<String, Arc<Place>> = BTreeMap::new();
        let mut server = |authority: Authority| {
            let place = servers.entry(authority.to_string()).or_insert_with(|| Arc::new(Place::new(authority)));
            Arc::clone(place)
        };
        let upstream = |(name, places): (&'static str, Vec<Authority>)| {
            assert!(!places.is_empty(), "{name} has a place");
            let places = places.into_iter().map(&mut server).collect();
            (name, Upstream { name, places, next: AtomicUsize::new(0) })
        };
        Self { known: places.into_iter().map(upstream).collect() }
    }

    /// Who answers at this path.
    pub fn of(&self, path: &str) -> Option<&Upstream> {
        self.known.get(owner(path)?)
    }

    pub fn get(&self, name: &str) -> Option<&Upstream> {
        self.known.get(name)
    }

    /// Every server once, with the names of those that it is.
    pub fn places(&self) -> Vec<(Arc<Place>, String)> {
        let mut found: BTreeMap<&str, (&Arc<Place>, Vec<&str>)> = BTreeMap::new();
        for upstream in self.known.values() {
            for place in &upstream.places {
                found.entry(place.authority.as_str()).or_insert((place, vec![])).1.push(upstream.name);
            }
        }
        found.into_values().map(|(place, names)| (Arc::clone(place), names.join(", "))).collect()
    }
}

/// The name of whose address it is: a service's own places, and the administration of what it does.
fn owner(path: &str) -> Option<&'static str> {
    let mut segments = path.strip_prefix('/')?.split('/');
    let service = |name: &str| REGISTER.iter().find(|entry| entry.name == name).map(|entry| entry.name);
    match segments.next()? {
        GRAPHQL => Some(GRAPHQL),
        "admin" => match segments.next()? {
            "streams" | "logs" => service(segments.next()?),
            // one has sagas, and shows all of them: a second one makes this a question of whom to ask first
            "sagas" => REGISTER.iter().find(|entry| entry.is_saga()).map(|entry| entry.name),
            _ => Some(PROJECT),
        },
        first => REGISTER.iter().find(|entry| entry.name == first || entry.resource == first).map(|entry| entry.name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_has_one_who_answers_for_it() {
        for (path, expected) in [
            ("/users", Some("users")),
            ("/products/7/rename", Some("catalog")),
            ("/catalog/feed", Some("catalog")),
            ("/stock/7/receive", Some("inventory")),
            ("/checkouts/7", Some("checkout")),
            ("/checkout/openapi.json", Some("checkout")),
            ("/admin/streams/orders/7", Some("orders")),
            ("/admin/logs/users/chain", Some("users")),
            ("/admin/sagas/7/retry", Some("checkout")),
            ("/admin/projections/order_details/rebuild", Some("project")),
            ("/admin/parked", Some("project")),
            ("/admin/query/export", Some("project")),
            ("/graphql", Some("graphql")),
            ("/graphql/assets/playground.js", Some("graphql")),
            ("/admin", None),
            ("/admin/streams/nobody/7", None),
            ("/ordersx", None),
            ("//orders", None),
            ("/project", None),
        ] {
            assert_eq!(owner(path), expected, "{path}");
        }
    }

    /// Ids do not say whose sagas they are, so a second service with sagas has to be asked beside the first.
    #[test]
    fn there_is_one_service_whose_sagas_are_meant() {
        assert_eq!(REGISTER.iter().filter(|entry| entry.is_saga()).count(), 1);
    }

    #[test]
    fn replicas_take_turns_and_a_server_of_several_is_asked_once() {
        let place = |text: &str| text.parse::<Authority>().expect("an authority");
        let places = [("orders", vec![place("a:1"), place("b:2")]), ("users", vec![place("a:1")])];
        let upstreams = Upstreams::new(places.into_iter().collect());
        let orders = upstreams.of("/orders").expect("known");
        let turn = || orders.turn().map(|place| place.authority.as_str()).collect::<Vec<_>>();
        assert_eq!((turn(), turn(), turn()), (vec!["a:1", "b:2"], vec!["b:2", "a:1"], vec!["a:1", "b:2"]));
        let all = upstreams.places();
        assert_eq!(all.len(), 2);
        assert_eq!((&all[0].0.authority, &*all[0].1), (&place("a:1"), "orders, users"));
        all[0].0.falls_silent();
        assert_eq!((turn(), turn()), (vec!["b:2", "a:1"], vec!["b:2", "a:1"]), "it is the last resort");
        all[0].0.end_watch();
        assert_eq!((turn(), turn()), (vec!["b:2", "a:1"], vec!["a:1", "b:2"]));
    }
}
