//! Whether the records of a folder are those that were written: which was changed, removed, added or moved.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use crate::ChainKey;
use crate::chain::{ChainHead, Linked, Linker};
use crate::read::checkpoint;
use crate::seal::{Seal, Why};
use crate::spool::{segment_path, segments};

/// Findings that are listed; beyond it they are counted.
const LISTED: usize = 1000;

/// The place of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its segment.
    pub segment: u64,
    /// Its number there, from 1.
    pub line: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "audit-{:012}.ndjson line {}", self.segment, self.line)
    }
}

/// Something that idm did not do, and no crash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tampering {
    /// The line is not the one that was written.
    Changed(Place),
    /// These numbers of a chain are missing before this line.
    Removed {
        /// The first.
        from: u64,
        /// The last.
        to: u64,
        /// The line after them.
        before: Place,
    },
    /// The line is not at its place: it was copied or moved here.
    Moved(Place),
    /// The line has no place in the chain.
    Added(Place),
    /// Another chain begins here, although the one before did not end in a way that asks for it.
    Replaced(Place),
    /// Segments before this one were removed, and not by idm.
    SegmentsRemoved {
        /// The oldest that should be there.
        wanted: u64,
        /// The oldest that is.
        found: u64,
    },
    /// The chain does not reach, or does not have, the head that it should.
    Cut(ChainHead),
}

impl fmt::Display for Tampering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Changed(place) => write!(f, "{place}: changed"),
            Self::Removed { from, to, before } if from == to => {
                write!(f, "{before}: number {from} is removed before it")
            }
            Self::Removed { from, to, before } => write!(f, "{before}: numbers {from} to {to} are removed before it"),
            Self::Moved(place) => write!(f, "{place}: moved or copied here"),
            Self::Added(place) => write!(f, "{place}: added: it is in no chain"),
            Self::Replaced(place) => write!(f, "{place}: another chain begins here without a reason"),
            Self::SegmentsRemoved { wanted, found } => {
                write!(f, "segments {wanted} to {} are removed, and not by idm", found.saturating_sub(1))
            }
            Self::Cut(head) => {
                write!(f, "number {} of chain {} is not there as it was: the end is cut off", head.n, head.id)
            }
        }
    }
}

/// A trace of an ordinary life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trace {
    /// Lines that an idm without a chain wrote.
    Unchained(u64),
    /// Records before this number were shipped and removed, or removed at the size limit.
    Dropped(u64),
    /// A process ended in the middle of a line of so many bytes; its record was acknowledged to nobody.
    HalfWritten(u64),
    /// When the folder was opened, so many bytes of a half-written line were cut off.
    CutOff(u64),
    /// The end has no seal: the process is running or was killed, or somebody cut the end off.
    Open,
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unchained(lines) => write!(f, "{lines} lines are older than the chain: nothing protects them"),
            Self::Dropped(n) => write!(f, "numbers before {n} were shipped, or removed at the size limit"),
            Self::HalfWritten(bytes) => {
                write!(f, "the last {bytes} bytes are a half-written line: a process was killed")
            }
            Self::CutOff(bytes) => {
                write!(f, "a half-written line of {bytes} bytes was cut off: a process had been killed")
            }
            Self::Open => f.write_str(
                "the end has no seal: its process runs or was killed, or the end was cut off (compare the head in its \
                 log with --head)",
            ),
        }
    }
}

/// The findings.
#[derive(Clone, Debug, Default)]
pub struct Verified {
    /// Lines that are as they were written.
    pub good: u64,
    /// The first of the findings that somebody tampered.
    pub tampering: Vec<Tampering>,
    /// Their number.
    pub tampered: u64,
    /// The traces of an ordinary life.
    pub traces: Vec<Trace>,
    /// The end of the last chain.
    pub head: Option<ChainHead>,
}

