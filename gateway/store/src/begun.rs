//! Sign-ins of callers who are not known yet, in a table of their own: strangers can fill it, and displace only each
//! other's entries.
//!
//! A full table drops the oldest entry of the network that has the most. So a flood from one network displaces its own
//! entries; no entry is refused, and entries of authenticated callers are not affected.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::net::IpAddr;

use idm_types::{Uptime, network};

use crate::Key;

/// Entries; each may have a page of a kilobyte in it.
pub(crate) const CAPACITY: usize = 32_768;
/// The interval at which a full table is searched for expired entries.
const SWEEP_MS: u64 = 10_000;

struct Entry {
    value: Vec<u8>,
    until: Uptime,
}

pub(crate) struct Begun {
    capacity: usize,
    entries: HashMap<Key, Entry>,
    /// The keys of each network, the oldest first.
    of: HashMap<IpAddr, VecDeque<Key>>,
    /// The number of entries of each network.
    most: BTreeSet<(usize, IpAddr)>,
    swept: Uptime,
}

impl Begun {
    pub(crate) fn new(capacity: usize) -> Self {
        Self { capacity, entries: HashMap::new(), of: HashMap::new(), most: BTreeSet::new(), swept: Uptime(0) }
    }

    pub(crate) fn get(&self, key: &Key, now: Uptime) -> Option<Vec<u8>> {
        self.entries.get(key).filter(|entry| now < entry.until).map(|entry| entry.value.clone())
    }

    /// Keeps an entry, and returns the key that was removed for it.
    pub(crate) fn put(&mut self, from: IpAddr, key: Key, value: Vec<u8>, until: Uptime, now: Uptime) -> Option<Key> {
        let from = network(from);
        if let Some(entry) = self.entries.get_mut(&key) {
            *entry = Entry { value, until };
            return None;
        }
        if self.entries.len() >= self.capacity && now.since(self.swept) >= SWEEP_MS {
            self.sweep(now);
        }
        let forgotten = if self.entries.len() >= self.capacity { self.forget() } else { None };
        self.entries.insert(key, Entry { value, until });
        let keys = self.of.entry(from).or_default();
        self.most.remove(&(keys.len(), from));
        keys.push_back(key);
        self.most.insert((keys.len(), from));
        forgotten
    }

    /// The oldest entry of the network that has the most.
    fn forget(&mut self) -> Option<Key> {
        let (number, greedy) = self.most.pop_last()?;
        let keys = self.of.get_mut(&greedy)?;
        let oldest = keys.pop_front();
        if keys.is_empty() {
            self.of.remove(&greedy);
        } else {
            self.most.insert((number - 1, greedy));
        }
        let oldest = oldest?;
        self.entries.remove(&oldest);
        Some(oldest)
    }

    fn sweep(&mut self, now: Uptime) {
        self.swept = now;
        let entries = &mut self.entries;
        entries.retain(|_, entry| now < entry.until);
        self.of.retain(|_, keys| {
            keys.retain(|key| entries.contains_key(key));
            !keys.is_empty()
        });
        self.most = self.of.iter().map(|(from, keys)| (keys.len(), *from)).collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: usize) -> Key {
        Key::of(&[&number.to_string()])
    }

    const FLOOD: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const ANA: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));

    #[test]
    fn a_flood_forgets_its_own_oldest_and_nothing_of_others() {
        let mut begun = Begun::new(CAPACITY);
        let (now, until) = (Uptime(0), Uptime(900_000));
        let ana = Key::of(&["ana"]);
        assert_eq!(begun.put(ANA, ana, b"a".to_vec(), until, now), None);
        for number in 0..CAPACITY - 1 {
            assert_eq!(begun.put(FLOOD, key(number), Vec::new(), until, now), None);
        }
        for number in 0..CAPACITY {
            assert!(begun.put(FLOOD, key(CAPACITY + number), Vec::new(), until, now).is_some());
        }
        assert_eq!(begun.entries.len(), CAPACITY);
        assert_eq!(begun.get(&ana, now).as_deref(), Some(&b"a"[..]));
        assert_eq!(begun.get(&key(0), now), None, "the oldest of the flood");
        assert!(begun.get(&key(2 * CAPACITY - 1), now).is_some(), "the newest of the flood");
        // A new network's entry is kept, too.
        assert!(begun.put(ANA, key(usize::MAX), Vec::new(), until, now).is_some());
        assert!(begun.get(&key(usize::MAX), now).is_some());
    }

    #[test]
    fn what_has_ended_makes_room_before_anything_is_forgotten() {
        let mut begun = Begun::new(CAPACITY);
        for number in 0..CAPACITY {
            begun.put(FLOOD, key(number), Vec::new(), Uptime(100), Uptime(0));
        }
        assert_eq!(begun.get(&key(0), Uptime(100)), None);
        let now = Uptime(SWEEP_MS);
        assert_eq!(begun.put(ANA, Key::of(&["ana"]), Vec::new(), Uptime(SWEEP_MS + 100), now), None);
        assert_eq!((begun.entries.len(), begun.of.len(), begun.most.len()), (1, 1, 1));
    }
}
