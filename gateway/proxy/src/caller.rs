//! One connection of a caller and its requests, as limits and deadlines use them.

use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::future::{Future, poll_fn};
use std::net::IpAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker, ready};
use std::time::Duration;

use tokio::task::AbortHandle;

use crate::core::Core;
use crate::frames::Seen;
use crate::limits::{Full, Place, Requests};
use crate::progress::{Clock, Progress};
use crate::turns::{Owed, Turn, Turns, Wait};
use crate::watch::{Cause, Deadlines, Spare};

/// The time that the first head of a connection may take before the connection counts as one that waits: a round trip,
/// in milliseconds.
const ARRIVAL: u64 = 100;

/// One connection.
pub(crate) struct Connection {
    pub(crate) progress: Arc<Progress>,
    address: IpAddr,
    of_address: Requests,
    requests: Cell<usize>,
    /// HTTP/2: the state of its frames.
    pub(crate) seen: Rc<Seen>,
    /// HTTP/2: the answers that are under way.
    streams: RefCell<Vec<Rc<Answer>>>,
    /// HTTP/2: the request for which hyper is about to start a task.
    next: RefCell<Option<Rc<Answer>>>,
    /// It had an answer that was not a refusal.
    proven: Cell<bool>,
    /// The CPU time that its requests used beyond the allowance of one connection.
    owed: Owed,
    ended: Cell<Option<Cause>>,
    /// The time since when it shall finish and accept no new request.
    finishing: Cell<Option<u64>>,
    waker: RefCell<Option<Waker>>,
    opened: u64,
    /// HTTP/2: since when answers that were handed over completely wait for the caller; 0 while none waits.
    stuck: Cell<u64>,
}

/// One answer on an HTTP/2 connection.
#[derive(Default)]
pub(crate) struct Answer {
    /// The time when a part of it was handed over and no more was asked for: 0 while the gateway waits for the
    /// upstream.
    handed: Cell<u64>,
    task: RefCell<Option<AbortHandle>>,
}

/// A request whose head was read, and that has no place among those under way yet.
pub(crate) struct Arrived {
    connection: Rc<Connection>,
    answer: Option<Rc<Answer>>,
}

impl Arrived {
    /// Begins the request, if there is room or room can be made.
    pub(crate) async fn begin(self, core: &Core) -> Result<UnderWay, Full> {
        let Self { connection, answer } = self;
        if let Err(full) = connection.count() {
            connection.begin_in_room_made(full, core).await.inspect_err(|_| {
                if answer.is_none() {
                    connection.progress.idle();
                }
            })?;
        }
        connection.progress.busy();
        if let Some(answer) = &answer {
            connection.streams.borrow_mut().push(answer.clone());
        }
        Ok(UnderWay { connection, answer })
    }
}

/// A request under way on a connection; it ends when this is dropped.
pub(crate) struct UnderWay {
    connection: Rc<Connection>,
    answer: Option<Rc<Answer>>,
}

impl Connection {
    pub(crate) fn new(place: &Place, clock: Clock) -> Rc<Self> {
        let progress = Progress::new(clock);
        Rc::new(Self {
            opened: progress.now(),
            progress,
            address: place.address(),
            of_address: place.requests(),
            requests: Cell::new(0),
            seen: Rc::default(),
            streams: RefCell::default(),
            next: RefCell::default(),
            proven: Cell::new(false),
            owed: Owed::default(),
            ended: Cell::new(None),
            finishing: Cell::new(None),
            waker: RefCell::default(),
            stuck: Cell::new(0),
        })
    }

    /// The head of a request came on HTTP/1.1: one at a time.
    pub(crate) fn arrived(self: &Rc<Self>) -> Arrived {
        self.progress.head_ended();
        self.progress.busy();
        Arrived { connection: self.clone(), answer: None }
    }

    /// The head of a request came on HTTP/2.
    pub(crate) fn arrived_on_stream(self: &Rc<Self>) -> Arrived {
        let answer = Rc::new(Answer::default());
        *self.next.borrow_mut() = Some(answer.clone());
        Arrived { connection: self.clone(), answer: Some(answer) }
    }

