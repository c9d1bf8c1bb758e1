//! What is counted and timed where it happens, for whoever looks later.
//!
//! - [`Count`] only grows, and [`Counts`] are one for each of a few kinds; a [`Level`] goes up and down.
//! - [`spread`]: how durations and sizes are spread.
//! - [`connections`]: how a pool is used. [`failure`]: why databases fail, in few words.
//!
//! A measurement is a few atomic additions: no lock, nothing allocated. Each is owned by what it measures, so that two
//! platforms in one process have each their own, and what is dropped is not told any more. Under which name it is told is
//! for whoever tells it.

pub mod connections;
pub mod failure;
pub mod spread;

use std::{
    marker::PhantomData,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

pub use connections::{Connections, DatabaseUse};
pub use failure::Failure;
pub use spread::{Durations, Sizes, Spread};

/// Something that only grows, from 0 at the start of the process.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    pub fn one_more(&self) {
        self.add(1);
    }

    pub fn add(&self, more: u64) {
        self.0.fetch_add(more, Relaxed);
    }

    pub fn now(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// One of a few kinds, which are all known beforehand: labels are made of these.
pub trait Kind: Copy + Send + Sync + 'static {
    /// In the order of [`index`](Self::index).
    const ALL: &'static [Self];

    /// Its place in [`ALL`](Self::ALL).
    fn index(self) -> usize;

    /// A word in snake_case.
    fn name(self) -> &'static str;
}

/// A [`Count`] for each kind.
#[derive(Debug)]
pub struct Counts<K> {
    counts: Box<[Count]>,
    kind: PhantomData<fn(K)>,
}

impl<K: Kind> Default for Counts<K> {
    fn default() -> Self {
        Self { counts: K::ALL.iter().map(|_| Count::default()).collect(), kind: PhantomData }
    }
}

impl<K: Kind> Counts<K> {
    pub fn one_more(&self, kind: K) {
        self.counts[kind.index()].one_more();
    }

    /// Of each kind, also of those that there was none of: a rate needs something to begin with.
    pub fn now(&self) -> impl Iterator<Item = (&'static str, u64)> {
        K::ALL.iter().zip(&self.counts).map(|(kind, count)| (kind.name(), count.now()))
    }
}

/// How many there are now. Clones are the same level.
#[derive(Debug, Clone, Default)]
pub struct Level(Arc<AtomicU64>);

impl Level {
    /// One more, until what this gives is dropped.
    pub fn enter(&self) -> Entered {
        self.enter_with(1)
    }

    /// So many more, until what this gives is dropped.
    pub fn enter_with(&self, amount: u64) -> Entered {
        self.0.fetch_add(amount, Relaxed);
        Entered { level: Arc::clone(&self.0), amount }
    }

    pub fn now(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A part of a [`Level`].
#[derive(Debug)]
pub struct Entered {
    level: Arc<AtomicU64>,
    amount: u64,
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.level.fetch_sub(self.amount, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_what_has_entered_and_not_left() {
        let level = Level::default();
        let (one, many) = (level.enter(), level.clone().enter_with(7));
        assert_eq!(level.now(), 8);
        drop(one);
        assert_eq!(level.now(), 7);
        drop(many);
        assert_eq!(level.now(), 0);
    }

    #[test]
    fn every_kind_is_counted_and_told_from_the_beginning() {
        let counts = Counts::<Failure>::default();
        counts.one_more(Failure::Deadlock);
        counts.one_more(Failure::Deadlock);
        let told: Vec<_> = counts.now().collect();
        assert_eq!(told.len(), Failure::ALL.len());
        assert!(told.contains(&("deadlock", 2)) && told.contains(&("lock_timeout", 0)), "{told:?}");
    }
}
