//! The only writer of a gateway's objects: server-side apply under one field manager.

use aws_lc_rs::digest::{SHA256, digest};
use idm_plan::Bundle;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use kube::{Api, Client};
use serde_json::Value;

use super::shards::{self, Stored};
use super::{Built, NAME};
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
];

fn api(client: &Client, namespace: &str, kind: &str) -> Option<Api<DynamicObject>> {
    let (group, version, kind, plural) = KINDS.iter().find(|(_, _, name, _)| *name == kind)?;
    let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural);
    Some(Api::namespaced_with(client.clone(), namespace, &resource))
}

/// The bundle that is in force in the cluster; `None` when there is none or it is unreadable.
pub(crate) async fn current_bundle(client: &Client, namespace: &str) -> Result<Option<Bundle>, kube::Error> {
    let secret = Api::<Secret>::namespaced(client.clone(), namespace).get_opt(NAME).await?;
    let packed = secret.and_then(|secret| secret.data?.remove("bundle"));
    Ok(packed.and_then(|packed| {
        Bundle::unpack(&packed.0)
            .inspect_err(|error| tracing::warn!(namespace, %error, "the stored bundle is replaced"))
            .ok()
    }))
}

/// Writes all objects that are not written yet. `is_stored` says that the bundle in the cluster is this one.
pub(crate) async fn apply(
    client: &Client,
    namespace: &str,
    built: &Built,
    is_stored: bool,
    stored: &Stored,
) -> Result<(), kube::Error> {
    let params = PatchParams::apply(MANAGER).force();
    shards::write(client, namespace, built, stored).await?;
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
pub(crate) async fn remove(client: &Client, namespace: &str) -> Result<(), kube::Error> {
    shards::empty(client, namespace).await?;
    for (_, _, kind, _) in KINDS.iter().rev() {
        if let Some(api) = api(client, namespace, kind) {
            ignore_absent(api.delete(NAME, &DeleteParams::background()).await.map(drop))?;
        }
    }
    ignore_absent(
        Api::<Secret>::namespaced(client.clone(), namespace).delete(NAME, &DeleteParams::default()).await.map(drop),
    )
}

fn ignore_absent(outcome: Result<(), kube::Error>) -> Result<(), kube::Error> {
    match outcome {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        other => other,
    }
}
