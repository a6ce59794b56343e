//! The last record of every object, kept in Secrets of the operator's namespace.
//!
//! A change is what differs from the ledger. So what happened while no operator ran is found at its start, deletions
//! too, and what was recorded before a restart is not recorded again. The ledger has digests and names, no content. A
//! shard holds up to [`SHARD`] objects, and only shards with something new are written: one write for all changes of a
//! second. A change's id follows from the id before it and from what became of the object, so two operators that begin
//! with the same ledger give it the same one.

use std::collections::{BTreeMap, BTreeSet};

use idm_diff::{Digest, hash};
use idm_types::{Timestamp, hex, unhex};

use crate::objects::Kind;

/// Objects of a shard: with names of the greatest length it is smaller than a Secret may be.
pub(crate) const SHARD: usize = 2_000;

/// The known state of an object.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    pub(crate) kind: Kind,
    pub(crate) namespace: String,
    pub(crate) name: String,
    /// Of the content that was recorded last.
    pub(crate) digest: Digest,
    /// Of all changes so far.
    pub(crate) chain: Digest,
    /// The time of the last change, as its record says.
    pub(crate) time: Timestamp,
    shard: usize,
}

/// All objects of our kinds, by uid.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Ledger {
    entries: BTreeMap<String, Entry>,
    sizes: Vec<usize>,
    changed: BTreeSet<usize>,
}

/// The next link of an object's chain.
pub(crate) fn link(uid: &str, before: Option<&Entry>, after: Option<&Digest>) -> Digest {
    let chain = before.map_or([0; 16], |entry| entry.chain);
    let after = after.map_or(&[][..], |digest| digest.as_slice());
    hash(&[b"idm change 1", uid.as_bytes(), &chain, after])
}

impl Ledger {
    /// The known state of an object.
    pub(crate) fn get(&self, uid: &str) -> Option<&Entry> {
        self.entries.get(uid)
    }

    /// The objects of a kind, by uid.
    pub(crate) fn of_kind(&self, kind: Kind) -> impl Iterator<Item = (&String, &Entry)> {
        self.entries.iter().filter(move |(_, entry)| entry.kind == kind)
    }

    /// Keeps what was recorded of an object, in the shard where it is, or in the first with room.
    pub(crate) fn put(&mut self, uid: &str, mut entry: Entry) {
        entry.shard = match self.entries.get(uid) {
            Some(known) => known.shard,
            None => {
                let room = self.sizes.iter().position(|size| *size < SHARD).unwrap_or(self.sizes.len());
                if room == self.sizes.len() {
                    self.sizes.push(0);
                }
                self.sizes.get_mut(room).into_iter().for_each(|size| *size += 1);
                room
            }
        };
        self.changed.insert(entry.shard);
        self.entries.insert(uid.to_owned(), entry);
    }

    /// Forgets an object.
    pub(crate) fn remove(&mut self, uid: &str) {
        if let Some(entry) = self.entries.remove(uid) {
            self.sizes.get_mut(entry.shard).into_iter().for_each(|size| *size -= 1);
            self.changed.insert(entry.shard);
        }
    }

    /// The shards that differ from what was last taken, as texts.
    pub(crate) fn take_changed(&mut self) -> Vec<(usize, String)> {
        std::mem::take(&mut self.changed).into_iter().map(|shard| (shard, self.text(shard))).collect()
    }

    /// Marks a shard as not stored.
    pub(crate) fn mark(&mut self, shard: usize) {
        self.changed.insert(shard);
    }

    fn text(&self, shard: usize) -> String {
        let mut out = String::new();
        for (uid, entry) in self.entries.iter().filter(|(_, entry)| entry.shard == shard) {
            let Entry { kind, namespace, name, digest, chain, time, shard: _ } = entry;
            let (kind, time) = (kind.name(), time.0);
            out.push_str(&format!("{uid} {kind} {namespace} {name} {} {} {time}\n", hex(digest), hex(chain)));
        }
        out
    }

    /// Reads a shard that was stored. A line that cannot be read is an error: its object would be recorded as new.
    pub(crate) fn read(&mut self, shard: usize, text: &str) -> Result<(), String> {
        while self.sizes.len() <= shard {
            self.sizes.push(0);
        }
        for line in text.lines() {
            let (uid, entry) =
                parse(line, shard).ok_or_else(|| format!("shard {shard} has a line that is no entry"))?;
            // Two operators at once may have put an object into two shards: the later change is the one that counts.
            if self.entries.get(uid).is_some_and(|known| known.time >= entry.time) {
                self.changed.insert(shard);
                continue;
            }
            self.remove(uid);
            self.sizes.get_mut(shard).into_iter().for_each(|size| *size += 1);
            self.entries.insert(uid.to_owned(), entry);
        }
        Ok(())
    }
}

impl Entry {
    /// Of an object that is to be put into the ledger.
    pub(crate) fn new(
        kind: Kind,
        (namespace, name): (&str, &str),
        digest: Digest,
        chain: Digest,
        time: Timestamp,
    ) -> Self {
        Self { kind, namespace: namespace.into(), name: name.into(), digest, chain, time, shard: 0 }
    }
}

fn parse(line: &str, shard: usize) -> Option<(&str, Entry)> {
    let mut words = line.split(' ');
    let (uid, kind, namespace, name) = (words.next()?, words.next()?, words.next()?, words.next()?);
    let kind = Kind::OURS.iter().copied().find(|known| known.name() == kind)?;
    let (digest, chain) = (unhex(words.next()?)?, unhex(words.next()?)?);
    let time = Timestamp(words.next()?.parse().ok()?);
    words.next().is_none().then(|| (uid, Entry { shard, ..Entry::new(kind, (namespace, name), digest, chain, time) }))
}
