//! Builds manifests from a bundle, as a pure function.

use idm_api::v1alpha1::TargetReference;
use idm_compile::{ListenerPorts, RouteKind, World};
use idm_plan::{Bundle, PackedShard, SHARD_VERSIONS};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use kube::api::ObjectMeta;
use serde_json::{Value, json};

use super::seal::{Sealed, shard_name};
use super::{GatewaySettings, NAME, owner};
use crate::MANAGER;

/// All objects of a gateway, in the order of writing: permissions before pods, and the bundle before the pods that
/// mount it.
pub(crate) struct Built {
    pub(crate) bundle: Bundle,
    pub(crate) secret: Secret,
    /// The shards of Credentials that the bundle's index names.
    pub(crate) shards: Vec<std::sync::Arc<PackedShard>>,
    pub(crate) objects: Vec<Value>,
}

/// Labels of all objects that belong to a gateway.
fn labels() -> Value {
    json!({"app.kubernetes.io/name": NAME, "app.kubernetes.io/component": "gateway",
        "app.kubernetes.io/part-of": "idm", "app.kubernetes.io/managed-by": MANAGER})
}

/// The label of Secrets that hold what gateways read.
pub(crate) const BUNDLE_LABEL: &str = "identity-manager.io/bundle";

/// Whether an object of a gateway may have a label or annotation of this name: those that find and manage it are ours.
fn is_free(name: &str) -> bool {
    !["app.kubernetes.io/", "identity-manager.io/"].iter().any(|prefix| name.starts_with(prefix))
}

/// The labels and annotations that the namespace's Gateways ask for (`spec.infrastructure`), those of an older Gateway
/// before those of a younger one. Ours stay as they are.
fn propagated(world: &World) -> (Value, Value) {
    let mut gateways: Vec<_> = world.our_gateways().collect();
    gateways.sort_by_key(|gateway| (gateway.metadata.creation_timestamp.clone(), gateway.metadata.name.clone()));
    let (mut all_labels, mut annotations) = (labels(), json!({}));
    for settings in gateways.iter().filter_map(|gateway| gateway.spec.infrastructure.as_ref()) {
        let asked = [(&settings.labels, &mut all_labels), (&settings.annotations, &mut annotations)];
        for (asked, members) in asked {
            let Some(members) = members.as_object_mut() else { continue };
            for (name, value) in asked.iter().flatten().filter(|(name, _)| is_free(name)) {
                members.entry(name.clone()).or_insert_with(|| value.clone().into());
            }
        }
    }
    (all_labels, annotations)
}

/// Builds the gateway of the world's namespace.
pub(crate) fn build(world: &World, ports: ListenerPorts, sealed: Sealed, settings: &GatewaySettings) -> Built {
    let (namespace, Sealed { bundle, packed, shards, .. }) = (&world.namespace, sealed);
    // Kubernetes deletes the gateway with the last of its policies and Gateways, even without an operator.
    let mut owners: Vec<_> = world.policies.iter().map(|p| owner("IdentityPolicy", &p.meta)).collect();
    owners.extend(
        world.broken.iter().filter(|b| b.id.kind == "IdentityPolicy").map(|b| owner("IdentityPolicy", &b.meta)),
    );
    owners.extend(world.our_gateways().map(|g| {
        let mut reference = owner("Gateway", &idm_compile::Meta::of(&g.metadata, "Gateway"));
        reference.api_version = "gateway.networking.k8s.io/v1".into();
        reference
    }));
    let owners = serde_json::to_value(&owners).unwrap_or_default();
    let (mut labels, annotations) = propagated(world);
    let pod = json!({"labels": labels, "annotations": annotations});
    // The label of the Gateway API, where there is one Gateway to name. Pods go without it: they would be replaced when
    // a second Gateway comes.
    let mut gateways = world.our_gateways();
    if let (Some(gateway), None) = (gateways.next(), gateways.next()) {
        labels["gateway.networking.k8s.io/gateway-name"] = gateway.name_any().into();
    }
    let metadata = json!({"name": NAME, "namespace": namespace, "labels": labels, "annotations": annotations,
        "ownerReferences": owners});
    let ports = service_ports(ports);
    let selector = json!({"app.kubernetes.io/name": NAME, "app.kubernetes.io/managed-by": MANAGER});
    let objects = vec![
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata,
            "automountServiceAccountToken": false}),
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": metadata,
            "rules": rules(bundle.shards.len())}),
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": metadata,
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": NAME},
            "subjects": [{"kind": "ServiceAccount", "name": NAME, "namespace": namespace}]}),
        json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata,
            "spec": {"selector": selector, "ports": ports}}),
        json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": metadata,
            "spec": {"maxUnavailable": 1, "selector": {"matchLabels": selector}}}),
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata,
            "spec": network_policy(settings, &selector)}),
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata,
            "spec": deployment(settings, &selector, &pod, bundle.shards.len())}),
    ];
    let mut data = std::collections::BTreeMap::from([("bundle".to_owned(), ByteString(packed))]);
    if let Some(authorization) = &settings.elasticsearch_authorization {
        data.insert("elasticsearch-authorization".to_owned(), ByteString(authorization.reveal().clone().into_bytes()));
    }
    if let Some(authorization) = &settings.traces_authorization {
        data.insert("traces-authorization".to_owned(), ByteString(authorization.reveal().clone().into_bytes()));
    }
    if let Some(password) = &settings.store_password {
        data.insert("store-password".to_owned(), ByteString(password.reveal().clone().into_bytes()));
    }
    labels[BUNDLE_LABEL] = "true".into();
    let secret = Secret {
        metadata: ObjectMeta {
            name: Some(NAME.into()),
            namespace: Some(namespace.clone()),
            labels: serde_json::from_value(labels).ok(),
            annotations: serde_json::from_value(annotations).ok(),
            owner_references: serde_json::from_value(owners).ok(),
            ..ObjectMeta::default()
        },
        data: Some(data),
        ..Secret::default()
    };
    Built { bundle, secret, shards, objects }
}

