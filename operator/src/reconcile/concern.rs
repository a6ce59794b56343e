//! Which namespaces hear of a change: those whose gateways or routes it concerns, and no others.

use serde_json::json;

use super::*;

fn object(namespace: &str, name: &str, spec: serde_json::Value) -> Arc<DynamicObject> {
    let metadata = match namespace {
        "" => json!({"name": name}),
        _ => json!({"name": name, "namespace": namespace}),
    };
    Arc::new(serde_json::from_value(json!({"metadata": metadata, "spec": spec})).unwrap())
}

fn route(namespace: &str, gateway: &str) -> Arc<DynamicObject> {
    object(namespace, "r", json!({"parentRefs": [{"name": "g", "namespace": gateway}]}))
}

fn grant(namespace: &str, from: &str) -> Arc<DynamicObject> {
    object(namespace, "grant", json!({"from": [{"kind": "HTTPRoute", "namespace": from}]}))
}

/// `shop` has a route under a Gateway of `infra`, and may use the Services of `stock`; `bank` has none of these.
fn store() -> watch::Store {
    let store = watch::Store::default();
    store.replace(Kind::HttpRoute, route("shop", "infra"));
    store.replace(Kind::GrpcRoute, route("bank", "vault"));
    store.replace(Kind::ReferenceGrant, grant("stock", "shop"));
    store.replace(Kind::Gateway, object("edge", "g", json!({})));
    store
}

#[test]
fn a_change_is_told_to_the_namespaces_it_concerns() {
    let heard = |kind, before: Option<Arc<DynamicObject>>, now: Option<Arc<DynamicObject>>| {
        let all = concerned(&store(), &Seen { kind, before, now, initial: false }, "idm-system");
        all.into_iter().collect::<Vec<_>>().join(" ")
    };
    let new = |kind, object| heard(kind, None, Some(object));
    let gone = |kind, object| heard(kind, Some(object), None);
    for kind in Kind::OURS {
        assert_eq!(new(*kind, object("shop", "p", json!({}))), "infra shop", "{kind:?}");
    }
    // A baseline of the cluster concerns all, when it appears and when it goes; of another namespace it is none.
    let class = json!({"targetRefs": [{"group": "gateway.networking.k8s.io", "kind": "GatewayClass", "name": "idm"}]});
    assert_eq!(gone(Kind::IdentityPolicy, object("idm-system", "p", class.clone())), "edge idm-system");
    assert_eq!(new(Kind::IdentityPolicy, object("alone", "p", class)), "alone");
    assert_eq!(new(Kind::IdentityPolicy, object("alone", "p", json!({}))), "alone");
    assert_eq!(new(Kind::Service, object("shop", "up", json!({}))), "infra shop");
    assert_eq!(new(Kind::Service, object("stock", "up", json!({}))), "infra shop stock");
    assert_eq!(new(Kind::Pod, object("shop", "idm-gateway-1", json!({}))), "shop");
    // A namespace is an object of the cluster; its labels are asked for where it has routes.
    assert_eq!(new(Kind::Namespace, object("", "shop", json!({}))), " infra shop");
    // A grant that is removed takes back what it gave, and so does a route that names another Gateway now.
    assert_eq!(gone(Kind::ReferenceGrant, grant("stock", "shop")), "infra shop stock");
    let moved = heard(Kind::HttpRoute, Some(route("shop", "old")), Some(route("shop", "infra")));
    assert_eq!(moved, "infra old shop");
    assert_eq!(new(Kind::GrpcRoute, route("alone", "vault")), "alone vault");
    assert_eq!(new(Kind::Gateway, object("infra", "g", json!({}))), "bank infra shop");
}
