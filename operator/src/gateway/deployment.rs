//! The Deployment of a gateway: its pods, and what they may use.

use idm_compile::{Parameters, ResourceName, TopologySpread};
use idm_plan::SHARD_VERSIONS;
use serde_json::{Value, json};

use super::GatewaySettings;
use super::seal::shard_name;
use crate::sealing::{GATEWAY_KEYS, GatewaySealing};

/// The values that a Deployment is made of.
pub(super) struct DeploymentOf<'a> {
    pub(super) name: &'a str,
    pub(super) selector: &'a Value,
    /// The metadata of its pods.
    pub(super) pod: &'a Value,
    /// The number of shards of Credentials.
    pub(super) shards: usize,
    pub(super) parameters: &'a Parameters,
}

/// On a Deployment whose number of pods follows its load.
pub(super) const AUTOSCALED: &str = "identity-manager.io/autoscaled";

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

/// The arguments of a gateway pod.
fn arguments(settings: &GatewaySettings, name: &str) -> Vec<String> {
    let mut args = vec![
        "gateway".to_owned(),
        format!("--config-secret={name}"),
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
    args.extend(super::audit::arguments(settings.kept, settings.chain_key.is_some()));
    args.extend(settings.sealing.iter().map(|sealing| match sealing {
        GatewaySealing::Keys => "--seal-keys=/seal".to_owned(),
        GatewaySealing::Command(words) => format!("--seal-command={}", words.join(" ")),
    }));
    args.extend(settings.store.iter().map(|url| format!("--store={url}")));
    if settings.store_password.is_some() {
        args.push("--store-password-file=/config/store-password".into());
    }
    args
}

/// The spec of the Deployment. Where their number follows their load, it does not name it: see `scale.rs`.
pub(super) fn deployment(settings: &GatewaySettings, of: &DeploymentOf<'_>) -> Value {
    let DeploymentOf { name, selector, pod, shards, parameters } = of;
    let args = arguments(settings, name);
    let probe = |path: &str, period: u32, failures: u32| {
        json!({"httpGet": {"path": path, "port": "admin", "scheme": "HTTP"}, "periodSeconds": period,
        "timeoutSeconds": 2, "failureThreshold": failures, "successThreshold": 1})
    };
    let field = |name: &str, path: &str| {
        json!({"name": name,
        "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": path}}})
    };
    let spread = parameters.topology_spread.unwrap_or(TopologySpread::ScheduleAnyway);
    let mut deployment = json!({
        "selector": {"matchLabels": selector},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
        "template": {
            "metadata": pod,
            "spec": {
                "serviceAccountName": name,
                "automountServiceAccountToken": false,
                "enableServiceLinks": false,
                "terminationGracePeriodSeconds": 45,
                "securityContext": {"runAsNonRoot": true, "runAsUser": 65532, "runAsGroup": 65532, "fsGroup": 65532,
                "seccompProfile": {"type": "RuntimeDefault"}},
                "topologySpreadConstraints": [
                    {"maxSkew": 1, "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": spread,
                     "labelSelector": {"matchLabels": selector}},
                    {"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": spread,
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
                    "resources": resources(settings, parameters),
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
                    {"name": "config", "secret": {"secretName": name, "defaultMode": 288}},
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
    if parameters.autoscaling.is_none() {
        deployment["replicas"] = parameters.replicas.map_or(settings.replicas, |pods| pods as i32).into();
    }
    if settings.sealing == Some(GatewaySealing::Keys) {
        let keys = json!({"name": "seal", "secret": {"secretName": GATEWAY_KEYS, "defaultMode": 288}});
        mount(&mut deployment, "/seal", keys);
    }
    if *shards > 0 {
        mount(&mut deployment, "/shards", shards_volume(*shards));
    }
    place(&mut deployment["template"]["spec"], parameters);
    deployment
}

/// The resources of a pod: those of the operator's options, unless the parameters name others.
fn resources(settings: &GatewaySettings, parameters: &Parameters) -> Value {
    let mut resources = json!({"requests": {"cpu": settings.cpu_request, "memory": "64Mi"},
        "limits": {"memory": settings.memory_limit}});
    let asked = [("requests", &parameters.resources.requests), ("limits", &parameters.resources.limits)];
    for (member, asked) in asked {
        for (name, quantity) in asked {
            let name = match name {
                ResourceName::Cpu => "cpu",
                ResourceName::Memory => "memory",
                ResourceName::EphemeralStorage => "ephemeral-storage",
            };
            resources[member][name] = quantity.0.clone().into();
        }
    }
    resources
}

/// The placement of pods, as far as the parameters say it.
fn place(pod: &mut Value, parameters: &Parameters) {
    if let Some(class) = &parameters.priority_class_name {
        pod["priorityClassName"] = class.clone().into();
    }
    if !parameters.node_selector.is_empty() {
        pod["nodeSelector"] = json!(parameters.node_selector);
    }
    if !parameters.tolerations.is_empty() {
        pod["tolerations"] = json!(parameters.tolerations);
    }
}

fn mount(deployment: &mut Value, path: &str, volume: Value) {
    let mounted = json!({"name": volume["name"], "mountPath": path, "readOnly": true});
    let more = [("volumes", volume), ("containers/0/volumeMounts", mounted)];
    for (place, value) in more {
        let list = deployment.pointer_mut(&format!("/template/spec/{place}")).and_then(Value::as_array_mut);
        list.into_iter().for_each(|list| list.push(value.clone()));
    }
}

#[cfg(test)]
mod tests {
    use super::super::build::tests::{Given, settings};
    use super::super::{CallerLimits, NAME, Telemetry};
    use super::*;
    use clap::Parser;

    /// The pods of a gateway of this name.
    fn pods(settings: &GatewaySettings, name: &str, shards: usize) -> Value {
        let (selector, pod, parameters) = (json!({}), json!({}), Parameters::default());
        let of = DeploymentOf { name, selector: &selector, pod: &pod, shards, parameters: &parameters };
        deployment(settings, &of)["template"]["spec"].clone()
    }

    fn arguments(given: &[&str]) -> Vec<String> {
        let Given { limits, telemetry } = Given::try_parse_from([&["operator"], given].concat()).unwrap();
        let pods = pods(&settings(limits, telemetry), NAME, 0);
        serde_json::from_value(pods["containers"][0]["args"].clone()).unwrap()
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
    fn gateways_get_the_keys_of_their_namespace_or_the_command_and_nothing_where_nothing_is_sealed() {
        let deployed = |sealing| {
            let settings = GatewaySettings { sealing, ..settings(CallerLimits::default(), Telemetry::default()) };
            pods(&settings, "idm-gateway-a", 64)
        };
        let args = |deployed: &Value| deployed["containers"][0]["args"].to_string();
        let clear = deployed(None);
        assert!(!clear.to_string().contains("seal"), "{clear}");
        let keys = deployed(Some(GatewaySealing::Keys));
        assert!(args(&keys).contains("\"--seal-keys=/seal\""), "{keys}");
        let volumes = keys["volumes"].as_array().unwrap();
        let volume = volumes.iter().find(|volume| volume["name"] == "seal").unwrap();
        assert_eq!(volume["secret"]["secretName"], GATEWAY_KEYS);
        let mounts = keys["containers"][0]["volumeMounts"].as_array().unwrap();
        assert!(mounts.iter().any(|mount| mount["name"] == "seal" && mount["mountPath"] == "/seal"), "{mounts:?}");
        let command = deployed(Some(GatewaySealing::Command(vec!["/kms".into(), "--region=x".into()])));
        assert!(args(&command).contains("\"--seal-command=/kms --region=x\""), "{command}");
        assert_eq!(command["volumes"], clear["volumes"]);
    }

    #[test]
    fn gateways_know_how_long_records_are_kept_and_have_a_copy_of_the_chains_key() {
        let kept = idm_audit::Retention { decisions_days: Some(30), changes_days: Some(400) };
        let settings = GatewaySettings {
            kept,
            chain_key: Some(idm_types::Redacted::new("k".repeat(32))),
            ..settings(CallerLimits::default(), Telemetry::default())
        };
        let args = pods(&settings, NAME, 0)["containers"][0]["args"].clone();
        let args: Vec<String> = serde_json::from_value(args).unwrap();
        assert_eq!(args[..USUAL.len()], USUAL);
        let more = [
            "--elasticsearch-keep-decisions-days=30",
            "--elasticsearch-keep-changes-days=400",
            "--audit-chain-key-file=/config/audit-chain-key",
        ];
        assert_eq!(args[USUAL.len()..], more);
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
            "blocks=enforce",
            "blocks-callers-connect-directly",
            "blocks-credentials=30",
            "blocks-failures=40",
            "blocks-window-seconds=60",
            "blocks-seconds=120",
            "blocks-spared-by=0",
            "blocks-never=192.0.2.0/24,2001:db8::/32",
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
            "blocks=on",
            "blocks=enforce",
            "blocks-credentials=1",
            "blocks-seconds=86401",
            "blocks-never=192.0.2.1/24",
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
