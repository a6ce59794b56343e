//! Namespaces that wait for a reconcile: each at most once, not before its time, and never twice at once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

#[derive(Default)]
pub(crate) struct Queue {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    due: BTreeMap<String, Instant>,
    taken: BTreeSet<String>,
    failures: BTreeMap<String, u32>,
    /// Counts what changed in a namespace beside its API keys.
    epochs: BTreeMap<String, u64>,
}

impl Queue {
    /// Requests a reconcile after `delay`; an earlier request stays.
    pub(crate) fn add(&self, namespace: &str, delay: Duration) {
        let at = Instant::now() + delay;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.due.entry(namespace.to_owned()).and_modify(|earlier| *earlier = at.min(*earlier)).or_insert(at);
        self.changed.notify_one();
    }

    /// The same, because something changed beside API keys.
    pub(crate) fn changed(&self, namespace: &str, delay: Duration) {
        {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            *state.epochs.entry(namespace.to_owned()).or_default() += 1;
        }
        self.add(namespace, delay);
    }

    /// The number of such changes until now.
    pub(crate) fn epoch(&self, namespace: &str) -> u64 {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.epochs.get(namespace).copied().unwrap_or_default()
    }

    /// Waits for the next namespace that no task works on and takes it, until [`Self::done`].
    pub(crate) async fn next(&self) -> String {
        loop {
            let wait = {
                let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
                let State { due, taken, .. } = &mut *state;
                let free = due.iter().filter(|(namespace, _)| !taken.contains(*namespace));
                let first = free.min_by_key(|(_, at)| **at).map(|(namespace, at)| (namespace.clone(), *at));
                match first {
                    Some((namespace, at)) if at <= Instant::now() => {
                        due.remove(&namespace);
                        taken.insert(namespace.clone());
                        return namespace;
                    }
                    Some((_, at)) => Some(at),
                    None => None,
                }
            };
            match wait {
                Some(at) => {
                    let _ = tokio::time::timeout_at(at, self.changed.notified()).await;
                }
                None => self.changed.notified().await,
            }
        }
    }

    /// Forgets that a namespace failed.
    pub(crate) fn succeeded(&self, namespace: &str) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).failures.remove(namespace);
    }

    /// Counts a failure; returns how many there were in a row.
    pub(crate) fn failed(&self, namespace: &str) -> u32 {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let count = state.failures.entry(namespace.to_owned()).or_default();
        *count += 1;
        *count
    }

    /// Returns a namespace; a reconcile that was requested in the meantime is next.
    pub(crate) fn done(&self, namespace: &str) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).taken.remove(namespace);
        self.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_namespace_is_taken_once_and_in_the_order_of_time() {
        let queue = Queue::default();
        queue.add("late", Duration::from_secs(5));
        queue.add("soon", Duration::from_secs(1));
        queue.add("late", Duration::from_secs(9));
        queue.add("soon", Duration::ZERO);
        let start = Instant::now();
        assert_eq!((queue.next().await.as_str(), start.elapsed().as_secs()), ("soon", 0));
        assert_eq!((queue.next().await.as_str(), start.elapsed().as_secs()), ("late", 5));
        assert!(tokio::time::timeout(Duration::from_secs(60), queue.next()).await.is_err());
    }
    #[tokio::test(start_paused = true)]
    async fn a_namespace_is_never_worked_on_twice_at_once() {
        let queue = Queue::default();
        queue.add("a", Duration::ZERO);
        assert_eq!(queue.next().await, "a");
        queue.add("a", Duration::ZERO);
        queue.add("b", Duration::from_secs(1));
        assert_eq!(queue.next().await, "b");
        assert!(tokio::time::timeout(Duration::from_secs(60), queue.next()).await.is_err());
        queue.done("a");
        assert_eq!(queue.next().await, "a");
    }
}
