//! Two Gateways of one namespace have gateways of their own, and neither has anything of the other.

use idm_plan::Bundle;
use serde_json::{Value, json};

use super::api_server::{ApiServer, CLASS, NAMESPACE, orders};
use super::parity::{DELETED, context};
use super::*;

fn gateway(name: &str, more: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: {name}}}
spec: {{gatewayClassName: idm, listeners: [{{name: http, port: 80, protocol: HTTP}}]{more}}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: {name}}}
spec:
  parentRefs: [{{name: {name}}}]
  hostnames: [{name}.example]
  rules: [{{backendRefs: [{{name: orders, port: 8080}}]}}]
---
apiVersion: identity-manager.io/v1alpha1
kind: IdentityPolicy
metadata: {{name: {name}}}
spec:
  targetRefs: [{{group: gateway.networking.k8s.io, kind: Gateway, name: {name}}}]
  authentication:
    methods:
    - name: machines
      introspection:
        issuer: https://{name}.idp.example
        endpoint: https://{name}.idp.example/introspect
        clientId: a
        clientSecretRef: {{name: keys-{name}}}
---
apiVersion: v1
kind: Secret
metadata: {{name: keys-{name}}}
stringData: {{clientSecret: secret-of-{name}}}
"
    )
}

const BIG: &str = "---
apiVersion: v1
kind: ConfigMap
metadata: {name: big}
data: {autoscaling: '{min: 2, max: 9, targetCPU: 70}'}
---
";

/// The Service, the class and the parameters for all gateways, before these.
fn with_shared(gateways: &str) -> String {
    format!("{}{CLASS}{BIG}{gateways}", orders("{name: keys, apiKey: {}}"))
}

const SCALED: &str = ", infrastructure: {parametersRef: {group: '', kind: ConfigMap, name: big}}";

fn object(value: Value) -> Arc<DynamicObject> {
    Arc::new(serde_json::from_value(value).unwrap())
}

