use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A number that one thread changes and every thread may read. With two writers, changes would be lost: a core changes
/// only its own. In return a change is a plain load and store.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds to the number.
    pub fn add(&self, more: u64) {
        self.0.store(self.get().wrapping_add(more), Relaxed);
    }

    /// Takes from the number, down to 0.
    pub fn subtract(&self, less: u64) {
        self.0.store(self.get().saturating_sub(less), Relaxed);
    }

    /// The number.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}
