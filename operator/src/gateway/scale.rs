//! The number of a gateway's pods: fixed, or by their load.
//!
//! A HorizontalPodAutoscaler writes the number into the Deployment. From its first write on, the number is its own in
//! the Deployment's managed fields, and the operator leaves the field out of what it applies. Until then it applies the
//! number that is there: a field that its only owner leaves out would fall back to 1.

use idm_compile::{Autoscaling, Parameters};
use kube::core::DynamicObject;
use serde_json::{Value, json};

use super::deployment::AUTOSCALED;
use crate::MANAGER;

/// The HorizontalPodAutoscaler of a gateway, where its parameters ask for one.
pub(super) fn autoscaler(name: &str, metadata: &Value, parameters: &Parameters) -> Option<Value> {
    let Autoscaling { min, max, target_cpu } = parameters.autoscaling?;
    let metric = json!({"type": "Resource", "resource": {"name": "cpu",
        "target": {"type": "Utilization", "averageUtilization": target_cpu}}});
    Some(json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": metadata,
        "spec": {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
            "minReplicas": min, "maxReplicas": max, "metrics": [metric]}}))
}

/// Whether the number of a Deployment's pods follows their load.
pub(super) fn is_autoscaled(deployment: &Value) -> bool {
    deployment["metadata"]["annotations"][AUTOSCALED] == "true"
}

/// Whether a stored Deployment had an autoscaler.
pub(super) fn was_autoscaled(stored: &DynamicObject) -> bool {
    stored.metadata.annotations.as_ref().is_some_and(|all| all.get(AUTOSCALED).is_some_and(|value| value == "true"))
}

/// The Deployment as it is applied. `least` is the number that an autoscaler begins with.
pub(super) fn applied(deployment: &Value, stored: Option<&DynamicObject>, least: &Value) -> Value {
    let mut deployment = deployment.clone();
    if !is_autoscaled(&deployment) {
        return deployment;
    }
    match stored {
        None => deployment["spec"]["replicas"] = least.clone(),
        Some(stored) if owns_replicas(stored) => {
            let now = stored.data.pointer("/spec/replicas");
            deployment["spec"]["replicas"] = now.unwrap_or(least).clone();
            // Not over a number that was written in the meantime.
            deployment["metadata"]["resourceVersion"] = stored.metadata.resource_version.clone().into();
        }
        Some(_) => {}
    }
    deployment
}

/// Whether the operator is an owner of the number.
fn owns_replicas(stored: &DynamicObject) -> bool {
    let fields = stored.metadata.managed_fields.iter().flatten();
    let mut ours =
        fields.filter(|entry| entry.manager.as_deref() == Some(MANAGER) && entry.operation.as_deref() == Some("Apply"));
    ours.any(|entry| entry.fields_v1.as_ref().is_some_and(|fields| fields.0.pointer("/f:spec/f:replicas").is_some()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(owners: &[(&str, &str, bool)], replicas: i32) -> DynamicObject {
        let fields = |owns: bool| match owns {
            true => json!({"f:spec": {"f:replicas": {}}}),
            false => json!({"f:spec": {"f:selector": {}}}),
        };
        let managed = owners.iter().map(|(manager, operation, owns)| {
            json!({"manager": manager, "operation": operation, "fieldsType": "FieldsV1", "fieldsV1": fields(*owns)})
        });
        let managed: Vec<Value> = managed.collect();
        let metadata = json!({"name": "idm-gateway-a", "resourceVersion": "7", "managedFields": managed});
        serde_json::from_value(json!({"metadata": metadata, "spec": {"replicas": replicas}})).unwrap()
    }

    #[test]
    fn an_autoscaler_and_the_operator_never_write_the_number_at_the_same_time() {
        let desired = json!({"metadata": {"annotations": {AUTOSCALED: "true"}}, "spec": {"selector": {}}});
        let of = |stored: Option<&DynamicObject>| {
            let applied = applied(&desired, stored, &json!(2));
            (applied["spec"]["replicas"].as_i64(), applied["metadata"]["resourceVersion"].as_str().map(str::to_owned))
        };
        assert_eq!(of(None), (Some(2), None), "it begins with the least");
        // Until the autoscaler writes, the number stays what it is.
        let ours = stored(&[(MANAGER, "Apply", true)], 3);
        assert_eq!(of(Some(&ours)), (Some(3), Some("7".into())));
        // Then it is the autoscaler's.
        let scaled = stored(&[(MANAGER, "Apply", false), ("kube-controller-manager", "Update", true)], 5);
        assert_eq!(of(Some(&scaled)), (None, None));
        let fixed = json!({"metadata": {}, "spec": {"replicas": 4}});
        assert_eq!(applied(&fixed, Some(&scaled), &json!(2)), fixed);
    }
}
