use std::num::{NonZeroU64, NonZeroU128};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use idm_types::{Timestamp, TraceContext, TraceId};

use crate::SpanId;

/// A share of all traces, from 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ratio(f64);

impl Ratio {
    /// One in a hundred.
    pub const USUAL: Self = Self(0.01);

    /// `None` for a number that is no share.
    pub fn new(share: f64) -> Option<Self> {
        (0.0..=1.0).contains(&share).then_some(Self(share))
    }

    /// The least random part of a trace's id that is in the share.
    fn threshold(self) -> u64 {
        ((1.0 - self.0) * RANDOM as f64).round() as u64
    }
}

/// The values that the random part of a trace's id has: its last 56 bits (W3C Trace Context Level 2, §3.2.2.3).
const RANDOM: u64 = 1 << 56;

/// How far callers decide about traces by their `traceparent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Callers {
    /// Not at all: every request begins a trace of its own, with a link to the caller's.
    Ignored,
    /// Their traces are continued. Those that they record are recorded here too, up to this many requests in a second.
    Bounded(u32),
    /// Their traces are continued, and recorded where they record them.
    Trusted,
}

/// The place of a request in its trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placed {
    /// The trace, the gateway's span in it, and whether the gateway records it.
    pub context: TraceContext,
    /// The caller's span in the same trace.
    pub parent: Option<SpanId>,
    /// The caller's span in a trace that is not continued.
    pub link: Option<TraceContext>,
}

/// Decides which requests are recorded, when they arrive (head sampling).
///
/// A request that continues a trace is recorded where its caller records it (flag `sampled`), as far as callers may
/// decide that; a caller that does not record is followed in any case. A trace that begins here is recorded if its id
/// is in the share: every sampler of the same share decides alike (OpenTelemetry, `TraceIdRatioBased`). A caller can
/// get past neither bound by its choice of an id, because an id that it chose is never asked for its share.
#[derive(Debug)]
pub struct Sampler {
    threshold: u64,
    callers: Callers,
    /// The second of the clock, and behind it the number of requests that were taken in it.
    window: AtomicU64,
}

impl Sampler {
    /// A sampler for a process.
    pub fn new(ratio: Ratio, callers: Callers) -> Self {
        Self { threshold: ratio.threshold(), callers, window: AtomicU64::new(0) }
    }

    /// Places a request that arrives now, with random numbers for the ids.
    pub fn place(&self, from: Option<TraceContext>, now: Timestamp, mut random: impl FnMut() -> u64) -> Placed {
        let span = NonZeroU64::new(random()).unwrap_or(NonZeroU64::MIN);
        let continued = from.filter(|_| self.callers != Callers::Ignored);
        if let Some(TraceContext { trace, parent, sampled }) = continued {
            let sampled = sampled && self.may_record(now);
            return Placed { context: TraceContext { trace, parent: span, sampled }, parent: Some(parent), link: None };
        }
        let id = u128::from(random()) << 64 | u128::from(random());
        let sampled = id as u64 % RANDOM >= self.threshold;
        let trace = TraceId::from(NonZeroU128::new(id).unwrap_or(NonZeroU128::MIN));
        Placed { context: TraceContext { trace, parent: span, sampled }, parent: None, link: from }
    }

