//! Append-only segments on disk, written by one thread for all cores.

use std::cell::RefCell;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::Record;

const SEGMENT_BYTES: u64 = 64 << 20;
const LANE_BYTES: usize = 256 << 10;
const QUEUE: usize = 256;
const RETRY: Duration = Duration::from_millis(200);

/// What happens to requests while records cannot be stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnFull {
    /// Unrecorded requests are not served.
    #[default]
    Refuse,
    /// They are served, and the loss is counted.
    Shed,
}

/// Where and how much.
#[derive(Clone, Debug)]
pub struct SpoolConfig {
    /// The folder; made when missing, used by one process at a time.
    pub dir: PathBuf,
    /// What happens when it is full.
    pub on_full: OnFull,
    /// Without a shipper the oldest segments are removed beyond this; with one the spool is full at it.
    pub max_bytes: u64,
    /// Whether a shipper removes segments.
    pub shipped: bool,
}

/// Why the spool could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// Another process writes there.
    #[error("the audit folder {0} is in use by another idm process: choose another with --audit-dir")]
    InUse(PathBuf),
    /// The folder cannot be used.
    #[error("the audit folder {dir} cannot be used: {source}")]
    Io {
        /// The folder.
        dir: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// What the spool counts; shared with metrics and readiness.
#[derive(Debug, Default)]
pub struct SpoolHealth {
    failing: AtomicBool,
    /// Records on disk since start.
    pub recorded: AtomicU64,
    /// Records that could not be stored.
    pub lost: AtomicU64,
    /// Records confirmed by Elasticsearch.
    pub shipped: AtomicU64,
    /// Records that Elasticsearch will never take; kept in `dead-letter.ndjson`.
    pub dead: AtomicU64,
}

impl SpoolHealth {
    /// Whether the last write failed.
    pub fn is_failing(&self) -> bool {
        self.failing.load(Ordering::Relaxed)
    }
}

struct Batch {
    lines: Vec<u8>,
    records: u64,
    acks: Vec<oneshot::Sender<bool>>,
}

/// The spool: hands out a [`Lane`] per core and owns the writing thread.
pub struct Spool {
    sender: Option<SyncSender<Batch>>,
    health: Arc<SpoolHealth>,
    on_full: OnFull,
    thread: Option<JoinHandle<()>>,
    dir: PathBuf,
}

impl Spool {
    /// Opens the folder, cuts off a half-written last line, and starts the writer.
    pub fn open(config: SpoolConfig) -> Result<Self, SpoolError> {
        let wrap = |source| SpoolError::Io { dir: config.dir.clone(), source };
        std::fs::create_dir_all(&config.dir).map_err(wrap)?;
        let lock =
            OpenOptions::new().create(true).truncate(false).write(true).open(config.dir.join("lock")).map_err(wrap)?;
        if lock.try_lock().is_err() {
            return Err(SpoolError::InUse(config.dir.clone()));
        }
        let writer = Writer::open(&config).map_err(wrap)?;
        let health = Arc::new(SpoolHealth::default());
        let (sender, receiver) = sync_channel(QUEUE);
        let on_full = config.on_full;
        let dir = config.dir.clone();
        let thread = {
            let health = health.clone();
            let body = move || {
                let _lock = lock;
                writer.run(receiver, &health);
            };
            std::thread::Builder::new().name("audit".into()).spawn(body).map_err(wrap)?
        };
        Ok(Self { sender: Some(sender), health, on_full, thread: Some(thread), dir })
    }

    /// A lane for one core. It must be flushed every few milliseconds.
    pub fn lane(&self) -> Lane {
        Lane {
            pending: RefCell::default(),
            sender: self.sender.clone(),
            health: self.health.clone(),
            on_full: self.on_full,
        }
    }

    /// The counters.
    pub fn health(&self) -> Arc<SpoolHealth> {
        self.health.clone()
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Waits until everything handed over is on disk. All lanes must be gone.
    pub fn close(mut self) {
        self.sender = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// One core's way into the spool: no lock, one allocation per batch.
pub struct Lane {
    pending: RefCell<Pending>,
    sender: Option<SyncSender<Batch>>,
    health: Arc<SpoolHealth>,
    on_full: OnFull,
}

#[derive(Default)]
struct Pending {
    lines: Vec<u8>,
    records: u64,
    acks: Vec<oneshot::Sender<bool>>,
}

impl Lane {
    /// Whether a request may be served: its record can be stored, or losing it was chosen.
    pub fn is_open(&self) -> bool {
        self.on_full == OnFull::Shed || !self.health.is_failing()
    }

    /// Takes a record; it is on disk within milliseconds.
    pub fn record(&self, record: &Record<'_>) {
        let mut pending = self.pending.borrow_mut();
        record.write_line(&mut pending.lines);
        pending.records += 1;
        let full = pending.lines.len() >= LANE_BYTES;
        drop(pending);
        if full {
            self.flush();
        }
    }

    /// Takes a record and resolves once it is on disk (true) or could not be stored now (false).
    pub fn record_durably(&self, record: &Record<'_>) -> impl Future<Output = bool> + use<> {
        let (ack, stored) = oneshot::channel();
        {
            let mut pending = self.pending.borrow_mut();
            record.write_line(&mut pending.lines);
            pending.records += 1;
            pending.acks.push(ack);
        }
        self.flush();
        async move { stored.await.unwrap_or(false) }
    }

    /// Hands what has gathered to the writer.
    pub fn flush(&self) {
        let mut pending = self.pending.borrow_mut();
        if pending.records == 0 {
            return;
        }
        let Pending { lines, records, acks } = std::mem::take(&mut *pending);
        pending.lines.reserve(lines.len().min(LANE_BYTES));
        let sent = self.sender.as_ref().map(|sender| sender.try_send(Batch { lines, records, acks }));
        if !matches!(sent, Some(Ok(()))) {
            // The writer is behind by hundreds of batches or gone: dropping the acks tells the waiting.
            self.health.failing.store(true, Ordering::Relaxed);
            self.health.lost.fetch_add(records, Ordering::Relaxed);
        }
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.flush();
    }
}

struct Writer {
    dir: PathBuf,
    max_bytes: u64,
    shipped: bool,
    file: File,
    sequence: u64,
    /// Bytes of whole lines in the current segment.
    length: u64,
    /// Bytes that may be written before the folder is measured again.
    room: u64,
}

impl Writer {
    fn open(config: &SpoolConfig) -> io::Result<Self> {
        let sequence = segments(&config.dir)?.last().map_or(1, |(sequence, _)| *sequence);
        let path = segment_path(&config.dir, sequence);
        let mut file = OpenOptions::new().create(true).read(true).append(true).open(path)?;
        let length = whole_lines(&mut file)?;
        file.set_len(length)?;
        Ok(Self {
            dir: config.dir.clone(),
            max_bytes: config.max_bytes,
            shipped: config.shipped,
            file,
            sequence,
            length,
            room: 0,
        })
    }

    fn run(mut self, receiver: Receiver<Batch>, health: &SpoolHealth) {
        let mut waiting: Vec<Batch> = Vec::new();
        loop {
            match receiver.recv_timeout(RETRY) {
                Ok(batch) => waiting.push(batch),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    self.store(&mut waiting, health);
                    return;
                }
            }
            // Whatever arrived meanwhile shares one fsync.
            waiting.extend(receiver.try_iter().take(QUEUE));
            self.store(&mut waiting, health);
        }
    }

    fn store(&mut self, waiting: &mut Vec<Batch>, health: &SpoolHealth) {
        if waiting.is_empty() {
            if health.is_failing() && self.has_room().is_ok() {
                health.failing.store(false, Ordering::Relaxed);
            }
            return;
        }
        match self.append(waiting) {
            Ok(()) => {
                health.failing.store(false, Ordering::Relaxed);
                for batch in waiting.drain(..) {
                    health.recorded.fetch_add(batch.records, Ordering::Relaxed);
                    batch.acks.into_iter().for_each(|ack| _ = ack.send(true));
                }
            }
            Err(error) => {
                if !health.failing.swap(true, Ordering::Relaxed) {
                    tracing::error!(dir = %self.dir.display(), %error, "audit records cannot be stored");
                }
                // The lines stay here and are tried again; those who wait are told now.
                waiting.iter_mut().flat_map(|batch| batch.acks.drain(..)).for_each(|ack| _ = ack.send(false));
                while waiting.len() > QUEUE {
                    health.lost.fetch_add(waiting.remove(0).records, Ordering::Relaxed);
                }
                std::thread::sleep(RETRY);
            }
        }
    }

    fn append(&mut self, batches: &[Batch]) -> io::Result<()> {
        let size = batches.iter().map(|batch| batch.lines.len() as u64).sum::<u64>();
        if self.room < size {
            self.has_room()?;
            // Measuring lists the folder, so it is done once per mebibyte; small spools are measured each time.
            self.room = (1 << 20).min(self.max_bytes / 1024);
        }
        self.room = self.room.saturating_sub(size);
        if self.length >= SEGMENT_BYTES {
            self.rotate()?;
        }
        let before = self.length;
        let written =
            batches.iter().try_for_each(|batch| self.file.write_all(&batch.lines)).and_then(|()| self.file.sync_data());
        match written {
            Ok(()) => {
                self.length = before + size;
                Ok(())
            }
            Err(error) => {
                // No half line may stay in front of the retry.
                self.file.set_len(before)?;
                Err(error)
            }
        }
    }

    fn has_room(&mut self) -> io::Result<()> {
        let mut kept = segments(&self.dir)?;
        let mut total: u64 = kept.iter().map(|(_, bytes)| bytes).sum();
        while total >= self.max_bytes && !self.shipped && kept.len() > 1 {
            let (oldest, bytes) = kept.remove(0);
            std::fs::remove_file(segment_path(&self.dir, oldest))?;
            total -= bytes;
        }
        let full = || io::Error::other(format!("the spool holds {total} bytes, its limit is {}", self.max_bytes));
        if total >= self.max_bytes && self.shipped { Err(full()) } else { Ok(()) }
    }

    fn rotate(&mut self) -> io::Result<()> {
        let path = segment_path(&self.dir, self.sequence + 1);
        self.file = OpenOptions::new().create_new(true).append(true).open(path)?;
        File::open(&self.dir)?.sync_all()?;
        self.sequence += 1;
        self.length = 0;
        Ok(())
    }
}

/// The length of the file up to and including its last newline.
fn whole_lines(file: &mut File) -> io::Result<u64> {
    let mut end = file.metadata()?.len();
    let mut chunk = vec![0; 64 << 10];
    while end > 0 {
        let start = end.saturating_sub(chunk.len() as u64);
        file.seek(SeekFrom::Start(start))?;
        let part = chunk.get_mut(..(end - start) as usize).unwrap_or_default();
        file.read_exact(part)?;
        if let Some(newline) = part.iter().rposition(|byte| *byte == b'\n') {
            return Ok(start + newline as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

pub(crate) fn segment_path(dir: &Path, sequence: u64) -> PathBuf {
    dir.join(format!("audit-{sequence:012}.ndjson"))
}

/// The segments in order, with their sizes.
pub(crate) fn segments(dir: &Path) -> io::Result<Vec<(u64, u64)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let sequence = name.to_str().and_then(|n| n.strip_prefix("audit-")?.strip_suffix(".ndjson")?.parse().ok());
        if let Some(sequence) = sequence {
            // A shipper may have removed it since the listing.
            found.extend(entry.metadata().ok().map(|meta| (sequence, meta.len())));
        }
    }
    found.sort_unstable();
    Ok(found)
}

#[cfg(test)]
mod tests;
