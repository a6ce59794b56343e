//! A consistent snapshot of one namespace: the same `World` that a folder gives.

use std::collections::BTreeMap;

use gateway_api::apis::standard::backendtlspolicies::{BackendTlsPolicy, BackendTlsPolicySpec};
use idm_compile::{Classes, Settings, World};
use idm_types::Redacted;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::core::DynamicObject;
use kube::{Api, Client};
use serde::de::DeserializeOwned;

use crate::objects::Kind;
use crate::watch::Store;

/// Objects without Secrets and ConfigMaps: those are read when it is known which are named.
pub(crate) fn objects(store: &Store, namespace: &str) -> World {
    let mut world = World::new(namespace, Settings::default());
    for &kind in Kind::OURS {
        for object in store.list(kind, namespace) {
            if object.metadata.deletion_timestamp.is_none() {
                world.insert(with_kind(&object, kind));
            }
        }
    }
    let classes = store.list(Kind::GatewayClass, "");
    let classes: Vec<_> = classes.iter().filter_map(|class| serde_json::to_value(&**class).ok()).collect();
    world.classes = Classes::of(classes.iter());
    world.routes = typed(store, Kind::HttpRoute, namespace);
    world.gateways = typed(store, Kind::Gateway, namespace);
    world.services = typed(store, Kind::Service, namespace);
    let policies = store.list(Kind::BackendTlsPolicy, namespace);
    let live = policies.iter().filter(|policy| policy.metadata.deletion_timestamp.is_none());
    world.backend_tls_policies = live.map(|policy| backend_tls_policy(policy)).collect();
    world.sort();
    world
}

/// Reads the Secrets and ConfigMaps that the world names, one by one: the operator may not list them.
pub(crate) async fn read_named(world: &mut World, client: &Client) -> Result<(), kube::Error> {
    let api: Api<Secret> = Api::namespaced(client.clone(), &world.namespace);
    for name in world.secret_names() {
        if let Some(secret) = api.get_opt(&name).await? {
            let values: BTreeMap<_, _> =
                secret.data.into_iter().flatten().map(|(key, value)| (key, Redacted::new(value.0))).collect();
            world.secrets.insert(name, values);
        }
    }
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), &world.namespace);
    for name in world.config_map_names() {
        if let Some(map) = api.get_opt(&name).await? {
            world.config_maps.insert(name, map.data.unwrap_or_default());
        }
    }
    Ok(())
}

/// A policy that cannot be read still holds its Services: without a `validation` it cannot be used, so that nothing is
/// sent to them in the clear.
fn backend_tls_policy(object: &DynamicObject) -> BackendTlsPolicy {
    let value = serde_json::to_value(object).unwrap_or_default();
    serde_json::from_value(value).unwrap_or_else(|error| {
        tracing::warn!(name = object.metadata.name, %error, "a BackendTLSPolicy cannot be read");
        let targets = object.data.pointer("/spec/targetRefs").cloned().unwrap_or_default();
        let target_refs = serde_json::from_value(targets).unwrap_or_default();
        BackendTlsPolicy {
            metadata: object.metadata.clone(),
            spec: BackendTlsPolicySpec { target_refs, ..BackendTlsPolicySpec::default() },
            status: None,
        }
    })
}

fn with_kind(object: &DynamicObject, kind: Kind) -> serde_json::Value {
    let mut value = serde_json::to_value(object).unwrap_or_default();
    value["kind"] = kind.name().into();
    value["apiVersion"] = "identity-manager.io/v1alpha1".into();
    value
}

/// Objects of other groups; one that cannot be read is left out and logged, because it cannot refer to objects of ours.
fn typed<K: DeserializeOwned>(store: &Store, kind: Kind, namespace: &str) -> Vec<K> {
    let read = |object: &DynamicObject| match serde_json::to_value(object).and_then(serde_json::from_value) {
        Ok(typed) => Some(typed),
        Err(error) => {
            tracing::warn!(kind = kind.name(), namespace, name = object.metadata.name, %error, "an object cannot be read");
            None
        }
    };
    let live = store.list(kind, namespace);
    live.iter()
        .filter(|object| object.metadata.deletion_timestamp.is_none())
        .filter_map(|object| read(object))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backend_tls_policy_that_cannot_be_read_still_holds_its_services() {
        let object: DynamicObject = serde_json::from_value(serde_json::json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "BackendTLSPolicy",
            "metadata": {"name": "p", "namespace": "shop"},
            "spec": {
                "targetRefs": [{"group": "", "kind": "Service", "name": "orders"}],
                "validation": {"hostname": "orders.internal", "wellKnownCACertificates": "System",
                    "subjectAltNames": [{"type": "Email", "email": "a@b"}]},
            },
        }))
        .expect("an object");
        let policy = backend_tls_policy(&object);
        assert_eq!(idm_compile::targeted_services(&policy).collect::<Vec<_>>(), ["orders"]);
        assert_eq!(policy.spec.validation.hostname, "", "it cannot be used");
    }
}
