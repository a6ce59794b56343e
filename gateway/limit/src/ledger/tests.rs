use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;
use idm_types::CalendarSpan;

use crate::calendar::{Span, Zone};

fn name(number: u8) -> Name {
    [number; 32]
}

fn one(number: u8, counter: &Counter) -> Need {
    Need { name: name(number), counter: counter.clone(), number: 1 }
}

fn rate(requests: u64, per_us: u64, burst: u64) -> Counter {
    Counter::Rate { requests, per_us, burst }
}

fn quota(limit: u64, per: CalendarSpan) -> Counter {
    Counter::Quota { limit, span: Span::new(per, Zone::named("Etc/UTC").unwrap()) }
}

/// The definition of a rate with a burst, by brute force: in no span that ends now are there more than
/// `burst + length / interval`.
struct Oracle {
    interval: u64,
    burst: u64,
    taken: Vec<u64>,
}

impl Oracle {
    fn would_exceed(&self, now: u64) -> bool {
        let with_this = self.taken.iter().rev().chain([&now]);
        let mut times: Vec<u64> = with_this.copied().collect();
        times.sort_unstable_by(|a, b| b.cmp(a));
        (1..).zip(&times).any(|(count, since): (u64, &u64)| count > self.burst + (now - since) / self.interval)
    }

    /// Whether a limiter that lets these times pass keeps the limit.
    fn accepts(interval: u64, burst: u64, times: &[u64]) -> bool {
        let mut oracle = Oracle { interval, burst, taken: Vec::new() };
        times.iter().all(|now| {
            let exceeds = oracle.would_exceed(*now);
            oracle.taken.push(*now);
            !exceeds
        })
    }
}

proptest! {
    #[test]
    fn r75_a_rate_lets_pass_exactly_what_its_definition_lets_pass(
        interval in 1..2000u64,
        burst in 1..6u64,
        waits in proptest::collection::vec(0..3000u64, 1..120),
    ) {
        let (mut ledger, counter) = (Ledger::default(), rate(1, interval, burst));
        let (mut oracle, mut now) = (Oracle { interval, burst, taken: Vec::new() }, 1_700_000_000_000_000);
        for wait in waits {
            now += wait;
            let (passes, standing) = ledger.take(&[one(1, &counter)], now);
            prop_assert_eq!(passes, !oracle.would_exceed(now), "{:?}", standing);
            if passes {
                oracle.taken.push(now);
            } else {
                // The time to wait is exact.
                let wait = standing[0].wait_us;
                prop_assert!(oracle.would_exceed(now + wait - 1) && !oracle.would_exceed(now + wait));
            }
        }
    }
}

/// Ten in each second, where the burst is one second's.
const SECOND: u64 = 1_000_000;
const NOW: u64 = 1_700_000_000 * SECOND;

fn passed(mut limiter: impl FnMut(u64) -> bool) -> Vec<u64> {
    // The end of one second and the beginning of the next, at once.
    let times = (0..400).map(|step| 9 * SECOND / 10 + step * 1000);
    times.filter(|now| limiter(*now)).collect()
}

#[test]
fn r75_the_oracle_finds_fixed_windows_and_sliding_counters() {
    let (limit, interval) = (10, SECOND / 10);
    let mut window = (0, 0);
    let fixed = passed(|now| {
        window = if now / SECOND == window.0 { window } else { (now / SECOND, 0) };
        window.1 += 1;
        window.1 <= limit
    });
    // Half of what a rate with that burst may let pass in a second would do.
    assert!(!Oracle::accepts(interval, 5, &fixed), "{}", fixed.len());
    let mut counts = [(0u64, 0u64); 2];
    let sliding = passed(|now| {
        let second = now / SECOND;
        if counts[1].0 != second {
            counts = [if counts[1].0 + 1 == second { counts[1] } else { (second.saturating_sub(1), 0) }, (second, 0)];
        }
        let weight = 1.0 - (now % SECOND) as f64 / SECOND as f64;
        let passes = counts[0].1 as f64 * weight + (counts[1].1 as f64) < limit as f64;
        counts[1].1 += u64::from(passes);
        passes
    });
    assert!(!Oracle::accepts(interval, 5, &sliding), "{}", sliding.len());
    let (mut ledger, counter) = (Ledger::default(), rate(10, SECOND, 5));
    let ours = passed(|now| ledger.take(&[one(1, &counter)], now).0);
    assert!(Oracle::accepts(interval, 5, &ours));
    assert_eq!(ours.len(), 8, "the burst, and what came in 400 ms");
}

