//! What an order may have several of, by id: its payments, its shipments.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// How many of a kind are kept for one order. One is usual and a few are possible; a row must not grow without bound.
pub const KEPT_MAX: usize = 100;

/// The states of a facet by id, the first [`KEPT_MAX`] of them. Each is folded from a stream of its own, so they do not
/// depend on how the streams lie in the feed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(bound(deserialize = "K: Ord + Deserialize<'de>, V: Deserialize<'de>"))]
pub struct Several<K, V> {
    /// How many there are, those that are not kept included.
    pub count: u32,
    pub kept: BTreeMap<K, V>,
}

impl<K, V> Default for Several<K, V> {
    fn default() -> Self {
        Self { count: 0, kept: BTreeMap::new() }
    }
}

impl<K: Ord, V> Several<K, V> {
    /// One more, or one that begins again.
    pub fn begin(&mut self, id: K, state: V) {
        if let Some(known) = self.kept.get_mut(&id) {
            *known = state;
            return;
        }
        self.count = self.count.saturating_add(1);
        if self.kept.len() < KEPT_MAX {
            self.kept.insert(id, state);
        }
    }

    /// Changes one that has begun. Of one that is not kept nothing is noted.
    pub fn change(&mut self, id: &K, change: impl FnOnce(&mut V)) -> Result<(), NotBegun> {
        let is_whole = usize::try_from(self.count).is_ok_and(|count| count == self.kept.len());
        match self.kept.get_mut(id) {
            Some(state) => change(state),
            None if is_whole => return Err(NotBegun),
            None => {}
        }
        Ok(())
    }
}

/// An event of something that has not begun: a stream without its first event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the first event of the stream is missing")]
pub struct NotBegun;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_beyond_the_bound_are_counted_and_not_kept() {
        let mut several = Several::default();
        for id in 0..=KEPT_MAX {
            several.begin(id, 0);
        }
        assert_eq!((several.count as usize, several.kept.len()), (KEPT_MAX + 1, KEPT_MAX));
        assert_eq!(several.change(&0, |state| *state = 7), Ok(()));
        assert_eq!(several.change(&KEPT_MAX, |state| *state = 7), Ok(()), "nothing is known of it");
        assert_eq!(several.kept.values().sum::<i32>(), 7);
        several.begin(0, 1);
        assert_eq!((several.count as usize, several.kept[&0]), (KEPT_MAX + 1, 1), "those kept start over");
    }

    #[test]
    fn what_has_not_begun_cannot_change() {
        let mut several = Several::default();
        several.begin(1, 'a');
        assert_eq!(several.change(&2, |_| {}), Err(NotBegun));
    }
}
