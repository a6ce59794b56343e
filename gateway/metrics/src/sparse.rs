use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use crate::Counter;

const CELLS: usize = 8;

/// Counters by a small key, of which only a few of very many keys occur. One thread counts, every thread may read.
///
/// A key is found by looking at the keys in the order in which they first occurred: the usual one is the first. Memory
/// is allocated when a key is new, and never moved.
#[derive(Debug, Default)]
pub struct Sparse {
    cells: [Cell; CELLS],
    more: OnceLock<Box<Sparse>>,
}

#[derive(Debug, Default)]
struct Cell {
    /// The key and one: 0 is an empty cell.
    key: AtomicU32,
    count: Counter,
}

impl Sparse {
    /// Counts one more of this key, which is below `u32::MAX`.
    pub fn count(&self, key: u32) {
        let (key, mut part) = (key.wrapping_add(1), self);
        loop {
            for cell in &part.cells {
                let taken = cell.key.load(Relaxed);
                if taken == key {
                    return cell.count.add(1);
                }
                if taken == 0 {
                    cell.count.add(1);
                    return cell.key.store(key, Relaxed);
                }
            }
            part = part.more.get_or_init(Box::default);
        }
    }

    /// The keys that occurred, with their counts.
    pub fn counts(&self) -> impl Iterator<Item = (u32, u64)> {
        let parts = std::iter::successors(Some(self), |part| part.more.get().map(|more| &**more));
        let cells = parts.flat_map(|part| &part.cells);
        cells.filter_map(|cell| Some((cell.key.load(Relaxed).checked_sub(1)?, cell.count.get())))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_key_has_its_count(keys in proptest::collection::vec(0_u32..40, 0..300)) {
            let (counts, mut expected) = (Sparse::default(), BTreeMap::new());
            for key in keys {
                counts.count(key);
                *expected.entry(key).or_insert(0) += 1;
            }
            prop_assert_eq!(counts.counts().collect::<BTreeMap<_, _>>(), expected);
        }
    }

    #[test]
    fn whoever_reads_meanwhile_sees_each_count_grow() {
        let counts = Sparse::default();
        std::thread::scope(|scope| {
            scope.spawn(|| (0..200_000).for_each(|n| counts.count(n % 20)));
            let mut before = BTreeMap::new();
            while before.values().sum::<u64>() < 200_000 {
                let now: BTreeMap<u32, u64> = counts.counts().collect();
                assert!(before.iter().all(|(key, count)| now.get(key) >= Some(count)), "{before:?} {now:?}");
                before = now;
            }
        });
    }
}
