//! Follows a folder so that somebody who comes back gets each record once, or is told that some are gone.

use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::StoredRecord;
use crate::search::{NoCursor, is_id};
use crate::spool::{segment_path, segments};

/// Bytes in which a record is looked for that is named by its id alone: the newest ones.
const LOOKED_THROUGH: u64 = 64 << 20;

/// The place of a record in a folder, with its id: what a stream gives as the id of an event (`Last-Event-ID`).
///
/// As text `ID`, or `ID.SEGMENT.OFFSET` with the place of its line, which is found at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    id: String,
    place: Option<(u64, u64)>,
}

impl Mark {
    /// The id of the record.
    pub fn id(&self) -> &str {
        &self.id
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.id)?;
        self.place.map_or(Ok(()), |(segment, offset)| write!(f, ".{segment}.{offset}"))
    }
}

impl FromStr for Mark {
    type Err = NoCursor;
    fn from_str(text: &str) -> Result<Self, NoCursor> {
        let mut parts = text.splitn(3, '.');
        let id = parts.next().filter(|id| is_id(id)).ok_or(NoCursor)?.to_owned();
        let place = match (parts.next(), parts.next()) {
            (None, _) => None,
            (Some(segment), Some(offset)) => segment.parse().ok().zip(offset.parse().ok()),
            (Some(_), None) => return Err(NoCursor),
        };
        if text.contains('.') && place.is_none() { Err(NoCursor) } else { Ok(Self { id, place }) }
    }
}

/// The reason why a folder cannot be followed.
#[derive(Debug, thiserror::Error)]
pub enum TailError {
    /// The record is not there any more: nobody knows what came after it.
    #[error("the record is not in this folder any more")]
    Unknown,
    /// The folder cannot be read.
    #[error("the folder cannot be read")]
    Io(#[from] io::Error),
}

/// One step of a reader.
#[derive(Clone, Debug, PartialEq)]
pub enum Tailed {
    /// A record. Records come in the order in which they were written.
    Record {
        /// The record.
        record: StoredRecord,
        /// The place to go on after it.
        mark: Mark,
    },
    /// Records were removed before they were read: the folder was at its limit and the reader too slow.
    Missed,
}

/// Follows a folder. It blocks while it reads, never to wait for records.
#[derive(Debug)]
pub struct Tail {
    dir: PathBuf,
    segment: u64,
    offset: u64,
    /// Kept open: what is removed meanwhile can still be read.
    file: Option<File>,
}

impl Tail {
    /// Begins with the oldest record.
    pub fn from_start(dir: &Path) -> io::Result<Self> {
        let first = segments(dir)?.first().map_or(1, |(segment, _)| *segment);
        Ok(Self { dir: dir.to_owned(), segment: first, offset: 0, file: None })
    }

    /// Begins behind the newest record.
    pub fn from_now(dir: &Path) -> io::Result<Self> {
        let Some((segment, length)) = segments(dir)?.last().copied() else { return Self::from_start(dir) };
        let mut tail = Self { dir: dir.to_owned(), segment, offset: 0, file: None };
        // A line that is being written is still to come.
        tail.offset = tail.open()?.map_or(Ok(0), |file| line_start(file, length))?;
        Ok(tail)
    }

    /// Goes on after a record.
    pub fn after(dir: &Path, mark: &Mark) -> Result<Self, TailError> {
        let mut tail = Self { dir: dir.to_owned(), segment: 0, offset: 0, file: None };
        if let Some((segment, offset)) = mark.place {
            (tail.segment, tail.offset) = (segment, offset);
            let is_there = tail.lines(1)?.first().is_some_and(|line| line.has_id(&mark.id));
            return if is_there { Ok(tail) } else { Err(TailError::Unknown) };
        }
        let mut left = LOOKED_THROUGH;
        for (segment, length) in segments(dir)?.into_iter().rev() {
            (tail.segment, tail.offset, tail.file) = (segment, 0, None);
            if tail.skip_to(&mark.id)? {
                return Ok(tail);
            }
            left = left.saturating_sub(length);
            if left == 0 {
                break;
            }
        }
        Err(TailError::Unknown)
    }

