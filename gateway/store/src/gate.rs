//! The bulkhead of the shared store: limits concurrent queries, queues those beyond, and refuses queries at once while
//! the server does not answer.
//!
//! All callers share one limit here: queries to the store are not made for a particular caller, and a place is free
//! again after a round trip. The query for revocations takes no place and is never refused; it is the probe that closes
//! the circuit.

use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use idm_bulkhead::{Admission, Asker, Bounds, Bulkhead, Change, Counts, NotAsked, Place};
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::StoreError;

/// A large number: the queries share one connection, which carries them one after the other.
pub(crate) const BOUNDS: Bounds = Bounds {
    places: 256,
    places_of_one: 256,
    queue: 1024,
    // Longer than a query for revocations takes, so that those queries probe the server and no request waits in vain.
    first_pause: Duration::from_secs(2),
    longest_pause: Duration::from_secs(2),
};

/// The outcome of a query to the server.
pub(crate) enum Outcome<T> {
    /// The server answered, possibly with an error.
    Answered(Result<T, StoreError>),
    /// The server could not be reached, or did not answer.
    Silent(StoreError),
}

/// The health of a shared store, as this gateway sees it.
#[derive(Clone, Copy, Debug)]
pub struct Health {
    /// The questions so far by their outcome.
    pub questions: Counts,
    /// The store is not asked, because it did not answer.
    pub circuit_is_open: bool,
}

pub(crate) struct Gate {
    bulkhead: Mutex<Bulkhead>,
    jitter: RandomState,
    deadline: Duration,
}

impl Gate {
    /// `deadline`: the time limit of a query, including the time in the queue.
    pub(crate) fn new(bounds: Bounds, deadline: Duration) -> Self {
        let bulkhead = Mutex::new(Bulkhead::new(bounds, Instant::now().into_std()));
        Self { bulkhead, jitter: RandomState::new(), deadline }
    }

    /// The questions so far, and whether the circuit is open.
    pub(crate) fn health(&self) -> Health {
        let bulkhead = self.lock();
        Health { questions: bulkhead.counts, circuit_is_open: bulkhead.is_open() }
    }

    fn lock(&self) -> MutexGuard<'_, Bulkhead> {
        self.bulkhead.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place or a position in the queue, unless the circuit is open.
    pub(crate) fn admit(&self) -> Result<Admission, StoreError> {
        let mut bulkhead = self.lock();
        bulkhead.admit(Asker::Gateway, Instant::now().into_std()).map_err(|why| refusal(bulkhead.is_open(), why))
    }

    /// Queries the server in the place that was given.
    pub(crate) async fn ask<T>(
        &self,
        admission: Admission,
        question: impl Future<Output = Outcome<T>>,
    ) -> Result<T, StoreError> {
        let until = Instant::now() + self.deadline;
        let place = admission.place(sleep_until(until)).await.map_err(|why| {
            let mut bulkhead = self.lock();
            let why = bulkhead.not_asked(why, Instant::now().into_std());
            refusal(bulkhead.is_open(), why)
        })?;
        let mut held = Held { gate: self, place: Some(place), began: Instant::now(), answered: false };
        held.answer(until, question).await
    }

    /// Queries the server whatever the state of the circuit, without a place.
    pub(crate) async fn probe<T>(&self, question: impl Future<Output = Outcome<T>>) -> Result<T, StoreError> {
        let began = Instant::now();
        let mut held = Held { gate: self, place: None, began, answered: false };
        held.answer(began + self.deadline, question).await
    }
}

fn refusal(open: bool, NotAsked { why, seconds }: NotAsked) -> StoreError {
    StoreError(if open {
        format!("the store does not answer; it is asked again in {seconds} s")
    } else {
        format!("the store is not asked: {why}")
    })
}

/// A query in progress; if it ends without an outcome, it counts as unanswered.
struct Held<'a> {
    gate: &'a Gate,
    place: Option<Place>,
    began: Instant,
    answered: bool,
}

impl Held<'_> {
    async fn answer<T>(&mut self, until: Instant, question: impl Future<Output = Outcome<T>>) -> Result<T, StoreError> {
        match timeout_at(until, question).await {
            Ok(Outcome::Answered(answer)) => {
                self.answered = true;
                answer
            }
            Ok(Outcome::Silent(error)) => Err(error),
            Err(_) => Err(StoreError("no answer from the store in time".into())),
        }
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let (began, now) = (self.began.into_std(), Instant::now().into_std());
        let jitter = (self.gate.jitter.hash_one(now) % 1001) as f64 / 1000.0;
        let mut bulkhead = self.gate.lock();
        let change = match self.place {
            Some(place) => bulkhead.finish(place, self.answered, began, now, jitter),
            None => bulkhead.observe(self.answered, began, now, jitter),
        };
        drop(bulkhead);
        match change {
            Some(Change::Opened { .. }) => {
                tracing::warn!("the store does not answer: its circuit is open");
            }
            Some(Change::Closed { after }) => {
                tracing::info!(after_s = after.as_secs(), "the store answers again: its circuit is closed");
            }
            None => {}
        }
    }
}
