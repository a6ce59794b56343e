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

/// The outcome of a copy for a mirror.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mirrored {
    /// There was an answer, which was dropped.
    Answered,
    /// It was sent, and there was no answer.
    Failed,
    /// It was not sent: there was no place for it, or its body was too long or incomplete.
    Dropped,
}

impl Mirrored {
    const ALL: [Self; 3] = [Mirrored::Answered, Mirrored::Failed, Mirrored::Dropped];

    fn label(self) -> &'static str {
        match self {
            Mirrored::Answered => "Answered",
            Mirrored::Failed => "Failed",
            Mirrored::Dropped => "Dropped",
        }
    }
}

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
    /// By outcome, in the order of [`Mirrored::ALL`].
    mirrored: [AtomicU64; Mirrored::ALL.len()],
    pub(crate) retried: AtomicU64,
    pub(crate) ejected: AtomicU64,
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
            mirrored: Default::default(),
            retried: AtomicU64::new(0),
            ejected: AtomicU64::new(0),
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

    pub(crate) fn mirrored(&self, outcome: Mirrored) {
        if let Some(counter) = self.mirrored.get(outcome as usize) {
            counter.fetch_add(1, Relaxed);
        }
    }
}
