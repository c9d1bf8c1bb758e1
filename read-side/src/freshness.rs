//! How fresh an answer is: which generation it came from, and what that had applied.
//!
//! With a token, the vector comes out of the answer's own snapshot. Without one it would cost every read a look at the
//! checkpoints; as a generation only goes forward, a vector that was seen a moment ago is still a true lower bound. So it is
//! looked at again when the last look is older than [`OBSERVED_FOR`].

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use crate::consistency::Reached;

/// How old the last look at a generation's vector may be that an answer tells of.
const OBSERVED_FOR: Duration = Duration::from_millis(500);

/// What one read model had applied when it answered: at least that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Freshness {
    pub read_model: &'static str,
    pub generation: i64,
    /// How long the answer waited for its token.
    pub waited: Duration,
    pub observed: Arc<Observed>,
}

/// A vector, and when it was seen.
#[derive(Debug, PartialEq, Eq)]
pub struct Observed {
    /// Microseconds of Unix time, by this process's clock.
    pub at_us: i64,
    pub sources: Vec<Applied>,
}

impl Observed {
    /// Whether a source had got further in `other`, of the same generation: then it had in no source got less far.
    fn is_before(&self, other: &Self) -> bool {
        let of = |source: &str| self.sources.iter().find(|applied| applied.source == source);
        other.sources.iter().any(|theirs| of(&theirs.source).is_none_or(|ours| ours.position < theirs.position))
    }
}

/// How far a generation is in one source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    pub source: String,
    pub position: u64,
}

/// Is told how fresh the answers are that a handle gives: see [`ReadSide::telling`](crate::ReadSide::telling).
#[derive(Debug, Clone, Default)]
pub struct Witness(Arc<Mutex<BTreeMap<&'static str, Freshness>>>);

impl Witness {
    /// What was told since the last time, by read model: of several answers from one, the first, which is the least fresh.
    pub fn take(&self) -> Vec<Freshness> {
        std::mem::take(&mut *lock(&self.0)).into_values().collect()
    }

    pub(crate) fn tell(&self, freshness: Freshness) {
        let mut seen = lock(&self.0);
        let held = seen.entry(freshness.read_model).or_insert_with(|| freshness.clone());
        // fields of one request wait for one another: the longest wait is that of the request
        held.waited = held.waited.max(freshness.waited);
        // a swap between two fields: the later generation holds all that the one before it did
        if held.generation > freshness.generation {
            *held = Freshness { waited: held.waited, ..freshness };
        }
    }
}

/// The last look at each generation that is live.
#[derive(Debug, Default)]
pub(crate) struct LastSeen(Mutex<HashMap<&'static str, Look>>);

#[derive(Debug)]
struct Look {
    generation: i64,
    at: Instant,
    observed: Arc<Observed>,
}

impl LastSeen {
    /// What was seen of this generation a moment ago.
    pub(crate) fn of(&self, read_model: &'static str, generation: i64) -> Option<Arc<Observed>> {
        let seen = lock(&self.0);
        let last = seen.get(read_model)?;
        (last.generation == generation && last.at.elapsed() < OBSERVED_FOR).then(|| Arc::clone(&last.observed))
    }

    pub(crate) fn note(&self, read_model: &'static str, generation: i64, reached: &[Reached]) -> Arc<Observed> {
        let mut sources: Vec<_> = reached.iter().map(Applied::from).collect();
        sources.sort_unstable_by(|one, other| one.source.cmp(&other.source));
        let observed = Arc::new(Observed { at_us: now_us(), sources });
        let mut seen = lock(&self.0);
        // of two reads at once, the one that began later may end first
        let is_older = |held: &Look| {
            held.generation > generation || (held.generation == generation && observed.is_before(&held.observed))
        };
        if !seen.get(read_model).is_some_and(is_older) {
            let look = Look { generation, at: Instant::now(), observed: Arc::clone(&observed) };
            seen.insert(read_model, look);
        }
        observed
    }
}

impl From<&Reached> for Applied {
    fn from(reached: &Reached) -> Self {
        Self { source: reached.source.clone(), position: u64::try_from(reached.position).unwrap_or(0) }
    }
}

fn now_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

fn lock<T>(held: &Mutex<T>) -> MutexGuard<'_, T> {
    // what is told is whole between two calls
    held.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn freshness(generation: i64, waited_ms: u64) -> Freshness {
        let observed = Arc::new(Observed { at_us: 1, sources: Vec::new() });
        Freshness { read_model: "orders", generation, waited: Duration::from_millis(waited_ms), observed }
    }

    #[test]
    fn of_several_answers_the_least_fresh_and_the_longest_wait_are_told() {
        let witness = Witness::default();
        for told in [freshness(8, 5), freshness(7, 0), freshness(9, 3)] {
            witness.tell(told);
        }
        assert_eq!(witness.take(), [freshness(7, 5)]);
    }

    #[test]
    fn a_look_that_was_overtaken_is_told_of_its_own_answer_alone() {
        let seen = LastSeen::default();
        let reached = |position| {
            let json = serde_json::json!({ "source": "orders", "position": position });
            [serde_json::from_value::<Reached>(json).unwrap()]
        };
        let later = seen.note("orders", 7, &reached(9));
        let earlier = seen.note("orders", 7, &reached(8));
        assert_eq!(earlier.sources[0].position, 8);
        assert_eq!(seen.of("orders", 7), Some(later));
        assert_eq!(seen.note("orders", 6, &reached(99)).sources[0].position, 99);
        assert_eq!(seen.of("orders", 7).unwrap().sources[0].position, 9, "an earlier generation");
    }

    #[test]
    fn what_was_seen_of_another_generation_is_not_told_of_this_one() {
        let seen = LastSeen::default();
        let observed = seen.note("orders", 7, &[]);
        assert_eq!(seen.of("orders", 7), Some(observed));
        assert_eq!((seen.of("orders", 8), seen.of("customers", 7)), (None, None));
    }
}
