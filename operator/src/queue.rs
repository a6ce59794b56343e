//! Namespaces that want a reconcile: each at most once, and not before its time.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

#[derive(Default)]
pub(crate) struct Queue {
    due: Mutex<BTreeMap<String, Instant>>,
    changed: Notify,
}

impl Queue {
    /// Asks for a reconcile after `delay`; an earlier request stays.
    pub(crate) fn add(&self, namespace: &str, delay: Duration) {
        let at = Instant::now() + delay;
        let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
        due.entry(namespace.to_owned()).and_modify(|earlier| *earlier = at.min(*earlier)).or_insert(at);
        self.changed.notify_one();
    }

    /// Waits for the next namespace and takes it.
    pub(crate) async fn next(&self) -> String {
        loop {
            let wait = {
                let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
                let first = due.iter().min_by_key(|(_, at)| **at).map(|(namespace, at)| (namespace.clone(), *at));
                match first {
                    Some((namespace, at)) if at <= Instant::now() => {
                        due.remove(&namespace);
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
}
