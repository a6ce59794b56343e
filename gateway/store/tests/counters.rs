//! Counters that gateways share in Redis.

use std::sync::Arc;
use std::time::{Duration, Instant};

use idm_limit::{Counter, Need, Span, Zone};
use idm_store::{Counters, Key, OnLoss, SharedOptions, Store, Taken};
use idm_tests::Redis;
use idm_types::{CalendarSpan, Redacted, Timestamp};

/// Long enough for a busy machine.
const LONG: Duration = Duration::from_secs(5);

fn pods(redis: &Redis, number: usize, patience: Duration) -> Vec<Arc<Counters>> {
    let password = std::fs::read_to_string(redis.password_file().path()).unwrap();
    let options = || SharedOptions {
        url: redis.url(),
        username: None,
        password: Some(Redacted::new(password.clone())),
        ca_pem: None,
        namespace: "n".into(),
    };
    (0..number).map(|_| Counters::with_patience(Store::shared(options()).unwrap(), patience)).collect()
}

fn need(name: &str, counter: Counter) -> Need {
    Need { name: Key::of(&["limit", name]).bytes(), counter, number: 1 }
}

fn quota(limit: u64) -> Counter {
    Counter::Quota { limit, span: Span::new(CalendarSpan::Month, Zone::named("Etc/UTC").unwrap()) }
}

async fn take(pod: &Arc<Counters>, needs: &[Need], on_loss: OnLoss) -> Option<Taken> {
    pod.take(needs.to_vec(), on_loss, Timestamp::now()).await.ok()?.taken
}

async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !is_so().await {
        assert!(start.elapsed() < Duration::from_secs(10), "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn r74_pods_share_a_limit_and_a_refusal_costs_nothing() {
    let redis = Redis::start();
    let pods = pods(&redis, 3, LONG);
    let needs = [need("wide", quota(1000)), need("narrow", quota(7))];
    let mut passed = 0;
    for request in 0..60 {
        passed += usize::from(take(&pods[request % 3], &needs, OnLoss::Deny).await.is_some());
    }
    assert_eq!(passed, 7);
    let mut passed = 0;
    for request in 0..1200 {
        passed += usize::from(take(&pods[request % 3], &needs[..1], OnLoss::Deny).await.is_some());
    }
    assert_eq!(passed, 993);
}

#[tokio::test(flavor = "multi_thread")]
async fn r83_names_of_counters_tell_nothing_of_callers() {
    let redis = Redis::start();
    let pod = &pods(&redis, 1, LONG)[0];
    assert!(take(pod, &[need("canary-of-a-caller", quota(5))], OnLoss::Deny).await.is_some());
    let keys = redis.cli(&["KEYS", "*"]);
    assert!(keys.lines().count() >= 2 && !keys.contains("canary"), "{keys}");
}

#[tokio::test(flavor = "multi_thread")]
async fn slots_come_back_when_they_are_dropped_on_every_pod() {
    let redis = Redis::start();
    let pods = pods(&redis, 2, LONG);
    let needs = [need("slots", Counter::Slots { limit: 2 })];
    let first = take(&pods[0], &needs, OnLoss::Deny).await.expect("a slot");
    let second = take(&pods[1], &needs, OnLoss::Deny).await.expect("a slot");
    assert!(take(&pods[1], &needs, OnLoss::Deny).await.is_none());
    drop(first);
    until("the slot of the other pod is there", async || take(&pods[1], &needs, OnLoss::Deny).await.is_some()).await;
    drop(second);
}

/// The time that each answer takes while the store is away.
async fn lost(pod: &Arc<Counters>, needs: &[Need], on_loss: OnLoss) -> (bool, Duration) {
    let start = Instant::now();
    let passes = take(pod, needs, on_loss).await.is_some();
    (passes, start.elapsed())
}

async fn exactly_that(pod: &Arc<Counters>, other: &str) {
    let (deny, local) = ([need("deny", quota(100))], [need(other, quota(3))]);
    let (mut passed, mut took) = (0, Vec::new());
    for request in 0..20 {
        let (passes, time) = lost(pod, &deny, OnLoss::Deny).await;
        assert!(!passes, "{request}");
        took.push(time);
        let (passes, time) = lost(pod, &local, OnLoss::Local).await;
        took.push(time);
        passed += usize::from(passes);
    }
    assert_eq!(passed, 3, "this gateway counts the limit by itself");
    // On a busy machine some wait for the processor.
    took.sort_unstable();
    assert!(took[30] < Duration::from_millis(50), "{took:?}");
    let counts = pod.counts();
    assert!(counts.lost_denied >= 20 && counts.lost_local >= 20, "{counts:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn r72_a_store_that_is_paused_or_killed_does_what_the_limit_says() {
    let mut redis = Redis::start();
    let pods = pods(&redis, 2, idm_store::PATIENCE);
    let warm = [need("warm", quota(1_000_000))];
    until("the store answers", async || take(&pods[0], &warm, OnLoss::Deny).await.is_some()).await;
    until("the store answers", async || take(&pods[1], &warm, OnLoss::Deny).await.is_some()).await;
    redis.pause(true);
    exactly_that(&pods[0], "paused").await;
    redis.pause(false);
    until("the store is found again", async || {
        let before = pods[0].counts().lost_denied;
        take(&pods[0], &[need("deny", quota(100))], OnLoss::Deny).await.is_some()
            && pods[0].counts().lost_denied == before
    })
    .await;
    redis.kill();
    exactly_that(&pods[1], "killed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn r77_pods_whose_clocks_differ_share_one_span() {
    let redis = Redis::start();
    let pods = pods(&redis, 2, LONG);
    let hour = Counter::Quota { limit: 4, span: Span::new(CalendarSpan::Hour, Zone::named("Asia/Kolkata").unwrap()) };
    let (needs, now) = ([need("hour", hour)], Timestamp::now());
    let mut passed = 0;
    for request in 0..12 {
        // Three hours behind, and three ahead.
        let off = if request % 2 == 0 { now.0 - 3 * 3_600_000 } else { now.0 + 3 * 3_600_000 };
        let taking = pods[request % 2].take(needs.to_vec(), OnLoss::Deny, Timestamp(off)).await.unwrap();
        passed += usize::from(taking.taken.is_some());
    }
    assert_eq!(passed, 4);
}
