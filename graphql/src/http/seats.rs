//! How many may stay: sockets and subscriptions, in all and of one asker.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use async_graphql::ServerError;
use events::principal::Principal;
use measures::{Entered, Level};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::asker::Asker;
use crate::{
    errors::{code, limit_exceeded, retryable},
    live::options::LiveLimits,
    options::GraphqlFigures,
};

pub(super) struct Seats {
    sockets: Room,
    subscriptions: Room,
    limits: LiveLimits,
}

/// How many there may be of something.
struct Room {
    all: Arc<Semaphore>,
    of_one: Counts,
    taken: Level,
}

/// Whose share something counts against.
type Counted = events::asker::Asker;

/// How many each has; whoever has none is not in it.
type Counts = Arc<Mutex<HashMap<Counted, usize>>>;

/// A place in a room; given back when it is dropped.
pub(super) struct Seat {
    _of_all: OwnedSemaphorePermit,
    of_one: Option<OfOne>,
    _counted: Entered,
}

/// A place among somebody's own.
struct OfOne {
    counted: Counted,
    counts: Counts,
}

/// There is no place left among somebody's own.
struct Full;

impl Seats {
    pub(super) fn new(limits: &LiveLimits) -> Self {
        let room = |max| Room { all: Arc::new(Semaphore::new(max)), of_one: Arc::default(), taken: Level::default() };
        Self {
            sockets: room(limits.sockets_max),
            subscriptions: room(limits.subscriptions_max),
            limits: limits.clone(),
        }
    }

    /// With figures that others look at.
    pub(super) fn measured_by(mut self, figures: &GraphqlFigures) -> Self {
        self.sockets.taken = figures.sockets.clone();
        self.subscriptions.taken = figures.subscriptions.clone();
        self
    }

    pub(super) fn socket(&self, asker: &Asker) -> Result<Seat, ServerError> {
        let LiveLimits { sockets_max, sockets_per_asker_max, .. } = self.limits;
        let of_all = self.sockets.all.clone().try_acquire_owned();
        let of_all = of_all.map_err(|_| overloaded("sockets", sockets_max, "too many sockets are open"))?;
        let of_one = match self.limits.counts_by_address || asker.principal != Principal::nobody() {
            true => OfOne::of(&self.sockets, asker, sockets_per_asker_max),
            false => Ok(None),
        };
        let of_one = of_one.map_err(|Full| self.too_many_sockets())?;
        Ok(Seat { _of_all: of_all, of_one, _counted: self.sockets.taken.enter() })
    }

    /// Counts a socket as that of who has shown a token with the first message.
    pub(super) fn move_socket(&self, seat: &mut Seat, asker: &Asker) -> Result<(), ServerError> {
        // given back first: it may be the same asker
        seat.of_one = None;
        let of_one = OfOne::of(&self.sockets, asker, self.limits.sockets_per_asker_max);
        seat.of_one = of_one.map_err(|Full| self.too_many_sockets())?;
        Ok(())
    }

    fn too_many_sockets(&self) -> ServerError {
        let what = "too many of your sockets are open";
        let error = limit_exceeded("sockets_per_asker", self.limits.sockets_per_asker_max, what, None);
        retryable(error, code::TOO_MANY_REQUESTS)
    }

    pub(super) fn subscription(&self, asker: &Asker) -> Result<Seat, ServerError> {
        let LiveLimits { subscriptions_max, subscriptions_per_principal_max, .. } = self.limits;
        let of_all = self.subscriptions.all.clone().try_acquire_owned();
        let of_all =
            of_all.map_err(|_| overloaded("subscriptions", subscriptions_max, "too many subscriptions are open"))?;
        let of_one = OfOne::of(&self.subscriptions, asker, subscriptions_per_principal_max);
        let of_one = of_one.map_err(|Full| {
            let what = "you have too many subscriptions open";
            limit_exceeded("subscriptions_per_principal", subscriptions_per_principal_max, what, None)
        })?;
        Ok(Seat { _of_all: of_all, of_one, _counted: self.subscriptions.taken.enter() })
    }
}

