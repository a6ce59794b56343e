//! The register of a namespace's keys: which key of a Credential came before its Secret's, which keys have ended, and
//! which requests for a new key were answered.
//!
//! The operator keeps it in its own namespace, where nobody who restores, re-applies or deletes the objects of the
//! namespace can change it; a folder has it as a Secret of its own. It holds hashes and no key. The end of a key never
//! moves to a later time, and an ended key is forgotten only when it could not be used any more anyway.

use std::collections::BTreeMap;

use idm_plan::{EndCause, KeyEnd};
use idm_types::Timestamp;
use serde::{Deserialize, Serialize};

/// The Secret of the register in a folder.
pub const REGISTER_SECRET: &str = "idm-credential-keys";
/// Its key there.
pub const REGISTER_FIELD: &str = "register.json";
/// Ended keys of a namespace: with their hashes this many fit into a bundle beside everything else.
const MAX_ENDED: usize = 4096;
/// Answered requests of a Credential that are remembered, so that a request which returns is not a new one.
const MAX_REQUESTS: usize = 16;
/// The Credentials whose ages are remembered: more have no room in a Secret.
const MAX_AGES: usize = 5000;
/// An ended key is kept for this long after it could not be used any more: backups are older than that seldom.
const MARGIN_MS: u64 = 90 * 86_400_000;

/// No further key can be ended without forgetting a revoked one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the namespace has {MAX_ENDED} revoked keys that never expire, and no more are remembered: give Credentials an \
     `expireTime`, or move some to another namespace"
)]
pub struct RegisterFull;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Register {
    /// By the name of the Credential.
    #[serde(default)]
    credentials: BTreeMap<String, KeyRecord>,
    /// By the hash of the key.
    #[serde(default)]
    ended: BTreeMap<String, Ended>,
}

/// The known keys of one Credential.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyRecord {
    /// The newest key and the time since when it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current: Option<Known>,
    /// The key before it; its end is among the ended ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retiring: Option<Known>,
    /// A rotation that has begun: the old key has its end, and the Secret may not have the new one yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending: Option<Pending>,
    /// The last requests that were answered.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub requests: Vec<String>,
}

/// A key and the time since when it is known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Known {
    /// Its SHA-256 in hexadecimal.
    pub sha256: String,
    /// Since when.
    pub since: Timestamp,
}

/// A rotation that has begun.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pending {
    /// The request; `None` for one of the schedule.
    pub request: Option<String>,
    /// The hash that the Secret had when it began.
    pub replaces: String,
}

/// A key that ends or has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ended {
    /// The Credential that it was a key of.
    pub credential: String,
    /// Its end.
    pub end: KeyEnd,
    /// The expiry of the Credential; `None`: never.
    pub natural: Option<Timestamp>,
}

