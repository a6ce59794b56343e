//! Parameters of a Gateway's pods and Service: the ConfigMap that its `spec.infrastructure.parametersRef` names.
//!
//! Each key of the ConfigMap is one setting, and its value is YAML. A key that is not known, or a value that cannot be
//! used, makes all of them unusable: the Gateway says `InvalidParameters`, and its gateway stays as it was.

use std::collections::BTreeMap;

use gateway_api::apis::standard::gateways::{Gateway, GatewayInfrastructureParametersRef};
use serde::de::{DeserializeOwned, Error};
use serde::{Deserialize, Deserializer, Serialize};

use crate::World;
use crate::yaml::bounds;

/// The settings of one gateway. What is absent is as the operator's options say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parameters {
    /// The number of pods.
    pub replicas: Option<u32>,
    /// Their number by their load, in place of a fixed one.
    pub autoscaling: Option<Autoscaling>,
    /// The resources of a pod.
    pub resources: Resources,
    /// The Service.
    pub service: ServiceParameters,
    /// The PriorityClass of the pods.
    pub priority_class_name: Option<String>,
    /// Labels of the nodes that pods may run on.
    pub node_selector: BTreeMap<String, String>,
    /// Taints of nodes that pods tolerate.
    pub tolerations: Vec<Toleration>,
    /// Whether a pod waits when it cannot be spread over zones and nodes.
    pub topology_spread: Option<TopologySpread>,
}

/// A number of pods that follows their load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Autoscaling {
    /// The least.
    pub min: u32,
    /// The most.
    pub max: u32,
    /// The CPU that a pod uses on average, in per cent of its request.
    #[serde(rename = "targetCPU")]
    pub target_cpu: u32,
}

/// Requests and limits, by the name of the resource.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Resources {
    /// Reserved for a pod.
    pub requests: BTreeMap<ResourceName, Quantity>,
    /// The most that a pod gets.
    pub limits: BTreeMap<ResourceName, Quantity>,
}

/// A resource that pods of a gateway use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ResourceName {
    /// Processors.
    Cpu,
    /// Memory.
    Memory,
    /// Files.
    EphemeralStorage,
}

/// A quantity of Kubernetes, such as `250m` or `512Mi`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Quantity(pub String);

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // YAML reads `1` as a number.
        let text = match serde_json::Value::deserialize(deserializer)? {
            serde_json::Value::Number(number) => number.to_string(),
            serde_json::Value::String(text) => text,
            _ => return Err(D::Error::custom("give a quantity such as 250m or 512Mi")),
        };
        let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let suffix = text.strip_prefix(number).unwrap_or_default();
        let known = ["", "m", "k", "M", "G", "T", "Ki", "Mi", "Gi", "Ti"].contains(&suffix);
        let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        let is_number = match number.split_once('.') {
            Some((whole, rest)) => digits(whole) && digits(rest),
            None => digits(number),
        };
        if known && is_number && text.len() <= 20 {
            Ok(Self(text))
        } else {
            Err(D::Error::custom(format!("'{text}' must be a quantity such as 250m or 512Mi")))
        }
    }
}

/// The Service of a gateway.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub struct ServiceParameters {
    /// Its type; the default is ClusterIP.
    #[serde(rename = "type")]
    pub kind: ServiceType,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
    /// The implementation of its load balancer.
    pub load_balancer_class: Option<String>,
    /// Whether traffic from outside stays on the node where it came in, which keeps the address of the client.
    pub external_traffic_policy: Option<ExternalTrafficPolicy>,
}

/// The type of a Service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub enum ServiceType {
    /// Reached from the cluster.
    #[default]
    ClusterIP,
    /// Reached by a port of every node.
    NodePort,
    /// Reached by a load balancer.
    LoadBalancer,
}

/// The way of traffic from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum ExternalTrafficPolicy {
    /// To any pod.
    Cluster,
    /// To pods of the same node.
    Local,
}

/// A toleration of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub struct Toleration {
    /// The key of the taint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// `Exists` or `Equal`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operator: Option<TolerationOperator>,
    /// Its value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// Its effect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub effect: Option<TaintEffect>,
    /// For how long a pod stays on a node with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub toleration_seconds: Option<u32>,
}

