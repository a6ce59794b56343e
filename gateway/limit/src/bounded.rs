//! Tables of bounded size: the choice of the entries that a full table removes.

use std::collections::HashMap;
use std::hash::Hash;

/// The median rank; `None` for an empty table.
pub fn median<R: Ord + Copy>(ranks: impl Iterator<Item = R>) -> Option<R> {
    let mut ranks: Vec<R> = ranks.collect();
    let middle = ranks.len() / 2;
    (middle < ranks.len()).then(|| *ranks.select_nth_unstable(middle).1)
}

/// Removes the entries whose rank is at most the median.
pub fn keep_upper_half<K: Eq + Hash, V, R: Ord + Copy>(table: &mut HashMap<K, V>, rank: impl Fn(&V) -> R) {
    let median = median(table.values().map(&rank));
    table.retain(|_, value| median.is_none_or(|median| rank(value) > median));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_upper_half_stays() {
        let mut table: HashMap<u32, u32> = (0..10).map(|n| (n, n)).collect();
        keep_upper_half(&mut table, |rank| *rank);
        let mut kept: Vec<u32> = table.into_keys().collect();
        kept.sort_unstable();
        assert_eq!(kept, [6, 7, 8, 9]);
        keep_upper_half(&mut HashMap::<u32, u32>::new(), |rank| *rank);
    }
}
