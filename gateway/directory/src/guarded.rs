//! A directory with its bulkhead: places for logins, a queue, a deadline and a circuit breaker of its own.

use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use idm_bulkhead::{Admission, Asker, Bounds, Bulkhead, Change, NotAsked, Place};
use idm_plan::ObjectKey;
use idm_traces::{Kind, Value, current};
use idm_trust::{
    Asked, Directory, DirectoryError, DirectoryErrorKind, HashAnswer, Login, LoginAnswer, NameAsked, Password,
};
use tokio::runtime::Handle;

use crate::Driver;

/// The longest time that a login waits for a place.
const QUEUE_WAIT: Duration = Duration::from_secs(1);

/// A directory that serves.
pub(crate) struct Guarded {
    name: ObjectKey,
    driver: Box<dyn Driver>,
    deadline: Duration,
    bulkhead: Mutex<Bulkhead>,
    jitter: RandomState,
    runtime: Handle,
    /// The outcome of the last question that was asked; `None`: none was.
    last: Mutex<Option<Result<(), DirectoryError>>>,
}

impl Guarded {
    pub(crate) fn new(
        name: &ObjectKey,
        plan: &idm_plan::Directory,
        driver: Box<dyn Driver>,
        runtime: Handle,
    ) -> Arc<Self> {
        let places = usize::try_from(plan.concurrency).unwrap_or(1).max(1);
        let bounds = Bounds {
            places,
            // One address leaves places to others, unless there is one place alone.
            places_of_one: (places * 3 / 4).max(1),
            queue: places * 4,
            first_pause: Duration::from_secs(1),
            longest_pause: Duration::from_secs(30),
        };
        Arc::new(Self {
            name: name.clone(),
            driver,
            deadline: Duration::from_millis(plan.deadline_ms),
            bulkhead: Mutex::new(Bulkhead::new(bounds, Instant::now())),
            jitter: RandomState::new(),
            runtime,
            last: Mutex::default(),
        })
    }

    /// The outcome of the last question that was asked; `None`: none was.
    pub(crate) fn last(&self) -> Option<Result<(), DirectoryError>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The name in metrics and logs.
    pub(crate) fn name(&self) -> &ObjectKey {
        &self.name
    }

    pub(crate) fn lock(&self) -> std::sync::MutexGuard<'_, Bulkhead> {
        self.bulkhead.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn busy(&self, NotAsked { why, seconds }: NotAsked) -> DirectoryError {
        DirectoryError::new(DirectoryErrorKind::Busy(seconds), format!("Federation {} is not asked: {why}", self.name))
    }

