//! The state of one backend as one core sees it: which of its addresses fail, the places that it has, and how much may
//! be sent again. No other core uses it, so it needs no locks.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use idm_plan::{Care, Ejection, Retry};
use idm_types::{Reason, Refusal};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Further attempts that are saved up at most, so that a time without failures does not pay for a storm of them.
const SAVED: u32 = 10;
/// One further attempt, in the unit of the budget: each request adds the percentage of it that the policy allows.
const ONE: u32 = 100;

/// The state of a backend.
pub(crate) struct Health {
    care: Care,
    addresses: RefCell<HashMap<SocketAddr, Failing>>,
    /// The number of addresses that its name had when it was last looked up.
    known: Cell<usize>,
    places: Option<Arc<Semaphore>>,
    waiting: Cell<u32>,
    most_waiting: u32,
    saved: Cell<u32>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Failing {
    /// In a row.
    failures: u32,
    /// Pauses until now, less those that successes made good.
    pauses: u32,
    /// The end of the present pause.
    until: Option<Instant>,
}

/// The address of an attempt, once it has one.
#[derive(Debug, Default)]
pub(crate) struct Tried(Cell<Option<SocketAddr>>);

impl Tried {
    /// The attempt goes to this address.
    pub(crate) fn set(&self, address: Option<SocketAddr>) {
        self.0.set(address);
    }
}

impl Health {
    /// Its core is one of so many, which share what the policy allows a pod.
    pub(crate) fn new(care: Care, cores: usize) -> Self {
        let share = |all: u32| (all as usize).div_ceil(cores.max(1));
        let places = care.capacity.map(|capacity| Arc::new(Semaphore::new(share(capacity.requests).max(1))));
        let most_waiting = care.capacity.map_or(0, |capacity| share(capacity.waiting) as u32);
        Self {
            care,
            addresses: RefCell::default(),
            known: Cell::new(1),
            places,
            waiting: Cell::new(0),
            most_waiting,
            saved: Cell::new(SAVED * ONE),
        }
    }

    /// The settings.
    pub(crate) fn care(&self) -> &Care {
        &self.care
    }

    /// Its name has these addresses now; of others nothing is kept.
    pub(crate) fn found(&self, addresses: &[SocketAddr]) {
        self.known.set(addresses.len().max(1));
        if !self.addresses.borrow().is_empty() {
            let present: HashSet<_> = addresses.iter().collect();
            self.addresses.borrow_mut().retain(|address, _| present.contains(address));
        }
    }

    /// Whether an address is left alone now.
    pub(crate) fn is_ejected(&self, address: SocketAddr, now: Instant) -> bool {
        self.addresses.borrow().get(&address).is_some_and(|of| of.until.is_some_and(|until| now < until))
    }

    /// Notes the outcome of an attempt; the clock is read for a failure. Returns the pause, if the address is left
    /// alone from now on.
    pub(crate) fn note(
        &self,
        tried: &Tried,
        failed: bool,
        clock: impl FnOnce() -> Instant,
    ) -> Option<(SocketAddr, Duration)> {
        let (ejection, address) = (self.care.ejection?, tried.0.take()?);
        let mut addresses = self.addresses.borrow_mut();
        if !failed {
            if let Some(of) = addresses.get_mut(&address) {
                of.failures = 0;
                of.pauses /= 2;
            }
            return None;
        }
        let now = clock();
        let ejected = addresses.values().filter(|of| of.until.is_some_and(|until| now < until)).count();
        let of = addresses.entry(address).or_default();
        if of.until.is_some_and(|until| now < until) {
            return None;
        }
        of.failures = of.failures.saturating_add(1);
        let may = (ejected + 1) * 100 <= usize::from(ejection.percent) * self.known.get();
        if of.failures < ejection.failures || !may {
            return None;
        }
        let pause = pause(ejection, of.pauses);
        // After its pause one failure more is enough.
        (of.failures, of.pauses) = (ejection.failures.saturating_sub(1), of.pauses.saturating_add(1));
        of.until = now.checked_add(pause);
        Some((address, pause))
    }

    /// A place for a request, which it keeps until its answer has ended; `None` where places are not counted.
    pub(crate) async fn place(&self, name: &str) -> Result<Option<OwnedSemaphorePermit>, Refusal> {
        let Some(places) = &self.places else { return Ok(None) };
        if let Ok(place) = places.clone().try_acquire_owned() {
            return Ok(Some(place));
        }
        if self.waiting.get() >= self.most_waiting {
            let detail = format!("{name}: all its places are taken, and so are those for waiting");
            return Err(Refusal::new(Reason::UpstreamBusy, detail));
        }
        let _waiting = Waiting::begin(&self.waiting);
        let place = places.clone().acquire_owned().await;
        place.map(Some).map_err(|_| Refusal::new(Reason::UpstreamBusy, name))
    }

    /// A request came that may be sent again.
    pub(crate) fn earn(&self, retry: &Retry) {
        self.saved.set(self.saved.get().saturating_add(retry.budget_percent.into()).min(SAVED * ONE));
    }

