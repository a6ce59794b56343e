//! The script and the arithmetic in Rust are one: a server answers every question as a [`Ledger`] does.

use idm_limit::{Span, Zone};
use idm_tests::Redis;
use idm_types::{CalendarSpan, Redacted};

use super::*;
use crate::SharedOptions;

/// The script with a time of the test's.
const NOW_OF_TEST: &str = "local now = tonumber(ARGV[#ARGV])\n";
const SECOND: u64 = 1_000_000;
const BEGIN: u64 = 1_795_780_800 * SECOND;

/// A generator of numbers (splitmix64).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }
}

fn shared(redis: &Redis) -> Arc<Shared> {
    let password = std::fs::read_to_string(redis.password_file().path()).unwrap();
    let store = Store::shared(SharedOptions {
        url: redis.url(),
        username: None,
        password: Some(Redacted::new(password)),
        ca_pem: None,
        namespace: "n".into(),
    });
    match store.unwrap().kind {
        Kind::Shared(shared) => shared,
        Kind::InProcess(_) => unreachable!(),
    }
}

fn counters() -> Vec<Counter> {
    let span = |per, zone: &str| Span::new(per, Zone::named(zone).unwrap());
    vec![
        Counter::Rate { requests: 3, per_us: SECOND, burst: 5 },
        Counter::Rate { requests: 700_000, per_us: 7 * SECOND, burst: 50_000 },
        Counter::Quota { limit: 9, span: span(CalendarSpan::Second, "Etc/UTC") },
        Counter::Quota { limit: 20_000, span: span(CalendarSpan::Minute, "Etc/UTC") },
        Counter::Slots { limit: 4 },
        Counter::Slots { limit: 1000 },
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn r78_the_script_answers_what_the_arithmetic_says() {
    let redis = Redis::start();
    let (shared, counters) = (shared(&redis), counters());
    let (mut ledger, mut numbers, mut now) = (Ledger::default(), Numbers(1), BEGIN);
    let mut seen = [0; 2];
    for round in 0..1500 {
        now += numbers.below(400_000);
        let mut asks: Vec<Ask> = Vec::new();
        for (number, counter) in (0_u8..).zip(&counters) {
            if numbers.below(2) == 0 {
                continue;
            }
            let size = counter.most();
            let of_end = if let Counter::Quota { span, .. } = counter { span.ends(now)[2] } else { 0 };
            let back = numbers.below(size.min(40)) as i64;
            let back = match counter {
                Counter::Slots { .. } => back / 8,
                _ if numbers.below(3) == 0 => back - 20,
                _ => 0,
            };
            let (need, want) = (numbers.below(3), numbers.below(size));
            asks.push(Ask { name: [number; 32], counter: counter.clone(), need, want, back, of_end });
        }
        let pod = numbers.below(3) + 1;
        let expected = ledger.ask(pod, &asks, now);
        let mut command = command(NOW_OF_TEST, |name| shared.name(&Key(*name)), shared.pods(), pod, &asks, || now);
        command.arg(now);
        let words: Vec<i64> = shared.clone().ask(command).await.unwrap();
        assert_eq!(read(&words, asks.len()).unwrap(), expected, "round {round}: {asks:?}");
        let granted = expected.told.iter().flatten().any(|told| told.granted > 0);
        seen[usize::from(granted)] += 1;
    }
    assert!(seen[0] > 100 && seen[1] > 100, "both ends are seen: {seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn r77_a_pod_with_a_wrong_calendar_is_told_so() {
    let redis = Redis::start();
    let shared = shared(&redis);
    let span = Span::new(CalendarSpan::Hour, Zone::named("Europe/Berlin").unwrap());
    let counter = Counter::Quota { limit: 1, span };
    let ask = Ask { name: [1; 32], counter, need: 1, want: 1, back: 0, of_end: 0 };
    for (case, off, readable) in [(1, -7200, false), (2, -3600, true), (3, 0, true), (4, 3600, true), (5, 7200, false)]
    {
        let at = BEGIN.saturating_add_signed(off * 1_000_000);
        let ask = Ask { name: [case; 32], ..ask.clone() };
        let name = |name: &[u8; 32]| shared.name(&Key(*name));
        let mut command = command(NOW_OF_TEST, name, shared.pods(), 1, std::slice::from_ref(&ask), || at);
        command.arg(BEGIN);
        let words: Vec<i64> = shared.clone().ask(command).await.unwrap();
        assert_eq!(read(&words, 1).unwrap().told.is_some(), readable, "{off} s");
    }
}

#[tokio::test]
async fn each_reservation_is_settled_in_its_unit() {
    let counters = Counters::new(Store::in_process());
    let span = Span::new(CalendarSpan::Month, Zone::named("Etc/UTC").unwrap());
    let need = |name: u8, number: u64| Need {
        name: [name; 32],
        counter: Counter::Quota { limit: 1000, span: span.clone() },
        number,
    };
    let take = |number: u64| {
        let needs = vec![need(1, number), need(2, number), need(3, number)];
        counters.take(needs, OnLoss::Deny, Timestamp(BEGIN / 1000))
    };
    let mut taken = take(600).await.unwrap().taken.unwrap();
    taken.reserve(0, Unit::Tokens);
    taken.reserve(1, Unit::Micros);
    taken.settle(Used { tokens: 50, micros: 7 });
    let left: Vec<u64> = take(0).await.unwrap().standings.iter().map(|standing| standing.remaining).collect();
    assert_eq!(left, [950, 993, 400], "the third was not reserved, and stays taken");
}

#[tokio::test]
async fn a_reservation_is_renewed_as_long_as_there_is_enough_and_places_stay_taken() {
    let counters = Counters::new(Store::in_process());
    let span = Span::new(CalendarSpan::Month, Zone::named("Etc/UTC").unwrap());
    let now = Timestamp(BEGIN / 1000);
    let quota = Need { name: [1; 32], counter: Counter::Quota { limit: 1000, span: span.clone() }, number: 400 };
    let place = Need { name: [2; 32], counter: Counter::Slots { limit: 1 }, number: 1 };
    let mut taken = counters.take(vec![place.clone(), quota.clone()], OnLoss::Deny, now).await.unwrap().taken.unwrap();
    taken.reserve(1, Unit::Tokens);
    let used = |tokens: u64| Used { tokens, micros: 0 };
    assert_eq!(taken.renew(used(300), now).await.unwrap(), None);
    assert_eq!(taken.renew(used(500), now).await.unwrap(), Some((1, Unit::Tokens)), "200 are left");
    let left = async |need: &Need| {
        let need = Need { number: 0, ..need.clone() };
        counters.take(vec![need], OnLoss::Deny, now).await.unwrap().standings[0].remaining
    };
    assert_eq!((left(&quota).await, left(&place).await), (200, 0));
    drop(taken);
    assert_eq!((left(&quota).await, left(&place).await), (200, 1), "nothing that was settled comes back");
}
