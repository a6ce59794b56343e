//! The only writer of a gateway's objects: server-side apply under one field manager.

use aws_lc_rs::digest::{SHA256, digest};
use idm_plan::Bundle;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use kube::{Api, Client};
use serde_json::Value;

use super::shards::Stored;
use super::{Built, scale};
use crate::MANAGER;

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

/// The bundle that is in force in the cluster for the gateway of this name; `None` when there is none or it is
/// unreadable.
pub(crate) async fn current_bundle(
    client: &Client,
    namespace: &str,
    name: &str,
) -> Result<Option<Bundle>, kube::Error> {
    let secret = Api::<Secret>::namespaced(client.clone(), namespace).get_opt(name).await?;
    let packed = secret.and_then(|secret| secret.data?.remove("bundle"));
    Ok(packed.and_then(|packed| {
        Bundle::unpack(&packed.0)
            .inspect_err(|error| tracing::warn!(namespace, %error, "the stored bundle is replaced"))
            .ok()
    }))
}

/// What is known when a gateway is written.
pub(crate) struct Write<'a> {
    pub(crate) client: &'a Client,
    pub(crate) namespace: &'a str,
    /// What was written before.
    pub(crate) stored: &'a Stored,
    /// The bundle in the cluster is this one.
    pub(crate) is_stored: bool,
    /// The gateway's Deployment, as it is there.
    pub(crate) deployment: Option<&'a DynamicObject>,
}

/// Writes all objects that are not written yet. The shards that the bundle names must be there already.
pub(crate) async fn apply(of: &Write<'_>, built: &Built) -> Result<(), kube::Error> {
    let Write { client, namespace, stored, is_stored, deployment } = of;
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
