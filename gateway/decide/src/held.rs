//! Bodies that are buffered: limits on the time they take to arrive, and on the memory that all of them use.
//!
//! Memory is counted as it is used, not as it is announced, and returned when the last copy of the bytes is dropped.
//! Authenticated callers have a budget of their own, so that unauthenticated callers cannot use it up. Within a budget
//! an address may hold as many bytes as are left for all other addresses: a single address gets half, two addresses get
//! a third each, and some memory always remains for the next address. There are no locks: addresses are counted in
//! slots that a keyed hash selects.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use http_body::Body;
use idm_request::Identity;
use idm_types::{Reason, Refusal, network};
use tokio::time::Instant;

/// Two addresses share a slot with a probability of one in this many; an outsider cannot know which addresses do.
const PLACES: usize = 4096;
/// Unauthenticated callers get one part in this many of the memory for bodies.
const PART_OF_STRANGERS: usize = 4;

/// Limits on bodies that are buffered in whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyLimits {
    /// Bytes for all bodies together: three quarters for authenticated callers, one quarter for all others.
    pub memory: usize,
    /// The longest time for reading one body.
    pub deadline: Duration,
    /// The longest time by which a request's body may fall behind the minimum rate.
    pub pause: Duration,
    /// The minimum rate of a request's body, in bytes per second.
    pub least_rate: u32,
}

impl Default for BodyLimits {
    /// For a process with 256 MiB.
    fn default() -> Self {
        Self {
            memory: 64 << 20,
            deadline: Duration::from_secs(60),
            pause: Duration::from_secs(5),
            least_rate: 16 << 10,
        }
    }
}

/// The kind of caller that sent a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// Not authenticated yet, or anonymous.
    Stranger,
    /// Authenticated.
    Known,
}

impl Caller {
    /// The kind of an identity's caller: an anonymous caller counts as a stranger.
    pub fn of(identity: &Identity) -> Self {
        if identity.kind == "anonymous" { Caller::Stranger } else { Caller::Known }
    }
}

/// The memory budget for the bodies of one kind of callers.
struct Budget {
    bytes: usize,
    used: AtomicUsize,
    places: Box<[AtomicUsize]>,
}

impl Budget {
    fn new(bytes: usize) -> Self {
        Self { bytes, used: AtomicUsize::new(0), places: (0..PLACES).map(|_| AtomicUsize::new(0)).collect() }
    }

    /// Takes memory even if none is left.
    fn add(&self, place: usize, bytes: usize) -> (usize, usize) {
        let own = self.places.get(place).map_or(0, |place| place.fetch_add(bytes, Relaxed) + bytes);
        (own, self.used.fetch_add(bytes, Relaxed) + bytes)
    }

    /// Takes memory, unless the address would then have more than is left for all other addresses.
    fn take(&self, place: usize, bytes: usize) -> bool {
        let (own, used) = self.add(place, bytes);
        let fits = own.saturating_add(used) <= self.bytes;
        if !fits {
            self.give(place, bytes);
        }
        fits
    }

    fn give(&self, place: usize, bytes: usize) {
        if let Some(place) = self.places.get(place) {
            place.fetch_sub(bytes, Relaxed);
        }
        self.used.fetch_sub(bytes, Relaxed);
    }
}

/// The memory of all bodies that a process holds, and the rate at which bodies must arrive.
pub struct Holding {
    limits: BodyLimits,
    known: Budget,
    strangers: Budget,
    keys: RandomState,
}

impl Holding {
    /// The memory budgets, with no bytes in use.
    pub fn new(limits: BodyLimits) -> Arc<Self> {
        let of_strangers = limits.memory / PART_OF_STRANGERS;
        Arc::new(Self {
            limits,
            known: Budget::new(limits.memory - of_strangers),
            strangers: Budget::new(of_strangers),
            keys: RandomState::new(),
        })
    }

    /// The bytes held for authenticated callers, and for all others.
    pub fn held(&self) -> (usize, usize) {
        (self.known.used.load(Relaxed), self.strangers.used.load(Relaxed))
    }

    fn budget(&self, caller: Caller) -> &Budget {
        match caller {
            Caller::Stranger => &self.strangers,
            Caller::Known => &self.known,
        }
    }

    /// An empty share, for the bytes that this address sends.
    pub fn share(self: &Arc<Self>, address: IpAddr, caller: Caller) -> Share {
        let place = self.keys.hash_one(network(address)) as usize % PLACES;
        Share { holding: self.clone(), place, known: AtomicBool::new(caller == Caller::Known), bytes: 0 }
    }