    fn count(&self) -> Result<(), Full> {
        self.of_address.begin(self.requests.get())?;
        self.requests.set(self.requests.get() + 1);
        Ok(())
    }

    /// Counts one more request where another one's answer is not read, and frees that one's place.
    async fn begin_in_room_made(&self, full: Full, core: &Core) -> Result<(), Full> {
        let now = self.progress.now();
        if !self.of_address.may_look(now) {
            return Err(full);
        }
        if !core.room.for_request(full, self.address).await {
            self.of_address.looked_in_vain(now);
            return Err(full);
        }
        self.count()
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

    /// Lets it finish the requests under way, and accept no new ones.
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
    pub(crate) fn end(&self, cause: Cause) {
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

    /// Whether it is exempt from waiting for its turn: it had an answer that was not a refusal, stays within its
    /// allowance, and has one request under way at most. With several streams, other callers would wait for each of
    /// them.
    fn goes_first(&self) -> bool {
        self.proven.get() && !self.owed.is_due() && self.requests.get() <= 1
    }

    /// The turn of one of its streams.
    fn turn_of_stream(&self) -> Turn {
        if self.proven.get() && !self.owed.is_due() { Turn::Share } else { Turn::Whole }
    }

    /// Ends a part of a stream's work: the next part runs when its turn comes. On HTTP/1.1 the connection itself takes
    /// the turns.
    pub(crate) async fn turn(&self) {
        if self.progress.is_framed() && !self.goes_first() {
            tokio::task::yield_now().await;
        }
    }

    /// The work of a stream of HTTP/2, which is a task of its own: each part runs when its turn comes, except the first
    /// part, which checks whether there is room for the request at all.
    pub(crate) fn stream_work<T>(
        self: Rc<Self>,
        core: Rc<Core>,
        work: impl Future<Output = T> + 'static,
    ) -> impl Future<Output = ()> {
        // Its memory is the work's alone: an async block would keep room for it once more for each move.
        let (mut work, mut waiting, mut begun) = (Box::pin(work), Wait::default(), false);
        poll_fn(move |cx| {
            if std::mem::replace(&mut begun, true) && !self.goes_first() {
                ready!(core.turns.poll(self.address, self.turn_of_stream(), &mut waiting, cx));
            }
            work.as_mut().poll(cx).map(drop)
        })
    }

    /// Does the work of the connection, each part when its turn comes, until it is done or ended; then all of it is
    /// dropped.
    pub(crate) async fn live(&self, turns: &Turns, work: impl Future<Output = ()>) {
        let mut work = pin!(work);
        let mut waiting = Wait::default();
        poll_fn(|cx| {
            if self.ended.get().is_some() {
                return Poll::Ready(());
            }
            let mut waker = self.waker.borrow_mut();
            if !waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
                *waker = Some(cx.waker().clone());
            }
            drop(waker);
            if !self.goes_first() {
                ready!(turns.poll(self.address, Turn::Whole, &mut waiting, cx));
            }
            self.seen.begin_turn(self.proven.get());
            work.as_mut().poll(cx)
        })
        .await;
    }

    /// Whether this connection must end now, and the reason; ends answers that callers do not read.
    pub(crate) fn overdue(&self, deadlines: &Deadlines) -> Option<Cause> {
        if self.progress.head_for().is_some_and(|ms| ms >= deadlines.head.as_millis() as u64) {
            return Some(Cause::SlowHead);
        }
        self.is_stuck(deadlines.write).then_some(Cause::SlowWrite)
    }

    /// HTTP/2: how long answers that were handed over completely have waited for the caller to read any part of them.
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

    /// HTTP/2: ends the answers that were handed over in part, and whose rest was not asked for; returns their number.
    pub(crate) fn reset_answers(&self, limit: Duration) -> u64 {
        let now = self.progress.now();
        let streams = self.streams.borrow();
        let untaken = streams.iter().filter(|answer| answer.is_untaken(now, limit));
        let tasks: Vec<AbortHandle> = untaken.filter_map(|answer| answer.task.borrow_mut().take()).collect();
        drop(streams);
        tasks.iter().for_each(AbortHandle::abort);
        tasks.len() as u64
    }
}

impl Connection {
    /// Whether it is a connection that may be ended, or lose an answer, for a newcomer of this address.
    pub(crate) fn may_give(&self, full: Full, address: IpAddr) -> bool {
        self.ended.get().is_none() && (full == Full::Sum || self.address == address)
    }

