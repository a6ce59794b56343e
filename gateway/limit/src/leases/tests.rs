//! Simulations of many pods with a clock of their own, where a [`Ledger`] stands for the shared store.

use super::*;
use idm_types::CalendarSpan;

use crate::calendar::{Span, Zone};
use crate::ledger::Ledger;

const SECOND: u64 = 1_000_000;
/// 2026-11-27T12:00:00Z.
const BEGIN: u64 = 1_795_780_800 * SECOND;

fn need(counter: &Counter) -> Need {
    Need { name: [1; 32], counter: counter.clone(), number: 1 }
}

/// Pods that share one store.
struct Bed {
    store: Ledger,
    pods: Vec<(u64, Leases)>,
    born: u64,
    asked: u64,
    requests: u64,
    admitted: u64,
}

impl Bed {
    fn new(pods: u64) -> Self {
        let mut bed = Self { store: Ledger::default(), pods: Vec::new(), born: 0, asked: 0, requests: 0, admitted: 0 };
        bed.scale(pods);
        bed
    }

    /// Pods that come have nothing, and those that go take along what they hold.
    fn scale(&mut self, pods: u64) {
        self.pods.truncate(usize::try_from(pods).unwrap());
        while (self.pods.len() as u64) < pods {
            self.born += 1;
            self.pods.push((self.born, Leases::default()));
        }
    }

    /// One request at one pod, whose clock began at another time than the others'.
    fn request(&mut self, pod: usize, needs: &[Need], now: u64) -> bool {
        let Self { store, pods, asked, requests, admitted, .. } = self;
        let (id, leases) = &mut pods[pod];
        let local = now - BEGIN + *id * 977;
        *requests += 1;
        let passes = loop {
            match leases.begin(needs, local) {
                Begun::Taken(_) => break true,
                Begun::Refused(_) => break false,
                Begun::Ask(asks) => {
                    *asked += 1;
                    let answer = store.ask(*id, &asks, now);
                    assert!(leases.hear(&asks, &answer, local));
                }
            }
        };
        *admitted += u64::from(passes);
        passes
    }

    fn flush(&mut self, now: u64) {
        for (id, leases) in &mut self.pods {
            let local = now - BEGIN + *id * 977;
            let asks = leases.flush(local);
            if !asks.is_empty() {
                self.asked += 1;
                let answer = self.store.ask(*id, &asks, now);
                leases.hear(&asks, &answer, local);
            }
        }
    }
}

fn quota(limit: u64, per: CalendarSpan) -> Counter {
    Counter::Quota { limit, span: Span::new(per, Zone::named("Etc/UTC").unwrap()) }
}

/// The most in any span of a second that follows `grain` steps.
fn most_in(counts: &[u64], steps: usize) -> u64 {
    counts.windows(steps).map(|span| span.iter().sum()).max().unwrap_or(0)
}

#[test]
fn r73_a_hundred_pods_keep_a_rate_within_a_hundredth_and_ask_for_few() {
    // A million in each ten seconds, and half as much again comes.
    let (limit, pods, seconds) = (1_000_000, 100, 11);
    let counter = Counter::Rate { requests: limit, per_us: 10 * SECOND, burst: limit / 10 };
    let (mut bed, needs) = (Bed::new(pods), [need(&counter)]);
    let step = SECOND / 1000;
    let mut admitted = Vec::new();
    for tick in 0..seconds * 1000 {
        let before = bed.admitted;
        for request in 0..150 {
            bed.request((request * 7 + tick as usize * 31) % pods as usize, &needs, BEGIN + tick * step);
        }
        admitted.push(bed.admitted - before);
        if tick % 250 == 0 {
            bed.flush(BEGIN + tick * step);
        }
    }
    let exact = (limit / 10) as f64 + (limit / 10 * seconds) as f64;
    let error = bed.admitted as f64 / exact - 1.0;
    assert!(error.abs() <= 0.01, "{error}");
    let span = most_in(&admitted, 10_000) as f64 / (limit / 10 + limit) as f64 - 1.0;
    assert!(span <= 0.01, "{span} too many in some ten seconds");
    let asked = bed.asked as f64 / bed.requests as f64;
    assert!(asked < 0.01, "{asked}");
    println!("rate: error {error:.5}, worst span {span:.5}, asked for {asked:.5} of requests");
}

