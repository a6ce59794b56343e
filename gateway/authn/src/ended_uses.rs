//! Uses of keys that have ended, by Credential: who still sends an old key is found before it matters, and a leaked one
//! after it was revoked.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};

use idm_plan::ObjectKey;
use idm_types::{Reason, Refusal, visible};

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

    /// The counts in the Prometheus text format.
    pub fn render(&self, out: &mut String) {
        out.push_str(
            "# HELP idm_ended_keys_used_total Requests with a key that has ended, by the Credential whose key it was.\n\
             # TYPE idm_ended_keys_used_total counter\n",
        );
        for ((credential, reason), Counted { uses, owner }) in &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            let (namespace, name, owner) =
                (&credential.namespace, &credential.name, label(owner.as_deref().unwrap_or_default()));
            // Writing into a text cannot fail.
            let _ = writeln!(
                out,
                "idm_ended_keys_used_total{{namespace=\"{namespace}\",credential=\"{name}\",owner=\"{owner}\",\
                 reason=\"{reason}\"}} {uses}"
            );
        }
    }
}

/// A text as the value of a label: an owner is any text.
fn label(text: &str) -> String {
    visible(text).replace('\\', "\\\\").replace('"', "\\\"")
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
        let mut out = String::new();
        uses.render(&mut out);
        let of = |start: &str| out.lines().find(|line| line.contains(start)).unwrap_or_default().to_owned();
        assert_eq!(
            of("c0000"),
            "idm_ended_keys_used_total{namespace=\"shop\",credential=\"c0000\",owner=\"user:ana\",\
             reason=\"KeyRevoked\"} 2"
        );
        assert!(of("c0001").contains("owner=\"user:a\\\"b\\\\\\\\u{a}\""), "{}", of("c0001"));
        assert!(of("credential=\"\"").ends_with("} 5"), "{out}");
        assert_eq!(out.lines().count(), MAX_COUNTED + 3);
    }
}
