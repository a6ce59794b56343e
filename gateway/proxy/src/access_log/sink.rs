use std::cell::RefCell;
use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{self, Receiver, SyncSender, TrySendError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::LineFormat;

/// The most bytes of lines that a core keeps while nobody takes them.
const MAX_PENDING: usize = 256 << 10;
/// So many are handed over at once.
const HAND_OVER: usize = 32 << 10;
/// The most batches that wait for the writer.
const MAX_BATCHES: usize = 16;
/// The longest time that a stop waits for what is left to be written.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Lines of one core.
#[derive(Default)]
struct Batch {
    text: String,
    lines: u64,
}

/// The access log of a process, with the thread that writes it.
pub struct AccessLog {
    format: LineFormat,
    dropped: Arc<AtomicU64>,
    batches: Mutex<Option<SyncSender<Batch>>>,
    ended: Mutex<Receiver<()>>,
}

impl AccessLog {
    /// Starts the thread that writes to `out`, which may block it for any time.
    pub fn start(format: LineFormat, mut out: impl Write + Send + 'static) -> std::io::Result<Self> {
        let (batches, waiting) = mpsc::sync_channel::<Batch>(MAX_BATCHES);
        let (end, ended) = mpsc::channel();
        let dropped = Arc::<AtomicU64>::default();
        let counter = dropped.clone();
        std::thread::Builder::new().name("access-log".into()).spawn(move || {
            for batch in waiting {
                // The reader of the lines may be gone for a while: lines that could not be written are counted.
                if out.write_all(batch.text.as_bytes()).and_then(|()| out.flush()).is_err() {
                    counter.fetch_add(batch.lines, Relaxed);
                }
            }
            let _ = end.send(());
        })?;
        Ok(Self { format, dropped, batches: Mutex::new(Some(batches)), ended: Mutex::new(ended) })
    }

    /// The form of its lines.
    pub(crate) fn format(&self) -> LineFormat {
        self.format
    }

    /// The lines that nobody took in time.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Relaxed)
    }

    /// The lines of one core; `None` after the end.
    pub(crate) fn lines(&self) -> Option<Lines> {
        let batches = self.batches.lock().unwrap_or_else(PoisonError::into_inner).clone()?;
        Some(Lines { pending: RefCell::default(), batches, dropped: self.dropped.clone() })
    }

    /// Ends it when all cores have ended: waits a moment for what is left to be written.
    pub fn close(&self) {
        drop(self.batches.lock().unwrap_or_else(PoisonError::into_inner).take());
        let _ = self.ended.lock().unwrap_or_else(PoisonError::into_inner).recv_timeout(LAST_WORDS);
    }
}

/// The lines of one core. Nothing here waits, but for the end.
pub(crate) struct Lines {
    pending: RefCell<Batch>,
    batches: SyncSender<Batch>,
    dropped: Arc<AtomicU64>,
}

impl Lines {
    /// Takes a line; it is handed over by the next [`Self::flush`].
    pub(crate) fn add(&self, line: &str) {
        let mut pending = self.pending.borrow_mut();
        if pending.text.len() + line.len() > MAX_PENDING {
            self.dropped.fetch_add(1, Relaxed);
            return;
        }
        pending.text.push_str(line);
        pending.lines += 1;
        let is_large = pending.text.len() >= HAND_OVER;
        drop(pending);
        if is_large {
            self.flush();
        }
    }

    /// Hands the lines to the writer, if it has room for them. Returns whether none is left.
    pub(crate) fn flush(&self) -> bool {
        let mut pending = self.pending.borrow_mut();
        if pending.lines == 0 {
            return true;
        }
        match self.batches.try_send(std::mem::take(&mut *pending)) {
            Ok(()) => true,
            Err(TrySendError::Full(batch)) => {
                *pending = batch;
                false
            }
            Err(TrySendError::Disconnected(batch)) => {
                self.dropped.fetch_add(batch.lines, Relaxed);
                true
            }
        }
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        let start = Instant::now();
        while !self.flush() && start.elapsed() < LAST_WORDS {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    /// Keeps what is written once the gate is open.
    struct Gated(Receiver<()>, Arc<Mutex<Vec<u8>>>);

    impl Write for Gated {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            // An error: the other end is gone, and the gate stays open.
            let _ = self.0.recv();
            self.1.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn while_nobody_takes_lines_memory_is_bounded_and_each_line_is_written_or_counted() {
        let (gate, closed) = mpsc::channel();
        let written = Arc::<Mutex<Vec<u8>>>::default();
        let log = AccessLog::start(LineFormat::Json, Gated(closed, written.clone())).unwrap();
        let lines = log.lines().unwrap();
        let line = format!("{}\n", "x".repeat(1023));
        let total = 20_000;
        for _ in 0..total {
            lines.add(&line);
            assert!(lines.pending.borrow().text.len() <= MAX_PENDING);
        }
        let dropped = log.dropped();
        assert!(dropped > 0 && dropped < total);
        drop(gate);
        drop(lines);
        log.close();
        assert_eq!(written.lock().unwrap().len() as u64, (total - dropped) * 1024);
    }

    #[test]
    fn what_could_not_be_written_is_counted() {
        struct Broken;
        impl Write for Broken {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let log = AccessLog::start(LineFormat::Json, Broken).unwrap();
        let lines = log.lines().unwrap();
        (0..3).for_each(|_| lines.add("x\n"));
        drop(lines);
        log.close();
        assert_eq!(log.dropped(), 3);
    }
}
