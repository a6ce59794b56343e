use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::*;

/// A server with only the needed commands, which can be made silent. A connection that was left without an answer once
/// stays silent, like a connection whose other end has gone.
#[derive(Default)]
struct Fake {
    mute: AtomicBool,
    claims: AtomicUsize,
    looks: AtomicUsize,
    removed: std::sync::Mutex<Vec<String>>,
}

impl Fake {
    async fn start() -> (SocketAddr, Arc<Self>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, fake) = (listener.local_addr().unwrap(), Arc::new(Self::default()));
        let serving = fake.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serving.clone().serve(stream));
            }
        });
        (address, fake)
    }

    async fn serve(self: Arc<Self>, stream: TcpStream) -> Option<()> {
        stream.set_nodelay(true).ok()?;
        let (reader, mut writer) = stream.into_split();
        let mut lines = BufReader::new(reader).lines();
        let mut mute = false;
        loop {
            // `*N`, and then a length and a text for each of N words.
            let words: usize = lines.next_line().await.ok()??.strip_prefix('*')?.parse().ok()?;
            let (mut command, mut key) = (String::new(), String::new());
            for word in 0..words {
                lines.next_line().await.ok()??;
                let text = lines.next_line().await.ok()??;
                match word {
                    0 => command = text,
                    1 => key = text,
                    _ => {}
                }
            }
            match command.as_str() {
                "SET" => drop(self.claims.fetch_add(1, Ordering::Relaxed)),
                "DEL" => self.removed.lock().unwrap().push(key),
                "GET" => drop(self.looks.fetch_add(1, Ordering::Relaxed)),
                _ => {}
            }
            mute |= self.mute.load(Ordering::Relaxed);
            let answer: &[u8] = match command.as_str() {
                _ if mute => b"",
                "GET" => b"$-1\r\n",
                "ZRANGE" => b"*0\r\n",
                "DEL" => b":1\r\n",
                _ => b"+OK\r\n",
            };
            writer.write_all(answer).await.ok()?;
        }
    }
}

struct Bed {
    fake: Arc<Fake>,
    shared: Arc<Shared>,
    /// The task that follows the store ends when this is dropped.
    revocations: Arc<Revocations>,
}

/// Long enough that no request makes an attempt by itself in these tests.
const PAUSE: Duration = Duration::from_secs(600);
const TIME_LIMIT: Duration = Duration::from_millis(500);

async fn bed(mute: bool, bounds: Bounds) -> Bed {
    let (address, fake) = Fake::start().await;
    fake.mute.store(mute, Ordering::Relaxed);
    let options = SharedOptions {
        url: format!("redis://{address}"),
        username: None,
        password: None,
        ca_pem: None,
        namespace: "n".into(),
    };
    let bounds = Bounds { first_pause: PAUSE, longest_pause: PAUSE, ..bounds };
    let manner = Manner { time_limit: TIME_LIMIT, poll: Duration::from_millis(20), bounds };
    let shared = Arc::new(Shared::connect(options, manner).unwrap());
    let revocations = Arc::new(Revocations::of_others());
    tokio::spawn(shared.clone().follow(Arc::downgrade(&revocations), Clock::of_process()));
    Bed { fake, shared, revocations }
}

impl Bed {
    async fn claim(&self) -> Result<bool, StoreError> {
        self.shared.clone().claim(Key::of(&["k"]), 1000).await
    }

    async fn claims(&self, number: usize) -> Vec<Result<bool, StoreError>> {
        let mut all = JoinSet::new();
        for _ in 0..number {
            let shared = self.shared.clone();
            all.spawn(async move { shared.claim(Key::of(&["k"]), 1000).await });
        }
        all.join_all().await
    }

