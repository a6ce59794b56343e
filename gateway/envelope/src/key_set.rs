//! Key-encryption keys that are here: one primary, and older ones that still open.
//!
//! A set is written as the fields of a Secret: each key under its id, and under `primary` the id of the one for new
//! values. A namespace gets a set that is derived for it, which `namespace` names: its gateways open nothing of others.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::data_key::DataKey;
use crate::sealed::is_key_id;
use crate::{KeyError, KeyFuture, KeyService};

const PRIMARY: &str = "primary";
const NAMESPACE: &str = "namespace";

/// A set of keys.
#[derive(Clone, Debug)]
pub struct KeySet {
    primary: String,
    /// The namespace that the keys were derived for; `None`: they are the roots, from which all are derived.
    namespace: Option<String>,
    keys: BTreeMap<String, DataKey>,
}

impl KeySet {
    /// Reads the fields of a Secret, or the files of a folder where one is mounted.
    pub fn parse(fields: impl IntoIterator<Item = (String, Vec<u8>)>) -> Result<Self, KeyError> {
        let (mut primary, mut namespace, mut keys) = (None, None, BTreeMap::new());
        for (name, value) in fields {
            match name.as_str() {
                PRIMARY => primary = Some(text(&name, &value)?),
                NAMESPACE => namespace = Some(text(&name, &value)?),
                _ => drop(keys.insert(name.clone(), key(&name, &value)?)),
            }
        }
        let Some(primary) = primary else {
            return Err(KeyError::Invalid("the keys need the field `primary` with the id of the key to use".into()));
        };
        if !keys.contains_key(&primary) {
            let all = keys.keys().cloned().collect::<Vec<_>>().join(", ");
            return Err(KeyError::Invalid(format!("`primary` must name one of the keys, which are: {all}")));
        }
        Ok(Self { primary, namespace, keys })
    }

    /// The ids of all keys, in order.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.keys.keys().map(String::as_str)
    }

    /// The id of the key for new values.
    pub fn primary(&self) -> &str {
        &self.primary
    }

    /// The fields of a Secret with keys that are derived for a namespace.
    pub fn of_namespace(&self, namespace: &str) -> BTreeMap<String, Vec<u8>> {
        let encoded = |key: DataKey| STANDARD.encode(key.bytes()).into_bytes();
        let keys = self.keys.iter().map(|(id, key)| (id.clone(), encoded(self.derived(key, namespace))));
        let mut fields: BTreeMap<String, Vec<u8>> = keys.collect();
        fields.insert(PRIMARY.into(), self.primary.clone().into_bytes());
        fields.insert(NAMESPACE.into(), namespace.into());
        fields
    }

    /// Adds keys of `older` with these ids that are not here, and returns their ids.
    pub fn keep_from(&mut self, older: &Self, wanted: impl Fn(&str) -> bool) -> Vec<String> {
        let missing = older.keys.iter().filter(|(id, _)| wanted(id) && !self.keys.contains_key(*id));
        let missing: Vec<_> = missing.map(|(id, key)| (id.clone(), key.clone())).collect();
        let ids = missing.iter().map(|(id, _)| id.clone()).collect();
        self.keys.extend(missing);
        ids
    }

    fn derived(&self, key: &DataKey, namespace: &str) -> DataKey {
        match self.namespace {
            Some(_) => key.clone(),
            None => key.derive(&[b"namespace", namespace.as_bytes()]),
        }
    }

    fn key_for(&self, key_id: &str, namespace: &str) -> Result<DataKey, KeyError> {
        let key = self.keys.get(key_id).ok_or_else(|| KeyError::Unknown(key_id.to_owned()))?;
        if self.namespace.as_deref().is_some_and(|own| own != namespace) {
            return Err(KeyError::NotWrapped(key_id.to_owned()));
        }
        Ok(self.derived(key, namespace))
    }

    fn wrap_key(&self, key_id: &str, namespace: &str, key: &DataKey) -> Result<Vec<u8>, KeyError> {
        let wrapped = self.key_for(key_id, namespace)?.encrypt(&belongs_to(key_id, namespace), key.bytes());
        wrapped.ok_or_else(|| KeyError::NotWrapped(key_id.to_owned()))
    }

    fn unwrap_key(&self, key_id: &str, namespace: &str, wrapped: &[u8]) -> Result<DataKey, KeyError> {
        let opened = self.key_for(key_id, namespace)?.decrypt(&belongs_to(key_id, namespace), wrapped);
        let key = opened.and_then(|bytes| DataKey::parse(bytes.reveal()));
        key.ok_or_else(|| KeyError::NotWrapped(key_id.to_owned()))
    }
}

