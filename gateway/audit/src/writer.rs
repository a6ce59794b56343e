//! The only thread that appends to segments and syncs them.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::NotStored;
use crate::spool::{SpoolConfig, SpoolHealth, segment_path, segments};
use crate::spool_handle::{Batch, LaneSlots, Slot};

const SEGMENT_BYTES: u64 = 64 << 20;
const RETRY: Duration = Duration::from_millis(200);
/// Lanes wake the writer; by itself it checks no more often than this.
const REST: Duration = Duration::from_secs(5);
/// The number of further attempts on a broken disk when the process ends.
const LAST_ATTEMPTS: u32 = 5;

pub(crate) struct Writer {
    dir: PathBuf,
    max_bytes: u64,
    shipped: bool,
    file: File,
    sequence: u64,
    /// Bytes of whole lines in the current segment that are on disk.
    length: u64,
    /// More than that may be in the file: a write or a sync failed.
    torn: bool,
    /// Bytes that may be written before the folder is measured again.
    room: u64,
}

impl Writer {
    pub(crate) fn open(config: &SpoolConfig) -> io::Result<Self> {
        let sequence = segments(&config.dir)?.last().map_or(1, |(sequence, _)| *sequence);
        let path = segment_path(&config.dir, sequence);
        let mut file = OpenOptions::new().create(true).read(true).append(true).open(path)?;
        let length = whole_lines(&mut file)?;
        file.set_len(length)?;
        File::open(&config.dir)?.sync_all()?;
        Ok(Self {
            dir: config.dir.clone(),
            max_bytes: config.max_bytes,
            shipped: config.shipped,
            file,
            sequence,
            length,
            torn: false,
            room: 0,
        })
    }

    /// Group commit: all records that the handles gathered during one sync share the next. Ends when the spool is
    /// closing and the last handle has been dropped.
    pub(crate) fn run(mut self, desk: &LaneSlots, health: &SpoolHealth) {
        let mut waiting = Vec::new();
        let mut last_attempts = 0;
        loop {
            let is_closing = desk.closing.load(Ordering::Acquire);
            let is_last = !desk.gather(&mut waiting) && is_closing;
            if waiting.is_empty() {
                if is_last {
                    return;
                }
                self.rest(health);
            } else if !self.store(&mut waiting, health) {
                last_attempts += u32::from(is_last);
                if last_attempts == LAST_ATTEMPTS {
                    let lost = waiting.iter().map(|(_, batch)| batch.records).sum();
                    health.lost.fetch_add(lost, Ordering::Relaxed);
                    return tracing::error!(lost, "audit records are lost: the disk did not take them to the end");
                }
                std::thread::sleep(RETRY);
            }
        }
    }

    /// There is nothing to write: sleeps until there is, or checks whether the folder has room again.
    fn rest(&mut self, health: &SpoolHealth) {
        if health.is_failing() && self.has_room().is_ok() {
            health.set_failing(false);
        }
        std::thread::park_timeout(if health.is_failing() { RETRY } else { REST });
    }

    /// Stores all batches or none. Records that could not be stored stay in their order for the next attempt; requests
    /// that wait for them are informed now.
    fn store(&mut self, waiting: &mut Vec<(Arc<Slot>, Batch)>, health: &SpoolHealth) -> bool {
        match self.append(waiting) {
            Ok(()) => {
                if health.set_failing(false) {
                    tracing::info!(dir = %self.dir.display(), "audit records are stored again");
                }
                for (slot, batch) in waiting.drain(..) {
                    health.recorded.fetch_add(batch.records, Ordering::Relaxed);
                    batch.waiting.into_iter().for_each(|ack| _ = ack.send(Ok(())));
                    slot.settled(batch.lines.len());
                }
                true
            }
            Err(error) => {
                if !health.set_failing(true) {
                    tracing::error!(dir = %self.dir.display(), %error, "audit records cannot be stored");
                }
                for (slot, batch) in waiting {
                    batch.waiting.drain(..).for_each(|ack| _ = ack.send(Err(NotStored)));
                    slot.settled(0);
                }
                false
            }
        }
    }

    fn append(&mut self, batches: &[(Arc<Slot>, Batch)]) -> io::Result<()> {
        let size = batches.iter().map(|(_, batch)| batch.lines.len() as u64).sum::<u64>();
        if self.room < size {
            self.has_room()?;
            // Measuring lists the folder, so it is done once per mebibyte; small spools are measured each time.
            self.room = (1 << 20).min(self.max_bytes / 1024);
        }
        self.room = self.room.saturating_sub(size);
        if self.torn {
            self.mend()?;
        }
        if self.length >= SEGMENT_BYTES {
            self.rotate()?;
        }
        let mut lines = batches.iter().map(|(_, batch)| &batch.lines);
        let written = lines.try_for_each(|lines| self.file.write_all(lines)).and_then(|()| self.file.sync_data());
        match written {
            Ok(()) => {
                self.length += size;
                Ok(())
            }
            Err(error) => {
                self.torn = true;
                let _ = self.mend();
                Err(error)
            }
        }
    }

    /// A partial line must not precede a retry. After a failed sync the kernel regards the pages as clean, so the lines
    /// are written again instead of synced again.
    fn mend(&mut self) -> io::Result<()> {
        self.file.set_len(self.length)?;
        self.torn = false;
        Ok(())
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
        let file = OpenOptions::new().create(true).truncate(false).append(true).open(path)?;
        File::open(&self.dir)?.sync_all()?;
        self.file = file;
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
