//! The bulkhead of the shared store: how many questions it is asked at once, who waits, and who is refused at once
//! because it does not answer.
//!
//! All callers count as one here: the store is asked for nobody in particular, and a place is free again after a round
//! trip. The look at the revocations takes no place and is never refused; it is the probe that closes the circuit.

use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use idm_bulkhead::{Admission, Asker, Bounds, Bulkhead, Change, Counts, NotAsked, Place};
use tokio::time::{Instant, timeout_at};

use crate::StoreError;

/// Many: questions share one connection, which carries them one after the other.
pub(crate) const BOUNDS: Bounds = Bounds {
    places: 256,
    places_of_one: 256,
    queue: 1024,
    // Longer than a look takes, so that looks try and no request waits for one that is not answered.
    first_pause: Duration::from_secs(2),
    longest_pause: Duration::from_secs(2),
};

/// The outcome of a question to the server.
pub(crate) enum Outcome<T> {
    /// The server said something, be it an error.
    Answered(Result<T, StoreError>),
    /// It could not be reached, or said nothing.
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
    /// `deadline`: how long a question takes in all, the time in the queue included.
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

    /// A place or one in the queue, unless the store is not to be asked now.
    pub(crate) fn admit(&self) -> Result<Admission, StoreError> {
        let mut bulkhead = self.lock();
        bulkhead.admit(Asker::Gateway, Instant::now().into_std()).map_err(|why| refusal(bulkhead.is_open(), why))
    }

    /// Asks in the place that was given.
    pub(crate) async fn ask<T>(
        &self,
        admission: Admission,
        question: impl Future<Output = Outcome<T>>,
    ) -> Result<T, StoreError> {
        let until = Instant::now() + self.deadline;
        let place = match admission {
            Admission::Now(place) => place,
            Admission::Wait(mut receiver) => match timeout_at(until, &mut receiver).await {
                Ok(Ok(place)) => place,
                Ok(Err(_)) => return Err(self.given_up()),
                Err(_) => {
                    receiver.close();
                    // A place that was given in the very last moment is ours all the same, and has to be given back.
                    receiver.try_recv().map_err(|_| late())?
                }
            },
        };
        let mut held = Held { gate: self, place: Some(place), began: Instant::now(), answered: false };
        held.answer(until, question).await
    }

    /// Asks whatever the circuit is, without a place.
    pub(crate) async fn probe<T>(&self, question: impl Future<Output = Outcome<T>>) -> Result<T, StoreError> {
        let began = Instant::now();
        let mut held = Held { gate: self, place: None, began, answered: false };
        held.answer(began + self.deadline, question).await
    }

    fn given_up(&self) -> StoreError {
        let bulkhead = self.lock();
        if bulkhead.is_open() { refusal(true, bulkhead.shut(Instant::now().into_std())) } else { late() }
    }
}

fn refusal(open: bool, NotAsked { why, seconds }: NotAsked) -> StoreError {
    StoreError(if open {
        format!("the store does not answer; it is asked again in {seconds} s")
    } else {
        format!("the store is not asked: {why}")
    })
}

fn late() -> StoreError {
    StoreError("the store is not asked: questions before this one took too long".into())
}

/// A question under way; without a word it counts as one without an answer.
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
