use std::sync::atomic::{AtomicU64, Ordering};

/// One observation of a histogram's bucket, with the distributed trace that it is part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exemplar {
    /// The trace.
    pub trace: u128,
    /// The observed value, in microseconds.
    pub us: u64,
    /// When, in milliseconds since 1970.
    pub time: u64,
}

/// The place of one exemplar. One thread writes it; a reader gets one that was written as a whole, or none.
#[derive(Debug, Default)]
pub(crate) struct Place {
    /// Odd while it is being written; 0 before it was written for the first time.
    turn: AtomicU64,
    trace: [AtomicU64; 2],
    us: AtomicU64,
    time: AtomicU64,
}

impl Place {
    pub(crate) fn put(&self, Exemplar { trace, us, time }: Exemplar) {
        let turn = self.turn.load(Ordering::Relaxed);
        // The values are stored with release as well: a reader that sees one of them sees that writing had begun.
        self.turn.store(turn.wrapping_add(1), Ordering::Relaxed);
        for (place, value) in self.values().into_iter().zip([(trace >> 64) as u64, trace as u64, us, time]) {
            place.store(value, Ordering::Release);
        }
        self.turn.store(turn.wrapping_add(2), Ordering::Release);
    }

    pub(crate) fn get(&self) -> Option<Exemplar> {
        let before = self.turn.load(Ordering::Acquire);
        if before == 0 || before % 2 == 1 {
            return None;
        }
        let [high, low, us, time] = self.values().map(|value| value.load(Ordering::Acquire));
        let after = self.turn.load(Ordering::Relaxed);
        (before == after).then_some(Exemplar { trace: u128::from(high) << 64 | u128::from(low), us, time })
    }

    fn values(&self) -> [&AtomicU64; 4] {
        let [high, low] = &self.trace;
        [high, low, &self.us, &self.time]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_reads_half_an_exemplar() {
        let place = Place::default();
        assert_eq!(place.get(), None);
        let of = |n: u64| Exemplar { trace: u128::from(n) << 64 | u128::from(n), us: n, time: n };
        std::thread::scope(|scope| {
            scope.spawn(|| (1..=300_000).for_each(|n| place.put(of(n))));
            loop {
                let Some(read) = place.get() else { continue };
                assert_eq!(read, of(read.us));
                if read.us == 300_000 {
                    break;
                }
            }
        });
    }
}
