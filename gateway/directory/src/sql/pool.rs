//! Connections to one database: few, closed when nobody needs them, and none that a cut question has used.

use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use idm_trust::{DirectoryError, DirectoryErrorKind};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::connection::{Connection, Opener};

/// Connections of one directory in one process. They are needed for milliseconds, so this is no bound on logins.
const MOST: usize = 8;
/// The longest time that a question waits for a connection.
const WAIT: Duration = Duration::from_secs(1);
/// Connections are closed after this time without use.
const IDLE: Duration = Duration::from_secs(60);
/// The least time of an attempt whose end by the deadline counts as a failure of the server.
const FULL_ATTEMPT: Duration = Duration::from_secs(1);
/// The pause after a connection could not be opened the first time, and the longest one.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The connections of a directory.
pub(super) struct Pool {
    opener: Opener,
    places: Semaphore,
    state: Mutex<State>,
    idle_limit: Duration,
    jitter: RandomState,
}

#[derive(Default)]
struct State {
    idle: Vec<(Connection, Instant)>,
    closer_runs: bool,
    failures: u32,
    closed_until: Option<(Instant, DirectoryError)>,
}

/// A connection in use. It is closed when this is dropped, as it is by a question that is cut.
pub(super) struct Lease<'a> {
    pub(super) connection: Connection,
    /// Whether it was opened for this question.
    pub(super) fresh: bool,
    pool: &'a Arc<Pool>,
    _place: SemaphorePermit<'a>,
}

impl Pool {
    pub(super) fn new(opener: Opener) -> Arc<Self> {
        Self::with_idle_limit(opener, IDLE)
    }

    pub(super) fn with_idle_limit(opener: Opener, idle_limit: Duration) -> Arc<Self> {
        let (places, state, jitter) = (Semaphore::new(MOST), Mutex::default(), RandomState::new());
        Arc::new(Self { opener, places, state, idle_limit, jitter })
    }

    /// The product and the server, for people.
    pub(super) fn name(&self) -> String {
        self.opener.name()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection that was used before and looks alive, or a new one.
    pub(super) async fn take(self: &Arc<Self>, deadline: Instant) -> Result<Lease<'_>, DirectoryError> {
        let wait = deadline.min(Instant::now() + WAIT);
        let place = match tokio::time::timeout_at(wait.into(), self.places.acquire()).await {
            Ok(Ok(place)) => place,
            _ => {
                let why = format!("{}: all {MOST} connections are in use", self.name());
                return Err(DirectoryError::new(DirectoryErrorKind::Busy(1), why));
            }
        };
        if let Some(connection) = self.used() {
            return Ok(Lease { connection, fresh: false, pool: self, _place: place });
        }
        let connection = self.open(deadline).await?;
        Ok(Lease { connection, fresh: true, pool: self, _place: place })
    }

    /// Another connection in place of one that ended without notice; those that lie idle have ended with it.
    pub(super) async fn replace<'a>(
        self: &'a Arc<Self>,
        lease: Lease<'a>,
        deadline: Instant,
    ) -> Result<Lease<'a>, DirectoryError> {
        let Lease { connection, fresh: _, pool, _place } = lease;
        drop(connection);
        self.lock().idle.clear();
        let connection = self.open(deadline).await?;
        Ok(Lease { connection, fresh: true, pool, _place })
    }

    /// The connection that was used last.
    fn used(&self) -> Option<Connection> {
        loop {
            let (mut connection, since) = self.lock().idle.pop()?;
            if since.elapsed() < self.idle_limit && connection.is_quiet() {
                return Some(connection);
            }
        }
    }

    /// The connections whose time has come, and the time until others have theirs; without others nobody waits for it.
    fn expired(&self) -> (Vec<Connection>, Option<Duration>) {
        let mut state = self.lock();
        let expired = |(_, since): &mut (Connection, Instant)| since.elapsed() >= self.idle_limit;
        let closed = state.idle.extract_if(.., expired).map(|(connection, _)| connection).collect();
        let oldest = state.idle.iter().map(|(_, since)| *since).min();
        state.closer_runs = oldest.is_some();
        (closed, oldest.map(|oldest| self.idle_limit.saturating_sub(oldest.elapsed())))
    }

    /// Opens a connection, unless that failed a moment ago.
    async fn open(&self, deadline: Instant) -> Result<Connection, DirectoryError> {
        if let Some((until, error)) = &self.lock().closed_until
            && Instant::now() < *until
        {
            let DirectoryError { kind, detail } = error.clone();
            return Err(DirectoryError::new(kind, format!("{detail}; it is not tried again yet")));
        }
        let time = deadline.saturating_duration_since(Instant::now());
        let opened = self.opener.open(deadline).await;
        let mut state = self.lock();
        match &opened {
            // An attempt that had little time says nothing about the server.
            Err(_) if time < FULL_ATTEMPT && Instant::now() >= deadline => {}
            Ok(_) => (state.failures, state.closed_until) = (0, None),
            Err(error) => {
                let now = Instant::now();
                // Attempts that were under way at the same time count as one.
                if state.closed_until.as_ref().is_none_or(|(until, _)| *until <= now) {
                    let pause = FIRST_PAUSE.saturating_mul(1 << state.failures.min(8)).min(LONGEST_PAUSE);
                    // Between half of it and all of it, so that pods do not come back together.
                    let part = (self.jitter.hash_one(now) % 501 + 500) as f64 / 1000.0;
                    state.failures = state.failures.saturating_add(1);
                    state.closed_until = Some((now + pause.mul_f64(part), error.clone()));
                }
            }
        }
        opened
    }
}

/// Closes connections when their time has come, for as long as there are any.
async fn close_idle(pool: Weak<Pool>, idle_limit: Duration) {
    let mut pause = idle_limit;
    loop {
        tokio::time::sleep(pause).await;
        let Some(pool) = pool.upgrade() else { return };
        let (closed, next) = pool.expired();
        for connection in closed {
            connection.quit().await;
        }
        match next {
            Some(next) => pause = next,
            None => return,
        }
    }
}

impl Lease<'_> {
    /// Keeps the connection for others. Must be called only between two questions.
    pub(super) fn give_back(self) {
        let Self { connection, fresh: _, pool, _place } = self;
        let start = {
            let mut state = pool.lock();
            state.idle.push((connection, Instant::now()));
            !std::mem::replace(&mut state.closer_runs, true)
        };
        if start {
            tokio::spawn(close_idle(Arc::downgrade(pool), pool.idle_limit));
        }
    }
}