    async fn until_it_answers(&self) {
        let start = Instant::now();
        while self.claim().await != Ok(true) {
            assert!(start.elapsed() < Duration::from_secs(20), "it does not come back");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

fn is_refused_at_once(answer: &Result<bool, StoreError>) -> bool {
    let text = "the store does not answer; it is asked again in ";
    answer.as_ref().is_err_and(|error| error.to_string().starts_with(text))
}

#[tokio::test]
async fn a_store_that_hangs_holds_up_few_is_refused_at_once_and_is_back_with_its_first_answer() {
    let bed = bed(false, BOUNDS).await;
    bed.until_it_answers().await;
    bed.fake.mute.store(true, Ordering::Relaxed);
    bed.fake.claims.store(0, Ordering::Relaxed);
    let answers = bed.claims(BOUNDS.places + BOUNDS.queue + 200).await;
    assert!(answers.iter().all(Result::is_err));
    let too_many = |answer: &&Result<bool, StoreError>| {
        answer.as_ref().is_err_and(|error| error.to_string().contains("too many questions"))
    };
    assert!(answers.iter().filter(too_many).count() > 0, "the queue has an end");
    let asked = bed.fake.claims.load(Ordering::Relaxed);
    assert!((5..=BOUNDS.places).contains(&asked), "{asked}");

    // Refused at once, and no byte of it reaches the server.
    let start = Instant::now();
    assert!(bed.claims(1000).await.iter().all(is_refused_at_once));
    assert!(start.elapsed() < TIME_LIMIT, "{:?}", start.elapsed());
    assert_eq!(bed.fake.claims.load(Ordering::Relaxed), asked);
    let health = bed.shared.health();
    assert!(health.circuit_is_open && health.questions.not_asked >= 1000 && health.questions.failed > 0, "{health:?}");

    bed.fake.mute.store(false, Ordering::Relaxed);
    bed.until_it_answers().await;
    assert!(bed.claims(500).await.into_iter().all(|answer| answer == Ok(true)));
    let health = bed.shared.health();
    assert!(!health.circuit_is_open && health.questions.answered >= 500, "{health:?}");
}

#[tokio::test]
async fn looks_are_not_refused_and_find_a_store_that_never_answered_before() {
    let bed = bed(true, BOUNDS).await;
    let answers = bed.claims(100).await;
    assert!(answers.iter().all(Result::is_err));
    assert!(bed.claims(100).await.iter().all(is_refused_at_once));
    assert_eq!(bed.fake.looks.load(Ordering::Relaxed), 0, "not even a connection was made");
    bed.fake.mute.store(false, Ordering::Relaxed);
    bed.until_it_answers().await;
    assert!(bed.fake.looks.load(Ordering::Relaxed) > 0);
}

#[tokio::test]
async fn who_waits_gets_a_place() {
    let bed = bed(false, Bounds { places: 2, ..BOUNDS }).await;
    bed.until_it_answers().await;
    let answers = bed.claims(300).await;
    assert!(answers.iter().all(|answer| *answer == Ok(true)), "{answers:?}");
}

#[tokio::test]
async fn what_strangers_begin_beyond_the_capacity_of_a_gateway_is_removed_from_the_server() {
    let bed = bed(false, BOUNDS).await;
    bed.until_it_answers().await;
    let (kind, revocations) = (crate::Kind::Shared(bed.shared.clone()), bed.revocations.clone());
    let store = crate::Store { kind, begun: crate::begun(3), revocations, clock: Clock::of_process() };
    let (flood, honest) = ([192, 0, 2, 1].into(), [192, 0, 2, 2].into());
    let key = |name: &str| Key::of(&[name]);
    let now = Timestamp(1_000_000);
    store.begin(honest, &key("honest"), b"state".to_vec(), 900_000, now).await.unwrap();
    for name in ["a", "b", "c"] {
        store.begin(flood, &key(name), Vec::new(), 900_000, now).await.unwrap();
    }
    assert_eq!(store.claim_begun(flood, &key("d"), 900_000, now).await, Ok(true));
    let removed = bed.fake.removed.lock().unwrap().clone();
    assert_eq!(removed, [bed.shared.name(&key("a")), bed.shared.name(&key("b"))]);
}
