use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use tokio::sync::mpsc::{self, Receiver, Sender};

use crate::Span;

/// The most spans that wait to be sent.
pub const CAPACITY: usize = 4096;
/// The most spans that are sent together.
pub const BATCH: usize = 512;

/// The numbers of spans by what became of them.
#[derive(Debug, Default)]
pub struct Counts {
    /// The collector took them.
    pub exported: AtomicU64,
    /// There was no room for them in the queue.
    pub dropped: AtomicU64,
    /// The collector did not take them, for good or in all attempts.
    pub failed: AtomicU64,
}

/// A queue of at most `capacity` spans: its beginning for those who make spans, and its end for the one who sends them.
pub fn queue(capacity: usize) -> (Sink, Waiting) {
    let (sender, receiver) = mpsc::channel(capacity.max(1));
    let counts = Arc::<Counts>::default();
    (Sink { sender, counts: counts.clone() }, Waiting { receiver, counts })
}

/// The beginning of the queue.
#[derive(Clone, Debug)]
pub struct Sink {
    sender: Sender<Span>,
    counts: Arc<Counts>,
}

impl Sink {
    /// Takes a span at once, or drops and counts it.
    pub fn tell(&self, span: Span) {
        if self.sender.try_send(span).is_err() {
            self.counts.dropped.fetch_add(1, Relaxed);
        }
    }

    /// The outcomes of spans so far.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }
}

/// The end of the queue.
#[derive(Debug)]
pub struct Waiting {
    receiver: Receiver<Span>,
    /// The outcomes of spans so far.
    pub counts: Arc<Counts>,
}

impl Waiting {
    /// Waits for spans, and adds those that there are. None comes: the queue was closed, and nothing is left. Whoever
    /// stops waiting loses none.
    pub async fn first(&mut self, batch: &mut Vec<Span>) {
        self.receiver.recv_many(batch, BATCH).await;
    }

    /// Waits for more until there are [`BATCH`], or until it is `enough`.
    pub async fn fill(&mut self, batch: &mut Vec<Span>, enough: impl Future<Output = ()>) {
        let mut enough = std::pin::pin!(enough);
        while batch.len() < BATCH {
            let room = BATCH - batch.len();
            let more = tokio::select! {
                biased;
                more = self.receiver.recv_many(batch, room) => more,
                () = &mut enough => 0,
            };
            if more == 0 {
                break;
            }
        }
    }

    /// Takes no further spans; those that wait are still given out.
    pub fn close(&mut self) {
        self.receiver.close();
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};
    use std::num::{NonZeroU64, NonZeroU128};

    use super::*;
    use crate::Kind;

    fn span(id: u64) -> Span {
        Span {
            trace: NonZeroU128::MIN.into(),
            id: NonZeroU64::new(id).unwrap(),
            parent: None,
            link: None,
            kind: Kind::Server,
            name: "GET".into(),
            began: 0,
            ended: 0,
            attributes: Vec::new(),
            failed: false,
        }
    }

    async fn batch(waiting: &mut Waiting, enough: impl Future<Output = ()>) -> Vec<Span> {
        let mut batch = Vec::new();
        waiting.first(&mut batch).await;
        waiting.fill(&mut batch, enough).await;
        batch
    }

    #[tokio::test]
    async fn what_there_is_no_room_for_is_dropped_and_counted() {
        let (sink, mut waiting) = queue(2);
        (1..=5).for_each(|id| sink.tell(span(id)));
        assert_eq!(sink.counts().dropped.load(Relaxed), 3);
        assert_eq!(batch(&mut waiting, ready(())).await, [span(1), span(2)]);
        sink.tell(span(6));
        waiting.close();
        sink.tell(span(7));
        assert_eq!(batch(&mut waiting, pending()).await, [span(6)]);
        assert_eq!(batch(&mut waiting, pending()).await, []);
        assert_eq!(sink.counts().dropped.load(Relaxed), 4);
    }

    #[tokio::test]
    async fn a_batch_is_full_or_waited_for_long_enough() {
        let (sink, mut waiting) = queue(CAPACITY);
        (1..=BATCH as u64 + 1).for_each(|id| sink.tell(span(id)));
        assert_eq!(batch(&mut waiting, pending()).await.len(), BATCH);
        let begun = tokio::spawn(async move { (batch(&mut waiting, pending()).await, waiting) });
        (1..BATCH as u64).for_each(|id| sink.tell(span(id)));
        let (full, mut waiting) = begun.await.unwrap();
        assert_eq!(full.len(), BATCH);
        sink.tell(span(1));
        assert_eq!(batch(&mut waiting, ready(())).await, [span(1)]);
    }
}
