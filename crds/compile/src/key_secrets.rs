//! The part of a Secret with API keys of our own form that compiling needs: their hashes, and no key. A holder of many
//! Secrets keeps this of them.

use std::sync::Arc;

use idm_types::{ApiKey, hex};
use sha2::{Digest, Sha256};

use crate::{Cause, SecretValues, World};

/// The fields of a Secret, each with the key that it holds; `None` where it holds something else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeySecret(Arc<[(Box<str>, Option<KnownKey>)]>);

/// A key by its hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownKey {
    sha256: [u8; 32],
    prefix: Box<str>,
}

impl KnownKey {
    /// The key in the value of a Secret.
    fn of(value: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(value).ok()?.trim_end();
        let key = ApiKey::parse(text)?;
        Some(Self { sha256: Sha256::digest(text.as_bytes()).into(), prefix: key.prefix().into() })
    }

    pub(crate) fn hash(&self) -> &[u8; 32] {
        &self.sha256
    }

    /// Its SHA-256 in lower-case hexadecimal.
    pub fn sha256(&self) -> String {
        hex(&self.sha256)
    }

    /// Its first characters, by which people tell keys apart.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }
}

impl KeySecret {
    /// Reads the values of a Secret.
    pub fn of(values: &SecretValues) -> Self {
        Self(values.iter().map(|(field, value)| (field.as_str().into(), KnownKey::of(value.reveal()))).collect())
    }

    /// The key in a field.
    pub(crate) fn known(&self, field: &str) -> Option<&KnownKey> {
        self.field(field)?.as_ref()
    }

    fn field(&self, name: &str) -> Option<&Option<KnownKey>> {
        self.0.iter().find(|(field, _)| &**field == name).map(|(_, key)| key)
    }
}

/// The key in a field of a Secret: of its values where they are here, of its hashes otherwise. The error is for the
/// user.
pub(crate) fn key_in(world: &World, name: &str, field: &str) -> Result<Option<KnownKey>, (Cause, String)> {
    match world.key_secrets.get(name).filter(|_| !world.secrets.contains_key(name)) {
        Some(secret) => {
            let missing = || (Cause::InvalidRef, format!("Secret '{name}' must have the key '{field}'"));
            secret.field(field).cloned().ok_or_else(missing)
        }
        None => Ok(KnownKey::of(crate::lower::secret::value(world, name, field)?.reveal())),
    }
}

impl World {
    /// The API key that a Secret holds in a field, if it holds one of our own form.
    pub fn key_in_secret(&self, name: &str, field: &str) -> Option<KnownKey> {
        key_in(self, name, field).ok().flatten()
    }

    /// Whether a Secret is there.
    pub fn has_secret(&self, name: &str) -> bool {
        self.secrets.contains_key(name) || self.key_secrets.contains_key(name)
    }

    /// The names of Secrets of which the hashes of their keys suffice: only API keys of our own form refer to them.
    /// `values` are the names of those whose values are needed.
    pub fn key_secret_names(&self) -> (Vec<String>, Vec<String>) {
        let of_keys = self.credentials.iter().filter(|object| hashes_suffice(&object.spec));
        let mut keys: Vec<String> =
            of_keys.filter_map(|object| object.spec.secret_ref.as_ref()).map(|of| of.name.clone()).collect();
        keys.sort_unstable();
        keys.dedup();
        let values = self.value_secret_names();
        keys.retain(|name| values.binary_search(name).is_err());
        (keys, values)
    }
}

/// Whether the hashes of keys are all that a Credential needs of its Secret.
pub(crate) fn hashes_suffice(spec: &idm_api::v1alpha1::CredentialSpec) -> bool {
    let keys = spec.api_key.as_ref().is_some_and(|api_key| api_key.sha256.is_none());
    let others = spec.password.is_some() || spec.oauth_client.is_some() || spec.person.is_some();
    keys && !others && spec.signature.is_none() && spec.hmac_jwt.is_none()
}

#[cfg(test)]
mod tests {
    use idm_types::Redacted;

    use super::*;

    #[test]
    fn hashes_compile_to_what_values_compile_to_and_hold_no_key() {
        let key = ApiKey::from_random([7; 32]);
        let mut world = World::new("shop", crate::Settings::default());
        for (name, field) in [("good", "key"), ("other", "elsewhere"), ("none", "key"), ("missing", "key")] {
            world.insert(serde_json::json!({
                "apiVersion": "identity-manager.io/v1alpha1", "kind": "Credential",
                "metadata": {"name": name, "namespace": "shop", "uid": name},
                "spec": {"apiKey": {}, "secretRef": {"name": name, "key": field}},
            }));
        }
        let values = |text: &str| -> SecretValues { [("key".to_owned(), Redacted::new(text.into()))].into() };
        let secrets = [("good", values(&format!("{}\n", key.reveal()))), ("other", values("x")), ("none", values("x"))];
        let mut hashed = world.clone();
        for (name, values) in secrets {
            Arc::make_mut(&mut hashed.key_secrets).insert(name.into(), KeySecret::of(&values));
            world.secrets.insert(name.into(), values);
        }
        let (a, b) = (crate::compile(&world, None), crate::compile(&hashed, None));
        assert_eq!(a.credentials, b.credentials);
        assert_eq!(a.credentials.all.len(), 1);
        assert_eq!(a.report.findings(), b.report.findings());
        assert_eq!(hashed.key_secret_names().0, ["good", "missing", "none", "other"]);
        let debug = format!("{:?}", hashed.key_secrets);
        assert!(!debug.contains(key.reveal()) && !debug.contains(key.body()), "{debug}");
    }

    #[test]
    fn what_a_policy_names_too_is_kept_with_its_value() {
        let mut world = World::new("shop", crate::Settings::default());
        world.insert(serde_json::json!({
            "apiVersion": "identity-manager.io/v1alpha1", "kind": "Credential",
            "metadata": {"name": "a", "namespace": "shop"},
            "spec": {"apiKey": {}, "secretRef": {"name": "shared"}},
        }));
        world.insert(serde_json::json!({
            "apiVersion": "identity-manager.io/v1alpha1", "kind": "Credential",
            "metadata": {"name": "b", "namespace": "shop"},
            "spec": {"password": {}, "secretRef": {"name": "shared"}},
        }));
        assert_eq!(world.key_secret_names(), (vec![], vec!["shared".to_owned()]));
    }
}
