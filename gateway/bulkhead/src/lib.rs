//! A bulkhead for each outside server: its own places, queue and circuit breaker, so that a server that hangs affects
//! only the requests that need it.
//!
//! In: an [`Asker`], and later whether its question was answered. Out: a [`Place`], a place in the queue, or
//! [`NotAsked`]. Pure: the clock and the jitter are arguments, and waiting requests are notified through a channel.
//! Start at [`Bulkhead`]. The gateway's outgoing HTTP and the shared store use it, each with its own [`Bounds`].
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use idm_types::network;
use tokio::sync::oneshot;

/// So many questions in a row without any answer open the circuit.
const FAILURES: u32 = 5;

/// The number of questions that one server gets at once, and the pauses after it did not answer.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Questions under way.
    pub places: usize,
    /// Of these, one address of callers has no more, so that others find a place at once.
    pub places_of_one: usize,
    /// Questions that wait for a place.
    pub queue: usize,
    /// The time for which the circuit is open the first time; each further time is twice as long.
    pub first_pause: Duration,
    /// The longest time for which it is open.
    pub longest_pause: Duration,
}

/// For whom a question is asked: an address, where a /64 of IPv6 counts as one, or the gateway itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Asker {
    /// The gateway, for itself or for all callers together; its places have no limit but that of all.
    Gateway,
    /// An address, or the network of it.
    Network(IpAddr),
}

impl Asker {
    /// The one who asks for a caller, if there is one.
    pub fn of(address: Option<IpAddr>) -> Self {
        address.map_or(Asker::Gateway, |address| Asker::Network(network(address)))
    }
}

/// Why a question is not asked, and after how many seconds the next one may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotAsked {
    /// Why, as a part of a sentence.
    pub why: String,
    /// Seconds, at least one.
    pub seconds: u64,
}

/// A change of the circuit breaker, to be logged once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The server does not answer, and is left alone for a while.
    Opened {
        /// The length of the pause.
        next_try: Duration,
    },
    /// It answers again.
    Closed {
        /// The time for which it did not.
        after: Duration,
    },
}

#[derive(Clone, Copy, Debug)]
enum Circuit {
    Closed,
    /// No request is sent before `until`.
    Open {
        since: Instant,
        until: Instant,
    },
    /// One request is under way, and its result closes the circuit or opens it again.
    Probing {
        since: Instant,
    },
}

/// The outcome of a question for a place.
#[derive(Debug)]
pub enum Admission {
    /// There is a place.
    Now(Place),
    /// A place comes, or the sender is dropped: then there will be none.
    Wait(oneshot::Receiver<Place>),
}

/// Why a question that waited got no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoPlace {
    /// It had to give way, or the circuit opened.
    GaveWay,
    /// It waited as long as it could.
    Late,
}

impl Admission {
    /// The place, which is waited for until `late` ends.
    pub async fn place(self, late: impl Future<Output = ()>) -> Result<Place, NoPlace> {
        let mut receiver = match self {
            Admission::Now(place) => return Ok(place),
            Admission::Wait(receiver) => receiver,
        };
        tokio::select! {
            biased;
            place = &mut receiver => place.map_err(|_| NoPlace::GaveWay),
            () = late => {
                receiver.close();
                // A place that was given in the very last moment must be given back.
                receiver.try_recv().map_err(|_| NoPlace::Late)
            }
        }
    }
}

/// A question that may be asked. It must be given back with [`Bulkhead::finish`].
#[derive(Clone, Copy, Debug)]
pub struct Place {
    asker: Asker,
    probes: bool,
}

/// One server's. See the module.
#[derive(Debug)]
pub struct Bulkhead {
    bounds: Bounds,
    circuit: Circuit,
    failures: u32,
    /// The number of times that the circuit opened without an answer in between.
    opened: u32,
    last_answer: Option<Instant>,
    under_way: HashMap<Asker, usize>,
    total: usize,
    waiting: VecDeque<(Asker, oneshot::Sender<Place>)>,
    /// The time of the last question.
    pub last_used: Instant,
    /// The outcomes of all questions.
    pub counts: Counts,
}