#[test]
fn r73_a_hundred_pods_use_up_a_quota_exactly() {
    let (limit, pods) = (1_000_000, 100);
    let (mut bed, needs) = (Bed::new(pods), [need(&quota(limit, CalendarSpan::Day))]);
    let mut now = BEGIN;
    for request in 0..limit + limit / 10 {
        now += 20;
        // Half of the pods get most of the requests.
        let pod = if request % 8 == 0 { request / 8 % pods } else { request % (pods / 2) };
        bed.request(usize::try_from(pod).unwrap(), &needs, now);
        if request % 50_000 == 0 {
            bed.flush(now);
        }
    }
    assert!(bed.admitted <= limit, "{}", bed.admitted);
    assert!(bed.admitted >= limit / 100 * 99, "{}", bed.admitted);
    let asked = bed.asked as f64 / bed.requests as f64;
    assert!(asked < 0.02, "{asked}");
    println!("quota: admitted {} of {limit}, asked for {asked:.5} of requests", bed.admitted);
}

#[test]
fn r74_scaling_from_one_pod_to_ten_and_back_changes_nothing() {
    for counter in
        [quota(200_000, CalendarSpan::Day), Counter::Rate { requests: 200_000, per_us: 10 * SECOND, burst: 20_000 }]
    {
        let (mut bed, needs) = (Bed::new(1), [need(&counter)]);
        let (step, ticks) = (SECOND / 1000, 10_000);
        for tick in 0..ticks {
            match tick {
                2_000 => bed.scale(10),
                6_000 => bed.scale(1),
                _ => {}
            }
            for request in 0..40 {
                bed.request((request + tick as usize) % bed.pods.len(), &needs, BEGIN + tick * step);
            }
            if tick % 250 == 0 {
                bed.flush(BEGIN + tick * step);
            }
        }
        let exact = match counter {
            Counter::Rate { burst, .. } => 200_000 + burst,
            _ => 200_000,
        };
        let error = bed.admitted as f64 / exact as f64 - 1.0;
        assert!(error.abs() <= 0.01, "{counter:?}: {error}");
        println!("1, 10, 1 pods: error {error:.5}");
    }
}

#[test]
fn a_small_limit_is_exact_on_many_pods() {
    let (mut bed, needs) = (Bed::new(7), [need(&quota(10, CalendarSpan::Day))]);
    let passed = (0..70).filter(|request| bed.request(request % 7, &needs, BEGIN + *request as u64)).count();
    assert_eq!(passed, 10);
    let counter = Counter::Rate { requests: 10, per_us: SECOND, burst: 5 };
    let (mut bed, needs) = (Bed::new(7), [need(&counter)]);
    let passed = (0..4_000).filter(|ms| bed.request(ms % 7, &needs, BEGIN + *ms as u64 * 1000)).count();
    assert_eq!(passed, 44, "five at once, and ten in each second");
}

#[test]
fn r78_what_one_limit_refused_costs_no_other_on_any_pod() {
    let (mut bed, wide) = (Bed::new(3), quota(1000, CalendarSpan::Day));
    let narrow = Need { name: [2; 32], ..need(&quota(4, CalendarSpan::Day)) };
    let needs = [need(&wide), narrow];
    let passed = (0..300).filter(|request| bed.request(request % 3, &needs, BEGIN + *request as u64)).count();
    assert_eq!(passed, 4);
    let passed = (0..3000).filter(|request| bed.request(request % 3, &needs[..1], BEGIN + *request as u64)).count();
    assert_eq!(passed, 996);
}

#[test]
fn slots_are_shared_and_those_of_a_pod_that_ends_come_back() {
    let (mut bed, needs) = (Bed::new(2), [need(&Counter::Slots { limit: 3 })]);
    assert!(bed.request(0, &needs, BEGIN) && bed.request(0, &needs, BEGIN) && bed.request(1, &needs, BEGIN));
    assert!(!bed.request(1, &needs, BEGIN));
    // One is given back, and told.
    bed.pods[0].1.settle(&needs[0], 1, 0, SECOND);
    bed.flush(BEGIN + SECOND);
    assert!(bed.request(1, &needs, BEGIN + SECOND));
    assert!(!bed.request(0, &needs, BEGIN + SECOND));
    // The second pod ends with two; the first one goes on telling of its own.
    bed.scale(1);
    for second in 1..30 {
        let now = BEGIN + second * SECOND;
        bed.flush(now);
        if second < 10 {
            assert!(!bed.request(0, &needs, now), "{second}");
        }
    }
    let now = BEGIN + 30 * SECOND;
    assert!(bed.request(0, &needs, now) && bed.request(0, &needs, now) && !bed.request(0, &needs, now));
}

