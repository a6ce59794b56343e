//! A memory in this process.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use idm_types::Timestamp;

use crate::{Key, StoreError};

/// Entries; when there are more, new ones are refused until old ones end. Forgetting would let something in twice.
const MAX_ENTRIES: usize = 500_000;

struct Entry {
    value: Vec<u8>,
    until: u64,
}

#[derive(Default)]
pub(crate) struct Here(Mutex<HashMap<Key, Entry>>);

impl Here {
    fn with<T>(&self, act: impl FnOnce(&mut HashMap<Key, Entry>) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn claim(&self, key: &Key, for_ms: u64, now: Timestamp) -> Result<bool, StoreError> {
        self.with(|entries| {
            if entries.get(key).is_some_and(|entry| now.0 < entry.until) {
                return Ok(false);
            }
            make_room(entries, now)?;
            entries.insert(*key, Entry { value: Vec::new(), until: now.0.saturating_add(for_ms) });
            Ok(true)
        })
    }

    pub(crate) fn get(&self, key: &Key, now: Timestamp) -> Option<Vec<u8>> {
        self.with(|entries| entries.get(key).filter(|entry| now.0 < entry.until).map(|entry| entry.value.clone()))
    }

    pub(crate) fn renew(&self, key: &Key, for_ms: u64, now: Timestamp) -> Option<Vec<u8>> {
        self.with(|entries| {
            let entry = entries.get_mut(key).filter(|entry| now.0 < entry.until)?;
            entry.until = now.0.saturating_add(for_ms);
            Some(entry.value.clone())
        })
    }

    pub(crate) fn settle(&self, key: &Key, value: Vec<u8>, for_ms: u64, now: Timestamp) -> Result<Vec<u8>, StoreError> {
        if let Some(kept) = self.renew(key, for_ms, now) {
            return Ok(kept);
        }
        self.with(|entries| {
            make_room(entries, now)?;
            // Someone may have come between the two looks.
            let entry = entries.entry(*key).or_insert_with(|| Entry { value: Vec::new(), until: 0 });
            if now.0 >= entry.until {
                *entry = Entry { value, until: now.0.saturating_add(for_ms) };
            }
            Ok(entry.value.clone())
        })
    }

    pub(crate) fn put(&self, key: &Key, value: Vec<u8>, for_ms: u64, now: Timestamp) -> Result<(), StoreError> {
        self.with(|entries| {
            make_room(entries, now)?;
            entries.insert(*key, Entry { value, until: now.0.saturating_add(for_ms) });
            Ok(())
        })
    }

    pub(crate) fn replace(&self, key: &Key, expected: &[u8], value: Vec<u8>, now: Timestamp) -> bool {
        self.with(|entries| match entries.get_mut(key) {
            Some(entry) if now.0 < entry.until && entry.value == expected => {
                entry.value = value;
                true
            }
            _ => false,
        })
    }

    pub(crate) fn remove(&self, key: &Key) {
        self.with(|entries| drop(entries.remove(key)));
    }
}

fn make_room(entries: &mut HashMap<Key, Entry>, now: Timestamp) -> Result<(), StoreError> {
    if entries.len() >= MAX_ENTRIES {
        entries.retain(|_, entry| now.0 < entry.until);
    }
    if entries.len() < MAX_ENTRIES {
        Ok(())
    } else {
        Err(StoreError("the memory of this process is full; use a shared store".into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T0: Timestamp = Timestamp(1_000_000);
    const LATER: Timestamp = Timestamp(1_000_100);

    #[test]
    fn a_claim_is_given_once_until_it_ends() {
        let here = Here::default();
        let key = Key::of(&["k"]);
        assert_eq!(here.claim(&key, 100, T0), Ok(true));
        assert_eq!(here.claim(&key, 100, T0), Ok(false));
        assert_eq!(here.claim(&key, 100, LATER), Ok(true));
    }

    #[test]
    fn what_is_settled_stays_and_what_is_renewed_lives_longer() {
        let here = Here::default();
        let key = Key::of(&["k"]);
        assert_eq!(here.renew(&key, 100, T0), None);
        assert_eq!(here.settle(&key, b"a".to_vec(), 60, T0).as_deref(), Ok(&b"a"[..]));
        assert_eq!(here.settle(&key, b"b".to_vec(), 60, Timestamp(T0.0 + 50)).as_deref(), Ok(&b"a"[..]));
        assert_eq!(here.renew(&key, 60, Timestamp(T0.0 + 100)).as_deref(), Some(&b"a"[..]));
        assert_eq!(here.settle(&key, b"c".to_vec(), 60, Timestamp(T0.0 + 160)).as_deref(), Ok(&b"c"[..]));
    }

    #[test]
    fn a_value_is_replaced_only_by_who_knows_it() {
        let here = Here::default();
        let key = Key::of(&["k"]);
        here.put(&key, b"a".to_vec(), 100, T0).unwrap();
        assert!(!here.replace(&key, b"x", b"b".to_vec(), T0));
        assert!(here.replace(&key, b"a", b"b".to_vec(), T0));
        assert_eq!(here.get(&key, T0).as_deref(), Some(&b"b"[..]));
        assert_eq!(here.get(&key, LATER), None);
        assert!(!here.replace(&key, b"b", b"c".to_vec(), LATER));
    }
}