/// Verifies all segments of a folder. `wanted` are heads that are known from elsewhere, such as from a log. Blocks, and
/// reads everything; memory does not grow with the folder.
pub fn verify(dir: &Path, key: &ChainKey, wanted: &[ChainHead]) -> io::Result<Verified> {
    let known = segments(dir)?;
    let mut walk = Walk::new(key, wanted);
    let newest = known.last().map_or(0, |(segment, _)| *segment);
    for (segment, _) in &known {
        match File::open(segment_path(dir, *segment)) {
            Ok(file) => walk.segment(*segment, BufReader::new(file), *segment == newest)?,
            // Shipped and removed since the listing.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    let shipped_to = checkpoint(dir).map(|(segment, _)| segment);
    Ok(walk.end(known.first().map_or(0, |(segment, _)| *segment), shipped_to))
}

struct Walk {
    linker: Linker,
    verified: Verified,
    wanted: Vec<ChainHead>,
    /// Numbers that were passed over and may turn up.
    missing: BTreeSet<u64>,
    /// Lines since the last one that could be read.
    unreadable: u64,
    unchained: u64,
    /// The oldest segment that the last seal keeps.
    kept_from: u64,
    last: Option<Why>,
    place: Place,
}

impl Walk {
    fn new(key: &ChainKey, wanted: &[ChainHead]) -> Self {
        Self {
            linker: Linker::new(key),
            verified: Verified::default(),
            wanted: wanted.to_vec(),
            missing: BTreeSet::new(),
            unreadable: 0,
            unchained: 0,
            kept_from: 0,
            last: None,
            place: Place { segment: 0, line: 0 },
        }
    }

    fn segment(&mut self, segment: u64, mut reader: impl BufRead, is_newest: bool) -> io::Result<()> {
        self.place = Place { segment, line: 0 };
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line)? > 0 {
            self.place.line += 1;
            match line.strip_suffix(b"\n") {
                Some(line) => self.line(line),
                None => self.half_line(&line, is_newest),
            }
            line.clear();
        }
        Ok(())
    }

    fn tampered(&mut self, found: Tampering) {
        self.verified.tampered += 1;
        if self.verified.tampering.len() < LISTED {
            self.verified.tampering.push(found);
        }
    }

    fn line(&mut self, line: &[u8]) {
        let Some(linked) = Linked::of(line) else { return self.line_without_place(line) };
        let seal = Seal::of(linked.body);
        let Some(head) = self.verified.head.clone().filter(|head| head.id == linked.head.id) else {
            return self.begin(&linked, seal);
        };
        let (n, next) = (linked.head.n, head.n + 1);
        if n < next {
            self.missing.remove(&n);
            return self.tampered(Tampering::Moved(self.place));
        }
        let unreadable = std::mem::take(&mut self.unreadable);
        if n > next && n - next != unreadable {
            // Few enough to be remembered: those that turn up later were moved.
            self.missing.extend((next..n).take(LISTED));
            self.tampered(Tampering::Removed { from: next, to: n - 1, before: self.place });
        }
        // After a gap only a seal says which hash was before it.
        let before = if n == next { Some(head.hash) } else { seal.as_ref().map(|seal| seal.before.clone()) };
        self.check(&linked, before.as_deref(), seal);
    }

    /// The first line of a chain here.
    fn begin(&mut self, linked: &Linked<'_>, seal: Option<Seal>) {
        let genesis = self.linker.begin(&linked.head.id);
        let is_first = self.verified.head.is_none();
        let is_begun = seal.as_ref().is_some_and(|seal| seal.why == Why::Begun) && linked.head.n == 1;
        if self.place.line > 1 || !(is_first || (is_begun && self.unreadable > 0)) {
            self.tampered(Tampering::Replaced(self.place));
        }
        if is_begun && self.unchained > 0 && seal.as_ref().is_some_and(|seal| seal.kept_from == seal.segment) {
            self.tampered(Tampering::Added(Place { segment: self.place.segment, line: 1 }));
        }
        (self.unreadable, self.missing) = (0, BTreeSet::new());
        let before = match &seal {
            _ if linked.head.n == 1 => Some(genesis.hash),
            Some(seal) => Some(seal.before.clone()),
            None => None,
        };
        if linked.head.n > 1 {
            self.verified.traces.push(Trace::Dropped(linked.head.n));
        }
        self.check(linked, before.as_deref(), seal);
    }

    /// A line at its place. Whatever it is, the next one is held against what it says.
    fn check(&mut self, linked: &Linked<'_>, before: Option<&str>, seal: Option<Seal>) {
        let Linked { body, head } = linked;
        let is_good = before.is_some_and(|before| self.linker.follow(before, &head.id, head.n, body) == head.hash);
        if is_good {
            self.verified.good += 1;
            self.wanted.retain(|wanted| wanted != head);
        } else {
            self.tampered(Tampering::Changed(self.place));
        }
        self.last = seal.as_ref().map(|seal| seal.why);
        if let Some(seal) = seal {
            if seal.segment != self.place.segment && is_good {
                self.tampered(Tampering::Moved(self.place));
            }
            self.kept_from = self.kept_from.max(seal.kept_from);
            self.verified.traces.extend(Some(seal.cut).filter(|cut| *cut > 0).map(Trace::CutOff));
        }
        self.verified.head = Some(head.clone());
    }

    fn line_without_place(&mut self, line: &[u8]) {
        if self.verified.head.is_none() {
            self.unchained += 1;
            return;
        }
        self.unreadable += 1;
        let is_record = serde_json::from_slice::<serde_json::Value>(line).is_ok_and(|line| line.get("chain").is_none());
        self.tampered(if is_record { Tampering::Added(self.place) } else { Tampering::Changed(self.place) });
    }

    /// The bytes behind the last line feed. A process that is killed leaves the beginning of a line, and only at the end of
    /// all; one that is not the beginning of a line was put there.
    fn half_line(&mut self, line: &[u8], is_newest: bool) {
        let is_beginning = match serde_json::from_slice::<serde_json::Value>(line) {
            Ok(_) => line.last() == Some(&b'}') && self.follows(line),
            Err(error) => error.is_eof() && line.first() == Some(&b'{') && !line.contains(&0),
        };
        if is_newest && is_beginning {
            self.verified.traces.push(Trace::HalfWritten(line.len() as u64));
        } else {
            self.tampered(Tampering::Changed(self.place));
        }
        self.last = None;
    }

    /// Whether a line that lacks only its line feed is the next of the chain.
    fn follows(&self, line: &[u8]) -> bool {
        let Some(Linked { body, head }) = Linked::of(line) else { return false };
        let before = match &self.verified.head {
            Some(before) => before.clone(),
            None => self.linker.begin(&head.id),
        };
        let before = if self.verified.head.is_none() && head.n > 1 {
            Seal::of(body).map(|seal| seal.before)
        } else {
            Some(before).filter(|before| before.id == head.id && before.n + 1 == head.n).map(|before| before.hash)
        };
        before.is_some_and(|before| self.linker.follow(&before, &head.id, head.n, body) == head.hash)
    }

    fn end(mut self, oldest: u64, shipped_to: Option<u64>) -> Verified {
        let wanted = self.kept_from.max(shipped_to.unwrap_or(0));
        if self.verified.head.is_some() && oldest > wanted {
            self.tampered(Tampering::SegmentsRemoved { wanted, found: oldest });
        }
        for head in std::mem::take(&mut self.wanted) {
            self.tampered(Tampering::Cut(head));
        }
        if self.unchained > 0 {
            self.verified.traces.insert(0, Trace::Unchained(self.unchained));
        }
        if self.verified.head.is_some() && self.last != Some(Why::Closed) {
            self.verified.traces.push(Trace::Open);
        }
        self.verified
    }
}

#[cfg(test)]
mod tests;
