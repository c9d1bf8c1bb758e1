//! Which keys may be in the database though they are not in memory: asked before a state is looked for there, so that
//! a row that is new, as most are, costs no look-up.
//!
//! A Bloom filter: never wrong when it says no. Full, it says yes too often, which costs look-ups and nothing else.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher, Hash};

/// Bits that stand for one key: with ten bits a key, four give about one wrong yes in a hundred.
const PROBES: usize = 4;
/// Small enough for any budget, large enough to be of use.
const BYTES_MIN: usize = 1_024;

pub(super) struct Written {
    bits: Vec<u64>,
    is_empty: bool,
}

impl Written {
    pub fn new(bytes_max: usize) -> Self {
        Self { bits: vec![0; bytes_max.max(BYTES_MIN) / size_of::<u64>()], is_empty: true }
    }

    pub fn is_empty(&self) -> bool {
        self.is_empty
    }

    pub fn insert(&mut self, key: &impl Hash) {
        self.is_empty = false;
        for (word, bit) in self.places(key) {
            self.bits[word] |= 1 << bit;
        }
    }

    pub fn may_hold(&self, key: &impl Hash) -> bool {
        self.places(key).into_iter().all(|(word, bit)| self.bits[word] & (1 << bit) != 0)
    }

    /// Word and bit of each probe: two halves of one hash make as many as are wanted.
    fn places(&self, key: &impl Hash) -> [(usize, u32); PROBES] {
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(key);
        let (first, step) = (hash & u64::from(u32::MAX), (hash >> 32) | 1);
        let bits = self.bits.len() as u64 * u64::from(u64::BITS);
        std::array::from_fn(|n| {
            let bit = first.wrapping_add((n as u64).wrapping_mul(step)).wrapping_mul(0x9e37_79b9_7f4a_7c15) % bits;
            ((bit / u64::from(u64::BITS)) as usize, (bit % u64::from(u64::BITS)) as u32)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_never_denied_and_what_was_not_seldom_claimed() {
        let mut written = Written::new(20_000);
        for n in 0..16_000 {
            written.insert(&format!("order-{n}"));
        }
        assert!((0..16_000).all(|n| written.may_hold(&format!("order-{n}"))));
        let claimed = (16_000..32_000).filter(|n| written.may_hold(&format!("order-{n}"))).count();
        assert!(claimed < 16_000 * 3 / 100, "{claimed} of 16,000");
    }
}
