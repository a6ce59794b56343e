//! Append-only segments on disk, written by one thread for all cores.

use std::fs::OpenOptions;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use idm_types::{DecisionId, Timestamp};

use crate::chain::ChainKey;
use crate::spool_handle::{LaneSlots, SpoolHandle};
use crate::writer::Writer;

/// The treatment of requests while records cannot be stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnFull {
    /// Unrecorded requests are not served.
    #[default]
    Refuse,
    /// They are served, and the loss is counted.
    Shed,
}

/// The time at which the record of a success must be on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Successes {
    /// Shortly after the answer: the answer does not wait for the disk, and if the process is killed the last ones may
    /// be lost.
    #[default]
    WithinMoments,
    /// Before the answer, as with refusals.
    BeforeAnswer,
}

/// A record could not be stored now. It is kept and tried again, as long as there is memory for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the audit record could not be stored: look at the gateway's log and the space in its audit folder")]
pub struct NotStored;

/// The folder and the limits of a spool.
#[derive(Clone, Debug)]
pub struct SpoolConfig {
    /// The folder; made when missing, used by one process at a time.
    pub dir: PathBuf,
    /// The treatment of requests when it is full.
    pub on_full: OnFull,
    /// The time by which the record of a success is on disk.
    pub successes: Successes,
    /// Without a shipper the oldest segments are removed beyond this; with one the spool is full at it.
    pub max_bytes: u64,
    /// Whether a shipper removes segments.
    pub shipped: bool,
    /// The key of the chain's hashes.
    pub chain_key: ChainKey,
}

impl SpoolConfig {
    /// In this folder alone, up to this many bytes, without a key and a shipper: what cannot be stored is refused, and a
    /// success is stored within moments.
    pub fn in_folder(dir: &Path, max_bytes: u64) -> Self {
        Self {
            dir: dir.to_owned(),
            on_full: OnFull::Refuse,
            successes: Successes::WithinMoments,
            max_bytes,
            shipped: false,
            chain_key: ChainKey::none(),
        }
    }
}

/// The reason why the spool could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// Another process writes to it.
    #[error("the audit folder {0} is in use by another idm process: choose another with --audit-dir")]
    InUse(PathBuf),
    /// The folder cannot be used.
    #[error("the audit folder {dir} cannot be used: {source}")]
    Io {
        /// The folder.
        dir: PathBuf,
        /// The reason.
        source: io::Error,
    },
}

/// Counters and state of the spool, shared with metrics and readiness.
#[derive(Debug, Default)]
pub struct SpoolHealth {
    failing: AtomicBool,
    /// Records on disk since start.
    pub recorded: AtomicU64,
    /// Records that could not be stored.
    pub lost: AtomicU64,
    /// Records confirmed by Elasticsearch.
    pub shipped: AtomicU64,
    /// Records that Elasticsearch refused permanently; kept in `dead-letter.ndjson`.
    pub dead: AtomicU64,
}

impl SpoolHealth {
    /// Whether the last write failed: the disk is broken, or the spool has reached its size limit. A slow disk does not
    /// count as broken.
    pub fn is_failing(&self) -> bool {
        self.failing.load(Ordering::Relaxed)
    }

    /// Sets the state, and returns the previous one.
    pub(crate) fn set_failing(&self, failing: bool) -> bool {
        self.failing.swap(failing, Ordering::Relaxed)
    }
}

/// The spool: hands out a [`SpoolHandle`] per core and owns the writing thread.
pub struct Spool {
    desk: Arc<LaneSlots>,
    health: Arc<SpoolHealth>,
    on_full: OnFull,
    successes: Successes,
    thread: Option<JoinHandle<()>>,
    writer: std::thread::Thread,
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
        let mut random = [0; 16];
        SystemRandom::new().fill(&mut random).map_err(|_| wrap(io::Error::other("the system gave no random bits")))?;
        let id = DecisionId::from_parts(Timestamp::now().0, u128::from_ne_bytes(random));
        let writer = Writer::open(&config, &id.to_string(), Timestamp::now).map_err(wrap)?;
        let health = Arc::new(SpoolHealth::default());
        let desk = Arc::new(LaneSlots::default());
        let thread = {
            let (desk, health) = (desk.clone(), health.clone());
            let body = move || {
                let _lock = lock;
                writer.run(&desk, &health);
            };
            std::thread::Builder::new().name("audit".into()).spawn(body).map_err(wrap)?
        };
        let SpoolConfig { dir, on_full, successes, .. } = config;
        Ok(Self { desk, health, on_full, successes, writer: thread.thread().clone(), thread: Some(thread), dir })
    }

    /// A handle for one core. It must be flushed every few milliseconds.
    pub fn spool_handle(&self) -> SpoolHandle {
        SpoolHandle::new(self.desk.add(), self.writer.clone(), self.health.clone(), self.on_full, self.successes)
    }

    /// The counters.
    pub fn health(&self) -> Arc<SpoolHealth> {
        self.health.clone()
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Waits until all records handed over are on disk, or a broken disk has not accepted them for a second. All lanes
    /// must have been dropped.
    pub fn close(mut self) {
        self.end();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }

    fn end(&self) {
        self.desk.closing.store(true, Ordering::Release);
        self.writer.unpark();
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        self.end();
    }
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
