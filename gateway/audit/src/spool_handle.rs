//! The interface of one core to the spool: a batch that grows while the disk is busy.

use std::cell::RefCell;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::thread::Thread;

use tokio::sync::{Notify, oneshot};

use crate::spool::{OnFull, SpoolHealth, Successes};
use crate::{NotStored, Record};

/// Records of one core that may wait for the disk, in bytes. Beyond it new requests wait, too.
pub(crate) const BACKLOG: usize = 4 << 20;
/// A batch of this size is handed over at once.
const HAND_OVER: usize = 256 << 10;

type Stored = Result<(), NotStored>;

/// Records as lines, and the senders that report to the requests waiting for them.
#[derive(Default)]
pub(crate) struct Batch {
    pub(crate) lines: Vec<u8>,
    pub(crate) records: u64,
    pub(crate) waiting: Vec<oneshot::Sender<Stored>>,
}

/// The batch that a handle has handed over and the writer has not yet taken. Only that handle and the writer lock it,
/// while they move a batch.
#[derive(Default)]
pub(crate) struct Slot {
    handed: Mutex<Handed>,
    /// Bytes that were handed over and are not on disk.
    unstored: AtomicUsize,
    /// The writer has stored records, or found that it cannot.
    moved: Notify,
}

#[derive(Default)]
struct Handed {
    batch: Batch,
    ended: bool,
}

impl Slot {
    fn lock(&self) -> MutexGuard<'_, Handed> {
        self.handed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For the writer: the whole batch, and whether the handle has ended.
    pub(crate) fn take(&self) -> (Batch, bool) {
        let mut handed = self.lock();
        (std::mem::take(&mut handed.batch), handed.ended)
    }

    /// For the writer: this number of bytes is on disk or dropped, and no longer waits.
    pub(crate) fn settled(&self, bytes: usize) {
        self.unstored.fetch_sub(bytes, Ordering::Relaxed);
        self.moved.notify_waiters();
    }
}

/// The slots of all lanes, from which the writer takes batches.
#[derive(Default)]
pub(crate) struct LaneSlots {
    slots: Mutex<Vec<Arc<Slot>>>,
    pub(crate) closing: AtomicBool,
}

impl LaneSlots {
    pub(crate) fn add(&self) -> Arc<Slot> {
        let slot = Arc::new(Slot::default());
        self.slots.lock().unwrap_or_else(PoisonError::into_inner).push(slot.clone());
        slot
    }

    /// Takes every handle's batch and appends it to those that wait; returns whether there are handles that may bring
    /// more.
    pub(crate) fn gather(&self, waiting: &mut Vec<(Arc<Slot>, Batch)>) -> bool {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.retain(|slot| {
            let (batch, ended) = slot.take();
            if batch.records > 0 {
                waiting.push((slot.clone(), batch));
            }
            !ended
        });
        !slots.is_empty()
    }
}

/// One core's way into the spool. Taking a record locks nothing; handing a batch over locks the slot that this handle
/// shares with the writer. There is no queue that could be full: while the disk is busy the batch grows, and
/// [`Self::room`] makes requests wait when it has grown too far.
pub struct SpoolHandle {
    pending: RefCell<Batch>,
    slot: Arc<Slot>,
    writer: Thread,
    health: Arc<SpoolHealth>,
    on_full: OnFull,
    successes: Successes,
}

impl SpoolHandle {
    pub(crate) fn new(
        slot: Arc<Slot>,
        writer: Thread,
        health: Arc<SpoolHealth>,
        on_full: OnFull,
        successes: Successes,
    ) -> Self {
        Self { pending: RefCell::default(), slot, writer, health, on_full, successes }
    }

    /// Whether a request may be served: its record can be stored, or the configuration accepts its loss.
    pub fn is_open(&self) -> bool {
        self.may_lose() || !self.health.is_failing()
    }

    /// Whether a request may be answered although its record was not stored.
    pub fn may_lose(&self) -> bool {
        self.on_full == OnFull::Shed
    }

    /// Resolves when fewer than 4 MiB of this core's records wait for the disk, which is nearly always at once, or
    /// when the disk is broken. A request waits here before it is looked at, so that memory is bounded by the
    /// number of requests under way.
    pub async fn room(&self) {
        while self.is_behind() {
            let moved = self.slot.moved.notified();
            if self.is_behind() {
                moved.await;
            }
        }
    }

    fn is_behind(&self) -> bool {
        self.slot.unstored.load(Ordering::Relaxed) >= BACKLOG && !self.health.is_failing()
    }

    /// Takes a record; it is handed to the writer by the next [`Self::flush`]. While the disk is broken records are
    /// kept up to the backlog's bound, and counted as lost beyond it.
    pub fn record(&self, record: &Record<'_>) {
        if self.take(record, None) {
            self.flush();
        }
    }

    /// Takes the record of a success: waits for the disk only where [`Successes::BeforeAnswer`] was chosen.
    pub fn record_success(&self, record: &Record<'_>) -> Storing {
        match self.successes {
            Successes::WithinMoments => {
                self.record(record);
                Storing(State::Done(Ok(())))
            }
            Successes::BeforeAnswer => self.record_durably(record),
        }
    }

    /// Takes a record; the future resolves when it is on disk, or could not be stored now. While the disk is broken
    /// it resolves at once. A record that could not be stored now is tried again until the disk takes it.
    pub fn record_durably(&self, record: &Record<'_>) -> Storing {
        if self.health.is_failing() {
            self.record(record);
            return Storing(State::Done(Err(NotStored)));
        }
        let (ack, stored) = oneshot::channel();
        self.take(record, Some(ack));
        self.flush();
        Storing(State::Waiting(stored))
    }

    /// Adds to what is pending; says whether that should be handed over.
    fn take(&self, record: &Record<'_>, ack: Option<oneshot::Sender<Stored>>) -> bool {
        if self.health.is_failing() && self.slot.unstored.load(Ordering::Relaxed) >= BACKLOG {
            // Dropping the ack informs the requests that wait.
            self.health.lost.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        let mut pending = self.pending.borrow_mut();
        record.write_line(&mut pending.lines);
        pending.records += 1;
        pending.waiting.extend(ack);
        pending.lines.len() >= HAND_OVER
    }

    /// Hands the gathered records to the writer.
    pub fn flush(&self) {
        let mut pending = self.pending.borrow_mut();
        if pending.records == 0 {
            return;
        }
        self.slot.unstored.fetch_add(pending.lines.len(), Ordering::Relaxed);
        {
            let mut handed = self.slot.lock();
            if handed.batch.records == 0 {
                std::mem::swap(&mut handed.batch, &mut pending);
            } else {
                handed.batch.lines.append(&mut pending.lines);
                handed.batch.waiting.append(&mut pending.waiting);
                handed.batch.records += std::mem::take(&mut pending.records);
            }
        }
        // This costs a system call only if the writer sleeps.
        self.writer.unpark();
    }
}

impl Drop for SpoolHandle {
    fn drop(&mut self) {
        self.flush();
        self.slot.lock().ended = true;
        self.writer.unpark();
    }
}

/// Resolves when a record is on disk, or could not be stored now.
#[must_use = "an answer that needs its record waits for it"]
pub struct Storing(State);

enum State {
    Done(Stored),
    Waiting(oneshot::Receiver<Stored>),
}

impl Future for Storing {
    type Output = Stored;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Stored> {
        match &mut self.0 {
            State::Done(stored) => Poll::Ready(*stored),
            State::Waiting(stored) => Poll::Ready(ready!(Pin::new(stored).poll(cx)).unwrap_or(Err(NotStored))),
        }
    }
}
