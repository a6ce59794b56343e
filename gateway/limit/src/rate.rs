//! The rate of actions of an address: a number in each minute, counted from its first.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use idm_types::{Uptime, network};

use crate::bounded::keep_upper_half;

const MINUTE_MS: u64 = 60_000;
/// Networks that are counted. Beyond this number, those with the fewest requests are removed: they may then exceed
/// their rate a little, and no network is locked out because of others.
const MAX_NETWORKS: usize = 65_536;

struct Count {
    began: Uptime,
    taken: u32,
}

/// Counts by network, shared by all cores.
#[derive(Default)]
pub struct Rates(Mutex<HashMap<IpAddr, Count>>);

impl Rates {
    /// Counts one action; the error is the number of seconds after which the next is accepted.
    pub fn take(&self, address: IpAddr, per_minute: u32, now: Uptime) -> Result<(), u64> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let network = network(address);
        if counts.len() >= MAX_NETWORKS && !counts.contains_key(&network) {
            make_room(&mut counts, now);
        }
        let count = counts.entry(network).or_insert(Count { began: now, taken: 0 });
        if now.since(count.began) >= MINUTE_MS {
            *count = Count { began: now, taken: 0 };
        }
        if count.taken >= per_minute {
            return Err((MINUTE_MS - now.since(count.began)).div_ceil(1000));
        }
        count.taken += 1;
        Ok(())
    }
}

/// Removes networks whose minute is over, and if that is not enough the half with the fewest requests.
fn make_room(counts: &mut HashMap<IpAddr, Count>, now: Uptime) {
    counts.retain(|_, count| now.since(count.began) < MINUTE_MS);
    if counts.len() >= MAX_NETWORKS / 2 {
        keep_upper_half(counts, |count| (count.taken, count.began));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_address_has_its_count_in_each_minute() {
        let (rates, address, other) = (Rates::default(), IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        let at = |ms: u64| Uptime(1_000_000 + ms);
        assert_eq!(rates.take(address, 2, at(0)), Ok(()));
        assert_eq!(rates.take(address, 2, at(100)), Ok(()));
        assert_eq!(rates.take(address, 2, at(30_000)), Err(30));
        assert_eq!(rates.take(other, 2, at(30_000)), Ok(()));
        assert_eq!(rates.take(address, 2, at(60_000)), Ok(()));
    }

    #[test]
    fn a_flood_from_everywhere_shuts_nobody_out_and_frees_nobody() {
        let (rates, busy) = (Rates::default(), IpAddr::from([192, 0, 2, 1]));
        for _ in 0..10 {
            rates.take(busy, 10, Uptime(0)).unwrap();
        }
        for i in 0..200_000u32 {
            assert_eq!(rates.take(IpAddr::from((i | 1 << 30).to_be_bytes()), 10, Uptime(1)), Ok(()));
        }
        assert_eq!(rates.take(busy, 10, Uptime(2)), Err(60), "who asks most is remembered longest");
        assert!(rates.0.lock().unwrap().len() <= MAX_NETWORKS);
    }

    #[test]
    fn the_addresses_of_one_network_count_together() {
        let rates = Rates::default();
        let address = |last: u128| IpAddr::from(((0x2001_0db8 << 96) | last).to_be_bytes());
        assert_eq!(rates.take(address(1), 1, Uptime(0)), Ok(()));
        assert_eq!(rates.take(address(2), 1, Uptime(0)), Err(60));
        assert_eq!(rates.take(address(1 << 64), 1, Uptime(0)), Ok(()));
    }

    proptest! {
        /// The clock is the one that never jumps; whatever the times of the attempts, the limit is never passed, and a
        /// refusal says truly when the next one is taken.
        #[test]
        fn no_minute_has_more_than_its_limit(waits in proptest::collection::vec((0..4u8, 0..40_000u64), 1..200)) {
            const LIMIT: usize = 3;
            let (rates, mut now) = (Rates::default(), 0);
            let mut taken: HashMap<u8, Vec<u64>> = HashMap::new();
            for (last, wait) in waits {
                now += wait;
                let address = IpAddr::from([192, 0, 2, last]);
                let times = taken.entry(last).or_default();
                match rates.take(address, LIMIT as u32, Uptime(now)) {
                    Ok(()) => times.push(now),
                    Err(seconds) => {
                        prop_assert!((1..=60).contains(&seconds));
                        now += seconds * 1000;
                        prop_assert_eq!(rates.take(address, LIMIT as u32, Uptime(now)), Ok(()));
                        times.push(now);
                    }
                }
                // Two minutes meet in any span of one, so it holds twice the limit at most.
                let span = times.iter().filter(|time| now - **time < MINUTE_MS).count();
                prop_assert!(span <= 2 * LIMIT, "{} in a minute", span);
            }
            for times in taken.values() {
                let mut rest = &times[..];
                while let Some(began) = rest.first() {
                    let minute = rest.iter().take_while(|time| **time - began < MINUTE_MS).count();
                    prop_assert!(minute <= LIMIT, "{} in the minute from {}", minute, began);
                    rest = &rest[minute..];
                }
            }
        }
    }
}
