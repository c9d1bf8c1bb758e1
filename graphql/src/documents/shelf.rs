//! What was used of late, bounded by count and by bytes.

use lru::LruCache;

use super::Hash;

/// Keeps what was used last. Of what has no room, the one that was not used for longest goes first.
#[derive(Debug)]
pub(super) struct Shelf<V> {
    held: LruCache<Hash, (V, usize)>,
    count_max: usize,
    bytes_max: usize,
    bytes: usize,
}

impl<V> Shelf<V> {
    pub(super) fn new(count_max: usize, bytes_max: usize) -> Self {
        // unbounded as far as the map knows: the bounds are kept here, both in one place
        Self { held: LruCache::unbounded(), count_max, bytes_max, bytes: 0 }
    }

    pub(super) fn get(&mut self, key: &Hash) -> Option<&V> {
        self.held.get(key).map(|(value, _)| value)
    }

    /// Puts in what takes so many bytes; what takes more than there is room at all is not kept.
    pub(super) fn put(&mut self, key: Hash, value: V, bytes: usize) {
        if bytes > self.bytes_max || self.count_max == 0 {
            return;
        }
        if let Some((_, replaced)) = self.held.put(key, (value, bytes)) {
            self.bytes -= replaced;
        }
        self.bytes += bytes;
        while self.held.len() > self.count_max || self.bytes > self.bytes_max {
            let Some((_, (_, freed))) = self.held.pop_lru() else { return };
            self.bytes -= freed;
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.held.len()
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}
