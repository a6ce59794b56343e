//! Turns at the core: unknown callers, and connections with many requests, let other callers go first.
//!
//! Tasks take turns: the task of a connection, which performs the handshake, reads heads and decides on HTTP/1.1, and
//! the task of each stream of HTTP/2. A task that waits for its turn continues after all tasks that are ready now have
//! run and the sockets were polled again; addresses are served in rotation, one task each. Between two polls there is
//! time for one step of an unknown caller, or for a few streams of known callers who have several requests under way.
//! So a flood adds at most this time to the wait of another caller.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::future::Future as _;
use std::net::IpAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};

/// The CPU time that a request may use without its connection having to let others go first.
const ALLOWANCE: Duration = Duration::from_micros(100);
/// The upper limit of the time for which a connection is held back.
const MOST_OWED: Duration = Duration::from_millis(10);

/// The shares of the time between two polls of the sockets.
const SHARES: usize = 8;

/// The share of the time between two polls of the sockets that a turn takes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Turn {
    /// All of it.
    Whole,
    /// One of eight shares: a stream of a known caller costs tens of microseconds.
    Share,
}

impl Turn {
    fn shares(self) -> usize {
        match self {
            Turn::Whole => SHARES,
            Turn::Share => 1,
        }
    }
}

/// The turns of one core.
#[derive(Default)]
pub(crate) struct Turns {
    waiting: RefCell<Waiting>,
    /// The shares that were given since the sockets were polled.
    taken: Cell<usize>,
    wanted: Notify,
}

/// The wait of one task for its turn.
#[derive(Default)]
pub(crate) struct Wait(Option<oneshot::Receiver<()>>);

/// Tasks that wait, by address, and the addresses in rotation.
#[derive(Default)]
struct Waiting {
    tasks: HashMap<IpAddr, VecDeque<(Turn, oneshot::Sender<()>)>>,
    rotation: VecDeque<IpAddr>,
}

impl Waiting {
    fn push(&mut self, address: IpAddr, turn: Turn) -> oneshot::Receiver<()> {
        let (given, waits) = oneshot::channel();
        let tasks = self.tasks.entry(address).or_default();
        if tasks.is_empty() {
            self.rotation.push_back(address);
        }
        tasks.push_back((turn, given));
        waits
    }

    /// The next task of the address whose turn it is.
    fn pop(&mut self) -> Option<(Turn, oneshot::Sender<()>)> {
        let address = self.rotation.pop_front()?;
        let tasks = self.tasks.get_mut(&address)?;
        let next = tasks.pop_front();
        if tasks.is_empty() {
            self.tasks.remove(&address);
        } else {
            self.rotation.push_back(address);
        }
        next
    }
}

impl Turns {
    /// Ready when a task of this address has its turn: at once if there is time left since the sockets were polled.
    /// Afterwards `wait` can wait for another one.
    pub(crate) fn poll(&self, address: IpAddr, turn: Turn, wait: &mut Wait, cx: &mut Context<'_>) -> Poll<()> {
        if wait.0.is_none() {
            self.wanted.notify_one();
            if self.taken.get() + turn.shares() <= SHARES {
                self.taken.set(self.taken.get() + turn.shares());
                return Poll::Ready(());
            }
        }
        let given = wait.0.get_or_insert_with(|| self.waiting.borrow_mut().push(address, turn));
        // The other end is dropped only together with the core.
        let _ = ready!(Pin::new(given).poll(cx));
        wait.0 = None;
        Poll::Ready(())
    }

    /// Gives the turns, as many as there is time for between two polls of the sockets, in an endless loop.
    pub(crate) async fn give(&self) {
        loop {
            self.wanted.notified().await;
            while self.taken.get() > 0 {
                // Continues only after the tasks that are ready now have run, and after a poll of the sockets.
                tokio::task::yield_now().await;
                self.next();
            }
        }
    }

    /// Gives the next turns to tasks that still wait for them. The last one may exceed the rest of the time, once.
    fn next(&self) {
        let mut waiting = self.waiting.borrow_mut();
        let mut taken = 0;
        while taken < SHARES {
            let Some((turn, given)) = waiting.pop() else { break };
            if given.send(()).is_ok() {
                taken += turn.shares();
            }
        }
        self.taken.set(taken);
    }
}

/// The CPU time that a connection used beyond its allowance, and has not worked off yet.
#[derive(Default)]
pub(crate) struct Owed(Cell<Duration>);

