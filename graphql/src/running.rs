//! How much runs at once: in all, and for one principal or address, so that nobody takes all of it.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_graphql::ServerError;
use events::asker::Asker;
use measures::{Entered, Level};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::errors::{code, over_limit, retryable};

/// The places of one endpoint.
#[derive(Debug)]
pub(crate) struct Running {
    all: Arc<Semaphore>,
    all_max: usize,
    /// By who asks; only those who have something running are in it, so `all_max` bounds it.
    by_asker: Arc<Mutex<HashMap<Asker, usize>>>,
    by_asker_max: usize,
    level: Level,
}

/// Why there is no place.
#[derive(Debug)]
pub(crate) enum NoPlace {
    /// Too much is running.
    ForAnybody(ServerError),
    /// Too much of theirs is running.
    ForAsker(ServerError),
}

/// A place, until it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    _of_all: OwnedSemaphorePermit,
    by_asker: Arc<Mutex<HashMap<Asker, usize>>>,
    asker: Asker,
    _counted: Entered,
}

impl Running {
    pub(crate) fn new(all_max: usize, by_asker_max: usize) -> Self {
        let all = Arc::new(Semaphore::new(all_max));
        Self { all, all_max, by_asker: Arc::default(), by_asker_max, level: Level::default() }
    }

    /// With a level that others look at.
    pub(crate) fn measured_by(self, level: &Level) -> Self {
        Self { level: level.clone(), ..self }
    }

    /// A place for one more, at once or not at all.
    pub(crate) fn enter(&self, asker: Asker) -> Result<Place, NoPlace> {
        let Ok(of_all) = Arc::clone(&self.all).try_acquire_owned() else {
            let what = "too many requests are running";
            let error = over_limit("requests", self.all_max, self.all_max.saturating_add(1), what, None);
            return Err(NoPlace::ForAnybody(retryable(error, code::OVERLOADED)));
        };
        let mut held = lock(&self.by_asker);
        let theirs = held.entry(asker.clone()).or_default();
        if *theirs >= self.by_asker_max {
            let asked = theirs.saturating_add(1);
            if *theirs == 0 {
                held.remove(&asker);
            }
            let what = "too many of your requests are running";
            let error = over_limit("requests_per_principal", self.by_asker_max, asked, what, None);
            return Err(NoPlace::ForAsker(retryable(error, code::TOO_MANY_REQUESTS)));
        }
        *theirs += 1;
        drop(held);
        let (by_asker, counted) = (Arc::clone(&self.by_asker), self.level.enter());
        Ok(Place { _of_all: of_all, by_asker, asker, _counted: counted })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Entry::Occupied(mut theirs) = lock(&self.by_asker).entry(self.asker.clone()) {
            *theirs.get_mut() -= 1;
            if *theirs.get() == 0 {
                theirs.remove();
            }
        }
    }
}

fn lock(by_asker: &Mutex<HashMap<Asker, usize>>) -> MutexGuard<'_, HashMap<Asker, usize>> {
    // a count is whole between two calls
    by_asker.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ana() -> Asker {
        Asker::Principal("ana".into())
    }

    #[test]
    fn who_has_too_much_running_is_refused_and_nobody_else() {
        let running = Running::new(10, 2);
        let (first, _second) = (running.enter(ana()).unwrap(), running.enter(ana()).unwrap());
        let Err(NoPlace::ForAsker(refused)) = running.enter(ana()) else { panic!("no bound") };
        let extensions = serde_json::to_value(refused.extensions.unwrap()).unwrap();
        let told = serde_json::json!({
            "code": "too_many_requests", "limit": "requests_per_principal", "max": 2, "asked": 3, "retryable": true,
        });
        assert_eq!(extensions, told);
        assert!(running.enter(Asker::Unknown).is_ok(), "somebody else has their own");
        drop(first);
        assert!(running.enter(ana()).is_ok());
    }

    #[test]
    fn nothing_is_kept_of_whoever_has_nothing_running() {
        let running = Running::new(1, 1);
        for n in 0..100 {
            let place = running.enter(Asker::Principal(format!("p{n}").into())).unwrap();
            assert!(matches!(running.enter(ana()), Err(NoPlace::ForAnybody(_))));
            drop(place);
        }
        assert!(lock(&running.by_asker).is_empty());
    }
}
