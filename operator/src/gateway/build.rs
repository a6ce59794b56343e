//! Builds manifests from a bundle, as a pure function.

use std::collections::BTreeMap;

use idm_compile::{CompiledPart, ListenerPorts, Parameters, Part, World};
use idm_plan::Bundle;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::ObjectMeta;
use serde_json::{Value, json};

use super::GatewaySettings;
use super::deployment::{AUTOSCALED, DeploymentOf, deployment};
use super::part::{self, gateway_label, propagated, selector};
use super::scale::autoscaler;
use super::seal::{Sealed, shard_name};

/// All objects of a gateway, in the order of writing: permissions before pods, and the bundle before the pods that
/// mount it.
pub(crate) struct Built {
    /// Their name.
    pub(crate) name: String,
    pub(crate) bundle: Bundle,
    pub(crate) secret: Secret,
    /// None where the parameters of the Gateway cannot be used: its gateway stays as it is.
    pub(crate) objects: Vec<Value>,
}

/// The label of Secrets that hold what gateways read.
pub(crate) const BUNDLE_LABEL: &str = "identity-manager.io/bundle";

/// Builds the gateway of a part of the world's namespace.
pub(crate) fn build(world: &World, compiled: &CompiledPart, sealed: Sealed, settings: &GatewaySettings) -> Built {
    let (CompiledPart { part, ports, parameters, .. }, Sealed { bundle, packed, .. }) = (compiled, sealed);
    let name = part::name(part);
    let owners = serde_json::to_value(part::owners(world, part)).unwrap_or_default();
    let (mut labels, annotations) = propagated(world, part);
    let pod = json!({"labels": labels, "annotations": annotations});
    // Pods go without the label of the Gateway API: those of the namespace's gateway would be replaced when a second
    // Gateway comes.
    if let Some(gateway) = gateway_label(world, part) {
        labels["gateway.networking.k8s.io/gateway-name"] = gateway.into();
    }
    let metadata = json!({"name": name, "namespace": world.namespace, "labels": labels, "annotations": annotations,
        "ownerReferences": owners});
    let of = ObjectsOf { name: &name, metadata: &metadata, pod: &pod, ports: *ports, shards: bundle.shards.len() };
    let objects = parameters.as_ref().map(|parameters| objects(&of, parameters, settings)).unwrap_or_default();
    labels[BUNDLE_LABEL] = "true".into();
    let secret = Secret {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            namespace: Some(world.namespace.clone()),
            labels: serde_json::from_value(labels).ok(),
            annotations: serde_json::from_value(annotations).ok(),
            owner_references: serde_json::from_value(owners).ok(),
            ..ObjectMeta::default()
        },
        data: Some(data(packed, settings)),
        ..Secret::default()
    };
    Built { name, bundle, secret, objects }
}

/// The metadata of the Secrets that all gateways of a namespace read.
pub(crate) fn shared_metadata(world: &World) -> ObjectMeta {
    let mut labels = part::labels(&part::name(&Part::Shared));
    labels[BUNDLE_LABEL] = "true".into();
    ObjectMeta {
        namespace: Some(world.namespace.clone()),
        labels: serde_json::from_value(labels).ok(),
        owner_references: Some(part::owners_of_all(world)),
        ..ObjectMeta::default()
    }
}

struct ObjectsOf<'a> {
    name: &'a str,
    metadata: &'a Value,
    pod: &'a Value,
    ports: ListenerPorts,
    shards: usize,
}

fn objects(of: &ObjectsOf<'_>, parameters: &Parameters, settings: &GatewaySettings) -> Vec<Value> {
    let ObjectsOf { name, metadata, pod, ports, shards } = *of;
    let selector = selector(name);
    let mut of_service = metadata.clone();
    merge(&mut of_service["annotations"], &json!(parameters.service.annotations));
    let mut of_deployment = metadata.clone();
    let autoscaler = autoscaler(name, metadata, parameters);
    if autoscaler.is_some() {
        of_deployment["annotations"][AUTOSCALED] = "true".into();
    }
    let described = DeploymentOf { name, selector: &selector, pod, shards, parameters };
    let mut objects = vec![
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata,
            "automountServiceAccountToken": false}),
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": metadata,
            "rules": rules(name, shards)}),
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": metadata,
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": metadata["namespace"]}]}),
        json!({"apiVersion": "v1", "kind": "Service", "metadata": of_service,
            "spec": service(&selector, ports, parameters)}),
        json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": metadata,
            "spec": {"maxUnavailable": 1, "selector": {"matchLabels": selector}}}),
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata,
            "spec": network_policy(settings, &selector)}),
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": of_deployment,
            "spec": deployment(settings, &described)}),
    ];
    objects.extend(autoscaler);
    objects
}

