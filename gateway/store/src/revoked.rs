//! A copy of the revocations in this process: every request reads it, so reading never waits.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use idm_types::{Moment, Timestamp, Uptime};
use tokio::sync::watch;

use crate::Key;

/// The largest age of the copy of a shared list. A restart of the server is shorter; beyond this age it is unknown
/// which keys were revoked in the meantime.
const MAX_AGE_MS: u64 = 30_000;
/// The time for which a revocation is kept beyond its end. A clock that is wrong by less than this can neither end the
/// revocation too early nor make a revoked token valid again; no token that is issued here lives longer than a day.
pub(crate) const MARGIN_MS: u64 = 25 * 3_600_000;

/// The copy is too old to be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("nobody can say what was revoked in the last 30 seconds")]
pub struct Stale;

/// The time when a revocation may be removed: both clocks must have passed it. Until then it holds, whatever the time
/// is.
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
    changed: watch::Sender<()>,
    /// The time when the copy was last known to be complete, on both clocks; `None` for a list that is not a copy.
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
        Self { keys: ArcSwap::default(), changed: watch::Sender::new(()), confirmed: None }
    }

    /// A copy that was not loaded yet.
    pub(crate) fn of_others() -> Self {
        Self { keys: ArcSwap::default(), changed: watch::Sender::new(()), confirmed: Some(Confirmed::default()) }
    }

    /// Tells of every change.
    pub(crate) fn changed(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Whether a key is revoked. A revoked key stays revoked: the end of a revocation tells when the entry is no longer
    /// needed, and never that the key is valid again.
    pub(crate) fn contains(&self, key: &Key, now: Moment) -> Result<bool, Stale> {
        // Read before the keys: a later confirmation may come with keys that this call does not see.
        let fresh = self.confirmed.as_ref().is_none_or(|confirmed| confirmed.is_fresh(now));
        if self.keys.load().contains_key(key) {
            return Ok(true);
        }
        if fresh { Ok(false) } else { Err(Stale) }
    }

    pub(crate) fn add(&self, key: Key, until: Timestamp, now: Moment) {
        self.change(&[(key, until)], now);
    }

    /// The whole list, as the server had it at `now`. Keys that are known here stay, even if the server has lost them:
    /// a server that lost its memory must not undo a revocation.
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
        self.changed.send_replace(());
    }

    /// The server reports that the list is unchanged.
    pub(crate) fn confirm(&self, now: Moment) {
        if let Some(confirmed) = &self.confirmed {
            confirmed.uptime.store(now.uptime.0, Ordering::Relaxed);
            confirmed.wall.store(now.wall.0, Ordering::Release);
        }
    }
}

impl Confirmed {
    /// Recent on both clocks: one of them stops while a machine is suspended, the other may be set back.
    fn is_fresh(&self, now: Moment) -> bool {
        let (wall, uptime) = (self.wall.load(Ordering::Acquire), Uptime(self.uptime.load(Ordering::Relaxed)));
        wall != 0 && now.wall.0.saturating_sub(wall) <= MAX_AGE_MS && now.uptime.since(uptime) <= MAX_AGE_MS
    }
}

#[cfg(test)]
mod tests;