    /// Whether one more request may be recorded because its caller says so.
    fn may_record(&self, now: Timestamp) -> bool {
        let limit = match self.callers {
            Callers::Ignored => return false,
            Callers::Bounded(limit) => u64::from(limit),
            Callers::Trusted => return true,
        };
        let second = now.seconds() & u64::from(u32::MAX);
        let take = |window: u64| {
            let taken = if window >> 32 == second { window & u64::from(u32::MAX) } else { 0 };
            (taken < limit).then_some(second << 32 | (taken + 1))
        };
        self.window.fetch_update(Relaxed, Relaxed, take).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Timestamp = Timestamp(1_700_000_000_000);

    fn from(trace: u128, sampled: bool) -> TraceContext {
        let trace = NonZeroU128::new(trace).unwrap().into();
        TraceContext { trace, parent: NonZeroU64::new(7).unwrap(), sampled }
    }

    /// Another generator than the product's: counts up, spread over all bits.
    fn numbers() -> impl FnMut() -> u64 {
        let mut state = 0_u64;
        move || {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            (state ^ state >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9)
        }
    }

    fn sampler(ratio: f64, callers: Callers) -> Sampler {
        Sampler::new(Ratio::new(ratio).unwrap(), callers)
    }

    #[test]
    fn a_share_is_from_0_to_1() {
        for wrong in [-0.1, 1.1, f64::NAN, f64::INFINITY] {
            assert_eq!(Ratio::new(wrong), None);
        }
        assert_eq!([0.0, 0.5, 1.0].map(|share| Ratio(share).threshold()), [RANDOM, RANDOM / 2, 0]);
    }

    #[test]
    fn traces_that_begin_here_are_recorded_in_their_share() {
        for ratio in [0.0, 0.01, 0.3, 1.0] {
            let (sampler, mut random) = (sampler(ratio, Callers::Trusted), numbers());
            let recorded = (0..100_000).filter(|_| sampler.place(None, NOW, &mut random).context.sampled).count();
            assert!((recorded as f64 / 100_000.0 - ratio).abs() < 0.01 * ratio + 0.002, "{ratio}: {recorded}");
            if ratio == 0.0 || ratio == 1.0 {
                assert_eq!(recorded as f64, 100_000.0 * ratio);
            }
        }
    }

    #[test]
    fn a_trace_is_continued_with_a_span_of_our_own() {
        let sampler = sampler(0.0, Callers::Trusted);
        let placed = sampler.place(Some(from(5, true)), NOW, || 9);
        let parent = NonZeroU64::new(9).unwrap();
        let expected = Placed {
            context: TraceContext { parent, ..from(5, true) },
            parent: Some(from(5, true).parent),
            link: None,
        };
        assert_eq!(placed, expected);
    }

    #[test]
    fn callers_record_up_to_their_bound_in_each_second() {
        let (sampler, mut random) = (sampler(1.0, Callers::Bounded(3)), numbers());
        let mut recorded = |at: u64, flag: bool| {
            let at = Timestamp(NOW.0 + at);
            (1..=10).filter(|id| sampler.place(Some(from(*id, flag)), at, &mut random).context.sampled).count()
        };
        // The share of 1 helps no caller: only traces that begin here are asked for it.
        assert_eq!([recorded(0, true), recorded(999, true), recorded(1000, true), recorded(1000, false)], [3, 0, 3, 0]);
    }

    #[test]
    fn an_ignored_caller_is_linked_to() {
        let sampler = sampler(1.0, Callers::Ignored);
        for flag in [true, false] {
            let placed = sampler.place(Some(from(5, flag)), NOW, numbers());
            assert_ne!(placed.context.trace, from(5, flag).trace);
            assert_eq!((placed.parent, placed.link, placed.context.sampled), (None, Some(from(5, flag)), true));
        }
    }

    #[test]
    fn a_process_that_has_no_numbers_left_still_has_valid_ids() {
        let placed = sampler(1.0, Callers::Trusted).place(None, NOW, || 0);
        assert_eq!((placed.context.parent, u128::from(placed.context.trace)), (NonZeroU64::MIN, 1));
    }

    proptest! {
        #[test]
        fn a_larger_share_holds_every_smaller_one(one: f64, two: f64, seed: u64) {
            let [one, two] = [one, two].map(|share| share.abs().fract());
            let (less, more) = (one.min(two), one.max(two));
            let [less, more] = [less, more].map(|ratio| {
                let mut state = seed;
                let random = || { state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1); state };
                sampler(ratio, Callers::Trusted).place(None, NOW, random).context.sampled
            });
            prop_assert!(more || !less);
        }
    }
}
