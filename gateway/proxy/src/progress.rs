//! The state of a connection that its deadlines depend on.
//!
//! A socket may move into a tunnel, which hyper requires to be `Send`. The fields are therefore atomics, though only
//! one core uses them: relaxed loads and stores, as cheap as plain ones. Times are milliseconds of the core's own
//! clock, which advances with each tick of its sweep, so that this code makes no system call for the time.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};

/// The core's clock: milliseconds since its start, never 0.
pub(crate) type Clock = Arc<AtomicU64>;

/// The connection is not in this state.
const NOT: u64 = 0;

/// The state that a connection waits in, and since when.
#[derive(Debug)]
pub(crate) struct Progress {
    clock: Clock,
    /// It waits for the rest of a head, or for the first head.
    head: AtomicU64,
    /// It waits for the next request.
    idle: AtomicU64,
    /// It waits for the caller to read the bytes that are written.
    blocked: AtomicU64,
    /// HTTP/2: the frames show where a head begins and ends, not the bytes.
    framed: AtomicBool,
}

impl Progress {
    /// A connection that was just opened: it waits for its first head, or for its handshake.
    pub(crate) fn new(clock: Clock) -> Arc<Self> {
        let now = clock.load(Relaxed);
        let [idle, blocked] = [NOT, NOT].map(AtomicU64::new);
        Arc::new(Self { clock, head: AtomicU64::new(now), idle, blocked, framed: AtomicBool::new(false) })
    }

    pub(crate) fn now(&self) -> u64 {
        self.clock.load(Relaxed)
    }

    pub(crate) fn set_framed(&self) {
        self.framed.store(true, Relaxed);
    }

    pub(crate) fn is_framed(&self) -> bool {
        self.framed.load(Relaxed)
    }

    /// Bytes arrived: between requests they begin a head.
    pub(crate) fn read(&self) {
        if self.idle.load(Relaxed) != NOT && !self.framed.load(Relaxed) {
            self.head_begins();
        }
    }

    /// A head has begun; a head that had begun before continues.
    pub(crate) fn head_begins(&self) {
        if self.head.load(Relaxed) == NOT {
            self.head.store(self.now(), Relaxed);
        }
    }

    /// The connection does not wait for a head.
    pub(crate) fn head_ended(&self) {
        self.head.store(NOT, Relaxed);
    }

    /// A request is under way.
    pub(crate) fn busy(&self) {
        self.idle.store(NOT, Relaxed);
    }

    /// The last request has ended.
    pub(crate) fn idle(&self) {
        if self.idle.load(Relaxed) == NOT {
            self.idle.store(self.now(), Relaxed);
        }
    }

    pub(crate) fn blocked(&self) {
        if self.blocked.load(Relaxed) == NOT {
            self.blocked.store(self.now(), Relaxed);
        }
    }

    pub(crate) fn unblocked(&self) {
        if self.blocked.load(Relaxed) != NOT {
            self.blocked.store(NOT, Relaxed);
        }
    }

    pub(crate) fn head_for(&self) -> Option<u64> {
        self.since(&self.head)
    }

    pub(crate) fn idle_for(&self) -> Option<u64> {
        self.since(&self.idle)
    }

    pub(crate) fn blocked_for(&self) -> Option<u64> {
        self.since(&self.blocked)
    }

    fn since(&self, time: &AtomicU64) -> Option<u64> {
        let time = time.load(Relaxed);
        (time != NOT).then(|| self.now().saturating_sub(time))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drip_does_not_extend_the_time_of_a_head() {
        let clock = Clock::new(AtomicU64::new(1));
        let progress = Progress::new(clock.clone());
        for now in 2..10 {
            clock.store(now, Relaxed);
            progress.read();
        }
        assert_eq!(progress.head_for(), Some(8), "the first one counts from the start");
        progress.head_ended();
        progress.busy();
        progress.read();
        assert_eq!(progress.head_for(), None, "a body is no head");
        progress.idle();
        for now in 10..20 {
            clock.store(now, Relaxed);
            progress.read();
        }
        assert_eq!(progress.head_for(), Some(9), "a later one counts from its first byte");
        assert_eq!(progress.idle_for(), Some(10));
    }

    #[test]
    fn any_progress_ends_the_time_of_a_write() {
        let clock = Clock::new(AtomicU64::new(1));
        let progress = Progress::new(clock.clone());
        progress.blocked();
        clock.store(5, Relaxed);
        progress.blocked();
        assert_eq!(progress.blocked_for(), Some(4));
        progress.unblocked();
        assert_eq!(progress.blocked_for(), None);
    }
}