/// Adds the members of an object to another one.
fn merge(into: &mut Value, more: &Value) {
    if let (Some(into), Some(more)) = (into.as_object_mut(), more.as_object()) {
        into.extend(more.clone());
    }
}

/// The files that a pod finds in its Secret.
fn data(packed: Vec<u8>, settings: &GatewaySettings) -> BTreeMap<String, ByteString> {
    let mut data = BTreeMap::from([("bundle".to_owned(), ByteString(packed))]);
    let secrets = [
        ("elasticsearch-authorization", &settings.elasticsearch_authorization),
        ("traces-authorization", &settings.traces_authorization),
        ("store-password", &settings.store_password),
        ("audit-chain-key", &settings.chain_key),
    ];
    let given = secrets.into_iter().filter_map(|(name, secret)| Some((name, secret.as_ref()?)));
    data.extend(given.map(|(name, secret)| (name.to_owned(), ByteString(secret.reveal().clone().into_bytes()))));
    data
}

/// The rights of a gateway: its bundle, and the shards that the bundle names.
fn rules(name: &str, shards: usize) -> Value {
    let mut rules = vec![json!({"apiGroups": [""], "resources": ["secrets"], "resourceNames": [name],
            "verbs": ["get", "list", "watch"]})];
    if shards > 0 {
        let names: Vec<String> = (0..shards).map(shard_name).collect();
        rules.push(json!({"apiGroups": [""], "resources": ["secrets"], "resourceNames": names, "verbs": ["get"]}));
    }
    rules.into()
}

/// The spec of the Service. Its type is written where it is not the usual one, as it always was.
fn service(selector: &Value, ports: ListenerPorts, parameters: &Parameters) -> Value {
    let asked = &parameters.service;
    let mut spec = json!({"selector": selector, "ports": service_ports(ports)});
    if asked.kind != idm_compile::ServiceType::ClusterIP {
        spec["type"] = json!(asked.kind);
    }
    if let Some(class) = &asked.load_balancer_class {
        spec["loadBalancerClass"] = class.clone().into();
    }
    if let Some(policy) = asked.external_traffic_policy {
        spec["externalTrafficPolicy"] = json!(policy);
    }
    spec
}

/// Port 80, or those that the part's listeners agree on.
fn service_ports(ListenerPorts { http, https }: ListenerPorts) -> Value {
    // Beside an HTTPS listener, plain HTTP is served only where a listener asks for it.
    let http = http.or(https.is_none().then_some(80));
    let port = |name: &str, port: Option<i32>| {
        port.map(|port| json!({"name": name, "port": port, "targetPort": name, "protocol": "TCP", "appProtocol": name}))
    };
    [port("http", http), port("https", https)].into_iter().flatten().collect()
}

fn network_policy(settings: &GatewaySettings, selector: &Value) -> Value {
    let watchers = std::iter::once(&settings.operator_namespace).chain(&settings.metrics_namespaces);
    let watchers: Vec<_> = watchers
        .map(|name| json!({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}}))
        .collect();
    json!({
        "podSelector": {"matchLabels": selector},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [
            {"ports": [{"port": "http", "protocol": "TCP"}, {"port": "https", "protocol": "TCP"}]},
            {"ports": [{"port": "admin", "protocol": "TCP"}], "from": watchers},
        ],
        // Backends, issuers and DNS may be anywhere; the cloud's metadata service is never a backend.
        "egress": [{"to": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": ["169.254.0.0/16"]}},
        {"ipBlock": {"cidr": "::/0", "except": ["fe80::/10"]}}]}],
    })
}

#[cfg(test)]
pub(super) mod tests {
    use clap::Parser;
    use idm_types::Redacted;

    use super::super::{CallerLimits, NAME, Telemetry, ToSeal, seal};
    use super::*;
    use idm_compile::Layout;

    #[derive(Parser)]
    pub(crate) struct Given {
        #[command(flatten)]
        pub(crate) limits: CallerLimits,
        #[command(flatten)]
        pub(crate) telemetry: Telemetry,
    }

    pub(crate) fn settings(limits: CallerLimits, telemetry: Telemetry) -> GatewaySettings {
        GatewaySettings {
            operator_namespace: "idm-system".into(),
            metrics_namespaces: vec!["monitoring".into()],
            image: "idm".into(),
            pull_policy: "Always".into(),
            layout: Layout::Own,
            replicas: 1,
            cpu_request: "100m".into(),
            memory_limit: "256Mi".into(),
            limits,
            telemetry,
            traces_authorization: None,
            audit_on_full: "refuse".into(),
            audit_successes: "within-moments".into(),
            sealing: None,
            store: None,
            store_password: None,
            elasticsearch: None,
            elasticsearch_authorization: None,
            kept: idm_audit::Retention::default(),
            chain_key: None,
        }
    }

