//! The keys of one Credential, and those that were once.

use idm_types::Timestamp;
use serde::{Deserialize, Serialize};

use crate::ObjectKey;

/// The keys of a Credential: there are never more than two.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Keys {
    /// The newest one; `None` where it was revoked and none was made since.
    pub current: Option<Key>,
    /// The one before it, which works until its end.
    pub retiring: Option<RetiringKey>,
}

/// A key that has no end of its own: it ends with its Credential.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Key {
    /// SHA-256 of the whole key, in lower-case hexadecimal.
    pub sha256: String,
}

/// A key that ends: gateways compare the time on each request, whoever else is dead by then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RetiringKey {
    /// SHA-256 of the whole key, in lower-case hexadecimal.
    pub sha256: String,
    /// Its end.
    pub end: KeyEnd,
}

/// The end of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyEnd {
    /// The key is refused from this time on.
    pub at: Timestamp,
    /// The cause.
    pub cause: EndCause,
}

/// The state of a key at a time, as status and commands show it: `Active`, `Overlapping`, or the cause of its end.
pub fn key_state(end: Option<KeyEnd>, now: Timestamp) -> &'static str {
    match end {
        None => "Active",
        Some(end) if now < end.at => "Overlapping",
        Some(end) => end.cause.name(),
    }
}

/// The cause of the end of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum EndCause {
    /// Somebody revoked it.
    Revoked,
    /// A newer one replaced it.
    RotatedOut,
}

impl EndCause {
    /// Its name in status.
    pub const fn name(self) -> &'static str {
        match self {
            EndCause::Revoked => "Revoked",
            EndCause::RotatedOut => "RotatedOut",
        }
    }
}

/// A key that is refused whatever the objects say: no Secret and no Credential brings it back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndedKey {
    /// SHA-256 of the whole key, in lower-case hexadecimal.
    pub sha256: String,
    /// The Credential that it was a key of.
    pub credential: ObjectKey,
    /// Its end.
    pub end: KeyEnd,
}

impl Keys {
    /// A single key.
    pub fn one(sha256: String) -> Self {
        Self { current: Some(Key { sha256 }), retiring: None }
    }

    /// The hashes, each with its end.
    pub fn all(&self) -> impl Iterator<Item = (&str, Option<KeyEnd>)> {
        let current = self.current.iter().map(|key| (key.sha256.as_str(), None));
        current.chain(self.retiring.iter().map(|key| (key.sha256.as_str(), Some(key.end))))
    }
}

/// The short id of a key in status, records and commands: the first 12 digits of its hash. It tells keys apart, and
/// tells nothing about a key that cannot be guessed.
pub fn key_id(sha256: &str) -> &str {
    sha256.get(..12).unwrap_or(sha256)
}
