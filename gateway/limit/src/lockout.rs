//! Growing delays after wrong passwords, per user and per address.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use idm_types::{Uptime, network};

use crate::bounded::keep_upper_half;

/// Wrong guesses without a delay, because people mistype.
pub const FREE: u32 = 5;
/// The delay after the last of those; it doubles with each further one.
pub const FIRST_DELAY_MS: u64 = 1_000;
/// The longest delay.
pub const LAST_DELAY_MS: u64 = 15 * 60_000;
/// Failures are forgotten after this time without another one.
pub const FORGET_MS: u64 = 3_600_000;
/// Entries per table; when it is full the least suspicious half is removed, so that an attacker can neither take all
/// memory nor make the gateway forget the addresses that guess.
const MAX_ENTRIES: usize = 65_536;
/// The time for which a proven password makes an address known for its user.
pub const KNOWN_MS: u64 = 24 * 3_600_000;

#[derive(Clone, Copy, Default)]
struct Failures {
    count: u32,
    until: u64,
    last: u64,
}

#[derive(Default)]
struct State {
    users: HashMap<String, Failures>,
    /// Failures with one account, which count for the user as well: those that the account's owner takes back.
    accounts: HashMap<String, Failures>,
    addresses: HashMap<IpAddr, Failures>,
    known: HashMap<(String, IpAddr), Known>,
}

/// The user of a guess.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct User<'a> {
    /// The name by which wrong guesses are counted: the same for every spelling that a source of people may take for
    /// the same account.
    pub name: &'a str,
    /// The account whose password a right guess proves. Its owner takes back failures with this account alone: those
    /// with another account of the same name may be guesses at somebody else's password.
    pub account: &'a str,
}

impl<'a> From<&'a str> for User<'a> {
    /// A user whose name has one spelling and belongs to one account.
    fn from(name: &'a str) -> Self {
        Self { name, account: name }
    }
}

/// A user who proved a password from an address, and the mistakes made there since.
#[derive(Clone, Copy)]
struct Known {
    until: u64,
    failures: Failures,
}

/// Users and addresses that must wait. Shared by all cores of a gateway and kept across configurations.
#[derive(Default)]
pub struct Lockouts(Mutex<State>);

/// The verdict on a guess before it is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guess {
    /// It is checked.
    Now {
        /// Whether this user proved a password from this address recently.
        known: bool,
    },
    /// Not before this number of seconds has passed.
    Later {
        /// The seconds.
        seconds: u64,
    },
}

impl Lockouts {
    /// Whether a guess for this user from this address is checked. A user who is known at an address is not locked out
    /// by guesses that others make at other addresses.
    pub fn turn<'u>(&self, user: impl Into<User<'u>>, address: IpAddr, now: Uptime) -> Guess {
        let User { name, account } = user.into();
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let address = network(address);
        let known = state.known.get(&(account.to_owned(), address)).filter(|known| now.0 < known.until);
        let until = match known {
            // Failures at other addresses, or with other names from this one, do not count against this user.
            Some(known) => known.failures.until,
            None => {
                let of_user = state.users.get(name).map_or(0, |failures| failures.until);
                of_user.max(state.addresses.get(&address).map_or(0, |failures| failures.until))
            }
        };
        if now.0 < until {
            Guess::Later { seconds: (until - now.0).div_ceil(1000) }
        } else {
            Guess::Now { known: known.is_some() }
        }
    }

    /// Records a wrong guess.
    pub fn wrong<'u>(&self, user: impl Into<User<'u>>, address: IpAddr, now: Uptime) {
        let User { name, account } = user.into();
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let address = network(address);
        if let Some(known) = state.known.get_mut(&(account.to_owned(), address)).filter(|known| now.0 < known.until) {
            return fail(&mut known.failures, now);
        }
        bound(&mut state.users, |failures| (failures.count, failures.last));
        bound(&mut state.accounts, |failures| (failures.count, failures.last));
        bound(&mut state.addresses, |failures| (failures.count, failures.last));
        fail(state.users.entry(name.to_owned()).or_default(), now);
        fail(state.accounts.entry(account.to_owned()).or_default(), now);
        fail(state.addresses.entry(address).or_default(), now);
    }

    /// Records that a user proved a password and was let in. This removes the failures with their account, also those
    /// of the address; failures with other accounts remain, otherwise the owner of one could guess at all others. Where
    /// the account is known, failures at other addresses remain: a program that logs in all the time would otherwise
    /// give others new guesses all the time.
    pub fn admitted<'u>(&self, user: impl Into<User<'u>>, address: IpAddr, now: Uptime) {
        let User { name, account } = user.into();
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let address = network(address);
        let proved = Known { until: now.0 + KNOWN_MS, failures: Failures::default() };
        if let Some(known) = state.known.get_mut(&(account.to_owned(), address)).filter(|known| now.0 < known.until) {
            *known = proved;
            return;
        }
        let forgiven = state.accounts.remove(account).map_or(0, |failures| failures.count);
        if let Some(failures) = state.users.get_mut(name) {
            forgive(failures, forgiven);
            if failures.count == 0 {
                state.users.remove(name);
            }
        }
        if let Some(failures) = state.addresses.get_mut(&address) {
            forgive(failures, forgiven);
        }
        bound(&mut state.known, |known| known.until);
        state.known.insert((account.to_owned(), address), proved);
    }
}