/// For the metrics.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Answered, with whatever status.
    pub answered: u64,
    /// Asked, and not answered.
    pub failed: u64,
    /// Refused without being asked.
    pub not_asked: u64,
}

impl Bulkhead {
    /// For a server that was not asked yet.
    pub fn new(bounds: Bounds, now: Instant) -> Self {
        Self {
            bounds,
            circuit: Circuit::Closed,
            failures: 0,
            opened: 0,
            last_answer: None,
            under_way: HashMap::new(),
            total: 0,
            waiting: VecDeque::new(),
            last_used: now,
            counts: Counts::default(),
        }
    }

    /// Whether the server is left alone.
    pub fn is_open(&self) -> bool {
        !matches!(self.circuit, Circuit::Closed)
    }

    /// Questions that wait for an answer.
    pub fn under_way(&self) -> usize {
        self.total
    }

    /// Whether nothing is lost when it is forgotten.
    pub fn is_idle(&self) -> bool {
        self.total == 0 && self.waiting.is_empty() && !self.is_open()
    }

    /// Gives a question a place, or one in the queue.
    pub fn admit(&mut self, asker: Asker, now: Instant) -> Result<Admission, NotAsked> {
        self.last_used = now;
        match self.circuit {
            Circuit::Closed => {}
            Circuit::Open { since, until } if now >= until => {
                self.circuit = Circuit::Probing { since };
                return Ok(Admission::Now(self.seat(asker, true)));
            }
            Circuit::Open { .. } | Circuit::Probing { .. } => {
                self.counts.not_asked += 1;
                return Err(self.shut(now));
            }
        }
        if self.has_place(asker) {
            return Ok(Admission::Now(self.seat(asker, false)));
        }
        if self.waiting.len() >= self.bounds.queue && !self.make_room(asker) {
            self.counts.not_asked += 1;
            return Err(NotAsked { why: "too many questions to it are waiting".into(), seconds: 1 });
        }
        let (sender, receiver) = oneshot::channel();
        self.waiting.push_back((asker, sender));
        Ok(Admission::Wait(receiver))
    }

    fn has_place(&self, asker: Asker) -> bool {
        let own = self.under_way.get(&asker).copied().unwrap_or(0);
        self.total < self.bounds.places && (own < self.bounds.places_of_one || asker == Asker::Gateway)
    }

    fn seat(&mut self, asker: Asker, probes: bool) -> Place {
        *self.under_way.entry(asker).or_insert(0) += 1;
        self.total += 1;
        Place { asker, probes }
    }

    /// In a full queue, the newest question of the one with most gives way to one with fewer.
    fn make_room(&mut self, asker: Asker) -> bool {
        self.waiting.retain(|(_, sender)| !sender.is_closed());
        if self.waiting.len() < self.bounds.queue {
            return true;
        }
        let mut counts: HashMap<Asker, usize> = HashMap::new();
        for (waiting, _) in &self.waiting {
            *counts.entry(*waiting).or_insert(0) += 1;
        }
        let own = counts.get(&asker).copied().unwrap_or(0);
        let Some((greedy, most)) = counts.into_iter().max_by_key(|(_, count)| *count) else { return false };
        if most <= own + 1 {
            return false;
        }
        let newest = self.waiting.iter().rposition(|(waiting, _)| *waiting == greedy);
        newest.and_then(|newest| self.waiting.remove(newest)).is_some()
    }

    /// A question has ended, with an answer of whatever status or without one. It began at `began`.
    /// `jitter`: from 0 to 1, so that gateways do not all come back at once.
    pub fn finish(
        &mut self,
        place: Place,
        answered: bool,
        began: Instant,
        now: Instant,
        jitter: f64,
    ) -> Option<Change> {
        self.release(place);
        let change = if answered { self.answer(now) } else { self.failure(place.probes, began, now, jitter) };
        self.fill();
        change
    }

