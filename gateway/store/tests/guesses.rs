//! Guesses at passwords, counted in Redis by two gateways.

use std::future::Future;
use std::time::{Duration, Instant};

use idm_store::{
    Board, BoardVersion, GuessEnd, GuessKeys, GuessRules, GuessTurn, Key, SharedOptions, Store, StoreError,
};
use idm_tests::Redis;
use idm_types::Redacted;

/// Short times, so that a test can wait for them.
const RULES: GuessRules = GuessRules {
    free: 3,
    first_delay_ms: 1_000,
    last_delay_ms: 10_000,
    forget_ms: 60_000,
    known_ms: 60_000,
    at_once: 4,
    patience_ms: 30_000,
};

struct Bed {
    redis: Redis,
    stores: [Store; 2],
    rules: GuessRules,
}

impl Bed {
    async fn new() -> Self {
        let redis = Redis::start();
        let password = std::fs::read_to_string(redis.password_file().path()).unwrap();
        let store = || {
            let options = SharedOptions {
                url: redis.url(),
                username: None,
                password: Some(Redacted::new(password.clone())),
                ca_pem: None,
                namespace: "n".into(),
            };
            Store::shared(options).unwrap()
        };
        let stores = [store(), store()];
        Self { redis, stores, rules: RULES }
    }

    async fn begin(&self, gateway: usize, user: &str, address: &str) -> Result<GuessTurn, StoreError> {
        self.stores[gateway]
            .begin_guess(&keys(user, address), &self.rules)
            .await
            .map(|turn| turn.expect("it is shared"))
    }

    /// Ends a guess, and waits until the server knows.
    async fn end(&self, gateway: usize, (user, address): (&str, &str), known: bool, end: GuessEnd) {
        let calls = || -> u64 {
            let stats = self.redis.cli(&["INFO", "commandstats"]);
            let line = stats.lines().find_map(|line| line.strip_prefix("cmdstat_eval:calls="));
            line.and_then(|line| line.split(',').next()?.parse().ok()).unwrap_or(0)
        };
        let before = calls();
        self.stores[gateway].end_guess_soon(&keys(user, address), &RULES, known, end);
        until("the end is told", || async { calls() > before }).await;
    }

    async fn wrong(&self, gateway: usize, user: &str, address: &str) {
        assert_eq!(self.begin(gateway, user, address).await, Ok(GuessTurn::Now { known: false }));
        self.end(gateway, (user, address), false, GuessEnd::Wrong).await;
    }
}

fn keys(user: &str, address: &str) -> GuessKeys {
    GuessKeys {
        user: Key::of(&["u", user]),
        account: Key::of(&["o", user]),
        address: Key::of(&["a", address]),
        known: Key::of(&["k", user, address]),
    }
}

