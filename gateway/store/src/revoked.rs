//! A copy of the revocations in this process: every request asks it, so it never waits.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use idm_types::{Moment, Timestamp, Uptime};

use crate::Key;

/// How old the copy of a shared list may get. A restart of the server is shorter; after it nobody can say what was
/// revoked meanwhile.
const MAX_AGE_MS: u64 = 30_000;
/// How long a revocation is kept beyond its end. A clock that is wrong by less can neither end it too early nor bring
/// back what it ended; no token that is issued here lives longer than a day.
pub(crate) const MARGIN_MS: u64 = 25 * 3_600_000;

/// The copy is too old to be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("nobody can say what was revoked in the last 30 seconds")]
pub struct Stale;

/// When a revocation may be forgotten: when both clocks say so. Until then it holds, whatever the time is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Kept {
    wall: u64,
    uptime: Uptime,
}

impl Kept {
    fn until(until: Timestamp, now: Moment) -> Self {
        let lifetime = until.0.saturating_sub(now.wall.0);
        Self { wall: until.0.saturating_add(MARGIN_MS), uptime: now.uptime.after(lifetime.saturating_add(MARGIN_MS)) }
    }

    /// The later end on each clock, so that a revocation is never shortened.
    fn or_longer(self, other: Self) -> Self {
        Self { wall: self.wall.max(other.wall), uptime: self.uptime.max(other.uptime) }
    }

    fn is_over(&self, now: Moment) -> bool {
        self.wall <= now.wall.0 && self.uptime <= now.uptime
    }
}

/// The keys that are revoked.
pub(crate) struct Revocations {
    keys: ArcSwap<HashMap<Key, Kept>>,
    /// When the copy was last known to be complete, on both clocks; `None` for a list that is not a copy.
    confirmed: Option<Confirmed>,
}

#[derive(Default)]
struct Confirmed {
    /// 0 before the first time.
    wall: AtomicU64,
    uptime: AtomicU64,
}

impl Revocations {
    /// A list of this process's own.
    pub(crate) fn own() -> Self {
        Self { keys: ArcSwap::default(), confirmed: None }
    }

    /// A copy that is not there yet.
    pub(crate) fn of_others() -> Self {
        Self { keys: ArcSwap::default(), confirmed: Some(Confirmed::default()) }
    }

    /// Whether a key is revoked. What is revoked stays so: the end of a revocation says when it is no longer needed,
    /// and never that the key is good again.
    pub(crate) fn contains(&self, key: &Key, now: Moment) -> Result<bool, Stale> {
        // Read before the keys: what is confirmed later may come with keys that are not looked at here.
        let fresh = self.confirmed.as_ref().is_none_or(|confirmed| confirmed.is_fresh(now));
        if self.keys.load().contains_key(key) {
            return Ok(true);
        }
        if fresh { Ok(false) } else { Err(Stale) }
    }

    pub(crate) fn add(&self, key: Key, until: Timestamp, now: Moment) {
        self.change(&[(key, until)], now);
    }

    /// The whole list, as the server had it at `now`. What is known here stays, also when the server forgot it: a
    /// server that lost its memory must not undo a revocation.
    pub(crate) fn merge(&self, new: &[(Key, Timestamp)], now: Moment) {
        self.change(new, now);
        self.confirm(now);
    }

    fn change(&self, new: &[(Key, Timestamp)], now: Moment) {
        self.keys.rcu(|keys| {
            let mut keys = HashMap::clone(keys);
            for (key, until) in new {
                let kept = Kept::until(*until, now);
                keys.entry(*key).and_modify(|known| *known = known.or_longer(kept)).or_insert(kept);
            }
            keys.retain(|_, kept| !kept.is_over(now));
            Arc::new(keys)
        });
    }

    /// The server says that nothing changed.
    pub(crate) fn confirm(&self, now: Moment) {
        if let Some(confirmed) = &self.confirmed {
            confirmed.uptime.store(now.uptime.0, Ordering::Relaxed);
            confirmed.wall.store(now.wall.0, Ordering::Release);
        }
    }
}

impl Confirmed {
    /// Young on both clocks: one of them stands still while a machine is suspended, the other may step back.
    fn is_fresh(&self, now: Moment) -> bool {
        let (wall, uptime) = (self.wall.load(Ordering::Acquire), Uptime(self.uptime.load(Ordering::Relaxed)));
        wall != 0 && now.wall.0.saturating_sub(wall) <= MAX_AGE_MS && now.uptime.since(uptime) <= MAX_AGE_MS
    }
}

#[cfg(test)]
mod tests;
