//! A baseline of the operator's namespace is in force in every other one, as long as it is there.

use serde_json::json;

use super::api_server::{ApiServer, CLASS, HOME, NAMESPACE, orders};
use super::parity::{DELETED, context};
use super::*;

#[tokio::test]
async fn a_baseline_for_a_class_is_in_the_bundle_of_every_namespace_and_goes_with_its_policy() {
    let objects = orders("{name: everyone, anonymous: {}}") + CLASS;
    let server = ApiServer::new(&objects, DELETED);
    let context = context(&server);
    server.fill(&context.store);
    let queue = Arc::new(Queue::default());
    let baselines = async || {
        queue.changed(NAMESPACE, SETTLE);
        reconcile(&context, &queue, NAMESPACE).await.unwrap();
        let plan = server.bundle().borrow().clone().unwrap().plan;
        let rule = plan.rules.iter().find(|rule| rule.name.contains("orders")).unwrap();
        rule.baselines.iter().map(|of| plan.policies[*of].key.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(baselines().await, Vec::<String>::new());
    let target = json!({"group": "gateway.networking.k8s.io", "kind": "GatewayClass", "name": "idm"});
    let policy = |namespace: &str| -> Arc<DynamicObject> {
        let metadata = json!({"name": "cluster", "namespace": namespace, "uid": namespace, "generation": 1});
        let spec = json!({"targetRefs": [target], "baseline": {"methods": ["apiKey"]}});
        Arc::new(serde_json::from_value(json!({"metadata": metadata, "spec": spec})).unwrap())
    };
    context.store.replace(Kind::IdentityPolicy, policy("elsewhere"));
    assert_eq!(baselines().await, Vec::<String>::new(), "another namespace demands nothing");
    context.store.replace(Kind::IdentityPolicy, policy(HOME));
    assert_eq!(baselines().await, [format!("{HOME}/cluster")]);
    context.store.remove(Kind::IdentityPolicy, &policy(HOME));
    assert_eq!(baselines().await, Vec::<String>::new());
}
