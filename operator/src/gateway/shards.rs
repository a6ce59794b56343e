//! The Secrets with the shards of a namespace's Credentials: a change of one Credential is one read and one write.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use futures::{StreamExt, TryStreamExt};
use idm_plan::PackedShard;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};

use super::Built;
use super::seal::{SHARD_VERSIONS, shard_name};
use crate::MANAGER;

/// Shards that are written at the same time.
const AT_ONCE: usize = 8;

/// The digests of the shards that are known to be stored, by namespace and number. After a start nothing is known: each
/// is looked at once.
#[derive(Default)]
pub(crate) struct Stored(Mutex<BTreeMap<String, BTreeMap<usize, String>>>);

impl Stored {
    fn has(&self, namespace: &str, number: usize, digest: &str) -> bool {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(namespace).and_then(|of| of.get(&number)).is_some_and(|known| known == digest)
    }

    fn keep(&self, namespace: &str, number: usize, digest: &str) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(namespace.to_owned()).or_default().insert(number, digest.to_owned());
    }

    /// Forgets what is stored in a namespace, because a gateway misses a shard.
    pub(crate) fn forget(&self, namespace: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(namespace);
    }
}

/// Writes the shards that are not stored yet. Call this before the index that names them is written: a gateway finds
/// what its index names.
pub(super) async fn write(client: &Client, namespace: &str, built: &Built, stored: &Stored) -> Result<(), kube::Error> {
    let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let new = built.shards.iter().enumerate();
    let new = new.filter(|(number, shard)| !stored.has(namespace, *number, &shard.line.digest));
    let new = futures::stream::iter(new.map(Ok::<_, kube::Error>));
    new.try_for_each_concurrent(AT_ONCE, |(number, shard)| {
        let api = &api;
        async move {
            write_one(api, built, number, shard).await?;
            stored.keep(namespace, number, &shard.line.digest);
            Ok(())
        }
    })
    .await
}

async fn write_one(api: &Api<Secret>, built: &Built, number: usize, shard: &PackedShard) -> Result<(), kube::Error> {
    let name = shard_name(number);
    let params = PostParams { field_manager: Some(MANAGER.into()), ..PostParams::default() };
    let [current, previous] = SHARD_VERSIONS;
    let mut data = BTreeMap::from([(current.to_owned(), ByteString(shard.bytes.clone()))]);
    let of_bundle = &built.secret.metadata;
    let mut metadata = ObjectMeta {
        name: Some(name.clone()),
        namespace: of_bundle.namespace.clone(),
        labels: of_bundle.labels.clone(),
        owner_references: of_bundle.owner_references.clone(),
        ..ObjectMeta::default()
    };
    let before = api.get_opt(&name).await?;
    let Some(before) = before else {
        return api.create(&params, &Secret { metadata, data: Some(data), ..Secret::default() }).await.map(drop);
    };
    let mut known = before.data.unwrap_or_default();
    if known.get(current).is_some_and(|known| known.0 == shard.bytes) {
        return Ok(());
    }
    // Gateways that have not seen the newest index yet find the version that theirs names.
    data.extend(known.remove(current).map(|known| (previous.to_owned(), known)));
    // The write carries the version that was read: nobody else's change is lost.
    metadata.resource_version = before.metadata.resource_version;
    api.replace(&name, &params, &Secret { metadata, data: Some(data), ..Secret::default() }).await.map(drop)
}

/// Empties the shards of a gateway that is removed. Kubernetes deletes them with their owners: the operator may not
/// delete Secrets.
pub(super) async fn empty(client: &Client, namespace: &str) -> Result<(), kube::Error> {
    let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let Some(bundle) = super::current_bundle(client, namespace).await? else { return Ok(()) };
    let params = PostParams { field_manager: Some(MANAGER.into()), ..PostParams::default() };
    let emptied = futures::stream::iter(0..bundle.shards.len()).map(|number| {
        let api = &api;
        let params = &params;
        async move {
            let name = shard_name(number);
            let Some(mut secret) = api.get_opt(&name).await?.filter(|secret| secret.data.is_some()) else {
                return Ok(());
            };
            secret.data = None;
            secret.metadata.managed_fields = None;
            api.replace(&name, params, &secret).await.map(drop)
        }
    });
    emptied.buffer_unordered(AT_ONCE).try_collect::<()>().await
}