    /// Reads a body to its end, up to `limit` bytes. A body that announces more is refused unread.
    pub async fn read<B>(
        &self,
        body: &mut B,
        limit: usize,
        pace: Pace,
        mut share: Share,
    ) -> Result<Held, Unheld<B::Error>>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let announced = body.size_hint();
        if announced.lower() > limit as u64 {
            return Err(Unheld::TooLarge);
        }
        if body.is_end_stream() {
            return Ok(Held::nothing(share));
        }
        let bound = announced.exact().map_or(limit, |bytes| bytes as usize);
        let mut held: Vec<u8> = Vec::new();
        let began = Instant::now();
        let mut allowed = Allowance::new(&self.limits, pace, began);
        loop {
            let next = std::future::poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx));
            let Ok(next) = tokio::time::timeout_at(allowed.until, next).await else {
                return Err(Unheld::TooSlow { bytes: held.len(), after: began.elapsed() });
            };
            let Some(frame) = next else { break };
            let Ok(data) = frame.map_err(Unheld::Broken)?.into_data() else { continue };
            let length = held.len() + data.len();
            if length > limit {
                return Err(Unheld::TooLarge);
            }
            if length > held.capacity() {
                // The budget counts allocated bytes: never more than twice the bytes that arrived.
                let capacity = held.capacity().saturating_mul(2).min(bound).max(length);
                if !share.grow(capacity - held.capacity()) {
                    return Err(Unheld::Busy { bytes: held.len() });
                }
                held.reserve_exact(capacity - held.len());
            }
            held.extend_from_slice(&data);
            allowed.received(data.len(), Instant::now());
        }
        Ok(Held::new(held.into(), share))
    }
}

/// The deadline for the next bytes of a body.
struct Allowance {
    until: Instant,
    end: Instant,
    pause: Duration,
    least_rate: f64,
}

impl Allowance {
    fn new(limits: &BodyLimits, pace: Pace, began: Instant) -> Self {
        let end = began + limits.deadline;
        let pause = match pace {
            Pace::Steady => limits.pause,
            Pace::Any => limits.deadline,
        };
        Self { until: end.min(began + pause), end, pause, least_rate: f64::from(limits.least_rate.max(1)) }
    }

    /// Every byte extends the deadline. The credit for arriving early is limited to the length of one pause, so that a
    /// caller who sends fast and then stops is not waited for.
    fn received(&mut self, bytes: usize, now: Instant) {
        let earned = Duration::from_secs_f64(bytes as f64 / self.least_rate);
        self.until = self.end.min(now + self.pause).min(self.until + earned);
    }
}

/// The rate and the deadline that apply to a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// At the minimum rate, and complete before the deadline.
    Steady,
    /// Complete before the deadline.
    Any,
}

/// The reason why a body was not buffered.
#[derive(Debug)]
pub enum Unheld<E> {
    /// It has more bytes than the limit.
    TooLarge,
    /// It did not arrive in time.
    TooSlow {
        /// The number of bytes that arrived.
        bytes: usize,
        /// The time that they took.
        after: Duration,
    },
    /// There is no memory left for it.
    Busy {
        /// The number of bytes that arrived.
        bytes: usize,
    },
    /// It ended early.
    Broken(E),
}

impl<E> Unheld<E> {
    /// For a request's body.
    pub fn of_request(self, limit: usize) -> Refusal {
        match self {
            Unheld::TooLarge => Refusal::new(Reason::PayloadTooLarge, format!("more than {limit} bytes")),
            Unheld::TooSlow { bytes, after } => {
                Refusal::new(Reason::BodyTooSlow, format!("{bytes} bytes came in {:.1} s", after.as_secs_f64()))
            }
            Unheld::Busy { bytes } => Refusal::new(Reason::BodiesBusy, format!("after {bytes} bytes")),
            Unheld::Broken(_) => Refusal::new(Reason::ClientGone, "the body ended early"),
        }
    }
}

impl<E: std::fmt::Display> Unheld<E> {
    /// For an upstream's answer.
    pub fn of_response(self) -> Refusal {
        match self {
            Unheld::TooLarge => Refusal::new(
                Reason::UpstreamFailed,
                "the response is larger than the 1 MiB that can be signed or encrypted",
            ),
            Unheld::TooSlow { bytes, after } => Refusal::new(
                Reason::UpstreamTimeout,
                format!("{bytes} bytes of the response came in {:.1} s", after.as_secs_f64()),
            ),
            Unheld::Busy { bytes } => {
                Refusal::new(Reason::BodiesBusy, format!("after {bytes} bytes of the upstream's response"))
            }
            Unheld::Broken(error) => Refusal::new(Reason::UpstreamFailed, error.to_string()),
        }
    }
}

