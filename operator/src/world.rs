//! A consistent snapshot of one namespace: the same `World` that a folder gives.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use gateway_api::apis::standard::backendtlspolicies::{BackendTlsPolicy, BackendTlsPolicySpec};
use gateway_api::apis::standard::grpcroutes::GrpcRoute;
use gateway_api::apis::standard::httproutes::HttpRoute;
use idm_compile::{Classes, Route, Settings, World};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::core::DynamicObject;
use kube::{Api, Client};
use serde::de::DeserializeOwned;

use crate::gateway;
use crate::objects::Kind;
use crate::watch::Store;

/// A namespace's objects, with those of others whose routes its Gateways take. Without Secrets and ConfigMaps: those
/// are read when it is known which are named.
pub(crate) fn complete(store: &Store, namespace: &str, settings: Settings) -> World {
    let mut world = objects(store, namespace, settings);
    if world.our_gateways().next().is_none() {
        return world;
    }
    for tenant in with_routes(store).iter().filter(|tenant| *tenant != namespace) {
        if gateways_of(store, tenant).contains(namespace) {
            world.add_tenant(objects(store, tenant, settings));
        }
    }
    world
}

/// A namespace's objects, with what decides which routes its Gateways take: the routes of other namespaces, which
/// matter where there are routes of two kinds.
pub(crate) fn with_other_routes(store: &Store, namespace: &str, settings: Settings) -> World {
    let mut world = objects(store, namespace, settings);
    if store.namespaces(Kind::GrpcRoute).is_empty() || store.namespaces(Kind::HttpRoute).is_empty() {
        return world;
    }
    for tenant in with_routes(store).iter().filter(|tenant| *tenant != namespace) {
        if gateways_of(store, tenant).contains(namespace) {
            let mut of = World::new(tenant, settings);
            of.routes = routes(store, tenant);
            world.add_tenant(of);
        }
    }
    world
}

/// The other namespaces where a namespace's routes name a Gateway.
pub(crate) fn gateways_of(store: &Store, namespace: &str) -> BTreeSet<String> {
    let routes = Kind::ROUTES.iter().flat_map(|kind| store.list(*kind, namespace));
    let routes: Vec<_> = routes.collect();
    routes.iter().flat_map(|route| parent_namespaces(route)).filter(|parent| parent != namespace).collect()
}

/// The namespaces that have routes.
pub(crate) fn with_routes(store: &Store) -> BTreeSet<String> {
    Kind::ROUTES.iter().flat_map(|kind| store.namespaces(*kind)).collect()
}

fn routes(store: &Store, namespace: &str) -> Vec<Route> {
    let mut routes: Vec<Route> =
        typed::<HttpRoute>(store, Kind::HttpRoute, namespace).into_iter().map(Route::from).collect();
    let calls = typed::<GrpcRoute>(store, Kind::GrpcRoute, namespace).into_iter();
    routes.extend(calls.filter_map(|route| Route::try_from(route).ok()));
    routes
}

/// The policies of the operator's namespace, of which those for a GatewayClass hold everywhere.
pub(crate) fn platform(store: &Store, namespace: &str, settings: Settings) -> World {
    let mut world = World::new(namespace, settings);
    for object in store.list(Kind::IdentityPolicy, namespace) {
        if object.metadata.deletion_timestamp.is_none() {
            world.insert(with_kind(&object, Kind::IdentityPolicy));
        }
    }
    world
}

/// Whether a policy is for a GatewayClass.
pub(crate) fn is_for_class(policy: &DynamicObject) -> bool {
    let targets = policy.data.pointer("/spec/targetRefs").and_then(|targets| targets.as_array());
    targets.into_iter().flatten().any(|target| target["kind"] == "GatewayClass")
}

/// The namespaces that the parents of a route name.
pub(crate) fn parent_namespaces(route: &DynamicObject) -> Vec<String> {
    let parents = route.data.pointer("/spec/parentRefs").and_then(|parents| parents.as_array());
    parents.into_iter().flatten().filter_map(|parent| Some(parent["namespace"].as_str()?.to_owned())).collect()
}