/// Takes failures back, and the delay that is not due without them.
fn forgive(failures: &mut Failures, count: u32) {
    failures.count = failures.count.saturating_sub(count);
    if failures.count < FREE {
        failures.until = 0;
    }
}

fn fail(failures: &mut Failures, now: Uptime) {
    if now.0.saturating_sub(failures.last.max(failures.until)) > FORGET_MS {
        failures.count = 0;
    }
    failures.count = failures.count.saturating_add(1);
    failures.last = now.0;
    if let Some(beyond) = failures.count.checked_sub(FREE) {
        failures.until = now.0 + (FIRST_DELAY_MS << beyond.min(20)).min(LAST_DELAY_MS);
    }
}

/// Keeps the half that ranks highest when a table is full.
fn bound<K: Eq + Hash, V, R: Ord + Copy>(table: &mut HashMap<K, V>, rank: impl Fn(&V) -> R) {
    if table.len() >= MAX_ENTRIES {
        keep_upper_half(table, rank);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ADDRESS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const OTHER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));

    #[test]
    fn delays_grow_after_five_mistakes_and_end_with_the_right_password() {
        let lockouts = Lockouts::default();
        let mut now = Uptime(10_000_000);
        for _ in 0..4 {
            lockouts.wrong("ana", ADDRESS, now);
            assert_eq!(lockouts.turn("ana", ADDRESS, now), Guess::Now { known: false });
        }
        for seconds in [1, 2, 4, 8, 16] {
            lockouts.wrong("ana", ADDRESS, now);
            assert_eq!(lockouts.turn("ana", ADDRESS, now), Guess::Later { seconds });
            assert_eq!(lockouts.turn("ana", OTHER, now), Guess::Later { seconds }, "the user waits everywhere");
            assert_eq!(lockouts.turn("bob", ADDRESS, now), Guess::Later { seconds }, "the address waits for everyone");
            assert_eq!(lockouts.turn("bob", OTHER, now), Guess::Now { known: false });
            now = Uptime(now.0 + seconds * 1000);
        }
        lockouts.admitted("ana", ADDRESS, now);
        assert_eq!(lockouts.turn("ana", ADDRESS, now), Guess::Now { known: true });
    }

    #[test]
    fn a_victim_is_not_kept_out_where_it_is_known() {
        let lockouts = Lockouts::default();
        let now = Uptime(10_000_000);
        lockouts.admitted("ana", ADDRESS, now);
        for _ in 0..50 {
            lockouts.wrong("ana", OTHER, now);
        }
        assert_eq!(lockouts.turn("ana", ADDRESS, now), Guess::Now { known: true });
        assert_eq!(lockouts.turn("ana", OTHER, now), Guess::Later { seconds: 900 });
    }

    #[test]
    fn a_program_that_logs_in_all_the_time_gives_others_no_new_guesses() {
        let (lockouts, now) = (Lockouts::default(), Uptime(0));
        lockouts.admitted("robot", ADDRESS, now);
        let guesses = (0..100u8).filter(|guess| {
            lockouts.admitted("robot", ADDRESS, now);
            let from = IpAddr::from([198, 51, 100, *guess]);
            let is_checked = lockouts.turn("robot", from, now) == Guess::Now { known: false };
            if is_checked {
                lockouts.wrong("robot", from, now);
            }
            is_checked
        });
        assert_eq!(guesses.count(), FREE as usize);
        assert_eq!(lockouts.turn("robot", ADDRESS, now), Guess::Now { known: true });
    }

    #[test]
    fn the_tables_are_bounded() {
        let lockouts = Lockouts::default();
        for i in 0..200_000u32 {
            lockouts.wrong(format!("user{i}").as_str(), IpAddr::from(i.to_be_bytes()), Uptime(u64::from(i)));
        }
        let state = lockouts.0.lock().unwrap();
        for entries in [state.users.len(), state.accounts.len(), state.addresses.len()] {
            assert!(entries <= MAX_ENTRIES);
        }
    }

    #[test]
    fn who_has_one_account_cannot_guess_at_all_others() {
        let (lockouts, now) = (Lockouts::default(), Uptime(0));
        for victim in 0..5 {
            lockouts.wrong(format!("user{victim}").as_str(), ADDRESS, now);
            lockouts.admitted("mallory", ADDRESS, now);
        }
        assert_eq!(lockouts.turn("user9", ADDRESS, now), Guess::Later { seconds: 1 });
        let office = Lockouts::default();
        for user in 0..9 {
            office.wrong(format!("user{user}").as_str(), ADDRESS, now);
            office.admitted(format!("user{user}").as_str(), ADDRESS, now);
        }
        assert_eq!(office.turn("user9", ADDRESS, now), Guess::Now { known: false }, "mistakes that were mended");
    }

    #[test]
    fn a_right_password_takes_no_guess_at_another_account_of_the_name_back() {
        let (lockouts, now) = (Lockouts::default(), Uptime(0));
        let (victim, own) = (User { name: "ana", account: "ana" }, User { name: "ana", account: "Ana" });
        for _ in 0..5 {
            lockouts.wrong(victim, OTHER, now);
            lockouts.admitted(own, ADDRESS, now);
        }
        for account in ["ana", "ANA"] {
            let turn = lockouts.turn(User { account, ..victim }, ADDRESS, now);
            assert_eq!(turn, Guess::Later { seconds: 1 }, "{account}: counted over all spellings");
        }
        assert_eq!(lockouts.turn(own, ADDRESS, now), Guess::Now { known: true });
        lockouts.admitted(victim, OTHER, now);
        assert_eq!(lockouts.turn(User { account: "ANA", ..victim }, ADDRESS, now), Guess::Now { known: false });
    }

    #[test]
    fn a_flood_of_strangers_does_not_unlock_a_user() {
        let (lockouts, now) = (Lockouts::default(), Uptime(0));
        for _ in 0..50 {
            lockouts.wrong("ana", OTHER, now);
        }
        for i in 0..200_000u32 {
            lockouts.wrong(format!("user{i}").as_str(), IpAddr::from((i | 1 << 30).to_be_bytes()), Uptime(1));
        }
        assert_eq!(lockouts.turn("ana", ADDRESS, Uptime(1)), Guess::Later { seconds: 900 });
    }

    proptest! {
        /// However an attacker spreads guesses over addresses and time, a user whom nobody lets in is guessed at no
        /// more often than the delays allow.
        #[test]
        fn guesses_at_a_user_are_bounded(waits in proptest::collection::vec((0..200u8, 0..120_000u64), 1..400)) {
            let (lockouts, mut now, mut looked_at) = (Lockouts::default(), 0, 0u64);
            for (last, wait) in waits {
                now += wait;
                let address = IpAddr::from([198, 51, 100, last]);
                match lockouts.turn("ana", address, Uptime(now)) {
                    Guess::Now { known } => {
                        prop_assert!(!known);
                        lockouts.wrong("ana", address, Uptime(now));
                        looked_at += 1;
                    }
                    Guess::Later { seconds } => prop_assert!((1..=LAST_DELAY_MS / 1000).contains(&seconds)),
                }
                // Five that are free, ten while the delay doubles up to its end, and one for each delay after that; a
                // quiet hour begins anew.
                let rounds = now / 3_600_000 + 1;
                let bound = rounds * u64::from(FREE + 11) + now / LAST_DELAY_MS;
                prop_assert!(looked_at <= bound, "{} guesses in {} ms", looked_at, now);
            }
        }
    }
}