    /// A question that took no place has ended: that of somebody who asks all the time, also while the circuit is open.
    /// It probes: an answer closes the circuit, and without one an open circuit stays open for another pause, so that
    /// no request has to try. `began` and `jitter` as in [`Bulkhead::finish`].
    pub fn observe(&mut self, answered: bool, began: Instant, now: Instant, jitter: f64) -> Option<Change> {
        let change = if answered { self.answer(now) } else { self.failure(true, began, now, jitter) };
        self.fill();
        change
    }

    fn release(&mut self, place: Place) {
        self.total = self.total.saturating_sub(1);
        if let Some(own) = self.under_way.get_mut(&place.asker) {
            *own = own.saturating_sub(1);
            if *own == 0 {
                self.under_way.remove(&place.asker);
            }
        }
    }

    fn answer(&mut self, now: Instant) -> Option<Change> {
        self.counts.answered += 1;
        (self.failures, self.opened, self.last_answer) = (0, 0, Some(now));
        match std::mem::replace(&mut self.circuit, Circuit::Closed) {
            Circuit::Closed => None,
            Circuit::Open { since, .. } | Circuit::Probing { since } => Some(Change::Closed { after: now - since }),
        }
    }

    fn failure(&mut self, probes: bool, began: Instant, now: Instant, jitter: f64) -> Option<Change> {
        self.counts.failed += 1;
        // A server that answered another request in the meantime is available: this failure does not count.
        if self.last_answer.is_some_and(|answer| answer >= began) {
            return None;
        }
        self.failures = self.failures.saturating_add(1);
        let since = match self.circuit {
            Circuit::Probing { since } | Circuit::Open { since, .. } if probes => since,
            Circuit::Closed if self.failures >= FAILURES => now,
            _ => return None,
        };
        let Bounds { first_pause, longest_pause, .. } = self.bounds;
        let pause = first_pause.saturating_mul(1 << self.opened.min(8)).min(longest_pause);
        let pause = pause.mul_f64(0.8 + 0.4 * jitter.clamp(0.0, 1.0));
        let first = self.opened == 0;
        self.opened = self.opened.saturating_add(1);
        self.circuit = Circuit::Open { since, until: now + pause };
        // This refuses the requests that wait for a place: a dropped sender is a refusal.
        self.waiting.clear();
        first.then_some(Change::Opened { next_try: pause })
    }

    /// Gives free places to the addresses with the fewest requests under way, and among these to the longest waiting.
    fn fill(&mut self) {
        while !self.is_open() {
            self.waiting.retain(|(_, sender)| !sender.is_closed());
            let own = |asker: &Asker| self.under_way.get(asker).copied().unwrap_or(0);
            let next = self.waiting.iter().enumerate().filter(|(_, (asker, _))| self.has_place(*asker));
            let Some(next) = next.min_by_key(|(_, (asker, _))| own(asker)).map(|(position, _)| position) else {
                return;
            };
            let Some((asker, sender)) = self.waiting.remove(next) else { return };
            let place = self.seat(asker, false);
            if let Err(place) = sender.send(place) {
                self.release(place);
            }
        }
    }

    /// Why a question is not asked that waited for a place in vain.
    pub fn not_asked(&mut self, why: NoPlace, now: Instant) -> NotAsked {
        let refused = |why: &str| NotAsked { why: why.into(), seconds: 1 };
        match why {
            NoPlace::GaveWay if self.is_open() => self.shut(now),
            NoPlace::GaveWay => refused("too many questions to it are waiting"),
            NoPlace::Late => {
                self.counts.not_asked += 1;
                refused("questions before this one took too long")
            }
        }
    }

