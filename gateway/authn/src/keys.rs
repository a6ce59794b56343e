//! The current keys of one issuer, shared by all cores.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use idm_jose::KeySet;
use idm_types::Timestamp;
use tokio::sync::{Notify, watch};

/// An unknown `kid` causes at most one fetch per issuer in this time.
const REFETCH_INTERVAL_MS: u64 = 10_000;
/// How long a request waits for such a fetch.
const REFETCH_WAIT: Duration = Duration::from_secs(5);

/// The keys of one issuer. Readers load them without a lock; a fetcher publishes new ones.
pub struct IssuerKeys {
    current: ArcSwapOption<KeySet>,
    /// Grows with every published change: verdicts given under older keys are void.
    epoch: AtomicU64,
    fetched_at: AtomicU64,
    remote: bool,
    last_asked: AtomicU64,
    in_flight: AtomicBool,
    wanted: Notify,
    answered: watch::Sender<u64>,
}

impl IssuerKeys {
    /// Keys that never change.
    pub fn fixed(keys: KeySet) -> Arc<Self> {
        Arc::new(Self::new(Some(keys), false))
    }

    /// Keys that a fetcher will publish.
    pub fn remote() -> Arc<Self> {
        Arc::new(Self::new(None, true))
    }

    fn new(keys: Option<KeySet>, remote: bool) -> Self {
        Self {
            current: ArcSwapOption::from_pointee(keys),
            epoch: AtomicU64::new(1),
            fetched_at: AtomicU64::new(0),
            remote,
            last_asked: AtomicU64::new(0),
            in_flight: AtomicBool::new(false),
            wanted: Notify::new(),
            answered: watch::Sender::new(0),
        }
    }

    /// The keys in force.
    pub fn load(&self) -> Option<Arc<KeySet>> {
        self.current.load_full()
    }

    /// Whether any keys are there.
    pub fn is_loaded(&self) -> bool {
        self.current.load().is_some()
    }

    /// Counts the changes of the keys.
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// When the keys were last confirmed by the issuer; `None` before the first time.
    pub fn fetched_at(&self) -> Option<Timestamp> {
        Some(self.fetched_at.load(Ordering::Relaxed)).filter(|ms| *ms > 0).map(Timestamp)
    }

    /// The fetcher confirms that the keys are unchanged.
    pub fn confirm(&self, now: Timestamp) {
        self.fetched_at.store(now.0, Ordering::Relaxed);
        self.finish();
    }

    /// The fetcher publishes new keys; every verdict given under the old ones is void from here on.
    pub fn publish(&self, keys: KeySet, now: Timestamp) {
        self.current.store(Some(Arc::new(keys)));
        self.epoch.fetch_add(1, Ordering::AcqRel);
        self.confirm(now);
    }

    /// The fetcher failed: the last good keys stay.
    pub fn failed(&self) {
        self.finish();
    }

    fn finish(&self) {
        self.in_flight.store(false, Ordering::Release);
        self.answered.send_modify(|count| *count += 1);
    }

    /// The fetcher waits here for someone who met an unknown `kid`.
    pub async fn wanted(&self) {
        self.wanted.notified().await;
    }

    /// Asks for fresh keys because a token names an unknown one, and waits for the answer. Returns
    /// whether looking again may help.
    pub async fn refetch(&self, now: Timestamp) -> bool {
        if !self.remote {
            return false;
        }
        let mut answered = self.answered.subscribe();
        answered.mark_unchanged();
        if !self.in_flight.load(Ordering::Acquire) {
            let last = self.last_asked.load(Ordering::Acquire);
            let due = now.0.saturating_sub(last) >= REFETCH_INTERVAL_MS;
            if !due || self.last_asked.compare_exchange(last, now.0, Ordering::AcqRel, Ordering::Acquire).is_err() {
                // Someone else asked just now: wait with them only while the fetch is running.
                if !self.in_flight.load(Ordering::Acquire) {
                    return false;
                }
            } else {
                self.in_flight.store(true, Ordering::Release);
                self.wanted.notify_one();
            }
        }
        tokio::time::timeout(REFETCH_WAIT, answered.changed()).await.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use idm_jose::SigningKey;
    use idm_types::Algorithm;

    use super::*;

    #[tokio::test]
    async fn an_unknown_kid_causes_one_fetch_per_ten_seconds() {
        let keys = IssuerKeys::remote();
        let fetcher = {
            let keys = keys.clone();
            tokio::spawn(async move {
                let mut fetches = 0;
                while tokio::time::timeout(Duration::from_millis(200), keys.wanted()).await.is_ok() {
                    fetches += 1;
                    let jwks = SigningKey::generate(Algorithm::ES256, "k").unwrap().jwks().to_string();
                    keys.publish(KeySet::parse(jwks.as_bytes(), &[Algorithm::ES256]).unwrap(), Timestamp(1));
                }
                fetches
            })
        };
        assert!(keys.refetch(Timestamp(100_000)).await);
        assert!(!keys.refetch(Timestamp(109_999)).await);
        assert!(keys.refetch(Timestamp(110_000)).await);
        assert_eq!(keys.epoch(), 3);
        assert_eq!(fetcher.await.unwrap(), 2);
    }

    #[tokio::test]
    async fn fixed_keys_are_never_fetched() {
        let jwks = SigningKey::generate(Algorithm::ES256, "k").unwrap().jwks().to_string();
        let keys = IssuerKeys::fixed(KeySet::parse(jwks.as_bytes(), &[Algorithm::ES256]).unwrap());
        assert!(!keys.refetch(Timestamp(1_000_000)).await);
    }
}
