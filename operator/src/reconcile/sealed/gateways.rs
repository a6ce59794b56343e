//! The gateways of one namespace have keys in common, and each a sealed bundle of its own.

use super::*;

/// The Deployment of a gateway, as the operator sees it.
fn deployment(name: &str) -> Arc<DynamicObject> {
    let labels = json!({"app.kubernetes.io/name": name, "app.kubernetes.io/managed-by": crate::MANAGER});
    let object = json!({"metadata": {"name": name, "namespace": NAMESPACE, "labels": labels}});
    Arc::new(serde_json::from_value(object).unwrap())
}

/// Reconciles after the Gateway was deleted.
async fn delete_gateway(context: &Context) -> anyhow::Result<()> {
    let gone = serde_json::from_value(json!({"metadata": {"name": "shop", "namespace": NAMESPACE}})).unwrap();
    context.store.remove(Kind::Gateway, &gone);
    let queue = Arc::new(Queue::default());
    (0..9).for_each(|_| queue.changed(NAMESPACE, Duration::ZERO));
    reconcile(context, &queue, NAMESPACE).await.map(drop)
}

#[tokio::test]
async fn gateways_of_a_namespace_have_its_keys_in_common_and_each_a_bundle_that_opens_in_its_place_only() {
    let server = ApiServer::new(&samples(), DELETED);
    put_keys(&server, "1", &["1"]);
    let context = operator(&server).await;
    server.written();
    run(&context).await.unwrap();
    let written = server.written();
    let at = |end: &str| written.iter().position(|path| path.ends_with(end)).unwrap_or_else(|| panic!("{end}"));
    let created = written.iter().position(|path| path.ends_with(&format!("/namespaces/{NAMESPACE}/secrets"))).unwrap();
    for gateway in ["idm-gateway", "idm-gateway-shop"] {
        assert!(created < at(&format!("/deployments/{gateway}")), "{written:#?}");
        let pods = server.applied()[&format!("deployments/{gateway}")]["spec"]["template"]["spec"].to_string();
        assert!(pods.contains("--seal-keys=/seal") && pods.contains(GATEWAY_KEYS), "{pods}");
    }
    let secret = |name: &str| server.all_secrets().into_iter().find(|secret| secret.name_any() == name);
    let owners = secret(GATEWAY_KEYS).unwrap().metadata.owner_references.unwrap();
    for kind in ["Gateway", "IdentityPolicy"] {
        assert!(owners.iter().any(|owner| owner.kind == kind), "{owners:?}");
    }

    let envelope = Envelope::new(SharedKeys::new(keys_of(&server, GATEWAY_KEYS)));
    let bundle = secret("idm-gateway-shop").unwrap().data.unwrap().remove("bundle").unwrap().0;
    let place = |object: &'static str| Place { namespace: NAMESPACE, object, field: "bundle" };
    assert!(envelope.open(&place("idm-gateway-shop"), &bundle).await.is_ok());
    assert!(envelope.open(&place("idm-gateway"), &bundle).await.is_err());

    // Without its Gateway one goes, and what all of them use stays.
    for name in ["idm-gateway", "idm-gateway-shop"] {
        context.store.replace(Kind::Deployment, deployment(name));
    }
    delete_gateway(&context).await.unwrap();
    assert!(secret("idm-gateway-shop").is_none());
    assert!(secret("idm-gateway").is_some() && secret(GATEWAY_KEYS).is_some());
    assert!(server.applied().contains_key("deployments/idm-gateway"));
}

#[tokio::test]
async fn a_bundle_that_does_not_open_holds_up_the_namespace_and_not_the_removal_of_its_gateway() {
    let server = ApiServer::new(&samples(), DELETED);
    put_keys(&server, "1", &["1"]);
    let context = operator(&server).await;
    run(&context).await.unwrap();
    let shop = |server: &ApiServer| ours(server).into_iter().find(|secret| secret.name_any() == "idm-gateway-shop");
    let mut moved = shop(&server).unwrap();
    moved.metadata.resource_version = None;
    moved.data.as_mut().unwrap().insert("bundle".into(), ByteString(bundle_bytes(&server)));
    server.write(&serde_json::to_value(&moved).unwrap());
    server.written();
    let error = run(&context).await.unwrap_err().to_string();
    assert!(error.contains("idm-gateway-shop, key 'bundle'"), "{error}");
    let written = server.written();
    assert!(!written.iter().any(|path| path.contains("/secrets")), "{written:?}");
    assert!(server.statuses().contains("SealingFailed"));
    context.store.replace(Kind::Deployment, deployment("idm-gateway-shop"));
    delete_gateway(&context).await.unwrap();
    assert!(shop(&server).is_none());
}
