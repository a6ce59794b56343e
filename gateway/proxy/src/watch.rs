//! The connections of one core: who waits too long is ended, and who is ended when there is no room for another.
//!
//! One task looks at all of them once in a while. A connection has no timer of its own, so waiting costs it nothing.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::net::IpAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::task::AbortHandle;

use crate::frames::Seen;
use crate::limits::{Full, Place, Requests};
use crate::progress::{Clock, Progress};

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
}

impl Cause {
    pub(crate) const ALL: [Self; 5] = [Self::SlowHead, Self::Idle, Self::SlowWrite, Self::Displaced, Self::NoRoom];

    /// As it stands in metrics.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::SlowHead => "head",
            Self::Idle => "idle",
            Self::SlowWrite => "write",
            Self::Displaced => "displaced",
            Self::NoRoom => "no_room",
        }
    }
}

/// One connection.
pub(crate) struct Connection {
    pub(crate) progress: Arc<Progress>,
    address: IpAddr,
    of_address: Requests,
    requests: Cell<usize>,
    /// HTTP/2: what passes in frames.
    pub(crate) seen: Rc<Seen>,
    /// HTTP/2: the answers that are under way.
    streams: RefCell<Vec<Rc<Answer>>>,
    /// HTTP/2: the request that hyper is about to start a task for.
    next: RefCell<Option<Rc<Answer>>>,
    /// It had an answer that was no refusal.
    proven: Cell<bool>,
    ended: Cell<Option<Cause>>,
    /// Since when it is to finish and take nothing new.
    finishing: Cell<Option<u64>>,
    waker: RefCell<Option<Waker>>,
    opened: u64,
    /// HTTP/2: since when answers wait that were handed over to the last byte; 0 while none does.
    stuck: Cell<u64>,
}

/// One answer on an HTTP/2 connection.
#[derive(Default)]
pub(crate) struct Answer {
    /// When a part of it was handed over that was not asked beyond: 0 while the upstream is waited for.
    handed: Cell<u64>,
    task: RefCell<Option<AbortHandle>>,
}

/// A request under way on a connection; it has ended when this is dropped.
pub(crate) struct UnderWay {
    connection: Rc<Connection>,
    answer: Option<Rc<Answer>>,
}

impl Connection {
    /// Begins a request on HTTP/1.1: one at a time.
    pub(crate) fn begin(self: &Rc<Self>) -> Result<UnderWay, Full> {
        self.progress.head_ended();
        self.progress.busy();
        let counted = self.count();
        if counted.is_err() {
            self.progress.idle();
        }
        counted.map(|()| UnderWay { connection: self.clone(), answer: None })
    }

    /// Begins a request on HTTP/2.
    pub(crate) fn begin_stream(self: &Rc<Self>) -> Result<UnderWay, Full> {
        self.count()?;
        self.progress.busy();
        let answer = Rc::new(Answer::default());
        self.streams.borrow_mut().push(answer.clone());
        *self.next.borrow_mut() = Some(answer.clone());
        Ok(UnderWay { connection: self.clone(), answer: Some(answer) })
    }

    fn count(&self) -> Result<(), Full> {
        self.of_address.begin(self.requests.get())?;
        self.requests.set(self.requests.get() + 1);
        Ok(())
    }

    /// The task of the request that began last.
    pub(crate) fn runs(&self, task: AbortHandle) {
        if let Some(answer) = self.next.borrow_mut().take() {
            *answer.task.borrow_mut() = Some(task);
        }
    }

    fn end_requests(&self, ended: usize) {
        let left = self.requests.get().saturating_sub(ended);
        self.of_address.end(self.requests.get() - left);
        self.requests.set(left);
        if left == 0 {
            self.progress.idle();
        }
    }

    /// HTTP/2: a request has ended when its stream has, not when its answer was handed over.
    pub(crate) fn settle(&self) {
        let open = self.seen.open();
        if self.requests.get() > open {
            self.end_requests(self.requests.get() - open);
        } else if self.requests.get() == 0 && open == 0 {
            self.progress.idle();
        }
    }

    /// Lets it finish what is under way, and take nothing new.
    pub(crate) fn finish(&self) {
        if self.finishing.get().is_none() {
            self.finishing.set(Some(self.progress.now()));
            self.wake();
        }
    }

    pub(crate) fn is_finishing(&self) -> bool {
        self.finishing.get().is_some()
    }

    /// Ends it now.
    fn end(&self, cause: Cause) {
        if self.ended.get().is_none() {
            self.ended.set(Some(cause));
            self.wake();
        }
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    /// Does the work of the connection until it is done or ended; everything of it is dropped then.
    pub(crate) async fn live(&self, work: impl Future<Output = ()>) {
        let mut work = pin!(work);
        poll_fn(|cx| {
            if self.ended.get().is_some() {
                return Poll::Ready(());
            }
            let mut waker = self.waker.borrow_mut();
            if !waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
                *waker = Some(cx.waker().clone());
            }
            drop(waker);
            work.as_mut().poll(cx)
        })
        .await;
    }

