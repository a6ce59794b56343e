//! The arithmetic of one counter, without a table or a clock.
//!
//! The same arithmetic is written once more as the script of the shared store (`store/src/counters.lua`). A test there
//! holds the two equal, operation by operation, so both use binary64 numbers in the same order.

use std::collections::BTreeMap;

use crate::calendar::Span;

/// The time for which a pod's slots count after it was last heard of, in microseconds.
pub const SLOTS_LIVE_US: u64 = 10_000_000;

/// How much may be taken from a counter. Times are microseconds of the wall clock since 1970.
#[derive(Clone, Debug, PartialEq)]
pub enum Counter {
    /// A steady rate with a burst: the generic cell rate algorithm. In every span of `t`, however it lies, at most
    /// `burst + t * requests / per_us` are taken.
    Rate {
        /// The number in each `per_us`.
        requests: u64,
        /// The length of the span, in microseconds.
        per_us: u64,
        /// The number that may come at once.
        burst: u64,
    },
    /// A number in each span of the calendar, counted from zero when the span begins.
    Quota {
        /// The number.
        limit: u64,
        /// The calendar.
        span: Span,
    },
    /// A number at once: what was taken is given back.
    Slots {
        /// The number.
        limit: u64,
    },
}

impl Counter {
    /// The number that a pod may take ahead of its needs, where `pods` share a counter of which `available` is left:
    /// all together hold at most a hundredth of the limit, and of a quota that ends at most a quarter of what is left.
    pub fn ahead(&self, available: u64, pods: u64) -> u64 {
        let all = match self {
            Counter::Rate { requests, burst, .. } => (*requests as f64 / 100.0).min(*burst as f64 / 2.0),
            Counter::Quota { limit, .. } => (*limit as f64 / 150.0).min(available as f64 / 4.0),
            Counter::Slots { limit } => *limit as f64 / 150.0,
        };
        (all / pods.max(1) as f64).floor() as u64
    }

    /// The time in which a rate gives one, in microseconds; 0 for others.
    pub fn interval_us(&self) -> f64 {
        match self {
            Counter::Rate { requests, per_us, .. } => *per_us as f64 / (*requests).max(1) as f64,
            Counter::Quota { .. } | Counter::Slots { .. } => 0.0,
        }
    }

    /// The largest number that can ever be taken at once.
    pub fn most(&self) -> u64 {
        match self {
            Counter::Rate { burst, .. } => *burst,
            Counter::Quota { limit, .. } | Counter::Slots { limit } => *limit,
        }
    }
}

/// The state of a counter.
#[derive(Clone, Debug, PartialEq)]
pub enum State {
    /// `debt` is the time until the whole burst is available again, as of `at`.
    Rate {
        /// Microseconds since 1970.
        at: u64,
        /// Microseconds.
        debt: f64,
    },
    /// The used part of the span that ends at `end`.
    Quota {
        /// Microseconds since 1970.
        end: u64,
        /// The number.
        used: u64,
    },
    /// The slots of each pod, and the time until which they count.
    Slots(BTreeMap<u64, (u64, u64)>),
}

/// The rest of a counter, and when it has more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Left {
    /// The number that is available.
    pub available: u64,
    /// Microseconds until all of it is available again: of a rate the whole burst, of a quota the next span.
    pub reset_us: u64,
    /// The end of a quota's span, in microseconds since 1970; 0 for others.
    pub end: u64,
}

impl State {
    /// The state of a counter that nobody used.
    pub fn new(counter: &Counter, now: u64) -> Self {
        match counter {
            Counter::Rate { .. } => State::Rate { at: now, debt: 0.0 },
            Counter::Quota { .. } => State::Quota { end: 0, used: 0 },
            Counter::Slots { .. } => State::Slots(BTreeMap::new()),
        }
    }

