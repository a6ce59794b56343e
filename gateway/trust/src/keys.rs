//! The current keys of one issuer, shared by all cores.
//!
//! The decision about a token that names an unknown key depends on the age of the keys: a fetch returns every key that
//! was published before the fetch began. Keys from a fetch that began less than [`RECENT`] ago decide at once; older
//! ones do not, and one fetch is made for all requests that wait. Unknown names are not stored, so they cannot affect
//! the decision about another name, and fetches begin at least [`RECENT`] apart. A few fetches in reserve may begin
//! earlier, so that in quiet times a key is accepted at once that signs as soon as it is published.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use idm_jose::KeySet;
use idm_traces::{Kind, Open, current};
use idm_types::Timestamp;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

/// A key that is published this long before it signs is never refused while its issuer answers.
#[cfg(test)]
pub(crate) const PUBLISHED_AHEAD: Duration = Duration::from_secs(5);
/// Keys are recent when their fetch began no longer ago. It is a second less than a key has to be published ahead of
/// its first token, for issuers whose servers learn of a new key one after the other. It is also the least time between
/// the beginnings of two regular fetches that callers cause: 15 in a minute.
pub const RECENT: Duration = Duration::from_secs(4);
/// Fetches in reserve that may begin before the keys are older than [`RECENT`].
const EARLY: u64 = 3;
/// The time after which the reserve grows by one. Together with the regular ones this makes at most 20 in a minute.
const EARLY_EVERY: Duration = Duration::from_secs(30);
/// The longest time that a request waits for a fetch.
const REFETCH_WAIT: Duration = Duration::from_secs(5);

/// Times in milliseconds since the keys were made, plus one; 0 is "never".
type Moment = u64;

/// The next step for a token whose key is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outlook {
    /// The keys changed since the token was verified: verify it again.
    LookAgain,
    /// The keys are recent, and the token's key is not among them.
    Settled,
    /// A recent fetch from the issuer failed.
    Unanswered,
    /// A fetch is needed.
    Wait,
}

/// The times of the last fetches from the issuer.
#[derive(Clone, Copy, Debug)]
struct Fetches {
    /// The begin of the last successful fetch.
    good: Moment,
    /// The begin of the last failed fetch.
    failed: Moment,
}

impl Fetches {
    /// The next step for a token that needs keys of a fetch that began at `needed` or later. `changed` tells that the
    /// keys changed since the token was verified.
    fn outlook(self, needed: Moment, changed: bool) -> Outlook {
        if changed {
            Outlook::LookAgain
        } else if self.good >= needed {
            Outlook::Settled
        } else if self.failed >= needed {
            Outlook::Unanswered
        } else {
            Outlook::Wait
        }
    }
}

/// The earliest beginning of a fetch that decides about a token that came at `came`.
fn needed_at(came: Moment) -> Moment {
    came.saturating_sub(RECENT.as_millis() as u64).max(1)
}

/// The early fetches of one server: [`EARLY`] in reserve, and one more each [`EARLY_EVERY`].
#[derive(Debug, Default)]
pub struct EarlyFetches {
    /// The time until which they are spent, in milliseconds: the state of a generic cell rate algorithm.
    spent_until: AtomicU64,
}

impl EarlyFetches {
    /// Takes one, if there is one. `now` is in milliseconds of a clock that does not jump.
    pub fn take(&self, now: u64) -> bool {
        let every = EARLY_EVERY.as_millis() as u64;
        let next = |spent: u64| Some(spent.max(now) + every).filter(|next| *next <= now + EARLY * every);
        self.spent_until.fetch_update(Ordering::AcqRel, Ordering::Acquire, next).is_ok()
    }
}

