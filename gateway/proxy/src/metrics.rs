//! Counters of the gateway. Labels come from closed sets and from names of objects; each core counts for itself.

mod consumers;
mod counts;
mod in_use;
mod render;

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use self::consumers::Consumers;
use self::counts::CoreCounts;
pub(crate) use self::in_use::{CoreMetrics, Flight, InUse, RuleInUse};
use crate::watch::Cause;

/// The number of consumers with numbers of their own, where nothing else is said.
pub const USUAL_CONSUMERS: usize = 100;

/// All counters of a gateway. The locks are taken when a core takes up a configuration, when something occurs for the
/// first time, and when metrics are read.
#[derive(Debug)]
pub struct Metrics {
    cores: Mutex<Vec<Arc<CoreCounts>>>,
    /// The kinds of authentication by their number; the first is none.
    kinds: Mutex<Vec<&'static str>>,
    consumers: Mutex<Consumers>,
    pub(crate) connections: AtomicU64,
    /// By cause, in the order of [`Cause::ALL`].
    closed: [AtomicU64; Cause::ALL.len()],
    pub(crate) handshakes_failed: AtomicU64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Metrics {
    /// Nothing is counted yet. At most `consumers` consumers have numbers of their own.
    pub(crate) fn new(consumers: usize) -> Self {
        Self {
            cores: Mutex::default(),
            kinds: Mutex::new(vec![""]),
            consumers: Mutex::new(Consumers::new(consumers)),
            connections: AtomicU64::new(0),
            closed: Default::default(),
            handshakes_failed: AtomicU64::new(0),
        }
    }

    fn add_core(&self) -> Arc<CoreCounts> {
        let counts = Arc::<CoreCounts>::default();
        lock(&self.cores).push(counts.clone());
        counts
    }

    /// The number of a kind of authentication.
    fn kind_number(&self, kind: &'static str) -> u32 {
        let mut kinds = lock(&self.kinds);
        let known = kinds.iter().position(|known| *known == kind);
        let number = known.unwrap_or_else(|| {
            kinds.push(kind);
            kinds.len() - 1
        });
        number as u32
    }

    pub(crate) fn connections_closed(&self, cause: Cause, count: u64) {
        if let Some(counter) = self.closed.get(cause as usize) {
            counter.fetch_add(count, Relaxed);
        }
    }
}
