//! Work beside the serving cores: what one request may ask for and what takes longer than a moment.
//!
//! On a serving core it would stop everyone else's requests; without a bound a flood of it would take all memory and
//! every answer would come late. So a few threads do it, the queue is short, and no address may fill it.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use tokio::sync::oneshot;

/// Pieces of work that may wait; beyond it callers are told to come back.
const MAX_WAITING: usize = 64;
/// Of one address (IPv6: of one /64), waiting or being done.
const MAX_PER_ADDRESS: usize = 4;

struct Job {
    work: Box<dyn FnOnce() + Send>,
    address: IpAddr,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Job>,
    by_address: HashMap<IpAddr, usize>,
    closed: bool,
}

impl Queue {
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

/// The threads; they end when this is dropped.
pub struct Beside {
    shared: Arc<Shared>,
}

impl Beside {
    /// Starts this many threads. `None` where the system gives no threads.
    pub fn start(threads: usize) -> Option<Arc<Self>> {
        let shared = Arc::new(Shared::default());
        for number in 0..threads.max(1) {
            let shared = shared.clone();
            std::thread::Builder::new().name(format!("beside-{number}")).spawn(move || work(&shared)).ok()?;
        }
        Some(Arc::new(Self { shared }))
    }

    /// Does this work for a caller at an address. `None`: too much is waiting already, or the work panicked.
    pub async fn run<T: Send + 'static>(
        &self,
        address: IpAddr,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let address = idm_types::network(address);
        let (answer, answered) = oneshot::channel();
        let work = Box::new(move || {
            // The work is skipped for a request that gave up while it was queued.
            if !answer.is_closed() {
                let _ = answer.send(work());
            }
        });
        {
            let mut queue = self.shared.queue.lock().unwrap_or_else(PoisonError::into_inner);
            let of_address = queue.by_address.get(&address).copied().unwrap_or_default();
            if queue.closed || queue.waiting.len() >= MAX_WAITING || of_address >= MAX_PER_ADDRESS {
                return None;
            }
            queue.by_address.insert(address, of_address + 1);
            queue.waiting.push_back(Job { work, address });
        }
        self.shared.wanted.notify_one();
        answered.await.ok()
    }
}

impl Drop for Beside {
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
                if let Some(job) = queue.waiting.pop_front() {
                    break job;
                }
                queue = shared.wanted.wait(queue).unwrap_or_else(PoisonError::into_inner);
            }
        };
        // A panic is the caller's problem, and must not end the thread.
        let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        shared.queue.lock().unwrap_or_else(PoisonError::into_inner).done(address);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLOOD: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const OTHER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));

    #[tokio::test]
    async fn one_address_cannot_fill_the_queue_and_a_panic_ends_nothing() {
        let beside = Beside::start(1).unwrap();
        let (go, gate) = std::sync::mpsc::channel::<()>();
        let gate = Arc::new(Mutex::new(gate));
        let wait = || {
            let gate = gate.clone();
            beside.run(FLOOD, move || {
                let _ = gate.lock().unwrap().recv();
            })
        };
        let flood = futures::future::join_all((0..20).map(|_| wait()));
        let rest = async {
            let other = beside.run(OTHER, || 7);
            // All are in the queue before the first is let go.
            drop(go);
            other.await
        };
        let (answers, other) = tokio::join!(flood, rest);
        assert_eq!(answers.iter().filter(|answer| answer.is_none()).count(), 16);
        assert_eq!(other, Some(7));
        assert_eq!(beside.run(OTHER, || -> u8 { panic!("inside") }).await, None);
        assert_eq!(beside.run(OTHER, || 8).await, Some(8));
    }
}
