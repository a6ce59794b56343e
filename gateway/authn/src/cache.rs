use idm_request::Identity;
use std::collections::HashMap;
use std::hash::BuildHasher;
use std::ops::Range;
use std::rc::Rc;

use foldhash::quality::RandomState;

/// Entries of one generation; at most two generations are kept.
const GENERATION: usize = 8192;

/// Verified credentials of one core.
///
/// Lives as long as one engine, so a changed policy starts with an empty cache by construction; an
/// entry also names its policy, and the epoch of the keys that verified it. Bounded: when the young
/// generation is full it becomes the old one, and what was not used since is dropped.
#[derive(Default)]
pub struct TokenCache {
    hasher: RandomState,
    young: HashMap<u64, Entry, RandomState>,
    old: HashMap<u64, Entry, RandomState>,
}

struct Entry {
    credential: Box<str>,
    policy: usize,
    method: usize,
    epoch: u64,
    /// When it is good: a clock that steps back before its beginning must not make it last.
    good: Range<u64>,
    identity: Rc<Identity>,
}

/// What a cached verdict depends on besides the credential itself.
#[derive(Clone, Copy)]
pub(crate) struct Scope {
    pub(crate) policy: usize,
    pub(crate) method: usize,
}

impl TokenCache {
    /// The hash under which a credential is kept; keyed, so that callers cannot aim for collisions.
    pub(crate) fn hash(&self, scope: Scope, credential: &str) -> u64 {
        self.hasher.hash_one((scope.policy, scope.method, credential))
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
                && (entry.policy, entry.method) == (scope.policy, scope.method)
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
        let Scope { policy, method } = scope;
        self.keep(hash, Entry { credential: credential.into(), policy, method, epoch, good, identity });
    }

    fn keep(&mut self, hash: u64, entry: Entry) {
        if self.young.len() >= GENERATION {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(hash, entry);
    }

    /// Forgets everything: called when the engine is swapped.
    pub fn clear(&mut self) {
        self.young.clear();
        self.old.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_is_good_for_its_time_and_not_for_a_clock_that_stepped_back() {
        let (mut cache, scope) = (TokenCache::default(), Scope { policy: 0, method: 0 });
        let hash = cache.hash(scope, "token");
        let who = Rc::new(Identity::nobody(&"m".parse().unwrap(), "jwt"));
        cache.put(hash, scope, "token", 0, 1000..2000, who);
        for (now, good) in [(999, false), (1000, true), (1999, true), (2000, false)] {
            assert_eq!(cache.get(hash, scope, "token", now, |_| 0).is_some(), good, "{now}");
        }
    }
}
