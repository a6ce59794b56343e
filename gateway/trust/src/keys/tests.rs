use idm_jose::SigningKey;
use idm_types::Algorithm;

use super::*;

fn set(kid: &str) -> KeySet {
    let jwks = SigningKey::generate(Algorithm::ES256, kid).unwrap().jwks().to_string();
    KeySet::parse(jwks.as_bytes(), &[Algorithm::ES256]).unwrap()
}

#[tokio::test]
async fn fixed_keys_are_never_fetched() {
    let keys = IssuerKeys::fixed(set("k"));
    assert!(!keys.refetch(keys.epoch()).await);
}

/// Every millisecond of twenty minutes: unknown names arrive all the time, keys are published at pseudo-random moments,
/// and each signs from five seconds later. Pure, with a clock of its own.
#[test]
fn a11_a_key_published_5_s_before_it_signs_is_known_in_a_flood_of_unknown_ones() {
    const MINUTE: u64 = 60_000;
    let recent = RECENT.as_millis() as u64;
    // The duration of a fetch, in milliseconds.
    for takes in [1, 40, 900] {
        let (mut good, mut under_way, mut began) = (1u64, None::<u64>, 1u64);
        let mut starts: Vec<u64> = vec![1];
        let mut published: Vec<u64> = Vec::new();
        let (mut next_key, mut random) = (1_000u64, 7u64);
        let mut judged = 0u32;
        for now in 2..20 * MINUTE {
            if now == next_key {
                published.push(now);
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                next_key = now + 1 + (random >> 33) % 9_000;
            }
            if under_way.is_some_and(|start| now >= start + takes) {
                good = under_way.take().unwrap_or(good);
            }
            // The flood: one unknown name in each millisecond, and no older keys than it needs decide about it.
            let outlook = Fetches { good, failed: 0 }.outlook(needed_at(now), false);
            // A good token: its key was published exactly five seconds ago.
            let ahead = PUBLISHED_AHEAD.as_millis() as u64;
            if now > ahead && published.binary_search(&(now - ahead)).is_ok() {
                judged += 1;
                let is_known = now - ahead < good;
                assert!(is_known || outlook == Outlook::Wait, "refused at {now}, keys of {good}");
            }
            if outlook == Outlook::Wait && under_way.is_none() && now >= began + recent {
                (under_way, began) = (Some(now), now);
                starts.push(now);
            }
        }
        assert!(judged > 150, "{judged}");
        for (position, start) in starts.iter().enumerate() {
            let in_a_minute = starts.iter().skip(position).take_while(|other| **other < start + MINUTE).count();
            assert!(in_a_minute <= 15, "{in_a_minute} fetches in the minute from {start}");
        }
    }
}

#[test]
fn early_fetches_are_few_and_come_back_slowly() {
    let early = EarlyFetches::default();
    let take = |now| early.take(now);
    assert_eq!([take(1), take(1), take(1), take(1)], [true, true, true, false]);
    assert!(!take(30_000) && take(30_001) && !take(30_002) && take(60_001));
    // At most 5 in any minute: 3 in reserve and 2 more.
    assert!(take(300_000) && take(300_001) && take(300_002) && !take(320_000) && take(330_000) && take(360_000));
}

#[test]
fn what_a_fetch_means_for_a_token() {
    let outlook = |good, failed, came, changed| Fetches { good, failed }.outlook(needed_at(came), changed);
    assert_eq!(outlook(6_001, 0, 10_001, false), Outlook::Settled);
    assert_eq!(outlook(6_000, 0, 10_001, false), Outlook::Wait);
    assert_eq!(outlook(6_001, 0, 10_001, true), Outlook::LookAgain);
    assert_eq!(outlook(1, 9_000, 10_001, false), Outlook::Unanswered);
    assert_eq!(outlook(1, 6_000, 10_001, false), Outlook::Wait, "another try is due");
    assert_eq!(outlook(0, 0, 1, false), Outlook::Wait, "nothing was fetched yet");
}

#[tokio::test(start_paused = true)]
async fn those_who_wait_share_one_fetch_and_fetches_begin_apart() {
    let keys = IssuerKeys::remote();
    keys.begin();
    keys.publish(set("k"), Timestamp(1));
    let judged = keys.epoch();
    while keys.early.take(keys.moment()) {}
    assert!(!keys.refetch(judged).await, "the keys are recent, and no early fetch is in hand");
    tokio::time::advance(RECENT + Duration::from_millis(1)).await;
    let fetcher = tokio::spawn({
        let keys = keys.clone();
        async move {
            for kid in ["k2", "k3"] {
                keys.wanted().await;
                keys.begin();
                tokio::time::sleep(Duration::from_millis(100)).await;
                keys.publish(set(kid), Timestamp(2));
            }
        }
    });
    let began = Instant::now();
    let (one, two) = tokio::join!(keys.refetch(judged), keys.refetch(judged));
    assert!(one && two);
    assert_eq!(keys.epoch(), judged + 1, "one fetch for both");
    assert!(!keys.refetch(keys.epoch()).await, "what was fetched a moment ago settles it");
    tokio::time::advance(Duration::from_secs(4)).await;
    assert!(keys.refetch(keys.epoch()).await);
    assert!(began.elapsed() >= RECENT);
    fetcher.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_failed_fetch_refuses_those_who_wait_for_it_and_the_next_is_made_later() {
    let keys = IssuerKeys::remote();
    let fetcher = tokio::spawn({
        let keys = keys.clone();
        async move {
            keys.begin();
            tokio::time::sleep(Duration::from_secs(1)).await;
            keys.fail();
            keys.wanted().await;
            keys.begin();
            keys.publish(set("k"), Timestamp(1));
        }
    });
    let began = Instant::now();
    assert!(!keys.refetch(keys.epoch()).await);
    assert!(began.elapsed() < Duration::from_secs(2), "nobody waits for the next try");
    tokio::time::advance(Duration::from_secs(4)).await;
    assert!(keys.refetch(keys.epoch()).await);
    fetcher.await.unwrap();
}