/// The keys of one issuer. Readers load them without a lock; a fetcher publishes new ones.
pub struct IssuerKeys {
    current: ArcSwapOption<KeySet>,
    /// Grows with every published change: verdicts given under older keys become void.
    epoch: AtomicU64,
    fetched_at: AtomicU64,
    remote: bool,
    born: Instant,
    /// The times when the last fetch, the last successful one and the last failed one began.
    began: AtomicU64,
    good: AtomicU64,
    failed: AtomicU64,
    /// A request needs keys of a fetch that begins after this.
    needed: AtomicU64,
    early: EarlyFetches,
    /// The next fetch is an early one.
    hurry: AtomicBool,
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
            born: Instant::now(),
            began: AtomicU64::new(0),
            good: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            needed: AtomicU64::new(0),
            early: EarlyFetches::default(),
            hurry: AtomicBool::new(false),
            wanted: Notify::new(),
            answered: watch::Sender::new(0),
        }
    }

    /// The keys in force.
    pub fn load(&self) -> Option<Arc<KeySet>> {
        self.current.load_full()
    }

    /// Whether there are any keys.
    pub fn is_loaded(&self) -> bool {
        self.current.load().is_some()
    }

    /// Counts the changes of the keys. Read it before [`Self::load`].
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// The time when the issuer last confirmed the keys; `None` before the first time.
    pub fn fetched_at(&self) -> Option<Timestamp> {
        Some(self.fetched_at.load(Ordering::Relaxed)).filter(|ms| *ms > 0).map(Timestamp)
    }

    fn moment(&self) -> Moment {
        self.born.elapsed().as_millis() as u64 + 1
    }

    /// The fetcher begins a fetch.
    pub fn begin(&self) {
        self.began.store(self.moment(), Ordering::Release);
    }

    /// The current fetch confirms that the keys are unchanged.
    pub fn confirm(&self, now: Timestamp) {
        self.fetched_at.store(now.0, Ordering::Relaxed);
        self.good.store(self.began.load(Ordering::Acquire), Ordering::Release);
        self.answered.send_modify(|count| *count += 1);
    }

    /// The current fetch returned new keys; every verdict given under the old ones is void from now on.
    pub fn publish(&self, keys: KeySet, now: Timestamp) {
        self.current.store(Some(Arc::new(keys)));
        self.epoch.fetch_add(1, Ordering::AcqRel);
        self.confirm(now);
    }

    /// The current fetch failed: the last good keys stay.
    pub fn fail(&self) {
        self.failed.store(self.began.load(Ordering::Acquire), Ordering::Release);
        self.answered.send_modify(|count| *count += 1);
    }

    /// The fetcher waits here until a request needs newer keys, and for at least [`RECENT`] after its last fetch began
    /// unless an early fetch was taken.
    pub async fn wanted(&self) {
        while self.needed.load(Ordering::Acquire) <= self.good.load(Ordering::Acquire) {
            self.wanted.notified().await;
        }
        if self.hurry.swap(false, Ordering::AcqRel) {
            return;
        }
        let began = Duration::from_millis(self.began.load(Ordering::Acquire).saturating_sub(1));
        tokio::time::sleep_until(self.born + began + RECENT).await;
    }

    /// Requests newer keys because those of `judged` (the epoch) have none for a token, and waits for them. Returns
    /// whether another look-up may succeed.
    pub async fn refetch(&self, judged: u64) -> bool {
        if !self.remote {
            return false;
        }
        let came = self.moment();
        let mut needed = needed_at(came);
        // The keys are recent, and there may be newer ones.
        let is_settled = self.good.load(Ordering::Acquire) >= needed && self.epoch() == judged;
        if is_settled && self.early.take(came) {
            needed = came;
            self.hurry.store(true, Ordering::Release);
        }
        let mut answered = self.answered.subscribe();
        let mut span: Option<Open> = None;
        let newer = async {
            loop {
                answered.mark_unchanged();
                // In this order: keys that are published in between are seen as a change.
                let fetches =
                    Fetches { failed: self.failed.load(Ordering::Acquire), good: self.good.load(Ordering::Acquire) };
                match fetches.outlook(needed, self.epoch() != judged) {
                    Outlook::LookAgain => return true,
                    Outlook::Settled | Outlook::Unanswered => return false,
                    Outlook::Wait => {}
                }
                if span.is_none() {
                    span = current().map(|scope| scope.begin(Kind::Internal, "wait for keys"));
                }
                self.needed.fetch_max(needed, Ordering::AcqRel);
                self.wanted.notify_one();
                if answered.changed().await.is_err() {
                    return false;
                }
            }
        };
        let found = tokio::time::timeout(REFETCH_WAIT, newer).await;
        match (&found, &mut span) {
            (Ok(true), Some(span)) => span.succeeded(),
            (Ok(false), Some(span)) => span.failed("no_newer_keys"),
            (Err(_), Some(span)) => span.failed("timeout"),
            (_, None) => {}
        }
        found.unwrap_or(false)
    }
}

#[cfg(test)]
mod tests;