/// A namespace's own objects, and those of others that ReferenceGrants permit.
pub(crate) fn objects(store: &Store, namespace: &str, settings: Settings) -> World {
    let mut world = World::new(namespace, settings);
    for &kind in Kind::OURS {
        // Gateways have nothing of requests.
        if matches!(kind, Kind::Credential | Kind::CredentialRequest) {
            continue;
        }
        for object in store.list(kind, namespace) {
            if object.metadata.deletion_timestamp.is_none() {
                world.insert(with_kind(&object, kind));
            }
        }
    }
    store
        .credentials(namespace, |object| {
            let mut one = World::new(namespace, settings);
            one.insert(with_kind(&crate::watch::unpacked(object), Kind::Credential));
            one.credentials.pop().ok_or(one.broken)
        })
        .into_iter()
        .for_each(|read| match read {
            Ok(credential) => world.credentials.push(credential),
            Err(broken) => world.broken.extend(broken),
        });
    let classes = store.list(Kind::GatewayClass, "");
    let classes: Vec<_> = classes.iter().filter_map(|class| serde_json::to_value(&**class).ok()).collect();
    world.classes = Classes::of(classes.iter());
    world.routes = routes(store, namespace);
    world.gateways = typed(store, Kind::Gateway, namespace);
    world.shared_gateways = shared_gateways(store, &world);
    world.services = typed(store, Kind::Service, namespace);
    world.backend_tls_policies = backend_tls_policies(store, namespace);
    for granting in store.namespaces(Kind::ReferenceGrant) {
        world.grants.extend(typed(store, Kind::ReferenceGrant, &granting));
    }
    let granted = world.granted_services();
    for granting in granted.iter().map(|(namespace, _)| namespace).collect::<BTreeSet<_>>() {
        world.granted_backend_tls.extend(backend_tls_policies(store, granting));
    }
    for (granting, name) in granted {
        let service = store.find(Kind::Service, &granting, &name);
        world.granted.extend(service.and_then(|service| read(&service).ok()));
    }
    if world.our_gateways().next().is_some() {
        let labels = |namespace: Arc<DynamicObject>| {
            (namespace.metadata.name.clone().unwrap_or_default(), namespace.metadata.labels.clone().unwrap_or_default())
        };
        world.namespaces = store.list(Kind::Namespace, "").into_iter().map(labels).collect();
    }
    world.sort();
    world
}

/// The Gateways that the namespace's gateway serves: those that own its Service, whose address they have.
fn shared_gateways(store: &Store, world: &World) -> BTreeSet<String> {
    let service = store.find(Kind::Service, &world.namespace, gateway::NAME);
    let owners = service.as_ref().and_then(|service| service.metadata.owner_references.as_ref());
    let owners: BTreeSet<&str> = owners.into_iter().flatten().map(|owner| owner.uid.as_str()).collect();
    let is_owner = |uid: &Option<String>| uid.as_ref().is_some_and(|uid| owners.contains(uid.as_str()));
    let gateways = world.gateways.iter().filter(|gateway| is_owner(&gateway.metadata.uid));
    gateways.filter_map(|gateway| gateway.metadata.name.clone()).collect()
}

fn backend_tls_policies(store: &Store, namespace: &str) -> Vec<BackendTlsPolicy> {
    let policies = store.list(Kind::BackendTlsPolicy, namespace);
    let live = policies.iter().filter(|policy| policy.metadata.deletion_timestamp.is_none());
    live.map(|policy| backend_tls_policy(policy)).collect()
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

/// The addresses of the API server: those of its Service, and its own. A tenant may be able to write them into a
/// Service or an EndpointSlice.
pub(crate) async fn api_server(store: &Store, client: &Client) -> Result<Vec<IpAddr>, kube::Error> {
    const NAMESPACE: &str = "default";
    const NAME: &str = "kubernetes";
    let mut texts: Vec<String> = Vec::new();
    let service = store.find(Kind::Service, NAMESPACE, NAME);
    let service = service.and_then(|service| read::<Service>(&service).ok()).and_then(|service| service.spec);
    texts.extend(service.and_then(|spec| spec.cluster_ips).into_iter().flatten());
    if let Some(slice) = Api::<EndpointSlice>::namespaced(client.clone(), NAMESPACE).get_opt(NAME).await? {
        texts.extend(slice.endpoints.into_iter().flat_map(|endpoint| endpoint.addresses));
    }
    let addresses: BTreeSet<IpAddr> = texts.iter().filter_map(|text| text.parse().ok()).collect();
    Ok(addresses.into_iter().map(|address| address.to_canonical()).collect())
}

fn read<K: DeserializeOwned>(object: &DynamicObject) -> Result<K, serde_json::Error> {
    serde_json::to_value(object).and_then(serde_json::from_value)
}

fn with_kind(object: &DynamicObject, kind: Kind) -> serde_json::Value {
    let mut value = serde_json::to_value(object).unwrap_or_default();
    value["kind"] = kind.name().into();
    value["apiVersion"] = "identity-manager.io/v1alpha1".into();
    value
}

/// Objects of other groups; one that cannot be read is left out and logged, because it cannot refer to objects of ours.
fn typed<K: DeserializeOwned>(store: &Store, kind: Kind, namespace: &str) -> Vec<K> {
    let known = |object: &DynamicObject| match read(object) {
        Ok(typed) => Some(typed),
        Err(error) => {
            tracing::warn!(kind = kind.name(), namespace, name = object.metadata.name, %error, "an object cannot be \
                read");
            None
        }
    };
    let live = store.list(kind, namespace);
    live.iter()
        .filter(|object| object.metadata.deletion_timestamp.is_none())
        .filter_map(|object| known(object))
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