/// How a toleration compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum TolerationOperator {
    /// The taint is there.
    Exists,
    /// It has the value.
    Equal,
}

/// The effect of a taint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum TaintEffect {
    /// No new pods.
    NoSchedule,
    /// No new pods, if others have room.
    PreferNoSchedule,
    /// No pods.
    NoExecute,
}

/// Whether spreading over zones and nodes is a wish or a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum TopologySpread {
    /// A wish.
    ScheduleAnyway,
    /// A condition.
    DoNotSchedule,
}

/// The most pods of a gateway.
const MOST_PODS: u32 = 100;
/// The names of labels and annotations that belong to the objects of gateways.
const OURS: [&str; 2] = ["app.kubernetes.io/", "identity-manager.io/"];

/// The ConfigMap that a Gateway names for its parameters; an error says why it names none that can be used.
pub(crate) fn config_map(gateway: &Gateway) -> Result<Option<&str>, String> {
    let settings = gateway.spec.infrastructure.as_ref();
    let Some(reference) = settings.and_then(|settings| settings.parameters_ref.as_ref()) else { return Ok(None) };
    let GatewayInfrastructureParametersRef { group, kind, name } = reference;
    if !group.is_empty() || kind != "ConfigMap" {
        return Err("it must name a ConfigMap, with an empty group".into());
    }
    Ok(Some(name))
}

/// The parameters of a Gateway; an error says what is wrong with them.
pub(crate) fn parameters(world: &World, gateway: &Gateway) -> Result<Parameters, String> {
    let Some(name) = config_map(gateway)? else { return Ok(Parameters::default()) };
    let data = world.config_maps.get(name);
    let data = data.ok_or_else(|| format!("ConfigMap '{name}' must exist in this namespace"))?;
    let mut parameters = Parameters::default();
    for (key, text) in data {
        take(&mut parameters, key, text).map_err(|why| format!("ConfigMap '{name}', `{key}`: {why}"))?;
    }
    check(&parameters).map_err(|why| format!("ConfigMap '{name}': {why}"))?;
    Ok(parameters)
}

fn take(parameters: &mut Parameters, key: &str, text: &str) -> Result<(), String> {
    match key {
        "replicas" => parameters.replicas = Some(read(text)?),
        "autoscaling" => parameters.autoscaling = Some(read(text)?),
        "resources" => parameters.resources = read(text)?,
        "service" => parameters.service = read(text)?,
        "priorityClassName" => parameters.priority_class_name = Some(read(text)?),
        "nodeSelector" => parameters.node_selector = read(text)?,
        "tolerations" => parameters.tolerations = read(text)?,
        "topologySpread" => parameters.topology_spread = Some(read(text)?),
        _ => {
            return Err("no such parameter: there are replicas, autoscaling, resources, service, priorityClassName, \
                        nodeSelector, tolerations and topologySpread"
                .into());
        }
    }
    Ok(())
}

fn read<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    bounds::check(text).map_err(|excess| excess.message)?;
    serde_yaml_ng::from_str(text).map_err(|error| error.to_string())
}

/// Checks what the API server would refuse, or what contradicts itself.
fn check(parameters: &Parameters) -> Result<(), String> {
    let Parameters { replicas, autoscaling, service, priority_class_name, .. } = parameters;
    if replicas.is_some_and(|pods| pods == 0 || pods > MOST_PODS) {
        return Err(format!("`replicas` must be from 1 to {MOST_PODS}"));
    }
    if let Some(Autoscaling { min, max, target_cpu }) = autoscaling {
        if replicas.is_some() {
            return Err("give `replicas` or `autoscaling`, not both".into());
        }
        if *min == 0 || min > max || *max > MOST_PODS || *target_cpu == 0 || *target_cpu > 1000 {
            return Err(format!(
                "`autoscaling` needs 1 <= min <= max <= {MOST_PODS}, and a targetCPU from 1 to 1000 per cent"
            ));
        }
    }
    let is_name = |name: &str| {
        name.len() <= 253
            && !name.is_empty()
            && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte))
    };
    if priority_class_name.as_deref().is_some_and(|name| !is_name(name)) {
        return Err("`priorityClassName` must be the name of a PriorityClass".into());
    }
    check_service(service)
}