fn text(name: &str, value: &[u8]) -> Result<String, KeyError> {
    let text = std::str::from_utf8(value).map(str::trim).unwrap_or_default();
    match is_key_id(text) {
        true => Ok(text.to_owned()),
        false => Err(KeyError::Invalid(format!("the field `{name}` of the keys must be one word"))),
    }
}

/// 32 bytes as they are, or in base64.
fn key(name: &str, value: &[u8]) -> Result<DataKey, KeyError> {
    let decoded = || STANDARD.decode(value.trim_ascii()).ok().and_then(|bytes| DataKey::parse(&bytes));
    let key = DataKey::parse(value).or_else(decoded).filter(|_| is_key_id(name));
    let wanted = || format!("the key `{name}` must be 32 bytes, or their base64: `openssl rand -base64 32` makes one");
    key.ok_or_else(|| KeyError::Invalid(wanted()))
}

fn belongs_to(key_id: &str, namespace: &str) -> Vec<u8> {
    format!("data key of {namespace} under {key_id}").into_bytes()
}

/// A set of keys that may be replaced while it is used.
#[derive(Clone, Debug)]
pub struct SharedKeys(Arc<RwLock<KeySet>>);

impl SharedKeys {
    /// Shares a set.
    pub fn new(keys: KeySet) -> Self {
        Self(Arc::new(RwLock::new(keys)))
    }

    /// Replaces it.
    pub fn put(&self, keys: KeySet) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = keys;
    }

    /// The set of now.
    pub fn now(&self) -> KeySet {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl KeyService for SharedKeys {
    fn primary(&self) -> Result<String, KeyError> {
        Ok(self.now().primary)
    }

    fn wrap<'a>(&'a self, key_id: &'a str, namespace: &'a str, key: &'a DataKey) -> KeyFuture<'a, Vec<u8>> {
        Box::pin(std::future::ready(self.now().wrap_key(key_id, namespace, key)))
    }

    fn unwrap<'a>(&'a self, key_id: &'a str, namespace: &'a str, wrapped: &'a [u8]) -> KeyFuture<'a, DataKey> {
        Box::pin(std::future::ready(self.now().unwrap_key(key_id, namespace, wrapped)))
    }
}

/// A set of keys in the files of a folder, where a Secret is mounted. They are read again for every data key, so a key
/// that was added is known as soon as it is there.
#[derive(Clone, Debug)]
pub struct KeyFolder(pub PathBuf);

impl KeyFolder {
    /// The keys of now.
    pub fn read(&self) -> Result<KeySet, KeyError> {
        let unreadable =
            |error: std::io::Error| KeyError::Invalid(format!("cannot read keys of {}: {error}", self.0.display()));
        let mut fields = Vec::new();
        for entry in std::fs::read_dir(&self.0).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            // The kubelet keeps the versions of a Secret in entries with a dot.
            if !name.starts_with('.') {
                fields.push((name, std::fs::read(entry.path()).map_err(unreadable)?));
            }
        }
        KeySet::parse(fields)
    }
}

impl KeyService for KeyFolder {
    fn primary(&self) -> Result<String, KeyError> {
        Ok(self.read()?.primary)
    }

    fn wrap<'a>(&'a self, key_id: &'a str, namespace: &'a str, key: &'a DataKey) -> KeyFuture<'a, Vec<u8>> {
        Box::pin(std::future::ready(self.read().and_then(|keys| keys.wrap_key(key_id, namespace, key))))
    }

