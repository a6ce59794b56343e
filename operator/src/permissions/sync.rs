//! Makes the native objects of RBAC equal to those that are wanted: first what is too much goes, then the rest comes.

use std::collections::BTreeMap;

use futures::StreamExt;
use idm_permission::rbac::{LABELS, Native};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use kube::{Api, Client, ResourceExt};
use serde_json::Value;

use crate::{Context, MANAGER};

const KINDS: [(&str, &str); 4] = [
    ("RoleBinding", "rolebindings"),
    ("ClusterRoleBinding", "clusterrolebindings"),
    ("Role", "roles"),
    ("ClusterRole", "clusterroles"),
];
/// Writes at the same time.
const AT_ONCE: usize = 16;

type Key = (&'static str, Option<String>, String);

fn resource(kind: &str, plural: &str) -> ApiResource {
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk("rbac.authorization.k8s.io", "v1", kind), plural)
}

fn api(client: &Client, kind: &str, namespace: Option<&str>) -> Api<DynamicObject> {
    let plural = KINDS.iter().find(|(known, _)| *known == kind).map_or("", |(_, plural)| plural);
    let resource = resource(kind, plural);
    match namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    }
}

/// Writes what differs.
pub(super) async fn sync(context: &Context, wanted: &[Native]) -> anyhow::Result<()> {
    let client = &context.client;
    let existing = existing(client).await?;
    let wanted: BTreeMap<Key, &Native> =
        wanted.iter().map(|native| ((native.kind, native.namespace.clone(), native.name.clone()), native)).collect();
    // The role that a binding refers to cannot be changed.
    let is_other = |key: &Key, live: &DynamicObject| {
        wanted.get(key).is_none_or(|native| native.body.get("roleRef") != live.data.get("roleRef"))
    };
    let mut removals = Vec::new();
    // Bindings are listed before roles.
    for (key, _) in existing.iter().filter(|(key, live)| is_other(key, live)) {
        removals.push(remove(client.clone(), key.clone()));
    }
    let mut problems = all(removals).await;
    let mut coming = Vec::new();
    for (key, native) in &wanted {
        if existing.get(key).is_none_or(|live| is_other(key, live) || !is_equal(native, live)) {
            coming.push((*native).clone());
        }
    }
    let count = coming.len();
    // A binding needs its role.
    let (roles, bindings): (Vec<_>, Vec<_>) = coming.into_iter().partition(|native| native.kind.ends_with("Role"));
    for some in [roles, bindings] {
        problems.extend(all(some.into_iter().map(|native| write(client.clone(), native)).collect()).await);
    }
    if count > 0 {
        tracing::info!(objects = count, "permissions granted");
    }
    let count = problems.len();
    match problems.into_iter().next() {
        None => Ok(()),
        Some(first) => Err(anyhow::Error::from(first).context(format!("{count} objects of RBAC could not be written"))),
    }
}

/// Does several at a time, and all whatever becomes of one.
async fn all(work: Vec<impl Future<Output = Result<(), kube::Error>>>) -> Vec<kube::Error> {
    let outcomes: Vec<_> = futures::stream::iter(work).buffered(AT_ONCE).collect().await;
    outcomes.into_iter().filter_map(Result::err).collect()
}

async fn existing(client: &Client) -> Result<BTreeMap<Key, DynamicObject>, kube::Error> {
    let selector: Vec<_> = LABELS.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let params = ListParams::default().labels(&selector.join(","));
    let mut all = BTreeMap::new();
    for (kind, plural) in KINDS {
        let listed = Api::<DynamicObject>::all_with(client.clone(), &resource(kind, plural)).list(&params).await?;
        all.extend(listed.items.into_iter().map(|live| ((kind, live.namespace(), live.name_any()), live)));
    }
    Ok(all)
}

fn is_equal(native: &Native, live: &DynamicObject) -> bool {
    let same = |field: &str| native.body.get(field) == live.data.get(field);
    let owner = |metadata: &Value| metadata["ownerReferences"][0]["uid"].clone();
    let metadata = serde_json::to_value(&live.metadata).unwrap_or_default();
    same("rules") && same("subjects") && same("roleRef") && owner(&native.body["metadata"]) == owner(&metadata)
}

async fn remove(client: Client, (kind, namespace, name): Key) -> Result<(), kube::Error> {
    match api(&client, kind, namespace.as_deref()).delete(&name, &DeleteParams::default()).await {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        other => other.map(drop),
    }
}

async fn write(client: Client, native: Native) -> Result<(), kube::Error> {
    let params = PatchParams::apply(MANAGER).force();
    let api = api(&client, native.kind, native.namespace.as_deref());
    match api.patch(&native.name, &params, &Patch::Apply(&native.body)).await {
        // A namespace that is being deleted needs no roles.
        Err(kube::Error::Api(status)) if status.code == 404 || status.message.contains("is being terminated") => Ok(()),
        other => other.map(drop),
    }
}
