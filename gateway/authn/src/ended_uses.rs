//! Uses of keys that have ended, by Credential: who still sends an old key is found before it matters, and a leaked one
//! after it was revoked.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use idm_plan::ObjectKey;
use idm_types::{Reason, Refusal};

/// The most Credentials that are told apart; the uses of further ones are counted together.
const MAX_COUNTED: usize = 1000;

/// See the module. Only refused requests come here, each of which showed the right key.
#[derive(Default)]
pub struct EndedUses(Mutex<BTreeMap<(ObjectKey, Reason), Counted>>);

#[derive(Default)]
struct Counted {
    uses: u64,
    owner: Option<String>,
}

impl EndedUses {
    /// Counts a refusal, if it is that of a key that has ended.
    pub(crate) fn note(&self, credential: &ObjectKey, owner: Option<&str>, refusal: &Refusal) {
        if !refusal.reason.is_always_told() {
            return;
        }
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut key = (credential.clone(), refusal.reason);
        if all.len() >= MAX_COUNTED && !all.contains_key(&key) {
            key.0 = ObjectKey::new("", "");
        }
        let counted = all.entry(key).or_default();
        counted.uses += 1;
        counted.owner = owner.map(str::to_owned);
    }

    /// The counts: Credential, owner, reason, uses. An empty name stands for all that are not told apart.
    pub fn counts(&self) -> Vec<(ObjectKey, Option<String>, Reason, u64)> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = |((credential, reason), counted): (&(ObjectKey, Reason), &Counted)| {
            (credential.clone(), counted.owner.clone(), *reason, counted.uses)
        };
        all.iter().map(count).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r64_uses_are_counted_by_credential_and_bounded() {
        let uses = EndedUses::default();
        let revoked = Refusal::new(Reason::KeyRevoked, "");
        for n in 0..MAX_COUNTED + 5 {
            uses.note(&ObjectKey::new("shop", format!("c{n:04}")), Some("user:a\"b\\\n"), &revoked);
        }
        uses.note(&ObjectKey::new("shop", "c0000"), Some("user:ana"), &revoked);
        uses.note(&ObjectKey::new("shop", "c0000"), None, &Refusal::new(Reason::UnknownApiKey, ""));
        let counts = uses.counts();
        let of =
            |name: &str| counts.iter().filter(|(credential, ..)| credential.name == name).cloned().collect::<Vec<_>>();
        let key = |name: &str| ObjectKey::new("shop", name);
        assert_eq!(of("c0000"), [(key("c0000"), Some("user:ana".to_owned()), Reason::KeyRevoked, 2)]);
        assert_eq!(of("").iter().map(|(.., uses)| uses).collect::<Vec<_>>(), [&5]);
        assert_eq!(counts.len(), MAX_COUNTED + 1);
    }
}
