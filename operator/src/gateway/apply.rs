//! The only writer of a gateway's objects: server-side apply under one field manager.

use aws_lc_rs::digest::{SHA256, digest};
use idm_plan::{Bundle, Credentials, Plan, Secrets};
use idm_types::Redacted;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, ObjectMeta, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use kube::{Api, Client};
use serde_json::Value;

use super::shards::{self, Stored};
use super::{Built, NAME};
use crate::MANAGER;
use crate::sealing::{GATEWAY_KEYS, Sealing};

/// Kinds of a gateway, in the order of writing; removed in the opposite order.
const KINDS: &[(&str, &str, &str, &str)] = &[
    ("", "v1", "ServiceAccount", "serviceaccounts"),
    ("rbac.authorization.k8s.io", "v1", "Role", "roles"),
    ("rbac.authorization.k8s.io", "v1", "RoleBinding", "rolebindings"),
    ("", "v1", "Service", "services"),
    ("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets"),
    ("networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies"),
    ("apps", "v1", "Deployment", "deployments"),
];

fn api(client: &Client, namespace: &str, kind: &str) -> Option<Api<DynamicObject>> {
    let (group, version, kind, plural) = KINDS.iter().find(|(_, _, name, _)| *name == kind)?;
    let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural);
    Some(Api::namespaced_with(client.clone(), namespace, &resource))
}

/// The place where a gateway's objects are written, what is known to be there, and how it is sealed.
#[derive(Clone, Copy)]
pub(crate) struct Cluster<'c> {
    pub(crate) client: &'c Client,
    pub(crate) stored: &'c Stored,
    pub(crate) sealing: Option<&'c Sealing>,
}

/// The bundle that is in force in the cluster; `None` when there is none or it is unreadable. An error, if it is sealed
/// and does not open: it is not replaced, because its key may come back.
pub(crate) async fn current_bundle(cluster: Cluster<'_>, namespace: &str) -> anyhow::Result<Option<Bundle>> {
    let Cluster { client, sealing, .. } = cluster;
    let secret = Api::<Secret>::namespaced(client.clone(), namespace).get_opt(NAME).await?;
    let Some(packed) = secret.and_then(|secret| secret.data?.remove("bundle")) else { return Ok(None) };
    let unpack = |packed: &[u8]| {
        Bundle::unpack(packed)
            .inspect_err(|error| tracing::warn!(namespace, %error, "the stored bundle is replaced"))
            .ok()
    };
    match sealing {
        Some(_) if !idm_envelope::is_sealed(&packed.0) => {
            tracing::warn!(namespace, "the stored bundle is in the clear: nothing of it is kept but its generation");
            // Anybody could have written it: it must not say what is kept of policies that are not valid now.
            let nothing = |of: Bundle| {
                let plan = Plan { namespace: of.plan.namespace.clone(), ..Plan::default() };
                Bundle::seal(plan, Secrets::default(), Credentials::default(), of.generation)
            };
            Ok(unpack(&packed.0).map(nothing))
        }
        Some(sealing) => Ok(unpack(sealing.open(namespace, NAME, "bundle", &packed.0).await?.reveal())),
        None => Ok(unpack(Redacted::new(packed.0).reveal())),
    }
}

