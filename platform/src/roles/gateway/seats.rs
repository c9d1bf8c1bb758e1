//! How many sockets go through here: in all, and of one asker.
//!
//! The roles behind us see every socket come from our address, so who has shown no token is counted here.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use axum::http::StatusCode;
use events::{asker::Asker, principal::Principal};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use write_side::edge::Problem;

/// Sockets at once: each is two connections.
const SOCKETS_MAX: usize = 4_096;

/// Of those, how many may be one principal's, or one address's whose requests showed no token.
const SOCKETS_PER_ASKER_MAX: usize = 512;

pub struct Seats {
    all: Arc<Semaphore>,
    /// Whoever has none is not in it.
    of_one: Counts,
}

type Counts = Arc<Mutex<HashMap<Asker, usize>>>;

/// A place for a socket; given back when it is dropped.
pub struct Seat {
    _of_all: OwnedSemaphorePermit,
    /// `None`: whoever nobody knows is everybody, and has no bound of their own.
    asker: Option<Asker>,
    of_one: Counts,
}

impl Default for Seats {
    fn default() -> Self {
        Self { all: Arc::new(Semaphore::new(SOCKETS_MAX)), of_one: Arc::default() }
    }
}

impl Seats {
    /// For a socket of `principal`, who counts as `asker`.
    pub fn take(&self, principal: &Principal, asker: Asker) -> Result<Seat, Problem> {
        let of_all = Arc::clone(&self.all).try_acquire_owned();
        let of_all =
            of_all.map_err(|_| Problem::overloaded(format!("more than {SOCKETS_MAX} sockets are open; try again")))?;
        let asker = (*principal != Principal::anonymous()).then_some(asker);
        if let Some(asker) = &asker {
            let mut counts = lock(&self.of_one);
            let count = counts.get(asker).copied().unwrap_or_default();
            if count >= SOCKETS_PER_ASKER_MAX {
                let detail = format!("{SOCKETS_PER_ASKER_MAX} sockets of yours are open, and more may not be");
                return Err(Problem::new(StatusCode::TOO_MANY_REQUESTS, "too_many_requests", detail).retry_after(1));
            }
            counts.insert(asker.clone(), count + 1);
        }
        Ok(Seat { _of_all: of_all, asker, of_one: Arc::clone(&self.of_one) })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let Some(asker) = &self.asker else { return };
        let mut counts = lock(&self.of_one);
        if let Some(count) = counts.get_mut(asker) {
            *count -= 1;
            if *count == 0 {
                counts.remove(asker);
            }
        }
    }
}

fn lock(counts: &Counts) -> MutexGuard<'_, HashMap<Asker, usize>> {
    counts.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_without_a_token_has_its_share_and_leaves_the_rest_to_others() {
        let seats = Seats::default();
        let from = |last| seats.take(&Principal::nobody(), Asker::at(Some([10, 0, 0, last].into())));
        let mut taken: Vec<_> = (0..SOCKETS_PER_ASKER_MAX).map(|_| from(1).expect("a seat")).collect();
        assert_eq!(from(1).err().expect("no seat").code, "too_many_requests");
        assert!(from(2).is_ok());
        taken.pop();
        assert!(from(1).is_ok());
        drop(taken);
        assert!(lock(&seats.of_one).is_empty(), "nobody is remembered");
    }

    #[test]
    fn there_is_room_for_so_many_in_all() {
        let seats = Seats::default();
        let anybody = || seats.take(&Principal::anonymous(), Asker::Unknown);
        let taken: Vec<_> = (0..SOCKETS_MAX).map(|_| anybody().expect("a seat")).collect();
        assert_eq!(anybody().err().expect("no seat").code, "overloaded");
        drop(taken);
        assert!(anybody().is_ok());
    }
}
