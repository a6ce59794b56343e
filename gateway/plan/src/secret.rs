use std::collections::BTreeMap;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use idm_types::Redacted;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

/// The name by which a plan refers to a secret. The value travels beside the plan, in the bundle.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SecretHandle(pub String);

/// The name of the token with which the operator authenticates to its gateways.
pub const CONTROL_TOKEN: &str = "control/token";

impl SecretHandle {
    /// One key of a Secret of the namespace.
    pub fn of_secret(name: &str, key: &str) -> Self {
        Self(format!("secret/{name}/{key}"))
    }
}

/// The secrets of a plan by handle. Printed without their values; equality compares the values.
#[derive(Clone, Default)]
pub struct Secrets(BTreeMap<SecretHandle, Redacted<Vec<u8>>>);

impl Secrets {
    /// Adds or replaces a secret.
    pub fn put(&mut self, handle: SecretHandle, value: Redacted<Vec<u8>>) {
        self.0.insert(handle, value);
    }

    /// The value behind a handle.
    pub fn get(&self, handle: &SecretHandle) -> Option<&Redacted<Vec<u8>>> {
        self.0.get(handle)
    }

    /// The value behind a handle, which must be present. The error shows no secret.
    pub fn wanted(&self, handle: &SecretHandle) -> Result<&Redacted<Vec<u8>>, String> {
        self.get(handle).ok_or_else(|| format!("the secret `{}` is missing", handle.0))
    }

    /// The text behind a handle, which must be present. The error shows no secret.
    pub fn text(&self, handle: &SecretHandle) -> Result<&str, String> {
        std::str::from_utf8(self.wanted(handle)?.reveal()).map_err(|_| format!("the secret `{}` is not text", handle.0))
    }

    /// The secrets that plain data refers to: those whose handle is equal to one of its texts. A text that only looks
    /// like a handle can add a secret that is not needed, but none that is needed is left out.
    pub fn named_by(&self, data: &Value) -> Self {
        let mut named = Self::default();
        self.collect(data, &mut named);
        named
    }

    fn collect(&self, data: &Value, named: &mut Self) {
        match data {
            Value::String(text) => self.collect_text(text, named),
            Value::Array(items) => items.iter().for_each(|item| self.collect(item, named)),
            Value::Object(members) => members.iter().for_each(|(name, member)| {
                self.collect_text(name, named);
                self.collect(member, named);
            }),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    fn collect_text(&self, text: &str, named: &mut Self) {
        if let Some((handle, value)) = self.0.get_key_value(&SecretHandle(text.to_owned())) {
            named.put(handle.clone(), value.clone());
        }
    }

    /// Adds the secrets that are not here yet: those of policies that stay in force although their change is not valid.
    pub fn keep_from(&mut self, older: &Secrets) {
        for (handle, value) in &older.0 {
            self.0.entry(handle.clone()).or_insert_with(|| value.clone());
        }
    }

    /// The number of secrets.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no secrets.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl PartialEq for Secrets {
    fn eq(&self, other: &Self) -> bool {
        let values = |secrets: &Self| {
            secrets.0.iter().map(|(handle, value)| (handle.clone(), value.reveal().clone())).collect::<Vec<_>>()
        };
        self.0.len() == other.0.len() && values(self) == values(other)
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys().map(|handle| &handle.0)).finish()
    }
}

impl Serialize for Secrets {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(handle, value)| (&handle.0, STANDARD.encode(value.reveal()))))
    }
}

impl<'de> Deserialize<'de> for Secrets {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = BTreeMap::<String, String>::deserialize(deserializer)?;
        let decoded = text.into_iter().map(|(handle, value)| {
            let value = STANDARD.decode(value).map_err(|_| D::Error::custom("a secret is not base64"))?;
            Ok((SecretHandle(handle), Redacted::new(value)))
        });
        decoded.collect::<Result<_, _>>().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_travel_and_are_never_printed() {
        let mut secrets = Secrets::default();
        secrets.put(SecretHandle::of_secret("a", "key"), Redacted::new(b"hunter2".to_vec()));
        let back: Secrets = serde_json::from_str(&serde_json::to_string(&secrets).unwrap()).unwrap();
        assert_eq!(back, secrets);
        assert_eq!(format!("{secrets:?}"), "{\"secret/a/key\"}");
    }

    #[test]
    fn data_names_its_secrets_at_any_depth() {
        let mut secrets = Secrets::default();
        for name in ["a", "b"] {
            secrets.put(SecretHandle::of_secret(name, "key"), Redacted::new(name.into()));
        }
        let data = serde_json::json!([{"of": ["secret/a/key", "secret/c/key"]}, null, 1]);
        assert_eq!(format!("{:?}", secrets.named_by(&data)), "{\"secret/a/key\"}");
        assert_eq!(format!("{:?}", secrets.named_by(&serde_json::json!({"secret/b/key": 1}))), "{\"secret/b/key\"}");
        assert!(secrets.named_by(&"secret/b".into()).is_empty());
    }
}