    /// Moves behind the record with this id, if it is in this segment.
    fn skip_to(&mut self, id: &str) -> io::Result<bool> {
        loop {
            let lines = self.lines(1 << 20)?;
            if let Some(line) = lines.iter().find(|line| line.has_id(id)) {
                self.offset = line.end;
                return Ok(true);
            }
            if lines.is_empty() {
                return Ok(false);
            }
        }
    }

    /// The records since, in the order of writing, from at most about `limit` bytes; empty when there is nothing new.
    pub fn next(&mut self, limit: u64) -> io::Result<Vec<Tailed>> {
        loop {
            // Listed before the reading: what is behind a newer segment's beginning is complete.
            let newer = segments(&self.dir)?.into_iter().map(|(segment, _)| segment).find(|next| *next > self.segment);
            let lines = self.lines(limit)?;
            if lines.is_empty() && newer.is_none() {
                return Ok(Vec::new());
            }
            let mut found: Vec<Tailed> = lines.iter().filter_map(|line| self.tailed(line)).collect();
            if let Some(newer) = newer.filter(|_| lines.is_empty()) {
                let missed = self.file.is_none() || newer > self.segment + 1;
                (self.segment, self.offset, self.file) = (newer, 0, None);
                if missed {
                    found.push(Tailed::Missed);
                }
            }
            if !found.is_empty() {
                return Ok(found);
            }
        }
    }

    fn tailed(&self, line: &Line) -> Option<Tailed> {
        let record = StoredRecord::parse(&line.text).filter(|record| record.kind().is_some())?;
        let mark = Mark { id: record.id().to_owned(), place: Some((self.segment, line.start)) };
        Some(Tailed::Record { record, mark })
    }

    fn open(&mut self) -> io::Result<Option<&mut File>> {
        if self.file.is_none() {
            self.file = match File::open(segment_path(&self.dir, self.segment)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                file => Some(file?),
            };
        }
        Ok(self.file.as_mut())
    }

    /// The next whole lines of this segment; none when it is not there.
    fn lines(&mut self, limit: u64) -> io::Result<Vec<Line>> {
        let offset = self.offset;
        let Some(file) = self.open()? else { return Ok(Vec::new()) };
        file.seek(SeekFrom::Start(offset))?;
        let (mut reader, mut lines, mut end) = (BufReader::new(file), Vec::new(), offset);
        while end - offset < limit {
            let mut line = Vec::new();
            let read = reader.read_until(b'\n', &mut line)? as u64;
            if line.pop() != Some(b'\n') {
                break;
            }
            lines.push(Line { text: String::from_utf8_lossy(&line).into_owned(), start: end, end: end + read });
            end += read;
        }
        self.offset = end;
        Ok(lines)
    }
}

/// The beginning of the line that is not ended at `length`.
fn line_start(file: &mut File, length: u64) -> io::Result<u64> {
    let mut end = length;
    while end > 0 {
        let start = end.saturating_sub(64 << 10);
        file.seek(SeekFrom::Start(start))?;
        let mut block = Vec::new();
        file.take(end - start).read_to_end(&mut block)?;
        if let Some(newline) = block.iter().rposition(|byte| *byte == b'\n') {
            return Ok(start + newline as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

/// A whole line, with its place in the segment.
struct Line {
    text: String,
    start: u64,
    /// Behind its line feed.
    end: u64,
}

impl Line {
    fn has_id(&self, id: &str) -> bool {
        // The cheap test first: most lines do not match.
        self.text.contains(id) && StoredRecord::parse(&self.text).is_some_and(|record| record.id() == id)
    }
}

#[cfg(test)]
mod tests;