#[test]
fn r81_what_was_reserved_and_not_used_is_there_for_others() {
    let (mut bed, counter) = (Bed::new(2), quota(1000, CalendarSpan::Day));
    let many = |number| Need { number, ..need(&counter) };
    assert!(bed.request(0, &[many(900)], BEGIN) && !bed.request(1, &[many(200)], BEGIN));
    let end = 1_795_824_000 * SECOND;
    // It used a hundred.
    bed.pods[0].1.settle(&many(900), 800, end, SECOND);
    assert!(bed.request(0, &[many(100)], BEGIN + SECOND), "at once on the same pod");
    for second in 1..6 {
        bed.flush(BEGIN + second * SECOND);
    }
    assert!(bed.request(1, &[many(800)], BEGIN + 6 * SECOND), "and soon on the others");
    assert!(!bed.request(0, &[many(1)], BEGIN + 7 * SECOND));
    // Use beyond the reservation counts, though the store was not asked.
    bed.pods[0].1.settle(&many(1), -500, end, 8 * SECOND);
    bed.flush(BEGIN + 8 * SECOND);
    bed.pods[1].1.settle(&many(1), 400, end, 9 * SECOND);
    for second in 9..14 {
        bed.flush(BEGIN + second * SECOND);
    }
    assert!(!bed.request(0, &[many(1)], BEGIN + 15 * SECOND));
}

#[test]
fn r77_what_a_pod_holds_of_a_span_ends_with_it() {
    let (mut bed, counter) = (Bed::new(2), quota(15_000, CalendarSpan::Minute));
    let needs = [need(&counter)];
    for request in 0..30_000 {
        bed.request(request % 2, &needs, BEGIN + request as u64);
    }
    assert_eq!(bed.admitted, 15_000);
    for request in 0..30_000 {
        bed.request(request % 2, &needs, BEGIN + 60 * SECOND + request as u64);
    }
    assert!(bed.admitted <= 30_000 && bed.admitted >= 29_700, "{}", bed.admitted);
}

/// `cargo test --release -p idm-limit -- --ignored --nocapture cost`
#[test]
#[ignore = "a figure of release builds"]
fn a_limit_costs_a_request_less_than_a_microsecond() {
    let counters = [
        Counter::Rate { requests: 1_000_000, per_us: SECOND, burst: 1_000_000 },
        quota(1_000_000_000, CalendarSpan::Month),
        Counter::Slots { limit: 100_000 },
    ];
    let needs: Vec<Need> =
        (0..).zip(&counters).map(|(number, counter)| Need { name: [number; 32], ..need(counter) }).collect();
    let rounds = 1_000_000;
    for limits in [1, 3] {
        let (mut ledger, needs) = (Ledger::default(), &needs[..limits]);
        let began = std::time::Instant::now();
        for round in 0..rounds {
            let (all, _) = ledger.take(needs, BEGIN + round);
            assert!(all);
            needs.iter().for_each(|need| {
                if matches!(need.counter, Counter::Slots { .. }) {
                    ledger.settle(&need.name, (1, 0), BEGIN + round);
                }
            });
        }
        let here = began.elapsed() / u32::try_from(rounds).unwrap();
        let mut bed = Bed::new(1);
        let began = std::time::Instant::now();
        for round in 0..rounds {
            assert!(bed.request(0, needs, BEGIN + round));
            bed.pods[0].1.settle(&needs[limits - 1], 0, 0, round);
            if limits == 3 {
                bed.pods[0].1.settle(&needs[2], 1, 0, round);
            }
        }
        let shared = began.elapsed() / u32::try_from(rounds).unwrap();
        println!("{limits} limits: {here:?} in this process, {shared:?} with leases, {} questions", bed.asked);
        assert!(here.as_nanos() < 1000 * limits as u128 && shared.as_nanos() < 1000 * limits as u128);
    }
}
