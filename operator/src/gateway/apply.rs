//! The only writer of a gateway's objects: server-side apply under one field manager.

use aws_lc_rs::digest::{SHA256, digest};
use idm_compile::World;
use idm_plan::{Bundle, Credentials, Plan, Secrets};
use idm_types::Redacted;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, ObjectMeta, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use kube::{Api, Client};
use serde_json::Value;

use super::shards::Stored;
use super::{Built, scale};
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
    (AUTOSCALING, "v2", AUTOSCALER, "horizontalpodautoscalers"),
];
const AUTOSCALING: &str = "autoscaling";
const AUTOSCALER: &str = "HorizontalPodAutoscaler";

fn api(client: &Client, namespace: &str, kind: &str) -> Option<Api<DynamicObject>> {
    let (group, version, kind, plural) = KINDS.iter().find(|(_, _, name, _)| *name == kind)?;
    let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural);
    Some(Api::namespaced_with(client.clone(), namespace, &resource))
}

/// The place where gateways are written, what is known to be there, and how it is sealed.
#[derive(Clone, Copy)]
pub(crate) struct Cluster<'c> {
    pub(crate) client: &'c Client,
    pub(crate) stored: &'c Stored,
    pub(crate) sealing: Option<&'c Sealing>,
}

/// The bundle that is in force in the cluster for the gateway of this name; `None` when there is none or it is
/// unreadable. An error, if it is sealed and does not open: it is not replaced, because its key may come back.
pub(crate) async fn current_bundle(
    cluster: Cluster<'_>,
    namespace: &str,
    name: &str,
) -> anyhow::Result<Option<Bundle>> {
    let Cluster { client, sealing, .. } = cluster;
    let secret = Api::<Secret>::namespaced(client.clone(), namespace).get_opt(name).await?;
    let Some(packed) = secret.and_then(|secret| secret.data?.remove("bundle")) else { return Ok(None) };
    let unpack = |packed: &[u8]| {
        Bundle::unpack(packed)
            .inspect_err(|error| tracing::warn!(namespace, gateway = name, %error, "the stored bundle is replaced"))
            .ok()
    };
    match sealing {
        Some(_) if !idm_envelope::is_sealed(&packed.0) => {
            tracing::warn!(
                namespace,
                gateway = name,
                "the stored bundle is in the clear: nothing of it is kept but its generation"
            );
            // Anybody could have written it: it must not say what is kept of policies that are not valid now.
            let nothing = |of: Bundle| {
                let plan = Plan { namespace: of.plan.namespace.clone(), ..Plan::default() };
                Bundle::seal(plan, Secrets::default(), Credentials::default(), of.generation)
            };
            Ok(unpack(&packed.0).map(nothing))
        }
        Some(sealing) => Ok(unpack(sealing.open(namespace, name, "bundle", &packed.0).await?.reveal())),
        None => Ok(unpack(Redacted::new(packed.0).reveal())),
    }
}

/// The facts that are known when a gateway is written.
pub(crate) struct Write<'a> {
    pub(crate) cluster: Cluster<'a>,
    pub(crate) namespace: &'a str,
    /// The bundle in the cluster is this one.
    pub(crate) is_stored: bool,
    /// The gateway's Deployment, as it is there.
    pub(crate) deployment: Option<&'a DynamicObject>,
}

/// Writes all objects that are not written yet. The shards that the bundle names, and the keys that open it, must be
/// there already.
pub(crate) async fn apply(of: &Write<'_>, built: &Built) -> Result<(), kube::Error> {
    let Write { cluster: Cluster { client, stored, .. }, namespace, is_stored, deployment } = of;
    let place = format!("{namespace}/{}", built.name);
    let secret_place = format!("{place}/bundle");
    let (secret, objects) = digests(built);
    let is_applied = stored.has_applied(&place, &objects);
    // A gateway may read the shards before it learns of them.
    let has_shards = !built.bundle.shards.is_empty();
    for role in built.objects.iter().filter(|object| object["kind"] == "Role" && has_shards && !is_applied) {
        patch(client, namespace, &built.name, role).await?;
    }
    // A new configuration is written first: running gateways adopt it at once. Without objects there may be none.
    let serves = !built.objects.is_empty() || deployment.is_some();
    if serves && (!is_stored || !stored.has_applied(&secret_place, &secret)) {
        let params = PatchParams::apply(MANAGER).force();
        let api = Api::<Secret>::namespaced((*client).clone(), namespace);
        api.patch(&built.name, &params, &Patch::Apply(&built.secret)).await?;
        stored.applied(&secret_place, secret);
    }
    if is_applied {
        return Ok(());
    }
    let autoscaler = built.objects.iter().find(|object| object["kind"] == AUTOSCALER);
    // First: the number of pods is ours again then.
    if autoscaler.is_none() && !built.objects.is_empty() && deployment.is_some_and(scale::was_autoscaled) {
        delete(client, namespace, AUTOSCALER, &built.name).await?;
    }
    let least = autoscaler.map_or(Value::Null, |autoscaler| autoscaler["spec"]["minReplicas"].clone());
    for object in &built.objects {
        if object["kind"] == "Deployment" {
            patch(client, namespace, &built.name, &scale::applied(object, *deployment, &least)).await?;
        } else {
            patch(client, namespace, &built.name, object).await?;
        }
    }
    stored.applied(&place, objects);
    Ok(())
}

/// Writes the Secret with the keys of a namespace's gateways, if it is not written yet. Call this before anything that
/// they open is written, and before pods that mount it.
pub(crate) async fn write_keys(cluster: Cluster<'_>, world: &World) -> Result<(), kube::Error> {
    let namespace = &world.namespace;
    let Some(data) = cluster.sealing.and_then(|sealing| sealing.keys_of_gateways(namespace)) else { return Ok(()) };
    let metadata = ObjectMeta { name: Some(GATEWAY_KEYS.into()), ..super::shared_metadata(world) };
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

async fn patch(client: &Client, namespace: &str, name: &str, object: &Value) -> Result<(), kube::Error> {
    let kind = object["kind"].as_str().unwrap_or_default();
    let Some(api) = api(client, namespace, kind) else { return Ok(()) };
    api.patch(name, &PatchParams::apply(MANAGER).force(), &Patch::Apply::<&Value>(object)).await.map(drop)
}

async fn delete(client: &Client, namespace: &str, kind: &str, name: &str) -> Result<(), kube::Error> {
    let Some(api) = api(client, namespace, kind) else { return Ok(()) };
    ignore_absent(api.delete(name, &DeleteParams::background()).await.map(drop))
}

/// Digests that tell whether the Secret or another object differs from one that was written.
fn digests(built: &Built) -> (Vec<u8>, Vec<u8>) {
    let of = |text: Result<Vec<u8>, serde_json::Error>| digest(&SHA256, &text.unwrap_or_default()).as_ref().to_vec();
    (of(serde_json::to_vec(&built.secret)), of(serde_json::to_vec(&built.objects)))
}

/// Removes the gateway of this name, which nothing needs any more.
pub(crate) async fn remove(client: &Client, namespace: &str, name: &str) -> Result<(), kube::Error> {
    for (_, _, kind, _) in KINDS.iter().rev() {
        delete(client, namespace, kind, name).await?;
    }
    ignore_absent(
        Api::<Secret>::namespaced(client.clone(), namespace).delete(name, &DeleteParams::default()).await.map(drop),
    )
}

fn ignore_absent(outcome: Result<(), kube::Error>) -> Result<(), kube::Error> {
    match outcome {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        other => other,
    }
}
