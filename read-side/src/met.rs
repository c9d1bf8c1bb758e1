//! Tokens that were met.
//!
//! A generation only goes forward: what it has applied, it has applied for good, and what is parked or fanned out later
//! lies behind. So a token that an answer of a generation has met is met by each later one, and its client may send it with
//! every request without having the checkpoints looked at every time. Tokens that were not met are looked at anew.
//!
//! What is restored from a copy is a generation with a number of its own. Only who puts an older query database in the place of this
//! one by other means makes a generation forget, so what is remembered here has an end that comes sooner than anybody can do
//! that.

use std::{
    num::NonZeroUsize,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use events::consistency::ConsistencyToken;
use lru::LruCache;

use crate::template::Template;

/// Tokens that are remembered, those of late: some 200 bytes for each source that one names. Most name one or two, so that is
/// 1 or 2 MiB, and 4 MiB at the very most, as no token is remembered that names more sources than its read model has.
const REMEMBERED_MAX: NonZeroUsize = NonZeroUsize::new(4_096).expect("not zero");

/// How long: then the checkpoints are looked at once more.
const REMEMBERED_FOR: Duration = Duration::from_secs(5);

/// A token, and by which generation of which read model it was met.
type Met = (&'static str, i64, ConsistencyToken);

#[derive(Debug)]
pub(crate) struct MetTokens(Mutex<LruCache<Met, Instant>>);

impl Default for MetTokens {
    fn default() -> Self {
        Self(Mutex::new(LruCache::new(REMEMBERED_MAX)))
    }
}

impl MetTokens {
    pub fn note(&self, template: &'static Template, generation: i64, token: &ConsistencyToken) {
        if token.points().count() <= template.sources.len() {
            self.held().put((template.name, generation, token.clone()), Instant::now());
        }
    }

    pub fn has(&self, read_model: &'static str, generation: i64, token: &ConsistencyToken) -> bool {
        let met = (read_model, generation, token.clone());
        self.held().get(&met).is_some_and(|noted| noted.elapsed() < REMEMBERED_FOR)
    }

    fn held(&self) -> MutexGuard<'_, LruCache<Met, Instant>> {
        // what is held is whole between two calls
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::order_details::TEMPLATE as ORDER_DETAILS;

    #[test]
    fn a_token_is_met_by_the_generation_that_met_it_and_by_no_other() {
        let met = MetTokens::default();
        let token = |position| ConsistencyToken::of("orders", Uuid::from_u128(1), position, None);
        met.note(&ORDER_DETAILS, 7, &token(9));
        assert!(met.has("order_details", 7, &token(9)));
        assert!(!met.has("order_details", 8, &token(9)), "another generation");
        assert!(!met.has("order_search", 7, &token(9)), "another read model");
        assert!(!met.has("order_details", 7, &token(10)), "another token");
    }

    #[test]
    fn a_token_of_more_sources_than_there_are_is_not_remembered() {
        let met = MetTokens::default();
        let mut token = ConsistencyToken::default();
        for n in 0..=ORDER_DETAILS.sources.len() {
            token.merge(&ConsistencyToken::of(&format!("made-up-{n}"), Uuid::from_u128(1), 0, None));
        }
        met.note(&ORDER_DETAILS, 7, &token);
        assert!(!met.has("order_details", 7, &token));
    }

    #[test]
    fn what_was_used_last_is_remembered() {
        let met = MetTokens::default();
        let token = |position| ConsistencyToken::of("orders", Uuid::from_u128(1), position, None);
        let last = REMEMBERED_MAX.get() as u64 + 1;
        (1..=last).for_each(|position| met.note(&ORDER_DETAILS, 7, &token(position)));
        assert!(!met.has("order_details", 7, &token(1)));
        assert!(met.has("order_details", 7, &token(last)));
    }
}
