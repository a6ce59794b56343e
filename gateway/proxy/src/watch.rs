//! The connections of one core: who waits too long is ended, and who is ended when there is no room for another.
//!
//! One task looks at all of them once in a while. A connection has no timer of its own, so waiting costs it nothing.

use std::cell::RefCell;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::caller::Connection;
use crate::limits::{Full, Place};
use crate::progress::Clock;

/// How long callers may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadlines {
    /// For a whole head, the handshake of TLS before the first one included.
    pub head: Duration,
    /// Between requests.
    pub idle: Duration,
    /// For any part of an answer that is ready to be taken.
    pub write: Duration,
}

impl Default for Deadlines {
    /// A head is one packet or a few. Balancers reuse connections that were idle for 60 s, and would meet one that is
    /// being closed if we waited less. A phone that changes networks is back within 30 s.
    fn default() -> Self {
        Self { head: Duration::from_secs(15), idle: Duration::from_secs(75), write: Duration::from_secs(30) }
    }
}

/// Why the gateway ended a connection or a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    SlowHead,
    Idle,
    SlowWrite,
    /// Another connection needed the place.
    Displaced,
    /// Nothing could be displaced for it.
    NoRoom,
    /// It does not begin as the PROXY protocol wants it, or its sender is no trusted proxy.
    NotProxied,
}

impl Cause {
    pub(crate) const ALL: [Self; 6] =
        [Self::SlowHead, Self::Idle, Self::SlowWrite, Self::Displaced, Self::NoRoom, Self::NotProxied];

    /// As it stands in metrics.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::SlowHead => "head",
            Self::Idle => "idle",
            Self::SlowWrite => "write",
            Self::Displaced => "displaced",
            Self::NoRoom => "no_room",
            Self::NotProxied => "not_proxied",
        }
    }
}

/// How long an answer that its caller does not take keeps its place while another request needs one. The time at which
/// it began may be up to a tick of the sweep too early: it keeps its place for a second at least.
const GRACE: Duration = Duration::from_secs(2);

/// How long a connection that is to finish, and has nothing to do, may take to say goodbye.
const FAREWELL: u64 = 2_000;

/// The connections of one core.
pub(crate) struct Connections {
    all: RefCell<Vec<Rc<Connection>>>,
    deadlines: Deadlines,
    clock: Clock,
    started: Instant,
    /// The first one opened, or the last one ended.
    changed: Notify,
}

impl Connections {
    pub(crate) fn new(deadlines: Deadlines) -> Rc<Self> {
        Rc::new(Self {
            all: RefCell::default(),
            deadlines,
            clock: Clock::new(AtomicU64::new(1)),
            started: Instant::now(),
            changed: Notify::new(),
        })
    }

    /// Takes a connection in; it is forgotten when what is returned is dropped.
    pub(crate) fn add(self: &Rc<Self>, place: &Place) -> Member {
        // While there are none, nobody keeps the clock going.
        self.tell_time();
        let connection = Connection::new(place, self.clock.clone());
        self.all.borrow_mut().push(connection.clone());
        self.changed.notify_one();
        Member { connections: self.clone(), connection }
    }

    /// Ends a connection without a request, so that another one may have its place: of the same address where that one
    /// is full. It is one that never had an answer but refusals or, where `proven` says so, another one; of them one
    /// whose address has the most, and of these the one that has waited longest. Whether there was one.
    pub(crate) fn displace(&self, full: Full, address: IpAddr, proven: bool) -> bool {
        let all = self.all.borrow();
        let without_request =
            all.iter().filter(|connection| connection.is_without_request(proven) && connection.may_give(full, address));
        let least = without_request.min_by_key(|connection| connection.worth());
        least.is_some_and(|least| {
            least.end(Cause::Displaced);
            true
        })
    }

    /// Ends the answers that one connection's caller has not taken for a while, so that another request may have the
    /// place: of the same address where that one is full. It is the connection with the most of them. How many.
    pub(crate) fn end_stalled(&self, full: Full, address: IpAddr) -> u64 {
        self.tell_time();
        let all = self.all.borrow();
        let giving = all.iter().filter(|connection| connection.may_give(full, address));
        let most = giving.max_by_key(|connection| connection.stalled(GRACE));
        most.map_or(0, |connection| connection.end_stalled(GRACE))
    }

    /// Lets all finish.
    pub(crate) fn finish(&self) {
        self.all.borrow().iter().for_each(|connection| connection.finish());
    }

    /// Resolves when there are none.
    pub(crate) async fn none(&self) {
        while !self.all.borrow().is_empty() {
            self.changed.notified().await;
        }
        // Another one may wait for the same.
        self.changed.notify_one();
    }

    fn tell_time(&self) {
        self.clock.store(self.started.elapsed().as_millis() as u64 + 1, Relaxed);
    }

    /// Keeps the clock going while there are connections, and ends those that are overdue; for ever.
    pub(crate) async fn sweep(&self, ended: impl Fn(Cause, u64)) {
        let Deadlines { head, idle, write } = self.deadlines;
        let tick = (head.min(idle).min(write) / 8).clamp(Duration::from_millis(10), Duration::from_secs(1));
        loop {
            while self.all.borrow().is_empty() {
                self.changed.notified().await;
            }
            tokio::time::sleep(tick).await;
            self.tell_time();
            for connection in self.all.borrow().iter().filter(|connection| !connection.is_ended()) {
                if let Some(cause) = connection.overdue(&self.deadlines) {
                    connection.end(cause);
                    ended(cause, 1);
                    continue;
                }
                let reset = connection.reset_answers(write);
                if reset > 0 {
                    ended(Cause::SlowWrite, reset);
                }
                let Some(idle_for) = connection.progress.idle_for() else { continue };
                let now = connection.progress.now();
                match connection.finishing_since() {
                    None if idle_for >= idle.as_millis() as u64 => {
                        connection.finish();
                        ended(Cause::Idle, 1);
                    }
                    Some(since) if idle_for.min(now.saturating_sub(since)) >= FAREWELL => connection.end(Cause::Idle),
                    _ => {}
                }
            }
        }
    }
}

/// A connection that is among those of its core.
pub(crate) struct Member {
    connections: Rc<Connections>,
    pub(crate) connection: Rc<Connection>,
}

impl Drop for Member {
    fn drop(&mut self) {
        let mut all = self.connections.all.borrow_mut();
        if let Some(position) = all.iter().position(|other| Rc::ptr_eq(other, &self.connection)) {
            all.swap_remove(position);
        }
        if all.is_empty() {
            self.connections.changed.notify_one();
        }
    }
}