    /// Whether it has no request, and may be closed for a newcomer in this sense.
    pub(crate) fn is_spare(&self, spare: Spare) -> bool {
        let kind = match spare {
            Spare::Waiting => !self.proven.get() && self.progress.now().saturating_sub(self.opened) >= ARRIVAL,
            Spare::Stranger => !self.proven.get(),
            Spare::Idle => self.proven.get(),
        };
        kind && self.requests.get() == 0
    }

    /// The order in which connections without a request are ended, the least first: a connection of the address that
    /// has the most, and among these the one that has waited longest.
    pub(crate) fn worth(&self) -> (Reverse<usize>, u64) {
        let idle_since = self.progress.now().saturating_sub(self.progress.idle_for().unwrap_or(0));
        let since = if self.proven.get() { self.opened.max(idle_since) } else { self.opened };
        (Reverse(self.of_address.connections()), since)
    }

    /// Whether it has ended, even if its task was not dropped yet.
    pub(crate) fn is_ended(&self) -> bool {
        self.ended.get().is_some()
    }

    /// The time since when it shall finish and accept no new request.
    pub(crate) fn finishing_since(&self) -> Option<u64> {
        self.finishing.get()
    }

    /// Whether the caller reads none of the bytes that are written.
    fn is_stuck(&self, limit: Duration) -> bool {
        let over = |waited: Option<u64>| waited.is_some_and(|ms| ms >= limit.as_millis() as u64);
        over(self.progress.blocked_for()) || over(self.stuck_for())
    }

    /// The number of requests whose answer the caller does not read.
    pub(crate) fn stalled(&self, limit: Duration) -> usize {
        if self.is_stuck(limit) {
            return self.requests.get();
        }
        let now = self.progress.now();
        self.streams.borrow().iter().filter(|answer| answer.is_untaken(now, limit)).count()
    }

    /// Ends these; returns their number.
    pub(crate) fn end_stalled(&self, limit: Duration) -> u64 {
        if self.is_stuck(limit) {
            self.end(Cause::SlowWrite);
            return self.requests.get() as u64;
        }
        self.reset_answers(limit)
    }
}

impl Answer {
    /// Whether a part of it was handed over this long ago, and the rest was not asked for.
    fn is_untaken(&self, now: u64, limit: Duration) -> bool {
        let handed = self.handed.get();
        handed != 0 && now.saturating_sub(handed) >= limit.as_millis() as u64
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.of_address.end(self.requests.get());
    }
}

impl UnderWay {
    /// Notes whether a part of the answer was handed over, or is awaited from the upstream. Only on HTTP/2: on HTTP/1.1
    /// the socket shows all of this.
    pub(crate) fn handed(&self, handed: bool) {
        if let Some(answer) = &self.answer {
            answer.handed.set(if handed { self.connection.progress.now() } else { 0 });
        }
    }

    /// The largest part that is handed over at once.
    pub(crate) fn part(&self) -> usize {
        // On HTTP/2 the last part is released before it is written: it is as small as a frame.
        if self.answer.is_some() { 16 << 10 } else { usize::MAX }
    }

    /// Accounts for a decision: the CPU time that it used, and whether it was not a refusal.
    pub(crate) fn decided(&self, used: Duration, permitted: bool) {
        self.connection.owed.add(used);
        if permitted {
            self.connection.proven.set(true);
        }
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