    /// Why nothing is asked, while the circuit is not closed.
    pub fn shut(&self, now: Instant) -> NotAsked {
        let (since, next) = match self.circuit {
            Circuit::Open { since, until } => (since, until.saturating_duration_since(now)),
            Circuit::Probing { since } => (since, self.bounds.first_pause),
            Circuit::Closed => (now, Duration::ZERO),
        };
        let seconds = (next.as_millis() as u64).div_ceil(1000).max(1);
        let open = now.saturating_duration_since(since).as_secs();
        NotAsked { why: format!("the circuit has been open for {open} s, next try in {seconds} s"), seconds }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds {
        places: 64,
        places_of_one: 48,
        queue: 256,
        first_pause: Duration::from_secs(1),
        longest_pause: Duration::from_secs(30),
    };

    fn ip(last: u8) -> Asker {
        Asker::of(Some(IpAddr::from([192, 0, 2, last])))
    }

    fn place(bulkhead: &mut Bulkhead, asker: Asker, now: Instant) -> Place {
        match bulkhead.admit(asker, now) {
            Ok(Admission::Now(place)) => place,
            other => panic!("{other:?}"),
        }
    }

    fn open(bulkhead: &mut Bulkhead, now: Instant) -> Instant {
        let mut last = None;
        let later = now + Duration::from_secs(3);
        for _ in 0..FAILURES {
            assert_eq!(last, None);
            let place = place(bulkhead, ip(1), now);
            last = bulkhead.finish(place, false, now, later, 0.5);
        }
        assert_eq!(last, Some(Change::Opened { next_try: BOUNDS.first_pause }));
        later
    }

    #[test]
    fn questions_without_any_answer_open_the_circuit_and_one_probe_closes_it() {
        let start = Instant::now();
        let mut bulkhead = Bulkhead::new(BOUNDS, start);
        let opened = open(&mut bulkhead, start);
        let refused = bulkhead.admit(ip(2), opened + Duration::from_millis(100)).unwrap_err();
        assert_eq!(refused.seconds, 1);
        assert!(refused.why.contains("circuit has been open for 0 s, next try in 1 s"), "{refused:?}");
        let probe = place(&mut bulkhead, ip(2), opened + BOUNDS.first_pause);
        assert!(bulkhead.admit(ip(3), opened + BOUNDS.first_pause).is_err(), "one probe at a time");
        let later = opened + Duration::from_secs(4);
        assert_eq!(bulkhead.finish(probe, false, opened + BOUNDS.first_pause, later, 0.5), None, "told once");
        assert_eq!(bulkhead.admit(ip(2), later).unwrap_err().seconds, 2, "twice as long");
        let again = later + Duration::from_secs(2);
        let probe = place(&mut bulkhead, ip(2), again);
        let change = bulkhead.finish(probe, true, again, again, 0.5);
        assert_eq!(change, Some(Change::Closed { after: again - opened }));
        assert!(bulkhead.is_idle());
    }

    #[test]
    fn a_server_that_answers_others_is_not_shut_off_by_questions_that_it_does_not_answer() {
        let start = Instant::now();
        let mut bulkhead = Bulkhead::new(BOUNDS, start);
        for round in 0..50 {
            let began = start + Duration::from_secs(round);
            let (bad, good) = (place(&mut bulkhead, ip(1), began), place(&mut bulkhead, ip(2), began));
            assert_eq!(bulkhead.finish(good, true, began, began + Duration::from_millis(5), 0.5), None);
            assert_eq!(bulkhead.finish(bad, false, began, began + Duration::from_millis(900), 0.5), None);
        }
        assert!(!bulkhead.is_open());
    }

    #[test]
    fn a_late_failure_of_an_old_question_does_not_end_a_probe() {
        let start = Instant::now();
        let mut bulkhead = Bulkhead::new(BOUNDS, start);
        let old = place(&mut bulkhead, ip(9), start);
        let opened = open(&mut bulkhead, start);
        let probing = opened + BOUNDS.first_pause;
        let probe = place(&mut bulkhead, ip(2), probing);
        assert_eq!(bulkhead.finish(old, false, start, probing, 0.5), None);
        assert!(matches!(bulkhead.circuit, Circuit::Probing { .. }));
        assert!(bulkhead.finish(probe, true, probing, probing, 0.5).is_some());
    }

    #[test]
    fn one_address_leaves_places_to_others_and_shares_the_queue() {
        let now = Instant::now();
        let mut bulkhead = Bulkhead::new(BOUNDS, now);
        let held: Vec<Place> = (0..BOUNDS.places_of_one).map(|_| place(&mut bulkhead, ip(1), now)).collect();
        let greedy: Vec<_> = (0..BOUNDS.queue).map(|_| bulkhead.admit(ip(1), now).unwrap()).collect();
        assert!(bulkhead.admit(ip(1), now).is_err(), "its own queue is full");
        let others: Vec<Place> =
            (BOUNDS.places_of_one..BOUNDS.places).map(|_| place(&mut bulkhead, ip(2), now)).collect();
        // No place is left: the new request waits, the newest waiting request of address 1 is refused to make room, and
        // the new one gets the next free place.
        let Ok(Admission::Wait(mut newcomer)) = bulkhead.admit(ip(3), now) else { panic!("it should wait") };
        bulkhead.finish(*held.first().unwrap(), true, now, now, 0.5);
        assert!(newcomer.try_recv().is_ok());
        let refused =
            greedy.into_iter().filter_map(|one| if let Admission::Wait(wait) = one { Some(wait) } else { None });
        let refused = refused
            .map(|mut wait| wait.try_recv())
            .filter(|got| *got.as_ref().err().unwrap() == oneshot::error::TryRecvError::Closed);
        assert_eq!(refused.count(), 1);
        assert_eq!(others.len(), BOUNDS.places - BOUNDS.places_of_one);
        let net = |text: &str| Asker::of(Some(text.parse().unwrap()));
        assert_eq!(net("2001:db8::1"), net("2001:db8::ffff:2"), "a /64 is one");
        assert_ne!(net("2001:db8::1"), net("2001:db8:0:1::1"));
        assert_eq!(net("::ffff:192.0.2.1"), ip(1));
    }

    #[test]
    fn who_waits_is_refused_when_the_circuit_opens() {
        let now = Instant::now();
        let mut bulkhead = Bulkhead::new(BOUNDS, now);
        let held: Vec<Place> = (0..BOUNDS.places_of_one).map(|_| place(&mut bulkhead, ip(1), now)).collect();
        let Ok(Admission::Wait(mut waits)) = bulkhead.admit(ip(1), now) else { panic!("it should wait") };
        let later = now + Duration::from_secs(3);
        // The first failures free places; the last one opens the circuit.
        let mut granted = None;
        for place in held {
            bulkhead.finish(place, false, now, later, 0.5);
            granted = granted.or(waits.try_recv().ok());
        }
        assert!(granted.is_some() && bulkhead.is_open());
        assert_eq!(bulkhead.under_way(), 1, "the one that was let in");
        bulkhead.finish(granted.unwrap(), true, later, later, 0.5);
        assert_eq!(bulkhead.under_way(), 0);
    }

    #[test]
    fn who_asks_all_the_time_keeps_requests_from_trying_and_closes_the_circuit() {
        let start = Instant::now();
        let mut bulkhead = Bulkhead::new(BOUNDS, start);
        let mut now = open(&mut bulkhead, start);
        for _ in 0..10 {
            let began = now;
            now += Duration::from_millis(700);
            assert!(bulkhead.admit(ip(2), now).is_err());
            assert_eq!(bulkhead.observe(false, began, now, 0.5), None, "told once");
        }
        let change = bulkhead.observe(true, now, now, 0.5);
        assert_eq!(change, Some(Change::Closed { after: Duration::from_secs(7) }));
        place(&mut bulkhead, ip(2), now);
    }

    #[test]
    fn who_asks_all_the_time_opens_the_circuit_and_a_request_tries_when_it_is_gone() {
        let now = Instant::now();
        let later = now + Duration::from_secs(1);
        let mut bulkhead = Bulkhead::new(BOUNDS, now);
        let changes: Vec<_> = (0..FAILURES).filter_map(|_| bulkhead.observe(false, now, later, 0.5)).collect();
        assert_eq!(changes, [Change::Opened { next_try: BOUNDS.first_pause }]);
        assert!(bulkhead.admit(ip(1), later).is_err());
        // It is gone: a request tries instead.
        let probe = place(&mut bulkhead, ip(1), later + BOUNDS.first_pause);
        assert!(bulkhead.finish(probe, true, later, later + BOUNDS.first_pause, 0.5).is_some());
    }
}