/// Memory that was taken from a budget; returned when this is dropped.
pub struct Share {
    holding: Arc<Holding>,
    place: usize,
    known: AtomicBool,
    bytes: usize,
}

impl Share {
    fn caller(&self) -> Caller {
        if self.known.load(Relaxed) { Caller::Known } else { Caller::Stranger }
    }

    fn grow(&mut self, bytes: usize) -> bool {
        let fits = self.holding.budget(self.caller()).take(self.place, bytes);
        self.bytes += if fits { bytes } else { 0 };
        fits
    }

    /// Moves the bytes to the budget of authenticated callers, if they fit there, once the caller was authenticated.
    fn now_known(&self) {
        let Holding { known, strangers, .. } = &*self.holding;
        if !self.known.load(Relaxed) && known.take(self.place, self.bytes) {
            strangers.give(self.place, self.bytes);
            self.known.store(true, Relaxed);
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.holding.budget(self.caller()).give(self.place, self.bytes);
    }
}

/// A complete body with the memory that was taken for it.
#[derive(Clone)]
pub struct Held {
    bytes: Bytes,
    share: Arc<Share>,
}

/// The owner of the bytes: it keeps the share until the last copy of them is dropped.
struct Owner {
    bytes: Bytes,
    _share: Arc<Share>,
}

impl AsRef<[u8]> for Owner {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Held {
    /// An empty body.
    pub fn nothing(share: Share) -> Self {
        Self::new(Bytes::new(), share)
    }

    /// A body that the gateway derived from a buffered one. Its memory is in use already, so it is counted and never
    /// refused.
    pub fn made(bytes: Bytes, mut share: Share) -> Self {
        share.holding.budget(share.caller()).add(share.place, bytes.len());
        share.bytes += bytes.len();
        Self::new(bytes, share)
    }

    fn new(bytes: Bytes, share: Share) -> Self {
        let share = Arc::new(share);
        let bytes =
            if bytes.is_empty() { Bytes::new() } else { Bytes::from_owner(Owner { bytes, _share: share.clone() }) };
        Self { bytes, share }
    }

    /// The bytes; each copy keeps the memory taken.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Marks the caller as authenticated.
    pub fn now_known(&self) {
        self.share.now_known();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::convert::Infallible;
    use std::future::Future;
    use std::task::{Context, Poll, Waker};

    use http_body::{Frame, SizeHint};

    use super::*;

    const ONE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const OTHER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));

    /// Sends pieces, and then either ends or stays silent.
    #[derive(Clone)]
    struct Script {
        pieces: VecDeque<usize>,
        announced: Option<u64>,
        stalls: bool,
    }

    impl Script {
        fn new(pieces: &[usize]) -> Self {
            Self { pieces: pieces.iter().copied().collect(), announced: None, stalls: false }
        }
    }

    impl Body for Script {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            match self.pieces.pop_front() {
                Some(bytes) => Poll::Ready(Some(Ok(Frame::data(Bytes::from(vec![7; bytes]))))),
                None if self.stalls => Poll::Pending,
                None => Poll::Ready(None),
            }
        }

        fn size_hint(&self) -> SizeHint {
            self.announced.map_or_else(SizeHint::default, SizeHint::with_exact)
        }
    }

    const LIMITS: BodyLimits = BodyLimits {
        memory: 1 << 20,
        deadline: Duration::from_secs(10),
        pause: Duration::from_secs(1),
        least_rate: 1000,
    };

    fn holding(memory: usize) -> Arc<Holding> {
        Holding::new(BodyLimits { memory, ..LIMITS })
    }

    async fn read(holding: &Arc<Holding>, mut body: Script, limit: usize) -> Result<Held, Unheld<Infallible>> {
        holding.read(&mut body, limit, Pace::Steady, holding.share(ONE, Caller::Known)).await
    }