fn check_service(service: &ServiceParameters) -> Result<(), String> {
    let ServiceParameters { kind, annotations, load_balancer_class, external_traffic_policy } = service;
    if load_balancer_class.is_some() && *kind != ServiceType::LoadBalancer {
        return Err("`loadBalancerClass` needs the type LoadBalancer".into());
    }
    if external_traffic_policy.is_some() && *kind == ServiceType::ClusterIP {
        return Err("`externalTrafficPolicy` needs the type NodePort or LoadBalancer".into());
    }
    match annotations.keys().find(|name| OURS.iter().any(|prefix| name.starts_with(prefix))) {
        Some(ours) => Err(format!("the annotation `{ours}` is for this controller to write: remove it")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::Settings;

    fn read(data: serde_json::Value) -> Result<Parameters, String> {
        let mut world = World::new("shop", Settings::default());
        world.config_maps.insert("big".into(), serde_json::from_value(data).unwrap());
        let reference = json!({"group": "", "kind": "ConfigMap", "name": "big"});
        let spec = json!({"gatewayClassName": "idm", "listeners": [], "infrastructure": {"parametersRef": reference}});
        parameters(&world, &serde_json::from_value(json!({"metadata": {"name": "g"}, "spec": spec})).unwrap())
    }

    #[test]
    fn each_key_is_one_setting_in_yaml() {
        let read = read(json!({
            "autoscaling": "{min: 2, max: 10, targetCPU: 70}",
            "resources": "requests: {cpu: 1}\nlimits: {memory: 512Mi}",
            "service": "type: LoadBalancer\nannotations: {a.example/b: c}\nexternalTrafficPolicy: Local",
            "priorityClassName": "high",
            "nodeSelector": "{pool: edge}",
            "tolerations": "- {key: edge, operator: Exists, effect: NoSchedule}",
            "topologySpread": "DoNotSchedule",
        }))
        .unwrap();
        assert_eq!(read.autoscaling, Some(Autoscaling { min: 2, max: 10, target_cpu: 70 }));
        assert_eq!(read.resources.requests[&ResourceName::Cpu], Quantity("1".into()));
        assert_eq!(read.resources.limits[&ResourceName::Memory], Quantity("512Mi".into()));
        assert_eq!((read.service.kind, read.service.annotations.len()), (ServiceType::LoadBalancer, 1));
        assert_eq!(read.node_selector["pool"], "edge");
        assert_eq!(read.tolerations[0].effect, Some(TaintEffect::NoSchedule));
        assert_eq!(read.topology_spread, Some(TopologySpread::DoNotSchedule));
    }

    #[test]
    fn what_is_not_known_or_contradicts_itself_is_refused_with_a_remedy() {
        for (data, why) in [
            (json!({"replica": "3"}), "no such parameter"),
            (json!({"replicas": "0"}), "from 1 to 100"),
            (json!({"replicas": "-1"}), "replicas"),
            (json!({"replicas": "3", "autoscaling": "{min: 1, max: 2, targetCPU: 70}"}), "not both"),
            (json!({"autoscaling": "{min: 3, max: 2, targetCPU: 70}"}), "min <= max"),
            (json!({"autoscaling": "{min: 1, max: 2, targetCPU: 70, step: 1}"}), "unknown field `step`"),
            (json!({"resources": "{requests: {gpu: 1}}"}), "unknown variant `gpu`"),
            (json!({"resources": "{requests: {cpu: lots}}"}), "must be a quantity"),
            (json!({"service": "{type: ExternalName}"}), "unknown variant `ExternalName`"),
            (json!({"service": "{loadBalancerClass: a}"}), "needs the type LoadBalancer"),
            (json!({"service": "{externalTrafficPolicy: Local}"}), "NodePort or LoadBalancer"),
            (json!({"service": "{annotations: {identity-manager.io/x: y}}"}), "for this controller"),
            (json!({"priorityClassName": "Not A Name"}), "PriorityClass"),
            (json!({"topologySpread": "Never"}), "unknown variant `Never`"),
        ] {
            let found = read(data.clone()).unwrap_err();
            assert!(found.contains(why) && found.contains("ConfigMap 'big'"), "{data}: {found}");
        }
    }
}