impl OfOne {
    /// `None`: whoever nobody knows is everybody, and has no bound of their own.
    fn of(room: &Room, asker: &Asker, max: usize) -> Result<Option<Self>, Full> {
        if asker.principal == Principal::anonymous() {
            return Ok(None);
        }
        let counted = asker.counted();
        let mut counts = room.of_one.lock().expect("no panic while held");
        let count = counts.get(&counted).copied().unwrap_or_default();
        if count >= max {
            return Err(Full);
        }
        counts.insert(counted.clone(), count + 1);
        drop(counts);
        Ok(Some(Self { counted, counts: Arc::clone(&room.of_one) }))
    }
}

impl Drop for OfOne {
    fn drop(&mut self) {
        let mut counts = self.counts.lock().expect("no panic while held");
        if let Some(count) = counts.get_mut(&self.counted) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.counted);
            }
        }
    }
}

fn overloaded(limit: &str, max: usize, what: &str) -> ServerError {
    retryable(limit_exceeded(limit, max, what, None), code::OVERLOADED)
}

#[cfg(test)]
mod tests {
    use axum::http::Extensions;

    use super::*;
    use crate::live::options::LiveOptions;

    fn asker(principal: Principal) -> Asker {
        let mut extensions = Extensions::new();
        extensions.insert(principal);
        Asker::of(&LiveOptions::default(), &extensions)
    }

    fn named(name: &str) -> Asker {
        asker(Principal::try_new(name, None, []).unwrap())
    }

    #[test]
    fn one_principal_has_so_many_subscriptions_and_gets_new_ones_when_old_ones_end() {
        let seats = Seats::new(&LiveLimits { subscriptions_per_principal_max: 2, ..LiveLimits::default() });
        let taken: Vec<_> = (0..2).map(|_| seats.subscription(&named("ana")).ok().unwrap()).collect();
        let refused = seats.subscription(&named("ana")).err().unwrap();
        assert!(refused.message.contains("subscriptions_per_principal is 2"), "{}", refused.message);
        assert!(seats.subscription(&named("eva")).is_ok());
        drop(taken);
        assert!(seats.subscription(&named("ana")).is_ok());
        assert!(seats.subscriptions.of_one.lock().unwrap().is_empty(), "nobody is remembered");
    }

    #[test]
    fn a_socket_counts_as_its_principals_once_that_is_known() {
        let seats = Seats::new(&LiveLimits { sockets_per_asker_max: 2, ..LiveLimits::default() });
        let open = || seats.socket(&asker(Principal::nobody()));
        let (mut first, mut second) = (open().ok().unwrap(), open().ok().unwrap());
        assert!(open().err().unwrap().message.contains("sockets_per_asker is 2"));
        seats.move_socket(&mut first, &named("ana")).unwrap();
        let mut third = open().expect("one of the two is Ana's now");
        seats.move_socket(&mut second, &named("ana")).unwrap();
        assert!(seats.move_socket(&mut third, &named("ana")).is_err());
        seats.move_socket(&mut second, &named("ana")).expect("it is counted once");
        drop((first, second, third));
        assert!(seats.sockets.of_one.lock().unwrap().is_empty(), "nobody is remembered");
    }

    #[test]
    fn behind_a_gateway_who_has_shown_no_token_yet_counts_there_and_everybody_else_here() {
        let limits = LiveLimits { sockets_per_asker_max: 1, counts_by_address: false, ..LiveLimits::default() };
        let seats = Seats::new(&limits);
        let open = || seats.socket(&asker(Principal::nobody())).expect("a seat");
        let (mut first, mut second) = (open(), open());
        seats.move_socket(&mut first, &named("ana")).unwrap();
        assert!(seats.move_socket(&mut second, &named("ana")).is_err());
    }

    #[test]
    fn there_is_room_for_so_many_in_all() {
        let limits = LiveLimits { subscriptions_max: 1, sockets_max: 1, ..LiveLimits::default() };
        let (seats, anybody) = (Seats::new(&limits), asker(Principal::anonymous()));
        let (_one, _socket) = (seats.subscription(&anybody), seats.socket(&anybody));
        assert!(seats.subscription(&anybody).is_err() && seats.socket(&anybody).is_err());
    }
}
