//! The shared memory of a namespace's gateways: identifiers that were used once, refresh tokens, revocations, wrong
//! guesses at passwords, and counters of limits.
//!
//! In: a [`Key`] and a few bytes. Out: whether it was present, or an error ([`StoreError`]) if that is unknown; the
//! answer is never guessed. There are two kinds: in this process ([`Store::in_process`]), or in Redis or Valkey
//! ([`Store::shared`]), where all pods see the same entries. No entry is stored under its own name or with secrets in
//! clear text: keys are hashes, and callers hash secret values before they store them. A server that hangs delays few
//! queries, for a second at most (`gate.rs`). Start at [`Store`]; `revoked.rs` is the part that every request reads,
//! without waiting.
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

mod begun;
mod board;
mod counters;
mod gate;
mod guesses;
mod in_process;
mod revoked;
mod shared;

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::digest::{Context, SHA256};
use idm_types::{Clock, Moment, Redacted, Timestamp};

use begun::Begun;
pub use board::{Board, BoardVersion};
pub use counters::{Counters, LimitCounts, OnLoss, PATIENCE, Taken, Taking};
pub use gate::Health;
pub use guesses::{GuessEnd, GuessKeys, GuessRules, GuessTurn};
use in_process::InProcess;
use revoked::Revocations;
pub use revoked::Stale;
use shared::{Manner, Shared};

/// The store could not answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct StoreError(pub(crate) String);

impl StoreError {
    /// For a reader who finds a value that it did not write.
    pub fn new(problem: impl Into<String>) -> Self {
        Self(problem.into())
    }
}

/// The key of an entry: a hash of its parts, so that none of them can be read back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key([u8; 32]);

impl Key {
    /// The key of these parts; the length of each is hashed too, so that no two lists of parts give the same key.
    pub fn of(parts: &[&str]) -> Self {
        let mut context = Context::new(&SHA256);
        for part in parts {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part.as_bytes());
        }
        Self(context.finish().as_ref().try_into().unwrap_or_default())
    }

    /// Its bytes.
    pub fn bytes(&self) -> [u8; 32] {
        self.0
    }

    /// As lower-case hexadecimal digits.
    pub fn hex(&self) -> String {
        idm_types::hex(&self.0)
    }

    pub(crate) fn from_hex(text: &str) -> Option<Self> {
        idm_types::unhex(text).map(Self)
    }
}

/// The address of a shared store.
#[derive(Clone, Debug)]
pub struct SharedOptions {
    /// `redis://HOST:PORT/DB`, or `rediss://` for TLS.
    pub url: String,
    /// The user, where the server has users.
    pub username: Option<String>,
    /// The password.
    pub password: Option<Redacted<String>>,
    /// Certificates to trust besides the system's, in PEM.
    pub ca_pem: Option<Vec<u8>>,
    /// The namespace that the keys belong to: namespaces do not share keys on one server.
    pub namespace: String,
}

fn begun(capacity: usize) -> Arc<Mutex<Begun>> {
    Arc::new(Mutex::new(Begun::new(capacity)))
}

/// A store; cheap to clone.
#[derive(Clone)]
pub struct Store {
    kind: Kind,
    /// Entries of unknown callers; with a shared store, only the keys of those that this pod wrote.
    begun: Arc<Mutex<Begun>>,
    revocations: Arc<Revocations>,
    clock: Clock,
}

#[derive(Clone)]
enum Kind {
    InProcess(Arc<InProcess>),
    Shared(Arc<Shared>),
}

impl Store {
    /// A store in this process, which ends with it.
    pub fn in_process() -> Self {
        Self::here_by(Clock::of_process())
    }

    /// The same with another clock, for tests.
    pub fn here_by(clock: Clock) -> Self {
        let revocations = Arc::new(Revocations::own());
        Self { kind: Kind::InProcess(Arc::default()), begun: begun(begun::CAPACITY), revocations, clock }
    }

    /// A store on a server. Does not wait for the server: until it answers, every query is an error. Must be called on
    /// the runtime that shall talk to the server; queries may come from any runtime.
    pub fn shared(options: SharedOptions) -> Result<Self, StoreError> {
        let revocations = Arc::new(Revocations::of_others());
        let shared = Arc::new(Shared::connect(options, Manner::USUAL)?);
        let clock = Clock::of_process();
        tokio::spawn(shared.clone().follow(Arc::downgrade(&revocations), clock.clone()));
        Ok(Self { kind: Kind::Shared(shared), begun: begun(begun::CAPACITY), revocations, clock })
    }

    /// This moment, at which the wall clock shows `now`: entries expire by a monotonic clock.
    pub fn moment(&self, now: Timestamp) -> Moment {
        self.clock.at(now)
    }

    /// The clock by which entries expire.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Whether other gateways see the same entries.
    pub fn is_shared(&self) -> bool {
        matches!(self.kind, Kind::Shared(_))
    }