async fn until<F: Future<Output = bool>>(what: &str, is_so: impl Fn() -> F) {
    let start = Instant::now();
    while !is_so().await {
        assert!(start.elapsed() < Duration::from_secs(10), "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

const NOW: Result<GuessTurn, StoreError> = Ok(GuessTurn::Now { known: false });

fn is_later(turn: Result<GuessTurn, StoreError>, most_ms: u64) -> bool {
    matches!(turn, Ok(GuessTurn::Later { ms }) if (1..=most_ms).contains(&ms))
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_guesses_at_any_gateway_delay_the_user_everywhere_and_the_delay_doubles() {
    let bed = Bed::new().await;
    for (gateway, address) in [(0, "1"), (1, "2"), (0, "3")] {
        bed.wrong(gateway, "ana", address).await;
    }
    for gateway in [0, 1] {
        assert!(is_later(bed.begin(gateway, "ana", "4").await, 1_000));
        assert_eq!(bed.begin(gateway, "bob", "5").await, NOW, "another user does not wait");
        bed.end(gateway, ("bob", "5"), false, GuessEnd::Unanswered).await;
    }
    until("the end of the delay", || async { bed.begin(1, "ana", "4").await == NOW }).await;
    bed.end(1, ("ana", "4"), false, GuessEnd::Wrong).await;
    let turn = bed.begin(0, "ana", "6").await;
    assert!(is_later(turn.clone(), 2_000) && !is_later(turn, 1_000), "the fourth delay is twice the third");
}

#[tokio::test(flavor = "multi_thread")]
async fn guesses_under_way_are_no_more_than_may_be_wrong() {
    let bed = Bed::new().await;
    for (gateway, address) in [(0, "1"), (1, "2"), (0, "3")] {
        assert_eq!(bed.begin(gateway, "ana", address).await, NOW);
    }
    for gateway in [0, 1] {
        assert_eq!(bed.begin(gateway, "ana", "4").await, Ok(GuessTurn::Busy));
    }
    // One that nobody answered makes room for another.
    bed.end(0, ("ana", "1"), false, GuessEnd::Unanswered).await;
    assert_eq!(bed.begin(1, "ana", "4").await, NOW);
    // Of one address there are as many at once as it may have.
    for user in ["a", "b", "c", "d"] {
        assert_eq!(bed.begin(0, user, "9").await, NOW, "{user}");
    }
    assert_eq!(bed.begin(1, "e", "9").await, Ok(GuessTurn::Busy));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guess_whose_gateway_ended_was_wrong() {
    let mut bed = Bed::new().await;
    bed.rules.patience_ms = 300;
    for address in ["1", "2", "3"] {
        assert_eq!(bed.begin(0, "ana", address).await, NOW);
    }
    until("they count", || async { matches!(bed.begin(1, "ana", "4").await, Ok(GuessTurn::Later { .. })) }).await;
    bed.rules.patience_ms = 30_000;
    until("the end of the delay", || async { bed.begin(1, "ana", "4").await == NOW }).await;
    assert_eq!(bed.begin(0, "ana", "5").await, Ok(GuessTurn::Busy), "after the free ones, one at a time");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_right_password_forgives_the_users_own_mistakes_and_makes_the_address_known() {
    let bed = Bed::new().await;
    for _ in 0..2 {
        bed.wrong(0, "ana", "home").await;
    }
    assert_eq!(bed.begin(1, "ana", "home").await, NOW);
    bed.end(1, ("ana", "home"), false, GuessEnd::Right).await;
    // Neither the user nor the address has a mistake left.
    for _ in 0..2 {
        bed.wrong(0, "bob", "home").await;
    }
    for address in ["1", "2", "3"] {
        bed.wrong(1, "ana", address).await;
    }
    assert!(is_later(bed.begin(0, "ana", "4").await, 1_000));
    for gateway in [0, 1] {
        assert_eq!(bed.begin(gateway, "ana", "home").await, Ok(GuessTurn::Now { known: true }));
        bed.end(gateway, ("ana", "home"), true, GuessEnd::Right).await;
    }
    assert!(!matches!(bed.begin(1, "ana", "4").await, Ok(GuessTurn::Now { known: true })));
    // Mistakes at home are counted by themselves.
    for _ in 0..3 {
        assert_eq!(bed.begin(0, "ana", "home").await, Ok(GuessTurn::Now { known: true }));
        bed.end(0, ("ana", "home"), true, GuessEnd::Wrong).await;
    }
    assert!(is_later(bed.begin(1, "ana", "home").await, 1_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_server_no_guess_begins() {
    let mut bed = Bed::new().await;
    bed.wrong(0, "ana", "1").await;
    bed.redis.kill();
    assert!(bed.begin(0, "ana", "2").await.is_err());
    let here = Store::in_process();
    assert_eq!(here.begin_guess(&keys("ana", "1"), &RULES).await, Ok(None), "a process alone counts by itself");
}

#[tokio::test]
async fn a_board_is_the_same_for_all_gateways_and_bounded() {
    const BOARD: Board = Board { name: "test", capacity: 3 };
    let bed = Bed::new().await;
    let [one, other] = &bed.stores;
    let mut seen = [BoardVersion::default(), BoardVersion::default()];
    assert_eq!(one.board(BOARD, &mut seen[0]).await.unwrap(), Some(vec![]));
    let key = |name: &str| Key::of(&["entry", name]);
    for (name, ms) in [("a", 60_000), ("b", 50_000), ("c", 40_000)] {
        one.post(BOARD, &key(name), name.as_bytes().to_vec(), ms).await.unwrap();
    }
    let mut read = other.board(BOARD, &mut seen[1]).await.unwrap().expect("it is new");
    read.sort();
    assert_eq!(read.iter().map(|(value, _)| &value[..]).collect::<Vec<_>>(), [b"a", b"b", b"c"]);
    assert!(read.iter().all(|(_, left)| (30_000..=60_000).contains(left)), "{read:?}");
    assert_eq!(other.board(BOARD, &mut seen[1]).await.unwrap(), None, "nothing changed");
    // A full board drops what ends first, and an entry is replaced by one of its key.
    other.post(BOARD, &key("d"), b"d".to_vec(), 70_000).await.unwrap();
    other.post(BOARD, &key("a"), b"A".to_vec(), 80_000).await.unwrap();
    let values = |read: Option<Vec<(Vec<u8>, u64)>>| -> Vec<u8> {
        let mut values: Vec<u8> = read.expect("it changed").into_iter().flat_map(|(value, _)| value).collect();
        values.sort_unstable();
        values
    };
    assert_eq!(values(one.board(BOARD, &mut seen[0]).await.unwrap()), b"Abd");
    one.take_down(BOARD, &[key("a"), key("b")]).await.unwrap();
    assert_eq!(values(other.board(BOARD, &mut seen[1]).await.unwrap()), b"d");
    // What has ended is not there any more, although nobody removed it.
    one.post(BOARD, &key("e"), b"e".to_vec(), 1).await.unwrap();
    tokio::time::timeout(Duration::from_secs(10), async {
        while values(other.board(BOARD, &mut BoardVersion::default()).await.unwrap()) != b"d" {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("it ends by itself");
}
