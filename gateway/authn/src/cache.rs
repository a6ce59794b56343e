use idm_request::Identity;
use std::collections::HashMap;
use std::hash::BuildHasher;
use std::ops::Range;
use std::rc::Rc;

use foldhash::quality::RandomState;

use crate::{ArmedPolicy, CredentialTables};

/// Entries of one generation; at most two generations are kept.
const GENERATION: usize = 8192;

/// Verified credentials of one core.
///
/// It outlives engines and tables of Credentials. An entry names the basis of its policy and the epoch of the keys or
/// Credentials that verified it, and is void as soon as one of them is not in force any more. Bounded: when the young
/// generation is full it becomes the old one, and entries that were not used since are dropped.
#[derive(Default)]
pub struct TokenCache {
    hasher: RandomState,
    young: HashMap<u64, Entry, RandomState>,
    old: HashMap<u64, Entry, RandomState>,
}

struct Entry {
    credential: Box<str>,
    scope: Scope,
    epoch: u64,
    /// The time in which it is valid: a clock that steps back before the beginning must not prolong it.
    good: Range<u64>,
    identity: Rc<Identity>,
}

/// The values that a cached verdict depends on besides the credential itself.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Scope {
    /// The id of its policy's basis.
    pub(crate) basis: u64,
    /// The position of its method.
    pub(crate) method: usize,
}

impl TokenCache {
    /// The hash under which a credential is kept; keyed, so that callers cannot aim for collisions.
    pub(crate) fn hash(&self, scope: Scope, credential: &str) -> u64 {
        self.hasher.hash_one((scope, credential))
    }

    /// The identity, if this very credential was verified for this method and is still good.
    pub(crate) fn get(
        &mut self,
        hash: u64,
        scope: Scope,
        credential: &str,
        now_ms: u64,
        epoch_of: impl Fn(&Identity) -> u64,
    ) -> Option<Rc<Identity>> {
        let fits = |entry: &Entry| {
            *entry.credential == *credential
                && entry.scope == scope
                && entry.good.contains(&now_ms)
                && entry.epoch == epoch_of(&entry.identity)
        };
        if let Some(entry) = self.young.get(&hash) {
            return fits(entry).then(|| entry.identity.clone());
        }
        let entry = self.old.remove(&hash).filter(fits)?;
        let identity = entry.identity.clone();
        self.keep(hash, entry);
        Some(identity)
    }

    pub(crate) fn put(
        &mut self,
        hash: u64,
        scope: Scope,
        credential: &str,
        epoch: u64,
        good: Range<u64>,
        identity: Rc<Identity>,
    ) {
        self.keep(hash, Entry { credential: credential.into(), scope, epoch, good, identity });
    }

    fn keep(&mut self, hash: u64, entry: Entry) {
        if self.young.len() >= GENERATION {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(hash, entry);
    }

    /// Drops entries that are void under these policies and Credentials, so that replaced secrets do not stay in
    /// memory.
    pub fn follow<'p>(&mut self, policies: impl Iterator<Item = &'p ArmedPolicy>, tables: &CredentialTables) {
        let policies: HashMap<u64, &ArmedPolicy> = policies.map(|policy| (policy.basis().id(), policy)).collect();
        let stands = |_: &u64, entry: &mut Entry| {
            let policy = policies.get(&entry.scope.basis);
            let epoch = |policy: &&ArmedPolicy| {
                policy.epoch(entry.scope.method, &entry.identity, tables.of(&policy.plan().key.namespace))
            };
            policy.and_then(epoch) == Some(entry.epoch)
        };
        self.young.retain(stands);
        self.old.retain(stands);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_is_good_for_its_time_and_not_for_a_clock_that_stepped_back() {
        let (mut cache, scope) = (TokenCache::default(), Scope { basis: 1, method: 0 });
        let hash = cache.hash(scope, "token");
        let who = Rc::new(Identity::nobody(&"m".parse().unwrap(), "jwt"));
        cache.put(hash, scope, "token", 0, 1000..2000, who);
        for (now, good) in [(999, false), (1000, true), (1999, true), (2000, false)] {
            assert_eq!(cache.get(hash, scope, "token", now, |_| 0).is_some(), good, "{now}");
        }
    }

    #[test]
    fn a_verdict_is_void_under_another_epoch_or_basis() {
        let (mut cache, scope) = (TokenCache::default(), Scope { basis: 1, method: 0 });
        let who = Rc::new(Identity::nobody(&"m".parse().unwrap(), "jwt"));
        let hash = cache.hash(scope, "token");
        cache.put(hash, scope, "token", 7, 0..2000, who);
        assert!(cache.get(hash, scope, "token", 1, |_| 7).is_some());
        assert!(cache.get(hash, scope, "token", 1, |_| 8).is_none());
        for other in [Scope { basis: 2, ..scope }, Scope { method: 1, ..scope }] {
            assert!(cache.get(cache.hash(other, "token"), other, "token", 1, |_| 7).is_none());
            assert!(cache.get(hash, other, "token", 1, |_| 7).is_none(), "also where the hashes collide");
        }
        cache.follow([].into_iter(), &CredentialTables::default());
        assert!(cache.get(hash, scope, "token", 1, |_| 7).is_none(), "its policy is gone");
    }
}
