//! Time that only moves forwards, for what is remembered and counted.
//!
//! The wall clock of a pod can jump: it decides whether a token has expired, and never what may be forgotten. What is
//! remembered, counted or limited lives by [`Uptime`].

use std::sync::Arc;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crate::Timestamp;

/// Milliseconds on a clock that never jumps and never moves backwards; where it began means nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Uptime(pub u64);

impl Uptime {
    /// This long after.
    pub fn after(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// Milliseconds since an earlier moment; 0 when it is not earlier.
    pub fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// One moment on both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// As the pod's wall clock says, rightly or wrongly.
    pub wall: Timestamp,
    /// On the clock that does not jump.
    pub uptime: Uptime,
}

/// The source of an [`Uptime`]: the monotonic clock of this process, or a number that a test sets.
#[derive(Clone, Debug, Default)]
pub struct Clock(Option<Arc<AtomicU64>>);

impl Clock {
    /// The monotonic clock of this process.
    pub fn of_process() -> Self {
        Self(None)
    }

    /// A clock that shows what was last written into `milliseconds`.
    pub fn set_by(milliseconds: Arc<AtomicU64>) -> Self {
        Self(Some(milliseconds))
    }

    /// The time on it. A clock that others set is not followed backwards by anybody: they only move it forwards.
    pub fn uptime(&self) -> Uptime {
        static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);
        Uptime(match &self.0 {
            Some(milliseconds) => milliseconds.load(Ordering::Relaxed),
            None => u64::try_from(BEGAN.elapsed().as_millis()).unwrap_or(u64::MAX),
        })
    }

    /// This moment, where the wall clock shows `wall`.
    pub fn at(&self, wall: Timestamp) -> Moment {
        Moment { wall, uptime: self.uptime() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_has_one_clock_and_a_test_its_own() {
        let earlier = Clock::of_process().uptime();
        assert!(Clock::of_process().uptime() >= earlier);
        let hand = Arc::new(AtomicU64::new(5));
        let clock = Clock::set_by(hand.clone());
        hand.store(7, Ordering::Relaxed);
        assert_eq!(clock.at(Timestamp(1)), Moment { wall: Timestamp(1), uptime: Uptime(7) });
        assert_eq!((Uptime(7).since(Uptime(5)), Uptime(5).since(Uptime(7)), Uptime(5).after(2)), (2, 0, Uptime(7)));
    }
}