    #[tokio::test]
    async fn memory_is_counted_as_it_is_used_and_given_back_with_the_last_copy() {
        let holding = holding(1 << 20);
        {
            let body = Script { announced: Some(100_000), stalls: true, ..Script::new(&[1000]) };
            let mut reading = Box::pin(read(&holding, body, 200_000));
            assert!(reading.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
            assert_eq!(holding.held(), (1000, 0), "an announcement costs nothing");
        }
        assert_eq!(holding.held(), (0, 0), "the caller left");

        let held = read(&holding, Script::new(&[3000, 100]), 200_000).await.unwrap();
        assert_eq!((held.bytes().len(), holding.held()), (3100, (6000, 0)), "twice what came at most");
        let copy = held.bytes().slice(10..20);
        drop(held);
        assert_eq!(holding.held(), (6000, 0));
        drop(copy);
        assert_eq!(holding.held(), (0, 0));
        let announced = Script { announced: Some(3100), ..Script::new(&[3000, 100]) };
        let _held = read(&holding, announced, 200_000).await.unwrap();
        assert_eq!(holding.held(), (3100, 0));
    }

    #[tokio::test]
    async fn what_is_too_large_is_refused_by_its_announcement_and_else_when_it_is_there() {
        let holding = holding(1 << 20);
        let unread = Script { announced: Some(101), stalls: true, ..Script::new(&[]) };
        assert!(matches!(read(&holding, unread, 100).await, Err(Unheld::TooLarge)));
        assert!(matches!(read(&holding, Script::new(&[60, 41]), 100).await, Err(Unheld::TooLarge)));
        assert_eq!(read(&holding, Script::new(&[60, 40]), 100).await.unwrap().bytes().len(), 100);
        assert!(matches!(read(&holding, Script::new(&[600_000]), 1 << 20).await, Err(Unheld::Busy { bytes: 0 })));
        assert_eq!(holding.held(), (0, 0));
    }

    #[test]
    fn a_body_keeps_a_steady_rate_and_a_pause_is_all_that_it_gets_besides() {
        let began = Instant::now();
        let at = |ms: u64| began + Duration::from_millis(ms);
        let until = |pace, pieces: &[(u64, usize)]| {
            let mut allowed = Allowance::new(&LIMITS, pace, began);
            for (ms, bytes) in pieces {
                assert!(at(*ms) <= allowed.until, "{pieces:?}: too slow before {ms} ms");
                allowed.received(*bytes, at(*ms));
            }
            allowed.until.duration_since(began).as_millis()
        };
        assert_eq!(until(Pace::Steady, &[]), 1000, "nothing at all");
        assert_eq!(until(Pace::Steady, &[(900, 10), (950, 10)]), 1020, "drops");
        assert_eq!(until(Pace::Steady, &[(900, 900), (1800, 900), (2700, 900)]), 3700, "at its rate");
        assert_eq!(until(Pace::Steady, &[(10, 500_000)]), 1010, "fast, and then nothing");
        let steady: Vec<(u64, usize)> = (1..12).map(|n| (n * 900, 900)).collect();
        assert_eq!(until(Pace::Steady, &steady), 10_000, "steady, and all the same not done in time");
        assert_eq!(until(Pace::Any, &[(9000, 1)]), 10_000, "a response has until the deadline");
    }

    #[test]
    fn an_address_leaves_as_much_as_it_has_and_strangers_leave_the_others_alone() {
        let holding = holding(4000);
        let mut first = holding.share(ONE, Caller::Known);
        assert!(first.grow(1500) && !first.grow(1), "half of 3000 is left for all others");
        let mut second = holding.share(OTHER, Caller::Known);
        assert!(second.grow(750) && !second.grow(1));
        let (mut stranger, mut other) = (holding.share(ONE, Caller::Stranger), holding.share(OTHER, Caller::Stranger));
        assert!(stranger.grow(500) && !stranger.grow(1) && other.grow(250), "a quarter is theirs");
        assert_eq!(holding.held(), (2250, 750));
        // The bytes of a caller who is now authenticated leave the strangers' budget, if the other budget has room.
        other.now_known();
        assert_eq!(holding.held(), (2250, 750), "the address has its share already");
        drop(second);
        other.now_known();
        assert_eq!(holding.held(), (1750, 500));
        drop((first, stranger, other));
        assert_eq!(holding.held(), (0, 0));
    }

    #[test]
    fn a_network_of_ipv6_counts_as_one() {
        let holding = holding(4000);
        let place = |text: &str| holding.share(text.parse().unwrap(), Caller::Known).place;
        assert_eq!(place("2001:db8::1"), place("2001:db8::ffff:1"));
        assert_ne!(network("2001:db8::1".parse().unwrap()), network("2001:db8:0:1::1".parse().unwrap()));
        assert_ne!(network("192.0.2.1".parse().unwrap()), network("192.0.2.2".parse().unwrap()));
    }
}
