//! What was revoked, as a copy in this process: asked on every request, so it never waits.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use idm_types::Timestamp;

use crate::Key;

/// How old the copy of a shared list may get. A restart of the server is shorter; after it nobody can say what was
/// revoked meanwhile.
const MAX_AGE_MS: u64 = 30_000;

/// The copy is too old to be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("nobody can say what was revoked in the last 30 seconds")]
pub struct Stale;

/// The keys that are revoked.
pub struct Revocations {
    keys: ArcSwap<HashMap<Key, u64>>,
    /// When the copy was last known to be whole; `u64::MAX` for a list that is nobody's copy.
    confirmed: AtomicU64,
}

impl Revocations {
    /// A list of this process's own.
    pub(crate) fn own() -> Self {
        Self { keys: ArcSwap::default(), confirmed: AtomicU64::new(u64::MAX) }
    }

    /// A copy that is not there yet.
    pub(crate) fn of_others() -> Self {
        Self { keys: ArcSwap::default(), confirmed: AtomicU64::new(0) }
    }

    /// Whether a key is revoked.
    pub fn contains(&self, key: &Key, now: Timestamp) -> Result<bool, Stale> {
        let confirmed = self.confirmed.load(Ordering::Acquire);
        if self.keys.load().get(key).is_some_and(|until| now.0 < *until) {
            return Ok(true);
        }
        if confirmed.saturating_add(MAX_AGE_MS) < now.0 { Err(Stale) } else { Ok(false) }
    }

    pub(crate) fn add(&self, key: Key, until: Timestamp, now: Timestamp) {
        self.keys.rcu(|keys| {
            let mut keys = HashMap::clone(keys);
            keys.retain(|_, until| now.0 < *until);
            keys.insert(key, until.0);
            Arc::new(keys)
        });
    }

    /// The whole list, as the server had it at `now`. What is known here stays, also when the server forgot it: a
    /// server that lost its memory must not undo a revocation.
    pub(crate) fn merge(&self, new: &HashMap<Key, u64>, now: Timestamp) {
        self.keys.rcu(|keys| {
            let mut keys = HashMap::clone(keys);
            keys.extend(new);
            keys.retain(|_, until| now.0 < *until);
            Arc::new(keys)
        });
        self.confirm(now);
    }

    /// The server says that nothing changed.
    pub(crate) fn confirm(&self, now: Timestamp) {
        self.confirmed.store(now.0, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_that_nobody_confirms_knows_only_what_is_revoked() {
        let (list, key, other) = (Revocations::of_others(), Key::of(&["a"]), Key::of(&["b"]));
        assert_eq!(list.contains(&other, Timestamp(1_000_000)), Err(Stale), "before the first look nobody knows");
        list.merge(&HashMap::from([(key, 2_000_000)]), Timestamp(1_000_000));
        list.merge(&HashMap::new(), Timestamp(1_000_000));
        assert_eq!(list.contains(&key, Timestamp(1_000_000)), Ok(true));
        assert_eq!(list.contains(&other, Timestamp(1_000_000 + MAX_AGE_MS)), Ok(false));
        assert_eq!(list.contains(&other, Timestamp(1_000_001 + MAX_AGE_MS)), Err(Stale));
        assert_eq!(list.contains(&key, Timestamp(1_000_001 + MAX_AGE_MS)), Ok(true), "what is revoked stays revoked");
    }

    #[test]
    fn a_list_of_ones_own_is_never_stale_and_forgets_what_has_ended() {
        let (list, key) = (Revocations::own(), Key::of(&["a"]));
        list.add(key, Timestamp(10), Timestamp(0));
        assert_eq!((list.contains(&key, Timestamp(9)), list.contains(&key, Timestamp(10))), (Ok(true), Ok(false)));
        list.add(Key::of(&["b"]), Timestamp(30), Timestamp(20));
        assert_eq!(list.keys.load().len(), 1);
    }
}