    fn unwrap<'a>(&'a self, key_id: &'a str, namespace: &'a str, wrapped: &'a [u8]) -> KeyFuture<'a, DataKey> {
        Box::pin(std::future::ready(self.read().and_then(|keys| keys.unwrap_key(key_id, namespace, wrapped))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(fields: &[(&str, &[u8])]) -> Result<KeySet, KeyError> {
        KeySet::parse(fields.iter().map(|(name, value)| ((*name).to_owned(), value.to_vec())))
    }

    fn two() -> KeySet {
        let text = format!("{}\n", STANDARD.encode([2; 32]));
        set(&[("primary", b"new\n"), ("new", text.as_bytes()), ("old", &[1; 32])]).unwrap()
    }

    #[test]
    fn a_set_that_cannot_be_used_says_what_to_do_and_no_key() {
        let long = STANDARD.encode([7; 33]);
        for (fields, wanted) in [
            (vec![("a", &[1; 32][..])], "the keys need the field `primary`"),
            (vec![("primary", b"b"), ("a", &[1; 32][..])], "must name one of the keys, which are: a"),
            (vec![("primary", b"a"), ("a", long.as_bytes())], "the key `a` must be 32 bytes"),
            (vec![("primary", b""), ("a", &[1; 32][..])], "must be one word"),
        ] {
            let error = set(&fields).unwrap_err().to_string();
            assert!(error.contains(wanted) && !error.contains(&long), "{error}");
        }
    }

    #[test]
    fn a_namespace_unwraps_its_own_data_keys_and_no_others() {
        let (root, key) = (two(), DataKey::random().unwrap());
        let of = |namespace: &str| KeySet::parse(root.of_namespace(namespace)).unwrap();
        let (shop, bank) = (of("shop"), of("bank"));
        for id in ["new", "old"] {
            let wrapped = root.wrap_key(id, "shop", &key).unwrap();
            assert!(shop.unwrap_key(id, "shop", &wrapped).unwrap().is(&key));
            assert!(root.unwrap_key(id, "shop", &wrapped).unwrap().is(&key));
            for (keys, namespace) in [(&bank, "shop"), (&bank, "bank"), (&shop, "bank"), (&root, "bank")] {
                assert_eq!(keys.unwrap_key(id, namespace, &wrapped).unwrap_err(), KeyError::NotWrapped(id.to_owned()));
            }
        }
        let wrapped = shop.wrap_key("new", "shop", &key).unwrap();
        assert!(root.unwrap_key("new", "shop", &wrapped).unwrap().is(&key));
        assert_eq!(root.unwrap_key("gone", "shop", &wrapped).unwrap_err(), KeyError::Unknown("gone".into()));
        assert!(root.unwrap_key("old", "shop", &wrapped).is_err());
    }

    #[test]
    fn keys_that_are_in_use_are_kept_from_an_older_set() {
        let mut new = set(&[("primary", b"next"), ("next", &[3; 32])]).unwrap();
        assert_eq!(new.keep_from(&two(), |id| id == "old"), ["old"]);
        assert_eq!((new.primary(), new.ids().collect::<Vec<_>>()), ("next", vec!["next", "old"]));
    }

    #[test]
    fn a_folder_is_read_as_the_kubelet_mounts_it() {
        let dir = tempfile::tempdir().unwrap();
        let folder = KeyFolder(dir.path().to_owned());
        std::fs::create_dir(dir.path().join("..2026")).unwrap();
        for (name, value) in two().of_namespace("shop") {
            std::fs::write(dir.path().join(name), value).unwrap();
        }
        assert_eq!(folder.primary().unwrap(), "new");
        assert_eq!(folder.read().unwrap().namespace.as_deref(), Some("shop"));
        assert!(KeyFolder(dir.path().join("none")).read().unwrap_err().to_string().contains("cannot read keys"));
    }
}
