//! Whether the records of a server's indices are those that were written: which was changed, removed, doubled or added.
//!
//! Chains are read back in their order, whatever index a line is in. What retention removes looks as what somebody
//! removed, so the oldest index of each kind says from when on a gap is a finding.

use std::collections::BTreeMap;
use std::fmt;

use crate::ChainKey;
use crate::chain::{ChainHead, Linked, Linker};
use crate::seal::Seal;

/// Findings that are listed; beyond it they are counted.
const LISTED: usize = 1000;
const MEMBER: &str = ",\"chain\":{\"id\":\"";

/// A line as an index has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Indexed {
    /// The index.
    pub index: String,
    /// Its id there.
    pub id: String,
    /// The document, byte for byte.
    pub source: String,
}

/// Something that neither idm nor retention did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IndexTampering {
    /// The record is not the one that was written, or the one before it is not.
    Changed {
        /// Its index.
        index: String,
        /// Its id.
        id: String,
        /// Its number in the chain.
        n: u64,
    },
    /// These numbers of a chain are missing.
    Removed {
        /// The chain.
        chain: String,
        /// The first.
        from: u64,
        /// The last.
        to: u64,
    },
    /// There is another record with this number of the chain.
    Doubled {
        /// The index of the second.
        index: String,
        /// Its id.
        id: String,
        /// Its number in the chain.
        n: u64,
    },
    /// The record has no place in a chain.
    Added {
        /// Its index.
        index: String,
        /// Its id.
        id: String,
    },
    /// The chain does not reach, or does not have, the head that it should.
    Cut(ChainHead),
}

impl fmt::Display for IndexTampering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Changed { index, id, n } => write!(f, "{index}/{id} (number {n}): changed"),
            Self::Removed { chain, from, to } if from == to => write!(f, "chain {chain}: number {from} is removed"),
            Self::Removed { chain, from, to } => write!(f, "chain {chain}: numbers {from} to {to} are removed"),
            Self::Doubled { index, id, n } => write!(f, "{index}/{id}: number {n} of its chain is there twice"),
            Self::Added { index, id } => write!(f, "{index}/{id}: added: it is in no chain"),
            Self::Cut(head) => {
                write!(f, "number {} of chain {} is not there as it was: the end is cut off", head.n, head.id)
            }
        }
    }
}

/// The findings of indices.
#[derive(Clone, Debug, Default)]
pub struct IndexVerified {
    /// Records that are as they were written.
    pub good: u64,
    /// Records whose predecessor is not there any more: nothing says whether they are as they were written.
    pub unfounded: u64,
    /// The first of the findings that somebody tampered.
    pub tampering: Vec<IndexTampering>,
    /// Their number.
    pub tampered: u64,
    /// The end of each chain.
    pub heads: Vec<ChainHead>,
    /// Gaps that retention explains.
    pub expired: u64,
}

/// The walk over the lines of all chains, in the order of chains and numbers.
pub(crate) struct IndexWalk {
    linker: Linker,
    verified: IndexVerified,
    wanted: Vec<ChainHead>,
    /// Records before this day (`YYYY-MM-DD`) may be gone.
    kept_from: String,
    head: Option<ChainHead>,
    /// The day of the last record of the chain.
    day: Option<String>,
}

impl IndexWalk {
    /// `kept_from` is the day of the oldest index of the kind that is kept for the shortest time.
    pub(crate) fn new(key: &ChainKey, wanted: &[ChainHead], kept_from: String) -> Self {
        let (linker, verified, wanted) = (Linker::new(key), IndexVerified::default(), wanted.to_vec());
        Self { linker, verified, wanted, kept_from, head: None, day: None }
    }

    fn tampered(&mut self, found: IndexTampering) {
        self.verified.tampered += 1;
        if self.verified.tampering.len() < LISTED {
            self.verified.tampering.push(found);
        }
    }

    /// A document that has no place in a chain.
    pub(crate) fn unchained(&mut self, Indexed { index, id, .. }: Indexed) {
        self.tampered(IndexTampering::Added { index, id });
    }