impl Owed {
    /// Accounts for the CPU time of a request.
    pub(crate) fn add(&self, used: Duration) {
        self.0.set((self.0.get() + used).saturating_sub(ALLOWANCE).min(MOST_OWED));
    }

    /// Whether others go first.
    pub(crate) fn is_due(&self) -> bool {
        !self.0.get().is_zero()
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;

    async fn turn(turns: &Turns, address: IpAddr) {
        let mut wait = Wait::default();
        std::future::poll_fn(|cx| turns.poll(address, Turn::Whole, &mut wait, cx)).await;
    }

    fn v4(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    #[tokio::test]
    async fn addresses_take_turns_and_who_left_takes_none() {
        let local = tokio::task::LocalSet::new();
        local
            .run_until(async {
                let (turns, order) = (Rc::new(Turns::default()), Rc::new(RefCell::new(Vec::new())));
                let giving = tokio::task::spawn_local({
                    let turns = turns.clone();
                    async move { turns.give().await }
                });
                let request = |last: u8| {
                    let (turns, order) = (turns.clone(), order.clone());
                    tokio::task::spawn_local(async move {
                        turn(&turns, v4(last)).await;
                        order.borrow_mut().push(last);
                    })
                };
                let flood: Vec<_> = (0..5).map(|_| request(1)).collect();
                tokio::task::yield_now().await;
                let other = request(2);
                flood[4].abort();
                other.await.expect("it had its turn");
                for task in flood {
                    let _ = task.await;
                }
                assert_eq!(order.borrow().iter().filter(|last| **last == 1).count(), 4);
                let place = order.borrow().iter().position(|last| *last == 2).expect("it had a turn");
                assert!(place <= 3, "{:?}", order.borrow());
                // A turn is given at once while no task waits.
                tokio::task::yield_now().await;
                tokio::task::yield_now().await;
                tokio::time::timeout(Duration::from_millis(100), turn(&turns, v4(1))).await.expect("at once");
                giving.abort();
            })
            .await;
    }

    #[tokio::test]
    async fn what_is_ready_is_done_before_the_next_turn() {
        let local = tokio::task::LocalSet::new();
        local
            .run_until(async {
                let turns = Rc::new(Turns::default());
                let giving = tokio::task::spawn_local({
                    let turns = turns.clone();
                    async move { turns.give().await }
                });
                let done = Rc::new(Cell::new(0));
                turn(&turns, v4(1)).await;
                let ready: Vec<_> = (0..50)
                    .map(|_| {
                        let done = done.clone();
                        tokio::task::spawn_local(async move { done.set(done.get() + 1) })
                    })
                    .collect();
                turn(&turns, v4(1)).await;
                assert_eq!(done.get(), 50);
                drop(ready);
                giving.abort();
            })
            .await;
    }

    #[tokio::test]
    async fn known_callers_share_the_time_between_two_looks() {
        let turns = Turns::default();
        let context = &mut Context::from_waker(std::task::Waker::noop());
        let mut waits: Vec<_> = (0..20).map(|_| Wait::default()).collect();
        let poll = |wait: &mut Wait, turn, context: &mut Context<'_>| turns.poll(v4(1), turn, wait, context).is_ready();
        let ready = waits.iter_mut().filter_map(|wait| poll(wait, Turn::Share, context).then_some(())).count();
        assert_eq!(ready, SHARES, "the rest waits");
        let mut stranger = Wait::default();
        assert!(!poll(&mut stranger, Turn::Whole, context));
        turns.next();
        let ready =
            waits[SHARES..].iter_mut().filter_map(|wait| poll(wait, Turn::Share, context).then_some(())).count();
        assert_eq!(ready, SHARES);
        assert!(!poll(&mut stranger, Turn::Whole, context), "it came after them");
        turns.next();
        assert!(poll(&mut stranger, Turn::Whole, context));
        turns.next();
        assert_eq!(turns.taken.get(), 0);
        assert!(poll(&mut stranger, Turn::Whole, context), "at once while nobody waits");
    }

    #[test]
    fn what_a_request_costs_beyond_its_allowance_is_worked_off() {
        let owed = Owed::default();
        owed.add(Duration::from_micros(40));
        assert!(!owed.is_due());
        owed.add(Duration::from_micros(350));
        for _ in 0..2 {
            assert!(owed.is_due());
            owed.add(Duration::ZERO);
        }
        owed.add(Duration::ZERO);
        assert!(!owed.is_due());
        owed.add(Duration::from_secs(5));
        (0..100).for_each(|_| owed.add(Duration::ZERO));
        assert!(!owed.is_due(), "nobody is kept back for ever");
    }
}
