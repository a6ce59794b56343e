//! The only thread that appends to segments and syncs them.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use idm_types::Timestamp;

use crate::NotStored;
use crate::chain::{ChainHead, Linked, Linker};
use crate::seal::{Seal, Why};
use crate::search::lines_before;
use crate::spool::{SpoolConfig, SpoolHealth, segment_path, segments};
use crate::spool_handle::{Batch, LaneSlots, Slot};

const SEGMENT_BYTES: u64 = 64 << 20;
/// Memory for the lines of one write that is kept for the next.
const LINKED: usize = 1 << 20;
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
    linker: Linker,
    /// The last line on disk.
    head: ChainHead,
    /// A seal that the next lines follow.
    due: Option<Why>,
    /// Bytes of a half-written line that were cut off at the start.
    cut: u64,
    /// Segments that go when a seal says so on disk.
    surplus: Vec<u64>,
    /// The lines of one write.
    linked: Vec<u8>,
    clock: fn() -> Timestamp,
}

impl Writer {
    /// Opens the folder. `id` is the chain that begins where there is none to go on with.
    pub(crate) fn open(config: &SpoolConfig, id: &str, clock: fn() -> Timestamp) -> io::Result<Self> {
        let known = segments(&config.dir)?;
        let sequence = known.last().map_or(1, |(sequence, _)| *sequence);
        let path = segment_path(&config.dir, sequence);
        let mut file = OpenOptions::new().create(true).read(true).append(true).open(path)?;
        let (length, all) = (whole_lines(&mut file)?, file.metadata()?.len());
        file.set_len(length)?;
        File::open(&config.dir)?.sync_all()?;
        let linker = Linker::new(&config.chain_key);
        let mut writer = Self {
            dir: config.dir.clone(),
            max_bytes: config.max_bytes,
            shipped: config.shipped,
            file,
            sequence,
            length,
            torn: false,
            room: 0,
            head: linker.begin(id),
            linker,
            due: Some(Why::Begun),
            cut: all - length,
            surplus: Vec::new(),
            linked: Vec::new(),
            clock,
        };
        match writer.last_head(&known)? {
            Some(head) => (writer.head, writer.due) = (head, Some(Why::Opened)),
            // Lines of an earlier version, and those that cannot be read, stay as they are.
            None if length > 0 => writer.rotate()?,
            None => {}
        }
        Ok(writer)
    }

    /// The place of the last line in its chain; `None` when it has none.
    fn last_head(&self, known: &[(u64, u64)]) -> io::Result<Option<ChainHead>> {
        for (sequence, _) in known.iter().rev() {
            let mut file = File::open(segment_path(&self.dir, *sequence))?;
            let end = whole_lines(&mut file)?;
            if end > 0 {
                let (_, lines) = lines_before(&mut file, end)?;
                let last = lines.strip_suffix(b"\n").and_then(|lines| lines.rsplit(|byte| *byte == b'\n').next());
                return Ok(last.and_then(Linked::of).map(|linked| linked.head));
            }
        }
        Ok(None)
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
                    return self.close();
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

    /// Seals what was written, so that it is seen when the end is cut off.
    fn close(&mut self) {
        if self.due.is_none() || self.cut > 0 {
            let closed = self.write(&[], Some(Why::Closed));
            if let Err(error) = closed {
                tracing::warn!(%error, "the audit's chain could not be closed");
            }
        }
        tracing::info!(dir = %self.dir.display(), head = %self.head, "the audit's chain ends here for now");
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

    pub(crate) fn append(&mut self, batches: &[(Arc<Slot>, Batch)]) -> io::Result<()> {
        let size = batches.iter().map(|(_, batch)| batch.lines.len() as u64).sum::<u64>();
        if self.room < size {
            self.has_room()?;
            // Measuring lists the folder, so it is done once per mebibyte; small spools are measured each time.
            self.room = (1 << 20).min(self.max_bytes / 1024);
        }
        self.room = self.room.saturating_sub(size);
        if self.length >= SEGMENT_BYTES {
            self.mend()?;
            self.rotate()?;
        }
        let last = (!self.surplus.is_empty()).then_some(Why::Dropped);
        self.write(batches, last)?;
        // The seal that tells it is on disk.
        for segment in std::mem::take(&mut self.surplus) {
            if let Err(error) = std::fs::remove_file(segment_path(&self.dir, segment)) {
                tracing::warn!(segment, %error, "an old audit segment could not be removed");
            }
        }
        Ok(())
    }

    /// One write and one sync: a seal that is due, the lines of all batches, and a last seal. What fails is written
    /// again as the same bytes, with more behind it.
    fn write(&mut self, batches: &[(Arc<Slot>, Batch)], last: Option<Why>) -> io::Result<()> {
        if self.torn {
            self.mend()?;
        }
        let mut head = self.head.clone();
        let mut linked = std::mem::take(&mut self.linked);
        linked.clear();
        if let Some(why) = self.due {
            self.seal(why, &mut head, &mut linked)?;
        }
        batches.iter().for_each(|(_, batch)| self.linker.link(&mut head, &batch.lines, &mut linked));
        if let Some(why) = last {
            self.seal(why, &mut head, &mut linked)?;
        }
        let written = self.file.write_all(&linked).and_then(|()| self.file.sync_data());
        let size = linked.len() as u64;
        // A flood must not leave its memory behind.
        self.linked = if linked.capacity() > LINKED { Vec::new() } else { linked };
        if let Err(error) = written {
            self.torn = true;
            let _ = self.mend();
            return Err(error);
        }
        self.length += size;
        self.head = head;
        if let Some(why) = self.due.take() {
            tracing::info!(?why, dir = %self.dir.display(), head = %self.head, "the audit's chain goes on");
        }
        self.cut = 0;
        Ok(())
    }

    fn seal(&self, why: Why, head: &mut ChainHead, out: &mut Vec<u8>) -> io::Result<()> {
        let kept = segments(&self.dir)?.into_iter().map(|(segment, _)| segment);
        let kept_from = kept.filter(|segment| !self.surplus.contains(segment)).min().unwrap_or(self.sequence);
        let (segment, before, cut) = (self.sequence, head.hash.clone(), self.cut);
        let seal = Seal { why, segment, kept_from, cut, before, keyed: self.linker.is_keyed() };
        self.linker.link(head, &seal.line((self.clock)(), head), out);
        Ok(())
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
        self.surplus.clear();
        while total >= self.max_bytes && !self.shipped && kept.len() > 1 {
            let (oldest, bytes) = kept.remove(0);
            self.surplus.push(oldest);
            total -= bytes;
        }
        let full = || io::Error::other(format!("the spool holds {total} bytes, its limit is {}", self.max_bytes));
        if total >= self.max_bytes && self.shipped { Err(full()) } else { Ok(()) }
    }

    pub(crate) fn rotate(&mut self) -> io::Result<()> {
        let path = segment_path(&self.dir, self.sequence + 1);
        let file = OpenOptions::new().create(true).truncate(false).append(true).open(path)?;
        File::open(&self.dir)?.sync_all()?;
        self.file = file;
        self.sequence += 1;
        self.length = 0;
        self.due = self.due.or(Some(Why::Rotated));
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