    /// Brings the state to this time, and settles what a pod gives back (`back` > 0) or took without asking (`back` <
    /// 0). For slots `back` is the number that the pod has now. `of_end` is the end of the quota's span in which it was
    /// taken. `None`: the time is not within `ends`, the pod's clock and that of the counter differ too much.
    pub fn settle(
        &mut self,
        counter: &Counter,
        pod: u64,
        (back, of_end): (i64, u64),
        ends: &dyn Fn() -> [u64; 4],
        now: u64,
    ) -> Option<()> {
        match (self, counter) {
            (State::Rate { at, debt }, Counter::Rate { .. }) => {
                let passed = now.saturating_sub(*at) as f64;
                *debt = (*debt - passed).max(0.0);
                *debt = (*debt - back as f64 * counter.interval_us()).max(0.0);
                *at = now;
            }
            (State::Quota { end, used }, Counter::Quota { .. }) => {
                if now >= *end {
                    let [first, rest @ ..] = ends();
                    *end = rest.into_iter().find(|end| *end > now).filter(|_| now >= first)?;
                    *used = 0;
                }
                if *end == of_end {
                    *used = used.saturating_add_signed(back.saturating_neg());
                }
            }
            (State::Slots(pods), Counter::Slots { .. }) => {
                pods.retain(|_, (_, until)| *until > now);
                let held = u64::try_from(back).unwrap_or(0);
                pods.insert(pod, (held, now.saturating_add(SLOTS_LIVE_US)));
            }
            // The counter became one of another kind under the same name.
            (state, _) => {
                *state = State::new(counter, now);
                return state.settle(counter, pod, (back.min(0), 0), ends, now);
            }
        }
        Some(())
    }

    /// The rest, of a state that was settled at `now`.
    pub fn left(&self, counter: &Counter, now: u64) -> Left {
        match (self, counter) {
            (State::Rate { debt, .. }, Counter::Rate { burst, .. }) => {
                let interval = counter.interval_us();
                let available = ((*burst as f64 * interval - debt) / interval + 1e-6).floor().max(0.0);
                Left { available: available as u64, reset_us: debt.ceil() as u64, end: 0 }
            }
            (State::Quota { end, used }, Counter::Quota { limit, .. }) => {
                Left { available: limit.saturating_sub(*used), reset_us: end.saturating_sub(now), end: *end }
            }
            (State::Slots(pods), Counter::Slots { limit }) => {
                let held: u64 = pods.values().map(|(held, _)| held).sum();
                Left { available: limit.saturating_sub(held), reset_us: 0, end: 0 }
            }
            _ => Left::default(),
        }
    }

    /// The time until `need` is available, in microseconds; for slots nobody knows it: a second.
    pub fn wait_us(&self, counter: &Counter, need: u64, now: u64) -> u64 {
        match (self, counter) {
            (State::Rate { debt, .. }, Counter::Rate { burst, .. }) => {
                let interval = counter.interval_us();
                (debt + need as f64 * interval - *burst as f64 * interval).ceil().max(0.0) as u64
            }
            (State::Quota { end, .. }, _) => end.saturating_sub(now),
            _ => 1_000_000,
        }
    }

    /// Takes a number that is available.
    pub fn take(&mut self, counter: &Counter, pod: u64, number: u64) {
        match self {
            State::Rate { debt, .. } => *debt += number as f64 * counter.interval_us(),
            State::Quota { used, .. } => *used = used.saturating_add(number),
            State::Slots(pods) => {
                let (held, _) = pods.entry(pod).or_default();
                *held = held.saturating_add(number);
            }
        }
    }

    /// Whether a counter that was never used would answer the same.
    pub fn is_forgettable(&self, now: u64) -> bool {
        match self {
            State::Rate { at, debt } => now.saturating_sub(*at) as f64 >= *debt,
            State::Quota { end, .. } => now >= *end,
            State::Slots(pods) => pods.values().all(|(held, until)| *held == 0 || *until <= now),
        }
    }
}