/// The rights of a gateway: its bundle, and the shards that the bundle names.
fn rules(shards: usize) -> Value {
    let mut rules = vec![json!({"apiGroups": [""], "resources": ["secrets"], "resourceNames": [NAME],
            "verbs": ["get", "list", "watch"]})];
    if shards > 0 {
        let names: Vec<String> = (0..shards).map(shard_name).collect();
        rules.push(json!({"apiGroups": [""], "resources": ["secrets"], "resourceNames": names, "verbs": ["get"]}));
    }
    rules.into()
}

/// The volume with the shards, each in a folder of its number: of a pod that starts without an API server.
fn shards_volume(shards: usize) -> Value {
    let source = |number: usize| {
        let items: Vec<_> = SHARD_VERSIONS
            .iter()
            .map(|version| json!({"key": version, "path": format!("{number}/{version}")}))
            .collect();
        json!({"secret": {"name": shard_name(number), "optional": true, "items": items}})
    };
    let sources: Vec<Value> = (0..shards).map(source).collect();
    json!({"name": "shards", "projected": {"defaultMode": 288, "sources": sources}})
}

/// Port 80, or those that the namespace's listeners agree on.
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

/// The arguments of a gateway pod.
fn arguments(settings: &GatewaySettings) -> Vec<String> {
    let mut args = vec![
        "gateway".to_owned(),
        format!("--config-secret={NAME}"),
        "--config-file=/config/bundle".into(),
        "--audit-dir=/var/lib/idm/audit".into(),
        format!("--audit-on-full={}", settings.audit_on_full),
        format!("--audit-successes={}", settings.audit_successes),
        "--audit-max-mib=400".into(),
    ];
    args.extend(settings.limits.arguments());
    args.extend(settings.telemetry.arguments());
    if settings.traces_authorization.is_some() {
        args.push("--traces-authorization-file=/config/traces-authorization".into());
    }
    args.extend(settings.elasticsearch.iter().map(|url| format!("--elasticsearch={url}")));
    if settings.elasticsearch_authorization.is_some() {
        args.push("--elasticsearch-authorization-file=/config/elasticsearch-authorization".into());
    }
    args.extend(settings.store.iter().map(|url| format!("--store={url}")));
    if settings.store_password.is_some() {
        args.push("--store-password-file=/config/store-password".into());
    }
    args
}