/// The Deployment as the API server shows it after `applied` was applied.
fn stored(mut applied: Value, owner_of_replicas: &str, replicas: u32) -> Arc<DynamicObject> {
    applied["metadata"]["resourceVersion"] = "7".into();
    applied["metadata"]["managedFields"] = json!([{"manager": owner_of_replicas, "operation": "Apply",
        "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {"f:replicas": {}}}}]);
    applied["spec"]["replicas"] = replicas.into();
    object(applied)
}

fn kinds_of(server: &ApiServer, name: &str) -> Vec<String> {
    let all = server.applied();
    all.keys().filter_map(|path| path.strip_suffix(&format!("/{name}")).map(str::to_owned)).collect()
}

const KINDS: [&str; 7] =
    ["deployments", "networkpolicies", "poddisruptionbudgets", "rolebindings", "roles", "serviceaccounts", "services"];

struct Bed {
    server: Arc<ApiServer>,
    context: Context,
    queue: Arc<Queue>,
}

impl Bed {
    fn new(yaml: &str) -> Self {
        let server = ApiServer::new(yaml, DELETED);
        let context = context(&server);
        server.fill(&context.store);
        Self { server, context, queue: Arc::default() }
    }

    async fn run(&self) -> anyhow::Result<()> {
        self.queue.changed(NAMESPACE, Duration::ZERO);
        reconcile(&self.context, &self.queue, NAMESPACE).await.map(drop)
    }

    /// Shows the operator the Deployments that it applied.
    fn show_deployments(&self) {
        for (path, deployment) in self.server.applied() {
            if path.starts_with("deployments/") {
                self.context.store.replace(Kind::Deployment, stored(deployment, crate::MANAGER, 2));
            }
        }
    }
}

#[tokio::test]
async fn each_gateway_has_its_own_objects_and_a_bundle_without_what_is_of_another() {
    let bed = Bed::new(&with_shared(&format!("{}---\n{}", gateway("blue", ""), gateway("gold", ""))));
    bed.run().await.unwrap();
    for name in ["idm-gateway", "idm-gateway-blue", "idm-gateway-gold"] {
        assert_eq!(kinds_of(&bed.server, name), KINDS, "{name}");
    }
    let bundles = bed.server.bundles().borrow().clone();
    for (name, own, other) in [("idm-gateway-blue", "blue", "gold"), ("idm-gateway-gold", "gold", "blue")] {
        let Bundle { plan, secrets, .. } = &bundles[name];
        let text = serde_json::to_string(&(plan, secrets)).unwrap();
        assert!(text.contains(&format!("{own}.example")) && text.contains(&format!("keys-{own}")), "{text}");
        assert!(!text.contains(other), "{name}: {text}");
        assert!(!text.contains("shop/orders\""), "policies of Services are not there: {text}");
        let policies: Vec<_> = plan.policies.iter().map(|policy| policy.key.name.as_str()).collect();
        assert_eq!(policies, [own]);
        let deployment = &bed.server.applied()[&format!("deployments/{name}")];
        assert_eq!(deployment["metadata"]["ownerReferences"].as_array().unwrap().len(), 1);
        let pod = deployment["spec"]["template"]["spec"].to_string();
        assert!(pod.contains(&format!("--config-secret={name}")) && !pod.contains(other), "{pod}");
    }
    let names: Vec<_> = bundles["idm-gateway"].plan.policies.iter().map(|of| of.key.name.as_str()).collect();
    assert_eq!(names, ["orders"]);

    // The selectors of no two gateways have a pod in common.
    let selector = |name: &str| bed.server.applied()[&format!("services/{name}")]["spec"]["selector"].clone();
    let of = |name: &str| selector(name)["app.kubernetes.io/name"].as_str().unwrap().to_owned();
    let pods: BTreeSet<_> = ["idm-gateway", "idm-gateway-blue", "idm-gateway-gold"].map(of).into();
    assert_eq!(pods.len(), 3);

    // One is deleted: its objects go, and those of the others stay.
    bed.show_deployments();
    bed.context.store.remove(Kind::Gateway, &object(json!({"metadata": {"name": "gold", "namespace": NAMESPACE}})));
    bed.run().await.unwrap();
    assert_eq!(kinds_of(&bed.server, "idm-gateway-gold"), Vec::<String>::new());
    assert!(bed.server.values("idm-gateway-gold").is_none(), "its bundle is gone");
    assert_eq!(kinds_of(&bed.server, "idm-gateway-blue"), KINDS);
    assert_eq!(bed.server.bundles().borrow()["idm-gateway-blue"], bundles["idm-gateway-blue"], "nothing changed");
}

#[tokio::test]
async fn an_autoscaler_comes_and_goes_and_nobody_writes_its_number() {
    let bed = Bed::new(&with_shared(&gateway("blue", SCALED)));
    bed.run().await.unwrap();
    let replicas = || bed.server.applied()["deployments/idm-gateway-blue"]["spec"].get("replicas").cloned();
    assert!(kinds_of(&bed.server, "idm-gateway-blue").contains(&"horizontalpodautoscalers".to_owned()));
    assert_eq!(replicas(), Some(json!(2)), "a new one begins with the least");
    let deployment = || bed.server.applied()["deployments/idm-gateway-blue"].clone();
    bed.context.store.replace(Kind::Deployment, stored(deployment(), "kube-controller-manager", 5));
    bed.context.stored.forget_applied(NAMESPACE, "idm-gateway-blue");
    bed.run().await.unwrap();
    assert_eq!(replicas(), None, "it is the autoscaler's");
    // Without the parameters it goes, and the number is the operator's again.
    let fixed = bed.context.store.find(Kind::Gateway, NAMESPACE, "blue").unwrap();
    let mut fixed = serde_json::to_value(&*fixed).unwrap();
    fixed["spec"].as_object_mut().unwrap().remove("infrastructure");
    bed.context.store.replace(Kind::Deployment, stored(deployment(), "kube-controller-manager", 5));
    bed.context.store.replace(Kind::Gateway, object(fixed));
    bed.run().await.unwrap();
    assert_eq!(kinds_of(&bed.server, "idm-gateway-blue"), KINDS);
    assert_eq!(replicas(), Some(json!(1)));
}

#[tokio::test]
async fn a_gateway_that_is_served_already_stays_where_it_is_until_it_asks() {
    let bed = Bed::new(&with_shared(&format!("{}---\n{}", gateway("old", SCALED), gateway("new", ""))));
    let old = bed.context.store.find(Kind::Gateway, NAMESPACE, "old").unwrap();
    // As an older version of the operator left it.
    let service = json!({"metadata": {"name": "idm-gateway", "namespace": NAMESPACE,
        "ownerReferences": [{"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "name": "old",
            "uid": old.metadata.uid}]}, "spec": {"ports": []}});
    bed.context.store.replace(Kind::Service, object(service));
    bed.run().await.unwrap();
    assert!(kinds_of(&bed.server, "idm-gateway-old").is_empty());
    assert_eq!(kinds_of(&bed.server, "idm-gateway-new"), KINDS);
    // Its parameters have no place in a gateway that is shared, so the Gateway is refused, as it was before.
    let of_shared = |bed: &Bed| serde_json::to_string(&bed.server.bundles().borrow()["idm-gateway"].plan).unwrap();
    assert!(!of_shared(&bed).contains("old.example"));
    let mut asked = serde_json::to_value(&*old).unwrap();
    asked["spec"].as_object_mut().unwrap().remove("infrastructure");
    bed.context.store.replace(Kind::Gateway, object(asked.clone()));
    bed.run().await.unwrap();
    assert!(of_shared(&bed).contains("old.example"));
    asked["metadata"]["annotations"] = json!({idm_api::LAYOUT_ANNOTATION: "own"});
    bed.context.store.replace(Kind::Gateway, object(asked));
    bed.run().await.unwrap();
    assert_eq!(kinds_of(&bed.server, "idm-gateway-old"), KINDS);
    assert!(!of_shared(&bed).contains("old.example"));
}

#[tokio::test]
async fn a_gateway_that_the_api_server_refuses_holds_up_no_other() {
    let bed = Bed::new(&with_shared(&format!("{}---\n{}", gateway("blue", ""), gateway("gold", ""))));
    bed.server.refuse("services/idm-gateway-blue");
    let error = bed.run().await.unwrap_err();
    assert!(error.to_string().contains("the substitute refuses it"), "{error}");
    assert_eq!(kinds_of(&bed.server, "idm-gateway-gold"), KINDS);
    assert!(!kinds_of(&bed.server, "idm-gateway-blue").contains(&"deployments".to_owned()));
}