    /// The next document.
    pub(crate) fn document(&mut self, document: Indexed) {
        let line = line_of(&document.source);
        let Some(linked) = line.as_deref().and_then(|line| Linked::of(line.as_bytes())) else {
            return self.unchained(document);
        };
        let head = linked.head.clone();
        if self.head.as_ref().is_some_and(|last| last.id != head.id) {
            self.end_chain();
        }
        let last = self.head.clone();
        let next = last.as_ref().map_or(1, |last| last.n + 1);
        let Indexed { index, id, .. } = document;
        if head.n < next {
            return self.tampered(IndexTampering::Doubled { index, id, n: head.n });
        }
        if head.n > next {
            self.gap(&head, next);
        }
        let seal = Seal::of(linked.body);
        let before = match last {
            _ if head.n == 1 => Some(self.linker.begin(&head.id).hash),
            Some(last) if head.n == next => Some(last.hash),
            _ => seal.map(|seal| seal.before),
        };
        match before {
            None => self.verified.unfounded += 1,
            Some(before) if self.linker.follow(&before, &head.id, head.n, linked.body) == head.hash => {
                self.verified.good += 1;
                self.wanted.retain(|wanted| *wanted != head);
            }
            Some(_) => self.tampered(IndexTampering::Changed { index, id, n: head.n }),
        }
        self.day = day_of(linked.body);
        self.head = Some(head);
    }

    /// Numbers that are missing before a record. Retention may have removed them where the record before, or the
    /// beginning of the chain, is older than what is kept.
    fn gap(&mut self, head: &ChainHead, from: u64) {
        let since = self.day.clone().or_else(|| birthday(&head.id));
        if since.is_some_and(|since| since < self.kept_from) {
            self.verified.expired += 1;
        } else {
            self.tampered(IndexTampering::Removed { chain: head.id.clone(), from, to: head.n - 1 });
        }
    }

    fn end_chain(&mut self) {
        self.verified.heads.extend(self.head.take());
        self.day = None;
    }

    pub(crate) fn end(mut self) -> IndexVerified {
        self.end_chain();
        for head in std::mem::take(&mut self.wanted) {
            self.tampered(IndexTampering::Cut(head));
        }
        self.verified
    }
}

/// The line that was written: the document without the fields of ECS, which are added behind it on the way.
fn line_of(source: &str) -> Option<String> {
    // Within a text of a caller the quotes of the member would be escaped.
    let start = source.find(MEMBER)?;
    let end = start + source.get(start..)?.find("\"}")? + "\"}".len();
    let rest = source.get(end..)?;
    (rest.starts_with('}') || rest.starts_with(',')).then(|| format!("{}}}", source.get(..end).unwrap_or_default()))
}

/// The day on which a chain began: its id is a ULID, whose first ten characters are milliseconds in Crockford's base 32.
fn birthday(chain: &str) -> Option<String> {
    let digit = |c: u8| b"0123456789ABCDEFGHJKMNPQRSTVWXYZ".iter().position(|known| *known == c);
    let mut ms: u64 = 0;
    for c in chain.bytes().take(10) {
        ms = ms.checked_mul(32)?.checked_add(digit(c)? as u64)?;
    }
    idm_types::Timestamp(ms).rfc3339().get(..10).map(str::to_owned)
}

/// The day of a record, from what its hash covers.
fn day_of(body: &[u8]) -> Option<String> {
    let record: serde_json::Value = serde_json::from_slice(&[body, b"}"].concat()).ok()?;
    Some(record["@timestamp"].as_str()?.get(..10)?.to_owned())
}

/// The day from which on records of every kind are there: the latest of the oldest days of the kinds.
pub(crate) fn kept_from<'i>(indices: impl Iterator<Item = &'i str>) -> String {
    let mut oldest: BTreeMap<&str, &str> = BTreeMap::new();
    for index in indices {
        let Some((kind, day)) = index.rsplit_once('-') else { continue };
        let known = oldest.entry(kind).or_insert(day);
        *known = day.min(*known);
    }
    oldest.values().max().map(|day| day.replace('.', "-")).unwrap_or_default()
}

#[cfg(test)]
mod tests;
