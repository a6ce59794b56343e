//! The chain of the records of a folder: each line carries a hash of itself and of the line before, so that a line
//! that is changed, removed, added or moved no longer fits.
//!
//! The last member of a line is `"chain":{"id":…,"n":…,"hash":…}`. The hash covers the hash before, the number and all
//! bytes of the line up to that member; with a key it is an HMAC, which only who has the key can make.

use std::io::BufRead;

use aws_lc_rs::{digest, hmac};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use idm_types::Redacted;

/// Characters of a chain's id.
const ID: usize = 26;
/// Characters of a hash.
const HASH: usize = 43;
const MEMBER: &[u8] = b",\"chain\":{\"id\":\"";

/// Bytes of a key at least.
pub const LEAST_KEY: usize = 32;

/// The key of a chain's hashes, or none.
#[derive(Clone, Debug, Default)]
pub struct ChainKey(Option<Redacted<Vec<u8>>>);

/// The key is too short to be one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a key for the audit's chain has at least {LEAST_KEY} bytes: make one with `openssl rand -hex 32`")]
pub struct ShortKey;

impl ChainKey {
    /// Hashes that everybody can make: they show what was changed by accident, or by somebody who did not make the
    /// rest of the chain anew.
    pub fn none() -> Self {
        Self(None)
    }

    /// Hashes that only who has the key can make.
    pub fn new(key: Vec<u8>) -> Result<Self, ShortKey> {
        if key.len() < LEAST_KEY { Err(ShortKey) } else { Ok(Self(Some(Redacted::new(key)))) }
    }
}

/// The end of a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainHead {
    /// The chain's id.
    pub id: String,
    /// The number of its last line, from 1.
    pub n: u64,
    /// The hash of that line.
    pub hash: String,
}

impl std::fmt::Display for ChainHead {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}:{}", self.id, self.n, self.hash)
    }
}

/// The text is not the head of a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a head is written CHAIN:NUMBER:HASH, as the log of the process has it")]
pub struct NoHead;

impl std::str::FromStr for ChainHead {
    type Err = NoHead;
    fn from_str(text: &str) -> Result<Self, NoHead> {
        let mut parts = text.splitn(3, ':');
        let (id, n, hash) = (parts.next(), parts.next(), parts.next());
        let (id, hash) = id.filter(|id| id.len() == ID).zip(hash.filter(|hash| hash.len() == HASH)).ok_or(NoHead)?;
        let n = n.and_then(|n| n.parse().ok()).ok_or(NoHead)?;
        Ok(Self { id: id.to_owned(), n, hash: hash.to_owned() })
    }
}

/// Makes and checks hashes.
pub(crate) struct Linker(Option<hmac::Key>);

impl Linker {
    pub(crate) fn new(key: &ChainKey) -> Self {
        Self(key.0.as_ref().map(|key| hmac::Key::new(hmac::HMAC_SHA256, key.reveal())))
    }

    pub(crate) fn is_keyed(&self) -> bool {
        self.0.is_some()
    }

    /// The head of a chain that has no line.
    pub(crate) fn begin(&self, id: &str) -> ChainHead {
        ChainHead { id: id.to_owned(), n: 0, hash: self.hash(&[b"idm audit chain 1\n", id.as_bytes()]) }
    }

    /// The hash of the line that follows `before`.
    pub(crate) fn follow(&self, before: &str, id: &str, n: u64, body: &[u8]) -> String {
        self.hash(&[before.as_bytes(), id.as_bytes(), &n.to_be_bytes(), body])
    }

    fn hash(&self, parts: &[&[u8]]) -> String {
        match &self.0 {
            None => {
                let mut context = digest::Context::new(&digest::SHA256);
                parts.iter().for_each(|part| context.update(part));
                URL_SAFE_NO_PAD.encode(context.finish())
            }
            Some(key) => {
                let mut context = hmac::Context::with_key(key);
                parts.iter().for_each(|part| context.update(part));
                URL_SAFE_NO_PAD.encode(context.sign())
            }
        }
    }

    /// Writes each of the lines, with its place in the chain, behind the others.
    pub(crate) fn link(&self, head: &mut ChainHead, mut lines: &[u8], out: &mut Vec<u8>) {
        loop {
            let here = lines;
            // Reading from memory cannot fail; the standard library's search is the quick one.
            let length = lines.skip_until(b'\n').unwrap_or(0);
            let Some(body) = here.get(..length).and_then(|line| line.strip_suffix(b"}\n")) else { return };
            head.n += 1;
            head.hash = self.follow(&head.hash, &head.id, head.n, body);
            out.extend_from_slice(body);
            out.extend_from_slice(MEMBER);
            out.extend_from_slice(head.id.as_bytes());
            out.extend_from_slice(b"\",\"n\":");
            out.extend_from_slice(head.n.to_string().as_bytes());
            out.extend_from_slice(b",\"hash\":\"");
            out.extend_from_slice(head.hash.as_bytes());
            out.extend_from_slice(b"\"}}\n");
        }
    }
}

/// A line that was taken apart: what its hash covers, and its place.
pub(crate) struct Linked<'l> {
    pub(crate) body: &'l [u8],
    pub(crate) head: ChainHead,
}

impl<'l> Linked<'l> {
    /// Takes a line, without its line feed, apart; `None` when it does not end in a chain's member. There is one
    /// spelling of each.
    pub(crate) fn of(line: &'l [u8]) -> Option<Self> {
        // The longest number has 20 digits.
        let tail = line.len().saturating_sub(MEMBER.len() + ID + HASH + 40);
        let start = tail + line.get(tail..)?.windows(MEMBER.len()).rposition(|window| window == MEMBER)?;
        let (body, member) = line.split_at_checked(start)?;
        Self::taken_apart(body, std::str::from_utf8(member.strip_prefix(MEMBER)?).ok()?)
    }

    fn taken_apart(body: &'l [u8], member: &str) -> Option<Self> {
        let (id, rest) = member.split_once("\",\"n\":").filter(|(id, _)| id.len() == ID)?;
        let (number, hash) = rest.split_once(",\"hash\":\"")?;
        let hash = hash.strip_suffix("\"}}").filter(|hash| hash.len() == HASH)?;
        let n: u64 = number.parse().ok()?;
        let head = ChainHead { id: id.to_owned(), n, hash: hash.to_owned() };
        (n.to_string() == number).then_some(Self { body, head })
    }
}
