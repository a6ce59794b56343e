//! The connections of one core: ends those that wait too long, and those that must make room for others.
//!
//! One task checks all of them periodically. A connection has no timer of its own, so waiting costs it nothing.

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

/// The time limits for callers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadlines {
    /// For a whole head, the handshake of TLS before the first one included.
    pub head: Duration,
    /// Between requests.
    pub idle: Duration,
    /// For any part of an answer that is ready to be read.
    pub write: Duration,
}

impl Default for Deadlines {
    /// A head is one packet or a few. Balancers reuse connections that were idle for 60 s; with a shorter limit they
    /// would reuse a connection that is being closed. A phone that changes networks reconnects within 30 s.
    fn default() -> Self {
        Self { head: Duration::from_secs(15), idle: Duration::from_secs(75), write: Duration::from_secs(30) }
    }
}

/// The reason why the gateway ended a connection or a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    SlowHead,
    Idle,
    SlowWrite,
    /// Another connection needed the place.
    Displaced,
    /// No connection could be displaced for it.
    NoRoom,
    /// It does not begin as the PROXY protocol wants it, or its sender is no trusted proxy.
    NotProxied,
    /// The Credential, the key or the session of the caller of a stream has ended.
    RightEnded,
}

impl Cause {
    pub(crate) const ALL: [Self; 7] = [
        Self::SlowHead,
        Self::Idle,
        Self::SlowWrite,
        Self::Displaced,
        Self::NoRoom,
        Self::NotProxied,
        Self::RightEnded,
    ];

    /// Its label in metrics.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::SlowHead => "head",
            Self::Idle => "idle",
            Self::SlowWrite => "write",
            Self::Displaced => "displaced",
            Self::NoRoom => "no_room",
            Self::NotProxied => "not_proxied",
            Self::RightEnded => "right_ended",
        }
    }
}

/// The time for which an answer that its caller does not read keeps its place while another request needs one. The
/// recorded beginning may be up to one tick of the sweep too early, but the answer keeps its place for a second at
/// least.
const GRACE: Duration = Duration::from_secs(2);

/// The time in which a connection that shall finish, and has no request, must close.
const FAREWELL: u64 = 2_000;

/// A connection without a request that may be closed for a newcomer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spare {
    /// It has had no answer except refusals, and time enough for a head to arrive.
    Waiting,
    /// It has had no answer except refusals.
    Stranger,
    /// It waits for its next request.
    Idle,
}

impl Spare {
    /// In the order in which they are closed.
    pub(crate) const ALL: [Self; 3] = [Self::Waiting, Self::Stranger, Self::Idle];
}

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

    /// Adds a connection; it is removed when the returned value is dropped.
    pub(crate) fn add(self: &Rc<Self>, place: &Place) -> Member {
        // While there are no connections, no task advances the clock.
        self.tell_time();
        let connection = Connection::new(place, self.clock.clone());
        self.all.borrow_mut().push(connection.clone());
        self.changed.notify_one();
        Member { connections: self.clone(), connection }
    }

    /// Ends a connection without a request to free its place: a connection of the same address where that address is
    /// full. It chooses among the connections that are spare in this sense one of the address that has the most
    /// connections, and among these the one that has waited longest. Returns whether there was one.
    pub(crate) fn displace(&self, full: Full, address: IpAddr, spare: Spare) -> bool {
        self.tell_time();
        let all = self.all.borrow();
        let without_request =
            all.iter().filter(|connection| connection.is_spare(spare) && connection.may_give(full, address));
        let least = without_request.min_by_key(|connection| connection.worth());
        least.is_some_and(|least| {
            least.end(Cause::Displaced);
            true
        })
    }

    /// Ends the answers that one connection's caller has not read for a while, to free a place for another request: a
    /// connection of the same address where that address is full. It chooses the connection with the most such answers.
    /// Returns their number.
    pub(crate) fn end_stalled(&self, full: Full, address: IpAddr) -> u64 {
        self.tell_time();
        let all = self.all.borrow();
        let giving = all.iter().filter(|connection| connection.may_give(full, address));
        let most = giving.max_by_key(|connection| connection.stalled(GRACE));
        most.map_or(0, |connection| connection.end_stalled(GRACE))
    }

    /// Lets all connections finish.
    pub(crate) fn finish(&self) {
        self.all.borrow().iter().for_each(|connection| connection.finish());
    }

    /// Resolves when there are no connections.
    pub(crate) async fn none(&self) {
        while !self.all.borrow().is_empty() {
            self.changed.notified().await;
        }
        // Another task may wait for the same.
        self.changed.notify_one();
    }

    fn tell_time(&self) {
        self.clock.store(self.started.elapsed().as_millis() as u64 + 1, Relaxed);
    }

    /// Advances the clock while there are connections, and ends those that are overdue, in an endless loop.
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

/// A connection that is in the list of its core.
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
