//! The Credentials of a large namespace, in parts that travel apart: a Secret holds 1 MiB, and a change of one
//! Credential must not move all of them.
//!
//! The bundle has the **index**: the digest of each shard, in the order of their numbers. A gateway takes a shard only
//! if its digest is that of the index in force, so there is one truth about every Credential, in whichever order the
//! Secrets arrive. The number of a Credential's shard follows from its name alone.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{Bundle, BundleError, Credential, Credentials, EndedKey, ObjectKey, Secrets};

/// A bundle carries this many Credentials itself.
const MAX_INLINE: usize = 256;
/// And this many bytes of them, as JSON.
const MAX_INLINE_BYTES: usize = 512 << 10;
/// The numbers of shards that a namespace may have: the next one is used when a shard outgrows [`TARGET`].
const COUNTS: [usize; 3] = [64, 256, 1024];
/// The packed size of a shard from which on there are more shards.
const TARGET: usize = 256 << 10;
/// The most bytes of a packed shard. Its Secret holds two versions, and a Secret holds 1 MiB.
const MAX_PACKED: usize = 480_000;
const MAX_UNPACKED: u64 = 64 << 20;

/// The keys of the Secret of a shard, newer first: the version that the newest index names, and the one before it, which
/// a gateway needs that has not seen the newest index yet.
pub const SHARD_VERSIONS: [&str; 2] = ["current", "previous"];

/// The field that the versions of a shard are sealed for: one of them becomes the other, and digests tell them apart.
pub const SHARD_FIELD: &str = "shard";

/// The name of the Secret with a shard, beside the Secret with the bundle.
pub fn shard_secret(bundle: &str, number: usize) -> String {
    format!("{bundle}-shard-{number}")
}

/// One line of the index.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShardRef {
    /// SHA-256 of the shard as JSON, in hexadecimal.
    pub digest: String,
    /// The number of its Credentials.
    pub credentials: usize,
}

/// Some of the Credentials, with what belongs to them alone.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shard {
    /// Ordered by name.
    pub all: Vec<Arc<Credential>>,
    /// The secrets that they refer to.
    #[serde(default, skip_serializing_if = "Secrets::is_empty")]
    pub secrets: Secrets,
    /// Keys of theirs, and of Credentials that are gone, that are refused for good; ordered by hash.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ended: Vec<EndedKey>,
}

/// A shard as bytes for a Secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackedShard {
    /// Its line of the index.
    pub line: ShardRef,
    /// The compressed bytes.
    pub bytes: Vec<u8>,
}

