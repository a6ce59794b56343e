//! argon2id hashes of the passwords in Secrets. They are cached, because each one costs tens of milliseconds. They are
//! computed when the Secrets of a world have been read; compiling looks them up.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use argon2::password_hash::{PasswordHasher, SaltString};
use argon2::{Algorithm, Argon2, Params, Version};
use sha2::{Digest, Sha256};

use crate::World;
use crate::lower::credential::clear_password;

/// Memory in KiB, passes and lanes, as OWASP recommends for argon2id.
const COST: (u32, u32, u32) = (19_456, 2, 1);

impl World {
    /// Hashes the passwords of its Credentials that are in clear text; hashes in [`World::hashes`] are not computed
    /// again. Call this when the Secrets have been read: without it a Credential with such a password cannot be used.
    pub fn hash_passwords(&mut self) {
        let of_credentials = self.credentials.iter().filter_map(|credential| {
            let password = clear_password(self, credential)?;
            let hash = self.hashes.of(&credential.meta.uid, password.reveal().as_bytes())?;
            Some((credential.meta.name.clone(), hash))
        });
        self.password_hashes = of_credentials.collect();
    }
}

/// The hashes computed so far, by their inputs. Shared by the worlds of one process.
#[derive(Clone, Debug, Default)]
pub struct PasswordHashes(Arc<Mutex<HashMap<[u8; 32], String>>>);

impl PasswordHashes {
    /// The hash in PHC form. The salt is derived from the Credential's uid: it is distinct for each Credential and the
    /// same each time, so that compiling one world twice gives the same plan. `None` when argon2 refuses the password's
    /// length.
    pub fn of(&self, uid: &str, password: &[u8]) -> Option<String> {
        let salt = Sha256::digest([b"idm password salt\0", uid.as_bytes()].concat());
        let made_of: [u8; 32] = Sha256::new().chain_update(salt).chain_update(password).finalize().into();
        if let Some(known) = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&made_of) {
            return Some(known.clone());
        }
        let (memory, passes, lanes) = COST;
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::new(memory, passes, lanes, None).ok()?);
        let salt = SaltString::encode_b64(salt.get(..16)?).ok()?;
        let hash = argon2.hash_password(password, &salt).ok()?.to_string();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(made_of, hash.clone());
        Some(hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_password_gives_the_same_hash_for_one_credential_and_another_for_the_next() {
        let hashes = PasswordHashes::default();
        let first = hashes.of("a", b"secret").unwrap();
        assert!(first.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{first}");
        assert_eq!(PasswordHashes::default().of("a", b"secret").unwrap(), first);
        assert_ne!(hashes.of("b", b"secret").unwrap(), first);
    }

    /// Compiling must not be slow: it uses only hashes that were computed before.
    #[test]
    fn compiling_looks_hashes_up_and_makes_none() {
        let mut world = World::new("shop", crate::Settings::default());
        world.insert(serde_json::json!({
            "apiVersion": "identity-manager.io/v1alpha1", "kind": "Credential",
            "metadata": {"name": "ana", "namespace": "shop", "uid": "u"},
            "spec": {"password": {}, "secretRef": {"name": "ana"}},
        }));
        let password = idm_types::Redacted::new(b"correct horse".to_vec());
        world.secrets.insert("ana".into(), [("password".to_owned(), password)].into());
        let without = crate::compile(&world, None);
        assert!(without.credentials.all.is_empty());
        let told: Vec<_> = without.report.errors().map(|finding| finding.message.clone()).collect();
        assert_eq!(told, ["the password cannot be hashed"]);

        world.hash_passwords();
        let compiled = crate::compile(&world, None);
        let wanted = world.hashes.of("u", b"correct horse").unwrap();
        let proof = compiled.credentials.all.first().map(|credential| &credential.proof);
        assert!(matches!(proof, Some(idm_plan::Proof::Password { phc, .. }) if *phc == wanted));
    }
}