    /// The health of the shared store; `None` where this process keeps all by itself.
    pub fn health(&self) -> Option<Health> {
        match &self.kind {
            Kind::InProcess(_) => None,
            Kind::Shared(shared) => Some(shared.health()),
        }
    }

    /// Claims a key for a while: true for the first who does, false for everyone else until it ends.
    pub async fn claim(&self, key: &Key, for_ms: u64, now: Timestamp) -> Result<bool, StoreError> {
        match &self.kind {
            Kind::InProcess(here) => here.claim(key, for_ms, self.moment(now)),
            Kind::Shared(shared) => shared.clone().claim(*key, for_ms).await,
        }
    }

    /// Reads the value of a key.
    pub async fn get(&self, key: &Key, now: Timestamp) -> Result<Option<Vec<u8>>, StoreError> {
        match &self.kind {
            Kind::InProcess(here) => Ok(here.get(key, self.moment(now))),
            Kind::Shared(shared) => shared.clone().get(*key).await,
        }
    }

    /// Reads the value of a key, and sets its expiry to this time from now.
    pub async fn renew(&self, key: &Key, for_ms: u64, now: Timestamp) -> Result<Option<Vec<u8>>, StoreError> {
        match &self.kind {
            Kind::InProcess(here) => Ok(here.renew(key, for_ms, self.moment(now))),
            Kind::Shared(shared) => shared.clone().renew(*key, for_ms).await,
        }
    }

    /// Reads the value of a key, or sets this one if there is none. It expires after this time in both cases.
    pub async fn settle(&self, key: &Key, value: Vec<u8>, for_ms: u64, now: Timestamp) -> Result<Vec<u8>, StoreError> {
        match &self.kind {
            Kind::InProcess(here) => here.settle(key, value, for_ms, self.moment(now)),
            Kind::Shared(shared) => shared.clone().settle(*key, value, for_ms).await,
        }
    }

    /// Stores a value for a while, in place of any other.
    pub async fn put(&self, key: &Key, value: Vec<u8>, for_ms: u64, now: Timestamp) -> Result<(), StoreError> {
        match &self.kind {
            Kind::InProcess(here) => here.put(key, value, for_ms, self.moment(now)),
            Kind::Shared(shared) => shared.clone().put(*key, value, for_ms).await,
        }
    }

    fn note_begun(&self, from: IpAddr, key: &Key, value: Vec<u8>, for_ms: u64, now: Timestamp) -> Option<Key> {
        let now = self.moment(now).uptime;
        let mut begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        begun.put(from, *key, value, now.after(for_ms), now)
    }

    /// Stores for a while the state of a sign-in that an unknown caller at this address began. Strangers can begin any
    /// number of sign-ins: each gateway keeps a limited number of entries, and removes the oldest of the network with
    /// the most. Only [`Store::begun`] finds such an entry.
    pub async fn begin(
        &self,
        from: IpAddr,
        key: &Key,
        value: Vec<u8>,
        for_ms: u64,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        match &self.kind {
            Kind::InProcess(_) => drop(self.note_begun(from, key, value, for_ms, now)),
            Kind::Shared(shared) => {
                if let Some(forgotten) = self.note_begun(from, key, Vec::new(), for_ms, now) {
                    shared.clone().remove(forgotten).await?;
                }
                shared.clone().put(*key, value, for_ms).await?;
            }
        }
        Ok(())
    }

    /// Claims a key for a while for an unknown caller at this address: as [`Store::claim`], but the claim may be
    /// removed early, like the state of a sign-in. A caller who authenticates afterwards makes a permanent claim.
    pub async fn claim_begun(&self, from: IpAddr, key: &Key, for_ms: u64, now: Timestamp) -> Result<bool, StoreError> {
        match &self.kind {
            Kind::InProcess(_) => {
                let uptime = self.moment(now).uptime;
                let mut begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
                if begun.get(key, uptime).is_some() {
                    return Ok(false);
                }
                begun.put(from, *key, Vec::new(), uptime.after(for_ms), uptime);
                Ok(true)
            }
            Kind::Shared(shared) => {
                if let Some(forgotten) = self.note_begun(from, key, Vec::new(), for_ms, now) {
                    shared.clone().remove(forgotten).await?;
                }
                shared.clone().claim(*key, for_ms).await
            }
        }
    }

    /// Reads the entry of an unknown caller, unless it was displaced.
    pub async fn begun(&self, key: &Key, now: Timestamp) -> Result<Option<Vec<u8>>, StoreError> {
        match &self.kind {
            Kind::InProcess(_) => {
                let begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
                Ok(begun.get(key, self.moment(now).uptime))
            }
            Kind::Shared(shared) => shared.clone().get(*key).await,
        }
    }

