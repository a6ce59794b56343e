//! Threads beside the serving cores for work that one request can cause and that takes long.
//!
//! On a serving core such work would delay all other requests; without a bound a flood of it would take all memory and
//! delay every answer. So a few threads do it, the queue is short, no address may fill it, and the work of
//! authenticated callers goes first where the caller of [`WorkerPool::run`] asks for it.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use tokio::sync::oneshot;

/// The amount of work that may wait for the threads of one kind of work.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Pieces of work in the queue; beyond this, callers are told to come back.
    pub waiting: usize,
    /// Pieces of work of one address (IPv6: of one /64), in the queue or running.
    pub of_address: usize,
}

/// The place of a piece of work in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Priority {
    /// Before all that is [`Priority::InLine`], and without the bound of its address.
    First,
    /// Behind all earlier work.
    InLine,
}

/// Hands the result to the request that waits for it.
type Reply = Box<dyn FnOnce() + Send>;

struct Job {
    work: Box<dyn FnOnce() -> Option<Reply> + Send>,
    address: IpAddr,
}

#[derive(Default)]
struct Queue {
    first: VecDeque<Job>,
    in_line: VecDeque<Job>,
    by_address: HashMap<IpAddr, usize>,
    closed: bool,
}

impl Queue {
    fn has_room(&self, address: IpAddr, priority: Priority, bounds: Bounds) -> bool {
        match priority {
            Priority::First => self.first.len() < bounds.waiting,
            Priority::InLine => {
                let of_address = self.by_address.get(&address).copied().unwrap_or_default();
                self.first.len() + self.in_line.len() < bounds.waiting && of_address < bounds.of_address
            }
        }
    }

    fn add(&mut self, job: Job, priority: Priority) {
        *self.by_address.entry(job.address).or_default() += 1;
        match priority {
            Priority::First => self.first.push_back(job),
            Priority::InLine => self.in_line.push_back(job),
        }
    }

    fn done(&mut self, address: IpAddr) {
        if let Some(count) = self.by_address.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                self.by_address.remove(&address);
            }
        }
    }
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    wanted: Condvar,
}

/// The threads for one kind of work; they end when this is dropped.
pub struct WorkerPool {
    shared: Arc<Shared>,
    bounds: Bounds,
}

impl WorkerPool {
    /// Starts this many threads of this name. `None` where the system gives no threads.
    pub fn start(name: &str, threads: usize, bounds: Bounds) -> Option<Arc<Self>> {
        let shared = Arc::new(Shared::default());
        for number in 0..threads.max(1) {
            let shared = shared.clone();
            std::thread::Builder::new().name(format!("{name}-{number}")).spawn(move || work(&shared)).ok()?;
        }
        Some(Arc::new(Self { shared, bounds }))
    }

    /// Does this work for a caller at an address. `None`: too much work is in the queue already, or the work panicked.
    pub async fn run<T: Send + 'static>(
        &self,
        address: IpAddr,
        priority: Priority,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let address = idm_types::network(address);
        let (answer, answered) = oneshot::channel();
        let work = Box::new(move || {
            // The work is skipped for a request that gave up while it was queued.
            if answer.is_closed() {
                return None;
            }
            let result = work();
            let reply: Reply = Box::new(move || drop(answer.send(result)));
            Some(reply)
        });
        {
            let mut queue = self.shared.queue.lock().unwrap_or_else(PoisonError::into_inner);
            if queue.closed || !queue.has_room(address, priority, self.bounds) {
                return None;
            }
            queue.add(Job { work, address }, priority);
        }
        self.shared.wanted.notify_one();
        answered.await.ok()
    }
}

impl Drop for WorkerPool {
    fn drop(&mut self) {
        self.shared.queue.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
        self.shared.wanted.notify_all();
    }
}

fn work(shared: &Shared) {
    loop {
        let Job { work, address } = {
            let mut queue = shared.queue.lock().unwrap_or_else(PoisonError::into_inner);
            loop {
                if queue.closed {
                    return;
                }
                if let Some(job) = queue.first.pop_front().or_else(|| queue.in_line.pop_front()) {
                    break job;
                }
                queue = shared.wanted.wait(queue).unwrap_or_else(PoisonError::into_inner);
            }
        };
        // A panic must affect only its own request, and must not end the thread.
        let reply = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        // Before the reply, so that the address may send its next piece of work as soon as it has this one.
        shared.queue.lock().unwrap_or_else(PoisonError::into_inner).done(address);
        if let Ok(Some(reply)) = reply {
            reply();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLOOD: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const OTHER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));

    #[tokio::test]
    async fn one_address_cannot_fill_the_queue_and_a_panic_ends_nothing() {
        let beside = WorkerPool::start("test", 1, Bounds { waiting: 64, of_address: 4 }).unwrap();
        let (go, gate) = std::sync::mpsc::channel::<()>();
        let gate = Arc::new(Mutex::new(gate));
        let wait = || {
            let gate = gate.clone();
            beside.run(FLOOD, Priority::InLine, move || {
                let _ = gate.lock().unwrap().recv();
            })
        };
        let flood = futures::future::join_all((0..20).map(|_| wait()));
        let rest = async {
            let other = beside.run(OTHER, Priority::InLine, || 7);
            // All are in the queue before the first one starts.
            drop(go);
            other.await
        };
        let (answers, other) = tokio::join!(flood, rest);
        assert_eq!(answers.iter().filter(|answer| answer.is_none()).count(), 16);
        assert_eq!(other, Some(7));
        assert_eq!(beside.run(OTHER, Priority::InLine, || -> u8 { panic!("inside") }).await, None);
        assert_eq!(beside.run(OTHER, Priority::InLine, || 8).await, Some(8));
    }
}
