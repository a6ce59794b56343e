//! The keys in a Secret of the operator's namespace.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use idm_envelope::{KeySet, SharedKeys};
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};

/// They are read again when they are older.
const FRESH: Duration = Duration::from_secs(5);

/// The keys, as they were read last.
pub(super) struct SecretKeys {
    namespace: String,
    name: String,
    shared: SharedKeys,
    read: Mutex<Instant>,
    /// The ids of keys that stored values name, as they were counted last.
    in_use: Mutex<BTreeSet<String>>,
}

impl SecretKeys {
    /// Reads them for the first time.
    pub(super) async fn read(client: &Client, namespace: &str, name: &str) -> anyhow::Result<Self> {
        let shared = SharedKeys::new(stored(client, namespace, name).await?);
        let (namespace, name) = (namespace.to_owned(), name.to_owned());
        Ok(Self { namespace, name, shared, read: Mutex::new(Instant::now()), in_use: Mutex::default() })
    }

    pub(super) fn shared(&self) -> SharedKeys {
        self.shared.clone()
    }

    pub(super) fn now(&self) -> KeySet {
        self.shared.now()
    }

    /// Notes which keys are in use.
    pub(super) fn are_in_use(&self, ids: BTreeSet<String>) {
        *self.in_use.lock().unwrap_or_else(PoisonError::into_inner) = ids;
    }

    /// Reads them again, if that was not done a short while ago. Keys that cannot be used change nothing, and a key
    /// that is in use stays known although it was removed.
    pub(super) async fn refresh(&self, client: &Client) {
        {
            let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
            if read.elapsed() < FRESH {
                return;
            }
            *read = Instant::now();
        }
        match stored(client, &self.namespace, &self.name).await {
            Ok(keys) => self.replace(keys),
            Err(error) => tracing::error!("{error:#}; the keys of before are used"),
        }
    }

    pub(super) fn replace(&self, mut keys: KeySet) {
        let in_use = self.in_use.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let kept = keys.keep_from(&self.shared.now(), |id| in_use.contains(id));
        if !kept.is_empty() {
            let (namespace, name, kept) = (&self.namespace, &self.name, kept.join(", "));
            tracing::error!(
                "Secret {namespace}/{name} lacks keys that seal stored values: {kept}; put them back, and ask `idm \
                 seal status` before they are removed"
            );
        }
        self.shared.put(keys);
    }
}

async fn stored(client: &Client, namespace: &str, name: &str) -> anyhow::Result<KeySet> {
    let of = || format!("Secret {namespace}/{name} with the keys under which everything is sealed");
    let secret = Api::<Secret>::namespaced(client.clone(), namespace).get_opt(name).await.with_context(of)?;
    let data = secret.with_context(|| format!("there is no {}", of()))?.data.unwrap_or_default();
    KeySet::parse(data.into_iter().map(|(field, value)| (field, value.0))).with_context(of)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::reconcile::api_server::{ApiServer, HOME};

    #[tokio::test]
    async fn a_key_that_is_removed_while_it_is_in_use_stays_known() {
        let nothing = "apiVersion: v1\nkind: Service\nmetadata: {name: x}\n";
        let server = ApiServer::new(nothing, nothing);
        assert!(
            SecretKeys::read(&server.client(), HOME, "keys")
                .await
                .is_err_and(|error| { format!("{error:#}").contains("there is no Secret idm-system/keys") })
        );
        let put = |data| server.write(&json!({"kind": "Secret", "metadata": {"name": "keys"}, "stringData": data}));
        put(json!({"primary": "a", "a": "a".repeat(32), "b": "b".repeat(32)}));
        let keys = SecretKeys::read(&server.client(), HOME, "keys").await.unwrap();
        keys.are_in_use(["a".to_owned()].into());
        put(json!({"primary": "c", "c": "c".repeat(32)}));
        keys.replace(stored(&server.client(), HOME, "keys").await.unwrap());
        assert_eq!((keys.now().primary(), keys.now().ids().collect::<Vec<_>>()), ("c", vec!["a", "c"]));
        keys.are_in_use(["c".to_owned()].into());
        keys.replace(stored(&server.client(), HOME, "keys").await.unwrap());
        assert_eq!(keys.now().ids().collect::<Vec<_>>(), ["c"]);
    }
}