    /// Replaces exactly this value by another, atomically; false when the value is a different one. The expiry stays.
    pub async fn replace(
        &self,
        key: &Key,
        expected: &[u8],
        value: Vec<u8>,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        match &self.kind {
            Kind::InProcess(here) => Ok(here.replace(key, expected, value, self.moment(now))),
            Kind::Shared(shared) => shared.clone().replace(*key, expected.to_vec(), value).await,
        }
    }

    /// Removes a key.
    pub async fn remove(&self, key: &Key) -> Result<(), StoreError> {
        match &self.kind {
            Kind::InProcess(here) => Ok(here.remove(key)),
            Kind::Shared(shared) => shared.clone().remove(*key).await,
        }
    }

    /// The sum that all gateways added to a counter in the current span, and the milliseconds until the span ends. A
    /// store of this process has no counters and returns zeros: its users must count for themselves.
    pub async fn count(&self, key: &Key) -> Result<(u64, u64), StoreError> {
        match &self.kind {
            Kind::InProcess(_) => Ok((0, 0)),
            Kind::Shared(shared) => shared.clone().count(*key).await,
        }
    }

    /// Adds to a counter in the background. The counter restarts with each span of this length by the server's clock;
    /// the gateways' clocks do not matter.
    pub fn add_soon(&self, key: &Key, number: u64, span_ms: u64) {
        if let Kind::Shared(shared) = &self.kind {
            shared.clone().add_soon(*key, number, span_ms);
        }
    }

    /// Revokes a key until `until` at least, on every gateway within a second.
    pub async fn revoke(&self, key: &Key, until: Timestamp, now: Timestamp) -> Result<(), StoreError> {
        if let Kind::Shared(shared) = &self.kind {
            shared.clone().revoke(*key, until, now).await?;
        }
        self.revocations.add(*key, until, self.moment(now));
        Ok(())
    }

    /// Tells of every revocation that becomes known here.
    pub fn revoked(&self) -> tokio::sync::watch::Receiver<()> {
        self.revocations.changed()
    }

    /// Whether a key was revoked. Answers at once, without waiting.
    pub fn is_revoked(&self, key: &Key, now: Timestamp) -> Result<bool, Stale> {
        self.revocations.contains(key, self.moment(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// More than the capacity of the store in this process.
    #[tokio::test]
    async fn a_flood_of_what_strangers_begin_refuses_no_visitor_no_claim_and_no_refresh_token() {
        let (store, now) = (Store::in_process(), Timestamp(1_000_000));
        let at = |number: usize| IpAddr::V4(u32::try_from(number).unwrap().into());
        let (honest, early) = (at(0), Key::of(&["early"]));
        store.begin(honest, &early, b"early".to_vec(), 900_000, now).await.unwrap();
        let family = Key::of(&["family"]);
        store.put(&family, b"1".to_vec(), 900_000, now).await.unwrap();
        assert_eq!(store.claim(&Key::of(&["proof"]), 900_000, now).await, Ok(true));
        for number in 1..=in_process::MAX_ENTRIES + 1 {
            // A few networks with many entries each.
            let (from, key) = (at(1 + number % 1000), Key::of(&["flood", &number.to_string()]));
            if number % 2 == 0 {
                store.begin(from, &key, Vec::new(), 900_000, now).await.unwrap();
            } else {
                assert_eq!(store.claim_begun(from, &key, 900_000, now).await, Ok(true));
            }
        }
        assert_eq!(store.begun(&early, now).await.unwrap().as_deref(), Some(&b"early"[..]), "who came before");
        let late = Key::of(&["late"]);
        store.begin(honest, &late, b"late".to_vec(), 900_000, now).await.unwrap();
        assert_eq!(store.begun(&late, now).await.unwrap().as_deref(), Some(&b"late"[..]), "who comes now");
        assert_eq!(store.claim_begun(honest, &Key::of(&["state"]), 900_000, now).await, Ok(true));
        assert_eq!(store.claim_begun(honest, &Key::of(&["state"]), 900_000, now).await, Ok(false));
        assert_eq!(store.claim(&Key::of(&["proof"]), 900_000, now).await, Ok(false), "what was used is not forgotten");
        assert_eq!(store.claim(&Key::of(&["another proof"]), 900_000, now).await, Ok(true));
        assert_eq!(store.replace(&family, b"1", b"2".to_vec(), now).await, Ok(true));
        store.put(&Key::of(&["another family"]), b"1".to_vec(), 900_000, now).await.unwrap();
    }

    #[test]
    fn keys_of_different_parts_differ_and_read_back() {
        assert_ne!(Key::of(&["ab", "c"]), Key::of(&["a", "bc"]));
        let key = Key::of(&["x"]);
        assert_eq!(Key::from_hex(&key.hex()), Some(key));
        assert_eq!(Key::from_hex("00"), None);
    }
}