#[test]
fn r78_several_limits_take_all_or_none() {
    let (mut ledger, now) = (Ledger::default(), 1_700_000_000_000_000);
    let (wide, narrow) = (rate(100, SECOND, 100), quota(2, CalendarSpan::Month));
    let needs = [one(1, &wide), one(2, &narrow)];
    for expected in [true, true, false, false, false] {
        let (passes, standing) = ledger.take(&needs, now);
        assert_eq!(passes, expected, "{standing:?}");
    }
    let (_, standing) = ledger.take(&needs[..1], now);
    assert_eq!(standing[0].remaining, 97, "what another limit refused costs nothing");
}

#[test]
fn a_quota_counts_from_zero_in_each_span_and_takes_back() {
    let (mut ledger, day) = (Ledger::default(), quota(3, CalendarSpan::Day));
    // 2026-11-27T23:59:59Z
    let now = 1_795_823_999 * SECOND;
    let many = Need { number: 3, ..one(1, &day) };
    let (passes, standing) = ledger.take(std::slice::from_ref(&many), now);
    assert!(passes && standing[0].remaining == 0);
    let (passes, refused) = ledger.take(&[one(1, &day)], now);
    assert_eq!((passes, refused[0].wait_us), (false, SECOND), "until midnight");
    ledger.settle(&name(1), (2, standing[0].end), now);
    assert!(ledger.take(&[one(1, &day)], now).0);
    let next = now + SECOND;
    ledger.settle(&name(1), (1, standing[0].end), next);
    let (_, standing) = ledger.take(&[many], next);
    assert_eq!(standing[0].remaining, 0, "what comes back late is of the day before");
}

#[test]
fn slots_are_taken_and_given_back() {
    let (mut ledger, slots) = (Ledger::default(), Counter::Slots { limit: 2 });
    let needs = [one(1, &slots)];
    assert!(ledger.take(&needs, 1).0 && ledger.take(&needs, 2).0);
    let hour = 3_600 * SECOND;
    assert!(!ledger.take(&needs, hour).0, "however long they are in use");
    ledger.settle(&name(1), (1, 0), hour);
    assert!(ledger.take(&needs, hour).0 && !ledger.take(&needs, hour).0);
}

#[test]
fn a_changed_limit_keeps_what_was_used() {
    let mut ledger = Ledger::default();
    let month = |limit| Need { number: 1, ..one(1, &quota(limit, CalendarSpan::Month)) };
    assert!(ledger.take(&[month(1)], NOW).0 && !ledger.take(&[month(1)], NOW).0);
    assert!(ledger.take(&[month(2)], NOW).0, "a higher one gives more at once");
    assert!(!ledger.take(&[month(2)], NOW).0);
}

#[test]
fn a_flood_of_callers_gives_nobody_its_limit_anew() {
    let (mut ledger, counter) = (Ledger::default(), quota(10, CalendarSpan::Month));
    let busy = Need { number: 10, ..one(0, &counter) };
    assert!(ledger.take(std::slice::from_ref(&busy), NOW).0);
    for number in 0..MAX_COUNTERS as u64 + 10 {
        let mut name = [1; 32];
        name[..8].copy_from_slice(&number.to_be_bytes());
        assert!(ledger.take(&[Need { name, counter: counter.clone(), number: 1 }], NOW).0);
    }
    assert!(ledger.len() <= MAX_COUNTERS);
    assert!(!ledger.take(&[Need { number: 1, ..busy }], NOW).0, "who uses most is remembered longest");
}

#[test]
fn a_fast_rate_is_exact_though_its_interval_is_no_whole_number() {
    let (mut ledger, counter) = (Ledger::default(), rate(700_000, SECOND, 1000));
    let mut taken = VecDeque::new();
    for step in 0..300_000u64 {
        if ledger.take(&[one(1, &counter)], 1_700_000_000_000_000 + step).0 {
            taken.push_back(step);
        }
    }
    let expected = 1000 + 210_000;
    assert!(taken.len().abs_diff(expected) <= 1, "{}", taken.len());
}