    /// Whether this connection has to end now, and why; ends answers that nobody takes.
    fn overdue(&self, deadlines: &Deadlines) -> Option<Cause> {
        let over = |waited: Option<u64>, limit: Duration| waited.is_some_and(|ms| ms >= limit.as_millis() as u64);
        if over(self.progress.head_for(), deadlines.head) {
            return Some(Cause::SlowHead);
        }
        (over(self.progress.blocked_for(), deadlines.write) || over(self.stuck_for(), deadlines.write))
            .then_some(Cause::SlowWrite)
    }

    /// HTTP/2: how long answers that were handed over to the last byte have waited for the caller to take any of it.
    fn stuck_for(&self) -> Option<u64> {
        let now = self.progress.now();
        if self.requests.get() <= self.streams.borrow().len() {
            self.stuck.set(0);
            return None;
        }
        if self.stuck.get() == 0 {
            self.stuck.set(now);
        }
        Some(now.saturating_sub(self.stuck.get().max(self.seen.data())))
    }

    /// HTTP/2: ends the answers that were handed over in part, and of which the rest was not asked for; how many.
    fn reset_answers(&self, limit: Duration) -> u64 {
        let (now, limit) = (self.progress.now(), limit.as_millis() as u64);
        let streams = self.streams.borrow();
        let untaken = streams.iter().filter(|answer| {
            let handed = answer.handed.get();
            handed != 0 && now.saturating_sub(handed) >= limit
        });
        let tasks: Vec<AbortHandle> = untaken.filter_map(|answer| answer.task.borrow_mut().take()).collect();
        drop(streams);
        tasks.iter().for_each(AbortHandle::abort);
        tasks.len() as u64
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.of_address.end(self.requests.get());
    }
}

impl UnderWay {
    /// Notes whether a part of the answer was handed over, or is waited for. Only on HTTP/2: on HTTP/1.1 the socket
    /// tells all there is.
    pub(crate) fn handed(&self, handed: bool) {
        if let Some(answer) = &self.answer {
            answer.handed.set(if handed { self.connection.progress.now() } else { 0 });
        }
    }

    /// The largest part that is handed over at once.
    pub(crate) fn part(&self) -> usize {
        // On HTTP/2 the last part is let go before it is written: it is as small as a frame.
        if self.answer.is_some() { 16 << 10 } else { usize::MAX }
    }

    pub(crate) fn prove(&self) {
        self.connection.proven.set(true);
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let Some(answer) = &self.answer else { return self.connection.end_requests(1) };
        let mut streams = self.connection.streams.borrow_mut();
        if let Some(position) = streams.iter().position(|other| Rc::ptr_eq(other, answer)) {
            streams.swap_remove(position);
        }
    }
}

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
        let connection = Rc::new(Connection {
            progress: Progress::new(self.clock.clone()),
            address: place.address(),
            of_address: place.requests(),
            requests: Cell::new(0),
            seen: Rc::default(),
            streams: RefCell::default(),
            next: RefCell::default(),
            proven: Cell::new(false),
            ended: Cell::new(None),
            finishing: Cell::new(None),
            waker: RefCell::default(),
            opened: self.clock.load(Relaxed),
            stuck: Cell::new(0),
        });
        self.all.borrow_mut().push(connection.clone());
        self.changed.notify_one();
        Member { connections: self.clone(), connection }
    }

    /// Ends a connection without a request, so that another one may have its place: of the same address where that one
    /// is full. First those that never had an answer but refusals, then those that wait for their next request; of them
    /// the ones whose address has the most, and of these the one that has waited longest. Whether there was one.
    pub(crate) fn displace(&self, full: Full, address: IpAddr) -> bool {
        let all = self.all.borrow();
        let without_request = all.iter().filter(|connection| {
            connection.requests.get() == 0
                && connection.ended.get().is_none()
                && (full == Full::Sum || connection.address == address)
        });
        let least = without_request.min_by_key(|connection| {
            let since = connection.opened.max(connection.progress.now() - connection.progress.idle_for().unwrap_or(0));
            let since = if connection.proven.get() { since } else { connection.opened };
            (connection.proven.get(), std::cmp::Reverse(connection.of_address.connections()), since)
        });
        least.is_some_and(|least| {
            least.end(Cause::Displaced);
            true
        })
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
            for connection in self.all.borrow().iter().filter(|connection| connection.ended.get().is_none()) {
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
                match connection.finishing.get() {
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