    fn shared() -> idm_compile::Settings {
        idm_compile::Settings { layout: Layout::Shared, ..Default::default() }
    }

    fn gateway(infrastructure: Value) -> gateway_api::apis::standard::gateways::Gateway {
        serde_json::from_value(json!({
            "metadata": {"name": "a", "uid": "uid-a"},
            "spec": {"gatewayClassName": "idm", "listeners": [], "infrastructure": infrastructure},
        }))
        .unwrap()
    }

    /// The first gateway of a world.
    fn one(world: &World, settings: &GatewaySettings) -> Built {
        let compiled = idm_compile::compile(world, None);
        let part = &compiled.parts[0];
        let to_seal = [ToSeal { plan: &part.plan, secrets: &part.secrets, current: None }];
        let mut sealed = seal(&to_seal, &compiled.credentials, true, &mut Default::default()).unwrap();
        build(world, part, sealed.remove(0), settings)
    }

    #[test]
    fn a_gateway_of_its_own_is_as_its_parameters_say() {
        let own = idm_compile::Settings { layout: Layout::Own, ..Default::default() };
        let mut world = World::new("shop", own);
        let reference = json!({"group": "", "kind": "ConfigMap", "name": "big"});
        world.gateways = vec![gateway(json!({"parametersRef": reference, "annotations": {"x": "y"}}))];
        let settings = settings(CallerLimits::default(), Telemetry::default());
        assert!(one(&world, &settings).objects.is_empty(), "without its ConfigMap nothing is made or changed");
        let data = json!({
            "autoscaling": "{min: 2, max: 9, targetCPU: 70}",
            "resources": "{requests: {cpu: 1}, limits: {memory: 1Gi, cpu: 2}}",
            "service": "{type: LoadBalancer, annotations: {lb.example/kind: nlb}, externalTrafficPolicy: Local}",
            "nodeSelector": "{pool: edge}", "priorityClassName": "high", "topologySpread": "DoNotSchedule",
            "tolerations": "[{key: edge, operator: Exists}]",
        });
        world.config_maps.insert("big".into(), serde_json::from_value(data).unwrap());
        let built = one(&world, &settings);
        let of = |kind: &str| built.objects.iter().find(|object| object["kind"] == kind).unwrap();
        for object in &built.objects {
            assert_eq!(object["metadata"]["name"], "idm-gateway-a");
            let owners = json!([{"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "name": "a",
                "uid": "uid-a"}]);
            assert_eq!(object["metadata"]["ownerReferences"], owners);
        }
        let rights = of("Role")["rules"].clone();
        assert_eq!(
            rights,
            json!([{"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["idm-gateway-a"],
            "verbs": ["get", "list", "watch"]}])
        );
        let service = of("Service");
        assert_eq!(service["metadata"]["annotations"], json!({"x": "y", "lb.example/kind": "nlb"}));
        assert_eq!(
            (&service["spec"]["type"], &service["spec"]["externalTrafficPolicy"]),
            (&json!("LoadBalancer"), &json!("Local"))
        );
        let (deployment, scaler) = (of("Deployment"), of("HorizontalPodAutoscaler"));
        assert_eq!(deployment["spec"].get("replicas"), None, "the number is the autoscaler's");
        assert_eq!((&scaler["spec"]["minReplicas"], &scaler["spec"]["maxReplicas"]), (&json!(2), &json!(9)));
        assert_eq!(scaler["spec"]["scaleTargetRef"]["name"], "idm-gateway-a");
        let pod = &deployment["spec"]["template"]["spec"];
        assert_eq!(
            pod["containers"][0]["resources"],
            json!({"requests": {"cpu": "1", "memory": "64Mi"},
            "limits": {"memory": "1Gi", "cpu": "2"}})
        );
        assert_eq!((&pod["nodeSelector"], &pod["priorityClassName"]), (&json!({"pool": "edge"}), &json!("high")));
        assert_eq!(pod["tolerations"], json!([{"key": "edge", "operator": "Exists"}]));
        assert_eq!(pod["topologySpreadConstraints"][1]["whenUnsatisfiable"], "DoNotSchedule");
        assert_eq!(pod["serviceAccountName"], "idm-gateway-a");
    }