    fn note<T>(&self, answer: &Result<T, DirectoryError>) {
        let outcome = answer.as_ref().map(drop).map_err(Clone::clone);
        // That a person has too many groups says nothing about the directory.
        if !outcome.as_ref().is_err_and(|error| error.kind == DirectoryErrorKind::TooManyGroups) {
            *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome);
        }
    }

    /// A place, after some time in the queue perhaps.
    async fn place(self: &Arc<Self>, admission: Admission) -> Result<Held, DirectoryError> {
        let place = admission.place(tokio::time::sleep(QUEUE_WAIT)).await;
        let place = place.map_err(|why| self.busy(self.lock().not_asked(why, Instant::now())))?;
        Ok(Held { directory: self.clone(), place, began: Instant::now(), answered: false })
    }

    /// Runs a question on the process' own runtime: the serving cores only wait, and the question comes to its end when
    /// its caller has gone.
    fn run<T, F, Fut>(self: Arc<Self>, name: &'static str, caller: Option<std::net::IpAddr>, ask: F) -> Asked<T>
    where
        T: Send + 'static,
        F: FnOnce(Arc<Self>, Instant) -> Fut + Send + 'static,
        Fut: Future<Output = Result<T, DirectoryError>> + Send + 'static,
    {
        let federation = Value::text(&self.name.to_string());
        let mut span = current().map(|scope| scope.begin(Kind::Client, name).with("idm.federation", federation));
        let admitted = self.lock().admit(Asker::of(caller), Instant::now());
        let admission = match admitted {
            Ok(admission) => admission,
            Err(why) => {
                let error = self.busy(why);
                span.iter_mut().for_each(|span| span.failed(error.reason().code()));
                return Box::pin(std::future::ready(Err(error)));
            }
        };
        let task = self.runtime.clone().spawn(async move {
            let placed = self.place(admission).await;
            if let (Err(error), Some(span)) = (&placed, &mut span) {
                span.failed(error.reason().code());
            }
            let mut held = placed?;
            let deadline = Instant::now() + self.deadline;
            let name = self.name.clone();
            let answer = tokio::time::timeout_at(deadline.into(), ask(self, deadline)).await.unwrap_or_else(|_| {
                let detail = format!("Federation {name}: no answer in time");
                Err(DirectoryError::new(DirectoryErrorKind::Unavailable, detail))
            });
            // Only silence opens the circuit: callers must not be able to shut a directory off by what they send.
            let silent = |error: &DirectoryError| error.kind == DirectoryErrorKind::Unavailable;
            held.answered = !answer.as_ref().is_err_and(silent);
            held.directory.note(&answer);
            match (&answer, &mut span) {
                (Ok(_), Some(span)) => span.succeeded(),
                (Err(error), Some(span)) => span.failed(error.reason().code()),
                (_, None) => {}
            }
            if let Err(error) = &answer {
                tracing::warn!(federation = %name, reason = error.reason().code(), "directory: {error}");
            }
            answer
        });
        Box::pin(async move {
            task.await.unwrap_or_else(|_| {
                Err(DirectoryError::new(DirectoryErrorKind::Unavailable, "the question was dropped"))
            })
        })
    }
}

/// A directory as others see it.
#[derive(Clone)]
pub(crate) struct Shared(pub(crate) Arc<Guarded>);

impl Directory for Shared {
    fn verify(&self, login: Login) -> Asked<LoginAnswer> {
        let caller = login.caller;
        self.0.clone().run("directory login", caller, move |guarded, deadline| async move {
            guarded.driver.verify(login, deadline).await
        })
    }

    fn change(&self, login: Login, new: Password) -> Asked<LoginAnswer> {
        let caller = login.caller;
        self.0.clone().run("directory password change", caller, move |guarded, deadline| async move {
            guarded.driver.change(login, new, deadline).await
        })
    }

    fn hash(&self, asked: NameAsked) -> Asked<HashAnswer> {
        let caller = asked.caller;
        self.0.clone().run("directory hash", caller, move |guarded, deadline| async move {
            guarded.driver.hash(asked, deadline).await
        })
    }

    fn look_up(&self, id: String, username: String) -> Asked<LoginAnswer> {
        let ask =
            move |guarded: Arc<Guarded>, deadline| async move { guarded.driver.look_up(id, username, deadline).await };
        self.0.clone().run("directory look-up", None, ask)
    }
}

/// A place in use; a question that is dropped counts as one without an answer.
struct Held {
    directory: Arc<Guarded>,
    place: Place,
    began: Instant,
    answered: bool,
}

impl Drop for Held {
    fn drop(&mut self) {
        let now = Instant::now();
        let jitter = (self.directory.jitter.hash_one(now) % 1001) as f64 / 1000.0;
        let change = self.directory.lock().finish(self.place, self.answered, self.began, now, jitter);
        let federation = &self.directory.name;
        match change {
            Some(Change::Opened { next_try }) => {
                let next_try_ms = next_try.as_millis() as u64;
                tracing::warn!(%federation, next_try_ms, "a directory does not answer: its circuit is open");
            }
            Some(Change::Closed { after }) => {
                tracing::info!(%federation, after_s = after.as_secs(), "a directory answers again: its circuit is \
                    closed");
            }
            None => {}
        }
    }
}