impl Register {
    /// Reads the text of a register. The error says what to do.
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        let register: Self = serde_json::from_slice(text).map_err(|_| {
            "must be a register that `idm credential` wrote; restore it from version control".to_owned()
        })?;
        let is_hash = |text: &String| text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if !register.ended.keys().all(is_hash) || register.ended.len() > MAX_ENDED {
            return Err(format!(
                "must hold at most {MAX_ENDED} ended keys, each by its SHA-256 in lower-case hexadecimal"
            ));
        }
        Ok(register)
    }

    /// Its text.
    pub fn text(&self) -> String {
        // Maps with keys of text: writing them cannot fail.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// The known keys of a Credential.
    pub fn record(&self, credential: &str) -> Option<&KeyRecord> {
        self.credentials.get(credential)
    }

    /// The end of a key, whichever Credential has it now.
    pub fn end_of(&self, sha256: &str) -> Option<KeyEnd> {
        self.ended.get(sha256).map(|ended| ended.end)
    }

    /// Whether no key ends or has ended.
    pub(crate) fn has_no_ends(&self) -> bool {
        self.ended.is_empty()
    }

    /// The keys that end or have ended, by hash.
    pub fn ended(&self) -> impl Iterator<Item = (&str, &Ended)> {
        self.ended.iter().map(|(sha256, ended)| (sha256.as_str(), ended))
    }

    /// Whether the age of the key of one more Credential can be remembered.
    pub fn has_room_for(&self, credential: &str) -> bool {
        self.credentials.contains_key(credential) || self.credentials.len() < MAX_AGES
    }

    /// Notes the key that a Credential's Secret holds. Returns whether that was news.
    pub fn see(&mut self, credential: &str, sha256: &str, since: Timestamp) -> bool {
        let record = self.credentials.entry(credential.to_owned()).or_default();
        if record.current.as_ref().is_some_and(|known| known.sha256 == sha256) {
            return false;
        }
        record.current = Some(Known { sha256: sha256.to_owned(), since });
        true
    }

    /// Ends a key for good. A key that has ended before stays ended since then. Returns whether anything changed.
    pub fn revoke(
        &mut self,
        credential: &str,
        sha256: &str,
        now: Timestamp,
        natural: Option<Timestamp>,
    ) -> Result<bool, RegisterFull> {
        if self.end_of(sha256).is_some_and(|end| end.cause == EndCause::Revoked && end.at <= now) {
            return Ok(false);
        }
        self.end(credential, sha256, KeyEnd { at: now, cause: EndCause::Revoked }, natural, now)?;
        Ok(true)
    }

    /// Begins to replace the key of a Credential that its Secret holds: from here on the old key has its end, at the
    /// expiry of the Credential or after the overlap, whichever is first; without an overlap it is revoked. A key that
    /// was still retiring ends now: two are the most. A request that was answered before begins nothing.
    pub fn begin(
        &mut self,
        credential: &str,
        replaces: &str,
        request: Option<&str>,
        overlap_ms: u64,
        now: Timestamp,
        natural: Option<Timestamp>,
    ) -> Result<bool, RegisterFull> {
        let record = self.credentials.get(credential).cloned().unwrap_or_default();
        let answered = request.is_some_and(|request| record.requests.iter().any(|known| known == request));
        if answered || record.pending.is_some() {
            return Ok(false);
        }
        let is_over = self.end_of(replaces).is_some_and(|end| end.at <= now);
        if !is_over {
            if let Some(before) = record.retiring.as_ref().filter(|before| before.sha256 != replaces) {
                self.end(credential, &before.sha256, KeyEnd { at: now, cause: EndCause::RotatedOut }, natural, now)?;
            }
            let end = match overlap_ms {
                0 => KeyEnd { at: now, cause: EndCause::Revoked },
                overlap => {
                    let at = Timestamp(now.0.saturating_add(overlap));
                    KeyEnd { at: natural.map_or(at, |natural| natural.min(at)), cause: EndCause::RotatedOut }
                }
            };
            self.end(credential, replaces, end, natural, now)?;
        }
        let record = self.credentials.entry(credential.to_owned()).or_default();
        if !is_over {
            let since =
                record.current.as_ref().filter(|known| known.sha256 == replaces).map_or(now, |known| known.since);
            record.retiring = Some(Known { sha256: replaces.to_owned(), since });
        }
        record.pending = Some(Pending { request: request.map(str::to_owned), replaces: replaces.to_owned() });
        Ok(true)
    }

    /// Ends a rotation: the Secret holds the new key.
    pub fn finish(&mut self, credential: &str, sha256: &str, now: Timestamp) {
        let record = self.credentials.entry(credential.to_owned()).or_default();
        let Some(pending) = record.pending.take() else { return };
        record.requests.extend(pending.request);
        let excess = record.requests.len().saturating_sub(MAX_REQUESTS);
        record.requests.drain(..excess);
        record.current = Some(Known { sha256: sha256.to_owned(), since: now });
    }

    /// Forgets what is not needed any more: retiring keys that have ended (their ends stay), records of Credentials
    /// that are gone, and ends of keys that could not be used any more. `exists` tells whether a Credential is there,
    /// and its expiry. Returns whether anything changed.
    pub fn tidy(&mut self, now: Timestamp, exists: impl Fn(&str) -> Option<Option<Timestamp>>) -> bool {
        let before = self.clone();
        for ended in self.ended.values_mut() {
            // An expiry that was moved to a later time, or removed, moves the end of the memory, too; never back.
            if let Some(natural) = exists(&ended.credential) {
                ended.natural = ended.natural.zip(natural).map(|(old, new)| old.max(new));
            }
        }
        let is_over = |sha256: &str| self.ended.get(sha256).is_some_and(|ended| ended.end.at <= now);
        for record in self.credentials.values_mut() {
            if record.retiring.as_ref().is_some_and(|known| is_over(&known.sha256)) {
                record.retiring = None;
            }
        }
        self.credentials.retain(|name, _| exists(name).is_some());
        self.ended.retain(|_, ended| now < ended.forgotten_at());
        *self != before
    }

    /// Takes over a newer state of the same register: an end that one of them has is kept, and so are the newer one's
    /// answers to requests.
    pub fn absorb(&mut self, other: &Self) {
        self.credentials.extend(other.credentials.iter().map(|(name, record)| (name.clone(), record.clone())));
        for (sha256, ended) in &other.ended {
            let mine = self.ended.entry(sha256.clone()).or_insert_with(|| ended.clone());
            mine.end = KeyEnd { at: mine.end.at.min(ended.end.at), cause: mine.end.cause.min(ended.end.cause) };
            mine.natural = mine.natural.zip(ended.natural).map(|(a, b)| a.max(b));
        }
    }

    /// Gives a key its end. One that it has already is never moved to a later time.
    pub fn end(
        &mut self,
        credential: &str,
        sha256: &str,
        end: KeyEnd,
        natural: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<(), RegisterFull> {
        if let Some(known) = self.ended.get_mut(sha256) {
            // Never later; a revocation of what was rotated out already keeps its time and says more.
            let at = known.end.at.min(end.at);
            known.end = KeyEnd { at, cause: known.end.cause.min(end.cause) };
            known.natural = known.natural.zip(natural).map(|(old, new)| old.max(new));
            return Ok(());
        }
        if self.ended.len() >= MAX_ENDED {
            let oldest = self.ended.iter().filter(|(_, of)| of.end.cause == EndCause::RotatedOut && of.end.at <= now);
            let oldest = oldest.min_by_key(|(_, of)| of.end.at).map(|(sha256, _)| sha256.clone());
            self.ended.remove(&oldest.ok_or(RegisterFull)?);
        }
        self.ended.insert(sha256.to_owned(), Ended { credential: credential.to_owned(), end, natural });
        Ok(())
    }
}

impl Ended {
    /// The time from which on it need not be remembered.
    fn forgotten_at(&self) -> Timestamp {
        let of_rotation = (self.end.cause == EndCause::RotatedOut).then_some(self.end.at);
        let last = self.natural.into_iter().chain(of_rotation).min();
        last.map_or(Timestamp(u64::MAX), |last| Timestamp(last.max(self.end.at).0.saturating_add(MARGIN_MS)))
    }
}

/// A span of time as commands and annotations write it: see [`parse_long_span`]; at most a year.
pub fn parse_span(text: &str) -> Option<u64> {
    parse_long_span(text).filter(|span| *span <= 366 * 86_400_000)
}

/// A span of time of any length: `0`, or a whole number with `s`, `m`, `h` or `d`, in milliseconds.
pub fn parse_long_span(text: &str) -> Option<u64> {
    if text == "0" {
        return Some(0);
    }
    let unit = text.chars().next_back()?;
    let number: u64 = text.strip_suffix(unit)?.parse().ok()?;
    number.checked_mul(match unit {
        's' => 1000,
        'm' => 60_000,
        'h' => 3_600_000,
        'd' => 86_400_000,
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
