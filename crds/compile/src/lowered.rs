//! API keys that were compiled before: in a namespace with many, a change of one compiles that one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use idm_api::v1alpha1::CredentialSpec;
use idm_plan::Credential;

use crate::key_secrets::{KnownKey, hashes_suffice};
use crate::{Object, World};

/// The Credentials that nothing but their object and their key had a part in, as they were compiled last. Shared by the
/// worlds of one namespace.
#[derive(Clone, Debug, Default)]
pub struct LoweredCredentials(Arc<Mutex<HashMap<usize, Known>>>);

#[derive(Debug)]
struct Known {
    /// Held, so that no other object has its address.
    object: Arc<Object<CredentialSpec>>,
    sha256: [u8; 32],
    credential: Arc<Credential>,
}

/// The state of one compilation.
pub(crate) struct Lowering<'w> {
    world: &'w World,
    before: HashMap<usize, Known>,
    now: HashMap<usize, Known>,
}

impl<'w> Lowering<'w> {
    pub(crate) fn begin(world: &'w World) -> Self {
        let before = std::mem::take(&mut *world.lowered.0.lock().unwrap_or_else(PoisonError::into_inner));
        Self { world, now: HashMap::with_capacity(before.len()), before }
    }

    /// The key of a Credential, if only it and the object decide what it compiles to.
    fn key(&self, object: &Object<CredentialSpec>) -> Option<&'w KnownKey> {
        let reference = object.spec.secret_ref.as_ref()?;
        let world = self.world;
        if !hashes_suffice(&object.spec)
            || world.secrets.contains_key(&reference.name)
            || world.register.record(&object.meta.name).is_some()
        {
            return None;
        }
        let secret = world.key_secrets.get(&reference.name)?;
        let key = secret.known(reference.key.as_deref().unwrap_or("key"))?;
        let is_ended = !world.register.has_no_ends() && world.register.end_of(&key.sha256()).is_some();
        (!is_ended).then_some(key)
    }

    /// The Credential as it was compiled before; the same value, so that nobody compares it.
    pub(crate) fn known(&mut self, object: &Arc<Object<CredentialSpec>>) -> Option<Arc<Credential>> {
        let key = self.key(object)?;
        let known = self.before.remove(&address(object)).filter(|known| known.sha256 == *key.hash())?;
        let credential = known.credential.clone();
        self.now.insert(address(object), known);
        Some(credential)
    }

    /// Keeps what was compiled without findings and ended keys.
    pub(crate) fn keep(&mut self, object: &Arc<Object<CredentialSpec>>, credential: &Arc<Credential>) {
        if let Some(key) = self.key(object) {
            let known = Known { object: object.clone(), sha256: *key.hash(), credential: credential.clone() };
            self.now.insert(address(&known.object), known);
        }
    }

    pub(crate) fn end(self) {
        *self.world.lowered.0.lock().unwrap_or_else(PoisonError::into_inner) = self.now;
    }
}

fn address(object: &Arc<Object<CredentialSpec>>) -> usize {
    Arc::as_ptr(object).addr()
}

#[cfg(test)]
mod tests {
    use idm_types::{ApiKey, Redacted, Timestamp};

    use super::*;
    use crate::{KeySecret, Settings, compile};

    fn world() -> World {
        let mut world = World::new("shop", Settings::default());
        for name in ["a", "b"] {
            world.insert(serde_json::json!({
                "apiVersion": "identity-manager.io/v1alpha1", "kind": "Credential",
                "metadata": {"name": name, "namespace": "shop"},
                "spec": {"apiKey": {}, "secretRef": {"name": name}},
            }));
            set(&mut world, name, name.as_bytes()[0]);
        }
        world
    }

    fn set(world: &mut World, name: &str, key: u8) {
        let key = Redacted::new(ApiKey::from_random([key; 32]).reveal().as_bytes().to_vec());
        let secret = KeySecret::of(&[("key".to_owned(), key)].into());
        Arc::make_mut(&mut world.key_secrets).insert(name.into(), secret);
    }

    #[test]
    fn what_did_not_change_is_the_same_value_and_what_did_is_compiled() {
        let mut world = world();
        let first = compile(&world, None).credentials;
        let again = compile(&world, None).credentials;
        assert!(first.all.iter().zip(&again.all).all(|(a, b)| Arc::ptr_eq(a, b)) && first.all.len() == 2);
        set(&mut world, "a", 99);
        let other_key = compile(&world, None).credentials;
        assert!(other_key.all[0] != first.all[0] && Arc::ptr_eq(&other_key.all[1], &first.all[1]));
        let mut object = Object::clone(&world.credentials[1]);
        object.spec.suspend = Some(true);
        world.credentials[1] = object.into();
        let suspended = compile(&world, None).credentials;
        assert!(suspended.all[1].suspended && Arc::ptr_eq(&suspended.all[0], &other_key.all[0]));
        Arc::make_mut(&mut world.key_secrets).remove("a");
        assert_eq!(compile(&world, None).credentials.all.len(), 1);
    }

    #[test]
    fn a_key_that_was_compiled_and_is_revoked_since_is_refused() {
        let mut world = world();
        let idm_plan::Proof::ApiKey { keys, .. } = compile(&world, None).credentials.all[0].proof.clone() else {
            panic!("it is an API key")
        };
        let sha256 = keys.current.unwrap().sha256;
        world.register.revoke("a", &sha256, Timestamp(7), None).unwrap();
        let revoked = compile(&world, None).credentials;
        assert_eq!(revoked.ended.len(), 1);
        let live = revoked.all.iter().any(
            |one| matches!(&one.proof, idm_plan::Proof::ApiKey { keys, .. } if keys.all().any(|(of, _)| of == sha256)),
        );
        assert!(!live);
    }

    #[test]
    fn two_with_the_same_key_are_one_whatever_was_compiled_before() {
        let mut world = world();
        assert_eq!(compile(&world, None).credentials.all.len(), 2);
        set(&mut world, "b", b'a');
        let both = compile(&world, None);
        assert_eq!(both.credentials.all.len(), 1);
        assert!(
            both.report.errors().any(|finding| finding.object.name == "b" && finding.cause == crate::Cause::Conflicted)
        );
    }
}
