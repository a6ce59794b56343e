//! Pages of records, the newest first: from a folder here, from a server in `server.rs`.

use std::collections::HashSet;
use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use idm_types::Timestamp;

use crate::spool::{segment_path, segments};
use crate::{ReadError, RecordFilter, RecordTests, StoredRecord};

/// Bytes that one call reads at most: a page of a rare record is asked for in several calls.
const WORK: u64 = 8 << 20;
/// Bytes that are read at a time.
const BLOCK: u64 = 256 << 10;
/// A clock that was set back may have written records that are newer than their segment by this.
const CLOCK_STEP: Duration = Duration::from_secs(300);

/// A place between two records. As text it may be given to a caller and taken back: whatever a caller makes of it, it
/// is a place in the same records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cursor {
    /// In a folder: the first line that was read already.
    Folder {
        /// The number of its segment.
        segment: u64,
        /// Its first byte.
        offset: u64,
    },
    /// On a server: the last record that was read.
    Server {
        /// Its time.
        time: Timestamp,
        /// Its id.
        id: String,
    },
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder { segment, offset } => write!(f, "f.{segment}.{offset}"),
            Self::Server { time, id } => write!(f, "s.{}.{id}", time.0),
        }
    }
}

/// The text is not the cursor of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is not the cursor of a page: take the one that came with the page before")]
pub struct NoCursor;

impl FromStr for Cursor {
    type Err = NoCursor;
    fn from_str(text: &str) -> Result<Self, NoCursor> {
        let mut parts = text.splitn(3, '.');
        let (kind, number, rest) = (parts.next(), parts.next(), parts.next());
        let number = number.and_then(|number| number.parse().ok()).ok_or(NoCursor)?;
        let rest = rest.ok_or(NoCursor)?;
        match kind {
            Some("f") => Ok(Self::Folder { segment: number, offset: rest.parse().map_err(|_| NoCursor)? }),
            Some("s") if is_id(rest) => Ok(Self::Server { time: Timestamp(number), id: rest.to_owned() }),
            _ => Err(NoCursor),
        }
    }
}

/// Whether it is written as ids of records are.
pub(crate) fn is_id(text: &str) -> bool {
    (1..=128).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// Records that were asked for, the newest first.
#[derive(Clone, Debug)]
pub struct Page {
    /// The records, each once.
    pub items: Vec<StoredRecord>,
    /// The place before which older ones may be; `None` when there are none.
    pub next: Option<Cursor>,
    /// False when the page has fewer records than were asked for because looking for them takes longer: ask on with
    /// [`Self::next`].
    pub complete: bool,
}

/// The newest records of a folder before `before`, at most `limit` of them. Records are in the order in which they
/// were written, and those of a page in that of their times. Reads no more than 8 MiB, and blocks meanwhile.
///
/// # Errors
/// The folder cannot be read, or the cursor is that of a server.
pub fn read(dir: &Path, filter: &RecordFilter, before: Option<&Cursor>, limit: usize) -> Result<Page, ReadError> {
    let (newest, end) = match before {
        None => (u64::MAX, u64::MAX),
        Some(Cursor::Folder { segment, offset }) => (*segment, *offset),
        Some(Cursor::Server { .. }) => return Err(ReadError::Cursor(NoCursor)),
    };
    let (tests, limit) = (filter.tests(), limit.max(1));
    let mut search = Search { filter, tests, limit, ids: HashSet::new(), items: Vec::new() };
    let mut work = WORK;
    for (segment, _) in segments(dir)?.into_iter().rev().filter(|(segment, _)| *segment <= newest) {
        let mut here = if segment == newest { end } else { u64::MAX };
        let Some(mut file) = opened(dir, segment)? else { break };
        if is_older(&file, filter.since)? {
            break;
        }
        here = here.min(file.metadata()?.len());
        while here > 0 {
            if search.is_full() || work == 0 {
                return Ok(search.page(Some(Cursor::Folder { segment, offset: here })));
            }
            let (start, lines) = lines_before(&mut file, here)?;
            work = work.saturating_sub(here - start);
            here = search.take(start, &lines);
        }
    }
    Ok(search.page(None))
}

/// The segment; `None` when it was removed since it was listed, and those before it with it.
fn opened(dir: &Path, segment: u64) -> io::Result<Option<File>> {
    match File::open(segment_path(dir, segment)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        file => file.map(Some),
    }
}

/// Whether everything in it is older: a record is written after its time.
fn is_older(file: &File, since: Option<Timestamp>) -> io::Result<bool> {
    let Some(since) = since else { return Ok(false) };
    let written = file.metadata()?.modified()? + CLOCK_STEP;
    Ok(written < SystemTime::UNIX_EPOCH + Duration::from_millis(since.0))
}

/// Whole lines that end at or before `end`, and the place of their first byte. What follows the last line feed is no
/// whole line.
pub(crate) fn lines_before(file: &mut File, end: u64) -> io::Result<(u64, Vec<u8>)> {
    let mut size = BLOCK;
    loop {
        let start = end.saturating_sub(size);
        file.seek(SeekFrom::Start(start))?;
        let mut block = Vec::with_capacity((end - start) as usize);
        file.take(end - start).read_to_end(&mut block)?;
        block.truncate(block.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1));
        if start == 0 {
            return Ok((0, block));
        }
        // The first line began before the block, unless it is the only one there: then the block grows.
        if let Some(first) = block.iter().position(|byte| *byte == b'\n').filter(|first| first + 1 < block.len()) {
            block.drain(..=first);
            return Ok((start + first as u64 + 1, block));
        }
        size = size.saturating_mul(2);
    }
}

struct Search<'f> {
    filter: &'f RecordFilter,
    tests: RecordTests<'f>,
    limit: usize,
    ids: HashSet<String>,
    items: Vec<StoredRecord>,
}

impl Search<'_> {
    fn is_full(&self) -> bool {
        self.items.len() >= self.limit
    }

    /// Takes from the last line to the first until there are enough; the place of the last line that was looked at.
    fn take(&mut self, start: u64, lines: &[u8]) -> u64 {
        let mut end = lines.len();
        for line in lines.split_inclusive(|byte| *byte == b'\n').rev() {
            if self.is_full() {
                break;
            }
            end -= line.len();
            let line = String::from_utf8_lossy(line);
            if !self.filter.may_be_in(&line) {
                continue;
            }
            let record = StoredRecord::parse(&line).filter(|record| self.tests.hold(record));
            self.items.extend(record.filter(|record| self.ids.insert(record.id().to_owned())));
        }
        start + end as u64
    }

    fn page(mut self, next: Option<Cursor>) -> Page {
        self.items.sort_by(|a, b| b.time().cmp(a.time()));
        Page { complete: next.is_none() || self.is_full(), items: self.items, next }
    }
}

#[cfg(test)]
mod tests;