fn deployment(settings: &GatewaySettings, selector: &Value, pod: &Value, shards: usize) -> Value {
    let args = arguments(settings);
    let probe = |path: &str, period: u32, failures: u32| {
        json!({"httpGet": {"path": path, "port": "admin", "scheme": "HTTP"}, "periodSeconds": period,
        "timeoutSeconds": 2, "failureThreshold": failures, "successThreshold": 1})
    };
    let field = |name: &str, path: &str| {
        json!({"name": name,
        "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": path}}})
    };
    let mut deployment = json!({
        "replicas": settings.replicas,
        "selector": {"matchLabels": selector},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
        "template": {
            "metadata": pod,
            "spec": {
                "serviceAccountName": NAME,
                "automountServiceAccountToken": false,
                "enableServiceLinks": false,
                "terminationGracePeriodSeconds": 45,
                "securityContext": {"runAsNonRoot": true, "runAsUser": 65532, "runAsGroup": 65532, "fsGroup": 65532,
                "seccompProfile": {"type": "RuntimeDefault"}},
                "topologySpreadConstraints": [
                    {"maxSkew": 1, "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "ScheduleAnyway",
                     "labelSelector": {"matchLabels": selector}},
                    {"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway",
                     "labelSelector": {"matchLabels": selector}},
                ],
                "containers": [{
                    "name": "gateway",
                    "image": settings.image,
                    "imagePullPolicy": settings.pull_policy,
                    "args": args,
                    "env": [field("POD_NAME", "metadata.name"), field("POD_NAMESPACE", "metadata.namespace")],
                    "ports": [{"name": "http", "containerPort": 8080, "protocol": "TCP"},
                    {"name": "https", "containerPort": 8443, "protocol": "TCP"},
                    {"name": "admin", "containerPort": 8081, "protocol": "TCP"}],
                    "startupProbe": probe("/-/live", 1, 60),
                    "livenessProbe": probe("/-/live", 10, 3),
                    "readinessProbe": probe("/-/ready", 1, 2),
                    "resources": {"requests": {"cpu": settings.cpu_request, "memory": "64Mi"},
                    "limits": {"memory": settings.memory_limit}},
                    "securityContext": {"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
                    "runAsNonRoot": true, "capabilities": {"drop": ["ALL"]}},
                    "volumeMounts": [
                        {"name": "config", "mountPath": "/config", "readOnly": true},
                        {"name": "audit", "mountPath": "/var/lib/idm"},
                        {"name": "token", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount",
                         "readOnly": true},
                    ],
                }],
                "volumes": [
                    {"name": "config", "secret": {"secretName": NAME, "defaultMode": 288}},
                    {"name": "audit", "emptyDir": {"sizeLimit": "512Mi"}},
                    // A token of one hour for the one Secret, instead of one that never ends.
                    {"name": "token", "projected": {"defaultMode": 288, "sources": [
                        {"serviceAccountToken": {"path": "token", "expirationSeconds": 3600}},
                        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
                        {"downwardAPI": {"items": [
                            {"path": "namespace",
                             "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}]}},
                    ]}},
                ],
            },
        },
    });
    if shards > 0 {
        mount_shards(&mut deployment, shards);
    }
    deployment
}

fn mount_shards(deployment: &mut Value, shards: usize) {
    let more = [
        ("volumes", shards_volume(shards)),
        ("containers/0/volumeMounts", json!({"name": "shards", "mountPath": "/shards", "readOnly": true})),
    ];
    for (place, value) in more {
        let list = deployment.pointer_mut(&format!("/template/spec/{place}")).and_then(Value::as_array_mut);
        list.into_iter().for_each(|list| list.push(value.clone()));
    }
}

/// Whether the namespace should have a gateway at all.
pub(crate) fn wanted(world: &World) -> bool {
    // Routes without a Gateway of this namespace are served in another one, or nowhere.
    let is_served =
        |target: &TargetReference| RouteKind::of_name(&target.kind).is_none() && target.kind != "GatewayClass";
    let has_services = |targets: &[TargetReference]| targets.is_empty() || targets.iter().any(is_served);
    world.policies.iter().any(|policy| has_services(&policy.spec.target_refs))
        || world.broken.iter().any(|b| b.id.kind == "IdentityPolicy" && has_services(&b.targets))
        || world.our_gateways().any(|g| g.metadata.deletion_timestamp.is_none())
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use idm_types::Redacted;

    use super::super::{CallerLimits, Telemetry, seal};
    use super::*;

    #[derive(Parser)]
    struct Given {
        #[command(flatten)]
        limits: CallerLimits,
        #[command(flatten)]
        telemetry: Telemetry,
    }

    fn settings(limits: CallerLimits, telemetry: Telemetry) -> GatewaySettings {
        GatewaySettings {
            operator_namespace: "idm-system".into(),
            metrics_namespaces: vec!["monitoring".into()],
            image: "idm".into(),
            pull_policy: "Always".into(),
            replicas: 1,
            cpu_request: "100m".into(),
            memory_limit: "256Mi".into(),
            limits,
            telemetry,
            traces_authorization: None,
            audit_on_full: "refuse".into(),
            audit_successes: "within-moments".into(),
            store: None,
            store_password: None,
            elasticsearch: None,
            elasticsearch_authorization: None,
        }
    }

    #[test]
    fn the_control_port_is_open_to_the_operator_and_to_those_who_read_metrics() {
        let policy = network_policy(&settings(CallerLimits::default(), Telemetry::default()), &labels());
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

    fn arguments(given: &[&str]) -> Vec<String> {
        let Given { limits, telemetry } = Given::try_parse_from([&["operator"], given].concat()).unwrap();
        let deployment = deployment(&settings(limits, telemetry), &labels(), &json!({"labels": labels()}), 0);
        serde_json::from_value(deployment["template"]["spec"]["containers"][0]["args"].clone()).unwrap()
    }

    const USUAL: [&str; 7] = [
        "gateway",
        "--config-secret=idm-gateway",
        "--config-file=/config/bundle",
        "--audit-dir=/var/lib/idm/audit",
        "--audit-on-full=refuse",
        "--audit-successes=within-moments",
        "--audit-max-mib=400",
    ];

    #[test]
    fn labels_and_annotations_of_gateways_reach_the_objects_and_none_of_ours_is_replaced() {
        let gateway = |name: &str, created: &str, infrastructure: Value| {
            serde_json::from_value(json!({
                "metadata": {"name": name, "creationTimestamp": created},
                "spec": {"gatewayClassName": "idm", "listeners": [], "infrastructure": infrastructure},
            }))
            .unwrap()
        };
        let mut world = World::new("shop", idm_compile::Settings::default());
        world.gateways = vec![
            gateway("b", "2026-01-02T00:00:00Z", json!({"labels": {"team": "b", "tier": "web"}})),
            gateway(
                "a",
                "2026-01-01T00:00:00Z",
                json!({"labels": {"team": "a", "app.kubernetes.io/name": "x"}, "annotations": {"key1": "value1"}}),
            ),
        ];
        let compiled = idm_compile::compile(&world, None);
        let built = |world: &World| {
            let sealed = seal(&compiled, None, true, &mut Default::default()).unwrap();
            build(world, compiled.ports, sealed, &settings(CallerLimits::default(), Telemetry::default())).objects
        };
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
        let deployment = |shards| {
            let settings = settings(CallerLimits::default(), Telemetry::default());
            deployment(&settings, &json!({}), &json!({}), shards)
        };
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
        let world = World::new("shop", idm_compile::Settings::default());
        let compiled = idm_compile::compile(&world, None);
        let mut settings = settings(CallerLimits::default(), Telemetry::default());
        settings.traces_authorization = Some(Redacted::new("Bearer canary".to_owned()));
        let built =
            build(&world, compiled.ports, seal(&compiled, None, true, &mut Default::default()).unwrap(), &settings);
        let data = built.secret.data.unwrap();
        assert_eq!(data["traces-authorization"].0, b"Bearer canary");
        let objects = serde_json::to_string(&built.objects).unwrap();
        assert!(objects.contains("--traces-authorization-file=/config/traces-authorization"), "{objects}");
        assert!(!objects.contains("canary"), "{objects}");
    }

    #[test]
    fn limits_that_are_not_given_are_left_to_the_gateway() {
        assert_eq!(arguments(&[]), USUAL);
    }

    #[test]
    fn every_limit_reaches_the_gateway_pods() {
        let limits = [
            "max-connections=4000",
            "max-connections-per-address=4000",
            "max-requests=1500",
            "max-requests-per-address=1500",
            "head-timeout-ms=5000",
            "idle-timeout-ms=350000",
            "write-timeout-ms=60000",
            "bodies-max-mib=128",
            "body-deadline-seconds=120",
            "body-pause-seconds=10",
            "body-least-kib=4",
            "trusted-proxies=10.0.0.0/8,fd00::/8",
            "proxy-protocol",
            "metrics-consumers=0",
            "access-log=json",
            "traces=http://collector:4318",
            "traces-ratio=0.5",
            "traces-callers=trusted",
            "traces-callers-per-second=0",
            "egress-proxy=http://proxy.corp:3128",
            "no-proxy=.corp,10.0.0.0/8",
        ];
        let given = limits.map(|limit| format!("--gateway-{limit}"));
        let expected: Vec<String> =
            USUAL.map(str::to_owned).into_iter().chain(limits.map(|limit| format!("--{limit}"))).collect();
        assert_eq!(arguments(&given.each_ref().map(String::as_str)), expected);
    }

    #[test]
    fn a_limit_that_no_gateway_would_take_stops_the_operator() {
        for given in [
            "max-requests=0",
            "head-timeout-ms=99",
            "body-pause-seconds=3601",
            "bodies-max-mib=1048577",
            "trusted-proxies=10.0.0.1/8",
            "proxy-protocol",
            "metrics-consumers=10001",
            "access-log=yes",
            "traces-ratio=1.5",
            "traces-callers=all",
            "egress-proxy=http://me:secret@proxy.corp:3128",
            "egress-proxy=proxy.corp:3128",
        ] {
            assert!(Given::try_parse_from(["operator", &format!("--gateway-{given}")]).is_err(), "{given}");
        }
    }
}
