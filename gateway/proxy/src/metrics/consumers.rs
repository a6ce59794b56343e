//! The consumers that have numbers of their own: those with the most requests, up to a bound. All others are one.
//!
//! Each number only grows, whoever has numbers of its own at the moment: what a consumer is counted for while it has
//! none stays in the sum of the others, and when it gets one, that begins at 0.

use std::collections::{BTreeMap, HashMap};

use super::counts::Consumer;

type Counts = [u64; 3];

#[derive(Debug, Default)]
struct Entry {
    /// The counts at the last look.
    seen: Counts,
    /// The numbers of its own.
    own: Option<Counts>,
    /// Its recent requests; half of them count at the next look.
    recent: u64,
}

/// The consumers that have numbers of their own.
#[derive(Debug)]
pub(crate) struct Consumers {
    limit: usize,
    entries: HashMap<Consumer, Entry>,
    others: Counts,
}

impl Consumers {
    /// At most `limit` consumers have numbers of their own.
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, entries: HashMap::new(), others: Counts::default() }
    }

    /// Takes the counts of all consumers since the start of the process. Returns those with numbers of their own, and
    /// the sum of the others.
    pub(super) fn look(&mut self, counts: BTreeMap<Consumer, Counts>) -> (BTreeMap<&Consumer, Counts>, Counts) {
        let mut with_own = self.entries.values().filter(|entry| entry.own.is_some()).count();
        for (consumer, now) in counts {
            let entry = self.entries.entry(consumer).or_default();
            let more = [0, 1, 2].map(|at: usize| {
                let [now, seen] = [&now, &entry.seen].map(|counts| counts.get(at).copied().unwrap_or_default());
                now.saturating_sub(seen)
            });
            entry.recent = entry.recent / 2 + more.iter().sum::<u64>();
            entry.seen = now;
            if entry.own.is_none() && with_own < self.limit {
                entry.own = Some(Counts::default());
                with_own += 1;
            }
            let sum = entry.own.as_mut().unwrap_or(&mut self.others);
            sum.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
        }
        self.give_to_the_busiest();
        let own = self.entries.iter().filter_map(|(consumer, entry)| Some((consumer, entry.own?)));
        (own.collect(), self.others)
    }

    /// A consumer with more than twice the recent requests of one that has numbers of its own takes its place.
    fn give_to_the_busiest(&mut self) {
        let (mut with, mut without): (Vec<_>, Vec<_>) =
            self.entries.values_mut().partition(|entry| entry.own.is_some());
        with.sort_by_key(|entry| entry.recent);
        without.sort_by_key(|entry| std::cmp::Reverse(entry.recent));
        for (least, most) in with.into_iter().zip(without) {
            if most.recent <= least.recent.saturating_mul(2) {
                break;
            }
            least.own = None;
            most.own = Some(Counts::default());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::counts::ConsumerKind;
    use super::*;

    fn look(consumers: &mut Consumers, counts: &[(&str, u64)]) -> (Vec<(String, u64)>, u64) {
        let of = |name: &str| Consumer { policy: "a/p".into(), kind: ConsumerKind::Credential, name: name.into() };
        let counts = counts.iter().map(|(name, count)| (of(name), [*count, 0, 0])).collect();
        let (own, others) = consumers.look(counts);
        (own.into_iter().map(|(consumer, [count, ..])| (consumer.name.clone(), count)).collect(), others[0])
    }

    #[test]
    fn up_to_the_limit_everyone_has_exact_numbers() {
        let mut consumers = Consumers::new(2);
        let rows = |ana, ben| (vec![("ana".to_owned(), ana), ("ben".to_owned(), ben)], 0);
        assert_eq!(look(&mut consumers, &[("ana", 5), ("ben", 1)]), rows(5, 1));
        assert_eq!(look(&mut consumers, &[("ana", 5), ("ben", 9)]), rows(5, 9));
    }

    #[test]
    fn the_busiest_get_numbers_of_their_own_and_no_number_falls() {
        let mut consumers = Consumers::new(1);
        assert_eq!(look(&mut consumers, &[("ana", 5)]), (vec![("ana".into(), 5)], 0));
        assert_eq!(look(&mut consumers, &[("ana", 5), ("ben", 4)]), (vec![("ana".into(), 5)], 4));
        // The earlier counts of ben stay where it was counted.
        assert_eq!(look(&mut consumers, &[("ana", 5), ("ben", 104)]), (vec![("ben".into(), 0)], 104));
        assert_eq!(look(&mut consumers, &[("ana", 6), ("ben", 110)]), (vec![("ben".into(), 6)], 105));
    }

    #[test]
    fn without_places_all_are_one() {
        assert_eq!(look(&mut Consumers::new(0), &[("ana", 5), ("ben", 4)]), (vec![], 9));
    }
}