/// Why a shard could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ShardError {
    /// Another version than the index names, or damaged.
    #[error("it is not the one that the index names")]
    DigestMismatch,
    /// The bytes are not a shard.
    #[error("it cannot be read")]
    Unreadable(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Whether a namespace's Credentials are too many, or too large, for its bundle.
pub fn needs_shards(credentials: &Credentials) -> bool {
    credentials.all.len() > MAX_INLINE
        || serde_json::to_vec(credentials).is_ok_and(|json| json.len() > MAX_INLINE_BYTES)
}

/// The number of the shard of a Credential, or of its ended keys, among `count`, which is a power of two.
pub fn shard_of(key: &ObjectKey, count: usize) -> usize {
    let hash = Sha256::new().chain_update(&key.namespace).chain_update(b"/").chain_update(&key.name).finalize();
    let first = hash.iter().take(4).fold(0usize, |number, byte| number << 8 | usize::from(*byte));
    // The first bits: with twice as many shards, each is divided in two.
    first.checked_mul(count).map_or(0, |product| product >> 32)
}

/// Shards that were made before, with what they were made of: those that did not change are not made again.
#[derive(Clone, Debug, Default)]
pub struct Made(Vec<(Shard, Arc<PackedShard>)>);

/// All shards of a namespace, and what its bundle carries itself.
#[derive(Clone, Debug, Default)]
pub struct Divided {
    /// The part that belongs to no single Credential.
    pub common: Credentials,
    /// The shards by number.
    pub shards: Vec<Arc<PackedShard>>,
    /// Credentials that have room in no Secret. They are in no shard, so they are refused.
    pub too_large: Vec<ObjectKey>,
}

/// Divides Credentials into shards; at least as many as there are now.
pub fn divide(credentials: &Credentials, now: usize) -> Result<Divided, BundleError> {
    divide_again(credentials, now, &mut Made::default())
}

/// The same, with what was `made` before.
pub fn divide_again(credentials: &Credentials, now: usize, made: &mut Made) -> Result<Divided, BundleError> {
    let last = COUNTS.len().saturating_sub(1);
    for (position, count) in COUNTS.into_iter().enumerate().filter(|(_, count)| *count >= now.min(COUNTS[last])) {
        let divided = divide_into(credentials, count, made)?;
        if position == last || divided.shards.iter().all(|shard| shard.bytes.len() <= TARGET) {
            return Ok(divided);
        }
    }
    divide_into(credentials, COUNTS[last], made)
}

fn divide_into(credentials: &Credentials, count: usize, made: &mut Made) -> Result<Divided, BundleError> {
    let Credentials { all, secrets, usage_plans, ended } = credentials;
    let mut parts: Vec<Shard> = vec![Shard::default(); count];
    for credential in all {
        let Some(part) = parts.get_mut(shard_of(&credential.key, count)) else { continue };
        if !secrets.is_empty() {
            let value = serde_json::to_value(&**credential).map_err(|error| BundleError::Unreadable(error.into()))?;
            part.secrets.keep_from(&secrets.named_by(&value));
        }
        part.all.push(credential.clone());
    }
    for key in ended {
        if let Some(part) = parts.get_mut(shard_of(&key.credential, count)) {
            part.ended.push(key.clone());
        }
    }
    let common = Credentials { usage_plans: usage_plans.clone(), ..Credentials::default() };
    let mut divided = Divided { common, ..Divided::default() };
    let before = std::mem::take(&mut made.0);
    let same_count = before.len() == count;
    for (number, mut part) in parts.into_iter().enumerate() {
        let known = before.get(number).filter(|(known, _)| same_count && known.is_made_of(&part));
        let packed = match known {
            Some((_, packed)) => packed.clone(),
            None => {
                let left_out = divided.too_large.len();
                let packed = Arc::new(part.pack_what_fits(&mut divided.too_large)?);
                if divided.too_large.len() > left_out {
                    // It is made again every time, so that what was left out is known every time.
                    part.all.clear();
                }
                packed
            }
        };
        divided.shards.push(packed.clone());
        made.0.push((part, packed));
    }
    Ok(divided)
}

impl Shard {
    /// Whether it was made of the same values: those that are the same in memory, so that nothing is compared.
    fn is_made_of(&self, part: &Self) -> bool {
        self.all.len() == part.all.len()
            && self.all.iter().zip(&part.all).all(|(a, b)| Arc::ptr_eq(a, b))
            && self.ended == part.ended
            && self.secrets == part.secrets
    }

    /// The shard as compressed bytes.
    pub fn pack(&self) -> Result<PackedShard, BundleError> {
        let json = serde_json::to_vec(self).map_err(|error| BundleError::Unreadable(error.into()))?;
        let line = ShardRef { digest: idm_types::hex(&Sha256::digest(&json)), credentials: self.all.len() };
        let mut gzip = flate2::GzBuilder::new().mtime(0).write(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&json).map_err(|error| BundleError::Unreadable(error.into()))?;
        let bytes = gzip.finish().map_err(|error| BundleError::Unreadable(error.into()))?;
        Ok(PackedShard { line, bytes })
    }

    /// The largest Credentials go until the others have room: a key that was revoked must be refused, whatever else is
    /// in the namespace.
    fn pack_what_fits(&mut self, too_large: &mut Vec<ObjectKey>) -> Result<PackedShard, BundleError> {
        loop {
            let packed = self.pack()?;
            if packed.bytes.len() <= MAX_PACKED || self.all.is_empty() {
                return Ok(packed);
            }
            let sizes = self.all.iter().map(|one| serde_json::to_vec(&**one).map_or(usize::MAX, |json| json.len()));
            let largest = sizes.enumerate().max_by_key(|(_, size)| *size).map_or(0, |(position, _)| position);
            too_large.push(self.all.remove(largest).key.clone());
        }
    }

    /// Reads the bytes of a shard, if they are those that the index names.
    pub fn unpack(packed: &[u8], line: &ShardRef) -> Result<Self, ShardError> {
        let mut json = Vec::new();
        let mut gzip = flate2::read::GzDecoder::new(packed).take(MAX_UNPACKED);
        gzip.read_to_end(&mut json).map_err(|error| ShardError::Unreadable(error.into()))?;
        if idm_types::hex(&Sha256::digest(&json)) != line.digest {
            return Err(ShardError::DigestMismatch);
        }
        serde_json::from_slice(&json).map_err(|error| ShardError::Unreadable(error.into()))
    }
}

/// The shards that a gateway has, each by its digest.
pub type Held = BTreeMap<String, Arc<Shard>>;

impl Bundle {
    /// The digests of the index that are not among `held`, each with its number.
    pub fn missing<'b>(&'b self, held: &'b Held) -> impl Iterator<Item = (usize, &'b ShardRef)> {
        self.shards.iter().enumerate().filter(|(_, line)| !held.contains_key(&line.digest))
    }

    /// Puts the shards of the index that are among `held` into the Credentials, and nothing else: what the index does
    /// not cover lets nobody in. Returns the numbers of those that are missing.
    pub fn assemble(&mut self, held: &Held) -> Vec<usize> {
        let mut missing = Vec::new();
        for (number, line) in self.shards.iter().enumerate() {
            match held.get(&line.digest) {
                Some(shard) => {
                    self.credentials.all.extend(shard.all.iter().cloned());
                    self.credentials.secrets.keep_from(&shard.secrets);
                    self.credentials.ended.extend(shard.ended.iter().cloned());
                }
                None => missing.push(number),
            }
        }
        self.credentials.all.sort_by(|a, b| a.key.cmp(&b.key));
        self.credentials.ended.sort_by(|a, b| a.sha256.cmp(&b.sha256));
        missing
    }
}

#[cfg(test)]
mod tests;
