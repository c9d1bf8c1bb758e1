//! How values are spread: how many there were up to each of some bounds, and their sum.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

use crate::Count;

/// From what a look into memory takes up to what nobody waits for any longer, in nanoseconds.
const DURATION_BOUNDS: &[u64] = &[
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
];

/// Of what is done together.
pub const SIZE_BOUNDS: [u64; 13] = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1_024, 2_048, 4_096];

/// Values as they were seen at one moment. Each is counted at the first bound that it does not exceed; behind the last
/// bound is one more count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spread {
    pub bounds: &'static [u64],
    pub counts: Vec<u64>,
    pub sum: u64,
}

impl Spread {
    /// Where a value is counted.
    pub fn place(bounds: &[u64], value: u64) -> usize {
        bounds.partition_point(|bound| *bound < value)
    }
}

#[derive(Debug)]
struct Values {
    bounds: &'static [u64],
    counts: Box<[Count]>,
    sum: AtomicU64,
}

impl Values {
    fn new(bounds: &'static [u64]) -> Self {
        Self { bounds, counts: (0..=bounds.len()).map(|_| Count::default()).collect(), sum: AtomicU64::new(0) }
    }

    fn add(&self, value: u64) {
        self.counts[Spread::place(self.bounds, value)].one_more();
        self.sum.fetch_add(value, Relaxed);
    }

    fn now(&self) -> Spread {
        let counts = self.counts.iter().map(Count::now).collect();
        Spread { bounds: self.bounds, counts, sum: self.sum.load(Relaxed) }
    }
}

/// How long something took.
#[derive(Debug)]
pub struct Durations(Values);

impl Default for Durations {
    fn default() -> Self {
        Self(Values::new(DURATION_BOUNDS))
    }
}

impl Durations {
    pub fn add(&self, took: Duration) {
        self.0.add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
    }

    pub fn add_since(&self, began: Instant) {
        self.add(began.elapsed());
    }

    /// What becomes of `work`, and how long it took. Work that is dropped half-way has taken no time.
    pub async fn of<T>(&self, work: impl Future<Output = T>) -> T {
        let began = Instant::now();
        let done = work.await;
        self.add_since(began);
        done
    }

    /// In nanoseconds.
    pub fn now(&self) -> Spread {
        self.0.now()
    }
}

/// How many were done together.
#[derive(Debug)]
pub struct Sizes(Values);

impl Default for Sizes {
    fn default() -> Self {
        Self(Values::new(&SIZE_BOUNDS))
    }
}

impl Sizes {
    pub fn add(&self, size: usize) {
        self.0.add(size as u64);
    }

    pub fn now(&self) -> Spread {
        self.0.now()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_counted_at_the_first_bound_that_it_does_not_exceed() {
        let sizes = Sizes::default();
        for size in [0, 1, 2, 3, 4, 4_096, 4_097] {
            sizes.add(size);
        }
        let spread = sizes.now();
        assert_eq!((spread.counts[..3].to_vec(), spread.sum), (vec![2, 1, 2], 8_203));
        assert_eq!(spread.counts[spread.bounds.len() - 1..], [1, 1], "the last bound, and what is beyond");
        assert_eq!(spread.counts.iter().sum::<u64>(), 7);
    }

    #[test]
    fn durations_are_counted_in_nanoseconds() {
        let durations = Durations::default();
        durations.add(Duration::from_millis(3));
        durations.add(Duration::from_secs(3_600));
        let spread = durations.now();
        assert_eq!(spread.sum, 3_600_003_000_000);
        let at = |bound| spread.counts[spread.bounds.iter().position(|known| *known == bound).unwrap()];
        assert_eq!((at(2_500_000), at(5_000_000), *spread.counts.last().unwrap()), (0, 1, 1));
    }
}