    #[test]
    fn the_control_port_is_open_to_the_operator_and_to_those_who_read_metrics() {
        let policy = network_policy(&settings(CallerLimits::default(), Telemetry::default()), &selector(NAME));
        let of = |rule: &Value| {
            let from = rule["from"].as_array().into_iter().flatten();
            let label = "/namespaceSelector/matchLabels/kubernetes.io~1metadata.name";
            from.map(|from| from.pointer(label).and_then(Value::as_str).unwrap_or("all").to_owned()).collect::<Vec<_>>()
        };
        let rules = policy["ingress"].as_array().unwrap();
        let admin: Vec<_> = rules.iter().filter(|rule| rule["ports"].to_string().contains("admin")).collect();
        assert_eq!((admin.len(), of(admin[0])), (1, vec!["idm-system".to_owned(), "monitoring".to_owned()]));
        assert_eq!(rules.len(), 2);
    }

    #[test]
    fn labels_and_annotations_of_gateways_reach_the_objects_and_none_of_ours_is_replaced() {
        let gateway = |name: &str, created: &str, infrastructure: Value| {
            serde_json::from_value(json!({
                "metadata": {"name": name, "creationTimestamp": created},
                "spec": {"gatewayClassName": "idm", "listeners": [], "infrastructure": infrastructure},
            }))
            .unwrap()
        };
        let mut world = World::new("shop", shared());
        world.gateways = vec![
            gateway("b", "2026-01-02T00:00:00Z", json!({"labels": {"team": "b", "tier": "web"}})),
            gateway(
                "a",
                "2026-01-01T00:00:00Z",
                json!({"labels": {"team": "a", "app.kubernetes.io/name": "x"}, "annotations": {"key1": "value1"}}),
            ),
        ];
        let settings = settings(CallerLimits::default(), Telemetry::default());
        let built = |world: &World| one(world, &settings).objects;
        for object in built(&world) {
            let pod = object.pointer("/spec/template/metadata");
            for metadata in pod.into_iter().chain([&object["metadata"]]) {
                let label = |name: &str| metadata["labels"][name].as_str();
                assert_eq!((label("team"), label("tier")), (Some("a"), Some("web")), "{metadata}");
                assert_eq!(label("app.kubernetes.io/name"), Some(NAME));
                assert_eq!(metadata["annotations"]["key1"], "value1");
                assert_eq!(label("gateway.networking.k8s.io/gateway-name"), None);
            }
        }
        world.gateways.truncate(1);
        let objects = built(&world);
        let named = |object: &Value| object["metadata"]["labels"]["gateway.networking.k8s.io/gateway-name"] == "b";
        assert!(objects.iter().all(named), "{objects:#?}");
    }

    #[test]
    fn a_gateway_may_read_its_own_shards_and_has_them_mounted() {
        let none = json!({});
        let deployment = |shards| {
            let settings = settings(CallerLimits::default(), Telemetry::default());
            let parameters = Parameters::default();
            let name = "idm-gateway-a";
            let of = DeploymentOf { name, selector: &none, pod: &none, shards, parameters: &parameters };
            deployment(&settings, &of)
        };
        let rules = |shards| rules("idm-gateway-a", shards);
        let texts = |value: &Value| value.to_string();
        assert!(!texts(&rules(0)).contains("shard") && !texts(&deployment(0)).contains("shards"));
        assert_eq!(rules(64)[1]["resourceNames"].as_array().map(Vec::len), Some(64));
        assert_eq!(rules(64)[1]["verbs"], json!(["get"]));
        let volumes = &deployment(64)["template"]["spec"]["volumes"];
        let shards = volumes.as_array().unwrap().iter().find(|volume| volume["name"] == "shards").unwrap();
        let source = &shards["projected"]["sources"][63]["secret"];
        assert_eq!((&source["name"], &source["optional"]), (&json!("idm-gateway-shard-63"), &json!(true)));
        assert_eq!(source["items"][1], json!({"key": "previous", "path": "63/previous"}));
        assert!(texts(&deployment(64)["template"]["spec"]["containers"]).contains("\"/shards\""));
    }

    #[test]
    fn the_authorization_of_the_collector_is_in_the_secret_that_gateways_mount_and_nowhere_else() {
        let mut world = World::new("shop", shared());
        world.gateways = vec![gateway(json!({}))];
        let mut settings = settings(CallerLimits::default(), Telemetry::default());
        settings.traces_authorization = Some(Redacted::new("Bearer canary".to_owned()));
        let built = one(&world, &settings);
        let data = built.secret.data.unwrap();
        assert_eq!(data["traces-authorization"].0, b"Bearer canary");
        let objects = serde_json::to_string(&built.objects).unwrap();
        assert!(objects.contains("--traces-authorization-file=/config/traces-authorization"), "{objects}");
        assert!(!objects.contains("canary"), "{objects}");
    }
}