/// Writes all objects that are not written yet. `is_stored` says that the bundle in the cluster is this one.
pub(crate) async fn apply(
    cluster: Cluster<'_>,
    namespace: &str,
    built: &mut Built,
    is_stored: bool,
) -> anyhow::Result<()> {
    let Cluster { client, stored, sealing } = cluster;
    let params = PatchParams::apply(MANAGER).force();
    if let Some(sealing) = sealing {
        // Pods that start with the new objects find their keys.
        write_keys(cluster, sealing, namespace, built).await?;
        sealing.seal_secret(&mut built.secret).await?;
    }
    shards::write(cluster, namespace, built).await?;
    let (secret, objects) = digests(built);
    let is_applied = stored.has_applied(namespace, &objects);
    // A gateway may read the shards before it learns of them.
    for role in
        built.objects.iter().filter(|object| object["kind"] == "Role" && !built.shards.is_empty() && !is_applied)
    {
        if let Some(api) = api(client, namespace, "Role") {
            api.patch(NAME, &params, &Patch::Apply::<&Value>(role)).await?;
        }
    }
    // A new configuration is written first: running gateways adopt it at once.
    if !is_stored || !stored.has_applied(&of_secret(namespace), &secret) {
        Api::<Secret>::namespaced(client.clone(), namespace).patch(NAME, &params, &Patch::Apply(&built.secret)).await?;
        stored.applied(&of_secret(namespace), secret);
    }
    if is_applied {
        return Ok(());
    }
    for object in &built.objects {
        let kind = object["kind"].as_str().unwrap_or_default();
        if let Some(api) = api(client, namespace, kind) {
            api.patch(NAME, &params, &Patch::Apply::<&Value>(object)).await?;
        }
    }
    stored.applied(namespace, objects);
    Ok(())
}

/// Writes the Secret with the keys of the namespace's gateways, if it is not written yet.
async fn write_keys(
    cluster: Cluster<'_>,
    sealing: &Sealing,
    namespace: &str,
    built: &Built,
) -> Result<(), kube::Error> {
    let Some(data) = sealing.keys_of_gateways(namespace) else { return Ok(()) };
    let of_bundle = &built.secret.metadata;
    let metadata = ObjectMeta {
        name: Some(GATEWAY_KEYS.into()),
        namespace: Some(namespace.to_owned()),
        labels: of_bundle.labels.clone(),
        owner_references: of_bundle.owner_references.clone(),
        ..ObjectMeta::default()
    };
    let mut secret = Secret { metadata, data: Some(data), ..Secret::default() };
    let written = digest(&SHA256, &serde_json::to_vec(&secret).unwrap_or_default()).as_ref().to_vec();
    let of_keys = format!("{namespace}/{GATEWAY_KEYS}");
    if cluster.stored.has_applied(&of_keys, &written) {
        return Ok(());
    }
    let api: Api<Secret> = Api::namespaced(cluster.client.clone(), namespace);
    let params = PostParams { field_manager: Some(MANAGER.into()), ..PostParams::default() };
    match api.get_opt(GATEWAY_KEYS).await? {
        None => drop(api.create(&params, &secret).await?),
        Some(before) => {
            let owners = |of: &Secret| of.metadata.owner_references.clone().unwrap_or_default();
            if before.data != secret.data || owners(&before) != owners(&secret) {
                secret.metadata.resource_version = before.metadata.resource_version;
                api.replace(GATEWAY_KEYS, &params, &secret).await?;
            }
        }
    }
    cluster.stored.applied(&of_keys, written);
    Ok(())
}

/// The bundle is remembered apart from the other objects. No namespace has this name.
fn of_secret(namespace: &str) -> String {
    format!("{namespace}/{NAME}")
}

/// Digests that tell whether the Secret or another object differs from one that was written.
fn digests(built: &Built) -> (Vec<u8>, Vec<u8>) {
    let of = |text: Result<Vec<u8>, serde_json::Error>| digest(&SHA256, &text.unwrap_or_default()).as_ref().to_vec();
    (of(serde_json::to_vec(&built.secret)), of(serde_json::to_vec(&built.objects)))
}

/// Removes a gateway whose last policy was deleted.
pub(crate) async fn remove(cluster: Cluster<'_>, namespace: &str) -> anyhow::Result<()> {
    let client = cluster.client;
    shards::empty(cluster, namespace).await?;
    for (_, _, kind, _) in KINDS.iter().rev() {
        if let Some(api) = api(client, namespace, kind) {
            ignore_absent(api.delete(NAME, &DeleteParams::background()).await.map(drop))?;
        }
    }
    let secrets = Api::<Secret>::namespaced(client.clone(), namespace);
    Ok(ignore_absent(secrets.delete(NAME, &DeleteParams::default()).await.map(drop))?)
}

fn ignore_absent(outcome: Result<(), kube::Error>) -> Result<(), kube::Error> {
    match outcome {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        other => other,
    }
}
