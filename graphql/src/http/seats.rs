//! How many may stay: sockets, and subscriptions in all and of one principal.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use async_graphql::ServerError;
use events::{envelope::Name, principal::Principal};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{
    errors::{code, limit_exceeded, retryable},
    live::options::LiveLimits,
};

pub(super) struct Seats {
    sockets: Arc<Semaphore>,
    subscriptions: Arc<Semaphore>,
    per_principal: Counts,
    limits: LiveLimits,
}

/// How many each principal has; whoever has none is not in it.
type Counts = Arc<Mutex<HashMap<Name, usize>>>;

/// A subscription's place; given back when it is dropped.
pub(super) struct Seat {
    _room: OwnedSemaphorePermit,
    taken: Option<(Name, Counts)>,
}

impl Seats {
    pub(super) fn new(limits: &LiveLimits) -> Self {
        Self {
            sockets: Arc::new(Semaphore::new(limits.sockets_max)),
            subscriptions: Arc::new(Semaphore::new(limits.subscriptions_max)),
            per_principal: Arc::default(),
            limits: limits.clone(),
        }
    }

    pub(super) fn socket(&self) -> Result<OwnedSemaphorePermit, ServerError> {
        let seat = Arc::clone(&self.sockets).try_acquire_owned();
        seat.map_err(|_| overloaded("sockets", self.limits.sockets_max, "too many sockets are open"))
    }

    pub(super) fn subscription(&self, principal: &Principal) -> Result<Seat, ServerError> {
        let LiveLimits { subscriptions_max, subscriptions_per_principal_max, .. } = self.limits;
        let room = Arc::clone(&self.subscriptions).try_acquire_owned();
        let room =
            room.map_err(|_| overloaded("subscriptions", subscriptions_max, "too many subscriptions are open"))?;
        // whoever nobody knows is everybody
        if *principal == Principal::anonymous() {
            return Ok(Seat { _room: room, taken: None });
        }
        let mut counts = self.per_principal.lock().expect("no panic while held");
        let count = counts.entry(principal.name().clone()).or_default();
        if *count >= subscriptions_per_principal_max {
            let what = "you have too many subscriptions open";
            return Err(limit_exceeded("subscriptions_per_principal", subscriptions_per_principal_max, what, None));
        }
        *count += 1;
        drop(counts);
        Ok(Seat { _room: room, taken: Some((principal.name().clone(), Arc::clone(&self.per_principal))) })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let Some((name, counts)) = self.taken.take() else { return };
        let mut counts = counts.lock().expect("no panic while held");
        if let Some(count) = counts.get_mut(&name) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&name);
            }
        }
    }
}

fn overloaded(limit: &str, max: usize, what: &str) -> ServerError {
    retryable(limit_exceeded(limit, max, what, None), code::OVERLOADED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_principal_has_so_many_subscriptions_and_gets_new_ones_when_old_ones_end() {
        let seats = Seats::new(&LiveLimits { subscriptions_per_principal_max: 2, ..LiveLimits::default() });
        let of = |name| Principal::try_new(name, None, []).unwrap();
        let taken: Vec<_> = (0..2).map(|_| seats.subscription(&of("ana")).ok().unwrap()).collect();
        let refused = seats.subscription(&of("ana")).err().unwrap();
        assert!(refused.message.contains("subscriptions_per_principal is 2"), "{}", refused.message);
        assert!(seats.subscription(&of("eva")).is_ok());
        drop(taken);
        assert!(seats.subscription(&of("ana")).is_ok());
        assert!(seats.per_principal.lock().unwrap().is_empty(), "nobody is remembered");
    }

    #[test]
    fn there_is_room_for_so_many_in_all() {
        let limits = LiveLimits { subscriptions_max: 1, sockets_max: 1, ..LiveLimits::default() };
        let seats = Seats::new(&limits);
        let (_one, _socket) = (seats.subscription(&Principal::anonymous()), seats.socket());
        assert!(seats.subscription(&Principal::anonymous()).is_err() && seats.socket().is_err());
    }
}
