//! The Secrets with the shards of a namespace's Credentials: a change of one Credential is one read and one write.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt};
use idm_compile::World;
use idm_plan::{PackedShard, SHARD_VERSIONS};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};

use super::Cluster;
use super::seal::shard_name;
use crate::MANAGER;

/// Shards that are written at the same time.
const AT_ONCE: usize = 8;

/// Objects that nobody is known to have changed are written again after this time.
const APPLIED_AGAIN: Duration = Duration::from_secs(300);

/// The shards that are known to be stored, by namespace, and the objects of gateways, by place. After a start nothing
/// is known: each of them is looked at once.
#[derive(Default)]
pub(crate) struct Stored(Mutex<BTreeMap<String, Known>>);

#[derive(Default)]
struct Known {
    /// The digests and owners of shards by number.
    shards: BTreeMap<usize, String>,
    /// The objects of the gateway, as they were written last.
    applied: Option<(Vec<u8>, Instant)>,
}

impl Stored {
    fn has(&self, namespace: &str, number: usize, shard: &str) -> bool {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(namespace).and_then(|of| of.shards.get(&number)).is_some_and(|known| known == shard)
    }

    fn keep(&self, namespace: &str, number: usize, shard: String) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(namespace.to_owned()).or_default().shards.insert(number, shard);
    }

    /// Whether these objects of a place, which is a gateway or its bundle, were written a short while ago.
    pub(super) fn has_applied(&self, place: &str, digest: &[u8]) -> bool {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let applied = all.get(place).and_then(|of| of.applied.as_ref());
        applied.is_some_and(|(known, at)| known == digest && at.elapsed() < APPLIED_AGAIN)
    }

    /// Notes that they were.
    pub(super) fn applied(&self, place: &str, digest: Vec<u8>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(place.to_owned()).or_default().applied = Some((digest, Instant::now()));
    }

    /// Forgets which shards of a namespace are stored, because one of them is missed.
    pub(crate) fn forget(&self, namespace: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(namespace);
    }

    /// Forgets that a gateway's objects were written, because one of them was changed.
    pub(crate) fn forget_applied(&self, namespace: &str, name: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&format!("{namespace}/{name}"));
    }
}

/// Writes the shards of a namespace that are not stored yet. Call this before the indexes that name them are written: a
/// gateway finds what its index names.
pub(crate) async fn write(cluster: Cluster<'_>, world: &World, shards: &[Arc<PackedShard>]) -> anyhow::Result<()> {
    let Cluster { client, stored, .. } = cluster;
    let (namespace, metadata) = (&world.namespace, super::shared_metadata(world));
    let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
    // Kubernetes deletes what has no owner left, so they are written again when the owners are others.
    let owners = serde_json::to_string(&metadata.owner_references).unwrap_or_default();
    let state = |shard: &PackedShard| format!("{} {owners}", shard.line.digest);
    let new = shards.iter().enumerate();
    let new = new.filter(|(number, shard)| !stored.has(namespace, *number, &state(shard)));
    let new = futures::stream::iter(new.map(Ok::<_, anyhow::Error>));
    new.try_for_each_concurrent(AT_ONCE, |(number, shard)| {
        let (api, metadata, state) = (&api, &metadata, state(shard));
        async move {
            write_one(cluster, api, metadata.clone(), number, shard).await?;
            stored.keep(namespace, number, state);
            Ok(())
        }
    })
    .await
}

async fn write_one(
    cluster: Cluster<'_>,
    api: &Api<Secret>,
    mut metadata: ObjectMeta,
    number: usize,
    shard: &PackedShard,
) -> anyhow::Result<()> {
    let name = shard_name(number);
    let params = PostParams { field_manager: Some(MANAGER.into()), ..PostParams::default() };
    let [current, previous] = SHARD_VERSIONS;
    let before = api.get_opt(&name).await?;
    let known = before.as_ref().and_then(|before| before.data.as_ref()?.get(current));
    let bytes = match cluster.sealing {
        Some(sealing) => {
            let namespace = metadata.namespace.as_deref().unwrap_or_default();
            sealing.seal(namespace, &name, current, &shard.bytes, known).await?
        }
        None => ByteString(shard.bytes.clone()),
    };
    let mut data = BTreeMap::from([(current.to_owned(), bytes.clone())]);
    metadata.name = Some(name.clone());
    let Some(before) = before else {
        api.create(&params, &Secret { metadata, data: Some(data), ..Secret::default() }).await?;
        return Ok(());
    };
    let mut known = before.data.unwrap_or_default();
    // A version that was written before everything was sealed does not stay.
    known.retain(|_, version| cluster.sealing.is_none() || idm_envelope::is_sealed(&version.0));
    if known.get(current) == Some(&bytes) {
        if before.metadata.owner_references == metadata.owner_references {
            return Ok(());
        }
        data.extend(known.remove(previous).map(|known| (previous.to_owned(), known)));
    } else {
        // Gateways that have not seen the newest index yet find the version that theirs names.
        data.extend(known.remove(current).map(|known| (previous.to_owned(), known)));
    }
    // The write carries the version that was read: nobody else's change is lost.
    metadata.resource_version = before.metadata.resource_version;
    api.replace(&name, &params, &Secret { metadata, data: Some(data), ..Secret::default() }).await?;
    Ok(())
}

/// Empties this number of shards of a namespace without a gateway. Kubernetes deletes them with their owners.
pub(crate) async fn empty(client: &Client, namespace: &str, shards: usize) -> Result<(), kube::Error> {
    let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let params = PostParams { field_manager: Some(MANAGER.into()), ..PostParams::default() };
    let emptied = futures::stream::iter(0..shards).map(|number| {
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