    /// Takes one further attempt. Returns whether there was one.
    pub(crate) fn spend(&self) -> bool {
        let left = self.saved.get().checked_sub(ONE);
        self.saved.set(left.unwrap_or(self.saved.get()));
        left.is_some()
    }
}

/// One request that waits for a place.
struct Waiting<'h>(&'h Cell<u32>);

impl<'h> Waiting<'h> {
    fn begin(count: &'h Cell<u32>) -> Self {
        count.set(count.get() + 1);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}

fn pause(ejection: Ejection, before: u32) -> Duration {
    let factor = 1u64.checked_shl(before.min(32)).unwrap_or(u64::MAX);
    Duration::from_millis(ejection.first_ms.saturating_mul(factor).min(ejection.longest_ms))
}

#[cfg(test)]
mod tests {
    use idm_plan::Capacity;

    use super::*;

    fn address(last: u8) -> SocketAddr {
        ([10, 0, 0, last], 80).into()
    }

    fn tried(last: u8) -> Tried {
        let tried = Tried::default();
        tried.set(Some(address(last)));
        tried
    }

    fn health(percent: u8, known: u8) -> Health {
        let ejection = Ejection { failures: 2, first_ms: 1000, longest_ms: 3000, percent };
        let health = Health::new(Care { ejection: Some(ejection), ..Care::default() }, 1);
        health.found(&(0..known).map(address).collect::<Vec<_>>());
        health
    }

    #[test]
    fn an_address_that_fails_is_left_alone_for_longer_each_time() {
        let (health, start) = (health(50, 2), Instant::now());
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let fails = |seconds: u64| health.note(&tried(0), true, || at(seconds)).map(|(_, pause)| pause.as_secs());
        assert_eq!((fails(0), fails(0)), (None, Some(1)));
        assert!(health.is_ejected(address(0), at(0)) && !health.is_ejected(address(0), at(1)));
        assert!(!health.is_ejected(address(1), at(0)));
        // One failure is enough afterwards, twice as long, and no longer than the longest.
        assert_eq!((fails(0), fails(1), fails(2), fails(3), fails(6)), (None, Some(2), None, Some(3), Some(3)));
        // Successes make it good again.
        for _ in 0..3 {
            assert_eq!(health.note(&tried(0), false, || at(10)), None);
        }
        assert_eq!((fails(10), fails(10)), (None, Some(1)));
    }

    #[test]
    fn a_part_of_the_addresses_stays_whatever_they_do() {
        let now = Instant::now();
        let ejected = |percent: u8, known: u8| {
            let health = health(percent, known);
            let twice = |last: u8| [true, true].map(|failed| health.note(&tried(last), failed, || now));
            for last in 0..known {
                let _ = twice(last);
            }
            (0..known).filter(|last| health.is_ejected(address(*last), now)).count()
        };
        assert_eq!((ejected(50, 4), ejected(50, 1), ejected(100, 1), ejected(100, 3), ejected(10, 5)), (2, 0, 1, 3, 0));
        // Addresses that its name has no more are forgotten.
        let health = health(100, 2);
        for _ in 0..2 {
            let _ = health.note(&tried(1), true, || now);
        }
        health.found(&[address(0)]);
        assert!(!health.is_ejected(address(1), now));
    }

    #[test]
    fn places_are_shared_by_the_cores_and_so_are_those_for_waiting() {
        let care = |requests, waiting| Care { capacity: Some(Capacity { requests, waiting }), ..Care::default() };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let health = Health::new(care(4, 2), 2);
            let (one, two) = (health.place("up").await.unwrap(), health.place("up").await.unwrap());
            assert!(one.is_some() && two.is_some());
            let waits = health.place("up");
            tokio::pin!(waits);
            assert!(futures_now(waits.as_mut()).is_none());
            let refused = health.place("up").await.unwrap_err();
            assert_eq!(refused.reason, Reason::UpstreamBusy);
            drop(one);
            assert!(waits.await.unwrap().is_some());
            // A request that waited and left has no place any more.
            assert_eq!(health.waiting.get(), 0);
        });
        assert!(Health::new(Care::default(), 2).places.is_none());
    }

    fn futures_now<F: Future>(future: std::pin::Pin<&mut F>) -> Option<F::Output> {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        match future.poll(&mut context) {
            std::task::Poll::Ready(output) => Some(output),
            std::task::Poll::Pending => None,
        }
    }

    #[test]
    fn what_is_sent_again_is_a_share_of_what_is_sent() {
        let retry = Retry { attempts: 1, per_try_ms: 1, statuses: vec![], budget_percent: 20 };
        let health = Health::new(Care { retry: Some(retry.clone()), ..Care::default() }, 1);
        let spent = (0..100).filter(|_| health.spend()).count();
        assert_eq!(spent, 10);
        let spent = (0..100).filter(|_| {
            health.earn(&retry);
            health.spend()
        });
        assert_eq!(spent.count(), 20);
    }
}
