//! Reading records back from a folder.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use crate::StoredRecord;
use crate::spool::{segment_path, segments};

/// The record with this id, newest segment first.
pub fn find(dir: &Path, id: &str) -> io::Result<Option<StoredRecord>> {
    for (sequence, _) in segments(dir)?.into_iter().rev() {
        for line in BufReader::new(File::open(segment_path(dir, sequence))?).lines() {
            let line = line?;
            // The cheap test first: most lines do not match.
            if line.contains(id) {
                if let Some(record) = StoredRecord::parse(&line).filter(|record| record.id() == id) {
                    return Ok(Some(record));
                }
            }
        }
    }
    Ok(None)
}

/// The segment and the byte in it up to which everything was shipped; `None` where nothing is.
pub(crate) fn checkpoint(dir: &Path) -> Option<(u64, u64)> {
    let text = std::fs::read_to_string(dir.join("checkpoint")).ok()?;
    let mut numbers = text.split_whitespace().map(|number| number.parse().ok());
    numbers.next()?.zip(numbers.next()?)
}

/// A position in a folder of segments that moves over whole lines only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Follower {
    dir: PathBuf,
    sequence: u64,
    offset: u64,
}

impl Follower {
    /// Starts at a known position.
    pub(crate) fn at(dir: &Path, sequence: u64, offset: u64) -> Self {
        Self { dir: dir.to_owned(), sequence, offset }
    }

    /// Segment and byte offset of the next line.
    pub(crate) fn position(&self) -> (u64, u64) {
        (self.sequence, self.offset)
    }

    /// The next whole lines, at most about `limit` bytes of them; empty when there is nothing new.
    pub(crate) fn next_lines(&mut self, limit: u64) -> io::Result<Vec<String>> {
        loop {
            let known = segments(&self.dir)?;
            let Some((first, _)) = known.iter().copied().find(|(sequence, _)| *sequence >= self.sequence) else {
                return Ok(Vec::new());
            };
            if first > self.sequence {
                (self.sequence, self.offset) = (first, 0);
            }
            let lines = self.read_here(limit)?;
            let last = known.last().is_none_or(|(sequence, _)| *sequence == self.sequence);
            if !lines.is_empty() || last {
                return Ok(lines);
            }
            (self.sequence, self.offset) = (self.sequence + 1, 0);
        }
    }

    fn read_here(&mut self, limit: u64) -> io::Result<Vec<String>> {
        let mut file = File::open(segment_path(&self.dir, self.sequence))?;
        file.seek(SeekFrom::Start(self.offset))?;
        let mut reader = BufReader::new(file.take(limit.max(1 << 20)));
        let mut lines = Vec::new();
        let mut taken = 0;
        loop {
            let mut line = Vec::new();
            let read = reader.read_until(b'\n', &mut line)?;
            if line.pop() != Some(b'\n') {
                break;
            }
            taken += read as u64;
            lines.push(String::from_utf8_lossy(&line).into_owned());
            if taken >= limit {
                break;
            }
        }
        self.offset += taken;
        Ok(lines)
    }
}
