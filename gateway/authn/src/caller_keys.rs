//! The keys with which callers sign, of the Credentials in force: found by their names, each bound to its algorithm.

use std::sync::Arc;

use foldhash::HashMap;
use idm_jose::{Jwk, VerifyingKey};
use idm_plan::{CallerKey, KeyMaterial, ObjectKey, Proof, Secrets};
use idm_types::{Reason, Refusal, Timestamp};
use sha2::{Digest, Sha256};

/// One key, ready to verify.
pub(crate) struct ArmedKey {
    plan: CallerKey,
    /// SHA-256 of the secret; `None` for public keys.
    secret: Option<[u8; 32]>,
    key: VerifyingKey,
}

impl ArmedKey {
    /// The key as it was configured.
    pub(crate) fn plan(&self) -> &CallerKey {
        &self.plan
    }

    /// The key that verifies.
    pub(crate) fn key(&self) -> &VerifyingKey {
        &self.key
    }

    fn arm(plan: &CallerKey, secrets: &Secrets) -> Result<Self, String> {
        let broken = |error: &dyn std::fmt::Display| format!("key `{}`: {error}", plan.id);
        let key = match &plan.material {
            KeyMaterial::Public(text) => {
                let jwk = Jwk::parse(text.as_bytes()).map_err(|error| broken(&error))?;
                VerifyingKey::of_public(&jwk, plan.algorithm)
            }
            KeyMaterial::Secret(handle) => {
                let secret = secrets.wanted(handle).map_err(|error| broken(&error))?;
                VerifyingKey::of_secret(secret.reveal(), plan.algorithm)
            }
        };
        Ok(Self { plan: plan.clone(), secret: fingerprint(plan, secrets), key: key.map_err(|error| broken(&error))? })
    }
}

fn fingerprint(plan: &CallerKey, secrets: &Secrets) -> Option<[u8; 32]> {
    match &plan.material {
        KeyMaterial::Public(_) => None,
        KeyMaterial::Secret(handle) => secrets.get(handle).map(|secret| Sha256::digest(secret.reveal()).into()),
    }
}

/// One value for all secrets of a proof; `None` where it has none. It changes when one of them does.
pub(crate) fn secrets_of(proof: &Proof, secrets: &Secrets) -> Option<[u8; 32]> {
    let mut all = proof.caller_keys().iter().filter_map(|key| fingerprint(key, secrets)).peekable();
    all.peek()?;
    Some(all.fold(Sha256::new(), |hash, one| hash.chain_update(one)).finalize().into())
}

/// The keys of a namespace's Credentials by their names, with the position of the Credential.
#[derive(Default)]
pub(crate) struct CallerKeys(HashMap<String, (usize, Arc<ArmedKey>)>);

impl CallerKeys {
    /// Adds the keys of the Credential at this position; one that did not change is the one of `before`. The error
    /// shows no secret.
    pub(crate) fn add(
        &mut self,
        proof: &Proof,
        position: usize,
        secrets: &Secrets,
        before: Option<&Self>,
    ) -> Result<(), String> {
        for plan in proof.caller_keys() {
            let known = before.and_then(|before| before.0.get(&plan.id)).map(|(_, key)| key);
            let known = known.filter(|key| key.plan == *plan && key.secret == fingerprint(plan, secrets));
            let key = match known {
                Some(known) => known.clone(),
                None => Arc::new(ArmedKey::arm(plan, secrets)?),
            };
            self.0.insert(plan.id.clone(), (position, key));
        }
        Ok(())
    }

    /// The key of this name, and the position of its Credential.
    pub(crate) fn find(&self, id: &str) -> Option<(usize, &ArmedKey)> {
        self.0.get(id).map(|(position, key)| (*position, &**key))
    }
}

/// Checks that a key of a Credential works at this time. Only who proved to have it is told.
pub(crate) fn is_live(credential: &ObjectKey, key: &CallerKey, now: Timestamp) -> Result<(), Refusal> {
    match key.expires.filter(|expires| now >= *expires) {
        Some(at) => Err(Refusal::new(
            Reason::CredentialExpired,
            format!("the key `{}` of Credential {credential} expired at {}", key.id, at.rfc3339()),
        )),
        None => Ok(()),
    }
}
