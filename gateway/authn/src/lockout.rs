//! Growing delays after wrong passwords, per user and per address.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use idm_types::Timestamp;

/// Wrong guesses that cost nothing: people mistype.
const FREE: u32 = 5;
const FIRST_DELAY_MS: u64 = 1_000;
const LAST_DELAY_MS: u64 = 15 * 60_000;
/// Entries per table; the oldest half goes when it is full, so that an attacker cannot take all memory.
const MAX_ENTRIES: usize = 65_536;
/// How long a proven password makes an address known for its user.
const KNOWN_MS: u64 = 24 * 3_600_000;

#[derive(Clone, Copy, Default)]
struct Failures {
    count: u32,
    until: u64,
    last: u64,
}

#[derive(Default)]
struct State {
    users: HashMap<String, Failures>,
    addresses: HashMap<IpAddr, Failures>,
    known: HashMap<(String, IpAddr), Known>,
}

/// A user who proved a password from an address, and the mistakes made there since.
#[derive(Clone, Copy)]
struct Known {
    until: u64,
    failures: Failures,
}

/// Who has to wait. Shared by all cores of a gateway and kept across configurations.
#[derive(Default)]
pub(crate) struct Lockouts(Mutex<State>);

/// What a guess may expect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// It is checked. `known`: this user proved a password from this address lately.
    Now { known: bool },
    /// Not before this many seconds have passed.
    Later { seconds: u64 },
}

impl Lockouts {
    /// Whether a guess for this user from this address is looked at. A user who is known at an address is
    /// not kept out by guesses that others make elsewhere.
    pub(crate) fn turn(&self, user: &str, address: IpAddr, now: Timestamp) -> Turn {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let address = network(address);
        let known = state.known.get(&(user.to_owned(), address)).filter(|known| now.0 < known.until);
        let until = match known {
            // What others do elsewhere, or with other names from here, is not this user's fault.
            Some(known) => known.failures.until,
            None => {
                let of_user = state.users.get(user).map_or(0, |failures| failures.until);
                of_user.max(state.addresses.get(&address).map_or(0, |failures| failures.until))
            }
        };
        if now.0 < until {
            Turn::Later { seconds: (until - now.0).div_ceil(1000) }
        } else {
            Turn::Now { known: known.is_some() }
        }
    }

    /// Notes the outcome of a guess.
    pub(crate) fn note(&self, user: &str, address: IpAddr, right: bool, now: Timestamp) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let address = network(address);
        if right {
            state.users.remove(user);
            state.addresses.remove(&address);
            bound(&mut state.known, |known| known.until);
            state
                .known
                .insert((user.to_owned(), address), Known { until: now.0 + KNOWN_MS, failures: Failures::default() });
        } else if let Some(known) = state.known.get_mut(&(user.to_owned(), address)) {
            fail(&mut known.failures, now);
        } else {
            bound(&mut state.users, |failures| failures.last);
            bound(&mut state.addresses, |failures| failures.last);
            fail(state.users.entry(user.to_owned()).or_default(), now);
            fail(state.addresses.entry(address).or_default(), now);
        }
    }
}

fn fail(failures: &mut Failures, now: Timestamp) {
    // Forgiven after a quiet hour.
    if now.0.saturating_sub(failures.last.max(failures.until)) > 3_600_000 {
        failures.count = 0;
    }
    failures.count = failures.count.saturating_add(1);
    failures.last = now.0;
    if let Some(beyond) = failures.count.checked_sub(FREE) {
        failures.until = now.0 + (FIRST_DELAY_MS << beyond.min(20)).min(LAST_DELAY_MS);
    }
}

/// An IPv6 caller owns a whole /64, so that is what is counted.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(ip) => IpAddr::V6((u128::from(ip) >> 64 << 64).into()),
        v4 => v4,
    }
}

fn bound<K: Eq + Hash + Clone, V>(table: &mut HashMap<K, V>, age: impl Fn(&V) -> u64) {
    if table.len() < MAX_ENTRIES {
        return;
    }
    let mut ages: Vec<u64> = table.values().map(&age).collect();
    let middle = ages.len() / 2;
    let (_, median, _) = ages.select_nth_unstable(middle);
    let median = *median;
    table.retain(|_, value| age(value) > median);
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const OTHER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));

    #[test]
    fn delays_grow_after_five_mistakes_and_end_with_the_right_password() {
        let lockouts = Lockouts::default();
        let mut now = Timestamp(10_000_000);
        for _ in 0..4 {
            lockouts.note("ana", ADDRESS, false, now);
            assert_eq!(lockouts.turn("ana", ADDRESS, now), Turn::Now { known: false });
        }
        for seconds in [1, 2, 4, 8, 16] {
            lockouts.note("ana", ADDRESS, false, now);
            assert_eq!(lockouts.turn("ana", ADDRESS, now), Turn::Later { seconds });
            assert_eq!(lockouts.turn("ana", OTHER, now), Turn::Later { seconds }, "the user waits everywhere");
            assert_eq!(lockouts.turn("bob", ADDRESS, now), Turn::Later { seconds }, "the address waits for everyone");
            assert_eq!(lockouts.turn("bob", OTHER, now), Turn::Now { known: false });
            now = Timestamp(now.0 + seconds * 1000);
        }
        lockouts.note("ana", ADDRESS, true, now);
        assert_eq!(lockouts.turn("ana", ADDRESS, now), Turn::Now { known: true });
    }

    #[test]
    fn a_victim_is_not_kept_out_where_it_is_known() {
        let lockouts = Lockouts::default();
        let now = Timestamp(10_000_000);
        lockouts.note("ana", ADDRESS, true, now);
        for _ in 0..50 {
            lockouts.note("ana", OTHER, false, now);
        }
        assert_eq!(lockouts.turn("ana", ADDRESS, now), Turn::Now { known: true });
        assert_eq!(lockouts.turn("ana", OTHER, now), Turn::Later { seconds: 900 });
    }

    #[test]
    fn the_tables_are_bounded() {
        let lockouts = Lockouts::default();
        for i in 0..200_000u32 {
            lockouts.note(&format!("user{i}"), IpAddr::from(i.to_be_bytes()), false, Timestamp(u64::from(i)));
        }
        let state = lockouts.0.lock().unwrap();
        assert!(state.users.len() <= MAX_ENTRIES && state.addresses.len() <= MAX_ENTRIES);
    }
}
