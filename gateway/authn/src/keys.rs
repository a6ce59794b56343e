//! The keys of Credentials in force: found by their hashes, with the time when each ends, and where the older of two
//! was used last.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use foldhash::HashMap;
use idm_plan::{Credential, EndCause, EndedKey, KeyEnd, Keys, ObjectKey, Proof, key_id};
use idm_types::{Reason, Refusal, Timestamp, unhex};

/// A use is noted once in this time: a busy key costs no more than a comparison.
const NOTED_EVERY_MS: u64 = 1000;

/// The hashes of a namespace's keys. Looking one up tells an attacker nothing about the keys: to choose the hash, an
/// attacker would have to invert SHA-256 first.
#[derive(Default)]
pub(crate) struct KeyTable {
    /// The position of the Credential, which knows the end of the key.
    live: HashMap<[u8; 32], u32>,
    /// Keys that are refused for good.
    ended: HashMap<[u8; 32], (ObjectKey, KeyEnd)>,
}

/// The Credential that a key belongs to.
pub(crate) enum KeyFound<'t> {
    /// The position of the Credential.
    Live(usize),
    /// It ended for good.
    Ended(&'t ObjectKey, KeyEnd),
}

impl KeyTable {
    /// Adds the keys of the Credential at this position.
    pub(crate) fn add(&mut self, keys: &Keys, position: usize) -> Result<(), String> {
        let position = u32::try_from(position).map_err(|_| "there are too many Credentials".to_owned())?;
        for (sha256, _) in keys.all() {
            self.live.insert(hash(sha256)?, position);
        }
        Ok(())
    }

    /// Makes room for the keys of this many Credentials.
    pub(crate) fn reserve(&mut self, credentials: usize) {
        self.live.reserve(credentials);
    }

    /// Adds a key that has ended.
    pub(crate) fn add_ended(&mut self, key: &EndedKey) -> Result<(), String> {
        self.ended.insert(hash(&key.sha256)?, (key.credential.clone(), key.end));
        Ok(())
    }

    /// The key with this hash. What has ended for good has, whatever else is said of it.
    pub(crate) fn find(&self, hash: &[u8; 32]) -> Option<KeyFound<'_>> {
        if let Some((credential, end)) = self.ended.get(hash) {
            return Some(KeyFound::Ended(credential, *end));
        }
        self.live.get(hash).and_then(|position| usize::try_from(*position).ok()).map(KeyFound::Live)
    }
}

/// The end of a key of a Credential.
pub(crate) fn end_of(credential: &Credential, hash: &[u8; 32]) -> Option<KeyEnd> {
    let Proof::ApiKey { keys, .. } = &credential.proof else { return None };
    let retiring = keys.retiring.as_ref()?;
    (retiring.sha256 == idm_types::hex(hash)).then_some(retiring.end)
}

fn hash(sha256: &str) -> Result<[u8; 32], String> {
    unhex(sha256).ok_or_else(|| "its hash is not SHA-256".to_owned())
}

/// The refusal of a key that has ended.
pub(crate) fn over(credential: &ObjectKey, id: &str, end: KeyEnd) -> Refusal {
    let (reason, verb) = match end.cause {
        EndCause::Revoked => (Reason::KeyRevoked, "was revoked"),
        EndCause::RotatedOut => (Reason::KeyRotatedOut, "was replaced"),
    };
    let since = if end.at.0 == 0 { String::new() } else { format!(", and is refused since {}", end.at.rfc3339()) };
    Refusal::new(reason, format!("the key {id} of Credential {credential} {verb}{since}"))
}

/// Checks that a key of a Credential, by its id, works at this time, and notes the use of one that is being replaced.
/// A key that is not among them was asked for elsewhere.
pub(crate) fn stands(
    credential: &ObjectKey,
    keys: &Keys,
    used: Option<&RetiringUse>,
    id: &str,
    (now, address): (Timestamp, IpAddr),
) -> Result<(), Refusal> {
    let Some(retiring) = keys.retiring.as_ref().filter(|key| key_id(&key.sha256) == id) else { return Ok(()) };
    if now >= retiring.end.at {
        return Err(over(credential, id, retiring.end));
    }
    if let Some(used) = used {
        used.note(now, address);
    }
    Ok(())
}

/// The time and the address of the last use of the older of two keys.
#[derive(Default)]
pub(crate) struct RetiringUse(Arc<LastUse>);

#[derive(Default)]
struct LastUse {
    /// 0 before the first time.
    at: AtomicU64,
    address: Mutex<Option<IpAddr>>,
}

impl RetiringUse {
    /// That of the same key, in another table.
    pub(crate) fn shared(&self) -> Self {
        Self(self.0.clone())
    }

    fn note(&self, now: Timestamp, address: IpAddr) {
        let before = self.0.at.load(Ordering::Relaxed);
        if now.0.saturating_sub(before) < NOTED_EVERY_MS && before != 0 {
            return;
        }
        self.0.at.store(now.0, Ordering::Relaxed);
        *self.0.address.lock().unwrap_or_else(PoisonError::into_inner) = Some(address);
    }

    /// The last use.
    pub(crate) fn last(&self) -> Option<(Timestamp, IpAddr)> {
        let address = (*self.0.address.lock().unwrap_or_else(PoisonError::into_inner))?;
        Some((Timestamp(self.0.at.load(Ordering::Relaxed)), address))
    }
}

/// The older of two keys of a Credential, as the gateway that reports it knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetiringReport {
    /// The Credential.
    pub credential: ObjectKey,
    /// The id of the key.
    pub key: String,
    /// The id of the newer one, which this gateway accepts; `None` where there is none.
    pub newer: Option<String>,
    /// The time and the address of the last use of the older one.
    pub last: Option<(Timestamp, IpAddr)>,
}
