//! A cached document of a provider; concurrent readers share one fetch.

use idm_types::Refusal;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::sync::Mutex;
use tokio::time::Instant;

/// After a failed fetch, the next one waits for this time; all readers in between get the same failure.
const PAUSE: Duration = Duration::from_secs(1);

/// The document, and the time when it was read.
pub struct Kept<T> {
    current: ArcSwapOption<(Arc<T>, Instant)>,
    /// Locked during a fetch. The last failure, and its time.
    turn: Mutex<Option<(Instant, Refusal)>>,
}

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self { current: ArcSwapOption::empty(), turn: Mutex::new(None) }
    }
}

impl<T> Kept<T> {
    /// The document that was read last, of any age.
    pub fn last(&self) -> Option<Arc<T>> {
        self.current.load().as_ref().map(|kept| kept.0.clone())
    }

    fn recent(&self, age: Duration) -> Option<Arc<T>> {
        self.current.load().as_ref().filter(|kept| kept.1.elapsed() < age).map(|kept| kept.0.clone())
    }

    /// The document, not older than `age` if it can be read; if it cannot be read again, the old one stays in force.
    pub async fn get(&self, age: Duration, read: impl Future<Output = Result<T, Refusal>>) -> Result<Arc<T>, Refusal> {
        if let Some(kept) = self.recent(age) {
            return Ok(kept);
        }
        let mut failure = self.turn.lock().await;
        // Another reader fetched it in the meantime, or tried to.
        if let Some(kept) = self.recent(age) {
            return Ok(kept);
        }
        if let Some((_, error)) = failure.as_ref().filter(|(at, _)| at.elapsed() < PAUSE) {
            return self.last().ok_or_else(|| error.clone());
        }
        let began = Instant::now();
        match read.await {
            Ok(document) => {
                let document = Arc::new(document);
                self.current.store(Some(Arc::new((document.clone(), began))));
                *failure = None;
                Ok(document)
            }
            Err(error) => {
                *failure = Some((Instant::now(), error.clone()));
                self.last().ok_or(error)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use idm_types::Reason;

    use super::*;

    const AGE: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn a_document_is_read_once_for_all_and_its_failure_is_shared() {
        let (kept, reads) = (Kept::<u32>::default(), AtomicU32::new(0));
        let read = |works: bool| {
            let reads = &reads;
            async move {
                let number = reads.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(500)).await;
                let error = || Refusal::new(Reason::ProviderUnavailable, "away");
                if works { Ok(number) } else { Err(error()) }
            }
        };
        let all = futures::future::join_all((0..100).map(|_| kept.get(AGE, read(false)))).await;
        assert!(all.iter().all(Result::is_err) && reads.load(Ordering::Relaxed) == 1);
        tokio::time::advance(PAUSE).await;
        let all = futures::future::join_all((0..100).map(|_| kept.get(AGE, read(true)))).await;
        assert!(all.iter().all(Result::is_ok) && reads.load(Ordering::Relaxed) == 2);
        tokio::time::advance(AGE).await;
        assert_eq!(*kept.get(AGE, read(false)).await.unwrap(), 1, "what cannot be read again stays in force");
        assert_eq!(reads.load(Ordering::Relaxed), 3);
    }
}
